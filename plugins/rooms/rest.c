/* SPDX-License-Identifier: Apache-2.0 */
/* The rooms over HTTP.  A request becomes an op; who asks is the credentials' finding,
 * and a user id that the request names must be that one. */
#include "rooms.h"

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

static void write_members(struct op *op, const int32_t *online)
{
	static const char *const roles[] = { NULL, "member", "moderator", "owner" };
	struct chatd_json *j = &op->out;
	chatd_json_lit(j, "{\"members\":[");
	for (size_t i = 0; i < op->n_people; i++) {
		chatd_json_next(j);
		chatd_json_lit(j, "{");
		chatd_json_member(j, "userId", text(op->people[i].id));
		chatd_json_member(j, "nickname", text(op->people[i].nick));
		chatd_json_member(j, "role", text(roles[op->people[i].role]));
		if (online) {
			chatd_json_flag(j, "online", online[i]);
		}
		chatd_json_lit(j, "}");
	}
	chatd_json_lit(j, "]");
	chatd_json_int(j, "total", op->members);
	chatd_json_lit(j, "}");
}

static void presence_done(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct op *op = arg;
	op->under_way = 0;
	write_members(op, rc == 0 && n == op->n_people ? online : NULL);
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
		write_members(op, NULL);
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

struct body {
	struct chatd_str name, user, role;
	int32_t is_public;
};

static const struct chatd_json_field body_fields[] = {
	{ "name", CHATD_J_TEXT, offsetof(struct body, name) },
	{ "userId", CHATD_J_TEXT, offsetof(struct body, user) },
	{ "role", CHATD_J_TEXT, offsetof(struct body, role) },
	{ "public", CHATD_J_BOOL, offsetof(struct body, is_public) },
	{ NULL, 0, 0 },
};

static const char *take_name(struct op *op, struct chatd_str name)
{
	const char *fault = table_name_fault(name);
	if (!fault) {
		chatd_str_copy(op->name, sizeof(op->name), name);
		op->has_name = 1;
	}
	return fault;
}

static const char *take_role(struct op *op, struct chatd_str role)
{
	if (chatd_str_same(role, CHATD_LIT("member"))) {
		op->role = CHATD_ROLE_MEMBER;
	} else if (chatd_str_same(role, CHATD_LIT("moderator"))) {
		op->role = CHATD_ROLE_MODERATOR;
	} else if (chatd_str_same(role, CHATD_LIT("owner"))) {
		op->role = CHATD_ROLE_OWNER;
	} else {
		return "role must be member, moderator or owner";
	}
	return NULL;
}

/* NULL, or what is wrong with the body's values. */
static const char *take_body(struct op *op, const struct body *b)
{
	switch (op->kind) {
	case OP_CREATE:
		op->is_public = b->is_public != 0; /* public unless it says otherwise */
		return b->name.p ? take_name(op, b->name) : "name is missing";
	case OP_PATCH:
		op->has_public = b->is_public >= 0;
		op->is_public = b->is_public > 0;
		return b->name.p ? take_name(op, b->name) : NULL;
	case OP_ADD:
		/* One that cannot be an id is nobody's: 404 comes later, as for other strangers. */
		chatd_str_copy(
				op->target, sizeof(op->target), chatd_id_ok(b->user) ? b->user : CHATD_LIT(""));
		return b->user.p ? NULL : "userId is missing";
	case OP_ROLE:
		return b->role.p ? take_role(op, b->role) : "role is missing";
	default:
		return NULL;
	}
}

/* 0, or the answer has been given. */
static int read_body(struct op *op)
{
	const struct chatd_http *http = http_of(op);
	struct chatd_str raw = http->req_body(op->req);
	struct body b = { .name = http->req_query(op->req, "roomName"), .is_public = -1 };
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

/* Whoever is brought into a room must exist, where somebody knows who does. */
static void add_member(struct op *op)
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
	} else if (read_body(op) == 0) {
		if (op->kind == OP_ADD) {
			add_member(op);
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
	take_param(op, "id", op->room);
	take_param(op, "user", op->target);
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
