/* SPDX-License-Identifier: Apache-2.0 */
/* Options, routes and life of the plugin. */
#include "upload.h"

#include <chatd/page.h>

#include "s3.h"
#include "seal.h"

#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>

#define S3_MOST (INT64_C(5) << 30)

enum { FEEDERS = 2, PAINTERS = 2, PAINTERS_QUEUE = 64, CREW_QUEUE = 1024 };

#define IMAGES "image/png, image/jpeg, image/gif, image/webp, image/avif, "
#define SOUNDS "audio/mpeg, audio/mp4, audio/ogg, audio/x-wav, audio/flac, audio/x-m4a, "
#define FILMS  "video/mp4, video/webm, video/quicktime, video/ogg, "
#define PAPERS                                                                           \
	"application/pdf, application/zip, application/octet-stream, text/plain, text/csv, " \
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document, "          \
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet, "                \
	"application/vnd.openxmlformats-officedocument.presentationml.presentation, "        \
	"application/vnd.oasis.opendocument.text, application/vnd.oasis.opendocument.spreadsheet"

static const char *const backends[] = { "dir", "s3", NULL };
static const char *const encryptions[] = { "auto", "off", "required", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "path",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, path),
			.doc = "The folder of the files; without it, files in data_dir. Nodes share it." },
	{ .key = "backend",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, backend),
			.choices = backends,
			.fallback = "dir",
			.doc = "Where files lie: dir, in path; s3, at a server that speaks S3, and path keeps what "
				   "is on its way there." },
	{ .key = "encrypt",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, encrypt),
			.choices = encryptions,
			.fallback = "auto",
			.doc = "What is new is encrypted: auto, if the plugin encrypt is there; off, never; "
				   "required, and without that plugin the server does not start." },
	{ .key = "encrypt_stored",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, encrypt_stored),
			.fallback = "true",
			.doc = "What was stored before encryption was turned on is encrypted too, in the "
				   "background; false: it stays as it is." },
	{ .key = "s3_endpoint",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, s3_endpoint),
			.doc = "Its address: https://s3.eu-central-1.amazonaws.com." },
	{ .key = "s3_bucket",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, s3_bucket),
			.doc = "Without it, s3_endpoint is the bucket's own address." },
	{ .key = "s3_prefix",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, s3_prefix),
			.doc = "In front of all names there, with a slash at its end: chat/." },
	{ .key = "s3_region",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, s3_region),
			.fallback = "us-east-1",
			.doc = "The region that requests are signed for." },
	{ .key = "s3_key",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, s3_key),
			.doc = "The access key's id." },
	{ .key = "s3_secret",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, s3_secret),
			.doc = "The secret that belongs to s3_key." },
	{ .key = "s3_ca",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, s3_ca),
			.doc = "Certificates that its own must come from; without it, those of the system." },
	{ .key = "presigned",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, presigned),
			.fallback = "false",
			.doc = "Downloads are sent to the S3 server (302), instead of going through this one." },
	{ .key = "presigned_uploads",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, presigned_uploads),
			.fallback = "false",
			.doc = "Clients may upload straight to the S3 server; what they put there is fetched and "
				   "looked at before anybody gets it." },
	{ .key = "presigned_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, presigned_ttl),
			.fallback = "1m",
			.min = 5000,
			.max = INT64_C(7) * 86400000,
			.doc = "How long such an address is good, for whoever has it." },
	{ .key = "max_size",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, max_size),
			.fallback = "25 MiB",
			.min = 1024,
			.max = INT64_C(1) << 42,
			.doc = "The largest file." },
	{ .key = "types",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, types),
			.fallback = "[" IMAGES SOUNDS FILMS PAPERS "]",
			.doc = "What may be uploaded, by content: image/png, or image/* for all of a kind." },
	{ .key = "user_bytes",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, user_bytes),
			.fallback = "1 GiB",
			.max = INT64_C(1) << 50,
			.doc = "What the files of one user may take in all; 0: any amount." },
	{ .key = "user_files",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, user_files),
			.fallback = "10000",
			.max = INT64_C(1) << 32,
			.doc = "How many files one user may have, whatever their size; 0: any number." },
	{ .key = "day_bytes",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, day_bytes),
			.fallback = "100 MiB",
			.max = INT64_C(1) << 50,
			.doc = "What one user may upload in a day (UTC); 0: any amount." },
	{ .key = "uploads",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, uploads),
			.fallback = "64",
			.min = 1,
			.max = 4096,
			.doc = "Uploads under way at once; each takes 640 KiB of memory." },
	{ .key = "uploads_per_user",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, uploads_per_user),
			.fallback = "4",
			.min = 1,
			.max = 4096,
			.doc = "Likewise of one user." },
	{ .key = "unattached",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, unattached),
			.fallback = "24h",
			.min = 60000,
			.max = INT64_C(3660) * 86400000,
			.doc = "How long a file waits for the message that brings it along." },
	{ .key = "partial_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, partial_ttl),
			.fallback = "24h",
			.min = 60000,
			.max = INT64_C(366) * 86400000,
			.doc = "How long a resumable upload that was broken off can be gone on with." },
	{ .key = "partials_per_user",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, partials),
			.fallback = "16",
			.max = 4096,
			.doc = "Resumable uploads that one user may have begun; 0: there are none at all." },
	{ .key = "url_ttl",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, url_ttl),
			.fallback = "10m",
			.min = 1000,
			.max = INT64_C(7) * 86400000,
			.doc = "How long a signed address is good." },
	{ .key = "key",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, key),
			.doc = "Signs addresses: at least 32 bytes, the same on all nodes; without it, one is "
				   "made in data_dir." },
	{ .key = "scanner",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, scanner),
			.fallback = "[]",
			.doc = "A program and its arguments that gets each file as its standard input and "
				   "ends with 0 (good) or 1 (bad); until then only the owner gets the file." },
	{ .key = "scan_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, scan_timeout),
			.fallback = "30s",
			.min = 100,
			.max = 3600000,
			.doc = "A scanner that takes longer is ended; the file waits, and is looked at again." },
	{ .key = "thumbnails",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, thumbnails),
			.fallback = "[320, 960]",
			.doc = "Small pictures of pictures: the pixels of their longest sides; []: none." },
	{ .key = "thumbnail_pixels",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, pixels),
			.fallback = "100000000",
			.min = 10000,
			.max = 1000000000,
			.doc = "A picture that has more pixels gets none." },
	{ .key = "thumbnail_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, thumb_timeout),
			.fallback = "15s",
			.min = 100,
			.max = 600000,
			.doc = "What makes them is ended after that; it has 5 seconds of a processor." },
	{ .key = "thumbnailer",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, thumbnailer),
			.doc = "The program that makes them; without it, the one that comes with chatd." },
	{ .key = "threads",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, threads),
			.fallback = "4",
			.max = 64,
			.doc = "Threads that read and write files; 0: the server's own pool does it." },
	{ .key = "anonymous",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, anonymous),
			.fallback = "false",
			.doc = "Guests may upload too, if the rules let them." },
	{ 0 },
};

