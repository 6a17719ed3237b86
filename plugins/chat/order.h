/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file order.h
 * @brief Which row of a conversation may be published now.  Pure.
 *
 * One table per worker, for the conversations that are at home there.  It remembers the last
 * seq that was published in the ORDER_SLOTS conversations spoken in last, more or less: two
 * that meet in a slot push each other out, and whoever was pushed out begins anew with its
 * next row, as after a start.
 *
 * Rows go missing when a commit came back only after the store had given up waiting for it:
 * then they are there, but nobody was told.  The caller reads them when the next row shows
 * the hole; until that is done no row of the conversation is published.
 */
#ifndef CHAT_ORDER_H
#define CHAT_ORDER_H

#include <stdint.h>

enum { ORDER_SLOTS = 4096 };

struct order_slot {
	uint64_t hash; /* of the conversation */
	int64_t last;  /* the seq published last; 0: the slot is free */
	int64_t want;  /* filling: the newest seq that came meanwhile */
	int32_t filling;
};

struct order {
	struct order_slot slot[ORDER_SLOTS]; /* zeroed */
};

enum order_verdict {
	ORDER_PUBLISH,
	ORDER_SKIP, /* it was published */
	ORDER_WAIT, /* it will be read with those that are missing */
	ORDER_FILL, /* rows after order_last() are missing: read them, with this one, then order_filled() */
};

enum order_verdict order_take(struct order *, uint64_t hash, int64_t seq);
int64_t order_last(const struct order *, uint64_t hash); /* -1: not known */
/* The row that was taken could not be published: it is missing now. */
void order_failed(struct order *, uint64_t hash, int64_t seq);
/* Rows up to @p seq have been published.  1: there are more by now, read on. */
int order_filled(struct order *, uint64_t hash, int64_t seq);
/* They cannot be read: whoever subscribes will see the hole. */
void order_give_up(struct order *, uint64_t hash);

#endif
