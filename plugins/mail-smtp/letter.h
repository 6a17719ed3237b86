/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file letter.h
 * @brief A mail as it travels: RFC 5322 headers, MIME, quoted-printable.  Pure functions.
 *
 * Whatever goes into a header is refused if it holds a control character, and encoded as of
 * RFC 2047 if it is not ASCII, so nothing that a user can choose adds a header or a line.
 */
#ifndef MAIL_LETTER_H
#define MAIL_LETTER_H

#include <chatd/plugin.h>

enum { ADDRESS_MAX = 254, SUBJECT_MAX = 400, TEXT_MAX = 64 * 1024 };

struct letter {
	struct chatd_str from, from_name; /* name: may be empty */
	struct chatd_str to, subject, text;
	const char *id;  /* of Message-ID, without the domain */
	int64_t wall_ms; /* of Date */
};

/** One address, without a display name: something@something, no spaces, no brackets. */
int letter_address_ok(struct chatd_str);
/** To free(); *ret_n bytes.  NULL with errno EINVAL or ENOMEM. */
char *letter_write(const struct letter *, size_t *ret_n);

#endif
