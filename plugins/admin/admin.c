/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's way in: lines of JSON over a unix socket that nobody else may open. */
#include "admin.h"

#include <chatd/plugins.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16384, CLIENTS_MAX = 16, PATIENCE_MS = 10000, LIST_MAX = 100000 };

/* One connection; one command at a time. */
struct client {
	struct client *next, **link;
	const struct self *self;
	struct worker *aw;
	chatd_worker *w;
	chatd_stream *stream;
	struct job *job; /* NULL: idle */
	struct chatd_timer timer;
};

/* ---- commands ------------------------------------------------------------------------ */

struct job *job_new(const struct self *self, chatd_worker *home)
{
	struct job *job = self->h->mem_alloc(sizeof(*job));
	if (job) {
		job->self = self;
		job->home = home;
		job->wish.limit = 1000;
		chatd_json_init(&job->out, NULL, 0);
	}
	return job;
}

void job_free(struct job *job)
{
	if (job) {
		cluster_forget(job);
		json_decref(job->root);
		chatd_json_free(&job->out);
		job->self->h->mem_free(job);
	}
}

static void client_destroy(struct client *c)
{
	*c->link = c->next;
	if (c->next) {
		c->next->link = c->link;
	}
	c->aw->n_clients--;
	c->self->h->timer_clear(&c->timer);
	c->self->h->mem_free(c);
}

static void on_idle(void *arg)
{
	struct client *c = arg;
	c->stream->ops->close(c->stream);
	client_destroy(c);
}

static void send_text(struct client *c, struct chatd_str text)
{
	const struct chatd_host *h = c->self->h;
	chatd_buf *b = h->buf_new(0, text.n + 1);
	if (!b) {
		c->stream->ops->reset(c->stream);
		client_destroy(c);
		return;
	}
	memcpy(h->buf_data(b), text.p, text.n);
	h->buf_data(b)[text.n] = '\n';
	c->stream->ops->send(c->stream, b);
	h->buf_unref(b);
	h->timer_set(c->w, &c->timer, PATIENCE_MS, on_idle, c);
	c->stream->ops->pause(c->stream, 0);
}

void job_answer(struct job *job)
{
	struct client *c = job->client;
	if (c) {
		c->job = NULL;
		send_text(c,
				job->out.failed ? CHATD_LIT("{\"ok\":false,\"code\":\"UNAVAILABLE\",\"message\":"
											"\"the server has no memory left\"}")
								: chatd_json_str(&job->out));
	}
	job_free(job);
}

