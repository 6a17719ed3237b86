/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/chat/users/{id}/status: is somebody online? */
#include "chat.h"

#include <chatd-sdk/presence.h>

struct ask {
	struct self *self;
	chatd_req *req;    /* NULL: the client has gone */
	int32_t under_way; /* presence will call back */
	char user[CHATD_ID_MAX + 1], me[CHATD_ID_MAX + 1];
};

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
	const struct chatd_http *http = a->self->http->vt;
	http->problem(a->req, status, code, why);
	a->self->h->mem_free(a);
}

/* That it is not known now is no failure of the call. */
static void answer(struct ask *a, const struct chatd_presence_state *s)
{
	const struct chatd_http *http = a->self->http->vt;
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	/* Of whom nothing is known, or who is no user, no more is said. */
	if (s->status == CHATD_PRESENCE_OFFLINE && s->since == 0) {
		chatd_json_member(&j, "userId", text(a->user));
		chatd_json_flag(&j, "online", 0);
	} else {
		chatd_presence_write(&j, text(a->user), s);
	}
	chatd_json_lit(&j, "}");
	if (j.failed) {
		problem(a, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		(void)http->header(a->req, "Cache-Control", CHATD_LIT("no-store"));
		http->respond(a->req, 200, "application/json", chatd_json_str(&j));
		a->self->h->mem_free(a);
	}
	chatd_json_free(&j);
}

static void states_done(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n)
{
	static const struct chatd_presence_state unknown = { .struct_size = sizeof(unknown) };
	static const struct chatd_presence_state offline = { .struct_size = sizeof(offline),
		.status = CHATD_PRESENCE_OFFLINE };
	struct ask *a = arg;
	const struct chatd_http *http = a->self->http->vt;
	a->under_way = 0;
	if (!a->req) {
		a->self->h->mem_free(a);
	} else if (chatd_privacy_between(
					   a->self->privacy, http->req_worker(a->req), text(a->me), text(a->user))) {
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
	const struct chatd_presence *presence = a->self->presence->vt;
	const struct chatd_http *http = a->self->http->vt;
	void *obj = a->self->presence->obj;
	chatd_worker *w = http->req_worker(a->req);
	return CHATD_HAS(presence, look) ? presence->look(obj, w, &user, 1, states_done, a)
									 : presence->get(obj, w, &user, 1, online_done, a);
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct ask *a = arg;
	struct chatd_str user = text(a->user);
	if (rc == 0) {
		chatd_str_copy(a->me, sizeof(a->me), a->self->h->ident_user(who));
	}
	if (rc < 0) {
		problem(a, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
	} else if (!user.n) {
		problem(a, 404, "NOT_FOUND", "there is no such user");
	} else {
		a->under_way = 1;
		if (look(a, user) < 0) {
			a->under_way = 0;
			online_done(a, -EAGAIN, NULL, 0);
		}
	}
}

static void on_status(void *arg, chatd_req *req)
{
	struct self *self = arg;
	const struct chatd_http *http = self->http->vt;
	struct chatd_str user = http->req_param(req, "id");
	struct ask *a = self->h->mem_alloc(sizeof(*a));
	if (!a) {
		http->problem(req, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	a->self = self;
	a->req = req;
	chatd_str_copy(a->user, sizeof(a->user), chatd_id_ok(user) ? user : CHATD_LIT(""));
	http->req_user(req, &req_user, a);
	http->identify(req, on_identified, a);
}

chatd_status status_init(struct self *self)
{
	const struct chatd_http *http = self->http->vt;
	const struct chatd_route r = { .struct_size = sizeof(r),
		.methods = CHATD_GET,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/chat/users/{id}/status",
		.handle = on_status,
		.arg = self };
	return http->route(self->http->obj, self->ctx, &r);
}
