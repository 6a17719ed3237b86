/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file change_body.h
 * @brief What a client asks to be changed, and how messages look afterwards.  Pure.
 */
#ifndef CHAT_CHANGE_BODY_H
#define CHAT_CHANGE_BODY_H

#include "message.h"

enum { EMOJI_MAX = 64 };

enum change_kind { CHANGE_EDIT, CHANGE_DELETE, CHANGE_REACT, CHANGE_PIN };

/* Borrows its texts from .root. */
struct change_draft {
	json_t *root;
	struct chatd_str target, content, emoji, client_id;
	struct chatd_str key_id; /* of an edit: it is encrypted; else .p NULL */
	int32_t remove;
};

/* 0, or -EINVAL and *ret_fault; then there is nothing to free. */
chatd_status change_read(struct chatd_str body, enum change_kind, const struct message_limits *,
		struct change_draft *ret, struct message_fault *ret_fault);

struct change_stamp { /* what the server says about it */
	struct chatd_str id, sender, sender_name;
	struct chatd_str room, receiver; /* one has .p NULL */
	int64_t now;
};

/* The row that subscribers get. */
void change_write_event(struct chatd_json *, enum change_kind, const struct change_draft *,
		const struct change_stamp *);
/* The message from now on; @p stored is its body until now.  0: that cannot be read. */
int change_write_edited(
		struct chatd_json *, struct chatd_str stored, const struct change_draft *, int64_t now);
int change_write_tombstone(struct chatd_json *, struct chatd_str stored);

#endif
