/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#include <chatd-sdk/name.h>

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One search: by what the guest brought, else a new account. */
struct search {
	const struct self *self;
	chatd_worker *w;
	guest_fn *fn;
	void *arg;
	int tries;
	char id[32], secret[65], client[CLIENT_LEN + 1], nick[NICK_MAX + 1];
	char device[TOKEN_LEN + 1]; /* presented, or made */
	int presented, known_only;
};

static const struct chatd_accounts *accounts(const struct self *self)
{
	return self->accounts->vt;
}

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- access tokens: user.expiry.mac ------------------------------------------ */

void guest_token(const struct self *self, struct chatd_str user, int64_t expires, char *ret)
{
	unsigned char mac[crypto_auth_BYTES];
	char b64[sodium_base64_ENCODED_LEN(
			crypto_auth_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
	int n = snprintf(ret, TOKEN_MAX, "%.*s.%lld", (int)user.n, user.p, (long long)expires);
	crypto_auth(mac, (const unsigned char *)ret, (unsigned long long)n, self->key);
	sodium_bin2base64(b64, sizeof(b64), mac, sizeof(mac), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	snprintf(ret + n, (size_t)(TOKEN_MAX - n), ".%s", b64);
}

chatd_status guest_verify(const struct self *self, struct chatd_str token, struct guest_proof *ret)
{
	unsigned char mac[crypto_auth_BYTES];
	size_t n, user_n;
	const char *end, *dot, *last;
	if (token.n < 3 || token.n >= TOKEN_MAX) {
		return -EINVAL;
	}
	last = memrchr(token.p, '.', token.n);
	dot = last ? memrchr(token.p, '.', (size_t)(last - token.p)) : NULL;
	if (!dot || dot == token.p || (size_t)(dot - token.p) > 64) {
		return -EINVAL;
	}
	if (sodium_base642bin(mac, sizeof(mac), last + 1, token.n - (size_t)(last + 1 - token.p), NULL,
				&n, &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
			n != sizeof(mac) || end != token.p + token.n) {
		return -EINVAL;
	}
	/* Nothing inside is looked at before the MAC has proved it ours. */
	if (crypto_auth_verify(mac, (const unsigned char *)token.p,
				(unsigned long long)(last - token.p), self->key) != 0) {
		return -EINVAL;
	}
	user_n = (size_t)(dot - token.p);
	memcpy(ret->user, token.p, user_n);
	ret->user[user_n] = '\0';
	ret->expires = strtoll(dot + 1, NULL, 10);
	return ret->expires > self->h->wall_ms() ? 0 : -EKEYEXPIRED;
}

/* ---- finding ------------------------------------------------------------------ */

/* The name a guest asks for, as names are kept; one that is too long or empty: the user id serves. */
static void take_nickname(struct search *s, struct chatd_str want)
{
	if (!want.p || chatd_name_clean(want, s->nick, sizeof(s->nick)) <= 0) {
		s->nick[0] = '\0';
	}
}

static void hash_device(struct search *s)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256(hash, (const unsigned char *)s->device, strlen(s->device));
	sodium_bin2hex(s->secret, sizeof(s->secret), hash, sizeof(hash));
}

/* Keyed, so that nobody can test addresses against a leaked identifier. */
static void hash_client(struct search *s, const struct guest_hint *hint)
{
	unsigned char hash[CLIENT_LEN / 2];
	crypto_generichash_state st;
	crypto_generichash_init(&st, s->self->key, KEY_LEN, sizeof(hash));
	crypto_generichash_update(&st, (const unsigned char *)hint->peer.p, hint->peer.n);
	crypto_generichash_update(&st, (const unsigned char *)"", 1);
	crypto_generichash_update(&st, (const unsigned char *)hint->agent.p, hint->agent.n);
	crypto_generichash_final(&st, hash, sizeof(hash));
	sodium_bin2hex(s->client, sizeof(s->client), hash, sizeof(hash));
}

static void finish(struct search *s, chatd_status rc, const struct chatd_account *a, int is_new)
{
	struct guest g = { .rc = rc, .account = a, .is_new = is_new };
	if (s->device[0] && (is_new || s->presented)) {
		g.device = text(s->device);
	}
	s->fn(s->arg, &g);
	sodium_memzero(s->device, sizeof(s->device));
	s->self->h->mem_free(s);
}

static void make(struct search *s);

static void on_made(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct search *s = arg;
	if (rc == -EEXIST && ++s->tries < 4) {
		make(s);
		return;
	}
	(void)a;
	struct chatd_account made = { .struct_size = sizeof(made),
		.id = text(s->id),
		.nickname = text(s->nick),
		.flags = CHATD_ID_ANONYMOUS,
		.client = text(s->client) };
	finish(s, rc, rc == 0 ? &made : NULL, 1);
}

static void make(struct search *s)
{
	static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";
	const struct chatd_host *h = s->self->h;
	unsigned char raw[32];
	h->random(raw, sizeof(raw));
	snprintf(s->id, sizeof(s->id), "user_");
	for (size_t i = 0; i < 10; i++) {
		s->id[5 + i] = alphabet[raw[i] & 31];
	}
	s->id[15] = '\0';
	h->random(raw, sizeof(raw));
	sodium_bin2base64(s->device, sizeof(s->device), raw, sizeof(raw),
			sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	hash_device(s);
	if (!s->nick[0]) {
		snprintf(s->nick, sizeof(s->nick), "%s", s->id);
	}
	struct chatd_account a = { .struct_size = sizeof(a),
		.id = text(s->id),
		.nickname = text(s->nick),
		.flags = CHATD_ID_ANONYMOUS,
		.secret = text(s->secret),
		.client = text(s->client),
		.created = h->wall_ms() };
	chatd_status rc = accounts(s->self)->create(s->self->accounts->obj, s->w, &a, on_made, s);
	if (rc < 0) {
		finish(s, rc, NULL, 0);
	}
}

static void on_renamed(void *arg, chatd_status rc, const struct chatd_account *a)
{
	finish(arg, rc, a, 0);
}

static void on_found(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct search *s = arg;
	if (rc == -ENOENT && !s->known_only) {
		s->presented = 0; /* the token is nobody's: a new one takes its place */
		make(s);
		return;
	}
	if (rc == 0 && s->nick[0] &&
			(strlen(s->nick) != a->nickname.n || memcmp(s->nick, a->nickname.p, a->nickname.n))) {
		chatd_status asked = accounts(s->self)->rename(
				s->self->accounts->obj, s->w, a->id, text(s->nick), on_renamed, s);
		if (asked == 0) {
			return;
		}
	}
	finish(s, rc, a, 0);
}

chatd_status guest_find(const struct self *self, chatd_worker *w, const struct guest_hint *hint,
		guest_fn *fn, void *arg)
{
	struct search *s = self->h->mem_alloc(sizeof(*s));
	chatd_status rc;
	if (!s) {
		return -ENOMEM;
	}
	s->self = self;
	s->w = w;
	s->fn = fn;
	s->arg = arg;
	s->known_only = hint->known_only;
	take_nickname(s, hint->nickname);
	hash_client(s, hint);
	if (self->conf->identify_by == BY_CLIENT) {
		rc = accounts(self)->by_client(self->accounts->obj, w, text(s->client), on_found, s);
	} else if (hint->device.n == TOKEN_LEN) {
		memcpy(s->device, hint->device.p, TOKEN_LEN);
		s->presented = 1;
		hash_device(s);
		rc = accounts(self)->by_secret(self->accounts->obj, w, text(s->secret), on_found, s);
	} else {
		make(s); /* answers through fn, also its failure */
		return 0;
	}
	if (rc < 0) {
		self->h->mem_free(s);
	}
	return rc;
}
