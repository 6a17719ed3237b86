/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/kit_net.h
 * @brief Connections for the unit tests of transports: a fake of chatd.net/1.
 *
 *     struct kit_peer *ann = kit_connect(k);
 *     kit_let_in(k, 1);
 *     kit_feed(ann, "login ann secret\n");
 *     kit_expect_got(ann, "ok\n");
 *     kit_hang_up(ann);
 *
 * A stream that the plugin uses after it has closed it, or after gone(), is a failure.
 */
#ifndef CHATD_KIT_NET_H
#define CHATD_KIT_NET_H

#include <chatd/kit.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kit_peer; /**< the other end of a connection; lives until kit_free() */

/** A client comes to the first address that the plugin listens at; on worker 0. */
struct kit_peer *kit_connect(struct kit *);
struct kit_peer *kit_connect_on(struct kit *, int32_t worker);
/** It sends this, in one piece; what the plugin leaves is shown again with what follows. */
void kit_feed(struct kit_peer *, const char *text);
void kit_hang_up(struct kit_peer *); /**< it goes */
/** 1: it does not read any more.  What the plugin sends waits, as queued() tells, and the connection
 *  ends with CHATD_END_SLOW over the limits() that the plugin has set; 0: it reads all, and drained()
 *  follows. */
void kit_peer_slow(struct kit_peer *, int on);
size_t kit_peer_queued(const struct kit_peer *); /**< bytes that wait for it */
/** Who is let in besides clients of kit_open() and those whom the plugin itself identifies; 0, as it
 *  begins: nobody.  For transports, and for whoever follows logins. */
enum {
	KIT_LET_LOGINS = 1 << 0, /**< whoever presents a login is that user, whatever the passcode */
	/** Who presents an access token of kit_token(), as bearer, passcode or in the URL, is the user
	 *  of its claims, with its roles and login, until it expires. */
	KIT_LET_TOKENS = 1 << 1,
	/** Who presents nothing is a guest: "guest-1" and so on, CHATD_ID_ANONYMOUS, with the nickname. */
	KIT_LET_GUESTS = 1 << 2
};
void kit_let_in(struct kit *, int whom);
/** What it got and no expectation has taken away yet, NUL-terminated. */
const char *kit_got(const struct kit_peer *);
#define kit_expect_got(p, part)   kit_expect_got_at(p, part, KIT_AT)
#define kit_expect_nothing_got(p) kit_expect_nothing_got_at(p, KIT_AT)
#define kit_expect_hung_up(p)     kit_expect_hung_up_at(p, KIT_AT)
/** What it got has @p part in it; all up to the end of that is taken away. */
void kit_expect_got_at(struct kit_peer *, const char *part, struct kit_at);
void kit_expect_nothing_got_at(struct kit_peer *, struct kit_at);
void kit_expect_hung_up_at(struct kit_peer *, struct kit_at); /**< the plugin has closed it */
/** It was ended because it did not read. */
#define kit_expect_too_slow(p) kit_expect_too_slow_at(p, KIT_AT)
void kit_expect_too_slow_at(struct kit_peer *, struct kit_at);

#ifdef __cplusplus
}
#endif
#endif
