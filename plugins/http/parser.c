/* SPDX-License-Identifier: Apache-2.0 */
#include "parser.h"

#include <stdlib.h>
#include <string.h>

enum {
	S_START,    /* before the request line */
	S_START_LF, /* the LF of an empty line before it */
	S_METHOD,
	S_TARGET,
	S_OLD_LF, /* CR after the target: HTTP/0.9 */
	S_VERSION,
	S_LINE_LF,
	S_FIELD, /* first octet of a header line */
	S_NAME,
	S_BEFORE, /* blanks before the value */
	S_VALUE,
	S_FIELD_LF,
	S_END_LF,
	S_DONE,
};

#define EXTENSION_MAX 256
#define TRAILER_MAX   4096
#define SIZE_DIGITS   16

/* tchar of RFC 9110 5.6.2 */
static bool is_tchar(unsigned char ch)
{
	if ((ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z'))
		return true;
	return ch != '\0' && strchr("!#$%&'*+-.^_`|~", ch) != NULL;
}

static unsigned char lower(unsigned char ch)
{
	return ch >= 'A' && ch <= 'Z' ? (unsigned char)(ch + 32) : ch;
}

bool http_same(struct chatd_str a, const char *b)
{
	if (!a.p || a.n != strlen(b))
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (lower((unsigned char)a.p[i]) != lower((unsigned char)b[i]))
			return false;
	return true;
}

bool http_is_token(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_tchar((unsigned char)s.p[i]))
			return false;
	return s.n > 0;
}

bool http_list_next(struct chatd_str *list, struct chatd_str *ret_item)
{
	if (!list->p)
		return false;
	const char *comma = memchr(list->p, ',', list->n);
	struct chatd_str item = *list;
	if (comma) {
		item.n = (size_t)(comma - list->p);
		list->p += item.n + 1;
		list->n -= item.n + 1;
	} else {
		list->p = NULL;
	}
	while (item.n > 0 && (item.p[0] == ' ' || item.p[0] == '\t')) {
		item.p++;
		item.n--;
	}
	while (item.n > 0 && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
		item.n--;
	*ret_item = item;
	return true;
}

bool http_list_has(struct chatd_str list, const char *token)
{
	struct chatd_str item;
	while (http_list_next(&list, &item))
		if (http_same(item, token))
			return true;
	return false;
}

void http_head_init(struct http_head *h, const struct http_limits *limits)
{
	memset(h, 0, sizeof(*h));
	h->limits = limits;
}

void http_head_finish(struct http_head *h)
{
	free(h->text);
	free(h->fields);
	h->text = NULL;
	h->fields = NULL;
	h->n = h->cap = h->n_fields = h->cap_fields = 0;
}

static enum http_parse wrong(struct http_head *h, int status, const char *code, const char *why)
{
	h->err.status = status;
	h->err.code = code;
	h->err.why = why;
	return HTTP_WRONG;
}

static enum http_parse bad_line_end(struct http_head *h)
{
	return wrong(h, 400, "BAD_LINE_END", "Lines must end in CR LF.");
}

static enum http_parse no_memory(struct http_head *h)
{
	return wrong(h, 503, "OVERLOADED", "The server is out of memory.");
}

static bool keep_octet(struct http_head *h, char ch)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? h->cap * 2 : 512;
		char *text = realloc(h->text, cap);
		if (!text)
			return false;
		h->text = text;
		h->cap = cap;
	}
	h->text[h->n++] = ch;
	return true;
}

static struct http_field *last_field(struct http_head *h)
{
	return &h->fields[h->n_fields - 1];
}

static bool new_field(struct http_head *h)
{
	if (h->n_fields == h->cap_fields) {
		size_t cap = h->cap_fields ? h->cap_fields * 2 : 16;
		struct http_field *fields = realloc(h->fields, cap * sizeof(*fields));
		if (!fields)
			return false;
		h->fields = fields;
		h->cap_fields = cap;
	}
	struct http_field *field = &h->fields[h->n_fields++];
	memset(field, 0, sizeof(*field));
	field->name = (uint32_t)h->n;
	return true;
}

