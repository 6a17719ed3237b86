/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/host.h
 * @brief The host: loads plugins, orders and starts them, and is their chatd_host.
 *
 * [main] all of it.  The order is: host_create(), host_load() (modules, options, services,
 * check(); no side effects), host_start(), host_drain(), host_stop(), host_destroy().
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include "base/diag.h"
#include "conf/conf.h"

#include <stdio.h>

struct host;

struct host *host_create(struct conf *, const char *exe_dir); /**< NULL: no memory */
/** How the configuration is read another time: the file, and what the command line says besides.
 *  NULL after complaints; what is not NULL may have brought some, too. */
typedef struct conf *host_read_fn(void *arg, struct diag *d);
void host_can_read_again(struct host *, host_read_fn *, void *arg);
/** Load and check every instance; complaints go to @p d. 0 or -EINVAL. */
int host_load(struct host *, struct diag *d);
/** Call init() of each instance without opening sockets, for --list-hooks. */
int host_rehearse(struct host *);
int host_start(struct host *); /**< 0, or a negative errno after it was logged */
/** A plugin cannot go on with this configuration, which ends the server. */
int host_gave_up(const struct host *);
/** The configuration is read again, soon; what comes of it is logged. */
void host_ask_to_reload(struct host *);
int host_ready_file(const struct host *, const char *path);
void host_announce(const struct host *); /**< what it serves, in the log */
/** From now on /readyz and the like tell that it is going to stop. */
void host_warn(struct host *);
/** Ask the plugins to finish and stop accepting; then poll host_busy(). */
void host_drain(struct host *);
/** Sessions and connections that are left, and plugins that are busy(). */
long host_busy(const struct host *);
/** [any] As if SIGTERM had come; see chatd_host.stop. */
void host_ask_to_stop(struct host *);
/** What workers and SIGHUP have asked of main: plugins on, off, options.  Within how many ms it
 *  wants to be called again; -1: when host_wake_fd() says so. */
int64_t host_do_changes(struct host *);
int host_wake_fd(const struct host *);       /**< readable when that happened */
int host_asked_to_stop(const struct host *); /**< 1: it was */
/** [any] 1: each worker has finished a turn since this was last called. */
int host_beat(struct host *);
void host_stop(struct host *);    /**< end the workers; safe after a failed start */
void host_destroy(struct host *); /**< NULL is fine */

void host_print_hooks(const struct host *, FILE *);
int host_print_plugins(struct host *, FILE *);
/** @p what is an instance, a module or "server"; @p format a CONF_* value.  -ENOENT. */
int host_describe(struct host *, const char *what, int format, FILE *);
int host_print_schema(struct host *, FILE *);

#endif
