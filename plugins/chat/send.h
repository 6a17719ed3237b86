/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file send.h
 * @brief One message on its way.
 *
 * It is finished even when its sender has left meanwhile: what a client sends again after a
 * reconnect must be either delivered or not, never half.
 */
#ifndef CHAT_SEND_H
#define CHAT_SEND_H

#include "chat.h"

/* Of a SEND that hooks have looked through: see plugins/chat/README.md. */
#define FILES_HEADER "chatd-files"
#define FACTS_HEADER "chatd-file-facts"

struct send {
	struct self *self;
	chatd_worker *from;
	chatd_token token; /* 0: the call is still at hand */
	chatd_msg *msg;
	struct message_draft draft;
	struct chatd_str client_id; /* in text[] */
	uint64_t content;
	const char *code, *why; /* literals; code NULL: it went well */
	char id[37];            /* the message-id of the answer */
	char user[CHATD_ID_MAX + 1], to[CHATD_ID_MAX + 1], room[CHATD_ID_MAX + 1];
	char text[CLIENT_ID_MAX];
	/* With a store: */
	chatd_worker *home; /* of its conversation */
	uint64_t hash[2];
	int64_t wall, seq;
	int64_t until; /* of a refusal: when it may be tried again; 0 or INT64_MAX: not said */
	uint32_t flags;
	char epoch[EPOCH_MAX + 1];
	int32_t unchecked; /* the room's rules are not asked */
	char *files;       /* ids of files that come with it, a space between them; NULL: none */
};

void send_refuse(struct send *, const char *code, const char *why);
/* [worker home] There is a verdict: the call is answered on its own worker. */
void send_settle(struct send *, chatd_worker *home);

#endif
