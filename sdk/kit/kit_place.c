/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_place.h"

#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK_BYTES = 64 << 10, LINE_BYTES = 1024 };

extern char **environ;

/* A sanitizer's own report is better. */
extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

static struct kit_crash *watched; /* by this process */
static struct kit_frames fault;   /* when nothing is */

/* ---- what is mapped ------------------------------------------------------------- */

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct kit_objects *all = arg;
	(void)size;
	if (all->n == KIT_OBJECTS) {
		return 1;
	}
	struct kit_object *o = &all->at[all->n];
	o->begin = UINTPTR_MAX;
	o->end = 0;
	o->bias = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t at = info->dlpi_addr + p->p_vaddr;
		if (p->p_type == PT_LOAD) {
			o->begin = at < o->begin ? at : o->begin;
			o->end = at + p->p_memsz > o->end ? at + p->p_memsz : o->end;
		}
	}
	if (info->dlpi_name && *info->dlpi_name) {
		snprintf(o->path, sizeof(o->path), "%s", info->dlpi_name);
	} else {
		ssize_t n = readlink("/proc/self/exe", o->path, sizeof(o->path) - 1);
		o->path[n < 0 ? 0 : n] = '\0';
	}
	all->n++;
	return 0;
}

static void read_objects(struct kit_objects *all)
{
	all->n = 0;
	dl_iterate_phdr(add_object, all);
}

static const struct kit_object *object_at(const struct kit_objects *all, const void *pc)
{
	for (size_t i = 0; i < all->n; i++) {
		if ((uintptr_t)pc >= all->at[i].begin && (uintptr_t)pc < all->at[i].end) {
			return &all->at[i];
		}
	}
	return NULL;
}

void kit_frames_now(struct kit_frames *f)
{
	f->n = backtrace(f->pc, KIT_FRAMES);
}

/* ---- lines ------------------------------------------------------------------------ */

struct place {
	char function[120];
	char file[PATH_MAX];
	int line;
};

