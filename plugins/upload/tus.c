/* SPDX-License-Identifier: Apache-2.0 */
/* Resumable uploads by tus 1.0 (https://tus.io/protocols/resumable-upload): creation, expiration,
 * checksum, termination.  The upload /api/files/tus/ID becomes the file /api/files/ID. */
#include "partial.h"
#include "pieces.h"

#include <openssl/evp.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { META_MAX = 2048, STATUS_CHECKSUM = 460 };
#define TUS_PATH "/api/files/tus/"

enum what { CREATE, LOOK, APPEND, DROP };

struct tus {
	struct self *self;
	chatd_worker *w;
	chatd_req *req; /* NULL: answered, or the client has gone */
	enum what what;
	int waiting, slot, ended, whole;
	int64_t offset;         /* that the client says */
	struct partial partial; /* [crew] while .waiting for it */
	chatd_status rc;
	struct sink *sink;
	struct sink_facts facts; /* of the piece, then of all of it; [crew] while .waiting */
	char user[CHATD_ID_MAX + 1];
	char digest[16];
	unsigned char sum[EVP_MAX_MD_SIZE];
	size_t sum_n;
};

static const struct chatd_http *http_of(const struct tus *t)
{
	return t->self->http->vt;
}

static void leave(struct tus *t)
{
	sink_close(t->sink, pieces_are(t->self));
	t->sink = NULL;
	if (t->slot) {
		slots_give(t->self, text(t->user));
		t->slot = 0;
	}
	if (!t->waiting && !t->req) {
		t->self->h->mem_free(t);
	}
}

static void answered(struct tus *t)
{
	t->req = NULL;
	leave(t);
}

static void refuse(struct tus *t, int32_t status, const char *code, const char *why)
{
	chatd_req *req = t->req;
	t->req = NULL;
	http_of(t)->problem(req, status, code, why);
	leave(t);
}

static void not_there(struct tus *t)
{
	refuse(t, 404, "NOT_FOUND", "There is no such upload (any more), or it is not yours.");
}

/* What came is kept, unless its sum was to be looked at: a file has it already, a piece is ended. */
static void on_gone(void *arg)
{
	struct tus *t = arg;
	t->req = NULL;
	if (!t->sink || !pieces_are(t->self) || (!t->ended && (t->sum_n || !sink_size(t->sink)))) {
		leave(t);
		return;
	}
	t->waiting = 1;
	if (!t->ended) {
		sink_pause(t->sink);
	}
}

/* Work for the crew; done() runs also when the client has gone. */
static void off(struct tus *t, void (*work)(void *), void (*done)(void *))
{
	t->waiting = 1;
	if (crew_do(t->self->crew, t->w, work, done, t) < 0) {
		t->waiting = 0;
		if (t->req) {
			problem_sink(t->self, t->req, -EBUSY);
		}
		answered(t);
	}
}

/* ---- headers --------------------------------------------------------------------------- */

static void set_number(struct tus *t, const char *name, int64_t n)
{
	char digits[24];
	snprintf(digits, sizeof(digits), "%lld", (long long)n);
	http_of(t)->header(t->req, name, text(digits));
}

