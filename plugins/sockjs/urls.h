/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file urls.h
 * @brief Everything below an endpoint's prefix: which URL is what, who may use it
 * how, and the answers that need no session.
 */
#ifndef SOCKJS_URLS_H
#define SOCKJS_URLS_H

#include "exchange.h"
#include "internal.h"

enum url_kind { URL_NONE, URL_GREETING, URL_INFO, URL_IFRAME, URL_RAW, URL_SESSION };

/** What @p rest, the percent-encoded path after the prefix ("", "/info"), names.  Of a
 *  session: *ret_target.  Pure. */
enum url_kind urls_parse(struct chatd_str rest, struct exch_target *ret_target);
/** [worker] The route handler; @p arg is the endpoint. */
void urls_handle(void *arg, chatd_req *);
/** [main] Makes the page for iframes. 0 or -ENOMEM. */
int urls_setup(struct sockjs *);
void urls_finish(struct sockjs *);

#endif