static enum http_parse on_start(struct http_head *h, unsigned char ch)
{
	if (ch == '\r' && !h->skipped) {
		h->state = S_START_LF;
		return HTTP_MORE;
	}
	if (ch == '\n')
		return bad_line_end(h);
	if (!is_tchar(ch))
		return wrong(h, 400, "BAD_REQUEST", "This is not an HTTP request.");
	h->state = S_METHOD;
	h->line_n = 0;
	return keep_octet(h, (char)ch) ? HTTP_MORE : no_memory(h);
}

static enum http_parse on_method(struct http_head *h, unsigned char ch)
{
	if (ch == ' ') {
		h->method_n = (uint32_t)h->n;
		h->target = (uint32_t)h->n;
		h->state = S_TARGET;
		return HTTP_MORE;
	}
	if (!is_tchar(ch))
		return wrong(h, 400, "BAD_REQUEST", "The method is not a token.");
	return keep_octet(h, (char)ch) ? HTTP_MORE : no_memory(h);
}

static enum http_parse on_target(struct http_head *h, unsigned char ch)
{
	if (ch == '\n')
		return bad_line_end(h);
	h->target_n = (uint32_t)h->n - h->target;
	if (ch == '\r') {
		h->state = S_OLD_LF;
		return HTTP_MORE;
	}
	if (ch == ' ') {
		if (h->target_n == 0)
			return wrong(h, 400, "BAD_REQUEST", "The request target is missing.");
		h->state = S_VERSION;
		h->at = 0;
		return HTTP_MORE;
	}
	if (ch <= 0x20 || ch >= 0x7f)
		return wrong(
				h, 400, "BAD_REQUEST", "The request target has an octet that must be escaped.");
	return keep_octet(h, (char)ch) ? HTTP_MORE : no_memory(h);
}

static enum http_parse on_version(struct http_head *h, unsigned char ch)
{
	static const char pattern[] = "HTTP/0.0";
	if (ch == '\n')
		return bad_line_end(h);
	if (h->at == sizeof(pattern) - 1) {
		if (ch != '\r')
			return wrong(h, 400, "BAD_REQUEST", "There is more after the HTTP version.");
		h->state = S_LINE_LF;
		return HTTP_MORE;
	}
	bool digit = pattern[h->at] == '0';
	if (digit ? ch < '0' || ch > '9' : ch != (unsigned char)pattern[h->at])
		return wrong(h, 400, "BAD_REQUEST", "The HTTP version is malformed.");
	if (digit && h->at == 5)
		h->major = (uint8_t)(ch - '0');
	else if (digit)
		h->minor = (uint8_t)(ch - '0');
	h->at++;
	return HTTP_MORE;
}

static enum http_parse on_line_lf(struct http_head *h, unsigned char ch)
{
	if (ch != '\n')
		return bad_line_end(h);
	if (h->major != 1 || h->minor > 1)
		return wrong(
				h, 505, "HTTP_VERSION_NOT_SUPPORTED", "HTTP/1.1 and HTTP/1.0 are spoken here.");
	h->state = S_FIELD;
	h->line_n = 0;
	return HTTP_MORE;
}

static enum http_parse on_field(struct http_head *h, unsigned char ch)
{
	if (ch == '\r') {
		h->state = S_END_LF;
		return HTTP_MORE;
	}
	if (ch == '\n')
		return bad_line_end(h);
	if (ch == ' ' || ch == '\t')
		return wrong(h, 400, "BAD_HEADER", "Folded header lines are not accepted.");
	if (ch == ':')
		return wrong(h, 400, "BAD_HEADER", "A header has no name.");
	if (!is_tchar(ch))
		return wrong(h, 400, "BAD_HEADER", "A header name is not a token.");
	if (h->n_fields == h->limits->fields)
		return wrong(h, 431, "HEADERS_TOO_LARGE", "There are too many header lines.");
	h->state = S_NAME;
	if (!new_field(h) || !keep_octet(h, (char)ch))
		return no_memory(h);
	return HTTP_MORE;
}

