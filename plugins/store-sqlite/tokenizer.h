/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file tokenizer.h
 * @brief FTS5's tokenizer as a function; each thread has one of its own.
 */
#ifndef STORE_TOKENIZER_H
#define STORE_TOKENIZER_H

#include "store.h"

struct tokenizer; /* NULL at first */
typedef int token_fn(void *arg, int flags, const char *word, int n, int start, int end);

/* SQLITE_OK, or what @p fn said, or that there is no FTS5 or no memory. */
int tokenize(struct tokenizer **, struct chatd_str text, int query, void *arg, token_fn *fn);
void tokenizer_close(struct tokenizer *);

#endif
