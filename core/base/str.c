/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <stdlib.h>

enum { WORD_MAX = 64 };

static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

int str_caseeq(struct chatd_str a, struct chatd_str b)
{
	if (a.n != b.n)
		return 0;
	for (size_t i = 0; i < a.n; i++)
		if (lower(a.p[i]) != lower(b.p[i]))
			return 0;
	return 1;
}

int str_cmp(struct chatd_str a, struct chatd_str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int c = n ? memcmp(a.p, b.p, n) : 0;
	return c ? c : (a.n > b.n) - (a.n < b.n);
}

char *str_dup(struct chatd_str s)
{
	char *to = malloc(s.n + 1);
	if (!to)
		return NULL;
	if (s.n)
		memcpy(to, s.p, s.n);
	to[s.n] = '\0';
	return to;
}

struct chatd_str str_decimal(uint64_t v, char room[21])
{
	char *p = room + 20;
	*p = '\0';
	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return chatd_str_of(p, (size_t)(room + 20 - p));
}

int str_u64(struct chatd_str s, uint64_t *ret)
{
	uint64_t v = 0;
	if (!s.n)
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		uint64_t digit = (uint64_t)(s.p[i] - '0');
		if (v > (UINT64_MAX - digit) / 10)
			return -1;
		v = v * 10 + digit;
	}
	*ret = v;
	return 0;
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;
	return m < c ? m : c;
}

size_t str_distance(const char *a, const char *b, size_t max)
{
	size_t an = strlen(a), bn = strlen(b);
	if (an > WORD_MAX || bn > WORD_MAX)
		return max + 1;
	/* Three rows of the table of optimal string alignment. */
	size_t row[3][WORD_MAX + 1];
	size_t *before = row[0], *last = row[1], *now = row[2];
	for (size_t j = 0; j <= bn; j++)
		last[j] = j;
	for (size_t i = 1; i <= an; i++) {
		now[0] = i;
		for (size_t j = 1; j <= bn; j++) {
			size_t wrong = last[j - 1] + (lower(a[i - 1]) != lower(b[j - 1]));
			now[j] = min3(last[j] + 1, now[j - 1] + 1, wrong);
			int swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
					lower(a[i - 2]) == lower(b[j - 1]);
			if (swapped && before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
		size_t *free_row = before;
		before = last;
		last = now;
		now = free_row;
	}
	return last[bn] > max ? max + 1 : last[bn];
}

const char *str_near(const char *word, const char *const *names)
{
	size_t n = strlen(word);
	/* One slip in a short word, up to three in a long one: beyond that it is a guess. */
	size_t best = n < 4 ? 2 : n < 8 ? 3 : 4;
	const char *found = NULL;
	for (size_t i = 0; names && names[i]; i++) {
		size_t d = str_distance(word, names[i], best - 1);
		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	return found;
}
