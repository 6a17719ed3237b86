/* SPDX-License-Identifier: Apache-2.0 */
/* STOMP over TCP and TLS: the thinnest layer there is, bytes as they are. */
#include <chatd-sdk/pace.h>
#include <chatd/plugin.h>
#include <chatd/stream.h>
#include <chatd/transport.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_STOPPING = 1012 };

struct conf {
	const char *const *listen;
	const char *tls_cert, *tls_key;
	const char *const *proxy_from;
	int64_t max_queue, stall;
	int64_t handshake;
};

struct plugin {
	const struct chatd_host *host;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *codec;
};

struct worker {
	const struct plugin *plugin;
	chatd_worker *worker;
	struct link *links;   /* those that drain() has not come to */
	struct link *leaving; /* the others */
	size_t n_links;
	struct chatd_timer drain_timer;
	struct chatd_pace pace;
	int32_t draining;
};

/* A connection. */
struct link {
	chatd_stream *stream;
	void *codec; /* the codec's side */
	struct worker *tw;
	struct link *next, **at;
	struct chatd_timer timer;
	int32_t suspect; /* too much is queued; the timer will look again */
};

static const struct chatd_codec *codec_of(const struct link *link)
{
	return link->tw->plugin->codec->vt;
}

static const struct chatd_host *host_of(const struct link *link)
{
	return link->tw->plugin->host;
}

static void list_add(struct link *link, struct link **head)
{
	link->next = *head;
	link->at = head;
	if (link->next)
		link->next->at = &link->next;
	*head = link;
}

static void list_remove(struct link *link)
{
	*link->at = link->next;
	if (link->next)
		link->next->at = link->at;
}

static void link_destroy(struct link *link)
{
	list_remove(link);
	link->tw->n_links--;
	host_of(link)->timer_clear(&link->timer);
	free(link);
}

/* ---- what the codec calls --------------------------------------------------- */

/* One loop turn's burst has had no chance to be written yet; so the verdict over a long
 * queue is left to the timer. */
static void on_timer(void *arg)
{
	struct link *link = arg;
	link->suspect = 0;
	size_t waiting = link->stream->ops->queued(link->stream);
	if (waiting <= (size_t)link->tw->plugin->conf->max_queue)
		return;
	struct chatd_str peer = link->stream->ops->peer(link->stream);
	host_of(link)->log(link->tw->plugin->ctx, CHATD_LOG_INFO,
			"dropped %.*s, which reads too slowly: %zu bytes wait for it", (int)peer.n,
			peer.p ? peer.p : "", waiting);
	link->stream->ops->reset(link->stream);
	codec_of(link)->gone(link->codec, CHATD_END_SLOW);
	link_destroy(link);
}

static size_t layer_send(void *arg, chatd_buf *buf)
{
	struct link *link = arg;
	size_t waiting = link->stream->ops->send(link->stream, buf);
	size_t limit = (size_t)link->tw->plugin->conf->max_queue;
	/* the last one does not count: being big is not being slow */
	if (limit && waiting > limit && !link->suspect &&
			waiting - host_of(link)->buf_len(buf) > limit) {
		link->suspect = 1;
		host_of(link)->timer_set(link->tw->worker, &link->timer, 0, on_timer, link);
	}
	return waiting;
}

static void layer_close(void *arg, int32_t code, const char *why)
{
	struct link *link = arg;
	(void)code; /* TCP has no words for it; the codec's error frame was the goodbye */
	(void)why;
	link->stream->ops->close(link->stream);
	link_destroy(link);
}

static void layer_pause(void *arg, int32_t on)
{
	const struct link *link = arg;
	link->stream->ops->pause(link->stream, on);
}

static size_t layer_queued(void *arg)
{
	const struct link *link = arg;
	return link->stream->ops->queued(link->stream);
}

static struct chatd_str layer_attr(void *arg, const char *name)
{
	const struct link *link = arg;
	if (strcmp(name, CHATD_CRED_PEER) == 0)
		return link->stream->ops->peer(link->stream);
	return chatd_str_of(NULL, 0);
}

static const struct chatd_layer layer = {
	.struct_size = sizeof(layer),
	.name = "tcp",
	.wrap = CHATD_WRAP_NOTHING,
	.send = layer_send,
	.close = layer_close,
	.pause = layer_pause,
	.queued = layer_queued,
	.attr = layer_attr,
};

/* ---- what the stream calls ----------------------------------------------------- */

static size_t on_data(void *arg, const char *p, size_t n)
{
	struct link *link = arg;
	return codec_of(link)->data(link->codec, p, n);
}

static void on_gone(void *arg, int32_t why)
{
	struct link *link = arg;
	codec_of(link)->gone(link->codec, why);
	link_destroy(link);
}

static const struct chatd_stream_user stream_user = {
	.struct_size = sizeof(stream_user),
	.data = on_data,
	.gone = on_gone,
};

static void on_accepted(void *arg, chatd_worker *worker, chatd_stream *stream)
{
	const struct plugin *plugin = arg;
	const struct chatd_codec *codec = plugin->codec->vt;
	const struct conf *conf = plugin->conf;
	struct worker *tw = plugin->host->worker_self(plugin->ctx, worker);
	struct link *link = tw->draining ? NULL : calloc(1, sizeof(*link));
	if (!link) {
		stream->ops->close(stream);
		return;
	}
	link->stream = stream;
	link->tw = tw;
	list_add(link, &tw->links);
	tw->n_links++;
	link->codec = codec->open(plugin->codec->obj, worker, &layer, link);
	if (!link->codec) {
		stream->ops->close(stream);
		link_destroy(link);
		return;
	}
	/* The stream's own limit is the last resort, for what even the timer is too late for. */
	size_t hard = 4 * (size_t)conf->max_queue + 2 * codec->max_frame(plugin->codec->obj);
	stream->ops->limits(stream, conf->max_queue ? hard : 0, conf->stall);
	stream->ops->attach(stream, &stream_user, link);
}

