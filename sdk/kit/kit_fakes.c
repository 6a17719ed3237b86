/* SPDX-License-Identifier: Apache-2.0 */
/* Fakes of presence, accounts and rooms; how they answer is in kit_answers.c. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WATCHERS = 8 };

enum ask_kind {
	ASK_ONLINE,
	ASK_STATES,
	ASK_SAY,
	ASK_CREATE,
	ASK_BY_ID,
	ASK_BY_SECRET,
	ASK_BY_CLIENT,
	ASK_RENAME,
	ASK_LOOK,
	ASK_MEMBERS,
	ASK_LEAVE,
	ASK_ACT
};

/* A question on its way. */
struct ask {
	struct kit_answer a; /* first */
	enum ask_kind kind;
	union {
		chatd_presence_fn *online;
		chatd_presence_states_fn *states;
		chatd_presence_set_fn *said;
		chatd_account_fn *account;
		chatd_room_fn *room;
		chatd_members_fn *members;
		chatd_left_fn *left;
		chatd_rooms_done *done;
	} to;
	void *arg;
	char **text; /* users, or id and what else */
	size_t n;
	uint32_t flags;
	int64_t created;
};

struct entry { /* a user online, an account, a room or a member */
	struct entry *next;
	char *a, *b, *secret, *client;
	uint32_t flags;
	int32_t role;
	int64_t created;
	struct chatd_presence_state state; /* of a user; its text is .b */
};

struct kit_fakes {
	struct {
		chatd_presence_event *fn;
		void *arg;
	} watcher[MAX_WATCHERS];
	size_t n_watchers;
	struct chatd_presence_follower follower[MAX_WATCHERS];
	size_t n_followers;
	struct {
		chatd_room_event_fn *fn;
		void *arg;
	} room_watcher[MAX_WATCHERS];
	size_t n_room_watchers;
	int deaf; /* followers hear of no change */
	struct entry *online, *accounts, *rooms, *members, *states;
};

static struct entry *find(struct entry *e, const char *a, const char *b)
{
	while (e && (strcmp(e->a, a) != 0 || (b && strcmp(e->b, b) != 0))) {
		e = e->next;
	}
	return e;
}

static struct entry *put(struct entry **list, const char *a, const char *b)
{
	struct entry *e = calloc(1, sizeof(*e));
	if (!e) {
		kit_broken(kit_the(), "no memory for the test itself");
		return NULL;
	}
	e->a = kit_dup(str_of(a));
	e->b = kit_dup(str_of(b));
	e->next = *list;
	*list = e;
	return e;
}

static void entry_free(struct entry *e)
{
	free(e->a);
	free(e->b);
	free(e->secret);
	free(e->client);
	free(e);
}

/* ---- answers ------------------------------------------------------------------- */

static void answer_online(struct ask *q)
{
	int32_t *online = calloc(q->n + 1, sizeof(*online));
	for (size_t i = 0; online && i < q->n; i++) {
		online[i] = find(q->a.k->fakes->online, q->text[i], NULL) != NULL;
	}
	q->to.online(q->arg, q->a.rc, q->a.rc == 0 ? online : NULL, q->a.rc == 0 ? q->n : 0);
	free(online);
}

/* What the test said of the user; else whether it is online. */
static struct chatd_presence_state state_of(struct kit *k, const char *user)
{
	const struct entry *e = find(k->fakes->states, user, NULL);
	struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = find(k->fakes->online, user, NULL) ? CHATD_PRESENCE_ONLINE
													 : CHATD_PRESENCE_OFFLINE };
	if (e) {
		s = e->state;
		s.text = str_of(e->b);
	}
	return s;
}

static void answer_states(struct ask *q)
{
	struct chatd_presence_state *s = calloc(q->n + 1, sizeof(*s));
	for (size_t i = 0; s && i < q->n; i++) {
		s[i] = state_of(q->a.k, q->text[i]);
	}
	q->to.states(q->arg, q->a.rc, q->a.rc == 0 ? s : NULL, q->a.rc == 0 ? q->n : 0);
	free(s);
}