static int is_name(const char *s, const char *more)
{
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr(more, *s)) {
			return 0;
		}
	}
	return 1;
}

static chatd_status check_s3(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	const char *url = conf->s3_endpoint ? conf->s3_endpoint : "";
	size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
	chatd_status rc = 0;
	if (!scheme || !url[scheme] || strlen(url) > 256 || strpbrk(url, "?#@ ")) {
		rc = h->conf_error(ctx, "s3_endpoint",
				"\"%s\" is no address; write one as https://s3.eu-central-1.amazonaws.com", url);
	}
	if (!conf->s3_key || !conf->s3_secret) {
		rc = h->conf_error(ctx, conf->s3_key ? "s3_secret" : "s3_key",
				"it is not set, and backend: s3 needs it; take it from the environment, as env:NAME");
	}
	if (conf->s3_bucket && (strlen(conf->s3_bucket) > 63 || !is_name(conf->s3_bucket, ".-"))) {
		rc = h->conf_error(ctx, "s3_bucket", "\"%s\" is no bucket's name", conf->s3_bucket);
	}
	if (conf->s3_prefix && (strlen(conf->s3_prefix) > 128 || !is_name(conf->s3_prefix, "._-/"))) {
		rc = h->conf_error(ctx, "s3_prefix",
				"\"%s\" has more in it than letters, digits and ._-/, or more than 128 of them",
				conf->s3_prefix);
	}
	if (!is_name(conf->s3_region, "-") || strlen(conf->s3_region) > 64) {
		rc = h->conf_error(ctx, "s3_region", "\"%s\" is no region; write one as eu-central-1",
				conf->s3_region);
	}
	if (conf->max_size > S3_MOST) {
		rc = h->conf_error(ctx, "max_size", "S3 takes at most 5 GiB at once; lower it");
	}
	return rc;
}

