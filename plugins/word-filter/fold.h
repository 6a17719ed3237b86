/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fold.h
 * @brief Text as the lists are compared with it: without case, accents, invisible characters and,
 * if wanted, with letters that look like Latin ones made such.  By ICU's data.  Pure.
 *
 * Each character is folded by itself, so that what is found can be shown in the text as it was.  A
 * fold belongs to one thread.
 */
#ifndef WORD_FILTER_FOLD_H
#define WORD_FILTER_FOLD_H

#include <chatd/plugin.h>

#include <stdint.h>

struct fold;
struct fold *fold_create(int confusables); /* NULL: no memory, or ICU cannot */
void fold_destroy(struct fold *);

struct folded {
	char *p; /* UTF-8, with a NUL behind it */
	size_t n;
	uint32_t *from; /* of each byte, and of the end: where the character begins that it is of */
	char *whole;    /* what .from counts in: the text, composed */
	size_t n_whole;
};

/* 0; -ENOMEM, -EINVAL: no UTF-8. */
int fold_text(struct fold *, struct chatd_str, struct folded *ret);
void folded_free(struct folded *);

/* Is there a letter or digit of the same word just before @p at, or at it? */
int fold_word_before(const struct folded *, size_t at);
int fold_word_at(const struct folded *, size_t at);

#endif