static void become(struct kit *k, const char *user, const struct chatd_presence_state *s)
{
	struct kit_fakes *f = k->fakes;
	struct entry *e = find(f->states, user, NULL);
	chatd_worker *here = k->here;
	e = e ? e : put(&f->states, user, NULL);
	char *text = kit_dup(s->text);
	free(e->b);
	e->b = text;
	e->state = *s;
	for (size_t i = 0; i < f->n_followers && !k->dead && !f->deaf; i++) {
		k->here = &k->workers[0];
		f->follower[i].changed(f->follower[i].arg, k->here, str_of(user), s);
	}
	k->here = here;
}

static void answer_said(struct ask *q)
{
	struct chatd_presence_state s = { .struct_size = sizeof(s),
		.status = (int32_t)q->flags,
		.since = q->created,
		.text = str_of(q->text[1]) };
	if (q->a.rc == 0) {
		become(q->a.k, q->text[0], &s);
	}
	q->to.said(q->arg, q->a.rc);
}

static int same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

static struct entry *account_of(const struct ask *q)
{
	struct entry *e = q->a.k->fakes->accounts;
	for (; e; e = e->next) {
		if ((q->kind == ASK_BY_SECRET && same(e->secret, q->text[0])) ||
				(q->kind == ASK_BY_CLIENT && same(e->client, q->text[0])) ||
				((q->kind == ASK_BY_ID || q->kind == ASK_RENAME) && same(e->a, q->text[0]))) {
			return e;
		}
	}
	return NULL;
}

static struct entry *account_put(struct kit *k, const struct chatd_account *a)
{
	char *id = kit_dup(a->id), *nick = kit_dup(a->nickname);
	struct entry *e = put(&k->fakes->accounts, id, nick ? nick : "");
	free(id);
	free(nick);
	e->secret = kit_dup(a->secret);
	e->client = kit_dup(a->client);
	e->flags = a->flags;
	e->created = a->created;
	return e;
}

static struct entry *account_create(struct ask *q)
{
	struct chatd_account a = { .id = str_of(q->text[0]),
		.nickname = str_of(q->text[1]),
		.secret = str_of(q->text[2]),
		.client = str_of(q->text[3]),
		.flags = q->flags,
		.created = q->created };
	for (const struct entry *e = q->a.k->fakes->accounts; e; e = e->next) {
		if (same(e->a, q->text[0]) || same(e->secret, q->text[2])) {
			q->a.rc = -EEXIST;
			return NULL;
		}
	}
	(void)account_put(q->a.k, &a);
	return NULL;
}

static void answer_account(struct ask *q)
{
	struct entry *e = NULL;
	if (q->a.rc == 0) {
		e = q->kind == ASK_CREATE ? account_create(q) : account_of(q);
	}
	if (!e) {
		chatd_status rc = q->a.rc || q->kind == ASK_CREATE ? q->a.rc : -ENOENT;
		q->to.account(q->arg, rc, NULL);
		return;
	}
	if (q->kind == ASK_RENAME) {
		free(e->b);
		e->b = kit_dup(str_of(q->text[1]));
	}
	struct chatd_account a = { .struct_size = sizeof(a),
		.id = str_of(e->a),
		.nickname = str_of(e->b),
		.secret = str_of(e->secret),
		.client = str_of(e->client),
		.flags = e->flags,
		.created = e->created };
	q->to.account(q->arg, 0, &a);
}

static void answer_look(struct ask *q)
{
	struct kit_fakes *f = q->a.k->fakes;
	struct entry *room = find(f->rooms, q->text[0], NULL);
	struct entry *member = find(f->members, q->text[0], q->text[1]);
	if (q->a.rc < 0 || !room || (!room->flags && !member)) {
		q->to.room(q->arg, q->a.rc < 0 ? q->a.rc : -ENOENT, NULL);
		return;
	}
	struct chatd_room_view v = { .struct_size = sizeof(v),
		.id = str_of(room->a),
		.name = str_of(room->b),
		.is_public = room->flags != 0,
		.role = member ? member->role : CHATD_ROLE_NONE };
	for (const struct entry *m = f->members; m; m = m->next) {
		v.members += strcmp(m->a, room->a) == 0;
	}
	q->to.room(q->arg, 0, &v);
}

