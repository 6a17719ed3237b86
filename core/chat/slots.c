/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/slots.h"

#include "chat/session.h"
#include "chat/session_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t count(const struct chat *chat)
{
	return atomic_load_explicit(&chat->n_slots, memory_order_acquire);
}

/* A place of that size whose owner has gone; SLOTS_MAX: none. */
static uint32_t vacant(const struct chat *chat, size_t size)
{
	uint32_t i = 0, n = count(chat);
	while (i < n && (chat->slot[i].inst != SLOT_VACANT || chat->slot[i].size != size)) {
		i++;
	}
	return i < n ? i : SLOTS_MAX;
}

chatd_status slots_add(
		struct chat *chat, uint32_t inst, size_t size, void (*drop)(void *), uint32_t *ret_slot)
{
	size_t room = (size + 15) & ~(size_t)15;
	uint32_t i = vacant(chat, room), n = count(chat);
	if (i == SLOTS_MAX && n == SLOTS_MAX) {
		return -ENOSPC;
	}
	i = i == SLOTS_MAX ? n : i;
	struct chat_slot *slot = &chat->slot[i];
	if (i == n) {
		slot->offset = (uint32_t)chat->slot_bytes;
		slot->size = room;
		if (!chat->slots_frozen) { /* later workers read it */
			chat->slot_bytes += room;
		}
	}
	slot->inst = inst;
	atomic_store_explicit(&slot->drop, drop, memory_order_release);
	if (i == n) {
		atomic_store_explicit(&chat->n_slots, n + 1, memory_order_release);
	}
	*ret_slot = i;
	return 0;
}

void slots_freeze(struct chat *chat)
{
	chat->slots_frozen = 1;
	chat->n_inline = count(chat);
}

void slots_free(struct chat *chat, uint32_t inst)
{
	for (uint32_t i = 0; i < count(chat); i++) {
		if (chat->slot[i].inst == inst) {
			atomic_store_explicit(&chat->slot[i].drop, NULL, memory_order_release);
			chat->slot[i].inst = SLOT_VACANT;
		}
	}
}

/* ---- of a session ----------------------------------------------------------------------- */

int slots_begin(chatd_session *s)
{
	const struct chat *chat = s->cw->chat;
	uint32_t n = count(chat);
	if (n == chat->n_inline) {
		return 0;
	}
	if (!s->late) {
		s->late = calloc(SLOTS_MAX - chat->n_inline, sizeof(void *));
	}
	for (uint32_t i = chat->n_inline; s->late && i < n; i++) {
		void **p = &s->late[i - chat->n_inline];
		*p = *p ? *p : calloc(1, chat->slot[i].size ? chat->slot[i].size : 1);
		if (!*p) {
			return -ENOMEM;
		}
	}
	return s->late ? 0 : -ENOMEM;
}

static void *piece(chatd_session *s, uint32_t i)
{
	const struct chat *chat = s->cw->chat;
	if (i < chat->n_inline) {
		return s->slots + chat->slot[i].offset;
	}
	return s->late ? s->late[i - chat->n_inline] : NULL;
}

static void drop_one(chatd_session *s, uint32_t i)
{
	void (*drop)(void *) = atomic_load_explicit(&s->cw->chat->slot[i].drop, memory_order_acquire);
	void *p = piece(s, i);
	if (drop && p) {
		drop(p);
	}
}

void slots_end(chatd_session *s)
{
	const struct chat *chat = s->cw->chat;
	uint32_t n = count(chat);
	for (uint32_t i = n; i-- > 0;) {
		drop_one(s, i);
	}
	for (uint32_t i = chat->n_inline; s->late && i < n; i++) {
		free(s->late[i - chat->n_inline]);
	}
	free(s->late);
	s->late = NULL;
}

void *session_slot(chatd_session *s, uint32_t slot)
{
	return piece(s, slot);
}

/* ---- of all sessions of a worker ---------------------------------------------------------- */

static int extend_one(chatd_session *s, void *arg)
{
	(void)arg;
	return slots_begin(s);
}

int slots_extend(struct chat_worker *cw)
{
	return sessions_each(cw, extend_one, NULL);
}

static int empty_one(chatd_session *s, void *arg)
{
	const struct chat *chat = s->cw->chat;
	const uint32_t *inst = arg;
	for (uint32_t i = count(chat); i-- > 0;) {
		void *p = chat->slot[i].inst == *inst ? piece(s, i) : NULL;
		if (p) {
			drop_one(s, i);
			memset(p, 0, chat->slot[i].size);
		}
	}
	return 0;
}

void slots_drop(struct chat_worker *cw, uint32_t inst)
{
	(void)sessions_each(cw, empty_one, &inst);
}
