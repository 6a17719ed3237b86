/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file tool.h
 * @brief What the parts of chatd-plugin share.
 *
 * A plugin under check may crash, hang, or write where it likes.  So every look at it is taken in
 * a child, which reports through a pipe; what it was doing stands in shared memory, for the
 * case that it cannot report any more.
 */
#ifndef TOOL_H
#define TOOL_H

#include "host/loader.h"

#include <chatd/plugin.h>

#include <stddef.h>
#include <stdint.h>

#define TOOL_STRINGIFY(x) #x
#define TOOL_TEXT_OF(x)   TOOL_STRINGIFY(x)
#define TOOL_SYMBOL       TOOL_TEXT_OF(CHATD_PLUGIN_SYMBOL)

struct check {
	const char *path;
	const char *options; /**< YAML, "" for none */
	const char *message; /**< "DEST BODY", which the rounds send as well; NULL: none */
	uint64_t seed;
	long rounds, fuzz;
	long limit; /**< seconds for a stage */
	/* In a child: */
	const struct module *module;
	int to_parent;
	char *doing; /**< shared memory of DOING_MAX bytes */
};
enum { DOING_MAX = 8192 };

enum finding_kind { FINDING_ERROR = 'E', FINDING_WARNING = 'W', FINDING_NOTE = 'N' };

/** A stage of a check.  Runs in a child. */
typedef void stage_fn(struct check *);

/* check.c, for the stages: */
void find(struct check *, enum finding_kind, const char *fmt, ...) CHATD_PRINTF(3, 4);
void doing(struct check *, const char *fmt, ...) CHATD_PRINTF(2, 3);
/** Loads the plugin as the server does; 0, or -1 after a finding. */
int open_plugin(struct check *);
/** Why no server can be played for it here; NULL: it can. */
const char *unplayable(struct check *);

stage_fn stage_symbols;                            /* symbols.c */
stage_fn stage_describe, stage_options;            /* lint.c */
stage_fn stage_rounds, stage_sweep, stage_trouble; /* rounds.c */
/** The kit with this plugin, two workers and a store. */
struct kit *play(const struct check *, const char *options);
stage_fn stage_fuzz; /* fuzz.c */

/* The commands: exit codes.  @p argv[0] is the command. */
int cmd_new(int argc, char **argv, const char *exe_dir);
int cmd_check(int argc, char **argv);
int cmd_describe(int argc, char **argv);

/** FILE.so by its path, in this process.  NULL after filling @p ret_err. */
const struct module *load_file(const char *path, struct load_error *ret_err);

#endif
