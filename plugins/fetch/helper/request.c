/* SPDX-License-Identifier: Apache-2.0 */
/* A transfer of a request, and an answer of a transfer. */
#include "helper.h"

#include "../address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what libcurl asks and tells ------------------------------------------------------- */

/* The address that is about to be connected to, whatever a name said before. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct transfer *r = arg;
	(void)purpose;
	if (r->guarded && !address_is_public(&to->addr)) {
		r->refused = 1;
		return CURL_SOCKET_BAD;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->protocol);
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *r = arg;
	n *= size;
	if (n > r->max - r->n) {
		r->too_large = 1;
		return 0; /* libcurl ends the transfer */
	}
	if (r->n + n > r->cap) {
		size_t cap = r->n + n < 512 ? 512 : (r->n + n) * 2;
		char *body = realloc(r->body, cap);
		if (!body) {
			return 0;
		}
		r->body = body;
		r->cap = cap;
	}
	memcpy(r->body + r->n, p, n);
	r->n += n;
	return n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *r = arg;
	(void)p;
	r->header_bytes += n * size;
	r->too_large = r->header_bytes > ANSWER_HEADERS_MAX;
	return r->too_large ? 0 : n * size;
}

/* ---- making one -------------------------------------------------------------------------- */

/* Their texts end where they say: wire.h. */
static int add_headers(struct transfer *t, const struct wire_ask *q)
{
	for (size_t i = 0; i < q->n_headers; i++) {
		struct curl_slist *all = curl_slist_append(t->headers, q->headers[i].p);
		if (!all) {
			return -1;
		}
		t->headers = all;
	}
	return 0;
}

static CURLcode set_message(const struct transfer *r, const struct wire_ask *q)
{
	char method[16];
	CURL *c = r->easy;
	memcpy(method, q->method.p, q->method.n);
	method[q->method.n] = '\0';
	CURLcode rc = curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->headers);
	if (strcmp(method, "HEAD") == 0) {
		return rc ? rc : curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	}
	/* A POST says how long it is also when it is empty. */
	if (q->body.p || method[0] == 'P') {
		rc = rc ? rc
				: curl_easy_setopt(
						  c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(q->body.p ? q->body.n : 0));
		rc = rc ? rc : curl_easy_setopt(c, CURLOPT_COPYPOSTFIELDS, q->body.p ? q->body.p : "");
	}
	return rc ? rc : curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
}

static CURLcode set_bounds(const struct transfer *r, const struct wire_ask *q)
{
	CURL *c = r->easy;
	const struct chatd_str ca = r->lane->helper->setup.ca;
	CURLcode rc = curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)q->timeout);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* Else a name that nobody resolves holds the process when its request is over. */
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, r->url.is_tls ? "https" : "http");
	/* A proxy of the environment would be the one whose address is looked at. */
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_PROXY, "");
	if (ca.n) {
		struct curl_blob blob = { (void *)(uintptr_t)ca.p, ca.n, CURL_BLOB_NOCOPY };
		rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &blob);
	}
	return rc;
}

static CURLcode set_up(struct transfer *r)
{
	CURL *c = r->easy;
	CURLcode rc = curl_easy_setopt(c, CURLOPT_CURLU, r->url.u);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_PRIVATE, (char *)r);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->why);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_USERAGENT, "chatd");
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, r);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	return rc ? rc : curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
}

static void free_transfer(struct transfer *t)
{
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	url_finish(&t->url);
	free(t->body);
	free(t);
}

static void refuse(struct helper *helper, uint64_t id, chatd_status rc, const char *why)
{
	const struct wire_answer w = { .id = id, .rc = rc, .n_why = (uint32_t)strlen(why) };
	const char *texts[3] = { NULL, why, NULL };
	pipe_answer(helper, &w, texts);
}

void transfer_start(struct helper *helper, const struct wire_ask *q)
{
	struct transfer *t = calloc(1, sizeof(*t));
	const char *why = "no memory";
	if (!t) {
		refuse(helper, q->id, -ENOMEM, why);
		return;
	}
	/* The server has looked at it too; it is this one that counts. */
	chatd_status rc = url_read(&t->url, q->url, q->flags, &helper->rules, &why);
	t->id = q->id;
	t->lane = q->flags & CHATD_FETCH_OUTSIDE ? &helper->outside : &helper->ours;
	t->guarded = q->flags & CHATD_FETCH_OUTSIDE && !t->url.exempt;
	t->max = q->max_answer;
	t->easy = rc == 0 ? curl_easy_init() : NULL;
	if (rc == 0 &&
			(!t->easy || q->method.n > 15 || add_headers(t, q) || set_up(t) || set_message(t, q) ||
					set_bounds(t, q) || lane_add(t))) {
		rc = -ENOMEM;
	}
	if (rc < 0) {
		refuse(helper, q->id, rc, why);
		free_transfer(t);
	}
}

/* ---- ending one ---------------------------------------------------------------------------- */

static chatd_status status_of(const struct transfer *r, CURLcode code)
{
	long err = 0;
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		(void)curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &err);
		return r->refused ? -EACCES : err == ECONNREFUSED ? -ECONNREFUSED : -EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_WRITE_ERROR:
		return r->too_large ? -EMSGSIZE : -ENOMEM;
	default:
		return r->too_large ? -EMSGSIZE : -EPROTO;
	}
}

static const char *why_of(const struct transfer *r, chatd_status rc, CURLcode code)
{
	switch (rc) {
	case 0:
		return NULL;
	case -EACCES:
		return "its address is not one of the public internet";
	case -EMSGSIZE:
		return "the answer is too large";
	default:
		return r->why[0] ? r->why : curl_easy_strerror(code);
	}
}

static uint32_t length(const char *s, uint32_t most)
{
	size_t n = s ? strlen(s) : 0;
	return n > most ? most : (uint32_t)n;
}

static int64_t clamp(int64_t n, int64_t most)
{
	return n < 0 ? 0 : n > most ? most : n;
}

void transfer_finish(struct transfer *r, CURLcode code)
{
	long status = 0;
	curl_off_t after = 0;
	char *type = NULL;
	chatd_status rc = status_of(r, code);
	const char *why = why_of(r, rc, code);
	(void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &after);
	(void)curl_easy_getinfo(r->easy, CURLINFO_CONTENT_TYPE, &type);
	const struct wire_answer w = { .id = r->id,
		.rc = rc,
		.status = (int32_t)clamp(status, 999),
		.retry_after = clamp(after, WIRE_RETRY_AFTER_MAX) * 1000,
		.n_type = length(type, WIRE_TYPE_MAX),
		.n_why = length(why, WIRE_WHY_MAX),
		.n_body = (uint32_t)r->n };
	const char *texts[3] = { type, why, r->body };
	(void)curl_multi_remove_handle(r->lane->multi, r->easy);
	pipe_answer(r->lane->helper, &w, texts);
	free_transfer(r);
}