/* Runs addr2line; what it writes comes from the FILE.  NULL: it cannot be run. */
static FILE *ask_addr2line(const struct kit_object *o, const void *pc, pid_t *ret_pid)
{
	char offset[24];
	char *path = (char *)(uintptr_t)o->path;
	char name[] = "addr2line", flags[] = "-ife";
	char *argv[] = { name, flags, path, offset, NULL };
	posix_spawn_file_actions_t to;
	int fd[2];
	snprintf(offset, sizeof(offset), "0x%lx", (unsigned long)((uintptr_t)pc - 1 - o->bias));
	if (pipe(fd) < 0) {
		return NULL;
	}
	posix_spawn_file_actions_init(&to);
	posix_spawn_file_actions_adddup2(&to, fd[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&to, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addclose(&to, fd[0]);
	int rc = posix_spawnp(ret_pid, name, &to, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&to);
	close(fd[1]);
	FILE *f = rc == 0 ? fdopen(fd[0], "r") : NULL;
	if (!f) {
		close(fd[0]);
	}
	return f;
}

static void chop(char *line)
{
	line[strcspn(line, "\n")] = '\0';
}

/* "/a/build/../x.c:12 (discriminator 3)": as it is seen from here. */
static int read_place(const char *text, struct place *p)
{
	char path[PATH_MAX], here[PATH_MAX];
	const char *colon = strrchr(text, ':');
	const char *more = strstr(text, " (discriminator");
	if (more) {
		while (colon > text && colon > more) {
			colon--;
		}
	}
	p->line = colon ? (int)strtol(colon + 1, NULL, 10) : 0; /* 0: code of several lines */
	if (!colon || *text == '?') {
		return 0;
	}
	snprintf(path, sizeof(path), "%.*s", (int)(colon - text), text);
	if (!realpath(path, p->file)) {
		snprintf(p->file, sizeof(p->file), "%s", path);
	}
	size_t n = getcwd(here, sizeof(here)) ? strlen(here) : 0;
	if (n > 1 && strncmp(p->file, here, n) == 0 && p->file[n] == '/') {
		memmove(p->file, p->file + n + 1, strlen(p->file + n + 1) + 1);
	}
	return 1;
}

/* The kit's, the tool's and the server's own: not what somebody looks for. */
static int is_own(const struct place *p)
{
	static const char *const own[] = { "sdk/kit/kit_", "sdk/kit/kit.c", "sdk/tool/", "core/chat/",
		"core/conf/", "core/base/", "core/host/" };
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (strstr(p->file, own[i])) {
			return 1;
		}
	}
	return strcmp(p->function, "main") == 0;
}

/* The places of one address, inlined functions first; @p each returns 1 to hear of no more. */
typedef int each_fn(void *arg, const struct place *);

static int places_of(const struct kit_object *o, const void *pc, each_fn *each, void *arg)
{
	char line[LINE_BYTES];
	struct place p;
	pid_t pid = 0;
	int known = 0, enough = 0;
	FILE *f = ask_addr2line(o, pc, &pid);
	while (f && !enough && fgets(p.function, sizeof(p.function), f) &&
			fgets(line, sizeof(line), f)) {
		chop(p.function);
		chop(line);
		if (read_place(line, &p)) {
			known = 1;
			enough = !is_own(&p) && each(arg, &p);
		}
	}
	if (f) {
		fclose(f);
		(void)waitpid(pid, NULL, 0);
	}
	return known ? enough : -1;
}

struct telling {
	const char *before;
	char *text;
	size_t room;
	int n, max;
};

static int tell(struct telling *t, const char *what)
{
	size_t used = strlen(t->text);
	if (used + 1 < t->room) {
		snprintf(t->text + used, t->room - used, "%s%s", t->before, what);
	}
	return ++t->n >= t->max;
}

static int tell_place(void *arg, const struct place *p)
{
	char what[PATH_MAX + 160];
	int n = snprintf(what, sizeof(what), "%s (%s", p->function, p->file);
	if (p->line > 0) {
		snprintf(what + n, sizeof(what) - (size_t)n, ":%d)", p->line);
	} else {
		snprintf(what + n, sizeof(what) - (size_t)n, ")");
	}
	return tell(arg, what);
}

static int is_plugin(const struct kit_objects *all, const struct kit_object *o)
{
	return o != &all->at[0] && !strstr(o->path, "/lib/") && strstr(o->path, ".so") != NULL;
}

static int tell_frames(const struct kit_objects *all, const struct kit_frames *f, struct telling *t)
{
	int enough = 0;
	for (int i = 0; i < f->n && !enough; i++) {
		const struct kit_object *o = object_at(all, f->pc[i]);
		if (!o || (strstr(o->path, "/lib/") && strstr(o->path, "libc"))) {
			continue;
		}
		enough = places_of(o, f->pc[i], tell_place, t);
		if (enough < 0 && is_plugin(all, o)) { /* without -g, or without addr2line */
			char what[KIT_PATH + 40];
			const char *slash = strrchr(o->path, '/');
			snprintf(what, sizeof(what), "%s+0x%lx", slash ? slash + 1 : o->path,
					(unsigned long)((uintptr_t)f->pc[i] - o->bias));
			enough = tell(t, what);
		}
		enough = enough > 0;
	}
	return t->n;
}

int kit_frames_tell(
		const struct kit_frames *f, const char *before, int max, char *text, size_t room)
{
	struct kit_objects *all = calloc(1, sizeof(*all));
	struct telling t = { .before = before, .text = text, .room = room, .max = max };
	if (all) {
		read_objects(all);
		(void)tell_frames(all, f, &t);
	}
	free(all);
	return t.n;
}

struct first {
	char *file;
	size_t room;
	int line;
};

static int take_first(void *arg, const struct place *p)
{
	struct first *first = arg;
	if (p->line <= 0) {
		return 0;
	}
	snprintf(first->file, first->room, "%s", p->file);
	first->line = p->line;
	return 1;
}

int kit_frames_first(const struct kit_frames *f, char *file, size_t room, int *ret_line)
{
	struct kit_objects *all = calloc(1, sizeof(*all));
	struct first first = { .file = file, .room = room };
	if (all) {
		read_objects(all);
	}
	for (int i = 0; all && i < f->n && !first.line; i++) {
		const struct kit_object *o = object_at(all, f->pc[i]);
		if (o) {
			(void)places_of(o, f->pc[i], take_first, &first);
		}
	}
	free(all);
	*ret_line = first.line;
	return first.line > 0;
}

/* ---- crashes ------------------------------------------------------------------------ */

struct kit_crash *kit_crash_create(void)
{
	struct kit_crash *c =
			mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return c == MAP_FAILED ? NULL : c;
}

void kit_crash_free(struct kit_crash *c)
{
	if (c) {
		munmap(c, sizeof(*c));
	}
}

/* From where a function was called whose address is NULL: there is no frame of it.  NULL: that was
 * not it. */
static void *null_call(const ucontext_t *c)
{
#if defined(__x86_64__)
	return c->uc_mcontext.gregs[REG_RIP] == 0 ? *(void **)c->uc_mcontext.gregs[REG_RSP] : NULL;
#elif defined(__aarch64__)
	return c->uc_mcontext.pc == 0 ? (void *)c->uc_mcontext.regs[30] : NULL;
#else
	(void)c;
	return NULL;
#endif
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)info;
	if (watched && watched->here.n == 0) {
		void *from = sig == SIGSEGV ? null_call(context) : NULL;
		kit_frames_now(&watched->here);
		watched->null_call = from != NULL;
		if (from) {
			watched->here.n = 1;
			watched->here.pc[0] = from;
		}
	}
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

void kit_crash_watch(struct kit_crash *c)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM };
	struct kit_frames warm; /* the first backtrace() loads a library: not in a handler */
	if (!c || __asan_init || __tsan_init) {
		return;
	}
	read_objects(&c->objects);
	if (watched == c) {
		return;
	}
	watched = c;
	kit_frames_now(&warm);
	stack_t stack = { .ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES };
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_NODEFER | SA_SIGINFO };
	if (stack.ss_sp && sigaltstack(&stack, NULL) == 0) {
		act.sa_flags |= SA_ONSTACK;
	}
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		(void)sigaction(signals[i], &act, NULL);
	}
}

