/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file csp.h
 * @brief Another source in a Content-Security-Policy.  Pure.
 */
#ifndef WEB_CSP_H
#define WEB_CSP_H

#include <stdbool.h>

#include <chatd/plugin.h>

#define CSP_ORIGIN_MAX 300

/** "https://host" or "http://host:port", nothing behind it and nothing in it that a policy, or a
 *  header, would take for something else. */
bool csp_origin(struct chatd_str origin);

/** A new policy (free()) like @p policy, with @p origin among what @p directive ("img-src") allows:
 *  also where the policy has no such directive and default-src stands for it.  Where neither is
 *  there, or it allows that origin already, it is the same.  NULL: no memory. */
char *csp_with(const char *policy, const char *directive, struct chatd_str origin);

#endif