static const char why_not_presigned[] =
		"files are encrypted here, and between clients and the S3 server they would not be; set "
		"presigned and presigned_uploads to false, or encrypt to off";

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	chatd_status rc = 0;
	for (const char *const *type = conf->types; *type; type++) {
		if (!type_pattern_ok(*type)) {
			rc = h->conf_error(ctx, "types",
					"\"%s\" is no media type; write one as image/png, or all of a kind as image/*",
					*type);
		}
	}
	if (!conf->types[0]) {
		rc = h->conf_error(ctx, "types", "nothing could be uploaded; name at least one type");
	}
	if (conf->key && strlen(conf->key) < SIGN_KEY) {
		rc = h->conf_error(ctx, "key", "it has %zu bytes, and needs at least %d", strlen(conf->key),
				(int)SIGN_KEY);
	}
	if (conf->path && strlen(conf->path) >= sizeof(((struct dir *)0)->root)) {
		rc = h->conf_error(ctx, "path", "it is longer than %zu bytes; use a shorter one",
				sizeof(((struct dir *)0)->root) - 1);
	}
	if (conf->scanner[0] && (conf->scanner[0][0] != '/' || access(conf->scanner[0], X_OK) < 0)) {
		rc = h->conf_error(ctx, "scanner",
				"\"%s\" is no program that this user can run; give its whole path",
				conf->scanner[0]);
	}
	const char *key = conf->presigned ? "presigned" : "presigned_uploads";
	if ((conf->presigned || conf->presigned_uploads) && conf->encrypt == ENCRYPT_REQUIRED) {
		rc = h->conf_error(ctx, key, "%s", why_not_presigned);
	}
	if (conf->presigned_uploads && (conf->backend != BACKEND_S3 || !conf->partials)) {
		rc = h->conf_error(ctx, "presigned_uploads",
				"there is nowhere to send uploads to; set backend: s3, and partials_per_user above 0");
	}
	if (conf->backend == BACKEND_S3 && check_s3(h, ctx, conf) < 0) {
		rc = -EINVAL;
	}
	if (conf->thumbnailer && access(conf->thumbnailer, X_OK) < 0) {
		rc = h->conf_error(ctx, "thumbnailer", "\"%s\" is no program that this user can run",
				conf->thumbnailer);
	}
	for (int i = 0; conf->thumbnails[i]; i++) {
		int64_t edge = number_read(text(conf->thumbnails[i]));
		if (edge < 16 || edge > 4096 || i == EDGES_MAX) {
			rc = h->conf_error(ctx, "thumbnails",
					i == EDGES_MAX ? "there are more than 8 sizes; \"%s\" is one too many"
								   : "\"%s\" is no size; write pixels, from 16 to 4096",
					conf->thumbnails[i]);
			break;
		}
	}
	if (conf->uploads_per_user > conf->uploads) {
		rc = h->conf_error(ctx, "uploads_per_user", "it is more than uploads, which is %lld",
				(long long)conf->uploads);
	}
	return rc;
}

/* ---- the key --------------------------------------------------------------------------- */

static chatd_status read_key(struct self *self, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	ssize_t n = read(fd, self->key, sizeof(self->key));
	close(fd);
	return n == (ssize_t)sizeof(self->key) ? 0 : -EIO;
}

static chatd_status make_key(struct self *self, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	self->h->random(self->key, sizeof(self->key));
	int good =
			write(fd, self->key, sizeof(self->key)) == (ssize_t)sizeof(self->key) && fsync(fd) == 0;
	close(fd);
	if (!good) {
		unlink(path);
		return -EIO;
	}
	return 0;
}

static chatd_status open_key(struct self *self)
{
	char path[4096];
	const struct chatd_store *store = self->store->vt;
	if (self->conf->key) {
		return sign_key(text(self->conf->key), self->key);
	}
	if (CHATD_HAS(store, is_shared) && store->is_shared(self->store->obj)) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"upload.key is not set: signed addresses are good at the node alone that made them");
	}
	snprintf(path, sizeof(path), "%s/upload.key", self->h->data_dir());
	chatd_status rc = read_key(self, path);
	if (rc == -ENOENT) {
		rc = make_key(self, path);
	}
	return rc < 0 ? self->h->fail(self->ctx, rc, "%s: %s; is it ours, and may it be written?", path,
							strerror(-rc))
				  : 0;
}

/* ---- life ------------------------------------------------------------------------------ */

static chatd_status add_route(struct self *self, struct chatd_route r)
{
	const struct chatd_http *http = self->http->vt;
	r.struct_size = sizeof(r);
	r.arg = self;
	return http->route(self->http->obj, self->ctx, &r);
}

