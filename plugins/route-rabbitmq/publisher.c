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
	FLUSH_MS = 2000,      /* at the end */
	STEP_MS = 1000,       /* longest sleep: heartbeats are kept up by calls of the library */
	TRIES = 5,            /* of a message that the broker refuses */
	FLYING = 1024 * 1024, /* bytes without a confirm; a larger message flies alone */
	HOLD = 8,             /* messages to one key: with more under way, the next ones gather */
	LOOK = 512,           /* of those that wait */
	SLOTS = 256
};

/* Those that wait, from the first one on: which was looked at last, and the keys of those that
 * were passed over.  What comes behind them for the same key must not overtake them. */
struct sweep {
	struct leg *last;
	uint64_t keys[16];
	int32_t looked;
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
	int64_t canary_at, hello_at, flying;
	atomic_int hello;          /* say it now */
	int32_t all_can;           /* all nodes understand several events in one message */
	uint16_t under_way[SLOTS]; /* messages, by routing key */
	struct sweep sweep;        /* until something is confirmed */
	struct leg *batch[WIRE_BATCH_EVENTS];
	char *pack;    /* WIRE_BATCH_BYTES */
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
			if (!parcel_of(l)->item->internal) {
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
	memset(p->under_way, 0, sizeof(p->under_way));
	p->sweep = (struct sweep){ .last = NULL };
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
	p->canary_at = p->hello_at = 0;
	p->in_return = 0;
	rabbit_link(p->r, &p->r->publishing, 1);
}

/* ---- publishing --------------------------------------------------------------------------------- */

/* A message as it goes out; .props.headers have WIRE_SPARE entries more than they say. */
struct message {
	const char *rkey;
	uint64_t tag;
	amqp_basic_properties_t props;
	amqp_bytes_t body;
};

static int sign(struct publisher *p, struct message *m, char ret[SEAL_TEXT + 1])
{
	int rc = seal_stamp(p->seal, m->rkey, &m->props, wire_str(m->body), p->r->h->wall_ms(), ret);
	return rc < 0 ? link_failed(&p->link, "sign", AMQP_STATUS_NO_MEMORY) : 0;
}

static int publish(struct publisher *p, struct message *m)
{
	char tag[24], sig[SEAL_TEXT + 1] = "";
	if (p->seal && sign(p, m, sig) < 0) {
		return -1;
	}
	/* The broker names a returned message by nothing else that is ours. */
	snprintf(tag, sizeof(tag), "%llu", (unsigned long long)m->tag);
	m->props.correlation_id = amqp_cstring_bytes(tag);
	int rc = amqp_basic_publish(p->link.conn, LINK_CHANNEL, amqp_cstring_bytes("chat.exchange"),
			amqp_cstring_bytes(m->rkey), 1, 0, &m->props, m->body);
	return rc == AMQP_STATUS_OK ? 0 : link_failed(&p->link, "publish", rc);
}

static void count_sent(struct publisher *p, struct leg *l)
{
	if (!parcel_of(l)->item->internal) {
		count(p->r, COUNT_PUBLISHED);
		if (l->tries++) {
			count(p->r, COUNT_REPEATED);
		}
	}
}

static int send_one(struct publisher *p, struct leg *l)
{
	const struct wire_out *o = parcel_of(l)->item->wire;
	struct message m = {
		.rkey = parcel_of(l)->rkey, .tag = l->tag, .props = o->props, .body = o->body
	};
	count_sent(p, l);
	return publish(p, &m);
}

static int send_several(struct publisher *p, size_t n)
{
	const struct rabbit *r = p->r;
	const struct parcel *first = parcel_of(p->batch[0]);
	const struct wire_sender s = { .node = r->node,
		.epoch = chatd_str_of(r->epoch, strlen(r->epoch)) };
	struct wire_batch b;
	struct message m = { .rkey = first->rkey, .tag = first->leg.tag, .body = { 0, p->pack } };
	wire_batch(&b, &s, first->item->wire);
	m.props = b.props;
	for (size_t i = 0; i < n; i++) {
		const struct item *item = parcel_of(p->batch[i])->item;
		wire_pack(item->wire, p->pack + m.body.len);
		m.body.len += item->packed;
		count_sent(p, p->batch[i]);
		count(p->r, COUNT_BATCHED);
	}
	count(p->r, COUNT_BATCHES);
	return publish(p, &m);
}

/* ---- which, and which together ------------------------------------------------------------------ */

static struct leg *behind(const struct publisher *p, struct leg *last)
{
	return last ? STAILQ_NEXT(last, link) : STAILQ_FIRST(&p->w.waiting);
}

static uint64_t *word_of(struct sweep *s, struct leg *l, uint64_t *ret_bit)
{
	uint64_t key = parcel_of(l)->item->key;
	*ret_bit = key ? (uint64_t)1 << (key >> 1 & 63) : 0;
	return &s->keys[key >> 7 & 15];
}

/* 1: nothing for its key was passed over. */
static int may_pass(struct sweep *s, struct leg *l)
{
	uint64_t bit, *word = word_of(s, l, &bit);
	return !(*word & bit);
}

static void pass_over(struct sweep *s, struct leg *l)
{
	uint64_t bit, *word = word_of(s, l, &bit);
	*word |= bit;
	s->last = l;
}

static int all_can(const struct publisher *p, int64_t now)
{
	const struct rabbit *r = p->r;
	const struct chatd_presence *who = r->presence ? r->presence->vt : NULL;
	if (r->conf->batch != BATCH_AUTO) {
		return r->conf->batch == BATCH_ON;
	}
	return who && CHATD_HAS(who, live) && who->live &&
			peers_all(r->peers, who->live(r->presence->obj), now);
}

/* Whoever gets it can read several events in one message. */
static int may_batch(struct publisher *p, const struct parcel *parcel)
{
	if (parcel->item->internal || !p->trusted || p->r->conf->batch == BATCH_OFF) {
		return 0;
	}
	return p->all_can || (parcel->directed && peers_one(p->r->peers, parcel->rkey, clock_ms()));
}

static int is_alike(const struct parcel *a, const struct parcel *b)
{
	return a->slot == b->slot && a->item->ephemeral == b->item->ephemeral && !b->item->internal &&
			strcmp(a->rkey, b->rkey) == 0;
}

/* The next one that may go now; it is behind s->last.  NULL: none. */
static struct leg *next_leg(struct publisher *p, struct sweep *s)
{
	struct leg *l;
	while (s->looked < LOOK && (l = behind(p, s->last))) {
		if (may_pass(s, l) &&
				(p->under_way[parcel_of(l)->slot] < HOLD || !may_batch(p, parcel_of(l)))) {
			return l;
		}
		pass_over(s, l);
		s->looked++;
	}
	return NULL;
}

/* What waits for the same key flies with it.  How many there are in .batch. */
static size_t gather(struct publisher *p, const struct sweep *from, int64_t now)
{
	const struct parcel *first = parcel_of(p->batch[0]);
	struct sweep s = *from;
	struct leg *l;
	size_t n = 1, bytes = first->item->packed;
	if (bytes > WIRE_BATCH_BYTES || !may_batch(p, first)) {
		return 1;
	}
	for (int i = 0; i < LOOK && n < WIRE_BATCH_EVENTS && (l = behind(p, s.last)); i++) {
		const struct parcel *x = parcel_of(l);
		if (!is_alike(first, x) || !may_pass(&s, l) || bytes + x->item->packed > WIRE_BATCH_BYTES) {
			pass_over(&s, l);
			continue;
		}
		p->batch[n++] = window_join(&p->w, s.last, now);
		bytes += x->item->packed;
		p->flying += size_of(l);
	}
	return n;
}

static int send_some(struct publisher *p)
{
	/* The first one alone: a broker that is short of memory says so only after it has read
	 * something, and then what is under way must not fill the socket. */
	size_t window = p->trusted ? (size_t)p->r->conf->window : 1;
	int64_t now = clock_ms();
	struct leg *l;
	p->all_can = all_can(p, now);
	while (!p->blocked && p->w.n_messages < window && (l = next_leg(p, &p->sweep))) {
		if (p->flying && p->flying + size_of(l) > FLYING) {
			break;
		}
		p->batch[0] = window_send(&p->w, p->sweep.last, now);
		p->flying += size_of(l);
		p->under_way[parcel_of(l)->slot]++;
		size_t n = gather(p, &p->sweep, now);
		if ((n > 1 ? send_several(p, n) : send_one(p, l)) < 0) {
			return -1;
		}
	}
	return 0;
}

/* ---- what nodes tell each other about themselves --------------------------------------------- */

static void send_internal(
		struct publisher *p, const struct chatd_cluster_event *e, const char *rkey, uint64_t number)
{
	struct rabbit *r = p->r;
	const struct wire_sender s = {
		.node = r->node, .epoch = chatd_str_of(r->epoch, strlen(r->epoch)), .number = number
	};
	struct item *i;
	if (item_create(r, e, &s, &i) < 0) {
		return;
	}
	i->internal = 1;
	struct parcel *parcel = parcel_create(i, rkey, 0);
	item_unref(i, 0);
	if (parcel) {
		window_push(&p->w, &parcel->leg);
	}
}

/* A message to ourselves, now and then: if the broker finds no queue for it, our bindings are gone. */
static void send_canary(struct publisher *p)
{
	char rkey[WIRE_RKEY];
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_NODE,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = CHATD_LIT("canary"),
		.node = p->r->node,
		.body = CHATD_LIT("") };
	wire_node_key(p->r->node, rkey);
	send_internal(p, &e, rkey, 0);
}

