/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file throttle.h
 * @brief Delays that grow with each failure: for guesses at passwords and codes, and for mails.
 *
 * Three things are counted for a login:
 *  - the pair of account and address: from the fifth failure on 1, 2, 4 ... 900 s;
 *  - the account from everywhere: from the 20th on 1, 2, 4 ... 60 s;
 *  - the address, whatever account: from the 20th on 1, 2, 4 ... 300 s.
 * The latter two do not touch who logged in to that account from that address before: else
 * whoever guesses, or shares an address with somebody who does, would lock the owner out.
 *
 * One table of fixed size; where it is full, those with the fewest failures are forgotten.
 * Only keyed hashes of accounts and addresses are kept.  [any], one lock, a few dozen
 * instructions long.
 */
#ifndef AUTH_THROTTLE_H
#define AUTH_THROTTLE_H

#include <chatd/plugin.h>

struct throttle;

enum { THROTTLE_LOGIN, THROTTLE_CODE, THROTTLE_MAIL };
enum { THROTTLE_RIGHT, THROTTLE_WRONG, THROTTLE_NEITHER };

struct throttle_try {
	uint32_t begun; /* kinds that count for it, as bits; 0: it has ended */
	int32_t what;
	uint64_t key[4][2];
};

struct throttle_who {
	int32_t what;          /* THROTTLE_* */
	struct chatd_str whom; /* the account; .p NULL: none */
	struct chatd_str peer; /* the address */
	int64_t now;           /* monotonic ms */
};

struct throttle *throttle_create(const struct chatd_host *, int64_t attempts, int64_t delay_max);
void throttle_destroy(struct throttle *);
/** 0: go ahead, and say how it ended; else so many ms must pass first. */
int64_t throttle_begin(struct throttle *, const struct throttle_who *, struct throttle_try *ret);
/** Once for each begin() that said 0; harmless otherwise.  1: there are so many failures
 *  everywhere that somebody should look. */
int throttle_end(struct throttle *, struct throttle_try *, int64_t now, int outcome);

#endif
