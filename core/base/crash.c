/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crash.h"

#include "base/crash_text.h"
#include "base/log.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	STACK_BYTES = 64 << 10,
	PATIENCE_S = 5, /* a report that does not come to its end is cut off */
	TRACE_WAIT_MS = 50,
	NAME_MAX_BYTES = 128,
};

/* Nothing else in the server uses it; it interrupts system calls, so only stalled threads get it. */
#define TRACE_SIGNAL (SIGRTMIN + 1)

struct object {
	uintptr_t begin, end;
	char name[NAME_MAX_BYTES]; /* the file's, without folders */
	int plugin;                /* index of its first instance, or -1 */
};

/* What is mapped, and whose it is.  A new one is made and put in place of the old one, which
 * stays: a handler may be reading it. */
struct map {
	struct map *before;
	size_t n, room;
	const struct crash_plugin *plugins;
	size_t n_plugins;
	struct object object[];
};

static struct {
	_Atomic(struct map *) map;
	atomic_int record_dir; /* descriptor of the folder */
	atomic_int serving;
	pid_t pid;
	atomic_int crashed;
} state = { .record_dir = -1 };

static _Thread_local struct crash_here *here;

/* Wherever a thread is interrupted, its stack is unwound as the tables of that code say; where they are
 * wrong (code in assembly, code that was made at run time) unwinding reads what is not there. */
static _Thread_local sigjmp_buf unwinding;
static _Thread_local volatile sig_atomic_t unwinds;

/* ---- whose code is where ------------------------------------------------------ */

static int plugin_of(const struct map *m, const char *path)
{
	for (size_t i = 0; i < m->n_plugins; i++)
		if (strcmp(m->plugins[i].path, path) == 0)
			return (int)i;
	return -1;
}

static int count_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(*(size_t *)arg)++;
	return 0;
}

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct map *m = arg;
	(void)size;
	if (m->n == m->room)
		return 1;
	struct object *o = &m->object[m->n++];
	o->begin = UINTPTR_MAX;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD)
			continue;
		uintptr_t at = info->dlpi_addr + p->p_vaddr;
		o->begin = at < o->begin ? at : o->begin;
		o->end = at + p->p_memsz > o->end ? at + p->p_memsz : o->end;
	}
	const char *path = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "chatd";
	const char *slash = strrchr(path, '/');
	snprintf(o->name, sizeof(o->name), "%s", slash ? slash + 1 : path);
	o->plugin = plugin_of(m, path);
	return 0;
}

int crash_plugins(const struct crash_plugin *list, size_t n)
{
	size_t objects = 0;
	dl_iterate_phdr(count_object, &objects);
	size_t head = sizeof(struct map) + objects * sizeof(struct object);
	struct map *m = calloc(1, head + (n + 1) * sizeof(*list));
	if (!m)
		return -ENOMEM;
	struct crash_plugin *copy = (struct crash_plugin *)((char *)m + head);
	if (n)
		memcpy(copy, list, n * sizeof(*list));
	m->plugins = copy;
	m->n_plugins = n;
	m->room = objects;
	dl_iterate_phdr(add_object, m);
	m->before = atomic_load(&state.map);
	atomic_store(&state.map, m);
	return 0;
}

static const struct object *object_at(const struct map *m, const void *pc)
{
	for (size_t i = 0; m && i < m->n; i++)
		if ((uintptr_t)pc >= m->object[i].begin && (uintptr_t)pc < m->object[i].end)
			return &m->object[i];
	return NULL;
}

static const struct crash_plugin *instance(const struct map *m, const char *who)
{
	for (size_t i = 0; m && who && i < m->n_plugins; i++)
		if (strcmp(m->plugins[i].name, who) == 0)
			return &m->plugins[i];
	return NULL;
}

/* The innermost frame that is a plugin's says whose code it is; the mark says which instance of
 * it, and stands in where no frame does. */
static const struct crash_plugin *culprit(
		const struct map *m, void *const *pc, int n, const char *who)
{
	const struct crash_plugin *marked = instance(m, who);
	for (int i = 0; i < n; i++) {
		const struct object *o = object_at(m, pc[i]);
		if (!o || o->plugin < 0)
			continue;
		const struct crash_plugin *first = &m->plugins[o->plugin];
		return marked && strcmp(marked->path, first->path) == 0 ? marked : first;
	}
	return marked;
}

