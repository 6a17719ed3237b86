/* SPDX-License-Identifier: Apache-2.0 */
/* What each frame of a logged-in client does. */
#include "stomp.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	DESTINATION_MAX = 512, /**< octets */
	ID_MAX = 256,          /**< octets of a subscription's id, a transaction's name */
};

static int same(struct chatd_str s, const char *lit)
{
	size_t n = strlen(lit);
	return s.n == n && memcmp(s.p, lit, n) == 0;
}

/* ---- headers ------------------------------------------------------------------ */

static void missing(struct stomp_conn *c, const char *name, const struct stomp_frame *f)
{
	char detail[64];
	(void)snprintf(detail, sizeof(detail), "Header '%s' is required", name);
	conn_fault(c, STOMP_MISSING_HEADER, detail, f->receipt);
}

/** The value of a header that must be there and short; .p NULL: refused. */
static struct chatd_str needed(struct stomp_conn *c, const struct stomp_frame *f, const char *name)
{
	struct chatd_str s = stomp_header_get(f, name);
	if (!s.n) {
		missing(c, name, f);
		return chatd_str_of(NULL, 0);
	}
	if (s.n > ID_MAX) {
		char detail[80];
		(void)snprintf(detail, sizeof(detail), "Header '%s' has at most %d octets", name, ID_MAX);
		conn_fault(c, STOMP_BAD_HEADER, detail, f->receipt);
		return chatd_str_of(NULL, 0);
	}
	return s;
}

/** Only the server says who sent a message, which one it is and where it stands. */
static int is_forged(struct chatd_str name)
{
	static const char *const names[] = { "message-id", "subscription", "ack", "redelivered",
		"user-id", "user", "userId", "sender", "senderId", "senderName", "from", "role", "id",
		"seq", "epoch", "cursor", "timestamp" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (same(name, names[i])) {
			return 1;
		}
	}
	return 0;
}

/** Without those that only the server may say of a message, if it came by SEND. */
static chatd_status copy_headers(
		struct stomp_conn *c, const struct stomp_frame *f, chatd_msg *m, int from_send)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct stomp_header *h = &f->header[i];
		char name[STOMP_NAME_MAX + 1];
		if (same(h->name, "destination") || same(h->name, "content-length") ||
				same(h->name, "transaction") || (from_send && is_forged(h->name))) {
			continue;
		}
		memcpy(name, h->name.p, h->name.n);
		name[h->name.n] = '\0';
		chatd_status rc = c->w->self->h->msg_set(m, name, h->value);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

/** The frame as a message; NULL: refused, no memory. */
static chatd_msg *make_message(struct stomp_conn *c, const struct stomp_frame *f)
{
	const struct chatd_host *h = c->w->self->h;
	struct chatd_str body = f->body.p ? f->body : chatd_str_of("", 0);
	chatd_msg *m = h->msg_new(stomp_header_get(f, "destination"), body);
	if (m && copy_headers(c, f, m, f->command == STOMP_CMD_SEND) == 0) {
		return m;
	}
	h->msg_unref(m);
	conn_fault(c, STOMP_INTERNAL, "Out of memory", f->receipt);
	return NULL;
}

/* ---- destinations ---------------------------------------------------------------- */

/** A '*' anywhere, or a whole word between '/' or '.' that is '#', '>' or '+'. */
static int has_wildcard(struct chatd_str d)
{
	for (size_t i = 0; i < d.n; i++) {
		char before = i ? d.p[i - 1] : '/';
		char after = i + 1 < d.n ? d.p[i + 1] : '/';
		int alone = (before == '/' || before == '.') && (after == '/' || after == '.');
		if (d.p[i] == '*' || (alone && memchr("#>+", d.p[i], 3))) {
			return 1;
		}
	}
	return 0;
}

static const char *destination_fault(struct chatd_str d)
{
	if (d.n > DESTINATION_MAX) {
		return "A destination has at most 512 octets";
	}
	if (has_wildcard(d)) {
		return "Wildcards are not supported";
	}
	if (!d.n || d.p[0] != '/') {
		return "A destination begins with '/'";
	}
	for (size_t i = 0; i < d.n; i++) {
		if ((unsigned char)d.p[i] < 0x20 || d.p[i] == 0x7f) {
			return "A destination has no control characters";
		}
	}
	return NULL;
}

/** 0, or -1: refused. */
static int check_destination(struct stomp_conn *c, const struct stomp_frame *f)
{
	struct chatd_str d = stomp_header_get(f, "destination");
	if (!d.p) {
		conn_fault(c, STOMP_NO_DESTINATION, "Header 'destination' is required", f->receipt);
		return -1;
	}
	const char *fault = destination_fault(d);
	if (fault) {
		conn_fault(c, STOMP_BAD_DESTINATION, fault, f->receipt);
		return -1;
	}
	return 0;
}

/* ---- transactions ------------------------------------------------------------------ */