void job_refuse(struct job *job, const char *code, const char *fmt, ...)
{
	char why[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	chatd_json_free(&job->out);
	chatd_json_lit(&job->out, "{\"ok\":false");
	chatd_json_member(&job->out, "code", chatd_str_of(code, strlen(code)));
	chatd_json_member(&job->out, "message", chatd_str_of(why, strlen(why)));
	chatd_json_lit(&job->out, "}");
	job_answer(job);
}

static void on_journey(void *arg)
{
	struct job *job = arg;
	const struct chatd_host *h = job->self->h;
	int32_t n = h->worker_count();
	if (job->next > n) {
		job->away = 0;
		job->done(job);
		return;
	}
	job->visit(job, h->worker_at(job->next - 1));
	chatd_worker *to = job->next < n ? h->worker_at(job->next) : job->home;
	job->next++;
	if (h->post(to, on_journey, job) < 0) {
		job_free(job); /* the server ends: its client was dropped already */
	}
}

void job_travel(
		struct job *job, void (*visit)(struct job *, chatd_worker *), void (*done)(struct job *))
{
	job->visit = visit;
	job->done = done;
	job->next = 1;
	job->away = 1;
	if (job->self->h->post(job->self->h->worker_at(0), on_journey, job) < 0) {
		job->away = 0;
		job_refuse(job, "UNAVAILABLE", "the server is about to end, or has no memory left");
	}
}

/* ---- lines ------------------------------------------------------------------------------ */

static chatd_status read_wish(struct job *job, struct chatd_str line, char why[CHATD_JSON_WHY])
{
	static const struct chatd_json_field fields[] = {
		{ "cmd", CHATD_J_TEXT, offsetof(struct wish, cmd) },
		{ "user", CHATD_J_TEXT, offsetof(struct wish, user) },
		{ "session", CHATD_J_TEXT, offsetof(struct wish, session) },
		{ "reason", CHATD_J_TEXT, offsetof(struct wish, reason) },
		{ "text", CHATD_J_TEXT, offsetof(struct wish, text) },
		{ "path", CHATD_J_TEXT, offsetof(struct wish, path) },
		{ "what", CHATD_J_TEXT, offsetof(struct wish, what) },
		{ "name", CHATD_J_TEXT, offsetof(struct wish, name) },
		{ "key", CHATD_J_TEXT, offsetof(struct wish, key) },
		{ "value", CHATD_J_TEXT, offsetof(struct wish, value) },
		{ "limit", CHATD_J_INT, offsetof(struct wish, limit) },
		{ NULL, 0, 0 },
	};
	chatd_status rc = chatd_json_read(line, fields, &job->wish, &job->root, why);
	if (rc == 0 && (job->wish.limit < 1 || job->wish.limit > LIST_MAX)) {
		snprintf(why, CHATD_JSON_WHY, "limit is 1 to %d", LIST_MAX);
		return -EINVAL;
	}
	return rc;
}

static void on_line(struct client *c, struct chatd_str line)
{
	char why[CHATD_JSON_WHY] = "";
	struct job *job = job_new(c->self, c->w);
	if (!job) {
		c->stream->ops->reset(c->stream);
		client_destroy(c);
		return;
	}
	c->job = job;
	job->client = c;
	c->self->h->timer_clear(&c->timer);
	c->stream->ops->pause(c->stream, 1);
	if (read_wish(job, line, why) < 0) {
		job_refuse(job, "VALIDATION", "no command in this line: %s", why);
		return;
	}
	command_run(job);
}

static size_t on_data(void *arg, const char *p, size_t n)
{
	struct client *c = arg;
	const char *end = memchr(p, '\n', n);
	if (!end && n > LINE_MAX_BYTES) {
		c->stream->ops->reset(c->stream);
		client_destroy(c);
		return n;
	}
	if (c->job || !end) {
		return 0; /* comes again, with what follows */
	}
	size_t taken = (size_t)(end - p) + 1;
	on_line(c, chatd_str_of(p, taken - 1));
	return taken;
}

/* A command that is under way ends for itself; only nobody hears of it. */
static void detach(struct client *c)
{
	if (c->job) {
		c->job->client = NULL;
		c->job = NULL;
	}
	client_destroy(c);
}

static void on_gone(void *arg, int32_t why)
{
	(void)why;
	detach(arg);
}

static const struct chatd_stream_user stream_user = {
	.struct_size = sizeof(stream_user), .data = on_data, .gone = on_gone
};

/* The socket's mode is the first fence; this is the second: a descriptor may be handed on. */
static int may_enter(const struct self *self, const chatd_stream *stream)
{
	uint32_t uid = 0;
	int32_t pid = 0;
	chatd_status rc = CHATD_HAS(stream->ops, peer_cred) ? stream->ops->peer_cred(stream, &uid, &pid)
														: -ENOTSUP;
	if (rc == 0 && (uid == 0 || uid == self->uid)) {
		return 1;
	}
	self->h->log(self->ctx, CHATD_LOG_WARN,
			"refused: user %u, process %d; only root and the user that chatd runs as may command it",
			uid, (int)pid);
	return 0;
}

static void on_accepted(void *arg, chatd_worker *w, chatd_stream *stream)
{
	const struct self *self = arg;
	struct worker *aw = self->h->worker_self(self->ctx, w);
	int fits = aw->n_clients < CLIENTS_MAX && may_enter(self, stream);
	struct client *c = fits ? self->h->mem_alloc(sizeof(*c)) : NULL;
	if (!c) {
		stream->ops->close(stream);
		return;
	}
	*c = (struct client){ .self = self, .aw = aw, .w = w, .stream = stream };
	c->next = aw->clients;
	c->link = &aw->clients;
	if (c->next) {
		c->next->link = &c->next;
	}
	aw->clients = c;
	aw->n_clients++;
	self->h->timer_set(w, &c->timer, PATIENCE_MS, on_idle, c);
	stream->ops->attach(stream, &stream_user, c);
}

/* ---- life ---------------------------------------------------------------------------------- */

static const struct chatd_opt opts[] = {
	{ .key = "socket",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, socket),
			.doc = "The unix socket for chatctl; default: admin.sock in server.data_dir." },
	{ 0 },
};

