/* SPDX-License-Identifier: Apache-2.0 */
/* The chat page, or any directory, at /. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <chatd/http.h>
#include <chatd/page.h>

#include "csp.h"
#include "files.h"

struct conf {
	const char *root;
	const char *csp;
	int64_t max_age_ms;
	int64_t max_file;
};

struct web {
	const struct chatd_host *host;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_http *http;
	char *csp;            /**< with what other plugins need; empty: none */
	chatd_buf **embedded; /**< the files of embedded_files, as buffers to share */
	chatd_buf **small;    /**< the same by gzip, or NULL */
	char cache[40];       /**< Cache-Control of what is not a page */
	atomic_int *jobs;     /**< files that are being read */
};

static const struct chatd_opt options[] = {
	{ .key = "root",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, root),
			.doc = "Directory to serve in place of the page that comes with the server." },
	{ .key = "csp",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, csp),
			.fallback =
					"default-src 'none'; script-src 'self'; style-src 'self'; "
					"img-src 'self' data: blob:; media-src 'self'; connect-src 'self'; font-src 'self'; "
					"manifest-src 'self'; base-uri 'none'; form-action 'self'; "
					"frame-ancestors 'none'",
			.doc = "The Content-Security-Policy header; empty: none. What a plugin sends browsers to is put "
				   "into it, and only then: S3 servers of upload." },
	{ .key = "max_age",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, max_age_ms),
			.fallback = "0s",
			.doc = "How long browsers may use files other than pages without asking again." },
	{ .key = "max_file",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, max_file),
			.fallback = "16 MiB",
			.min = 1024,
			.max = (int64_t)1 << 30,
			.doc = "Larger files of root are not served." },
	{ .key = NULL },
};

