/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and notices as events between nodes.  What comes in was written by another program:
 * nothing of it is believed before it was looked at. */
#include "cluster.h"
#include "notice.h"

#include <chatd-sdk/events.h>
#include <jansson.h>

enum { MSG_ID_MAX = 64, TRACE_MAX = 128 };

#define ROW    "row"
#define NOTICE "notice"

/* ---- out ------------------------------------------------------------------------------------ */

static void put_row(struct chatd_sheet *s, const struct log_row *r)
{
	const struct chatd_store_message *m = r->row;
	chatd_sheet_put(s, "id", m->id);
	chatd_sheet_put(s, "epoch", r->epoch);
	chatd_sheet_int(s, "seq", m->seq);
	chatd_sheet_int(s, "pos", m->pos);
	chatd_sheet_int(s, "row", m->kind);
	chatd_sheet_put(s, "sender", m->sender);
	chatd_sheet_put(s, "target", m->target);
	chatd_sheet_put(s, "room", m->conv.room);
	chatd_sheet_put(s, "traceparent", r->trace);
	if (!m->conv.room.p) {
		chatd_sheet_put(s, "a", m->conv.a);
		chatd_sheet_put(s, "b", m->conv.b);
		chatd_sheet_int(s, "before-a", r->before_a);
		chatd_sheet_int(s, "before-b", r->before_b);
	}
	if (m->flags) {
		chatd_sheet_int(s, "flags", m->flags);
	}
}

chatd_status wire_send(struct self *self, chatd_worker *w, const struct log_row *r,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_store_conv *c = &r->row->conv;
	const struct chatd_str users[2] = { c->a, c->b };
	char topic[sizeof(ROOM_TOPIC) + CHATD_ID_MAX], pair[2 * CHATD_ID_MAX + 2];
	struct chatd_sheet s = { .n = 0 };
	put_row(&s, r);
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.kind = CHATD_LIT(ROW),
		.headers = s.all,
		.n_headers = s.n,
		.body = r->row->body };
	if (c->room.p) {
		snprintf(topic, sizeof(topic), ROOM_TOPIC "%.*s", (int)c->room.n, c->room.p);
		e.to = CHATD_CLUSTER_TOPIC;
		e.topic = text(topic);
		e.key = c->room;
	} else {
		snprintf(pair, sizeof(pair), "%.*s %.*s", (int)c->a.n, c->a.p, (int)c->b.n, c->b.p);
		e.to = CHATD_CLUSTER_USERS;
		e.users = users;
		e.n_users = chatd_str_same(c->a, c->b) ? 1 : 2;
		e.key = text(pair);
	}
	return cluster->send(self->cluster->obj, w, &e, done, arg);
}

void wire_notice(struct self *self, chatd_worker *w, const struct told *t)
{
	const struct chatd_cluster *cluster = self->cluster->vt;
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"users\":[");
	for (size_t i = 0; i < t->n; i++) {
		chatd_json_next(&j);
		chatd_json_quote(&j, t->users[i]);
	}
	chatd_json_lit(&j, "],\"preview\":");
	chatd_json_raw(&j, t->preview.p, t->preview.n);
	chatd_json_lit(&j, "}");
	struct chatd_sheet s = { .n = 0 };
	chatd_sheet_put(&s, "room", t->room);
	chatd_sheet_int(&s, "seq", t->seq);
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_ALL,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = CHATD_LIT(NOTICE),
		.key = t->room,
		.headers = s.all,
		.n_headers = s.n,
		.body = chatd_json_str(&j) };
	if (!j.failed) {
		(void)cluster->send(self->cluster->obj, w, &e, NULL, NULL);
	}
	chatd_json_free(&j);
}

/* ---- in ------------------------------------------------------------------------------------- */

static int read_conv(
		const struct chatd_cluster_event *e, struct log_row *r, struct chatd_store_message *m)
{
	m->conv.room = chatd_event_get(e, "room");
	if (m->conv.room.p) {
		return chatd_id_ok(m->conv.room);
	}
	m->conv.a = chatd_event_get(e, "a");
	m->conv.b = chatd_event_get(e, "b");
	return chatd_id_ok(m->conv.a) && chatd_id_ok(m->conv.b) &&
			chatd_event_int(e, "before-a", &r->before_a) &&
			chatd_event_int(e, "before-b", &r->before_b);
}

