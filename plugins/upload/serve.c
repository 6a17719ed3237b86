/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/files/{id}: to whoever may read now what the file came with.  The crew reads one block
 * ahead of what the client takes, so that a slow one costs two blocks and nobody's time.  GET
 * /api/files/{id}/thumbnail: likewise a small picture of it, which is made now if there is none. */
#include "upload.h"

#include "s3.h"
#include "s3sign.h"
#include "seal.h"

#include <unistd.h>

enum { ETAG = DIR_HASH + 16 };

struct serve {
	struct self *self;
	chatd_worker *w;
	chatd_req *req; /* NULL: answered, or the client has gone */
	int waiting;    /* somebody will call back */
	int sending, flying;
	int64_t at, end; /* of the next block to be read */
	int64_t left;    /* to be written */
	chatd_buf *ready;
	int partial, shows;
	int64_t first, size; /* what was asked for begins there; the whole file */
	int edge;            /* of the small picture that is asked for; 0: the file itself */
	int moved;           /* it was not where it was said to be, and has been looked up anew */
	int made;            /* it was not there, and has been made */
	char id[CHATD_ID_MAX + 1], user[CHATD_ID_MAX + 1], etag[ETAG];
	char name[NAME_BYTES + 1], type[TYPE_BYTES + 20];
	/* [crew] while .waiting */
	struct bytes_file file;
	chatd_status rc;
	chatd_buf *block;
	int64_t from;
	size_t n;
};

static const struct chatd_http *http_of(const struct serve *s)
{
	return s->self->http->vt;
}

static void close_file(void *arg)
{
	struct serve *s = arg;
	bytes_close(&s->file);
}

static void free_serve(void *arg)
{
	struct serve *s = arg;
	s->self->h->mem_free(s);
}

static void leave(struct serve *s)
{
	const struct chatd_host *h = s->self->h;
	if (s->waiting || s->req) {
		return;
	}
	h->buf_unref(s->ready);
	h->buf_unref(s->block);
	s->ready = s->block = NULL;
	if (s->file.fd < 0 || crew_do(s->self->crew, s->w, close_file, free_serve, s) < 0) {
		bytes_close(&s->file);
		free_serve(s);
	}
}

static void answered(struct serve *s)
{
	s->req = NULL;
	leave(s);
}

static void refuse(struct serve *s, int32_t status, const char *code, const char *why)
{
	http_of(s)->problem(s->req, status, code, why);
	answered(s);
}

static void on_gone(void *arg)
{
	answered(arg);
}

/* ---- the head -------------------------------------------------------------------------- */

static void set_headers(struct serve *s)
{
	const struct chatd_http *http = http_of(s);
	char disposition[DISPOSITION_MAX];
	name_disposition(s->name, s->shows, disposition);
	http->header(s->req, "Content-Disposition", text(disposition));
	http->header(s->req, "Content-Security-Policy", CHATD_LIT("sandbox; default-src 'none'"));
	http->header(s->req, "Cross-Origin-Resource-Policy", CHATD_LIT("same-origin"));
	http->header(s->req, "ETag", text(s->etag));
	/* Rights are asked for each time. */
	http->header(s->req, "Cache-Control", CHATD_LIT("private, no-cache"));
}

static void begin_answer(struct serve *s)
{
	const struct chatd_http *http = http_of(s);
	char range[80];
	if (s->partial) {
		snprintf(range, sizeof(range), "bytes %lld-%lld/%lld", (long long)s->first,
				(long long)(s->end - 1), (long long)s->size);
		http->header(s->req, "Content-Range", text(range));
	}
	set_headers(s);
	http->header(s->req, "Accept-Ranges", CHATD_LIT("bytes"));
	s->sending = 1;
	http->begin_sized(s->req, s->partial ? 206 : 200, s->type, s->end - s->first);
}

/* ---- blocks ---------------------------------------------------------------------------- */

static void read_block(void *arg)
{
	struct serve *s = arg;
	s->rc = bytes_read(s->self, &s->file, s->from, s->self->h->buf_data(s->block), s->n);
}

static void pump(struct serve *s);

