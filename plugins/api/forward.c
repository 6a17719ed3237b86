/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are the same as those of clients, in the name of the server or of a user: they are made
 * here, with every check that they always have, and answered with what they say. */
#include "api.h"

#include <errno.h>

static void on_called(void *arg, chatd_status rc, const struct chatd_http_answer *a)
{
	struct job *j = arg;
	char seconds[24];
	if (rc == 0 && a->status < 300 && j->action) {
		audit(j, j->action, text(j->as));
	}
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_problem(j, 502, "UNAVAILABLE", "the call was cut, or its answer is too long");
		return;
	}
	const struct chatd_http *http = http_of(j);
	int problem = a->status >= 400;
	if (a->retry_after > 0) {
		snprintf(seconds, sizeof(seconds), "%lld", (long long)a->retry_after);
		(void)http->header(j->req, "Retry-After", text(seconds));
	}
	(void)http->header(j->req, "Cache-Control", CHATD_LIT("no-store"));
	http->respond(j->req, a->status,
			!a->type.p        ? NULL
					: problem ? "application/problem+json"
							  : "application/json",
			a->body);
	job_free(j);
}

void forward_to(
		struct job *j, struct chatd_str method, struct chatd_str path, struct chatd_str body)
{
	const struct chatd_http *http = http_of(j);
	const struct chatd_http_call call = {
		.struct_size = sizeof(call), .ident = j->who, .method = method, .path = path, .body = body
	};
	j->under_way = 1;
	chatd_status rc = http->call(j->self->http->obj, j->req, &call, on_called, j);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "call");
	}
}

static struct chatd_str method_name(uint32_t bit)
{
	switch (bit) {
	case CHATD_POST:
		return CHATD_LIT("POST");
	case CHATD_PUT:
		return CHATD_LIT("PUT");
	case CHATD_PATCH:
		return CHATD_LIT("PATCH");
	case CHATD_DELETE:
		return CHATD_LIT("DELETE");
	default:
		return CHATD_LIT("GET");
	}
}

/* The query without `as`, which is ours. */
static void write_query(struct chatd_json *j, struct chatd_str q)
{
	int first = 1;
	while (q.n) {
		const char *end = memchr(q.p, '&', q.n);
		size_t n = end ? (size_t)(end - q.p) : q.n;
		if (n && !(n >= 3 && memcmp(q.p, "as=", 3) == 0)) {
			chatd_json_raw(j, first ? "?" : "&", 1);
			chatd_json_raw(j, q.p, n);
			first = 0;
		}
		q = end ? chatd_str_of(end + 1, q.n - n - 1) : chatd_str_of(NULL, 0);
	}
}

static void go(struct job *j)
{
	const struct chatd_http *http = http_of(j);
	struct chatd_str from = http->req_path(j->req);
	size_t skip = sizeof(SERVER_PATH) - 1;
	struct chatd_json path;
	while (skip < from.n && from.p[skip] != '/') {
		skip++;
	}
	chatd_json_init(&path, NULL, 0);
	chatd_json_raw(&path, j->route->to, strlen(j->route->to));
	chatd_json_raw(&path, from.p + skip, from.n - skip);
	write_query(&path, http->req_query_text(j->req));
	if (path.failed) {
		job_problem(j, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		forward_to(j, method_name(http->req_method(j->req)), chatd_json_str(&path),
				http->req_body(j->req));
	}
	chatd_json_free(&path);
}

void run_forward(struct job *j)
{
	const struct chatd_http *http = http_of(j);
	struct chatd_str as = http->req_query(j->req, "as");
	int makes_room = http->req_method(j->req) == CHATD_POST &&
			chatd_str_same(http->req_path(j->req), CHATD_LIT(SERVER_PATH "rooms"));
	if (makes_room && !as.p && !j->key.bot[0]) {
		job_problem(j, 422, "VALIDATION", "say with ?as=USER who shall be the owner of the room");
		return;
	}
	/* Where a message may be posted by whoever has the address, who made the address speaks. */
	if (http->req_method(j->req) == CHATD_POST && !job_may(j, SCOPE_PUBLISH) &&
			chatd_str_same(text(j->route->to), CHATD_LIT("/api/chat/rooms")) &&
			scope_makes_hook(http->req_param(j->req, "rest"))) {
		job_problem(j, 403, "FORBIDDEN",
				"this key has not the scope \"publish\", which making a webhook needs");
		return;
	}
	job_as(j, as, go);
}
