/* SPDX-License-Identifier: Apache-2.0 */
/* chatd-plugin check: one child for each stage, and what they report. */
#include "tool.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* Test programs of meson and of CTest are skipped with 77. */
enum { FINDING_MAX = 8000, EX_FOUND = 1, EX_SKIPPED = 77 };

struct stage {
	const char *name;
	stage_fn *run;
	int gate; /* what it finds makes the others useless */
};

static const struct stage stages[] = {
	{ "symbols", stage_symbols, 0 },
	{ "load", stage_describe, 1 },
	{ "options", stage_options, 1 },
	{ "rounds", stage_rounds, 1 },
	{ "sweep", stage_sweep, 0 },
	{ "trouble", stage_trouble, 0 },
	{ "fuzz", stage_fuzz, 0 },
};

struct sum {
	int errors, warnings;
};

/* ---- in the child ----------------------------------------------------------------- */

void find(struct check *c, enum finding_kind kind, const char *fmt, ...)
{
	char text[FINDING_MAX];
	va_list ap;
	text[0] = (char)kind;
	va_start(ap, fmt);
	int n = vsnprintf(text + 1, sizeof(text) - 2, fmt, ap);
	va_end(ap);
	size_t len = n < 0 ? 1 : (size_t)n < sizeof(text) - 2 ? (size_t)n + 1 : sizeof(text) - 2;
	text[len] = '\0'; /* ends a finding */
	ssize_t put = write(c->to_parent, text, len + 1);
	(void)put; /* the parent has gone: nobody to tell */
}

void doing(struct check *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(c->left->doing, DOING_MAX, fmt, ap);
	va_end(ap);
	c->left->step[0] = '\0';
}

void step(struct check *c, const char *who, const char *what)
{
	snprintf(c->left->step, STEP_MAX, "%s%s%s", who, *what ? " " : "", what);
}

int open_plugin(struct check *c)
{
	struct load_error e;
	doing(c, "loading it");
	c->module = load_file(c->path, &e);
	if (!c->module) {
		find(c, FINDING_ERROR, "%s", e.text);
	}
	kit_crash_watch(c->crash); /* there is more now that may crash */
	return c->module ? 0 : -1;
}

/* Not in the way of the findings, and no files of its in the folder one happens to be in. */
static void run_child(struct check *c, const struct stage *s, const char *dir)
{
	const struct rlimit none = { 0, 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	(void)setrlimit(RLIMIT_CORE, &none);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (chdir(dir) != 0 || setenv("TMPDIR", dir, 1) != 0) {
		_exit(1);
	}
	kit_crash_watch(c->crash);
	(void)alarm((unsigned)c->limit);
	s->run(c);
	_exit(0);
}

/* ---- in the parent ------------------------------------------------------------------ */

static void report(const struct check *c, const char *stage, const char *finding, struct sum *sum)
{
	const char *kind = *finding == FINDING_ERROR ? "error"
			: *finding == FINDING_WARNING        ? "warning"
												 : "note";
	sum->errors += *finding == FINDING_ERROR;
	sum->warnings += *finding == FINDING_WARNING;
	printf("%s: %s: [%s] ", c->path, kind, stage);
	for (const char *p = finding + 1; *p; p++) {
		putchar(*p);
		if (*p == '\n' && p[1]) {
			fputs("    ", stdout);
		}
	}
	if (finding[strlen(finding) - 1] != '\n') {
		putchar('\n');
	}
}

static size_t read_findings(const struct check *c, const char *stage, int fd, struct sum *sum)
{
	char *all = NULL;
	size_t n = 0, count = 0;
	FILE *f = fdopen(fd, "r");
	while (f && getdelim(&all, &n, '\0', f) > 0) {
		report(c, stage, all, sum);
		count++;
	}
	free(all);
	if (f) {
		fclose(f);
	}
	return count;
}

static void report_end(const struct check *c, const char *stage, int status, struct sum *sum)
{
	char text[FINDING_MAX], doing[FINDING_MAX / 2];
	const struct left *l = c->left;
	snprintf(doing, sizeof(doing), "%s%s%.1700s%s", l->step, *l->step ? " (" : "", l->doing,
			*l->step ? ")" : "");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
		snprintf(text, sizeof(text), "Eit hangs: no end within %ld s of: %s", c->limit, doing);
	} else if (WIFSIGNALED(status)) {
		snprintf(text, sizeof(text), "Eit crashes: signal %d (%s) while: %s", WTERMSIG(status),
				strsignal(WTERMSIG(status)), doing);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
		snprintf(text, sizeof(text), "Eit ended the process with exit(%d) while: %s",
				WEXITSTATUS(status), doing);
	} else {
		return;
	}
	if (c->crash) {
		c->crash->doing[0] = '\0'; /* it has been said */
		kit_crash_tell(c->crash, text, sizeof(text));
	}
	report(c, stage, text, sum);
}