static chatd_status add_routes(struct self *self)
{
	const struct chatd_route routes[] = {
		{ .methods = CHATD_POST,
				.flags = CHATD_HTTP_CORS | CHATD_HTTP_STREAM,
				.path = "/api/files",
				.max_body = (size_t)self->conf->max_size + 64 * 1024,
				.handle = on_upload },
		{ .methods = CHATD_GET,
				.flags = CHATD_HTTP_CORS,
				.path = "/api/files/{id}",
				.handle = on_download },
		{ .methods = CHATD_DELETE,
				.flags = CHATD_HTTP_CORS,
				.path = "/api/files/{id}",
				.handle = on_delete },
		{ .methods = CHATD_GET,
				.flags = CHATD_HTTP_CORS,
				.path = "/api/files/{id}/url",
				.handle = on_sign },
		{ .methods = CHATD_GET,
				.flags = CHATD_HTTP_CORS,
				.path = "/api/files/{id}/thumbnail",
				.handle = on_thumbnail },
	};
	chatd_status rc = 0;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]) && rc == 0; i++) {
		rc = add_route(self, routes[i]);
	}
	return rc;
}

/* Of what can be left out. */
static chatd_status add_more_routes(struct self *self)
{
	const struct conf *conf = self->conf;
	chatd_status rc = 0;
	for (size_t i = 0; i < DIRECT_ROUTES && conf->presigned_uploads && rc == 0; i++) {
		const struct direct_route *d = &direct_routes[i];
		rc = add_route(self,
				(struct chatd_route){ .methods = CHATD_POST,
						.flags = CHATD_HTTP_CORS,
						.path = d->path,
						.max_body = d->max_body,
						.handle = d->handle });
	}
	for (size_t i = 0; i < TUS_ROUTES && conf->partials && rc == 0; i++) {
		const struct tus_route *t = &tus_routes[i];
		rc = add_route(self,
				(struct chatd_route){ .methods = t->methods,
						.flags = CHATD_HTTP_CORS | t->flags,
						.path = t->path,
						.max_body = t->flags & CHATD_HTTP_STREAM ? (size_t)conf->max_size : 0,
						.handle = t->handle });
	}
	return rc;
}

static chatd_status open_folder(struct self *self)
{
	if (self->conf->path) {
		snprintf(self->dir.root, sizeof(self->dir.root), "%s", self->conf->path);
	} else if ((size_t)snprintf(self->dir.root, sizeof(self->dir.root), "%s/files",
					   self->h->data_dir()) >= sizeof(self->dir.root)) {
		return self->h->fail(self->ctx, -ENAMETOOLONG,
				"the name of data_dir is too long for files below it; set upload.path");
	}
	chatd_status rc = dir_open(&self->dir);
	return rc < 0
			? self->h->fail(self->ctx, rc, "%s: %s; make it a folder that this user may write to",
					  self->dir.root, strerror(-rc))
			: 0;
}

static void tell_s3(void *arg, int up)
{
	struct self *self = arg;
	self->h->log(self->ctx, up ? CHATD_LOG_INFO : CHATD_LOG_WARN,
			up ? "the S3 server answers again"
			   : "the S3 server does not answer: files can be neither stored nor read");
}

static chatd_status open_s3(struct self *self)
{
	const struct conf *conf = self->conf;
	const struct s3_conf s3 = { .endpoint = conf->s3_endpoint,
		.bucket = conf->s3_bucket ? conf->s3_bucket : "",
		.prefix = conf->s3_prefix ? conf->s3_prefix : "",
		.region = conf->s3_region,
		.key = conf->s3_key,
		.secret = conf->s3_secret,
		.ca = conf->s3_ca,
		.tell = tell_s3,
		.arg = self };
	if (conf->backend != BACKEND_S3) {
		return 0;
	}
	self->s3 = s3_create(&s3);
	return self->s3 ? 0 : self->h->fail(self->ctx, -ENOMEM, "there is no memory for libcurl");
}

/* Where presigned addresses lead, the page must be let. */
static chatd_status tell_page(struct self *self)
{
	const struct conf *conf = self->conf;
	const struct chatd_service *page = self->h->service(self->ctx, CHATD_PAGE);
	uint32_t what = (conf->presigned ? CHATD_PAGE_SHOWS | CHATD_PAGE_FETCHES : 0) |
			(conf->presigned_uploads ? CHATD_PAGE_FETCHES : 0);
	if (!page || !self->s3 || !what) {
		return 0;
	}
	struct chatd_str origin = s3_origin(self->s3);
	chatd_status rc = ((const struct chatd_page *)page->vt)->allow(page->obj, origin, what);
	return rc < 0
			? self->h->fail(self->ctx, rc,
					  "upload.s3_endpoint: \"%.*s\" cannot stand in the page's "
					  "Content-Security-Policy; write it as https://HOST or https://HOST:PORT",
					  (int)origin.n, origin.p)
			: 0;
}

