/* SPDX-License-Identifier: Apache-2.0 */
/* A report is made: by somebody who may read the message, or by a plugin. */
#include "moderation.h"

#include <chatd-sdk/retry.h>
#include <chatd-sdk/text.h>

/* ---- what is kept ---------------------------------------------------------------------- */

struct facts {
	const struct chatd_store_message *m;
	struct chatd_str key, by, reason, note;
	int64_t max; /* open ones of the reporter; 0: any number */
	int64_t now;
};

/* So that what is deleted afterwards can still be judged. */
static void write_copy(struct chatd_json *j, const struct chatd_store_message *m)
{
	chatd_json_key(j, "message");
	/* A note of which each byte is escaped takes six times its place. */
	if (m->body.n <= VALUE_MAX - 2 * NOTE_MAX && j->n + m->body.n <= VALUE_MAX) {
		chatd_json_raw(j, m->body.p, m->body.n);
		return;
	}
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(m->body, why);
	const char *content = json_string_value(json_object_get(root, "content"));
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", m->id);
	chatd_json_member(j, "sender", m->sender);
	chatd_json_member(j, "content",
			chatd_text_cut(chatd_str_of(content, content ? strlen(content) : 0), COPY_MAX));
	if (json_is_true(json_object_get(root, "encrypted"))) {
		chatd_json_flag(j, "encrypted", 1);
	}
	chatd_json_flag(j, "cut", 1);
	chatd_json_lit(j, "}");
	json_decref(root);
}

static void write_value(struct chatd_json *j, const struct facts *f)
{
	const struct chatd_store_message *m = f->m;
	int first = chatd_str_same(m->conv.a, m->sender);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", f->key);
	chatd_json_member(j, "messageId", m->id);
	if (m->conv.room.n) {
		chatd_json_member(j, "roomId", m->conv.room);
	} else {
		chatd_json_member(j, "receiver", first ? m->conv.b : m->conv.a);
	}
	chatd_json_member(j, "sender", m->sender);
	chatd_json_member(j, "reporter", f->by);
	chatd_json_member(j, "reason", f->reason);
	chatd_json_member(j, "note", f->note.n ? f->note : chatd_str_of(NULL, 0));
	chatd_json_time(j, "createdAt", f->now);
	write_copy(j, m);
	chatd_json_lit(j, "}");
}

static void write_key(
		char to[KEY_MAX + 1], const struct chatd_store_message *m, struct chatd_str by)
{
	snprintf(to, KEY_MAX + 1, "%.*s.%.*s.%.*s", (int)m->conv.room.n,
			m->conv.room.n ? m->conv.room.p : "", (int)m->id.n, m->id.p, (int)by.n, by.p);
}

static int is_there(const struct chatd_store_message *m)
{
	return m->kind == CHATD_STORE_MESSAGE && m->body.n > 0 && !(m->flags & CHATD_STORE_DELETED);
}

static chatd_status put(const struct self *self, chatd_worker *w, const struct facts *f,
		chatd_store_fn *fn, void *arg)
{
	const struct chatd_store *store = self->store->vt;
	struct chatd_json j;
	chatd_json_init(&j, NULL, 0);
	write_value(&j, f);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_NEW,
		.space = CHATD_LIT(OPEN),
		.key = f->key,
		.value = chatd_json_str(&j),
		.owner = f->by,
		.expires = self->conf->retention ? f->now + self->conf->retention : 0,
		.max = f->max,
		.wall = f->now };
	chatd_status rc = j.failed ? -ENOMEM : store->record_put(self->store->obj, w, &r, fn, arg);
	chatd_json_free(&j);
	return rc;
}

/* ---- POST /api/reports -------------------------------------------------------------------- */

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	a->a.under_way = 0;
	if (rc == -EEXIST) {
		ask_problem(a, 409, "ALREADY_REPORTED", "you have reported this message already");
	} else if (rc == -EDQUOT) {
		ask_problem(a, 409, "TOO_MANY_REPORTS",
				"so many reports of yours wait for a moderator that you cannot make another");
	} else if (rc < 0) {
		ask_refused(a, rc);
	} else {
		chatd_json_lit(&a->a.out, "{");
		chatd_json_member(&a->a.out, "id", text(a->key));
		chatd_json_lit(&a->a.out, "}");
		ask_answer(a, 201);
	}
}

