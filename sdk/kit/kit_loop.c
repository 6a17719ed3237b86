/* SPDX-License-Identifier: Apache-2.0 */
/* The loop below core/chat, without threads, descriptors or a real clock. */
#include "kit_impl.h"

#include <errno.h>
#include <stdlib.h>

enum {
	STEPS_MAX = 1000000,    /* posts that beget posts for ever */
	WALL_START = 1700000000 /* the fake date of the fake clock's zero, in seconds */
};

struct chatd_worker *worker_current(void)
{
	return kit_the()->here;
}

int32_t worker_index(const struct chatd_worker *w)
{
	return w->index;
}

void *worker_data(const struct chatd_worker *w, unsigned slot)
{
	return w->data[slot];
}

void worker_set_data(struct chatd_worker *w, unsigned slot, void *data)
{
	w->data[slot] = data;
}

int32_t loop_count(const struct loop *loop)
{
	return loop->k->n_workers;
}

struct chatd_worker *loop_worker(const struct loop *loop, int32_t i)
{
	struct kit *k = loop->k;
	return i >= 0 && i < k->n_workers ? &k->workers[i] : NULL;
}

int64_t wall_ms(void)
{
	return (int64_t)WALL_START * 1000 + kit_the()->now;
}

int64_t worker_now_ms(struct chatd_worker *w)
{
	return w->k->now;
}

void worker_enter(
		struct chatd_worker *w, struct worker_mark *mark, const char *who, const char *what)
{
	(void)w;
	kit_step_is(who, what);
	mark->who = who;
	mark->what = what;
	mark->since = 0;
}

void worker_next(struct chatd_worker *w, const char *who)
{
	(void)w;
	(void)who;
}

void worker_leave(struct chatd_worker *w, const struct worker_mark *mark)
{
	(void)w;
	(void)mark;
}

/* ---- posts --------------------------------------------------------------- */

struct post *worker_post_create(void)
{
	return malloc(sizeof(struct post));
}

int worker_post_with(struct chatd_worker *w, struct post *p, void (*fn)(void *arg), void *arg)
{
	p->next = NULL;
	p->fn = fn;
	p->arg = arg;
	*w->tail = p;
	w->tail = &p->next;
	return 0;
}

int worker_post(struct chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	struct post *p = worker_post_create();
	return p ? worker_post_with(w, p, fn, arg) : -ENOMEM;
}

int kit_step(struct kit *k, int32_t worker)
{
	chatd_worker *w = &k->workers[worker], *was = k->here;
	struct post *p = w->head;
	if (!p) {
		return 0;
	}
	w->head = p->next;
	if (!w->head) {
		w->tail = &w->head;
	}
	k->here = w;
	kit_step_is(k->plugin->name, "(a posted call)");
	p->fn(p->arg);
	k->here = was;
	free(p);
	return 1;
}

static int run_job(struct kit *k)
{
	struct kit_job *j = k->jobs;
	chatd_worker *was = k->here;
	if (!j || k->hold_offload) {
		return 0;
	}
	k->jobs = j->next;
	k->here = NULL;
	kit_step_is(k->plugin->name, "(on the pool)");
	j->work(j->arg);
	k->here = was;
	if (worker_post(j->w, j->done, j->arg) < 0) {
		kit_broken(k, "no memory for the test itself");
	}
	free(j);
	return 1;
}

void kit_run(struct kit *k)
{
	int busy = 1;
	if (k->running) { /* a callback that calls the kit: its caller goes on anyway */
		return;
	}
	k->running = 1;
	for (long n = 0; busy; n++) {
		busy = run_job(k);
		for (int32_t i = 0; i < k->n_workers; i++) {
			busy |= kit_step(k, i);
		}
		if (n == STEPS_MAX) {
			kit_broken(k, "posted calls make new ones without end");
		}
	}
	k->running = 0;
}

void kit_settle(struct kit *k)
{
	if (!k->manual) {
		kit_run(k);
	}
}

void kit_manual(struct kit *k, int on)
{
	k->manual = on;
	kit_settle(k);
}

void kit_hold_offload(struct kit *k, int on)
{
	k->hold_offload = on;
	kit_settle(k);
}

int worker_offload(
		struct chatd_worker *w, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
	struct kit_job *j = malloc(sizeof(*j)), **at = &w->k->jobs;
	if (!j) {
		return -ENOMEM;
	}
	*j = (struct kit_job){ .w = w, .work = work, .done = done, .arg = arg };
	while (*at) {
		at = &(*at)->next;
	}
	*at = j;
	return 0;
}

static void on_watch(void *arg);

/* ---- time ------------------------------------------------------------------ */

/* A timer does not know its worker, so who set it is noted beside it. */
struct kit_armed {
	struct chatd_timer *timer; /* first: timer->link points at it */
	struct kit_armed *next, **link;
	chatd_worker *w;
	void (*fn)(void *arg); /* its owner may be freed before it is looked for what is left */
};

static struct kit_armed *armed_of(const struct chatd_timer *t)
{
	return (struct kit_armed *)(void *)t->link;
}

void worker_timer_clear(struct chatd_timer *t)
{
	struct kit_armed *a = armed_of(t);
	if (a) {
		*a->link = a->next;
		if (a->next) {
			a->next->link = a->link;
		}
		t->link = NULL;
		free(a);
	}
}

