/* SPDX-License-Identifier: Apache-2.0 */
/* Mails as files in a folder: for tests, and for trying things out without a mail server. */
#include <chatd/mailer.h>
#include <chatd/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TO_MAX = 320, TEXT_MAX = 1 << 20 };

struct conf {
	const char *folder;
	int64_t queue;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	char folder[4096];
};

struct wself {
	int64_t waiting;
};

struct job {
	const struct self *self;
	struct wself *ws;
	chatd_mail_fn *fn;
	void *arg;
	chatd_status rc;
	char id[37];
	size_t n;
	char text[];
};

static const struct chatd_opt opts[] = {
	{ .key = "folder",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, folder),
			.doc = "Where mails are written, one file each; absent: mail in the data folder." },
	{ .key = "queue",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, queue),
			.fallback = "1000",
			.min = 1,
			.max = 1000000,
			.doc = "Mails that may wait to be written, on each worker." },
	{ 0 },
};

/* The whole file or none: whoever looks into the folder sees finished mails only. */
static chatd_status write_file(const struct self *self, const struct job *job)
{
	char path[4200], made[4200];
	snprintf(path, sizeof(path), "%s/.%s", self->folder, job->id);
	snprintf(made, sizeof(made), "%s/%s.eml", self->folder, job->id);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return -errno;
	}
	ssize_t n = write(fd, job->text, job->n);
	int rc = n == (ssize_t)job->n ? 0 : n < 0 ? -errno : -ENOSPC;
	if (close(fd) != 0 && rc == 0) {
		rc = -errno;
	}
	if (rc == 0 && rename(path, made) != 0) {
		rc = -errno;
	}
	if (rc != 0) {
		unlink(path);
	}
	return rc;
}

static void work(void *arg)
{
	struct job *job = arg;
	job->rc = write_file(job->self, job);
}

static void done(void *arg)
{
	struct job *job = arg;
	const struct self *self = job->self;
	job->ws->waiting--;
	if (job->rc < 0) {
		(void)self->h->fail(self->ctx, job->rc, "cannot write a mail into %s: %s", self->folder,
				strerror(-job->rc));
	}
	job->fn(job->arg, job->rc);
	self->h->mem_free(job);
}

/* In a header everything counts: a line more is a header more. */
static int plain(struct chatd_str s, size_t max)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= max;
}

static chatd_status send_mail(
		void *obj, chatd_worker *w, const struct chatd_mail *m, chatd_mail_fn *fn, void *arg)
{
	static const char head[] = "To: %.*s\nSubject: %.*s\n\n";
	const struct self *self = obj;
	struct wself *ws = self->h->worker_self(self->ctx, w);
	if (!plain(m->to, TO_MAX) || !plain(m->subject, TO_MAX) || m->text.n > TEXT_MAX) {
		return -EINVAL;
	}
	if (ws->waiting >= self->conf->queue) {
		return -EAGAIN;
	}
	size_t room = sizeof(head) + m->to.n + m->subject.n + m->text.n;
	struct job *job = self->h->mem_alloc(sizeof(*job) + room);
	if (!job) {
		return -ENOMEM;
	}
	*job = (struct job){ .self = self, .ws = ws, .fn = fn, .arg = arg };
	self->h->new_id(job->id);
	job->n = (size_t)snprintf(
			job->text, room, head, (int)m->to.n, m->to.p, (int)m->subject.n, m->subject.p);
	if (m->text.n) {
		memcpy(job->text + job->n, m->text.p, m->text.n);
		job->n += m->text.n;
	}
	chatd_status rc = self->h->offload(w, work, done, job);
	if (rc < 0) {
		self->h->mem_free(job);
		return rc == -EBUSY ? -EAGAIN : rc;
	}
	ws->waiting++;
	return 0;
}

static const struct chatd_mailer vt = { .struct_size = sizeof(vt), .send = send_mail };

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	const struct conf *conf = confp;
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf };
	*ret_self = self;
	if (conf->folder) {
		snprintf(self->folder, sizeof(self->folder), "%s", conf->folder);
	} else {
		snprintf(self->folder, sizeof(self->folder), "%s/mail", h->data_dir());
	}
	if (mkdir(self->folder, 0700) != 0 && errno != EEXIST) {
		return h->fail(ctx, -errno, "cannot make the folder %s for mails: %s", self->folder,
				strerror(errno));
	}
	if (access(self->folder, W_OK | X_OK) != 0) {
		return h->fail(ctx, -errno,
				"cannot write into %s: %s; let the server's user do so, or name another folder",
				self->folder, strerror(errno));
	}
	return h->provide(ctx, CHATD_MAILER, &vt, self);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_MAILER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "mail-file",
	.version = "0.1",
	.summary = "mails as files in a folder, for tests and development",
	.provides = provides,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct wself),
	.init = init,
	.fini = fini,
};
