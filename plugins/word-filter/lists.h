/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file lists.h
 * @brief The lists as they were read from their files, and looking a text through.
 *
 * A set of lists is immutable and shared by the workers; what a worker needs of its own to look
 * with (ICU's) is in a struct eye.
 */
#ifndef WORD_FILTER_LISTS_H
#define WORD_FILTER_LISTS_H

#include "fold.h"

#include <chatd/plugin.h>

enum { ACTION_MASK, ACTION_REFUSE, ACTION_FLAG };

struct list_conf {
	const char *file;
	int32_t action;
};

struct lists;
enum { LISTS_WHY = 512 };
/* NULL: @p why says what is wrong, in which file and line. */
struct lists *lists_read(const struct list_conf *, size_t n, int confusables, char why[LISTS_WHY]);
struct lists *lists_ref(struct lists *); /* [any] */
void lists_unref(struct lists *);        /* [any] NULL is fine */
size_t lists_count(const struct lists *);

/** One worker's. */
struct eye;
struct eye *eye_create(struct lists *, int confusables); /* takes its own reference */
void eye_destroy(struct eye *);

/** What was found in a text. */
struct sight {
	struct folded text;
	unsigned char *masked;    /* of each byte of .text.whole: 1 is to be masked; NULL: none */
	int32_t refused, flagged; /* the number of the list + 1; 0: none */
	int32_t masks;
	int32_t gave_up; /* a pattern took too long */
};
/* 0; -ENOMEM, -EINVAL. */
int eye_look(struct eye *, struct chatd_str, struct sight *ret);
void sight_free(struct sight *);
/* The text, masked: to free(); NULL: no memory. */
char *sight_masked(const struct sight *, size_t *ret_n);

#endif
