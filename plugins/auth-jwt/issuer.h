/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file issuer.h
 * @brief Somebody else's login service: its keys (a JWKS), and who its tokens mean.
 */
#ifndef ISSUER_H
#define ISSUER_H

#include "token.h"

#include <jose/cfg.h>

enum { ISSUER_KEYS_MAX = 64, ISSUER_JWKS_MAX = 256 * 1024, ISSUER_WHY = 300 };

/** As configured. */
struct issuer {
	const char *issuer, *audience;
	const char *file, *url;        /**< of the JWKS: one of the two */
	const char *ca;                /**< who is trusted for the URL; NULL: as the system says */
	const char *const *algorithms; /**< the only ones, best first */
	const char *user_claim, *name_claim, *roles_claim;
	const char *const *roles; /**< "theirs=ours": all others mean nothing here */
	const char *user_prefix;
	int32_t adopt;
};

/** Who somebody is, in room of its own. */
struct who {
	char user[65], login[65], name[257], roles[513], client[65];
	uint32_t flags;
	int64_t expires; /**< wall-clock ms, the leeway included; 0: never */
};

extern const char *const issuer_algs[]; /**< what libjose can, NULL-terminated */

/** The usable keys of a JWKS, each with its one algorithm; NULL and why: none. */
json_t *issuer_keys(const struct issuer *, struct chatd_str jwks, char why[ISSUER_WHY]);
/** 0; -ENOKEY: none of these keys has that id and algorithm; -EKEYREJECTED. */
chatd_status issuer_verify(jose_cfg_t *, const json_t *keys, const struct token *);
/** The claims of a verified token.  -EKEYREJECTED, -EKEYEXPIRED. */
chatd_status issuer_read(
		const struct issuer *, const struct token *, int64_t wall_ms, struct who *ret);
/** What marks the accounts that this issuer has made. */
void issuer_mark(const struct issuer *, char ret[65]);

#endif
