/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file helper.h
 * @brief What the parts of the program chatd-fetch share.
 *
 * It asks other servers for one worker of a chatd, which is at the other end of its standard input,
 * and can do nothing else: fence.c.  pipe.c reads what is asked and writes what came; loop.c gives
 * libcurl its descriptors and its clock; request.c makes a transfer of a request and an answer of a
 * transfer.  One thread, but for those in which libcurl resolves names.
 */
#ifndef FETCH_HELPER_H
#define FETCH_HELPER_H

#include "../url.h"
#include "../wire.h"

#include <curl/curl.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sys/queue.h>

enum { ANSWER_HEADERS_MAX = 16 << 10 /**< bytes */ };

struct transfer {
	TAILQ_ENTRY(transfer) link;
	struct lane *lane;
	uint64_t id;
	CURL *easy;
	struct url url;
	struct curl_slist *headers;
	char *body; /**< of the answer */
	size_t n, cap, max, header_bytes;
	int guarded; /**< only public addresses */
	int refused, too_large;
	char why[CURL_ERROR_SIZE];
};

/** Connections are used again only within one lane, and there are two: what was opened by a
 *  request of the server's own is never used for one that the guard must see. */
struct lane {
	struct helper *helper;
	CURLM *multi;
	struct event *timer;
};

struct helper {
	struct event_base *base;
	struct bufferevent *server;
	struct wire_setup setup;
	struct url_rules rules;
	struct lane ours, outside;
};

/* loop.c */
int lane_start(struct lane *, struct helper *);
int lane_add(struct transfer *);

/* request.c */
void transfer_start(struct helper *, const struct wire_ask *);
void transfer_finish(struct transfer *, CURLcode); /**< answers, and frees it */

/* pipe.c: what is read is whole frames; a server that sends anything else is none. */
_Noreturn void give_up(int code);
void pipe_setup(struct helper *); /**< waits for it */
int pipe_open(struct helper *);
void pipe_ready(struct helper *, uint32_t flaws);
void pipe_answer(struct helper *, const struct wire_answer *, const char *texts[3]);

/* fence.c: 0, or -errno, and what is missing in @p ret_flaws. */
int fence_limits(const struct wire_setup *);
int fence_enter(uint32_t *ret_flaws);

#endif
