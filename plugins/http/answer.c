/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/** Length of an answer whose end is not known when it begins. */
#define LENGTH_OPEN (-1)
/** An answer that has no content by definition: 204, 304. */
#define LENGTH_NONE (-2)
/** Pieces up to this size are copied between their chunk lines: one buffer, not three. */
#define CHUNK_COPY 1024

static const struct chatd_host *host_of(const chatd_req *req)
{
	return req->conn->w->http->host;
}

static const char *reason_of(int32_t status)
{
	static const struct {
		int32_t status;
		const char *text;
	} reasons[] = {
		{ 200, "OK" },
		{ 201, "Created" },
		{ 202, "Accepted" },
		{ 204, "No Content" },
		{ 206, "Partial Content" },
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 303, "See Other" },
		{ 304, "Not Modified" },
		{ 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 406, "Not Acceptable" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 410, "Gone" },
		{ 411, "Length Required" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" },
		{ 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" },
		{ 422, "Unprocessable Content" },
		{ 423, "Locked" },
		{ 426, "Upgrade Required" },
		{ 428, "Precondition Required" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 460, "Checksum Mismatch" }, /* of tus */
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" },
	};
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return status < 400 ? "OK" : status < 500 ? "Client Error" : "Server Error";
}

/* ---- text in a buffer of known size ------------------------------------- */

struct text {
	char *p;
	size_t n, cap;
};

static void put(struct text *t, const char *p, size_t n)
{
	if (n > t->cap - t->n)
		n = t->cap - t->n; /* callers reserve enough */
	if (n > 0)
		memcpy(t->p + t->n, p, n);
	t->n += n;
}

static void put_lit(struct text *t, const char *s)
{
	put(t, s, strlen(s));
}

static void put_fmt(struct text *t, const char *fmt, ...) CHATD_PRINTF(2, 3);
static void put_fmt(struct text *t, const char *fmt, ...)
{
	char line[160];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0)
		put(t, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* As content of a JSON string; @p n octets become at most 6 times as many. */
static void put_json(struct text *t, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)p[i];
		if (ch == '"' || ch == '\\')
			put_fmt(t, "\\%c", ch);
		else if (ch < 0x20 || ch == 0x7f)
			put_fmt(t, "\\u%04x", ch);
		else
			put(t, p + i, 1);
	}
}

/* ---- heads -------------------------------------------------------------- */