static void run_stage(struct check *c, const struct stage *s, const char *dir, struct sum *sum)
{
	int fd[2], status = 0;
	fflush(NULL);
	c->left->doing[0] = c->left->step[0] = '\0';
	if (pipe(fd) < 0) {
		return;
	}
	c->crash = kit_crash_create();
	pid_t pid = fork();
	if (pid == 0) {
		close(fd[0]);
		c->to_parent = fd[1];
		(void)fcntl(fd[1], F_SETFD, FD_CLOEXEC);
		run_child(c, s, dir);
	}
	close(fd[1]);
	(void)read_findings(c, s->name, fd[0], sum);
	if (pid > 0 && waitpid(pid, &status, 0) == pid) {
		report_end(c, s->name, status, sum);
	}
	kit_crash_free(c->crash);
	c->crash = NULL;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

/* What was not started is not good: nobody knows. */
static int say_sum(const struct check *c, const struct sum *sum)
{
	unsigned long long seed = c->seed;
	if (sum->errors) {
		printf("%s: %d errors, %d warnings (seed %llu)\n", c->path, sum->errors, sum->warnings,
				seed);
		return EX_FOUND;
	}
	if (c->left->unplayed) {
		printf("%s: not played: it was never started, see the note; %d warnings in what was looked "
			   "at without\n",
				c->path, sum->warnings);
		return EX_SKIPPED;
	}
	printf("%s: good: %ld starts and stops, %ld odd configurations of which it was started with %ld "
		   "(seed %llu), %d warnings\n",
			c->path, c->rounds, c->fuzz, c->left->started, seed, sum->warnings);
	return EX_OK;
}

static int run_all(struct check *c)
{
	const char *tmp = getenv("TMPDIR");
	char dir[PATH_MAX];
	struct sum sum = { 0 };
	snprintf(dir, sizeof(dir), "%s/chatd-plugin-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		fprintf(stderr, "chatd-plugin: cannot make a folder in %s: %s\n", tmp ? tmp : "/tmp",
				strerror(errno));
		return EX_CANTCREAT;
	}
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		int before = sum.errors;
		run_stage(c, &stages[i], dir, &sum);
		if (stages[i].gate && (sum.errors > before || c->left->unplayed)) {
			break;
		}
	}
	(void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return say_sum(c, &sum);
}

static int number(const char *option, const char *text, uint64_t max, uint64_t *ret)
{
	char *end = NULL;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (errno || !*text || *end || *text == '-' || v > max) {
		fprintf(stderr, "chatd-plugin: --%s: \"%s\" is no number up to %llu\n", option, text,
				(unsigned long long)max);
		return -1;
	}
	*ret = v;
	return 0;
}

static int keep(const char *option, const char **list, size_t *n, const char *text)
{
	if (*n == MESSAGES_MAX) {
		fprintf(stderr, "chatd-plugin: --%s: %d at most\n", option, MESSAGES_MAX);
		return -1;
	}
	list[(*n)++] = text;
	return 0;
}

