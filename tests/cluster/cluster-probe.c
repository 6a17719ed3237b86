/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin for the tests of the cluster: what clients say is done with chatd.cluster/1 and the
 * router, and what comes in is shown to them.
 *
 *   SEND /app/probe.user   to:NAME             publish_user() to /user/queue/probe
 *   SEND /app/probe.event  kind, to (all, node, topic, users), key, node, topic, users (a,b),
 *                          ephemeral:1; x-...  are headers of the event
 *                          -> to the sender's /user/queue/done: the number that done() had
 *
 * Events of kind "probe" go to /topic/probe of this node as JSON, "slow" likewise and slowly, and
 * changes of the link to /topic/link.
 */
#include <chatd/cluster.h>
#include <chatd/plugin.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct probe {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct chatd_service *cluster;
};

/* ---- what comes in ---------------------------------------------------------------------- */

static void show(struct probe *p, chatd_worker *w, const char *dest, const char *text)
{
	chatd_msg *m =
			p->h->msg_new(chatd_str_of(dest, strlen(dest)), chatd_str_of(text, strlen(text)));
	if (m) {
		(void)p->h->publish_here(w, m);
	}
	p->h->msg_unref(m);
}

static void on_event(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct probe *p = arg;
	char text[4096], users[1024] = "";
	size_t n = 0;
	struct chatd_str x = chatd_cluster_get(e, CHATD_LIT("x-note"));
	for (size_t i = 0; i < e->n_users && n + 70 < sizeof(users); i++) {
		n += (size_t)snprintf(users + n, sizeof(users) - n, "%s%.*s", i ? "," : "",
				(int)e->users[i].n, e->users[i].p);
	}
	snprintf(text, sizeof(text),
			"{\"kind\":\"%.*s\",\"to\":%d,\"from\":\"%.*s\",\"key\":\"%.*s\",\"topic\":\"%.*s\","
			"\"users\":\"%s\",\"note\":\"%.*s\",\"ephemeral\":%d,\"size\":%zu,\"body\":\"%.*s\"}",
			(int)e->kind.n, e->kind.p, e->to, (int)e->from.n, e->from.p, (int)e->key.n, e->key.p,
			(int)e->topic.n, e->topic.p, users, (int)x.n, x.p,
			!!(e->flags & CHATD_CLUSTER_EPHEMERAL), e->body.n,
			(int)(e->body.n < 200 ? e->body.n : 200), e->body.p);
	show(p, w, "/topic/probe", text);
}

static void on_slow(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct timespec t = { .tv_nsec = 20000000 };
	nanosleep(&t, NULL);
	on_event(arg, w, e);
}

static void on_link(void *arg, int32_t up)
{
	struct probe *p = arg;
	show(p, p->h->worker_at(0), "/topic/link", up ? "up" : "down");
}

/* ---- what clients say --------------------------------------------------------------------- */

static chatd_verdict say_user(chatd_call *c, void *self, void *wself)
{
	(void)wself;
	struct probe *p = self;
	chatd_msg *m = p->h->call_msg(c);
	chatd_msg *out = p->h->msg_new(CHATD_LIT("/user/queue/probe"), p->h->msg_body(m));
	struct chatd_str trace = p->h->msg_get(m, "traceparent");
	if (out && p->h->msg_get(m, "ephemeral").p) {
		(void)p->h->msg_flags(out, CHATD_MSG_EPHEMERAL);
	}
	if (out && trace.p) {
		(void)p->h->msg_set(out, "traceparent", trace);
	}
	chatd_status rc =
			out ? p->h->publish_user(p->h->call_worker(c), p->h->msg_get(m, "to"), out) : -ENOMEM;
	p->h->msg_unref(out);
	return rc < 0 ? rc : CHATD_ACCEPT;
}

struct wish {
	struct probe *p;
	chatd_worker *w;
	char user[65];
};