static void store_report(struct ask *a, const struct chatd_store_message *m)
{
	const struct facts f = { .m = m,
		.key = text(a->key),
		.by = chatd_ask_user(&a->a),
		.reason = text(a->reason),
		.note = text(a->note),
		.max = self_of(a)->conf->max_open,
		.now = a->a.h->wall_ms() };
	chatd_ask_asked(&a->a, put(self_of(a), a->a.w, &f, on_put, a));
}

static void on_message(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	/* What one may not read is not there. */
	if (rc == -ENOENT || rc == -EACCES || (rc == 0 && !is_there(&s->messages[0]))) {
		ask_problem(a, 404, "NOT_FOUND", "there is no such message");
	} else if (rc < 0) {
		ask_refused(a, rc);
	} else if (chatd_str_same(s->messages[0].sender, chatd_ask_user(&a->a))) {
		ask_problem(a, 422, "VALIDATION", "messageId: this message is your own; delete it");
	} else {
		write_key(a->key, &s->messages[0], chatd_ask_user(&a->a));
		store_report(a, &s->messages[0]);
	}
}

static void look_message(struct ask *a)
{
	const struct chatd_store_message_key key = {
		.struct_size = sizeof(key), .id = text(a->message), .user = chatd_ask_user(&a->a)
	};
	chatd_ask_asked(
			&a->a, store_of(a)->message(self_of(a)->store->obj, a->a.w, &key, on_message, a));
}

static void look_closed(struct ask *a);

/* A report that was closed is not opened again by the same user. */
static void on_closed(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	char part[CHATD_ID_MAX + 3];
	int again = 0, n = snprintf(part, sizeof(part), ".%s.", a->message);
	a->a.under_way = 0;
	for (size_t i = 0; rc == 0 && i < s->n_records; i++) {
		struct chatd_str key = s->records[i].key;
		again |= memmem(key.p, key.n, part, (size_t)n) != NULL;
	}
	if (again) {
		ask_problem(a, 409, "ALREADY_REPORTED", "you have reported this message already");
	} else if (rc < 0) {
		ask_refused(a, rc);
	} else if (s->n_records) { /* a page may be short and not the last */
		chatd_str_copy(a->key, sizeof(a->key), s->records[s->n_records - 1].key);
		look_closed(a);
	} else {
		look_message(a);
	}
}

static void look_closed(struct ask *a)
{
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = 1000,
		.space = CHATD_LIT(CLOSED),
		.after = a->key[0] ? text(a->key) : chatd_str_of(NULL, 0),
		.owner = chatd_ask_user(&a->a),
		.wall = a->a.h->wall_ms() };
	chatd_ask_asked(
			&a->a, store_of(a)->record_list(self_of(a)->store->obj, a->a.w, &r, on_closed, a));
}

/* ---- not too often --------------------------------------------------------------------------- */

static void refuse_rate(struct ask *a, int64_t retry_ms)
{
	if (a->a.req) {
		chatd_http_retry(a->a.http, a->a.req, retry_ms);
	}
	ask_problem(a, 429, "RATE_LIMIT_EXCEEDED", "you report too often; wait a little");
}

static void on_address(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc == -EDQUOT) {
		refuse_rate(a, retry_ms);
	} else {
		look_closed(a);
	}
}

static void take(struct ask *a, const char *what, int64_t times, chatd_limiter_fn *fn)
{
	const struct self *self = self_of(a);
	const struct chatd_limiter *limiter = self->limiter ? self->limiter->vt : NULL;
	char key[200];
	struct chatd_str user = chatd_ask_user(&a->a);
	int n = times > 1 ? snprintf(key, sizeof(key), "%s:%s", what, a->a.peer)
					  : snprintf(key, sizeof(key), "%s:%.*s", what, (int)user.n, user.p);
	const struct chatd_bucket b = { .struct_size = sizeof(b),
		.key = chatd_str_of(key, (size_t)n),
		.burst = self->conf->burst * times,
		.per_minute = self->conf->per_minute * times,
		.cost = 1 };
	a->a.under_way = 1;
	if (!limiter || limiter->take(self->limiter->obj, a->a.w, &b, fn, a) < 0) {
		fn(a, 0, 0);
	}
}

