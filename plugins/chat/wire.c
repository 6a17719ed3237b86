/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and notices as events between nodes.  What comes in was written by another program:
 * nothing of it is believed before it was looked at. */
#include "cluster.h"
#include "notice.h"

#include <jansson.h>

enum { MSG_ID_MAX = 64, HEADERS_MAX = 16, NUMBER = 24 };

#define ROW    "row"
#define NOTICE "notice"

/* ---- out ------------------------------------------------------------------------------------ */

struct sheet {
	struct chatd_cluster_header all[HEADERS_MAX];
	char digits[HEADERS_MAX][NUMBER];
	size_t n;
};

static void put(struct sheet *s, const char *name, struct chatd_str value)
{
	if (value.p && s->n < HEADERS_MAX) {
		s->all[s->n++] = (struct chatd_cluster_header){ text(name), value };
	}
}

static void put_int(struct sheet *s, const char *name, int64_t value)
{
	if (s->n < HEADERS_MAX) {
		snprintf(s->digits[s->n], NUMBER, "%lld", (long long)value);
		put(s, name, text(s->digits[s->n]));
	}
}

static void put_row(struct sheet *s, const struct log_row *r)
{
	const struct chatd_store_message *m = r->row;
	put(s, "id", m->id);
	put(s, "epoch", r->epoch);
	put_int(s, "seq", m->seq);
	put_int(s, "pos", m->pos);
	put_int(s, "row", m->kind);
	put(s, "sender", m->sender);
	put(s, "target", m->target);
	put(s, "room", m->conv.room);
	put(s, "traceparent", r->trace);
	if (!m->conv.room.p) {
		put(s, "a", m->conv.a);
		put(s, "b", m->conv.b);
		put_int(s, "before-a", r->before_a);
		put_int(s, "before-b", r->before_b);
	}
	if (m->flags) {
		put_int(s, "flags", m->flags);
	}
}

chatd_status wire_send(struct self *self, chatd_worker *w, const struct log_row *r,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_store_conv *c = &r->row->conv;
	const struct chatd_str users[2] = { c->a, c->b };
	char topic[sizeof(ROOM_TOPIC) + CHATD_ID_MAX], pair[2 * CHATD_ID_MAX + 2];
	struct sheet s = { .n = 0 };
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
	struct sheet s = { .n = 0 };
	put(&s, "room", t->room);
	put_int(&s, "seq", t->seq);
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

static struct chatd_str get(const struct chatd_cluster_event *e, const char *name)
{
	return chatd_cluster_get(e, text(name));
}

/* Digits, or "-1"; 0: it is no such number. */
static int get_int(const struct chatd_cluster_event *e, const char *name, int64_t *ret)
{
	struct chatd_str s = get(e, name);
	int64_t v = 0;
	if (chatd_str_same(s, CHATD_LIT("-1"))) {
		*ret = -1;
		return 1;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || v > (INT64_MAX - (s.p[i] - '0')) / 10) {
			return 0;
		}
		v = v * 10 + (s.p[i] - '0');
	}
	*ret = v;
	return s.n > 0;
}

static int may_be_empty(struct chatd_str s, size_t most)
{
	return s.n <= most && (!s.n || !memchr(s.p, '\0', s.n));
}

static int read_conv(
		const struct chatd_cluster_event *e, struct log_row *r, struct chatd_store_message *m)
{
	m->conv.room = get(e, "room");
	if (m->conv.room.p) {
		return chatd_id_ok(m->conv.room);
	}
	m->conv.a = get(e, "a");
	m->conv.b = get(e, "b");
	return chatd_id_ok(m->conv.a) && chatd_id_ok(m->conv.b) &&
			get_int(e, "before-a", &r->before_a) && get_int(e, "before-b", &r->before_b);
}

/* 0: it is no row of ours. */
static int read_row(
		const struct chatd_cluster_event *e, struct log_row *r, struct chatd_store_message *m)
{
	int64_t kind = 0, flags = 0;
	*r = (struct log_row){ .row = m,
		.epoch = get(e, "epoch"),
		.trace = get(e, "traceparent"),
		.before_a = -1,
		.before_b = -1,
		.remote = 1 };
	*m = (struct chatd_store_message){ .struct_size = sizeof(*m),
		.id = get(e, "id"),
		.sender = get(e, "sender"),
		.target = get(e, "target"),
		.body = e->body };
	if (!get_int(e, "row", &kind) || kind < CHATD_STORE_MESSAGE || kind > CHATD_STORE_EVENT ||
			(get(e, "flags").p &&
					(!get_int(e, "flags", &flags) || flags < 0 || flags > UINT32_MAX))) {
		return 0;
	}
	m->kind = (int32_t)kind;
	m->flags = (uint32_t)flags;
	return get_int(e, "seq", &m->seq) && m->seq > 0 && get_int(e, "pos", &m->pos) && m->pos > 0 &&
			m->id.n > 0 && may_be_empty(m->id, MSG_ID_MAX) && r->epoch.n > 0 &&
			may_be_empty(r->epoch, EPOCH_MAX) && may_be_empty(m->sender, CHATD_ID_MAX) &&
			may_be_empty(m->target, MSG_ID_MAX) && may_be_empty(r->trace, 128) &&
			read_conv(e, r, m);
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
	struct chatd_str room = get(e, "room");
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
	struct told t = { .room = get(e, "room") };
	struct chatd_str *users = NULL;
	json_t *root = json_loadb(e->body.p ? e->body.p : "", e->body.n, JSON_REJECT_DUPLICATES, NULL);
	char *preview = json_dumps(json_object_get(root, "preview"), JSON_COMPACT);
	(void)w;
	t.n = read_users(self, root, &users);
	t.users = users;
	if (t.n && preview && get_int(e, "seq", &t.seq) && chatd_id_ok(t.room)) {
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