static void on_done(void *arg, chatd_status rc)
{
	struct wish *x = arg;
	char text[16];
	snprintf(text, sizeof(text), "%d", rc);
	chatd_msg *m =
			x->p->h->msg_new(CHATD_LIT("/user/queue/done"), chatd_str_of(text, strlen(text)));
	if (m) {
		(void)x->p->h->publish_user_here(x->w, chatd_str_of(x->user, strlen(x->user)), m);
	}
	x->p->h->msg_unref(m);
	free(x);
}

static size_t split(struct chatd_str s, struct chatd_str *out, size_t max)
{
	size_t n = 0;
	while (s.p && n < max) {
		const char *comma = memchr(s.p, ',', s.n);
		size_t len = comma ? (size_t)(comma - s.p) : s.n;
		out[n++] = chatd_str_of(s.p, len);
		s = comma ? chatd_str_of(comma + 1, s.n - len - 1) : chatd_str_of(NULL, 0);
	}
	return n;
}

static int32_t whom(struct chatd_str s)
{
	static const char *const names[] = { "all", "node", "topic", "users" };
	for (int32_t i = 0; i < 4; i++) {
		if (s.n == strlen(names[i]) && memcmp(s.p, names[i], s.n) == 0) {
			return CHATD_CLUSTER_ALL + i;
		}
	}
	return 0;
}

static chatd_verdict say_event(chatd_call *c, void *self, void *wself)
{
	(void)wself;
	struct probe *p = self;
	const struct chatd_host *h = p->h;
	const struct chatd_cluster *cluster = p->cluster->vt;
	chatd_msg *m = h->call_msg(c);
	struct chatd_str users[64];
	struct chatd_cluster_header note = { CHATD_LIT("x-note"), h->msg_get(m, "x-note") };
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = whom(h->msg_get(m, "to")),
		.flags = h->msg_get(m, "ephemeral").p ? CHATD_CLUSTER_EPHEMERAL : 0,
		.kind = h->msg_get(m, "kind"),
		.key = h->msg_get(m, "key"),
		.node = h->msg_get(m, "node"),
		.topic = h->msg_get(m, "topic"),
		.users = users,
		.n_users = split(h->msg_get(m, "users"), users, 64),
		.headers = &note,
		.n_headers = note.value.p != NULL,
		.body = h->msg_body(m) };
	struct wish *x = calloc(1, sizeof(*x));
	struct chatd_str who = h->ident_user(h->call_ident(c));
	if (!x) {
		return -ENOMEM;
	}
	*x = (struct wish){ .p = p, .w = h->call_worker(c) };
	memcpy(x->user, who.p, who.n);
	chatd_status rc = cluster->send(p->cluster->obj, x->w, &e, on_done, x);
	if (rc < 0) {
		free(x);
		return h->reject(c, "REFUSED", "%d", rc);
	}
	return CHATD_ACCEPT;
}

/* ---- life ------------------------------------------------------------------------------------ */

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	(void)confp;
	struct probe *p = h->mem_alloc(sizeof(*p));
	if (!p) {
		return -ENOMEM;
	}
	*ret_self = p;
	*p = (struct probe){ .h = h, .ctx = ctx };
	p->cluster = h->service(ctx, CHATD_CLUSTER);
	const struct chatd_cluster *cluster = p->cluster->vt;
	struct chatd_cluster_receiver r = {
		.struct_size = sizeof(r), .kind = "probe", .fn = on_event, .link = on_link, .arg = p
	};
	chatd_status rc = cluster->receive(p->cluster->obj, &r);
	r.kind = "slow";
	r.fn = on_slow;
	r.link = NULL;
	rc = rc < 0 ? rc : cluster->receive(p->cluster->obj, &r);
	r.kind = "foreign";
	r.fn = on_event;
	rc = rc < 0 ? rc : cluster->receive(p->cluster->obj, &r);
	rc = rc < 0 ? rc : h->app(ctx, "probe.user", say_user);
	return rc < 0 ? rc : h->app(ctx, "probe.event", say_event);
}

static void fini(void *self)
{
	struct probe *p = self;
	p->h->mem_free(p);
}

static const char *const needs[] = { CHATD_CLUSTER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "cluster-probe",
	.version = "0.1",
	.summary = "events between nodes, in the hands of a test",
	.needs = needs,
	.init = init,
	.fini = fini,
};
