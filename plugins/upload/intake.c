/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/files: one file as multipart/form-data. */
#include "upload.h"

#include "multipart.h"

struct intake {
	struct self *self;
	chatd_worker *w;
	chatd_req *req; /* NULL: answered, or the client has gone */
	struct multipart parts;
	struct sink *sink;
	int waiting; /* for the store or the object: somebody will call back */
	int named, reading, file_over, ended, slot;
	int64_t left; /* how much more the user may store */
	char user[CHATD_ID_MAX + 1], name[NAME_BYTES + 1];
};

static const struct chatd_http *http_of(const struct intake *in)
{
	return in->self->http->vt;
}

/* Frees it once nobody comes back to it. */
static void leave(struct intake *in)
{
	sink_close(in->sink, 1);
	in->sink = NULL;
	if (in->slot) {
		slots_give(in->self, text(in->user));
		in->slot = 0;
	}
	if (!in->waiting && !in->req) {
		in->self->h->mem_free(in);
	}
}

/* The request has been answered. */
static void answered(struct intake *in)
{
	in->req = NULL;
	leave(in);
}

static void refuse(struct intake *in, int32_t status, const char *code, const char *why)
{
	chatd_req *req = in->req;
	in->req = NULL;
	http_of(in)->problem(req, status, code, why);
	leave(in);
}

/* ---- what may be refused ------------------------------------------------------------- */

void problem_store(
		struct self *self, chatd_req *req, chatd_status rc, const struct chatd_store_answer *a)
{
	const struct chatd_http *http = self->http->vt;
	char seconds[24];
	if (rc == -EDQUOT && a && a->why == CHATD_STORE_TODAY) {
		int64_t wait = (a->until - self->h->wall_ms()) / 1000 + 1;
		snprintf(seconds, sizeof(seconds), "%lld", (long long)(wait > 0 ? wait : 1));
		http->header(req, "Retry-After", text(seconds));
		http->problem(req, 429, "QUOTA_EXCEEDED",
				"You have uploaded as much today as one may in a day; go on tomorrow.");
	} else if (rc == -EDQUOT && a && a->why == CHATD_STORE_FILES) {
		http->problem(req, 429, "QUOTA_EXCEEDED",
				"You have as many files as one may have here; delete some of them.");
	} else if (rc == -EDQUOT) {
		http->problem(req, 429, "QUOTA_EXCEEDED",
				"Your files take as much space as they may; delete some of them.");
	} else if (rc == -EACCES) {
		http->problem(req, 422, "FILE_REFUSED", "This content was found to be harmful before.");
	} else if (rc == -ENOSPC) {
		http->problem(req, 507, "STORE_FULL", "There is no space left for files.");
	} else if (rc == -EAGAIN || rc == -EBUSY) {
		http->header(req, "Retry-After", CHATD_LIT("1"));
		http->problem(req, 503, "STORE_BUSY", "Files cannot be stored fast enough now; try again.");
	} else {
		http->header(req, "Retry-After", CHATD_LIT("3"));
		http->problem(req, 503, "UNAVAILABLE", "Files cannot be stored now; try again.");
	}
}

void problem_sink(struct self *self, chatd_req *req, chatd_status rc)
{
	const struct chatd_http *http = self->http->vt;
	if (rc == -EPROTOTYPE) {
		http->problem(req, 415, "TYPE_NOT_ALLOWED",
				"Files of this type are not accepted here, by what is in them, whatever their name.");
	} else if (rc == -EDQUOT) { /* the file system's, not ours */
		problem_store(self, req, -ENOSPC, NULL);
	} else {
		problem_store(self, req, rc, NULL);
	}
}

int may_upload(struct self *self, chatd_req *req, const chatd_ident *who)
{
	const struct chatd_http *http = self->http->vt;
	if (self->conf->anonymous || !(self->h->ident_flags(who) & CHATD_ID_ANONYMOUS)) {
		return 1;
	}
	http->problem(req, 403, "UPLOAD_FORBIDDEN", "Guests may not upload files; log in first.");
	return 0;
}

int take_slot(struct self *self, chatd_req *req, struct chatd_str user)
{
	const struct chatd_http *http = self->http->vt;
	chatd_status rc = slots_take(self, user);
	if (rc < 0) {
		http->header(req, "Retry-After", CHATD_LIT("2"));
		http->problem(req, rc == -EDQUOT ? 429 : 503,
				rc == -EDQUOT ? "TOO_MANY_UPLOADS" : "OVERLOADED",
				rc == -EDQUOT ? "You have too many uploads under way; wait until one has ended."
							  : "There are too many uploads under way; try again.");
	}
	return rc == 0;
}

