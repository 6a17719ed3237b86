/* SPDX-License-Identifier: Apache-2.0 */
/* Small pictures of pictures.  A program of its own decodes them, see thumbnail/: what a picture can
 * do to it, it cannot do to the server.  One process for each, two at a time. */
#include "upload.h"

#include <chatd-sdk/spawn.h>

#include "seal.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WAIT_MS = 10000, /* for its turn; then it is not made now */
	MEMORY = 512 << 20,
	OUTPUT_MAX = 16 << 20,
	EXIT_NO_PICTURE = 1,
};

struct thumb {
	struct self *self;
	thumb_fn *fn;
	void *arg;
	char path[DIR_PATH], object[OBJECT_NAME];
	int64_t asked; /* wall clock: the crew has no other */
	chatd_status rc;
	int width, height;
};

int thumb_can(const struct self *self, struct chatd_str type)
{
	static const char *const kinds[] = { "image/jpeg", "image/png", "image/webp", "image/gif" };
	for (size_t i = 0; self->n_edges && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (chatd_str_same(type, text(kinds[i]))) {
			return 1;
		}
	}
	return 0;
}

void thumb_object(const char *object, int edge, char ret[OBJECT_NAME])
{
	snprintf(ret, OBJECT_NAME, "%.100s-%d", object, edge);
}

/* ---- [crew] ------------------------------------------------------------------------------ */

/* 0; -ENODATA: it is no picture that can be read; others: not now. */
static chatd_status wait_for(pid_t pid, int pidfd, int64_t ms)
{
	struct pollfd wait = { .fd = pidfd, .events = POLLIN };
	int status = 0, n;
	do {
		n = poll(&wait, 1, (int)ms);
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		kill(-pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	if (n <= 0) {
		return -ETIME;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		return 0;
	}
	/* What brought it down will do so again; what was killed from outside may have been no fault of
	 * its own. */
	int outside = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	int fault = WIFSIGNALED(status) || WEXITSTATUS(status) == EXIT_NO_PICTURE;
	return fault && !outside ? -ENODATA : -EIO;
}

/* An encrypted picture comes through a pipe: it lies nowhere as it is. */
static chatd_status run_piped(struct thumb *t, struct chatd_spawn *s)
{
	int ends[2], in = s->in;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		return -errno;
	}
	s->in = ends[0];
	chatd_status rc = chatd_spawn(s);
	close(ends[0]);
	if (rc < 0) {
		close(ends[1]);
		return rc;
	}
	int64_t ms = t->self->conf->thumb_timeout;
	struct seal_feed feed = { t->self, t->object, dup(in), ends[1], s->pidfd, ms };
	chatd_status fed = seal_feed(&feed);
	rc = wait_for(s->pid, s->pidfd, ms);
	close(s->pidfd);
	return fed < 0 ? fed : rc;
}

static chatd_status run(struct thumb *t, int in, int out)
{
	char pixels[24], memory[24], edges[EDGES_MAX][12];
	const char *argv[4 + EDGES_MAX] = { t->self->thumbnailer, pixels, memory };
	struct chatd_spawn s = { .argv = argv, .path = CHATD_SPAWN_PATH, .in = in, .out = out };
	snprintf(pixels, sizeof(pixels), "%lld", (long long)t->self->conf->pixels);
	snprintf(memory, sizeof(memory), "%d", MEMORY);
	for (int i = 0; i < t->self->n_edges; i++) {
		snprintf(edges[i], sizeof(edges[i]), "%d", t->self->edges[i]);
		argv[3 + i] = edges[i];
	}
	if (seal_is(t->object)) {
		return run_piped(t, &s);
	}
	chatd_status rc = chatd_spawn(&s);
	if (rc < 0) {
		return rc;
	}
	rc = wait_for(s.pid, s.pidfd, t->self->conf->thumb_timeout);
	close(s.pidfd);
	return rc;
}

/* "A B\n" at the front of what is left. */
static int take_line(struct chatd_str *s, int64_t *a, int64_t *b)
{
	const char *space = s->n ? memchr(s->p, ' ', s->n < 24 ? s->n : 24) : NULL;
	const char *end = space ? memchr(space, '\n', (size_t)(s->p + s->n - space)) : NULL;
	if (!end || end - space > 24) {
		return 0;
	}
	*a = number_read(chatd_str_of(s->p, (size_t)(space - s->p)));
	*b = number_read(chatd_str_of(space + 1, (size_t)(end - space - 1)));
	s->n -= (size_t)(end + 1 - s->p);
	s->p = end + 1;
	return *a > 0 && *b > 0;
}

/* What a program says that a picture may have taken over is looked at like the picture. */
static chatd_status store(struct thumb *t, struct chatd_str s)
{
	int64_t width, height, edge, n;
	char name[OBJECT_NAME];
	if (!take_line(&s, &width, &height) || width > 65535 || height > 65535) {
		return -ENODATA;
	}
	for (int i = 0; i < t->self->n_edges; i++) {
		if (!take_line(&s, &edge, &n) || edge != t->self->edges[i] || (size_t)n > s.n || n < 16 ||
				memcmp(s.p, "RIFF", 4) != 0 || memcmp(s.p + 8, "WEBPVP8", 7) != 0) {
			return -ENODATA;
		}
		thumb_object(t->object, (int)edge, name);
		chatd_status rc = bytes_put_small(t->self, name, s.p, (size_t)n);
		if (rc < 0) {
			return rc;
		}
		s.p += n;
		s.n -= (size_t)n;
	}
	t->width = (int)width;
	t->height = (int)height;
	return 0;
}

static chatd_status read_output(struct thumb *t, int out)
{
	struct stat st;
	if (fstat(out, &st) < 0) {
		return -errno;
	}
	if (st.st_size < 1 || st.st_size > OUTPUT_MAX) {
		return -ENODATA;
	}
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, out, 0);
	if (p == MAP_FAILED) {
		return -errno;
	}
	chatd_status rc = store(t, chatd_str_of(p, (size_t)st.st_size));
	munmap(p, (size_t)st.st_size);
	return rc;
}

