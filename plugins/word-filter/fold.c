/* SPDX-License-Identifier: Apache-2.0 */
#include "fold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uspoof.h>
#include <unicode/ustring.h>
#include <unicode/utf8.h>

enum { CACHE = 4096, OUT_MAX = 11, UNITS = 64 };

struct place {
	UChar32 c;
	uint8_t n; /* bytes of .out */
	char out[OUT_MAX];
};

struct fold {
	const UNormalizer2 *casefold, *nfd, *nfc; /* ICU's, for ever */
	USpoofChecker *spoof;                     /* NULL: as they look does not matter */
	struct place cache[CACHE];
};

struct fold *fold_create(int confusables)
{
	UErrorCode e = U_ZERO_ERROR;
	struct fold *f = calloc(1, sizeof(*f));
	if (!f) {
		return NULL;
	}
	f->casefold = unorm2_getNFKCCasefoldInstance(&e);
	f->nfd = unorm2_getNFDInstance(&e);
	f->nfc = unorm2_getNFCInstance(&e);
	f->spoof = confusables ? uspoof_open(&e) : NULL;
	f->cache[0].c = -1; /* the place of NUL, which is not folded yet */
	if (U_FAILURE(e)) {
		fold_destroy(f);
		return NULL;
	}
	return f;
}

void fold_destroy(struct fold *f)
{
	if (f) {
		uspoof_close(f->spoof);
		free(f);
	}
}

/* ---- one character ---------------------------------------------------------------------- */

/* Syllables and ideographs have neither case nor accents; taken apart they would match halves. */
static int stays(UChar32 c)
{
	return (c >= 0xac00 && c <= 0xd7a3) || (c >= 0x4e00 && c <= 0x9fff);
}

static int32_t drop_marks(UChar *s, int32_t n)
{
	int32_t to = 0, i = 0;
	while (i < n) {
		UChar32 c;
		int32_t from = i;
		U16_NEXT(s, i, n, c);
		int8_t type = u_charType(c);
		if (type != U_NON_SPACING_MARK && type != U_ENCLOSING_MARK) {
			memmove(s + to, s + from, (size_t)(i - from) * sizeof(*s));
			to += i - from;
		}
	}
	return to;
}

/* Latin letters look like each other, too ("rn" like "m"): those stay as they are. */
static int32_t as_it_looks(const struct fold *f, UChar *s, int32_t n, UErrorCode *e)
{
	UChar out[UNITS];
	int ascii = 1;
	for (int32_t i = 0; i < n; i++) {
		ascii &= s[i] < 0x80;
	}
	if (!f->spoof || ascii) {
		return n;
	}
	int32_t k = uspoof_getSkeleton(f->spoof, 0, s, n, out, UNITS, e);
	int32_t m = U_SUCCESS(*e) ? unorm2_normalize(f->casefold, out, k, s, UNITS, e) : 0;
	return U_SUCCESS(*e) ? m : 0;
}

static void fold_char(const struct fold *f, UChar32 c, struct place *to)
{
	UErrorCode e = U_ZERO_ERROR;
	UChar one[2], a[UNITS], b[UNITS];
	int32_t n = 0, bytes = 0;
	to->c = c;
	U16_APPEND_UNSAFE(one, n, c);
	n = unorm2_normalize(f->casefold, one, n, a, UNITS, &e);
	n = U_SUCCESS(e) ? unorm2_normalize(f->nfd, a, n, b, UNITS, &e) : 0;
	n = U_SUCCESS(e) ? drop_marks(b, n) : 0;
	n = U_SUCCESS(e) && n ? as_it_looks(f, b, n, &e) : n;
	if (U_SUCCESS(e)) {
		u_strToUTF8(to->out, OUT_MAX, &bytes, b, n, &e);
	}
	if (U_FAILURE(e) || bytes > OUT_MAX) { /* one that becomes a whole phrase stays what it is */
		bytes = 0;
		U8_APPEND_UNSAFE(to->out, bytes, c);
	}
	to->n = (uint8_t)bytes;
}