static chatd_status on_check(const struct chatd_host *h, chatd_ctx *ctx, const void *conf_)
{
	const struct conf *conf = conf_;
	struct stat st;
	chatd_status rc = 0;
	if (conf->root && (stat(conf->root, &st) < 0 || !S_ISDIR(st.st_mode)))
		rc = h->conf_error(ctx, "root", "\"%s\" is no directory that can be read", conf->root);
	for (const char *p = conf->csp; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			return h->conf_error(
					ctx, "csp", "it must be one line of ASCII, as it becomes a header");
	return rc;
}

/* ---- answers ------------------------------------------------------------ */

static void set_header(const struct web *web, chatd_req *req, const char *name, const char *value)
{
	web->http->header(req, name, chatd_str_of(value, strlen(value)));
}

struct answer {
	const char *name;
	const char *etag;
	chatd_buf *buf;
	bool lasting; /**< nothing else will ever have this address */
	bool gzip;
};

static const char *cache_of(const struct web *web, const struct answer *a, const char *type)
{
	if (a->lasting)
		return "public, max-age=31536000, immutable";
	bool page = strncmp(type, "text/html", 9) == 0;
	/* A service worker, and what it brings, decides what is kept: it must not be kept itself. */
	return page || strncmp(a->name, "sw", 2) == 0 ? "no-cache" : web->cache;
}

static void answer_file(const struct web *web, chatd_req *req, const struct answer *a)
{
	const char *type = files_type(a->name);
	struct chatd_str known = web->http->req_header(req, "If-None-Match");
	set_header(web, req, "ETag", a->etag);
	set_header(web, req, "Cache-Control", cache_of(web, a, type));
	set_header(web, req, "Vary", "Accept-Encoding");
	/* Also of a page that a browser has already: another configuration may have made another. */
	if (web->csp[0])
		set_header(web, req, "Content-Security-Policy", web->csp);
	if (known.p && files_matches(known, a->etag)) {
		web->http->respond(req, 304, NULL, CHATD_LIT(""));
		return;
	}
	if (a->gzip)
		set_header(web, req, "Content-Encoding", "gzip");
	set_header(web, req, "Cross-Origin-Opener-Policy", "same-origin");
	set_header(web, req, "Cross-Origin-Resource-Policy", "same-origin");
	set_header(web, req, "Permissions-Policy", "camera=(), microphone=(), geolocation=()");
	web->http->respond_buf(req, 200, type, a->buf);
}

static void answer_missing(const struct web *web, chatd_req *req)
{
	web->http->problem(req, 404, "NOT_FOUND", "There is nothing here.");
}

/* ---- a directory -------------------------------------------------------- */

struct job {
	const struct web *web;
	chatd_req *req; /**< NULL: the client left */
	chatd_buf *buf;
	int rc;
	char etag[FILES_ETAG_MAX];
	char name[FILES_PATH_MAX];
};

static void on_gone(void *arg)
{
	struct job *job = arg;
	job->req = NULL;
}

static const struct chatd_req_user job_user = {
	.struct_size = sizeof(job_user),
	.gone = on_gone,
};

static void read_file(void *arg)
{
	struct job *job = arg;
	const struct conf *conf = job->web->conf;
	job->rc = files_read(
			job->web->host, conf->root, job->name, (size_t)conf->max_file, &job->buf, job->etag);
}

static void read_done(void *arg)
{
	struct job *job = arg;
	const struct web *web = job->web;
	if (job->rc < 0 && job->rc != -ENOENT)
		web->host->log(web->ctx, CHATD_LOG_WARN, "cannot serve %s: %s%s", job->name,
				strerror(-job->rc), job->rc == -EFBIG ? "; see max_file" : "");
	if (!job->req)
		;
	else if (job->rc == 0)
		answer_file(web, job->req,
				&(struct answer){ .name = job->name, .etag = job->etag, .buf = job->buf });
	else if (job->rc == -ENOENT || job->rc == -EFBIG)
		answer_missing(web, job->req);
	else
		web->http->problem(job->req, 500, "INTERNAL", "The file could not be read.");
	web->host->buf_unref(job->buf);
	free(job);
	atomic_fetch_sub(web->jobs, 1);
}

static void serve_root(const struct web *web, chatd_req *req, const char *name)
{
	struct job *job = calloc(1, sizeof(*job));
	if (job) {
		job->web = web;
		job->req = req;
		memcpy(job->name, name, strlen(name) + 1);
	}
	if (!job || web->host->offload(web->http->req_worker(req), read_file, read_done, job) < 0) {
		free(job);
		web->http->header(req, "Retry-After", CHATD_LIT("1"));
		web->http->problem(req, 503, "OVERLOADED", "Too many files are being read.");
		return;
	}
	atomic_fetch_add(web->jobs, 1);
	web->http->req_user(req, &job_user, job);
}

/* ---- the page inside ---------------------------------------------------- */

static void serve_embedded(const struct web *web, chatd_req *req, const char *asked)
{
	struct answer a = { 0 };
	a.name = files_of_build(asked, &a.lasting);
	for (size_t i = 0; i < embedded_files_n; i++) {
		const struct embedded_file *file = &embedded_files[i];
		if (strcmp(file->path, a.name) != 0)
			continue;
		a.gzip = web->small[i] && files_takes_gzip(web->http->req_header(req, "Accept-Encoding"));
		a.etag = a.gzip ? file->small_etag : file->etag;
		a.buf = a.gzip ? web->small[i] : web->embedded[i];
		answer_file(web, req, &a);
		return;
	}
	answer_missing(web, req);
}

static chatd_buf *buf_of(const struct web *web, const unsigned char *p, size_t n)
{
	chatd_buf *buf = web->host->buf_new(0, n);
	if (buf && n > 0)
		memcpy(web->host->buf_data(buf), p, n);
	return buf;
}

static chatd_status make_embedded(struct web *web)
{
	web->embedded = calloc(embedded_files_n, sizeof(chatd_buf *));
	web->small = calloc(embedded_files_n, sizeof(chatd_buf *));
	if (!web->embedded || !web->small)
		return -ENOMEM;
	for (size_t i = 0; i < embedded_files_n; i++) {
		const struct embedded_file *file = &embedded_files[i];
		web->embedded[i] = buf_of(web, file->data, file->n);
		web->small[i] = file->small ? buf_of(web, file->small, file->small_n) : NULL;
		if (!web->embedded[i] || (file->small && !web->small[i]))
			return -ENOMEM;
	}
	return 0;
}

static void on_request(void *arg, chatd_req *req)
{
	const struct web *web = arg;
	char name[FILES_PATH_MAX];
	if (!files_name(web->http->req_param(req, "path"), name))
		answer_missing(web, req);
	else if (web->conf->root)
		serve_root(web, req, name);
	else
		serve_embedded(web, req, name);
}

/* ---- what other plugins need -------------------------------------------- */

static chatd_status allow(void *obj, struct chatd_str origin, uint32_t what)
{
	static const struct {
		uint32_t what;
		const char *directive;
	} all[] = {
		{ CHATD_PAGE_SHOWS, "img-src" },
		{ CHATD_PAGE_SHOWS, "media-src" },
		{ CHATD_PAGE_FETCHES, "connect-src" },
	};
	struct web *web = obj;
	if (!csp_origin(origin))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (!(what & all[i].what))
			continue;
		char *csp = csp_with(web->csp, all[i].directive, origin);
		if (!csp)
			return -ENOMEM;
		free(web->csp);
		web->csp = csp;
	}
	return 0;
}

