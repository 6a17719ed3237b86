/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that consumes: this node's queue, its bindings, and the acknowledgements. */
#include "acks.h"
#include "inbound.h"
#include "link.h"
#include "seal.h"
#include "seen.h"
#include "topics.h"
#include "waits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	STEP_MS = 1000,
	BINDS = 100,      /* asked for and not answered */
	START_MS = 15000, /* that an old connection of ours may take to go away */
	QUEUE_EXPIRES = 600000,
	QUEUE_BYTES = 64 << 20
};

struct wish {
	STAILQ_ENTRY(wish) link;
	int32_t on;
	struct wait *wait; /* not NULL: somebody waits for the binding */
	size_t n;
	char dest[];
};

struct consumer {
	struct rabbit *r;
	struct link link;
	pthread_t thread;
	int32_t running;
	int wake;
	atomic_int stop, refresh;
	pthread_mutex_t lock;
	STAILQ_HEAD(wishes, wish) wishes; /* with the lock */
	struct topics *topics;
	struct seen *seen;
	struct seal *seal; /* NULL: signatures are not looked at */
	struct inbound inbound;
	struct acks acks;
	uint32_t generation;
	size_t binds;                   /* asked for and not answered */
	uint64_t asked[BINDS], n_asked; /* their places, a ring, and how many there were ever */
	uint64_t bound;                 /* the place of the last one answered */
	struct wait_list waits;         /* in the order of their places */
	char queue[WIRE_RKEY], own_key[WIRE_RKEY], last_unbound[WIRE_RKEY];
	int64_t unbound_at;
	struct nag poison, forged;
	/* The delivery that is coming in, frame by frame. */
	uint64_t tag, left, got;
	int32_t state, several;
	int32_t sealed; /* 1: it is signed, and the signature not verified yet */
	char rkey[256];
	struct wire_in *in; /* NULL: it is refused already */
};
enum { IDLE, HEAD, BODY };

/* ---- from the workers -------------------------------------------------------------------------- */

void consumer_wake(struct consumer *c)
{
	uint64_t one = 1;
	(void)!write(c->wake, &one, sizeof(one));
}

static void wake(void *arg)
{
	consumer_wake(arg);
}

static chatd_status add_wish(struct consumer *c, struct chatd_str dest, int on, struct wait *wait)
{
	struct wish *w = malloc(sizeof(*w) + dest.n);
	if (!w) {
		return -ENOMEM;
	}
	w->on = on;
	w->wait = wait;
	w->n = dest.n;
	memcpy(w->dest, dest.p, dest.n);
	pthread_mutex_lock(&c->lock);
	int first = STAILQ_EMPTY(&c->wishes);
	STAILQ_INSERT_TAIL(&c->wishes, w, link);
	pthread_mutex_unlock(&c->lock);
	if (first) {
		consumer_wake(c);
	}
	return 0;
}

void consumer_interest(struct consumer *c, struct chatd_str dest, int on)
{
	if (add_wish(c, dest, on, NULL) < 0) {
		consumer_refresh(c); /* it cannot be made good, but it will be seen */
	}
}

chatd_status consumer_wait(struct consumer *c, struct chatd_str dest, struct wait *wait)
{
	return add_wish(c, dest, 1, wait);
}

void consumer_refresh(struct consumer *c)
{
	atomic_store(&c->refresh, 1);
	consumer_wake(c);
}

void consumer_hurry(struct consumer *c)
{
	atomic_store(&c->link.hurry, 1);
	consumer_wake(c);
}

/* ---- who waits for a binding --------------------------------------------------------------------- */

static void add_wait(struct consumer *c, struct wait *x, struct chatd_str dest)
{
	struct wait *before = TAILQ_LAST(&c->waits, wait_list);
	x->place = topics_place(c->topics, dest);
	if (!c->link.conn || !x->place || x->place <= c->bound) {
		wait_release(x, c->link.conn && x->place ? 0 : -EAGAIN);
		return;
	}
	while (before && before->place > x->place) {
		before = TAILQ_PREV(before, wait_list, link);
	}
	if (before) {
		TAILQ_INSERT_AFTER(&c->waits, before, x, link);
	} else {
		TAILQ_INSERT_HEAD(&c->waits, x, link);
	}
}

