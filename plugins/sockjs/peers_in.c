/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that came to other nodes, for sessions that are here. */
#include "frames.h"
#include "peers_impl.h"
#include "session.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define uthash_malloc(n)  malloc(n)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/** Where the answer to a request goes.  Polls that wait are in the worker's table. */
struct peer {
	UT_hash_handle hh;
	struct worker_state *state;
	struct exch *x;
	char node[65];
	char id[PEER_ID];
};

const char *const peers_creds[CREDS] = { CHATD_CRED_PEER, CHATD_CRED_BEARER, CHATD_CRED_TOKEN,
	CHATD_CRED_DEVICE };

void peers_digest(struct chatd_str text, char ret[DIGEST_HEX])
{
	unsigned char raw[DIGEST];
	*ret = '\0';
	if (!text.p)
		return;
	crypto_generichash(raw, sizeof(raw), (const unsigned char *)text.p, text.n, NULL, 0);
	sodium_bin2hex(ret, DIGEST_HEX, raw, sizeof(raw));
}

bool peers_same(const struct exch *x, const chatd_msg *creds)
{
	const struct chatd_host *host = x->ep->self->host;
	bool all = true;
	for (int i = 0; i < CREDS; i++) {
		struct chatd_str theirs = host->msg_get(x->creds, peers_creds[i]);
		char mine[DIGEST_HEX];
		peers_digest(host->msg_get(creds, peers_creds[i]), mine);
		/* A device token may be missing on either side, as in is_owner(). */
		if (!strcmp(peers_creds[i], CHATD_CRED_DEVICE) && (!*mine || !theirs.n))
			continue;
		all &= theirs.n == strlen(mine) && !sodium_memcmp(theirs.p, mine, theirs.n);
	}
	return all;
}

/* ---- answers ----------------------------------------------------------- */

static void on_lost(void *arg)
{
	session_lost(arg);
	exch_unref(arg);
}

/** What was meant for the client is gone.  By post: its session is in the middle of giving. */
static void lose(struct exch *x)
{
	if (x->ep->self->host->post(x->owner, on_lost, exch_ref(x)) < 0)
		exch_unref(x);
}

static void on_sent(void *arg, chatd_status rc)
{
	struct exch *x = arg;
	if (rc < 0)
		lose(x);
	exch_unref(x);
}

/** What may get lost is what the other node would only wait for. */
static void reply(struct exch *x, struct headers *h, struct chatd_str body, bool may_be_lost)
{
	const struct sockjs *self = x->ep->self;
	headers_add(h, CHATD_LIT("id"), chatd_str_of(x->peer->id, strlen(x->peer->id)));
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_NODE,
		.flags = may_be_lost ? CHATD_CLUSTER_EPHEMERAL : 0,
		.kind = CHATD_LIT("sockjs.re"),
		.key = chatd_str_of(x->peer->id, strlen(x->peer->id)),
		.node = chatd_str_of(x->peer->node, strlen(x->peer->node)),
		.headers = h->all,
		.n_headers = h->n,
		.body = body };
	exch_ref(x);
	if (self->cluster->send(self->cluster_obj, x->owner, &e, may_be_lost ? NULL : on_sent, x) < 0) {
		if (!may_be_lost)
			lose(x);
		exch_unref(x);
	} else if (may_be_lost) {
		exch_unref(x);
	}
}

void peers_held(struct exch *x)
{
	struct headers h = { .n = 0 };
	headers_add(&h, CHATD_LIT("op"), CHATD_LIT("held"));
	reply(x, &h, CHATD_LIT(""), true);
}

void peers_answer(struct exch *x, int32_t status, const char *text)
{
	struct headers h = { .n = 0 };
	char number[16];
	int n = snprintf(number, sizeof(number), "%d", (int)status);
	headers_add(&h, CHATD_LIT("op"), CHATD_LIT("answer"));
	headers_add(&h, CHATD_LIT("status"), chatd_str_of(number, (size_t)n));
	headers_add(&h, CHATD_LIT("text"), chatd_str_of(text, strlen(text)));
	reply(x, &h, CHATD_LIT(""), true);
}

void peers_frame(struct exch *x, chatd_buf *frame)
{
	const struct chatd_host *host = x->ep->self->host;
	struct headers h = { .n = 0 };
	headers_add(&h, CHATD_LIT("op"), CHATD_LIT("frame"));
	reply(x, &h, chatd_str_of(host->buf_data(frame), host->buf_len(frame)), false);
	host->buf_unref(frame);
}

/* ---- questions --------------------------------------------------------- */

static const struct endpoint *endpoint_of(const struct sockjs *self, struct chatd_str path)
{
	const struct endpoint *ep = self->endpoints;
	while (ep && (ep->prefix_len != path.n || memcmp(ep->prefix, path.p, path.n)))
		ep = ep->next;
	return ep;
}

static bool read_name(const struct sockjs *self, const struct chatd_cluster_event *e,
		unsigned char room[SOCKJS_ID_MAX], struct exch_name *ret)
{
	struct chatd_str path = chatd_cluster_get(e, CHATD_LIT("path"));
	struct chatd_str hex = chatd_cluster_get(e, CHATD_LIT("session"));
	const char *end;
	size_t n;
	if (!path.p || !hex.n || hex.n > 2 * SOCKJS_ID_MAX || hex.n % 2 ||
			sodium_hex2bin(room, SOCKJS_ID_MAX, hex.p, hex.n, NULL, &n, &end) ||
			end != hex.p + hex.n)
		return false;
	ret->ep = endpoint_of(self, path);
	ret->id = chatd_str_of((const char *)room, n);
	return ret->ep != NULL;
}

