/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/retry.h
 * @brief When a call may come again.
 *
 * Header only and no part of the contract.
 */
#ifndef CHATD_SDK_RETRY_H
#define CHATD_SDK_RETRY_H

#include <chatd/http.h>
#include <stdio.h>

/** [worker] Retry-After: so many ms, in whole seconds and not less. */
static inline void chatd_http_retry(const struct chatd_http *http, chatd_req *req, int64_t ms)
{
	char seconds[24];
	int n = snprintf(seconds, sizeof(seconds), "%lld", (long long)((ms + 999) / 1000));
	(void)http->header(req, "Retry-After", chatd_str_of(seconds, (size_t)n));
}

#endif