static enum http_parse on_name(struct http_head *h, unsigned char ch)
{
	if (ch == ':') {
		last_field(h)->name_n = (uint32_t)h->n - last_field(h)->name;
		last_field(h)->value = (uint32_t)h->n;
		h->state = S_BEFORE;
		return HTTP_MORE;
	}
	if (ch == '\n')
		return bad_line_end(h);
	if (ch == ' ' || ch == '\t')
		return wrong(h, 400, "BAD_HEADER", "There is a blank before a header's colon.");
	if (ch == '\r')
		return wrong(h, 400, "BAD_HEADER", "A header line has no colon.");
	if (!is_tchar(ch))
		return wrong(h, 400, "BAD_HEADER", "A header name is not a token.");
	return keep_octet(h, (char)ch) ? HTTP_MORE : no_memory(h);
}

static struct chatd_str name_of(const struct http_head *h, const struct http_field *field)
{
	return chatd_str_of(h->text + field->name, field->name_n);
}

static enum http_parse on_value(struct http_head *h, unsigned char ch)
{
	if (ch == '\r') {
		struct http_field *field = last_field(h);
		size_t end = h->n;
		while (end > field->value && (h->text[end - 1] == ' ' || h->text[end - 1] == '\t'))
			end--;
		field->value_n = (uint32_t)(end - field->value);
		h->state = S_FIELD_LF;
		return HTTP_MORE;
	}
	if (ch == '\n')
		return bad_line_end(h);
	if ((ch < 0x20 && ch != '\t') || ch == 0x7f) {
		/* Proxies that trim such an octet would read "chunked": name the real danger. */
		if (http_same(name_of(h, last_field(h)), "transfer-encoding"))
			return wrong(h, 501, "BAD_TRANSFER_ENCODING", "The only transfer coding is chunked.");
		return wrong(h, 400, "BAD_HEADER", "A header value has a control character.");
	}
	if (h->state == S_BEFORE && (ch == ' ' || ch == '\t'))
		return HTTP_MORE;
	h->state = S_VALUE;
	return keep_octet(h, (char)ch) ? HTTP_MORE : no_memory(h);
}

static enum http_parse on_field_lf(struct http_head *h, unsigned char ch)
{
	if (ch != '\n')
		return bad_line_end(h);
	h->total_n += h->line_n + 2;
	h->line_n = 0;
	h->state = S_FIELD;
	return HTTP_MORE;
}

static enum http_parse step(struct http_head *h, unsigned char ch)
{
	switch (h->state) {
	case S_START:
		return on_start(h, ch);
	case S_START_LF:
		if (ch != '\n')
			return bad_line_end(h);
		h->skipped = true;
		h->state = S_START;
		return HTTP_MORE;
	case S_METHOD:
		return on_method(h, ch);
	case S_TARGET:
		return on_target(h, ch);
	case S_OLD_LF:
		if (ch != '\n')
			return bad_line_end(h);
		return wrong(h, 400, "BAD_REQUEST", "The HTTP version is missing.");
	case S_VERSION:
		return on_version(h, ch);
	case S_LINE_LF:
		return on_line_lf(h, ch);
	case S_FIELD:
		return on_field(h, ch);
	case S_NAME:
		return on_name(h, ch);
	case S_BEFORE:
	case S_VALUE:
		return on_value(h, ch);
	case S_FIELD_LF:
		return on_field_lf(h, ch);
	default:
		if (ch != '\n')
			return bad_line_end(h);
		h->state = S_DONE;
		return HTTP_DONE;
	}
}

