/* SPDX-License-Identifier: Apache-2.0 */
/* A call of another route, by a plugin: a request that comes through a stream in memory.  So every
 * route is served as it always is, and none of them knows. */
#include "inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_DEFAULT ((int64_t)1024 * 1024)

struct inner {
	struct chatd_stream base; /* first: the connection's stream */
	struct http *http;
	chatd_worker *worker;
	const chatd_ident *ident;
	char *peer;
	char *ask; /* what the client would have sent */
	size_t ask_n, asked;
	char *out;
	size_t out_n, out_cap, out_max;
	const struct chatd_stream_user *user; /* NULL: it has ended */
	void *user_arg;
	struct chatd_timer show;
	bool inside, failed, too_large;
	chatd_http_called *fn;
	void *arg;
};

static struct inner *of(const chatd_stream *s)
{
	return (struct inner *)(void *)(uintptr_t)s;
}

static void inner_free(struct inner *in)
{
	in->http->host->timer_clear(&in->show);
	in->http->host->ident_unref(in->ident);
	free(in->peer);
	free(in->ask);
	free(in->out);
	free(in);
}

/* ---- the answer ------------------------------------------------------------------ */

/* The value of a header line of our own making; .p NULL: there is none. */
static struct chatd_str line_of(const char *head, size_t n, const char *name)
{
	const char *at = memmem(head, n, name, strlen(name));
	const char *end = at ? memmem(at, n - (size_t)(at - head), "\r\n", 2) : NULL;
	if (!end)
		return chatd_str_of(NULL, 0);
	at += strlen(name);
	return chatd_str_of(at, (size_t)(end - at));
}

static void tell(struct inner *in)
{
	struct chatd_http_answer a = { .struct_size = sizeof(a) };
	const char *end = in->out ? memmem(in->out, in->out_n, "\r\n\r\n", 4) : NULL;
	if (in->too_large) {
		in->fn(in->arg, -EMSGSIZE, &a);
	} else if (!end || in->failed || in->out_n < 12) {
		in->fn(in->arg, -EIO, &a);
	} else {
		size_t head = (size_t)(end - in->out) + 2;
		struct chatd_str retry = line_of(in->out, head, "\r\nRetry-After: ");
		a.status = (int32_t)strtol(in->out + 9, NULL, 10);
		a.type = line_of(in->out, head, "\r\nContent-Type: ");
		a.body = chatd_str_of(end + 4, in->out_n - head - 2);
		a.retry_after = retry.p ? strtoll(retry.p, NULL, 10) : 0;
		in->fn(in->arg, 0, &a);
	}
}

/* ---- the stream -------------------------------------------------------------------- */

static void over(struct inner *in)
{
	in->user = NULL;
	if (in->inside)
		return; /* show() is on the stack */
	tell(in);
	inner_free(in);
}

static void show(void *arg)
{
	struct inner *in = arg;
	in->inside = true;
	while (in->user && in->asked < in->ask_n) {
		size_t used = in->user->data(in->user_arg, in->ask + in->asked, in->ask_n - in->asked);
		in->asked += used;
		if (!used)
			break;
	}
	in->inside = false;
	if (!in->user)
		over(in);
}

static void s_attach(chatd_stream *s, const struct chatd_stream_user *user, void *arg)
{
	struct inner *in = of(s);
	in->user = user;
	in->user_arg = arg;
}

static size_t s_send(chatd_stream *s, chatd_buf *buf)
{
	struct inner *in = of(s);
	const struct chatd_host *h = in->http->host;
	size_t n = h->buf_len(buf);
	if (in->out_n + n > in->out_max) {
		in->too_large = true;
		return 0;
	}
	if (in->out_n + n > in->out_cap) {
		size_t cap = 2 * (in->out_n + n);
		char *out = realloc(in->out, cap);
		if (!out) {
			in->failed = true;
			return 0;
		}
		in->out = out;
		in->out_cap = cap;
	}
	memcpy(in->out + in->out_n, h->buf_data(buf), n);
	in->out_n += n;
	return 0;
}

