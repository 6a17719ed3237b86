/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/tls.h
 * @brief TLS of a stream through OpenSSL 3: 1.2 and 1.3, AEAD suites, no renegotiation,
 *        no compression.
 *
 * A tls_server is a listener's certificate and key; it may be replaced while workers use
 * it.  A connection (SSL) belongs to its stream's worker.  Reads and writes answer like
 * recv(2) and send(2) with the result given, not errno.
 */
#ifndef CHATD_LOOP_TLS_H
#define CHATD_LOOP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct net_error;
struct tls_server;
typedef struct ssl_st SSL;

/** Less than 0: why there are no bytes. */
enum { TLS_AGAIN_READ = -1, TLS_AGAIN_WRITE = -2, TLS_FAILED = -3 };

struct tls_conf {
	const char *cert, *key; /**< PEM files */
	const char *kind;       /**< "http" negotiates http/1.1 by ALPN */
};

/** [main] -EBADMSG with the file and OpenSSL's reason in @p ret_err; -ENOMEM. */
int tls_server_create(
		const struct tls_conf *conf, struct tls_server **ret, struct net_error *ret_err);
/** [main] Reads the files again, for tls_server_renew(); what is in use stays so until then.  -EBADMSG
 *  also for a certificate that is not valid now. */
int tls_server_reread(struct tls_server *srv, struct net_error *ret_err);
/** [main] What was read again is in use from now on, or else forgotten. */
void tls_server_renew(struct tls_server *srv, bool use);
void tls_server_destroy(struct tls_server *srv); /**< NULL is fine */

/** [worker] NULL: no memory.  @p key_updates counts the peer's KeyUpdate messages. */
SSL *tls_new(struct tls_server *srv, int fd, uint16_t *key_updates);
void tls_free(SSL *ssl); /**< NULL is fine */
/** 0: done. */
int tls_handshake(SSL *ssl);
/** 0: the peer has ended its side. */
ssize_t tls_read(SSL *ssl, char *p, size_t n);
/** After TLS_AGAIN_* the next call begins with the same bytes (at any address). */
ssize_t tls_write(SSL *ssl, const char *p, size_t n);
/** Sends close_notify if the socket takes it. */
void tls_goodbye(SSL *ssl);
/** Why the last call failed, for the log. */
const char *tls_reason(void);

#endif
