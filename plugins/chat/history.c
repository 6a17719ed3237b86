/* SPDX-License-Identifier: Apache-2.0 */
/* What was said, over HTTP: pages of a conversation, the list of them, search.  Who asks is
 * the credentials' finding; a room's history is for those who may subscribe to it now. */
#include "send.h"

#include <chatd-sdk/page.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 100, QUERY_MAX = 256 };
enum kind { ROOM_PAGE, DIRECT_PAGE, CONVERSATIONS, SEARCH, MENTIONS, PINS, ONE, THREAD };

struct ask {
	struct self *self;
	chatd_req *req;    /* NULL: the client has gone */
	int32_t under_way; /* somebody will call back */
	enum kind kind;
	int32_t bare;   /* the reference's form: an array, newest first */
	int32_t events; /* room events are wanted, too */
	int32_t admin, as_admin;
	int64_t before, after, limit;
	/* Direct conversations: how far each of the two is, me first. */
	int32_t marked;
	int64_t read[2], delivered[2];
	char user[CHATD_ID_MAX + 1], room[CHATD_ID_MAX + 1], with[CHATD_ID_MAX + 1];
	char query[QUERY_MAX + 1]; /* of THREAD and ONE: the message */
};

static const struct chatd_http *http_of(const struct ask *a)
{
	return a->self->http->vt;
}

static void on_gone(void *arg)
{
	struct ask *a = arg;
	a->req = NULL;
	if (!a->under_way) {
		a->self->h->mem_free(a);
	}
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user),
	.gone = on_gone,
};

static void problem(struct ask *a, int32_t status, const char *code, const char *why)
{
	if (a->req) {
		http_of(a)->problem(a->req, status, code, why);
	}
	a->self->h->mem_free(a);
}

static void invalid(struct ask *a, const char *why)
{
	problem(a, 422, "VALIDATION", why);
}

static void failed(struct ask *a, chatd_status rc)
{
	if ((a->kind == ONE || a->kind == THREAD) && (rc == -EACCES || rc == -ENOENT)) {
		problem(a, 404, "NOT_FOUND", "there is no such message");
	} else if (a->room[0] && (rc == -EACCES || rc == -ENOENT)) {
		problem(a, 403, "NOT_MEMBER",
				"you are not a member of this room, or there is no such room");
	} else if (rc == -EACCES) {
		problem(a, 403, "FORBIDDEN", "this is not yours to read");
	} else if (rc == -ENOTSUP) {
		problem(a, 501, "NOT_AVAILABLE",
				"messages are stored encrypted, and this server keeps no words of them to search in");
	} else if (rc == -EINVAL) {
		invalid(a, "this cannot be looked up");
	} else {
		problem(a, 503, "UNAVAILABLE", "messages cannot be read now");
	}
}

