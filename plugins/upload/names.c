/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <chatd-sdk/text.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- names --------------------------------------------------------------------------- */

static struct chatd_str behind_slash(struct chatd_str s)
{
	for (size_t i = s.n; i > 0; i--) {
		if (s.p[i - 1] == '/' || s.p[i - 1] == '\\') {
			return chatd_str_of(s.p + i, s.n - i);
		}
	}
	return s;
}

chatd_status name_clean(struct chatd_str name, char ret[NAME_BYTES + 1])
{
	size_t n = 0;
	if (!chatd_text_ok(name) || (name.n && memchr(name.p, 0, name.n))) {
		return -EINVAL;
	}
	struct chatd_str s = behind_slash(name);
	for (size_t at = 0; at < s.n;) {
		size_t from = at;
		uint32_t c = chatd_char_next(s, &at);
		if (n + (at - from) > NAME_BYTES) {
			break;
		}
		if (!chatd_char_invisible(c) && !(n == 0 && chatd_char_space(c))) {
			memcpy(ret + n, s.p + from, at - from);
			n += at - from;
		}
	}
	while (n && (ret[n - 1] == ' ' || ret[n - 1] == '.')) { /* Windows would drop them */
		n--;
	}
	ret[n] = '\0';
	if (!n) {
		memcpy(ret, "file", 5);
	}
	return 0;
}

static int hex_of(char c)
{
	return c >= '0' && c <= '9'    ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
								   : -1;
}

chatd_status name_decode(struct chatd_str text, int extended, char *room, struct chatd_str *ret)
{
	size_t n = 0, i = 0;
	if (extended) {
		if (text.n < 7 || strncasecmp(text.p, "UTF-8'", 6) != 0) {
			return -EINVAL;
		}
		const char *quote = memchr(text.p + 6, '\'', text.n - 6);
		if (!quote) {
			return -EINVAL;
		}
		i = (size_t)(quote + 1 - text.p);
	}
	while (i < text.n) {
		int high = text.p[i] == '%' && text.n - i > 2 ? hex_of(text.p[i + 1]) : -1;
		int low = high >= 0 ? hex_of(text.p[i + 2]) : -1;
		if (extended && text.p[i] == '%' && low < 0) {
			return -EINVAL;
		}
		room[n++] = low >= 0 ? (char)(high << 4 | low) : text.p[i];
		i += low >= 0 ? 3 : 1;
	}
	*ret = chatd_str_of(room, n);
	return 0;
}

/* Names that Windows takes for devices, whatever follows the first dot. */
static int is_device(const char *name)
{
	static const char *const devices[] = { "con", "prn", "aux", "nul" };
	size_t n = strcspn(name, ".");
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		if (n == 3 && strncasecmp(name, devices[i], 3) == 0) {
			return 1;
		}
	}
	return n == 4 && name[3] >= '0' && name[3] <= '9' &&
			(strncasecmp(name, "com", 3) == 0 || strncasecmp(name, "lpt", 3) == 0);
}

/* What a file system may take amiss, of a name that is saved by clicking on it. */
static int is_risky(const char *name, size_t at)
{
	unsigned char c = (unsigned char)name[at];
	return c < 0x20 || c == 0x7f || strchr("\"\\/:*?<>|;%", c) != NULL ||
			(at == 0 && (c == '.' || c == '-' || c == '~'));
}

void name_disposition(const char *name, int is_inline, char ret[DISPOSITION_MAX])
{
	static const char hex[] = "0123456789ABCDEF";
	const char *front = is_device(name) ? "_" : "";
	int n = snprintf(
			ret, DISPOSITION_MAX, "%s; filename=\"%s", is_inline ? "inline" : "attachment", front);
	char *to = ret + n;
	for (size_t i = 0; name[i]; i++) {
		unsigned char c = (unsigned char)name[i];
		if ((c & 0xc0) != 0x80) { /* one underscore for each character that is not ASCII */
			*to++ = c >= 0x80 || is_risky(name, i) ? '_' : (char)c;
		}
	}
	to += snprintf(to, 32, "\"; filename*=UTF-8''%s", front);
	for (size_t i = 0; name[i]; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c < 0x80 && is_risky(name, i)) {
			c = '_';
		}
		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				strchr("!#$&+-.^_`|~", c)) {
			*to++ = (char)c;
		} else {
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		}
	}
	*to = '\0';
}

/* ---- what is asked for --------------------------------------------------------------- */

int64_t number_read(struct chatd_str s)
{
	int64_t n = 0;
	if (s.n == 0 || s.n > 18) {
		return -1;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') {
			return -1;
		}
		n = 10 * n + (s.p[i] - '0');
	}
	return n;
}

int range_read(struct chatd_str h, int64_t size, int64_t *ret_from, int64_t *ret_n)
{
	if (h.n < 7 || strncasecmp(h.p, "bytes=", 6) != 0 || memchr(h.p, ',', h.n)) {
		return RANGE_NONE;
	}
	struct chatd_str spec = chatd_str_of(h.p + 6, h.n - 6);
	const char *dash = memchr(spec.p, '-', spec.n);
	if (!dash) {
		return RANGE_NONE;
	}
	struct chatd_str first = chatd_str_of(spec.p, (size_t)(dash - spec.p));
	struct chatd_str last = chatd_str_of(dash + 1, spec.n - first.n - 1);
	int64_t from = number_read(first), to = number_read(last);
	if ((first.n && from < 0) || (last.n && to < 0) || (!first.n && !last.n)) {
		return RANGE_BAD;
	}
	if (!first.n) { /* the last so many bytes */
		from = to < size ? size - to : 0;
		to = to > 0 ? size - 1 : -1;
	} else if (!last.n || to >= size) {
		to = last.n && to < from ? to : size - 1;
	}
	if (from >= size || to < from) {
		return RANGE_BAD;
	}
	*ret_from = from;
	*ret_n = to - from + 1;
	return RANGE_ONE;
}

int etag_in(struct chatd_str list, const char *etag)
{
	size_t n = strlen(etag);
	for (size_t at = 0; at < list.n;) {
		const char *comma = memchr(list.p + at, ',', list.n - at);
		size_t end = comma ? (size_t)(comma - list.p) : list.n, from = at, to = end;
		while (from < to && (list.p[from] == ' ' || list.p[from] == '\t')) {
			from++;
		}
		while (to > from && (list.p[to - 1] == ' ' || list.p[to - 1] == '\t')) {
			to--;
		}
		if (to - from > 2 && memcmp(list.p + from, "W/", 2) == 0) {
			from += 2;
		}
		if ((to - from == 1 && list.p[from] == '*') ||
				(to - from == n && memcmp(list.p + from, etag, n) == 0)) {
			return 1;
		}
		at = end + 1;
	}
	return 0;
}
