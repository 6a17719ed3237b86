/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file names.h
 * @brief What files are called, and what of them is asked for.  Pure.
 */
#ifndef UPLOAD_NAMES_H
#define UPLOAD_NAMES_H

#include <chatd/plugin.h>

enum { NAME_BYTES = 255, DISPOSITION_MAX = 3 * NAME_BYTES + NAME_BYTES + 64 };

/** The name as people see it: what is behind the last slash, without what cannot be seen or turns
 *  the writing round, at most 255 bytes; "file" when nothing is left.  -EINVAL: no UTF-8, or a NUL. */
chatd_status name_clean(struct chatd_str name, char ret[NAME_BYTES + 1]);
/** Resolves %XX, in place; "UTF-8''" in front (of filename*) is required if @p extended.
 *  -EINVAL: it is malformed. */
chatd_status name_decode(struct chatd_str text, int extended, char *room, struct chatd_str *ret);
/** attachment; filename="..."; filename*=UTF-8''... */
void name_disposition(const char *name, int is_inline, char ret[DISPOSITION_MAX]);

enum { RANGE_NONE = 0, RANGE_ONE = 1, RANGE_BAD = 2 };
/** One range of "bytes=..." (RFC 9110 14).  NONE: no range, several, or another unit: all is sent.
 *  BAD: none of it is there. */
int range_read(struct chatd_str header, int64_t size, int64_t *ret_from, int64_t *ret_n);
/** Is @p etag (with its quotes) in the list of an If-None-Match? */
int etag_in(struct chatd_str list, const char *etag);

/** [0-9]{1,18}, nothing else; -1: it is not. */
int64_t number_read(struct chatd_str);

#endif
