/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/chat/reads: how far everybody in a conversation has read, and what has arrived. */
#include "receipts.h"

enum { LIMIT = 1000 };

struct ask {
	struct self *self;
	chatd_req *req;          /* NULL: the client has gone */
	int32_t under_way;       /* the store will call back */
	int32_t admin, as_admin; /* administrators may read of any room that there is */
	char user[CHATD_ID_MAX + 1], room[CHATD_ID_MAX + 1], with[CHATD_ID_MAX + 1];
	struct chatd_json out;
};

static const struct chatd_http *http_of(const struct ask *a)
{
	return a->self->http->vt;
}

static void ask_free(struct ask *a)
{
	chatd_json_free(&a->out);
	atomic_fetch_sub(&a->self->asks, 1);
	a->self->h->mem_free(a);
}

static void on_gone(void *arg)
{
	struct ask *a = arg;
	a->req = NULL;
	if (!a->under_way) {
		ask_free(a);
	}
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user),
	.gone = on_gone,
};

static void problem(struct ask *a, int32_t status, const char *code, const char *why)
{
	http_of(a)->problem(a->req, status, code, why);
	ask_free(a);
}

static void failed(struct ask *a, chatd_status rc)
{
	if (rc == -EACCES || rc == -ENOENT) {
		problem(a, 403, "NOT_MEMBER",
				"you are not a member of this room, or there is no such room");
	} else {
		problem(a, 503, "UNAVAILABLE", "marks cannot be read now");
	}
}

/* One's own marks are always there. */
static int is_hidden(const struct ask *a, const struct chatd_store_cursor_row *c)
{
	const struct chatd_service *p = a->self->privacy;
	chatd_worker *w = http_of(a)->req_worker(a->req);
	if (chatd_str_same(c->user, text(a->user))) {
		return 0;
	}
	return (c->kind == CHATD_STORE_READ &&
				   (chatd_privacy_hides_reads(p, w, c->user) ||
						   (a->with[0] && chatd_privacy_hides_reads(p, w, text(a->user))))) ||
			(a->with[0] && chatd_privacy_between(p, w, c->user, text(a->user)));
}

static void write_cursors(struct ask *a, const char *name, const struct chatd_store_answer *s)
{
	struct chatd_json *j = &a->out;
	chatd_json_key(j, name);
	chatd_json_lit(j, "[");
	for (size_t i = 0; i < s->n_cursors; i++) {
		if (is_hidden(a, &s->cursors[i])) {
			continue;
		}
		chatd_json_next(j);
		chatd_json_lit(j, "{");
		chatd_json_member(j, "userId", s->cursors[i].user);
		chatd_json_int(j, "seq", s->cursors[i].seq);
		chatd_json_lit(j, "}");
	}
	chatd_json_lit(j, "]");
}

/* 1: the answer of the store is for somebody. */
static int wanted(struct ask *a, chatd_status rc)
{
	a->under_way = 0;
	if (!a->req) {
		ask_free(a);
		return 0;
	}
	if (rc < 0) {
		failed(a, rc);
		return 0;
	}
	return 1;
}

static void on_delivered(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (!wanted(a, rc)) {
		return;
	}
	write_cursors(a, "delivered", s);
	chatd_json_int(&a->out, "topSeq", s->seq);
	chatd_json_lit(&a->out, "}");
	if (a->out.failed) {
		problem(a, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	(void)http_of(a)->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
	http_of(a)->respond(a->req, 200, "application/json", chatd_json_str(&a->out));
	ask_free(a);
}

static void ask(struct ask *a, int32_t kind, chatd_store_fn *fn)
{
	const struct chatd_service *s = a->self->store;
	const struct chatd_store *store = s->vt;
	struct chatd_store_cursor_list r = {
		.struct_size = sizeof(r), .kind = kind, .limit = LIMIT, .user = text(a->user)
	};
	if (a->room[0]) {
		r.conv.room = text(a->room);
		r.user = a->as_admin ? chatd_str_of(NULL, 0) : r.user;
	} else {
		r.conv.a = text(a->user);
		r.conv.b = text(a->with);
	}
	a->under_way = 1;
	chatd_status rc = store->cursors(s->obj, http_of(a)->req_worker(a->req), &r, fn, a);
	if (rc < 0) {
		a->under_way = 0;
		failed(a, rc);
	}
}

static void on_read(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (rc == -EACCES && a->req && a->admin && a->room[0] && !a->as_admin) {
		a->as_admin = 1;
		ask(a, CHATD_STORE_READ, on_read);
		return;
	}
	if (!wanted(a, rc)) {
		return;
	}
	chatd_json_lit(&a->out, "{");
	write_cursors(a, "read", s);
	ask(a, CHATD_STORE_DELIVERED, on_delivered);
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct ask *a = arg;
	if (rc < 0) {
		problem(a, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	struct chatd_str room = http_of(a)->req_query(a->req, "roomId");
	struct chatd_str with = http_of(a)->req_query(a->req, "with");
	chatd_str_copy(a->user, sizeof(a->user), a->self->h->ident_user(who));
	a->admin = (a->self->h->ident_flags(who) & CHATD_ID_ADMIN) != 0;
	if (!room.n == !with.n) {
		problem(a, 422, "VALIDATION", "give roomId or with (a user)");
	} else if (room.n && !chatd_id_ok(room)) {
		failed(a, -ENOENT);
	} else if (with.n && !chatd_id_ok(with)) {
		problem(a, 422, "VALIDATION", "with must be the id of a user");
	} else {
		chatd_str_copy(a->room, sizeof(a->room), room);
		chatd_str_copy(a->with, sizeof(a->with), with);
		ask(a, CHATD_STORE_READ, on_read);
	}
}

static void on_request(void *arg, chatd_req *req)
{
	struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	struct ask *a = self->h->mem_alloc(sizeof(*a));
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	atomic_fetch_add(&self->asks, 1);
	a->self = self;
	a->req = req;
	chatd_json_init(&a->out, NULL, 0);
	http->req_user(req, &req_user, a);
	http->identify(req, on_identified, a);
}

chatd_status reads_init(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	const struct chatd_route r = { .struct_size = sizeof(r),
		.methods = CHATD_GET,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/chat/reads",
		.handle = on_request,
		.arg = self };
	return http->route(self->http->obj, self->ctx, &r);
}
