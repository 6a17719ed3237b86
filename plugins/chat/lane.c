/* SPDX-License-Identifier: Apache-2.0 */
#include "lane.h"

#include <stddef.h>

void lane_init(struct lane *l)
{
	*l = (struct lane){ .last = LANE_UNKNOWN, .want = LANE_UNKNOWN };
	TAILQ_INIT(&l->kept);
}

void lane_open(struct lane *l, int64_t last)
{
	if (l->last == LANE_UNKNOWN) {
		l->last = last;
	}
	lane_hint(l, last);
}

static int may_give(const struct lane *l, int64_t before)
{
	return l->last != LANE_UNKNOWN && before != LANE_UNKNOWN && before <= l->last;
}

static struct lane_row *find_place(const struct lane *l, int64_t at)
{
	struct lane_row *r;
	TAILQ_FOREACH_REVERSE(r, &l->kept, lane_rows, link)
	{
		if (r->at <= at) {
			return r;
		}
	}
	return NULL;
}

enum lane_verdict lane_take(struct lane *l, int64_t at, int64_t before)
{
	const struct lane_row *r;
	if (at <= l->last) {
		return LANE_SKIP;
	}
	lane_hint(l, at);
	if (may_give(l, before)) {
		return LANE_GIVE;
	}
	r = find_place(l, at);
	return r && r->at == at ? LANE_SKIP : LANE_KEEP;
}

void lane_gave(struct lane *l, int64_t at)
{
	l->last = at > l->last ? at : l->last;
	lane_hint(l, at);
}

int lane_has_room(const struct lane *l)
{
	return l->n_kept < LANE_KEPT_MAX;
}

void lane_keep(struct lane *l, struct lane_row *row)
{
	struct lane_row *r = find_place(l, row->at);
	if (r) {
		TAILQ_INSERT_AFTER(&l->kept, r, row, link);
	} else {
		TAILQ_INSERT_HEAD(&l->kept, row, link);
	}
	l->n_kept++;
}

struct lane_row *lane_next(struct lane *l, int *ret_give)
{
	struct lane_row *r = TAILQ_FIRST(&l->kept);
	if (!r || l->last == LANE_UNKNOWN || (r->at > l->last && !may_give(l, r->before))) {
		return NULL;
	}
	TAILQ_REMOVE(&l->kept, r, link);
	l->n_kept--;
	*ret_give = r->at > l->last;
	return r;
}

void lane_hint(struct lane *l, int64_t at)
{
	l->want = at > l->want ? at : l->want;
}

void lane_filled(struct lane *l, int64_t asked)
{
	const struct lane_row *r = TAILQ_LAST(&l->kept, lane_rows);
	if (l->want <= asked) {
		l->want = l->last;
	}
	if (r && r->at > asked) {
		lane_hint(l, r->at);
	}
}

int lane_behind(const struct lane *l)
{
	return l->last != LANE_UNKNOWN && l->want > l->last;
}
