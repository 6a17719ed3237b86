/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/plugins.h
 * @brief What the plugins of this server do, and changes to them while it runs.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * The core provides "chatd.plugins/1", for whoever shows or commands: "admin", "metrics".
 */
#ifndef CHATD_PLUGINS_H
#define CHATD_PLUGINS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_PLUGINS "chatd.plugins/1"

enum {
	CHATD_PLUGIN_RUNS = 1,
	CHATD_PLUGIN_OFF = 2,      /**< `enabled: false`, or turned off since */
	CHATD_PLUGIN_LEFT_OUT = 3, /**< optional, and not to be had; or it has crashed too often */
	CHATD_PLUGIN_DRAINS = 4,   /**< turned off: what it is asked about already goes on */
	CHATD_PLUGIN_OLD = 5,      /**< replaced: for the sessions alone that began with it */
};

/** One configured instance.  Older versions of it that still run come right behind it, with the same
 *  name; what has ended is counted to the first.  Counted are calls of hooks and handlers; borrowed for the callback. */
struct chatd_plugin_facts {
	uint32_t struct_size;
	int32_t state;             /**< CHATD_PLUGIN_* */
	const char *name, *module; /**< the instance; the file's name without .so */
	const char *version;       /**< NULL: it is not loaded, or has none */
	const char *why;           /**< of CHATD_PLUGIN_LEFT_OUT, else NULL */
	int32_t live;              /**< 1: it can be turned off and on while the server runs */
	int32_t optional;
	int64_t calls;
	int64_t errors;   /**< failures, and answers that do not exist */
	int64_t timeouts; /**< calls that it did not answer in time */
	int64_t slow;     /**< calls that held a worker longer than the watchdog allows */
	int64_t busy_us;  /**< in hooks and handlers; one quick call in 64 is measured */
	int64_t bytes;    /**< that its code has from mem_alloc(), of all instances together */
	int64_t sessions; /**< of CHATD_PLUGIN_OLD: how many there are of those; else -1 */
};

/** [worker] In the order of the configuration. */
typedef void chatd_plugins_fn(void *arg, const struct chatd_plugin_facts *facts, size_t n);

/** [worker] What became of a change: 0, or a negative errno; @p text says it in words. */
typedef void chatd_plugins_done(void *arg, chatd_status rc, const char *text);

enum {
	CHATD_PLUGINS_ENABLE = 1,
	CHATD_PLUGINS_DISABLE = 2,
	CHATD_PLUGINS_SET = 3,          /**< .key, .value */
	CHATD_PLUGINS_LOAD = 4,         /**< the file that is there now, for sessions that begin */
	CHATD_PLUGINS_LOAD_AT_ONCE = 5, /**< for all sessions */
	CHATD_PLUGINS_RELOAD = 6,       /**< as SIGHUP; without a name */
	CHATD_PLUGINS_REHEARSE = 7,     /**< what CHATD_PLUGINS_RELOAD would do */
};

struct chatd_plugins_change {
	uint32_t struct_size;
	int32_t what; /**< CHATD_PLUGINS_* */
	struct chatd_str name, key, value;
};

/** One call of an instance's code, by another plugin: kept by who calls until it has come back. */
struct chatd_plugins_call {
	const char *what; /**< a literal, for the log: "a request" */
	const chatd_ctx *of;
	int64_t began, stands_for;
	uintptr_t room[4];
};

struct chatd_plugins {
	uint32_t struct_size;
	/** [worker] Asks every worker; fn runs later, once, on this one. */
	chatd_status (*collect)(void *obj, chatd_worker *, chatd_plugins_fn *fn, void *arg);
	/** [worker] Done by main; done() runs later, once, on this worker, unless the server ends
	 *  before. */
	chatd_status (*change)(void *obj, chatd_worker *, const struct chatd_plugins_change *,
			chatd_plugins_done *done, void *arg);
	/** [any] How many are left out, and their names, with spaces between them. */
	int32_t (*left_out)(void *obj, char *ret_names, size_t room);
	/* For who keeps something that an instance has registered (http: its routes), so that it goes
	 * and comes with the instance. */
	/** [any] 1: what it has registered counts. */
	int32_t (*takes_part)(void *obj, const chatd_ctx *);
	/** [main] 0: what it has registered gives way to what @p beside, whose init() runs, registers: it
	 *  has gone, or goes when that one begins. */
	int32_t (*stays)(void *obj, const chatd_ctx *, const chatd_ctx *beside);
	/** [main] Whose init() runs; NULL: nobody's. */
	const chatd_ctx *(*beginning)(void *obj);
	/** [worker] Something is under way for it (+1), or has ended (-1): its end waits for that.  Begun
	 *  in the callback in which it was found that it takes part. */
	void (*hold)(void *obj, chatd_worker *, const chatd_ctx *, int32_t n);
	/** [main] In init().  fn [worker] cuts off what is under way for an instance that has been told
	 *  to end server.drain_timeout ago.  -ENOSPC: four are called already. */
	chatd_status (*on_cut)(
			void *obj, void (*fn)(void *arg, chatd_worker *, const chatd_ctx *), void *arg);
	/** [worker] Around a call of its code: counted, measured, named if it crashes or takes too
	 *  long.  .what is set before. */
	void (*enter)(void *obj, chatd_worker *, const chatd_ctx *, struct chatd_plugins_call *);
	/** [worker] It made an error: it answered with 500, say. */
	void (*erred)(void *obj, chatd_worker *, const chatd_ctx *);
	void (*leave)(void *obj, chatd_worker *, struct chatd_plugins_call *); /**< [worker] */
	/** [main] As beginning(), for who lets others hear of something, see chatd-sdk/hearers.h: such
	 *  an instance is replaced for all sessions at once, or all would be heard twice. */
	const chatd_ctx *(*hearer)(void *obj);
	/** [main] 1: nothing of it runs any more, its fini() has. */
	int32_t (*ended)(void *obj, const chatd_ctx *);
};

#ifdef __cplusplus
}
#endif
#endif
