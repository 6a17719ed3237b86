/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file lane.h
 * @brief In which order a node of a cluster gives out what several nodes wrote.  Pure.
 *
 * A lane is one room, or the direct messages of one user, as this node's subscribers see them.
 * Each row has a place in it (a room's seq; of direct messages the place in the store) and
 * names the place before it.  Rows come from this node's own commits, from other nodes, which
 * may be late or twice, and from the store.  A row whose forerunner was given out is given out;
 * one that comes too early is kept for a moment, and if the forerunner does not come the caller
 * reads what is missing.
 */
#ifndef CHAT_LANE_H
#define CHAT_LANE_H

#include <stdint.h>
#include <sys/queue.h>

enum { LANE_KEPT_MAX = 1000, LANE_UNKNOWN = -1 };

/** A row that waits; part of something of the caller's. */
struct lane_row {
	TAILQ_ENTRY(lane_row) link;
	int64_t at;     /**< its place */
	int64_t before; /**< the place before it; LANE_UNKNOWN: only the store knows */
};

struct lane {
	int64_t last;                         /**< given out; LANE_UNKNOWN: the lane is not open yet */
	int64_t want;                         /**< the furthest place that is known to be there */
	TAILQ_HEAD(lane_rows, lane_row) kept; /**< by place */
	int32_t n_kept;
};

enum lane_verdict {
	LANE_GIVE, /**< now; lane_gave() follows, and then what lane_next() has */
	LANE_SKIP, /**< it was given out, or is kept already */
	LANE_KEEP, /**< the caller puts a copy in with lane_keep(), if lane_has_room() */
};

void lane_init(struct lane *);
/** Rows up to @p last count as given out. */
void lane_open(struct lane *, int64_t last);
enum lane_verdict lane_take(struct lane *, int64_t at, int64_t before);
void lane_gave(struct lane *, int64_t at);
int lane_has_room(const struct lane *);
void lane_keep(struct lane *, struct lane_row *);
/** The next kept row that may be given out or dropped (*ret_give 0), taken out; NULL: none. */
struct lane_row *lane_next(struct lane *, int *ret_give);
/** The store says that there is a row at @p at. */
void lane_hint(struct lane *, int64_t at);
/** The store was read: it has nothing beyond what was given, up to @p asked. */
void lane_filled(struct lane *, int64_t asked);
/** Something is missing. */
int lane_behind(const struct lane *);

#endif
