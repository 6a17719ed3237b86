/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file e2ee.h
 * @brief The protocol chatd-e2ee-1 a second time, in C over libsodium and OpenSSL.
 *
 * Written from plugins/keys/README.md, to be held against sdk/client-js.  Simpler than a client
 * for daily use: a session for each message, one-time prekeys are never forgotten, and what was
 * seen before neither, so that a vector can be opened again and again.
 */
#ifndef E2EE_H
#define E2EE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { E2EE_KEY = 32, E2EE_SIGNATURE = 64, E2EE_PREKEYS = 64, E2EE_DEVICES = 20 };

struct e2ee_pair {
	int64_t id;
	uint8_t public[E2EE_KEY], secret[E2EE_KEY];
};

/* One's own. */
struct e2ee_device {
	char user[65], id[23];
	uint8_t identity[E2EE_KEY], seed[E2EE_KEY], self[E2EE_KEY];
	struct e2ee_pair dh, prekey;
	struct e2ee_pair onetimes[E2EE_PREKEYS];
	size_t n_onetimes;
};

/* Somebody's, as the server hands it out, checked. */
struct e2ee_face {
	char user[65], id[23];
	uint8_t identity[E2EE_KEY], dh[E2EE_KEY], prekey[E2EE_KEY], onetime[E2EE_KEY];
	int64_t prekey_id, onetime_id; /* onetime_id 0: there is none */
};

/* What a message is bound to. */
struct e2ee_context {
	const char *sender, *device, *receiver, *reference, *reply_to; /* reply_to: "" is none */
	int edit;
};

void e2ee_make(struct e2ee_device *, const char *user, size_t onetimes);
/* For test vectors: the secrets of a device, and back.  0: that is none. */
json_t *e2ee_secrets(const struct e2ee_device *);
int e2ee_from_secrets(struct e2ee_device *, const json_t *);
json_t *e2ee_bundle(const struct e2ee_device *, int with_onetimes); /* for PUT /api/keys */

/* NULL, or why not: a code as the JavaScript module has it. */
const char *e2ee_read_face(struct e2ee_face *, const char *user, const json_t *device);
/* The text of `content`, to free(). */
char *e2ee_seal(const struct e2ee_device *, const struct e2ee_context *, const char *text,
		const struct e2ee_face *to, size_t n_to);
/* NULL and *ret_text, to free(); or why not. */
const char *e2ee_unseal(const struct e2ee_device *, const struct e2ee_face *from, size_t n_from,
		const json_t *message, char **ret_text);
void e2ee_safety(const char *users[2], const struct e2ee_face *devices[2], const size_t n[2],
		char ret_digits[61]);

#endif
