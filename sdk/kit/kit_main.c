/* SPDX-License-Identifier: Apache-2.0 */
/* A test program without a framework: every test in a child of its own, results as TAP. */
#include "kit_impl.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMEOUT_S = 60, LEAKED = 23 };

/* LeakSanitizer's, in a program built with it: it looks at exit(), which children do not call. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak)); /* NOLINT: its name */

enum way { PLAIN, SWEEP, TROUBLE, WAYS };

static void run(const struct kit_test *t, enum way way)
{
	switch (way) {
	case SWEEP:
		kit_sweep(t->run);
		break;
	case TROUBLE:
		kit_trouble(t->run);
		break;
	default:
		t->run();
		break;
	}
}

/* As comments of TAP. */
static void tell_crash(const struct kit_crash *crash, int sig)
{
	char text[6000];
	if (sig == SIGALRM) {
		snprintf(text, sizeof(text), "no end within %d s", TIMEOUT_S);
	} else {
		snprintf(text, sizeof(text), "ended by signal %d (%s)", sig, strsignal(sig));
	}
	kit_crash_tell(crash, text, sizeof(text));
	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next) {
			*next++ = '\0';
		}
		fprintf(stderr, "# %s\n", line);
	}
}

static int run_child(const struct kit_test *t, enum way way)
{
	int status = 0;
	struct kit_crash *crash = kit_crash_create();
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		kit_crash_free(crash);
		return -1;
	}
	if (pid == 0) {
		kit_crash_watch(crash);
		(void)alarm(TIMEOUT_S);
		run(t, way);
		fflush(NULL);
		_exit(__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() ? LEAKED : 0);
	}
	(void)waitpid(pid, &status, 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGABRT) { /* abort(): it has said why */
		tell_crash(crash, WTERMSIG(status));
	}
	kit_crash_free(crash);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static const struct kit_test *find(const struct kit_test *all, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(all[i].name, name) == 0) {
			return &all[i];
		}
	}
	fprintf(stderr, "there is no test \"%s\"\n", name);
	return NULL;
}

int kit_main(int argc, char **argv, const struct kit_test *all, size_t n)
{
	static const char *const ways[] = { "", ", with each call of the server's failing",
		", with trouble in each answer of a service" };
	int failed = 0, count = 0;
	if (argc > 1) {
		const struct kit_test *t = find(all, n, argv[1]);
		for (int way = PLAIN; t && way < (t->once ? SWEEP : WAYS); way++) {
			run(t, (enum way)way);
		}
		return t ? 0 : 2;
	}
	for (size_t i = 0; i < n; i++) {
		for (int way = PLAIN; way < (all[i].once ? SWEEP : WAYS); way++) {
			int ok = run_child(&all[i], (enum way)way) == 0;
			failed |= !ok;
			printf("%sok %d - %s%s\n", ok ? "" : "not ", ++count, all[i].name, ways[way]);
		}
	}
	printf("1..%d\n", count);
	return failed;
}

void kit_expect_at(struct kit *k, int holds, const char *what, struct kit_at at)
{
	if (!holds && !kit_muted(k)) {
		kit_die(k, at.file, at.line, "this does not hold: %s", what);
	}
}
