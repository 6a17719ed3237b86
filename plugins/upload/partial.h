/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file partial.h
 * @brief Uploads that come piece by piece, on the disk: tus/ID is what came, tus/ID.info whose it
 *        is and how long it will be.  [pool]
 *
 * An id begins with 8 hex digits of its owner, so that the uploads of one user can be counted.
 */
#ifndef UPLOAD_PARTIAL_H
#define UPLOAD_PARTIAL_H

#include "upload.h"

enum { PARTIAL_OWNER = 8, PARTIAL_ID = PARTIAL_OWNER + 32 };

struct partial {
	char id[PARTIAL_ID + 1];
	char owner[CHATD_ID_MAX + 1], name[NAME_BYTES + 1];
	int64_t length, offset;
	int64_t touched; /**< seconds since 1970 */
};

void partial_id(struct chatd_str owner, const unsigned char random[16], char ret[PARTIAL_ID + 1]);
int partial_id_ok(struct chatd_str id);
void partial_path(const struct dir *, const char *id, char ret[DIR_PATH]);
/** -EDQUOT: the owner has @p most of them already. */
chatd_status partial_create(const struct dir *, const struct partial *, int64_t most);
/** By .id.  -ENOENT: there is none. */
chatd_status partial_load(const struct dir *, struct partial *);
/** It is still wanted: it will not be swept so soon. */
void partial_touch(const struct dir *, const char *id);
/** What is there of it. */
void partial_remove(const struct dir *, const char *id);

#endif
