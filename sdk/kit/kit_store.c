/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of chatd.store/1 for records and a little around them; see chatd/kit_store.h. */
#include "kit_impl.h"

#include <chatd/kit_store.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 256, ROOMS = 8, ACCOUNTS = 16, ROWS = 64, VALUE_MAX = 65536, HOLD_MAX = 64 };

struct record {
	char *space, *key, *value, *owner; /* key NULL: no record */
	int64_t at, expires, version, wall;
};
static struct {
	struct record records[RECORDS];
	char rooms[ROOMS][65];
	struct {
		char id[65], nickname[65];
		uint32_t flags;
	} accounts[ACCOUNTS];
	struct chatd_store_message rows[ROWS];
	struct {
		char room[65], user[65];
		int32_t role;
	} members[ROOMS];
	size_t n_rooms, n_accounts, n_rows, n_members;
	size_t page; /* 0: no limit but the caller's */
	chatd_status fail;
	int shared, hold;
	struct reply *held[HOLD_MAX];
	size_t n_held;
} all;

struct reply {
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_store_answer a;
	struct chatd_store_record *records;
	struct chatd_store_message rows[ROWS];
	struct chatd_account account;
	struct chatd_store_room room;
	char *texts[3 * RECORDS];
	size_t n_texts;
};

static int same(struct chatd_str a, const char *b)
{
	return b && a.n == strlen(b) && (a.n == 0 || memcmp(a.p, b, a.n) == 0);
}

