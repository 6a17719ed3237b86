/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file audit.h
 * @brief What the parts of this plugin share.
 *
 * audit.c takes entries from any worker and writes them to the log; chain.c, on worker 0, gives
 * them their numbers and hashes and stores them, one after the other; list.c shows them.
 */
#ifndef AUDIT_AUDIT_H
#define AUDIT_AUDIT_H

#include <chatd-sdk/ask.h>
#include <chatd-sdk/open.h>
#include <chatd/audit.h>
#include <chatd/plugin.h>
#include <chatd/store.h>

#include <sys/queue.h>

#define SPACE     "audit"
#define END_SPACE "audit.end"

enum { ROUTES = 1, TEXT_MAX = 1000, HASH_HEX = 65, QUEUE_MAX = 10000 };

struct conf {
	int64_t retention;
	const char *const *readers;
};

/* In the order in which they are hashed and written. */
enum field { TIME, ACTION, ACTOR, TARGET, ROOM, RESULT, UNTIL, DETAIL, ADDRESS, REQUEST, FIELDS };

struct item {
	STAILQ_ENTRY(item) link;
	struct chain *chain;
	int64_t wall;
	char id[37];
	struct chatd_str field[FIELDS]; /* .p NULL: not there */
	char text[];
};
STAILQ_HEAD(items, item);

struct self;
struct chain { /* of this process, on worker 0 */
	struct self *self;
	chatd_worker *w;
	struct items waiting; /* the first one is under way, if .asking */
	size_t n_waiting;
	int64_t lost; /* entries that found no place here */
	int32_t asking, dead;
	enum { FIND_END, LOOK_BACK, READY } step;
	int32_t looked; /* entries, for the last of this node; the oldest of them */
	char looked_at[37];
	char end_id[37];     /* of the entry that the record of the end holds */
	int64_t version;     /* of that record; 0: there is none */
	int64_t n;           /* number of the last entry of this node */
	char last[HASH_HEX]; /* its hash */
	char next[HASH_HEX]; /* of the one that is under way */
	struct chatd_timer retry;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *http;
	struct chain chain;
	int32_t busy;           /* atomic: entries that are on their way, or wait */
	struct chatd_open open; /* questions to the store */
	struct chatd_ask_route routes[ROUTES];
};

extern const char *const field_names[FIELDS];

/* chain.c */
void item_free(struct self *, struct item *);    /* [any] it is stored, or will not be */
void chain_start(struct self *, chatd_worker *); /* [worker 0] */
void chain_stop(struct self *);                  /* [worker 0] */
void chain_add(struct chain *, struct item *);   /* [worker 0] */
/* The hash of an entry: of its texts, one a line, in the order of enum field, behind node, number
 * and the hash before. */
struct seal {
	struct chatd_str node, prev;
	int64_t n;
};
void chain_hash(const struct seal *, const struct chatd_str field[FIELDS], char ret[HASH_HEX]);

/* list.c */
chatd_status list_init(struct self *); /* [main] */

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

#endif