static void release(struct consumer *c, uint64_t up_to, chatd_status rc)
{
	struct wait *x;
	while ((x = TAILQ_FIRST(&c->waits)) && x->place <= up_to) {
		TAILQ_REMOVE(&c->waits, x, link);
		wait_release(x, rc);
	}
}

static void on_bound(struct consumer *c)
{
	if (c->binds > 0) {
		c->bound = c->asked[(c->n_asked - c->binds) % BINDS];
		c->binds--;
		release(c, c->bound, 0);
	}
}

/* ---- what is wanted ------------------------------------------------------------------------------- */

/* Nobody wants that topic any more, and it never was bound. */
static void release_one(struct consumer *c, uint64_t place)
{
	struct wait *x = TAILQ_FIRST(&c->waits), *next;
	for (; x && x->place <= place; x = next) {
		next = TAILQ_NEXT(x, link);
		if (x->place == place) {
			TAILQ_REMOVE(&c->waits, x, link);
			wait_release(x, -ENOENT);
		}
	}
}

static void take_wish(struct consumer *c, const struct wish *w)
{
	struct chatd_str dest = chatd_str_of(w->dest, w->n);
	uint64_t was = topics_place(c->topics, dest);
	if (w->wait) {
		add_wait(c, w->wait, dest);
	} else if (topics_set(c->topics, dest, w->on, clock_ms()) < 0) {
		c->r->h->log(c->r->ctx, CHATD_LOG_ERROR,
				"no memory: messages of other nodes to %.*s do not come here",
				(int)(w->n < 100 ? w->n : 100), w->dest);
	} else if (was && !topics_has(c->topics, dest)) {
		release_one(c, was);
	}
}

static void take_wishes(struct consumer *c)
{
	struct wishes all = STAILQ_HEAD_INITIALIZER(all);
	struct wish *w;
	pthread_mutex_lock(&c->lock);
	STAILQ_CONCAT(&all, &c->wishes);
	pthread_mutex_unlock(&c->lock);
	while ((w = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		take_wish(c, w);
		free(w);
	}
}

/* ---- topology ------------------------------------------------------------------------------------ */

static amqp_table_entry_t argument(const char *name, int64_t value)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(name) };
	e.value.kind = AMQP_FIELD_KIND_I64;
	e.value.value.i64 = value;
	return e;
}

static int declare_queue(struct consumer *c)
{
	amqp_table_entry_t entries[3] = { argument("x-expires", QUEUE_EXPIRES),
		argument("x-max-length-bytes", QUEUE_BYTES), { .key = amqp_cstring_bytes("x-overflow") } };
	entries[2].value.kind = AMQP_FIELD_KIND_UTF8;
	entries[2].value.value.bytes = amqp_cstring_bytes("drop-head");
	const amqp_table_t arguments = { .num_entries = 3, .entries = entries };
	amqp_queue_declare(
			c->link.conn, LINK_CHANNEL, amqp_cstring_bytes(c->queue), 0, 1, 0, 0, arguments);
	return link_check(&c->link, c->queue);
}

static int bind_own(struct consumer *c, const char *rkey)
{
	amqp_queue_bind(c->link.conn, LINK_CHANNEL, amqp_cstring_bytes(c->queue),
			amqp_cstring_bytes("chat.exchange"), amqp_cstring_bytes(rkey), amqp_empty_table);
	return link_check(&c->link, "bind");
}

static int consume(struct consumer *c)
{
	amqp_basic_qos(c->link.conn, LINK_CHANNEL, 0, (uint16_t)c->r->conf->prefetch, 0);
	if (link_check(&c->link, "prefetch") < 0) {
		return -1;
	}
	amqp_basic_consume(c->link.conn, LINK_CHANNEL, amqp_cstring_bytes(c->queue),
			amqp_cstring_bytes("chatd"), 0, 0, 1, amqp_empty_table);
	return link_check(&c->link, c->queue);
}

