/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file wire.h
 * @brief What the plugin and its helper say to each other.  Pure.
 *
 * Frames over one stream socket, each a head of eight bytes and so many bytes as that says, numbers
 * as the machine has them: both sides are on the same one, and of the same version or they part.
 *
 *     plugin                               helper
 *     SETUP rules, certificates
 *                                          READY   what it could not shut off
 *     ASK id, method, URL, ...
 *                                          ANSWER id, status, body ...
 *
 * Nobody believes what comes: a length beyond what was agreed, an id that nobody asked for, a text
 * that does not end is a mistake, and after a mistake nothing more is read.
 */
#ifndef WIRE_H
#define WIRE_H

#include <chatd/fetch.h>

enum { WIRE_SETUP = 1, WIRE_READY, WIRE_ASK, WIRE_ANSWER };
enum {
	WIRE_VERSION = 1,
	WIRE_HEAD = 8,
	WIRE_READY_BYTES = 4,
	WIRE_ANSWER_BYTES = 32, /**< before its texts */
	WIRE_TYPE_MAX = 1024,
	WIRE_WHY_MAX = 512,
	WIRE_RETRY_AFTER_MAX = 30 * 86400, /**< s */
	WIRE_HEADER_MAX = 8192,            /**< one line of a request */
	WIRE_CA_MAX = 1 << 20,             /**< certificates, as PEM */
	WIRE_IN_MAX = 4 << 20,             /**< what the helper reads at most */
	WIRE_ANSWER_BODY_MAX = 16 << 20,   /**< whatever was asked */
};
/** READY: what is not as it should be, for the log. */
enum { WIRE_NO_LANDLOCK = 1 << 0, WIRE_NO_FILTER = 1 << 1, WIRE_FLAWS = (1 << 2) - 1 };
/** How the helper ends when it cannot begin. */
enum { WIRE_EXIT_USAGE = 2, WIRE_EXIT_SYSTEM = 3, WIRE_EXIT_FRAME = 4, WIRE_EXIT_FENCE = 5 };

/** 0: too few bytes yet; 1: @p ret_type and how many follow; -EPROTO. */
int wire_head(struct chatd_str in, uint16_t *ret_type, uint32_t *ret_n);

void wire_ready_make(uint32_t flaws, uint8_t ret[WIRE_HEAD + WIRE_READY_BYTES]);
/** @p in: what follows the head.  0 or -EPROTO. */
chatd_status wire_ready_read(uint32_t *ret_flaws, struct chatd_str in);

struct wire_setup {
	uint32_t connections, host_connections;
	const char **hosts, **allow; /**< NULL-terminated, to free(); the texts are borrowed */
	struct chatd_str ca;         /**< empty: the system's */
};

/** The frame in ret->p, to free(); .p NULL: no memory. */
struct chatd_str wire_setup_make(uint32_t connections, uint32_t host_connections,
		const char *const *const lists[2], struct chatd_str ca);
/** @p in: what follows the head.  0, -EPROTO. */
chatd_status wire_setup_read(struct wire_setup *ret, struct chatd_str in);

struct wire_ask {
	uint64_t id;
	uint32_t flags, timeout, max_answer; /**< ms, bytes */
	struct chatd_str method, url, body;  /**< body .p NULL: none */
	struct chatd_str headers[CHATD_FETCH_HEADERS_MAX];
	size_t n_headers;
};

struct chatd_str wire_ask_make(const struct wire_ask *);
chatd_status wire_ask_read(struct wire_ask *ret, struct chatd_str in);

struct wire_answer {
	uint64_t id;
	chatd_status rc;
	int32_t status;
	int64_t retry_after; /**< ms */
	uint32_t n_type, n_why, n_body;
};

/** WIRE_HEAD + WIRE_ANSWER_BYTES bytes; the type, the reason and the body follow. */
void wire_answer_make(const struct wire_answer *, uint8_t ret[WIRE_HEAD + WIRE_ANSWER_BYTES]);
/** @p in: WIRE_ANSWER_BYTES or more of what follows a head that promised @p n bytes.  0 means
 *  that all of it is within its bounds and adds up to @p n; else -EPROTO. */
chatd_status wire_answer_read(struct wire_answer *ret, struct chatd_str in, uint32_t n);

#endif
