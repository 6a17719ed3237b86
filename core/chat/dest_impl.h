/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/dest_impl.h
 * @brief A destination as one worker has it, shared by dest.c and deliver.c alone.
 */
#ifndef CHAT_DEST_IMPL_H
#define CHAT_DEST_IMPL_H

#include "base/map.h"
#include "chat/dest.h"

struct dest {
	UT_hash_handle hh;
	struct sub **subs; /* &one, or from malloc() */
	struct sub *one;
	uint32_t n, cap;
	uint32_t epoch;      /* tells this record from an earlier one of the same key */
	uint32_t known;      /* the home knows that this worker has subscribers, and it is settled */
	uint32_t settled;    /* at the home: what other nodes publish comes here */
	uint64_t interest;   /* at the home: bit per worker */
	uint64_t lost;       /* at the home: workers that lack a message and do not know it yet */
	struct queue *queue; /* at the home of a work queue */
	const struct chat_prefix *prefix;
	uint32_t text, len; /* where in key[] the client's spelling begins; length of all */
	char key[];
};

struct dest_table {
	struct dest *all;
	uint32_t epochs;
	int fanning;              /* wire forms hold the frame of the message at hand: one at a time */
	int telling;              /* again is set */
	struct chatd_timer again; /* at homes: of telling workers that they lack a message */
};

/** [worker] NULL: this worker has no such destination. */
struct dest *dest_find(struct chat_worker *, struct chatd_str key);
/** To every subscriber that this worker has. */
void dest_fan_out(struct chat_worker *, struct dest *, chatd_msg *);

#endif
