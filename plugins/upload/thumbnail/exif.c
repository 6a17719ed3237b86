/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <string.h>

enum { ORIENTATION = 0x0112, SHORT = 3, ENTRY = 12 };

struct tiff {
	struct bytes b;
	int big; /* the first byte is the high one */
};

static uint32_t number(const struct tiff *t, size_t at, int n)
{
	uint32_t value = 0;
	for (int i = 0; i < n; i++) {
		value |= (uint32_t)t->b.p[at + (size_t)i] << 8 * (t->big ? n - 1 - i : i);
	}
	return value;
}

int exif_orientation(struct bytes b)
{
	struct tiff t = { b, b.n > 0 && b.p[0] == 'M' };
	if (b.n < 8 || (memcmp(b.p, "II*\0", 4) != 0 && memcmp(b.p, "MM\0*", 4) != 0)) {
		return 1;
	}
	size_t at = number(&t, 4, 4);
	if (at > b.n - 2) {
		return 1;
	}
	size_t n = number(&t, at, 2);
	at += 2;
	for (size_t i = 0; i < n && b.n - at >= ENTRY; i++, at += ENTRY) {
		if (number(&t, at, 2) == ORIENTATION && number(&t, at + 2, 2) == SHORT) {
			uint32_t value = number(&t, at + 8, 2);
			return value >= 1 && value <= 8 ? (int)value : 1;
		}
	}
	return 1;
}