static void respond(struct ask *a, struct chatd_json *j)
{
	const struct chatd_http *http = http_of(a);
	if (j->failed) {
		problem(a, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		(void)http->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
		http->respond(a->req, 200, "application/json", chatd_json_str(j));
		a->self->h->mem_free(a);
	}
	chatd_json_free(j);
}

/* ---- answers -------------------------------------------------------------------------- */

/* A message has been read when its receiver has; in rooms that is no one thing. */
static void write_message(struct chatd_json *j, const struct ask *a,
		const struct chatd_store_message *m, struct chatd_str epoch)
{
	int to = chatd_str_same(m->sender, text(a->user)) && strcmp(a->user, a->with) != 0;
	const char *status = m->kind != CHATD_STORE_MESSAGE || !a->marked ? NULL
			: m->seq <= a->read[to]                                   ? "READ"
			: m->seq <= a->delivered[to]                              ? "DELIVERED"
																	  : NULL;
	stored_write_as(j, m, epoch, status);
}

/* Whom one has blocked gets one's attention by no mention. */
static int is_blocked(const struct ask *a, struct chatd_str sender)
{
	const struct chatd_privacy *privacy = a->self->privacy ? a->self->privacy->vt : NULL;
	return privacy &&
			privacy->blocks(a->self->privacy->obj, http_of(a)->req_worker(a->req), text(a->user),
					sender) > 0;
}

static void write_messages(
		struct chatd_json *j, const struct ask *a, const struct chatd_store_answer *s)
{
	chatd_json_lit(j, "[");
	for (size_t i = 0; i < s->n_messages; i++) {
		size_t at = a->bare ? s->n_messages - 1 - i : i;
		if (a->kind == MENTIONS && is_blocked(a, s->messages[at].sender)) {
			continue;
		}
		chatd_json_next(j);
		write_message(j, a, &s->messages[at], s->epoch);
	}
	chatd_json_lit(j, "]");
}

/* before and after: what to ask for to see the neighbouring pages; none: there is nothing. */
static void write_page(
		struct chatd_json *j, const struct ask *a, const struct chatd_store_answer *s)
{
	if (a->bare) {
		write_messages(j, a, s);
		return;
	}
	chatd_json_lit(j, "{");
	chatd_json_key(j, "messages");
	write_messages(j, a, s);
	if (s->n_messages && s->messages[0].seq > s->first) {
		chatd_json_int(j, "before", s->messages[0].seq);
	}
	if (s->n_messages) {
		chatd_json_int(j, "after", s->messages[s->n_messages - 1].seq);
	}
	chatd_json_int(j, "firstSeq", s->first);
	chatd_json_int(j, "topSeq", s->seq);
	chatd_json_member(j, "epoch", s->epoch);
	chatd_json_lit(j, "}");
}

static void write_found(
		struct chatd_json *j, const struct ask *a, const struct chatd_store_answer *s)
{
	chatd_json_lit(j, "{");
	chatd_json_key(j, "messages");
	write_messages(j, a, s);
	if (s->n_messages == (size_t)a->limit) {
		chatd_json_int(j, "before", s->messages[s->n_messages - 1].pos);
	}
	chatd_json_lit(j, "}");
}

static void write_conversation(struct chatd_json *j, const struct ask *a,
		const struct chatd_store_conversation *c, struct chatd_str epoch)
{
	int mine = chatd_str_same(c->conv.a, text(a->user));
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	if (c->conv.room.n) {
		chatd_json_member(j, "roomId", c->conv.room);
		chatd_json_member(j, "name", c->name);
	} else {
		chatd_json_member(j, "with", mine ? c->conv.b : c->conv.a);
	}
	chatd_json_int(j, "unread", c->unread);
	chatd_json_int(j, "read", c->read);
	chatd_json_int(j, "seq", c->seq);
	if (c->last.kind) {
		chatd_json_key(j, "lastMessage");
		stored_write(j, &c->last, epoch);
	}
	chatd_json_lit(j, "}");
}

static void write_conversations(
		struct chatd_json *j, const struct ask *a, const struct chatd_store_answer *s)
{
	chatd_json_lit(j, "{");
	chatd_json_key(j, "conversations");
	chatd_json_lit(j, "[");
	for (size_t i = 0; i < s->n_conversations; i++) {
		write_conversation(j, a, &s->conversations[i], s->epoch);
	}
	chatd_json_lit(j, "]");
	if (s->n_conversations == (size_t)a->limit) {
		chatd_json_int(j, "before", s->conversations[s->n_conversations - 1].pos);
	}
	chatd_json_lit(j, "}");
}

static void look(struct ask *a);
static void look_again(struct ask *a, const struct chatd_store_message *m);
static void look_newest(struct ask *a);

static void write_answer(
		struct chatd_json *j, const struct ask *a, const struct chatd_store_answer *s)
{
	switch (a->kind) {
	case CONVERSATIONS:
		write_conversations(j, a, s);
		break;
	case SEARCH:
	case MENTIONS:
		write_found(j, a, s);
		break;
	case PINS:
		chatd_json_lit(j, "{");
		chatd_json_key(j, "messages");
		write_messages(j, a, s);
		chatd_json_lit(j, "}");
		break;
	case ONE:
		write_message(j, a, &s->messages[0], s->epoch);
		break;
	default:
		write_page(j, a, s);
		break;
	}
}

static void on_read(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	char room[4096];
	struct chatd_json j;
	a->under_way = 0;
	if (!a->req) {
		a->self->h->mem_free(a);
		return;
	}
	if (rc == -EACCES && a->admin && a->room[0] && !a->as_admin) {
		a->as_admin = 1;
		look(a);
		return;
	}
	if (rc < 0) {
		failed(a, rc);
		return;
	}
	if ((a->kind == THREAD || (a->kind == ONE && !s->messages[0].conv.room.n)) && !a->room[0] &&
			!a->with[0]) {
		look_again(a, &s->messages[0]);
		return;
	}
	if (a->kind == SEARCH && s->n_messages == 0 && (a->room[0] || a->with[0]) && !a->before) {
		look_newest(a);
		return;
	}
	chatd_json_init(&j, room, sizeof(room));
	write_answer(&j, a, s);
	respond(a, &j);
}

/* ---- questions to the store --------------------------------------------------------------- */

static struct chatd_store_conv conv_of(const struct ask *a)
{
	struct chatd_store_conv c = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	if (a->room[0]) {
		c.room = text(a->room);
	} else if (a->with[0]) {
		c.a = text(a->user);
		c.b = text(a->with);
	}
	return c;
}

/* Whose right to read is asked for; administrators need none, once it is known that there is
 * such a room. */
static struct chatd_str reader_of(const struct ask *a)
{
	return a->as_admin ? chatd_str_of(NULL, 0) : text(a->user);
}

static chatd_status ask_store(struct ask *a)
{
	const struct chatd_service *s = a->self->store;
	const struct chatd_store *store = s->vt;
	chatd_worker *w = http_of(a)->req_worker(a->req);
	struct chatd_store_conversations list = { .struct_size = sizeof(list),
		.limit = (int32_t)a->limit,
		.user = text(a->user),
		.before = a->before };
	struct chatd_store_search search = { .struct_size = sizeof(search),
		.limit = (int32_t)a->limit,
		.user = reader_of(a),
		.query = text(a->query),
		.conv = conv_of(a),
		.before = a->before };
	struct chatd_store_page page = { .struct_size = sizeof(page),
		.limit = (int32_t)a->limit,
		.conv = conv_of(a),
		.user = reader_of(a),
		.before = a->before,
		.after = a->after,
		.events = a->events };
	struct chatd_store_mentions mentions = { .struct_size = sizeof(mentions),
		.limit = (int32_t)a->limit,
		.user = text(a->user),
		.before = a->before };
	struct chatd_store_conv_key pins = {
		.struct_size = sizeof(pins), .conv = conv_of(a), .user = reader_of(a)
	};
	struct chatd_store_message_key one = {
		.struct_size = sizeof(one), .id = text(a->query), .user = text(a->user)
	};
	switch (a->kind) {
	case MENTIONS:
		return store->mentions(s->obj, w, &mentions, on_read, a);
	case PINS:
		return store->pins(s->obj, w, &pins, on_read, a);
	case THREAD:
		if (a->room[0] || a->with[0]) {
			page.thread = text(a->query);
			return store->page(s->obj, w, &page, on_read, a);
		}
		return store->message(s->obj, w, &one, on_read, a);
	case ONE:
		return store->message(s->obj, w, &one, on_read, a);
	case CONVERSATIONS:
		return store->conversations(s->obj, w, &list, on_read, a);
	case SEARCH:
		return store->search(s->obj, w, &search, on_read, a);
	default:
		return store->page(s->obj, w, &page, on_read, a);
	}
}

/* Nothing was found in a conversation: perhaps because nobody here can read it. */
static void on_newest(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	const struct chatd_store_answer nothing = { .struct_size = sizeof(nothing) };
	struct ask *a = arg;
	char room[64];
	struct chatd_json j;
	a->under_way = 0;
	if (!a->req) {
		a->self->h->mem_free(a);
	} else if (rc < 0) {
		failed(a, rc);
	} else if (s->n_messages && (s->messages[0].flags & CHATD_STORE_ENCRYPTED)) {
		problem(a, 409, "NOT_AVAILABLE",
				"this conversation is end-to-end encrypted: the server cannot search in it");
	} else {
		chatd_json_init(&j, room, sizeof(room));
		write_answer(&j, a, &nothing);
		respond(a, &j);
	}
}

static void look_newest(struct ask *a)
{
	const struct chatd_store *store = a->self->store->vt;
	struct chatd_store_page page = { .struct_size = sizeof(page),
		.limit = 1,
		.conv = conv_of(a),
		.user = reader_of(a),
		.after = -1 };
	a->under_way = 1;
	chatd_status rc =
			store->page(a->self->store->obj, http_of(a)->req_worker(a->req), &page, on_newest, a);
	if (rc < 0) {
		a->under_way = 0;
		failed(a, rc);
	}
}

static void on_marks(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (!a->req) {
		a->self->h->mem_free(a);
		return;
	}
	if (rc < 0) {
		failed(a, rc);
		return;
	}
	const struct chatd_service *p = a->self->privacy;
	chatd_worker *w = http_of(a)->req_worker(a->req);
	int hides = chatd_privacy_hides_reads(p, w, text(a->user)) ||
			chatd_privacy_hides_reads(p, w, text(a->with));
	for (size_t i = 0; i < s->n_cursors; i++) {
		const struct chatd_store_cursor_row *c = &s->cursors[i];
		int whose = !chatd_str_same(c->user, text(a->user));
		if (c->kind == CHATD_STORE_READ && hides) {
			continue;
		}
		*(c->kind == CHATD_STORE_READ ? &a->read[whose] : &a->delivered[whose]) = c->seq;
	}
	a->marked = 1;
	look(a);
}

/* Before the messages, so that none is said to be read because of a later mark than the page's. */
static chatd_status ask_marks(struct ask *a)
{
	const struct chatd_service *s = a->self->store;
	const struct chatd_store *store = s->vt;
	const struct chatd_store_cursor_list r = {
		.struct_size = sizeof(r), .limit = 4, .conv = conv_of(a), .user = text(a->user)
	};
	return store->cursors(s->obj, http_of(a)->req_worker(a->req), &r, on_marks, a);
}

static void look(struct ask *a)
{
	int direct = a->with[0] && a->kind != SEARCH;
	a->under_way = 1;
	chatd_status rc = direct && !a->marked ? ask_marks(a) : ask_store(a);
	if (rc < 0) {
		a->under_way = 0;
		failed(a, rc);
	}
}

/* Now that it is known where the message is: a page of its thread, or what became of it. */
static void look_again(struct ask *a, const struct chatd_store_message *m)
{
	int mine = chatd_str_same(m->conv.a, text(a->user));
	chatd_str_copy(a->room, sizeof(a->room), m->conv.room);
	chatd_str_copy(a->with, sizeof(a->with), mine ? m->conv.b : m->conv.a);
	look(a);
}

/* ---- the question -------------------------------------------------------------------------- */

static int take_int(struct ask *a, const char *name, int64_t *to)
{
	struct chatd_str s = http_of(a)->req_query(a->req, name);
	int64_t v = 0;
	if (!s.p) {
		return 1;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || v > INT64_MAX / 10 - 1) {
			return 0;
		}
		v = v * 10 + (s.p[i] - '0');
	}
	*to = v;
	return s.n > 0;
}

