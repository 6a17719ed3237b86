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
/** What is counted, and who logged in before: KNOWN. */
enum { THROTTLE_PAIR, THROTTLE_ACCOUNT, THROTTLE_ADDRESS, THROTTLE_KNOWN, THROTTLE_KINDS };

struct throttle_policy {
	int64_t allowed;                /**< failures without a delay */
	int64_t first, longest, forget; /**< ms */
};

struct throttle_try {
	uint32_t begun; /**< kinds that count for it, as bits; 0: it has ended */
	int32_t what;
	/** While what all nodes share is out of reach: over how many; 0: nothing is shared.  One
	 *  failure then counts for as many, and is owed to the others. */
	int32_t nodes;
	int32_t shared; /**< 1: it began elsewhere, and nothing here waits for its end */
	uint64_t key[THROTTLE_KINDS][2];
};

struct throttle_who {
	int32_t what;          /* THROTTLE_* */
	struct chatd_str whom; /* the account; .p NULL: none */
	struct chatd_str peer; /* the address */
	int64_t now;           /* monotonic ms */
};

/** How many failures there were, and how long to wait from now on. */
struct throttle_state {
	int64_t fails, left;
};

struct throttle *throttle_create(const struct chatd_host *, int64_t attempts, int64_t delay_max);
void throttle_destroy(struct throttle *);
/** What is counted for this try, no more. */
void throttle_prepare(
		const struct throttle *, const struct throttle_who *, struct throttle_try *ret);
/** 0: go ahead, and say how it ended; else so many ms must pass first. */
int64_t throttle_begin(struct throttle *, struct throttle_try *, int64_t now);
/** Once for each begin() that said 0; harmless otherwise. */
void throttle_end(struct throttle *, struct throttle_try *, int64_t now, int outcome);
/** A guess was wrong.  1: there are so many of them that somebody should look. */
int throttle_alarm(struct throttle *, int64_t now);

/* For what several nodes share. */
const struct throttle_policy *throttle_policy(const struct throttle *, int32_t what, int kind);
/** The network that an address is counted as; 0: it is none. */
size_t throttle_network(struct chatd_str peer, unsigned char ret[16]);
/** Takes the failures that are owed to the other nodes; .left goes with them. */
struct throttle_state throttle_settle(
		struct throttle *, const struct throttle_try *, int kind, int64_t now);
/** They could not be told. */
void throttle_owe(struct throttle *, const struct throttle_try *, int kind, int64_t fails);
/** So it is for all nodes; kept for the time when they cannot be asked. */
void throttle_learn(struct throttle *, const struct throttle_try *, int kind,
		const struct throttle_state *, int64_t now);
void throttle_know(struct throttle *, const struct throttle_try *, int64_t now);

#endif
