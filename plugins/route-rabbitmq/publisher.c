/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that publishes: in order, a window of messages ahead of the broker's confirms. */
#include "link.h"
#include "seal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	CANARY_MS = 2000,
	FLUSH_MS = 2000,     /* at the end */
	STEP_MS = 1000,      /* longest sleep: heartbeats are kept up by calls of the library */
	TRIES = 5,           /* of a message that the broker refuses */
	FLYING = 1024 * 1024 /* bytes without a confirm; a larger message flies alone */
};

struct publisher {
	struct rabbit *r;
	struct link link;
	struct seal *seal; /* NULL: nothing is signed */
	struct window w;
	pthread_t thread;
	int32_t running;
	int wake;
	atomic_int stop;
	pthread_mutex_t lock;
	struct legs given; /* with the lock */
	int32_t blocked;   /* the broker takes nothing just now */
	int32_t trusted;   /* it has confirmed something on this connection */
	int64_t canary_at, flying;
	uint64_t left; /* of a returned message's body */
	int32_t in_return;
};

static struct parcel *parcel_of(struct leg *l)
{
	return (struct parcel *)l;
}

static int64_t size_of(struct leg *l)
{
	return (int64_t)parcel_of(l)->item->wire->size;
}

/* ---- to and from the workers ------------------------------------------------------------- */

void publisher_push(struct publisher *p, struct parcel *parcel)
{
	pthread_mutex_lock(&p->lock);
	int first = STAILQ_EMPTY(&p->given);
	STAILQ_INSERT_TAIL(&p->given, &parcel->leg, link);
	pthread_mutex_unlock(&p->lock);
	if (first) {
		publisher_wake(p);
	}
}

void publisher_wake(struct publisher *p)
{
	uint64_t one = 1;
	(void)!write(p->wake, &one, sizeof(one));
}

