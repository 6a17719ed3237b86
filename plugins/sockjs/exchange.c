/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange.h"

#include "frames.h"
#include "headers.h"
#include "peers.h"
#include "session.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/** What one side tells the other: a call of fn on the other's worker. */
struct note {
	struct exch *x;
	void (*fn)(struct note *);
	chatd_buf *frame;
	const char *text;
	int32_t status;
	bool last;
};

static const struct sockjs *self_of(const struct exch *x)
{
	return x->ep->self;
}

struct exch *exch_ref(struct exch *x)
{
	atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
	return x;
}

void exch_unref(struct exch *x)
{
	if (!x || atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) != 1)
		return;
	peers_forget(x);
	self_of(x)->host->msg_unref(x->creds);
	free(x->body);
	free(x->in);
	free(x);
}

static void on_note(void *arg)
{
	struct note *note = arg;
	note->fn(note);
	exch_unref(note->x);
	free(note);
}

/* A note that cannot be carried is dropped: the request then ends by the engine's time
 * limit, the session by its own. */
static void tell(chatd_worker *to, const struct note *what)
{
	const struct chatd_host *host = self_of(what->x)->host;
	if (what->x->home == what->x->owner) {
		struct note here = *what;
		here.fn(&here);
		return;
	}
	struct note *note = malloc(sizeof(*note));
	if (note) {
		*note = *what;
		exch_ref(note->x);
		if (!host->post(to, on_note, note))
			return;
		exch_unref(note->x);
		free(note);
	}
	host->buf_unref(what->frame);
}

/* ---- home: the answer -------------------------------------------------- */

/** The request is over: forget it, and the reference that it held. */
static void finish(struct exch *x)
{
	x->req = NULL;
	exch_unref(x);
}

static void set_headers(struct exch *x)
{
	const struct sockjs *self = self_of(x);
	if (x->transport->cors)
		headers_cors(self, x->req);
	headers_fresh(self, x->req);
	headers_cookie(x->ep, x->req);
}

static void answer_here(struct note *note)
{
	struct exch *x = note->x;
	const struct sockjs *self = self_of(x);
	if (!x->req)
		return;
	if (x->begun) {
		self->http->abort(x->req);
	} else {
		set_headers(x);
		if (*note->text || note->status == 204)
			headers_text(self, x->req, note->status, note->text);
		else
			headers_bare(self, x->req, note->status);
	}
	finish(x);
}

void exch_answer(struct exch *x, int32_t status, const char *text)
{
	struct note note = { .x = x, .fn = answer_here, .status = status, .text = text };
	if (x->peer)
		peers_answer(x, status, text);
	else
		tell(x->home, &note);
}

/** false: the answer could not be begun, and was cut off. */
static bool begin(struct exch *x)
{
	const struct sockjs *self = self_of(x);
	if (x->begun)
		return true;
	set_headers(x);
	self->http->begin(x->req, 200, x->transport->type);
	x->begun = true;
	chatd_buf *prelude = frames_prelude(self->host, x->transport, x->callback);
	if (!prelude) {
		self->http->abort(x->req);
		finish(x);
		return false;
	}
	self->http->write(x->req, prelude);
	self->host->buf_unref(prelude);
	return true;
}

static void frame_here(struct note *note)
{
	struct exch *x = note->x;
	const struct sockjs *self = self_of(x);
	if (x->req && !x->transport->streams) {
		set_headers(x);
		self->http->respond_buf(x->req, 200, x->transport->type, note->frame);
		finish(x);
	} else if (x->req && begin(x)) {
		if (note->frame)
			self->http->write(x->req, note->frame);
		if (note->last) {
			self->http->end(x->req);
			finish(x);
		}
	}
	self->host->buf_unref(note->frame);
}

void exch_frame(struct exch *x, chatd_buf *frame, bool last)
{
	struct note note = { .x = x, .fn = frame_here, .frame = frame, .last = last };
	if (!x->peer)
		tell(x->home, &note);
	else if (frame)
		peers_frame(x, frame);
}

/* ---- home: the request ------------------------------------------------- */

static void receive_there(struct note *note)
{
	session_receive(note->x);
}

static void take_there(struct note *note)
{
	session_take(note->x);
}

static void too_big_there(struct note *note)
{
	session_too_big(note->x);
}

static void lost_there(struct note *note)
{
	session_lost(note->x);
}

static void on_gone(void *arg)
{
	struct exch *x = arg;
	x->req = NULL;
	if (x->transport->receives)
		tell(x->owner, &(struct note){ .x = x, .fn = lost_there });
	exch_unref(x);
}

static void refuse(struct exch *x, int32_t status, const char *text)
{
	answer_here(&(struct note){ .x = x, .status = status, .text = text });
}

static chatd_status on_body(void *arg, const char *p, size_t n)
{
	struct exch *x = arg;
	if (x->body_len + n > x->ep->max_body) {
		tell(x->owner, &(struct note){ .x = x, .fn = too_big_there });
		refuse(x, 413, "Message too big.");
		return -EMSGSIZE;
	}
	if (x->body_len + n > x->body_size) {
		size_t size = x->body_size ? x->body_size : 512;
		while (size < x->body_len + n)
			size *= 2;
		char *body = realloc(x->body, size);
		if (!body) {
			refuse(x, 503, "");
			return -ENOMEM;
		}
		x->body = body;
		x->body_size = size;
	}
	memcpy(x->body + x->body_len, p, n);
	x->body_len += n;
	return 0;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'    ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
								   : -1;
}