static void set_expires(struct tus *t, int64_t since)
{
	char date[40];
	struct tm tm;
	time_t at = (time_t)(since + t->self->conf->partial_ttl / 1000);
	gmtime_r(&at, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	http_of(t)->header(t->req, "Upload-Expires", text(date));
}

/* The value of a base64 text; -1: it is none. */
static int64_t from_base64(struct chatd_str s, unsigned char *to, size_t cap)
{
	if (s.n % 4 || s.n / 4 * 3 > cap) {
		return -1;
	}
	int n = s.n ? EVP_DecodeBlock(to, (const unsigned char *)s.p, (int)s.n) : 0;
	for (size_t i = s.n; n > 0 && i > s.n - 2 && s.p[i - 1] == '='; i--) {
		n--;
	}
	return n;
}

/* "filename d29ybGQ=,filetype aW1n": only the name is of interest. */
static chatd_status read_name(struct chatd_str meta, char ret[NAME_BYTES + 1])
{
	unsigned char room[META_MAX];
	memcpy(ret, "file", 5);
	if (meta.n > META_MAX) {
		return -EINVAL;
	}
	for (size_t at = 0; at < meta.n;) {
		const char *p = meta.p + at, *comma = memchr(p, ',', meta.n - at);
		size_t n = comma ? (size_t)(comma - p) : meta.n - at;
		at += n + 1;
		while (n && *p == ' ') {
			p++;
			n--;
		}
		if (n > 9 && memcmp(p, "filename ", 9) == 0) {
			int64_t got = from_base64(chatd_str_of(p + 9, n - 9), room, sizeof(room));
			return got < 0 ? -EINVAL
						   : name_clean(chatd_str_of((const char *)room, (size_t)got), ret);
		}
	}
	return 0;
}

/* "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=" */
static chatd_status read_checksum(struct tus *t, struct chatd_str s)
{
	static const char *const known[] = { "sha1", "sha256", "md5" };
	const char *space = s.n ? memchr(s.p, ' ', s.n) : NULL;
	struct chatd_str name = chatd_str_of(s.p, space ? (size_t)(space - s.p) : 0);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (chatd_str_same(name, text(known[i]))) {
			int64_t n =
					from_base64(chatd_str_of(space + 1, s.n - name.n - 1), t->sum, sizeof(t->sum));
			chatd_str_copy(t->digest, sizeof(t->digest), name);
			t->sum_n = n > 0 ? (size_t)n : 0;
			return n > 0 ? 0 : -EINVAL;
		}
	}
	return -EINVAL;
}

static void set_abilities(struct tus *t)
{
	const struct chatd_http *http = http_of(t);
	http->header(t->req, "Tus-Version", CHATD_LIT("1.0.0"));
	http->header(t->req, "Tus-Extension", CHATD_LIT("creation,expiration,checksum,termination"));
	http->header(t->req, "Tus-Checksum-Algorithm", CHATD_LIT("sha1,sha256,md5"));
	set_number(t, "Tus-Max-Size", t->self->conf->max_size);
}

/* ---- creation -------------------------------------------------------------------------- */

static void create_files(void *arg)
{
	struct tus *t = arg;
	t->rc = pieces_are(t->self)
			? pieces_create(t->self, &t->partial, t->self->conf->partials)
			: partial_create(&t->self->dir, &t->partial, t->self->conf->partials);
}

static void on_created(void *arg)
{
	struct tus *t = arg;
	char url[sizeof(TUS_PATH) + PARTIAL_ID];
	t->waiting = 0;
	if (!t->req) {
		leave(t);
	} else if (t->rc == -EDQUOT) {
		refuse(t, 429, "TOO_MANY_UPLOADS",
				"You have begun as many uploads as you may; finish or delete some of them.");
	} else if (t->rc < 0) {
		problem_sink(t->self, t->req, t->rc);
		answered(t);
	} else {
		snprintf(url, sizeof(url), TUS_PATH "%s", t->partial.id);
		http_of(t)->header(t->req, "Location", text(url));
		set_expires(t, t->self->h->wall_ms() / 1000);
		http_of(t)->respond(t->req, 201, NULL, CHATD_LIT(""));
		answered(t);
	}
}

static void on_space(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct tus *t = arg;
	unsigned char random[16];
	t->waiting = 0;
	if (!t->req) {
		leave(t);
		return;
	}
	if (rc < 0) {
		problem_store(t->self, t->req, rc, a);
		answered(t);
		return;
	}
	int64_t left = space_left(t->self, t->req, a);
	if (left <= 0) {
		answered(t);
		return;
	}
	if (t->partial.length > left) {
		refuse(t, 429, "QUOTA_EXCEEDED",
				"The file is larger than what you may still store; delete some, or go on tomorrow.");
		return;
	}
	t->self->h->random(random, sizeof(random));
	partial_id(text(t->user), random, t->partial.id);
	chatd_str_copy(t->partial.owner, sizeof(t->partial.owner), text(t->user));
	off(t, create_files, on_created);
}

