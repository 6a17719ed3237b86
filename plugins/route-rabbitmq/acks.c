/* SPDX-License-Identifier: Apache-2.0 */
#include "acks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN, DONE, REFUSED };

int acks_init(struct acks *a, size_t cap)
{
	a->state = calloc(cap, sizeof(*a->state));
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
	a->state[tag % a->cap] = (struct ack){ .is = OPEN, .open = 1 };
	a->next++;
	return 1;
}

void acks_settle(struct acks *a, uint64_t tag, int refused)
{
	struct ack *s = &a->state[tag % a->cap];
	if (tag < a->first || tag >= a->next || s->is != OPEN) {
		return;
	}
	s->open--;
	if (refused) {
		s->is = REFUSED;
	} else if (s->open == 0) {
		s->is = DONE;
	}
}

void acks_more(struct acks *a, uint64_t tag)
{
	a->state[tag % a->cap].open++;
}

int acks_next(struct acks *a, uint64_t *ret_tag, int *ret_refused)
{
	uint64_t begin = a->first;
	while (a->first < a->next && a->state[a->first % a->cap].is == DONE) {
		a->first++;
	}
	if (a->first > begin) {
		*ret_tag = a->first - 1;
		*ret_refused = 0;
		return 1;
	}
	if (a->first < a->next && a->state[a->first % a->cap].is == REFUSED) {
		*ret_tag = a->first++;
		*ret_refused = 1;
		return 1;
	}
	return 0;
}
