/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/instance.h
 * @brief What the files of core/host share: one configured plugin, and all of them.
 */
#ifndef HOST_INSTANCE_H
#define HOST_INSTANCE_H

#include "base/crash.h"
#include "chat/chat.h"
#include "conf/conf.h"
#include "host/host.h"
#include "host/loader.h"

#include <chatd/plugin.h>
#include <chatd/stream.h>

#include <pthread.h>
#include <stdatomic.h>

struct host_change;
struct loop;
struct net;
struct patience;

/** One instance; plugins know it as an opaque chatd_ctx. */
struct chatd_ctx {
	struct host *host;
	const struct conf_plugin *conf;
	const struct conf_plugin *began; /**< when it registered its hooks; .conf may be a later one */
	const char *name;
	const struct module *module;
	const struct chatd_plugin *plugin;
	void *options;  /**< what its table filled */
	void *reloaded; /**< what it filled when reload() was called last; NULL: never */
	void *self;
	uint32_t index; /**< in host->inst, and of its wself */
	int placed;     /**< graph: 0 not yet, 1 being placed, 2 done */
	int skipped;    /**< graph: optional, and not to be had */
	int inited;
	int failed;             /**< it was turned on while the server ran, and could not start */
	int idle;               /**< it has stopped, and waits for nobody's answer */
	int leaves;             /**< a turn has begun in which it ends */
	int hears;              /**< others call it of themselves, see chatd_plugins.hearer */
	const chatd_ctx **uses; /**< whose services it was given in its init() */
	size_t n_uses;
	atomic_int asks_late; /**< and later on */
	atomic_int state;     /**< CHATD_PLUGIN_RUNS ... once the server serves */
	size_t started;       /**< number of workers whose worker_start() was called */
};

struct host_service { /* a node of its own, because plugins keep its address */
	struct host_service *next;
	const char *interface;
	struct chatd_service service;
	const chatd_ctx *by; /**< NULL: the core */
};

struct host_bound {
	const char *kind;
	char *address;
};

/** An optional plugin that was left out, and why. */
struct host_off {
	struct host_off *next;
	const char *name;
	char why[192];
};

enum { HOST_MODULES = 256 }; /* files whose timers are counted */

/** Who keeps what others have registered, see chatd_plugins.on_cut. */
struct host_cut {
	void (*fn)(void *arg, chatd_worker *, const chatd_ctx *);
	void *arg;
};

struct host {
	struct conf *conf;
	struct conf **confs; /**< that came after the first one; freed at the end */
	size_t n_confs;
	host_read_fn *read_again;
	void *read_arg;
	const struct conf_server *server;
	struct diag *diag; /**< while check() runs */
	char *plugin_dir;  /**< beside the program, for running uninstalled; may be NULL */
	struct modules *modules;
	chatd_ctx **inst;  /**< enabled instances in configuration order */
	chatd_ctx **order; /**< the same, in start order */
	size_t n;
	struct host_service *services;
	struct host_bound *bound;
	size_t n_bound;
	struct host_off *off;
	pthread_mutex_t lock;        /**< guards inst, n, off, changes: main writes, workers read */
	struct host_change *changes; /**< the first one is being done */
	_Atomic(chatd_ctx *) by_module[HOST_MODULES]; /**< lent_timers_of() */
	struct host_cut cuts[4];
	size_t n_cuts;
	int64_t drains_since;        /**< when an instance was last told to end; worker_clock_ms() */
	struct chat_table *building; /**< a plugin is turned on: its hooks go there */
	void **kept;                 /**< for whoever may be looking still; freed at the end */
	size_t n_kept;
	struct crash_here here; /**< of main */
	struct patience *patience;
	struct loop *loop;
	struct net *net;
	struct chat *chat;
	const struct host *shadow_of; /**< it only checks a configuration, for the one that runs */
	int rehearsal;
	int registering;      /**< init() runs: hooks and services may be registered */
	chatd_ctx *beginning; /**< whose */
	int failed;           /**< an instance could not start; its name was logged */
	int stopped;
	atomic_int gave_up;  /**< a plugin cannot go on with this configuration */
	atomic_int stopping; /**< CHATD_SERVES ... for plugins */
	atomic_int asked;    /**< a plugin wants it to stop */
	atomic_int beats;    /**< workers that host_beat() has not heard of yet */
	int wake_fd;         /**< readable: look at `asked` */
};

/** The one table, with the functions that need no instance answered for @p host. */
const struct chatd_host *table_for(struct host *);
extern const struct chatd_net table_net_vt;
/** Offer a service; the first provider of an interface is the one that is found. */
chatd_status host_provide(struct host *, const struct host_service *);

/** host.c, for live.c: an instance with its options.  NULL after complaints. */
chatd_ctx *host_make(
		struct host *, const struct conf_plugin *, const struct module *, struct diag *);
int host_start_on_workers(struct host *, chatd_ctx *); /**< its worker_start() */
int host_know_code(struct host *);                     /**< whose code is where */
void host_keep(struct host *, void *p);
void host_take_back(struct host *, const char *name); /**< it is left out no more */
/** Its name and why, for the log and for whoever asks. */
void host_leave_out(struct host *, chatd_ctx *, const char *fmt, ...) CHATD_PRINTF(3, 4);
/** 1: a plugin that is not optional needs what only @p c provides. */
int graph_is_needed(const struct host *, const chatd_ctx *c);
/** Fill host->order from provides, needs and wants.  -EINVAL after complaints. */
int graph_order(struct host *, struct diag *d);
/* Of those that are turned on, some plugin provides it, or the core. */
int graph_will_provide(struct host *, const char *interface);
int graph_core_provides(const char *interface);

/** numbers.c: what core/loop counts becomes numbers of chatd.stats/1.  [main] */
int numbers_define(struct chat *);

#endif