static void create(struct tus *t)
{
	const struct chatd_http *http = http_of(t);
	const struct chatd_store *store = t->self->store->vt;
	const struct chatd_store_file_key key = { .struct_size = sizeof(key), .user = text(t->user) };
	t->partial.length = number_read(http->req_header(t->req, "upload-length"));
	if (t->partial.length <= 0) {
		refuse(t, 400, "BAD_UPLOAD",
				"Upload-Length must say how many bytes will come, one at least; it cannot be deferred.");
	} else if (t->partial.length > t->self->conf->max_size) {
		refuse(t, 413, "TOO_LARGE", "The file is larger than files may be here.");
	} else if (read_name(http->req_header(t->req, "upload-metadata"), t->partial.name) < 0) {
		refuse(t, 400, "BAD_UPLOAD",
				"The filename in Upload-Metadata must be UTF-8 without NUL, in base64.");
	} else {
		t->waiting = 1;
		if (store->file_space(t->self->store->obj, t->w, &key, on_space, t) < 0) {
			t->waiting = 0;
			problem_store(t->self, t->req, -EAGAIN, NULL);
			answered(t);
		}
	}
}

/* ---- what is there --------------------------------------------------------------------- */

static void answer_offset(struct tus *t, int64_t offset, int64_t length)
{
	const struct chatd_http *http = http_of(t);
	set_number(t, "Upload-Offset", offset);
	set_number(t, "Upload-Length", length);
	http->header(t->req, "Cache-Control", CHATD_LIT("no-store"));
	http->respond(t->req, 200, NULL, CHATD_LIT(""));
	answered(t);
}

/* It may have become a file whose answer was lost on the way. */
static void on_file(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (!t->req) {
		leave(t);
	} else if (rc < 0 || !chatd_str_same(a->files[0].owner, text(t->user)) || t->what != LOOK) {
		not_there(t);
	} else {
		answer_offset(t, a->files[0].size, a->files[0].size);
	}
}

static void look_for_file(struct tus *t)
{
	const struct chatd_store *store = t->self->store->vt;
	const struct chatd_store_file_key key = {
		.struct_size = sizeof(key), .id = text(t->partial.id), .user = text(t->user)
	};
	t->waiting = 1;
	if (store->file_get(t->self->store->obj, t->w, &key, on_file, t) < 0) {
		t->waiting = 0;
		problem_store(t->self, t->req, -EAGAIN, NULL);
		answered(t);
	}
}

static void remove_files(void *arg)
{
	struct tus *t = arg;
	if (pieces_are(t->self)) {
		pieces_remove(t->self, t->partial.id);
	} else {
		partial_remove(&t->self->dir, t->partial.id);
	}
}

static void on_dropped(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (t->req) {
		http_of(t)->respond(t->req, 204, NULL, CHATD_LIT(""));
	}
	answered(t);
}

/* ---- appending ------------------------------------------------------------------------- */

static void on_removed(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	leave(t);
}

/* The upload is over, for better or worse; the request has been answered. */
static void forget_files(struct tus *t)
{
	t->req = NULL;
	t->waiting = 1;
	if (crew_do(t->self->crew, t->w, remove_files, on_removed, t) < 0) {
		t->waiting = 0; /* the sweep will do it */
	}
	leave(t);
}

/* From here on it is the file that is asked for. */
static void on_over(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (t->req) {
		set_number(t, "Upload-Offset", t->partial.length);
		http_of(t)->respond(t->req, 204, NULL, CHATD_LIT(""));
	}
	answered(t);
}

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a, const char *id)
{
	struct tus *t = arg;
	(void)id;
	t->waiting = 0;
	if (rc == 0) {
		t->waiting = 1;
		if (crew_do(t->self->crew, t->w, remove_files, on_over, t) < 0) {
			on_over(t); /* the sweep will do it */
		}
		return;
	}
	if (t->req) {
		problem_store(t->self, t->req, rc, a);
	}
	/* Pieces are there still, and the last one may be sent again. */
	int refused = rc == -EDQUOT || rc == -EACCES || rc == -EINVAL || rc == -EEXIST;
	if (refused || !pieces_are(t->self)) {
		forget_files(t);
	} else {
		answered(t);
	}
}

