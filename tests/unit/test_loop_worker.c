/* SPDX-License-Identifier: Apache-2.0 */
/* Workers: mailboxes, turns, timers, watches, the offload pool, stopping. */
#include "loop_kit.h"

#include <pthread.h>

#include "base/log.h"
#include "loop/wheel.h"

static void end(struct loop *loop)
{
	loop_stop(loop);
	loop_join(loop);
	loop_destroy(loop);
}

static struct loop *started(int workers)
{
	struct loop *loop = kit_loop(workers);
	assert_int_equal(loop_start(loop), 0);
	return loop;
}

/* ---- mailbox ----------------------------------------------------------- */

enum { THREADS = 6, PER_THREAD = 20000 };

struct sender {
	struct loop *loop;
	int32_t next[4]; /* per worker: the number that must come next; that worker's alone */
	atomic_int wrong, *done;
	pthread_t thread;
};

struct note {
	struct sender *from;
	int32_t number;
};

static void on_note(void *arg)
{
	struct note *note = arg;
	int32_t i = worker_index(worker_current());
	if (note->from->next[i]++ != note->number)
		atomic_fetch_add(&note->from->wrong, 1);
	atomic_fetch_add(note->from->done, 1);
	free(note);
}

static void *send_notes(void *arg)
{
	struct sender *s = arg;
	for (int32_t n = 0; n < PER_THREAD; n++) {
		for (int32_t i = 0; i < loop_count(s->loop); i++) {
			struct note *note = malloc(sizeof(*note));
			if (!note)
				abort();
			*note = (struct note){ s, n };
			if (worker_post(loop_worker(s->loop, i), on_note, note) < 0)
				abort();
		}
	}
	return NULL;
}