static int connect_now(struct consumer *c)
{
	return link_open(&c->link) < 0 || link_exchange(&c->link) < 0 || declare_queue(c) < 0 ||
					bind_own(c, c->own_key) < 0 || bind_own(c, "chat.all") < 0 || consume(c) < 0
			? -1
			: 0;
}

static void forget_delivery(struct consumer *c)
{
	free(c->in);
	c->in = NULL;
	c->state = IDLE;
}

static void connected(struct consumer *c)
{
	if (c->link.failures || c->generation) {
		count(c->r, COUNT_RECONNECTS);
	}
	c->generation++;
	c->binds = 0;
	c->last_unbound[0] = '\0';
	acks_reset(&c->acks);
	topics_reset(c->topics);
	link_works(&c->link);
}

static void disconnect(struct consumer *c)
{
	rabbit_link(c->r, &c->r->consuming, 0);
	release(c, UINT64_MAX, -EAGAIN);
	forget_delivery(c);
	link_drop(&c->link);
}

/* What is asked for goes out without waiting for each answer: there may be many topics. */
static int bind_some(struct consumer *c)
{
	char rkey[WIRE_RKEY];
	uint64_t place;
	while (c->binds < BINDS && (place = topics_bind(c->topics, rkey)) > 0) {
		amqp_queue_bind_t m = { .queue = amqp_cstring_bytes(c->queue),
			.exchange = amqp_cstring_bytes("chat.exchange"),
			.routing_key = amqp_cstring_bytes(rkey) };
		int rc = amqp_send_method(c->link.conn, LINK_CHANNEL, AMQP_QUEUE_BIND_METHOD, &m);
		if (rc != AMQP_STATUS_OK) {
			return link_failed(&c->link, "bind", rc);
		}
		c->asked[c->n_asked++ % BINDS] = place;
		c->binds++;
	}
	if (c->binds == 0 && !atomic_load(&c->r->consuming)) {
		rabbit_link(c->r, &c->r->consuming, 1);
	}
	return 0;
}

static int unbind(struct consumer *c, const char *rkey)
{
	amqp_queue_unbind_t m = { .queue = amqp_cstring_bytes(c->queue),
		.exchange = amqp_cstring_bytes("chat.exchange"),
		.routing_key = amqp_cstring_bytes(rkey) };
	int rc = amqp_send_method(c->link.conn, LINK_CHANNEL, AMQP_QUEUE_UNBIND_METHOD, &m);
	return rc == AMQP_STATUS_OK ? 0 : link_failed(&c->link, "unbind", rc);
}

static int unbind_some(struct consumer *c)
{
	char rkey[WIRE_RKEY];
	while (topics_unbind(c->topics, clock_ms(), rkey)) {
		if (unbind(c, rkey) < 0) {
			return -1;
		}
	}
	return 0;
}

/* A binding that an earlier process left, or that outlived a lost connection. */
static int unbind_stray(struct consumer *c, struct chatd_str topic)
{
	char rkey[WIRE_RKEY];
	if (topics_has(c->topics, topic)) {
		return 0;
	}
	wire_topic_key(topic, rkey);
	if (strcmp(c->rkey, rkey) != 0) {
		return 0;
	}
	/* Many may be on their way by it. */
	int64_t now = clock_ms();
	if (strcmp(c->last_unbound, rkey) == 0 && now - c->unbound_at < STEP_MS) {
		return 0;
	}
	memcpy(c->last_unbound, rkey, sizeof(rkey));
	c->unbound_at = now;
	return unbind(c, rkey);
}

/* ---- deliveries ---------------------------------------------------------------------------------- */

static void refuse(struct consumer *c, int what, const char *why)
{
	uint64_t more;
	acks_settle(&c->acks, c->tag, 1);
	count(c->r, what);
	if (nag_due(&c->poison, &more)) {
		c->r->h->log(c->r->ctx, CHATD_LOG_WARN,
				"a message with routing key \"%.64s\" is refused: %s (%llu more in the last minute)",
				c->rkey, why, (unsigned long long)more);
	}
}

