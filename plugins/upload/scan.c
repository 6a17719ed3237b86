/* SPDX-License-Identifier: Apache-2.0 */
/* A scanner looks into what was uploaded; until it has said that it is good, only its owner gets
 * it.  It is any program: the file is its standard input, and it says by its exit code what it
 * thinks: 0 good, 1 bad.  Whatever else happens, it is asked again later and the file waits. */
#include "upload.h"

#include <chatd-sdk/spawn.h>

#include "seal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNNING_MAX = 2, QUEUE_MAX = 1000, AGAIN_MS = 60000 };

struct scan {
	TAILQ_ENTRY(scan) link;
	struct scanner *of;
	char object[OBJECT_NAME];
	struct chatd_timer timer;
	chatd_watch *watch;
	pid_t pid;
	int pidfd;
	chatd_status rc;      /* [crew] */
	struct feeding *feed; /* it is encrypted, and comes through a pipe */
};
TAILQ_HEAD(scans, scan);

struct scanner {
	struct worker *at;
	struct chatd_timer timer;
	struct scans waiting, running;
	int64_t n_waiting, n_running;
	int asking, stopped;
};

static struct self *self_of(const struct scanner *s)
{
	return s->at->self;
}

/* ---- [crew] ------------------------------------------------------------------------------ */

struct feeding {
	struct seal_feed feed;
	char object[OBJECT_NAME];
};

static void free_feeding(struct feeding *f)
{
	close(f->feed.from);
	close(f->feed.to);
	close(f->feed.pidfd);
	f->feed.self->h->mem_free(f);
}

static chatd_status run(struct scan *c, int in)
{
	struct chatd_spawn s = {
		.argv = self_of(c->of)->conf->scanner, .path = CHATD_SPAWN_PATH, .in = in, .out = -1
	};
	chatd_status rc = chatd_spawn(&s);
	c->pid = s.pid;
	c->pidfd = s.pidfd;
	return rc;
}

/* @p file goes with it. */
static chatd_status start_piped(struct scan *c, int file)
{
	struct self *self = self_of(c->of);
	int ends[2];
	struct feeding *f = self->h->mem_alloc(sizeof(*f));
	if (!f || pipe2(ends, O_CLOEXEC) < 0) {
		self->h->mem_free(f);
		close(file);
		return f ? -errno : -ENOMEM;
	}
	snprintf(f->object, sizeof(f->object), "%s", c->object);
	f->feed = (struct seal_feed){ self, f->object, file, ends[1], -1, self->conf->scan_timeout };
	chatd_status rc = run(c, ends[0]);
	close(ends[0]);
	if (rc < 0) {
		free_feeding(f);
		return rc;
	}
	f->feed.pidfd = fcntl(c->pidfd, F_DUPFD_CLOEXEC, 3);
	c->feed = f;
	return 0;
}

static void start(void *arg)
{
	struct scan *c = arg;
	int file = bytes_open(self_of(c->of), c->object);
	if (file < 0) {
		c->rc = file;
	} else if (seal_is(c->object)) {
		c->rc = start_piped(c, file);
	} else {
		c->rc = run(c, file);
		close(file);
	}
}

static void feed(void *arg)
{
	struct feeding *f = arg;
	seal_feed(&f->feed);
	close(f->feed.pidfd);
}

static void on_fed(void *arg)
{
	struct feeding *f = arg;
	f->feed.self->h->mem_free(f);
}

/* ---- [worker] ------------------------------------------------------------------------------ */

static void pump(struct scanner *s);

static void free_scanner(struct scanner *s)
{
	if (!s->n_running && !s->asking) {
		self_of(s)->h->mem_free(s);
	}
}

static void end_scan(struct scan *c)
{
	struct scanner *s = c->of;
	TAILQ_REMOVE(&s->running, c, link);
	s->n_running--;
	self_of(s)->h->mem_free(c);
	if (s->stopped) {
		free_scanner(s);
	} else {
		pump(s);
	}
}

static void on_marked(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)a;
	if (rc < 0 && rc != -ENOENT) {
		struct scan *c = arg;
		self_of(c->of)->h->log(self_of(c->of)->ctx, CHATD_LOG_WARN,
				"what the scanner says of %s could not be stored; it is asked again", c->object);
	}
	end_scan(arg);
}

static void judge(struct scan *c, int status)
{
	struct self *self = self_of(c->of);
	const struct chatd_store *store = self->store->vt;
	struct chatd_store_file_mark mark = { .struct_size = sizeof(mark), .object = text(c->object) };
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	if (code == 1) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "the scanner found %s to be harmful", c->object);
		mark.state = CHATD_STORE_FILE_BAD;
	} else if (code != 0) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"the scanner says nothing of %s (%s %d); the file waits, and is looked at again",
				c->object, code < 0 ? "signal" : "exit code", code < 0 ? WTERMSIG(status) : code);
		end_scan(c);
		return;
	}
	if (store->file_mark(self->store->obj, c->of->at->w, &mark, on_marked, c) < 0) {
		end_scan(c);
	}
}

static void on_late(void *arg)
{
	struct scan *c = arg;
	kill(-c->pid, SIGKILL);
}

static void on_exit_of(void *arg, uint32_t ready)
{
	struct scan *c = arg;
	int status = 0;
	(void)ready;
	if (waitpid(c->pid, &status, WNOHANG) != c->pid) {
		return;
	}
	self_of(c->of)->h->unwatch(c->watch);
	c->watch = NULL;
	self_of(c->of)->h->timer_clear(&c->timer);
	close(c->pidfd);
	judge(c, status);
}

