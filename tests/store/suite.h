/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file suite.h
 * @brief What the suites share: a store that is opened for each test, and short ways to say
 *        what people do.
 */
#ifndef STORE_TEST_SUITE_H
#define STORE_TEST_SUITE_H

#include "host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define S(s)  CHATD_LIT(s)
#define SZ(r) .struct_size = sizeof(struct r)
#define ROOM(s)              \
	{                        \
		.room = CHATD_LIT(s) \
	}
#define WALL INT64_C(1700000000000)

extern struct host *h; /* the store at hand */
extern char dir[64];   /* its folder */

/* The plugin's path, before the tests run; 0: the arguments are wrong. */
int suite_args(int argc, char **argv);
int setup(void **state);
int teardown(void **state);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

struct chatd_str z(const char *s);
void assert_str(struct chatd_str s, const char *expected);
struct chatd_store_conv conv_of(const char *name); /* "room", or "ann/bob" of two */
/* A message whose id, body and text are @p id. */
struct kept *say(const char *conv, const char *sender, const char *id);
/* One that must obey the room's rules. */
struct kept *say_checked(const char *conv, const char *sender, const char *id, int64_t wall);
void make_room(const char *id, const char *owner, uint32_t flags);
/* @p extra: the role of ROLE, else until when. */
struct kept *member(int what, const char *room, const char *user, const char *actor, int64_t extra);

#define assert_refused(k, status, reason)            \
	do {                                             \
		struct kept *refused_ = (k);                 \
		assert_int_equal(refused_->rc, (status));    \
		assert_int_equal(refused_->a.why, (reason)); \
	} while (0)

#endif