static void answer_written(struct tus *t, int64_t offset)
{
	if (t->req) {
		set_number(t, "Upload-Offset", offset);
		set_expires(t, t->self->h->wall_ms() / 1000);
		http_of(t)->respond(t->req, 204, NULL, CHATD_LIT(""));
	}
	answered(t);
}

static void add_piece(void *arg)
{
	struct tus *t = arg;
	t->rc = pieces_add(t->self, &t->partial, &t->facts);
}

static void on_added(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (t->rc < 0 && t->req) {
		problem_sink(t->self, t->req, t->rc);
		answered(t);
	} else {
		answer_written(t, t->offset + t->facts.size);
	}
}

static void join_pieces(void *arg)
{
	struct tus *t = arg;
	const struct sink_facts last = t->facts;
	t->rc = pieces_join(t->self, &t->partial, &last, &t->facts);
	unlink(last.path);
}

static chatd_status keep(struct tus *t, const struct sink_facts *facts)
{
	const struct keep_what what = { .self = t->self,
		.w = t->w,
		.facts = facts,
		.owner = text(t->user),
		.name = t->partial.name,
		.id = t->partial.id };
	chatd_status rc = keep_start(&what, on_kept, t);
	t->waiting = rc == 0;
	return rc;
}

static void on_failed(void *arg, chatd_status rc);

static void on_joined(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	t->rc = t->rc < 0 ? t->rc : keep(t, &t->facts);
	if (t->rc == 0) {
		return;
	}
	if (t->req && (t->rc == -EBADMSG || t->rc == -ENOKEY)) {
		http_of(t)->problem(t->req, 500, "DECRYPT_FAILED",
				"What came of this upload before is damaged where it lies; begin again.");
		forget_files(t);
	} else {
		on_failed(t, t->rc);
	}
}

static void keep_sunk(struct tus *t)
{
	chatd_status rc = keep(t, sink_facts(t->sink));
	if (rc < 0) {
		on_failed(t, rc);
		return;
	}
	sink_close(t->sink, 0);
	t->sink = NULL;
}

/* Of what comes in one request, the piece is the whole. */
static void on_piece(struct tus *t)
{
	if (t->whole && !t->offset) {
		keep_sunk(t);
		return;
	}
	t->facts = *sink_facts(t->sink);
	sink_close(t->sink, t->facts.size == 0);
	t->sink = NULL;
	if (t->whole) {
		off(t, join_pieces, on_joined);
	} else if (t->facts.size == 0) {
		answer_written(t, t->offset);
	} else {
		off(t, add_piece, on_added);
	}
}

static void on_written(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (pieces_are(t->self)) {
		on_piece(t);
		return;
	}
	if (!t->whole) {
		answer_written(t, sink_size(t->sink));
		return;
	}
	keep_sunk(t);
}

static void on_failed(void *arg, chatd_status rc)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (!t->req) {
		leave(t);
	} else if (rc == -EAGAIN) {
		refuse(t, 423, "LOCKED", "Another request is writing to this upload; ask for its offset.");
	} else if (rc == -ESTALE) {
		refuse(t, 409, "WRONG_OFFSET", "The upload has grown meanwhile; ask for its offset.");
	} else if (rc == -EBADMSG) {
		refuse(t, STATUS_CHECKSUM, "CHECKSUM_MISMATCH",
				"These bytes do not have the sum that came with them; send them again.");
	} else if (rc == -ENOENT) {
		not_there(t);
	} else if (rc == -EPROTOTYPE) {
		problem_sink(t->self, t->req, rc);
		forget_files(t);
	} else {
		problem_sink(t->self, t->req, rc);
		answered(t);
	}
}

static void on_hold(void *arg, int on)
{
	struct tus *t = arg;
	if (t->req) {
		http_of(t)->hold(t->req, on);
	}
}

static const struct sink_user sink_user_of_tus = { on_hold, on_failed, on_written };

