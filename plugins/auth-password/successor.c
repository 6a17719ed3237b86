/* SPDX-License-Identifier: Apache-2.0 */
#include "successor.h"

#include <pthread.h>
#include <sodium.h>
#include <string.h>

enum { SETS = 256, WAYS = 4 };

struct entry {
	int64_t made;
	size_t n; /* 0: free */
	unsigned char name[16], nonce[crypto_secretbox_NONCEBYTES];
	unsigned char *box;
};

struct successors {
	const struct chatd_host *h;
	int64_t keep_ms;
	pthread_mutex_t lock;
	struct entry sets[SETS][WAYS];
};

/* Two hashes of one token: what finds it does not open it. */
struct names {
	unsigned char name[16], key[crypto_secretbox_KEYBYTES];
};

static void names_of(struct chatd_str old, struct names *ret)
{
	unsigned char all[sizeof(ret->name) + sizeof(ret->key)];
	_Static_assert(sizeof(all) <= crypto_generichash_BYTES_MAX, "one hash gives both");
	crypto_generichash(all, sizeof(all), (const unsigned char *)old.p, old.n, NULL, 0);
	memcpy(ret->name, all, sizeof(ret->name));
	memcpy(ret->key, all + sizeof(ret->name), sizeof(ret->key));
	sodium_memzero(all, sizeof(all));
}

static void clear(struct successors *s, struct entry *e)
{
	if (e->n) {
		sodium_memzero(e->box, e->n);
		s->h->mem_free(e->box);
	}
	*e = (struct entry){ 0 };
}

static void keep(struct successors *s, struct entry *e, const struct names *who, const char *next)
{
	size_t n = strlen(next) + 1;
	unsigned char *box = s->h->mem_alloc(n + crypto_secretbox_MACBYTES);
	if (box) {
		s->h->random(e->nonce, sizeof(e->nonce));
		crypto_secretbox_easy(box, (const unsigned char *)next, n, e->nonce, who->key);
		e->box = box;
		e->n = n + crypto_secretbox_MACBYTES;
		memcpy(e->name, who->name, sizeof(e->name));
	}
}

void successors_agree(
		struct successors *s, struct chatd_str old, int64_t now, char next[CHATD_TOKEN_MAX])
{
	struct names who;
	names_of(old, &who);
	struct entry *set = s->sets[(who.name[0] << 8 | who.name[1]) % SETS], *oldest = set;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < WAYS; i++) {
		if (set[i].n && now - set[i].made > s->keep_ms) {
			clear(s, &set[i]);
		}
		if (set[i].n && memcmp(set[i].name, who.name, sizeof(who.name)) == 0 &&
				crypto_secretbox_open_easy(
						(unsigned char *)next, set[i].box, set[i].n, set[i].nonce, who.key) == 0) {
			goto done;
		}
		if (set[i].n == 0 || (oldest->n && set[i].made < oldest->made)) {
			oldest = &set[i];
		}
	}
	clear(s, oldest);
	keep(s, oldest, &who, next);
	oldest->made = now;
done:
	pthread_mutex_unlock(&s->lock);
	sodium_memzero(&who, sizeof(who));
}

struct successors *successors_create(const struct chatd_host *h, int64_t keep_ms)
{
	struct successors *s = h->mem_alloc(sizeof(*s));
	if (s) {
		s->h = h;
		s->keep_ms = keep_ms;
		pthread_mutex_init(&s->lock, NULL);
	}
	return s;
}

void successors_destroy(struct successors *s)
{
	if (!s) {
		return;
	}
	for (int i = 0; i < SETS * WAYS; i++) {
		clear(s, &s->sets[i / WAYS][i % WAYS]);
	}
	pthread_mutex_destroy(&s->lock);
	s->h->mem_free(s);
}
