/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/plan.h
 * @brief What another reading of the configuration would change in a server that runs.
 *
 * The configuration is checked whole, by a host that only does that (plan_make()), and then
 * compared with what runs: what can be changed becomes a part of the plan, what cannot is named.
 * [main]
 */
#ifndef HOST_PLAN_H
#define HOST_PLAN_H

#include "host/change.h"

/* A plugin whose reload() is called. */
struct plan_reload {
	chatd_ctx *c;
	void *options; /* other values, the plan's; NULL: the same ones, which name files */
};

struct plan {
	struct host *h;
	struct conf *conf; /* as it was read now */
	struct host shadow;
	chatd_ctx **in;   /* made by the shadow */
	const char **out; /* names: every instance of them ends */
	struct plan_reload *reloads;
	size_t n_in, n_out, n_reloads;
	int tunes; /* timeout: or on_error: of some is another */
	int logs;  /* server.log_level or log_format is */
	int keeps; /* something of .conf is in use once the plan is carried out */
	int changes, waits;
	struct change_text lines; /* one for each change, and each that needs a restart */
	size_t n_lines;
};

/** NULL after filling @p text: it cannot be read, or is not good. */
struct plan *plan_make(struct host *, struct change_text *text);
/** What it does not hold any more stays: .conf, .in, options of .reloads, set to NULL. */
void plan_free(struct plan *);
/** One line more of its report; what does not fit is left out. */
void plan_say(struct plan *, const char *fmt, ...) CHATD_PRINTF(2, 3);

/** same.c: the value of one option in two structs that its table filled. */
int same_value(const struct chatd_opt *, size_t opt_size, const void *a, const void *b);

#endif
