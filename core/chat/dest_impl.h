/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/dest_impl.h
 * @brief A destination as one worker has it, shared by dest.c, work.c and deliver.c alone.
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
	int delivering;           /* calls of transports that are on the stack */
	int fanning;              /* wire forms hold the frame of the message at hand: one at a time */
	int telling;              /* again is set */
	struct chatd_timer again; /* at homes: of telling workers that they lack a message */
};

/** Something that one worker asks of another. */
struct dest_op {
	struct chat_worker *to;
	void (*run)(struct dest_op *);
	int32_t from, here; /**< here: a message that other nodes do not get */
	uint32_t serial, epoch, home_epoch;
	chatd_sid session;
	chatd_msg *msg;
	uint64_t place;
	chatd_token token;
	const struct chat_prefix *prefix;
	struct post *way_back; /**< of a SUBSCRIBE: it is answered, whatever memory there is by then */
	chatd_status rc;
	int32_t settled;
	dest_ready *ready;
	void *arg;
	uint32_t text, len;
	char key[];
};

/** A destination's key while it is being looked up. */
struct dest_key {
	struct chatd_str key;
	uint32_t text;
	const struct chat_prefix *prefix;
};

/** [worker] NULL: this worker has no such destination. */
struct dest *dest_find(struct chat_worker *, struct chatd_str key);
struct dest *dest_obtain(struct chat_worker *, const struct dest_key *); /**< NULL: no memory */
void dest_drop_if_idle(struct chat_worker *, struct dest *);
/** NULL: no memory. */
struct dest_op *dest_op(struct chat_worker *from, int32_t to, struct chatd_str key);
/** Takes it, and its reference to .msg. */
chatd_status dest_op_send(struct dest_op *, void (*run)(struct dest_op *));
struct chatd_str dest_op_key(const struct dest_op *);
/** To every subscriber that this worker has. */
void dest_fan_out(struct chat_worker *, struct dest *, chatd_msg *);

/* ---- work.c, at the home of a work queue ------------------------------------ */

/** NULL: no memory. */
struct dest *work_home(struct chat_worker *, struct chatd_str key, const struct chat_prefix *);
chatd_status work_join(const struct dest_op *, struct dest *); /**< -ENOMEM */
void work_leave(const struct dest_op *, struct dest *);

#endif
