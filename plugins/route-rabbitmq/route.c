/* SPDX-License-Identifier: Apache-2.0 */
/* The router: what clients publish to topics and what plugins publish to users, on all nodes. */
#include "message.h"
#include "waits.h"
#include "work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- out ------------------------------------------------------------------------------------ */

static void all_lines(const struct rabbit *r, chatd_msg *m, struct wire_lines *l)
{
	struct chatd_str name, value;
	for (size_t i = 0; r->h->msg_header(m, i, &name, &value); i++) {
		wire_line_add(l, name, value);
	}
}

static void carry(
		struct rabbit *r, chatd_worker *w, chatd_msg *m, const struct chatd_cluster_event *to)
{
	struct chatd_cluster_event e = *to;
	struct home *o = &r->homes[r->h->worker_index(w)];
	struct wire_lines lines = { 0 };
	struct chatd_cluster_header trace = { CHATD_LIT("traceparent"),
		r->h->msg_get(m, "traceparent") };
	struct item *i;
	e.struct_size = sizeof(e);
	e.flags = r->h->msg_flags_of(m) & CHATD_MSG_EPHEMERAL ? CHATD_CLUSTER_EPHEMERAL : 0;
	e.topic = r->h->msg_dest(m);
	e.body = r->h->msg_body(m);
	e.headers = &trace;
	e.n_headers = trace.value.p && trace.value.n <= 256;
	if (o->stopped) {
		return;
	}
	if (e.flags & CHATD_CLUSTER_EPHEMERAL && !rabbit_is_up(r)) {
		count(r, COUNT_AWAY);
		return;
	}
	all_lines(r, m, &lines);
	const struct wire_sender s = { .node = r->node,
		.epoch = chatd_str_of(r->epoch, strlen(r->epoch)),
		.number = atomic_fetch_add(&r->numbers, 1) + 1,
		.message_id = r->h->msg_id(m),
		.content_type = r->h->msg_get(m, "content-type"),
		.lines = chatd_str_of(lines.p, lines.n) };
	chatd_status rc = lines.failed ? -ENOMEM : item_create(r, &e, &s, &i);
	free(lines.p);
	if (rc == 0) {
		out_submit(o, i, &e);
	}
}

static void publish(void *self, chatd_worker *w, chatd_msg *m)
{
	struct rabbit *r = self;
	struct chatd_cluster_event e = { .to = CHATD_CLUSTER_TOPIC, .kind = CHATD_LIT("topic") };
	char hex[17];
	e.key = r->h->msg_dest(m);
	if (e.key.n > WIRE_KEY) {
		wire_sha(e.key, hex);
		e.key = chatd_str_of(hex, 16);
	}
	carry(r, w, m, &e);
}

static void publish_user(void *self, chatd_worker *w, struct chatd_str user, chatd_msg *m)
{
	struct chatd_cluster_event e = { .to = CHATD_CLUSTER_USERS,
		.kind = CHATD_LIT("user"),
		.key = user,
		.users = &user,
		.n_users = 1 };
	carry(self, w, m, &e);
}

static void interest(void *self, chatd_worker *w, struct chatd_str dest, int32_t on)
{
	(void)w;
	struct rabbit *r = self;
	consumer_interest(r->consumer, dest, on);
}

/* ---- work queues ------------------------------------------------------------------------------ */

static void enqueue(void *self, chatd_worker *w, chatd_msg *m, const struct chatd_dest_conf *conf,
		chatd_token token)
{
	struct rabbit *r = self;
	work_out_enqueue(r->work_out, w, m, conf, token);
}

static void demand(void *self, chatd_worker *w, struct chatd_str dest,
		const struct chatd_dest_conf *conf, int32_t on)
{
	(void)w;
	struct rabbit *r = self;
	work_in_demand(r->work_in, dest, conf, on);
}

static void settled(void *self, chatd_worker *w, uint64_t handle, int32_t how)
{
	(void)w;
	struct rabbit *r = self;
	work_in_settled(r->work_in, handle, how);
}

/* ---- in -------------------------------------------------------------------------------------- */

/* The event is of a kind that this plugin receives: it stands in a struct wire_in. */
static const struct wire_in *in_of(const struct chatd_cluster_event *e)
{
	return (const struct wire_in *)(const void *)((const char *)e - offsetof(struct wire_in, e));
}

static chatd_msg *message_of(struct rabbit *r, const struct chatd_cluster_event *e)
{
	chatd_status rc;
	chatd_msg *m = message_in(r, in_of(e), &rc);
	if (m && r->h->msg_flags(m, e->flags & CHATD_CLUSTER_EPHEMERAL ? CHATD_MSG_EPHEMERAL : 0) < 0) {
		r->h->msg_unref(m);
		m = NULL;
	}
	if (!m) {
		count(r, COUNT_POISON);
	}
	return m;
}

static void on_topic(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct rabbit *r = arg;
	chatd_msg *m = message_of(r, e);
	if (m && r->h->publish_here(w, m) < 0) {
		count(r, COUNT_UNKNOWN); /* a prefix that this node does not have */
	}
	r->h->msg_unref(m);
}

static void on_user(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct rabbit *r = arg;
	chatd_msg *m = message_of(r, e);
	for (size_t i = 0; m && i < e->n_users; i++) {
		if (r->h->publish_user_here(w, e->users[i], m) < 0) {
			count(r, COUNT_UNKNOWN);
		}
	}
	r->h->msg_unref(m);
}

chatd_status route_init(struct rabbit *r)
{
	static const struct chatd_router router = { .struct_size = sizeof(router),
		.interest = interest,
		.publish = publish,
		.publish_user = publish_user,
		.settle = waits_settle,

		.enqueue = enqueue,
		.demand = demand,
		.settled = settled };
	struct chatd_cluster_receiver topic = {
		.struct_size = sizeof(topic), .kind = "topic", .fn = on_topic, .arg = r
	};
	struct chatd_cluster_receiver user = topic;
	user.kind = "user";
	user.fn = on_user;
	chatd_status rc = r->vt.receive(r, &topic);
	rc = rc < 0 ? rc : r->vt.receive(r, &user);
	return rc < 0 ? rc : r->h->router(r->ctx, &router, r);
}