static char *address_of(const struct self *self)
{
	const char *path = self->conf->socket, *dir = path ? "" : self->h->data_dir();
	size_t n = strlen(dir) + (path ? strlen(path) : 0) + 32;
	char *address = self->h->mem_alloc(n);
	if (address) {
		snprintf(address, n, "unix:%s%s", dir, path ? path : "/admin.sock");
	}
	return address;
}

static chatd_status open_socket(struct self *self)
{
	const struct chatd_service *net = self->h->service(self->ctx, CHATD_NET);
	const struct chatd_listen l = { .struct_size = sizeof(l),
		.address = self->address,
		.kind = "admin",
		.accepted = on_accepted,
		.arg = self };
	chatd_status rc = ((const struct chatd_net *)net->vt)->listen(net->obj, self->ctx, &l);
	const char *path = self->address + sizeof("unix:") - 1;
	struct stat st;
	/* Until here the server's umask has kept others out.  With --list-hooks nothing is made, and what
	 * may be there is not ours. */
	if (rc == 0 && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
			chmod(path, S_IRUSR | S_IWUSR) < 0) {
		rc = self->h->fail(
				self->ctx, -errno, "cannot set the mode of \"%s\": %s", path, strerror(errno));
	}
	return rc;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*ret_self = self;
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.uid = geteuid(),
		.stats = h->service(ctx, CHATD_STATS),
		.plugins = h->service(ctx, CHATD_PLUGINS),
		.store = h->service(ctx, CHATD_STORE),
		.cluster = h->service(ctx, CHATD_CLUSTER),
		.audit = h->service(ctx, CHATD_AUDIT),
		.started = h->wall_ms() };
	self->address = address_of(self);
	chatd_status rc = self->address ? roster_init(self) : -ENOMEM;
	if (rc == 0) {
		rc = cluster_init(self);
	}
	return rc == 0 ? open_socket(self) : rc;
}

/* Idle ones leave; a command under way is answered first. */
static void drain(void *selfp, chatd_worker *w, void *wself)
{
	struct worker *aw = wself;
	(void)selfp;
	(void)w;
	for (struct client *c = aw->clients, *next; c; c = next) {
		next = c->next;
		if (!c->job) {
			on_idle(c);
		}
	}
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct worker *aw = wself;
	(void)selfp;
	(void)w;
	while (aw->clients) {
		struct client *c = aw->clients;
		struct job *job = c->job;
		c->stream->ops->reset(c->stream);
		detach(c);
		if (job && !job->away) {
			job_free(job); /* no answer comes to this worker any more */
		}
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self->address);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_STATS, CHATD_PLUGINS, CHATD_NET, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_CLUSTER, CHATD_AUDIT, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "admin",
	.version = "0.1.0",
	.summary = "commands for the operator over a unix socket; see chatctl",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.init = init,
	.drain = drain,
	.worker_stop = worker_stop,
	.fini = fini,
};
