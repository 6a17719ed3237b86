/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/webhook.h
 * @brief Requests to other servers, signed the way of Standard Webhooks.
 *
 * Header only and no part of the contract; needs libsodium (-lsodium).  The headers webhook-id,
 * webhook-timestamp and webhook-signature ("v1,BASE64" for each secret, a space between them) sign
 * "ID.TIMESTAMP.BODY" with HMAC-SHA256.  A secret is "whsec_BASE64", or any other text, which then
 * is the key as it stands.  [any]
 */
#ifndef CHATD_SDK_WEBHOOK_H
#define CHATD_SDK_WEBHOOK_H

#include <chatd/plugin.h>

#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum { CHATD_WEBHOOK_KEY_MAX = 192, CHATD_WEBHOOK_SIGNATURE = 52, CHATD_WEBHOOK_LINE = 192 };

struct chatd_webhook_key {
	unsigned char key[CHATD_WEBHOOK_KEY_MAX];
	size_t n; /* 0: none */
};

/** 0: the secret can be none. */
static inline int chatd_webhook_key(struct chatd_webhook_key *k, const char *secret)
{
	size_t n = secret ? strlen(secret) : 0;
	k->n = 0;
	if (n > 6 && memcmp(secret, "whsec_", 6) == 0) {
		return sodium_base642bin(k->key, sizeof(k->key), secret + 6, n - 6, NULL, &k->n, NULL,
					   sodium_base64_VARIANT_ORIGINAL) == 0 &&
				k->n >= 16;
	}
	if (n < 16 || n > sizeof(k->key)) {
		return 0;
	}
	memcpy(k->key, secret, n);
	k->n = n;
	return 1;
}

static inline void chatd_webhook_sign(const struct chatd_webhook_key *k, const char *id,
		int64_t seconds, struct chatd_str body, char ret[CHATD_WEBHOOK_SIGNATURE])
{
	crypto_auth_hmacsha256_state st;
	unsigned char mac[crypto_auth_hmacsha256_BYTES];
	char head[CHATD_WEBHOOK_LINE];
	int n = snprintf(head, sizeof(head), "%s.%lld.", id, (long long)seconds);
	(void)crypto_auth_hmacsha256_init(&st, k->key, k->n);
	(void)crypto_auth_hmacsha256_update(&st, (const unsigned char *)head, (size_t)n);
	(void)crypto_auth_hmacsha256_update(&st, (const unsigned char *)body.p, body.n);
	(void)crypto_auth_hmacsha256_final(&st, mac);
	memcpy(ret, "v1,", 3);
	(void)sodium_bin2base64(
			ret + 3, CHATD_WEBHOOK_SIGNATURE - 3, mac, sizeof(mac), sodium_base64_VARIANT_ORIGINAL);
}

/** The header lines of a request. */
struct chatd_webhook_lines {
	char id[CHATD_WEBHOOK_LINE], time[64], signature[CHATD_WEBHOOK_LINE];
	struct chatd_str line[4];
};

/** @p id at most 120 bytes; @p old is a secret that is being replaced, .n 0: none. */
static inline void chatd_webhook_lines(struct chatd_webhook_lines *l,
		const struct chatd_webhook_key *k, const struct chatd_webhook_key *old, const char *id,
		int64_t wall_ms, struct chatd_str body)
{
	char mac[CHATD_WEBHOOK_SIGNATURE], other[CHATD_WEBHOOK_SIGNATURE + 1] = "";
	chatd_webhook_sign(k, id, wall_ms / 1000, body, mac);
	if (old->n) {
		other[0] = ' ';
		chatd_webhook_sign(old, id, wall_ms / 1000, body, other + 1);
	}
	snprintf(l->id, sizeof(l->id), "webhook-id: %s", id);
	snprintf(l->time, sizeof(l->time), "webhook-timestamp: %lld", (long long)(wall_ms / 1000));
	snprintf(l->signature, sizeof(l->signature), "webhook-signature: %s%s", mac, other);
	l->line[0] = chatd_str_of(l->id, strlen(l->id));
	l->line[1] = chatd_str_of(l->time, strlen(l->time));
	l->line[2] = chatd_str_of(l->signature, strlen(l->signature));
	l->line[3] = CHATD_LIT("Content-Type: application/json");
}

#endif