/* Guests are as many as one likes, addresses are not. */
static void on_user(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc == -EDQUOT) {
		refuse_rate(a, retry_ms);
	} else {
		take(a, "report-from", 4, on_address);
	}
}

/* ---- the question ------------------------------------------------------------------------------ */

struct input {
	struct chatd_str message, reason, note;
};
static const struct chatd_json_field fields[] = {
	{ "messageId", CHATD_J_TEXT, offsetof(struct input, message) },
	{ "reason", CHATD_J_TEXT, offsetof(struct input, reason) },
	{ "note", CHATD_J_TEXT, offsetof(struct input, note) },
	{ NULL, 0, 0 },
};

static const char *take_input(struct ask *a, const struct input *in)
{
	const char *const *r = self_of(a)->conf->reasons;
	while (*r && !chatd_str_same(text(*r), in->reason)) {
		r++;
	}
	if (!chatd_id_ok(in->message)) {
		return "messageId is missing, or no id of a message";
	}
	if (!*r) {
		return "reason must be one of those that this server knows: spam, harassment, other ...";
	}
	if (in->note.n > NOTE_MAX) {
		return "note has at most 2000 bytes";
	}
	chatd_str_copy(a->message, sizeof(a->message), in->message);
	chatd_str_copy(a->reason, sizeof(a->reason), in->reason);
	chatd_str_copy(a->note, sizeof(a->note), in->note);
	return NULL;
}

void run_report(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	struct input in = { .message = { NULL, 0 } };
	json_t *root;
	if (!chatd_ask_body(ap, fields, &in, &root)) {
		return;
	}
	const char *fault = take_input(a, &in);
	json_decref(root);
	if (fault) {
		ask_problem(a, 422, "VALIDATION", fault);
	} else {
		take(a, "report", 1, on_user);
	}
}

/* ---- by a plugin --------------------------------------------------------------------------------- */

struct found {
	struct self *self;
	chatd_worker *w;
	char key[KEY_MAX + 1], message[CHATD_ID_MAX + 1], by[CHATD_ID_MAX + 1];
	char reason[REASON_MAX + 1], note[NOTE_MAX + 1];
};

static void found_end(struct found *f, chatd_status rc)
{
	if (rc < 0 && rc != -EEXIST) {
		f->self->h->log(f->self->ctx, CHATD_LOG_WARN,
				"message %s, which %s has found, could not be reported (%d)", f->message, f->by,
				(int)-rc);
	}
	atomic_fetch_sub(&f->self->found, 1);
	f->self->h->mem_free(f);
}

static void on_found_put(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	(void)s;
	found_end(arg, rc);
}

static void on_found_message(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct found *f = arg;
	if (rc < 0 || !is_there(&s->messages[0])) {
		found_end(f, rc < 0 ? rc : -ENOENT);
		return;
	}
	write_key(f->key, &s->messages[0], text(f->by));
	const struct facts facts = { .m = &s->messages[0],
		.key = text(f->key),
		.by = text(f->by),
		.reason = text(f->reason),
		.note = text(f->note),
		.now = f->self->h->wall_ms() };
	rc = put(f->self, f->w, &facts, on_found_put, f);
	if (rc < 0) {
		found_end(f, rc);
	}
}

static void svc_report(void *obj, chatd_worker *w, const struct chatd_report *r)
{
	struct self *self = obj;
	const struct chatd_store *store = self->store->vt;
	struct found *f = self->h->mem_alloc(sizeof(*f));
	if (!f) {
		return;
	}
	atomic_fetch_add(&self->found, 1);
	f->self = self;
	f->w = w;
	chatd_str_copy(f->message, sizeof(f->message), r->message);
	chatd_str_copy(f->by, sizeof(f->by), r->by);
	chatd_str_copy(f->reason, sizeof(f->reason), r->reason);
	chatd_str_copy(f->note, sizeof(f->note), r->note);
	const struct chatd_store_message_key key = { .struct_size = sizeof(key),
		.id = text(f->message) };
	chatd_status rc = store->message(self->store->obj, w, &key, on_found_message, f);
	if (rc < 0) {
		found_end(f, rc);
	}
}

const struct chatd_reports reports_vt = { .struct_size = sizeof(reports_vt), .report = svc_report };