/* How far the upload has come with what was just sent. */
static int64_t reached(const struct tus *t)
{
	return sink_size(t->sink) + (pieces_are(t->self) ? t->offset : 0);
}

static chatd_status on_body(void *arg, const char *p, size_t n)
{
	struct tus *t = arg;
	if (reached(t) + (int64_t)n > t->partial.length) {
		refuse(t, 413, "TOO_LARGE", "More bytes came than Upload-Length has said.");
		return -EALREADY;
	}
	sink_write(t->sink, p, n);
	return 0;
}

static void on_body_end(void *arg)
{
	struct tus *t = arg;
	t->ended = 1;
	if (!t->sink) {
		return;
	}
	t->whole = reached(t) == t->partial.length;
	if (t->whole && (!t->offset || !pieces_are(t->self))) {
		sink_finish(t->sink);
	} else {
		sink_pause(t->sink);
	}
}

static void append(struct tus *t)
{
	char path[DIR_PATH];
	if (t->offset != t->partial.offset) {
		set_number(t, "Upload-Offset", t->partial.offset);
		refuse(t, 409, "WRONG_OFFSET",
				"The upload goes on at another offset; ask for it with HEAD.");
		return;
	}
	partial_path(&t->self->dir, t->partial.id, path);
	int apart = pieces_are(t->self);
	t->sink = sink_open(t->self, t->w, apart ? NULL : path, apart ? 0 : t->offset);
	if (t->sink && apart && t->offset) {
		sink_piece(t->sink);
	}
	if (!t->sink ||
			(t->sum_n &&
					sink_check(t->sink, t->digest, chatd_str_of((const char *)t->sum, t->sum_n)) <
							0)) {
		refuse(t, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	sink_user(t->sink, &sink_user_of_tus, t);
	if (t->ended) {
		on_body_end(t);
	} else {
		http_of(t)->hold(t->req, 0);
	}
}

/* ---- the request ----------------------------------------------------------------------- */

static void load(void *arg)
{
	struct tus *t = arg;
	if (pieces_are(t->self)) {
		t->rc = pieces_load(t->self, &t->partial);
		if (t->rc == 0 && t->what == APPEND) {
			pieces_touch(t->self, &t->partial);
		}
		return;
	}
	t->rc = partial_load(&t->self->dir, &t->partial);
	if (t->rc == 0 && t->what == APPEND) {
		partial_touch(&t->self->dir, t->partial.id);
	}
}

static void on_loaded(void *arg)
{
	struct tus *t = arg;
	t->waiting = 0;
	if (!t->req) {
		leave(t);
	} else if (t->rc == -ENOENT) {
		look_for_file(t);
	} else if (t->rc == -EFBIG) {
		refuse(t, 400, "BAD_UPLOAD",
				"This upload came in more than 10000 pieces; begin again with larger ones.");
	} else if (t->rc < 0) {
		problem_sink(t->self, t->req, t->rc);
		answered(t);
	} else if (strcmp(t->partial.owner, t->user) != 0) {
		not_there(t);
	} else if (t->what == LOOK) {
		set_expires(t, t->partial.touched);
		answer_offset(t, t->partial.offset, t->partial.length);
	} else if (t->what == DROP) {
		off(t, remove_files, on_dropped);
	} else {
		append(t);
	}
}

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct tus *t = arg;
	if (rc < 0) {
		refuse(t, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_str_copy(t->user, sizeof(t->user), t->self->h->ident_user(who));
	if (!may_upload(t->self, t->req, who)) {
		answered(t);
	} else if (t->what == CREATE) {
		create(t);
	} else if (t->what == APPEND && !take_slot(t->self, t->req, text(t->user))) {
		answered(t);
	} else {
		t->slot = t->what == APPEND;
		off(t, load, on_loaded);
	}
}

static const struct chatd_req_user req_user = {
	.struct_size = sizeof(req_user), .body = on_body, .body_end = on_body_end, .gone = on_gone
};

/* What a PATCH says of itself; 0: it has been answered. */
static int read_append(struct tus *t)
{
	const struct chatd_http *http = http_of(t);
	struct chatd_str sum = http->req_header(t->req, "upload-checksum");
	struct chatd_str type = http->req_header(t->req, "content-type");
	t->offset = number_read(http->req_header(t->req, "upload-offset"));
	if (!chatd_str_same(type, CHATD_LIT("application/offset+octet-stream"))) {
		refuse(t, 415, "UNSUPPORTED_MEDIA_TYPE",
				"The Content-Type must be application/offset+octet-stream.");
	} else if (t->offset < 0) {
		refuse(t, 400, "BAD_UPLOAD", "Upload-Offset must say where these bytes begin.");
	} else if (sum.p && read_checksum(t, sum) < 0) {
		refuse(t, 400, "BAD_UPLOAD",
				"Upload-Checksum must be sha1, sha256 or md5, and a sum in base64.");
	} else {
		return 1;
	}
	return 0;
}

static void start(struct self *self, chatd_req *req, enum what what)
{
	const struct chatd_http *http = self->http->vt;
	struct tus *t = self->h->mem_alloc(sizeof(*t));
	struct chatd_str id = http->req_param(req, "id");
	if (!t) {
		http->problem(req, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	t->self = self;
	t->req = req;
	t->w = http->req_worker(req);
	t->what = what;
	http->header(req, "Tus-Resumable", CHATD_LIT("1.0.0"));
	if (!chatd_str_same(http->req_header(req, "tus-resumable"), CHATD_LIT("1.0.0"))) {
		set_abilities(t);
		refuse(t, 412, "TUS_VERSION", "Tus-Resumable must be 1.0.0, which is spoken here.");
		return;
	}
	if (what != CREATE && !partial_id_ok(id)) {
		not_there(t);
		return;
	}
	chatd_str_copy(t->partial.id, sizeof(t->partial.id), id);
	if (what == APPEND && !read_append(t)) {
		return;
	}
	http->req_user(req, &req_user, t);
	if (what == APPEND) {
		http->hold(req, 1);
	}
	http->identify(req, on_identified, t);
}

static void on_create(void *self, chatd_req *req)
{
	start(self, req, CREATE);
}

static void on_look(void *self, chatd_req *req)
{
	start(self, req, LOOK);
}

static void on_append(void *self, chatd_req *req)
{
	start(self, req, APPEND);
}

static void on_drop(void *self, chatd_req *req)
{
	start(self, req, DROP);
}

/* What can be done here; and the preflight of a page of another site, which the engine would
 * answer if this were no route. */
static void on_options(void *selfp, chatd_req *req)
{
	struct self *self = selfp;
	struct tus t = { .self = self, .req = req };
	const struct chatd_http *http = self->http->vt;
	struct chatd_str wanted = http->req_header(req, "access-control-request-headers");
	set_abilities(&t);
	http->header(req, "Tus-Resumable", CHATD_LIT("1.0.0"));
	http->header(req, "Allow", CHATD_LIT("GET, HEAD, POST, PATCH, DELETE, OPTIONS"));
	if (http->req_header(req, "access-control-request-method").p) {
		http->header(
				req, "Access-Control-Allow-Methods", CHATD_LIT("GET, HEAD, POST, PATCH, DELETE"));
		http->header(req, "Access-Control-Allow-Headers",
				wanted.n && wanted.n <= 1024 ? wanted : CHATD_LIT("Authorization, Content-Type"));
	}
	http->respond(req, 204, NULL, CHATD_LIT(""));
}

const struct tus_route tus_routes[TUS_ROUTES] = {
	{ CHATD_POST, 0, "/api/files/tus", on_create },
	{ CHATD_OPTIONS, 0, "/api/files/tus", on_options },
	{ CHATD_GET, 0, TUS_PATH "{id}", on_look },
	{ CHATD_PATCH, CHATD_HTTP_STREAM, TUS_PATH "{id}", on_append },
	{ CHATD_DELETE, 0, TUS_PATH "{id}", on_drop },
	{ CHATD_OPTIONS, 0, TUS_PATH "{id}", on_options },
};
