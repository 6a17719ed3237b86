/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/slots.h
 * @brief Plugins' memory in each session.
 *
 * Those of the start lie behind the session.  One that comes while the server runs takes the place
 * of one that has gone, of the same size, or is a piece of its own of each session.
 */
#ifndef CHAT_SLOTS_H
#define CHAT_SLOTS_H

#include "chat/chat.h"

/** [main] In init().  -ENOSPC: there are too many. */
chatd_status slots_add(
		struct chat *, uint32_t inst, size_t size, void (*drop)(void *), uint32_t *ret_slot);
/** [main] No more lie behind the sessions. */
void slots_freeze(struct chat *);
/** [worker] Each session of its has a piece of each slot.  -ENOMEM. */
int slots_extend(struct chat_worker *);
/** [worker] What the instance holds in its sessions is dropped and zeroed. */
void slots_drop(struct chat_worker *, uint32_t inst);
/** [main] After that: others may have its places. */
void slots_free(struct chat *, uint32_t inst);

/** [worker] One session begins or ends.  -ENOMEM. */
int slots_begin(chatd_session *);
void slots_end(chatd_session *);

#endif
