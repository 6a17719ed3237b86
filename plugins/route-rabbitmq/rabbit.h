/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the plugin share.
 *
 * Threads: the workers give in events (out.c) and run what came in (inbound.c); the publisher
 * (publisher.c) and the consumer (consumer.c) have a thread and a connection each, and are the
 * only ones that call the AMQP library: a broker that hangs holds nobody else.
 */
#ifndef ROUTE_RABBITMQ_RABBIT_H
#define ROUTE_RABBITMQ_RABBIT_H

#include "peers.h"
#include "window.h"
#include "wire.h"

#include <chatd-sdk/hash.h>
#include <chatd-sdk/thread.h>
#include <chatd/cluster.h>
#include <chatd/presence.h>
#include <stdatomic.h>
#include <sys/queue.h>

struct conf {
	const char *const *addresses;
	const char *user, *password, *vhost;
	int32_t tls;
	const char *ca_file, *cert_file, *key_file;
	int64_t connect_timeout, heartbeat, confirm_timeout;
	int64_t queue_max, window, prefetch, unbind_after, subscribe_wait;
	int64_t work_prefetch, work_expires;
	int32_t accept_foreign;
	const char *const *keys;
	int32_t sign, batch; /* SIGN_*, BATCH_* */
};
enum { SIGN_OFF, SIGN_ACCEPT, SIGN_REQUIRE };
enum { BATCH_OFF, BATCH_ON, BATCH_AUTO };

#define REJECTED \
	"Messages refused: unreadable, foreign, of a kind nobody receives, not signed, forged, or old."

#define WORK                                                                                        \
	"Messages of work queues: the broker has taken, refused (or was away), or a consumer was done " \
	"with, or gave back."

/* What is counted.  X(name, Prometheus name, labels, help) */
#define COUNT_MAP(X)                                                                              \
	X(PUBLISHED, "chatd_cluster_published_total", NULL,                                           \
			"Events given to the broker, for each routing key, repetitions included.")            \
	X(BATCHED, "chatd_cluster_batched_total", NULL,                                               \
			"Of those, the ones that went together with others.")                                 \
	X(BATCHES, "chatd_cluster_batches_total", NULL, "How many such messages there were.")         \
	X(CONFIRMED, "chatd_cluster_confirmed_total", NULL, "Messages that the broker has taken.")    \
	X(RETURNED, "chatd_cluster_returned_total", NULL,                                             \
			"Messages that no queue was bound for: no other node is interested.")                 \
	X(REPEATED, "chatd_cluster_repeated_total", NULL,                                             \
			"Messages published again after a lost connection or a refusal.")                     \
	X(RECEIVED, "chatd_cluster_received_total", NULL, "Events of other nodes handed on here.")    \
	X(STALE, "chatd_cluster_stale_total", NULL, "Events that came again and were passed over.")   \
	X(POISON, "chatd_cluster_rejected_total", "reason=\"poison\"", REJECTED)                      \
	X(FOREIGN, "chatd_cluster_rejected_total", "reason=\"foreign\"", REJECTED)                    \
	X(UNKNOWN, "chatd_cluster_rejected_total", "reason=\"kind\"", REJECTED)                       \
	X(UNSIGNED, "chatd_cluster_rejected_total", "reason=\"unsigned\"", REJECTED)                  \
	X(FORGED, "chatd_cluster_rejected_total", "reason=\"signature\"", REJECTED)                   \
	X(OLD, "chatd_cluster_rejected_total", "reason=\"old\"", REJECTED)                            \
	X(FULL, "chatd_cluster_dropped_total", "reason=\"full\"",                                     \
			"Events that did not go out: too many wait, the broker is away, or they are none.")   \
	X(AWAY, "chatd_cluster_dropped_total", "reason=\"away\"",                                     \
			"Events that did not go out: too many wait, the broker is away, or they are none.")   \
	X(INVALID, "chatd_cluster_dropped_total", "reason=\"invalid\"",                               \
			"Events that did not go out: too many wait, the broker is away, or they are none.")   \
	X(LATE, "chatd_cluster_late_bindings_total", NULL,                                            \
			"SUBSCRIBEs answered before the broker had bound their topic: it took too long.")     \
	X(RECONNECTS, "chatd_cluster_reconnects_total", NULL, "Connections to the broker made anew.") \
	X(WORK_IN, "chatd_cluster_work_total", "what=\"taken\"", WORK)                                \
	X(WORK_REFUSED, "chatd_cluster_work_total", "what=\"refused\"", WORK)                         \
	X(WORK_OUT, "chatd_cluster_work_total", "what=\"done\"", WORK)                                \
	X(WORK_AGAIN, "chatd_cluster_work_total", "what=\"again\"", WORK)

enum {
#define X(name, metric, labels, help) COUNT_##name,
	COUNT_MAP(X)
#undef X
			COUNTS
};

/* Says a thing at most once a minute.  One thread, or with a lock. */
struct nag {
	int64_t at;
	uint64_t since; /* how often it was not said */
};

struct rabbit;
struct wait;
struct publisher;
struct consumer;

/* An event on its way out; shared by the AMQP messages that carry it. */
struct item {
	struct rabbit *r;
	struct wire_out *wire;
	struct home *home; /* of who waits for done */
	void (*done)(void *arg, chatd_status rc);
	void *arg;
	atomic_int refs, rc;
	int32_t to, ephemeral;
	int32_t internal; /* the plugin's own: not counted; if it comes back, bindings are gone */
	int32_t open;     /* [worker] done has not run */
	uint64_t key;     /* a hash of what order is kept for; 0: nothing */
	size_t packed;    /* what it takes of a message of several */
	TAILQ_ENTRY(item) all;
	STAILQ_ENTRY(item) finished;
};

