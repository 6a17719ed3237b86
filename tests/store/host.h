/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host.h
 * @brief A small server around one store plugin, with real threads: enough of the host's
 *        table for a plugin that provides chatd.store/1 and asks for nothing.
 *
 * A worker here is a mailbox; whoever calls host_turn() is its thread.
 */
#ifndef STORE_TEST_HOST_H
#define STORE_TEST_HOST_H

#include <chatd/store.h>

#include <pthread.h>

enum { HOST_WORKERS = 8 };

struct chatd_worker {
	int32_t index;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct host_post *first, **last;
};

struct host {
	struct chatd_worker workers[HOST_WORKERS];
	const struct chatd_plugin *plugin;
	void *self, *conf;
	struct host *cipher; /* that of the plugin encrypt */
	struct chatd_service service;
	const struct chatd_store *vt;
	void *obj;
	chatd_status rc; /* of init() */
};

/* @p set: "key=value" ending with NULL, over the plugin's defaults; may be NULL.  .rc is
 * what init() said; host_close() in any case. */
struct host *host_open(const char *so, const char *dir, const char *const *set);
void host_close(struct host *);
/* What the plugin has said since host_open(); log lines, one per line.  It is good until the next
 * call, which is the test's main thread's, too. */
const char *host_log(void);
void host_log_clear(void);
/* The plugin encrypt, for stores that are opened from now on, with these options; .so NULL: none.
 * CHATD_TEST_CIPHER in the environment is the same as a path to it, with a key (or
 * CHATD_TEST_KEYS) and search: words (or CHATD_TEST_SEARCH). */
void host_cipher(const char *so, const char *const *set);
chatd_status host_cipher_reload(const char *keys);
/* What host->wall_ms() says from now on; 0: the real time. */
void host_set_wall(int64_t ms);
int64_t host_wall(void);
/* Which node the stores are of that are opened from now on. */
void host_set_node(const char *id);
/* Runs one posted call; 0: none came within @p ms. */
int host_turn(struct chatd_worker *, int ms);

/* An answer, kept until answers_free(). */
struct kept {
	chatd_status rc;
	struct chatd_store_answer a;
	int done;
};
/* A chatd_store_fn for a struct kept. */
void keep(void *kept, chatd_status rc, const struct chatd_store_answer *a);
void answers_free(void);

/* Makes a call on worker 0 and waits for its answer. */
#define ASK(h, call, ...)                                                                   \
	__extension__({                                                                         \
		struct kept *kept_ = kept_new();                                                    \
		kept_->rc = (h)->vt->call((h)->obj, &(h)->workers[0], &(__VA_ARGS__), keep, kept_); \
		kept_wait((h), kept_);                                                              \
	})
struct kept *kept_new(void);
struct kept *kept_wait(struct host *, struct kept *);

#endif