static void cut(struct serve *s)
{
	chatd_req *req = s->req;
	s->req = NULL;
	if (s->sending) {
		http_of(s)->abort(req);
	} else {
		http_of(s)->header(req, "Retry-After", CHATD_LIT("3"));
		http_of(s)->problem(req, 503, "UNAVAILABLE", "The file cannot be read now; try again.");
	}
	leave(s);
}

/* Nothing of what does not open goes out; what went before is cut off. */
static int is_lost(chatd_status rc)
{
	return rc == -EBADMSG || rc == -ENOKEY;
}

static void refuse_lost(struct serve *s)
{
	refuse(s, 500, "DECRYPT_FAILED",
			"The file cannot be decrypted: it is damaged where it lies, or its key is not there. "
			"Who runs this server finds in its log which.");
}

static void log_unread(const struct serve *s)
{
	s->self->h->log(s->self->ctx, s->rc == -EHOSTDOWN ? CHATD_LOG_DEBUG : CHATD_LOG_ERROR,
			"the bytes of file %s cannot be read: %s", s->id,
			is_lost(s->rc) ? "they cannot be decrypted" : strerror(-s->rc));
}

static void on_block(void *arg);

static void on_found_again(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct serve *s = arg;
	if (rc == 0 && s->req && !chatd_str_same(a->files[0].object, text(s->file.object))) {
		bytes_close(&s->file);
		chatd_str_copy(s->file.object, sizeof(s->file.object), a->files[0].object);
		if (crew_do(s->self->crew, s->w, read_block, on_block, s) == 0) {
			return;
		}
	}
	on_block(s);
}

/* It may have been encrypted meanwhile (renew.c), and then the same bytes lie under another name.  0:
 * it will be read there. */
static int look_again(struct serve *s)
{
	const struct chatd_store *store = s->self->store->vt;
	const struct chatd_store_file_key key = { .struct_size = sizeof(key), .id = text(s->id) };
	if (s->moved) {
		return -ENOENT;
	}
	s->moved = 1;
	chatd_status rc = store->file_get(s->self->store->obj, s->w, &key, on_found_again, s);
	s->waiting = rc == 0;
	return rc;
}

static void on_block(void *arg)
{
	struct serve *s = arg;
	s->waiting = 0;
	if (!s->req) {
		leave(s);
		return;
	}
	if (s->rc == -ENOENT && look_again(s) == 0) {
		return;
	}
	if (s->rc < 0) {
		log_unread(s);
		if (is_lost(s->rc) && !s->sending) {
			refuse_lost(s);
		} else {
			cut(s);
		}
		return;
	}
	s->ready = s->block;
	s->block = NULL;
	pump(s);
}

static int read_next(struct serve *s)
{
	const struct chatd_host *h = s->self->h;
	int64_t n = s->end - s->at < BLOCK ? s->end - s->at : BLOCK;
	s->block = h->buf_new(0, (size_t)n);
	if (!s->block) {
		return -ENOMEM;
	}
	s->from = s->at;
	s->n = (size_t)n;
	if (crew_do(s->self->crew, s->w, read_block, on_block, s) < 0) {
		return -EBUSY;
	}
	s->at += n;
	s->waiting = 1;
	return 0;
}

static void write_ready(struct serve *s)
{
	const struct chatd_host *h = s->self->h;
	s->left -= (int64_t)h->buf_len(s->ready);
	s->flying = 1;
	http_of(s)->write(s->req, s->ready);
	h->buf_unref(s->ready);
	s->ready = NULL;
}

/* Nothing is promised before the first bytes are there. */
static void pump(struct serve *s)
{
	if (!s->sending && (s->ready || s->left == 0)) {
		begin_answer(s);
	}
	if (s->ready && !s->flying) {
		write_ready(s);
	}
	if (s->left == 0) {
		chatd_req *req = s->req;
		s->req = NULL;
		http_of(s)->end(req);
		leave(s);
	} else if (!s->ready && !s->waiting && s->at < s->end && read_next(s) < 0) {
		cut(s);
	}
}