/* So that nobody tries again: empty ones. */
static void note_none(struct thumb *t)
{
	char name[OBJECT_NAME];
	for (int i = 0; i < t->self->n_edges; i++) {
		thumb_object(t->object, t->self->edges[i], name);
		bytes_put_small(t->self, name, "", 0);
	}
}

static void make(void *arg)
{
	struct thumb *t = arg;
	if (t->self->h->wall_ms() - t->asked > WAIT_MS) {
		t->rc = -EBUSY;
		return;
	}
	int in = t->path[0] ? open(t->path, O_RDONLY | O_CLOEXEC) : bytes_open(t->self, t->object);
	t->rc = in < 0 ? (t->path[0] ? -errno : in) : 0;
	int out = in < 0 ? -1 : memfd_create("thumbnail", MFD_CLOEXEC);
	if (in >= 0 && out < 0) {
		t->rc = -errno;
	}
	t->rc = t->rc < 0 ? t->rc : run(t, in, out);
	t->rc = t->rc < 0 ? t->rc : read_output(t, out);
	if (t->rc == -ENODATA) {
		note_none(t);
	}
	if (in >= 0) {
		close(in);
	}
	if (out >= 0) {
		close(out);
	}
}

/* ---- [worker] ---------------------------------------------------------------------------- */

static void on_made(void *arg)
{
	struct thumb *t = arg;
	struct self *self = t->self;
	if (t->rc < 0) {
		self->h->log(self->ctx,
				t->rc == -EHOSTDOWN         ? CHATD_LOG_DEBUG
						: t->rc == -ENODATA ? CHATD_LOG_INFO
											: CHATD_LOG_WARN,
				"%s has no small pictures: %s", t->object,
				t->rc == -ENODATA ? "it cannot be decoded, or takes too much" : strerror(-t->rc));
	}
	t->fn(t->arg, t->rc, t->width, t->height);
	self->h->mem_free(t);
}

chatd_status thumb_start(const struct thumb_what *what, thumb_fn *fn, void *arg)
{
	struct self *self = what->self;
	struct thumb *t = self->h->mem_alloc(sizeof(*t));
	if (!t) {
		return -ENOMEM;
	}
	t->self = self;
	t->fn = fn;
	t->arg = arg;
	snprintf(t->path, sizeof(t->path), "%s", what->path ? what->path : "");
	snprintf(t->object, sizeof(t->object), "%s", what->object);
	t->asked = self->h->wall_ms();
	chatd_status rc = crew_do(self->painters, what->w, make, on_made, t);
	if (rc < 0) {
		self->h->mem_free(t);
	}
	return rc;
}

/* ---- [main] ------------------------------------------------------------------------------ */

/* Beside the plugin, as it was built; else where it was installed. */
static int find_program(char ret[DIR_PATH])
{
	static const char installed[] = CHATD_THUMBNAIL;
	Dl_info here;
	if (dladdr(installed, &here) && here.dli_fname) {
		const char *slash = strrchr(here.dli_fname, '/');
		int n = slash ? (int)(slash - here.dli_fname) : 0;
		snprintf(ret, DIR_PATH, "%.*s/upload/chatd-thumbnail", n, here.dli_fname);
		if (slash && access(ret, X_OK) == 0) {
			return 1;
		}
	}
	snprintf(ret, DIR_PATH, "%s", installed);
	return access(ret, X_OK) == 0;
}

static int by_size(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void thumb_init(struct self *self)
{
	const struct conf *conf = self->conf;
	if (!conf->thumbnails[0]) {
		return;
	}
	if (conf->thumbnailer) {
		snprintf(self->thumbnailer, sizeof(self->thumbnailer), "%s", conf->thumbnailer);
	} else if (!find_program(self->thumbnailer)) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"there is no %s: pictures have no thumbnails; install it, or set thumbnails: []",
				self->thumbnailer);
		return;
	}
	for (; conf->thumbnails[self->n_edges]; self->n_edges++) {
		self->edges[self->n_edges] = (int)number_read(text(conf->thumbnails[self->n_edges]));
	}
	qsort(self->edges, (size_t)self->n_edges, sizeof(self->edges[0]), by_size);
}
