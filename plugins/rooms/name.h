/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file name.h
 * @brief What rooms may be called.  Pure.
 */
#ifndef ROOMS_NAME_H
#define ROOMS_NAME_H

#include <chatd-sdk/json.h>

/* Characters, and bytes of UTF-8. */
enum { NAME_CHARS = 100, NAME_MAX_BYTES = 400, ABOUT_CHARS = 500, ABOUT_MAX = 2000 };

/* NULL: it may be a room's; else what is wrong with it.  The text is known to be UTF-8.  A name is
 * kept as NFKC and without what cannot be seen. */
const char *name_take(struct chatd_str name, char ret[NAME_MAX_BYTES + 1]);
const char *about_fault(struct chatd_str about);

#endif
