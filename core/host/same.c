/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two structs that an option table filled say the same. */
#include "host/plan.h"

#include <string.h>

static int same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static int same_texts(const char *const *a, const char *const *b)
{
	size_t i = 0;
	while (a && b && a[i] && b[i] && strcmp(a[i], b[i]) == 0) {
		i++;
	}
	return (a ? a[i] : NULL) == (b ? b[i] : NULL); /* both at their end */
}

static int same_list(const struct chatd_opt *o, size_t opt_size, const struct chatd_list *a,
		const struct chatd_list *b)
{
	struct chatd_opt sub;
	if (a->n != b->n) {
		return 0;
	}
	for (size_t k = 0; k < a->n; k++) {
		const char *x = (const char *)a->items + k * o->sub_size;
		const char *y = (const char *)b->items + k * o->sub_size;
		for (size_t i = 0; fill_opt_at(o->sub, opt_size, i, &sub); i++) {
			if (!same_value(&sub, opt_size, x, y)) {
				return 0;
			}
		}
	}
	return 1;
}

int same_value(const struct chatd_opt *o, size_t opt_size, const void *a, const void *b)
{
	const void *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;
	switch (o->type) {
	case CHATD_T_BOOL:
	case CHATD_T_CHOICE:
		return memcmp(x, y, sizeof(int32_t)) == 0;
	case CHATD_T_INT:
	case CHATD_T_SIZE:
	case CHATD_T_DURATION:
		return memcmp(x, y, sizeof(int64_t)) == 0;
	case CHATD_T_STRING:
		return same_text(*(const char *const *)x, *(const char *const *)y);
	case CHATD_T_STRINGS:
		return same_texts(*(const char *const *const *)x, *(const char *const *const *)y);
	case CHATD_T_LIST:
		return same_list(o, opt_size, x, y);
	default:
		return 1; /* fill.c has complained */
	}
}
