/* SPDX-License-Identifier: Apache-2.0 */
#include "host/end.h"

#include "base/log.h"
#include "chat/slots.h"
#include "host/lent.h"
#include "host/memory.h"
#include "host/patience.h"
#include "loop/worker.h"

#include <time.h>

enum {
	LOOK_MS = 10,
	WAIT_MS = 5000, /* for one that could not start; nobody else is served meanwhile */
};

static void end_on_worker(chatd_worker *w, void *arg)
{
	chatd_ctx *c = arg;
	struct worker_mark mark;
	worker_enter(w, &mark, c->name, "worker_stop");
	slots_drop(chat_at(w), c->index);
	if (c->started && c->plugin->worker_stop) {
		c->plugin->worker_stop(c->self, w, chat_at(w)->wself[c->index]);
	}
	worker_leave(w, &mark);
}

void end_begin(struct host *h, chatd_ctx *c)
{
	atomic_store(&c->state, CHATD_PLUGIN_DRAINS);
	lent_withdraw(h, c);
	loop_run_all(h->loop, end_on_worker, c);
	c->started = 0;
	slots_free(h->chat, c->index); /* a session that ends from now on has nothing of it */
}

static int has_stopped(const chatd_ctx *c)
{
	return atomic_load(&c->state) == CHATD_PLUGIN_DRAINS && !c->started;
}

static int is_busy(const chatd_ctx *c)
{
	return c->inited && c->self && CHATD_HAS(c->plugin, busy) && c->plugin->busy(c->self);
}

/* Whose a call is, its code says; other instances of the file that are there are waited for, too. */
static bool is_of_idle(const void *arg, const void *code)
{
	const struct host *h = arg;
	int owner = memory_owner(code);
	for (size_t i = 0; owner >= 0 && i < h->n; i++) {
		if (h->inst[i]->idle && h->inst[i]->module->index == (size_t)owner) {
			return true;
		}
	}
	return false;
}

/* What one has posted from one worker to another may come there after its worker_stop(), and post
 * again; what it asked others for is answered some time.  As at the server's end, all of that comes
 * before fini().  One look for all of them: behind a full mailbox it takes a while. */
static int look(struct host *h)
{
	const struct loop_whose whose = { .is = is_of_idle, .arg = h };
	int n = 0;
	for (size_t i = 0; i < h->n; i++) {
		chatd_ctx *c = h->inst[i];
		c->idle = has_stopped(c) && !is_busy(c);
		n += c->idle;
	}
	return n > 0 && loop_quiet(h->loop, &whose);
}

static void finish(struct host *h, chatd_ctx *c)
{
	if (c->inited && c->self && c->plugin->fini) {
		patience_begin(h->patience, c->name, "fini()", 1);
		c->plugin->fini(c->self);
		patience_end(h->patience);
	}
	c->inited = 0;
	atomic_store(&c->state, CHATD_PLUGIN_OFF);
}

int end_settle(struct host *h)
{
	int left = 0, quiet = look(h);
	for (size_t i = h->n; i-- > 0;) { /* users before those whose services they use */
		chatd_ctx *c = h->order[i];
		if (!has_stopped(c)) {
			continue;
		}
		if (quiet && c->idle && left == 0) {
			finish(h, c);
		} else {
			left++;
		}
	}
	return left;
}

void end_wait(struct host *h)
{
	int64_t end = worker_clock_ms() + WAIT_MS;
	while (end_settle(h) > 0) {
		if (worker_clock_ms() >= end) {
			log_write(CHATD_LOG_WARN, "core",
					"a plugin that could not start waits for an answer still, and ends when that has "
					"come");
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
	}
}