static void take(struct publisher *p)
{
	struct legs all = STAILQ_HEAD_INITIALIZER(all);
	struct leg *l;
	pthread_mutex_lock(&p->lock);
	STAILQ_CONCAT(&all, &p->given);
	pthread_mutex_unlock(&p->lock);
	while ((l = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		if (p->link.conn || !parcel_of(l)->item->ephemeral) {
			window_push(&p->w, l);
		} else {
			count(p->r, COUNT_AWAY);
			parcel_settle(parcel_of(l), -ENOTCONN);
		}
	}
}

/* ---- connecting -------------------------------------------------------------------------------- */

/* What must not be late is not kept while the broker is away. */
static void drop_ephemeral(struct publisher *p)
{
	struct legs keep = STAILQ_HEAD_INITIALIZER(keep);
	struct leg *l;
	size_t n = 0;
	while ((l = STAILQ_FIRST(&p->w.waiting))) {
		STAILQ_REMOVE_HEAD(&p->w.waiting, link);
		if (parcel_of(l)->item->ephemeral) {
			if (!parcel_of(l)->item->canary) {
				count(p->r, COUNT_AWAY);
			}
			parcel_settle(parcel_of(l), -ENOTCONN);
		} else {
			STAILQ_INSERT_TAIL(&keep, l, link);
			n++;
		}
	}
	STAILQ_CONCAT(&p->w.waiting, &keep);
	p->w.n_waiting = n;
}

static void disconnect(struct publisher *p)
{
	rabbit_link(p->r, &p->r->publishing, 0);
	if (p->link.trouble == LINK_MISSING) {
		consumer_refresh(p->r->consumer); /* with the exchange went the bindings */
	}
	link_drop(&p->link);
	window_reset(&p->w);
	p->flying = 0;
	p->in_return = 0;
	drop_ephemeral(p);
}

static int connect_now(struct publisher *p)
{
	if (link_open(&p->link) < 0 || link_exchange(&p->link) < 0) {
		return -1;
	}
	amqp_confirm_select(p->link.conn, LINK_CHANNEL);
	return link_check(&p->link, "confirms");
}

static void connect_again(struct publisher *p)
{
	int again = p->link.was_up;
	if (connect_now(p) < 0) {
		disconnect(p);
		return;
	}
	if (p->link.failures || again) {
		count(p->r, COUNT_RECONNECTS);
	}
	link_works(&p->link);
	p->blocked = 0;
	p->trusted = 0;
	p->canary_at = 0;
	p->in_return = 0;
	rabbit_link(p->r, &p->r->publishing, 1);
}

/* ---- publishing --------------------------------------------------------------------------------- */

/* Into the spare entries, which belong to this thread by now. */
static int sign(struct publisher *p, const struct parcel *parcel, amqp_basic_properties_t *props,
		char ret[SEAL_TEXT + 1])
{
	amqp_table_t *t = &props->headers;
	const struct sealed m = { .rkey = chatd_str_of(parcel->rkey, strlen(parcel->rkey)),
		.props = props,
		.body_size = parcel->item->wire->body.len };
	amqp_table_entry_t *time = &t->entries[t->num_entries++];
	time->key = amqp_cstring_bytes("chatd-time");
	time->value.kind = AMQP_FIELD_KIND_I64;
	time->value.value.i64 = p->r->h->wall_ms();
	int rc = seal_sign(p->seal, &m, wire_str(parcel->item->wire->body), ret);
	amqp_table_entry_t *sig = &t->entries[t->num_entries++];
	sig->key = amqp_cstring_bytes("chatd-sig");
	sig->value.kind = AMQP_FIELD_KIND_UTF8;
	sig->value.value.bytes = amqp_cstring_bytes(ret);
	return rc < 0 ? link_failed(&p->link, "sign", AMQP_STATUS_NO_MEMORY) : 0;
}

static int send_one(struct publisher *p, struct leg *l)
{
	struct item *i = parcel_of(l)->item;
	amqp_basic_properties_t props = i->wire->props;
	char tag[24], sig[SEAL_TEXT + 1] = "";
	if (p->seal && sign(p, parcel_of(l), &props, sig) < 0) {
		return -1;
	}
	/* The broker names a returned message by nothing else that is ours. */
	snprintf(tag, sizeof(tag), "%llu", (unsigned long long)l->tag);
	props.correlation_id = amqp_cstring_bytes(tag);
	int rc = amqp_basic_publish(p->link.conn, LINK_CHANNEL, amqp_cstring_bytes("chat.exchange"),
			amqp_cstring_bytes(parcel_of(l)->rkey), 1, 0, &props, i->wire->body);
	if (rc != AMQP_STATUS_OK) {
		return link_failed(&p->link, "publish", rc);
	}
	if (!i->canary) {
		count(p->r, COUNT_PUBLISHED);
		if (l->tries++) {
			count(p->r, COUNT_REPEATED);
		}
	}
	return 0;
}

static int send_some(struct publisher *p)
{
	/* The first one alone: a broker that is short of memory says so only after it has read
	 * something, and then what is under way must not fill the socket. */
	size_t window = p->trusted ? (size_t)p->r->conf->window : 1;
	int64_t now = clock_ms();
	while (!p->blocked && p->w.n_flying < window && !STAILQ_EMPTY(&p->w.waiting)) {
		struct leg *l = STAILQ_FIRST(&p->w.waiting);
		if (p->flying && p->flying + size_of(l) > FLYING) {
			break;
		}
		l = window_send(&p->w, now);
		p->flying += size_of(l);
		if (send_one(p, l) < 0) {
			return -1;
		}
	}
	return 0;
}

/* A message to ourselves, now and then: if it comes back, our bindings are gone. */
static void send_canary(struct publisher *p)
{
	struct rabbit *r = p->r;
	int64_t now = clock_ms();
	char rkey[WIRE_RKEY];
	struct item *i;
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_NODE,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = CHATD_LIT("canary"),
		.node = r->node,
		.body = CHATD_LIT("") };
	struct wire_sender s = { .node = r->node, .epoch = chatd_str_of(r->epoch, strlen(r->epoch)) };
	if (now < p->canary_at || p->blocked || (p->trusted && !atomic_load(&r->consuming))) {
		return;
	}
	p->canary_at = now + CANARY_MS;
	if (item_create(r, &e, &s, &i) < 0) {
		return;
	}
	i->canary = 1;
	wire_node_key(r->node, rkey);
	struct parcel *parcel = parcel_create(i, rkey, 0);
	item_unref(i, 0);
	if (parcel) {
		window_push(&p->w, &parcel->leg);
	}
}

/* ---- what the broker says --------------------------------------------------------------------------- */

