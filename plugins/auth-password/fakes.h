/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fakes.h
 * @brief A store, tokens, a mailer and a limiter for the tests of auth-password.
 *
 * They keep a few of everything, and answer by post as their contracts say, or when fake_let()
 * lets them.
 */
#ifndef AUTH_FAKES_H
#define AUTH_FAKES_H

#include <chatd/kit.h>
#include <chatd/limiter.h>
#include <chatd/mailer.h>
#include <chatd/store.h>
#include <chatd/tokens.h>

enum { FAKES = 64 };

struct fake_account {
	char id[65], nick[130], email[256], hash[260], roles[64], secret[65];
	uint32_t flags, bits;
	int64_t banned_until;
};
struct fake_login {
	char id[65], user[65], device[120], refresh[65], before[65];
	int64_t used, created, idle_ms, expires, rotated;
	int presented; /* the newest token was used */
};
struct fake_secret {
	int32_t kind;
	char hash[65], user[65], data[300];
	int64_t expires;
};

struct fakes {
	struct kit *k;
	struct fake_account accounts[FAKES];
	struct fake_login logins[FAKES];
	struct fake_secret secrets[FAKES];
	size_t n_accounts, n_logins, n_secrets;
	int calls, hold;
	chatd_status refuse, fail; /* of the next call; of its answer */
	void (*before)(void);      /* something that happens just before the next answer */
	int serial;                /* of tokens */
	int mails;
	char to[300], subject[500], text[4000];
	int64_t limit_retry; /* > 0: the limiter says no */
};
extern struct fakes fakes;

/** A kit with the fakes; @p yaml after cheap hashing on the kit's own thread. */
struct kit *fakes_kit(const struct chatd_plugin *, const char *yaml);
/** Likewise, with services of the test's own besides; the last one's name is NULL. */
struct kit *fakes_kit_with(
		const struct chatd_plugin *, const char *yaml, const struct kit_service *more);
/** 1: answers wait; 0: they come, the oldest first. */
void fake_hold(int on);
struct fake_account *fake_account(const char *email);
struct fake_login *fake_login(const char *id);
/** The code of the last mail, as it stands there. */
const char *fake_code(void);

#endif
