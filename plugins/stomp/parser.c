/* SPDX-License-Identifier: Apache-2.0 */
#include "parser.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int same(struct chatd_str s, const char *lit)
{
	size_t n = strlen(lit);
	return s.n == n && memcmp(s.p, lit, n) == 0;
}

struct chatd_str stomp_header_get(const struct stomp_frame *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++) {
		if (same(f->header[i].name, name)) {
			return f->header[i].value;
		}
	}
	return chatd_str_of(NULL, 0);
}

/* ---- the head: command and headers --------------------------------------- */

static const struct {
	const char *verb;
	enum stomp_command command;
} verbs[] = {
	{ "SEND", STOMP_CMD_SEND },
	{ "CONNECT", STOMP_CMD_CONNECT },
	{ "STOMP", STOMP_CMD_CONNECT },
	{ "SUBSCRIBE", STOMP_CMD_SUBSCRIBE },
	{ "UNSUBSCRIBE", STOMP_CMD_UNSUBSCRIBE },
	{ "ACK", STOMP_CMD_ACK },
	{ "NACK", STOMP_CMD_NACK },
	{ "BEGIN", STOMP_CMD_BEGIN },
	{ "COMMIT", STOMP_CMD_COMMIT },
	{ "ABORT", STOMP_CMD_ABORT },
	{ "DISCONNECT", STOMP_CMD_DISCONNECT },
};

/** The first fault counts; later ones may be its consequences. */
static void fault(struct stomp_frame *f, enum stomp_fault what, const char *detail)
{
	if (f->fault == STOMP_OK) {
		f->fault = what;
		(void)snprintf(f->detail, sizeof(f->detail), "%s", detail);
	}
}

/** Text of the client's within a text of ours: printable, short. */
static void fault_quoting(
		struct stomp_frame *f, enum stomp_fault what, const char *before, struct chatd_str quoted)
{
	char text[STOMP_COMMAND_MAX + 1];
	size_t n = quoted.n < STOMP_COMMAND_MAX ? quoted.n : STOMP_COMMAND_MAX;
	for (size_t i = 0; i < n; i++) {
		char c = quoted.p[i];
		text[i] = c >= 0x20 && c < 0x7f ? c : '?';
	}
	text[n] = '\0';
	char detail[sizeof(f->detail)];
	(void)snprintf(detail, sizeof(detail), "%s\"%s\"", before, text);
	fault(f, what, detail);
}

static void read_verb(struct stomp_frame *f, struct chatd_str line)
{
	f->verb = line;
	f->command = 0;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (same(line, verbs[i].verb)) {
			f->command = verbs[i].command;
			return;
		}
	}
	fault_quoting(f, STOMP_BAD_COMMAND, "Could not interpret command ", line);
}

/** What stands for the escape \c in @p version; 0: nothing does. */
static char unescaped(char c, uint32_t version)
{
	switch (c) {
	case 'n':
		return '\n';
	case 'c':
		return ':';
	case '\\':
		return '\\';
	case 'r':
		return version >= 12 ? '\r' : 0;
	default:
		return 0;
	}
}

/** Undo the escapes of @p s, in the frame's own room when there are any. */
static struct chatd_str unescape(struct stomp_frame *f, struct chatd_str s, uint32_t version)
{
	if (version < 11 || f->command == STOMP_CMD_CONNECT || !memchr(s.p, '\\', s.n)) {
		return s;
	}
	char *out = f->text + f->text_used;
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '\\') {
			c = i + 1 < s.n ? unescaped(s.p[++i], version) : 0;
			if (!c) {
				fault(f, STOMP_MALFORMED, "Undefined escape sequence");
				return s;
			}
		}
		out[n++] = c;
	}
	/* It fits: what is unescaped is shorter, and all of the head fits into text. */
	f->text_used += n;
	return chatd_str_of(out, n);
}

static int has(const struct stomp_frame *f, struct chatd_str name)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct chatd_str *other = &f->header[i].name;
		if (other->n == name.n && memcmp(other->p, name.p, name.n) == 0) {
			return 1;
		}
	}
	return 0;
}

/** A repeated content-length may only say the same again: two proxies that pick
 *  different ones would see different frames. */
