/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fetch.h
 * @brief Requests on the loop of a worker, by libcurl's multi_socket.
 *
 * loop.c gives libcurl its descriptors and its clock; request.c makes a transfer of a request and
 * an answer of a transfer; url.c and address.c say what may be asked.
 */
#ifndef FETCH_H
#define FETCH_H

#include "url.h"

#include <chatd/fetch.h>
#include <chatd/plugin.h>
#include <curl/curl.h>
#include <stdatomic.h>
#include <sys/queue.h>

enum { ANSWER_HEADERS_MAX = 16 << 10 /**< bytes */, ANSWER_MAX = 16 << 20, RESULTS = 5 };

struct conf {
	int64_t request_timeout, limit, connections, host_connections;
	const char *ca_file;
	const char *const *outside_hosts, *const *outside_allow;
};

struct request {
	TAILQ_ENTRY(request) link;
	struct lane *lane;
	CURL *easy;
	struct url url;
	struct curl_slist *headers;
	chatd_fetch_fn *fn;
	void *arg;
	char *body; /**< of the answer */
	size_t n, cap, max, header_bytes;
	int32_t guarded; /**< only public addresses */
	int32_t refused, too_large;
	char why[CURL_ERROR_SIZE];
};
TAILQ_HEAD(requests, request);

/** Connections are used again only within one lane, and there are two: what was opened by a
 *  request of ours is never used for one that the guard must see. */
struct lane {
	struct wself *ws;
	CURLM *multi;
	struct chatd_timer timer;
	int32_t kicked;
	struct requests all;
};

struct wself {
	struct self *self;
	chatd_worker *w;
	struct lane ours, outside;
	int64_t n; /**< under way */
	int32_t stopped;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *stats;
	struct url_rules rules;
	uint32_t counters[RESULTS];
	atomic_llong under_way;
};

/* loop.c: [worker] */
chatd_status lane_start(struct lane *, struct wself *);
chatd_status lane_add(struct lane *, struct request *);
void lane_stop(struct lane *); /**< answers what is under way with -ESHUTDOWN */

/* request.c: [worker] */
chatd_status request_start(
		struct wself *, const struct chatd_fetch_request *, struct url *, struct request **ret);
void request_finish(struct request *, CURLcode);     /**< answers, and frees it */
void request_cancel(struct request *, chatd_status); /**< likewise */
void request_free(struct request *);                 /**< without an answer */

/* fetch.c */
void count(struct wself *, chatd_status rc);

#endif
