/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: how often, what they wait for, how they end. */
#include "keys.h"

struct ask *ask_begin(struct chatd_ask *base)
{
	struct ask *a = (struct ask *)base;
	struct chatd_str target = base->http->req_param(base->req, "id");
	a->now = base->h->wall_ms();
	chatd_str_copy(a->target, sizeof(a->target), chatd_id_ok(target) ? target : CHATD_LIT(""));
	return a;
}

void ask_problem(struct ask *a, int32_t status, const char *code, const char *why)
{
	chatd_ask_problem(&a->a, status, code, why);
}

void ask_answer(struct ask *a, int32_t status)
{
	chatd_ask_answer(&a->a, status);
}

void ask_more(struct ask *a)
{
	a->waits++;
	a->a.under_way = 1;
}

void ask_less(struct ask *a)
{
	a->waits--;
	a->a.under_way = a->waits > 0;
}

void ask_asked(struct ask *a, chatd_status rc)
{
	if (rc == 0) {
		ask_more(a);
	} else if (a->waits) {
		a->rc = a->rc ? a->rc : rc; /* ends it once the others have answered */
	} else {
		chatd_ask_refused(&a->a, rc);
	}
}

int ask_heard(struct ask *a, chatd_status rc)
{
	ask_less(a);
	a->rc = a->rc ? a->rc : rc;
	if (a->waits) {
		return 0;
	}
	if (a->rc < 0) {
		chatd_ask_refused(&a->a, a->rc);
		return 0;
	}
	return 1;
}

struct chatd_str ask_user(const struct ask *a)
{
	return chatd_ask_user(&a->a);
}

/* ---- how often --------------------------------------------------------------------------- */

static void on_drawn(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct ask *a = arg;
	char seconds[24];
	ask_less(a);
	if (rc != -EDQUOT) { /* a limiter that is out of order keeps nobody from his keys */
		a->next(a);
		return;
	}
	if (a->a.req) {
		int n = snprintf(seconds, sizeof(seconds), "%lld", (long long)(retry_ms / 1000 + 1));
		(void)a->a.http->header(a->a.req, "Retry-After", chatd_str_of(seconds, (size_t)n));
	}
	ask_problem(a, 429, "RATE_LIMIT_EXCEEDED", "too many requests for keys; try again later");
}

void ask_limited(struct ask *a, const struct budget *b, ask_fn *next)
{
	char key[CHATD_ID_MAX + 32];
	const struct chatd_service *s = self_of(a)->limiter;
	const struct chatd_limiter *limiter = s ? s->vt : NULL;
	struct chatd_str user = ask_user(a);
	int n = snprintf(key, sizeof(key), "%s:%.*s", b->what, (int)user.n, user.p);
	const struct chatd_bucket bucket = { .struct_size = sizeof(bucket),
		.key = { key, (size_t)n },
		.burst = b->burst,
		.per_minute = b->per_minute,
		.cost = b->cost };
	a->next = next;
	ask_more(a);
	if (!limiter || limiter->take(s->obj, a->a.w, &bucket, on_drawn, a) < 0) {
		on_drawn(a, 0, 0);
	}
}

/* ---- records -------------------------------------------------------------------------------- */

void record_name(struct record_name *r, struct chatd_str user, const char *device)
{
	int n = snprintf(r->text, sizeof(r->text), "%.*s/%s", (int)user.n, user.p, device);
	r->str = chatd_str_of(r->text, (size_t)n);
}

void record_list(
		struct ask *a, struct chatd_str space, const struct record_name *prefix, chatd_store_fn *fn)
{
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = DEVICES_MAX,
		.space = space,
		.prefix = prefix->str,
		.wall = self_of(a)->h->wall_ms() };
	ask_asked(a, store_of(a)->record_list(self_of(a)->store->obj, a->a.w, &r, fn, a));
}

void record_count(struct ask *a, struct chatd_str user, int64_t up_to, chatd_store_fn *fn)
{
	char device[DEVICE_ID_CHARS + 2];
	struct record_name name;
	snprintf(device, sizeof(device), "%s/", a->device);
	record_name(&name, user, device);
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = (int32_t)up_to + 1,
		.space = SPACE_PREKEYS,
		.prefix = name.str,
		.wall = self_of(a)->h->wall_ms() };
	ask_asked(a, store_of(a)->record_list(self_of(a)->store->obj, a->a.w, &r, fn, a));
}

/* ---- routes ------------------------------------------------------------------------------- */

chatd_status routes_init(struct self *self)
{
	static const struct {
		uint32_t method;
		const char *path;
		void (*run)(struct chatd_ask *);
	} routes[ROUTES] = {
		{ CHATD_PUT, "/api/keys", run_put },
		{ CHATD_GET, "/api/keys", run_own },
		{ CHATD_GET, "/api/keys/{id}", run_get },
		{ CHATD_POST, "/api/keys/{id}/prekeys", run_take },
		{ CHATD_DELETE, "/api/keys/devices/{id}", run_remove },
	};
	struct chatd_ask_route table[ROUTES];
	for (size_t i = 0; i < ROUTES; i++) {
		table[i] = (struct chatd_ask_route){ .method = routes[i].method,
			.path = routes[i].path,
			.run = routes[i].run,
			.size = sizeof(struct ask) };
	}
	self->routes[0] = (struct chatd_ask_route){ .self = self, .h = self->h, .http = self->http };
	return chatd_ask_routes(self->ctx, self->routes, table, ROUTES);
}