static void check_length(struct stomp_frame *f, struct chatd_str value)
{
	struct chatd_str first = stomp_trim(stomp_header_get(f, "content-length"));
	value = stomp_trim(value);
	if (first.n != value.n || memcmp(first.p, value.p, value.n) != 0) {
		fault(f, STOMP_BAD_LENGTH, "Two different content-length headers");
	}
}

static void read_header(struct stomp_frame *f, const struct parser_rules *rules,
		struct chatd_str line, size_t count)
{
	const char *colon = memchr(line.p, ':', line.n);
	if (!colon || colon == line.p) {
		fault(f, STOMP_MALFORMED, colon ? "A header has no name" : "A header line has no colon");
		return;
	}
	struct chatd_str name = chatd_str_of(line.p, (size_t)(colon - line.p));
	struct chatd_str value = chatd_str_of(colon + 1, line.n - name.n - 1);
	if (count > rules->max_headers) {
		char detail[64];
		(void)snprintf(detail, sizeof(detail), "At most %zu headers", rules->max_headers);
		fault(f, STOMP_HEADER_LIMIT, detail);
	}
	if (name.n > STOMP_NAME_MAX) {
		fault(f, STOMP_HEADER_LIMIT, "A header name has at most 256 octets");
	}
	if (value.n > STOMP_VALUE_MAX) {
		fault(f, STOMP_HEADER_LIMIT, "A header value has at most 4096 octets");
	}
	name = unescape(f, name, rules->version);
	value = unescape(f, value, rules->version);
	if (rules->version == 10) {
		value = stomp_trim(value);
	}
	if (same(name, "receipt") && !f->receipt.p && value.n <= STOMP_VALUE_MAX) {
		f->receipt = value;
	}
	if (has(f, name)) {
		if (same(name, "content-length")) {
			check_length(f, value);
		}
	} else if (f->n < rules->max_headers) {
		f->header[f->n++] = (struct stomp_header){ name, value };
	}
}

/** Sets p->want and p->has_length. */
static void read_length(struct parser *p, const struct parser_rules *rules, struct stomp_frame *f)
{
	struct chatd_str s = stomp_header_get(f, "content-length");
	uint64_t n = 0;
	p->has_length = s.p != NULL;
	p->want = 0;
	if (!s.p) {
		return;
	}
	s = stomp_trim(s);
	if (!s.n) {
		fault(f, STOMP_BAD_LENGTH, "content-length is empty");
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') {
			fault(f, STOMP_BAD_LENGTH, "content-length must be a decimal number");
			return;
		}
		n = n > UINT32_MAX ? n : n * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (n && f->command && f->command != STOMP_CMD_SEND) {
		char detail[64];
		(void)snprintf(
				detail, sizeof(detail), "%.*s must not have a body", (int)f->verb.n, f->verb.p);
		fault(f, STOMP_MALFORMED, detail);
	}
	if (n + p->head + 1 > rules->max_frame) {
		char detail[64];
		(void)snprintf(detail, sizeof(detail), "A frame has at most %zu octets", rules->max_frame);
		fault(f, STOMP_TOO_LARGE, detail);
		return;
	}
	p->want = (uint32_t)n;
}

/** Read the complete head at @p s, p->head octets. */
static void read_head(
		struct parser *p, const struct parser_rules *rules, const char *s, struct stomp_frame *f)
{
	const char *end = s + p->head;
	size_t lines = 0;
	f->command = 0;
	f->verb = f->body = chatd_str_of(NULL, 0);
	f->n = 0;
	f->text_used = 0;
	if (!stomp_utf8(chatd_str_of(s, p->head))) {
		fault(f, STOMP_NOT_UTF8, "Header is not UTF-8");
	}
	while (s < end) {
		const char *lf = memchr(s, '\n', (size_t)(end - s));
		size_t n = (size_t)(lf - s);
		n -= n && s[n - 1] == '\r';
		struct chatd_str line = chatd_str_of(s, n);
		if (memchr(s, '\r', n)) {
			fault(f, STOMP_MALFORMED, "A carriage return must be followed by a line feed");
		}
		if (lines == 0) {
			read_verb(f, line);
		} else if (n) {
			read_header(f, rules, line, lines);
		}
		lines++;
		s = lf + 1;
	}
	read_length(p, rules, f);
}

