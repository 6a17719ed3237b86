/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/json.h
 * @brief JSON for plugins: strict reading of what clients send, fast writing of what they get.
 *
 * Header only and no part of the contract: a plugin that includes it links to jansson.
 * Nothing here is shared; everything may be called from any thread.
 *
 * Reading: chatd_json_read() parses a body once and fills a struct by a table of fields.
 * Duplicate keys, nesting deeper than ::CHATD_JSON_DEPTH, NUL and lone surrogates are
 * refused; a known field of the wrong type is refused by name; unknown ones are ignored.
 * The texts that it gives are borrowed from the root, which the caller frees.
 *
 * Writing: members are appended to one buffer that starts in the caller's room and moves
 * to the heap when it must grow.  Memory that runs out is noted, not reported: look at
 * .failed once at the end.  Text is escaped so that it is also safe inside HTML and
 * JavaScript (<, >, &, U+2028 and U+2029).
 */
#ifndef CHATD_SDK_JSON_H
#define CHATD_SDK_JSON_H

#include <chatd/plugin.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHATD_JSON_DEPTH = 32, CHATD_JSON_WHY = 160, CHATD_ID_MAX = 64 };

/** [A-Za-z0-9_-]{1,64}: what users and rooms are called. */
static inline int chatd_id_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
					c == '_' || c == '-')) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= CHATD_ID_MAX;
}

static inline int chatd_str_same(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/** Copies at most @p cap - 1 bytes and ends them with a NUL. */
static inline void chatd_str_copy(char *to, size_t cap, struct chatd_str s)
{
	size_t n = s.n < cap ? s.n : cap - 1;
	if (n) {
		memcpy(to, s.p, n);
	}
	to[n] = '\0';
}

/** Code points of UTF-8 text. */
static inline size_t chatd_str_chars(struct chatd_str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	}
	return n;
}

/* ---- writing --------------------------------------------------------------- */

struct chatd_json {
	char *p;
	size_t n, cap;
	int32_t heap, failed;
};

/** @p room may be NULL with @p n 0. */
static inline void chatd_json_init(struct chatd_json *j, char *room, size_t n)
{
	j->p = room;
	j->n = 0;
	j->cap = n;
	j->heap = 0;
	j->failed = 0;
}

static inline void chatd_json_free(struct chatd_json *j)
{
	if (j->heap) {
		free(j->p);
	}
	chatd_json_init(j, NULL, 0);
}

static inline struct chatd_str chatd_json_str(const struct chatd_json *j)
{
	return chatd_str_of(j->p ? j->p : "", j->n);
}

static inline int chatd_json_need(struct chatd_json *j, size_t more)
{
	if (j->cap - j->n >= more) {
		return 1;
	}
	size_t cap = j->cap * 2 > j->n + more + 256 ? j->cap * 2 : j->n + more + 256;
	char *p = j->failed ? NULL : (char *)(j->heap ? realloc(j->p, cap) : malloc(cap));
	if (!p) {
		j->failed = 1;
		return 0;
	}
	if (!j->heap && j->n) {
		memcpy(p, j->p, j->n);
	}
	j->p = p;
	j->cap = cap;
	j->heap = 1;
	return 1;
}

static inline void chatd_json_raw(struct chatd_json *j, const char *p, size_t n)
{
	if (n && chatd_json_need(j, n)) {
		memcpy(j->p + j->n, p, n);
		j->n += n;
	}
}

#define chatd_json_lit(j, s) chatd_json_raw((j), (s), sizeof(s) - 1)

/* How many bytes from here on are one character that must be escaped; 0: none. */
static inline size_t chatd_json_special(const char *p, size_t left)
{
	unsigned char c = (unsigned char)*p;
	if (c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == 0x7f) {
		return 1;
	}
	return c == 0xe2 && left >= 3 && (unsigned char)p[1] == 0x80 &&
					((unsigned char)p[2] & 0xfe) == 0xa8
			? 3
			: 0;
}

static inline void chatd_json_escape(struct chatd_json *j, const char *p, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	unsigned c = len == 3 ? 0x2028u + ((unsigned char)p[2] & 1u) : (unsigned char)*p;
	char e[6] = { '\\', 'u', hex[c >> 12], hex[c >> 8 & 15], hex[c >> 4 & 15], hex[c & 15] };
	if (c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r') {
		e[1] = c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : (char)c;
		chatd_json_raw(j, e, 2);
	} else {
		chatd_json_raw(j, e, sizeof(e));
	}
}

/** "text", escaped. */
static inline void chatd_json_quote(struct chatd_json *j, struct chatd_str s)
{
	size_t from = 0, i = 0;
	chatd_json_lit(j, "\"");
	while (i < s.n) {
		size_t len = chatd_json_special(s.p + i, s.n - i);
		if (!len) {
			i++;
			continue;
		}
		chatd_json_raw(j, s.p + from, i - from);
		chatd_json_escape(j, s.p + i, len);
		i += len;
		from = i;
	}
	chatd_json_raw(j, s.p ? s.p + from : "", s.n - from);
	chatd_json_lit(j, "\"");
}

