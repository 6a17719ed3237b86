/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uthash, with two changes: the hash is SipHash under a key drawn at start, so that
 * nobody outside can aim at one bucket, and an allocation that fails leaves the
 * table as it was.  Include this and never <uthash.h>.
 *
 * After a HASH_ADD..., ask MAP_ADDED(item, hh): if it is false there was no memory and the
 * item is in no table.  A table belongs to one thread; map_hash() may be called on any.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(keyptr, keylen, hashv)              \
	do {                                                  \
		(hashv) = (unsigned)map_hash((keyptr), (keylen)); \
	} while (0)

/* Draws the key.  [main] once, before the first table; a second call changes nothing. */
void map_init(void);

uint64_t map_hash(const void *p, size_t n);

#include <uthash.h>

#define MAP_ADDED(item, hh) ((item)->hh.tbl != NULL)

#endif
