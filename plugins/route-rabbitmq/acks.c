/* SPDX-License-Identifier: Apache-2.0 */
#include "acks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN, DONE, REFUSED };

int acks_init(struct acks *a, size_t cap)
{
	a->state = calloc(cap, 1);
	a->cap = cap;
	acks_reset(a);
	return a->state ? 0 : -ENOMEM;
}

void acks_finish(struct acks *a)
{
	free(a->state);
}

void acks_reset(struct acks *a)
{
	a->first = a->next = 1;
}

int acks_came(struct acks *a, uint64_t tag)
{
	if (tag != a->next || a->next - a->first >= a->cap) {
		return 0;
	}
	a->state[tag % a->cap] = OPEN;
	a->next++;
	return 1;
}

void acks_settle(struct acks *a, uint64_t tag, int refused)
{
	if (tag >= a->first && tag < a->next) {
		a->state[tag % a->cap] = refused ? REFUSED : DONE;
	}
}

int acks_next(struct acks *a, uint64_t *ret_tag, int *ret_refused)
{
	uint64_t begin = a->first;
	while (a->first < a->next && a->state[a->first % a->cap] == DONE) {
		a->first++;
	}
	if (a->first > begin) {
		*ret_tag = a->first - 1;
		*ret_refused = 0;
		return 1;
	}
	if (a->first < a->next && a->state[a->first % a->cap] == REFUSED) {
		*ret_tag = a->first++;
		*ret_refused = 1;
		return 1;
	}
	return 0;
}
