/* SPDX-License-Identifier: Apache-2.0 */
#include "order.h"

static struct order_slot *slot_of(struct order *o, uint64_t hash)
{
	return &o->slot[hash % ORDER_SLOTS];
}

static int is(const struct order_slot *s, uint64_t hash)
{
	return s->last > 0 && s->hash == hash;
}

enum order_verdict order_take(struct order *o, uint64_t hash, int64_t seq)
{
	struct order_slot *s = slot_of(o, hash);
	if (!is(s, hash)) {
		if (!s->filling) {
			*s = (struct order_slot){ .hash = hash, .last = seq };
		}
		return ORDER_PUBLISH;
	}
	if (s->filling) {
		s->want = seq > s->want ? seq : s->want;
		return ORDER_WAIT;
	}
	if (seq <= s->last) {
		return ORDER_SKIP;
	}
	if (seq == s->last + 1) {
		s->last = seq;
		return ORDER_PUBLISH;
	}
	s->filling = 1;
	s->want = seq;
	return ORDER_FILL;
}

int64_t order_last(const struct order *o, uint64_t hash)
{
	const struct order_slot *s = &o->slot[hash % ORDER_SLOTS];
	return is(s, hash) ? s->last : -1;
}

void order_failed(struct order *o, uint64_t hash, int64_t seq)
{
	struct order_slot *s = slot_of(o, hash);
	if (is(s, hash) && s->last == seq && seq > 1) {
		s->last = seq - 1;
	}
}

int order_filled(struct order *o, uint64_t hash, int64_t seq)
{
	struct order_slot *s = slot_of(o, hash);
	if (!is(s, hash)) {
		return 0;
	}
	s->last = seq > s->last ? seq : s->last;
	s->filling = s->want > s->last;
	return s->filling;
}

void order_give_up(struct order *o, uint64_t hash)
{
	struct order_slot *s = slot_of(o, hash);
	if (is(s, hash)) {
		s->last = s->want > s->last ? s->want : s->last;
		s->filling = 0;
	}
}
