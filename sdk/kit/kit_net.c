/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of chatd.net/1: connections without sockets.  See chatd/kit_net.h. */
#include "base/buf.h"
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_net.h>
#include <chatd/stream.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kit_listener {
	struct kit_listener *next;
	struct chatd_listen l;
	int is_unix;
};

struct bytes {
	char *p; /* NUL-terminated */
	size_t n;
};

struct kit_peer {
	struct chatd_stream stream; /* first: the plugin's handle */
	struct kit_peer *next;
	struct kit *k;
	chatd_worker *w;
	const struct chatd_stream_user *user;
	void *arg;
	struct bytes in, out;
	struct bytes waits; /* sent to one who does not read */
	size_t max_queue;   /* 0: no limit */
	int64_t stall_ms;   /* likewise */
	struct chatd_timer stall;
	int paused, closed, left, showing;
	int is_unix;
	int slow, cut; /* it does not read; it was ended for that */
};

static void add(struct kit *k, struct bytes *b, const char *p, size_t n)
{
	char *more = realloc(b->p, b->n + n + 1);
	if (!more) {
		kit_broken(k, "no memory for the test itself");
		return;
	}
	if (n) {
		memcpy(more + b->n, p, n);
	}
	b->p = more;
	b->n += n;
	b->p[b->n] = '\0';
}

static void drop(struct bytes *b, size_t n)
{
	b->n -= n;
	memmove(b->p, b->p + n, b->n + 1);
}

static struct kit_peer *of(const chatd_stream *s)
{
	struct kit_peer *p = (struct kit_peer *)(uintptr_t)s;
	if (p->closed || p->left) {
		kit_broken(p->k, "a stream was used after it was %s", p->closed ? "closed" : "gone");
	}
	if (p->k->here != p->w) {
		kit_broken(p->k, "a stream was used on another thread than its worker's");
	}
	return p;
}

/* Shows what has come, once; what is left comes again with more, or when a pause ends. */
static void show(void *arg)
{
	struct kit_peer *p = arg;
	if (p->showing || p->paused || p->closed || p->left || !p->user || !p->in.n) {
		return;
	}
	p->showing = 1;
	size_t n = p->in.n, taken = p->user->data(p->arg, p->in.p, n);
	p->showing = 0;
	if (taken > n) {
		kit_broken(p->k, "data() took %zu bytes of %zu", taken, n);
	}
	drop(&p->in, taken);
}

/* ---- what the plugin calls ------------------------------------------------------- */

static void leave(struct kit_peer *p, int32_t why);

static void on_too_slow(void *arg)
{
	struct kit_peer *p = arg;
	p->cut |= kit_peer_is_open(p);
	leave(p, CHATD_END_SLOW);
}

static void wait_for_it(struct kit_peer *p, struct chatd_str text)
{
	int first = !p->waits.n;
	add(p->k, &p->waits, text.p, text.n);
	if (p->max_queue && p->waits.n > p->max_queue) {
		(void)worker_post(p->w, on_too_slow, p);
	} else if (first && p->stall_ms) {
		worker_timer_set(p->w, &p->stall, p->stall_ms, on_too_slow, p);
	}
}

static void s_attach(chatd_stream *s, const struct chatd_stream_user *user, void *arg)
{
	struct kit_peer *p = of(s);
	p->user = user;
	p->arg = arg;
	(void)worker_post(p->w, show, p);
}

static size_t s_send(chatd_stream *s, chatd_buf *b)
{
	struct kit_peer *p = of(s);
	struct chatd_str text = buf_str(b);
	if (p->slow) {
		wait_for_it(p, text);
	} else {
		add(p->k, &p->out, text.p, text.n);
	}
	return p->waits.n;
}

static void s_pause(chatd_stream *s, int32_t on)
{
	struct kit_peer *p = of(s);
	p->paused = on;
	if (!on) {
		(void)worker_post(p->w, show, p);
	}
}

static void s_close(chatd_stream *s)
{
	struct kit_peer *p = of(s);
	p->closed = 1;
	worker_timer_clear(&p->stall);
}

static size_t s_queued(const chatd_stream *s)
{
	return of(s)->waits.n;
}

static void s_limits(chatd_stream *s, size_t max_queue, int64_t stall_ms)
{
	struct kit_peer *p = of(s);
	p->max_queue = max_queue;
	p->stall_ms = stall_ms;
}

static struct chatd_str s_peer(const chatd_stream *s)
{
	(void)of(s);
	return CHATD_LIT("192.0.2.1");
}

static int32_t s_is_tls(const chatd_stream *s)
{
	(void)of(s);
	return 0;
}

/* Of a unix socket: whoever runs the test. */
static chatd_status s_peer_cred(const chatd_stream *s, uint32_t *ret_uid, int32_t *ret_pid)
{
	if (!of(s)->is_unix) {
		return -ENOTSUP;
	}
	*ret_uid = (uint32_t)getuid();
	*ret_pid = (int32_t)getpid();
	return 0;
}

static const struct chatd_stream_ops stream_ops = {
	.struct_size = sizeof(stream_ops),
	.attach = s_attach,
	.send = s_send,
	.pause = s_pause,
	.close = s_close,
	.reset = s_close,
	.queued = s_queued,
	.limits = s_limits,
	.peer = s_peer,
	.is_tls = s_is_tls,
	.peer_cred = s_peer_cred,
};

static chatd_status n_listen(void *obj, chatd_ctx *ctx, const struct chatd_listen *l)
{
	struct kit *k = obj;
	(void)ctx;
	if (!k->registering) {
		kit_broken(k, "listen() is for init() only");
	}
	struct kit_listener *made = kit_fault(k) ? NULL : calloc(1, sizeof(*made));
	if (!made) {
		return -ENOMEM;
	}
	made->l = *l;
	made->is_unix = strncmp(l->address, "unix:", 5) == 0;
	made->next = k->listeners;
	k->listeners = made;
	return 0;
}

