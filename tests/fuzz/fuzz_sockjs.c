/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as what a SockJS client posts: taken exactly when jansson sees an array of
 * strings, and as the same strings.  And any text, escaped, is a JSON string of that text.
 */
#include "escape.h"
#include "inbox.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int all_strings(const json_t *j)
{
	size_t n = json_is_array(j) ? json_array_size(j) : 0;
	for (size_t i = 0; i < n; i++) {
		if (!json_is_string(json_array_get(j, i))) {
			return 0;
		}
	}
	return json_is_array(j);
}

static void same(const struct inbox *in, const json_t *j)
{
	if (in->count != json_array_size(j)) {
		abort();
	}
	for (size_t i = 0; i < in->count; i++) {
		const json_t *s = json_array_get(j, i);
		if (in->items[i].n != json_string_length(s) ||
				(in->items[i].n && memcmp(in->items[i].p, json_string_value(s), in->items[i].n))) {
			abort();
		}
	}
}

static void read_inbox(const char *p, size_t n)
{
	struct inbox *in = NULL;
	int rc = inbox_parse(p, n, &in);
	json_t *j = json_loadb(p, n, JSON_ALLOW_NUL, NULL);
	int fits = all_strings(j);
	if (rc == 0) {
		if (!fits) {
			abort();
		}
		same(in, j);
	} else if (rc != -E2BIG && fits) {
		abort();
	}
	json_decref(j);
	free(in);
}

static void escape_text(const char *p, size_t n, unsigned flags)
{
	size_t size = escape_size(p, n, flags);
	char *out = malloc(size + 4);
	if (!out) {
		return;
	}
	memcpy(out, "[\"", 2);
	if (escape_put(out + 2, p, n, flags) != out + 2 + size) {
		abort();
	}
	memcpy(out + 2 + size, "\"]", 2);
	json_t *j = json_loadb(out, size + 4, JSON_ALLOW_NUL, NULL), *s = json_array_get(j, 0);
	if (!json_is_string(s)) {
		abort();
	}
	json_t *whole = json_stringn(p, n); /* NULL: it was no UTF-8, and U+FFFD stands in it */
	if (whole && !json_equal(whole, s)) {
		abort();
	}
	if ((flags & ESCAPE_SCRIPT) && memchr(out, '<', size + 4)) {
		abort();
	}
	json_decref(whole);
	json_decref(j);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *copy = malloc(n ? n : 1); /* exactly as long: reads behind the end are seen */
	if (copy) {
		if (n) {
			memcpy(copy, data, n);
		}
		read_inbox(copy, n);
		escape_text(copy, n, 0);
		escape_text(copy, n, ESCAPE_SCRIPT);
	}
	free(copy);
	return 0;
}
