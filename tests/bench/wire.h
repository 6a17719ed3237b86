/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few bytes of WebSocket and STOMP that both bench programs need. Everything here is a view
 * into the caller's buffer: nothing is copied or owned, except where a function says that it
 * writes to `dst`. It reads well-formed traffic fast and refuses the rest; it is no codec for a
 * server that strangers may reach.
 */
#ifndef CHATD_BENCH_WIRE_H
#define CHATD_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WIRE_TEXT = 1, WIRE_BINARY = 2, WIRE_CLOSE = 8, WIRE_PING = 9, WIRE_PONG = 10 };

/* The largest head that a WebSocket frame can have, mask included. */
#define WIRE_HEAD_MAX 14

/* The handshake's key is the one of RFC 6455, so that the client needs no SHA-1 for the answer. */
#define WIRE_KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define WIRE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

struct wire_str {
	const char *p;
	size_t n;
};

struct wire_frame {
	char *data;
	size_t len;
	size_t size; /* of the whole frame, head included */
	uint8_t op;
};

struct wire_stomp {
	struct wire_str command;
	struct wire_str headers; /* lines that end in LF, without the empty one */
	struct wire_str body;
};

uint64_t wire_now(void); /* CLOCK_MONOTONIC, nanoseconds */

/*
 * Looks for one whole WebSocket frame at p and unmasks it in place. 1 = found, 0 = not all of it
 * has come, -1 = a frame that no peer of a bench sends (fragmented, reserved bits).
 */
int wire_parse(char *p, size_t n, struct wire_frame *ret_frame);

/* Writes the head of a server's frame to dst (WIRE_HEAD_MAX bytes) and returns its length. */
size_t wire_head(char *dst, uint8_t op, size_t len);

/* Writes a whole masked client frame to dst (WIRE_HEAD_MAX + len bytes); returns its length. */
size_t wire_client_frame(char *dst, uint8_t op, const char *data, size_t len);

/* Takes the one STOMP frame of a WebSocket message apart. -1 when it is none, 0 for a heart-beat. */
int wire_stomp_parse(const char *p, size_t n, struct wire_stomp *ret_frame);

/* The first value of a header; p is NULL when there is none. */
struct wire_str wire_header(const struct wire_stomp *f, const char *name);

bool wire_is(struct wire_str s, const char *text);

#endif
