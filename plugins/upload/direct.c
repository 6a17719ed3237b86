/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads straight to the S3 server: POST /api/files/direct gives an address to PUT the bytes to, and
 * POST /api/files/direct/{id} says that they are there.  Until then they are a piece that nobody gets
 * (see pieces.h); then they are fetched, and go the way of any other upload: nothing that the client
 * can still write to ever becomes a file. */
#include "pieces.h"

#include "s3.h"

#include <unistd.h>

enum { BODY_MAX = 4096, ADDRESS = 4096 };
#define DIRECT_PATH "/api/files/direct"

struct direct {
	struct self *self;
	chatd_worker *w;
	chatd_req *req; /* NULL: answered, or the client has gone */
	int waiting, slot;
	int is_new;              /* an address is asked for; 0: the bytes are there */
	struct partial partial;  /* [crew] while .waiting */
	struct sink_facts facts; /* likewise */
	chatd_status rc;
	char address[ADDRESS], user[CHATD_ID_MAX + 1];
};

static const struct chatd_http *http_of(const struct direct *d)
{
	return d->self->http->vt;
}

static void leave(struct direct *d)
{
	if (d->slot) {
		slots_give(d->self, text(d->user));
		d->slot = 0;
	}
	if (!d->waiting && !d->req) {
		d->self->h->mem_free(d);
	}
}

static void answered(struct direct *d)
{
	d->req = NULL;
	leave(d);
}

static void refuse(struct direct *d, int32_t status, const char *code, const char *why)
{
	if (d->req) {
		http_of(d)->problem(d->req, status, code, why);
	}
	answered(d);
}

static void not_there(struct direct *d)
{
	refuse(d, 404, "NOT_FOUND", "There is no such upload (any more), or it is not yours.");
}

static void fail(struct direct *d, chatd_status rc)
{
	if (d->req) {
		problem_sink(d->self, d->req, rc);
	}
	answered(d);
}

static void off(struct direct *d, void (*work)(void *), void (*done)(void *))
{
	d->waiting = 1;
	if (crew_do(d->self->crew, d->w, work, done, d) < 0) {
		d->waiting = 0;
		fail(d, -EBUSY);
	}
}

static void respond_file(struct direct *d, const struct chatd_store_file *f)
{
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	file_json(&j, f);
	http_of(d)->header(d->req, "Cache-Control", CHATD_LIT("no-store"));
	if (j.failed) {
		http_of(d)->problem(d->req, 503, "OVERLOADED", "The server is out of memory.");
	} else {
		http_of(d)->respond(d->req, 201, "application/json", chatd_json_str(&j));
	}
	chatd_json_free(&j);
}

/* ---- an address ---------------------------------------------------------------------------- */

static void make_address(void *arg)
{
	struct direct *d = arg;
	char piece[PIECE_NAME], name[PIECE_NAME + 8];
	int seconds = (int)(d->self->conf->presigned_ttl / 1000);
	d->rc = pieces_create(d->self, &d->partial, d->self->conf->partials);
	pieces_whole(d->self, &d->partial, piece);
	snprintf(name, sizeof(name), "tus/%s", piece);
	if (d->rc == 0) {
		d->rc = s3_put_address(
				d->self->s3, name, d->partial.length, seconds, d->address, sizeof(d->address));
	}
}

static void on_address(void *arg)
{
	struct direct *d = arg;
	char room[ADDRESS + 512];
	char complete[sizeof(DIRECT_PATH) + PARTIAL_ID + 1];
	struct chatd_json j;
	d->waiting = 0;
	if (!d->req) {
		leave(d);
		return;
	}
	if (d->rc == -EDQUOT) {
		refuse(d, 429, "TOO_MANY_UPLOADS",
				"You have begun as many uploads as you may; finish or delete some of them.");
		return;
	}
	if (d->rc < 0) {
		fail(d, d->rc);
		return;
	}
	snprintf(complete, sizeof(complete), DIRECT_PATH "/%s", d->partial.id);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "id", text(d->partial.id));
	chatd_json_member(&j, "method", CHATD_LIT("PUT"));
	/* As it is: chatd_json_member() escapes & for HTML. */
	chatd_json_key(&j, "url");
	chatd_json_lit(&j, "\"");
	chatd_json_raw(&j, d->address, strlen(d->address));
	chatd_json_lit(&j, "\"");
	chatd_json_time(&j, "expires", d->self->h->wall_ms() + d->self->conf->presigned_ttl);
	chatd_json_member(&j, "complete", text(complete));
	chatd_json_lit(&j, "}");
	http_of(d)->header(d->req, "Cache-Control", CHATD_LIT("no-store"));
	http_of(d)->header(d->req, "Location", text(complete));
	if (j.failed) {
		http_of(d)->problem(d->req, 503, "OVERLOADED", "The server is out of memory.");
	} else {
		http_of(d)->respond(d->req, 201, "application/json", chatd_json_str(&j));
	}
	chatd_json_free(&j);
	answered(d);
}

