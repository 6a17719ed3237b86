/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that puts messages into work queues: who sent one is answered when it is safe. */
#include "seal.h"
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	PATIENCE_MS = 4000, /* then a sender is told that it was not taken */
	STEP_MS = 1000,
	IDLE_MS = 60000, /* while no work queue was used */
	FLUSH_MS = 2000,
	TRIES = 3,               /* of a message whose queue is not there */
	QUEUES = 10000,          /* remembered as declared */
	FLYING = 4 * 1024 * 1024 /* bytes without a confirm */
};

struct load {
	struct leg leg;
	struct wire_out *wire;
	chatd_token token; /* 0: nobody waits */
	int64_t until;     /* from then on nobody does */
	struct chatd_dest_conf conf;
	int32_t told; /* the sender believes that it was not taken */
	size_t n;
	char dest[];
};

struct work_out {
	struct rabbit *r;
	struct link link;
	struct window w;
	struct work_queue *queues;
	struct seal *seal; /* NULL: nothing is signed */
	pthread_t thread;
	int32_t running, used;
	int wake;
	atomic_int stop;
	atomic_int away; /* the broker takes nothing: who comes now need not wait */
	pthread_mutex_t lock;
	struct legs given; /* with the lock */
	int32_t blocked, trusted, in_return;
	int64_t flying;
	uint64_t left; /* of a returned message's body */
};

static struct load *load_of(struct leg *l)
{
	return (struct load *)l;
}

static int64_t size_of(const struct load *l)
{
	return (int64_t)(sizeof(*l) + l->n + l->wire->size);
}

/* ---- answers ---------------------------------------------------------------------------- */

static void say(struct rabbit *r, chatd_token token, const char *why)
{
	if (token) {
		(void)r->h->resume(
				token, why ? CHATD_REJECT : CHATD_ACCEPT, why ? "UNAVAILABLE" : NULL, why);
	}
}

static void load_end(struct work_out *o, struct load *l, const char *why)
{
	if (!l->told) {
		count(o->r, why ? COUNT_WORK_REFUSED : COUNT_WORK_IN);
		say(o->r, l->token, why);
	}
	atomic_fetch_sub(&o->r->held, (int_fast64_t)size_of(l));
	free(l->wire);
	free(l);
}

static const char away_text[] = "the broker is away, so the queue cannot take it; try again later";

/* ---- from the workers ----------------------------------------------------------------------- */

static void wake(struct work_out *o)
{
	uint64_t one = 1;
	(void)!write(o->wake, &one, sizeof(one));
}

static struct wire_out *encode(struct rabbit *r, chatd_msg *m, chatd_status *ret_rc)
{
	struct wire_lines lines = { 0 };
	struct wire_out *wire = NULL;
	const char *why;
	struct chatd_str name, value;
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_TOPIC,
		.kind = CHATD_LIT("work"),
		.topic = r->h->msg_dest(m),
		.body = r->h->msg_body(m) };
	for (size_t i = 0; r->h->msg_header(m, i, &name, &value); i++) {
		wire_line_add(&lines, name, value);
	}
	const struct wire_sender s = { .node = r->node,
		.epoch = chatd_str_of(r->epoch, strlen(r->epoch)),
		.number = atomic_fetch_add(&r->numbers, 1) + 1,
		.message_id = r->h->msg_id(m),
		.content_type = r->h->msg_get(m, "content-type"),
		.lines = chatd_str_of(lines.p, lines.n) };
	*ret_rc = lines.failed ? -ENOMEM : wire_encode(&e, &s, &wire, &why);
	free(lines.p);
	return wire;
}