/* ---- finding the frame's end ---------------------------------------------- */

static enum parser_result refuse(struct stomp_frame *f, enum stomp_fault what, const char *detail)
{
	fault(f, what, detail);
	return PARSER_FAULT;
}

static enum parser_result too_large(const struct parser_rules *rules, struct stomp_frame *f)
{
	char detail[64];
	(void)snprintf(detail, sizeof(detail), "A frame has at most %zu octets", rules->max_frame);
	return refuse(f, STOMP_TOO_LARGE, detail);
}

/** One more line of the head, or a part of one, is at hand. */
static enum parser_result scan_line(struct parser *p, const struct parser_rules *rules,
		const char *s, size_t n, struct stomp_frame *f)
{
	size_t limit = rules->max_frame < STOMP_HEAD_MAX ? rules->max_frame : STOMP_HEAD_MAX;
	size_t stop = n < limit ? n : limit;
	const char *lf = memchr(s + p->seen, '\n', stop - p->seen);
	size_t end = lf ? (size_t)(lf - s) : stop;
	size_t line = end - p->line;
	const char *nul = memchr(s + p->seen, '\0', end - p->seen);
	if (nul && (p->line || nul - s <= STOMP_COMMAND_MAX)) {
		return refuse(f, STOMP_MALFORMED, "A NUL before the blank line that ends the headers");
	}
	line -= line && s[end - 1] == '\r';
	if (p->line == 0 && line > STOMP_COMMAND_MAX) {
		return refuse(f, STOMP_BAD_COMMAND, "Command too long");
	}
	if (!lf) {
		p->seen = (uint32_t)stop;
		if (stop < limit) {
			return PARSER_MORE;
		}
		return limit < STOMP_HEAD_MAX
				? too_large(rules, f)
				: refuse(f, STOMP_HEADER_LIMIT, "Command and headers have at most 16384 octets");
	}
	p->seen = (uint32_t)end + 1;
	if (line == 0) {
		p->head = p->seen;
	}
	p->line = p->seen;
	return PARSER_MORE;
}

/** The head is complete; is the body? */
static enum parser_result scan_body(struct parser *p, const struct parser_rules *rules,
		const char *s, size_t n, struct stomp_frame *f)
{
	size_t body = p->want;
	if (p->has_length) {
		p->seen = (uint32_t)(n < (size_t)p->head + p->want ? n : (size_t)p->head + p->want);
		if (n <= (size_t)p->head + p->want) {
			return PARSER_MORE;
		}
		if (s[p->head + p->want] != '\0') {
			return refuse(
					f, STOMP_NO_NULL, "The octet after content-length octets of body is not NUL");
		}
	} else {
		size_t stop = n < rules->max_frame ? n : rules->max_frame;
		const char *nul = memchr(s + p->seen, '\0', stop - p->seen);
		if (!nul) {
			p->seen = (uint32_t)stop;
			return stop < rules->max_frame ? PARSER_MORE : too_large(rules, f);
		}
		body = (size_t)(nul - s) - p->head;
	}
	f->body = chatd_str_of(s + p->head, body);
	p->seen = (uint32_t)(p->head + body + 1);
	return PARSER_FRAME;
}

/** Look at the octets of the frame from p->seen on; @p n of it are at @p s. */
static enum parser_result scan(struct parser *p, const struct parser_rules *rules, const char *s,
		size_t n, struct stomp_frame *f)
{
	int read = 0;
	while (!p->head) {
		uint32_t before = p->seen;
		enum parser_result rc = scan_line(p, rules, s, n, f);
		if (rc != PARSER_MORE || (!p->head && (p->seen == before || p->seen == n))) {
			return rc;
		}
		if (p->head) {
			read_head(p, rules, s, f);
			read = 1;
			if (f->fault != STOMP_OK) {
				return PARSER_FAULT;
			}
		}
	}
	enum parser_result rc = scan_body(p, rules, s, n, f);
	if (rc == PARSER_MORE) {
		return rc;
	}
	struct chatd_str body = f->body;
	if (!read) {
		/* The head was read when it came; other frames were read into *f since, and the
		 * kept bytes may have moved.  After a fault this finds the receipt. */
		read_head(p, rules, s, f);
	}
	if (rc == PARSER_FAULT) {
		return rc;
	}
	f->body = body;
	if (body.n && f->command != STOMP_CMD_SEND) {
		char detail[64];
		(void)snprintf(
				detail, sizeof(detail), "%.*s must not have a body", (int)f->verb.n, f->verb.p);
		return refuse(f, STOMP_MALFORMED, detail);
	}
	return PARSER_FRAME;
}