static void put_frames(struct crash_text *t, const struct map *m, void *const *pc, int n)
{
	for (int i = 0; i < n; i++) {
		const struct object *o = object_at(m, pc[i]);
		crash_put(t, i ? " " : "");
		if (o) {
			crash_put(t, o->name);
			crash_put(t, "+");
		}
		crash_put_hex(t, (uintptr_t)pc[i] - (o ? o->begin : 0));
	}
}

/* ---- the report ---------------------------------------------------------------- */

/* What happened, in the handler's hands. */
struct crash {
	const char *how; /* "SIGSEGV", "exit()" */
	const void *address;
	int has_address;
	void *pc[CRASH_FRAMES];
	int n;
	const char *who, *what;
	const struct crash_plugin *by;
};

static void put_place(struct crash_text *t, const struct crash *c)
{
	if (c->by) {
		crash_put(t, "plugin \"");
		crash_put(t, c->by->name);
		crash_put(t, "\"");
		if (c->by->version) {
			crash_put(t, " (version ");
			crash_put(t, c->by->version);
			crash_put(t, ")");
		}
	} else {
		crash_put(t, "the server itself");
	}
	if (c->what) {
		crash_put(t, ", in ");
		crash_put(t, c->what);
	}
	if (c->who && (!c->by || strcmp(c->who, c->by->name) != 0)) {
		crash_put(t, " of \"");
		crash_put(t, c->who);
		crash_put(t, "\"");
	}
	if (here) {
		crash_put(t, ", on ");
		crash_put(t, here->thread);
		if (here->index >= 0) {
			crash_put(t, " ");
			crash_put_number(t, here->index);
		}
	}
}

static void report(const struct crash *c)
{
	const struct map *m = atomic_load(&state.map);
	struct crash_text t;
	crash_begin(&t);
	crash_put(&t, "crashed: ");
	crash_put(&t, c->how);
	if (c->has_address) {
		crash_put(&t, " at address ");
		crash_put_hex(&t, (uintptr_t)c->address);
	}
	crash_put(&t, ": ");
	put_place(&t, c);
	crash_write(&t);
	crash_begin(&t);
	crash_put(&t, "crashed at: ");
	put_frames(&t, m, c->pc, c->n);
	crash_put(&t, "; addr2line -e FILE OFFSET names the lines");
	crash_write(&t);
}

