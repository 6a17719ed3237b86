/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file words.h
 * @brief Many words looked for at once: the automaton of Aho and Corasick.  Pure.
 *
 * One pass over the text, however many words there are.  Immutable once built: any thread may scan.
 */
#ifndef WORD_FILTER_WORDS_H
#define WORD_FILTER_WORDS_H

#include <stddef.h>
#include <stdint.h>

struct words;
struct words *words_create(void); /* NULL: no memory */
void words_destroy(struct words *);
/* 0; -ENOMEM; -EINVAL: it is empty.  @p id comes back when it is found; of two that are the same
 * both are. */
int words_add(struct words *, const char *p, size_t n, uint32_t id);
int words_build(struct words *); /* once, after the last one */

/* @p end is behind the last byte; @p n: how long it is. */
typedef void words_fn(void *arg, uint32_t id, size_t end, size_t n);
void words_scan(const struct words *, const char *p, size_t n, words_fn *fn, void *arg);

#endif
