/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the destinations of plain publish and subscribe, on this node alone. */
#include <chatd/plugin.h>

enum { MODE_WORK, MODE_BROADCAST };

struct conf {
	const char *const *topics, *const *queues;
	int32_t queue_mode;
	int64_t queue_messages, queue_bytes;
};

static const char *const modes[] = { "work", "broadcast", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "topics",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, topics),
			.fallback = "[/topic/]",
			.doc = "Prefixes of destinations whose every subscriber gets every message." },
	{ .key = "queues",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, queues),
			.fallback = "[/queue/]",
			.doc = "Prefixes of destinations whose messages go to one subscriber in turn." },
	{ .key = "queue_mode",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, queue_mode),
			.fallback = "work",
			.choices = modes,
			.doc = "broadcast makes queues behave as topics, as Spring's simple broker does." },
	{ .key = "queue_messages",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, queue_messages),
			.fallback = "10000",
			.min = 1,
			.max = 100000000,
			.doc = "Messages that one queue keeps while nobody takes them." },
	{ .key = "queue_bytes",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, queue_bytes),
			.fallback = "16 MiB",
			.min = 1024,
			.max = INT64_C(1) << 40,
			.doc = "Memory that one queue uses while nobody takes its messages." },
	{ 0 },
};

static int bad_prefix(const char *p)
{
	size_t n = 0;
	while (p[n]) {
		n++;
	}
	return n < 3 || p[0] != '/' || p[n - 1] != '/';
}

static chatd_status check_list(
		const struct chatd_host *h, chatd_ctx *ctx, const char *key, const char *const *list)
{
	for (size_t i = 0; list[i]; i++) {
		if (bad_prefix(list[i])) {
			return h->conf_error(ctx, key,
					"\"%s\" is not a prefix; begin and end it with a slash, for example /topic/",
					list[i]);
		}
	}
	return 0;
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status topics = check_list(h, ctx, "topics", conf->topics);
	chatd_status queues = check_list(h, ctx, "queues", conf->queues);
	return topics < 0 ? topics : queues;
}

static chatd_status open_all(const struct chatd_host *h, chatd_ctx *ctx, const char *const *list,
		const struct chatd_dest_conf *as)
{
	for (size_t i = 0; list[i]; i++) {
		chatd_status rc = h->prefix(ctx, list[i], as);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	struct chatd_dest_conf topic = { .struct_size = sizeof(topic), .kind = CHATD_DEST_TOPIC };
	struct chatd_dest_conf queue = { .struct_size = sizeof(queue),
		.kind = conf->queue_mode == MODE_WORK ? CHATD_DEST_QUEUE : CHATD_DEST_TOPIC,
		.max_messages = conf->queue_messages,
		.max_bytes = conf->queue_bytes };
	*ret_self = NULL;
	chatd_status rc = open_all(h, ctx, conf->topics, &topic);
	return rc < 0 ? rc : open_all(h, ctx, conf->queues, &queue);
}

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "route-local",
	.version = "0.1",
	.summary = "topics and work queues within this node",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
};
