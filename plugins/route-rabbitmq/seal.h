/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures of what goes between nodes: HMAC-SHA256 over the routing key, the headers that mean
 * something, the time of publishing and the body.  The first key signs, all verify.  Belongs to
 * one thread; it keeps one message at a time.
 *
 * | AMQP header | what |
 * | chatd-time | when it was published, ms since 1970 |
 * | chatd-sig | the key's id (8 hex digits) and the signature (64) |
 *
 * A key's id and the key that signs are both made from the key of the configuration.
 */
#ifndef ROUTE_RABBITMQ_SEAL_H
#define ROUTE_RABBITMQ_SEAL_H

#include "wire.h"

enum {
	SEAL_KEYS = 8,
	SEAL_KEY_MIN = 32,
	SEAL_KEY_MAX = 1024,
	SEAL_ID = 8,
	SEAL_TEXT = SEAL_ID + 64,
	/* Of a message, ms.  A node's queue waits for it for 10 minutes, and clocks differ. */
	SEAL_AGE = 15 * 60 * 1000,
};

enum seal_verdict {
	SEAL_GOOD,
	SEAL_UNSIGNED,
	SEAL_KEY_UNKNOWN, /* signed with a key that is none of ours, or by no chatd */
	SEAL_FORGED,
	SEAL_OLD,
	SEAL_FAILED, /* no memory */
};

struct sealed {
	struct chatd_str rkey;
	const amqp_basic_properties_t *props;
	uint64_t body_size;
};

struct seal;

/* NULL: no memory, or the library refuses. */
struct seal *seal_create(const char *const *keys);
void seal_destroy(struct seal *);
/* The id of the key that signs, in hex. */
const char *seal_id(const struct seal *);

/* @p body is all of it; @p props have chatd-time, and no chatd-sig.  0; -ENOMEM. */
int seal_sign(struct seal *, const struct sealed *, struct chatd_str body, char ret[SEAL_TEXT + 1]);

/* Adds the two headers to those of @p props, behind which there is room for them; @p now as in
 * seal_end(), @p ret has to live as long as they do.  0; -ENOMEM. */
int seal_stamp(struct seal *, const char *rkey, amqp_basic_properties_t *props,
		struct chatd_str body, int64_t now, char ret[SEAL_TEXT + 1]);

/* SEAL_GOOD: so far; then the body in pieces, and seal_end() has the verdict. */
enum seal_verdict seal_begin(struct seal *, const struct sealed *);
void seal_body(struct seal *, amqp_bytes_t piece);
/* @p now: ms since 1970. */
enum seal_verdict seal_end(struct seal *, int64_t now);

#endif