static const struct chatd_page page = { .struct_size = sizeof(page), .allow = allow };

/* ---- life --------------------------------------------------------------- */

static void on_fini(void *self)
{
	struct web *web = self;
	for (size_t i = 0; web->embedded && i < embedded_files_n; i++)
		web->host->buf_unref(web->embedded[i]);
	for (size_t i = 0; web->small && i < embedded_files_n; i++)
		web->host->buf_unref(web->small[i]);
	free(web->embedded);
	free(web->small);
	free(web->csp);
	free(web->jobs);
	free(web);
}

/* Also for clients that have left. */
static int32_t on_busy(void *self)
{
	return atomic_load(((struct web *)self)->jobs) > 0;
}

static chatd_status on_init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_service *service = h->service(ctx, CHATD_HTTP);
	struct web *web = calloc(1, sizeof(*web));
	atomic_int *jobs = calloc(1, sizeof(*jobs));
	if (!service || !web || !jobs) {
		free(web);
		free(jobs);
		return -ENOMEM;
	}
	web->jobs = jobs;
	*ret_self = web;
	web->host = h;
	web->ctx = ctx;
	web->conf = conf;
	web->http = service->vt;
	web->csp = strdup(web->conf->csp);
	if (!web->csp)
		return -ENOMEM;
	if (web->conf->max_age_ms >= 1000)
		snprintf(web->cache, sizeof(web->cache), "public, max-age=%lld",
				(long long)(web->conf->max_age_ms / 1000));
	else
		snprintf(web->cache, sizeof(web->cache), "no-cache");
	chatd_status rc = web->conf->root ? 0 : make_embedded(web);
	const struct chatd_route route = {
		.struct_size = sizeof(route),
		.methods = CHATD_GET,
		.path = "/{path*}",
		.handle = on_request,
		.arg = web,
	};
	rc = rc == 0 ? web->http->route(service->obj, ctx, &route) : rc;
	return rc == 0 ? h->provide(ctx, CHATD_PAGE, &page, web) : rc;
}

static const char *const provides[] = { CHATD_PAGE, NULL };
static const char *const needs[] = { CHATD_HTTP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_LIVE | CHATD_PLUGIN_ONCE,
	.name = "web",
	.version = "0.1.0",
	.summary = "The chat page, or a directory, at /",
	.provides = provides,
	.needs = needs,
	.opts = options,
	.conf_size = sizeof(struct conf),
	.check = on_check,
	.init = on_init,
	.fini = on_fini,
	.busy = on_busy,
};