/* The other one of a direct conversation; NULL, or what is wrong. */
static const char *take_pair(struct ask *a)
{
	const struct chatd_http *http = http_of(a);
	struct chatd_str one = http->req_query(a->req, "user1");
	struct chatd_str two = http->req_query(a->req, "user2");
	struct chatd_str with = http->req_query(a->req, "with"), me = text(a->user);
	if (!with.p && one.p && two.p) {
		a->bare = 1;
		if (!chatd_str_same(one, me) && !chatd_str_same(two, me)) {
			return "that is somebody else's conversation";
		}
		with = chatd_str_same(one, me) ? two : one;
	}
	if (!chatd_id_ok(with)) {
		return "with must be the id of a user";
	}
	chatd_str_copy(a->with, sizeof(a->with), with);
	return NULL;
}

/* 0, or the answer has been given. */
static int take_target(struct ask *a)
{
	const struct chatd_http *http = http_of(a);
	int in_conv = a->kind == ROOM_PAGE || a->kind == SEARCH || a->kind == PINS;
	struct chatd_str room = a->kind == ROOM_PAGE ? http->req_param(a->req, "id")
												 : http->req_query(a->req, "roomId");
	struct chatd_str with = http->req_query(a->req, "with");
	if (a->kind == PINS && !room.p && !with.p) {
		invalid(a, "roomId or with is missing");
		return -1;
	}
	if (a->kind == DIRECT_PAGE || (in_conv && a->kind != ROOM_PAGE && with.p)) {
		const char *fault = take_pair(a);
		if (fault) {
			int other = a->bare && !a->with[0];
			problem(a, other ? 403 : 422, other ? "FORBIDDEN" : "VALIDATION", fault);
			return -1;
		}
	} else if (in_conv && room.p) {
		if (!chatd_id_ok(room)) {
			problem(a, 403, "NOT_MEMBER",
					"you are not a member of this room, or there is no such room");
			return -1;
		}
		chatd_str_copy(a->room, sizeof(a->room), room);
	}
	return 0;
}

