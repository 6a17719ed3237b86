/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many STOMP-over-WebSocket clients in one thread. A connection walks by itself from the dial to
 * READY (upgrade, CONNECT, a join where a room is named, SUBSCRIBE with a receipt) and from
 * swarm_leave() to its end (DISCONNECT with a receipt, the closing handshake). The caller drives
 * everything with swarm_turn() and is told through the three hooks, inside that call. Connections
 * live in one array for the whole run; a hook may open, write to and leave any of them.
 *
 * Faults are counted and the first few are told on stderr: a bench with faults is not valid.
 */
#ifndef CHATD_BENCH_SWARM_H
#define CHATD_BENCH_SWARM_H

#include "wire.h"

enum { SWARM_SLOTS = 16, SWARM_NODES = 8 };

enum swarm_state {
	SWARM_FREE,
	SWARM_DIALING,
	SWARM_UPGRADING,
	SWARM_LOGIN,
	SWARM_JOINING,
	SWARM_SUBSCRIBING,
	SWARM_READY,
	SWARM_LEAVING,
	SWARM_CLOSING
};

/* What a connection does on its way to READY; the caller's, for as long as it is used. */
struct swarm_role {
	const char *topic; /* to subscribe to, NULL for none */
	const char *room;  /* to join first, NULL for none */
	bool errors;       /* listens to /user/queue/errors, so that a refusal is told and counted */
};

struct swarm_conn {
	int fd;
	uint8_t state;
	bool writing; /* has unsent bytes and waits for the socket */
	uint32_t index;
	uint32_t life; /* counts its connections, so that a loop sees that it was replaced */
	uint32_t in_len, out_len;
	char *in, *out;
	char *user;                 /* the `user-name` of CONNECTED, or NULL */
	uint32_t next[SWARM_SLOTS]; /* the number of the next message, per sender; the mode's */
	uint64_t seen[SWARM_SLOTS]; /* which of the 64 before it have come, the last in bit 0 */
	const struct swarm_role *role;
};

struct swarm_node {
	const char *host;
	uint16_t port;
};

struct swarm_target {
	struct swarm_node node[SWARM_NODES]; /* the connection with index i dials node i % nodes */
	uint32_t nodes;
	const char *path, *login, *passcode;
	bool numbered;    /* each connection has a login of its own: `login` and a number */
	unsigned sources; /* how many addresses of 127.0.0.x to dial from; 1 lets the kernel choose */
};

struct swarm;

struct swarm_hooks {
	void (*on_ready)(void *arg, struct swarm_conn *c);
	void (*on_message)(void *arg, struct swarm_conn *c, const struct wire_stomp *f);
	/* Left as it was asked to: the connection may be opened again. */
	void (*on_left)(void *arg, struct swarm_conn *c);
	/* Of a connection that is READY; may be NULL. */
	void (*on_receipt)(void *arg, struct swarm_conn *c, const struct wire_stomp *f);
	void *arg;
};

struct swarm {
	struct swarm_conn *conn;
	uint32_t cap, opened, ready, pending; /* pending: on the way to READY */
	uint64_t errors, disconnects, reads, bytes_in;
	struct swarm_target to;
	struct swarm_hooks hooks;
	int ep;
	uint32_t dials, logins, complaints;
	char *buf;
};

/* `cap` connections at most. Exits the process with a message when it cannot. */
void swarm_init(struct swarm *s, const struct swarm_target *to, uint32_t cap);
void swarm_finish(struct swarm *s);

/* Dials with a connection that is free. */
void swarm_open(struct swarm *s, struct swarm_conn *c, const struct swarm_role *role);

/* Handles what has come, waiting at most that long. */
void swarm_turn(struct swarm *s, uint64_t wait_ns);

/* Handles what comes for so long. */
void swarm_rest(struct swarm *s, double seconds);

/* Until somebody writes a line to our stdin or closes it. */
void swarm_hold(struct swarm *s);

/* Opens `count` connections from the array's `first`, a few at a time, until all are ready.
 * `role` NULL: each has its own already. False when nothing moved for a minute. */
bool swarm_fill(struct swarm *s, uint32_t first, uint32_t count, const struct swarm_role *role);

void swarm_write(struct swarm *s, struct swarm_conn *c, const char *p, size_t n);

/* One STOMP frame whose text is a string; its NUL is the frame's. */
void swarm_frame(struct swarm *s, struct swarm_conn *c, const char *text);

void swarm_leave(struct swarm *s, struct swarm_conn *c);

/* Closes without a word. */
void swarm_drop(struct swarm *s, struct swarm_conn *c);

void swarm_complain(
		struct swarm *s, const struct swarm_conn *c, const char *what, struct wire_str detail);

#endif
