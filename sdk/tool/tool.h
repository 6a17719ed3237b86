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
#include "kit_place.h"

#include <chatd/plugin.h>

#include <stddef.h>
#include <stdint.h>

#define TOOL_STRINGIFY(x) #x
#define TOOL_TEXT_OF(x)   TOOL_STRINGIFY(x)
#define TOOL_SYMBOL       TOOL_TEXT_OF(CHATD_PLUGIN_SYMBOL)

enum { DOING_MAX = 8192, STEP_MAX = 256 };

/** What a child leaves, whatever becomes of it. */
struct left {
	char doing[DOING_MAX]; /**< what comes to the plugin */
	char step[STEP_MAX];   /**< what of the plugin runs; "" if nothing does */
	int unplayed;          /**< it could not be started here */
	long started;          /**< odd configurations with which it was */
};

enum { MESSAGES_MAX = 32 };

struct check {
	const char *path;
	const char *options; /**< YAML; NULL: none are given, and they are made up if some are needed */
	const char *messages[MESSAGES_MAX]; /**< "DEST BODY", which the rounds send as well, in order */
	size_t n_messages;
	const char *records[MESSAGES_MAX]; /**< "SPACE KEY VALUE", which are in the store at first */
	size_t n_records;
	const char *calls[MESSAGES_MAX]; /**< "METHOD PATH BODY", which the rounds ask for, in order */
	size_t n_calls;
	uint64_t seed;
	long rounds, fuzz;
	long limit; /**< seconds for a stage */
	/* In a child: */
	const struct module *module;
	int to_parent;
	struct left *left;       /**< shared memory */
	struct kit_crash *crash; /**< likewise */
};

enum finding_kind { FINDING_ERROR = 'E', FINDING_WARNING = 'W', FINDING_NOTE = 'N' };

/** A stage of a check.  Runs in a child. */
typedef void stage_fn(struct check *);

/* check.c, for the stages: */
void find(struct check *, enum finding_kind, const char *fmt, ...) CHATD_PRINTF(3, 4);
void doing(struct check *, const char *fmt, ...) CHATD_PRINTF(2, 3);
/** What of the plugin runs, within what doing() said. */
void step(struct check *, const char *who, const char *what);
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
/** Warns of names that two instances would both register.  rivals.c */
void tell_rivals(struct check *, const char *options);
/** Options that the plugin takes, of those that it requires alone: to free().  NULL: none were found,
 *  and *ret_why (to free()) is what was said of the last try.  makeup.c */
char *make_up(struct check *, char **ret_why);

/* The commands: exit codes.  @p argv[0] is the command. */
int cmd_new(int argc, char **argv, const char *exe_dir);
int cmd_check(int argc, char **argv);
int cmd_describe(int argc, char **argv);

/** FILE.so by its path, in this process.  NULL after filling @p ret_err. */
const struct module *load_file(const char *path, struct load_error *ret_err);

#endif
