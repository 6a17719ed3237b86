/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crash_text.h"

#include "base/log.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TAIL = 4 }; /* kept for the end of the line */

static void put_byte(struct crash_text *t, char c)
{
	if (t->n < sizeof(t->p) - TAIL)
		t->p[t->n++] = c;
}

void crash_put(struct crash_text *t, const char *s)
{
	for (; *s; s++) {
		if (t->json && (*s == '"' || *s == '\\'))
			put_byte(t, '\\');
		put_byte(t, *s);
	}
}

static void put_digits(struct crash_text *t, uint64_t v, unsigned base, int least)
{
	char digit[24];
	int n = 0;
	do {
		digit[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n < least)
		digit[n++] = '0';
	while (n > 0)
		put_byte(t, digit[--n]);
}

void crash_put_number(struct crash_text *t, int64_t v)
{
	if (v < 0)
		put_byte(t, '-');
	put_digits(t, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, 1);
}

void crash_put_hex(struct crash_text *t, uint64_t v)
{
	put_byte(t, '0');
	put_byte(t, 'x');
	put_digits(t, v, 16, 1);
}

/* gmtime_r() may take a lock.  Days since 1970 to a date: Hinnant's civil_from_days(). */
static void put_date(struct crash_text *t, int64_t days)
{
	int64_t z = days + 719468, era = z / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	int64_t month = mp < 10 ? mp + 3 : mp - 9;
	put_digits(t, (uint64_t)(yoe + era * 400 + (month <= 2)), 10, 4);
	put_byte(t, '-');
	put_digits(t, (uint64_t)month, 10, 2);
	put_byte(t, '-');
	put_digits(t, (uint64_t)(doy - (153 * mp + 2) / 5 + 1), 10, 2);
}

static void put_time(struct crash_text *t)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	uint64_t s = (uint64_t)ts.tv_sec % 86400;
	put_date(t, ts.tv_sec / 86400);
	put_byte(t, 'T');
	put_digits(t, s / 3600, 10, 2);
	put_byte(t, ':');
	put_digits(t, s / 60 % 60, 10, 2);
	put_byte(t, ':');
	put_digits(t, s % 60, 10, 2);
	put_byte(t, '.');
	put_digits(t, (uint64_t)ts.tv_nsec / 1000000, 10, 3);
	put_byte(t, 'Z');
}

void crash_begin(struct crash_text *t)
{
	int json = log_is_json();
	t->n = 0;
	t->json = 0;
	crash_put(t, json ? "{\"time\":\"" : "");
	put_time(t);
	crash_put(t,
			json ? "\",\"level\":\"error\",\"plugin\":\"core\",\"message\":\"" : " ERROR core: ");
	t->json = json;
}

void crash_write(struct crash_text *t)
{
	size_t done = 0;
	const char *end = t->json ? "\"}\n" : "\n";
	memcpy(t->p + t->n, end, strlen(end));
	t->n += strlen(end);
	while (done < t->n) {
		ssize_t k = write(log_fd(), t->p + done, t->n - done);
		if (k <= 0)
			break; /* nobody to tell */
		done += (size_t)k;
	}
}