static void answer_members(struct ask *q)
{
	struct kit_fakes *f = q->a.k->fakes;
	size_t n = 0, total = 1;
	for (const struct entry *m = f->members; m; m = m->next) {
		total++;
	}
	struct chatd_str *users = calloc(total, sizeof(*users));
	for (const struct entry *m = f->members; users && m; m = m->next) {
		if (strcmp(m->a, q->text[0]) == 0) {
			users[n++] = str_of(m->b);
		}
	}
	chatd_status rc = q->a.rc < 0 || find(f->rooms, q->text[0], NULL) ? q->a.rc : -ENOENT;
	q->to.members(q->arg, rc, rc == 0 ? users : NULL, rc == 0 ? n : 0);
	free(users);
}

static void tell_room(struct kit *k, int32_t what, const char *room, const char *user)
{
	struct kit_fakes *f = k->fakes;
	const struct chatd_room_event e = {
		.struct_size = sizeof(e), .what = what, .room = str_of(room), .user = str_of(user)
	};
	chatd_worker *here = k->here;
	for (size_t i = 0; i < f->n_room_watchers && !k->dead; i++) {
		k->here = &k->workers[0];
		f->room_watcher[i].fn(f->room_watcher[i].arg, k->here, &e);
	}
	k->here = here;
}

/* @p room NULL: of all of them. */
static void remove_member(struct kit *k, const char *room, const char *user)
{
	struct entry **at = &k->fakes->members;
	while (*at) {
		struct entry *e = *at;
		if ((!room || strcmp(e->a, room) == 0) && strcmp(e->b, user) == 0) {
			*at = e->next;
			tell_room(k, CHATD_ROOM_LEFT, e->a, e->b);
			entry_free(e);
		} else {
			at = &e->next;
		}
	}
}

static void answer_leave(struct ask *q)
{
	if (q->a.rc == 0) {
		remove_member(q->a.k, NULL, q->text[0]);
	}
	q->to.left(q->arg, q->a.rc);
}

/* Who is shown out is no member any more; mutes are noted and nothing else. */
static void answer_act(struct ask *q)
{
	const char *code = q->a.code ? q->a.code : q->a.rc < 0 ? "UNAVAILABLE" : NULL;
	if (!code && !find(q->a.k->fakes->rooms, q->text[0], NULL)) {
		code = "NOT_FOUND";
	}
	if (!code && q->flags != CHATD_ROOMS_MUTE) {
		remove_member(q->a.k, q->text[0], q->text[1]);
	}
	q->to.done(q->arg, code,
			!code                              ? NULL
					: q->a.code || q->a.rc < 0 ? "the test wants it so"
											   : "no such room");
}

static void ask_free(struct kit_answer *a)
{
	struct ask *q = (struct ask *)a;
	for (size_t i = 0; i < q->n; i++) {
		free(q->text[i]);
	}
	free(q->text);
	free(q);
}

static void ask_give(struct kit_answer *a)
{
	struct ask *q = (struct ask *)a;
	switch (q->kind) {
	case ASK_ONLINE:
		answer_online(q);
		break;
	case ASK_STATES:
		answer_states(q);
		break;
	case ASK_SAY:
		answer_said(q);
		break;
	case ASK_LOOK:
		answer_look(q);
		break;
	case ASK_MEMBERS:
		answer_members(q);
		break;
	case ASK_LEAVE:
		answer_leave(q);
		break;
	case ASK_ACT:
		answer_act(q);
		break;
	default:
		answer_account(q);
		break;
	}
}

/* ---- questions ------------------------------------------------------------------- */

static struct ask *ask_create(chatd_worker *w, enum ask_kind kind, size_t n)
{
	struct ask *q = calloc(1, sizeof(*q));
	if (q) {
		q->a = (struct kit_answer){ .k = w->k, .w = w, .give = ask_give, .free = ask_free };
		q->kind = kind;
		q->text = calloc(n + 1, sizeof(*q->text));
		q->n = n;
	}
	if (!q || !q->text) {
		kit_broken(w->k, "no memory for the test itself");
	}
	return q;
}