/* Counts the octet against the limits of the line it is in; its CR LF does not count. */
static enum http_parse count(struct http_head *h, unsigned char ch)
{
	if (ch == '\r' || ch == '\n')
		return HTTP_MORE;
	switch (h->state) {
	case S_METHOD:
	case S_TARGET:
	case S_VERSION:
		if (++h->line_n > h->limits->line)
			return wrong(h, 414, "URI_TOO_LONG", "The request line is too long.");
		return HTTP_MORE;
	case S_FIELD:
	case S_NAME:
	case S_BEFORE:
	case S_VALUE:
		if (++h->line_n > h->limits->field)
			return wrong(h, 431, "HEADERS_TOO_LARGE", "A header line is too long.");
		if (h->total_n + h->line_n + 2 > h->limits->total)
			return wrong(h, 431, "HEADERS_TOO_LARGE", "The headers are too large.");
		return HTTP_MORE;
	default:
		return HTTP_MORE;
	}
}

enum http_parse http_head_feed(struct http_head *h, const char *p, size_t n, size_t *ret_used)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)p[i];
		enum http_parse rc = step(h, ch);
		/* After the step, so that an octet that is wrong by itself is named first. */
		if (rc == HTTP_MORE)
			rc = count(h, ch);
		if (rc != HTTP_MORE) {
			*ret_used = i + 1;
			return rc;
		}
	}
	*ret_used = n;
	return HTTP_MORE;
}

struct chatd_str http_head_method(const struct http_head *h)
{
	return chatd_str_of(h->text, h->method_n);
}

struct chatd_str http_head_target(const struct http_head *h)
{
	return chatd_str_of(h->text + h->target, h->target_n);
}

bool http_head_at(const struct http_head *h, size_t i, struct chatd_str *ret_name,
		struct chatd_str *ret_value)
{
	if (i >= h->n_fields)
		return false;
	*ret_name = name_of(h, &h->fields[i]);
	*ret_value = chatd_str_of(h->text + h->fields[i].value, h->fields[i].value_n);
	return true;
}

struct chatd_str http_head_get(const struct http_head *h, const char *name, size_t *ret_count)
{
	struct chatd_str found = { NULL, 0 }, key, value;
	size_t seen = 0;
	for (size_t i = 0; http_head_at(h, i, &key, &value); i++)
		if (http_same(key, name) && seen++ == 0)
			found = value;
	if (ret_count)
		*ret_count = seen;
	return found;
}

static bool is_port(const char *p, size_t n)
{
	unsigned value = 0;
	if (n > 5)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		value = value * 10 + (unsigned)(p[i] - '0');
	}
	return value <= 65535;
}

bool http_is_authority(struct chatd_str s)
{
	size_t i = 0;
	if (!s.p || s.n == 0)
		return false;
	if (s.p[0] == '[') {
		for (i = 1; i < s.n && s.p[i] != ']'; i++)
			if (!strchr("0123456789abcdefABCDEF:.", s.p[i]) || s.p[i] == '\0')
				return false;
		if (i == s.n || i == 1)
			return false;
		i++;
	} else {
		for (; i < s.n && s.p[i] != ':'; i++) {
			unsigned char ch = lower((unsigned char)s.p[i]);
			bool alnum = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
			if (!alnum && ch != '.' && ch != '-' && ch != '_' && ch != '~')
				return false;
		}
		if (i == 0)
			return false;
	}
	return i == s.n || (s.p[i] == ':' && is_port(s.p + i + 1, s.n - i - 1));
}

static enum http_parse check_host(struct http_head *h, struct http_info *ret)
{
	size_t hosts;
	ret->host = http_head_get(h, "host", &hosts);
	if (hosts == 0 && h->minor >= 1)
		return wrong(h, 400, "HOST_REQUIRED", "HTTP/1.1 requests need a Host header.");
	if (hosts > 1)
		return wrong(h, 400, "HOST_INVALID", "There is more than one Host header.");
	if (hosts == 1 && !http_is_authority(ret->host))
		return wrong(
				h, 400, "HOST_INVALID", "The Host header is not a host with an optional port.");
	return HTTP_DONE;
}