static void tx_fault(struct stomp_conn *c, const struct stomp_frame *f, chatd_status rc)
{
	if (rc == -E2BIG) {
		conn_fault(c, STOMP_TX_TOO_LARGE, "At most 1024 frames, and stomp.max_transaction octets",
				f->receipt);
	} else if (rc < 0) {
		conn_fault(c, STOMP_INTERNAL, "Out of memory", f->receipt);
	} else {
		conn_receipt(c, f->receipt, NULL);
	}
}

/** The transaction that @p f names; NULL: refused. */
static struct tx *named_tx(struct stomp_conn *c, const struct stomp_frame *f)
{
	struct chatd_str name = needed(c, f, "transaction");
	if (!name.p) {
		return NULL;
	}
	struct tx *tx = c->tx ? tx_find(c->tx, name) : NULL;
	if (!tx) {
		conn_fault(c, STOMP_BAD_TX, "No such transaction is open", f->receipt);
	}
	return tx;
}

static int in_tx(const struct stomp_frame *f)
{
	return stomp_header_get(f, "transaction").p != NULL;
}

static void on_begin(struct stomp_conn *c, const struct stomp_frame *f)
{
	const struct chatd_host *h = c->w->self->h;
	struct chatd_str name = needed(c, f, "transaction");
	if (!name.p) {
		return;
	}
	if (!c->tx) {
		c->tx = h->mem_alloc(sizeof(*c->tx));
	}
	chatd_status rc = c->tx ? tx_begin(c->tx, h, name) : -ENOMEM;
	if (rc == -EEXIST) {
		conn_fault(c, STOMP_BAD_TX, "A transaction of that name is open", f->receipt);
	} else if (rc == -E2BIG) {
		conn_fault(c, STOMP_TX_LIMIT, "At most 16 transactions", f->receipt);
	} else {
		tx_fault(c, f, rc);
	}
}

static void on_commit(struct stomp_conn *c, const struct stomp_frame *f)
{
	struct tx *tx = named_tx(c, f);
	if (tx) {
		commit_begin(c, tx, f->receipt);
	}
}

static void on_abort(struct stomp_conn *c, const struct stomp_frame *f)
{
	struct tx *tx = named_tx(c, f);
	if (tx) {
		tx_detach(c->tx, tx);
		tx_free(tx, c->w->self->h);
		conn_receipt(c, f->receipt, NULL);
	}
}

/* ---- the frames ---------------------------------------------------------------------- */

static void on_send(struct stomp_conn *c, const struct stomp_frame *f)
{
	const struct stomp *self = c->w->self;
	struct tx *tx = NULL;
	if (check_destination(c, f) < 0 || (in_tx(f) && !(tx = named_tx(c, f)))) {
		return;
	}
	chatd_msg *m = make_message(c, f);
	if (!m) {
		return;
	}
	if (tx) {
		size_t most = (size_t)self->conf->max_transaction;
		tx_fault(c, f, tx_add_send(c->tx, tx, self->h, m, most));
		self->h->msg_unref(m);
		return;
	}
	c->op = OP_SEND;
	c->op_msg = m;
	c->in_op = 1;
	self->sessions->input(c->session, m, conn_done, c);
	c->in_op = 0;
}

/** -1: no such mode. */
static int32_t ack_mode(struct chatd_str s)
{
	if (!s.p || same(s, "auto")) {
		return CHATD_ACK_AUTO;
	}
	if (same(s, "client")) {
		return CHATD_ACK_CLIENT;
	}
	return same(s, "client-individual") ? CHATD_ACK_INDIVIDUAL : -1;
}

static chatd_status ask_subscribe(struct stomp_conn *c, const struct chatd_subscribe *want)
{
	const struct stomp *self = c->w->self;
	c->op = OP_SUBSCRIBE;
	c->op_msg = want->frame;
	c->in_op = 1;
	chatd_status rc = self->sessions->subscribe(c->session, want, conn_done, c);
	c->in_op = 0;
	if (rc < 0) { /* and done() does not come: the message is the caller's again */
		c->op = OP_NONE;
		c->op_msg = NULL;
	}
	return rc;
}

/** 1.0 needs no id: it makes one up that the client can see in its MESSAGEs. */
static chatd_status subscribe_unnamed(struct stomp_conn *c, struct chatd_subscribe *want)
{
	chatd_status rc;
	do {
		char id[24];
		int n = snprintf(id, sizeof(id), "auto-%u", c->autos++);
		want->id = chatd_str_of(id, (size_t)n);
		rc = ask_subscribe(c, want);
	} while (rc == -EEXIST); /* as often as the client itself has taken such names */
	return rc;
}

