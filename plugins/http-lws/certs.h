/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file certs.h
 * @brief The certificate and its key, checked before libwebsockets sees them, and taken anew while
 *        the server runs.
 */
#ifndef HTTP_LWS_CERTS_H
#define HTTP_LWS_CERTS_H

#include <chatd/plugin.h>

struct http_conf;
typedef struct ssl_ctx_st SSL_CTX;

/** [main] A context that holds the pair of @p conf; NULL after saying why not. */
SSL_CTX *certs_read(const struct chatd_host *, chatd_ctx *, const struct http_conf *conf);
/** [main] Whether @p fresh can follow @p now while the server runs: 0, or -EBADMSG after saying why not. */
chatd_status certs_may_follow(
		const struct chatd_host *, chatd_ctx *, const SSL_CTX *now, const SSL_CTX *fresh);
/** [worker] @p tls serves the pair of @p fresh from its next connection on; 0: there was no memory. */
int certs_take(SSL_CTX *tls, const SSL_CTX *fresh);

#endif