static struct load *load_create(struct rabbit *r, chatd_msg *m, chatd_status *ret_rc)
{
	struct chatd_str dest = r->h->msg_dest(m);
	struct wire_out *wire = encode(r, m, ret_rc);
	struct load *l = wire ? malloc(sizeof(*l) + dest.n) : NULL;
	if (!l) {
		*ret_rc = *ret_rc < 0 ? *ret_rc : -ENOMEM;
		free(wire);
		return NULL;
	}
	memset(l, 0, sizeof(*l));
	l->wire = wire;
	l->n = dest.n;
	memcpy(l->dest, dest.p, dest.n);
	return l;
}

static void refuse(struct work_out *o, chatd_token token, chatd_status rc, const char *why)
{
	count(o->r, COUNT_WORK_REFUSED);
	if (rc == -ENOMEM && token) {
		(void)o->r->h->resume(token, rc, NULL, NULL);
	} else {
		say(o->r, token, why);
	}
}

void work_out_enqueue(struct work_out *o, chatd_worker *w, chatd_msg *m,
		const struct chatd_dest_conf *conf, chatd_token token)
{
	struct rabbit *r = o->r;
	chatd_status rc = 0;
	struct load *l = NULL;
	if (atomic_load(&o->away) || r->homes[r->h->worker_index(w)].stopped) {
		refuse(o, token, 0, away_text);
		return;
	}
	if (atomic_load(&r->held) <= r->conf->queue_max) {
		l = load_create(r, m, &rc);
	}
	if (!l) {
		refuse(o, token, rc,
				rc < 0 ? "its headers and body are too large for a queue of the cluster"
					   : "too much waits for the broker; try again later");
		return;
	}
	l->token = token;
	l->conf = *conf;
	l->until = clock_ms() + PATIENCE_MS;
	atomic_fetch_add(&r->held, (int_fast64_t)size_of(l));
	pthread_mutex_lock(&o->lock);
	int first = STAILQ_EMPTY(&o->given);
	STAILQ_INSERT_TAIL(&o->given, &l->leg, link);
	pthread_mutex_unlock(&o->lock);
	if (first) {
		wake(o);
	}
}

void work_out_hurry(struct work_out *o)
{
	atomic_store(&o->link.hurry, 1);
	wake(o);
}

