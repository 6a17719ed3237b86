/* SPDX-License-Identifier: Apache-2.0 */
/* Can be turned on and off.  It sees each message to /topic/live: "wait 300" is answered so many ms
 * later, any other gets the headers `seen` and `version` in its RECEIPT; /app/live answers the same.
 * "crash" is what it does then.  When it stops it posts from worker to worker, has the pool work, and
 * waits for an answer: all of that comes before its fini(). */
#include <chatd/plugin.h>
#include <chatd/stream.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef VERSION
#define VERSION "1.0"
#endif
#ifdef TIED
#define APP "tied"
#else
#define APP "live"
#endif

struct conf {
	const char *word, *fixed;
	int64_t number;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const char *word; /* changed by reload() while workers read it: good enough for a test */
	void *block;
	atomic_int posted; /* under way */
	atomic_int asked;  /* likewise, at somebody of whom the server knows nothing */
};

struct worker {
	int64_t waiting;
};

struct waiting {
	const struct chatd_host *h;
	struct worker *lw;
	chatd_watch *watch;
	chatd_token token;
};

static void end_wait(struct waiting *x)
{
	x->h->unwatch(x->watch);
	x->lw->waiting--;
	x->h->mem_free(x);
}

static void on_cancel(void *arg)
{
	end_wait(arg);
}

static void on_time(void *arg)
{
	struct waiting *x = arg;
	chatd_token token = x->token;
	const struct chatd_host *h = x->h;
	if (h->resume(token, CHATD_NEXT, NULL, NULL) == 0) {
		end_wait(x);
	}
}

static chatd_verdict wait_for(chatd_call *call, const struct self *self, struct worker *lw, int ms)
{
	const struct chatd_host *h = self->h;
	struct waiting *x = h->mem_alloc(sizeof(*x));
	if (!x) {
		return -ENOMEM;
	}
	x->h = h;
	x->lw = lw;
	lw->waiting++;
	x->watch = h->watch_time(h->call_worker(call), ms, 0, on_time, x);
	x->token = h->suspend(call, on_cancel, x);
	return x->token ? CHATD_WAIT : -EBUSY;
}

static void mark(chatd_call *call, const struct self *self)
{
	const char *word = __atomic_load_n(&self->word, __ATOMIC_ACQUIRE);
	self->h->reply(call, "seen", chatd_str_of(word, strlen(word)));
	self->h->reply(call, "version", CHATD_LIT(VERSION));
}

static chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	chatd_msg *m = self->h->call_msg(call);
	struct chatd_str dest = self->h->msg_dest(m), body = self->h->msg_body(m);
	if (dest.n != 11 || memcmp(dest.p, "/topic/live", 11) != 0) {
		return CHATD_NEXT;
	}
	if (body.n > 5 && body.n < 16 && memcmp(body.p, "wait ", 5) == 0) {
		char number[16] = "";
		memcpy(number, body.p + 5, body.n - 5);
		return wait_for(call, self, wself, atoi(number));
	}
	if (body.n == 5 && memcmp(body.p, "crash", 5) == 0) {
		abort();
	}
	mark(call, self);
	return CHATD_NEXT;
}

static chatd_verdict on_app(chatd_call *call, void *selfp, void *wself)
{
	(void)wself;
	mark(call, selfp);
	return CHATD_ACCEPT;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*ret_self = self;
	*self = (struct self){ .h = h, .ctx = ctx, .word = conf->word, .block = h->mem_alloc(100000) };
	chatd_status rc = h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_message_in);
	if (rc == 0) {
		rc = h->app(ctx, APP, on_app);
	}
#ifdef FAILS
	if (rc == 0) {
		rc = h->fail(ctx, -EIO, "this version never starts");
	}
#endif
	if (rc == 0 && strcmp(conf->fixed, "fails") == 0) {
		rc = h->fail(ctx, -EINVAL, "told to fail");
	}
	return rc;
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	const struct self *self = selfp;
	(void)w;
	(void)wself;
	return self->block ? 0 : -ENOMEM;
}