/* Who may publish to the exchange is not who may speak for a node. */
static void distrust(struct consumer *c, enum seal_verdict v)
{
	static const struct {
		int what;
		const char *why;
	} all[] = {
		[SEAL_UNSIGNED] = { COUNT_UNSIGNED,
				"it is not signed; is it a node of an older release (sign: accept lets it in for a "
				"while), one with sign: off, or another program?" },
		[SEAL_KEY_UNKNOWN] = { COUNT_FORGED,
				"it is signed with none of our keys; are the keys the same on all nodes?" },
		[SEAL_FORGED] = { COUNT_FORGED, "its signature is wrong: it was changed, or made up" },
		[SEAL_OLD] = { COUNT_OLD,
				"it was signed more than 15 minutes ago, or will be: it is replayed, or the clocks of "
				"the nodes differ" },
	};
	uint64_t more;
	struct chatd_str from = c->in ? c->in->e.from : chatd_str_of("", 0);
	acks_settle(&c->acks, c->tag, 1);
	count(c->r, all[v].what);
	if (nag_due(&c->forged, &more)) {
		c->r->h->log(c->r->ctx, CHATD_LOG_WARN,
				"an event with routing key \"%.64s\" that names node \"%.*s\" as its sender is refused: "
				"%s (%llu more in the last minute)",
				c->rkey, (int)from.n, from.p, all[v].why, (unsigned long long)more);
	}
	forget_delivery(c);
}