static void on_drained(void *arg)
{
	struct serve *s = arg;
	s->flying = 0;
	if (s->sending) {
		pump(s);
	}
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user), .gone = on_gone, .drained = on_drained
};

/* ---- the beginning ------------------------------------------------------------------------ */

static int wanted_range(struct serve *s, int64_t size, const char *etag, int64_t *from, int64_t *n)
{
	const struct chatd_http *http = http_of(s);
	struct chatd_str range = http->req_header(s->req, "range");
	struct chatd_str only_if = http->req_header(s->req, "if-range");
	*from = 0;
	*n = size;
	if (!range.p || http->req_header_at(s->req, "range", 1).p ||
			(only_if.p && !chatd_str_same(only_if, text(etag)))) {
		return RANGE_NONE;
	}
	return range_read(range, size, from, n);
}

static void begin_file(struct serve *s, const struct chatd_store_file *f)
{
	const struct chatd_http *http = http_of(s);
	char range[80];
	int64_t n;
	int kind = wanted_range(s, f->size, s->etag, &s->at, &n);
	if (kind == RANGE_BAD) {
		snprintf(range, sizeof(range), "bytes */%lld", (long long)f->size);
		http->header(s->req, "Content-Range", text(range));
		refuse(s, 416, "RANGE_NOT_SATISFIABLE", "The file has no such range of bytes.");
		return;
	}
	s->partial = kind == RANGE_ONE;
	s->size = f->size;
	s->first = s->at;
	s->end = s->at + n;
	s->left = http->req_method(s->req) == CHATD_HEAD ? 0 : n;
	pump(s);
}

static void begin_thumb(struct serve *s, const struct chatd_store_file *f);

/* The S3 server says what we would say, as far as it can be told; from an origin of its own nothing
 * in the file runs as ours. */
static void send_elsewhere(struct serve *s)
{
	char disposition[DISPOSITION_MAX], said[3 * DISPOSITION_MAX], type[3 * TYPE_BYTES + 60];
	char query[sizeof(said) + sizeof(type) + 128], url[8192], object[OBJECT_NAME + 16];
	name_disposition(s->name, s->shows, disposition);
	snprintf(object, sizeof(object), "objects/%s", s->file.object);
	chatd_status rc = s3_encode(disposition, said, sizeof(said));
	rc = rc < 0 ? rc : s3_encode(s->type, type, sizeof(type));
	if (rc == 0) {
		snprintf(query, sizeof(query),
				"response-cache-control=private&response-content-disposition=%s"
				"&response-content-type=%s",
				said, type);
		rc = s3_address(s->self->s3, object, query, (int)(s->self->conf->presigned_ttl / 1000), url,
				sizeof(url));
	}
	if (rc < 0) {
		refuse(s, 503, "UNAVAILABLE", "The file cannot be looked up now; try again.");
		return;
	}
	http_of(s)->header(s->req, "Location", text(url));
	http_of(s)->header(s->req, "Cache-Control", CHATD_LIT("no-store"));
	http_of(s)->respond(s->req, 302, NULL, CHATD_LIT(""));
	answered(s);
}

static void ask_s3(void *arg)
{
	struct serve *s = arg;
	char object[OBJECT_NAME + 16];
	snprintf(object, sizeof(object), "objects/%s", s->file.object);
	s->rc = s3_look(s->self->s3, object);
}

static void on_s3_asked(void *arg)
{
	struct serve *s = arg;
	s->waiting = 0;
	if (!s->req) {
		leave(s);
	} else if (s->rc < 0) {
		log_unread(s);
		cut(s);
	} else {
		send_elsewhere(s);
	}
}

/* A browser that is sent to a server that is away shows a page of its own, or nothing.  So who has
 * not answered a moment ago is asked whether it has the file. */
static void redirect(struct serve *s)
{
	if (s3_answers(s->self->s3)) {
		send_elsewhere(s);
		return;
	}
	s->waiting = 1;
	if (crew_do(s->self->crew, s->w, ask_s3, on_s3_asked, s) < 0) {
		s->waiting = 0;
		cut(s);
	}
}

