/* SPDX-License-Identifier: Apache-2.0 */
/**
 * STOMP frames out of bytes that come in any pieces.
 *
 * Pure: knows no connection and no host.  A frame that lies whole in the bytes at hand
 * is parsed where it lies.  Of a frame that is not whole yet the parser keeps a copy,
 * which grows with what arrived (never with what was announced), is bounded by
 * max_frame, and goes when the frame has been handled; between frames it keeps nothing.
 * No byte is looked at more than a fixed number of times, however small the pieces.
 */
#ifndef STOMP_PARSER_H
#define STOMP_PARSER_H

#include "faults.h"
#include <chatd/plugin.h>

enum {
	STOMP_COMMAND_MAX = 32,      /**< octets of a command */
	STOMP_NAME_MAX = 256,        /**< octets of a header's name, as sent */
	STOMP_VALUE_MAX = 4096,      /**< octets of a header's value, as sent */
	STOMP_HEAD_MAX = 16384,      /**< octets of command and headers together */
	STOMP_HEADERS_DEFAULT = 64,  /**< headers of one frame */
	STOMP_HEADERS_CEILING = 256, /**< most that max_headers may allow */
};

enum stomp_command {
	STOMP_CMD_CONNECT = 1, /**< or STOMP */
	STOMP_CMD_SEND,
	STOMP_CMD_SUBSCRIBE,
	STOMP_CMD_UNSUBSCRIBE,
	STOMP_CMD_ACK,
	STOMP_CMD_NACK,
	STOMP_CMD_BEGIN,
	STOMP_CMD_COMMIT,
	STOMP_CMD_ABORT,
	STOMP_CMD_DISCONNECT,
};

struct stomp_header {
	struct chatd_str name, value;
};

/** A frame, or the reason why there is none.  Large: one per worker will do, for frames
 *  are handled one after the other. */
struct stomp_frame {
	enum stomp_command command;
	struct chatd_str verb; /**< the command as sent */
	struct chatd_str body;
	size_t n; /**< of header; a repeated header is there once, with its first value */
	struct stomp_header header[STOMP_HEADERS_CEILING];

	enum stomp_fault fault;    /**< of PARSER_FAULT */
	char detail[128];          /**< of PARSER_FAULT: one line, UTF-8, printable */
	struct chatd_str receipt;  /**< the receipt header, even of a faulty frame, if found */
	size_t text_used;          /**< of text */
	char text[STOMP_HEAD_MAX]; /**< values that had escapes */
};

/** What the parser holds to. */
struct parser_rules {
	size_t max_frame;   /**< octets from the command to the NUL */
	size_t max_headers; /**< 1 .. STOMP_HEADERS_CEILING */
	uint32_t version;   /**< 10, 11, 12: how headers are escaped; 0: not agreed yet */
};

/** All zero is a parser at the beginning of a stream. */
struct parser {
	char *buf;     /**< the frame so far; NULL: nothing kept */
	uint32_t len;  /**< used of buf */
	uint32_t cap;  /**< size of buf */
	uint32_t seen; /**< octets of the frame scanned */
	uint32_t line; /**< where the present line of the head begins */
	uint32_t head; /**< octets of the head with its blank line; 0: not complete */
	uint32_t want; /**< octets of the body, if it has_length */
	uint8_t has_length, inside, after_cr;
};

enum parser_result {
	PARSER_MORE,  /**< all taken, no frame complete */
	PARSER_FRAME, /**< *f is the frame, valid until parser_done() */
	PARSER_FAULT, /**< the stream is beyond repair; f->fault, f->detail, f->receipt */
};

/** Take bytes off the front of *in until a frame is complete.  The frame points into
 *  *in's bytes, into @p p and into @p f. */
enum parser_result parser_feed(struct parser *p, const struct parser_rules *rules,
		struct chatd_str *in, struct stomp_frame *f);

/** The frame has been handled: frees what was kept of it.  Also the end of a parser. */
void parser_done(struct parser *p);

/** Is a frame begun and not complete? */
static inline int parser_is_inside(const struct parser *p)
{
	return p->inside;
}

/** The value of header @p name; .p NULL: there is none. */
struct chatd_str stomp_header_get(const struct stomp_frame *f, const char *name);

/** @p s without blanks and tabs at its ends. */
struct chatd_str stomp_trim(struct chatd_str s);

/** 1 if @p s is UTF-8 without surrogates and overlong forms. */
int stomp_utf8(struct chatd_str s);

#endif