/** Takes field d out of a form, in place; what is no form has none. */
static struct chatd_str form_field(char *p, size_t n)
{
	char *end = p + n;
	while (p < end) {
		char *stop = memchr(p, '&', (size_t)(end - p));
		if (!stop)
			stop = end;
		if (stop - p < 2 || p[0] != 'd' || p[1] != '=') {
			p = stop < end ? stop + 1 : end;
			continue;
		}
		char *out = p += 2;
		const char *start = out;
		for (; p < stop; p++) {
			if (*p == '%' && stop - p > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
				*out++ = (char)(hex(p[1]) << 4 | hex(p[2]));
				p += 2;
			} else {
				*out++ = *p == '+' ? ' ' : *p;
			}
		}
		return chatd_str_of(start, (size_t)(out - start));
	}
	return chatd_str_of(NULL, 0);
}

static void on_body_end(void *arg)
{
	struct exch *x = arg;
	struct chatd_str text = chatd_str_of(x->body, x->body_len);
	if (x->form && x->body_len)
		text = form_field(x->body, x->body_len);
	if (!text.n) {
		refuse(x, 500, "Payload expected.");
		return;
	}
	int rc = inbox_parse(text.p, text.n, &x->in);
	x->text = text;
	if (rc < 0 || !self_of(x)->peers_on) {
		free(x->body);
		x->body = NULL;
	}
	if (rc == -E2BIG) {
		tell(x->owner, &(struct note){ .x = x, .fn = too_big_there });
		refuse(x, 413, "Too many messages.");
	} else if (rc < 0) {
		refuse(x, rc == -ENOMEM ? 503 : 500, "Broken JSON encoding.");
	} else {
		exch_ref(x); /* the answer may come inside the call */
		tell(x->owner, &(struct note){ .x = x, .fn = take_there });
		exch_unref(x);
	}
}

static const struct chatd_req_user receiver = {
	.struct_size = sizeof(receiver),
	.gone = on_gone,
};
static const struct chatd_req_user sender = {
	.struct_size = sizeof(sender),
	.body = on_body,
	.body_end = on_body_end,
	.gone = on_gone,
};

/** The session's key, and who owns it. */
static void set_key(struct exch *x, const struct exch_name *name)
{
	const struct endpoint *ep = name->ep;
	memcpy(x->key, &ep->number, sizeof(ep->number));
	memcpy(x->key + sizeof(ep->number), name->id.p, name->id.n);
	x->key_len = (uint16_t)(sizeof(ep->number) + name->id.n);
	unsigned char out[crypto_shorthash_BYTES];
	crypto_shorthash(out, (const unsigned char *)x->key, x->key_len, ep->self->hash_key);
	uint32_t half;
	memcpy(&x->hash, out, sizeof(x->hash));
	/* The other half, so that a worker's sessions spread over all of its buckets. */
	memcpy(&half, out + sizeof(x->hash), sizeof(half));
	const struct chatd_host *host = ep->self->host;
	x->owner = host->worker_at((int32_t)(half % (uint32_t)host->worker_count()));
}

chatd_worker *exch_owner(const struct exch_name *name)
{
	struct exch x;
	set_key(&x, name);
	return x.owner;
}

struct exch_name exch_name(const struct exch *x)
{
	const size_t n = sizeof(x->ep->number);
	struct exch_name name = { .ep = x->ep, .id = chatd_str_of(x->key + n, x->key_len - n) };
	return name;
}

struct exch *exch_remote(const struct exch_name *name, const struct transport *transport,
		struct chatd_str callback, chatd_msg *creds)
{
	struct exch *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	atomic_init(&x->refs, 1);
	x->ep = name->ep;
	x->transport = transport;
	x->creds = creds;
	if (callback.n)
		memcpy(x->callback, callback.p, callback.n);
	set_key(x, name);
	return x;
}

static bool is_form(const struct sockjs *self, chatd_req *req)
{
	static const char type[] = "application/x-www-form-urlencoded";
	struct chatd_str given = self->http->req_header(req, "Content-Type");
	return given.n >= sizeof(type) - 1 && !strncasecmp(given.p, type, sizeof(type) - 1);
}

void exch_start(const struct endpoint *ep, chatd_req *req, const struct exch_target *target)
{
	const struct sockjs *self = ep->self;
	struct exch *x = calloc(1, sizeof(*x));
	chatd_msg *creds = self->ws->credentials(self->ws_obj, req);
	if (!x || !creds) {
		free(x);
		self->host->msg_unref(creds);
		headers_bare(self, req, 503);
		return;
	}
	atomic_init(&x->refs, 2); /* the request's, and ours until we return */
	x->ep = ep;
	x->transport = target->transport;
	x->home = self->http->req_worker(req);
	x->creds = creds;
	x->req = req;
	set_key(x, &(struct exch_name){ .ep = ep, .id = chatd_str_of(target->id, target->id_len) });
	if (x->transport->callback) {
		struct chatd_str name = self->http->req_query(req, "c");
		memcpy(x->callback, name.p, name.n);
	}
	x->form = x->transport->id == JSONP_SEND && is_form(self, req);
	self->http->req_user(req, x->transport->receives ? &receiver : &sender, x);
	if (x->transport->receives)
		tell(x->owner, &(struct note){ .x = x, .fn = receive_there });
	exch_unref(x);
}
