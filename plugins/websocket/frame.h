/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The framing of RFC 6455, server side: bytes in, events out, and headers to send.
 * Pure: it knows no socket, no host and no clock, and allocates nothing.  A header or a
 * control frame of which a part is missing is left to the caller, who shows it again
 * with more; so a decoder between two frames is all there is to keep per connection.
 */
#ifndef WEBSOCKET_FRAME_H
#define WEBSOCKET_FRAME_H

#include "utf8.h"

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_MAX  10  /**< of an unmasked frame, as a server sends them */
#define FRAME_CONTROL_MAX 125 /**< payload of ping, pong and close */

enum frame_opcode {
	FRAME_CONTINUATION = 0,
	FRAME_TEXT = 1,
	FRAME_BINARY = 2,
	FRAME_CLOSE = 8,
	FRAME_PING = 9,
	FRAME_PONG = 10,
};

enum frame_kind {
	FRAME_EV_MORE = 0, /**< nothing can be said before more bytes come */
	FRAME_EV_DATA = 1, /**< a piece of a message, unmasked and checked */
	FRAME_EV_PING = 2, /**< p, n: what the pong must carry */
	FRAME_EV_PONG = 3,
	FRAME_EV_CLOSE = 4, /**< code: the peer's, FRAME_NO_CODE without; p, n: its reason */
	FRAME_EV_FAIL = 5,  /**< code and why: what to close with; the decoder is of no more use */
};

enum { /* flags of FRAME_EV_DATA: the values of chatd_ws_user.data() */
	FRAME_F_BINARY = 1 << 0,
	FRAME_F_FIRST = 1 << 1,
	FRAME_F_LAST = 1 << 2,
	FRAME_F_EMPTY = 1 << 3, /**< the frame brought no byte at all */
};

#define FRAME_NO_CODE 1005 /**< stands for a close frame without a code; never on the wire */

struct frame_event {
	int32_t kind;
	int32_t code;
	uint32_t flags;
	const char *p; /**< into the scratch buffer */
	size_t n;
	const char *why;
	struct utf8 before; /**< for frame_untake() */
};

struct frame_decoder {
	uint64_t max_message; /**< bytes of one message, all fragments together */
	uint64_t message;     /**< announced so far of the present message */
	uint64_t left;        /**< of the present data frame's payload */
	uint32_t max_empty;   /**< fragments without a byte that one message may have */
	uint32_t empty;
	unsigned char mask[4]; /**< turned so that [0] is for the next byte */
	struct utf8 utf8;
	uint8_t open;  /**< FRAME_TEXT or FRAME_BINARY while a message is under way */
	uint8_t flags; /**< see frame.c */
};

/** @p text_only: a binary message fails with 1003. */
void frame_init(struct frame_decoder *d, uint64_t max_message, uint32_t max_empty, int text_only);

/** Takes from the @p n bytes at @p p what makes one event; returns how many were used up.
 *  @p scratch: where payload is unmasked to, @p room (at least FRAME_CONTROL_MAX) bytes; a
 *  DATA event has at most that many. */
size_t frame_next(struct frame_decoder *d, const char *p, size_t n, char *scratch, size_t room,
		struct frame_event *ret_event);

/** The last @p rest bytes of the DATA event just given were not taken: they will be shown
 *  to frame_next() again, so the caller counts them as not used up. */
void frame_untake(struct frame_decoder *d, const struct frame_event *event, size_t rest);

/** How long the header of an unmasked frame with @p n bytes of payload is. */
size_t frame_header_len(uint64_t n);
/** Writes the header of a whole, final frame; returns its length. */
size_t frame_header(char out[FRAME_HEADER_MAX], int opcode, uint64_t n);

/** A close frame, header and all; @p code FRAME_NO_CODE: without payload.  The reason is
 *  cut to what fits, at a character's end.  Returns the length. */
size_t frame_close(char out[2 + FRAME_CONTROL_MAX], int32_t code, const char *why);

/** May a close frame carry @p code? */
int frame_code_valid(int32_t code);

#endif
