/* SPDX-License-Identifier: Apache-2.0 */
/* Open sessions feel at once what was committed; and the record of who did it. */
#include "users.h"

#include <chatd-sdk/events.h>

/* A login that was checked just before the change opens its session within this time. */
enum { LINGER_MS = 10000, CLOSE_BANNED = 4403 };
enum { LIVE_CLOSE, LIVE_BAN, LIVE_ROLES, LIVE_NAME, LIVE_UNBAN, LIVE_COUNT };

#define EVENT "users.live"

struct live {
	const struct chatd_host *h;
	int32_t what, code;
	int64_t until;
	const atomic_uint *lifted; /* of a ban, and what it was then */
	unsigned was;
	char text[ROLES_MAX + 1]; /* why, the roles, or the name */
};

static void renew(const struct live *l, chatd_session *s)
{
	const struct chatd_host *h = l->h;
	const chatd_ident *who = h->session_ident(s);
	if (!who) {
		return;
	}
	struct chatd_identity id = { .struct_size = sizeof(id),
		.flags = h->ident_flags(who),
		.user = h->ident_user(who),
		.name = h->ident_name(who),
		.roles = h->ident_roles(who),
		.login = h->ident_login(who),
		.client = h->ident_client(who),
		.expires = h->ident_expires(who) };
	if (l->what == LIVE_NAME) {
		id.name = text(l->text);
	} else {
		id.flags &= ~(uint32_t)(CHATD_ID_ADMIN | CHATD_ID_MODERATOR);
		id.flags |= flags_of_roles(text(l->text));
		id.roles = l->text[0] ? text(l->text) : chatd_str_of(NULL, 0);
	}
	(void)h->session_renew(s, &id);
}

static void on_session(const void *data, chatd_session *s)
{
	const struct live *l = data;
	if (l->what == LIVE_CLOSE) {
		l->h->session_close(s, l->code, l->text);
	} else if (l->what != LIVE_BAN) {
		renew(l, s);
	} else if (l->until > l->h->wall_ms() && atomic_load(l->lifted) == l->was) {
		l->h->session_close(s, l->code, l->text);
	}
}

static void each(const struct self *self, struct chatd_str user, struct live *l)
{
	const struct chatd_each e = { .struct_size = sizeof(e),
		.user = user,
		.fn = on_session,
		.data = l,
		.n = sizeof(*l),
		.linger_ms = LINGER_MS };
	l->h = self->h;
	chatd_status rc = self->h->each_session(&e);
	if (rc < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"open sessions of %.*s could not be told of a change (%d); it counts from their "
				"next login on",
				(int)user.n, user.p, (int)-rc);
	}
}

static atomic_uint *lifted_of(struct self *self, struct chatd_str user)
{
	unsigned hash = 5381;
	for (size_t i = 0; i < user.n; i++) {
		hash = hash * 33 + (unsigned char)user.p[i];
	}
	return &self->lifted[hash % LIFTED];
}

static void here(struct self *self, struct chatd_str user, struct live *l)
{
	l->lifted = lifted_of(self, user);
	if (l->what == LIVE_UNBAN) {
		atomic_fetch_add(lifted_of(self, user), 1);
		return;
	}
	l->was = atomic_load(l->lifted);
	each(self, user, l);
}

/* ---- on all nodes ------------------------------------------------------------------- */

/* What changes is in the store before: a node that hears of it late lets nobody in again. */
static void everywhere(struct self *self, chatd_worker *w, struct chatd_str user, struct live *l)
{
	struct chatd_sheet s = { .n = 0 };
	here(self, user, l);
	if (!self->cluster) {
		return;
	}
	const struct chatd_cluster *cluster = self->cluster->vt;
	chatd_sheet_put(&s, "user", user);
	chatd_sheet_int(&s, "what", l->what);
	chatd_sheet_int(&s, "code", l->code);
	chatd_sheet_int(&s, "until", l->until);
	chatd_sheet_put(&s, "text", text(l->text));
	const struct chatd_cluster_event e = chatd_sheet_event(&s, EVENT, user);
	if (cluster->send(self->cluster->obj, w, &e, NULL, NULL) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"other nodes could not be told of a change of %.*s; there it counts from the next "
				"login on",
				(int)user.n, user.p);
	}
}

static void on_event(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct self *self = arg;
	struct live l = { .what = 0 };
	int64_t what = 0, code = 0;
	struct chatd_str user = chatd_event_get(e, "user"), words;
	(void)w;
	if (!chatd_id_ok(user) || !chatd_event_int(e, "what", &what) || what < 0 ||
			what >= LIVE_COUNT || !chatd_event_int(e, "code", &code) || code < 0 || code > 4999 ||
			!chatd_event_int(e, "until", &l.until) ||
			!chatd_event_text(e, "text", ROLES_MAX, &words)) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "node %.*s sent a change of a user that is none",
				(int)e->from.n, e->from.p);
		return;
	}
	l.what = (int32_t)what;
	l.code = (int32_t)code;
	chatd_str_copy(l.text, sizeof(l.text), words);
	here(self, user, &l);
}

chatd_status live_init(struct self *self)
{
	if (!self->cluster) {
		return 0;
	}
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_cluster_receiver r = {
		.struct_size = sizeof(r), .kind = EVENT, .fn = on_event, .arg = self
	};
	return cluster->receive(self->cluster->obj, &r);
}

/* ---- what happens ---------------------------------------------------------------------- */

void live_close(const struct ask *a, struct chatd_str user, int32_t code, const char *why)
{
	struct live l = { .what = LIVE_CLOSE, .code = code };
	chatd_str_copy(l.text, sizeof(l.text), text(why));
	everywhere(a->self, a->w, user, &l);
}

void live_ban(const struct ask *a, struct chatd_str user, int64_t until)
{
	struct live l = { .what = LIVE_BAN, .code = CLOSE_BANNED, .until = until, .text = "banned" };
	everywhere(a->self, a->w, user, &l);
}

void live_unban(const struct ask *a, struct chatd_str user)
{
	struct live l = { .what = LIVE_UNBAN };
	everywhere(a->self, a->w, user, &l);
}

void live_roles(const struct ask *a, struct chatd_str user, struct chatd_str roles)
{
	struct live l = { .what = LIVE_ROLES };
	chatd_str_copy(l.text, sizeof(l.text), roles);
	everywhere(a->self, a->w, user, &l);
}

void live_name(const struct ask *a, struct chatd_str user, struct chatd_str name)
{
	struct live l = { .what = LIVE_NAME };
	chatd_str_copy(l.text, sizeof(l.text), name);
	everywhere(a->self, a->w, user, &l);
}

/* ---- the record -------------------------------------------------------------------- */

/* One line of JSON behind the word "audit": for people and for programs. */
void audit(const struct ask *a, const struct audit *w)
{
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "action", text(w->action));
	chatd_json_member(&j, "actor", ask_user(a));
	chatd_json_member(&j, "target", w->target);
	chatd_json_member(&j, "roles", w->roles);
	if (w->until == INT64_MAX) {
		chatd_json_member(&j, "until", CHATD_LIT("forever"));
	} else if (w->until) {
		chatd_json_time(&j, "until", w->until);
	}
	chatd_json_member(&j, "reason", w->reason);
	chatd_json_member(&j, "address", text(a->peer));
	chatd_json_member(&j, "requestId", text(a->id));
	chatd_json_lit(&j, "}");
	a->self->h->log(a->self->ctx, CHATD_LOG_INFO, "audit %.*s", (int)j.n, j.p);
	chatd_json_free(&j);
}
