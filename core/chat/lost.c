/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/lost.h"

#include "base/str.h"

#include <stdlib.h>
#include <string.h>

struct lost {
	struct lost *next; /* newest first */
	size_t n;
	char id[];
};

int lost_take(struct lost **all, struct chatd_str id)
{
	for (struct lost **at = all; *at; at = &(*at)->next) {
		struct lost *l = *at;
		if (str_eq(chatd_str_of(l->id, l->n), id)) {
			*at = l->next;
			free(l);
			return 1;
		}
	}
	return 0;
}

void lost_note(struct lost **all, struct chatd_str id)
{
	size_t kept = 0;
	(void)lost_take(all, id);
	struct lost *l = id.n <= LOST_ID_MAX ? malloc(sizeof(*l) + id.n) : NULL;
	if (!l) {
		return;
	}
	l->n = id.n;
	memcpy(l->id, id.p, id.n);
	l->next = *all;
	*all = l;
	while (l && ++kept < LOST_MAX) {
		l = l->next;
	}
	if (l) {
		lost_free(&l->next);
	}
}

void lost_free(struct lost **all)
{
	while (*all) {
		struct lost *l = *all;
		*all = l->next;
		free(l);
	}
}
