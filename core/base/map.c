/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include "base/id.h"

#include <sodium.h>
#include <string.h>

/* The one piece of state outside log.c: written once before the threads start, because a
 * hash macro has no argument to carry it. */
static struct {
	unsigned char key[crypto_shorthash_KEYBYTES];
	int drawn;
} seed;

void map_init(void)
{
	if (seed.drawn)
		return;
	id_random(seed.key, sizeof(seed.key));
	seed.drawn = 1;
}

uint64_t map_hash(const void *p, size_t n)
{
	unsigned char out[crypto_shorthash_BYTES];
	uint64_t h;
	crypto_shorthash(out, p, n, seed.key);
	memcpy(&h, out, sizeof(h));
	return h;
}
