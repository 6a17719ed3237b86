/* SPDX-License-Identifier: Apache-2.0 */
/* The server's numbers as Prometheus text, on a listener of its own. */
#include <chatd/plugin.h>
#include <chatd/plugins.h>
#include <chatd/stats.h>
#include <chatd/stream.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 4096, PATIENCE_MS = 5000, CLIENTS_MAX = 16 };

struct conf {
	const char *const *listen;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *stats, *plugins;
	int64_t started; /* wall ms */
};

struct worker {
	struct client *clients;
	int32_t n;
};

/* One scrape.  HTTP's least part is enough: a head is read, one answer is given, the
 * connection ends. */
struct client {
	struct client *next, **link;
	const struct self *self;
	struct worker *mw;
	chatd_worker *w;
	chatd_stream *stream; /* NULL: gone, or answered */
	struct chatd_timer timer;
	int asked;  /* the numbers are being collected: the answer frees it */
	int head;   /* HEAD: no content */
	FILE *text; /* what will be answered */
	char *buf;
	size_t len;
};

static void client_destroy(struct client *c)
{
	*c->link = c->next;
	if (c->next) {
		c->next->link = c->link;
	}
	c->mw->n--;
	c->self->h->timer_clear(&c->timer);
	if (c->text) {
		fclose(c->text);
	}
	free(c->buf);
	c->self->h->mem_free(c);
}

/* The connection ends here; what is being collected for it is waited for. */
static void leave(struct client *c)
{
	c->stream = NULL;
	c->self->h->timer_clear(&c->timer);
	if (!c->asked) {
		client_destroy(c);
	}
}

static void reply(struct client *c, const char *status, const char *text, size_t n)
{
	const struct chatd_host *h = c->self->h;
	char head[256];
	int len = snprintf(head, sizeof(head),
			"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
			"Content-Length: %zu\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
			status, n);
	chatd_stream *stream = c->stream;
	size_t body = c->head ? 0 : n;
	chatd_buf *b = h->buf_new(0, (size_t)len + body);
	if (b) {
		memcpy(h->buf_data(b), head, (size_t)len);
		memcpy(h->buf_data(b) + len, text, body);
		stream->ops->send(stream, b);
		h->buf_unref(b);
		stream->ops->close(stream);
	} else {
		stream->ops->reset(stream);
	}
	leave(c);
}

static void refuse(struct client *c, const char *status, const char *why)
{
	reply(c, status, why, strlen(why));
}

/* ---- the text ------------------------------------------------------------------- */

static void write_stat(FILE *f, const struct chatd_stat *s, int first)
{
	if (first) {
		fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", s->name, s->help, s->name,
				s->kind == CHATD_STAT_COUNTER ? "counter" : "gauge");
	}
	if (s->labels) {
		fprintf(f, "%s{%s} %lld\n", s->name, s->labels, (long long)s->value);
	} else {
		fprintf(f, "%s %lld\n", s->name, (long long)s->value);
	}
}

static void write_process(FILE *f, const struct self *self)
{
	long pages = 0, skipped = 0;
	FILE *m = fopen("/proc/self/statm", "re");
	if (m && fscanf(m, "%ld %ld", &skipped, &pages) == 2) {
		fprintf(f,
				"# HELP process_resident_memory_bytes Resident memory.\n"
				"# TYPE process_resident_memory_bytes gauge\n"
				"process_resident_memory_bytes %ld\n",
				pages * 4096);
	}
	if (m) {
		fclose(m);
	}
	fprintf(f,
			"# HELP process_start_time_seconds When the process started, since 1970.\n"
			"# TYPE process_start_time_seconds gauge\n"
			"process_start_time_seconds %lld.%03d\n",
			(long long)(self->started / 1000), (int)(self->started % 1000));
}

