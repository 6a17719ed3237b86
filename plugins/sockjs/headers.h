/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file headers.h
 * @brief Header fields that SockJS answers have in common.  [worker] of the request.
 */
#ifndef SOCKJS_HEADERS_H
#define SOCKJS_HEADERS_H

#include "internal.h"

/** Whoever asks may read the answer (origins were checked before). */
void headers_cors(const struct sockjs *, chatd_req *);
/** Nobody may keep it. */
void headers_fresh(const struct sockjs *, chatd_req *);
/** Anybody may keep it for a year. */
void headers_lasting(const struct sockjs *, chatd_req *);
/** JSESSIONID for load balancers, if the endpoint wants it. */
void headers_cookie(const struct endpoint *, chatd_req *);
/** An answer of plain text; @p text is a literal. */
void headers_text(const struct sockjs *, chatd_req *, int32_t status, const char *text);
/** An answer without type and body. */
void headers_bare(const struct sockjs *, chatd_req *, int32_t status);
/** Shorthand for a header from a C string. */
void headers_set(const struct sockjs *, chatd_req *, const char *name, const char *value);

#endif
