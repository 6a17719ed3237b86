/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file receipts.h
 * @brief What the parts of this plugin share.
 *
 * receipts.c reads what is sent, marks.c looks the message up and stores the mark where there
 * is a store, tell.c tells others, reads.c answers over HTTP.
 */
#ifndef RECEIPTS_H
#define RECEIPTS_H

#include <chatd-sdk/json.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/privacy.h>
#include <chatd/rooms.h>
#include <chatd/store.h>

#include <stdatomic.h>
#include <sys/queue.h>

struct conf {
	int64_t interval, room_max;
	int32_t legacy_queues;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *rooms, *store, *http, *privacy; /* NULL: not there */
	uint32_t slot;
	atomic_int asks; /* of marks.c and reads.c: that were not answered yet */
};

/* What was read, or has arrived, where: up to a message, a number, or both. */
struct mark {
	int32_t named; /* 0: only the message is, the store knows where it is */
	int32_t is_room;
	int32_t delivered; /* 1: not read yet, but there */
	int32_t quiet;     /* a large room is not told, one's own devices are */
	int64_t seq;       /* 0: not said */
	char where[CHATD_ID_MAX + 1];
	char message[CHATD_ID_MAX + 1]; /* "": not said */
};

/* tell.c: how far a session has read; it tells others, coalesced. */
/* 1: the session has not said as much before. */
int tell_is_news(struct self *, chatd_session *, const struct mark *);
void tell_go_on(struct self *, chatd_session *, const struct mark *);
chatd_status tell_init(struct self *); /* [main] */

/* marks.c: who may say so, and the store.  Answers the call. */
chatd_verdict marks_take(struct self *, chatd_call *, const struct mark *);

/* reads.c: [main] */
chatd_status reads_init(struct self *);

static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

#endif