static const struct {
	const char *name, *help;
	int32_t kind;
	size_t offset;
	int64_t unit; /* what one of it is, in millionths; 0: a whole number */
} plugin_numbers[] = {
#define FACT(f) offsetof(struct chatd_plugin_facts, f)
	{ "chatd_plugin_calls_total", "Calls of a plugin's hooks and handlers.", CHATD_STAT_COUNTER,
			FACT(calls), 0 },
	{ "chatd_plugin_busy_seconds_total",
			"Time in a plugin's hooks and handlers; of quick ones one in 64 is measured.",
			CHATD_STAT_COUNTER, FACT(busy_us), 1 },
	{ "chatd_plugin_errors_total", "Calls of a plugin that failed.", CHATD_STAT_COUNTER,
			FACT(errors), 0 },
	{ "chatd_plugin_timeouts_total", "Calls that a plugin did not answer in time.",
			CHATD_STAT_COUNTER, FACT(timeouts), 0 },
	{ "chatd_plugin_slow_total", "Calls of a plugin that held a worker for too long.",
			CHATD_STAT_COUNTER, FACT(slow), 0 },
	{ "chatd_plugin_memory_bytes", "What a plugin's code has from mem_alloc().", CHATD_STAT_GAUGE,
			FACT(bytes), 0 },
#undef FACT
};

/* Older versions of a plugin that still run stand behind it, and are counted with it. */
static int is_first(const struct chatd_plugin_facts *facts, size_t i)
{
	return i == 0 || strcmp(facts[i].name, facts[i - 1].name) != 0;
}

static int64_t sum_of(const struct chatd_plugin_facts *facts, size_t n, size_t i, size_t offset)
{
	int64_t sum = 0, v;
	size_t k = i;
	do {
		memcpy(&v, (const char *)&facts[k] + offset, sizeof(v));
		sum += v;
	} while (++k < n && !is_first(facts, k));
	return sum;
}

static void write_plugins(FILE *f, const struct chatd_plugin_facts *facts, size_t n)
{
	fputs("# HELP chatd_plugin_up 1: the plugin runs; 0: it is off, or was left out.\n"
		  "# TYPE chatd_plugin_up gauge\n",
			f);
	for (size_t i = 0; i < n; i++) {
		if (is_first(facts, i)) {
			fprintf(f, "chatd_plugin_up{plugin=\"%s\"} %d\n", facts[i].name,
					facts[i].state == CHATD_PLUGIN_RUNS);
		}
	}
	for (size_t k = 0; k < sizeof(plugin_numbers) / sizeof(plugin_numbers[0]); k++) {
		const char *name = plugin_numbers[k].name;
		fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, plugin_numbers[k].help, name,
				plugin_numbers[k].kind == CHATD_STAT_COUNTER ? "counter" : "gauge");
		for (size_t i = 0; i < n; i++) {
			if (!is_first(facts, i)) {
				continue;
			}
			int64_t v = sum_of(facts, n, i, plugin_numbers[k].offset);
			if (plugin_numbers[k].unit) {
				fprintf(f, "%s{plugin=\"%s\"} %lld.%06lld\n", name, facts[i].name,
						(long long)(v / 1000000), (long long)(v % 1000000));
			} else {
				fprintf(f, "%s{plugin=\"%s\"} %lld\n", name, facts[i].name, (long long)v);
			}
		}
	}
}

static void finish(struct client *c)
{
	FILE *f = c->text;
	c->text = NULL;
	c->asked = 0;
	int good = f && fclose(f) == 0;
	if (!c->stream) {
		client_destroy(c);
	} else if (!good) {
		refuse(c, "503 Service Unavailable", "no memory\n");
	} else {
		char *buf = c->buf;
		c->buf = NULL;
		reply(c, "200 OK", buf, c->len); /* ends c */
		free(buf);
	}
}

static void on_plugins(void *arg, const struct chatd_plugin_facts *facts, size_t n)
{
	struct client *c = arg;
	if (c->text) {
		write_plugins(c->text, facts, n);
		write_process(c->text, c->self);
	}
	finish(c);
}

static void collected(void *arg, const struct chatd_stat *stats, size_t n)
{
	struct client *c = arg;
	const struct chatd_plugins *plugins = c->self->plugins->vt;
	c->text = c->stream && n > 0 ? open_memstream(&c->buf, &c->len) : NULL;
	for (size_t i = 0; c->text && i < n; i++) {
		write_stat(c->text, &stats[i], i == 0 || strcmp(stats[i].name, stats[i - 1].name) != 0);
	}
	if (!c->text || plugins->collect(c->self->plugins->obj, c->w, on_plugins, c) < 0) {
		finish(c);
	}
}

/* ---- the connection --------------------------------------------------------------- */

static int begins(struct chatd_str s, const char *with)
{
	size_t n = strlen(with);
	return s.n >= n && memcmp(s.p, with, n) == 0;
}

