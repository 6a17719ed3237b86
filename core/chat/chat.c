/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/chat.h"

#include "chat/dest.h"
#include "chat/stats.h"
#include "chat/users.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct chat_worker *chat_at(chatd_worker *w)
{
	return worker_data(w, WORKER_DATA_CHAT);
}

static int worker_init(struct chat *chat, int32_t i, struct loop *loop)
{
	struct chat_worker *cw = &chat->workers[i];
	cw->chat = chat;
	cw->w = loop_worker(loop, i);
	cw->index = i;
	cw->slots = call_slots_create((uint32_t)chat->conf.max_suspended);
	cw->dests = dest_table_create();
	cw->sessions = session_table_create();
	cw->users = user_table_create();
	cw->stats = calloc(STAT_COUNT, sizeof(*cw->stats));
	worker_set_data(cw->w, WORKER_DATA_CHAT, cw);
	return cw->slots && cw->dests && cw->sessions && cw->users && cw->stats ? 0 : -ENOMEM;
}

static void name_chains(struct chat *chat)
{
	enum { DECIDE, NOTIFY };
#define CHATD_X(num, hook, kind, wait, end)    \
	chat->chains[num].name = #hook;            \
	chat->chains[num].may_wait = wait;         \
	chat->chains[num].notify = kind == NOTIFY; \
	chat->chains[num].at_end = end;
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
}

struct chat *chat_create(const struct chat_conf *conf, struct loop *loop)
{
	struct chat *chat = calloc(1, sizeof(*chat));
	if (!chat) {
		return NULL;
	}
	chat->conf = *conf;
	name_chains(chat);
	chat->n_workers = loop_count(loop);
	chat->workers = calloc((size_t)chat->n_workers, sizeof(*chat->workers));
	chat->stats = stat_table_create();
	if (!chat->workers || !chat->stats) {
		stat_table_destroy(chat->stats);
		free(chat->workers);
		free(chat);
		return NULL;
	}
	for (int32_t i = 0; i < chat->n_workers; i++) {
		if (worker_init(chat, i, loop) < 0) {
			chat_destroy(chat);
			return NULL;
		}
	}
	call_set_chat(chat);
	return chat;
}

static int longer_first(const void *a, const void *b)
{
	const struct chat_prefix *x = a, *y = b;
	return x->n < y->n ? 1 : x->n > y->n ? -1 : strcmp(x->prefix, y->prefix);
}

static void sort_chain(struct chain *c)
{
	/* Insertion, because equal orders must stay in configuration order. */
	for (size_t i = 1; i < c->n; i++) {
		struct chain_hook h = c->hooks[i];
		size_t j = i;
		for (; j > 0 && c->hooks[j - 1].order > h.order; j--) {
			c->hooks[j] = c->hooks[j - 1];
		}
		c->hooks[j] = h;
	}
}

chatd_status chat_start(struct chat *chat)
{
	if (chat->n_prefixes) {
		qsort(chat->prefixes, chat->n_prefixes, sizeof(*chat->prefixes), longer_first);
	}
	for (int i = 0; i < chatd_hook_count; i++) {
		sort_chain(&chat->chains[i]);
	}
	return stat_table_freeze(chat);
}

void chat_worker_finish(struct chat_worker *cw)
{
	session_close_all(cw);
	call_slots_end(cw->slots);
	dest_stop(cw);
}

void chat_destroy(struct chat *chat)
{
	if (!chat) {
		return;
	}
	for (int32_t i = 0; i < chat->n_workers; i++) {
		dest_table_destroy(chat->workers[i].dests);
		session_table_destroy(chat->workers[i].sessions);
		user_table_destroy(chat->workers[i].users);
		free(chat->workers[i].stats);
		call_slots_destroy(chat->workers[i].slots);
	}
	for (int i = 0; i < chatd_hook_count; i++) {
		free(chat->chains[i].hooks);
	}
	call_set_chat(NULL);
	free(chat->prefixes);
	free(chat->apps);
	free(chat->slot);
	stat_table_destroy(chat->stats);
	free(chat->workers);
	free(chat);
}

long chat_session_count(const struct chat *chat)
{
	long n = 0;
	for (int32_t i = 0; i < chat->n_workers; i++) {
		n += atomic_load_explicit(&chat->workers[i].n_sessions, memory_order_relaxed);
	}
	return n;
}