/** The comma before the next element, if there must be one. */
static inline void chatd_json_next(struct chatd_json *j)
{
	char last = j->n ? j->p[j->n - 1] : '[';
	if (last != '{' && last != '[' && last != ':' && last != ',') {
		chatd_json_lit(j, ",");
	}
}

/** ,"key": with @p key a literal that needs no escapes. */
static inline void chatd_json_key(struct chatd_json *j, const char *key)
{
	chatd_json_next(j);
	chatd_json_lit(j, "\"");
	chatd_json_raw(j, key, strlen(key));
	chatd_json_lit(j, "\":");
}

/** Nothing is written for a value with .p NULL: absent fields are left out. */
static inline void chatd_json_member(struct chatd_json *j, const char *key, struct chatd_str value)
{
	if (value.p) {
		chatd_json_key(j, key);
		chatd_json_quote(j, value);
	}
}

static inline void chatd_json_flag(struct chatd_json *j, const char *key, int32_t value)
{
	chatd_json_key(j, key);
	if (value) {
		chatd_json_lit(j, "true");
	} else {
		chatd_json_lit(j, "false");
	}
}

static inline void chatd_json_int(struct chatd_json *j, const char *key, int64_t value)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%lld", (long long)value);
	chatd_json_key(j, key);
	chatd_json_raw(j, text, (size_t)n);
}

static inline void chatd_json_digits(char *to, int64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--) {
		to[i] = (char)('0' + value % 10);
		value /= 10;
	}
}

/** ISO 8601 UTC with milliseconds, "2026-01-31T23:59:59.999Z", 24 bytes and a NUL. */
static inline void chatd_time_iso(int64_t ms, char ret[25])
{
	int64_t day = ms / 86400000, in_day = ms % 86400000;
	/* Days to a date in the Gregorian calendar, counting from 1 March of year 0. */
	int64_t z = day + 719468, era = z / 146097, doe = z % 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	int64_t month = mp < 10 ? mp + 3 : mp - 9;
	memcpy(ret, "0000-00-00T00:00:00.000Z", 25);
	chatd_json_digits(ret, yoe + era * 400 + (month <= 2), 4);
	chatd_json_digits(ret + 5, month, 2);
	chatd_json_digits(ret + 8, doy - (153 * mp + 2) / 5 + 1, 2);
	chatd_json_digits(ret + 11, in_day / 3600000, 2);
	chatd_json_digits(ret + 14, in_day / 60000 % 60, 2);
	chatd_json_digits(ret + 17, in_day / 1000 % 60, 2);
	chatd_json_digits(ret + 20, in_day % 1000, 3);
}

static inline void chatd_json_time(struct chatd_json *j, const char *key, int64_t ms)
{
	char text[25];
	chatd_time_iso(ms, text);
	chatd_json_member(j, key, chatd_str_of(text, 24));
}

/** A value as it was read, with this header's escaping. */
static inline void chatd_json_value(struct chatd_json *j, const json_t *v)
{
	char text[40];
	const char *key;
	json_t *item, *object;
	size_t i;
	switch (json_typeof(v)) {
	case JSON_STRING:
		chatd_json_quote(j, chatd_str_of(json_string_value(v), json_string_length(v)));
		break;
	case JSON_INTEGER:
		i = (size_t)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
		chatd_json_raw(j, text, i);
		break;
	case JSON_REAL:
		i = (size_t)snprintf(text, sizeof(text), "%.17g", json_real_value(v));
		chatd_json_raw(j, text, i);
		break;
	case JSON_ARRAY:
		chatd_json_lit(j, "[");
		json_array_foreach (v, i, item) {
			chatd_json_next(j);
			chatd_json_value(j, item);
		}
		chatd_json_lit(j, "]");
		break;
	case JSON_OBJECT:
		/* jansson iterates over a non-const object only. */
		object = json_incref((json_t *)(uintptr_t)v);
		chatd_json_lit(j, "{");
		json_object_foreach (object, key, item) {
			chatd_json_next(j);
			chatd_json_quote(j, chatd_str_of(key, strlen(key)));
			chatd_json_lit(j, ":");
			chatd_json_value(j, item);
		}
		chatd_json_lit(j, "}");
		json_decref(object);
		break;
	case JSON_TRUE:
		chatd_json_lit(j, "true");
		break;
	case JSON_FALSE:
		chatd_json_lit(j, "false");
		break;
	default:
		chatd_json_lit(j, "null");
		break;
	}
}

/* ---- reading --------------------------------------------------------------- */

