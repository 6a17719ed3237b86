/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { POOL = 512 };

void id_random(void *p, size_t n)
{
	unsigned char *to = p;
	while (n) {
		ssize_t k = getrandom(to, n, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			/* An id or a token that can be guessed is worse than no server. */
			fputs("chatd: the kernel gives no random numbers\n", stderr);
			abort();
		}
		to += k;
		n -= (size_t)k;
	}
}

/*
 * The time with 12 bits below the millisecond, never the same twice: all threads share the
 * last one, and whoever finds the clock not beyond it takes the next number instead.
 */
static uint64_t stamp(void)
{
	static _Atomic uint64_t last;
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	uint64_t ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	uint64_t now = ms << 12 | ((uint64_t)ts.tv_nsec % 1000000 * 4096 / 1000000);
	uint64_t seen = atomic_load_explicit(&last, memory_order_relaxed), next;
	do {
		next = now > seen ? now : seen + 1;
	} while (!atomic_compare_exchange_weak(&last, &seen, next));
	return next;
}

static uint64_t pool_take(void)
{
	static _Thread_local struct {
		unsigned char bytes[POOL];
		size_t left;
	} pool;
	uint64_t r;
	if (pool.left < sizeof(r)) {
		id_random(pool.bytes, sizeof(pool.bytes));
		pool.left = sizeof(pool.bytes);
	}
	pool.left -= sizeof(r);
	memcpy(&r, pool.bytes + pool.left, sizeof(r));
	return r;
}

void id_hex(char *ret, const void *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *from = p;
	for (size_t i = 0; i < n; i++) {
		ret[2 * i] = digits[from[i] >> 4];
		ret[2 * i + 1] = digits[from[i] & 15];
	}
	ret[2 * n] = '\0';
}

static void big_endian(unsigned char *to, uint64_t v)
{
	for (int i = 7; i >= 0; i--, v >>= 8)
		to[i] = (unsigned char)v;
}

void id_new(char ret[37])
{
	uint64_t t = stamp();
	unsigned char raw[16];
	char hex[33];
	big_endian(raw, t >> 12 << 16 | 0x7000 | (t & 0xfff));
	big_endian(raw + 8, (pool_take() & 0x3fffffffffffffffu) | 0x8000000000000000u);
	id_hex(hex, raw, sizeof(raw));
	const char *from = hex;
	for (int i = 0; i < 36; i++)
		ret[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : *from++;
	ret[36] = '\0';
}
