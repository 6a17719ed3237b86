/* SPDX-License-Identifier: Apache-2.0 */
#include "host/change.h"

#include "base/log.h"
#include "base/str.h"
#include "host/notify.h"
#include "host/turn.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
	LOOK_MS = 20,  /* how often it is looked whether those who end have answered */
	TEND_MS = 200, /* whether an older version is needed still */
};

/* Asked on a worker, done on main, answered on the worker. */
struct host_change {
	struct host_change *next;
	chatd_worker *home;
	int32_t what;
	int draining; /* it was done, but for those who still wait for an answer */
	int by_signal;
	char *name, *assignment;
	chatd_plugins_done *done;
	void *arg;
	chatd_status rc;
	struct change_text text;
};

static void change_free(struct host_change *c)
{
	free(c->name);
	free(c->assignment);
	free(c);
}

static int copy_wish(struct host_change *c, const struct chatd_plugins_change *wish)
{
	c->name = strndup(wish->name.p ? wish->name.p : "", wish->name.n);
	if (!c->name ||
			asprintf(&c->assignment, "plugins.%s.%.*s=%.*s", c->name, (int)wish->key.n,
					wish->key.p ? wish->key.p : "", (int)wish->value.n,
					wish->value.p ? wish->value.p : "") < 0) {
		c->assignment = NULL;
		return -ENOMEM;
	}
	return 0;
}

static void append(struct host *h, struct host_change *c)
{
	pthread_mutex_lock(&h->lock);
	struct host_change **at = &h->changes;
	while (*at) {
		at = &(*at)->next;
	}
	*at = c;
	pthread_mutex_unlock(&h->lock);
}

chatd_status change_ask(void *host, chatd_worker *w, const struct chatd_plugins_change *given,
		chatd_plugins_done *done, void *arg)
{
	struct host *h = host;
	struct chatd_plugins_change wish = { 0 };
	memcpy(&wish, given, given->struct_size < sizeof(wish) ? given->struct_size : sizeof(wish));
	struct host_change *c = calloc(1, sizeof(*c));
	if (!c) {
		return -ENOMEM;
	}
	*c = (struct host_change){ .home = w, .what = wish.what, .done = done, .arg = arg };
	if (copy_wish(c, &wish) < 0) {
		change_free(c);
		return -ENOMEM;
	}
	append(h, c);
	(void)eventfd_write(h->wake_fd, 1);
	return 0;
}

/* However often it is asked for, one that has not begun will do. */
void host_ask_to_reload(struct host *h)
{
	int waits = 0;
	pthread_mutex_lock(&h->lock);
	for (const struct host_change *at = h->changes; at; at = at->next) {
		waits |= at->by_signal && !at->draining;
	}
	pthread_mutex_unlock(&h->lock);
	if (waits) {
		return;
	}
	struct host_change *c = calloc(1, sizeof(*c));
	if (!c) {
		log_write(CHATD_LOG_ERROR, "core", "SIGHUP: no memory: all goes on as before");
		return;
	}
	*c = (struct host_change){ .what = CHATD_PLUGINS_RELOAD, .by_signal = 1 };
	notify_reloading();
	append(h, c);
}

static void on_answer(void *arg)
{
	struct host_change *c = arg;
	c->done(c->arg, c->rc, c->text.p);
	change_free(c);
}

enum { ANSWER_MS = 5000 }; /* after what was under way has been cut off */

/* What a plugin asked others for is answered some time; then it stops, see turn_tend(). */
static int settle(struct host *h, struct host_change *c)
{
	if (turn_settle(h) == 0) {
		return 0;
	}
	if (worker_clock_ms() - h->drains_since < h->server->drain_timeout + ANSWER_MS) {
		return -EINPROGRESS;
	}
	size_t n = strlen(c->text.p);
	snprintf(c->text.p + n, sizeof(c->text.p) - n,
			"\nit waits for an answer still, and stops when that has come");
	return 0;
}

static int perform(struct host *h, struct host_change *c)
{
	if (c->draining) {
		return settle(h, c);
	}
	switch (c->what) {
	case CHATD_PLUGINS_ENABLE:
		return live_enable(h, c->name, &c->text);
	case CHATD_PLUGINS_DISABLE:
		return live_disable(h, c->name, &c->text);
	case CHATD_PLUGINS_SET:
		return live_set(h, c->name, c->assignment, &c->text);
	case CHATD_PLUGINS_LOAD:
	case CHATD_PLUGINS_LOAD_AT_ONCE:
		return live_load(h, c->name, c->what == CHATD_PLUGINS_LOAD_AT_ONCE, &c->text);
	case CHATD_PLUGINS_RELOAD:
	case CHATD_PLUGINS_REHEARSE:
		return live_reread(h, c->what == CHATD_PLUGINS_REHEARSE, &c->text);
	default:
		snprintf(c->text.p, sizeof(c->text.p), "this server knows no such change");
		return -EINVAL;
	}
}

/* Each line of what came of it is one of the log. */
static void log_lines(const struct host_change *c)
{
	const char *who = c->by_signal ? "SIGHUP: " : c->what == CHATD_PLUGINS_RELOAD ? "reload: " : "";
	for (const char *at = c->text.p; *at;) {
		int n = (int)strcspn(at, "\n");
		log_write(c->rc >= 0           ? CHATD_LOG_INFO
						: c->by_signal ? CHATD_LOG_ERROR
									   : CHATD_LOG_WARN,
				"core", "%s%.*s", who, n, at);
		at += n + (at[n] == '\n');
	}
}

static void finish(struct host *h, struct host_change *c)
{
	if (c->what != CHATD_PLUGINS_REHEARSE) {
		log_lines(c);
	}
	pthread_mutex_lock(&h->lock);
	h->changes = c->next;
	pthread_mutex_unlock(&h->lock);
	if (c->by_signal) {
		(void)notify_send("READY=1");
		change_free(c);
	} else if (worker_post(c->home, on_answer, c) < 0) {
		change_free(c);
	}
}

int64_t host_do_changes(struct host *h)
{
	eventfd_t drained;
	pthread_mutex_lock(&h->lock);
	struct host_change *c = h->changes;
	pthread_mutex_unlock(&h->lock);
	if (!host_asked_to_stop(h)) {
		(void)eventfd_read(h->wake_fd, &drained);
	}
	if (!c) {
		return turn_tend(h) ? TEND_MS : -1;
	}
	c->rc = perform(h, c);
	c->draining = c->rc == -EINPROGRESS;
	if (c->draining) {
		return LOOK_MS;
	}
	finish(h, c);
	return 0;
}

void change_forget(struct host *h)
{
	while (h->changes) {
		struct host_change *next = h->changes->next;
		change_free(h->changes);
		h->changes = next;
	}
}
