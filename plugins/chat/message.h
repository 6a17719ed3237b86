/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file message.h
 * @brief From what a client sends to the ChatMessage that everyone gets.  Pure.
 *
 * A draft borrows its texts from .root; message_free() ends both.  What a client may not
 * set (id, sender, timestamp, seq, status, ...) is checked for its type and ignored.
 */
#ifndef CHAT_MESSAGE_H
#define CHAT_MESSAGE_H

#include <chatd-sdk/json.h>

enum { CLIENT_ID_MAX = 128 };

struct message_limits {
	int64_t chars, bytes; /* of the content */
	int64_t sealed;       /* bytes of one that is end-to-end encrypted */
};

struct message_draft {
	json_t *root;
	struct chatd_str to, room; /* one has .p NULL; valid ids if .bad_target is 0 */
	int32_t bad_target;        /* the target cannot be an id, so it cannot exist */
	struct chatd_str content, client_id, content_type, reply_to, thread, attachment_url;
	struct chatd_str key_id; /* of who encrypted it; .p NULL: it is not encrypted */
	json_t *mentions, *attachments;
	int32_t encrypted;    /* -1: not said */
	int64_t expires_in_s; /* 0: not said */
};

struct message_fault {
	const char *code; /* a literal */
	char why[CHATD_JSON_WHY];
	char client_id[CLIENT_ID_MAX + 1]; /* "": none that could be read */
};

/* 0, or -EINVAL and *ret_fault; then there is nothing to free. */
chatd_status message_read(struct chatd_str body, const struct message_limits *,
		struct message_draft *ret, struct message_fault *ret_fault);
void message_free(struct message_draft *);
/* -EINVAL and *ret_fault if @p content is too long. */
chatd_status message_size(
		struct chatd_str content, const struct message_limits *, struct message_fault *ret_fault);
/* Likewise of a content that nobody here can read; and if @p key_id is not the id of a key. */
chatd_status message_sealed(struct chatd_str content, struct chatd_str key_id,
		const struct message_limits *, struct message_fault *ret_fault);
int message_blank(struct chatd_str); /* nothing but white space */
/* At most @p max bytes, none of them a control character. */
int message_printable(struct chatd_str, size_t max);

struct message_stamp { /* what the server says about it */
	struct chatd_str id, sender, sender_name;
	int64_t now; /* wall clock, ms */
	int32_t bot; /* a program has said it */
};

/* Writes the JSON.  Returns where the part begins that the sender alone determines: two
 * messages with the same part there are the same message. */
size_t message_write(
		struct chatd_json *, const struct message_draft *, const struct message_stamp *);
/** Writes what begins at @p own anew, with what is known of the attachments where the sender has
 *  said nothing; @p facts: see FACTS_HEADER. */
void message_add_facts(
		struct chatd_json *, size_t own, const struct message_draft *, struct chatd_str facts);

#endif
