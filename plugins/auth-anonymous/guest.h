/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file guest.h
 * @brief Finding or making a guest's account; the tokens that prove one.
 *
 * guest.c knows accounts and tokens, auth_anonymous.c knows hooks and REST.
 */
#ifndef GUEST_H
#define GUEST_H

#include <chatd/accounts.h>
#include <chatd/cluster.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/transport.h>

enum { BY_TOKEN, BY_CLIENT };
enum { TOKEN_LEN = 43, KEY_LEN = 32, CLIENT_LEN = 32, NICK_MAX = 64 };

struct conf {
	int32_t identify_by, cookie;
	int64_t token_ttl, devices;
	const char *key; /* NULL: one of its own */
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *accounts, *http, *sessions, *cluster;
	struct devices *devices;    /* NULL: as many as they like */
	unsigned char key[KEY_LEN]; /* of access tokens and client identifiers */
};

/** What is known of a guest; all borrowed, may be absent. */
struct guest_hint {
	struct chatd_str device, peer, agent, nickname;
	int32_t known_only; /**< -ENOENT rather than a new account */
};

/** The answer: @p rc 0 and the account; @p device is set when a new one was made, or the
 *  one that was presented.  [worker], once, perhaps inside guest_find(). */
struct guest {
	chatd_status rc;
	const struct chatd_account *account;
	struct chatd_str device;
	int32_t is_new;
};
typedef void guest_fn(void *arg, const struct guest *);

chatd_status guest_find(
		const struct self *, chatd_worker *, const struct guest_hint *, guest_fn *fn, void *arg);

/** An access token for @p user until @p expires (wall ms).  @p ret holds TOKEN_MAX. */
enum { TOKEN_MAX = 256 };
void guest_token(const struct self *, struct chatd_str user, int64_t expires, char *ret);
struct guest_proof {
	char user[65];
	int64_t expires; /**< wall-clock ms */
};
/** Whom a token names: 0; -EINVAL: not ours; -EKEYEXPIRED. */
chatd_status guest_verify(const struct self *, struct chatd_str token, struct guest_proof *ret);

#endif
