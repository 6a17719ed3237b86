/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/page.h
 * @brief What the web page must be allowed for the sake of another plugin.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "web".  The page's Content-Security-Policy lets it fetch from its own server alone.  A
 * plugin whose answers lead a browser to another one names that one here, and the policy has it
 * then; without such a plugin it has nobody.
 */
#ifndef CHATD_PAGE_H
#define CHATD_PAGE_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_PAGE "chatd.page/1"

enum { /* what the page does with what comes from there */
	/** It shows pictures and plays sound and film: img-src, media-src. */
	CHATD_PAGE_SHOWS = 1 << 0,
	/** Its scripts fetch and send: connect-src. */
	CHATD_PAGE_FETCHES = 1 << 1,
};

struct chatd_page {
	uint32_t struct_size;
	/** [main] In init(), and for as long as the server runs: the page may do @p what with
	 *  @p origin, "https://files.example.org" or with ":8443" behind it, which is copied.  -EINVAL:
	 *  it is no origin, or there is more in it; -ENOMEM. */
	chatd_status (*allow)(void *obj, struct chatd_str origin, uint32_t what);
};

#ifdef __cplusplus
}
#endif
#endif
