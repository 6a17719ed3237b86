/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin for the tests of the cluster: says where users are by their names.  The user n2-bob is
 * on the node n2.
 */
#include <chatd/plugin.h>
#include <chatd/presence.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct conf {
	int32_t places; /* PLACES_... */
	int64_t delay;
};
enum { PLACES_NONE, PLACES_KNOWN, PLACES_UNKNOWN };

struct places_self {
	const struct chatd_host *h;
	const struct conf *conf;
	struct chatd_presence presence;
};

static const char *const places[] = { "none", "known", "unknown", NULL };
static const struct chatd_opt opts[] = {
	{ .key = "places",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, places),
			.fallback = "none",
			.choices = places,
			.doc = "What is answered to where users are." },
	{ .key = "delay",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, delay),
			.fallback = "0s",
			.max = 60000,
			.doc = "How long that takes." },
	{ 0 },
};

/* ---- presence ------------------------------------------------------------------------- */

struct question {
	struct places_self *p;
	chatd_watch *watch;
	chatd_presence_nodes_fn *fn;
	void *arg;
	size_t n;
	char names[32][65];
};

static void answer(void *arg)
{
	struct question *q = arg;
	struct chatd_str nodes[32];
	for (size_t i = 0; i < q->n; i++) {
		nodes[i] = chatd_str_of(q->names[i], strlen(q->names[i]));
	}
	chatd_status rc = q->p->conf->places == PLACES_UNKNOWN ? -EAGAIN : 0;
	q->p->h->unwatch(q->watch);
	q->fn(q->arg, rc, nodes, rc ? 0 : q->n);
	free(q);
}

/* Each node once. */
static void note_place(struct question *q, struct chatd_str user)
{
	char name[65] = "";
	for (size_t i = 0; i < user.n && i < 64 && user.p[i] != '-'; i++) {
		name[i] = user.p[i];
	}
	for (size_t i = 0; i < q->n; i++) {
		if (strcmp(q->names[i], name) == 0) {
			return;
		}
	}
	if (q->n < 32) {
		memcpy(q->names[q->n++], name, sizeof(name));
	}
}

static chatd_status nodes_of(void *obj, chatd_worker *w, const struct chatd_str *users, size_t n,
		chatd_presence_nodes_fn *fn, void *arg)
{
	struct places_self *p = obj;
	struct question *q = calloc(1, sizeof(*q));
	if (!q) {
		return -ENOMEM;
	}
	*q = (struct question){ .p = p, .fn = fn, .arg = arg };
	for (size_t i = 0; i < n; i++) {
		note_place(q, users[i]);
	}
	q->watch = p->h->watch_time(w, p->conf->delay ? p->conf->delay : 1, 0, answer, q);
	return q->watch ? 0 : -ENOMEM;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	struct places_self *p = h->mem_alloc(sizeof(*p));
	if (!p) {
		return -ENOMEM;
	}
	*ret_self = p;
	*p = (struct places_self){ .h = h, .conf = confp };
	p->presence.struct_size = sizeof(p->presence);
	p->presence.nodes = p->conf->places == PLACES_NONE ? NULL : nodes_of;
	return h->provide(ctx, CHATD_PRESENCE, &p->presence, p);
}

static void fini(void *self)
{
	struct places_self *p = self;
	p->h->mem_free(p);
}

static const char *const provides[] = { CHATD_PRESENCE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "cluster-places",
	.version = "0.1",
	.summary = "says where users are, by their names",
	.provides = provides,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
};
