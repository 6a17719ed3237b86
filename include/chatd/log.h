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
};

#ifdef __cplusplus
}
#endif
#endif