static void on_space(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct direct *d = arg;
	unsigned char random[16];
	d->waiting = 0;
	if (!d->req) {
		leave(d);
		return;
	}
	if (rc < 0) {
		problem_store(d->self, d->req, rc, a);
		answered(d);
		return;
	}
	int64_t left = space_left(d->self, d->req, a);
	if (left <= 0) {
		answered(d);
		return;
	}
	if (d->partial.length > left) {
		refuse(d, 429, "QUOTA_EXCEEDED",
				"The file is larger than what you may still store; delete some, or go on tomorrow.");
		return;
	}
	d->self->h->random(random, sizeof(random));
	partial_id(text(d->user), random, d->partial.id);
	chatd_str_copy(d->partial.owner, sizeof(d->partial.owner), text(d->user));
	off(d, make_address, on_address);
}

/* 0: it has been refused. */
static int read_wish(struct direct *d)
{
	char why[CHATD_JSON_WHY];
	json_t *j = chatd_json_parse(http_of(d)->req_body(d->req), why);
	const json_t *size = json_object_get(j, "size"), *name = json_object_get(j, "name");
	struct chatd_str said = chatd_str_of(json_string_value(name), json_string_length(name));
	int good = json_is_integer(size) && json_integer_value(size) > 0 &&
			(!name || (json_is_string(name) && name_clean(said, d->partial.name) == 0));
	d->partial.length = json_integer_value(size);
	if (!name) {
		memcpy(d->partial.name, "file", 5);
	}
	json_decref(j);
	if (!good) {
		refuse(d, 400, "BAD_UPLOAD",
				"Send {\"name\":\"a.png\",\"size\":123}: size is the bytes that will come, one at least.");
	} else if (d->partial.length > d->self->conf->max_size) {
		refuse(d, 413, "TOO_LARGE", "The file is larger than files may be here.");
		good = 0;
	}
	return good;
}

static void ask_space(struct direct *d)
{
	const struct chatd_store *store = d->self->store->vt;
	const struct chatd_store_file_key key = { .struct_size = sizeof(key), .user = text(d->user) };
	if (!read_wish(d)) {
		return;
	}
	d->waiting = 1;
	if (store->file_space(d->self->store->obj, d->w, &key, on_space, d) < 0) {
		d->waiting = 0;
		fail(d, -EAGAIN);
	}
}

/* ---- the bytes are there --------------------------------------------------------------------- */

static void remove_piece(void *arg)
{
	struct direct *d = arg;
	pieces_remove(d->self, d->partial.id);
}

static void on_removed(void *arg)
{
	struct direct *d = arg;
	d->waiting = 0;
	answered(d);
}

/* It is over, for better or worse; the request has been answered. */
static void forget(struct direct *d)
{
	d->req = NULL;
	d->waiting = 1;
	if (crew_do(d->self->crew, d->w, remove_piece, on_removed, d) < 0) {
		on_removed(d); /* the sweep will do it */
	}
}

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a, const char *id)
{
	struct direct *d = arg;
	(void)id;
	d->waiting = 0;
	if (d->req && rc == 0) {
		respond_file(d, &a->files[0]);
	} else if (d->req) {
		problem_store(d->self, d->req, rc, a);
	}
	if (rc == 0 || rc == -EDQUOT || rc == -EACCES || rc == -EINVAL || rc == -EEXIST) {
		forget(d);
	} else {
		answered(d);
	}
}