static const char *date_of(struct http_worker *w)
{
	int64_t now = w->http->host->wall_ms() / 1000;
	if (now != w->date_s) {
		time_t seconds = (time_t)now;
		struct tm tm;
		gmtime_r(&seconds, &tm);
		/* No plugin sets a locale, so the names are English. */
		strftime(w->date, sizeof(w->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		w->date_s = now;
	}
	return w->date;
}

static void put_head_start(struct text *t, struct http_worker *w, int32_t status)
{
	put_fmt(t, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason_of(status), date_of(w));
	put_lit(t, "X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\n");
}

/* May the connection go on when this answer has ended? */
static bool may_keep(const chatd_req *req)
{
	const struct conn *c = req->conn;
	return req->keep && req->body_whole && host_of(req)->stopping() == CHATD_SERVES &&
			c->requests < (uint64_t)c->w->http->conf->max_requests;
}

/* A head with @p room bytes free behind it for the content, *ret_text at its end. */
static chatd_buf *make_head(chatd_req *req, int32_t status, const char *type, int64_t length,
		size_t room, struct text *ret_text)
{
	size_t cap = 512 + (type ? strlen(type) : 0) + req->extra_n + room;
	chatd_buf *buf = host_of(req)->buf_new(0, cap);
	if (!buf)
		return NULL;
	struct text *t = ret_text;
	t->p = host_of(req)->buf_data(buf);
	t->n = 0;
	t->cap = cap;
	if (status == 500)
		owner_failed(req);
	put_head_start(t, req->conn->w, status);
	/* A 204 may say what it would have been: SockJS clients want to read it there. */
	if (type && status != 304) {
		put_lit(t, "Content-Type: ");
		put_lit(t, type);
		put_lit(t, "\r\n");
	}
	if (length >= 0)
		put_fmt(t, "Content-Length: %lld\r\n", (long long)length);
	if (req->chunked)
		put_lit(t, "Transfer-Encoding: chunked\r\n");
	if (!req->keep)
		put_lit(t, "Connection: close\r\n");
	else if (req->head.minor == 0)
		put_lit(t, "Connection: keep-alive\r\n");
	put(t, req->extra, req->extra_n);
	put_lit(t, "\r\n");
	return buf;
}

static void send_buf(struct conn *c, chatd_buf *buf)
{
	c->stream->ops->send(c->stream, buf);
}

/* What is answered with an error, by whomever; the last row is for all others. */
#define REJECTED_WITH(X) \
	X(400)               \
	X(401)               \
	X(403)               \
	X(404)               \
	X(405)               \
	X(406)               \
	X(408)               \
	X(409)               \
	X(410)               \
	X(411)               \
	X(412)               \
	X(413)               \
	X(414)               \
	X(415)               \
	X(416)               \
	X(417)               \
	X(422)               \
	X(429)               \
	X(431)               \
	X(501)               \
	X(503)

const char *const answer_rejections[ENGINE_REJECTIONS] = {
#define CHATD_X(status) CHATD_REJECTION("http", #status),
	REJECTED_WITH(CHATD_X)
#undef CHATD_X
			CHATD_REJECTION("http", "other")
};

static void count_rejection(const chatd_req *req, int32_t status)
{
	static const int32_t rows[] = {
#define CHATD_X(number) number,
		REJECTED_WITH(CHATD_X)
#undef CHATD_X
	};
	_Static_assert(sizeof(rows) / sizeof(rows[0]) == ENGINE_REJECTIONS - 1, "one row each");
	const struct http_worker *w = req->conn->w;
	size_t i = 0;
	if (status < 400)
		return;
	while (i < ENGINE_REJECTIONS - 1 && rows[i] != status)
		i++;
	chatd_stats_count(w->http->stats, w->worker, w->http->rejected[i]);
}

/* Sends a whole answer, copying @p body or referring to @p shared.  The request goes on
 * existing.  False: no memory, the connection must be cut. */
static bool send_whole(
		chatd_req *req, int32_t status, const char *type, struct chatd_str body, chatd_buf *shared)
{
	bool none = status == 204 || status == 304;
	struct text t;
	count_rejection(req, status);
	req->keep = may_keep(req);
	req->began = true;
	int64_t length = none ? LENGTH_NONE : (int64_t)body.n;
	bool copy = !shared && !req->mute && !none;
	chatd_buf *head = make_head(req, status, type, length, copy ? body.n : 0, &t);
	if (!head)
		return false;
	if (copy)
		put(&t, body.p, body.n);
	host_of(req)->buf_trim(head, t.n);
	send_buf(req->conn, head);
	host_of(req)->buf_unref(head);
	if (shared && !req->mute && !none && body.n > 0)
		send_buf(req->conn, shared);
	return true;
}

static void finish(chatd_req *req, bool sent)
{
	struct conn *c = req->conn;
	if (!sent)
		conn_end(c, true);
	else /* an answer that began before the draining did has promised to keep it */
		conn_next(c, !req->keep || c->w->draining);
}

/* A page where a client asked for a WebSocket would leave it waiting: say no. */
static bool replaces(const chatd_req *req, int32_t status)
{
	return req->offers_ws && status < 400;
}

static bool send_problem(chatd_req *req, int32_t status, const char *code, const char *detail)
{
	const char *title = reason_of(status);
	struct chatd_str path = req->uri.path;
	size_t detail_n = strlen(detail);
	struct text t = { NULL, 0, 1024 + 12 * detail_n + 2 * path.n + strlen(code) };
	t.p = malloc(t.cap);
	if (!t.p)
		return false;
	put_fmt(&t, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"", title,
			status);
	put_json(&t, detail, detail_n);
	put_fmt(&t, "\",\"code\":\"%s\",\"error\":\"%s\",\"message\":\"", code, title);
	put_json(&t, detail, detail_n);
	put_lit(&t, "\",\"path\":\"");
	put_json(&t, path.p, path.n);
	put_fmt(&t, "\",\"requestId\":\"%.16s\"", request_id(req).p);
	if (req->retry_after > 0)
		put_fmt(&t, ",\"retryAfterSeconds\":%d", req->retry_after);
	put_lit(&t, "}");
	if (!req->has_cache_control)
		answer_header(req, "Cache-Control", CHATD_LIT("no-store"));
	if (status == 401)
		answer_header(req, "WWW-Authenticate", CHATD_LIT("Bearer"));
	bool sent = send_whole(req, status, "application/problem+json", chatd_str_of(t.p, t.n), NULL);
	free(t.p);
	return sent;
}

/* What the engine itself finds wrong: without content where the route wants that. */
static bool send_refusal(chatd_req *req, int32_t status, const char *code, const char *detail)
{
	if (req->flags & CHATD_HTTP_BARE)
		return send_whole(req, status, NULL, CHATD_LIT(""), NULL);
	return send_problem(req, status, code, detail);
}

/* What a handler prepared does not belong to an answer of the engine's. */
static void drop_headers(chatd_req *req)
{
	req->extra_n = 0;
	req->has_cache_control = false;
	req->retry_after = 0;
	if (req->flags & CHATD_HTTP_CORS)
		policy_cors(req);
}

static bool send_not_here(chatd_req *req)
{
	drop_headers(req);
	return send_refusal(req, 404, "NOT_FOUND", "There is no WebSocket here.");
}

void answer_problem(chatd_req *req, int32_t status, const char *code, const char *detail)
{
	finish(req, send_problem(req, status, code ? code : "ERROR", detail ? detail : ""));
}

void answer_refusal(chatd_req *req, int32_t status, const char *code, const char *detail)
{
	finish(req, send_refusal(req, status, code, detail));
}

void answer_whole(chatd_req *req, int32_t status, const char *type, struct chatd_str body)
{
	if (replaces(req, status))
		finish(req, send_not_here(req));
	else
		finish(req, send_whole(req, status, type, body, NULL));
}

void answer_buf(chatd_req *req, int32_t status, const char *type, chatd_buf *body)
{
	const struct chatd_host *h = host_of(req);
	if (replaces(req, status))
		finish(req, send_not_here(req));
	else
		finish(req,
				send_whole(req, status, type, chatd_str_of(h->buf_data(body), h->buf_len(body)),
						body));
}

/* At most one line a second and worker: hostile clients must not fill the disk. */
static void complain(chatd_req *req, const struct http_error *err)
{
	struct http_worker *w = req->conn->w;
	int64_t now = w->http->host->now_ms(w->worker);
	if (w->logged_at != 0 && now - w->logged_at < 1000)
		return;
	w->logged_at = now ? now : 1;
	struct chatd_str peer = req->conn->stream->ops->peer(req->conn->stream);
	w->http->host->log(w->http->ctx, CHATD_LOG_WARN, "refused a request of %.*s: %d %s: %s",
			(int)peer.n, peer.p ? peer.p : "", err->status, err->code, err->why);
}

void answer_fatal(chatd_req *req, const struct http_error *err)
{
	struct conn *c = req->conn;
	complain(req, err);
	if (req->handled) {
		req->handled = false;
		request_gone(req);
		drop_headers(req);
	}
	if (req->began) {
		conn_end(c, true);
		return;
	}
	req->keep = false;
	if (err->status == 503)
		answer_header(req, "Retry-After", CHATD_LIT("5"));
	answer_refusal(req, err->status, err->code, err->why);
}

static void begin(chatd_req *req, int32_t status, const char *type, int64_t length)
{
	struct text t;
	if (replaces(req, status)) {
		if (!send_not_here(req))
			req->keep = false;
		req->mute = true;
		return;
	}
	req->keep = may_keep(req);
	req->chunked = length == LENGTH_OPEN && !req->mute && req->head.minor >= 1;
	if (length == LENGTH_OPEN && !req->mute && !req->chunked)
		req->keep = false; /* the end of the connection is the end of the answer */
	req->began = true;
	req->owed = length == LENGTH_OPEN ? 0 : length;
	chatd_buf *head = make_head(req, status, type, length, 0, &t);
	if (!head) {
		req->mute = true; /* end() then closes: the client sees a cut answer */
		req->keep = false;
		return;
	}
	host_of(req)->buf_trim(head, t.n);
	send_buf(req->conn, head);
	host_of(req)->buf_unref(head);
}

void answer_begin(chatd_req *req, int32_t status, const char *type)
{
	begin(req, status, type, LENGTH_OPEN);
}

void answer_begin_sized(chatd_req *req, int32_t status, const char *type, int64_t length)
{
	begin(req, status, type, length < 0 ? 0 : length);
}

static chatd_buf *crlf_of(struct http_worker *w)
{
	if (!w->crlf && (w->crlf = w->http->host->buf_new(0, 2)))
		memcpy(w->http->host->buf_data(w->crlf), "\r\n", 2);
	return w->crlf;
}

static bool write_chunk(chatd_req *req, chatd_buf *buf)
{
	const struct chatd_host *h = host_of(req);
	size_t n = h->buf_len(buf);
	bool copy = n <= CHUNK_COPY;
	chatd_buf *crlf = copy ? NULL : crlf_of(req->conn->w);
	chatd_buf *line = h->buf_new(0, 20 + (copy ? n + 2 : 0));
	if (!line || (!copy && !crlf)) {
		h->buf_unref(line);
		return false;
	}
	struct text t = { h->buf_data(line), 0, h->buf_len(line) };
	put_fmt(&t, "%zx\r\n", n);
	if (copy) {
		put(&t, h->buf_data(buf), n);
		put(&t, "\r\n", 2);
	}
	h->buf_trim(line, t.n);
	send_buf(req->conn, line);
	h->buf_unref(line);
	if (!copy) {
		send_buf(req->conn, buf);
		send_buf(req->conn, crlf);
	}
	return true;
}

size_t answer_write(chatd_req *req, chatd_buf *buf)
{
	struct conn *c = req->conn;
	if (req->mute || host_of(req)->buf_len(buf) == 0)
		return c->stream->ops->queued(c->stream);
	if (!req->chunked) {
		req->owed -= (int64_t)host_of(req)->buf_len(buf);
		send_buf(c, buf);
	} else if (!write_chunk(req, buf)) {
		/* A hole in the answer must not look like a whole one. */
		req->mute = true;
		req->chunked = req->keep = false;
	}
	return c->stream->ops->queued(c->stream);
}

void answer_end(chatd_req *req)
{
	if (req->chunked)
		answer_raw(req->conn, CHATD_LIT("0\r\n\r\n"));
	/* One that is shorter than it said must not be taken for whole. */
	finish(req, req->mute || req->owed <= 0);
}

void answer_abort(chatd_req *req)
{
	/* Without the last chunk a flushed end is seen as cut; without chunks only RST is. */
	conn_end(req->conn, !req->chunked);
}

void answer_raw(struct conn *c, struct chatd_str text)
{
	const struct chatd_host *h = c->w->http->host;
	chatd_buf *buf = h->buf_new(0, text.n);
	if (!buf)
		return;
	memcpy(h->buf_data(buf), text.p, text.n);
	send_buf(c, buf);
	h->buf_unref(buf);
}

void answer_overload(struct http_worker *w, chatd_stream *stream)
{
	static const char body[] =
			"{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
			"\"detail\":\"Too many connections.\",\"code\":\"OVERLOADED\","
			"\"error\":\"Service Unavailable\",\"message\":\"Too many connections.\","
			"\"retryAfterSeconds\":5}";
	const struct chatd_host *h = w->http->host;
	chatd_buf *buf = h->buf_new(0, 1024);
	if (!buf) {
		stream->ops->reset(stream);
		return;
	}
	struct text t = { h->buf_data(buf), 0, 1024 };
	put_head_start(&t, w, 503);
	put_lit(&t, "Content-Type: application/problem+json\r\nCache-Control: no-store\r\n");
	put_fmt(&t, "Retry-After: 5\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
			sizeof(body) - 1);
	put(&t, body, sizeof(body) - 1);
	h->buf_trim(buf, t.n);
	stream->ops->send(stream, buf);
	h->buf_unref(buf);
	stream->ops->close(stream);
}

/* ---- headers ------------------------------------------------------------ */

static bool is_ours(struct chatd_str name)
{
	static const char *const names[] = { "connection", "content-length", "content-type", "date",
		"keep-alive", "transfer-encoding", "upgrade" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (http_same(name, names[i]))
			return true;
	return false;
}

chatd_status answer_header(chatd_req *req, const char *name, struct chatd_str value)
{
	struct chatd_str key = chatd_str_of(name, strlen(name));
	if (req->began || is_ours(key) || !http_is_token(key))
		return -EINVAL;
	for (size_t i = 0; i < value.n; i++)
		if (((unsigned char)value.p[i] < 0x20 && value.p[i] != '\t') || value.p[i] == 0x7f)
			return -EINVAL; /* whatever a client sent, it starts no line of an answer */
	size_t need = req->extra_n + key.n + value.n + 4;
	if (need > req->extra_cap) {
		char *extra = realloc(req->extra, need + 256);
		if (!extra)
			return -ENOMEM;
		req->extra = extra;
		req->extra_cap = need + 256;
	}
	struct text t = { req->extra, req->extra_n, req->extra_cap };
	put(&t, key.p, key.n);
	put(&t, ": ", 2);
	put(&t, value.p, value.n);
	put(&t, "\r\n", 2);
	req->extra_n = t.n;
	if (http_same(key, "cache-control"))
		req->has_cache_control = true;
	if (http_same(key, "retry-after"))
		for (size_t i = 0; i < value.n && i < 6 && value.p[i] >= '0' && value.p[i] <= '9'; i++)
			req->retry_after = req->retry_after * 10 + (value.p[i] - '0');
	return 0;
}

void answer_allow(chatd_req *req, uint32_t methods)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{ CHATD_GET, "GET, HEAD" },
		{ CHATD_POST, "POST" },
		{ CHATD_PUT, "PUT" },
		{ CHATD_PATCH, "PATCH" },
		{ CHATD_DELETE, "DELETE" },
		{ CHATD_OPTIONS, "OPTIONS" },
	};
	char line[80];
	struct text t = { line, 0, sizeof(line) };
	if (req->flags & CHATD_HTTP_CORS)
		methods |= CHATD_OPTIONS;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (methods & names[i].bit)
			put_fmt(&t, "%s%s", t.n ? ", " : "", names[i].name);
	answer_header(req, "Allow", chatd_str_of(line, t.n));
}

/* ---- upgrade ------------------------------------------------------------ */

chatd_stream *answer_upgrade(chatd_req *req, const char *protocol)
{
	size_t offers;
	struct chatd_str offer = http_head_get(&req->head, "upgrade", &offers);
	if (!req->info.upgrade || offers != 1 || !http_same(offer, protocol) || !req->body_whole ||
			req->began || req->method != CHATD_GET)
		return NULL;
	const struct http *http = req->conn->w->http;
	if (http->way->may_upgrade && !http->way->may_upgrade(req->conn->stream))
		return NULL;
	const struct chatd_host *h = host_of(req);
	size_t cap = 128 + strlen(protocol) + req->extra_n;
	chatd_buf *buf = h->buf_new(0, cap);
	if (!buf)
		return NULL;
	struct text t = { h->buf_data(buf), 0, cap };
	put_lit(&t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: ");
	put_lit(&t, protocol);
	put_lit(&t, "\r\nConnection: Upgrade\r\n");
	put(&t, req->extra, req->extra_n);
	put_lit(&t, "\r\n");
	h->buf_trim(buf, t.n);
	send_buf(req->conn, buf);
	h->buf_unref(buf);
	return conn_give_away(req->conn);
}
