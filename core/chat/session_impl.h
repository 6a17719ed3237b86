/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/session_impl.h
 * @brief The session's struct, shared by session.c and service.c alone.
 */
#ifndef CHAT_SESSION_IMPL_H
#define CHAT_SESSION_IMPL_H

#include "chat/lost.h"
#include "chat/session.h"

enum { SESSION_MAGIC = 0x73657373, SESSION_ID_LEN = 32, PENDING_MAX = 10000 };

/* CLOSING: it lacks a message, and gets no more of them. */
enum session_state { SESSION_NEW, SESSION_LOGIN, SESSION_OPEN, SESSION_CLOSING };

struct chatd_session {
	uint32_t magic, form;
	enum session_state state;
	uint32_t announced; /* session_open has been walked: session_close must be too */
	struct chat_worker *cw;
	struct chat_view *view; /* what its walks go by, from its first to its last */
	chatd_sid sid;
	const struct chatd_conn_ops *ops;
	void *conn;
	const struct chatd_layer *layer;
	const chatd_ident *ident;
	chatd_session *user_next, **user_link; /* users.c; link NULL: not in there */
	struct expiry *expiry;                 /* renew.c; NULL: it never ends */
	struct sub *subs;
	struct lost *lost; /* subscriptions that were refused or cut off */
	uint32_t n_subs, serials;
	chatd_call *calls;
	struct pending *pending, **pending_tail; /* tail NULL until the first one */
	uint64_t deliveries;
	uint32_t n_pending, user_hash;
	void **late; /* slots.c: of plugins that were turned on since the start */
	char id[SESSION_ID_LEN + 1];
	_Alignas(16) char slots[];
};

chatd_session *session_create(struct chat_worker *, const struct chatd_conn_ops *, void *conn,
		const struct chatd_layer *);
/** Walks session_close, ends everything it has, frees it. */
void session_destroy(chatd_session *);
/** NULL: there is none of that id. */
struct sub *session_sub_by_id(chatd_session *, struct chatd_str id);

#endif
