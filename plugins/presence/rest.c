/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/chat/presence?users=a,b: what several people are. */
#include "presence.h"

struct ask {
	struct chatd_ask a;
	size_t n;
	struct chatd_str users[]; /* of the request */
};

static struct self *self_of(const struct ask *a)
{
	return a->a.self;
}

static void unknown(struct ask *a, const char *why)
{
	chatd_ask_problem(&a->a, 503, "UNAVAILABLE", why);
}

static void answer(struct ask *a, const struct chatd_presence_state *states)
{
	struct chatd_json *j = &a->a.out;
	chatd_json_lit(j, "{\"users\":[");
	for (size_t i = 0; i < a->n; i++) {
		chatd_json_next(j);
		chatd_json_lit(j, "{");
		int hidden = chatd_privacy_between(
				self_of(a)->privacy, a->a.w, chatd_ask_user(&a->a), a->users[i]);
		chatd_presence_write(j, a->users[i], hidden ? &tell_offline : &states[i]);
		chatd_json_lit(j, "}");
	}
	chatd_json_lit(j, "]}");
	chatd_ask_answer(&a->a, 200);
}

static const char no_look[] = "who is online cannot be looked up now; try again";

static void on_states(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n)
{
	struct ask *a = arg;
	if (!chatd_ask_back(&a->a)) {
		return;
	}
	if (rc < 0 || n != a->n) {
		unknown(a, no_look);
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
	int64_t given = 0, max = self_of(a)->conf->max_watched;
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
	const struct self *self = self_of(a);
	a->a.under_way = 1;
	if (self->presence->look(self->service->obj, a->a.w, a->users, a->n, on_states, a) < 0) {
		a->a.under_way = 0;
		unknown(a, no_look);
	}
}

static void on_allowed(void *arg, chatd_status rc, size_t at)
{
	struct ask *a = arg;
	char why[CHATD_ID_MAX + sizeof(ALLOW_NOT) + 32];
	if (!chatd_ask_back(&a->a)) {
		return;
	}
	if (rc == -EACCES) {
		snprintf(why, sizeof(why), "%.*s: " ALLOW_NOT, (int)a->users[at].n, a->users[at].p);
		chatd_ask_problem(&a->a, 403, "FORBIDDEN", why);
	} else if (rc < 0) {
		unknown(a, ALLOW_UNKNOWN);
	} else {
		look(a);
	}
}

static void ask(struct ask *a)
{
	if (!allow_asks(self_of(a), a->a.who)) {
		look(a);
		return;
	}
	const struct allow_question q = { .self = self_of(a),
		.who = a->a.who,
		.users = a->users,
		.n = a->n,
		.fn = on_allowed,
		.arg = a };
	a->a.under_way = 1;
	if (allow_ask(a->a.w, &q) < 0) {
		on_allowed(a, -EAGAIN, 0);
	}
}

static void run(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	char fault[CHATD_JSON_WHY];
	struct chatd_str list = ap->http->req_query(ap->req, "users");
	if (!list.n) {
		chatd_ask_problem(ap, 422, "VALIDATION", "users is missing: user ids, separated by commas");
	} else if (!take_users(a, list, fault)) {
		chatd_ask_problem(ap, 422, "VALIDATION", fault);
	} else {
		ask(a);
	}
}

chatd_status rest_init(struct self *self)
{
	const struct chatd_ask_route table = { .method = CHATD_GET,
		.path = "/api/chat/presence",
		.run = run,
		.size = sizeof(struct ask) +
				(size_t)self->conf->max_watched * sizeof(((struct ask *)NULL)->users[0]) };
	self->route = (struct chatd_ask_route){ .self = self, .h = self->h, .http = self->http };
	return chatd_ask_routes(self->ctx, &self->route, &table, 1);
}
