/* SPDX-License-Identifier: Apache-2.0 */
#include "lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 200 };

/* What a node does with a lane: places are 10, 20 ... for the direct messages of a user, as other
 * conversations have places in between. */
static struct rig {
	struct lane lane;
	int64_t step; /* of places */
	int64_t given[2 * N];
	size_t n_given;
	int64_t stored; /* the newest place in the store */
} rig;

static void rig_init(int64_t step)
{
	memset(&rig, 0, sizeof(rig));
	rig.step = step;
	lane_init(&rig.lane);
}

static void give(int64_t at)
{
	assert_true(rig.n_given < 2 * N);
	rig.given[rig.n_given++] = at;
	lane_gave(&rig.lane, at);
}

static void drain(void)
{
	struct lane_row *r;
	int may;
	while ((r = lane_next(&rig.lane, &may))) {
		if (may) {
			give(r->at);
		}
		free(r);
	}
}

static void keep(int64_t at, int64_t before)
{
	struct lane_row *r;
	if (!lane_has_room(&rig.lane)) {
		return;
	}
	r = calloc(1, sizeof(*r));
	assert_non_null(r);
	r->at = at;
	r->before = before;
	lane_keep(&rig.lane, r);
}

static void come(int64_t at, int64_t before)
{
	switch (lane_take(&rig.lane, at, before)) {
	case LANE_GIVE:
		give(at);
		drain();
		break;
	case LANE_KEEP:
		keep(at, before);
		break;
	default:
		break;
	}
}

/* The store is read: every row above the last one given. */
static void fill(void)
{
	int64_t asked = rig.lane.want, at;
	for (at = rig.lane.last + rig.step; at <= rig.stored; at += rig.step) {
		give(at);
	}
	lane_filled(&rig.lane, asked);
	drain();
}

static void rig_end(void)
{
	struct lane_row *r;
	while ((r = TAILQ_FIRST(&rig.lane.kept))) {
		TAILQ_REMOVE(&rig.lane.kept, r, link);
		free(r);
	}
}

static void assert_given(int64_t from, int64_t to)
{
	int64_t at = from;
	for (size_t i = 0; i < rig.n_given; i++, at += rig.step) {
		assert_int_equal(rig.given[i], at);
	}
	assert_int_equal(at, to + rig.step);
}

static void test_in_order(void **state)
{
	(void)state;
	rig_init(1);
	lane_open(&rig.lane, 4);
	come(5, 4);
	come(6, 5);
	come(6, 5); /* again */
	come(3, 2); /* before it began */
	assert_given(5, 6);
	assert_false(lane_behind(&rig.lane));
	rig_end();
}

static void test_too_early(void **state)
{
	(void)state;
	rig_init(10);
	lane_open(&rig.lane, 0);
	come(30, 20);
	assert_int_equal(rig.n_given, 0);
	assert_true(lane_behind(&rig.lane));
	come(20, 10);
	come(10, 0);
	assert_given(10, 30);
	assert_false(lane_behind(&rig.lane));
	rig_end();
}

/* What comes before the lane is open is kept, and what was stored before it opened is not given. */
static void test_opening(void **state)
{
	(void)state;
	rig_init(1);
	come(7, 6);
	come(9, 8);
	come(8, 7);
	assert_int_equal(rig.n_given, 0);
	assert_false(lane_behind(&rig.lane));
	lane_open(&rig.lane, 7);
	drain();
	assert_given(8, 9);
	lane_open(&rig.lane, 3); /* another subscriber, whose answer is older */
	assert_int_equal(rig.lane.last, 9);
	rig_end();
}

static void test_lost_last(void **state)
{
	(void)state;
	rig_init(1);
	lane_open(&rig.lane, 0);
	come(1, 0);
	rig.stored = 3; /* 2 and 3 never came; the store tells that there is a 3 */
	lane_hint(&rig.lane, 3);
	assert_true(lane_behind(&rig.lane));
	fill();
	assert_given(1, 3);
	assert_false(lane_behind(&rig.lane));
	rig_end();
}

/* A row that is not in the store does not make the lane ask for ever. */
static void test_false_row(void **state)
{
	(void)state;
	rig_init(1);
	rig.stored = 2;
	lane_open(&rig.lane, 2);
	come(1000000, 999999);
	assert_true(lane_behind(&rig.lane));
	int64_t asked = rig.lane.want;
	lane_filled(&rig.lane, asked);
	assert_false(lane_behind(&rig.lane));
	rig_end();
}

static void test_unknown_before(void **state)
{
	(void)state;
	rig_init(10);
	lane_open(&rig.lane, 10);
	come(20, LANE_UNKNOWN);
	assert_int_equal(rig.n_given, 0);
	rig.stored = 20;
	fill();
	assert_given(20, 20);
	rig_end();
}

static void test_full(void **state)
{
	(void)state;
	rig_init(1);
	lane_open(&rig.lane, 0);
	for (int64_t i = 2; i < LANE_KEPT_MAX + 10; i++) {
		if (lane_take(&rig.lane, i, i - 1) == LANE_KEEP) {
			keep(i, i - 1);
		}
	}
	assert_int_equal(rig.lane.n_kept, LANE_KEPT_MAX);
	assert_int_equal(rig.lane.want, LANE_KEPT_MAX + 9);
	rig_end();
}

/* Rows in any order, doubled and lost, with fills at any time: each is given once, in order. */
static void test_any_order(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 2000; seed++) {
		unsigned r = seed * 2654435761u;
		rig_init(seed % 2 ? 1 : 10);
		int64_t rows[N], top = 0;
		lane_open(&rig.lane, 0);
		for (int i = 0; i < N; i++) {
			rows[i] = (i + 1) * rig.step;
		}
		for (int i = 0; i + 8 < N; i++) { /* late by up to eight */
			r = r * 1664525 + 1013904223;
			int k = i + (int)((r >> 16) % 8);
			int64_t swap = rows[i];
			rows[i] = rows[k];
			rows[k] = swap;
		}
		for (int i = 0; i < N; i++) {
			r = r * 1664525 + 1013904223;
			unsigned what = (r >> 16) % 100;
			top = rows[i] > top ? rows[i] : top;
			rig.stored = top; /* whoever sends a row has stored it and all before it */
			if (what >= 10) {
				come(rows[i], rows[i] - rig.step);
			}
			if (what >= 90) {
				come(rows[i], rows[i] - rig.step);
			}
			if (what % 7 == 0 && lane_behind(&rig.lane)) {
				fill();
			}
		}
		lane_hint(&rig.lane, top);
		if (lane_behind(&rig.lane)) {
			fill();
		}
		assert_given(rig.step, N * rig.step);
		assert_false(lane_behind(&rig.lane));
		rig_end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_too_early),
		cmocka_unit_test(test_opening),
		cmocka_unit_test(test_lost_last),
		cmocka_unit_test(test_false_row),
		cmocka_unit_test(test_unknown_before),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_any_order),
	};
	return cmocka_run_group_tests_name("chat-lane", tests, NULL, NULL);
}
