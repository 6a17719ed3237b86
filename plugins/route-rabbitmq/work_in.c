/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that takes messages out of work queues, for the consumers of this node. */
#include "message.h"
#include "seal.h"
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { STEP_MS = 1000, IDLE_MS = 60000, AGAIN_MS = 1000, SOME = 50 };

/* A handle: the connection, then the broker's tag. */
#define TAG_BITS        40
#define GENERATION_MASK ((1u << 22) - 1)

struct demand {
	STAILQ_ENTRY(demand) link;
	int32_t on;
	struct chatd_dest_conf conf;
	size_t n;
	char dest[];
};

struct settled {
	uint64_t handle;
	int32_t how;
};

struct work_in {
	struct rabbit *r;
	struct link link;
	pthread_t thread;
	int32_t running, used;
	int wake;
	atomic_int stop, again; /* again: something was lost, the broker is to give all of it anew */
	pthread_mutex_t lock;
	STAILQ_HEAD(demands, demand) demands; /* with the lock */
	struct settled *settled;              /* with the lock */
	size_t n_settled, cap_settled;        /* with the lock */
	struct work_queue *queues, *by_serial;
	uint32_t serials, generation;
	int32_t dirty; /* some queue is wanted and not consumed, or the other way round */
	struct nag poison;
	struct seal *seal; /* NULL: signatures are not looked at */
	/* The delivery that is coming in, frame by frame. */
	int32_t state, redelivered;
	int32_t sealed; /* 1: it is signed, and the signature not verified yet */
	uint64_t tag, left, got;
	struct work_queue *from; /* NULL: not wanted any more */
	struct wire_in *in;      /* NULL: it is refused already */
};
enum { IDLE, HEAD, BODY };

/* ---- from the workers -------------------------------------------------------------------- */

static void wake(struct work_in *c)
{
	uint64_t one = 1;
	(void)!write(c->wake, &one, sizeof(one));
}

