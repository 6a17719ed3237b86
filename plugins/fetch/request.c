/* SPDX-License-Identifier: Apache-2.0 */
/* A transfer of a request, and an answer of a transfer. */
#include "fetch.h"

#include "address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what libcurl asks and tells ------------------------------------------------------- */

/* The address that is about to be connected to, whatever a name said before. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct request *r = arg;
	(void)purpose;
	if (r->guarded && !address_is_public(&to->addr)) {
		r->refused = 1;
		return CURL_SOCKET_BAD;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->protocol);
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct request *r = arg;
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
	struct request *r = arg;
	(void)p;
	r->header_bytes += n * size;
	r->too_large = r->header_bytes > ANSWER_HEADERS_MAX;
	return r->too_large ? 0 : n * size;
}

/* ---- making one -------------------------------------------------------------------------- */

static int header_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if ((c < ' ' && c != '\t') || c == 0x7f) {
			return 0;
		}
	}
	return s.n > 0 && s.n < 8192 && memchr(s.p, ':', s.n) && s.p[0] != ':';
}

static int method_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 'A' || s.p[i] > 'Z') {
			return 0;
		}
	}
	return s.n > 0 && s.n < 16;
}

static chatd_status add_headers(struct request *r, const struct chatd_fetch_request *q)
{
	char line[8192];
	for (size_t i = 0; i < q->n_headers; i++) {
		struct chatd_str s = q->headers[i];
		if (i == CHATD_FETCH_HEADERS_MAX || !header_ok(s)) {
			return -EINVAL;
		}
		memcpy(line, s.p, s.n);
		line[s.n] = '\0';
		struct curl_slist *all = curl_slist_append(r->headers, line);
		if (!all) {
			return -ENOMEM;
		}
		r->headers = all;
	}
	return 0;
}

static CURLcode set_message(struct request *r, const struct chatd_fetch_request *q)
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

static CURLcode set_bounds(
		const struct request *r, const struct chatd_fetch_request *q, const struct conf *conf)
{
	CURL *c = r->easy;
	long ms = (long)(q->timeout > 0 ? q->timeout : conf->request_timeout);
	CURLcode rc = curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, ms);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* Else a name that nobody resolves holds the worker when its request is over. */
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, r->url.is_tls ? "https" : "http");
	/* A proxy of the environment would be the one whose address is looked at. */
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_PROXY, "");
	if (conf->ca_file) {
		rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CAINFO, conf->ca_file);
	}
	return rc;
}

static CURLcode set_up(struct request *r)
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

chatd_status request_start(struct wself *ws, const struct chatd_fetch_request *q, struct url *url,
		struct request **ret)
{
	if (!method_ok(q->method) || q->body.n > CHATD_FETCH_BODY_MAX || q->max_answer > ANSWER_MAX) {
		return -EINVAL;
	}
	struct request *r = ws->self->h->mem_alloc(sizeof(*r));
	if (!r) {
		return -ENOMEM;
	}
	r->lane = q->flags & CHATD_FETCH_OUTSIDE ? &ws->outside : &ws->ours;
	r->url = *url;
	url->u = NULL;
	r->guarded = q->flags & CHATD_FETCH_OUTSIDE && !r->url.exempt;
	r->max = q->max_answer > 0 ? (size_t)q->max_answer : CHATD_FETCH_ANSWER;
	r->easy = curl_easy_init();
	chatd_status rc = r->easy ? add_headers(r, q) : -ENOMEM;
	if (rc == 0 && (set_up(r) || set_message(r, q) || set_bounds(r, q, ws->self->conf))) {
		rc = -ENOMEM;
	}
	if (rc < 0) {
		request_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

/* ---- ending one ---------------------------------------------------------------------------- */

void request_free(struct request *r)
{
	const struct chatd_host *h = r->lane->ws->self->h;
	curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->headers);
	url_finish(&r->url);
	free(r->body);
	h->mem_free(r);
}

static chatd_status status_of(const struct request *r, CURLcode code)
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

static const char *why_of(const struct request *r, chatd_status rc, CURLcode code)
{
	switch (rc) {
	case 0:
		return NULL;
	case -EACCES:
		return "its address is not one of the public internet";
	case -EMSGSIZE:
		return "the answer is too large";
	case -ESHUTDOWN:
		return "the server stops";
	default:
		return r->why[0] ? r->why : curl_easy_strerror(code);
	}
}

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, s ? strlen(s) : 0);
}

static void answer(struct request *r, chatd_status rc, CURLcode code)
{
	struct wself *ws = r->lane->ws;
	long status = 0;
	curl_off_t after = 0;
	char *type = NULL;
	(void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &after);
	(void)curl_easy_getinfo(r->easy, CURLINFO_CONTENT_TYPE, &type);
	const struct chatd_fetch_answer a = { .struct_size = sizeof(a),
		.status = (int32_t)status,
		.body = { r->body, r->n },
		.type = text(type),
		.retry_after = after > 0 && after < INT32_MAX ? (int64_t)after * 1000 : 0,
		.why = text(why_of(r, rc, code)) };
	(void)curl_multi_remove_handle(r->lane->multi, r->easy);
	TAILQ_REMOVE(&r->lane->all, r, link);
	ws->n--;
	atomic_fetch_sub(&ws->self->under_way, 1);
	count(ws, rc);
	r->fn(r->arg, rc, &a);
	request_free(r);
}

void request_finish(struct request *r, CURLcode code)
{
	answer(r, status_of(r, code), code);
}

void request_cancel(struct request *r, chatd_status rc)
{
	answer(r, rc, CURLE_OK);
}
