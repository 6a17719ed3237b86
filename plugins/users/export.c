/* SPDX-License-Identifier: Apache-2.0 */
/* What the server has of somebody, as one JSON document.  It is written page by page, each when
 * the client has taken what was written before: so its memory is a page's, however long it is. */
#include "users.h"

enum { PAGE = 50, ROOMS_PAGE = 200, WAITING_MAX = 256 << 10 };
enum part { PART_ROOMS, PART_CONVERSATIONS, PART_MESSAGES, PART_DONE };

struct export
{
	enum part part;
	int32_t some;   /* of this part something was written */
	int32_t paused; /* until the client has taken what waits */
	int64_t before;
	char after[CHATD_ID_MAX + 1];
};

static void next_page(struct ask *a);

void export_free(struct ask *a)
{
	a->self->h->mem_free(a->export);
	a->export = NULL;
}

static void cut(struct ask *a)
{
	if (a->req) {
		http_of(a)->abort(a->req);
	}
	ask_free(a);
}

/* What is in .out goes to the client; 0: the ask has ended, or goes on when there is room. */
static int flush(struct ask *a)
{
	const struct chatd_host *h = a->self->h;
	chatd_buf *b = a->out.failed ? NULL : h->buf_new(0, a->out.n);
	if (!b) {
		cut(a);
		return 0;
	}
	memcpy(h->buf_data(b), a->out.p, a->out.n);
	chatd_json_free(&a->out);
	a->export->paused = 1;
	size_t waiting = http_of(a)->write(a->req, b);
	h->buf_unref(b);
	if (waiting > WAITING_MAX) {
		return 0;
	}
	a->export->paused = 0;
	return 1;
}

void export_drained(struct ask *a)
{
	if (a->export && a->export->paused && a->req) {
		a->export->paused = 0;
		next_page(a);
	}
}

static void begin_item(struct ask *a)
{
	if (a->export->some) {
		chatd_json_lit(&a->out, ",\n{");
	} else {
		chatd_json_lit(&a->out, "\n{");
	}
	a->export->some = 1;
}

static void end_part(struct ask *a)
{
	static const char *const begins[] = { "", "],\n\"conversations\":[", "],\n\"messages\":[",
		"]}\n" };
	struct export *e = a->export;
	e->part++;
	e->some = 0;
	e->before = 0;
	chatd_json_raw(&a->out, begins[e->part], strlen(begins[e->part]));
}

/* The other one of a direct conversation. */
static void write_conv(struct ask *a, const struct chatd_store_conv *c)
{
	if (c->room.p) {
		chatd_json_member(&a->out, "roomId", c->room);
	} else {
		chatd_json_member(&a->out, "with", chatd_str_same(c->a, ask_user(a)) ? c->b : c->a);
	}
}

static void write_rooms(struct ask *a, const struct chatd_store_answer *s)
{
	static const char *const roles[] = { "none", "member", "moderator", "owner" };
	for (size_t i = 0; i < s->n_rooms; i++) {
		const struct chatd_store_room *r = &s->rooms[i];
		begin_item(a);
		chatd_json_member(&a->out, "roomId", r->id);
		chatd_json_member(&a->out, "name", r->name);
		chatd_json_member(&a->out, "role", text(roles[r->role & 3]));
		chatd_json_lit(&a->out, "}");
		chatd_str_copy(a->export->after, sizeof(a->export->after), r->id);
	}
	if (s->n_rooms < ROOMS_PAGE) {
		end_part(a);
	}
}

static void write_conversations(struct ask *a, const struct chatd_store_answer *s)
{
	for (size_t i = 0; i < s->n_conversations; i++) {
		const struct chatd_store_conversation *c = &s->conversations[i];
		begin_item(a);
		write_conv(a, &c->conv);
		chatd_json_int(&a->out, "messages", c->seq);
		chatd_json_int(&a->out, "read", c->read);
		chatd_json_lit(&a->out, "}");
		a->export->before = c->pos;
	}
	if (s->n_conversations < PAGE) {
		end_part(a);
	}
}

