/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/log.h
 * @brief Conversations as subscribers see them: rows of the store, published in order.
 *
 * For plugins that write rows themselves, such as room events.  The order holds because all
 * rows of a conversation are given to the store, and published, on one worker, its home.
 * Provided by "chat" where there is a store.
 */
#ifndef CHATD_LOG_H
#define CHATD_LOG_H

#include <chatd/plugin.h>
#include <chatd/store.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_LOG "chatd.log/1"

/** [worker: the home] A row: for watch() one of kind CHATD_STORE_EVENT that another node has
 *  written.  Borrowed; .body is the JSON without seq. */
typedef void chatd_log_event(void *arg, chatd_worker *, const struct chatd_store_message *);

/** @p code NULL: it is gone; else a constant as in a refused SEND, and why. */
typedef void chatd_log_removed(void *arg, const char *code, const char *why);

struct chatd_log_remove {
	uint32_t struct_size;
	struct chatd_str message; /**< its id */
	const chatd_ident *by;    /**< whose right it is, unless .over */
	int32_t over;             /**< 1: its right comes from elsewhere, and was checked */
};

struct chatd_log {
	uint32_t struct_size;
	/** [any] The home of a conversation: ask the store there, publish there. */
	chatd_worker *(*home)(void *obj, const struct chatd_store_conv *);
	/** [worker: the home] A row that was committed goes to /topic/room/ID, or to
	 *  /user/queue/messages of both users, with the headers seq, epoch and (direct) cursor.
	 *  Call it in the order in which the store answered.  Of @p row are needed: .kind, .conv,
	 *  .seq, .pos, .id, .sender, .body, .flags.  Nothing is kept. */
	chatd_status (*publish)(void *obj, chatd_worker *, const struct chatd_store_message *row,
			struct chatd_str epoch);
	/** [main] In init().  In a cluster: fn hears of room events of other nodes, in their order
	 *  and perhaps more than once, so that what they mean can be done here too. */
	chatd_status (*watch)(void *obj, chatd_log_event *fn, void *arg);
	/** [worker] As if .by had sent it to /app/chat.delete.  fn runs once, later, on this worker,
	 *  unless an error is returned. */
	chatd_status (*remove)(void *obj, chatd_worker *, const struct chatd_log_remove *,
			chatd_log_removed *fn, void *arg);
	/** [main] In init().  fn hears of every row that this node has written, of any kind, at its
	 *  home and once; in a cluster, each row is told on one node.  -ENOSPC: 16 hear already. */
	chatd_status (*stored)(void *obj, chatd_log_event *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif
