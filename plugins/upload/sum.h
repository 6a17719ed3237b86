/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sum.h
 * @brief SHA-256 of what comes piece by piece, by OpenSSL.  [any]
 */
#ifndef UPLOAD_SUM_H
#define UPLOAD_SUM_H

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "dir.h"

/** NULL: no memory.  EVP_MD_CTX_free() ends it. */
static inline EVP_MD_CTX *sum_begin(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	if (c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(c);
		c = NULL;
	}
	return c;
}

/** In hex. */
static inline chatd_status sum_end(EVP_MD_CTX *c, char ret[DIR_HASH + 1])
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	if (EVP_DigestFinal_ex(c, hash, NULL) != 1) {
		return -EIO;
	}
	for (size_t i = 0; i < DIR_HASH / 2; i++) {
		snprintf(ret + 2 * i, 3, "%02x", hash[i]);
	}
	return 0;
}

#endif