static chatd_status open_cipher(struct self *self)
{
	const struct conf *conf = self->conf;
	struct chatd_cipher_conf now = { .struct_size = sizeof(now) };
	self->cipher = self->h->service(self->ctx, CHATD_CIPHER);
	if (self->cipher) {
		const struct chatd_cipher *cipher = self->cipher->vt;
		cipher->conf(self->cipher->obj, &now);
	}
	if (conf->encrypt == ENCRYPT_REQUIRED && !now.seals) {
		return self->h->fail(self->ctx, -EINVAL, "upload.encrypt is \"required\", and %s",
				self->cipher ? "encrypt.seal is false; set it to true"
							 : "the plugin encrypt is not configured; add it with its keys");
	}
	self->seals = now.seals && conf->encrypt != ENCRYPT_OFF;
	return self->seals && (conf->presigned || conf->presigned_uploads)
			? self->h->fail(self->ctx, -EINVAL, "upload.presigned: %s", why_not_presigned)
			: 0;
}

static chatd_status start_crews(struct self *self)
{
	int painters = self->conf->threads ? PAINTERS : 0;
	self->crew = crew_create(self->h, "chatd-files", (int)self->conf->threads, CREW_QUEUE);
	self->painters =
			self->crew ? crew_create(self->h, "chatd-thumbs", painters, PAINTERS_QUEUE) : NULL;
	if (self->painters && self->cipher && self->conf->scanner[0]) {
		self->feeders = crew_create(
				self->h, "chatd-scans", self->conf->threads ? FEEDERS : 0, PAINTERS_QUEUE);
	}
	return self->painters && (self->feeders || !self->cipher || !self->conf->scanner[0])
			? 0
			: self->h->fail(self->ctx, -errno, "no thread can be started: %s", strerror(errno));
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*ret_self = self;
	self->h = h;
	self->ctx = ctx;
	self->conf = conf;
	self->http = h->service(ctx, CHATD_HTTP);
	self->store = h->service(ctx, CHATD_STORE);
	chatd_status rc = slots_init(&self->slots, self->conf->uploads);
	if (rc < 0) {
		return rc;
	}
	self->types = types_open();
	if (!self->types) {
		return h->fail(ctx, -ENOENT, "libmagic has no data base; install libmagic-mgc");
	}
	thumb_init(self);
	rc = open_folder(self);
	rc = rc < 0 ? rc : open_key(self);
	rc = rc < 0 ? rc : open_s3(self);
	rc = rc < 0 ? rc : open_cipher(self);
	rc = rc < 0 ? rc : tell_page(self);
	rc = rc < 0 ? rc : start_crews(self);
	rc = rc < 0 ? rc : add_routes(self);
	rc = rc < 0 ? rc : add_more_routes(self);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHANGE, on_message_in);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	struct worker *at = wself;
	at->self = selfp;
	at->w = w;
	chatd_status rc = crew_sit(at->self->crew, w);
	rc = rc < 0 ? rc : crew_sit(at->self->painters, w);
	rc = rc < 0 || !at->self->feeders ? rc : crew_sit(at->self->feeders, w);
	if (rc < 0) {
		return rc;
	}
	if (at->self->h->worker_index(w) == 0) {
		sweep_start(at);
		renew_start(at);
		scan_start(at);
	}
	return 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	struct self *self = selfp;
	sweep_stop(wself);
	renew_stop(wself);
	scan_stop(wself);
	if (self->feeders) {
		crew_rise(self->feeders, w);
	}
	crew_rise(self->painters, w);
	crew_rise(self->crew, w);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	crew_destroy(self->feeders);
	crew_destroy(self->painters);
	crew_destroy(self->crew);
	s3_destroy(self->s3);
	types_close(self->types);
	slots_finish(&self->slots);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_HTTP, CHATD_STORE, NULL };
static const char *const wants[] = { CHATD_CIPHER, CHATD_PAGE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_ONCE,
	.name = "upload",
	.version = "0.1.0",
	.summary = "files: uploaded, attached to messages, downloaded by those who may read them",
	.needs = needs,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct worker),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};