static int32_t n_address_in(void *obj, struct chatd_str peer, const char *const *nets)
{
	(void)obj;
	for (; nets && *nets; nets++) {
		if (str_is(peer, *nets)) {
			return 1;
		}
	}
	return 0;
}

const struct chatd_net kit_net_vt = {
	.struct_size = sizeof(kit_net_vt),
	.listen = n_listen,
	.address_in = n_address_in,
};

/* ---- the test's side ---------------------------------------------------------------- */

struct kit_peer *kit_connect_on(struct kit *k, int32_t worker)
{
	struct kit_peer *p = calloc(1, sizeof(*p));
	const struct kit_listener *l = k->listeners;
	if (!p || (!l && !k->dead) || worker < 0 || worker >= k->n_workers) {
		kit_broken(k, l ? "there is no worker %d" : "the plugin listens nowhere", worker);
		return NULL;
	}
	p->stream.ops = &stream_ops;
	p->k = k;
	p->w = &k->workers[worker];
	p->next = k->peers;
	k->peers = p;
	add(k, &p->in, "", 0);
	add(k, &p->out, "", 0);
	add(k, &p->waits, "", 0);
	while (l && l->next) { /* the newest is first; the plugin's first one is meant */
		l = l->next;
	}
	if (k->dead || !l) {
		p->closed = 1;
		return p;
	}
	p->is_unix = l->is_unix;
	k->here = p->w;
	l->l.accepted(l->l.arg, p->w, &p->stream);
	k->here = NULL;
	if (!p->user && !p->closed) {
		kit_broken(k, "accepted() has neither attached to the stream nor closed it");
	}
	kit_settle(k);
	return p;
}

struct kit_peer *kit_connect(struct kit *k)
{
	return kit_connect_on(k, 0);
}

void kit_feed(struct kit_peer *p, const char *text)
{
	struct kit *k = p->k;
	if (p->closed || p->left) {
		if (!kit_muted(k)) {
			kit_broken(k, "the connection is over; it cannot send \"%s\"", text);
		}
		return;
	}
	add(k, &p->in, text, strlen(text));
	k->here = p->w;
	show(p);
	k->here = NULL;
	kit_settle(k);
}

static void leave(struct kit_peer *p, int32_t why)
{
	struct kit *k = p->k;
	if (p->closed || p->left) {
		return;
	}
	chatd_worker *was = k->here;
	p->left = 1;
	worker_timer_clear(&p->stall);
	k->here = p->w;
	p->user->gone(p->arg, why);
	k->here = was;
	kit_settle(k);
}

void kit_hang_up(struct kit_peer *p)
{
	leave(p, CHATD_END_EOF);
}

void kit_peer_slow(struct kit_peer *p, int on)
{
	struct kit *k = p->k;
	int all = p->slow && !on && p->waits.n;
	p->slow = on;
	if (!all) {
		return;
	}
	worker_timer_clear(&p->stall);
	add(k, &p->out, p->waits.p, p->waits.n);
	drop(&p->waits, p->waits.n);
	if (kit_peer_is_open(p) && CHATD_HAS(p->user, drained)) {
		k->here = p->w;
		p->user->drained(p->arg);
		k->here = NULL;
	}
	kit_settle(k);
}

size_t kit_peer_queued(const struct kit_peer *p)
{
	return p->waits.n;
}

int kit_peer_is_open(const struct kit_peer *p)
{
	return !p->closed && !p->left;
}

void kit_let_in(struct kit *k, int whom)
{
	k->let_in = whom;
}

const char *kit_got(const struct kit_peer *p)
{
	return p->out.p;
}

void kit_expect_got_at(struct kit_peer *p, const char *part, struct kit_at at)
{
	const char *found = strstr(p->out.p, part);
	if (kit_muted(p->k)) {
		return;
	}
	if (!found) {
		kit_die(p->k, at.file, at.line, "the peer got \"%s\"; expected: ...%s...", p->out.p, part);
		return;
	}
	drop(&p->out, (size_t)(found - p->out.p) + strlen(part));
}

void kit_expect_nothing_got_at(struct kit_peer *p, struct kit_at at)
{
	if (!kit_muted(p->k) && p->out.n) {
		kit_die(p->k, at.file, at.line, "the peer got \"%s\"; expected nothing", p->out.p);
	}
}

void kit_expect_hung_up_at(struct kit_peer *p, struct kit_at at)
{
	if (!kit_muted(p->k) && !p->closed) {
		kit_die(p->k, at.file, at.line, "the plugin has not closed the connection");
	}
}

void kit_expect_too_slow_at(struct kit_peer *p, struct kit_at at)
{
	if (!kit_muted(p->k) && !p->cut) {
		kit_die(p->k, at.file, at.line, "the peer has not been ended as too slow; %zu bytes wait",
				p->waits.n);
	}
}

/* ---- the end -------------------------------------------------------------------------- */

void kit_net_leave(struct kit *k, int32_t why)
{
	for (struct kit_peer *p = k->peers; p; p = p->next) {
		leave(p, why);
	}
}

void kit_net_finish(struct kit *k)
{
	while (k->peers) {
		struct kit_peer *next = k->peers->next;
		free(k->peers->in.p);
		free(k->peers->out.p);
		free(k->peers->waits.p);
		free(k->peers);
		k->peers = next;
	}
	while (k->listeners) {
		struct kit_listener *next = k->listeners->next;
		free(k->listeners);
		k->listeners = next;
	}
}