static void write_messages(struct ask *a, const struct chatd_store_answer *s)
{
	for (size_t i = 0; i < s->n_messages; i++) {
		const struct chatd_store_message *m = &s->messages[i];
		begin_item(a);
		chatd_json_member(&a->out, "id", m->id);
		write_conv(a, &m->conv);
		chatd_json_int(&a->out, "seq", m->seq);
		chatd_json_time(&a->out, "timestamp", m->wall);
		/* The body is the JSON that others got, as it was written. */
		if (m->flags & CHATD_STORE_UNREADABLE) {
			chatd_json_member(&a->out, "error", CHATD_LIT("DECRYPT_FAILED"));
		} else if (m->body.n >= 2 && m->body.p[0] == '{') {
			chatd_json_key(&a->out, "message");
			chatd_json_raw(&a->out, m->body.p, m->body.n);
		} else {
			chatd_json_member(&a->out, "message", m->body);
		}
		chatd_json_lit(&a->out, "}");
		a->export->before = m->pos;
	}
	if (s->n_messages < PAGE) {
		end_part(a);
	}
}

static void on_page(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0 || !a->req) {
		cut(a); /* a document that ends too early must not look whole */
		return;
	}
	switch (a->export->part) {
	case PART_ROOMS:
		write_rooms(a, s);
		break;
	case PART_CONVERSATIONS:
		write_conversations(a, s);
		break;
	default:
		write_messages(a, s);
		break;
	}
	if (flush(a)) {
		next_page(a);
	}
}

static chatd_status ask_page(struct ask *a)
{
	const struct chatd_store *store = store_of(a);
	void *obj = a->self->store->obj;
	struct export *e = a->export;
	if (e->part == PART_ROOMS) {
		struct chatd_store_room_list r = { .struct_size = sizeof(r),
			.scope = CHATD_STORE_MINE,
			.user = ask_user(a),
			.after = e->after[0] ? text(e->after) : chatd_str_of(NULL, 0),
			.limit = ROOMS_PAGE };
		return store->room_list(obj, a->w, &r, on_page, a);
	}
	if (e->part == PART_CONVERSATIONS) {
		struct chatd_store_conversations r = {
			.struct_size = sizeof(r), .limit = PAGE, .user = ask_user(a), .before = e->before
		};
		return store->conversations(obj, a->w, &r, on_page, a);
	}
	struct chatd_store_sent r = {
		.struct_size = sizeof(r), .limit = PAGE, .user = ask_user(a), .before = e->before
	};
	return store->sent(obj, a->w, &r, on_page, a);
}

static void next_page(struct ask *a)
{
	if (a->export->part == PART_DONE) {
		http_of(a)->end(a->req);
		ask_free(a);
		return;
	}
	a->under_way = 1;
	if (ask_page(a) < 0) {
		a->under_way = 0;
		cut(a);
	}
}

static void on_account(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	const struct chatd_http *http = http_of(a);
	a->under_way = 0;
	if (rc < 0 || !a->req) {
		ask_refused(a, rc, s);
		return;
	}
	a->export = a->self->h->mem_alloc(sizeof(*a->export));
	if (!a->export) {
		ask_problem(a, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	(void)http->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
	(void)http->header(
			a->req, "Content-Disposition", CHATD_LIT("attachment; filename=\"chatd-export.json\""));
	http->begin(a->req, 200, "application/json");
	chatd_json_lit(&a->out, "{\"profile\":");
	write_own(a, &s->accounts[0]);
	chatd_json_lit(&a->out, ",\n\"rooms\":[");
	if (flush(a)) {
		next_page(a);
	}
}

void run_export(struct ask *a)
{
	ask_account(a, ask_user(a), on_account);
}