static chatd_status presence_get(void *obj, chatd_worker *w, const struct chatd_str *users,
		size_t n, chatd_presence_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_ONLINE, n);
	(void)obj;
	for (size_t i = 0; i < n; i++) {
		q->text[i] = kit_dup(users[i]);
	}
	q->to.online = fn;
	q->arg = arg;
	return kit_answers_send(&q->a, KIT_PRESENCE);
}

static chatd_status presence_watch(void *obj, chatd_presence_event *fn, void *arg)
{
	struct kit *k = obj;
	struct kit_fakes *f = k->fakes;
	if (!k->registering) {
		kit_broken(k, "presence watch() is for init() only");
	}
	if (f->n_watchers == MAX_WATCHERS || kit_fault(k)) {
		return -ENOMEM;
	}
	f->watcher[f->n_watchers].fn = fn;
	f->watcher[f->n_watchers++].arg = arg;
	return 0;
}

static chatd_status presence_look(void *obj, chatd_worker *w, const struct chatd_str *users,
		size_t n, chatd_presence_states_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_STATES, n);
	(void)obj;
	for (size_t i = 0; i < n; i++) {
		q->text[i] = kit_dup(users[i]);
	}
	q->to.states = fn;
	q->arg = arg;
	return kit_answers_send(&q->a, KIT_PRESENCE);
}

static chatd_status presence_set(void *obj, chatd_worker *w, const struct chatd_presence_word *word,
		chatd_presence_set_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_SAY, 2);
	(void)obj;
	q->text[0] = kit_dup(word->user);
	q->text[1] = kit_dup(word->text);
	q->flags = (uint32_t)word->status;
	q->created = kit_now(w->k);
	q->to.said = fn;
	q->arg = arg;
	return kit_answers_send(&q->a, KIT_PRESENCE);
}

static chatd_status presence_follow(void *obj, const struct chatd_presence_follower *follower)
{
	struct kit *k = obj;
	struct kit_fakes *f = k->fakes;
	if (!k->registering) {
		kit_broken(k, "presence follow() is for init() only");
	}
	if (f->n_followers == MAX_WATCHERS || kit_fault(k)) {
		return -ENOMEM;
	}
	f->follower[f->n_followers++] = *follower;
	return 0;
}

const struct chatd_presence kit_presence_vt = {
	.struct_size = sizeof(kit_presence_vt),
	.get = presence_get,
	.watch = presence_watch,
	.look = presence_look,
	.set = presence_set,
	.follow = presence_follow,
};

static chatd_status account_ask(struct ask *q, chatd_account_fn *fn, void *arg)
{
	q->to.account = fn;
	q->arg = arg;
	return kit_answers_send(&q->a, KIT_ACCOUNTS);
}

static chatd_status accounts_create(
		void *obj, chatd_worker *w, const struct chatd_account *a, chatd_account_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_CREATE, 4);
	(void)obj;
	q->text[0] = kit_dup(a->id);
	q->text[1] = kit_dup(a->nickname);
	q->text[2] = kit_dup(a->secret);
	q->text[3] = kit_dup(a->client);
	q->flags = a->flags;
	q->created = a->created;
	return account_ask(q, fn, arg);
}

static chatd_status accounts_by_id(
		void *obj, chatd_worker *w, struct chatd_str id, chatd_account_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_BY_ID, 1);
	(void)obj;
	q->text[0] = kit_dup(id);
	return account_ask(q, fn, arg);
}

static chatd_status accounts_by_secret(
		void *obj, chatd_worker *w, struct chatd_str secret, chatd_account_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_BY_SECRET, 1);
	(void)obj;
	q->text[0] = kit_dup(secret);
	return account_ask(q, fn, arg);
}

static chatd_status accounts_by_client(
		void *obj, chatd_worker *w, struct chatd_str client, chatd_account_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_BY_CLIENT, 1);
	(void)obj;
	q->text[0] = kit_dup(client);
	return account_ask(q, fn, arg);
}

