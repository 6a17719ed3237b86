/* SPDX-License-Identifier: Apache-2.0 */
/* Points for others: SEND to /app/karma.give with a user's id as the body.
 *
 * They are records of the store, so they last, and are the same on every node.  Two people may
 * give at the same moment: the record is written only if it is still as it was read, and read
 * again if not.  Other plugins ask through a service, programs over HTTP. */
#include "karma.h"

#include <chatd/http.h>
#include <chatd/store.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USER_BYTES = 64, TRIES = 5 };
#define SPACE CHATD_LIT("example.karma")

struct self { /* read-only after init(): all workers share it */
	const struct chatd_host *h;
	const struct chatd_store *store;
	void *store_obj;
	const struct chatd_http *http; /* NULL: no HTTP here */
};

/* Something that is under way with one user's record. */
struct job {
	const struct self *self;
	chatd_worker *worker;
	chatd_token token; /* of a gift */
	karma_fn *fn;      /* of a question */
	void *arg;
	int tries;
	size_t n;
	char user[USER_BYTES];
};

static int64_t number(struct chatd_str s)
{
	char text[24];
	snprintf(text, sizeof(text), "%.*s", (int)s.n, s.p ? s.p : "");
	return strtoll(text, NULL, 10);
}

static struct job *job_create(const struct self *self, chatd_worker *w, struct chatd_str user)
{
	struct job *j = self->h->mem_alloc(sizeof(*j));
	if (j) {
		j->self = self;
		j->worker = w;
		memcpy(j->user, user.p, user.n);
		j->n = user.n;
	}
	return j;
}

static chatd_status read_record(struct job *j, chatd_store_fn *fn)
{
	const struct self *self = j->self;
	const struct chatd_store_record_key key = { .struct_size = sizeof(key),
		.space = SPACE,
		.key = chatd_str_of(j->user, j->n),
		.wall = self->h->wall_ms() };
	return self->store->record_get(self->store_obj, j->worker, &key, fn, j);
}

/* ---- giving -------------------------------------------------------------------- */

static void gift_done(struct job *j, chatd_verdict verdict)
{
	(void)j->self->h->resume(j->token, verdict, NULL, NULL);
	j->self->h->mem_free(j);
}

static void on_read(void *arg, chatd_status rc, const struct chatd_store_answer *a);

static void on_written(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)a;
	if ((rc == -ESTALE || rc == -EEXIST) && j->tries++ < TRIES) { /* somebody was faster */
		rc = read_record(j, on_read);
		if (rc == 0) {
			return;
		}
	}
	gift_done(j, rc < 0 ? rc : CHATD_ACCEPT);
}

static void on_read(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	const struct self *self = j->self;
	char text[24];
	if (rc < 0 && rc != -ENOENT) {
		gift_done(j, rc);
		return;
	}
	int64_t points = rc == 0 ? number(a->records[0].value) : 0;
	int n = snprintf(text, sizeof(text), "%" PRId64, points + 1);
	const struct chatd_store_record record = { .struct_size = sizeof(record),
		.how = rc == 0 ? CHATD_STORE_RECORD_VERSION : CHATD_STORE_RECORD_NEW,
		.version = rc == 0 ? a->records[0].version : 0,
		.space = SPACE,
		.key = chatd_str_of(j->user, j->n),
		.value = chatd_str_of(text, (size_t)n),
		.wall = self->h->wall_ms() };
	rc = self->store->record_put(self->store_obj, j->worker, &record, on_written, j);
	if (rc < 0) {
		gift_done(j, rc);
	}
}

