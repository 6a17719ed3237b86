/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said when the process is killed by its own code: which plugin, which callback, where.
 *
 *   crash_open();                       handlers; each thread that matters: crash_thread()
 *   crash_plugins(list, n);             whose code is where
 *   crash_record_in(dir);               where crashes are noted for the next start
 *   crash_serving(1) ... (0)            between these, exit() is a crash too
 *
 * The report is made in the signal handler, on a stack of its own, by async-signal-safe calls
 * alone: no memory, no locks, no stdio.  Then the signal takes its course, so that the exit
 * status and a core file are what they would be without.  Handlers that are there already (a
 * sanitizer's) stay.
 *
 * The same frames are had of a thread that still runs: crash_trace(), for the watchdog.
 */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { CRASH_FRAMES = 32 };

/* What a thread is at: `who` an instance of a plugin or NULL, `what` its hook or callback. */
struct crash_mark {
	_Atomic(const char *) who, what;
};

struct crash_trace {
	atomic_int state; /* 0: none, 1: asked for, 2: here */
	void *pc[CRASH_FRAMES];
	int n;
};

/* One thread; lives as long as it. */
struct crash_here {
	const char *thread; /* "worker" */
	int32_t index;      /* -1: there is one of its kind */
	struct crash_mark mark;
	struct crash_trace trace;
	void *stack; /* crash.c's */
};

/* An instance, and the file that its code is in; the texts live for ever. */
struct crash_plugin {
	const char *name, *path;
	const char *version; /* NULL: there is no other one of it */
};

/* [main] Before any thread.  0 or a negative errno. */
int crash_open(void);
/* The calling thread is @p here from now on, and at its end no more. */
int crash_thread(struct crash_here *here);
void crash_thread_end(struct crash_here *here);

/* [main] Copies the list.  0 or -ENOMEM; what was known before stays then. */
int crash_plugins(const struct crash_plugin *list, size_t n);
/* [main] Crashes of plugins are noted in @p dir/crashes/NAME.  0 or a negative errno. */
int crash_record_in(const char *dir);
/* [main] */
void crash_serving(int on);

/* [any] The frames of @p thread, which is @p here; "" if it does not answer within 50 ms.
 * Returns the instance whose code it is in, or NULL. */
const char *crash_trace(pthread_t thread, struct crash_here *here, char *ret, size_t room);

#endif
