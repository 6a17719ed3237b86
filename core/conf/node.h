/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree behind struct conf, for the files of this folder: every node knows where it
 * was written.  Nodes live in the arena of their struct conf and are never freed alone.
 */
#ifndef CONF_NODE_H
#define CONF_NODE_H

#include "base/arena.h"
#include "base/diag.h"
#include "conf/conf.h"

enum { CONF_DEPTH_MAX = 16, CONF_ENTRIES_MAX = 10000, CONF_BYTES_MAX = 1 << 20 };

enum node_kind { NODE_TEXT, NODE_MAP, NODE_LIST };

struct node_at {
	uint32_t line, col, len; /* from 1; line 0: in no file */
};

struct conf_node {
	enum node_kind kind;
	int is_null;        /* written without a value, or as ~ or null */
	int is_plugin;      /* an instance: may have the keys that every plugin has */
	const char *origin; /* "--set http.listen" in place of the file; NULL: the file */
	struct node_at at, key_at;
	struct chatd_str key;  /* in a map; NUL-terminated */
	struct chatd_str text; /* of NODE_TEXT; NUL-terminated, without NUL inside */
	struct conf_node *first, *last, *next, *up;
	size_t count; /* of children */
};

/* Lines that hold a secret: never shown. */
struct node_hidden {
	struct node_hidden *next;
	uint32_t line;
};

struct conf {
	struct arena arena;
	const char *name;   /* of the file, as in complaints */
	const char *folder; /* with its last slash; "" is the working directory */
	struct chatd_str text;
	struct node_hidden *hidden;
	struct conf_node *root, *server_node, *plugins_node;
	struct conf_server server;
	struct conf_plugin *plugins;
	size_t n_plugins;
};

/* Where a complaint points: at a node's value, or at its key. */
enum node_spot { AT_VALUE, AT_KEY };
struct diag_at node_place(const struct conf *c, const struct conf_node *n, enum node_spot spot);
void node_complain(struct conf *c, const struct conf_node *n, enum node_spot spot, struct diag *d,
		const char *fmt, ...) CHATD_PRINTF(5, 6);
/* The line of the file with this number, without its end; .p NULL: there is none, or it
 * may hold a secret. */
struct chatd_str node_line(const struct conf *c, uint32_t line);
/* The line of this node holds a secret: it is shown no more, also where it was to be shown
 * already.  -1: no memory. */
int node_hide(struct conf *c, const struct conf_node *n, struct diag *d);
/* Out of memory, as a complaint. */
void node_no_memory(struct diag *d);

struct conf_node *node_new(struct conf *c, enum node_kind kind); /* NULL: no memory */
void node_append(struct conf_node *up, struct conf_node *child);
struct conf_node *node_find(const struct conf_node *map, struct chatd_str key);
struct conf_node *node_item(const struct conf_node *list, size_t i);
/* The node that @p path ("preset.1.id") names below @p from, or the last one on the way to
 * it; *ret_whole: is it the one itself? */
const struct conf_node *node_walk(const struct conf_node *from, const char *path, int *ret_whole);
const char *node_kind_name(const struct conf_node *n); /* "a list" */

/* parse.c: a YAML text to a tree.  NULL after a complaint: the text is no YAML. */
struct parse_input {
	struct chatd_str text;
	const char *origin; /* see struct conf_node */
};
struct conf_node *parse_yaml(struct conf *c, const struct parse_input *in, struct diag *d);

/* fill.c: like conf_fill(), for keys that stand among others: does not look for unknown
 * ones and takes the keys that every plugin has as its own. */
int fill_common(struct conf *c, const struct conf_node *node, const char *who,
		const struct chatd_opt *opts, void *out, struct diag *d);
extern const char *const fill_common_keys[]; /* NULL-terminated */

/* plan.c: the keys that every plugin has, but for `order:`. */
const struct chatd_opt *plan_plugin_opts(void);

/* schema.c: of one plugin, for conf_describe(). */
int schema_one(FILE *to, const struct conf_about *about);

#endif
