/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a thread that is in the midst of something must not end the process. */
#include "base/crash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define LATE_SIGNALS /* that sanitizer keeps them until the thread calls something */
#endif
#endif

#define TEST(name) static void name(void **state)
#define UNUSED     (void)state

static atomic_int there, over;
static struct crash_here at = { .thread = "test", .index = -1 };

static void *honest(void *arg)
{
	(void)arg;
	crash_thread(&at);
	atomic_store(&there, 1);
	while (!atomic_load(&over))
		continue;
	crash_thread_end(&at);
	return NULL;
}

#ifdef __x86_64__
/* Its table says that the caller's frame is where rbx points, which is nowhere. */
static void *lying(void *arg)
{
	(void)arg;
	crash_thread(&at);
	__asm__ volatile("push %%rbx\n\t"
					 "mov $64, %%rbx\n\t"
					 ".cfi_remember_state\n\t"
					 ".cfi_def_cfa %%rbx, 16\n\t"
					 "movl $1, %0\n\t"
					 "1: cmpl $0, %1\n\t"
					 "je 1b\n\t"
					 ".cfi_restore_state\n\t"
					 "pop %%rbx"
					 : "=m"(there)
					 : "m"(over)
					 : "memory", "cc");
	crash_thread_end(&at);
	return NULL;
}
#endif

static void trace(void *(*work)(void *), char *frames, size_t room)
{
	pthread_t thread;
	atomic_store(&there, 0);
	atomic_store(&over, 0);
	assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
	while (!atomic_load(&there))
		continue;
	for (int i = 0; i < 20; i++)
		crash_trace(thread, &at, frames, room);
	atomic_store(&over, 1);
	pthread_join(thread, NULL);
}

TEST(a_thread_tells_where_it_is)
{
	UNUSED;
	char frames[1024] = "";
	trace(honest, frames, sizeof(frames));
	assert_non_null(strstr(frames, "chatd+"));
}

TEST(code_whose_stack_cannot_be_unwound_ends_nothing)
{
	UNUSED;
#ifdef __x86_64__
	char frames[1024] = "";
	signal(SIGSEGV, SIG_DFL); /* cmocka has put its own there */
	assert_int_equal(crash_open(), 0);
	trace(lying, frames, sizeof(frames));
	assert_int_equal(atomic_load(&at.trace.state), 2); /* it answered */
#else
	skip();
#endif
}

int main(void)
{
#ifdef LATE_SIGNALS
	printf("1..0 # SKIP signals come late here\n");
	return 0;
#endif
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_tells_where_it_is),
		cmocka_unit_test(code_whose_stack_cannot_be_unwound_ends_nothing),
	};
	if (crash_open() < 0 || crash_plugins(NULL, 0) < 0)
		return 1;
	return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
