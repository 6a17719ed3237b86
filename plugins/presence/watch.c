/* SPDX-License-Identifier: Apache-2.0 */
/* /app/presence.watch and presence.unwatch. */
#include "presence.h"

enum { CHUNK = 32 * 1024 };

struct input {
	json_t *users;
};

static const struct chatd_json_field fields[] = {
	{ "users", CHATD_J_LIST, offsetof(struct input, users) },
	{ NULL, 0, 0 },
};

struct op {
	struct at *at;
	chatd_sid session;
	chatd_token token;
	size_t n;
	struct chatd_str users[]; /* and their text */
};

/* ---- what is asked for ------------------------------------------------------------------------- */

static int is_among(const struct chatd_str *users, size_t n, struct chatd_str user)
{
	for (size_t i = 0; i < n; i++) {
		if (chatd_str_same(users[i], user)) {
			return 1;
		}
	}
	return 0;
}

size_t users_take(json_t *list, int64_t max, struct chatd_str *ret, char why[CHATD_JSON_WHY])
{
	size_t i, n = 0, given = json_array_size(list);
	json_t *item;
	if (given == 0) {
		snprintf(why, CHATD_JSON_WHY,
				"users is missing: a list of user ids, such as [\"user_4fk2\"]");
		return 0;
	}
	if ((int64_t)given > max) {
		snprintf(why, CHATD_JSON_WHY, "users: %zu are too many at a time; %lld are allowed", given,
				(long long)max);
		return 0;
	}
	json_array_foreach (list, i, item) {
		struct chatd_str s = chatd_str_of(json_string_value(item), json_string_length(item));
		if (!s.p || !chatd_id_ok(s)) {
			snprintf(why, CHATD_JSON_WHY,
					"users[%zu] is no user id: 1 to 64 letters, digits, _ and -", i);
			return 0;
		}
		if (!is_among(ret, n, s)) {
			ret[n++] = s;
		}
	}
	return n;
}

static struct op *op_create(
		struct at *at, chatd_call *call, const struct chatd_str *users, size_t n)
{
	const struct chatd_host *h = at->self->h;
	size_t text = 0;
	for (size_t i = 0; i < n; i++) {
		text += users[i].n;
	}
	struct op *op = chatd_open_alloc(
			at->self->h, &at->self->open, sizeof(*op) + n * sizeof(op->users[0]) + text);
	if (!op) {
		return NULL;
	}
	char *to = (char *)(op->users + n);
	op->at = at;
	op->session = h->session_sid(h->call_session(call));
	op->n = n;
	for (size_t i = 0; i < n; i++) {
		memcpy(to, users[i].p, users[i].n);
		op->users[i] = chatd_str_of(to, users[i].n);
		to += users[i].n;
	}
	return op;
}

/* ---- the first answer ---------------------------------------------------------------------------- */

/* What this request has begun ends. */
static void take_back(struct watcher *s, const struct op *op)
{
	struct entry *e = s->at ? LIST_FIRST(&s->entries) : NULL;
	while (e) {
		struct entry *next = LIST_NEXT(e, by_session);
		if (e->op == op) {
			entry_free(e);
		}
		e = next;
	}
}

static void snapshot_begin(struct chatd_json *j)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "type", CHATD_LIT("PRESENCE"));
	chatd_json_key(j, "users");
	chatd_json_lit(j, "[");
}

static chatd_status snapshot_send(struct at *at, chatd_session *session, struct chatd_json *j)
{
	chatd_json_lit(j, "]");
	if (at->stale) { /* as those were told who watched before */
		chatd_json_flag(j, "stale", 1);
	}
	chatd_json_time(j, "timestamp", at->self->h->wall_ms());
	chatd_json_lit(j, "}");
	chatd_status rc = j->failed ? -ENOMEM : tell_session(at, session, chatd_json_str(j));
	j->n = 0;
	return rc;
}

