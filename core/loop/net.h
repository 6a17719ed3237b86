/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loop/net.h
 * @brief Listeners and the streams they accept: the service chatd.net/1 without the host.
 *
 * Each TCP listener has one socket per worker (SO_REUSEPORT), so a connection belongs to
 * a worker from its first packet on and never moves.  The streams themselves are used
 * through the public chatd/stream.h alone.
 *
 * Errors come back as a negative errno with one sentence for people in a net_error; nothing
 * is logged at start-up.  At run time the log says when accepting had to pause.
 */
#ifndef CHATD_LOOP_NET_H
#define CHATD_LOOP_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <chatd/stream.h>

struct loop;
struct net;
struct net_listener;

/** One sentence: what was found, in which file or address, what OpenSSL or the kernel says. */
struct net_error {
	char text[512];
};

/** [main] Before loop_start().  NULL: no memory. */
struct net *net_create(struct loop *loop);
/** [main] After loop_join(), before loop_destroy().  The streams have been ended on their
 *  workers by then: their users got gone(CHATD_END_DRAIN).  NULL is fine. */
void net_destroy(struct net *net);

/** [main] As chatd_net.listen.  The strings of @p conf must outlive @p net.  The listener
 *  belongs to @p net.  Clients can connect from now on but wait until net_accept_start(). */
int net_listen(struct net *net, const struct chatd_listen *conf, struct net_listener **ret,
		struct net_error *ret_err);
/** [main] The address really bound: "127.0.0.1:43210", "[::1]:43210", "unix:/path". */
const char *net_bound(const struct net_listener *listener);
/** [main] Reads the certificates and keys of all listeners again, for net_tls_renew().  On an error nothing is kept. */
int net_tls_reread(struct net *net, struct net_error *ret_err);
/** [main] Connections accepted from now on use what was read again; or (not @p use) it is forgotten. */
void net_tls_renew(struct net *net, bool use);

/** [main] While the workers run: accept on every worker.  Returns when all do. */
int net_accept_start(struct net *net);
/** [main] Closes the listening sockets; present connections go on.  Returns when done. */
int net_accept_stop(struct net *net);

/** [any] As chatd_net.address_in. */
bool net_address_in(struct chatd_str peer, const char *const *nets);
/** [any] The first of @p nets that is no address or prefix, or NULL: for config checks. */
const char *net_address_check(const char *const *nets);

/** Plain counters of one worker. */
struct net_stats {
	uint64_t open;          /**< streams now, including those that are closing */
	uint64_t queued;        /**< bytes not yet given to the kernel, all streams */
	uint64_t accepted;      /**< ever */
	uint64_t refused;       /**< ever: too few descriptors, bad PROXY header, failed TLS */
	uint64_t slow;          /**< ever: ended with CHATD_END_SLOW */
	uint64_t read, written; /**< bytes, ever */
};
/** [worker] Valid as long as the worker. */
const struct net_stats *net_stats(chatd_worker *w);

#endif
