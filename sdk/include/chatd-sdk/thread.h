/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/thread.h
 * @brief A thread of a plugin's own, for a library that blocks.
 *
 *     int rc = chatd_thread(&self->thread, "myplugin-mail", run, self);
 *
 * The server's signals stay the main thread's.  End it in fini() at the latest.
 */
#ifndef CHATD_SDK_THREAD_H
#define CHATD_SDK_THREAD_H

#ifndef _GNU_SOURCE /* pthread_setname_np() */
#error "chatd-sdk/thread.h needs -D_GNU_SOURCE"
#endif

#include <pthread.h>
#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

/** [any] Like pthread_create(); @p name, 15 bytes at most, is what top and gdb show.  0, or a negative errno. */
static inline int chatd_thread(pthread_t *ret, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t all, was;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	int rc = pthread_create(ret, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (rc == 0) {
		pthread_setname_np(*ret, name);
	}
	return -rc;
}

#ifdef __cplusplus
}
#endif

#endif
