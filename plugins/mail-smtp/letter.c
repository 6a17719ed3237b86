/* SPDX-License-Identifier: Apache-2.0 */
#include "letter.h"

#include <chatd-sdk/text.h>

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct out {
	char *p;
	size_t n, cap;
};

static void put(struct out *o, const char *p, size_t n)
{
	/* The room was reckoned for the worst case: see letter_write(). */
	if (n <= o->cap - o->n) {
		memcpy(o->p + o->n, p, n);
		o->n += n;
	}
}

static void put_fmt(struct out *o, const char *fmt, ...) CHATD_PRINTF(2, 3);
static void put_fmt(struct out *o, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(line)) {
		put(o, line, (size_t)n);
	}
}

int letter_address_ok(struct chatd_str s)
{
	size_t ats = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= 0x20 || c >= 0x7f || strchr("<>()[],;:\\\"", c)) {
			return 0;
		}
		ats += c == '@';
	}
	return s.n >= 3 && s.n <= ADDRESS_MAX && ats == 1 && s.p[0] != '@' && s.p[s.n - 1] != '@';
}

static int line_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f) {
			return 0;
		}
	}
	return s.n <= SUBJECT_MAX;
}

static int is_ascii(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] >= 0x80) {
			return 0;
		}
	}
	return 1;
}

/* Encoded words, one a line, none cut within a character.  A line of them has 76 characters at
 * most, with the header's name in front. */
static void put_words(struct out *o, struct chatd_str s)
{
	enum { BYTES = 39 };
	while (s.n) {
		char b64[sodium_base64_ENCODED_LEN(BYTES, sodium_base64_VARIANT_ORIGINAL)];
		size_t n = chatd_text_cut(s, BYTES).n;
		n = n ? n : BYTES; /* no UTF-8 at all: better cut than never end */
		sodium_bin2base64(
				b64, sizeof(b64), (const unsigned char *)s.p, n, sodium_base64_VARIANT_ORIGINAL);
		put_fmt(o, "=?UTF-8?B?%s?=", b64);
		s = chatd_str_of(s.p + n, s.n - n);
		if (s.n) {
			put(o, "\r\n ", 3);
		}
	}
}

/* Unstructured text, such as a subject.  What looks like an encoded word is encoded as well:
 * it shall be read as it was written.  So is what is longer than a line may be. */
static void put_text(struct out *o, struct chatd_str s)
{
	if (is_ascii(s) && s.n <= 60 && !memmem(s.p ? s.p : "", s.n, "=?", 2)) {
		put(o, s.p ? s.p : "", s.n);
	} else {
		put_words(o, s);
	}
}

/* RFC 2045, 6.7: lines of at most 76 characters, CRLF at the ends, no space before one. */
static void put_quoted(struct out *o, struct chatd_str s)
{
	size_t column = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '\n') {
			put(o, "\r\n", 2);
			column = 0;
			continue;
		}
		int last = i + 1 == s.n || s.p[i + 1] == '\n';
		int as_is = (c > 0x20 && c < 0x7f && c != '=') || ((c == ' ' || c == '\t') && !last);
		/* A line that is a dot ends a mail; curl doubles it, and we need not rely on that. */
		as_is = as_is && !(c == '.' && column == 0);
		if (column + (as_is ? 1 : 3) > 75) {
			put(o, "=\r\n", 3);
			column = 0;
			as_is = as_is && c != '.';
		}
		if (as_is) {
			put(o, s.p + i, 1);
			column++;
		} else {
			put_fmt(o, "=%02X", c);
			column += 3;
		}
	}
	put(o, "\r\n", 2);
}

/* Not strftime(): its names of days and months are the locale's. */
static void put_date(struct out *o, int64_t wall_ms)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)(wall_ms / 1000);
	struct tm tm;
	gmtime_r(&t, &tm);
	put_fmt(o, "Date: %.3s, %d %.3s %d %02d:%02d:%02d +0000\r\n", days + 3 * tm.tm_wday, tm.tm_mday,
			months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void put_from(struct out *o, const struct letter *l)
{
	put_fmt(o, "From: ");
	if (l->from_name.n) {
		put_words(o, l->from_name);
		put(o, "\r\n ", 3);
	}
	put_fmt(o, "<%.*s>\r\n", (int)l->from.n, l->from.p);
}

char *letter_write(const struct letter *l, size_t *ret_n)
{
	if (!letter_address_ok(l->from) || !letter_address_ok(l->to) || !line_ok(l->subject) ||
			!line_ok(l->from_name) || l->subject.n == 0 || l->text.n > TEXT_MAX) {
		errno = EINVAL;
		return NULL;
	}
	/* A byte becomes three at most, and each line of 75 has three more. */
	struct out o = { .cap = 4096 + 4 * (l->subject.n + l->from_name.n) + 4 * l->text.n };
	const char *domain = memchr(l->from.p, '@', l->from.n);
	o.p = malloc(o.cap);
	if (!o.p) {
		return NULL;
	}
	put_date(&o, l->wall_ms);
	put_from(&o, l);
	put_fmt(&o, "To: <%.*s>\r\nSubject: ", (int)l->to.n, l->to.p);
	put_text(&o, l->subject);
	put_fmt(&o, "\r\nMessage-ID: <%s%.*s>\r\n", l->id,
			(int)(l->from.n - (size_t)(domain - l->from.p)), domain);
	put_fmt(&o,
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
			"Content-Transfer-Encoding: quoted-printable\r\n"
			"Auto-Submitted: auto-generated\r\n\r\n");
	put_quoted(&o, l->text);
	*ret_n = o.n;
	return o.p;
}