int64_t space_left(struct self *self, chatd_req *req, const struct chatd_store_answer *a)
{
	const struct conf *conf = self->conf;
	const int64_t day = INT64_C(86400000);
	struct chatd_store_answer why = { .struct_size = sizeof(why) };
	int64_t all = conf->user_bytes ? conf->user_bytes - a->n : INT64_MAX;
	int64_t today = conf->day_bytes ? conf->day_bytes - a->today : INT64_MAX;
	int64_t left = all < today ? all : today;
	int full = conf->user_files && CHATD_HAS(a, owned) && a->owned >= conf->user_files;
	if (left > 0 && !full) {
		return left;
	}
	why.why = full ? CHATD_STORE_FILES : today <= 0 ? CHATD_STORE_TODAY : CHATD_STORE_TOO_MANY;
	why.until = (self->h->wall_ms() / day + 1) * day;
	problem_store(self, req, -EDQUOT, &why);
	return 0;
}

/* ---- the end ------------------------------------------------------------------------- */

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a, const char *id)
{
	struct intake *in = arg;
	const struct chatd_http *http = http_of(in);
	char room[1024], url[sizeof("/api/files/") + CHATD_ID_MAX];
	struct chatd_json j;
	in->waiting = 0;
	if (!in->req) {
		leave(in);
		return;
	}
	if (rc < 0) {
		problem_store(in->self, in->req, rc, a);
		answered(in);
		return;
	}
	chatd_json_init(&j, room, sizeof(room));
	file_json(&j, &a->files[0]);
	snprintf(url, sizeof(url), "/api/files/%s", id);
	http->header(in->req, "Location", text(url));
	http->header(in->req, "Cache-Control", CHATD_LIT("no-store"));
	if (j.failed) {
		http->problem(in->req, 503, "OVERLOADED", "The server is out of memory.");
	} else {
		http->respond(in->req, 201, "application/json", chatd_json_str(&j));
	}
	chatd_json_free(&j);
	answered(in);
}

static void on_sunk(void *arg)
{
	struct intake *in = arg;
	const struct keep_what what = { .self = in->self,
		.w = in->w,
		.facts = sink_facts(in->sink),
		.owner = text(in->user),
		.name = in->name };
	chatd_status rc = keep_start(&what, on_kept, in);
	if (rc < 0) {
		problem_sink(in->self, in->req, rc);
		answered(in);
		return;
	}
	in->waiting = 1;
	sink_close(in->sink, 0);
	in->sink = NULL;
}

static void on_sink_failed(void *arg, chatd_status rc)
{
	struct intake *in = arg;
	problem_sink(in->self, in->req, rc);
	answered(in);
}

static void on_hold(void *arg, int on)
{
	struct intake *in = arg;
	http_of(in)->hold(in->req, on);
}

static const struct sink_user sink_user_of_intake = { on_hold, on_sink_failed, on_sunk };

/* ---- parts --------------------------------------------------------------------------- */

/* -EALREADY: the request has been answered. */
static chatd_status stop(struct intake *in, int32_t status, const char *code, const char *why)
{
	refuse(in, status, code, why);
	return -EALREADY;
}

static chatd_status take_name(struct intake *in, const struct multipart_part *part)
{
	char room[MULTIPART_HEAD];
	struct chatd_str name = part->filename;
	chatd_status rc = 0;
	if (part->encoded.p) {
		rc = name_decode(part->encoded, 1, room, &name);
	} else {
		rc = name_decode(part->filename, 0, room, &name);
	}
	rc = rc < 0 ? rc : name_clean(name, in->name);
	return rc == 0 ? 0
				   : stop(in, 400, "BAD_MULTIPART",
							 "The file's name is not UTF-8, or has a NUL byte; rename it.");
}

static chatd_status on_part(void *arg, const struct multipart_part *part)
{
	struct intake *in = arg;
	if (!part->filename.p && !part->encoded.p) {
		return 0; /* a field beside it: not wanted, and harmless */
	}
	if (in->named) {
		return stop(
				in, 400, "BAD_MULTIPART", "A request brings one file; send the others after it.");
	}
	in->named = in->reading = 1;
	return take_name(in, part);
}

