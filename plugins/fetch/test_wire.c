/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between the plugin and its helper: what is made is read, and nothing else is. */
#include "wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct chatd_str behind_head(struct chatd_str frame)
{
	uint16_t type;
	uint32_t n;
	assert_int_equal(wire_head(frame, &type, &n), 1);
	assert_int_equal(frame.n, WIRE_HEAD + n);
	return chatd_str_of(frame.p + WIRE_HEAD, n);
}

static int same(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static void release(struct chatd_str frame)
{
	free((void *)(uintptr_t)frame.p);
}

/* A copy without a byte behind it that a sanitizer would not see. */
static char *exactly(struct chatd_str s, size_t n)
{
	char *p = malloc(n ? n : 1);
	assert_non_null(p);
	memcpy(p, s.p, n);
	return p;
}

static struct wire_ask an_ask(void)
{
	struct wire_ask q = { .id = 7,
		.flags = CHATD_FETCH_OUTSIDE,
		.timeout = 5000,
		.max_answer = 4096,
		.method = CHATD_LIT("POST"),
		.url = CHATD_LIT("https://example.org/"),
		.body = CHATD_LIT("a\0b"),
		.n_headers = 2 };
	q.headers[0] = CHATD_LIT("TTL: 60");
	q.headers[1] = CHATD_LIT("Topic: x");
	return q;
}

static void a_request_arrives_as_it_was_sent(void **state)
{
	struct wire_ask q = an_ask(), got;
	(void)state;
	struct chatd_str f = wire_ask_make(&q);
	assert_int_equal(wire_ask_read(&got, behind_head(f)), 0);
	assert_true(got.id == 7 && got.flags == q.flags && got.timeout == 5000);
	assert_true(same(got.method, q.method) && same(got.url, q.url));
	assert_true(same(got.body, q.body) && got.max_answer == 4096);
	assert_int_equal(got.n_headers, 2);
	assert_string_equal(got.headers[0].p, "TTL: 60");
	assert_string_equal(got.headers[1].p, "Topic: x");
	release(f);
	q.body = (struct chatd_str){ NULL, 0 };
	q.n_headers = 0;
	f = wire_ask_make(&q);
	assert_int_equal(wire_ask_read(&got, behind_head(f)), 0);
	assert_null(got.body.p);
	release(f);
}

static void the_rules_arrive(void **state)
{
	static const char *const hosts[] = { "a.example.org", "*.example.net", NULL };
	static const char *const allow[] = { "127.0.0.1:80", NULL };
	const char *const *const lists[2] = { hosts, allow };
	struct wire_setup got;
	(void)state;
	struct chatd_str f = wire_setup_make(100, 20, lists, chatd_str_of("PEM", 3));
	assert_int_equal(wire_setup_read(&got, behind_head(f)), 0);
	assert_true(got.connections == 100 && got.host_connections == 20);
	assert_string_equal(got.hosts[1], "*.example.net");
	assert_null(got.hosts[2]);
	assert_string_equal(got.allow[0], "127.0.0.1:80");
	assert_null(got.allow[1]);
	assert_true(same(got.ca, chatd_str_of("PEM", 3)));
	free(got.hosts);
	free(got.allow);
	release(f);
}

/* Of each kind: cut anywhere, it is not read; nor with a byte too many. */
static void what_is_cut_is_refused(void **state)
{
	static const char *const hosts[] = { "example.org", NULL };
	const char *const *const lists[2] = { hosts, hosts };
	const struct wire_ask q = an_ask();
	struct wire_setup setup;
	struct wire_ask ask;
	(void)state;
	struct chatd_str frames[2] = { wire_setup_make(1, 1, lists, chatd_str_of("P", 1)),
		wire_ask_make(&q) };
	for (int kind = 0; kind < 2; kind++) {
		struct chatd_str all = behind_head(frames[kind]);
		for (size_t n = 0; n <= all.n + 1; n++) {
			char *p = exactly(all, n < all.n ? n : all.n);
			if (n > all.n) {
				p = realloc(p, n);
				p[n - 1] = 'x';
			}
			struct chatd_str in = chatd_str_of(p, n);
			chatd_status rc = kind ? wire_ask_read(&ask, in) : wire_setup_read(&setup, in);
			assert_int_equal(rc, n == all.n ? 0 : -EPROTO);
			if (!kind && rc == 0) {
				free(setup.hosts);
				free(setup.allow);
			}
			free(p);
		}
		release(frames[kind]);
	}
}

static void heads_of_others_are_refused(void **state)
{
	uint8_t f[WIRE_HEAD + WIRE_READY_BYTES];
	uint16_t type;
	uint32_t n, flaws;
	(void)state;
	wire_ready_make(WIRE_NO_LANDLOCK, f);
	struct chatd_str in = { (const char *)f, sizeof(f) };
	for (size_t i = 0; i < WIRE_HEAD; i++) {
		assert_int_equal(wire_head(chatd_str_of(in.p, i), &type, &n), 0);
	}
	assert_int_equal(wire_head(in, &type, &n), 1);
	assert_true(type == WIRE_READY && n == WIRE_READY_BYTES);
	assert_int_equal(wire_ready_read(&flaws, behind_head(in)), 0);
	assert_int_equal(flaws, WIRE_NO_LANDLOCK);
	f[WIRE_HEAD + 3] = 1;
	assert_int_equal(wire_ready_read(&flaws, behind_head(in)), -EPROTO);
	f[6]++; /* the version */
	assert_int_equal(wire_head(in, &type, &n), -EPROTO);
	f[6]--;
	f[4] = 9; /* the type */
	assert_int_equal(wire_head(in, &type, &n), -EPROTO);
}

/* What each member may be, at its bounds and one beyond. */
static void an_answer_is_within_its_bounds(void **state)
{
	static const struct wire_answer good = {
		.id = 1, .status = 200, .retry_after = 1000, .n_type = 1, .n_why = 2, .n_body = 3
	};
	static const struct {
		struct wire_answer a;
		chatd_status rc;
	} cases[] = {
		{ { .rc = 0 }, 0 },
		{ { .rc = -EACCES, .status = 999 }, 0 },
		{ { .rc = -EMSGSIZE, .n_body = WIRE_ANSWER_BODY_MAX }, 0 },
		{ { .n_type = WIRE_TYPE_MAX, .n_why = WIRE_WHY_MAX }, 0 },
		{ { .retry_after = WIRE_RETRY_AFTER_MAX * INT64_C(1000) }, 0 },
		{ { .rc = 1 }, -EPROTO },
		{ { .rc = -ESHUTDOWN }, -EPROTO },
		{ { .rc = -ECONNRESET }, -EPROTO },
		{ { .status = 1000 }, -EPROTO },
		{ { .status = -1 }, -EPROTO },
		{ { .retry_after = WIRE_RETRY_AFTER_MAX * INT64_C(1000) + 1000 }, -EPROTO },
		{ { .n_type = WIRE_TYPE_MAX + 1 }, -EPROTO },
		{ { .n_why = WIRE_WHY_MAX + 1 }, -EPROTO },
		{ { .n_body = WIRE_ANSWER_BODY_MAX + 1 }, -EPROTO },
		{ { .n_body = UINT32_MAX - WIRE_ANSWER_BYTES + 1 }, -EPROTO },
	};
	uint8_t f[WIRE_HEAD + WIRE_ANSWER_BYTES];
	struct wire_answer got;
	struct chatd_str in = { (const char *)f + WIRE_HEAD, WIRE_ANSWER_BYTES };
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct wire_answer *a = &cases[i].a;
		wire_answer_make(a, f);
		uint32_t n = WIRE_ANSWER_BYTES + a->n_type + a->n_why + a->n_body;
		assert_int_equal(wire_answer_read(&got, in, n), cases[i].rc);
	}
	wire_answer_make(&good, f);
	assert_int_equal(wire_answer_read(&got, in, WIRE_ANSWER_BYTES + 6), 0);
	assert_true(got.id == 1 && got.status == 200 && got.retry_after == 1000 && got.n_body == 3);
	assert_int_equal(wire_answer_read(&got, in, WIRE_ANSWER_BYTES + 5), -EPROTO);
	assert_int_equal(wire_answer_read(&got, in, WIRE_ANSWER_BYTES + 7), -EPROTO);
	in.n--;
	assert_int_equal(wire_answer_read(&got, in, WIRE_ANSWER_BYTES + 6), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_arrives_as_it_was_sent),
		cmocka_unit_test(the_rules_arrive),
		cmocka_unit_test(what_is_cut_is_refused),
		cmocka_unit_test(heads_of_others_are_refused),
		cmocka_unit_test(an_answer_is_within_its_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
