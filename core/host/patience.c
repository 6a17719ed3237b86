/* SPDX-License-Identifier: Apache-2.0 */
#include "host/patience.h"

#include "base/log.h"
#include "loop/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 10000, FRAMES_TEXT = 2048 };

struct patience {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread, main;
	struct crash_here *here;
	const char *who, *what; /* who NULL: nobody starts */
	int waits, ending;
	int64_t begin, until;
	int64_t starved; /* so long main had waited for a processor then */
};

/* How long main was ready to run and had no processor, since it began; 0: the kernel does not tell.  At the start it
 * is the first thread, which has the number of the process. */
static int64_t starved_ms(void)
{
	char path[64], text[96] = "", *wait = text;
	snprintf(path, sizeof(path), "/proc/self/task/%ld/schedstat", (long)getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return 0;
	}
	if (read(fd, text, sizeof(text) - 1) > 0) {
		(void)strtoull(text, &wait, 10); /* the time that it ran */
	}
	close(fd);
	return (int64_t)(strtoull(wait, NULL, 10) / 1000000);
}

/* A machine that has no time for us is no fault of the plugin's. */
static int has_more(struct patience *p)
{
	int64_t until = p->begin + LIMIT_MS + starved_ms() - p->starved;
	if (p->waits || until <= worker_clock_ms()) {
		return 0;
	}
	p->until = until;
	return 1;
}

static void name_it(struct patience *p)
{
	char frames[FRAMES_TEXT];
	long long ms = worker_clock_ms() - p->begin;
	crash_trace(p->main, p->here, frames, sizeof(frames));
	if (p->waits) {
		log_write(CHATD_LOG_WARN, "core",
				"plugin \"%s\" has been in %s for %lld ms and still waits", p->who, p->what, ms);
		p->until = worker_clock_ms() + LIMIT_MS;
		return;
	}
	log_write(CHATD_LOG_ERROR, "core",
			"plugin \"%s\" has not come back from %s within %lld ms: the server cannot start with it "
			"(main was at: %s); mend or replace it, or set enabled: false",
			p->who, p->what, ms, frames);
	_exit(EX_SOFTWARE); /* what has started cannot be stopped: main is held */
}

static void *keep(void *arg)
{
	struct patience *p = arg;
	pthread_mutex_lock(&p->lock);
	while (!p->ending) {
		struct timespec at = { .tv_sec = p->until / 1000, .tv_nsec = p->until % 1000 * 1000000 };
		if (!p->who) {
			pthread_cond_wait(&p->wake, &p->lock);
		} else if (pthread_cond_timedwait(&p->wake, &p->lock, &at) == ETIMEDOUT && p->who &&
				worker_clock_ms() >= p->until && !has_more(p)) {
			name_it(p);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct patience *patience_create(struct crash_here *here)
{
	struct patience *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;
	if (!p) {
		return NULL;
	}
	p->main = pthread_self();
	p->here = here;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&p->thread, NULL, keep, p) != 0) {
		pthread_cond_destroy(&p->wake);
		pthread_mutex_destroy(&p->lock);
		free(p);
		return NULL;
	}
	pthread_setname_np(p->thread, "chatd-patience");
	return p;
}

static void set(struct patience *p, const char *who, const char *what, int waits)
{
	pthread_mutex_lock(&p->lock);
	p->who = who;
	p->what = what;
	p->waits = waits;
	p->begin = worker_clock_ms();
	p->until = p->begin + LIMIT_MS;
	p->starved = who ? starved_ms() : 0;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	atomic_store(&p->here->mark.who, who);
	atomic_store(&p->here->mark.what, what);
}

void patience_begin(struct patience *p, const char *who, const char *what, int waits)
{
	set(p, who, what, waits);
}

void patience_end(struct patience *p)
{
	set(p, NULL, NULL, 0);
}

void patience_destroy(struct patience *p)
{
	if (!p) {
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->ending = 1;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