void work_in_demand(
		struct work_in *c, struct chatd_str dest, const struct chatd_dest_conf *conf, int32_t on)
{
	struct demand *d = malloc(sizeof(*d) + dest.n);
	if (!d) {
		c->r->h->log(c->r->ctx, CHATD_LOG_ERROR,
				"no memory: the consumers of %.*s are told nothing until others come",
				(int)(dest.n < 100 ? dest.n : 100), dest.p);
		return;
	}
	d->on = on;
	d->conf = *conf;
	d->n = dest.n;
	memcpy(d->dest, dest.p, dest.n);
	pthread_mutex_lock(&c->lock);
	STAILQ_INSERT_TAIL(&c->demands, d, link);
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

void work_in_settled(struct work_in *c, uint64_t handle, int32_t how)
{
	pthread_mutex_lock(&c->lock);
	int first = c->n_settled == 0;
	if (c->n_settled == c->cap_settled) {
		size_t cap = c->cap_settled ? c->cap_settled * 2 : 64;
		struct settled *more = realloc(c->settled, cap * sizeof(*more));
		if (more) {
			c->settled = more;
			c->cap_settled = cap;
		}
	}
	if (c->n_settled < c->cap_settled) {
		c->settled[c->n_settled++] = (struct settled){ handle, how };
	} else {
		atomic_store(&c->again, 1);
	}
	pthread_mutex_unlock(&c->lock);
	if (first) {
		wake(c);
	}
}

void work_in_hurry(struct work_in *c)
{
	atomic_store(&c->link.hurry, 1);
	wake(c);
}

/* ---- what is wanted -------------------------------------------------------------------------- */

static void queue_drop(struct work_in *c, struct work_queue *q)
{
	if (c->from == q) {
		c->from = NULL;
	}
	HASH_DELETE(by_serial, c->by_serial, q);
	HASH_DELETE(hh, c->queues, q);
	free(q);
}

static struct work_queue *queue_obtain(struct work_in *c, const struct demand *d)
{
	struct chatd_str dest = chatd_str_of(d->dest, d->n);
	struct work_queue *q = work_queue_obtain(&c->queues, dest, &d->conf);
	if (!q || q->serial) {
		return q;
	}
	q->serial = ++c->serials;
	HASH_ADD(by_serial, c->by_serial, serial, sizeof(q->serial), q);
	if (!q->by_serial.tbl) {
		HASH_DELETE(hh, c->queues, q);
		free(q);
		return NULL;
	}
	return q;
}

static void apply(struct work_in *c, const struct demand *d)
{
	struct work_queue *q =
			d->on ? queue_obtain(c, d) : work_queue_find(c->queues, chatd_str_of(d->dest, d->n));
	if (!q && d->on) {
		c->r->h->log(c->r->ctx, CHATD_LOG_ERROR,
				"no memory: the consumers of %.*s are told nothing until others come",
				(int)(d->n < 100 ? d->n : 100), d->dest);
	}
	if (q) {
		q->wanted = d->on;
		c->dirty = 1;
		c->used = 1;
	}
}

static void take_demands(struct work_in *c)
{
	struct demands all = STAILQ_HEAD_INITIALIZER(all);
	struct demand *d;
	pthread_mutex_lock(&c->lock);
	STAILQ_CONCAT(&all, &c->demands);
	pthread_mutex_unlock(&c->lock);
	while ((d = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		apply(c, d);
		free(d);
	}
}

static int start(struct work_in *c, struct work_queue *q)
{
	char tag[24];
	snprintf(tag, sizeof(tag), "w%u", q->serial);
	if (work_declare(&c->link, q) < 0) {
		return -1;
	}
	amqp_basic_consume(c->link.conn, LINK_CHANNEL, amqp_cstring_bytes(q->name),
			amqp_cstring_bytes(tag), 0, 0, 0, amqp_empty_table);
	q->consuming = 1;
	return link_check(&c->link, q->name);
}

static int end(struct work_in *c, struct work_queue *q)
{
	char tag[24];
	snprintf(tag, sizeof(tag), "w%u", q->serial);
	amqp_basic_cancel(c->link.conn, LINK_CHANNEL, amqp_cstring_bytes(tag));
	queue_drop(c, q);
	return link_check(&c->link, "cancel");
}

/* A few at a time: each is a question to the broker, and acknowledgements wait meanwhile. */
static int demand_some(struct work_in *c)
{
	struct work_queue *q, *next;
	int64_t now = clock_ms();
	int n = 0, later = 0;
	HASH_ITER(hh, c->queues, q, next)
	{
		if (q->wanted == q->consuming && q->wanted) {
			continue;
		}
		if (n == SOME || q->retry_at > now) {
			later = 1;
			continue;
		}
		n++;
		if (!q->wanted && !q->consuming) {
			queue_drop(c, q);
		} else if ((q->wanted ? start(c, q) : end(c, q)) < 0) {
			return -1;
		}
	}
	c->dirty = later;
	return 0;
}

/* ---- acknowledging --------------------------------------------------------------------------------- */

static int tell(struct work_in *c, uint64_t tag, int32_t how)
{
	int rc = how == CHATD_SETTLED ? amqp_basic_ack(c->link.conn, LINK_CHANNEL, tag, 0)
								  : amqp_basic_nack(c->link.conn, LINK_CHANNEL, tag, 0, 1);
	count(c->r, how == CHATD_SETTLED ? COUNT_WORK_OUT : COUNT_WORK_AGAIN);
	return rc == AMQP_STATUS_OK ? 0 : link_failed(&c->link, "acknowledge", rc);
}

static int settle_all(struct work_in *c)
{
	int rc = 0;
	pthread_mutex_lock(&c->lock);
	struct settled *all = c->settled;
	size_t n = c->n_settled;
	c->settled = NULL;
	c->n_settled = c->cap_settled = 0;
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < n && rc == 0; i++) {
		/* Of an earlier connection: the broker has given it to somebody else. */
		if (c->link.conn && all[i].handle >> TAG_BITS == c->generation) {
			rc = tell(c, all[i].handle & (((uint64_t)1 << TAG_BITS) - 1), all[i].how);
		}
	}
	free(all);
	return rc;
}

/* ---- to the queue's home -------------------------------------------------------------------------------- */

struct brought {
	struct work_in *c;
	chatd_worker *home;
	chatd_msg *msg;
	uint64_t handle;
};

static void on_brought(void *arg)
{
	struct brought *b = arg;
	const struct chatd_host *h = b->c->r->h;
	/* Once this worker has stopped, the broker gets it back with the connection. */
	if (!b->c->r->homes[h->worker_index(b->home)].stopped &&
			h->queue_give(b->home, b->msg, b->handle) < 0) {
		work_in_settled(b->c, b->handle, CHATD_SETTLED_AGAIN);
	}
	h->msg_unref(b->msg);
	h->mem_free(b);
}

static chatd_status bring(struct work_in *c, chatd_msg *m)
{
	const struct chatd_host *h = c->r->h;
	struct brought *b = h->mem_alloc(sizeof(*b));
	if (!b) {
		return -ENOMEM;
	}
	b->c = c;
	b->home = h->dest_home(h->msg_dest(m));
	b->msg = h->msg_ref(m);
	b->handle = (uint64_t)c->generation << TAG_BITS | c->tag;
	chatd_status rc = h->post(b->home, on_brought, b);
	if (rc < 0) {
		h->msg_unref(b->msg);
		h->mem_free(b);
	}
	return rc;
}

/* ---- deliveries ---------------------------------------------------------------------------------------------- */

/* For good: whoever had it next could do no more with it. */
static int refuse(struct work_in *c, int what, const char *why)
{
	uint64_t more;
	count(c->r, what);
	if (nag_due(&c->poison, &more)) {
		c->r->h->log(c->r->ctx, CHATD_LOG_WARN,
				"a message in the work queue %s is refused: %s (%llu more in the last minute)",
				c->from ? c->from->name : "", why, (unsigned long long)more);
	}
	int rc = amqp_basic_reject(c->link.conn, LINK_CHANNEL, c->tag, 0);
	return rc == AMQP_STATUS_OK ? 0 : link_failed(&c->link, "refuse", rc);
}

static int is_work(const struct work_in *c, const struct wire_in *in)
{
	return in->e.kind.n == 4 && memcmp(in->e.kind.p, "work", 4) == 0 &&
			in->e.topic.n == c->from->n && memcmp(in->e.topic.p, c->from->dest, c->from->n) == 0;
}

static int drop(struct work_in *c, int what, const char *why)
{
	free(c->in);
	c->in = NULL;
	return refuse(c, what, why);
}

/* In a queue of its own: the key that it came by means nothing. */
static int begin_seal(struct work_in *c, const amqp_frame_t *f)
{
	const struct sealed m = { .rkey = chatd_str_of(c->from->name, strlen(c->from->name)),
		.props = f->payload.properties.decoded,
		.body_size = f->payload.properties.body_size };
	if (!c->seal) {
		return 0;
	}
	switch (seal_begin(c->seal, &m)) {
	case SEAL_GOOD:
		c->sealed = 1;
		return 0;
	case SEAL_UNSIGNED:
		return c->r->conf->sign == SIGN_ACCEPT ? 0 : drop(c, COUNT_UNSIGNED, "it is not signed");
	case SEAL_FAILED:
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	default:
		return drop(c, COUNT_FORGED, "it is signed with none of our keys");
	}
}

/* 1: it may be what it says.  However old: a queue keeps it, and may give it twice as well. */
static int end_seal(struct work_in *c)
{
	enum seal_verdict v = c->sealed ? seal_end(c->seal, c->r->h->wall_ms()) : SEAL_GOOD;
	if (v == SEAL_FAILED) {
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	if (v == SEAL_GOOD || v == SEAL_OLD) {
		return 1;
	}
	return drop(c, COUNT_FORGED, "its signature is wrong: it was changed, or made up");
}

static int on_head(struct work_in *c, const amqp_frame_t *f)
{
	const char *why;
	struct wire_source from = { .routing_key = CHATD_LIT(""),
		.body_size = f->payload.properties.body_size };
	c->left = from.body_size;
	c->got = 0;
	c->sealed = 0;
	c->state = BODY;
	if (!c->from) {
		return 0;
	}
	enum wire_verdict v = wire_decode(f->payload.properties.decoded, &from, &c->in, &why);
	if (v == WIRE_OK && !c->in) {
		return link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY);
	}
	if (v == WIRE_OK && is_work(c, c->in)) {
		return begin_seal(c, f);
	}
	if (v == WIRE_FOREIGN) {
		return drop(c, COUNT_FOREIGN, "it is of another program");
	}
	return drop(
			c, COUNT_POISON, v == WIRE_OK || v == WIRE_BATCH ? "it is not for this queue" : why);
}

static chatd_msg *message_of(struct work_in *c, chatd_status *ret_rc)
{
	const struct chatd_host *h = c->r->h;
	chatd_msg *m = message_in(c->r, c->in, ret_rc);
	if (m && c->redelivered) {
		*ret_rc = h->msg_set(m, "redelivered", CHATD_LIT("true"));
		if (*ret_rc < 0) {
			h->msg_unref(m);
			m = NULL;
		}
	}
	return m;
}

static int complete(struct work_in *c)
{
	c->state = IDLE;
	if (!c->from) {
		return tell(c, c->tag, CHATD_SETTLED_AGAIN);
	}
	int good = c->in ? end_seal(c) : 0;
	if (good <= 0) {
		return good;
	}
	chatd_status rc = 0;
	chatd_msg *m = message_of(c, &rc);
	if (!m) {
		return rc == -ENOMEM ? link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY)
							 : drop(c, COUNT_POISON, "its headers are no text");
	}
	free(c->in);
	c->in = NULL;
	rc = bring(c, m);
	c->r->h->msg_unref(m);
	return rc == -ENOMEM ? link_failed(&c->link, "delivery", AMQP_STATUS_NO_MEMORY) : 0;
}