static int add_record(struct check *c, const char *text)
{
	size_t space = strcspn(text, " "), key = text[space] ? strcspn(text + space + 1, " ") : 0;
	if (space == 0 || space > 32 || key == 0 || key > 256 || !text[space + 1 + key]) {
		fputs("chatd-plugin: --record: give a space, a key and a value with a blank between them, as in "
			  "--record 'example.karma bob 7'\n",
				stderr);
		return -1;
	}
	return keep("record", c->records, &c->n_records, text);
}

static int add_message(struct check *c, const char *text)
{
	if (*text != '/' || !strchr(text, ' ')) {
		fputs("chatd-plugin: --message: give a destination, a blank and the body, as in "
			  "--message '/app/chat.send {\"to\":\"bob\",\"content\":\"hi\"}'\n",
				stderr);
		return -1;
	}
	return keep("message", c->messages, &c->n_messages, text);
}

static int add_call(struct check *c, const char *text)
{
	static const char *const methods[] = { "GET ", "POST ", "PUT ", "PATCH ", "DELETE ", NULL };
	size_t i = 0;
	while (methods[i] && strncmp(text, methods[i], strlen(methods[i])) != 0) {
		i++;
	}
	if (!methods[i] || text[strlen(methods[i])] != '/') {
		fputs("chatd-plugin: --call: give a method, a path and, after another blank, the body, as in "
			  "--call 'PUT /api/welcome/den {\"text\":\"hi\"}'\n",
				stderr);
		return -1;
	}
	return keep("call", c->calls, &c->n_calls, text);
}

static int parse(int argc, char **argv, struct check *c)
{
	static const struct option longs[] = { { "options", 1, NULL, 'o' }, { "rounds", 1, NULL, 'r' },
		{ "fuzz", 1, NULL, 'f' }, { "seed", 1, NULL, 's' }, { "limit", 1, NULL, 'l' },
		{ "message", 1, NULL, 'm' }, { "record", 1, NULL, 'd' }, { "call", 1, NULL, 'c' }, { 0 } };
	int o;
	uint64_t v;
	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o == 'o') {
			c->options = optarg;
		} else if (o == 'm') {
			if (add_message(c, optarg) < 0) {
				return -1;
			}
		} else if (o == 'c') {
			if (add_call(c, optarg) < 0) {
				return -1;
			}
		} else if (o == 'd') {
			if (add_record(c, optarg) < 0) {
				return -1;
			}
		} else if (o == 's' && number("seed", optarg, UINT64_MAX, &v) == 0) {
			c->seed = v;
		} else if (o == 'r' && number("rounds", optarg, 1000000, &v) == 0) {
			c->rounds = (long)v;
		} else if (o == 'f' && number("fuzz", optarg, 1000000, &v) == 0) {
			c->fuzz = (long)v;
		} else if (o == 'l' && number("limit", optarg, 86400, &v) == 0) {
			c->limit = (long)v;
		} else {
			return -1;
		}
	}
	if (optind != argc - 1) {
		fputs("chatd-plugin: check needs one file: chatd-plugin check FILE.so\n", stderr);
		return -1;
	}
	c->path = argv[optind];
	return 0;
}

int cmd_check(int argc, char **argv)
{
	struct check c = { .rounds = 100,
		.fuzz = 500,
		.limit = 60,
		.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000 };
	char path[PATH_MAX];
	if (parse(argc, argv, &c) < 0) {
		return EX_USAGE;
	}
	if (!realpath(c.path, path) || access(path, R_OK) != 0) {
		fprintf(stderr, "chatd-plugin: %s cannot be read: %s\n", c.path, strerror(errno));
		return EX_NOINPUT;
	}
	c.path = path; /* the children work in another folder */
	c.left = mmap(NULL, sizeof(*c.left), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c.left == MAP_FAILED) {
		fprintf(stderr, "chatd-plugin: no memory: %s\n", strerror(errno));
		return EX_OSERR;
	}
	return run_all(&c);
}
