/* SPDX-License-Identifier: Apache-2.0 */
/* Many calls in one request: each as if it had come alone, answers in the order of the calls. */
#include "api.h"

#include <errno.h>

struct item {
	struct job *job;
	int32_t status; /* 0: no answer yet */
	char *body;
	size_t n;
	int64_t retry_after;
};

struct batch {
	struct item *items;
	json_t *calls; /* the body's */
	size_t n, next, waiting;
	int32_t starting, parallel;
};

static void batch_free(struct job *j)
{
	struct batch *b = j->state;
	for (size_t i = 0; i < b->n; i++) {
		free(b->items[i].body);
	}
	j->self->h->mem_free(b->items);
	j->self->h->mem_free(b);
}

static void finish(struct job *j)
{
	struct batch *b = j->state;
	struct chatd_json *out = &j->out;
	chatd_json_lit(out, "{\"answers\":[");
	for (size_t i = 0; i < b->n; i++) {
		const struct item *it = &b->items[i];
		const json_t *id = json_object_get(json_array_get(b->calls, i), "id");
		chatd_json_next(out);
		chatd_json_lit(out, "{");
		if (id) {
			chatd_json_key(out, "id");
			chatd_json_value(out, id);
		}
		chatd_json_int(out, "status", it->status);
		if (it->retry_after > 0) {
			chatd_json_int(out, "retryAfterSeconds", it->retry_after);
		}
		if (it->n) {
			chatd_json_key(out, "body");
			chatd_json_raw(out, it->body, it->n);
		}
		chatd_json_lit(out, "}");
	}
	chatd_json_lit(out, "]}");
	job_answer(j, 200);
}

static void go_on(struct job *j);

static void settle(struct item *it, int32_t status, const char *code, const char *why)
{
	struct chatd_json out;
	chatd_json_init(&out, NULL, 0);
	chatd_json_lit(&out, "{");
	chatd_json_int(&out, "status", status);
	chatd_json_member(&out, "code", text(code));
	chatd_json_member(&out, "detail", text(why));
	chatd_json_lit(&out, "}");
	it->status = status;
	it->body = out.failed ? NULL : strndup(out.p, out.n);
	it->n = it->body ? out.n : 0;
	chatd_json_free(&out);
}

static void on_called(void *arg, chatd_status rc, const struct chatd_http_answer *a)
{
	struct item *it = arg;
	struct job *j = it->job;
	struct batch *b = j->state;
	b->waiting--;
	if (rc < 0) {
		settle(it, 502, "UNAVAILABLE", "the call was cut, or its answer is too long");
	} else {
		it->status = a->status;
		it->retry_after = a->retry_after;
		it->body = a->body.n ? malloc(a->body.n) : NULL;
		it->n = it->body ? a->body.n : 0;
		if (it->body) {
			memcpy(it->body, a->body.p, a->body.n);
		}
	}
	if (!b->starting) {
		go_on(j);
	}
}

/* "publish" is short for POST /api/server/publish. */
static const char *take_path(const json_t *call, char *path, size_t cap)
{
	const json_t *v = json_object_get(call, "path");
	const char *s = json_string_value(v);
	if (!s || !*s) {
		return "path is missing: \"publish\", or \"/api/server/rooms/lobby/members\"";
	}
	int n = snprintf(path, cap, "%s%s", *s == '/' ? "" : SERVER_PATH, s);
	if (n < 0 || (size_t)n >= cap) {
		return "path is too long";
	}
	if (strncmp(path, SERVER_PATH, sizeof(SERVER_PATH) - 1) != 0) {
		return "path must be one of /api/server/";
	}
	const char *name = path + sizeof(SERVER_PATH) - 1;
	/* "b%61tch" is one too. */
	if (memchr(name, '%', strcspn(name, "/?"))) {
		return "path: what follows /api/server/ is a word without %";
	}
	size_t end = strcspn(path, "?");
	return end == sizeof(SERVER_PATH) + 4 && memcmp(path + end - 5, "batch", 5) == 0
			? "a batch has no batches in it"
			: NULL;
}

static const char *take_method(const json_t *call, const char *ret[1])
{
	static const char *const known[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
	const json_t *v = json_object_get(call, "method");
	*ret = json_object_get(call, "body") ? "POST" : "GET";
	for (size_t i = 0; v && i < sizeof(known) / sizeof(known[0]); i++) {
		if (json_is_string(v) && strcmp(json_string_value(v), known[i]) == 0) {
			*ret = known[i];
			return NULL;
		}
	}
	return v ? "method must be GET, POST, PUT, PATCH or DELETE" : NULL;
}

static void start(struct job *j, struct item *it, const json_t *call)
{
	const struct chatd_http *http = http_of(j);
	struct batch *b = j->state;
	char path[1024];
	const char *method = NULL, *fault = take_path(call, path, sizeof(path));
	const json_t *body = json_object_get(call, "body");
	struct chatd_json text_of_body;
	fault = fault ? fault : take_method(call, &method);
	if (!fault && body && !json_is_object(body)) {
		fault = "body must be an object";
	}
	if (fault) {
		settle(it, 422, "VALIDATION", fault);
		return;
	}
	chatd_json_init(&text_of_body, NULL, 0);
	if (body) {
		chatd_json_value(&text_of_body, body);
	}
	const struct chatd_http_call c = { .struct_size = sizeof(c),
		.ident = j->by,
		.method = text(method),
		.path = text(path),
		.body = chatd_json_str(&text_of_body),
		.max_answer = 256 * 1024 };
	b->waiting++;
	chatd_status rc = text_of_body.failed
			? -ENOMEM
			: http->call(j->self->http->obj, j->req, &c, on_called, it);
	chatd_json_free(&text_of_body);
	if (rc < 0) {
		b->waiting--;
		settle(it, rc == -EINVAL ? 422 : 503, rc == -EINVAL ? "VALIDATION" : "UNAVAILABLE",
				rc == -EINVAL ? "path must be as it stands in a request: percent-encoded"
							  : "the server has no memory left");
	}
}

static void go_on(struct job *j)
{
	struct batch *b = j->state;
	b->starting = 1;
	while (j->req && b->next < b->n && (b->parallel || !b->waiting)) {
		size_t i = b->next++;
		b->items[i].job = j;
		start(j, &b->items[i], json_array_get(b->calls, i));
	}
	b->starting = 0;
	if (b->waiting) {
		return;
	}
	if (job_back(j)) {
		finish(j);
	}
}

void run_batch(struct job *j)
{
	json_t *calls = json_object_get(j->root, "calls");
	size_t n = json_array_size(calls);
	if (!json_is_array(calls) || n < 1 || n > CALLS_MAX) {
		job_problem_fmt(j, 422, "VALIDATION", "calls must be a list of 1 to %d calls", CALLS_MAX);
		return;
	}
	struct batch *b = j->self->h->mem_alloc(sizeof(*b));
	struct item *items = b ? j->self->h->mem_alloc(n * sizeof(*items)) : NULL;
	if (!items) {
		j->self->h->mem_free(b);
		job_failed(j, -ENOMEM, "batch");
		return;
	}
	b->items = items;
	b->calls = calls;
	b->n = n;
	b->parallel = json_is_true(json_object_get(j->root, "parallel"));
	j->state = b;
	j->state_free = batch_free;
	j->under_way = 1;
	go_on(j);
}