struct parcel {
	struct leg leg;
	struct item *item;
	int32_t directed; /* to one node */
	uint8_t slot;     /* of the routing key */
	char rkey[];
};

/* What belongs to one worker. */
struct home {
	struct rabbit *r;
	chatd_worker *w;
	TAILQ_HEAD(open_items, item) open;
	struct lane *lanes;
	int32_t stopped;
	pthread_mutex_t lock;
	STAILQ_HEAD(finished_items, item) finished; /* with the lock */
	int32_t posted;
	struct { /* see waits.h */
		TAILQ_HEAD(open_waits, wait) open;
		struct chatd_timer timer;
		STAILQ_HEAD(finished_waits, wait) finished; /* with the lock */
		int32_t posted;
	} waits;
};

struct receiver {
	struct receiver *next;
	struct chatd_cluster_receiver is;
};

struct rabbit {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *presence;
	struct chatd_cluster vt;
	struct receiver *receivers; /* frozen before traffic */
	struct home *homes;
	int32_t n_homes;
	struct chatd_str node;
	char epoch[17];
	struct chatd_hash_key hash;
	atomic_uint_fast64_t numbers;
	atomic_int_fast64_t held; /* bytes of what waits */
	atomic_int_fast64_t counts[COUNTS];
	atomic_int publishing, consuming;
	atomic_int_fast64_t heard; /* when the broker has said something */
	atomic_int slow;           /* the last one to wait for a binding did so in vain */
	pthread_mutex_t lock;
	int32_t told_up;          /* with the lock */
	char password[256];       /* with the lock: reload() may change it */
	struct nag full, invalid; /* with the lock */
	int32_t closed;           /* with the lock: workers stop, and soon receivers are no more */
	struct publisher *publisher;
	struct consumer *consumer;
	struct peers *peers;
	struct work_out *work_out; /* see work.h */
	struct work_in *work_in;
};

static inline void count(struct rabbit *r, int what)
{
	atomic_fetch_add_explicit(&r->counts[what], 1, memory_order_relaxed);
}

/* ---- rabbit.c ------------------------------------------------------------------------ */

int64_t clock_ms(void);
/* 1: say it now; *ret_more is how often it was not said since. */
int nag_due(struct nag *, uint64_t *ret_more);
int32_t rabbit_is_up(const struct rabbit *);
/* One of the connections has come or gone. */
void rabbit_link(struct rabbit *, atomic_int *which, int up);
const struct chatd_cluster_receiver *rabbit_receiver(const struct rabbit *, struct chatd_str kind);

/* ---- item.c --------------------------------------------------------------------------- */

/* [any] Counted in .held until it is freed.  -EAGAIN: too much waits. */
chatd_status item_create(struct rabbit *, const struct chatd_cluster_event *,
		const struct wire_sender *, struct item **ret);
struct parcel *parcel_create(struct item *, const char *rkey, int directed);
/* This parcel is done with. */
void parcel_settle(struct parcel *, chatd_status rc);
void item_ref(struct item *);
/* The last one has done run on its worker, with the first error there was. */
void item_unref(struct item *, chatd_status rc);
/* [worker] */
void home_init(struct home *, struct rabbit *);
void home_stop(struct home *);
void home_finish(struct home *); /* [main] */

/* ---- out.c [worker] ------------------------------------------------------------------- */

/* The event goes out to whom it is for, in the order of this worker's calls for its key. */
void out_submit(struct home *, struct item *, const struct chatd_cluster_event *);
void out_finish(struct home *); /* [main] */
chatd_status out_send(void *obj, chatd_worker *, const struct chatd_cluster_event *,
		void (*done)(void *arg, chatd_status rc), void *arg);

/* ---- route.c [worker] ------------------------------------------------------------------ */

chatd_status route_init(struct rabbit *);

/* ---- publisher.c ------------------------------------------------------------------------ */

struct publisher *publisher_create(struct rabbit *);      /* NULL: no memory or descriptors */
int publisher_start(struct publisher *);                  /* [main or worker] a negative errno */
void publisher_push(struct publisher *, struct parcel *); /* [any] */
void publisher_wake(struct publisher *);
void publisher_hurry(struct publisher *);   /* [any] try again now */
void publisher_hello(struct publisher *);   /* [any] somebody new wants to know what we can */
void publisher_destroy(struct publisher *); /* [main] ends the thread; NULL is fine */

/* ---- consumer.c -------------------------------------------------------------------------- */

struct consumer *consumer_create(struct rabbit *);
/* [main] Before any thread: -ENOTUNIQ: another process consumes this node's queue. */
chatd_status consumer_try(struct consumer *, char why[256]);
int consumer_start(struct consumer *);
void consumer_interest(struct consumer *, struct chatd_str dest, int on); /* [worker] */
/* [worker] wait_release() is called when the topic is bound, or cannot be.  -ENOMEM: never. */
chatd_status consumer_wait(struct consumer *, struct chatd_str dest, struct wait *);
/* [any] Bindings were lost: make all of it anew. */
void consumer_refresh(struct consumer *);
void consumer_wake(struct consumer *);
void consumer_hurry(struct consumer *);
void consumer_destroy(struct consumer *);

#endif