static chatd_status reload(void *selfp, const void *confp)
{
	struct self *self = selfp;
	const struct conf *conf = confp;
	if (strcmp(conf->word, "no") == 0) {
		return self->h->fail(self->ctx, -EINVAL, "\"no\" is no word");
	}
	__atomic_store_n(&self->word, conf->word, __ATOMIC_RELEASE);
	return 0;
}

/* Goes from worker to worker, and over the pool. */
struct last_word {
	struct self *self;
	int32_t to, stops;
};

enum { STOPS = 12 };

static void on_last_word(void *arg);

static void last_word_end(struct last_word *x)
{
	atomic_fetch_sub(&x->self->posted, 1);
	x->self->h->mem_free(x);
}

static void pass_on(struct last_word *x)
{
	const struct chatd_host *h = x->self->h;
	x->to = (x->to + 1) % h->worker_count();
	if (x->stops-- == 0 || h->post(h->worker_at(x->to), on_last_word, x) < 0) {
		last_word_end(x);
	}
}

static void work(void *arg)
{
	(void)arg;
	nanosleep(&(struct timespec){ .tv_nsec = 60000000 }, NULL);
}

static void on_worked(void *arg)
{
	pass_on(arg);
}

static void on_last_word(void *arg)
{
	struct last_word *x = arg;
	const struct chatd_host *h = x->self->h;
	if (x->stops != STOPS / 2) {
		nanosleep(&(struct timespec){ .tv_nsec = 3000000 },
				NULL); /* fini() would come first otherwise */
		pass_on(x);
	} else if (h->offload(h->worker_at(x->to), work, on_worked, x) < 0) {
		last_word_end(x);
	}
}

/* A thread that answers in its own time. */
static void *answer_late(void *arg)
{
	struct self *self = arg;
	nanosleep(&(struct timespec){ .tv_nsec = 150000000 }, NULL);
	atomic_fetch_sub(&self->asked, 1);
	return NULL;
}

static void ask(struct self *self)
{
	pthread_t thread;
	atomic_fetch_add(&self->asked, 1);
	if (pthread_create(&thread, NULL, answer_late, self) == 0) {
		pthread_detach(thread);
	} else {
		atomic_fetch_sub(&self->asked, 1);
	}
}

static int32_t busy(void *selfp)
{
	return atomic_load(&((struct self *)selfp)->asked) > 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	const struct worker *lw = wself;
	struct last_word *x = self->h->mem_alloc(sizeof(*x));
	if (x) {
		*x = (struct last_word){ self, self->h->worker_index(w), STOPS };
		atomic_fetch_add(&self->posted, 1);
		pass_on(x);
	}
	if (self->h->worker_index(w) == 0 && self->h->stopping() == CHATD_SERVES) {
		ask(self);
	}
	if (lw->waiting || self->h->worker_at(self->h->worker_index(w)) != w) {
		self->h->log(self->ctx, CHATD_LOG_ERROR, "stopped while calls wait");
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	if (atomic_load(&self->posted) || atomic_load(&self->asked)) {
		h->log(self->ctx, CHATD_LOG_ERROR, "ends while something is under way");
	}
	h->log(self->ctx, CHATD_LOG_INFO, "gone");
	h->mem_free(self->block);
	self->h = NULL; /* whoever calls a hook now crashes */
	h->mem_free(self);
}

static const struct chatd_opt opts[] = {
	{ .key = "word",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_LIVE,
			.offset = offsetof(struct conf, word),
			.fallback = "hello",
			.doc = "What it says." },
	{ .key = "number",
			.type = CHATD_T_INT,
			.flags = CHATD_O_LIVE,
			.offset = offsetof(struct conf, number),
			.fallback = "1",
			.max = 10,
			.doc = "A number." },
	{ .key = "fixed",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, fixed),
			.fallback = "",
			.doc = "Read at the start." },
	{ 0 },
};

#ifdef TIED
static const char *const tied_by[] = { CHATD_NET, NULL };
#endif

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE,
#ifdef TIED
	.name = "tied",
	.needs = tied_by,
#else
	.name = "live",
#endif
	.version = VERSION,
	.summary = "can be turned on and off",
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.init = init,
	.worker_start = worker_start,
	.reload = reload,
	.worker_stop = worker_stop,
	.fini = fini,
	.busy = busy,
};