/* What was left unread is shown again, in a later turn. */
static void s_pause(chatd_stream *s, int32_t on)
{
	struct inner *in = of(s);
	if (!on && in->asked < in->ask_n)
		in->http->host->timer_set(in->worker, &in->show, 0, show, in);
}

static void s_close(chatd_stream *s)
{
	over(of(s));
}

static void s_reset(chatd_stream *s)
{
	of(s)->failed = true;
	over(of(s));
}

static size_t s_queued(const chatd_stream *s)
{
	(void)s;
	return 0;
}

static void s_limits(chatd_stream *s, size_t max_queue, int64_t stall_ms)
{
	(void)s;
	(void)max_queue;
	(void)stall_ms;
}

static struct chatd_str s_peer(const chatd_stream *s)
{
	return chatd_str_of(of(s)->peer, strlen(of(s)->peer));
}

static int32_t s_is_tls(const chatd_stream *s)
{
	(void)s;
	return 1; /* nobody hears it */
}

static chatd_status s_cred(const chatd_stream *s, uint32_t *uid, int32_t *pid)
{
	(void)s;
	(void)uid;
	(void)pid;
	return -ENOTSUP;
}

static const struct chatd_stream_ops ops = {
	.struct_size = sizeof(ops),
	.attach = s_attach,
	.send = s_send,
	.pause = s_pause,
	.close = s_close,
	.reset = s_reset,
	.queued = s_queued,
	.limits = s_limits,
	.peer = s_peer,
	.is_tls = s_is_tls,
	.peer_cred = s_cred,
};

const chatd_ident *inner_ident(const chatd_stream *s)
{
	return s->ops == &ops ? of(s)->ident : NULL;
}

/* ---- the question -------------------------------------------------------------------- */

static bool line_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
			return false;
	return s.n > 0;
}

/* HTTP/1.0: the end of the answer is the end of the connection, without chunks. */
static bool write_ask(struct inner *in, const struct chatd_http_call *call)
{
	size_t cap = call->method.n + call->path.n + call->body.n + 160;
	in->ask = malloc(cap);
	if (!in->ask)
		return false;
	int n = snprintf(in->ask, cap, "%.*s %.*s HTTP/1.0\r\nHost: localhost\r\n", (int)call->method.n,
			call->method.p, (int)call->path.n, call->path.p);
	in->ask_n = (size_t)n;
	if (call->body.n) {
		n = snprintf(in->ask + in->ask_n, cap - in->ask_n,
				"Content-Type: application/json\r\nContent-Length: %zu\r\n", call->body.n);
		in->ask_n += (size_t)n;
	}
	memcpy(in->ask + in->ask_n, "\r\n", 2);
	in->ask_n += 2;
	if (call->body.n)
		memcpy(in->ask + in->ask_n, call->body.p, call->body.n);
	in->ask_n += call->body.n;
	return true;
}

chatd_status inner_call(void *obj, chatd_req *outer, const struct chatd_http_call *call,
		chatd_http_called *fn, void *arg)
{
	struct http *http = obj;
	if (!call->ident || !line_ok(call->method) || !line_ok(call->path) || call->path.p[0] != '/')
		return -EINVAL;
	struct inner *in = calloc(1, sizeof(*in));
	struct chatd_str peer = policy_peer(outer);
	if (!in)
		return -ENOMEM;
	in->base.ops = &ops;
	in->http = http;
	in->worker = outer->conn->w->worker;
	in->ident = http->host->ident_ref(call->ident);
	in->out_max = (size_t)(call->max_answer > 0 ? call->max_answer : ANSWER_DEFAULT) + 8192;
	in->fn = fn;
	in->arg = arg;
	in->peer = strndup(peer.p ? peer.p : "", peer.n);
	if (!in->peer || !write_ask(in, call)) {
		inner_free(in);
		return -ENOMEM;
	}
	in->inside = true;
	conn_accepted(http, in->worker, &in->base);
	in->inside = false;
	if (in->user)
		show(in);
	else
		over(in); /* too many connections: it has been answered */
	return 0;
}
