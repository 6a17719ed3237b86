/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/kit.h
 * @brief A server for the unit tests of a plugin: fake clock, no sockets, no threads.
 *
 * The plugin's sources are linked into the test, its constant renamed by
 * -DCHATD_PLUGIN_SYMBOL=chatd_plugin_under_test:
 *
 *     extern const struct chatd_plugin chatd_plugin_under_test;
 *
 *     struct kit *k = kit_new(&chatd_plugin_under_test, "max_bytes: 64");
 *     kit_hold(k, CHATD_PRESENCE, 1);
 *     kit_in(k, "ann", "/app/typing", "{\"to\":\"bob\"}");
 *     kit_expect_waiting(k, 1);
 *     kit_answer(k, CHATD_PRESENCE);
 *     kit_expect_reject(k, "NOT_FOUND", "nobody there");
 *     kit_free(k);
 *
 * Hooks, tokens, sessions, destinations and messages are the server's own code; only the
 * loop below it is fake: all workers run on the test's thread, one posted call at a time,
 * and time stands still until kit_advance().  Functions that do something (kit_in, kit_open,
 * kit_answer ...) also run everything that is posted, unless kit_manual() says otherwise.
 *
 * What the kit checks by itself, besides the expectations:
 *  - functions of the host are called on the thread that their tag says, and in init() only
 *    where that is the rule;
 *  - a token that was resumed is stale from then on (each resume() is tried twice);
 *  - a published message is not changed any more;
 *  - what answers later does so once, on its worker, and not within the call; see kit_ask();
 *  - kit_free(): no memory of mem_alloc(), no reference to a message, an identity or a buffer,
 *    no timer and no watch is left, and no request still waits for an answer.
 *
 * What is wrong is told with the lines of the plugin and of the test that led there, and what is
 * left over with the line that took it: build with -g, and have binutils (addr2line) installed.
 *
 * A failed expectation is a failure of the running cmocka test; without cmocka it ends the
 * process.  One kit exists at a time.
 */
#ifndef CHATD_KIT_H
#define CHATD_KIT_H

#include <chatd/accounts.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/rooms.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kit;
struct kit_client; /**< one session, as the codec sees it; lives until kit_free() */
struct kit_req;    /**< one request over HTTP; lives until kit_free() */

/** Where an expectation stands in the test. */
struct kit_at {
	const char *file;
	int line;
};
static inline struct kit_at kit_at(const char *file, int line)
{
	struct kit_at at;
	at.file = file;
	at.line = line;
	return at;
}
#define KIT_AT kit_at(__FILE__, __LINE__)

#if defined(__GNUC__)
#define KIT_SENTINEL __attribute__((sentinel))
#else
#define KIT_SENTINEL
#endif

/* ---- life ---------------------------------------------------------------- */

/** A service of the test's own, in the place of a fake. */
struct kit_service {
	const char *name; /**< interface; NULL ends the list */
	const void *vt;   /**< NULL: not there, although the plugin wants it */
	void *obj;
};

/** As .vt: the kit's own fake, also of a service that the plugin merely wants and that is not there
 *  unasked (chatd.cluster/1, chatd.log/1, chatd.cipher/1, chatd.redis/1). */
#define KIT_FAKE ((const void *)1)

struct kit_conf {
	int32_t workers;                    /**< 0: one */
	const struct kit_service *services; /**< may be NULL */
};

/** Fills the options from @p yaml (as they stand under the plugin's name, "" for none), then
 *  check(), init(), worker_start().  Prefixes /topic/ and /queue/ exist unless the plugin
 *  claims them.  What the plugin needs and wants is there as a fake, if the kit has one (see the
 *  guide), but cluster, log, cipher, redis and store (an empty one) only if it needs
 *  them; others are given with kit_new_with().  Never NULL. */