static chatd_status on_data(void *arg, const char *p, size_t n)
{
	struct intake *in = arg;
	if (!in->reading) {
		return 0;
	}
	int64_t size = sink_size(in->sink) + (int64_t)n;
	if (size > in->self->conf->max_size) {
		return stop(in, 413, "TOO_LARGE", "The file is larger than files may be here.");
	}
	if (size > in->left) {
		return stop(in, 429, "QUOTA_EXCEEDED",
				"The file is larger than what you may still store; delete some, or go on tomorrow.");
	}
	sink_write(in->sink, p, n);
	return 0;
}

static chatd_status on_part_end(void *arg)
{
	struct intake *in = arg;
	in->reading = 0;
	return 0;
}

static const struct multipart_user parts_user = { on_part, on_data, on_part_end };

/* ---- the request --------------------------------------------------------------------- */

static void bad_multipart(struct intake *in)
{
	char why[160];
	snprintf(why, sizeof(why), "The body is no proper multipart/form-data: %s.", in->parts.why);
	refuse(in, 400, "BAD_MULTIPART", why);
}

static chatd_status on_body(void *arg, const char *p, size_t n)
{
	struct intake *in = arg;
	chatd_status rc = multipart_feed(&in->parts, p, n);
	if (rc == -EINVAL) {
		bad_multipart(in);
	}
	return rc;
}

static void on_body_end(void *arg)
{
	struct intake *in = arg;
	in->ended = 1;
	if (!in->sink) {
		return; /* who they are is not known yet: there is no body, or it has been answered */
	}
	if (multipart_finish(&in->parts) < 0) {
		bad_multipart(in);
	} else if (!in->named) {
		refuse(in, 400, "BAD_MULTIPART", "There is no file in it: a part with a filename.");
	} else {
		sink_finish(in->sink);
	}
}

static void on_gone(void *arg)
{
	answered(arg);
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user), .body = on_body, .body_end = on_body_end, .gone = on_gone
};

static void on_space(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct intake *in = arg;
	in->waiting = 0;
	if (!in->req) {
		leave(in);
		return;
	}
	if (rc < 0) {
		problem_store(in->self, in->req, rc, a);
		answered(in);
		return;
	}
	in->left = space_left(in->self, in->req, a);
	if (in->left <= 0) {
		answered(in);
		return;
	}
	in->sink = sink_open(in->self, in->w, NULL, 0);
	if (!in->sink) {
		refuse(in, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	sink_user(in->sink, &sink_user_of_intake, in);
	if (in->ended) {
		on_body_end(in);
	} else {
		http_of(in)->hold(in->req, 0);
	}
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct intake *in = arg;
	struct self *self = in->self;
	const struct chatd_store *store = self->store->vt;
	if (rc < 0) {
		refuse(in, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_str_copy(in->user, sizeof(in->user), self->h->ident_user(who));
	if (!may_upload(self, in->req, who) || !take_slot(self, in->req, text(in->user))) {
		answered(in);
		return;
	}
	in->slot = in->waiting = 1;
	const struct chatd_store_file_key key = { .struct_size = sizeof(key), .user = text(in->user) };
	rc = store->file_space(self->store->obj, in->w, &key, on_space, in);
	if (rc < 0) {
		in->waiting = 0;
		problem_store(self, in->req, rc, NULL);
		answered(in);
	}
}

void on_upload(void *selfp, chatd_req *req)
{
	struct self *self = selfp;
	const struct chatd_http *http = self->http->vt;
	struct intake *in = self->h->mem_alloc(sizeof(*in));
	if (!in) {
		http->problem(req, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	in->self = self;
	in->req = req;
	in->w = http->req_worker(req);
	chatd_status rc = http->req_header_at(req, "content-type", 1).p
			? -ENOTSUP
			: multipart_init(&in->parts, http->req_header(req, "content-type"));
	if (rc == -ENOTSUP) {
		refuse(in, 415, "UNSUPPORTED_MEDIA_TYPE", "Send the file as multipart/form-data.");
		return;
	}
	if (rc < 0) {
		bad_multipart(in);
		return;
	}
	in->parts.user = &parts_user;
	in->parts.arg = in;
	http->req_user(req, &req_user, in);
	http->hold(req, 1);
	http->identify(req, on_identified, in);
}