/* An address that is signed for GET is none for HEAD, which needs no bytes anyway. */
static int is_elsewhere(const struct serve *s)
{
	return s->self->s3 && s->self->conf->presigned && !seal_is(s->file.object) &&
			http_of(s)->req_method(s->req) != CHATD_HEAD;
}

static void begin(struct serve *s, const struct chatd_store_file *f)
{
	snprintf(
			s->etag, sizeof(s->etag), s->edge ? "\"%.*s-%d\"" : "\"%.*s\"", 32, f->hash.p, s->edge);
	int is_text = f->type.n > 5 && memcmp(f->type.p, "text/", 5) == 0;
	snprintf(s->name, sizeof(s->name), s->edge ? "thumbnail.webp" : "%.*s", (int)f->name.n,
			f->name.p);
	chatd_str_copy(s->type, TYPE_BYTES, f->type);
	s->shows = s->edge || (http_of(s)->req_query(s->req, "inline").p && type_shows(s->type));
	snprintf(s->type, sizeof(s->type), "%.*s%s", (int)f->type.n, f->type.p,
			is_text ? "; charset=utf-8" : "");
	if (etag_in(http_of(s)->req_header(s->req, "if-none-match"), s->etag)) {
		set_headers(s);
		http_of(s)->respond(s->req, 304, NULL, CHATD_LIT(""));
		answered(s);
		return;
	}
	chatd_str_copy(s->file.object, sizeof(s->file.object), f->object);
	s->file.size = f->size;
	if (s->edge) {
		begin_thumb(s, f);
	} else if (is_elsewhere(s)) {
		redirect(s);
	} else {
		begin_file(s, f);
	}
}

/* One that may not be read is not there. */
static void not_there(struct serve *s)
{
	refuse(s, 404, "NOT_FOUND", "There is no such file, or it is not for you.");
}

static void on_file(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct serve *s = arg;
	s->waiting = 0;
	if (!s->req) {
		leave(s);
	} else if (rc == -ENOENT || rc == -EINVAL) {
		not_there(s);
	} else if (rc < 0) {
		refuse(s, 503, "UNAVAILABLE", "The file cannot be looked up now; try again.");
	} else if (a->files[0].state == CHATD_STORE_FILE_BAD) {
		refuse(s, 403, "FILE_REFUSED", "This file was found to be harmful.");
	} else {
		begin(s, &a->files[0]);
	}
}

static void look_up(struct serve *s, struct chatd_str user)
{
	const struct chatd_store *store = s->self->store->vt;
	const struct chatd_store_file_key key = {
		.struct_size = sizeof(key), .id = text(s->id), .user = user
	};
	s->waiting = 1;
	if (store->file_get(s->self->store->obj, s->w, &key, on_file, s) < 0) {
		s->waiting = 0;
		refuse(s, 503, "UNAVAILABLE", "The file cannot be looked up now; try again.");
	}
}

/* ---- small pictures ------------------------------------------------------------------ */

static void read_thumb(void *arg)
{
	struct serve *s = arg;
	char name[OBJECT_NAME];
	thumb_object(s->file.object, s->edge, name);
	s->rc = bytes_get_small(s->self, name, &s->block);
}

static void fetch_thumb(struct serve *s);

static void no_thumb(struct serve *s, chatd_status rc)
{
	if (rc == -ENODATA || rc == -ENOENT) {
		refuse(s, 404, "NO_THUMBNAIL", "There is no small picture of this file.");
	} else if (is_lost(rc)) {
		refuse_lost(s);
	} else {
		http_of(s)->header(s->req, "Retry-After", CHATD_LIT("2"));
		refuse(s, 503, "UNAVAILABLE", "The small picture cannot be had now; try again.");
	}
}

static void on_thumb_made(void *arg, chatd_status rc, int width, int height)
{
	struct serve *s = arg;
	(void)width;
	(void)height;
	s->waiting = 0;
	if (!s->req) {
		leave(s);
	} else if (rc < 0) {
		no_thumb(s, rc);
	} else {
		fetch_thumb(s);
	}
}