static int is(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ---- answers ------------------------------------------------------------------------- */

static void reply_free(struct reply *r)
{
	while (r->n_texts) {
		free(r->texts[--r->n_texts]);
	}
	free(r->records);
	free(r);
}

static void on_reply(void *arg)
{
	struct reply *r = arg;
	kit_step_is("the answer of", CHATD_STORE);
	if (all.fail) {
		r->rc = all.fail;
	}
	r->fn(r->arg, r->rc, &r->a);
	reply_free(r);
}

/* NULL: the test wants this call to fail. */
static struct reply *reply_for(chatd_store_fn *fn, void *arg)
{
	struct reply *r = kit_fault(kit_the()) ? NULL : calloc(1, sizeof(*r));
	if (r) {
		r->fn = fn;
		r->arg = arg;
		r->a.struct_size = sizeof(r->a);
		r->a.epoch = CHATD_LIT("epoch");
		r->records = calloc(RECORDS, sizeof(*r->records));
	}
	return r;
}

static void depart(void *arg)
{
	struct reply *r = arg;
	kit_depart(kit_the());
	(void)worker_post(r->w, on_reply, r);
}

static chatd_status send(chatd_worker *w, struct reply *r, chatd_status rc)
{
	struct kit *k = kit_the();
	int trouble = kit_trouble_now(k);
	r->rc = trouble == KIT_FAILED ? -EIO : rc;
	r->w = w;
	if ((all.hold || trouble == KIT_LATE || trouble == KIT_NEVER) && all.n_held < HOLD_MAX) {
		all.held[all.n_held++] = r;
		return 0;
	}
	if (trouble == KIT_DEPARTED) {
		return worker_post(w, depart, r);
	}
	rc = kit_table.post(w, on_reply, r);
	if (rc < 0) {
		reply_free(r);
	}
	return rc;
}

static struct chatd_str keep(struct reply *r, const char *s)
{
	if (!s) {
		return chatd_str_of(NULL, 0);
	}
	char *copy = r->texts[r->n_texts++] = strdup(s);
	return chatd_str_of(copy, strlen(copy));
}

static void tell(struct reply *r, const struct record *k, int with_value)
{
	r->records[r->a.n_records++] =
			(struct chatd_store_record){ .struct_size = sizeof(r->records[0]),
				.key = keep(r, k->key),
				.value = keep(r, with_value ? k->value : NULL),
				.owner = keep(r, k->owner),
				.at = k->at,
				.expires = k->expires,
				.version = k->version,
				.wall = k->wall };
	r->a.records = r->records;
}

/* ---- records --------------------------------------------------------------------------- */

static void drop(struct record *k)
{
	free(k->space);
	free(k->key);
	free(k->value);
	free(k->owner);
	memset(k, 0, sizeof(*k));
}

static struct record *find(struct chatd_str space, struct chatd_str key, int64_t wall)
{
	for (size_t i = 0; i < RECORDS; i++) {
		struct record *k = &all.records[i];
		if (k->key && same(space, k->space) && same(key, k->key) &&
				(!k->expires || k->expires > wall)) {
			return k;
		}
	}
	return NULL;
}

static int fits(const struct record *k, struct chatd_str space, struct chatd_str prefix)
{
	return k->key && same(space, k->space) &&
			(!prefix.n || strncmp(k->key, prefix.p, prefix.n) == 0);
}

static struct record *place(const struct chatd_store_record *q)
{
	struct record *k = find(q->space, q->key, INT64_MIN); /* an expired one, too, makes room */
	for (size_t i = 0; !k && i < RECORDS; i++) {
		k = all.records[i].key ? NULL : &all.records[i];
	}
	if (!k) {
		kit_broken(kit_the(), "the fake store is full");
	}
	return k;
}

static int64_t owned(const struct chatd_store_record *q)
{
	int64_t n = 0;
	for (size_t i = 0; i < RECORDS; i++) {
		const struct record *k = &all.records[i];
		n += fits(k, q->space, CHATD_LIT("")) && same(q->owner, k->owner);
	}
	return n;
}

static chatd_status put(void *obj, chatd_worker *w, const struct chatd_store_record *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	struct record *k = find(q->space, q->key, q->wall);
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	if (all.fail || q->value.n > VALUE_MAX) {
		return send(w, r, all.fail ? all.fail : -EINVAL);
	}
	if (!k && q->max && q->owner.p && owned(q) >= q->max) {
		return send(w, r, -EDQUOT);
	}
	if (q->how == CHATD_STORE_RECORD_NEW && k) {
		return send(w, r, -EEXIST);
	}
	if (q->how == CHATD_STORE_RECORD_VERSION && (!k || k->version != q->version)) {
		return send(w, r, k ? -ESTALE : -ENOENT);
	}
	int64_t version = k ? k->version + 1 : 1;
	k = place(q);
	struct record now = { .space = kit_dup(q->space),
		.key = kit_dup(q->key),
		.value = kit_dup(q->value),
		.owner = q->owner.p ? kit_dup(q->owner) : NULL,
		.at = q->at,
		.expires = q->expires,
		.version = version,
		.wall = q->wall };
	drop(k);
	*k = now;
	tell(r, k, 0);
	return send(w, r, 0);
}

/* The one of that key, or the first whose key begins so; and of whom it is asked about. */
static struct record *first(const struct chatd_store_record_key *q)
{
	struct record *found = NULL;
	for (size_t i = 0; i < RECORDS; i++) {
		struct record *k = &all.records[i];
		int is_it = fits(k, q->space, q->key) && (q->prefix || same(q->key, k->key)) &&
				(!k->expires || k->expires > q->wall) && (!q->owner.p || same(q->owner, k->owner));
		if (is_it && (!found || strcmp(k->key, found->key) < 0)) {
			found = k;
		}
	}
	return found;
}

static chatd_status tell_first(chatd_worker *w, struct reply *r, struct record *k, int takes)
{
	if (!r) {
		return -ENOMEM;
	}
	if (k) {
		tell(r, k, 1);
	}
	if (k && takes && !all.fail) {
		drop(k);
	}
	return send(w, r, r->a.n_records ? 0 : -ENOENT);
}

static chatd_status get(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return tell_first(w, reply_for(fn, arg), first(q), 0);
}

static chatd_status take(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return tell_first(w, reply_for(fn, arg), first(q), 1);
}

/* The earliest first; of two at a time the lower key. */
static int by_due(const void *a, const void *b)
{
	const struct record *const *x = a, *const *y = b;
	int order = ((*x)->at > (*y)->at) - ((*x)->at < (*y)->at);
	return order ? order : strcmp((*x)->key, (*y)->key);
}

static chatd_status claim(void *obj, chatd_worker *w, const struct chatd_store_record_claim *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	struct record *due[RECORDS];
	size_t n = 0, most = (size_t)q->limit;
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	if (q->limit < 1 || q->limit > 1000 || q->until <= q->wall) {
		return send(w, r, -EINVAL);
	}
	for (size_t i = 0; i < RECORDS && !all.fail; i++) {
		struct record *k = &all.records[i];
		if (fits(k, q->space, CHATD_LIT("")) && k->at > 0 && k->at <= q->wall &&
				(!k->expires || k->expires > q->wall)) {
			due[n++] = k;
		}
	}
	qsort(due, n, sizeof(due[0]), by_due);
	most = all.page && all.page < most ? all.page : most;
	for (size_t i = 0; i < n && i < most; i++) {
		due[i]->at = q->until;
		due[i]->version++;
		tell(r, due[i], 1);
	}
	return send(w, r, 0);
}

static int by_key(const void *a, const void *b)
{
	const struct record *const *x = a, *const *y = b;
	return strcmp((*x)->key, (*y)->key);
}

static int by_key_down(const void *a, const void *b)
{
	return by_key(b, a);
}

/* Behind the page before, and of whom it is asked about. */
static int is_wanted(const struct record *k, const struct chatd_store_record_list *q)
{
	if (k->expires && k->expires <= q->wall) {
		return 0;
	}
	if (q->owner.p && !same(q->owner, k->owner)) {
		return 0;
	}
	if (!q->after.p) {
		return 1;
	}
	size_t n = strlen(k->key), least = n < q->after.n ? n : q->after.n;
	int order = memcmp(k->key, q->after.p, least);
	order = order ? order : (n > q->after.n) - (n < q->after.n);
	return q->down ? order < 0 : order > 0;
}

static chatd_status list(void *obj, chatd_worker *w, const struct chatd_store_record_list *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	const struct record *found[RECORDS];
	size_t n = 0, most = (size_t)q->limit;
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < RECORDS; i++) {
		const struct record *k = &all.records[i];
		if (fits(k, q->space, q->prefix) && is_wanted(k, q)) {
			found[n++] = k;
		}
	}
	qsort(found, n, sizeof(found[0]), q->down ? by_key_down : by_key);
	most = all.page && all.page < most ? all.page : most;
	for (size_t i = 0; i < n && i < most; i++) {
		tell(r, found[i], 1);
	}
	return send(w, r, 0);
}

