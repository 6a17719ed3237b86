/* SPDX-License-Identifier: Apache-2.0 */
/* Open sessions feel at once what was committed; and the record of who did it. */
#include "users.h"

#include <chatd-sdk/events.h>

/* A login that was checked just before the change opens its session within this time. */
enum { LINGER_MS = 10000, CLOSE_BANNED = 4403 };
enum { LIVE_CLOSE, LIVE_BAN, LIVE_ROLES, LIVE_NAME, LIVE_UNBAN, LIVE_COUNT };
enum { LIVE_FOUND = LIVE_COUNT }; /* the roles, as the store has them: no event */

#define EVENT "users.live"

struct live {
	const struct chatd_host *h;
	int32_t what, code;
	int64_t until;
	const atomic_uint *lifted; /* of a ban, and what it was then */
	unsigned was;
	char text[ROLES_MAX + 1]; /* why, the roles, or the name */
};

/* Who came without a login of ours has the roles of whoever let them in. */
static int differs(const struct chatd_host *h, const chatd_ident *who, struct chatd_str roles)
{
	struct chatd_str has = h->ident_roles(who);
	return h->ident_login(who).n && (has.n || roles.n) && !chatd_str_same(has, roles);
}

static void renew(const struct live *l, chatd_session *s)
{
	const struct chatd_host *h = l->h;
	const chatd_ident *who = h->session_ident(s);
	if (!who || (l->what == LIVE_FOUND && !differs(h, who, text(l->text)))) {
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

/* ---- what no event told ------------------------------------------------------------------ */

struct look {
	struct self *self;
	char user[CHATD_ID_MAX + 1];
};

static void on_account(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct look *look = arg;
	struct self *self = look->self;
	struct live l = { .what = LIVE_FOUND };
	if (rc == -ENOENT) {
		l = (struct live){
			.what = LIVE_CLOSE, .code = CLOSE_LOGGED_OUT, .text = "account deleted"
		};
		here(self, text(look->user), &l);
	} else if (rc < 0) {
		chatd_touched_again(&self->touched); /* the store was just asked, and is not there now */
	} else if (a->accounts[0].banned_until > self->h->wall_ms()) {
		l = (struct live){ .what = LIVE_BAN,
			.code = CLOSE_BANNED,
			.until = a->accounts[0].banned_until,
			.text = "banned" };
		here(self, text(look->user), &l);
	} else {
		chatd_str_copy(l.text, sizeof(l.text), a->accounts[0].roles);
		here(self, text(look->user), &l);
	}
	self->h->mem_free(look);
}

static void on_touched(void *arg, chatd_worker *w, struct chatd_str user, int64_t ended)
{
	struct self *self = arg;
	const struct chatd_store *store = self->store->vt;
	struct look *look = self->h->mem_alloc(sizeof(*look));
	(void)ended;
	if (!look) {
		chatd_touched_again(&self->touched);
		return;
	}
	look->self = self;
	chatd_str_copy(look->user, sizeof(look->user), user);
	const struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ID, .key = text(look->user)
	};
	if (store->account_get(self->store->obj, w, &key, on_account, look) < 0) {
		self->h->mem_free(look);
		chatd_touched_again(&self->touched);
	}
}

chatd_status live_init(struct self *self)
{
	if (!self->cluster) {
		return 0;
	}
	self->touched = (struct chatd_touched){
		.h = self->h, .store = self->store, .cluster = self->cluster, .fn = on_touched, .arg = self
	};
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
static void audit_log(const struct ask *a, const struct audit *w)
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

/* Who keeps such entries writes them to the log, too. */
void audit(const struct ask *a, const struct audit *w)
{
	char action[64];
	if (!a->self->audit) {
		audit_log(a, w);
		return;
	}
	int n = snprintf(action, sizeof(action), "user.%s", w->action);
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = chatd_str_of(action, (size_t)n),
		.actor = ask_user(a),
		.target = w->target,
		.result = w->code ? text(w->code) : chatd_str_of(NULL, 0),
		.detail = w->roles.p ? w->roles : w->reason,
		.address = text(a->peer),
		.request = text(a->id),
		.until = w->until };
	chatd_audit_note(a->self->audit, a->w, &e);
}