static void make_thumb(struct serve *s)
{
	const struct thumb_what what = { .self = s->self, .w = s->w, .object = s->file.object };
	s->made = s->waiting = 1;
	chatd_status rc = thumb_start(&what, on_thumb_made, s);
	if (rc < 0) {
		s->waiting = 0;
		no_thumb(s, rc);
	}
}

static void on_thumb_read(void *arg)
{
	struct serve *s = arg;
	s->waiting = 0;
	if (!s->req) {
		leave(s);
	} else if (s->rc == -ENOENT && !s->made) {
		make_thumb(s);
	} else if (s->rc < 0 || s->self->h->buf_len(s->block) == 0) {
		no_thumb(s, s->rc < 0 ? s->rc : -ENODATA);
	} else {
		set_headers(s);
		http_of(s)->respond_buf(s->req, 200, "image/webp", s->block);
		answered(s);
	}
}

static void fetch_thumb(struct serve *s)
{
	s->waiting = 1;
	if (crew_do(s->self->crew, s->w, read_thumb, on_thumb_read, s) < 0) {
		s->waiting = 0;
		no_thumb(s, -EBUSY);
	}
}

static void begin_thumb(struct serve *s, const struct chatd_store_file *f)
{
	if (thumb_can(s->self, f->type)) {
		fetch_thumb(s);
	} else {
		no_thumb(s, -ENODATA);
	}
}

/* The next larger one of those that are made. */
static int choose_edge(const struct self *self, struct chatd_str size)
{
	int64_t wanted = size.p ? number_read(size) : 0;
	for (int i = 0; i < self->n_edges; i++) {
		if (self->edges[i] >= wanted) {
			return self->edges[i];
		}
	}
	return self->n_edges ? self->edges[self->n_edges - 1] : 0;
}

/* ---- who asks ------------------------------------------------------------------------ */

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct serve *s = arg;
	if (rc < 0) {
		refuse(s, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
	} else {
		look_up(s, s->self->h->ident_user(who));
	}
}

/* "size=320&", "inline=1&" in front of what was signed: how it is wanted is no matter of rights. */
static struct chatd_str without_wish(struct chatd_str query, const char *name)
{
	size_t n_name = strlen(name);
	const char *amp = query.n > n_name && memcmp(query.p, name, n_name) == 0
			? memchr(query.p, '&', query.n < 24 ? query.n : 24)
			: NULL;
	size_t n = amp ? (size_t)(amp + 1 - query.p) : 0;
	return chatd_str_of(query.p + n, query.n - n);
}

static void by_signature(struct serve *s)
{
	const struct chatd_http *http = http_of(s);
	struct signed_for f = { .file = text(s->id) };
	struct chatd_str query =
			without_wish(http->req_query_text(s->req), s->edge ? "size=" : "inline=");
	chatd_status rc = sign_check(s->self->key, query, s->self->h->wall_ms() / 1000, &f);
	if (rc == 0) {
		look_up(s, f.user);
	} else {
		refuse(s, 403, rc == -ETIME ? "SIGNATURE_EXPIRED" : "BAD_SIGNATURE",
				rc == -ETIME ? "This address is no longer good; ask for a new one."
							 : "This address was not made by this server for this file.");
	}
}

/* NULL: it has been answered. */
static struct serve *create(struct self *self, chatd_req *req)
{
	const struct chatd_http *http = self->http->vt;
	struct serve *s = self->h->mem_alloc(sizeof(*s));
	struct chatd_str id = http->req_param(req, "id");
	if (!s) {
		http->problem(req, 503, "OVERLOADED", "The server is out of memory.");
		return NULL;
	}
	s->self = self;
	s->req = req;
	s->w = http->req_worker(req);
	s->file.fd = -1;
	if (!chatd_id_ok(id)) {
		not_there(s);
		return NULL;
	}
	chatd_str_copy(s->id, sizeof(s->id), id);
	http->req_user(req, &req_user, s);
	return s;
}

static void find_out_who(struct serve *s)
{
	if (http_of(s)->req_query(s->req, "s").p) {
		by_signature(s);
	} else {
		http_of(s)->identify(s->req, on_identified, s);
	}
}