static chatd_status snapshot(struct op *op, chatd_session *session, const struct watcher *s,
		const struct chatd_presence_state *states)
{
	static const struct chatd_presence_state unknown = { .struct_size = sizeof(unknown) };
	char room[4096];
	struct chatd_json j;
	chatd_status rc = 0;
	chatd_json_init(&j, room, sizeof(room));
	snapshot_begin(&j);
	for (size_t i = 0; rc == 0 && i < op->n; i++) {
		struct watched *v = watched_find(op->at, op->users[i]);
		struct entry *e = entry_find(s, v);
		if (!e) {
			continue;
		}
		/* A change may have been told meanwhile that is newer than the answer. */
		watched_update(op->at, v, &states[i]);
		e->unknown = states[i].status == CHATD_PRESENCE_UNKNOWN;
		chatd_json_next(&j);
		chatd_json_lit(&j, "{");
		int hidden = tell_hides(op->at, session, op->users[i]);
		chatd_presence_write(&j, op->users[i],
				hidden               ? &tell_offline
						: e->unknown ? &unknown
									 : &v->state);
		chatd_json_lit(&j, "}");
		if (j.n > CHUNK) {
			rc = snapshot_send(op->at, session, &j);
			snapshot_begin(&j);
		}
	}
	rc = rc < 0 ? rc : snapshot_send(op->at, session, &j);
	chatd_json_free(&j);
	return rc;
}

static void go_live(struct watcher *s, const struct op *op)
{
	struct entry *e;
	LIST_FOREACH (e, &s->entries, by_session) {
		e->op = e->op == op ? NULL : e->op;
	}
}

static void on_states(
		void *arg, chatd_status rc, const struct chatd_presence_state *states, size_t n)
{
	struct op *op = arg;
	struct at *at = op->at;
	const struct chatd_host *h = at->self->h;
	chatd_session *session = h->session_find(at->w, op->session);
	struct watcher *s = session ? h->slot(session, at->self->slot) : NULL;
	if (s && s->at) {
		rc = rc < 0 || n != op->n ? -EAGAIN : snapshot(op, session, s, states);
		/* Too late: the client was told that it failed. */
		rc = rc < 0 ? rc : h->resume(op->token, CHATD_ACCEPT, NULL, NULL);
		if (rc == 0) {
			go_live(s, op);
		} else {
			take_back(s, op);
			(void)h->resume(
					op->token, CHATD_REJECT, "UNAVAILABLE", "nobody can be watched now; try again");
		}
	}
	chatd_open_free(at->self->h, &at->self->open, op);
}

/* ---- /app/presence.watch --------------------------------------------------------------------------- */

static int add_all(struct at *at, struct watcher *s, const struct op *op)
{
	for (size_t i = 0; i < op->n; i++) {
		struct entry *e = entry_find(s, watched_find(at, op->users[i]));
		if (e && !e->op) {
			continue;
		}
		e = e ? e : entry_add(at, s, op->users[i]);
		if (!e) {
			return 0;
		}
		e->op = op;
	}
	return 1;
}

static struct watcher *watcher_of(struct at *at, chatd_session *session)
{
	struct watcher *s = at->self->h->slot(session, at->self->slot);
	if (!s->at) {
		s->at = at;
		s->session = session;
		LIST_INIT(&s->entries);
		LIST_INSERT_HEAD(&at->watchers, s, all);
	}
	return s;
}

static void refuse(struct op *op, const char *code, const char *why)
{
	struct self *self = op->at->self;
	(void)self->h->resume(op->token, CHATD_REJECT, code, why);
	chatd_open_free(self->h, &self->open, op);
}

static void look(struct op *op, chatd_session *session)
{
	struct at *at = op->at;
	struct self *self = at->self;
	struct watcher *s = watcher_of(at, session);
	if (!add_all(at, s, op) ||
			self->presence->look(self->service->obj, at->w, op->users, op->n, on_states, op) < 0) {
		take_back(s, op);
		refuse(op, "UNAVAILABLE", "nobody can be watched now; try again");
	}
}

static void on_allowed(void *arg, chatd_status rc, size_t i)
{
	struct op *op = arg;
	const struct chatd_host *h = op->at->self->h;
	chatd_session *session = h->session_find(op->at->w, op->session);
	char why[CHATD_ID_MAX + sizeof(ALLOW_NOT) + 32];
	if (rc == -EACCES) {
		snprintf(why, sizeof(why), "%.*s: " ALLOW_NOT, (int)op->users[i].n, op->users[i].p);
		refuse(op, "FORBIDDEN", why);
	} else if (rc < 0 || !session) {
		refuse(op, "UNAVAILABLE", ALLOW_UNKNOWN);
	} else {
		look(op, session);
	}
}

