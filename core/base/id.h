/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Randomness and ids.  All functions: any thread.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stddef.h>
#include <stdint.h>

/* From the kernel, fit for secrets; ends the process if the kernel has none. */
void id_random(void *p, size_t n);

/*
 * A UUIDv7 as text.  Each id is greater than all that any thread of the process made
 * before, also when the clock steps back.  No system call except once in 64 ids; the
 * random part is not meant for secrets.
 */
void id_new(char ret[37]);

/* @p n bytes as lower-case hex; @p ret has room for 2 * n + 1. */
void id_hex(char *ret, const void *p, size_t n);

#endif
