/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void header_has_a_mask_that_changes_nothing(void **state)
{
	(void)state;
	static const struct {
		uint64_t n;
		size_t len;
		unsigned char second;
	} cases[] = { { 0, 6, 0x80 }, { 125, 6, 0xfd }, { 126, 8, 0xfe }, { 65535, 8, 0xfe },
		{ 65536, 14, 0xff } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char out[FRAMES_HEADER_MAX];
		size_t len = frames_header(out, FRAMES_TEXT, true, cases[i].n);
		assert_int_equal(len, cases[i].len);
		assert_int_equal(out[0], 0x81);
		assert_int_equal(out[1], cases[i].second);
		for (size_t k = len - 4; k < len; k++)
			assert_int_equal(out[k], 0);
	}
}

static void read_is_what_header_wrote(void **state)
{
	(void)state;
	static const uint64_t sizes[] = { 0, 1, 125, 126, 65535, 65536, 1ull << 33 };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char out[FRAMES_HEADER_MAX];
		struct frames_out f;
		size_t len = frames_header(out, FRAMES_BINARY, i % 2 == 0, sizes[i]) - 4;
		for (size_t cut = 0; cut < len; cut++)
			assert_int_equal(frames_read(out, cut, &f), 0);
		assert_int_equal(frames_read(out, len, &f), len);
		assert_int_equal(f.opcode, FRAMES_BINARY);
		assert_int_equal(f.final, i % 2 == 0);
		assert_true(f.n == sizes[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_has_a_mask_that_changes_nothing),
		cmocka_unit_test(read_is_what_header_wrote),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
