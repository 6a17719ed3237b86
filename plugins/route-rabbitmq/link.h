/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the broker, with one channel.  Belongs to one thread at a time; only
 * link_end_thread() comes from another.  What blocks in here is bounded: connecting and logging in
 * by connect_timeout, questions by RPC_MS, writing by TCP_USER_TIMEOUT.
 */
#ifndef ROUTE_RABBITMQ_LINK_H
#define ROUTE_RABBITMQ_LINK_H

#include "rabbit.h"

enum { LINK_CHANNEL = 1, RPC_MS = 5000, WRITE_MS = 5000 };

enum link_trouble {
	LINK_FINE,
	LINK_BROKEN,  /* connection errors: try again soon */
	LINK_REFUSED, /* user, password, rights, or what is declared differs: seldom */
	LINK_IN_USE,  /* somebody else consumes the queue */
	LINK_MISSING, /* exchange or queue are not there: at once */
};

struct link {
	struct rabbit *r;
	const char *role;             /* "publish", "consume" */
	amqp_connection_state_t conn; /* NULL: none */
	size_t next;                  /* address to try */
	uint32_t failures;
	int64_t retry_at;
	atomic_int hurry; /* set by any thread: no more waiting, the password is new */
	int32_t was_up;
	enum link_trouble trouble;
	char why[256];
	char said[256]; /* what the log had last */
	struct nag nag;
	pthread_mutex_t lock;
	int fd; /* with the lock; -1: none */
	/* Whether the library is to be asked for frames: it reads and polls in vain otherwise, but
	 * sends heartbeats only then. */
	int32_t ask;
	int64_t asked;
};

void link_init(struct link *, struct rabbit *, const char *role);
/* Tries each address once.  0, or -1: see .trouble and .why. */
int link_open(struct link *);
/* Declares the exchange.  Likewise. */
int link_exchange(struct link *);
/* The answer to the last question.  0; -1. */
int link_check(struct link *, const char *what);
/* The library's own error.  -1. */
int link_failed(struct link *, const char *what, int status);
/* The broker closes the channel or the connection.  -1. */
int link_closed(struct link *, const amqp_method_t *);
/* Ends it without a word, logs why, and says when to try again. */
void link_drop(struct link *);
/* It works: all is forgotten. */
void link_works(struct link *);
/* 1: it may be tried again; 0: in *ret_ms. */
int link_due(const struct link *, int64_t *ret_ms);
/* Ends it in good order. */
void link_close(struct link *);
/* [main] Waits for its thread, which has been told to stop; after @p ms what it is blocked in is
 * broken. */
void link_end_thread(struct link *, pthread_t thread, int64_t ms);
void link_finish(struct link *);
/* Waits until @p wake or the connection has something, at most @p ms. */
void link_wait(struct link *, int wake, int64_t ms);
/* 1: a frame; 0: none is there; -1: the connection has ended. */
int link_frame(struct link *, amqp_frame_t *ret);

/* "host:port", "[v6]:port", "host"; 0: it is none of these. */
int link_address(const char *text, int tls, char host[256], int *ret_port);

#endif