/* To all: what this release can read besides single events. */
static void send_hello(struct publisher *p)
{
	const struct chatd_cluster_header can = { CHATD_LIT("batch"), CHATD_LIT("2") };
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_ALL,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = CHATD_LIT("hello"),
		.headers = &can,
		.n_headers = 1,
		.body = CHATD_LIT("") };
	send_internal(p, &e, "chat.all", atomic_fetch_add(&p->r->numbers, 1) + 1);
}

static void send_own(struct publisher *p)
{
	int64_t now = clock_ms();
	if (p->blocked || (p->trusted && !atomic_load(&p->r->consuming))) {
		return;
	}
	if (now >= p->canary_at) {
		p->canary_at = now + CANARY_MS;
		send_canary(p);
	}
	if (p->trusted && (atomic_exchange(&p->hello, 0) || now >= p->hello_at)) {
		p->hello_at = now + PEERS_SAY_MS;
		send_hello(p);
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

static void settle(struct publisher *p, struct parcel *parcel, struct legs *again)
{
	struct item *i = parcel->item;
	if (i->internal) {
		if (parcel->leg.returned && atomic_load(&p->r->consuming)) {
			consumer_refresh(p->r->consumer);
		}
		parcel_settle(parcel, 0);
		return;
	}
	if (parcel->leg.refused) {
		if (parcel->leg.tries < TRIES) {
			STAILQ_INSERT_TAIL(again, &parcel->leg, link);
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
	struct legs again = STAILQ_HEAD_INITIALIZER(again);
	struct leg *l;
	if (!window_answer(&p->w, tag, multiple, refused)) {
		return link_failed(&p->link, "a confirm of what was not sent", AMQP_STATUS_BAD_AMQP_DATA);
	}
	p->trusted = 1;
	while ((l = window_settle(&p->w))) {
		p->flying -= size_of(l);
		p->under_way[parcel_of(l)->slot] -= !l->joined;
		settle(p, parcel_of(l), &again);
	}
	window_put_back(&p->w, &again);
	p->sweep = (struct sweep){ .last = NULL };
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
	window_return(&p->w, strtoull(text, NULL, 10));
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
	send_own(p);
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
			p->canary_at = p->hello_at = INT64_MAX;
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
	p->pack = malloc(WIRE_BATCH_BYTES);
	if (p->wake < 0 || !p->pack || (r->conf->sign != SIGN_OFF && !p->seal)) {
		publisher_destroy(p);
		return NULL;
	}
	return p;
}

int publisher_start(struct publisher *p)
{
	int rc = chatd_thread(&p->thread, "chatd-amqp-out", run, p);
	p->running = rc == 0;
	return rc;
}

void publisher_hurry(struct publisher *p)
{
	atomic_store(&p->link.hurry, 1);
	publisher_wake(p);
}

void publisher_hello(struct publisher *p)
{
	atomic_store(&p->hello, 1);
	publisher_wake(p);
}

static void end_thread(struct publisher *p)
{
	atomic_store(&p->stop, 1);
	publisher_wake(p);
	link_end_thread(&p->link, p->thread, 1000 + FLUSH_MS);
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
	free(p->pack);
	pthread_mutex_destroy(&p->lock);
	if (p->wake >= 0) {
		close(p->wake);
	}
	p->r->h->mem_free(p);
}