static struct work_queue *by_tag(const struct work_in *c, amqp_bytes_t tag)
{
	struct work_queue *q = NULL;
	char text[16] = "";
	if (tag.len < 2 || tag.len >= sizeof(text)) {
		return NULL;
	}
	memcpy(text, tag.bytes, tag.len);
	uint32_t serial = (uint32_t)strtoul(text + 1, NULL, 10);
	HASH_FIND(by_serial, c->by_serial, &serial, sizeof(serial), q);
	return q;
}

static int on_deliver(struct work_in *c, const amqp_basic_deliver_t *m)
{
	if (c->state != IDLE || m->delivery_tag >> TAG_BITS) {
		return link_failed(&c->link, "a delivery out of turn", AMQP_STATUS_BAD_AMQP_DATA);
	}
	c->state = HEAD;
	c->tag = m->delivery_tag;
	c->redelivered = m->redelivered;
	c->from = by_tag(c, m->consumer_tag);
	return 0;
}

/* ---- what the broker says -------------------------------------------------------------------------------------- */

/* The queue was deleted: it is made again. */
static void on_cancel(struct work_in *c, const amqp_basic_cancel_t *m)
{
	struct work_queue *q = by_tag(c, m->consumer_tag);
	if (q) {
		q->consuming = 0;
		q->retry_at = clock_ms() + AGAIN_MS;
		c->dirty = 1;
	}
}