/* Nobody has that queue (any more): perhaps its users are elsewhere by now. */
static void resend_to_all(struct publisher *p, struct parcel *old)
{
	struct parcel *all = parcel_create(old->item, "chat.all", 0);
	if (all) {
		window_push(&p->w, &all->leg);
	}
	parcel_settle(old, all ? 0 : -ENOMEM);
}

static void settle(struct publisher *p, struct parcel *parcel)
{
	struct item *i = parcel->item;
	if (i->canary) {
		if (parcel->leg.returned && atomic_load(&p->r->consuming)) {
			consumer_refresh(p->r->consumer);
		}
		parcel_settle(parcel, 0);
		return;
	}
	if (parcel->leg.refused) {
		if (parcel->leg.tries < TRIES) {
			window_put_back(&p->w, &parcel->leg);
		} else {
			parcel_settle(parcel, -EIO);
		}
		return;
	}
	count(p->r, COUNT_CONFIRMED);
	if (!parcel->leg.returned) {
		parcel_settle(parcel, 0);
		return;
	}
	count(p->r, COUNT_RETURNED);
	if (!parcel->directed) {
		parcel_settle(parcel, 0); /* no other node is interested */
	} else if (i->to == CHATD_CLUSTER_USERS) {
		resend_to_all(p, parcel);
	} else {
		parcel_settle(parcel, -ENOENT);
	}
}

static int on_answer(struct publisher *p, uint64_t tag, int multiple, int refused)
{
	struct leg *l;
	if (!window_answer(&p->w, tag, multiple, refused)) {
		return link_failed(&p->link, "a confirm of what was not sent", AMQP_STATUS_BAD_AMQP_DATA);
	}
	p->trusted = 1;
	while ((l = window_settle(&p->w))) {
		p->flying -= size_of(l);
		settle(p, parcel_of(l));
	}
	return 0;
}

static int on_method(struct publisher *p, const amqp_method_t *m)
{
	switch (m->id) {
	case AMQP_BASIC_ACK_METHOD: {
		const amqp_basic_ack_t *a = m->decoded;
		return on_answer(p, a->delivery_tag, a->multiple, 0);
	}
	case AMQP_BASIC_NACK_METHOD: {
		const amqp_basic_nack_t *a = m->decoded;
		return on_answer(p, a->delivery_tag, a->multiple, 1);
	}
	case AMQP_BASIC_RETURN_METHOD:
		p->in_return = 1;
		return 0;
	case AMQP_CHANNEL_CLOSE_METHOD:
	case AMQP_CONNECTION_CLOSE_METHOD:
		return link_closed(&p->link, m);
	case AMQP_CONNECTION_BLOCKED_METHOD: {
		const amqp_connection_blocked_t *b = m->decoded;
		p->r->h->log(p->r->ctx, CHATD_LOG_WARN,
				"the broker takes no messages for now (%.*s); what is for other nodes waits",
				(int)(b->reason.len < 100 ? b->reason.len : 100), (const char *)b->reason.bytes);
		p->blocked = 1;
		rabbit_link(p->r, &p->r->publishing, 0);
		return 0;
	}
	case AMQP_CONNECTION_UNBLOCKED_METHOD:
		p->r->h->log(p->r->ctx, CHATD_LOG_INFO, "the broker takes messages again");
		p->blocked = 0;
		window_forgive(&p->w, clock_ms());
		rabbit_link(p->r, &p->r->publishing, 1);
		return 0;
	default:
		return 0;
	}
}

/* The head of a returned message: its correlation id says which one it is. */
static void on_head(struct publisher *p, const amqp_frame_t *f)
{
	const amqp_basic_properties_t *props = f->payload.properties.decoded;
	char text[24] = "";
	p->left = f->payload.properties.body_size;
	p->in_return = p->left > 0;
	if (f->payload.properties.class_id != AMQP_BASIC_CLASS ||
			!(props->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) ||
			props->correlation_id.len >= sizeof(text)) {
		return;
	}
	memcpy(text, props->correlation_id.bytes, props->correlation_id.len);
	struct leg *l = window_find(&p->w, strtoull(text, NULL, 10));
	if (l) {
		l->returned = 1;
	}
}

