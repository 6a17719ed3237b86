/* SPDX-License-Identifier: Apache-2.0 */
/* Misbehaves on demand: a message to /topic/naughty or /app/naughty says how, as in "null";
 * options say what init() does and what every Nth message brings. */
#include <chatd/plugin.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct conf {
	int32_t init;  /* a way_init */
	int64_t after; /* every so many messages: .then */
	const char *then;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	pthread_t thread;
	int pipe[2];
};

struct worker {
	int64_t seen;
	chatd_token waiting, token;
	struct chatd_timer timer, later;
	char how[32];
};

enum { INIT_GOOD, INIT_FAIL, INIT_BUSY, INIT_HANG, INIT_NULL, INIT_RAISE, INIT_EXIT };
static const char *const inits[] = { "good", "fail", "busy", "hang", "null", "raise", "exit",
	NULL };

static const struct self *the_self;

static int overflow(volatile char *above)
{
	volatile char room[4096];
	room[0] = above ? above[0] : 1;
	return overflow(room) + room[0];
}

static void double_free(void)
{
	char *volatile p = malloc(64);
	char *volatile q = p;
	free(p);
	free(q);
}

static void spin(long ms)
{
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

static void offloaded(void *arg)
{
	(void)arg;
	*(volatile int *)NULL = 1;
}

static void nothing(void *arg)
{
	(void)arg;
}

static void in_timer(void *arg)
{
	(void)arg;
	*(volatile int *)NULL = 1;
}

/* 1: it was one of these, and came back. */
static int misbehave(chatd_worker *w, struct worker *nw, const char *how)
{
	char byte;
	if (strcmp(how, "null") == 0) {
		*(volatile int *)NULL = 1;
	} else if (strcmp(how, "abort") == 0) {
		abort();
	} else if (strcmp(how, "overflow") == 0) {
		return overflow(NULL) | 1;
	} else if (strcmp(how, "double-free") == 0) {
		double_free();
	} else if (strcmp(how, "exit") == 0) {
		exit(0);
	} else if (strcmp(how, "divide") == 0) {
		raise(SIGFPE);
	} else if (strncmp(how, "spin ", 5) == 0) {
		spin(atol(how + 5));
	} else if (strcmp(how, "read") == 0) {
		return read(the_self->pipe[0], &byte, 1) >= 0;
	} else if (strcmp(how, "offload") == 0) {
		return the_self->h->offload(w, offloaded, nothing, NULL) == 0;
	} else if (strcmp(how, "timer") == 0) {
		the_self->h->timer_set(w, &nw->timer, 1, in_timer, NULL);
	} else {
		return 0;
	}
	return 1;
}

static void in_time(void *arg)
{
	struct worker *nw = arg;
	(void)the_self->h->resume(nw->token, CHATD_NEXT, NULL, NULL);
}

/* Its answer comes a little later. */
static chatd_verdict wait_a_little(chatd_call *call, struct worker *nw)
{
	const struct chatd_host *h = the_self->h;
	nw->token = h->suspend(call, nothing, NULL);
	if (!nw->token) {
		return -EBUSY;
	}
	h->timer_set(h->call_worker(call), &nw->later, 500, in_time, nw);
	return CHATD_WAIT;
}

static chatd_verdict obey(chatd_call *call, struct worker *nw, const char *how)
{
	const struct chatd_host *h = the_self->h;
	if (strcmp(how, "error") == 0) {
		return -EIO;
	} else if (strcmp(how, "refused") == 0) {
		return -ECONNREFUSED;
	} else if (strcmp(how, "later") == 0) {
		return wait_a_little(call, nw);
	} else if (strcmp(how, "nonsense") == 0) {
		return 99;
	} else if (strcmp(how, "wait-without") == 0) {
		return CHATD_WAIT;
	} else if (strcmp(how, "never") == 0) {
		return h->suspend(call, nothing, NULL) ? CHATD_WAIT : -EBUSY;
	}
	misbehave(h->call_worker(call), nw, how);
	return CHATD_NEXT;
}

static chatd_verdict on_message_in(chatd_call *call, void *self, void *wself)
{
	const struct chatd_host *h = the_self->h;
	struct worker *nw = wself;
	chatd_msg *m = h->call_msg(call);
	struct chatd_str dest = h->msg_dest(m), body = h->msg_body(m);
	const struct conf *conf = the_self->conf;
	(void)self;
	if (conf->after && ++nw->seen >= conf->after) {
		nw->seen = 0;
		return obey(call, nw, conf->then);
	}
	if (dest.n != 14 || memcmp(dest.p, "/topic/naughty", 14) != 0 || body.n >= sizeof(nw->how)) {
		return CHATD_NEXT;
	}
	memcpy(nw->how, body.p, body.n);
	nw->how[body.n] = '\0';
	return obey(call, nw, nw->how);
}

static void *in_thread(void *arg)
{
	(void)arg;
	pause();
	return NULL;
}

static chatd_status do_init(const struct conf *conf)
{
	switch (conf->init) {
	case INIT_FAIL:
		return -1;
	case INIT_BUSY:
		return -EBUSY;
	case INIT_HANG:
		for (;;) {
			pause();
		}
	case INIT_NULL:
		*(volatile int *)NULL = 1;
		return 0;
	case INIT_RAISE:
		return raise(SIGABRT);
	case INIT_EXIT:
		exit(0);
	default:
		return 0;
	}
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	static struct self self;
	self.h = h;
	self.ctx = ctx;
	self.conf = conf;
	*ret_self = &self;
	the_self = &self;
	if (pipe(self.pipe) < 0 || pthread_create(&self.thread, NULL, in_thread, NULL) != 0) {
		return -errno;
	}
	chatd_status rc = do_init(conf);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
}

static atomic_int workers; /* that have started and not stopped */

static chatd_status worker_start(void *self, chatd_worker *w, void *wself)
{
	(void)self;
	(void)w;
	(void)wself;
	atomic_fetch_add(&workers, 1);
	return 0;
}

/* Only where it has started: not after an init() that failed. */
static void worker_stop(void *self, chatd_worker *w, void *wself)
{
	(void)self;
	(void)w;
	(void)wself;
	if (atomic_fetch_sub(&workers, 1) <= 0) {
		abort();
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	pthread_cancel(self->thread);
	pthread_join(self->thread, NULL);
	close(self->pipe[0]);
	close(self->pipe[1]);
	self->h->log(self->ctx, CHATD_LOG_INFO, "gone");
}

static const struct chatd_opt opts[] = {
	{ .key = "init",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, init),
			.choices = inits,
			.fallback = "good",
			.doc = "What init() does." },
	{ .key = "after",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, after),
			.fallback = "0",
			.doc = "Every so many messages, per worker; 0: never." },
	{ .key = "then",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, then),
			.fallback = "null",
			.doc = "What happens then." },
	{ 0 },
};

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
	.name = "naughty",
	.version = "1",
	.summary = "misbehaves on demand",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};