static void on_subscribe(struct stomp_conn *c, const struct stomp_frame *f)
{
	struct chatd_subscribe want = { .struct_size = sizeof(want) };
	int unnamed = c->version == 10 && !stomp_header_get(f, "id").p;
	if (!unnamed) {
		want.id = needed(c, f, "id");
		if (!want.id.p) {
			return;
		}
	}
	want.ack = ack_mode(stomp_header_get(f, "ack"));
	if (want.ack < 0) {
		conn_fault(c, STOMP_BAD_HEADER, "ack is auto, client or client-individual", f->receipt);
		return;
	}
	if (stomp_header_get(f, "selector").p) {
		conn_fault(c, STOMP_UNSUPPORTED_HEADER, "selector is not supported", f->receipt);
		return;
	}
	if (check_destination(c, f) < 0 || !(want.frame = make_message(c, f))) {
		return;
	}
	chatd_status rc = unnamed ? subscribe_unnamed(c, &want) : ask_subscribe(c, &want);
	if (rc == 0) {
		return;
	}
	enum stomp_fault fault = rc == -EEXIST ? STOMP_DUPLICATE_ID
			: rc == -E2BIG                 ? STOMP_SUBSCRIPTION_LIMIT
										   : STOMP_INTERNAL;
	const char *detail = rc == -EEXIST ? "A subscription of that id is there already"
			: rc == -E2BIG             ? "A session cannot have that many subscriptions"
									   : "The server could not subscribe";
	conn_fault(c, fault, detail, c->w->self->h->msg_get(want.frame, "receipt"));
	c->w->self->h->msg_unref(want.frame);
}

static void on_unsubscribe(struct stomp_conn *c, const struct stomp_frame *f)
{
	const struct chatd_sessions *sessions = c->w->self->sessions;
	struct chatd_str id = stomp_header_get(f, "id");
	struct chatd_str dest = stomp_header_get(f, "destination");
	if (!id.p && c->version == 10 && dest.p) {
		id = sessions->find_dest(c->session, dest);
	} else if (!id.p) {
		missing(c, "id", f);
		return;
	}
	if (!id.p || sessions->unsubscribe(c->session, id) < 0) {
		conn_fault(c, STOMP_NO_SUBSCRIPTION, "There is no such subscription to end", f->receipt);
		return;
	}
	conn_receipt(c, f->receipt, NULL);
}

static void on_ack(struct stomp_conn *c, const struct stomp_frame *f)
{
	const struct stomp *self = c->w->self;
	struct tx_action a = { .ack1_nack0 = f->command == STOMP_CMD_ACK };
	struct tx *tx = NULL;
	a.id = needed(c, f, c->version >= 12 ? "id" : "message-id");
	if (a.id.p && c->version == 11) {
		a.sub = needed(c, f, "subscription");
	} else if (c->version == 10) {
		a.sub = stomp_header_get(f, "subscription");
	}
	if (!a.id.p || (c->version == 11 && !a.sub.p) || (in_tx(f) && !(tx = named_tx(c, f)))) {
		return;
	}
	if (tx) {
		tx_fault(c, f, tx_add_ack(c->tx, tx, self->h, &a));
	} else if (self->sessions->ack(c->session, a.id, a.sub, a.ack1_nack0) < 0) {
		conn_fault(c, STOMP_NO_MESSAGE, "unknown ack id", f->receipt);
	} else {
		conn_receipt(c, f->receipt, NULL);
	}
}

static void on_disconnect(struct stomp_conn *c, const struct stomp_frame *f)
{
	if (pipe_receipt(c, f->receipt, NULL, 1)) { /* earlier messages are answered first */
		conn_pause(c, PAUSE_PIPE, 1);
		return;
	}
	conn_receipt(c, f->receipt, NULL);
	conn_end(c, 1000, "");
}

void frames_handle(struct stomp_conn *c, struct stomp_frame *f)
{
	if (c->state == CONN_NEW && f->command == STOMP_CMD_CONNECT) {
		login_begin(c, f);
		return;
	}
	if (c->state == CONN_NEW) {
		conn_fault(c, STOMP_ILLEGAL_COMMAND, "You must log in using CONNECT first", f->receipt);
		return;
	}
	switch (f->command) {
	case STOMP_CMD_CONNECT:
		conn_fault(c, STOMP_ILLEGAL_COMMAND, "Already connected", f->receipt);
		break;
	case STOMP_CMD_SEND:
		on_send(c, f);
		break;
	case STOMP_CMD_SUBSCRIBE:
		on_subscribe(c, f);
		break;
	case STOMP_CMD_UNSUBSCRIBE:
		on_unsubscribe(c, f);
		break;
	case STOMP_CMD_ACK:
	case STOMP_CMD_NACK:
		on_ack(c, f);
		break;
	case STOMP_CMD_BEGIN:
		on_begin(c, f);
		break;
	case STOMP_CMD_COMMIT:
		on_commit(c, f);
		break;
	case STOMP_CMD_ABORT:
		on_abort(c, f);
		break;
	case STOMP_CMD_DISCONNECT:
		on_disconnect(c, f);
		break;
	}
}
