/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two things make this more than uv_run():
 *
 * - What libwebsockets changes in the loop from outside (a wish to write, a new timer) reaches
 *   the kernel only with the next uv_run(), so whoever does that kicks the pump.
 * - The libuv part of libwebsockets 4.1.6 has work that no descriptor announces: input that
 *   permessage-deflate or TLS holds back.  It looks after it in an idle handle that it does not
 *   arm again, so that a compressed message of more than about 4 KB stops for ever.  Hence
 *   that work is forced here until there is none.
 */
#include "pump.h"

#include <errno.h>

enum {
	ROUNDS = 8,     /* of the loop at a time, so that others get their share */
	FORCED = 64,    /* rounds of forced work, likewise */
	CLOSING = 1000, /* rounds in which handles close at the end */
};

/* Exported, but in no public header. */
int _lws_plat_service_forced_tsi(struct lws_context *context, int tsi);

static void on_ready(void *arg, uint32_t ready)
{
	(void)ready;
	pump_run(arg);
}

static void on_time(void *arg)
{
	pump_run(arg);
}

int pump_start(struct pump *p, const struct chatd_host *host, chatd_worker *worker)
{
	p->host = host;
	p->worker = worker;
	int rc = uv_loop_init(&p->loop);
	if (rc < 0)
		return rc;
	p->watch = host->watch_fd(worker, uv_backend_fd(&p->loop), 1, on_ready, p);
	if (p->watch)
		return 0;
	uv_loop_close(&p->loop);
	return -ENOMEM;
}

void pump_kick(struct pump *p)
{
	if (p->running)
		p->again = true;
	else
		p->host->timer_set(p->worker, &p->timer, 0, on_time, p);
}

/* True: there is more of it. */
static bool force(struct pump *p)
{
	for (int i = 0; i < FORCED; i++) {
		if (!p->context || lws_service_adjust_timeout(p->context, 1, 0))
			return false;
		_lws_plat_service_forced_tsi(p->context, 0);
	}
	return true;
}

void pump_run(struct pump *p)
{
	int wait = 0;
	if (p->running) {
		p->again = true;
		return;
	}
	p->running = true;
	for (int i = 0; i < ROUNDS && wait == 0; i++) {
		p->again = false;
		uv_run(&p->loop, UV_RUN_NOWAIT);
		bool more = force(p);
		wait = more || p->again ? 0 : uv_backend_timeout(&p->loop);
	}
	p->running = false;
	if (wait >= 0)
		p->host->timer_set(p->worker, &p->timer, wait, on_time, p);
	else
		p->host->timer_clear(&p->timer);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void run_down(struct pump *p)
{
	for (int i = 0; i < CLOSING && uv_run(&p->loop, UV_RUN_NOWAIT); i++)
		continue;
}

bool pump_stop(struct pump *p)
{
	struct lws_context *context = p->context;
	p->context = NULL;
	p->running = true; /* no callback may come back in here */
	if (context) {
		/* Handles close in the loop; only then may the context's memory go. */
		lws_context_destroy(context);
		run_down(p);
		lws_context_destroy(context);
	}
	uv_walk(&p->loop, close_handle, NULL);
	run_down(p);
	p->host->timer_clear(&p->timer);
	p->host->unwatch(p->watch);
	p->watch = NULL;
	return uv_loop_close(&p->loop) == 0;
}