static int receive(struct publisher *p)
{
	amqp_frame_t f;
	int rc;
	while ((rc = link_frame(&p->link, &f)) > 0) {
		if (f.frame_type == AMQP_FRAME_METHOD) {
			if (on_method(p, &f.payload.method) < 0) {
				return -1;
			}
		} else if (f.frame_type == AMQP_FRAME_HEADER && p->in_return) {
			on_head(p, &f);
		} else if (f.frame_type == AMQP_FRAME_BODY && p->in_return) {
			size_t n = f.payload.body_fragment.len;
			p->left -= n < p->left ? n : p->left;
			p->in_return = p->left > 0;
		}
	}
	return rc;
}

/* A link that takes messages and never answers is none. */
static int overdue(struct publisher *p)
{
	int64_t oldest = p->blocked ? -1 : window_oldest(&p->w);
	if (oldest >= 0 && clock_ms() - oldest > p->r->conf->confirm_timeout) {
		return link_failed(&p->link, "no confirm came", AMQP_STATUS_TIMEOUT);
	}
	return 0;
}

/* ---- the thread ---------------------------------------------------------------------------------------- */

static int turn(struct publisher *p)
{
	send_canary(p);
	if (send_some(p) < 0) {
		return -1;
	}
	link_wait(&p->link, p->wake, STEP_MS);
	return receive(p) < 0 || overdue(p) < 0 ? -1 : 0;
}

static void *run(void *arg)
{
	struct publisher *p = arg;
	int64_t until = 0, wait;
	for (;;) {
		take(p);
		if (atomic_load(&p->stop)) {
			until = until ? until : clock_ms() + FLUSH_MS;
			if (!p->link.conn || clock_ms() >= until || (!p->w.n_waiting && !p->w.n_flying)) {
				break;
			}
			p->canary_at = INT64_MAX;
		}
		if (p->link.conn) {
			if (turn(p) < 0) {
				disconnect(p);
			}
		} else if (link_due(&p->link, &wait)) {
			connect_again(p);
		} else {
			link_wait(&p->link, p->wake, wait);
		}
	}
	rabbit_link(p->r, &p->r->publishing, 0);
	link_close(&p->link);
	return NULL;
}

struct publisher *publisher_create(struct rabbit *r)
{
	struct publisher *p = r->h->mem_alloc(sizeof(*p));
	if (!p) {
		return NULL;
	}
	p->r = r;
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	link_init(&p->link, r, "publish");
	window_init(&p->w);
	STAILQ_INIT(&p->given);
	pthread_mutex_init(&p->lock, NULL);
	p->seal = r->conf->sign == SIGN_OFF ? NULL : seal_create(r->conf->keys);
	if (p->wake < 0 || (r->conf->sign != SIGN_OFF && !p->seal)) {
		publisher_destroy(p);
		return NULL;
	}
	return p;
}

int publisher_start(struct publisher *p)
{
	int rc = rabbit_thread(&p->thread, run, p);
	p->running = rc == 0;
	return rc;
}

void publisher_hurry(struct publisher *p)
{
	atomic_store(&p->link.hurry, 1);
	publisher_wake(p);
}

static void end_thread(struct publisher *p)
{
	struct timespec t;
	atomic_store(&p->stop, 1);
	publisher_wake(p);
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 1 + FLUSH_MS / 1000;
	if (pthread_timedjoin_np(p->thread, NULL, &t) != 0) {
		link_cut(&p->link);
		pthread_join(p->thread, NULL);
	}
}

void publisher_destroy(struct publisher *p)
{
	struct leg *l;
	size_t lost = 0;
	if (!p) {
		return;
	}
	if (p->running) {
		end_thread(p);
	}
	take(p);
	window_reset(&p->w);
	while ((l = STAILQ_FIRST(&p->w.waiting))) {
		STAILQ_REMOVE_HEAD(&p->w.waiting, link);
		lost += !parcel_of(l)->item->ephemeral;
		parcel_settle(parcel_of(l), -ESHUTDOWN);
	}
	if (lost) {
		p->r->h->log(p->r->ctx, CHATD_LOG_WARN,
				"the server ends while %zu events for other nodes still wait for the broker", lost);
	}
	link_finish(&p->link);
	seal_destroy(p->seal);
	pthread_mutex_destroy(&p->lock);
	if (p->wake >= 0) {
		close(p->wake);
	}
	p->r->h->mem_free(p);
}
