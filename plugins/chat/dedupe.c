/* SPDX-License-Identifier: Apache-2.0 */
#include "dedupe.h"

#include <stdlib.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct entry {
	UT_hash_handle hh;
	TAILQ_ENTRY(entry) all, of_sender; /* oldest first */
	struct sender *sender;
	uint64_t content;
	int64_t until;
	char id[37];
	uint32_t n;
	char key[]; /* user, NUL, clientId */
};
TAILQ_HEAD(entries, entry);

struct sender {
	UT_hash_handle hh;
	struct entries entries;
	int64_t n;
	char user[CHATD_ID_MAX + 1];
};

struct dedupe {
	struct dedupe_conf conf;
	struct entry *by_key;
	struct sender *senders;
	struct entries all;
	int64_t n;
};

enum { KEY_MAX = CHATD_ID_MAX + 1 + 256 };

struct dedupe *dedupe_create(const struct dedupe_conf *conf)
{
	struct dedupe *d = calloc(1, sizeof(*d));
	if (d) {
		d->conf = *conf;
		TAILQ_INIT(&d->all);
	}
	return d;
}

static unsigned hash_of(const struct dedupe *d, const void *p, size_t n)
{
	return (unsigned)chatd_hash(&d->conf.key, p, n);
}

static void forget(struct dedupe *d, struct entry *e)
{
	struct sender *s = e->sender;
	TAILQ_REMOVE(&d->all, e, all);
	TAILQ_REMOVE(&s->entries, e, of_sender);
	HASH_DEL(d->by_key, e);
	free(e);
	d->n--;
	if (--s->n == 0) {
		HASH_DEL(d->senders, s);
		free(s);
	}
}

void dedupe_destroy(struct dedupe *d)
{
	while (d && !TAILQ_EMPTY(&d->all)) {
		forget(d, TAILQ_FIRST(&d->all));
	}
	free(d);
}

void dedupe_expire(struct dedupe *d, int64_t now)
{
	while (!TAILQ_EMPTY(&d->all) && TAILQ_FIRST(&d->all)->until <= now) {
		forget(d, TAILQ_FIRST(&d->all));
	}
}

int64_t dedupe_count(const struct dedupe *d)
{
	return d->n;
}

static struct sender *sender_of(struct dedupe *d, struct chatd_str user)
{
	struct sender *s = NULL;
	unsigned hash = hash_of(d, user.p, user.n);
	HASH_FIND_BYHASHVALUE(hh, d->senders, user.p, user.n, hash, s);
	if (s) {
		return s;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		return NULL;
	}
	chatd_str_copy(s->user, sizeof(s->user), user);
	TAILQ_INIT(&s->entries);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, d->senders, s->user, strlen(s->user), hash, s);
	if (!s->hh.tbl) {
		free(s);
		return NULL;
	}
	return s;
}

static size_t make_key(const struct dedupe_item *i, char ret[KEY_MAX])
{
	size_t n = i->client_id.n <= 256 ? i->client_id.n : 256;
	memcpy(ret, i->user.p, i->user.n);
	ret[i->user.n] = '\0';
	memcpy(ret + i->user.n + 1, i->client_id.p, n);
	return i->user.n + 1 + n;
}

static struct entry *find(const struct dedupe *d, const char *key, size_t n)
{
	struct entry *e = NULL;
	HASH_FIND_BYHASHVALUE(hh, d->by_key, key, n, hash_of(d, key, n), e);
	return e;
}

static struct entry *add(
		struct dedupe *d, struct sender *s, const struct dedupe_item *i, const char *key, size_t n)
{
	struct entry *e = calloc(1, sizeof(*e) + n);
	if (!e) {
		return NULL;
	}
	e->sender = s;
	e->content = i->content;
	e->until = i->now + d->conf.window_ms;
	memcpy(e->id, i->id, sizeof(e->id));
	memcpy(e->key, key, n);
	e->n = (uint32_t)n;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, d->by_key, e->key, n, hash_of(d, key, n), e);
	if (!e->hh.tbl) {
		free(e);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&d->all, e, all);
	TAILQ_INSERT_TAIL(&s->entries, e, of_sender);
	s->n++;
	d->n++;
	return e;
}

enum dedupe_verdict dedupe_take(struct dedupe *d, const struct dedupe_item *i, char ret_first[37])
{
	char key[KEY_MAX];
	size_t n = make_key(i, key);
	dedupe_expire(d, i->now);
	const struct entry *old = find(d, key, n);
	if (old) {
		memcpy(ret_first, old->id, sizeof(old->id));
		return old->content == i->content ? DEDUPE_SAME : DEDUPE_OTHER;
	}
	struct sender *s = sender_of(d, i->user);
	if (!s) {
		return DEDUPE_FAIL;
	}
	if (!add(d, s, i, key, n)) {
		if (s->n == 0) {
			HASH_DEL(d->senders, s);
			free(s);
		}
		return DEDUPE_FAIL;
	}
	if (s->n > d->conf.per_user) {
		forget(d, TAILQ_FIRST(&s->entries));
	}
	if (d->n > d->conf.max) {
		forget(d, TAILQ_FIRST(&d->all));
	}
	return DEDUPE_NEW;
}

void dedupe_drop(struct dedupe *d, const struct dedupe_item *i)
{
	char key[KEY_MAX];
	size_t n = make_key(i, key);
	struct entry *e = find(d, key, n);
	if (e) {
		forget(d, e);
	}
}