void on_download(void *self, chatd_req *req)
{
	struct serve *s = create(self, req);
	if (s) {
		find_out_who(s);
	}
}

void on_thumbnail(void *selfp, chatd_req *req)
{
	struct self *self = selfp;
	const struct chatd_http *http = self->http->vt;
	struct serve *s = create(self, req);
	if (s) {
		s->edge = choose_edge(self, http->req_query(req, "size"));
		find_out_who(s);
	}
}

/* ---- deleting ------------------------------------------------------------------------ */

static void on_dropped(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct serve *s = arg;
	(void)a;
	s->waiting = 0;
	if (!s->req) {
		leave(s);
	} else if (rc == 0) {
		http_of(s)->respond(s->req, 204, NULL, CHATD_LIT(""));
		answered(s);
	} else if (rc == -ENOENT || rc == -EINVAL) {
		not_there(s);
	} else {
		problem_store(s->self, s->req, rc, a);
		answered(s);
	}
}

static void on_deleter(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct serve *s = arg;
	const struct chatd_store *store = s->self->store->vt;
	if (rc < 0) {
		refuse(s, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	const struct chatd_store_file_key key = {
		.struct_size = sizeof(key), .id = text(s->id), .user = s->self->h->ident_user(who)
	};
	s->waiting = 1;
	rc = store->file_drop(s->self->store->obj, s->w, &key, on_dropped, s);
	if (rc < 0) {
		s->waiting = 0;
		problem_store(s->self, s->req, rc, NULL);
		answered(s);
	}
}

void on_delete(void *self, chatd_req *req)
{
	struct serve *s = create(self, req);
	if (s) {
		http_of(s)->identify(req, on_deleter, s);
	}
}

/* ---- signed addresses ---------------------------------------------------------------- */

static void on_signable(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct serve *s = arg;
	const struct chatd_http *http = http_of(s);
	char query[SIGN_QUERY], url[SIGN_QUERY + 96], room[1536];
	struct chatd_json j;
	s->waiting = 0;
	if (!s->req || rc < 0) {
		on_file(s, rc < 0 ? rc : -ENOENT, a);
		return;
	}
	int64_t until = s->self->h->wall_ms() / 1000 + s->self->conf->url_ttl / 1000;
	const struct signed_for f = { .file = text(s->id), .user = text(s->user), .expires = until };
	if (sign_write(s->self->key, &f, query) < 0) {
		refuse(s, 503, "UNAVAILABLE", "The address cannot be signed now; try again.");
		return;
	}
	snprintf(url, sizeof(url), "/api/files/%s?%s", s->id, query);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	/* Not chatd_json_member(): it escapes & for HTML, which is JSON too, but nobody's to read. */
	chatd_json_key(&j, "url");
	chatd_json_lit(&j, "\"");
	chatd_json_raw(&j, url, strlen(url));
	chatd_json_lit(&j, "\"");
	chatd_json_time(&j, "expires", until * 1000);
	chatd_json_key(&j, "file");
	file_json(&j, &a->files[0]);
	chatd_json_lit(&j, "}");
	http->header(s->req, "Cache-Control", CHATD_LIT("no-store"));
	http->respond(s->req, 200, "application/json", chatd_json_str(&j));
	chatd_json_free(&j);
	answered(s);
}

static void on_signer(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct serve *s = arg;
	const struct chatd_store *store = s->self->store->vt;
	if (rc < 0) {
		refuse(s, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_str_copy(s->user, sizeof(s->user), s->self->h->ident_user(who));
	const struct chatd_store_file_key key = {
		.struct_size = sizeof(key), .id = text(s->id), .user = text(s->user)
	};
	s->waiting = 1;
	if (store->file_get(s->self->store->obj, s->w, &key, on_signable, s) < 0) {
		s->waiting = 0;
		refuse(s, 503, "UNAVAILABLE", "The file cannot be looked up now; try again.");
	}
}

void on_sign(void *self, chatd_req *req)
{
	struct serve *s = create(self, req);
	if (s) {
		http_of(s)->identify(req, on_signer, s);
	}
}