static struct place fold_one(struct fold *f, UChar32 c)
{
	struct place *at = &f->cache[(uint32_t)c % CACHE];
	struct place own = { .c = c };
	int32_t n = 0;
	if (stays(c)) {
		U8_APPEND_UNSAFE(own.out, n, c);
		own.n = (uint8_t)n;
		return own;
	}
	if (at->c != c) {
		fold_char(f, c, at);
	}
	return *at;
}

/* ---- a text -------------------------------------------------------------------------------- */

/* Hangul that comes in single letters, as some systems write it. */
static int has_jamo(const char *p, size_t n)
{
	for (size_t i = 0; i + 2 < n; i++) {
		if ((unsigned char)p[i] == 0xe1 && (unsigned char)p[i + 1] >= 0x84 &&
				(unsigned char)p[i + 1] <= 0x87) {
			return 1;
		}
	}
	return 0;
}

static int compose(const struct fold *f, struct folded *t)
{
	UErrorCode e = U_ZERO_ERROR;
	int32_t cap = (int32_t)t->n_whole + 1, n = 0, m = 0;
	UChar *a = malloc(2 * (size_t)cap * sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	u_strFromUTF8(a, cap, &n, t->whole, (int32_t)t->n_whole, &e);
	if (U_SUCCESS(e)) {
		m = unorm2_normalize(f->nfc, a, n, a + cap, cap, &e);
	}
	if (U_SUCCESS(e)) { /* composed it is no longer than it was */
		u_strToUTF8(t->whole, cap, &n, a + cap, m, &e);
		t->n_whole = U_SUCCESS(e) ? (size_t)n : t->n_whole;
	}
	free(a);
	return 0;
}

int fold_text(struct fold *f, struct chatd_str s, struct folded *ret)
{
	struct folded t = { .n_whole = s.n };
	size_t cap = s.n * OUT_MAX + 1;
	t.whole = malloc(s.n + 1);
	t.p = malloc(cap);
	t.from = malloc((cap + 1) * sizeof(*t.from));
	int rc = !t.whole || !t.p || !t.from ? -ENOMEM : 0;
	if (rc == 0 && s.n) {
		memcpy(t.whole, s.p, s.n);
		rc = has_jamo(s.p, s.n) ? compose(f, &t) : 0;
	}
	for (size_t i = 0; rc == 0 && i < t.n_whole;) {
		size_t at = i;
		UChar32 c;
		U8_NEXT(t.whole, i, t.n_whole, c);
		struct place place = c < 0 ? (struct place){ .c = c } : fold_one(f, c);
		rc = c < 0 ? -EINVAL : 0;
		for (uint8_t k = 0; k < place.n; k++) {
			t.p[t.n] = place.out[k];
			t.from[t.n++] = (uint32_t)at;
		}
	}
	if (rc < 0) {
		folded_free(&t);
		return rc;
	}
	t.p[t.n] = '\0';
	t.from[t.n] = (uint32_t)t.n_whole;
	*ret = t;
	return 0;
}

void folded_free(struct folded *t)
{
	free(t->p);
	free(t->from);
	free(t->whole);
	*t = (struct folded){ .p = NULL };
}

int fold_word_before(const struct folded *t, size_t at)
{
	UChar32 c;
	int32_t i = (int32_t)at;
	if (i <= 0) {
		return 0;
	}
	U8_PREV(t->whole, 0, i, c);
	return c >= 0 && (u_isalnum(c) || u_charType(c) == U_NON_SPACING_MARK);
}

int fold_word_at(const struct folded *t, size_t at)
{
	UChar32 c;
	if (at >= t->n_whole) {
		return 0;
	}
	U8_NEXT(t->whole, at, t->n_whole, c);
	return c >= 0 && u_isalnum(c);
}
