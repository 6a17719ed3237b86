/* SPDX-License-Identifier: Apache-2.0 */
#include "host/stop.h"

#include "base/log.h"
#include "host/notify.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
	LOOK_MS = 20,     /* how often it is looked whether clients have left */
	REST_MS = 8000,   /* for what comes after draining: workers, stores, threads */
	HURRY_MS = 2000,  /* the same after a second signal */
	BEATS_EACH = 3,   /* beats in one period of the watchdog */
	EACH_MS = 10,     /* what leaving takes a client at least, see chatd-sdk/pace.h */
	STATUS_MS = 1000, /* how often the service manager hears how many are left */
};

/* The guard is a thread of its own because main may be held up by what it waits for. */
static struct {
	int signals; /* signalfd */
	int over;    /* eventfd: the guard may go */
	pthread_t thread;
	int running;
	int stops; /* signals that came to end it */
	atomic_int hurry;
	atomic_llong deadline; /* when the process exits, whatever holds it; CLOCK_MONOTONIC ms */
} guard = { .signals = -1, .over = -1 };

static int64_t clock_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int stop_open(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	guard.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	guard.over = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (guard.signals < 0 || guard.over < 0) {
		int rc = -errno;
		log_write(CHATD_LOG_ERROR, "core", "cannot wait for signals: %s", strerror(-rc));
		return rc;
	}
	return 0;
}

/* The signal that came, 0: none within @p ms, or @p other is readable. */
static int next_signal(int other, int64_t ms)
{
	struct pollfd fds[] = { { .fd = guard.signals, .events = POLLIN },
		{ .fd = other, .events = POLLIN } };
	struct signalfd_siginfo info;
	int wait = ms < 0 ? -1 : ms > 60000 ? 60000 : (int)ms;
	(void)poll(fds, 2, wait);
	if (read(guard.signals, &info, sizeof(info)) != sizeof(info)) {
		return 0;
	}
	return (int)info.ssi_signo;
}

/* ---- before the end ---------------------------------------------------------- */

/* A server whose worker does not answer is not alive, whatever main says. */
static void beat(struct host *h)
{
	if (notify_watchdog_ms() > 0 && host_beat(h)) {
		(void)notify_send("WATCHDOG=1");
	}
}

/* The signal that ends it; 0: a plugin has asked. */
static int await_end(struct host *h)
{
	int64_t each = notify_watchdog_ms() ? notify_watchdog_ms() / BEATS_EACH : -1;
	for (;;) {
		beat(h);
		int64_t look = host_do_changes(h);
		int sig =
				next_signal(host_wake_fd(h), look < 0 || (each >= 0 && each < look) ? each : look);
		if (sig == SIGHUP) {
			host_ask_to_reload(h);
		} else if (sig != 0 || host_asked_to_stop(h)) {
			return sig;
		}
	}
}

/* ---- the guard --------------------------------------------------------------- */

/* What has been acknowledged is on disk: this is a kill, and no worse than one. */
static void give_up(void)
{
	log_write(CHATD_LOG_ERROR, "core",
			"the server does not come to its end: exit without waiting for it; if a plugin holds "
			"a thread, the lines above name it");
	_exit(EX_SOFTWARE);
}

static void no_later(int64_t at)
{
	long long present = atomic_load(&guard.deadline);
	while (at < present && !atomic_compare_exchange_weak(&guard.deadline, &present, at)) {
	}
}

static void *keep_guard(void *arg)
{
	eventfd_t over = 0;
	(void)arg;
	while (eventfd_read(guard.over, &over) < 0) {
		int64_t left = atomic_load(&guard.deadline) - clock_ms();
		if (left <= 0) {
			give_up();
		}
		int sig = next_signal(guard.over, left);
		if (sig != SIGTERM && sig != SIGINT) {
			continue;
		}
		/* The first signal after a plugin's stop() says what is happening already. */
		if (++guard.stops > 1 && !atomic_exchange(&guard.hurry, 1)) {
			log_write(CHATD_LOG_WARN, "core", "second signal: stopping at once");
			no_later(clock_ms() + HURRY_MS);
		}
	}
	return NULL;
}

/* ---- draining ------------------------------------------------------------------ */

static void pause_ms(int64_t ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	nanosleep(&ts, NULL);
}

static void tell_status(struct host *h, int64_t *at)
{
	int64_t now = clock_ms();
	if (now < *at) {
		return;
	}
	char lines[96];
	*at = now + STATUS_MS;
	snprintf(lines, sizeof(lines), "STATUS=draining: %ld connections and sessions left",
			host_busy(h));
	(void)notify_send(lines);
	beat(h);
}

/* Sleeps as long as somebody is there and nobody hurries, until @p end. */
static void wait_while_busy(struct host *h, int64_t end)
{
	int64_t status = 0;
	while (host_busy(h) > 0 && clock_ms() < end && !atomic_load(&guard.hurry)) {
		tell_status(h, &status);
		pause_ms(LOOK_MS);
	}
}

static void drain(struct host *h, const struct conf_server *s, int grace)
{
	long n = host_busy(h);
	int64_t now = clock_ms(), few = n * EACH_MS;
	int64_t spread = few < s->drain_spread ? few : s->drain_spread;
	int64_t warned = grace && n > 0 ? s->drain_grace : 0;
	host_warn(h);
	if (warned) {
		log_write(CHATD_LOG_INFO, "core", "stopping: /readyz tells so; listeners close in %lld ms",
				(long long)warned);
		wait_while_busy(h, now + warned);
	}
	log_write(CHATD_LOG_INFO, "core", "draining: no new clients; %ld connections and sessions left",
			host_busy(h));
	host_drain(h);
	wait_while_busy(h, clock_ms() + spread + s->drain_timeout);
	n = host_busy(h);
	if (n > 0 && !atomic_load(&guard.hurry)) {
		log_write(CHATD_LOG_WARN, "core",
				"server.drain_timeout is over: %ld connections and sessions are cut off", n);
	}
}

void stop_wait(struct host *h, const struct conf_server *s)
{
	int sig = await_end(h);
	guard.stops = sig != 0;
	(void)notify_send("STOPPING=1\nSTATUS=draining");
	atomic_store(&guard.deadline,
			clock_ms() + s->drain_grace + s->drain_spread + s->drain_timeout + REST_MS);
	guard.running = pthread_create(&guard.thread, NULL, keep_guard, NULL) == 0;
	drain(h, s, sig != SIGINT);
	no_later(clock_ms() + (atomic_load(&guard.hurry) ? HURRY_MS : REST_MS));
}

void stop_close(void)
{
	if (guard.running) {
		(void)eventfd_write(guard.over, 1);
		pthread_join(guard.thread, NULL);
		guard.running = 0;
	}
	if (guard.signals >= 0) {
		close(guard.signals);
	}
	if (guard.over >= 0) {
		close(guard.over);
	}
	guard.signals = guard.over = -1;
}
