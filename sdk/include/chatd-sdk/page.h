/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/page.h
 * @brief Which part of a list a client wants, and how many.
 *
 * Header only and no part of the contract.  [any]
 */
#ifndef CHATD_SDK_PAGE_H
#define CHATD_SDK_PAGE_H

#include <chatd/plugin.h>

/** What a query is told that asks for a page which there cannot be: 400, VALIDATION and BAD_CURSOR. */
#define CHATD_PAGE_NO_LIMIT  "limit must be a whole number"
#define CHATD_PAGE_NO_CURSOR "before and after must be what another page gave for the next one"

/** @p limit as a query says it, brought into 1..max: a client that asks for more than there may
 *  be in an answer gets that many, and looks for the next page.  Absent: fallback; 0: no number. */
static inline int64_t chatd_page_limit(struct chatd_str limit, int64_t fallback, int64_t max)
{
	size_t minus = limit.n && limit.p[0] == '-';
	int64_t v = 0;
	if (!limit.p) {
		return fallback;
	}
	if (limit.n == minus || limit.n > 20) {
		return 0;
	}
	for (size_t i = minus; i < limit.n; i++) {
		if (limit.p[i] < '0' || limit.p[i] > '9') {
			return 0;
		}
		v = v > max ? v : v * 10 + (limit.p[i] - '0');
	}
	return minus || v < 1 ? 1 : v > max ? max : v;
}

#endif
