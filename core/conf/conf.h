/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: a YAML file, corrected by --set, spread over option tables.
 *
 *   struct diag d = { 0 };
 *   struct conf *c = conf_load_file(path, &d);     text to tree; shape and spelling
 *   conf_set(c, "http.listen=127.0.0.1:0", &d);    any number of times
 *   conf_plan(c, &d);                              server section, list of plugins
 *   conf_fill(c, conf_plugin_at(c, i)->node, ...); once per plugin, with its table
 *   if (diag_count(&d)) { diag_print(&d, stderr); exit(78); }
 *
 * Every step goes on after a complaint, so that all are seen at once; only a text that is
 * no YAML ends it (conf_load_*() is NULL).  All memory, also what conf_fill() puts into
 * the plugins' structs, lives until conf_free().  One thread at a time.
 *
 * The values of CHATD_O_SECRET options and the lines they stand on are never shown.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/diag.h"

#include <chatd/plugin.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct conf;
struct conf_node;

struct conf *conf_load_file(const char *path, struct diag *d);
/* @p name stands for the file in complaints; its folder is where relative paths start. */
struct conf *conf_load_text(const char *name, struct chatd_str text, struct diag *d);
void conf_free(struct conf *c); /* NULL is fine */

/*
 * "--set": NAME.KEY=value, plugins.NAME.KEY=value, server.KEY=value, or deeper, as in
 * rooms.preset.0.name=Lobby.  A value that begins with [, { or a quote is YAML, anything
 * else is the text itself.  Relative paths in it count from the working directory.
 * 0, or -EINVAL after a complaint.
 */
int conf_set(struct conf *c, const char *assignment, struct diag *d);

/* The value of one key of a plugin, not of something below it, is another from now on, until
 * conf_undo().  0, or -EINVAL after a complaint. */
struct conf_undo {
	struct conf_node *up, *was, *is;
};
int conf_exchange(struct conf *c, const struct conf_node *plugin, const char *key,
		const char *value, struct conf_undo *ret_undo, struct diag *d);
void conf_undo(const struct conf_undo *undo);

/* Reads the server section and the keys that every plugin has.  0 or -EINVAL. */
int conf_plan(struct conf *c, struct diag *d);

/* The `server:` section.  Valid after conf_plan(). */
enum { CONF_STALL_AUTO, CONF_STALL_ABORT, CONF_STALL_LOG };
struct conf_server {
	const char *data_dir;
	int64_t workers; /* 0: one per processor */
	const char *const *plugin_path;
	const char *server_id; /* never NULL: derived from the host's name if not given */
	int32_t log_level;     /* CHATD_LOG_* */
	int32_t log_format;    /* 0 text, 1 JSON */
	int64_t drain_grace;   /* milliseconds, as all times */
	int64_t drain_spread;
	int64_t drain_timeout;
	int64_t offload_threads;
	int64_t max_suspended;     /* calls per worker */
	int64_t slow_queue;        /* bytes that may wait for one connection */
	int32_t on_stall;          /* CONF_STALL_* */
	int64_t stall;             /* how long a connection may take nothing at all */
	int64_t max_subscriptions; /* per session */
	const char *workers_text;  /* as written; see workers */
};
const struct conf_server *conf_server(const struct conf *c);
const struct conf_node *conf_server_node(const struct conf *c);

/* One entry of `order:`, the hook's name already checked. */
struct conf_order {
	uint32_t hook; /* chatd_hook_* */
	int32_t order;
};

/* One instance.  Valid after conf_plan(). */
struct conf_plugin {
	const char *name;   /* the instance */
	const char *module; /* `plugin:`, or the name */
	int32_t enabled;
	int32_t optional;   /* may be missing or fail to load */
	int32_t on_error;   /* 0 reject, 1 continue */
	int64_t timeout_ms; /* of a suspended call */
	const struct conf_order *order;
	size_t order_count;
	const struct conf_node *node;
};
/* Instances in the order of the file, disabled ones included. */
size_t conf_plugin_count(const struct conf *c);
const struct conf_plugin *conf_plugin_at(const struct conf *c, size_t i);
const struct conf_plugin *conf_plugin_named(const struct conf *c, const char *name); /* or NULL */

/*
 * Fills @p out (zeroed by the caller) as the table says.  @p node NULL: defaults only.
 * @p who begins each complaint.  @p opt_size is the plugin's sizeof(struct chatd_opt),
 * which may be another than ours.  0, or -EINVAL after complaints.
 */
int conf_fill(struct conf *c, const struct conf_node *node, const char *who,
		const struct chatd_opt *opts, size_t opt_size, void *out, struct diag *d);

/* One option of a table whose records have @p opt_size bytes; 0 at the end. */
int fill_opt_at(const struct chatd_opt *opts, size_t opt_size, size_t i, struct chatd_opt *ret);

/*
 * A complaint about @p key of a plugin's node ("ttl", "preset.1.id"), shown at the key's
 * value, or at the plugin if the key is not written.  @p key may be NULL.
 */
void conf_complain(struct conf *c, const struct conf_node *node, const char *key, struct diag *d,
		const char *fmt, ...) CHATD_PRINTF(5, 6);
void conf_vcomplain(struct conf *c, const struct conf_node *node, const char *key, struct diag *d,
		const char *fmt, va_list ap) CHATD_PRINTF(5, 0);

/* What --describe shows. */
struct conf_about {
	const char *name, *version, *summary;
	const char *const *provides, *const *needs, *const *wants; /* NULL-terminated or NULL */
	const struct chatd_opt *opts;                              /* may be NULL */
	size_t opt_size;
};
enum { CONF_TEXT, CONF_MARKDOWN, CONF_SCHEMA };

/* Whether a plugin's table fits the struct of @p conf_size bytes that it fills.  0, or -EINVAL
 * and what is wrong with it in @p ret_why. */
int conf_check_table(const struct conf_about *about, size_t conf_size, char *ret_why, size_t room);

/* Writes the description of one plugin; 0 or -ENOMEM. */
int conf_describe(FILE *to, int format, const struct conf_about *about);
/* The server section as if it were a plugin, for --describe server. */
const struct conf_about *conf_server_about(void);
/* A JSON Schema (2020-12) of a whole file that uses these @p n plugins; 0 or -ENOMEM. */
int conf_schema(FILE *to, const struct conf_about *plugins, size_t n);

#endif