static chatd_status accounts_rename(void *obj, chatd_worker *w, struct chatd_str id,
		struct chatd_str nickname, chatd_account_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_RENAME, 2);
	(void)obj;
	q->text[0] = kit_dup(id);
	q->text[1] = kit_dup(nickname);
	return account_ask(q, fn, arg);
}

const struct chatd_accounts kit_accounts_vt = { .struct_size = sizeof(kit_accounts_vt),
	.create = accounts_create,
	.by_id = accounts_by_id,
	.by_secret = accounts_by_secret,
	.by_client = accounts_by_client,
	.rename = accounts_rename };

static chatd_status rooms_look(void *obj, chatd_worker *w, struct chatd_str room,
		struct chatd_str user, chatd_room_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_LOOK, 2);
	(void)obj;
	q->text[0] = kit_dup(room);
	q->text[1] = kit_dup(user);
	q->to.room = fn;
	q->arg = arg;
	return kit_answers_send(&q->a, KIT_ROOMS);
}

static chatd_status rooms_members(
		void *obj, chatd_worker *w, struct chatd_str room, chatd_members_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_MEMBERS, 1);
	(void)obj;
	q->text[0] = kit_dup(room);
	q->to.members = fn;
	q->arg = arg;
	return kit_answers_send(&q->a, KIT_ROOMS);
}

static chatd_status rooms_leave_all(void *obj, chatd_worker *w, struct chatd_str user,
		struct chatd_str nick, chatd_left_fn *fn, void *arg)
{
	struct ask *q = ask_create(w, ASK_LEAVE, 1);
	q->text[0] = kit_dup(user);
	q->to.left = fn;
	q->arg = arg;
	chatd_status rc = kit_answers_send(&q->a, KIT_ROOMS);
	if (rc == 0) {
		kit_note(obj, CHATD_ROOMS, CHATD_LIT("leave_all"), kit_words(user, nick));
	}
	return rc;
}

static char *act_words(const struct chatd_rooms_act *act)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	if (f) {
		fprintf(f, "%.*s in %.*s", (int)act->user.n, act->user.p, (int)act->room.n, act->room.p);
		if (act->what != CHATD_ROOMS_KICK) {
			fprintf(f, " for %lld", (long long)act->seconds);
		}
		fputs(act->over ? " (over)" : "", f);
		fclose(f);
	}
	return text;
}

static chatd_status rooms_act(void *obj, chatd_worker *w, const struct chatd_rooms_act *act,
		chatd_rooms_done *fn, void *arg)
{
	static const char *const names[] = {
		[CHATD_ROOMS_KICK] = "kick", [CHATD_ROOMS_BAN] = "ban", [CHATD_ROOMS_MUTE] = "mute"
	};
	if (act->what < CHATD_ROOMS_KICK || act->what > CHATD_ROOMS_MUTE) {
		kit_broken(
				obj, "act() of chatd.rooms/1 with .what %d, which is none of its own", act->what);
	}
	struct ask *q = ask_create(w, ASK_ACT, 2);
	char *words = act_words(act);
	q->text[0] = kit_dup(act->room);
	q->text[1] = kit_dup(act->user);
	q->flags = (uint32_t)act->what;
	q->to.done = fn;
	q->arg = arg;
	chatd_status rc = kit_answers_send(&q->a, KIT_ROOMS);
	if (rc == 0) {
		kit_note(obj, CHATD_ROOMS, str_of(names[act->what]), words);
	} else {
		free(words);
	}
	return rc;
}

static chatd_status rooms_watch(void *obj, chatd_room_event_fn *fn, void *arg)
{
	struct kit *k = obj;
	struct kit_fakes *f = k->fakes;
	if (!k->registering) {
		kit_broken(k, "watch() of chatd.rooms/1 is for init() only");
	}
	if (f->n_room_watchers == MAX_WATCHERS || kit_fault(k)) {
		return -ENOSPC;
	}
	f->room_watcher[f->n_room_watchers].fn = fn;
	f->room_watcher[f->n_room_watchers++].arg = arg;
	return 0;
}

