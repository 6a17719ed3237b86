/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A host, a layer and a core for the codec's tests: small fakes whose every answer the
 * test decides.  One world at a time; world_end() fails the test if anything leaked.
 */
#ifndef STOMP_TEST_WORLD_H
#define STOMP_TEST_WORLD_H

#include "render.h"
#include "stomp.h"

struct world {
	int64_t now;
	const struct chatd_codec *codec;
	void *codec_obj;
	void *conn;
	struct stomp_conf conf;

	/* the layer */
	char out[65536]; /**< what was sent; NULs as "^@\n" */
	size_t out_n;
	size_t queued;                  /**< what the layer says is waiting */
	int32_t paused, pauses, closed; /**< closed: the code, 0: open */
	char why[128];
	char unread[262144];
	size_t unread_n;
	int32_t beats, settled;
	const char *bearer, *token; /**< attributes of the connection */
	const char *peer;           /**< NULL: 127.0.0.1 */

	/* the core */
	char log[16384]; /**< what the core was asked */
	int32_t hold;    /**< done() is kept back until world_answer() */
	chatd_done *held;
	void *held_arg;
	int32_t go_on; /**< handlers take over the order: done() waits for world_answer_at() */
	struct {
		chatd_done *done;
		void *arg;
	} piped[300];
	size_t n_piped;
	int32_t sessions, session_closes;
	int32_t max_subs;
	int32_t stopping;   /**< what the host tells */
	const char *refuse; /**< verdict REJECT with this code */
	chatd_msg *reply;   /**< of every outcome; may be NULL */
	char subs[8][32];

	long allocs; /**< balance of everything that was allocated */
};

extern struct world world;

void world_begin(void);
void world_end(void);
void world_connect(void); /**< a new connection */
/** The client sends; leftovers are kept while paused, as a layer does. */
void world_send(const char *p, size_t n);
void world_run(void); /**< the posts */
void world_advance(int64_t ms);
/** The core's late answer. */
void world_answer(chatd_verdict verdict, const char *code);
/** What is held was parked, and a handler takes over its order only now. */
void world_proceed(void);
/** The late answer to the @p i-th message that was taken over. */
void world_answer_at(size_t i, chatd_verdict verdict, const char *code);
/** Log in with @p accept (accept-version and heart-beat lines) and forget the output. */
void world_login(const char *lines);
/** Everything sent since the last call, which is then forgotten. */
const char *world_out(void);
chatd_msg *world_msg(const char *dest, const char *body, size_t n);
void world_msg_set(chatd_msg *, const char *name, const char *value);
void world_msg_drop(chatd_msg *);
/** What @p b (used up) would look like on the wire. */
const char *world_show(chatd_buf *b);

#define SEND(lit) world_send(lit, sizeof(lit) - 1)

#endif