static void posts_of_each_thread_keep_their_order(void **state)
{
	int workers = *(int *)*state;
	struct loop *loop = started(workers);
	struct sender senders[THREADS];
	atomic_int done = 0;
	memset(senders, 0, sizeof(senders));
	for (int i = 0; i < THREADS; i++) {
		senders[i].loop = loop;
		senders[i].done = &done;
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_notes, &senders[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(senders[i].thread, NULL);
	WAIT_FOR(atomic_load(&done) == THREADS * PER_THREAD * workers);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(atomic_load(&senders[i].wrong), 0);
	end(loop);
}

struct ping {
	struct loop *loop;
	atomic_int left;
};

static void on_ping(void *arg)
{
	struct ping *p = arg;
	int32_t next = (worker_index(worker_current()) + 1) % loop_count(p->loop);
	if (atomic_fetch_sub(&p->left, 1) > 1)
		worker_post(loop_worker(p->loop, next), on_ping, p);
}

static void workers_that_sleep_are_woken(void **state)
{
	struct ping p = { .loop = started(*(int *)*state), .left = 20000 };
	worker_post(loop_worker(p.loop, 0), on_ping, &p);
	WAIT_FOR(atomic_load(&p.left) <= 0);
	end(p.loop);
}

struct nest {
	atomic_int inside, wrong, ran;
};

static void on_inner(void *arg)
{
	struct nest *n = arg;
	if (atomic_load(&n->inside))
		atomic_store(&n->wrong, 1);
	atomic_store(&n->ran, 1);
}

static void on_outer(void *arg)
{
	struct nest *n = arg;
	atomic_store(&n->inside, 1);
	worker_post(worker_current(), on_inner, n);
	atomic_store(&n->inside, 0);
}

static void a_post_to_oneself_runs_later(void **state)
{
	(void)state;
	struct nest n = { 0 };
	struct loop *loop = started(1);
	worker_post(loop_worker(loop, 0), on_outer, &n);
	WAIT_FOR(atomic_load(&n.ran));
	assert_int_equal(atomic_load(&n.wrong), 0);
	end(loop);
}

static void on_count(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void on_slow_count(void *arg)
{
	nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
	on_count(arg);
}

static void what_was_posted_before_the_stop_still_runs(void **state)
{
	atomic_int ran = 0;
	struct loop *loop = started(*(int *)*state);
	for (int32_t i = 0; i < loop_count(loop); i++) {
		worker_post(loop_worker(loop, i), on_slow_count, &ran);
		for (int n = 0; n < 999; n++)
			worker_post(loop_worker(loop, i), on_count, &ran);
	}
	loop_stop(loop);
	loop_join(loop);
	assert_int_equal(atomic_load(&ran), 1000 * loop_count(loop));
	assert_int_equal(worker_post(loop_worker(loop, 0), on_count, &ran), -ESHUTDOWN);
	loop_destroy(loop);
}

static void on_everywhere(struct chatd_worker *w, void *arg)
{
	atomic_int *seen = arg;
	if (worker_is_here(w))
		atomic_fetch_add(&seen[worker_index(w)], 1);
}

static void run_all_visits_every_worker_once(void **state)
{
	atomic_int seen[4] = { 0 };
	struct loop *loop = started(*(int *)*state);
	assert_int_equal(loop_run_all(loop, on_everywhere, seen), 0);
	for (int32_t i = 0; i < 4; i++)
		assert_int_equal(atomic_load(&seen[i]), i < loop_count(loop));
	assert_null(worker_current());
	assert_null(loop_worker(loop, loop_count(loop)));
	end(loop);
}

enum { ROUNDS = 2000 };

/* Each worker tells all others that it was here. */
struct tour {
	struct loop *loop;
	int32_t been[16]; /* by worker, its own: rounds that fn has begun there */
	atomic_int early, told;
};

struct telling {
	struct tour *tour;
	int32_t round;
};

static void on_telling(void *arg)
{
	struct telling *t = arg;
	if (t->tour->been[worker_index(worker_current())] < t->round)
		atomic_fetch_add(&t->tour->early, 1);
	atomic_fetch_add(&t->tour->told, 1);
	free(t);
}

static void tell_others(struct chatd_worker *w, void *arg)
{
	struct tour *tour = arg;
	int32_t round = ++tour->been[worker_index(w)];
	for (int32_t i = loop_count(tour->loop); i-- > 0;) {
		struct telling *t = malloc(sizeof(*t));
		if (!t)
			abort();
		*t = (struct telling){ tour, round };
		if (worker_post(loop_worker(tour->loop, i), on_telling, t) < 0)
			abort();
	}
}

static void what_is_posted_in_run_all_comes_after_it(void **state)
{
	int workers = *(int *)*state;
	struct tour tour = { .loop = started(workers) };
	for (int i = 0; i < ROUNDS; i++)
		assert_int_equal(loop_run_all(tour.loop, tell_others, &tour), 0);
	WAIT_FOR(atomic_load(&tour.told) == ROUNDS * workers * workers);
	assert_int_equal(atomic_load(&tour.early), 0);
	end(tour.loop);
}

static void a_loop_that_never_starts_leaks_nothing(void **state)
{
	atomic_int ran = 0;
	struct loop *loop = kit_loop(*(int *)*state);
	assert_int_equal(worker_post(loop_worker(loop, 0), on_count, &ran), 0);
	loop_destroy(loop);
	assert_int_equal(atomic_load(&ran), 0);
	loop_destroy(NULL);
}

/* ---- turns ------------------------------------------------------------- */

struct turns {
	struct chatd_worker *w;
	char order[64];
	size_t n;
	int left;
	atomic_int done, stopped;
};

static void put(struct turns *t, char c)
{
	if (t->n < sizeof(t->order) - 1)
		t->order[t->n++] = c;
}

static bool on_late_turn(void *arg)
{
	struct turns *t = arg;
	if (t->left == 0)
		return false;
	put(t, 'n');
	if (t->left == 2)
		worker_touch(t->w); /* as if writing had made work for the one before */
	bool more = --t->left > 0;
	if (!more)
		atomic_store(&t->done, 1);
	return more;
}

static bool on_early_turn(void *arg)
{
	struct turns *t = arg;
	if (t->left)
		put(t, 'c');
	return false;
}

static void begin_turns(void *arg)
{
	((struct turns *)arg)->left = 3;
}

static void on_stop(void *arg)
{
	atomic_store(&((struct turns *)arg)->stopped, 1);
}

static void turn_ends_run_in_order_until_nothing_is_left(void **state)
{
	(void)state;
	struct turns t = { 0 };
	struct loop *loop = kit_loop(1);
	t.w = loop_worker(loop, 0);
	assert_int_equal(worker_on_turn_end(t.w, WORKER_TURN_NET, on_late_turn, &t), 0);
	assert_int_equal(worker_on_turn_end(t.w, WORKER_TURN_CHAT, on_early_turn, &t), 0);
	assert_int_equal(worker_on_stop(t.w, on_stop, &t), 0);
	assert_int_equal(loop_start(loop), 0);
	worker_post(t.w, begin_turns, &t);
	WAIT_FOR(atomic_load(&t.done)); /* nothing else wakes it: "more" must keep it awake */
	loop_stop(loop);
	loop_join(loop);
	assert_string_equal(t.order, "cncncn");
	assert_int_equal(atomic_load(&t.stopped), 1);
	loop_destroy(loop);
}

/* ---- timers ------------------------------------------------------------ */

struct alarm {
	struct chatd_worker *w;
	struct chatd_timer timer, other;
	int64_t set_at, ms;
	int fired, again;
	atomic_int early, done;
};

static void on_alarm(void *arg)
{
	struct alarm *a = arg;
	if (worker_clock_ms() < a->set_at + a->ms || worker_now_ms(a->w) < a->set_at + a->ms)
		atomic_store(&a->early, 1);
	worker_timer_clear(&a->other); /* both are due in the same tick: it must not run */
	if (++a->fired < a->again) {
		a->set_at = worker_clock_ms();
		worker_timer_set(a->w, &a->timer, a->ms, on_alarm, a);
	} else {
		atomic_store(&a->done, 1);
	}
}

static void on_other(void *arg)
{
	struct alarm *a = arg;
	atomic_store(&a->early, 2);
}

static void set_alarm(void *arg)
{
	struct alarm *a = arg;
	a->w = worker_current();
	a->set_at = worker_clock_ms();
	worker_timer_set(a->w, &a->other, 3600000, on_other, a);
	worker_timer_set(a->w, &a->timer, a->ms, on_alarm, a);
}

static void timers_are_never_early_and_can_be_set_again_in_their_callback(void **state)
{
	static const int64_t ms[] = { 0, 1, 15, 40, 130 };
	struct alarm alarms[5];
	memset(alarms, 0, sizeof(alarms));
	struct loop *loop = started(*(int *)*state);
	for (int i = 0; i < 5; i++) {
		alarms[i].ms = ms[i];
		alarms[i].again = 4;
		worker_post(loop_worker(loop, i % loop_count(loop)), set_alarm, &alarms[i]);
	}
	for (int i = 0; i < 5; i++) {
		WAIT_FOR(atomic_load(&alarms[i].done));
		assert_int_equal(atomic_load(&alarms[i].early), 0);
	}
	end(loop);
	for (int i = 0; i < 5; i++)
		assert_int_equal(alarms[i].fired, 4);
}

enum { FDS = 200, STOPPED_MS = 1600 };

/* A worker that does nothing for a while, with more to read than one look at the descriptors shows. */
struct stopped {
	struct chatd_timer timer;
	chatd_watch *watch[FDS];
	int fd[FDS][2];
	int32_t read; /* the worker's */
	atomic_int read_before;
};

static void on_something(void *arg, uint32_t ready)
{
	struct stopped *s = arg;
	(void)ready;
	s->read++;
	for (int i = 0; i < FDS; i++) {
		char byte;
		if (s->watch[i] && recv(s->fd[i][0], &byte, 1, MSG_DONTWAIT) == 1) {
			worker_unwatch(s->watch[i]);
			s->watch[i] = NULL;
			return;
		}
	}
}

static void on_judgement(void *arg)
{
	struct stopped *s = arg;
	atomic_store(&s->read_before, s->read);
}

static void stop_for_a_while(void *arg)
{
	struct stopped *s = arg;
	for (int i = 0; i < FDS; i++)
		s->watch[i] = worker_watch_fd(worker_current(), s->fd[i][0], 1, on_something, s);
	worker_timer_set(worker_current(), &s->timer, 100, on_judgement, s);
	for (int i = 0; i < FDS; i++)
		assert_int_equal(write(s->fd[i][1], "x", 1), 1);
	usleep(STOPPED_MS * 1000);
}

static void after_a_long_stop_what_came_is_read_before_timers_run(void **state)
{
	static struct stopped s;
	struct loop *loop = started(1);
	(void)state;
	atomic_store(&s.read_before, -1);
	for (int i = 0; i < FDS; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s.fd[i]), 0);
	worker_post(loop_worker(loop, 0), stop_for_a_while, &s);
	WAIT_FOR(atomic_load(&s.read_before) >= 0);
	assert_int_equal(atomic_load(&s.read_before), FDS);
	end(loop);
	for (int i = 0; i < FDS; i++) {
		close(s.fd[i][0]);
		close(s.fd[i][1]);
	}
}

struct model {
	struct chatd_timer timer;
	struct wheel *wh;
	int64_t due, fired, *now;
	bool set;
};

static void on_model(void *arg)
{
	struct model *m = arg;
	m->fired = *m->now;
	m->set = false;
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/** Against the obvious model: all timers that are due by the wheel's tick, and no other. */
static void the_wheel_fires_exactly_what_is_due(void **state)
{
	(void)state;
	enum { N = 300 };
	static const int64_t ranges[] = { 40, 3000, 200000, 9000000, 800000000, 90000000000 };
	struct wheel wh;
	struct model m[N];
	int64_t now = 123456789;
	uint64_t x = 88172645463325252u;
	int fired = 0;
	memset(m, 0, sizeof(m));
	wheel_init(&wh, now);
	for (int step = 0; step < 4000; step++) {
		for (int k = 0; k < 8; k++) {
			struct model *t = &m[next_random(&x) % N];
			int64_t range = ranges[next_random(&x) % 6];
			t->now = &now;
			t->set = next_random(&x) % 8 != 0;
			t->due = now + (int64_t)(next_random(&x) % (uint64_t)range);
			t->timer.fn = on_model;
			t->timer.arg = t;
			if (t->set)
				wheel_set(&wh, &t->timer, t->due, now);
			else
				wheel_clear(&t->timer);
		}
		int64_t next = wheel_next(&wh);
		int64_t jump = (int64_t)(next_random(&x) % (uint64_t)ranges[next_random(&x) % 5]);
		for (int i = 0; i < N; i++)
			assert_true(!m[i].set || next <= m[i].due + WHEEL_TICK_MS);
		now += jump;
		bool was[N];
		for (int i = 0; i < N; i++)
			was[i] = m[i].set;
		wheel_run(&wh, now);
		for (int i = 0; i < N; i++) {
			if (was[i] && !m[i].set) {
				assert_true(m[i].due <= now);
				fired++;
			}
			assert_false(m[i].set && m[i].due + 2 * WHEEL_TICK_MS <= now);
		}
	}
	assert_true(fired > 1000);
	for (int i = 0; i < N; i++)
		wheel_clear(&m[i].timer);
	wheel_run(&wh, now + 90000000000);
	assert_true(wheel_next(&wh) == INT64_MAX);
}

struct pair {
	struct chatd_timer timer;
	struct pair *partner;
	int ran;
};

static void on_pair(void *arg)
{
	struct pair *p = arg;
	p->ran++;
	wheel_clear(&p->partner->timer);
	wheel_clear(&p->timer);
}

static void a_callback_can_clear_a_timer_of_the_same_tick(void **state)
{
	(void)state;
	struct wheel wh;
	struct pair a = { .partner = NULL };
	struct pair b = { .partner = &a };
	a.partner = &b;
	wheel_init(&wh, 1000);
	a.timer.fn = b.timer.fn = on_pair;
	a.timer.arg = &a;
	b.timer.arg = &b;
	wheel_set(&wh, &a.timer, 1100, 1000);
	wheel_set(&wh, &b.timer, 1100, 1000);
	wheel_run(&wh, 1099);
	assert_int_equal(a.ran + b.ran, 0);
	wheel_run(&wh, 1132);
	assert_int_equal(a.ran + b.ran, 1);
}

/* ---- watches ----------------------------------------------------------- */

struct watched {
	int fd[2];
	chatd_watch *watch, *ticker;
	int ticks;
	atomic_int got, done, idle;
};

static void on_readable(void *arg, uint32_t ready)
{
	struct watched *x = arg;
	char c;
	if (ready == 1 && read(x->fd[0], &c, 1) == 1)
		atomic_store(&x->got, c);
	worker_unwatch(x->watch);
}

static void on_tick(void *arg)
{
	struct watched *x = arg;
	if (++x->ticks < 3)
		return;
	worker_unwatch(x->ticker);
	atomic_store(&x->done, 1);
}

static void begin_watching(void *arg)
{
	struct watched *x = arg;
	x->watch = worker_watch_fd(worker_current(), x->fd[0], 1, on_readable, x);
	x->ticker = worker_watch_time(worker_current(), 5, 1, on_tick, x);
	/* Nobody unwatches this one: the worker's end must. */
	if (!worker_watch_time(worker_current(), 3600000, 0, on_tick, x))
		abort();
}

static void watches_fire_and_can_end_themselves(void **state)
{
	(void)state;
	struct watched x = { .ticks = 0 };
	assert_int_equal(pipe(x.fd), 0);
	struct loop *loop = started(1);
	worker_post(loop_worker(loop, 0), begin_watching, &x);
	assert_int_equal(write(x.fd[1], "ab", 2), 2);
	WAIT_FOR(atomic_load(&x.got) == 'a');
	WAIT_FOR(atomic_load(&x.done));
	end(loop);
	assert_int_equal(x.ticks, 3);
	char c = 0;
	assert_int_equal(read(x.fd[0], &c, 1), 1); /* unwatched: the second byte is still there */
	assert_int_equal(c, 'b');
	close(x.fd[0]);
	close(x.fd[1]);
}

/* ---- offload ----------------------------------------------------------- */

struct task {
	atomic_int *gate, *done;
	struct chatd_worker *home;
	bool worked, right_thread;
};

static void do_work(void *arg)
{
	struct task *t = arg;
	while (!atomic_load(t->gate))
		nanosleep(&(struct timespec){ 0, 200000 }, NULL);
	t->worked = worker_current() == NULL;
}

static void work_done(void *arg)
{
	struct task *t = arg;
	t->right_thread = worker_current() == t->home;
	atomic_fetch_add(t->done, 1);
}

struct batch {
	struct task tasks[16];
	atomic_int accepted, busy, submitted;
};

static void submit(void *arg)
{
	struct batch *b = arg;
	for (int i = 0; i < 16; i++) {
		b->tasks[i].home = worker_current();
		int rc = worker_offload(worker_current(), do_work, work_done, &b->tasks[i]);
		if (rc == -EBUSY)
			atomic_fetch_add(&b->busy, 1);
		else if (rc == 0)
			atomic_fetch_add(&b->accepted, 1);
	}
	atomic_store(&b->submitted, 1);
}

static void the_pool_works_elsewhere_answers_here_and_refuses_too_much(void **state)
{
	struct loop *loop = started(*(int *)*state);
	static struct batch b;
	atomic_int gate = 0;
	atomic_int done = 0;
	memset(&b, 0, sizeof(b));
	for (int i = 0; i < 16; i++) {
		b.tasks[i].gate = &gate;
		b.tasks[i].done = &done;
	}
	worker_post(loop_worker(loop, loop_count(loop) - 1), submit, &b);
	WAIT_FOR(atomic_load(&b.submitted));
	/* Two threads may hold one each; four wait. */
	assert_in_range(atomic_load(&b.accepted), 4, 6);
	assert_int_equal(atomic_load(&b.accepted) + atomic_load(&b.busy), 16);
	atomic_store(&gate, 1);
	end(loop); /* and what was accepted is finished first */
	assert_int_equal(atomic_load(&done), atomic_load(&b.accepted));
	int right = 0;
	for (int i = 0; i < 16; i++)
		right += b.tasks[i].worked && b.tasks[i].right_thread;
	assert_int_equal(right, atomic_load(&b.accepted));
}

/* ---- watchdog ---------------------------------------------------------- */

static void hold(void *arg)
{
	struct worker_mark outer;
	struct worker_mark inner;
	worker_enter(worker_current(), &outer, "innocent", "message_in");
	worker_enter(worker_current(), &inner, "sluggish", "subscribe");
	nanosleep(&(struct timespec){ 0, 200000000 }, NULL);
	worker_leave(worker_current(), &inner);
	worker_leave(worker_current(), &outer);
	atomic_store((atomic_int *)arg, 1);
}

static void a_plugin_that_holds_a_worker_is_named(void **state)
{
	(void)state;
	int fd[2];
	char text[4096];
	atomic_int done = 0;
	assert_int_equal(pipe(fd), 0);
	log_to(fd[1]);
	struct loop *loop = started(1);
	worker_post(loop_worker(loop, 0), hold, &done);
	WAIT_FOR(atomic_load(&done));
	end(loop);
	log_to(STDERR_FILENO);
	close(fd[1]);
	ssize_t n = read(fd[0], text, sizeof(text) - 1);
	close(fd[0]);
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, "plugin \"sluggish\" held worker 0 for "));
	assert_non_null(strstr(text, " ms in subscribe"));
	assert_null(strstr(text, "innocent")); /* its own share was short */
}

int main(void)
{
	static int one = 1;
	static int four = 4;
#define WITH(f, n) cmocka_unit_test_prestate(f, n)
	const struct CMUnitTest tests[] = {
		WITH(posts_of_each_thread_keep_their_order, &one),
		WITH(posts_of_each_thread_keep_their_order, &four),
		WITH(workers_that_sleep_are_woken, &one),
		WITH(workers_that_sleep_are_woken, &four),
		cmocka_unit_test(a_post_to_oneself_runs_later),
		WITH(what_was_posted_before_the_stop_still_runs, &one),
		WITH(what_was_posted_before_the_stop_still_runs, &four),
		WITH(run_all_visits_every_worker_once, &one),
		WITH(run_all_visits_every_worker_once, &four),
		WITH(what_is_posted_in_run_all_comes_after_it, &four),
		WITH(a_loop_that_never_starts_leaks_nothing, &four),
		cmocka_unit_test(turn_ends_run_in_order_until_nothing_is_left),
		cmocka_unit_test(after_a_long_stop_what_came_is_read_before_timers_run),
		WITH(timers_are_never_early_and_can_be_set_again_in_their_callback, &one),
		WITH(timers_are_never_early_and_can_be_set_again_in_their_callback, &four),
		cmocka_unit_test(the_wheel_fires_exactly_what_is_due),
		cmocka_unit_test(a_callback_can_clear_a_timer_of_the_same_tick),
		cmocka_unit_test(watches_fire_and_can_end_themselves),
		WITH(the_pool_works_elsewhere_answers_here_and_refuses_too_much, &one),
		WITH(the_pool_works_elsewhere_answers_here_and_refuses_too_much, &four),
		cmocka_unit_test(a_plugin_that_holds_a_worker_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
