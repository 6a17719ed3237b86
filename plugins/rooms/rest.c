/* SPDX-License-Identifier: Apache-2.0 */
/* The rooms over HTTP.  A request becomes an op; who asks is the credentials' finding,
 * and a user id that the request names must be that one. */
#include "rooms.h"

#include <chatd-sdk/page.h>

struct rest_arg {
	struct self *self;
	enum op_kind kind;
};

static const struct chatd_http *http_of(const struct op *op)
{
	return op->self->http->vt;
}

static void answer_problem(struct op *op, int32_t status, const char *code, const char *why)
{
	if (op->req) {
		http_of(op)->problem(op->req, status, code, why);
	}
	op_free(op);
}

/* The client left: the op is freed by whoever calls back next, or now if nobody will. */
static void on_gone(void *arg)
{
	struct op *op = arg;
	op->req = NULL;
	if (!op->under_way) {
		op_free(op);
	}
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user),
	.gone = on_gone,
};

/* ---- the answer ------------------------------------------------------------------- */

static void answer(struct op *op)
{
	const struct chatd_http *http = http_of(op);
	if (!op->req) {
		op_free(op);
		return;
	}
	if (op->out.failed) {
		answer_problem(op, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	if (op->kind == OP_CREATE) {
		char location[sizeof("/api/chat/rooms/") + CHATD_ID_MAX];
		int n = snprintf(location, sizeof(location), "/api/chat/rooms/%s", op->room);
		(void)http->header(op->req, "Location", chatd_str_of(location, (size_t)n));
	}
	(void)http->header(op->req, "Cache-Control", CHATD_LIT("no-store"));
	http->respond(
			op->req, op->status, op->out.n ? "application/json" : NULL, chatd_json_str(&op->out));
	op_free(op);
}

static void write_people(struct op *op, const int32_t *online)
{
	struct chatd_json *j = &op->out;
	int64_t now = op->self->h->wall_ms();
	int bans = op->kind == OP_BANS;
	chatd_json_lit(j, "{");
	chatd_json_key(j, bans ? "bans" : "members");
	chatd_json_lit(j, "[");
	for (size_t i = 0; i < op->n_people; i++) {
		const struct op_person *p = &op->people[i];
		chatd_json_next(j);
		chatd_json_lit(j, "{");
		chatd_json_member(j, "userId", text(p->id));
		chatd_json_member(j, "nickname", text(p->nick));
		if (!bans) {
			chatd_json_member(j, "role", text(role_name(p->role)));
		}
		if (online) {
			chatd_json_flag(j, "online",
					online[i] &&
							!chatd_privacy_between(
									op->self->privacy, op->from, op_user(op), text(p->id)));
		}
		if (p->until > now && p->until < INT64_MAX) {
			chatd_json_time(j, bans ? "until" : "mutedUntil", p->until);
		} else if (p->until > now && !bans) {
			chatd_json_flag(j, "muted", 1);
		}
		chatd_json_lit(j, "}");
	}
	chatd_json_lit(j, "]");
	chatd_json_int(j, "total", op->members);
	if (op->n_people == (size_t)op->limit) {
		chatd_json_member(j, "after", text(op->people[op->n_people - 1].id));
	}
	chatd_json_lit(j, "}");
}

static void presence_done(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct op *op = arg;
	op->under_way = 0;
	write_people(op, rc == 0 && n == op->n_people ? online : NULL);
	answer(op);
}

static void answer_members(struct op *op)
{
	const struct chatd_service *s = op->self->presence;
	const struct chatd_presence *presence = s ? s->vt : NULL;
	struct chatd_str *users = s ? op->self->h->mem_alloc(op->n_people * sizeof(*users)) : NULL;
	chatd_status rc = -ENOENT;
	for (size_t i = 0; users && i < op->n_people; i++) {
		users[i] = text(op->people[i].id);
	}
	if (users) {
		op->under_way = 1;
		rc = presence->get(s->obj, op->from, users, op->n_people, presence_done, op);
		op->self->h->mem_free(users);
	}
	if (rc < 0) { /* who is there is still worth knowing */
		op->under_way = 0;
		write_people(op, NULL);
		answer(op);
	}
}

static void rest_done(struct op *op)
{
	op->under_way = 0;
	if (!op->req) {
		op_free(op);
	} else if (op->code) {
		answer_problem(op, op->status, op->code, op->why);
	} else if (op->kind == OP_MEMBERS) {
		answer_members(op);
	} else if (op->kind == OP_BANS) {
		write_people(op, NULL);
		answer(op);
	} else {
		answer(op);
	}
}

static void submit(struct op *op)
{
	op->done = rest_done;
	op->under_way = 1;
	if (op_submit(op) < 0) {
		op->under_way = 0;
		answer_problem(op, 503, "UNAVAILABLE", "the server is stopping");
	}
}

/* ---- the question ------------------------------------------------------------------ */

enum {
	SLOW_MAX = 6 * 3600,            /* s */
	RETENTION_MIN = 60,             /* s */
	LONGEST = 10 * 366 * 24 * 3600, /* s, of whatever has a length */
};

struct body {
	struct chatd_str name, about, user, role;
	int32_t is_public, read_only;
	int64_t slow, max_members, retention, seconds; /* -1: not said */
};

static const struct chatd_json_field body_fields[] = {
	{ "name", CHATD_J_TEXT, offsetof(struct body, name) },
	{ "about", CHATD_J_TEXT, offsetof(struct body, about) },
	{ "userId", CHATD_J_TEXT, offsetof(struct body, user) },
	{ "role", CHATD_J_TEXT, offsetof(struct body, role) },
	{ "public", CHATD_J_BOOL, offsetof(struct body, is_public) },
	{ "readOnly", CHATD_J_BOOL, offsetof(struct body, read_only) },
	{ "slowMode", CHATD_J_INT, offsetof(struct body, slow) },
	{ "maxMembers", CHATD_J_INT, offsetof(struct body, max_members) },
	{ "retention", CHATD_J_INT, offsetof(struct body, retention) },
	{ "seconds", CHATD_J_INT, offsetof(struct body, seconds) },
	{ NULL, 0, 0 },
};

static const char *take_name(struct op *op, struct chatd_str name)
{
	const char *fault = name_take(name, op->name);
	if (!fault) {
		op->set |= CHATD_STORE_SET_NAME;
	}
	return fault;
}

static const char *take_about(struct op *op, struct chatd_str about)
{
	const char *fault = about_fault(about);
	if (!fault) {
		chatd_str_copy(op->about, sizeof(op->about), about);
		op->set |= CHATD_STORE_SET_ABOUT;
	}
	return fault;
}

static const char *take_numbers(struct op *op, const struct body *b)
{
	if (b->slow != -1) {
		op->slow_ms = b->slow * 1000;
		op->set |= CHATD_STORE_SET_SLOW;
		if (b->slow < 0 || b->slow > SLOW_MAX) {
			return "slowMode must be 0 to 21600 seconds";
		}
	}
	if (b->retention != -1) {
		op->retention_ms = b->retention * 1000;
		op->set |= CHATD_STORE_SET_RETENTION;
		if (b->retention != 0 && (b->retention < RETENTION_MIN || b->retention > LONGEST)) {
			return "retention must be 0 (for ever) or 60 to 316224000 seconds";
		}
	}
	if (b->max_members != -1) {
		op->max_members = b->max_members;
		op->set |= CHATD_STORE_SET_MAX;
		if (b->max_members < 1 || b->max_members > op->self->conf->max_members) {
			return "maxMembers must be at least 1 and no more than this server allows";
		}
	}
	return NULL;
}

static const char *take_patch(struct op *op, const struct body *b)
{
	const char *fault = b->name.p ? take_name(op, b->name) : NULL;
	op->is_public = b->is_public;
	op->read_only = b->read_only;
	if (b->is_public >= 0 || b->read_only >= 0) {
		op->set |= CHATD_STORE_SET_FLAGS;
	}
	if (!fault && b->about.p) {
		fault = take_about(op, b->about);
	}
	return fault ? fault : take_numbers(op, b);
}

static const char *take_create(struct op *op, const struct body *b)
{
	const char *fault = b->name.p ? take_name(op, b->name) : "name is missing";
	op->is_public = b->is_public != 0; /* public unless it says otherwise */
	return !fault && b->about.p ? take_about(op, b->about) : fault;
}

static const char *take_role(struct op *op, struct chatd_str role)
{
	for (int32_t r = CHATD_ROLE_MEMBER; r <= CHATD_ROLE_OWNER; r++) {
		if (chatd_str_same(role, text(role_name(r)))) {
			op->role = r;
			return NULL;
		}
	}
	return role.p ? "role must be member, moderator or owner" : "role is missing";
}

static int names_user(enum op_kind kind)
{
	return kind == OP_ADD || kind == OP_INVITE || kind == OP_BAN || kind == OP_MUTE;
}

static const char *take_time(struct op *op, const struct body *b)
{
	op->seconds = b->seconds;
	if (b->seconds == -1 && op->kind == OP_MUTE) {
		return "seconds is missing; 0 lets the user speak again";
	}
	if (b->seconds != -1 && (b->seconds < (op->kind == OP_BAN) || b->seconds > LONGEST)) {
		return op->kind == OP_BAN ? "seconds must be 1 to 316224000, or be left out: for ever"
								  : "seconds must be 0 to 316224000";
	}
	return NULL;
}

/* NULL, or what is wrong with the body's values. */
static const char *take_body(struct op *op, const struct body *b)
{
	if (names_user(op->kind)) {
		/* One that cannot be an id is nobody's: 404 comes later, as for other strangers. */
		chatd_str_copy(
				op->target, sizeof(op->target), chatd_id_ok(b->user) ? b->user : CHATD_LIT(""));
		if (!b->user.p) {
			return "userId is missing";
		}
	}
	switch (op->kind) {
	case OP_CREATE:
		return take_create(op, b);
	case OP_PATCH:
		return take_patch(op, b);
	case OP_ROLE:
		return take_role(op, b->role);
	case OP_BAN:
	case OP_MUTE:
		return take_time(op, b);
	default:
		return NULL;
	}
}

/* 0, or the answer has been given. */
static int read_body(struct op *op)
{
	const struct chatd_http *http = http_of(op);
	struct chatd_str raw = http->req_body(op->req);
	struct body b = { .name = http->req_query(op->req, "roomName"),
		.is_public = -1,
		.read_only = -1,
		.slow = -1,
		.max_members = -1,
		.retention = -1,
		.seconds = -1 };
	char why[CHATD_JSON_WHY];
	json_t *root = NULL;
	chatd_status rc = raw.n ? chatd_json_read(raw, body_fields, &b, &root, why) : 0;
	const char *fault = rc < 0 ? why : take_body(op, &b);
	json_decref(root);
	if (!fault) {
		return 0;
	}
	answer_problem(op, rc == -EBADMSG ? 400 : 422, "VALIDATION", fault);
	return -1;
}

/* ---- who asks ---------------------------------------------------------------------- */

static void account_done(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct op *op = arg;
	op->under_way = 0;
	if (!op->req) {
		op_free(op);
		return;
	}
	if (rc < 0) {
		answer_problem(op, rc == -ENOENT ? 404 : 503, rc == -ENOENT ? "NOT_FOUND" : "UNAVAILABLE",
				rc == -ENOENT ? "there is no such user" : "accounts cannot be looked up now");
		return;
	}
	chatd_str_copy(op->nick, sizeof(op->nick), a->nickname);
	op->guest = (a->flags & CHATD_ID_ANONYMOUS) != 0;
	submit(op);
}

/* Whoever is named must exist, where somebody knows who does. */
static void look_target(struct op *op)
{
	const struct chatd_service *s = op->self->accounts;
	const struct chatd_accounts *accounts = s ? s->vt : NULL;
	if (!op->target[0]) {
		answer_problem(op, 404, "NOT_FOUND", "there is no such user");
		return;
	}
	if (!s) {
		chatd_str_copy(op->nick, sizeof(op->nick), text(op->target));
		submit(op);
		return;
	}
	op->under_way = 1;
	if (accounts->by_id(s->obj, op->from, text(op->target), account_done, op) < 0) {
		op->under_way = 0;
		answer_problem(op, 503, "UNAVAILABLE", "accounts cannot be looked up now");
	}
}

/* The reference's clients name themselves; nobody may name somebody else. */
static int names_other(const struct op *op)
{
	struct chatd_str named = http_of(op)->req_query(op->req, "userId");
	struct chatd_str me = op_user(op);
	return (named.p && !chatd_str_same(named, me)) ||
			(op->kind == OP_MINE && !chatd_str_same(text(op->target), me));
}

/* 0, or the answer has been given. */
static int take_page(struct op *op)
{
	struct chatd_str after = http_of(op)->req_query(op->req, "after");
	if (op->kind != OP_MEMBERS && op->kind != OP_BANS) {
		return 0;
	}
	op->limit =
			(int32_t)chatd_page_limit(http_of(op)->req_query(op->req, "limit"), LIST_MAX, LIST_MAX);
	if (!op->limit) {
		answer_problem(op, 400, "VALIDATION", CHATD_PAGE_NO_LIMIT);
		return -1;
	}
	if (after.p && !chatd_id_ok(after)) {
		answer_problem(op, 400, "BAD_CURSOR", CHATD_PAGE_NO_CURSOR);
		return -1;
	}
	chatd_str_copy(op->after, sizeof(op->after), after);
	return 0;
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct op *op = arg;
	if (rc < 0) {
		answer_problem(op, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	op->who = op->self->h->ident_ref(who);
	if (names_other(op)) {
		answer_problem(op, 403, "FORBIDDEN", "that is somebody else");
	} else if (read_body(op) == 0 && take_page(op) == 0) {
		if (names_user(op->kind)) {
			look_target(op);
		} else {
			submit(op);
		}
	}
}

/* What cannot be an id is an empty one, which nothing has. */
static void take_param(struct op *op, const char *name, char *to)
{
	struct chatd_str s = http_of(op)->req_param(op->req, name);
	chatd_str_copy(to, CHATD_ID_MAX + 1, chatd_id_ok(s) ? s : CHATD_LIT(""));
}

static void on_request(void *arg, chatd_req *req)
{
	const struct rest_arg *a = arg;
	const struct chatd_http *http = a->self->http->vt;
	struct op *op = op_create(a->self, http->req_worker(req), a->kind);
	if (!op) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	op->req = req;
	if (a->kind != OP_CREATE) {
		take_param(op, "id", op->room);
	}
	take_param(op, "user", op->target);
	chatd_str_copy(op->peer, sizeof(op->peer), http->req_peer(req));
	chatd_str_copy(op->request, sizeof(op->request), http->req_id(req));
	http->req_user(req, &req_user, op);
	http->identify(req, on_identified, op);
}

static const struct {
	uint32_t method;
	const char *path;
	enum op_kind kind;
} routes[] = {
	{ CHATD_GET, "/api/chat/rooms", OP_LIST },
	{ CHATD_POST, "/api/chat/rooms", OP_CREATE },
	{ CHATD_GET, "/api/chat/rooms/{id}", OP_GET },
	{ CHATD_PATCH, "/api/chat/rooms/{id}", OP_PATCH },
	{ CHATD_DELETE, "/api/chat/rooms/{id}", OP_DELETE },
	{ CHATD_POST, "/api/chat/rooms/{id}/join", OP_JOIN },
	{ CHATD_POST, "/api/chat/rooms/{id}/leave", OP_LEAVE },
	{ CHATD_GET, "/api/chat/rooms/{id}/members", OP_MEMBERS },
	{ CHATD_POST, "/api/chat/rooms/{id}/members", OP_ADD },
	{ CHATD_DELETE, "/api/chat/rooms/{id}/members/{user}", OP_REMOVE },
	{ CHATD_PUT, "/api/chat/rooms/{id}/members/{user}/role", OP_ROLE },
	{ CHATD_POST, "/api/chat/rooms/{id}/invite", OP_INVITE },
	{ CHATD_GET, "/api/chat/rooms/{id}/bans", OP_BANS },
	{ CHATD_POST, "/api/chat/rooms/{id}/ban", OP_BAN },
	{ CHATD_DELETE, "/api/chat/rooms/{id}/ban/{user}", OP_UNBAN },
	{ CHATD_POST, "/api/chat/rooms/{id}/mute", OP_MUTE },
	{ CHATD_GET, "/api/chat/users/{user}/rooms", OP_MINE },
};

chatd_status rest_init(struct self *self)
{
	size_t n = sizeof(routes) / sizeof(routes[0]);
	const struct chatd_http *http = self->http->vt;
	self->rest = self->h->mem_alloc(n * sizeof(*self->rest));
	if (!self->rest) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		self->rest[i] = (struct rest_arg){ .self = self, .kind = routes[i].kind };
		struct chatd_route r = { .struct_size = sizeof(r),
			.methods = routes[i].method,
			.flags = CHATD_HTTP_CORS | CHATD_HTTP_JSON,
			.path = routes[i].path,
			.handle = on_request,
			.arg = &self->rest[i] };
		chatd_status rc = http->route(self->http->obj, self->ctx, &r);
		if (rc < 0) {
			return self->h->fail(self->ctx, rc, "the route %s is taken", routes[i].path);
		}
	}
	return 0;
}
