/* SPDX-License-Identifier: Apache-2.0 */
#include "throttle.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

enum { SETS = 4096, WAYS = 8, ALARM = 200 };
enum {
	PAIR = THROTTLE_PAIR,
	ACCOUNT = THROTTLE_ACCOUNT,
	ADDRESS = THROTTLE_ADDRESS,
	KNOWN = THROTTLE_KNOWN,
	KINDS = THROTTLE_KINDS,
};

struct entry {
	uint64_t key[2]; /* 0, 0: free */
	int64_t last, until;
	uint16_t fails, pending, owed;
};

struct throttle {
	const struct chatd_host *h;
	pthread_mutex_t lock;
	unsigned char secret[crypto_generichash_KEYBYTES];
	struct throttle_policy policies[3][KNOWN];
	int64_t minute, recent; /* failures of all in this minute */
	struct entry sets[SETS][WAYS];
};

/* ---- keys ------------------------------------------------------------------------ */

/* Whoever has an IPv6 address has 2^64 of them. */
size_t throttle_network(struct chatd_str peer, unsigned char ret[16])
{
	char text[INET6_ADDRSTRLEN] = "";
	if (peer.n == 0 || peer.n >= sizeof(text)) {
		return 0;
	}
	memcpy(text, peer.p, peer.n);
	if (inet_pton(AF_INET, text, ret) == 1) {
		return 4;
	}
	if (inet_pton(AF_INET6, text, ret) != 1) {
		return 0;
	}
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)ret)) {
		memmove(ret, ret + 12, 4);
		return 4;
	}
	return 8;
}

static void make_key(
		const struct throttle *t, const struct throttle_who *who, int kind, uint64_t ret[2])
{
	unsigned char net[16], tag[2] = { (unsigned char)who->what, (unsigned char)kind };
	crypto_generichash_state st;
	crypto_generichash_init(&st, t->secret, sizeof(t->secret), 16);
	crypto_generichash_update(&st, tag, sizeof(tag));
	if (kind != ACCOUNT) {
		size_t n = throttle_network(who->peer, net);
		tag[0] = (unsigned char)n;
		crypto_generichash_update(&st, tag, 1);
		crypto_generichash_update(&st, net, n);
	}
	if (kind != ADDRESS) {
		crypto_generichash_update(&st, (const unsigned char *)who->whom.p, who->whom.n);
	}
	crypto_generichash_final(&st, (unsigned char *)ret, 16);
	ret[0] |= 1; /* never the free one */
}

/* ---- the table ------------------------------------------------------------------- */

static struct entry *find(struct throttle *t, const uint64_t key[2])
{
	struct entry *set = t->sets[key[1] % SETS];
	for (int i = 0; i < WAYS; i++) {
		if (set[i].key[0] == key[0] && set[i].key[1] == key[1]) {
			return &set[i];
		}
	}
	return NULL;
}

static struct entry *put(struct throttle *t, const uint64_t key[2], int64_t now)
{
	struct entry *e = find(t, key), *set = t->sets[key[1] % SETS];
	if (!e) {
		e = &set[0];
		for (int i = 1; i < WAYS; i++) {
			if (set[i].fails < e->fails || (set[i].fails == e->fails && set[i].last < e->last)) {
				e = &set[i];
			}
		}
		*e = (struct entry){ .key = { key[0], key[1] } };
	}
	e->last = now;
	return e;
}

const struct throttle_policy *throttle_policy(const struct throttle *t, int32_t what, int kind)
{
	return &t->policies[what][kind];
}

/* What is long past is forgiven. */
static struct entry *current(
		struct throttle *t, const struct throttle_try *a, int kind, int64_t now)
{
	struct entry *e = find(t, a->key[kind]);
	if (e &&
			now > (e->until > e->last ? e->until : e->last) +
							throttle_policy(t, a->what, kind)->forget) {
		e->fails = 0;
		e->owed = 0;
	}
	return e;
}

/* Guesses made side by side would all be the first one: once there are delays, one at a time. */
static int64_t wait_for(struct throttle *t, const struct throttle_try *a, int kind, int64_t now)
{
	const struct entry *e = current(t, a, kind, now);
	if (!e || e->fails < throttle_policy(t, a->what, kind)->allowed) {
		return 0;
	}
	return e->until > now ? e->until - now : e->pending ? 1000 : 0;
}

static void add(uint16_t *n, int64_t more)
{
	*n = (uint16_t)(more < UINT16_MAX - *n ? *n + more : UINT16_MAX);
}

static void fail(struct throttle *t, const struct throttle_try *a, int kind, int64_t now)
{
	const struct throttle_policy *p = throttle_policy(t, a->what, kind);
	struct entry *e = current(t, a, kind, now);
	e = put(t, a->key[kind], now);
	add(&e->fails, a->nodes > 1 ? a->nodes : 1);
	add(&e->owed, a->nodes > 0);
	if (e->fails >= p->allowed) {
		int64_t over = e->fails - p->allowed;
		int64_t delay = over < 20 ? p->first << over : p->longest;
		e->until = now + (delay < p->longest ? delay : p->longest);
	}
}

/* ---- tries ----------------------------------------------------------------------- */

/* Which of the kinds count for this try. */
static int counts(struct throttle *t, const struct throttle_try *a, int kind)
{
	if (a->key[kind][0] == 0) {
		return 0;
	}
	return kind == PAIR || a->key[KNOWN][0] == 0 || !find(t, a->key[KNOWN]);
}

void throttle_prepare(
		const struct throttle *t, const struct throttle_who *who, struct throttle_try *ret)
{
	*ret = (struct throttle_try){ .what = who->what };
	for (int kind = 0; kind < KINDS; kind++) {
		/* Codes name no account; mails know no owner's address. */
		int needs_whom = kind != ADDRESS;
		if ((who->whom.p || !needs_whom) && (kind != KNOWN || who->what == THROTTLE_LOGIN)) {
			make_key(t, who, kind, ret->key[kind]);
		}
	}
}

