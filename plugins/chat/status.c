/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/chat/users/{id}/status: is somebody online? */
#include "chat.h"

#include <chatd-sdk/presence.h>

struct ask {
	struct chatd_ask a;
	char user[CHATD_ID_MAX + 1];
};

/* That it is not known now is no failure of the call. */
static void answer(struct ask *a, const struct chatd_presence_state *s)
{
	struct chatd_json *j = &a->a.out;
	chatd_json_lit(j, "{");
	/* Of whom nothing is known, or who is no user, no more is said. */
	if (s->status == CHATD_PRESENCE_OFFLINE && s->since == 0) {
		chatd_json_member(j, "userId", text(a->user));
		chatd_json_flag(j, "online", 0);
	} else {
		chatd_presence_write(j, text(a->user), s);
	}
	chatd_json_lit(j, "}");
	chatd_ask_answer(&a->a, 200);
}

static void states_done(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n)
{
	static const struct chatd_presence_state unknown = { .struct_size = sizeof(unknown) };
	static const struct chatd_presence_state offline = { .struct_size = sizeof(offline),
		.status = CHATD_PRESENCE_OFFLINE };
	struct ask *a = arg;
	const struct self *self = a->a.self;
	if (!chatd_ask_back(&a->a)) {
		return;
	}
	if (chatd_privacy_between(self->privacy, a->a.w, chatd_ask_user(&a->a), text(a->user))) {
		answer(a, &offline);
	} else {
		answer(a, rc < 0 || n != 1 ? &unknown : states);
	}
}

static void online_done(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = rc < 0 || n != 1 ? CHATD_PRESENCE_UNKNOWN
				: online[0]        ? CHATD_PRESENCE_ONLINE
								   : CHATD_PRESENCE_OFFLINE };
	states_done(arg, 0, &s, 1);
}

static chatd_status look(struct ask *a, struct chatd_str user)
{
	const struct self *self = a->a.self;
	const struct chatd_presence *presence = self->presence->vt;
	void *obj = self->presence->obj;
	return CHATD_HAS(presence, look) ? presence->look(obj, a->a.w, &user, 1, states_done, a)
									 : presence->get(obj, a->a.w, &user, 1, online_done, a);
}

static void run(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	struct chatd_str user = ap->http->req_param(ap->req, "id");
	if (!chatd_id_ok(user)) {
		chatd_ask_problem(ap, 404, "NOT_FOUND", "there is no such user");
		return;
	}
	chatd_str_copy(a->user, sizeof(a->user), user);
	ap->under_way = 1;
	if (look(a, text(a->user)) < 0) {
		online_done(a, -EAGAIN, NULL, 0);
	}
}

chatd_status status_init(struct self *self)
{
	static const struct chatd_ask_route table = { .method = CHATD_GET,
		.path = "/api/chat/users/{id}/status",
		.run = run,
		.size = sizeof(struct ask) };
	self->status = (struct chatd_ask_route){ .self = self, .h = self->h, .http = self->http };
	return chatd_ask_routes(self->ctx, &self->status, &table, 1);
}