struct kit *kit_new(const struct chatd_plugin *, const char *yaml);
struct kit *kit_new_with(const struct chatd_plugin *, const char *yaml, const struct kit_conf *);
/** Closes the sessions, drains, stops, and fails if anything is left over or busy() still says 1. */
void kit_free(struct kit *);
/** The complaints about these options, as the server prints them ("" if there are none):
 *  to free().  To check() the services that the plugin needs are there, and no others. */
char *kit_complaints(const struct chatd_plugin *, const char *yaml);
/** The same in a server that has all that the plugin wants, too. */
char *kit_complaints_beside(const struct chatd_plugin *, const char *yaml);
/** The server's folder: empty at first, removed by kit_free(). */
const char *kit_data_dir(struct kit *);

/** SIGHUP: the same options are filled anew for reload(), whose answer this is. */
chatd_status kit_reload(struct kit *);

/** Run @p test again and again, each time with the next function of the host failing as if
 *  there was no memory, until it has run without a failure.  After a failure expectations
 *  hold their tongue: only crashes, leaks and the kit's own checks count. */
void kit_sweep(void (*test)(void));
/** Run @p test again and again, each time with trouble in the answer to another of the questions
 *  that the plugin asks services: it fails (-EIO); it comes late, when the deadline of whoever
 *  waits is over; whoever asked has left before it comes; it comes only when the service stops
 *  (-ESHUTDOWN).  And once with every request waiting as kit_late() makes them.  As after a failure, expectations hold their tongue from then on. */
void kit_trouble(void (*test)(void));
/** Such a failure or trouble came in this run: a test's own asserts must be skipped. */
int kit_failing(const struct kit *);

/** A test program without a framework; see KIT_MAIN. */
struct kit_test {
	const char *name;
	void (*run)(void);
	int once; /**< 1: without kit_sweep() and kit_trouble() */
};
#if !defined(__cplusplus)
#define KIT_TEST(fn)             \
	{                            \
		.name = #fn, .run = (fn) \
	}
#define KIT_TEST_ONCE(fn)                   \
	{                                       \
		.name = #fn, .run = (fn), .once = 1 \
	}
#else
#define KIT_TEST(fn) \
	{                \
#fn, (fn), 0 \
	}
#define KIT_TEST_ONCE(fn) \
	{                     \
#fn, (fn), 1      \
	}
#endif
/** KIT_MAIN(KIT_TEST(this_holds), KIT_TEST(that_holds)): main().  Each test runs three times, as
 *  it is, in kit_sweep() and in kit_trouble(), each time in a child; the results are TAP.  Built with
 *  -fsanitize=address a test also fails if malloc()ed memory has leaked at its end.  An argument
 *  names the only test to run, which then runs in this process, for a debugger. */
#define KIT_MAIN(...)                                                   \
	int main(int argc, char **argv)                                     \
	{                                                                   \
		static const struct kit_test all[] = { __VA_ARGS__ };           \
		return kit_main(argc, argv, all, sizeof(all) / sizeof(all[0])); \
	}
int kit_main(int argc, char **argv, const struct kit_test *, size_t n);
/** @p cond holds, unless there was trouble. */
#define kit_expect(k, cond) kit_expect_at(k, (cond) != 0, #cond, KIT_AT)
void kit_expect_at(struct kit *, int holds, const char *what, struct kit_at);

/* ---- time and turns ------------------------------------------------------- */

void kit_run(struct kit *); /**< all that is posted, until nothing is */
/** Move both clocks; timers, watches and posts run in their order.  now_ms() begins with 1000,
 *  and wall_ms() is 1,700,000,000,000 more: in the first moment 2023-11-14T22:13:21Z. */
void kit_advance(struct kit *, int64_t ms);
/** 1: from now on nothing posted runs but by kit_run(), kit_step() and kit_advance(). */
void kit_manual(struct kit *, int on);
/** Run the oldest post of one worker; 0: there was none. */
int kit_step(struct kit *, int32_t worker);
/** 1: from now on each login, subscription, SEND and call over HTTP waits a turn before the plugin's
 *  hooks are asked, as it does in a server where another plugin asks somebody: done() of a transport's
 *  requests never comes inside the call, and whoever asked may have gone before the hooks.  0, as it
 *  begins: nothing waits but for the plugin. */
