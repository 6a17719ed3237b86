/* SPDX-License-Identifier: Apache-2.0 */
#include "host/change.h"

#include "base/log.h"
#include "base/str.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* Asked on a worker, done on main, answered on the worker. */
struct host_change {
	struct host_change *next;
	chatd_worker *home;
	int32_t what;
	int draining; /* it was begun, and waits */
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
	pthread_mutex_lock(&h->lock);
	struct host_change **at = &h->changes;
	while (*at) {
		at = &(*at)->next;
	}
	*at = c;
	pthread_mutex_unlock(&h->lock);
	(void)eventfd_write(h->wake_fd, 1);
	return 0;
}

static void on_answer(void *arg)
{
	struct host_change *c = arg;
	c->done(c->arg, c->rc, c->text.p);
	change_free(c);
}

static int perform(struct host *h, struct host_change *c)
{
	if (c->draining) {
		return live_drained(h, c->name, &c->text) ? 0 : -EINPROGRESS;
	}
	switch (c->what) {
	case CHATD_PLUGINS_ENABLE:
		return live_enable(h, c->name, &c->text);
	case CHATD_PLUGINS_DISABLE:
		return live_disable(h, c->name, &c->text);
	case CHATD_PLUGINS_SET:
		return live_set(h, c->name, c->assignment, &c->text);
	default:
		snprintf(c->text.p, sizeof(c->text.p), "this server knows no such change");
		return -EINVAL;
	}
}

int host_do_changes(struct host *h)
{
	eventfd_t drained;
	pthread_mutex_lock(&h->lock);
	struct host_change *c = h->changes;
	pthread_mutex_unlock(&h->lock);
	if (!host_asked_to_stop(h)) {
		(void)eventfd_read(h->wake_fd, &drained);
	}
	if (!c) {
		return 0;
	}
	c->rc = perform(h, c);
	c->draining = c->rc == -EINPROGRESS;
	if (c->draining) {
		return 1;
	}
	log_write(c->rc < 0 ? CHATD_LOG_WARN : CHATD_LOG_INFO, "core", "%s", c->text.p);
	pthread_mutex_lock(&h->lock);
	h->changes = c->next;
	int more = h->changes != NULL;
	pthread_mutex_unlock(&h->lock);
	if (worker_post(c->home, on_answer, c) < 0) {
		change_free(c);
	}
	return more;
}

void change_forget(struct host *h)
{
	while (h->changes) {
		struct host_change *next = h->changes->next;
		change_free(h->changes);
		h->changes = next;
	}
}