static enum http_parse check_length(struct http_head *h, struct http_info *ret)
{
	size_t lengths, codings;
	struct chatd_str length = http_head_get(h, "content-length", &lengths);
	struct chatd_str coding = http_head_get(h, "transfer-encoding", &codings);
	ret->length = 0;
	if (lengths > 1 || (lengths && codings) || (lengths && memchr(length.p, ',', length.n)))
		return wrong(h, 400, "AMBIGUOUS_LENGTH", "The length of the body is given more than once.");
	if (codings && h->minor == 0)
		return wrong(h, 400, "BAD_TRANSFER_ENCODING", "HTTP/1.0 has no transfer codings.");
	if (codings > 1 || (codings && !http_same(coding, "chunked")))
		return wrong(h, 501, "BAD_TRANSFER_ENCODING", "The only transfer coding is chunked.");
	if (codings) {
		ret->length = -1;
		return HTTP_DONE;
	}
	if (!lengths)
		return HTTP_DONE;
	for (size_t i = 0; i < length.n; i++)
		if (length.p[i] < '0' || length.p[i] > '9')
			return wrong(h, 400, "BAD_LENGTH", "Content-Length is not a decimal number.");
	if (length.n == 0)
		return wrong(h, 400, "BAD_LENGTH", "Content-Length is empty.");
	if (length.n > 18) /* 19 digits may not fit in 63 bits */
		return wrong(h, 413, "CONTENT_TOO_LARGE", "The body is too large.");
	for (size_t i = 0; i < length.n; i++)
		ret->length = ret->length * 10 + (length.p[i] - '0');
	return HTTP_DONE;
}

enum http_parse http_head_check(struct http_head *h, struct http_info *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (check_host(h, ret) == HTTP_WRONG || check_length(h, ret) == HTTP_WRONG)
		return HTTP_WRONG;
	bool close = false, keep = h->minor >= 1, upgrade = false, offer = false;
	struct chatd_str name, value;
	for (size_t i = 0; http_head_at(h, i, &name, &value); i++) {
		if (http_same(name, "connection")) {
			close = close || http_list_has(value, "close");
			keep = keep || http_list_has(value, "keep-alive");
			upgrade = upgrade || http_list_has(value, "upgrade");
		} else if (http_same(name, "upgrade")) {
			offer = true;
		} else if (http_same(name, "expect")) {
			if (!http_same(value, "100-continue"))
				return wrong(h, 417, "EXPECTATION_FAILED", "The only expectation is 100-continue.");
			ret->expect = h->minor >= 1;
		}
	}
	ret->keep = keep && !close;
	ret->upgrade = upgrade && offer && h->minor >= 1;
	return HTTP_DONE;
}

enum {
	C_SIZE,
	C_EXT,
	C_SIZE_LF,
	C_CONTENT,
	C_CONTENT_CR,
	C_CONTENT_LF,
	C_TRAILER,
	C_NAME,
	C_VALUE,
	C_TRAILER_LF,
	C_END_LF,
	C_DONE
};

void http_chunks_init(struct http_chunks *c)
{
	memset(c, 0, sizeof(*c));
}

static enum http_parse bad_chunk(struct http_chunks *c, const char *why)
{
	c->err.status = 400;
	c->err.code = "BAD_CHUNK";
	c->err.why = why;
	return HTTP_WRONG;
}