int64_t throttle_begin(struct throttle *t, struct throttle_try *a, int64_t now)
{
	int64_t longest = 0;
	pthread_mutex_lock(&t->lock);
	for (int kind = 0; kind < KNOWN; kind++) {
		int64_t ms = counts(t, a, kind) ? wait_for(t, a, kind, now) : 0;
		longest = ms > longest ? ms : longest;
	}
	for (int kind = 0; longest == 0 && kind < KNOWN; kind++) {
		if (counts(t, a, kind)) {
			add(&put(t, a->key[kind], now)->pending, 1);
			a->begun |= 1u << kind;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return longest;
}

int throttle_alarm(struct throttle *t, int64_t now)
{
	pthread_mutex_lock(&t->lock);
	if (now / 60000 != t->minute) {
		t->minute = now / 60000;
		t->recent = 0;
	}
	int alarm = ++t->recent == ALARM;
	pthread_mutex_unlock(&t->lock);
	return alarm;
}

static void end_one(struct throttle *t, struct throttle_try *a, int kind, int64_t now, int outcome)
{
	struct entry *e = find(t, a->key[kind]);
	if (e && !a->shared) {
		e->pending -= e->pending > 0;
	}
	if (outcome == THROTTLE_WRONG && (e || a->shared)) {
		fail(t, a, kind, now);
	} else if (e && outcome == THROTTLE_RIGHT && kind == PAIR) {
		e->fails = 0;
		e->owed = 0;
		e->until = 0;
	}
}

void throttle_end(struct throttle *t, struct throttle_try *a, int64_t now, int outcome)
{
	if (!a->begun) {
		return;
	}
	pthread_mutex_lock(&t->lock);
	for (int kind = 0; kind < KNOWN; kind++) {
		if (a->begun & 1u << kind) {
			end_one(t, a, kind, now, outcome);
		}
	}
	if (outcome == THROTTLE_RIGHT && a->key[KNOWN][0]) {
		(void)put(t, a->key[KNOWN], now);
	}
	pthread_mutex_unlock(&t->lock);
	a->begun = 0;
}

/* ---- what several nodes share ------------------------------------------------------ */

struct throttle_state throttle_settle(
		struct throttle *t, const struct throttle_try *a, int kind, int64_t now)
{
	struct throttle_state ret = { 0, 0 };
	pthread_mutex_lock(&t->lock);
	struct entry *e = current(t, a, kind, now);
	if (e && e->owed) {
		ret.fails = e->owed;
		ret.left = e->until > now ? e->until - now : 0;
		e->owed = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return ret;
}

void throttle_owe(struct throttle *t, const struct throttle_try *a, int kind, int64_t fails)
{
	pthread_mutex_lock(&t->lock);
	struct entry *e = find(t, a->key[kind]);
	if (e) {
		add(&e->owed, fails);
	}
	pthread_mutex_unlock(&t->lock);
}

void throttle_learn(struct throttle *t, const struct throttle_try *a, int kind,
		const struct throttle_state *state, int64_t now)
{
	pthread_mutex_lock(&t->lock);
	struct entry *e = find(t, a->key[kind]);
	if (e || state->fails) {
		e = put(t, a->key[kind], now);
		uint16_t owed = e->owed;
		e->fails = owed;
		add(&e->fails, state->fails);
		int64_t until = state->left ? now + state->left : 0;
		e->until = owed && e->until > until ? e->until : until;
	}
	pthread_mutex_unlock(&t->lock);
}

void throttle_know(struct throttle *t, const struct throttle_try *a, int64_t now)
{
	pthread_mutex_lock(&t->lock);
	(void)put(t, a->key[KNOWN], now);
	pthread_mutex_unlock(&t->lock);
}

struct throttle *throttle_create(const struct chatd_host *h, int64_t attempts, int64_t delay_max)
{
	enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
	struct throttle *t = h->mem_alloc(sizeof(*t));
	if (!t) {
		return NULL;
	}
	t->h = h;
	pthread_mutex_init(&t->lock, NULL);
	h->random(t->secret, sizeof(t->secret));
	t->policies[THROTTLE_LOGIN][PAIR] =
			(struct throttle_policy){ attempts, SECOND, delay_max, HOUR };
	t->policies[THROTTLE_LOGIN][ACCOUNT] = (struct throttle_policy){ 4 * attempts, SECOND,
		delay_max < MINUTE ? delay_max : MINUTE, HOUR };
	t->policies[THROTTLE_LOGIN][ADDRESS] = (struct throttle_policy){ 4 * attempts, SECOND,
		delay_max < 5 * MINUTE ? delay_max : 5 * MINUTE, 5 * MINUTE };
	t->policies[THROTTLE_CODE][ADDRESS] =
			(struct throttle_policy){ 2 * attempts, SECOND, delay_max, HOUR };
	t->policies[THROTTLE_MAIL][PAIR] = (struct throttle_policy){ 2, MINUTE, HOUR, HOUR };
	t->policies[THROTTLE_MAIL][ACCOUNT] = (struct throttle_policy){ 4, MINUTE, HOUR, HOUR };
	t->policies[THROTTLE_MAIL][ADDRESS] = (struct throttle_policy){ 20, MINUTE, HOUR, HOUR };
	return t;
}

void throttle_destroy(struct throttle *t)
{
	if (t) {
		const struct chatd_host *h = t->h;
		pthread_mutex_destroy(&t->lock);
		sodium_memzero(t->secret, sizeof(t->secret));
		h->mem_free(t);
	}
}