/* ---- pieces ---------------------------------------------------------------- */

/** Line ends between frames are heart-beats.  Stray NULs are let through as well: some
 *  clients end their frames twice. */
static enum parser_result skip_between(
		struct parser *p, struct chatd_str *in, struct stomp_frame *f)
{
	while (in->n) {
		char c = in->p[0];
		if (p->after_cr && c != '\n') {
			return refuse(f, STOMP_MALFORMED, "A carriage return must be followed by a line feed");
		}
		if (c != '\n' && c != '\r' && c != '\0') {
			p->inside = 1;
			p->seen = p->line = p->head = 0;
			break;
		}
		p->after_cr = c == '\r';
		in->p++;
		in->n--;
	}
	return PARSER_MORE;
}

static void take(struct chatd_str *in, size_t n)
{
	in->p += n;
	in->n -= n;
}

static int keep(struct parser *p, const struct parser_rules *rules, const char *s, size_t n)
{
	size_t need = (size_t)p->len + n;
	if (need > p->cap) {
		size_t most = p->head && p->has_length ? (size_t)p->head + p->want + 1 : rules->max_frame;
		size_t cap = p->cap ? p->cap : 256;
		while (cap < need) {
			cap *= 2;
		}
		cap = cap > most && most >= need ? most : cap;
		char *buf = realloc(p->buf, cap);
		if (!buf) {
			return -1;
		}
		p->buf = buf;
		p->cap = (uint32_t)cap;
	}
	memcpy(p->buf + p->len, s, n);
	p->len += (uint32_t)n;
	return 0;
}

/** How much of @p in may belong to the kept frame, so that what follows it is not
 *  copied: up to the next line end, NUL, or the announced length. */
static size_t piece(const struct parser *p, const struct parser_rules *rules, struct chatd_str in)
{
	size_t most = rules->max_frame - p->len;
	size_t n = in.n < most ? in.n : most;
	if (p->head && p->has_length) {
		size_t left = (size_t)p->head + p->want + 1 - p->len;
		return n < left ? n : left;
	}
	const char *end = memchr(in.p, p->head ? '\0' : '\n', n);
	return end ? (size_t)(end - in.p) + 1 : n;
}

enum parser_result parser_feed(struct parser *p, const struct parser_rules *rules,
		struct chatd_str *in, struct stomp_frame *f)
{
	f->fault = STOMP_OK;
	f->receipt = chatd_str_of(NULL, 0);
	while (in->n) {
		enum parser_result rc;
		if (!p->inside) {
			rc = skip_between(p, in, f);
			if (rc != PARSER_MORE || !p->inside) {
				return rc;
			}
		}
		if (!p->buf) {
			rc = scan(p, rules, in->p, in->n, f);
			if (rc == PARSER_FRAME) {
				take(in, p->seen);
				return rc;
			}
			if (rc == PARSER_FAULT) {
				return rc;
			}
			/* Everything was scanned and belongs to the one frame. */
			if (keep(p, rules, in->p, in->n) < 0) {
				return refuse(f, STOMP_INTERNAL, "Out of memory");
			}
			take(in, in->n);
			return PARSER_MORE;
		}
		size_t n = piece(p, rules, *in);
		if (keep(p, rules, in->p, n) < 0) {
			return refuse(f, STOMP_INTERNAL, "Out of memory");
		}
		take(in, n);
		rc = scan(p, rules, p->buf, p->len, f);
		if (rc != PARSER_MORE) {
			return rc;
		}
	}
	return PARSER_MORE;
}

void parser_done(struct parser *p)
{
	free(p->buf);
	*p = (struct parser){ 0 };
}