static chatd_status end(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < RECORDS && !all.fail; i++) {
		struct record *k = &all.records[i];
		if (fits(k, q->space, q->key) && (q->prefix || same(q->key, k->key)) &&
				(!q->owner.p || same(q->owner, k->owner))) {
			drop(k);
			r->a.n++;
		}
	}
	return send(w, r, 0);
}

/* ---- the rest ----------------------------------------------------------------------------- */

static chatd_status room_get(void *obj, chatd_worker *w, const struct chatd_store_room_key *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	chatd_status rc = -ENOENT;
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < all.n_rooms; i++) {
		rc = same(q->room, all.rooms[i]) ? 0 : rc;
	}
	r->room = (struct chatd_store_room){ .struct_size = sizeof(r->room) };
	for (size_t i = 0; i < all.n_members; i++) {
		if (same(q->room, all.members[i].room) && same(q->user, all.members[i].user)) {
			r->room.role = all.members[i].role;
		}
	}
	r->a.rooms = &r->room;
	r->a.n_rooms = 1;
	return send(w, r, rc);
}

static chatd_status account_create(
		void *obj, chatd_worker *w, const struct chatd_account *q, chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	size_t i = 0;
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	while (i < all.n_accounts && !same(q->id, all.accounts[i].id)) {
		i++;
	}
	if (i < all.n_accounts || i == ACCOUNTS) {
		return send(w, r, -EEXIST);
	}
	snprintf(all.accounts[i].id, sizeof(all.accounts[i].id), "%.*s", (int)q->id.n, q->id.p);
	snprintf(all.accounts[i].nickname, sizeof(all.accounts[i].nickname), "%.*s", (int)q->nickname.n,
			q->nickname.p);
	all.accounts[i].flags = q->flags;
	all.n_accounts++;
	return send(w, r, 0);
}

static chatd_status account_get(void *obj, chatd_worker *w, const struct chatd_store_account_key *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	size_t i = 0;
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	while (i < all.n_accounts && !same(q->key, all.accounts[i].id)) {
		i++;
	}
	if (i == all.n_accounts) {
		return send(w, r, -ENOENT);
	}
	r->account = (struct chatd_account){ .struct_size = sizeof(r->account),
		.id = keep(r, all.accounts[i].id),
		.nickname = keep(r, all.accounts[i].nickname),
		.flags = all.accounts[i].flags };
	r->a.accounts = &r->account;
	r->a.n_accounts = 1;
	return send(w, r, 0);
}

static chatd_status written(void *obj, chatd_worker *w, const struct chatd_store_written *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < all.n_rows && r->a.n_messages < (size_t)q->limit; i++) {
		if (all.rows[i].pos > q->after_pos) {
			r->rows[r->a.n_messages++] = all.rows[i];
		}
	}
	r->a.messages = r->rows;
	return send(w, r, 0);
}

/* Of a direct message only the two may know; whose a room is does not matter here. */
static chatd_status message(void *obj, chatd_worker *w, const struct chatd_store_message_key *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	chatd_status rc = -ENOENT;
	(void)obj;
	if (!r) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < all.n_rows && i < ROWS; i++) {
		const struct chatd_store_message *m = &all.rows[i];
		if (m->id.n == q->id.n && memcmp(m->id.p, q->id.p, q->id.n) == 0) {
			int theirs = m->conv.room.n || !q->user.p || is(q->user, m->conv.a) ||
					is(q->user, m->conv.b);
			rc = theirs ? 0 : -EACCES;
			r->rows[0] = *m;
			r->a.messages = r->rows;
			r->a.n_messages = 1;
		}
	}
	return send(w, r, rc);
}

