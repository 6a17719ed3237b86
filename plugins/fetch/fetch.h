/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file fetch.h
 * @brief What is asked is asked by a helper: a process for each worker that asks anything.
 *
 * call.c: a request and its answer; channel.c: the frames to and from the helper; keeper.c: its
 * life.  url.c and address.c say what may be asked, here and once more in the helper.
 */
#ifndef FETCH_H
#define FETCH_H

#include "url.h"
#include "wire.h"

#include <chatd/fetch.h>
#include <chatd/plugin.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/types.h>
/* Its keys are numbers of ours, one after the other. */
#define HASH_FUNCTION(key, n, hash)     \
	do {                                \
		uint64_t id_;                   \
		memcpy(&id_, key, sizeof(id_)); \
		(hash) = (unsigned)id_;         \
	} while (0)
#include <uthash.h>

enum { RESULTS = 5, WATCHED = 2, PROGRAM_PATH = 512 };

struct conf {
	int64_t request_timeout, limit, connections, host_connections;
	const char *ca_file, *helper, *helper_socket;
	const char *const *outside_hosts, *const *outside_allow;
};

struct call {
	UT_hash_handle hh;
	TAILQ_ENTRY(call) link;
	struct wself *ws;
	uint64_t id;
	chatd_fetch_fn *fn;
	void *arg;
	struct chatd_timer timer;
	int64_t timeout;
	size_t max;             /**< bytes of the answer's body */
	struct chatd_str frame; /**< to be sent */
	size_t at;              /**< so much of it has been */
	int32_t is_sent;        /**< is in .sent, else in .waiting */
};
TAILQ_HEAD(calls, call);

enum state {
	DOWN,
	STARTING, /**< it has not said READY */
	UP,
	RETIRING, /**< gets nothing more, and leaves once it has answered */
};

/** Which file a name stood for. */
struct mark {
	dev_t dev;
	ino_t ino;
};

struct wself {
	struct self *self;
	chatd_worker *w;
	enum state state;
	int32_t stopped, flushing;

	/* channel.c */
	int fd;
	chatd_watch *watch;
	uint32_t watched;
	char *in;
	size_t n_in, cap_in, setup_at;

	/* keeper.c */
	pid_t pid;
	int pidfd, exited; /**< exited: what waitpid() said; -1: nothing */
	chatd_watch *exit_watch;
	struct chatd_timer timer;
	int32_t resting, retired;
	int64_t backoff, up_since, looked;
	size_t lost;
	const char *why;
	struct mark marks[WATCHED];

	/* call.c */
	struct call *by_id;
	struct calls waiting, sent;
	uint64_t last_id;
	int64_t n; /**< under way */
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *stats;
	struct url_rules rules;
	struct chatd_str setup; /**< the frame */
	char program[PROGRAM_PATH];
	uint32_t counters[RESULTS], starts;
	atomic_llong under_way;
	atomic_int told; /**< of a helper's flaws */
};

/* call.c: [worker] */
chatd_status call_start(
		struct wself *, const struct chatd_fetch_request *, chatd_fetch_fn *fn, void *arg);
struct call *call_find(struct wself *, uint64_t id);
void call_answer(struct call *, const struct wire_answer *, const char *texts);
void call_fail(struct call *, chatd_status rc, const char *why);
/** Its first byte is on its way: from now on the helper keeps the time. */
void call_on_its_way(struct call *);
void call_is_sent(struct call *);
/** Those the helper has got anything of; how many. */
size_t calls_lost(struct wself *);
void calls_end(struct wself *, chatd_status rc, const char *why);

/* channel.c: [worker] */
chatd_status channel_open(struct wself *, int fd);
void channel_close(struct wself *);
void channel_send(struct wself *); /**< later in this turn of the loop */
void channel_read(struct wself *); /**< all there is; may end the helper */

/* keeper.c: [worker] */
void keeper_need(struct wself *);                  /**< something waits */
int keeper_is_broken(const struct wself *);        /**< nothing is worth waiting for */
void keeper_ready(struct wself *, uint32_t flaws); /**< READY has come */
int keeper_may_send(struct wself *);               /**< 0: it is to retire */
void keeper_idle(struct wself *);                  /**< an answer has come */
void keeper_end(struct wself *, const char *why);  /**< and to begin again; @p why: a literal */
void keeper_stop(struct wself *);                  /**< nothing is left when it returns */
chatd_status keeper_find(struct self *);           /**< [main] */

/* fetch.c */
void count(struct wself *, chatd_status rc);
void count_start(struct wself *);

#endif