static int on_method(struct work_in *c, const amqp_method_t *m)
{
	switch (m->id) {
	case AMQP_BASIC_DELIVER_METHOD:
		return on_deliver(c, m->decoded);
	case AMQP_BASIC_CANCEL_METHOD:
		on_cancel(c, m->decoded);
		return 0;
	case AMQP_CHANNEL_CLOSE_METHOD:
	case AMQP_CONNECTION_CLOSE_METHOD:
		return link_closed(&c->link, m);
	default:
		return 0;
	}
}

static int on_body(struct work_in *c, amqp_bytes_t piece)
{
	if (piece.len > c->left) {
		return link_failed(&c->link, "a body longer than it says", AMQP_STATUS_BAD_AMQP_DATA);
	}
	if (c->in) {
		memcpy(c->in->body + c->got, piece.bytes, piece.len);
	}
	if (c->in && c->sealed) {
		seal_body(c->seal, piece);
	}
	c->got += piece.len;
	c->left -= piece.len;
	return 0;
}

static int on_frame(struct work_in *c, const amqp_frame_t *f)
{
	int rc;
	if (f->frame_type == AMQP_FRAME_METHOD) {
		return on_method(c, &f->payload.method);
	}
	if (f->frame_type == AMQP_FRAME_HEADER && c->state == HEAD &&
			f->payload.properties.class_id == AMQP_BASIC_CLASS) {
		rc = on_head(c, f);
	} else if (f->frame_type == AMQP_FRAME_BODY && c->state == BODY) {
		rc = on_body(c, f->payload.body_fragment);
	} else {
		return link_failed(&c->link, "a frame out of turn", AMQP_STATUS_BAD_AMQP_DATA);
	}
	return rc == 0 && c->state == BODY && c->left == 0 ? complete(c) : rc;
}

