/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file parser.h
 * @brief Strict, incremental HTTP/1.1 reading: request heads and chunked bodies.
 *
 * Pure: no host, no I/O, no clock.  Bytes may come at any boundaries; each is looked
 * at once, so the work is linear in what was sent however it was cut.  Whatever is
 * wrong is found at the first octet that makes it wrong, and no lenient reading of
 * RFC 9112 is taken: a message that two programs could read differently is refused.
 */
#ifndef HTTP_PARSER_H
#define HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <chatd/plugin.h>

/** Why something was refused; the texts are literals. */
struct http_error {
	int status;
	const char *code;
	const char *why;
};

enum http_parse {
	HTTP_MORE = 0,  /**< all bytes taken, more are needed */
	HTTP_DONE = 1,  /**< complete; bytes after it were not taken */
	HTTP_DATA = 2,  /**< chunked bodies: a piece of content */
	HTTP_WRONG = 3, /**< refused, see .err */
};

struct http_limits {
	size_t line;   /**< octets of the request line without its CRLF: beyond is 414 */
	size_t field;  /**< octets of one header line without its CRLF: beyond is 431 */
	size_t fields; /**< number of header lines: beyond is 431 */
	size_t total;  /**< octets of all header lines with their CRLFs: beyond is 431 */
};

/** A header line, as offsets: the text moves while it grows. */
struct http_field {
	uint32_t name, name_n;
	uint32_t value, value_n;
};

struct http_head {
	const struct http_limits *limits;
	struct http_error err;
	char *text; /**< method, target and header lines without delimiters' meaning */
	size_t n, cap;
	struct http_field *fields;
	size_t n_fields, cap_fields;
	uint32_t method_n, target, target_n;
	size_t line_n;  /**< octets of the present line */
	size_t total_n; /**< octets of the header lines before it */
	uint8_t state, at;
	uint8_t major, minor; /**< of the version, once the request line is complete */
	bool skipped;         /**< one empty line before the request line was skipped */
};

/** What the head says about the rest of the message and the connection. */
struct http_info {
	struct chatd_str host; /**< .p NULL: HTTP/1.0 without Host */
	int64_t length;        /**< of the body; 0 without one, -1 when chunked */
	bool keep;             /**< the connection may go on after this request */
	bool expect;           /**< Expect: 100-continue */
	bool upgrade;          /**< Connection names "upgrade" and there is an Upgrade header */
};

void http_head_init(struct http_head *, const struct http_limits *);
void http_head_finish(struct http_head *);

/** Takes bytes until the empty line that ends the head.  HTTP_MORE, _DONE or _WRONG;
 *  *ret_used is set in each case. */
enum http_parse http_head_feed(struct http_head *, const char *p, size_t n, size_t *ret_used);

/** Judges a complete head: Host, length, connection.  HTTP_DONE or HTTP_WRONG (.err). */
enum http_parse http_head_check(struct http_head *, struct http_info *ret);

struct chatd_str http_head_method(const struct http_head *);
struct chatd_str http_head_target(const struct http_head *);
/** Header line @p i; false: there are no more. */
bool http_head_at(const struct http_head *, size_t i, struct chatd_str *ret_name,
		struct chatd_str *ret_value);
/** The first header @p name, in any case; .p NULL: none.  @p ret_count may be NULL. */
struct chatd_str http_head_get(const struct http_head *, const char *name, size_t *ret_count);

/** A chunked body. */
struct http_chunks {
	struct http_error err;
	uint64_t left;   /**< octets of the present chunk still to come */
	uint32_t digits; /**< of the size, so far */
	uint32_t extra;  /**< octets of the extension, or of the trailer section */
	uint8_t state;
};

void http_chunks_init(struct http_chunks *);
/** Takes bytes; HTTP_DATA: *ret_data is content (call again with what is left). */
enum http_parse http_chunks_feed(struct http_chunks *, const char *p, size_t n, size_t *ret_used,
		struct chatd_str *ret_data);

/** Equal but for the case of ASCII letters? */
bool http_same(struct chatd_str a, const char *b);
/** Is @p token an element of the comma-separated list @p list (any case)? */
bool http_list_has(struct chatd_str list, const char *token);
/** Takes the next element off a comma-separated list, trimmed; false: no more. */
bool http_list_next(struct chatd_str *list, struct chatd_str *ret_item);
/** Is it a non-empty RFC 9110 token? */
bool http_is_token(struct chatd_str);
/** Is it "name", "192.0.2.1" or "[2001:db8::1]", with a port or without? */
bool http_is_authority(struct chatd_str);

#endif