void worker_timer_set(
		struct chatd_worker *w, struct chatd_timer *t, int64_t ms, void (*fn)(void *arg), void *arg)
{
	struct kit_armed *a = malloc(sizeof(*a)), **at = &w->k->timers;
	worker_timer_clear(t);
	if (!a) {
		kit_broken(w->k, "no memory for the test itself");
	}
	t->due = w->k->now + (ms > 0 ? ms : 0);
	t->fn = fn;
	t->arg = arg;
	t->link = &a->timer;
	while (*at && (*at)->timer->due <= t->due) {
		at = &(*at)->next;
	}
	*a = (struct kit_armed){ .timer = t, .next = *at, .link = at, .w = w, .fn = fn };
	if (a->next) {
		a->next->link = &a->next;
	}
	*at = a;
}

/* The next timer, if it is due by then. */
static int ring_next(struct kit *k, int64_t until)
{
	if (!k->timers || k->timers->timer->due > until) {
		return 0;
	}
	struct chatd_timer *t = k->timers->timer;
	chatd_worker *w = k->timers->w;
	k->now = t->due > k->now ? t->due : k->now;
	worker_timer_clear(t);
	k->here = w;
	kit_step_is(k->plugin->name, "(a timer)");
	t->fn(t->arg);
	k->here = NULL;
	return 1;
}

/* An answer that nobody has given in time, if that is before the next timer. */
static int expire_next(struct kit *k, int64_t until)
{
	int64_t due = kit_answers_due(k);
	if (due > until || (k->timers && k->timers->timer->due < due)) {
		return 0;
	}
	k->now = due > k->now ? due : k->now;
	kit_answers_expire(k);
	return 1;
}

void kit_advance(struct kit *k, int64_t ms)
{
	int64_t until = k->now + ms;
	kit_run(k);
	while (expire_next(k, until) || ring_next(k, until)) {
		kit_run(k);
	}
	k->now = until;
}

size_t kit_timers_left(struct kit *k)
{
	size_t n = 0;
	for (const struct kit_armed *a = k->timers; a; a = a->next) {
		if (a->fn != on_watch) { /* the kit's own, of a watch */
			n++;
			kit_took(k, KIT_TIMER, a->timer, 1,
					(const void *)((uintptr_t)a->fn + 1)); /* as behind a call */
		}
	}
	return n;
}

int64_t kit_now(const struct kit *k)
{
	return k->now;
}

/* ---- watches ---------------------------------------------------------------- */

static chatd_watch *watch_create(chatd_worker *w, void *arg)
{
	struct kit *k = w->k;
	chatd_watch *x = calloc(1, sizeof(*x));
	if (!x) {
		return NULL;
	}
	x->w = w;
	x->fd = -1;
	x->arg = arg;
	x->next = k->watches;
	x->link = &k->watches;
	if (x->next) {
		x->next->link = &x->next;
	}
	k->watches = x;
	return x;
}

static void on_watch(void *arg)
{
	chatd_watch *x = arg;
	chatd_worker *was = x->w->k->here;
	struct kit *k = x->w->k;
	k->here = x->w;
	if (x->repeat) {
		worker_timer_set(x->w, &x->timer, x->ms, on_watch, x);
	}
	x->on_time(x->arg);
	k->here = was;
}

chatd_watch *worker_watch_time(
		struct chatd_worker *w, int64_t ms, int32_t repeat, void (*fn)(void *arg), void *arg)
{
	chatd_watch *x = watch_create(w, arg);
	if (x) {
		x->ms = ms > 0 ? ms : 1;
		x->repeat = repeat;
		x->on_time = fn;
		worker_timer_set(w, &x->timer, x->ms, on_watch, x);
	}
	return x;
}

chatd_watch *worker_watch_fd(struct chatd_worker *w, int fd, uint32_t read1_write2,
		void (*fn)(void *arg, uint32_t ready), void *arg)
{
	chatd_watch *x = watch_create(w, arg);
	if (x) {
		x->fd = fd;
		x->mask = read1_write2;
		x->on_fd = fn;
	}
	return x;
}

void worker_unwatch(chatd_watch *x)
{
	if (!x) {
		return;
	}
	worker_timer_clear(&x->timer);
	*x->link = x->next;
	if (x->next) {
		x->next->link = x->link;
	}
	free(x);
}

void kit_fd_ready(struct kit *k, int fd, uint32_t read1_write2)
{
	for (chatd_watch *x = k->watches; x; x = x->next) {
		uint32_t ready = x->fd == fd ? x->mask & read1_write2 : 0;
		if (ready) {
			k->here = x->w;
			kit_step_is(k->plugin->name, "(a descriptor)");
			x->on_fd(x->arg, ready);
			k->here = NULL;
			break; /* it may have ended any watch */
		}
	}
	kit_settle(k);
}

/* ---- the end ------------------------------------------------------------------ */

void kit_loop_finish(struct kit *k)
{
	while (k->watches) {
		worker_unwatch(k->watches);
	}
	while (k->timers) { /* their owners may be freed already: only the notes go */
		struct kit_armed *next = k->timers->next;
		free(k->timers);
		k->timers = next;
	}
	while (k->jobs) {
		struct kit_job *next = k->jobs->next;
		free(k->jobs);
		k->jobs = next;
	}
	for (int32_t i = 0; i < k->n_workers; i++) {
		while (k->workers[i].head) {
			struct post *next = k->workers[i].head->next;
			free(k->workers[i].head);
			k->workers[i].head = next;
		}
	}
	free(k->workers);
}