static chatd_verdict watch(struct at *at, chatd_call *call, struct op *op)
{
	struct self *self = at->self;
	const struct chatd_host *h = self->h;
	op->token = h->suspend(call, NULL, NULL);
	if (!op->token) {
		chatd_open_free(self->h, &self->open, op);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	if (!allow_asks(self, h->call_ident(call))) {
		look(op, h->call_session(call));
		return CHATD_WAIT;
	}
	const struct allow_question q = { .self = self,
		.who = h->call_ident(call),
		.users = op->users,
		.n = op->n,
		.fn = on_allowed,
		.arg = op };
	if (allow_ask(at->w, &q) < 0) {
		refuse(op, "UNAVAILABLE", ALLOW_UNKNOWN);
	}
	return CHATD_WAIT;
}

/* How many of them the session does not watch yet. */
static int64_t count_new(const struct at *at, const struct watcher *s, const struct op *op)
{
	int64_t n = 0;
	for (size_t i = 0; i < op->n; i++) {
		n += entry_find(s, watched_find(at, op->users[i])) == NULL;
	}
	return n;
}

static chatd_verdict begin(struct at *at, chatd_call *call, struct op *op)
{
	struct self *self = at->self;
	const struct chatd_host *h = self->h;
	const struct watcher *s = h->slot(h->call_session(call), self->slot);
	int64_t more = count_new(at, s, op), max = self->conf->max_watched;
	if (s->n + more > max) {
		chatd_verdict v = h->reject(call, "VALIDATION",
				"you watch %lld users, and %lld more are over the limit of %lld; send "
				"/app/presence.unwatch for some first",
				(long long)s->n, (long long)more, (long long)max);
		chatd_open_free(self->h, &self->open, op);
		return v;
	}
	if (atomic_load(&self->watches) + more > self->conf->max_watches) {
		chatd_open_free(self->h, &self->open, op);
		return h->reject(
				call, "UNAVAILABLE", "too much is watched on this server; try again later");
	}
	return watch(at, call, op);
}

chatd_verdict on_watch(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct at *at = *(struct at **)wself;
	struct input in = { NULL };
	struct chatd_str users[USERS_MAX];
	char why[CHATD_JSON_WHY];
	json_t *root;
	if (!h->call_session(call)) {
		return h->reject(call, "FORBIDDEN", NO_SESSION);
	}
	if (!h->session_hears(h->call_session(call), CHATD_LIT(DEST))) {
		return h->reject(call, "VALIDATION", "subscribe to " DEST " first: the answer comes there");
	}
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &in, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	size_t n = users_take(in.users, self->conf->max_watched, users, why);
	struct op *op = n ? op_create(at, call, users, n) : NULL;
	json_decref(root);
	if (!n) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	return op ? begin(at, call, op) : -ENOMEM;
}

/* ---- /app/presence.unwatch ------------------------------------------------------------------------- */

chatd_verdict on_unwatch(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct at *at = *(struct at **)wself;
	chatd_session *session = h->call_session(call);
	struct input in = { NULL };
	struct chatd_str users[USERS_MAX];
	char why[CHATD_JSON_WHY];
	json_t *root;
	if (!session) {
		return h->reject(call, "FORBIDDEN", NO_SESSION);
	}
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &in, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	struct watcher *s = h->slot(session, self->slot);
	if (!in.users) { /* everybody */
		watcher_drop(s);
		json_decref(root);
		return CHATD_ACCEPT;
	}
	size_t n = users_take(in.users, USERS_MAX, users, why);
	for (size_t i = 0; i < n; i++) {
		struct entry *e = entry_find(s, watched_find(at, users[i]));
		if (e) {
			entry_free(e);
		}
	}
	json_decref(root);
	return n ? CHATD_ACCEPT : h->reject(call, "VALIDATION", "%s", why);
}