static int same(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* Ids are [A-Za-z0-9_-]{1,64}; the store takes no other keys. */
static int is_user(struct chatd_str s)
{
	size_t good = 0;
	while (good < s.n && s.p[good] &&
			strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", s.p[good])) {
		good++;
	}
	return s.n > 0 && s.n <= USER_BYTES && good == s.n;
}

static chatd_verdict on_give(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str user = h->msg_body(h->call_msg(call));
	(void)wself;
	if (!is_user(user)) {
		return h->reject(call, "VALIDATION", "the body is a user's id, 1 to %d bytes", USER_BYTES);
	}
	if (same(user, h->ident_user(h->call_ident(call)))) {
		return h->reject(call, "FORBIDDEN", "points are for others");
	}
	struct job *j = job_create(self, h->call_worker(call), user);
	if (!j) {
		return -ENOMEM;
	}
	j->token = h->suspend(call, NULL, NULL);
	if (!j->token) {
		h->mem_free(j);
		return -EBUSY;
	}
	chatd_status rc = read_record(j, on_read);
	if (rc < 0) {
		gift_done(j, rc);
	}
	return CHATD_WAIT;
}

/* ---- asking --------------------------------------------------------------------- */

static void on_points(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	int64_t points = rc == 0 ? number(a->records[0].value) : 0;
	j->fn(j->arg, rc == -ENOENT ? 0 : rc, points);
	j->self->h->mem_free(j);
}

static chatd_status points(
		void *obj, chatd_worker *w, struct chatd_str user, karma_fn *fn, void *arg)
{
	const struct self *self = obj;
	if (!is_user(user)) {
		return -EINVAL;
	}
	struct job *j = job_create(self, w, user);
	if (!j) {
		return -ENOMEM;
	}
	j->fn = fn;
	j->arg = arg;
	chatd_status rc = read_record(j, on_points);
	if (rc < 0) {
		self->h->mem_free(j);
	}
	return rc;
}

static const struct karma service = { .struct_size = sizeof(service), .points = points };

/* ---- over HTTP -------------------------------------------------------------------- */

struct request {
	const struct self *self;
	chatd_req *req; /* NULL: the client has left */
};

/* The answer of the store comes in any case, also to who has left: so a request's memory is not
 * the engine's, which would take it away, but freed by the answer. */
static void on_gone(void *arg)
{
	struct request *r = arg;
	r->req = NULL;
}

static const struct chatd_req_user user_ops = { .struct_size = sizeof(user_ops), .gone = on_gone };

static void on_asked(void *arg, chatd_status rc, int64_t n)
{
	struct request *r = arg;
	char text[64];
	if (r->req && rc < 0) {
		r->self->http->problem(r->req, 503, "STORE_BUSY", "the store does not answer; try again");
	} else if (r->req) {
		int len = snprintf(text, sizeof(text), "{\"points\":%" PRId64 "}", n);
		r->self->http->respond(r->req, 200, "application/json", chatd_str_of(text, (size_t)len));
	}
	r->self->h->mem_free(r);
}

static void on_get(void *arg, chatd_req *req)
{
	struct self *self = arg;
	struct chatd_str user = self->http->req_param(req, "user");
	struct request *r = self->h->mem_alloc(sizeof(*r));
	if (r) {
		r->self = self;
		r->req = req;
		self->http->req_user(req, &user_ops, r);
	}
	chatd_status rc = r ? points(self, self->http->req_worker(req), user, on_asked, r) : -ENOMEM;
	if (rc == -EINVAL) {
		self->http->problem(req, 404, "NOT_FOUND", "there is no such user");
	} else if (rc < 0) {
		self->http->problem(req, 503, "OVERLOADED", "there is no memory; try again later");
	}
	if (rc < 0) { /* answered: nobody hears of this request any more */
		self->h->mem_free(r);
	}
}

/* ---- life ---------------------------------------------------------------------------- */

static chatd_status add_route(const struct chatd_service *http, chatd_ctx *ctx, struct self *self)
{
	if (!http) {
		return 0;
	}
	const struct chatd_route route = { .struct_size = sizeof(route),
		.methods = CHATD_GET,
		.flags = CHATD_HTTP_CORS,
		.path = "/api/karma/{user}",
		.handle = on_get,
		.arg = self };
	self->http = http->vt;
	return self->http->route(http->obj, ctx, &route);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	const struct chatd_service *store = h->service(ctx, CHATD_STORE);
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->store = store->vt;
	self->store_obj = store->obj;
	*ret_self = self;
	chatd_status rc = h->app(ctx, "karma.give", on_give);
	rc = rc < 0 ? rc : h->provide(ctx, EXAMPLE_KARMA, &service, self);
	return rc < 0 ? rc : add_route(h->service(ctx, CHATD_HTTP), ctx, self);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const provides[] = { EXAMPLE_KARMA, NULL };
static const char *const needs[] = { CHATD_STORE, NULL };
static const char *const wants[] = { CHATD_HTTP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "karma",
	.version = "0.1",
	.summary = "points for others, kept in the store",
	.provides = provides,
	.needs = needs,
	.wants = wants,
	.init = init,
	.fini = fini,
};