static int hex_digit(unsigned char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch = lower(ch);
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static enum http_parse chunk_size(struct http_chunks *c, unsigned char ch)
{
	int digit = hex_digit(ch);
	if (digit >= 0) {
		if (++c->digits > SIZE_DIGITS)
			return bad_chunk(c, "A chunk size has too many digits.");
		c->left = c->left << 4 | (unsigned)digit;
		return HTTP_MORE;
	}
	if (c->digits == 0 || (ch != '\r' && ch != ';'))
		return bad_chunk(c, "A chunk size is not a hexadecimal number.");
	c->state = ch == '\r' ? C_SIZE_LF : C_EXT;
	c->extra = 0;
	return HTTP_MORE;
}

static enum http_parse chunk_ext(struct http_chunks *c, unsigned char ch)
{
	if (ch == '\r') {
		c->state = C_SIZE_LF;
		return HTTP_MORE;
	}
	if ((ch < 0x20 && ch != '\t') || ch == 0x7f)
		return bad_chunk(c, "A chunk extension has a control character.");
	if (++c->extra > EXTENSION_MAX)
		return bad_chunk(c, "A chunk extension is too long.");
	return HTTP_MORE;
}

/* One octet of the trailer section, which is checked and dropped. */
static enum http_parse chunk_trailer(struct http_chunks *c, unsigned char ch)
{
	if (++c->extra > TRAILER_MAX)
		return bad_chunk(c, "The trailer section is too long.");
	if (c->state == C_TRAILER && ch == '\r') {
		c->state = C_END_LF;
	} else if (c->state == C_TRAILER || (c->state == C_NAME && ch != ':')) {
		if (!is_tchar(ch))
			return bad_chunk(c, "A trailer line is malformed.");
		c->state = C_NAME;
	} else if (c->state == C_NAME) {
		c->state = C_VALUE;
	} else if (ch == '\r') {
		c->state = C_TRAILER_LF;
	} else if ((ch < 0x20 && ch != '\t') || ch == 0x7f) {
		return bad_chunk(c, "A trailer line has a control character.");
	}
	return HTTP_MORE;
}

static enum http_parse chunk_step(struct http_chunks *c, unsigned char ch)
{
	switch (c->state) {
	case C_SIZE:
		return chunk_size(c, ch);
	case C_EXT:
		return chunk_ext(c, ch);
	case C_CONTENT_CR:
		if (ch != '\r')
			return bad_chunk(c, "There is no CR LF after a chunk.");
		c->state = C_CONTENT_LF;
		return HTTP_MORE;
	case C_TRAILER:
	case C_NAME:
	case C_VALUE:
		return chunk_trailer(c, ch);
	default:
		break;
	}
	if (ch != '\n')
		return bad_chunk(c, "A line of the chunked body does not end in CR LF.");
	switch (c->state) {
	case C_SIZE_LF:
		c->state = c->left ? C_CONTENT : C_TRAILER;
		c->extra = 0;
		return HTTP_MORE;
	case C_CONTENT_LF:
		c->state = C_SIZE;
		c->digits = 0;
		c->left = 0;
		return HTTP_MORE;
	case C_TRAILER_LF:
		c->state = C_TRAILER;
		return HTTP_MORE;
	default:
		c->state = C_DONE;
		return HTTP_DONE;
	}
}

enum http_parse http_chunks_feed(struct http_chunks *c, const char *p, size_t n, size_t *ret_used,
		struct chatd_str *ret_data)
{
	for (size_t i = 0; i < n; i++) {
		if (c->state == C_CONTENT) {
			size_t piece = c->left < n - i ? (size_t)c->left : n - i;
			c->left -= piece;
			if (c->left == 0)
				c->state = C_CONTENT_CR;
			*ret_data = chatd_str_of(p + i, piece);
			*ret_used = i + piece;
			return HTTP_DATA;
		}
		enum http_parse rc = chunk_step(c, (unsigned char)p[i]);
		if (rc != HTTP_MORE) {
			*ret_used = i + 1;
			return rc;
		}
	}
	*ret_used = n;
	return HTTP_MORE;
}