/* ---- life ----------------------------------------------------------------------- */

static const struct chatd_opt options[] = {
	{ .key = "listen",
			.type = CHATD_T_STRINGS,
			.flags = CHATD_O_LISTEN,
			.offset = offsetof(struct conf, listen),
			.fallback = "[\"127.0.0.1:61613\"]",
			.doc = "Addresses to accept STOMP at: \"0.0.0.0:61613\", \"[::]:61613\", \"unix:/path\"." },
	{ .key = "tls_cert",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, tls_cert),
			.doc = "Certificate chain in PEM; with tls_key, the addresses above speak TLS only. Read "
				   "again after SIGHUP." },
	{ .key = "tls_key",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, tls_key),
			.doc = "Private key of tls_cert in PEM." },
	{ .key = "proxy_from",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, proxy_from),
			.fallback = "[]",
			.doc = "Proxies (\"10.0.0.0/8\") that must begin with a PROXY protocol header." },
	{ .key = "max_queue",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, max_queue),
			.fallback = "512 KiB",
			.doc = "A client for which more than this waits is cut off; 0: no limit." },
	{ .key = "stall",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, stall),
			.fallback = "10s",
			.doc = "A client that takes nothing of what waits for this long is cut off; 0: never." },
	{ .key = "handshake",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, handshake),
			.fallback = "5s",
			.min = 100,
			.max = 600000,
			.doc = "Time for the PROXY header and the TLS handshake together." },
	{ .key = NULL },
};

static chatd_status tcp_check(const struct chatd_host *host, chatd_ctx *ctx, const void *conf)
{
	const struct conf *c = conf;
	if (!c->listen[0])
		return host->conf_error(
				ctx, "listen", "no address: name at least one, or leave out the plugin");
	if (!c->tls_cert != !c->tls_key)
		return host->conf_error(ctx, c->tls_cert ? "tls_cert" : "tls_key",
				"tls_cert and tls_key come together: %s is missing",
				c->tls_cert ? "tls_key" : "tls_cert");
	return 0;
}

static chatd_status tcp_init(
		const struct chatd_host *host, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct plugin *plugin = calloc(1, sizeof(*plugin));
	if (!plugin)
		return host->fail(ctx, -ENOMEM, "out of memory");
	*ret_self = plugin;
	plugin->host = host;
	plugin->ctx = ctx;
	plugin->conf = conf;
	plugin->codec = host->service(ctx, CHATD_CODEC_STOMP);
	const struct chatd_service *net_service = host->service(ctx, CHATD_NET);
	const struct chatd_net *net = net_service->vt;
	for (const char *const *address = plugin->conf->listen; *address; address++) {
		struct chatd_listen l = {
			.struct_size = sizeof(l),
			.address = *address,
			.kind = "tcp",
			.tls_cert = plugin->conf->tls_cert,
			.tls_key = plugin->conf->tls_key,
			.proxy_from = plugin->conf->proxy_from,
			.handshake_ms = plugin->conf->handshake,
			.accepted = on_accepted,
			.arg = plugin,
		};
		chatd_status rc = net->listen(net_service->obj, ctx, &l);
		if (rc)
			return rc; /* reported by the service, with the reason */
	}
	return 0;
}

static void tcp_fini(void *self)
{
	free(self);
}

static chatd_status tcp_worker_start(void *self, chatd_worker *worker, void *wself)
{
	struct worker *tw = wself;
	tw->plugin = self;
	tw->worker = worker;
	return 0;
}

static void cut_off(struct link *link)
{
	codec_of(link)->gone(link->codec, CHATD_END_DRAIN);
	layer_close(link, CODE_STOPPING, NULL);
}

static void tcp_worker_stop(void *self, chatd_worker *worker, void *wself)
{
	const struct plugin *plugin = self;
	struct worker *tw = wself;
	(void)worker;
	plugin->host->timer_clear(&tw->drain_timer);
	while (tw->links)
		cut_off(tw->links);
	while (tw->leaving)
		cut_off(tw->leaving);
}

static void ask_to_leave(struct link *link)
{
	const struct chatd_codec *codec = codec_of(link);
	if (!CHATD_HAS(codec, leave)) {
		cut_off(link);
		return;
	}
	list_remove(link);
	list_add(link, &link->tw->leaving);
	codec->leave(link->codec, CODE_STOPPING, "service restart");
}

static void on_drain_tick(void *arg)
{
	struct worker *tw = arg;
	const struct chatd_host *host = tw->plugin->host;
	for (size_t due = chatd_pace_due(&tw->pace, host->now_ms(tw->worker)); due && tw->links; due--)
		ask_to_leave(tw->links);
	if (tw->links)
		host->timer_set(tw->worker, &tw->drain_timer, CHATD_PACE_TICK_MS, on_drain_tick, tw);
}

static void tcp_drain(void *self, chatd_worker *worker, void *wself)
{
	const struct plugin *plugin = self;
	struct worker *tw = wself;
	tw->draining = 1;
	chatd_pace_begin(
			&tw->pace, tw->n_links, plugin->host->drain_spread(), plugin->host->now_ms(worker));
	on_drain_tick(tw);
}

static const char *const needs[] = { CHATD_NET, CHATD_CODEC_STOMP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "tcp",
	.version = "0.1.0",
	.summary = "STOMP over TCP and TLS",
	.needs = needs,
	.opts = options,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.check = tcp_check,
	.init = tcp_init,
	.worker_start = tcp_worker_start,
	.drain = tcp_drain,
	.worker_stop = tcp_worker_stop,
	.fini = tcp_fini,
};
