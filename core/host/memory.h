/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/memory.h
 * @brief mem_alloc() and mem_free(), and how much each plugin file's code has.
 *
 * Whose code asks is told by the address that it is called from.  The owner is kept in the last
 * byte of what the allocator gives, so that whoever frees it need not be the same; most blocks have
 * that byte to spare.
 */
#ifndef HOST_MEMORY_H
#define HOST_MEMORY_H

#include "host/loader.h"

#include <stddef.h>
#include <stdint.h>

/** [main] Before any plugin's code runs, and again when more are loaded: @p list of @p n, each one
 *  once, those of before at the same places. */
void memory_know(const struct module *const *list, size_t n);
void *memory_alloc(size_t n); /**< [any] */
void memory_free(void *p);    /**< [any] */
/** [any] Bytes that the code of list[i] has. */
int64_t memory_of(size_t i);

/** [any] Whose code it is: what memory_of() takes; -1: the server's, or a library's. */
int memory_owner(const void *code);

#endif
