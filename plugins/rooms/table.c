/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <stdlib.h>

static unsigned hash_of(const struct table *t, struct chatd_str s)
{
	return (unsigned)chatd_hash(&t->key, s.p, s.n);
}

void table_init(struct table *t, const struct chatd_hash_key *key)
{
	*t = (struct table){ .key = *key };
	TAILQ_INIT(&t->guests);
}

void table_finish(struct table *t)
{
	struct room *r, *next;
	HASH_ITER(hh, t->rooms, r, next)
	{
		table_delete_room(t, r);
	}
}

struct room *table_room(const struct table *t, struct chatd_str id)
{
	struct room *r = NULL;
	if (id.n) {
		HASH_FIND_BYHASHVALUE(hh, t->rooms, id.p, id.n, hash_of(t, id), r);
	}
	return r;
}

struct user *table_user(const struct table *t, struct chatd_str id)
{
	struct user *u = NULL;
	if (id.n) {
		HASH_FIND_BYHASHVALUE(hh, t->users, id.p, id.n, hash_of(t, id), u);
	}
	return u;
}

struct member *table_member(const struct table *t, const struct room *r, struct chatd_str user)
{
	struct member *m = NULL;
	if (user.n) {
		HASH_FIND_BYHASHVALUE(hh, r->by_user, user.p, user.n, hash_of(t, user), m);
	}
	return m;
}

int32_t table_role(const struct table *t, const struct room *r, struct chatd_str user)
{
	const struct member *m = table_member(t, r, user);
	return m ? m->role : CHATD_ROLE_NONE;
}

struct room *table_add_room(
		struct table *t, struct chatd_str id, struct chatd_str name, int32_t is_public)
{
	struct room *r = table_room(t, id) ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		return NULL;
	}
	chatd_str_copy(r->id, sizeof(r->id), id);
	chatd_str_copy(r->name, sizeof(r->name), name);
	r->is_public = is_public;
	TAILQ_INIT(&r->members);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, t->rooms, r->id, id.n, hash_of(t, id), r);
	if (!r->hh.tbl) {
		free(r);
		return NULL;
	}
	t->n_rooms++;
	return r;
}

static void drop_user(struct table *t, struct user *u)
{
	if (u->guest) {
		TAILQ_REMOVE(&t->guests, u, guest_link);
	}
	HASH_DEL(t->users, u);
	free(u);
}

static struct user *add_user(struct table *t, const struct person *p)
{
	struct user *u = calloc(1, sizeof(*u));
	if (!u) {
		return NULL;
	}
	chatd_str_copy(u->id, sizeof(u->id), p->id);
	TAILQ_INIT(&u->in);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, t->users, u->id, p->id.n, hash_of(t, p->id), u);
	if (!u->hh.tbl) {
		free(u);
		return NULL;
	}
	u->guest = p->guest;
	if (u->guest) {
		TAILQ_INSERT_TAIL(&t->guests, u, guest_link);
	}
	return u;
}

/* A guest may have become an account since. */
static void know_user(struct table *t, struct user *u, const struct person *p)
{
	chatd_str_copy(u->nick, sizeof(u->nick), p->nick.n ? p->nick : p->id);
	u->seen = p->now;
	if (u->guest && !p->guest) {
		TAILQ_REMOVE(&t->guests, u, guest_link);
		u->guest = 0;
	}
}

struct member *table_join(struct table *t, struct room *r, const struct person *p, int32_t role)
{
	struct user *u = table_user(t, p->id);
	if (!u) {
		u = add_user(t, p);
	}
	struct member *m = u ? calloc(1, sizeof(*m)) : NULL;
	if (!m) {
		goto no_memory;
	}
	m->room = r;
	m->user = u;
	m->role = role;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, r->by_user, u->id, p->id.n, hash_of(t, p->id), m);
	if (!m->hh.tbl) {
		goto no_memory;
	}
	know_user(t, u, p);
	TAILQ_INSERT_TAIL(&r->members, m, in_room);
	TAILQ_INSERT_TAIL(&u->in, m, in_user);
	r->n++;
	u->n++;
	return m;
no_memory:
	free(m);
	if (u && u->n == 0) {
		drop_user(t, u);
	}
	return NULL;
}

static struct member *successor(const struct room *r)
{
	struct member *m, *best = NULL;
	TAILQ_FOREACH (m, &r->members, in_room) {
		if (!m->user->guest && (!best || m->role > best->role)) {
			best = m;
		}
	}
	return best;
}

static void end_membership(struct table *t, struct member *m)
{
	struct user *u = m->user;
	TAILQ_REMOVE(&m->room->members, m, in_room);
	TAILQ_REMOVE(&u->in, m, in_user);
	HASH_DEL(m->room->by_user, m);
	m->room->n--;
	free(m);
	if (--u->n == 0) {
		drop_user(t, u);
	}
}

int table_leave(struct table *t, struct member *m)
{
	struct room *r = m->room;
	int owned = m->role == CHATD_ROLE_OWNER;
	end_membership(t, m);
	struct member *next = owned ? successor(r) : NULL;
	if (next) {
		next->role = CHATD_ROLE_OWNER;
	}
	return r->n == 0 && !r->preset;
}

void table_delete_room(struct table *t, struct room *r)
{
	while (!TAILQ_EMPTY(&r->members)) {
		end_membership(t, TAILQ_FIRST(&r->members));
	}
	HASH_DEL(t->rooms, r);
	t->n_rooms--;
	free(r);
}

/* ---- names ------------------------------------------------------------------- */

/* Characters that are not seen, or turn the writing round, and so can fake a name. */
static int invisible(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
			(c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
			(c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
			(c >= 0xe0000 && c <= 0xe007f);
}

/* One code point of text that is known to be UTF-8. */
static uint32_t next_char(struct chatd_str s, size_t *at)
{
	unsigned char c = (unsigned char)s.p[(*at)++];
	uint32_t v = c < 0x80 ? c : c < 0xe0 ? c & 0x1fu : c < 0xf0 ? c & 0x0fu : c & 0x07u;
	while (*at < s.n && ((unsigned char)s.p[*at] & 0xc0) == 0x80) {
		v = v << 6 | ((unsigned char)s.p[(*at)++] & 0x3f);
	}
	return v;
}

const char *table_name_fault(struct chatd_str name)
{
	size_t at = 0, seen = 0;
	if (chatd_str_chars(name) > ROOM_NAME_CHARS || name.n > ROOM_NAME_MAX) {
		return "name must have at most 100 characters";
	}
	while (at < name.n) {
		uint32_t c = next_char(name, &at);
		if (invisible(c)) {
			return "name must not contain control characters or invisible ones";
		}
		seen += c != ' ' && c != 0xa0 && c != 0x3000 && !(c >= 0x2000 && c <= 0x200a);
	}
	return seen ? NULL : "name must not be empty";
}
