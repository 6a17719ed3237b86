/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sign.h
 * @brief Signed addresses: who may GET one file until when, without credentials.  Pure.
 *
 * The signature covers method, file, user and expiry; whether that user may still read the file
 * is asked at the download, so a signature never lends more than the user has.
 */
#ifndef UPLOAD_SIGN_H
#define UPLOAD_SIGN_H

#include <chatd/plugin.h>

enum { SIGN_KEY = 32, SIGN_HEX = 64, SIGN_QUERY = 192 };

struct signed_for {
	struct chatd_str file, user;
	int64_t expires; /**< wall-clock seconds */
};

/** A key made of whatever text is configured.  -EIO: OpenSSL failed. */
chatd_status sign_key(struct chatd_str text, unsigned char ret[SIGN_KEY]);
/** "u=USER&e=SECONDS&s=HEX".  -EIO: OpenSSL failed. */
chatd_status sign_write(
		const unsigned char key[SIGN_KEY], const struct signed_for *, char ret[SIGN_QUERY]);
/** Reads and checks such a query (.file is given); anything else in it makes it invalid.
 *  -EACCES: it does not fit, -ETIME: it is over at @p now (seconds). */
chatd_status sign_check(const unsigned char key[SIGN_KEY], struct chatd_str query, int64_t now,
		struct signed_for *);

#endif