void kit_late(struct kit *, int on);
/** 1: offload() waits until 0 is set again. */
void kit_hold_offload(struct kit *, int on);
void kit_fd_ready(struct kit *, int fd, uint32_t read1_write2);
/** 1: suspend() finds no free place, as on a server that is full of parked calls. */
void kit_refuse_suspend(struct kit *, int on);

/* ---- clients --------------------------------------------------------------- */

/** A session that is logged in, by the kit itself; on worker 0. */
struct kit_client *kit_open(struct kit *, const char *user);
struct kit_client *kit_open_on(struct kit *, int32_t worker, const char *user, uint32_t flags);
/** Likewise, with all that a login can say. */
struct kit_client *kit_open_as(struct kit *, int32_t worker, const struct chatd_identity *);
/** A session that logs in with these credentials: pairs of header and value, then NULL. */
struct kit_client *kit_login(struct kit *, int32_t worker, ...) KIT_SENTINEL;
/** Log in without a session, as REST does; likewise. */
void kit_identify(struct kit *, int32_t worker, ...) KIT_SENTINEL;
/** A call over HTTP as the hooks request (@p who NULL) and request_as see it: "POST" and a
 *  path; then further headers (peer ...) as pairs, then NULL. */
void kit_request(struct kit *, const struct chatd_identity *who, const char *method,
		const char *path, ...) KIT_SENTINEL;
/** The session's identity becomes this one, as after a change of roles. */
void kit_renew(struct kit_client *, const struct chatd_identity *);
/** The client leaves.  While a request of it waits nothing is read of it, in the server as here: the
 *  session ends once that is answered (unless the handler called go_on()). */
void kit_close(struct kit_client *);
/** Its session ends now, whatever waits: somebody has kicked it, or a write has failed. */
void kit_cut(struct kit_client *);
/** 1: it does not read any more.  What it gets waits, and it sees nothing of that until 0 is set.  With
 *  more than KIT_QUEUE_SOFT bytes waiting the server leaves out messages that are CHATD_MSG_EPHEMERAL,
 *  with more than KIT_QUEUE_MAX the session is closed with KIT_TOO_SLOW, as WebSocket's are. */
void kit_slow(struct kit_client *, int on);
enum { KIT_QUEUE_SOFT = 128 << 10, KIT_QUEUE_MAX = 512 << 10, KIT_TOO_SLOW = 4500 };
int kit_is_open(const struct kit_client *);
chatd_session *kit_session(struct kit_client *); /**< NULL once it has gone */

/** A SEND of the session of @p user, which is opened if there is none. */
void kit_in(struct kit *, const char *user, const char *dest, const char *body);
/** SENDs to /app/@p name (a literal), which another plugin would take, are accepted from now on: for
 *  hooks of message_in.  Without this they end in NOT_FOUND after the hooks.  The plugin's own ones
 *  stay as they are. */
void kit_app(struct kit *, const char *name);
/** A SEND that a program gives in for @p user (input_as() in transport.h): no session sends it. */
void kit_in_as(struct kit *, const char *user, const char *dest, const char *body);
/** A SEND with further headers: pairs, then NULL. */
void kit_send(struct kit_client *, const char *dest, const char *body, ...) KIT_SENTINEL;
void kit_subscribe(struct kit_client *, const char *dest);
/** With further headers: pairs, then NULL. */
void kit_subscribe_with(struct kit_client *, const char *dest, ...) KIT_SENTINEL;
void kit_unsubscribe(struct kit_client *, const char *dest);

/* ---- what came of it -------------------------------------------------------- */