/* "1790000000 SIGSEGV message_in\n"; read by host/crashes.c. */
static void record(const struct crash *c)
{
	int dir = atomic_load(&state.record_dir);
	int fd = c->by && dir >= 0
			? openat(dir, c->by->name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
			: -1;
	struct timespec now;
	struct crash_text t = { 0 };
	if (fd < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	crash_put_number(&t, now.tv_sec);
	crash_put(&t, " ");
	crash_put(&t, c->how);
	crash_put(&t, " ");
	crash_put(&t, c->what ? c->what : "no callback");
	crash_put(&t, "\n");
	ssize_t rc = write(fd, t.p, t.n);
	(void)rc; /* there is nothing that could be done about it */
	close(fd);
}

static void tell(struct crash *c)
{
	/* Whoever crashes second waits for the end; a report that hangs is cut off. */
	if (atomic_exchange(&state.crashed, 1))
		for (;;)
			pause();
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	signal(SIGALRM, SIG_DFL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	alarm(PATIENCE_S);
	c->who = here ? atomic_load_explicit(&here->mark.who, memory_order_relaxed) : NULL;
	c->what = here ? atomic_load_explicit(&here->mark.what, memory_order_relaxed) : NULL;
	c->by = culprit(atomic_load(&state.map), c->pc, c->n, c->who);
	report(c);
	record(c);
}

static void die(int sig)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, sig);
	signal(sig, SIG_DFL);
	raise(sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + sig);
}

/* ---- signals -------------------------------------------------------------------- */

static const struct {
	int sig;
	const char *name;
	int has_address;
} fatal[] = {
	{ SIGSEGV, "SIGSEGV", 1 },
	{ SIGBUS, "SIGBUS", 1 },
	{ SIGFPE, "SIGFPE", 0 },
	{ SIGILL, "SIGILL", 0 },
	{ SIGABRT, "SIGABRT", 0 },
	{ SIGSYS, "SIGSYS", 0 },
	{ SIGTRAP, "SIGTRAP", 0 },
};

static void on_fatal(int sig, siginfo_t *info, void *context)
{
	struct crash c = { .how = "a signal" };
	(void)context;
	if (unwinds && (sig == SIGSEGV || sig == SIGBUS)) {
		unwinds = 0;
		siglongjmp(unwinding, 1);
	}
	if (getpid() != state.pid) /* a child between fork() and exec() */
		die(sig);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		if (fatal[i].sig == sig) {
			c.how = fatal[i].name;
			c.has_address = fatal[i].has_address;
		}
	c.address = info->si_addr;
	c.n = backtrace(c.pc, CRASH_FRAMES);
	tell(&c);
	die(sig);
}

static void on_trace(int sig)
{
	int saved = errno;
	(void)sig;
	if (here && atomic_load(&here->trace.state) == 1) {
		here->trace.n = 0;
		if (sigsetjmp(unwinding, 1) == 0) {
			unwinds = 1;
			here->trace.n = backtrace(here->trace.pc, CRASH_FRAMES);
			unwinds = 0;
		}
		atomic_store(&here->trace.state, 2);
	}
	errno = saved;
}

/* exit() while the server serves was not the server's. */
static void on_exit_call(void)
{
	if (!atomic_load(&state.serving) || getpid() != state.pid)
		return;
	struct crash c = { .how = "exit() was called" };
	c.n = backtrace(c.pc, CRASH_FRAMES);
	tell(&c);
	die(SIGABRT);
}

int crash_open(void)
{
	void *first[2];
	struct sigaction sa = { .sa_sigaction = on_fatal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	struct sigaction old, trace = { .sa_handler = on_trace, .sa_flags = SA_RESTART };
	state.pid = getpid();
	backtrace(first, 2); /* loads what it needs, which is not for a handler */
	sigfillset(&sa.sa_mask);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		if (sigaction(fatal[i].sig, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(fatal[i].sig, &sa, NULL);
	sigaction(TRACE_SIGNAL, &trace, NULL);
	return atexit(on_exit_call) == 0 && at_quick_exit(on_exit_call) == 0 ? 0 : -ENOMEM;
}

void crash_serving(int on)
{
	atomic_store(&state.serving, on);
}

int crash_record_in(const char *dir)
{
	int top = open(dir, O_DIRECTORY | O_CLOEXEC);
	int rc = top < 0 || (mkdirat(top, "crashes", 0700) < 0 && errno != EEXIST) ? -errno : 0;
	int fd = rc == 0 ? openat(top, "crashes", O_DIRECTORY | O_CLOEXEC) : -1;
	if (rc == 0 && fd < 0)
		rc = -errno;
	if (top >= 0)
		close(top);
	if (fd >= 0)
		atomic_store(&state.record_dir, fd);
	return rc;
}

/* ---- threads --------------------------------------------------------------------- */

int crash_thread(struct crash_here *h)
{
	void *p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	stack_t ss = { .ss_sp = p, .ss_size = STACK_BYTES };
	stack_t old;
	/* A sanitizer gives each thread one of its own: that will do. */
	if (sigaltstack(NULL, &old) == 0 && old.ss_flags & SS_DISABLE && sigaltstack(&ss, NULL) == 0) {
		h->stack = p;
	} else {
		munmap(p, STACK_BYTES);
	}
	here = h;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, TRACE_SIGNAL);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		sigaddset(&set, fatal[i].sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return 0;
}

void crash_thread_end(struct crash_here *h)
{
	stack_t off = { .ss_flags = SS_DISABLE };
	here = NULL;
	if (h->stack && sigaltstack(&off, NULL) == 0) {
		munmap(h->stack, STACK_BYTES);
		h->stack = NULL;
	}
}

const char *crash_trace(pthread_t thread, struct crash_here *h, char *ret, size_t room)
{
	struct crash_text t = { 0 };
	const struct timespec nap = { .tv_nsec = 1000000 };
	const struct map *m = atomic_load(&state.map);
	ret[0] = '\0';
	atomic_store(&h->trace.state, 1);
	if (!m || pthread_kill(thread, TRACE_SIGNAL) != 0)
		return NULL;
	for (int i = 0; i < TRACE_WAIT_MS && atomic_load(&h->trace.state) != 2; i++)
		nanosleep(&nap, NULL);
	if (atomic_load(&h->trace.state) != 2)
		return NULL;
	put_frames(&t, m, h->trace.pc, h->trace.n);
	t.p[t.n] = '\0';
	snprintf(ret, room, "%s", t.p);
	const struct crash_plugin *by = culprit(
			m, h->trace.pc, h->trace.n, atomic_load_explicit(&h->mark.who, memory_order_relaxed));
	return by ? by->name : NULL;
}