/* 0: it is no row of ours. */
static int read_row(
		const struct chatd_cluster_event *e, struct log_row *r, struct chatd_store_message *m)
{
	int64_t kind = 0, flags = 0;
	*r = (struct log_row){ .row = m, .before_a = -1, .before_b = -1, .remote = 1 };
	*m = (struct chatd_store_message){ .struct_size = sizeof(*m), .body = e->body };
	if (!chatd_event_text(e, "epoch", EPOCH_MAX, &r->epoch) || !r->epoch.n ||
			!chatd_event_text(e, "traceparent", TRACE_MAX, &r->trace) ||
			!chatd_event_text(e, "id", MSG_ID_MAX, &m->id) || !m->id.n ||
			!chatd_event_text(e, "sender", CHATD_ID_MAX, &m->sender) ||
			!chatd_event_text(e, "target", MSG_ID_MAX, &m->target)) {
		return 0;
	}
	if (!chatd_event_int(e, "row", &kind) || kind < CHATD_STORE_MESSAGE ||
			kind > CHATD_STORE_EVENT ||
			(chatd_event_get(e, "flags").p &&
					(!chatd_event_int(e, "flags", &flags) || flags < 0 || flags > UINT32_MAX))) {
		return 0;
	}
	m->kind = (int32_t)kind;
	m->flags = (uint32_t)flags;
	return chatd_event_int(e, "seq", &m->seq) && m->seq > 0 && chatd_event_int(e, "pos", &m->pos) &&
			m->pos > 0 && read_conv(e, r, m);
}

static void complain(struct self *self, const struct chatd_cluster_event *e)
{
	self->h->log(self->ctx, CHATD_LOG_WARN,
			"node %.*s sent a \"%.*s\" that is none; is it another program, or a version that "
			"does not go with this one?",
			(int)e->from.n, e->from.p, (int)e->kind.n, e->kind.p);
}

static chatd_worker *row_home(void *arg, const struct chatd_cluster_event *e)
{
	struct chatd_str room = chatd_event_get(e, "room");
	return log_home(arg, room.p ? room : CHATD_LIT(""));
}

static void on_row(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct self *self = arg;
	struct worker *at = self->h->worker_self(self->ctx, w);
	struct chatd_store_message m;
	struct log_row r;
	if (!read_row(e, &r, &m)) {
		complain(self, e);
	} else if (!at->epoch[0] || chatd_str_same(r.epoch, text(at->epoch))) {
		/* Of another epoch: a node that has not noticed yet that the store was restored. */
		(void)lanes_row(self, w, &r);
	}
}

/* The users of a notice, in memory of their own; 0: it is none. */
static size_t read_users(struct self *self, json_t *root, struct chatd_str **ret)
{
	json_t *list = json_object_get(root, "users"), *item;
	size_t i, n = json_array_size(list);
	*ret = NULL;
	if (n == 0 || n > NOTICE_USERS) {
		return 0;
	}
	*ret = self->h->mem_alloc(n * sizeof(**ret));
	if (!*ret) {
		return 0;
	}
	json_array_foreach (list, i, item) {
		struct chatd_str s = { json_string_value(item), json_string_length(item) };
		if (!s.p || !chatd_id_ok(s)) {
			return 0;
		}
		(*ret)[i] = s;
	}
	return n;
}

static void on_notice(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct self *self = arg;
	struct told t = { .room = chatd_event_get(e, "room") };
	struct chatd_str *users = NULL;
	json_t *root = json_loadb(e->body.p ? e->body.p : "", e->body.n, JSON_REJECT_DUPLICATES, NULL);
	char *preview = json_dumps(json_object_get(root, "preview"), JSON_COMPACT);
	(void)w;
	t.n = read_users(self, root, &users);
	t.users = users;
	if (t.n && preview && chatd_event_int(e, "seq", &t.seq) && chatd_id_ok(t.room)) {
		t.preview = text(preview);
		notice_hand_out(self, &t);
	} else {
		complain(self, e);
	}
	self->h->mem_free(users);
	free(preview);
	json_decref(root);
}

chatd_status wire_init(struct self *self)
{
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_cluster_receiver row = { .struct_size = sizeof(row),
		.kind = ROW,
		.fn = on_row,
		.home = row_home,
		.link = sync_link,
		.arg = self };
	const struct chatd_cluster_receiver notice = {
		.struct_size = sizeof(notice), .kind = NOTICE, .fn = on_notice, .arg = self
	};
	chatd_status rc = cluster->receive(self->cluster->obj, &row);
	if (rc == 0 && self->conf->notice_interval) {
		rc = cluster->receive(self->cluster->obj, &notice);
	}
	return rc;
}