#define kit_expect_waiting(k, n)           kit_expect_waiting_at(k, n, KIT_AT)
#define kit_expect_accept(k)               kit_expect_accept_at(k, KIT_AT)
#define kit_expect_drop(k)                 kit_expect_drop_at(k, KIT_AT)
#define kit_expect_reject(k, code, text)   kit_expect_reject_at(k, code, text, KIT_AT)
#define kit_expect_reply(k, header, value) kit_expect_reply_at(k, header, value, KIT_AT)
#define kit_expect_published(k, dest, part) \
	kit_expect_published_at(k, kit_to(NULL, dest), part, KIT_AT)
#define kit_expect_published_user(k, user, dest, part) \
	kit_expect_published_at(k, kit_to(user, dest), part, KIT_AT)
#define kit_expect_nothing_published(k)          kit_expect_nothing_published_at(k, KIT_AT)
#define kit_expect_said(k, user, dest, part)     kit_expect_said_at(k, kit_to(user, dest), part, KIT_AT)
#define kit_expect_nothing_said(k)               kit_expect_nothing_said_at(k, KIT_AT)
#define kit_expect_delivery(c, dest, part)       kit_expect_delivery_at(c, dest, part, KIT_AT)
#define kit_expect_quiet(c)                      kit_expect_quiet_at(c, KIT_AT)
#define kit_expect_user(k, user, flags)          kit_expect_user_at(k, user, flags, KIT_AT)
#define kit_expect_closed(c, code)               kit_expect_closed_at(c, code, KIT_AT)
#define kit_expect_logged(k, part)               kit_expect_logged_at(k, part, KIT_AT)
#define kit_expect_complaint(plugin, yaml, part) kit_expect_complaint_at(plugin, yaml, part, KIT_AT)

struct kit_to {
	const char *user, *dest;
};
static inline struct kit_to kit_to(const char *user, const char *dest)
{
	struct kit_to to;
	to.user = user;
	to.dest = dest;
	return to;
}

/** @p n requests (logins, subscriptions, SENDs) have no answer yet. */
void kit_expect_waiting_at(struct kit *, size_t n, struct kit_at);
/* The request that was answered last. */
void kit_expect_accept_at(struct kit *, struct kit_at);
void kit_expect_drop_at(struct kit *, struct kit_at);
/** @p text is a part of the reason; NULL: any.  @p code likewise. */
void kit_expect_reject_at(struct kit *, const char *code, const char *text, struct kit_at);
/** @p value NULL: there is no such header. */
void kit_expect_reply_at(struct kit *, const char *header, const char *value, struct kit_at);
/** .p NULL: none.  Until the next message is sent. */
struct chatd_str kit_reply(struct kit *, const char *header);
/** The login that was answered last gave this identity. */
void kit_expect_user_at(struct kit *, const char *user, uint32_t flags, struct kit_at);
/** The plugin published to @p to, with @p part in the body; takes the oldest one away. */
void kit_expect_published_at(struct kit *, struct kit_to to, const char *part, struct kit_at);
void kit_expect_nothing_published_at(struct kit *, struct kit_at);
/** The plugin spoke in the name of .user (input_as() in transport.h) to .dest, with @p part in the
 *  body; takes the oldest one away. */
void kit_expect_said_at(struct kit *, struct kit_to to, const char *part, struct kit_at);
void kit_expect_nothing_said_at(struct kit *, struct kit_at);
/** The client's next MESSAGE is this; it is taken away. */
void kit_expect_delivery_at(struct kit_client *, const char *dest, const char *part, struct kit_at);
void kit_expect_quiet_at(struct kit_client *, struct kit_at); /**< no MESSAGE is left */
void kit_expect_closed_at(struct kit_client *, int32_t code, struct kit_at);
/** The plugin logged a line with this in it. */
void kit_expect_logged_at(struct kit *, const char *part, struct kit_at);
/** What kit_complaints() says of @p yaml has @p part in it. */
void kit_expect_complaint_at(
		const struct chatd_plugin *, const char *yaml, const char *part, struct kit_at);

