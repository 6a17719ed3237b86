/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file check.h
 * @brief What is an e-mail address, a nickname, a password, a code.  Pure functions.
 */
#ifndef AUTH_CHECK_H
#define AUTH_CHECK_H

#include <chatd-sdk/name.h>
#include <chatd/plugin.h>

enum {
	EMAIL_MAX = 254,
	NICK_CHARS = CHATD_NICK_CHARS,
	NICK_MAX = CHATD_NICK_MAX,
	DEVICE_MAX = 100,
	PASSWORD_BYTES = 1024,
	CODE_LEN = 26, /* 128 bits, five a character */
};

/** In lower case into @p ret.  NULL: it is one; else what is wrong with it. */
const char *check_email(struct chatd_str s, char ret[EMAIL_MAX + 1]);
/** Without spaces at either end into @p ret; likewise. */
/** The beginning of an address, as far as it can be a nickname; never empty. */
void check_nickname_of(const char *email, char ret[NICK_MAX + 1]);
/** For people to read: what cannot be shown is left out. */
void check_device(struct chatd_str s, char ret[DEVICE_MAX + 1]);

/** 128 bits as 26 characters that are easy to read out and to type. */
void check_code_write(const unsigned char raw[16], char ret[CODE_LEN + 1]);
/** As people type it: in any case, with dashes and spaces.  0: it cannot be one. */
int check_code_read(struct chatd_str s, char ret[CODE_LEN + 1]);

#endif
