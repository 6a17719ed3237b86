/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/chat/presence?users=a,b: what several people are. */
#include "presence.h"

struct ask {
	struct self *self;
	chatd_req *req;    /* NULL: the client has gone */
	int32_t under_way; /* presence will call back */
	char me[CHATD_ID_MAX + 1];
	size_t n;
	struct chatd_str users[]; /* of the request */
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
	http_of(a)->problem(a->req, status, code, why);
	a->self->h->mem_free(a);
}

static void answer(struct ask *a, const struct chatd_presence_state *states)
{
	char room[4096];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"users\":[");
	for (size_t i = 0; i < a->n; i++) {
		chatd_json_next(&j);
		chatd_json_lit(&j, "{");
		int hidden = chatd_privacy_between(
				a->self->privacy, http_of(a)->req_worker(a->req), text(a->me), a->users[i]);
		chatd_presence_write(&j, a->users[i], hidden ? &tell_offline : &states[i]);
		chatd_json_lit(&j, "}");
	}
	chatd_json_lit(&j, "]}");
	if (j.failed) {
		problem(a, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		(void)http_of(a)->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
		http_of(a)->respond(a->req, 200, "application/json", chatd_json_str(&j));
		a->self->h->mem_free(a);
	}
	chatd_json_free(&j);
}

static void on_states(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (!a->req) {
		a->self->h->mem_free(a);
	} else if (rc < 0 || n != a->n) {
		problem(a, 503, "UNAVAILABLE", "who is online cannot be looked up now; try again");
	} else {
		answer(a, states);
	}
}

static int is_among(const struct ask *a, struct chatd_str user)
{
	for (size_t i = 0; i < a->n; i++) {
		if (chatd_str_same(a->users[i], user)) {
			return 1;
		}
	}
	return 0;
}

/* 0: @p why says what is wrong. */
static int take_users(struct ask *a, struct chatd_str list, char why[CHATD_JSON_WHY])
{
	int64_t given = 0, max = a->self->conf->max_watched;
	for (size_t from = 0, i = 0; i <= list.n; i++) {
		if (i < list.n && list.p[i] != ',') {
			continue;
		}
		struct chatd_str user = chatd_str_of(list.p + from, i - from);
		from = i + 1;
		if (!chatd_id_ok(user)) {
			snprintf(why, CHATD_JSON_WHY,
					"users: number %lld is no user id: 1 to 64 letters, digits, _ and -",
					(long long)given + 1);
			return 0;
		}
		if (++given > max) {
			snprintf(why, CHATD_JSON_WHY, "users: at most %lld at a time", (long long)max);
			return 0;
		}
		if (!is_among(a, user)) {
			a->users[a->n++] = user;
		}
	}
	return 1;
}

static void look(struct ask *a)
{
	a->under_way = 1;
	if (a->self->presence->look(a->self->service->obj, http_of(a)->req_worker(a->req), a->users,
				a->n, on_states, a) < 0) {
		a->under_way = 0;
		problem(a, 503, "UNAVAILABLE", "who is online cannot be looked up now; try again");
	}
}

static void on_allowed(void *arg, chatd_status rc, size_t at)
{
	struct ask *a = arg;
	char why[CHATD_ID_MAX + sizeof(ALLOW_NOT) + 32];
	a->under_way = 0;
	if (!a->req) {
		a->self->h->mem_free(a);
	} else if (rc == -EACCES) {
		snprintf(why, sizeof(why), "%.*s: " ALLOW_NOT, (int)a->users[at].n, a->users[at].p);
		problem(a, 403, "FORBIDDEN", why);
	} else if (rc < 0) {
		problem(a, 503, "UNAVAILABLE", ALLOW_UNKNOWN);
	} else {
		look(a);
	}
}

static void ask(struct ask *a, const chatd_ident *who)
{
	if (!allow_asks(a->self, who)) {
		look(a);
		return;
	}
	const struct allow_question q = {
		.self = a->self, .who = who, .users = a->users, .n = a->n, .fn = on_allowed, .arg = a
	};
	a->under_way = 1;
	if (allow_ask(http_of(a)->req_worker(a->req), &q) < 0) {
		on_allowed(a, -EAGAIN, 0);
	}
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct ask *a = arg;
	char fault[CHATD_JSON_WHY];
	struct chatd_str list = http_of(a)->req_query(a->req, "users");
	if (rc == 0) {
		chatd_str_copy(a->me, sizeof(a->me), a->self->h->ident_user(who));
	}
	if (rc < 0) {
		problem(a, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
	} else if (!list.n) {
		problem(a, 422, "VALIDATION", "users is missing: user ids, separated by commas");
	} else if (!take_users(a, list, fault)) {
		problem(a, 422, "VALIDATION", fault);
	} else {
		ask(a, who);
	}
}

static void on_presence(void *arg, chatd_req *req)
{
	struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	size_t n = (size_t)self->conf->max_watched;
	struct ask *a = self->h->mem_alloc(sizeof(*a) + n * sizeof(a->users[0]));
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	a->self = self;
	a->req = req;
	http->req_user(req, &req_user, a);
	http->identify(req, on_identified, a);
}

chatd_status rest_init(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	const struct chatd_route r = { .struct_size = sizeof(r),
		.methods = CHATD_GET,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/chat/presence",
		.handle = on_presence,
		.arg = self };
	return http->route(self->http->obj, self->ctx, &r);
}