static void fetch(void *arg)
{
	struct direct *d = arg;
	static const struct sink_facts nothing_more;
	d->rc = pieces_load(d->self, &d->partial);
	if (d->rc == 0 && strcmp(d->partial.owner, d->user) != 0) {
		d->rc = -EPERM;
	}
	if (d->rc == 0 && d->partial.offset == d->partial.length) {
		d->rc = pieces_join(d->self, &d->partial, &nothing_more, &d->facts);
	} else if (d->rc == 0) {
		d->rc = -EBADMSG;
	}
}

/* It was said before, and the answer was lost. */
static void on_file(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct direct *d = arg;
	d->waiting = 0;
	if (rc < 0 || !chatd_str_same(a->files[0].owner, text(d->user)) || !d->req) {
		not_there(d);
	} else {
		respond_file(d, &a->files[0]);
		answered(d);
	}
}

static void look_for_file(struct direct *d)
{
	const struct chatd_store *store = d->self->store->vt;
	const struct chatd_store_file_key key = {
		.struct_size = sizeof(key), .id = text(d->partial.id), .user = text(d->user)
	};
	d->waiting = 1;
	if (store->file_get(d->self->store->obj, d->w, &key, on_file, d) < 0) {
		d->waiting = 0;
		fail(d, -EAGAIN);
	}
}

static void on_fetched(void *arg)
{
	struct direct *d = arg;
	d->waiting = 0;
	if (d->rc == 0) {
		const struct keep_what what = { .self = d->self,
			.w = d->w,
			.facts = &d->facts,
			.owner = text(d->user),
			.name = d->partial.name,
			.id = d->partial.id };
		d->waiting = 1;
		d->rc = keep_start(&what, on_kept, d);
		if (d->rc < 0) {
			d->waiting = 0;
			fail(d, d->rc);
		}
	} else if (d->rc == -ENOENT) {
		look_for_file(d);
	} else if (d->rc == -EPERM) {
		not_there(d);
	} else if (d->rc == -EBADMSG || d->rc == -EFBIG) {
		refuse(d, 409, "NOT_UPLOADED",
				"The bytes are not there, or not as many as was said; PUT them to the address first.");
	} else if (d->rc == -EPROTOTYPE && d->req) {
		problem_sink(d->self, d->req, d->rc);
		forget(d);
	} else {
		fail(d, d->rc);
	}
}

/* ---- the request ----------------------------------------------------------------------------- */

static void on_gone(void *arg)
{
	answered(arg);
}

static const struct chatd_req_user req_user = { .struct_size = sizeof(req_user), .gone = on_gone };

static void on_identified(
		void *arg, chatd_status rc, const chatd_ident *who, const char *code, const char *why)
{
	struct direct *d = arg;
	if (rc < 0) {
		refuse(d, rc == -ENOMEM ? 503 : 401, code ? code : "UNAUTHORIZED", why);
		return;
	}
	chatd_str_copy(d->user, sizeof(d->user), d->self->h->ident_user(who));
	if (!may_upload(d->self, d->req, who)) {
		answered(d);
	} else if (d->is_new) {
		ask_space(d);
	} else if (!take_slot(d->self, d->req, text(d->user))) {
		answered(d);
	} else {
		d->slot = 1;
		off(d, fetch, on_fetched);
	}
}

static void start(struct self *self, chatd_req *req, int is_new)
{
	const struct chatd_http *http = self->http->vt;
	struct direct *d = self->h->mem_alloc(sizeof(*d));
	struct chatd_str id = is_new ? chatd_str_of(NULL, 0) : http->req_param(req, "id");
	if (!d) {
		http->problem(req, 503, "OVERLOADED", "The server is out of memory.");
		return;
	}
	d->self = self;
	d->req = req;
	d->w = http->req_worker(req);
	d->is_new = is_new;
	if (!is_new && !partial_id_ok(id)) {
		not_there(d);
		return;
	}
	chatd_str_copy(d->partial.id, sizeof(d->partial.id), id);
	http->req_user(req, &req_user, d);
	http->identify(req, on_identified, d);
}

static void on_wish(void *self, chatd_req *req)
{
	start(self, req, 1);
}

static void on_complete(void *self, chatd_req *req)
{
	start(self, req, 0);
}

const struct direct_route direct_routes[DIRECT_ROUTES] = {
	{ DIRECT_PATH, BODY_MAX, on_wish },
	{ DIRECT_PATH "/{id}", BODY_MAX, on_complete },
};