static void serve(struct client *c, struct chatd_str line)
{
	const struct chatd_stats *stats = c->self->stats->vt;
	c->head = begins(line, "HEAD ");
	if (!c->head && !begins(line, "GET ")) {
		refuse(c, "405 Method Not Allowed\r\nAllow: GET, HEAD", "only GET is served here\n");
		return;
	}
	struct chatd_str path = chatd_str_of(line.p + (c->head ? 5 : 4), line.n - (c->head ? 5 : 4));
	if (!begins(path, "/metrics ") && !begins(path, "/metrics?")) {
		refuse(c, "404 Not Found", "the numbers are at /metrics\n");
		return;
	}
	c->asked = 1;
	if (stats->collect(c->self->stats->obj, c->w, collected, c) < 0) {
		c->asked = 0;
		refuse(c, "503 Service Unavailable", "no memory\n");
	}
}

static size_t on_data(void *arg, const char *p, size_t n)
{
	struct client *c = arg;
	const char *line_end = memchr(p, '\n', n);
	if (c->asked) {
		return n;
	}
	if (!memmem(p, n, "\r\n\r\n", 4)) {
		if (n > HEAD_MAX) {
			refuse(c, "431 Request Header Fields Too Large", "the head is too long\n");
			return n;
		}
		return 0; /* all of it is shown again with what follows */
	}
	serve(c, chatd_str_of(p, (size_t)(line_end - p)));
	return n;
}

static void on_gone(void *arg, int32_t why)
{
	(void)why;
	leave(arg);
}

static void on_time(void *arg)
{
	struct client *c = arg;
	c->stream->ops->reset(c->stream);
	leave(c);
}

static const struct chatd_stream_user stream_user = {
	.struct_size = sizeof(stream_user), .data = on_data, .gone = on_gone
};

static void on_accepted(void *arg, chatd_worker *w, chatd_stream *stream)
{
	const struct self *self = arg;
	struct worker *mw = self->h->worker_self(self->ctx, w);
	struct client *c = mw->n < CLIENTS_MAX ? self->h->mem_alloc(sizeof(*c)) : NULL;
	if (!c) {
		stream->ops->close(stream);
		return;
	}
	*c = (struct client){ .self = self, .mw = mw, .w = w, .stream = stream };
	c->next = mw->clients;
	c->link = &mw->clients;
	if (c->next) {
		c->next->link = &c->next;
	}
	mw->clients = c;
	mw->n++;
	self->h->timer_set(w, &c->timer, PATIENCE_MS, on_time, c);
	stream->ops->attach(stream, &stream_user, c);
}

/* ---- life ------------------------------------------------------------------------------ */

static const struct chatd_opt opts[] = {
	{ .key = "listen",
			.type = CHATD_T_STRINGS,
			.flags = CHATD_O_LISTEN,
			.offset = offsetof(struct conf, listen),
			.fallback = "[\"127.0.0.1:9464\"]",
			.doc = "Where GET /metrics is answered; keep it out of reach of clients." },
	{ 0 },
};

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h,
		.ctx = ctx,
		.conf = conf,
		.stats = h->service(ctx, CHATD_STATS),
		.plugins = h->service(ctx, CHATD_PLUGINS),
		.started = h->wall_ms() };
	*ret_self = self;
	const struct chatd_service *net = h->service(ctx, CHATD_NET);
	chatd_status rc = 0;
	for (const char *const *at = self->conf->listen; *at && rc == 0; at++) {
		const struct chatd_listen l = { .struct_size = sizeof(l),
			.address = *at,
			.kind = "metrics",
			.accepted = on_accepted,
			.arg = self };
		rc = ((const struct chatd_net *)net->vt)->listen(net->obj, ctx, &l);
	}
	return rc;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct worker *mw = wself;
	(void)selfp;
	(void)w;
	while (mw->clients) {
		struct client *c = mw->clients;
		if (c->stream) {
			c->stream->ops->reset(c->stream);
		}
		client_destroy(c); /* no answer comes any more */
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_STATS, CHATD_PLUGINS, CHATD_NET, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "metrics",
	.version = "0.1",
	.summary = "the server's numbers for Prometheus",
	.needs = needs,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.init = init,
	.worker_stop = worker_stop,
	.fini = fini,
};
