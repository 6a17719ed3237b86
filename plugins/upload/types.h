/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file types.h
 * @brief What a file is, by its content (libmagic).  [pool]: it takes its time.
 */
#ifndef UPLOAD_TYPES_H
#define UPLOAD_TYPES_H

#include <chatd/plugin.h>

enum { TYPE_BYTES = 128, TYPE_HEAD = 8192 };

struct types;

/** NULL: libmagic has no data base, or there is no memory; errno says which. */
struct types *types_open(void);
void types_close(struct types *);
/** "image/png", by the first TYPE_HEAD bytes; one at a time, others wait. */
void types_of(struct types *, const char *head, size_t n, char ret[TYPE_BYTES]);
/** Is it one of "image/png", or of "audio/" with a star behind? */
int type_allowed(const char *const *allowed, const char *type);
/** Is @p pattern one that type_allowed() understands? */
int type_pattern_ok(const char *pattern);
/** May a browser show it in a page of this site?  Nothing that can hold a script. */
int type_shows(const char *type);

#endif