const struct chatd_rooms kit_rooms_vt = { .struct_size = sizeof(kit_rooms_vt),
	.look = rooms_look,
	.members = rooms_members,
	.leave_all = rooms_leave_all,
	.act = rooms_act,
	.watch = rooms_watch };

/* ---- the test's side ----------------------------------------------------------------- */

void kit_presence(struct kit *k, const char *user, int online)
{
	struct kit_fakes *f = k->fakes;
	struct entry **at = &f->online;
	while (*at && strcmp((*at)->a, user) != 0) {
		at = &(*at)->next;
	}
	if ((*at != NULL) == (online != 0)) {
		return;
	}
	if (online) {
		(void)put(&f->online, user, NULL);
	} else {
		struct entry *e = *at;
		*at = e->next;
		entry_free(e);
	}
	for (size_t i = 0; i < f->n_watchers && !k->dead; i++) {
		k->here = &k->workers[0];
		f->watcher[i].fn(f->watcher[i].arg, k->here, str_of(user), online);
		k->here = NULL;
	}
	kit_settle(k);
}

void kit_presence_is(struct kit *k, const char *user, const struct chatd_presence_state *s)
{
	become(k, user, s);
	kit_settle(k);
}

void kit_presence_known(struct kit *k, int known)
{
	struct kit_fakes *f = k->fakes;
	f->deaf = !known;
	for (size_t i = 0; i < f->n_followers && !k->dead; i++) {
		k->here = &k->workers[0];
		if (f->follower[i].known) {
			f->follower[i].known(f->follower[i].arg, k->here, known);
		}
		k->here = NULL;
	}
	kit_settle(k);
}

void kit_account(struct kit *k, const struct chatd_account *a)
{
	(void)account_put(k, a);
}

void kit_room(struct kit *k, const char *id, const char *name, int is_public)
{
	struct entry *e = put(&k->fakes->rooms, id, name);
	e->flags = is_public != 0;
}

void kit_member(struct kit *k, const char *room, const char *user, int32_t role)
{
	struct entry *e = find(k->fakes->members, room, user);
	if (!e) {
		e = put(&k->fakes->members, room, user);
	}
	e->role = role;
}

static void room_remove(struct kit *k, const char *id)
{
	struct entry **lists[] = { &k->fakes->rooms, &k->fakes->members };
	for (size_t i = 0; i < 2; i++) {
		struct entry **at = lists[i];
		while (*at) {
			struct entry *e = *at;
			if (strcmp(e->a, id) == 0) {
				*at = e->next;
				entry_free(e);
			} else {
				at = &e->next;
			}
		}
	}
}

void kit_room_event(struct kit *k, int32_t what, const char *room, const char *user)
{
	switch (what) {
	case CHATD_ROOM_MADE:
		kit_room(k, room, room, 1);
		if (user) {
			kit_member(k, room, user, CHATD_ROLE_OWNER);
		}
		break;
	case CHATD_ROOM_DELETED:
		room_remove(k, room);
		break;
	case CHATD_ROOM_JOINED:
		kit_member(k, room, user, CHATD_ROLE_MEMBER);
		break;
	default:
		remove_member(k, room, user); /* and tells of it, if it was one */
		kit_settle(k);
		return;
	}
	tell_room(k, what, room, user);
	kit_settle(k);
}

/* ---- life ------------------------------------------------------------------------------ */

int kit_fakes_init(struct kit *k)
{
	k->fakes = calloc(1, sizeof(*k->fakes));
	return k->fakes ? 0 : -ENOMEM;
}

static void entries_free(struct entry *e)
{
	while (e) {
		struct entry *next = e->next;
		entry_free(e);
		e = next;
	}
}

void kit_fakes_finish(struct kit *k)
{
	struct kit_fakes *f = k->fakes;
	entries_free(f->online);
	entries_free(f->states);
	entries_free(f->accounts);
	entries_free(f->rooms);
	entries_free(f->members);
	free(f);
}