/* Before its body. */
static int begin_seal(struct consumer *c, const amqp_frame_t *f)
{
	const struct sealed m = { .rkey = chatd_str_of(c->rkey, strlen(c->rkey)),
		.props = f->payload.properties.decoded,
		.body_size = f->payload.properties.body_size };
	if (!c->seal) {
		return 0;
	}
	enum seal_verdict v = seal_begin(c->seal, &m);
	c->sealed = v == SEAL_GOOD;
	if (v == SEAL_FAILED) {
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	if (v != SEAL_GOOD && !(v == SEAL_UNSIGNED && c->r->conf->sign == SIGN_ACCEPT)) {
		distrust(c, v);
		c->state = BODY;
	}
	return 0;
}

/* The routing key is signed as well; whoever may bind this queue can send other nodes' events here. */
static int is_for_us(const struct consumer *c, const struct wire_in *in)
{
	char rkey[WIRE_RKEY];
	if (strcmp(c->rkey, c->own_key) == 0 || strcmp(c->rkey, "chat.all") == 0) {
		return 1;
	}
	wire_topic_key(in->e.topic, rkey);
	return in->e.to == CHATD_CLUSTER_TOPIC && strcmp(c->rkey, rkey) == 0;
}

/* 1: it may be believed; 0: it is refused; -1: the link has failed. */
static int end_seal(struct consumer *c)
{
	if (!c->sealed) {
		return 1;
	}
	enum seal_verdict v = seal_end(c->seal, c->r->h->wall_ms());
	if (v == SEAL_FAILED) {
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	if (v != SEAL_GOOD) {
		distrust(c, v);
	}
	return v == SEAL_GOOD;
}

static int accepts_foreign(const struct consumer *c)
{
	return c->r->conf->accept_foreign && rabbit_receiver(c->r, CHATD_LIT("foreign"));
}

static int on_head(struct consumer *c, const amqp_frame_t *f)
{
	const char *why;
	struct wire_source from = { .routing_key = chatd_str_of(c->rkey, strlen(c->rkey)),
		.body_size = f->payload.properties.body_size };
	c->left = from.body_size;
	c->got = 0;
	c->state = BODY;
	enum wire_verdict v = wire_decode(f->payload.properties.decoded, &from, &c->in, &why);
	switch (v) {
	case WIRE_OK:
	case WIRE_BATCH:
		c->several = v == WIRE_BATCH;
		return c->in ? begin_seal(c, f) : link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	case WIRE_FOREIGN:
		if (accepts_foreign(c)) {
			break;
		}
		refuse(c, COUNT_FOREIGN, "it is of another program; accept_foreign: true would let it in");
		free(c->in);
		c->in = NULL;
		return 0;
	default:
		refuse(c, COUNT_POISON, why);
		return 0;
	}
	return c->in ? 0 : link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
}

static int is_own(const struct consumer *c, const struct wire_in *in)
{
	struct chatd_str me = c->r->node;
	return in->e.from.n == me.n && memcmp(in->e.from.p, me.p, me.n) == 0;
}

/* See publisher.c. */
static int is_hello(const struct chatd_cluster_event *e)
{
	struct chatd_str v = chatd_cluster_get(e, CHATD_LIT("batch"));
	return e->kind.n == 5 && memcmp(e->kind.p, "hello", 5) == 0 && v.n == 1 && *v.p == '2';
}

/* 0: there is nothing to do about it. */
static int is_wanted(struct consumer *c, const struct wire_in *in)
{
	if (!in->e.from.n) {
		return 1; /* a foreign one */
	}
	if (is_own(c, in)) {
		return 0;
	}
	const struct seen_event e = { .node = in->e.from,
		.epoch = in->epoch,
		.number = in->number,
		.strict = c->r->conf->sign == SIGN_REQUIRE };
	if (seen_before(c->seen, &e)) {
		count(c->r, COUNT_STALE);
		return 0;
	}
	if (is_hello(&in->e)) {
		if (peers_heard(c->r->peers, in->e.from, clock_ms())) {
			publisher_hello(c->r->publisher);
		}
		return 0;
	}
	if (!rabbit_receiver(c->r, in->e.kind)) {
		count(c->r, COUNT_UNKNOWN);
		return 0;
	}
	return 1;
}

/* Takes it.  It is settled in any case, now or when a worker is done with it. */
static int hand_in(struct consumer *c, struct wire_in *in)
{
	if (in->e.to == CHATD_CLUSTER_TOPIC && unbind_stray(c, in->e.topic) < 0) {
		free(in);
		return -1;
	}
	if (!is_wanted(c, in)) {
		acks_settle(&c->acks, c->tag, 0);
		free(in);
		return 0;
	}
	struct delivery *d = delivery_create(in, c->tag);
	if (!d) {
		free(in);
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	d->generation = c->generation;
	d->to = rabbit_receiver(c->r, in->e.kind);
	count(c->r, COUNT_RECEIVED);
	return inbound_add(&c->inbound, d) == 0
			? 0
			: link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
}

static int take_one(struct consumer *c)
{
	struct wire_in *in = c->in;
	if (c->sealed && !is_for_us(c, in)) {
		distrust(c, SEAL_FORGED);
		return 0;
	}
	c->in = NULL;
	return hand_in(c, in);
}

/* Each is acknowledged by itself, the message when all are. */
static int take_several(struct consumer *c)
{
	struct wire_in *in;
	const char *why;
	size_t at = 0;
	int rc;
	while ((rc = wire_unpack(c->in, &at, &in, &why)) > 0) {
		if (c->sealed && !is_for_us(c, in)) {
			free(in);
			distrust(c, SEAL_FORGED);
			return 0;
		}
		acks_more(&c->acks, c->tag);
		if (hand_in(c, in) < 0) {
			return -1;
		}
	}
	if (rc == -ENOMEM) {
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	if (rc < 0) {
		refuse(c, COUNT_POISON, why);
	} else {
		acks_settle(&c->acks, c->tag, 0);
	}
	forget_delivery(c);
	return 0;
}

static int complete(struct consumer *c)
{
	c->state = IDLE;
	if (!c->in) {
		return 0;
	}
	int good = end_seal(c);
	if (good <= 0) {
		return good;
	}
	return c->several ? take_several(c) : take_one(c);
}

static int on_body(struct consumer *c, amqp_bytes_t piece)
{
	if (piece.len > c->left) {
		return link_failed(&c->link, "a body longer than it says", AMQP_STATUS_BAD_AMQP_DATA);
	}
	if (c->in) {
		memcpy(c->in->body + c->got, piece.bytes, piece.len);
	}
	if (c->sealed) {
		seal_body(c->seal, piece);
	}
	c->got += piece.len;
	c->left -= piece.len;
	return 0;
}

static int on_deliver(struct consumer *c, const amqp_basic_deliver_t *m)
{
	if (c->state != IDLE || !acks_came(&c->acks, m->delivery_tag)) {
		return link_failed(&c->link, "a delivery out of turn", AMQP_STATUS_BAD_AMQP_DATA);
	}
	c->state = HEAD;
	c->sealed = 0;
	c->tag = m->delivery_tag;
	size_t n = m->routing_key.len < sizeof(c->rkey) ? m->routing_key.len : sizeof(c->rkey) - 1;
	memcpy(c->rkey, m->routing_key.bytes, n);
	c->rkey[n] = '\0';
	return 0;
}

/* ---- what the broker says -------------------------------------------------------------------------- */

static int on_method(struct consumer *c, const amqp_method_t *m)
{
	switch (m->id) {
	case AMQP_BASIC_DELIVER_METHOD:
		return on_deliver(c, m->decoded);
	case AMQP_QUEUE_BIND_OK_METHOD:
		on_bound(c);
		return 0;
	case AMQP_BASIC_CANCEL_METHOD:
		link_failed(&c->link, c->queue, AMQP_STATUS_OK);
		snprintf(c->link.why, sizeof(c->link.why), "%s was deleted", c->queue);
		c->link.trouble = LINK_MISSING;
		return -1;
	case AMQP_CHANNEL_CLOSE_METHOD:
	case AMQP_CONNECTION_CLOSE_METHOD:
		return link_closed(&c->link, m);
	default:
		return 0;
	}
}

static int on_frame(struct consumer *c, const amqp_frame_t *f)
{
	if (f->frame_type == AMQP_FRAME_METHOD) {
		return on_method(c, &f->payload.method);
	}
	if (f->frame_type == AMQP_FRAME_HEADER && c->state == HEAD &&
			f->payload.properties.class_id == AMQP_BASIC_CLASS) {
		if (on_head(c, f) < 0) {
			return -1;
		}
	} else if (f->frame_type == AMQP_FRAME_BODY && c->state == BODY) {
		if (on_body(c, f->payload.body_fragment) < 0) {
			return -1;
		}
	} else {
		return link_failed(&c->link, "a frame out of turn", AMQP_STATUS_BAD_AMQP_DATA);
	}
	return c->state == BODY && c->left == 0 ? complete(c) : 0;
}

static int receive(struct consumer *c)
{
	amqp_frame_t f;
	int rc;
	while ((rc = link_frame(&c->link, &f)) > 0) {
		if (on_frame(c, &f) < 0) {
			rc = -1;
			break;
		}
	}
	/* Also what came before the connection broke: it is marked as seen. */
	if (inbound_flush(&c->inbound) < 0 && rc == 0) {
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	return rc;
}

static int acknowledge(struct consumer *c)
{
	struct deliveries done;
	struct delivery *d;
	uint64_t tag;
	int refused, rc;
	inbound_take(&c->inbound, &done);
	while ((d = STAILQ_FIRST(&done))) {
		STAILQ_REMOVE_HEAD(&done, link);
		if (d->generation == c->generation) {
			acks_settle(&c->acks, d->tag, 0);
		}
		delivery_destroy(d);
	}
	while (c->link.conn && acks_next(&c->acks, &tag, &refused)) {
		rc = refused ? amqp_basic_reject(c->link.conn, LINK_CHANNEL, tag, 0)
					 : amqp_basic_ack(c->link.conn, LINK_CHANNEL, tag, 1);
		if (rc != AMQP_STATUS_OK) {
			return link_failed(&c->link, "acknowledge", rc);
		}
	}
	return 0;
}

/* ---- the thread ------------------------------------------------------------------------------------------ */

static int turn(struct consumer *c)
{
	if (atomic_exchange(&c->refresh, 0)) {
		snprintf(c->link.why, sizeof(c->link.why), "the bindings of %s are gone", c->queue);
		c->link.trouble = LINK_MISSING;
		return -1;
	}
	if (bind_some(c) < 0 || unbind_some(c) < 0) {
		return -1;
	}
	link_wait(&c->link, c->wake, STEP_MS);
	return receive(c) < 0 || acknowledge(c) < 0 ? -1 : 0;
}

static void *run(void *arg)
{
	struct consumer *c = arg;
	int64_t wait;
	while (!atomic_load(&c->stop)) {
		take_wishes(c);
		if (c->link.conn) {
			if (turn(c) < 0) {
				disconnect(c);
			}
		} else if (link_due(&c->link, &wait)) {
			atomic_store(&c->refresh, 0);
			if (connect_now(c) == 0) {
				connected(c);
			} else {
				disconnect(c);
			}
		} else {
			link_wait(&c->link, c->wake, wait);
			(void)acknowledge(c);
		}
	}
	rabbit_link(c->r, &c->r->consuming, 0);
	link_close(&c->link);
	return NULL;
}

chatd_status consumer_try(struct consumer *c, char why[256])
{
	int64_t until = clock_ms() + START_MS;
	struct timespec second = { .tv_sec = 1 };
	for (;;) {
		if (connect_now(c) == 0) {
			connected(c);
			return 0;
		}
		memcpy(why, c->link.why, sizeof(c->link.why));
		enum link_trouble trouble = c->link.trouble;
		disconnect(c);
		if (trouble != LINK_IN_USE) {
			return 0; /* it may come yet */
		}
		if (clock_ms() >= until) {
			return -ENOTUNIQ;
		}
		nanosleep(&second, NULL);
	}
}

static int make_parts(struct consumer *c, struct rabbit *r)
{
	struct chatd_hash_key key;
	r->h->random(&key, sizeof(key));
	c->topics = topics_create(&key, r->conf->unbind_after);
	c->seen = seen_create();
	c->seal = r->conf->sign == SIGN_OFF ? NULL : seal_create(r->conf->keys);
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->inbound.wake = wake;
	c->inbound.arg = c;
	return c->topics && c->seen && (c->seal || r->conf->sign == SIGN_OFF) && c->wake >= 0 &&
					inbound_init(&c->inbound, r) == 0 &&
					acks_init(&c->acks, (size_t)r->conf->prefetch) == 0
			? 0
			: -ENOMEM;
}

struct consumer *consumer_create(struct rabbit *r)
{
	struct consumer *c = r->h->mem_alloc(sizeof(*c));
	if (!c) {
		return NULL;
	}
	c->r = r;
	STAILQ_INIT(&c->wishes);
	TAILQ_INIT(&c->waits);
	pthread_mutex_init(&c->lock, NULL);
	link_init(&c->link, r, "consume");
	wire_node_key(r->node, c->own_key);
	snprintf(c->queue, sizeof(c->queue), "chat.queue.%.*s", (int)r->node.n, r->node.p);
	if (make_parts(c, r) < 0) {
		consumer_destroy(c);
		return NULL;
	}
	return c;
}

int consumer_start(struct consumer *c)
{
	int rc = chatd_thread(&c->thread, "chatd-amqp-in", run, c);
	c->running = rc == 0;
	return rc;
}

static void end_thread(struct consumer *c)
{
	atomic_store(&c->stop, 1);
	consumer_wake(c);
	link_end_thread(&c->link, c->thread, 1000);
}

void consumer_destroy(struct consumer *c)
{
	struct wish *w;
	struct wait *x;
	if (!c) {
		return;
	}
	if (c->running) {
		end_thread(c);
	}
	while ((w = STAILQ_FIRST(&c->wishes))) {
		STAILQ_REMOVE_HEAD(&c->wishes, link);
		free(w->wait); /* its worker has answered it */
		free(w);
	}
	while ((x = TAILQ_FIRST(&c->waits))) {
		TAILQ_REMOVE(&c->waits, x, link);
		free(x);
	}
	forget_delivery(c);
	inbound_finish(&c->inbound);
	acks_finish(&c->acks);
	topics_destroy(c->topics);
	seen_destroy(c->seen);
	seal_destroy(c->seal);
	link_finish(&c->link);
	pthread_mutex_destroy(&c->lock);
	if (c->wake >= 0) {
		close(c->wake);
	}
	c->r->h->mem_free(c);
}
