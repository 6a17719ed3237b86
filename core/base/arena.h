/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is freed all at once.  Zeroed is an empty arena, which holds nothing.  Used by
 * one thread at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
	struct arena_block *blocks;
};

/* Zeroed, aligned for anything.  NULL: no memory. */
void *arena_alloc(struct arena *a, size_t n);
/* A NUL-terminated copy of @p n bytes. */
char *arena_text(struct arena *a, const char *p, size_t n);
/* Frees everything; the arena is empty again. */
void arena_finish(struct arena *a);

#endif