static int receive(struct work_in *c)
{
	amqp_frame_t f;
	int rc;
	while ((rc = link_frame(&c->link, &f)) > 0) {
		if (on_frame(c, &f) < 0) {
			return -1;
		}
	}
	return rc;
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static void disconnect(struct work_in *c)
{
	struct work_queue *q, *next;
	free(c->in);
	c->in = NULL;
	c->from = NULL;
	c->state = IDLE;
	HASH_ITER(hh, c->queues, q, next)
	{
		q->declared_at = 0;
		q->consuming = 0;
	}
	c->dirty = 1;
	link_drop(&c->link);
}

static int connect_now(struct work_in *c)
{
	if (link_open(&c->link) < 0 || link_exchange(&c->link) < 0) {
		return -1;
	}
	/* Of each queue: a consumer that takes its time must not hold up other queues. */
	amqp_basic_qos(c->link.conn, LINK_CHANNEL, 0, (uint16_t)c->r->conf->work_prefetch, 0);
	return link_check(&c->link, "prefetch");
}

static void connect_again(struct work_in *c)
{
	atomic_store(&c->again, 0);
	if (connect_now(c) < 0) {
		disconnect(c);
		return;
	}
	c->generation = (c->generation + 1) & GENERATION_MASK;
	link_works(&c->link);
}

static int turn(struct work_in *c)
{
	if (atomic_load(&c->again)) {
		return link_failed(&c->link, "acknowledge", AMQP_STATUS_NO_MEMORY);
	}
	/* Cancelled first: what is given back goes to others then. */
	if ((c->dirty && demand_some(c) < 0) || settle_all(c) < 0) {
		return -1;
	}
	link_wait(&c->link, c->wake, c->dirty ? STEP_MS / 10 : STEP_MS);
	return receive(c);
}

static void *run(void *arg)
{
	struct work_in *c = arg;
	int64_t wait;
	while (!atomic_load(&c->stop)) {
		take_demands(c);
		if (c->link.conn) {
			if (turn(c) < 0) {
				disconnect(c);
			}
		} else if (!c->used) {
			link_wait(&c->link, c->wake, IDLE_MS);
		} else if (link_due(&c->link, &wait)) {
			connect_again(c);
		} else {
			link_wait(&c->link, c->wake, wait);
			(void)settle_all(c);
		}
	}
	if (c->link.conn) {
		(void)settle_all(c); /* what was acknowledged while the server ended */
	}
	link_close(&c->link);
	return NULL;
}

struct work_in *work_in_create(struct rabbit *r)
{
	struct work_in *c = r->h->mem_alloc(sizeof(*c));
	if (!c) {
		return NULL;
	}
	c->r = r;
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	link_init(&c->link, r, "consume work queues");
	STAILQ_INIT(&c->demands);
	pthread_mutex_init(&c->lock, NULL);
	c->seal = r->conf->sign == SIGN_OFF ? NULL : seal_create(r->conf->keys);
	if (c->wake < 0 || (r->conf->sign != SIGN_OFF && !c->seal)) {
		work_in_destroy(c);
		return NULL;
	}
	return c;
}

int work_in_start(struct work_in *c)
{
	int rc = chatd_thread(&c->thread, "chatd-work-in", run, c);
	c->running = rc == 0;
	return rc;
}

static void end_thread(struct work_in *c)
{
	atomic_store(&c->stop, 1);
	wake(c);
	link_end_thread(&c->link, c->thread, 1000);
}

void work_in_destroy(struct work_in *c)
{
	struct work_queue *q, *next;
	struct demand *d;
	if (!c) {
		return;
	}
	if (c->running) {
		end_thread(c);
	}
	while ((d = STAILQ_FIRST(&c->demands))) {
		STAILQ_REMOVE_HEAD(&c->demands, link);
		free(d);
	}
	HASH_ITER(hh, c->queues, q, next)
	{
		queue_drop(c, q);
	}
	free(c->in);
	free(c->settled);
	seal_destroy(c->seal);
	link_finish(&c->link);
	pthread_mutex_destroy(&c->lock);
	if (c->wake >= 0) {
		close(c->wake);
	}
	c->r->h->mem_free(c);
}