/* 0, or the answer has been given. */
static int take_range(struct ask *a)
{
	const struct chatd_http *http = http_of(a);
	struct chatd_str query = http->req_query(a->req, "q");
	struct chatd_str id = http->req_param(a->req, "message");
	int pages = a->kind == ROOM_PAGE || a->kind == DIRECT_PAGE || a->kind == THREAD;
	a->limit = chatd_page_limit(http->req_query(a->req, "limit"), LIMIT_DEFAULT, LIMIT_MAX);
	a->after = -1;
	if (!a->limit) {
		problem(a, 400, "VALIDATION", CHATD_PAGE_NO_LIMIT);
		return -1;
	}
	if (!take_int(a, "before", &a->before) || (pages && !take_int(a, "after", &a->after))) {
		problem(a, 400, "BAD_CURSOR", CHATD_PAGE_NO_CURSOR);
		return -1;
	}
	if (a->before > 0 && a->after >= 0) {
		invalid(a, "before and after exclude each other");
		return -1;
	}
	if (a->kind == SEARCH && (query.n == 0 || query.n > QUERY_MAX)) {
		invalid(a, "q must hold 1 to 256 bytes");
		return -1;
	}
	chatd_str_copy(a->query, sizeof(a->query), id.p ? id : query);
	a->events = chatd_str_same(http->req_query(a->req, "events"), CHATD_LIT("true"));
	a->bare = pages && a->kind != THREAD && http->req_query(a->req, "limit").p && a->before == 0 &&
			a->after < 0 && !http->req_query(a->req, "with").p;
	return 0;
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct ask *a = arg;
	if (rc < 0) {
		problem(a, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_str_copy(a->user, sizeof(a->user), a->self->h->ident_user(who));
	a->admin = (a->self->h->ident_flags(who) & CHATD_ID_ADMIN) != 0;
	struct chatd_str named = http_of(a)->req_query(a->req, "userId");
	if (named.p && !chatd_str_same(named, text(a->user))) {
		problem(a, 403, "FORBIDDEN", "that is somebody else");
		return;
	}
	if (take_range(a) < 0 || take_target(a) < 0) {
		return;
	}
	look(a);
}

static void on_request(struct self *self, enum kind kind, chatd_req *req)
{
	const struct chatd_http *http = self->http->vt;
	struct ask *a = self->h->mem_alloc(sizeof(*a));
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	a->self = self;
	a->req = req;
	a->kind = kind;
	http->req_user(req, &req_user, a);
	http->identify(req, on_identified, a);
}

static void on_room(void *arg, chatd_req *req)
{
	on_request(arg, ROOM_PAGE, req);
}

static void on_direct(void *arg, chatd_req *req)
{
	on_request(arg, DIRECT_PAGE, req);
}

static void on_conversations(void *arg, chatd_req *req)
{
	on_request(arg, CONVERSATIONS, req);
}

static void on_search(void *arg, chatd_req *req)
{
	on_request(arg, SEARCH, req);
}

static void on_mentions(void *arg, chatd_req *req)
{
	on_request(arg, MENTIONS, req);
}

static void on_pins(void *arg, chatd_req *req)
{
	on_request(arg, PINS, req);
}

static void on_one(void *arg, chatd_req *req)
{
	on_request(arg, ONE, req);
}

static void on_thread(void *arg, chatd_req *req)
{
	on_request(arg, THREAD, req);
}

static const struct {
	const char *path;
	void (*handle)(void *arg, chatd_req *);
} routes[] = {
	{ "/api/chat/messages/room/{id}", on_room },
	{ "/api/chat/messages/direct", on_direct },
	{ "/api/chat/conversations", on_conversations },
	{ "/api/chat/search", on_search },
	{ "/api/chat/mentions", on_mentions },
	{ "/api/chat/pins", on_pins },
	{ "/api/chat/messages/{message}", on_one },
	{ "/api/chat/messages/{message}/thread", on_thread },
};

chatd_status history_init(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	chatd_status rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof(routes) / sizeof(routes[0]); i++) {
		const struct chatd_route r = { .struct_size = sizeof(r),
			.methods = CHATD_GET,
			.flags = CHATD_HTTP_CORS,
			.path = routes[i].path,
			.handle = routes[i].handle,
			.arg = self };
		rc = http->route(self->http->obj, self->ctx, &r);
	}
	return rc;
}