static void take(struct work_out *o)
{
	struct legs all = STAILQ_HEAD_INITIALIZER(all);
	struct leg *l;
	pthread_mutex_lock(&o->lock);
	STAILQ_CONCAT(&all, &o->given);
	pthread_mutex_unlock(&o->lock);
	while ((l = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		window_push(&o->w, l);
		o->used = 1;
	}
}

/* ---- who has waited too long ------------------------------------------------------------------ */

/* What flies may be in the queue all the same: its sender may send it again, and the queue then
 * has it twice, which is better than not at all. */
static void expire(struct work_out *o)
{
	int64_t now = clock_ms();
	struct leg *l;
	STAILQ_FOREACH (l, &o->w.flying, link) {
		struct load *x = load_of(l);
		if (x->until > now) {
			break;
		}
		if (!x->told) {
			count(o->r, COUNT_WORK_REFUSED);
			say(o->r, x->token, away_text);
			x->told = 1;
		}
	}
	while ((l = STAILQ_FIRST(&o->w.waiting)) && load_of(l)->until <= now) {
		STAILQ_REMOVE_HEAD(&o->w.waiting, link);
		o->w.n_waiting--;
		load_end(o, load_of(l), away_text);
	}
}

static int64_t until_expiry(const struct work_out *o)
{
	const struct leg *l = STAILQ_FIRST(&o->w.waiting);
	int64_t left = l ? ((const struct load *)l)->until - clock_ms() : STEP_MS;
	return left < 0 ? 0 : left < STEP_MS ? left : STEP_MS;
}

/* ---- connecting ----------------------------------------------------------------------------------- */

static void forget_queues(struct work_out *o)
{
	struct work_queue *q, *next;
	HASH_ITER(hh, o->queues, q, next)
	{
		HASH_DEL(o->queues, q);
		free(q);
	}
}

static void undeclare(struct work_out *o)
{
	struct work_queue *q, *next;
	HASH_ITER(hh, o->queues, q, next)
	{
		q->declared_at = 0;
	}
}

static void disconnect(struct work_out *o)
{
	struct legs keep = STAILQ_HEAD_INITIALIZER(keep);
	struct leg *l;
	size_t n = 0;
	/* A connection that was lost is often back at once; one that cannot be made is not. */
	atomic_store(&o->away, !o->link.was_up);
	link_drop(&o->link);
	window_reset(&o->w);
	o->flying = 0;
	o->in_return = 0;
	undeclare(o);
	while ((l = STAILQ_FIRST(&o->w.waiting))) {
		STAILQ_REMOVE_HEAD(&o->w.waiting, link);
		if (load_of(l)->told) {
			load_end(o, load_of(l), away_text);
		} else {
			STAILQ_INSERT_TAIL(&keep, l, link);
			n++;
		}
	}
	STAILQ_CONCAT(&o->w.waiting, &keep);
	o->w.n_waiting = n;
}

static int connect_now(struct work_out *o)
{
	if (link_open(&o->link) < 0 || link_exchange(&o->link) < 0) {
		return -1;
	}
	amqp_confirm_select(o->link.conn, LINK_CHANNEL);
	return link_check(&o->link, "confirms");
}

static void connect_again(struct work_out *o)
{
	if (connect_now(o) < 0) {
		disconnect(o);
		return;
	}
	link_works(&o->link);
	o->blocked = 0;
	o->trusted = 0;
	atomic_store(&o->away, 0);
}

/* ---- publishing -------------------------------------------------------------------------------------- */

/* Declared again now and then: a queue that is only written to is in use as well. */
static struct work_queue *declared(struct work_out *o, const struct load *l)
{
	struct chatd_str dest = chatd_str_of(l->dest, l->n);
	if (HASH_COUNT(o->queues) >= QUEUES && !work_queue_find(o->queues, dest)) {
		forget_queues(o);
	}
	struct work_queue *q = work_queue_obtain(&o->queues, dest, &l->conf);
	if (!q) {
		link_failed(&o->link, "publish", AMQP_STATUS_NO_MEMORY);
		return NULL;
	}
	int64_t age = clock_ms() - q->declared_at;
	if (q->declared_at && age < o->r->conf->work_expires / 4) {
		return q;
	}
	return work_declare(&o->link, q) < 0 ? NULL : q;
}

static int send_one(struct work_out *o, struct leg *leg)
{
	struct load *l = load_of(leg);
	amqp_basic_properties_t props = l->wire->props;
	char tag[24], sig[SEAL_TEXT + 1];
	const struct work_queue *q = declared(o, l);
	if (!q) {
		return -1;
	}
	if (o->seal &&
			seal_stamp(o->seal, q->name, &props, wire_str(l->wire->body), o->r->h->wall_ms(), sig) <
					0) {
		return link_failed(&o->link, "sign", AMQP_STATUS_NO_MEMORY);
	}
	/* The broker names a returned message by nothing else that is ours. */
	snprintf(tag, sizeof(tag), "%llu", (unsigned long long)leg->tag);
	props.correlation_id = amqp_cstring_bytes(tag);
	int rc = amqp_basic_publish(o->link.conn, LINK_CHANNEL, amqp_cstring_bytes("chat.exchange"),
			amqp_cstring_bytes(q->name), 1, 0, &props, l->wire->body);
	leg->tries++;
	return rc == AMQP_STATUS_OK ? 0 : link_failed(&o->link, "publish", rc);
}

static int send_some(struct work_out *o)
{
	/* The first one alone, as in publisher.c: a broker short of memory says so after it. */
	size_t window = o->trusted ? (size_t)o->r->conf->window : 1;
	int64_t now = clock_ms();
	while (!o->blocked && o->w.n_flying < window && !STAILQ_EMPTY(&o->w.waiting)) {
		struct leg *l = STAILQ_FIRST(&o->w.waiting);
		if (o->flying && o->flying + size_of(load_of(l)) > FLYING) {
			break;
		}
		l = window_send(&o->w, NULL, now);
		o->flying += size_of(load_of(l));
		if (send_one(o, l) < 0) {
			return -1;
		}
	}
	return 0;
}

/* ---- what the broker says ------------------------------------------------------------------------------ */

/* @p again: what is sent once more. */
static void settle(struct work_out *o, struct leg *leg, struct legs *again)
{
	struct load *l = load_of(leg);
	if (leg->refused) {
		load_end(o, l, "the queue is full; try again later");
	} else if (!leg->returned) {
		load_end(o, l, NULL);
	} else if (leg->tries < TRIES && !l->told) {
		/* Deleted, or expired: it is made again. */
		struct work_queue *q = work_queue_find(o->queues, chatd_str_of(l->dest, l->n));
		if (q) {
			q->declared_at = 0;
		}
		STAILQ_INSERT_TAIL(again, leg, link);
	} else {
		load_end(o, l, "the broker has no such queue; try again later");
	}
}

static int on_answer(struct work_out *o, uint64_t tag, int multiple, int refused)
{
	struct legs again = STAILQ_HEAD_INITIALIZER(again);
	struct leg *l;
	if (!window_answer(&o->w, tag, multiple, refused)) {
		return link_failed(&o->link, "a confirm of what was not sent", AMQP_STATUS_BAD_AMQP_DATA);
	}
	o->trusted = 1;
	while ((l = window_settle(&o->w))) {
		o->flying -= size_of(load_of(l));
		settle(o, l, &again);
	}
	window_put_back(&o->w, &again);
	return 0;
}

static void set_blocked(struct work_out *o, int on)
{
	o->blocked = on;
	atomic_store(&o->away, on);
	if (!on) {
		window_forgive(&o->w, clock_ms());
	}
	o->r->h->log(o->r->ctx, on ? CHATD_LOG_WARN : CHATD_LOG_INFO,
			on ? "the broker takes no messages for now: SENDs to work queues are refused"
			   : "the broker takes messages for work queues again");
}

static int on_method(struct work_out *o, const amqp_method_t *m)
{
	switch (m->id) {
	case AMQP_BASIC_ACK_METHOD: {
		const amqp_basic_ack_t *a = m->decoded;
		return on_answer(o, a->delivery_tag, a->multiple, 0);
	}
	case AMQP_BASIC_NACK_METHOD: {
		const amqp_basic_nack_t *a = m->decoded;
		return on_answer(o, a->delivery_tag, a->multiple, 1);
	}
	case AMQP_BASIC_RETURN_METHOD:
		o->in_return = 1;
		return 0;
	case AMQP_CHANNEL_CLOSE_METHOD:
	case AMQP_CONNECTION_CLOSE_METHOD:
		return link_closed(&o->link, m);
	case AMQP_CONNECTION_BLOCKED_METHOD:
		set_blocked(o, 1);
		return 0;
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		set_blocked(o, 0);
		return 0;
	default:
		return 0;
	}
}

static void on_head(struct work_out *o, const amqp_frame_t *f)
{
	const amqp_basic_properties_t *props = f->payload.properties.decoded;
	char text[24] = "";
	o->left = f->payload.properties.body_size;
	o->in_return = o->left > 0;
	if (f->payload.properties.class_id != AMQP_BASIC_CLASS ||
			!(props->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) ||
			props->correlation_id.len >= sizeof(text)) {
		return;
	}
	memcpy(text, props->correlation_id.bytes, props->correlation_id.len);
	window_return(&o->w, strtoull(text, NULL, 10));
}

static int receive(struct work_out *o)
{
	amqp_frame_t f;
	int rc;
	while ((rc = link_frame(&o->link, &f)) > 0) {
		if (f.frame_type == AMQP_FRAME_METHOD) {
			if (on_method(o, &f.payload.method) < 0) {
				return -1;
			}
		} else if (f.frame_type == AMQP_FRAME_HEADER && o->in_return) {
			on_head(o, &f);
		} else if (f.frame_type == AMQP_FRAME_BODY && o->in_return) {
			size_t n = f.payload.body_fragment.len;
			o->left -= n < o->left ? n : o->left;
			o->in_return = o->left > 0;
		}
	}
	return rc;
}

static int overdue(struct work_out *o)
{
	int64_t oldest = o->blocked ? -1 : window_oldest(&o->w);
	if (oldest >= 0 && clock_ms() - oldest > o->r->conf->confirm_timeout) {
		return link_failed(&o->link, "no confirm came", AMQP_STATUS_TIMEOUT);
	}
	return 0;
}

/* ---- the thread ------------------------------------------------------------------------------------------ */

static int turn(struct work_out *o)
{
	if (send_some(o) < 0) {
		return -1;
	}
	link_wait(&o->link, o->wake, until_expiry(o));
	return receive(o) < 0 || overdue(o) < 0 ? -1 : 0;
}

static int is_over(struct work_out *o, int64_t *until)
{
	if (!atomic_load(&o->stop)) {
		return 0;
	}
	*until = *until ? *until : clock_ms() + FLUSH_MS;
	return !o->link.conn || clock_ms() >= *until || (!o->w.n_waiting && !o->w.n_flying);
}

static void *run(void *arg)
{
	struct work_out *o = arg;
	int64_t until = 0, wait;
	for (take(o); !is_over(o, &until); take(o)) {
		expire(o);
		if (o->link.conn) {
			if (turn(o) < 0) {
				disconnect(o);
			}
		} else if (!o->used) {
			link_wait(&o->link, o->wake, IDLE_MS);
		} else if (link_due(&o->link, &wait)) {
			connect_again(o);
		} else {
			int64_t left = until_expiry(o);
			link_wait(&o->link, o->wake, wait < left ? wait : left);
		}
	}
	link_close(&o->link);
	return NULL;
}

struct work_out *work_out_create(struct rabbit *r)
{
	struct work_out *o = r->h->mem_alloc(sizeof(*o));
	if (!o) {
		return NULL;
	}
	o->r = r;
	o->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	link_init(&o->link, r, "put into work queues");
	window_init(&o->w);
	STAILQ_INIT(&o->given);
	pthread_mutex_init(&o->lock, NULL);
	o->seal = r->conf->sign == SIGN_OFF ? NULL : seal_create(r->conf->keys);
	if (o->wake < 0 || (r->conf->sign != SIGN_OFF && !o->seal)) {
		work_out_destroy(o);
		return NULL;
	}
	return o;
}

int work_out_start(struct work_out *o)
{
	int rc = chatd_thread(&o->thread, "chatd-work-out", run, o);
	o->running = rc == 0;
	return rc;
}

static void end_thread(struct work_out *o)
{
	atomic_store(&o->stop, 1);
	wake(o);
	link_end_thread(&o->link, o->thread, 1000 + FLUSH_MS);
}

void work_out_destroy(struct work_out *o)
{
	struct leg *l;
	if (!o) {
		return;
	}
	if (o->running) {
		end_thread(o);
	}
	take(o);
	window_reset(&o->w);
	while ((l = STAILQ_FIRST(&o->w.waiting))) {
		STAILQ_REMOVE_HEAD(&o->w.waiting, link);
		load_of(l)->told = 1; /* its session has ended */
		load_end(o, load_of(l), NULL);
	}
	forget_queues(o);
	seal_destroy(o->seal);
	link_finish(&o->link);
	pthread_mutex_destroy(&o->lock);
	if (o->wake >= 0) {
		close(o->wake);
	}
	o->r->h->mem_free(o);
}
