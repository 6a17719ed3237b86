/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file peers_impl.h
 * @brief What both sides of a request that is passed on know: peers.c asks, peers_in.c answers.
 *
 * | "sockjs.ask" | |
 * | id | boot.worker.number: of the one that asks |
 * | boot | the process that is asked; another one of that node has no such session |
 * | op | poll, send, left (the client of a poll has gone) |
 * | path, session, transport, callback | as in the URL; the session's id in hex |
 * | peer, bearer, token, device-token | digests of what came with the request |
 * | body | of a send |
 *
 * | "sockjs.re" | |
 * | id | of the question |
 * | op | held (it waits), frame (the body, and no more), answer (status, text) |
 */
#ifndef SOCKJS_PEERS_IMPL_H
#define SOCKJS_PEERS_IMPL_H

#include "peers.h"

enum { DIGEST = 16, DIGEST_HEX = 2 * DIGEST + 1, PEER_ID = 48, PEER_HEADERS = 16, CREDS = 4 };

extern const char *const peers_creds[CREDS];

/** "" if there is no such text. */
void peers_digest(struct chatd_str text, char ret[DIGEST_HEX]);
void peers_count(const struct sockjs *, chatd_worker *, int what);

struct headers {
	struct chatd_cluster_header all[PEER_HEADERS];
	size_t n;
};
static inline void headers_add(struct headers *h, struct chatd_str name, struct chatd_str value)
{
	if (value.p && h->n < PEER_HEADERS)
		h->all[h->n++] = (struct chatd_cluster_header){ name, value };
}

/** [main] What is asked of us. */
chatd_status peers_in_setup(struct sockjs *);

#endif