enum {                /* type of a field: the C type at .offset; absent fields are left alone */
	CHATD_J_TEXT = 1, /**< struct chatd_str */
	CHATD_J_BOOL,     /**< int32_t */
	CHATD_J_INT,      /**< int64_t */
	CHATD_J_LIST,     /**< json_t *, borrowed: an array */
	CHATD_J_OBJECT,   /**< json_t *, borrowed: an object */
	CHATD_J_ANY,      /**< json_t *, borrowed: an array or an object */
};

struct chatd_json_field {
	const char *name; /**< NULL ends the table */
	int32_t type;
	size_t offset;
};

/* jansson's own limit on nesting is 2,048 and cannot be set. */
static inline int chatd_json_deep(struct chatd_str s)
{
	int depth = 0, quoted = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (quoted) {
			i += c == '\\';
			quoted = c != '"';
		} else if (c == '"') {
			quoted = 1;
		} else if (c == '{' || c == '[') {
			if (++depth > CHATD_JSON_DEPTH) {
				return 1;
			}
		} else {
			depth -= c == '}' || c == ']';
		}
	}
	return 0;
}

/** Parses @p body.  NULL: @p ret_why says what is wrong with it; else json_decref() it. */
static inline json_t *chatd_json_parse(struct chatd_str body, char ret_why[CHATD_JSON_WHY])
{
	json_error_t e;
	if (chatd_json_deep(body)) {
		snprintf(ret_why, CHATD_JSON_WHY, "JSON nesting too deep; %d levels are allowed",
				CHATD_JSON_DEPTH);
		return NULL;
	}
	json_t *root = json_loadb(body.p ? body.p : "", body.n, JSON_REJECT_DUPLICATES, &e);
	if (!root) {
		enum json_error_code code = json_error_code(&e);
		int null = code == json_error_null_character || code == json_error_null_byte_in_key;
		snprintf(ret_why, CHATD_JSON_WHY, "%s, at byte %d of the body",
				code == json_error_duplicate_key ? "duplicate key"
						: null                   ? "the character U+0000 is not taken"
												 : "this is not JSON",
				e.position);
		return NULL;
	}
	if (!json_is_object(root)) {
		snprintf(ret_why, CHATD_JSON_WHY, "a JSON object is expected");
		json_decref(root);
		return NULL;
	}
	return root;
}

/** What a string says, borrowed from it; .p NULL: @p v is none, or NULL. */
static inline struct chatd_str chatd_json_text(const json_t *v)
{
	return json_is_string(v) ? chatd_str_of(json_string_value(v), json_string_length(v))
							 : chatd_str_of(NULL, 0);
}

/* NULL: it was of the right type and is stored; else what was expected. */
static inline const char *chatd_json_store(void *at, int32_t type, json_t *v)
{
	switch (type) {
	case CHATD_J_TEXT:
		if (json_is_string(v)) {
			*(struct chatd_str *)at = chatd_str_of(json_string_value(v), json_string_length(v));
			return NULL;
		}
		return "a string";
	case CHATD_J_BOOL:
		if (json_is_boolean(v)) {
			*(int32_t *)at = json_is_true(v);
			return NULL;
		}
		return "true or false";
	case CHATD_J_INT:
		if (json_is_integer(v)) {
			*(int64_t *)at = json_integer_value(v);
			return NULL;
		}
		return "a whole number";
	case CHATD_J_LIST:
		if (json_is_array(v)) {
			*(json_t **)at = v;
			return NULL;
		}
		return "a list";
	case CHATD_J_OBJECT:
		if (json_is_object(v)) {
			*(json_t **)at = v;
			return NULL;
		}
		return "an object";
	default:
		if (json_is_object(v) || json_is_array(v)) {
			*(json_t **)at = v;
			return NULL;
		}
		return "a list or an object";
	}
}

/** Parses @p body and fills @p into by @p fields.  On success *ret_root holds the texts.
 *  -EBADMSG: no JSON object; -EINVAL: a field of the wrong type; @p ret_why says which. */
static inline chatd_status chatd_json_read(struct chatd_str body,
		const struct chatd_json_field *fields, void *into, json_t **ret_root,
		char ret_why[CHATD_JSON_WHY])
{
	const char *key;
	json_t *v, *root = chatd_json_parse(body, ret_why);
	if (!root) {
		return -EBADMSG;
	}
	json_object_foreach (root, key, v) {
		const struct chatd_json_field *f = fields;
		while (f->name && strcmp(f->name, key) != 0) {
			f++;
		}
		const char *expected =
				f->name ? chatd_json_store((char *)into + f->offset, f->type, v) : NULL;
		if (expected) {
			snprintf(ret_why, CHATD_JSON_WHY, "%s must be %s", f->name, expected);
			json_decref(root);
			return -EINVAL;
		}
	}
	*ret_root = root;
	return 0;
}

#endif