static void on_started(void *arg)
{
	struct scan *c = arg;
	struct self *self = self_of(c->of);
	if (c->rc < 0) {
		/* ENOENT: the file was deleted meanwhile, or there is no such program. */
		self->h->log(self->ctx, CHATD_LOG_WARN, "%s could not be given to the scanner %s: %s",
				c->object, self->conf->scanner[0], strerror(-c->rc));
		end_scan(c);
		return;
	}
	if (c->feed && crew_do(self->feeders, c->of->at->w, feed, on_fed, c->feed) < 0) {
		kill(-c->pid, SIGKILL); /* before the pipe ends: it must not think that this was all */
		free_feeding(c->feed);
	}
	c->watch = c->of->stopped ? NULL : self->h->watch_fd(c->of->at->w, c->pidfd, 1, on_exit_of, c);
	if (!c->watch) {
		kill(-c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
		close(c->pidfd);
		end_scan(c);
		return;
	}
	self->h->timer_set(c->of->at->w, &c->timer, self->conf->scan_timeout, on_late, c);
}

static void pump(struct scanner *s)
{
	while (s->n_running < RUNNING_MAX && !TAILQ_EMPTY(&s->waiting)) {
		struct scan *c = TAILQ_FIRST(&s->waiting);
		if (crew_do(self_of(s)->crew, s->at->w, start, on_started, c) < 0) {
			return; /* the next round tries again */
		}
		TAILQ_REMOVE(&s->waiting, c, link);
		TAILQ_INSERT_TAIL(&s->running, c, link);
		s->n_waiting--;
		s->n_running++;
	}
}

static int knows(const struct scans *all, struct chatd_str object)
{
	const struct scan *c;
	TAILQ_FOREACH (c, all, link) {
		if (chatd_str_same(text(c->object), object)) {
			return 1;
		}
	}
	return 0;
}

/* What finds no place here is found by the next round. */
static void add(struct scanner *s, struct chatd_str object)
{
	struct scan *c;
	if (s->n_waiting >= QUEUE_MAX || knows(&s->waiting, object) || knows(&s->running, object) ||
			!(c = self_of(s)->h->mem_alloc(sizeof(*c)))) {
		return;
	}
	c->of = s;
	chatd_str_copy(c->object, sizeof(c->object), object);
	TAILQ_INSERT_TAIL(&s->waiting, c, link);
	s->n_waiting++;
}

static void ask(void *arg);

static void on_waiting(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct scanner *s = arg;
	s->asking = 0;
	if (s->stopped) {
		free_scanner(s);
		return;
	}
	for (size_t i = 0; rc == 0 && i < a->n_files; i++) {
		add(s, a->files[i].object);
	}
	pump(s);
}

static void ask(void *arg)
{
	struct scanner *s = arg;
	const struct chatd_store *store = self_of(s)->store->vt;
	const struct chatd_store_objects r = {
		.struct_size = sizeof(r), .which = CHATD_STORE_OBJECTS_WAIT, .limit = QUEUE_MAX
	};
	s->asking = store->objects(self_of(s)->store->obj, s->at->w, &r, on_waiting, s) == 0;
	self_of(s)->h->timer_set(s->at->w, &s->timer, AGAIN_MS, ask, s);
}

struct note {
	struct self *self;
	char object[OBJECT_NAME];
};

static void on_note(void *arg)
{
	struct note *n = arg;
	const struct chatd_host *h = n->self->h;
	struct worker *at = h->worker_self(n->self->ctx, h->worker_at(0));
	if (at->scanner) {
		add(at->scanner, text(n->object));
		pump(at->scanner);
	}
	h->mem_free(n);
}

void scan_soon(struct self *self, struct chatd_str object)
{
	struct note *n = self->h->mem_alloc(sizeof(*n));
	if (!n) {
		return;
	}
	n->self = self;
	chatd_str_copy(n->object, sizeof(n->object), object);
	if (self->h->post(self->h->worker_at(0), on_note, n) < 0) {
		self->h->mem_free(n);
	}
}

void scan_start(struct worker *at)
{
	struct scanner *s = at->self->conf->scanner[0] ? at->self->h->mem_alloc(sizeof(*s)) : NULL;
	if (s) {
		s->at = at;
		TAILQ_INIT(&s->waiting);
		TAILQ_INIT(&s->running);
		at->scanner = s;
		at->self->h->timer_set(at->w, &s->timer, 1000, ask, s);
	}
}

void scan_stop(struct worker *at)
{
	struct scanner *s = at->scanner;
	struct scan *c, *next;
	if (!s) {
		return;
	}
	at->scanner = NULL;
	s->stopped = 1;
	at->self->h->timer_clear(&s->timer);
	while ((c = TAILQ_FIRST(&s->waiting))) {
		TAILQ_REMOVE(&s->waiting, c, link);
		at->self->h->mem_free(c);
	}
	for (c = TAILQ_FIRST(&s->running); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->watch) {
			at->self->h->unwatch(c->watch);
			at->self->h->timer_clear(&c->timer);
			kill(-c->pid, SIGKILL);
			waitpid(c->pid, NULL, 0);
			close(c->pidfd);
			c->watch = NULL;
			TAILQ_REMOVE(&s->running, c, link);
			s->n_running--;
			at->self->h->mem_free(c);
		}
	}
	free_scanner(s);
}