struct kit_frames *kit_fault_frames(void)
{
	return watched ? &watched->fault : &fault;
}

void kit_crash_failing(long call)
{
	if (watched) {
		watched->failing = call;
	}
}

void kit_crash_doing(const char *who, const char *what)
{
	if (watched) {
		snprintf(watched->doing, sizeof(watched->doing), "%s%s%s", who, *what ? " " : "", what);
	}
}

static void add(char *text, size_t room, const char *what)
{
	size_t used = strlen(text);
	snprintf(text + used, room - used, "%s", what);
}

void kit_crash_tell(const struct kit_crash *c, char *text, size_t room)
{
	struct telling at = { .before = "\n  at ", .text = text, .room = room, .max = 6 };
	struct telling failing = {
		.before = "\n  the failing call: ", .text = text, .room = room, .max = 1
	};
	char more[320];
	if (!c) {
		return;
	}
	if (*c->doing) {
		snprintf(more, sizeof(more), " in: %s", c->doing);
		add(text, room, more);
	}
	if (c->null_call) {
		add(text, room,
				"\n  a function was called that is not there: is it one that older providers of a "
				"service do not have (CHATD_HAS), or did a look-up fail?");
	}
	(void)tell_frames(&c->objects, &c->here, &at);
	if (c->failing) {
		snprintf(more, sizeof(more), "\n  with call %ld of the host failing", c->failing);
		add(text, room, more);
		(void)tell_frames(&c->objects, &c->fault, &failing);
	}
}