static chatd_worker *home_of_question(void *arg, const struct chatd_cluster_event *e)
{
	const struct sockjs *self = arg;
	unsigned char room[SOCKJS_ID_MAX];
	struct exch_name name;
	return read_name(self, e, room, &name) ? exch_owner(&name) : self->host->worker_at(0);
}

static bool is(struct chatd_str s, const char *text)
{
	return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static struct peer *peer_new(const struct chatd_cluster_event *e, struct worker_state *state)
{
	struct chatd_str id = chatd_cluster_get(e, CHATD_LIT("id"));
	struct peer *p = NULL;
	if (id.n && id.n < sizeof(p->id) && e->from.n && e->from.n < sizeof(p->node))
		p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->state = state;
	memcpy(p->id, id.p, id.n);
	memcpy(p->node, e->from.p, e->from.n);
	return p;
}

static struct peer *peer_find(struct worker_state *state, const struct chatd_cluster_event *e)
{
	struct chatd_str id = chatd_cluster_get(e, CHATD_LIT("id"));
	struct peer *p = NULL;
	if (id.n)
		HASH_FIND(hh, state->peers, id.p, id.n, p);
	return p && is(e->from, p->node) ? p : NULL;
}

void peers_forget(struct exch *x)
{
	struct peer *p = x->peer;
	if (p && p->hh.tbl)
		HASH_DEL(p->state->peers, p);
	free(p);
}

static chatd_msg *creds_of(const struct sockjs *self, const struct chatd_cluster_event *e)
{
	chatd_msg *m = self->host->msg_new(CHATD_LIT(""), CHATD_LIT(""));
	for (int i = 0; m && i < CREDS; i++) {
		struct chatd_str v =
				chatd_cluster_get(e, chatd_str_of(peers_creds[i], strlen(peers_creds[i])));
		if (v.n && self->host->msg_set(m, peers_creds[i], v) < 0) {
			self->host->msg_unref(m);
			m = NULL;
		}
	}
	return m;
}

/** NULL: no such request can be, or there is no memory; the other node then waits in vain. */
static struct exch *read_request(const struct sockjs *self, const struct chatd_cluster_event *e)
{
	unsigned char room[SOCKJS_ID_MAX];
	struct exch_name name;
	struct chatd_str callback = chatd_cluster_get(e, CHATD_LIT("callback"));
	const struct transport *t = frames_transport(chatd_cluster_get(e, CHATD_LIT("transport")));
	if (!t || t->id == WEBSOCKET || !read_name(self, e, room, &name) ||
			callback.n > SOCKJS_CALLBACK_MAX ||
			(t->callback && !(callback.n && frames_callback_ok(callback))))
		return NULL;
	chatd_msg *creds = creds_of(self, e);
	struct exch *x = creds ? exch_remote(&name, t, callback, creds) : NULL;
	if (!x)
		self->host->msg_unref(creds);
	return x;
}

static void take(struct exch *x, struct chatd_str body)
{
	int rc = body.n <= x->ep->max_body ? inbox_parse(body.p, body.n, &x->in) : -E2BIG;
	if (rc < 0)
		exch_answer(x, rc == -ENOMEM ? 503 : rc == -E2BIG ? 413 : 500, "");
	else
		session_take(x);
}

static void serve(struct exch *x, struct chatd_str op, const struct chatd_cluster_event *e)
{
	struct chatd_str boot = chatd_cluster_get(e, CHATD_LIT("boot"));
	struct worker_state *state = x->peer->state;
	if (!is(boot, x->ep->self->boot)) {
		exch_answer(x, 404, ""); /* of an earlier process: its sessions are no more */
	} else if (is(op, "send") && !x->transport->receives) {
		take(x, e->body);
	} else if (is(op, "poll") && x->transport->receives) {
		HASH_ADD_KEYPTR(hh, state->peers, x->peer->id, strlen(x->peer->id), x->peer);
		session_receive(x);
	}
}

static void on_question(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	const struct sockjs *self = arg;
	struct worker_state *state = self->host->worker_self(self->ctx, w);
	struct chatd_str op = chatd_cluster_get(e, CHATD_LIT("op"));
	struct peer *known = peer_find(state, e);
	if (state->stopped)
		return;
	if (known) {
		if (is(op, "left"))
			session_lost(known->x);
		return;
	}
	struct exch *x = is(op, "left") ? NULL : read_request(self, e);
	if (!x)
		return;
	x->peer = peer_new(e, state);
	if (x->peer && x->owner == w) {
		x->peer->x = x;
		serve(x, op, e);
	}
	exch_unref(x);
}

chatd_status peers_in_setup(struct sockjs *self)
{
	const struct chatd_cluster_receiver questions = { .struct_size = sizeof(questions),
		.kind = "sockjs.ask",
		.fn = on_question,
		.home = home_of_question,
		.arg = self };
	return self->cluster->receive(self->cluster_obj, &questions);
}