static chatd_status changed(void *obj, chatd_worker *w, const struct chatd_store_changed *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply_for(fn, arg);
	(void)obj;
	(void)q;
	if (!r) {
		return -ENOMEM;
	}
	r->a.pos = (int64_t)all.n_rows;
	return send(w, r, 0);
}

static int32_t is_shared(void *obj)
{
	(void)obj;
	return all.shared;
}

/* What this store does not keep. */
#define CHATD_X(call, request, writes)                                                       \
	static chatd_status no_##call(                                                           \
			void *obj, chatd_worker *w, const request *asked, chatd_store_fn *fn, void *arg) \
	{                                                                                        \
		struct reply *r = reply_for(fn, arg);                                                \
		(void)obj;                                                                           \
		(void)asked;                                                                         \
		return r ? send(w, r, -ENOSYS) : -ENOMEM;                                            \
	}
CHATD_STORE_MAP(CHATD_X)
CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X

/* All of them, and over these the ones that are kept. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
const struct chatd_store kit_store_vt = { .struct_size = sizeof(kit_store_vt),
#define CHATD_X(call, request, writes) .call = no_##call,
	CHATD_STORE_MAP(CHATD_X) CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
			.account_create = account_create,
	.account_get = account_get,
	.room_get = room_get,
	.message = message,
	.changed = changed,
	.written = written,
	.record_put = put,
	.record_get = get,
	.record_take = take,
	.record_list = list,
	.record_claim = claim,
	.record_end = end,
	.is_shared = is_shared };
#pragma GCC diagnostic pop

/* ---- the test's side -------------------------------------------------------------------------- */

void kit_store_clear(void)
{
	for (size_t i = 0; i < RECORDS; i++) {
		drop(&all.records[i]);
	}
	while (all.n_held) {
		reply_free(all.held[--all.n_held]);
	}
	memset(&all, 0, sizeof(all));
}

void kit_store_fail(chatd_status rc)
{
	all.fail = rc;
}

void kit_store_release(chatd_status rc)
{
	for (size_t i = 0; i < all.n_held; i++) {
		all.held[i]->rc = rc < 0 ? rc : all.held[i]->rc;
	}
	kit_store_hold(0);
}

void kit_store_hold(int on)
{
	struct kit *k = kit_the();
	all.hold = on;
	for (size_t i = 0; !on && i < all.n_held; i++) {
		if (worker_post(all.held[i]->w, on_reply, all.held[i]) < 0) {
			kit_broken(k, "no memory for the test itself");
		}
	}
	if (!on) {
		all.n_held = 0;
	}
	if (!on && k) {
		kit_settle(k);
	}
}

size_t kit_store_held(void)
{
	return all.n_held;
}

void kit_store_shared(int on)
{
	all.shared = on;
}

void kit_store_page(size_t n)
{
	all.page = n;
}

void kit_store_room(const char *id)
{
	snprintf(all.rooms[all.n_rooms++ % ROOMS], sizeof(all.rooms[0]), "%s", id);
}

void kit_store_member(const char *room, const char *user, int32_t role)
{
	size_t i = all.n_members++ % ROOMS;
	snprintf(all.members[i].room, sizeof(all.members[0].room), "%s", room);
	snprintf(all.members[i].user, sizeof(all.members[0].user), "%s", user);
	all.members[i].role = role;
}

int64_t kit_store_row(const struct chatd_store_message *m)
{
	struct chatd_store_message *row = &all.rows[all.n_rows++ % ROWS];
	*row = *m;
	row->pos = (int64_t)all.n_rows;
	return row->pos;
}

void kit_store_put(const char *space, const char *key, const char *value)
{
	const struct chatd_store_record q = { .space = chatd_str_of(space, strlen(space)),
		.key = chatd_str_of(key, strlen(key)) };
	struct record *k = place(&q);
	int64_t version = k->version + 1;
	drop(k);
	*k = (struct record){
		.space = strdup(space), .key = strdup(key), .value = strdup(value), .version = version
	};
}

void kit_store_due(const char *space, const char *key, int64_t at)
{
	struct record *k = find(chatd_str_of(space, strlen(space)), chatd_str_of(key, strlen(key)), 0);
	if (k) {
		k->at = at;
	}
}

const char *kit_store_value(const char *space, const char *key)
{
	const struct record *k =
			find(chatd_str_of(space, strlen(space)), chatd_str_of(key, strlen(key)), 0);
	return k ? k->value : NULL;
}

size_t kit_store_count(const char *space)
{
	size_t n = 0;
	for (size_t i = 0; i < RECORDS; i++) {
		n += (size_t)fits(&all.records[i], chatd_str_of(space, strlen(space)), CHATD_LIT(""));
	}
	return n;
}
