/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the parts have in common. */
#ifndef ROUTE_RABBITMQ_TEST_WIRE_H
#define ROUTE_RABBITMQ_TEST_WIRE_H

#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static inline void same(struct chatd_str s, const char *text)
{
	assert_int_equal(s.n, strlen(text));
	assert_memory_equal(s.n ? s.p : "", text, s.n);
}

#endif