/** The service that the plugin provides; fails if it does not. */
struct chatd_service kit_provided(struct kit *, const char *interface);
/** Run @p fn as if posted to that worker, and what it posts: for calls of a service. */
void kit_on(struct kit *, int32_t worker, void (*fn)(void *arg), void *arg);
const struct chatd_host *kit_host(struct kit *); /**< the table; not counted for leaks */
chatd_worker *kit_worker(struct kit *, int32_t index);
void *kit_self(const struct kit *); /**< what init() left in *ret_self; NULL: it did not start */
int64_t kit_now(const struct kit *);

/* A question to a service of the plugin: inside kit_on(), before the call kit_ask(), after it
 * kit_asked() with what it returned, in the callback kit_answered().  Then it is a failure when the
 * answer comes inside the call, on another worker, twice, although the call was refused, or never. */
struct kit_question;
struct kit_question *kit_ask(struct kit *, const char *what); /**< lives until kit_free() */
void kit_asked(struct kit_question *, chatd_status rc);
void kit_answered(struct kit_question *);

/* ---- fakes ------------------------------------------------------------------- */

/** 1: questions to this service (CHATD_PRESENCE, _ACCOUNTS, _ROOMS, _FETCH, _MAILER, _LIMITER,
 *  _USERS, _LOG, _CLUSTER, _STATS, _REDIS, _PLUGINS) wait for kit_answer().  For the store there is
 *  kit_store_hold() in kit_store.h. */
void kit_hold(struct kit *, const char *interface, int on);
size_t kit_held(struct kit *, const char *interface);
void kit_answer(struct kit *, const char *interface); /**< the oldest held one */
void kit_answer_error(struct kit *, const char *interface, chatd_status rc);
/** Of those that answer with a code and why (CHATD_ROOMS, act(); _USERS; _LOG, remove()); a literal. */
void kit_answer_code(struct kit *, const char *interface, const char *code);
/** The oldest one, and then again, which no service does that keeps its contract: for plugins
 *  whose questions go over a network, and which say that they withstand it. */
void kit_answer_twice(struct kit *, const char *interface);
/** The next question is refused at once: the plugin's callback must not run. */
void kit_refuse(struct kit *, const char *interface, chatd_status rc);

/** @p user comes (1) or goes (0); whoever watches presence hears of it. */
void kit_presence(struct kit *, const char *user, int online);
/** What look() answers of @p user from now on; whoever follows presence hears of it. */
void kit_presence_is(struct kit *, const char *user, const struct chatd_presence_state *);
/** Whoever follows presence hears that changes are not heard of from now on (0), or again (1). */
void kit_presence_known(struct kit *, int known);
/** Text is copied; absent texts may be .p NULL. */
void kit_account(struct kit *, const struct chatd_account *);
void kit_room(struct kit *, const char *id, const char *name, int is_public);
void kit_member(struct kit *, const char *room, const char *user, int32_t role);
/** CHATD_ROOM_*: a public room is made by @p user (NULL: nobody), deleted with all who are in it, joined
 *  or left; and whoever watches rooms hears of it. */
void kit_room_event(struct kit *, int32_t what, const char *room, const char *user);

/* A request to a route of the plugin, on worker 0; then header pairs and NULL.  The query
 * belongs to the path.  identify() walks session_auth with Authorization and token; the
 * headers kit-user, kit-flags, kit-login and kit-roles say who it shall find. */
struct kit_req *kit_http(
		struct kit *, const char *method, const char *path, const char *body, ...) KIT_SENTINEL;
void kit_http_gone(struct kit_req *);                                   /**< the client leaves */
int32_t kit_http_status(const struct kit_req *);                        /**< 0: no answer yet */
struct chatd_str kit_http_body(const struct kit_req *);                 /**< what was written */
struct chatd_str kit_http_header(const struct kit_req *, const char *); /**< of the answer */
#define kit_expect_http(r, status, part) kit_expect_http_at(r, status, part, KIT_AT)
void kit_expect_http_at(const struct kit_req *, int32_t status, const char *part, struct kit_at);

#ifdef __cplusplus
}
#endif
#endif
