/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file frames.h
 * @brief Between libwebsockets' messages and the frames that a WebSocket's user reads and writes.
 *
 * Pure.
 */
#ifndef HTTP_LWS_FRAMES_H
#define HTTP_LWS_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAMES_HEADER_MAX = 14 };

enum {
	FRAMES_CONTINUATION = 0,
	FRAMES_TEXT = 1,
	FRAMES_BINARY = 2,
	FRAMES_CLOSE = 8,
	FRAMES_PING = 9,
	FRAMES_PONG = 10,
};

/** The header of a client's frame with a mask that changes nothing; returns its length. */
size_t frames_header(unsigned char out[FRAMES_HEADER_MAX], int opcode, bool final, uint64_t n);

/** A frame that the server wants to send. */
struct frames_out {
	int opcode;
	bool final;
	uint64_t n; /**< bytes of its payload */
};

/** Reads the header of an unmasked frame at @p p.  Returns its length; 0: it is not all there. */
size_t frames_read(const unsigned char *p, size_t n, struct frames_out *ret);

#endif
