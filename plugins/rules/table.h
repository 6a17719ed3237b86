/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file table.h
 * @brief The rules, compiled: one list per verb, roles as bits.  Pure, and read-only once made.
 */
#ifndef RULES_TABLE_H
#define RULES_TABLE_H

#include <chatd-sdk/paths.h>
#include <chatd-sdk/roles.h>
#include <chatd/plugin.h>

enum verb { VERB_SEND, VERB_SUBSCRIBE, VERB_CALL, VERBS };

/** A rule as it stands in the configuration. */
struct rule_conf {
	int32_t allow, deny; /**< index into table_verbs */
	const char *prefix;
	const char *const *who, *const *methods;
};

extern const char *const table_verbs[]; /**< "none", "send", "subscribe", "call", "all" */

struct rule {
	const char *prefix;
	size_t n; /**< of the prefix */
	uint64_t who;
	uint32_t methods; /**< CHATD_CALL_*, of VERB_CALL */
	int32_t allow;
};

struct table {
	struct chatd_roles roles;
	struct rule *rule[VERBS];
	size_t n[VERBS];
};

enum { RULE_NONE = -1, RULE_DENY, RULE_ALLOW };

/** NULL: @p r is fine; else what is wrong with it. */
const char *table_fault(const struct rule_conf *r, char room[256]);
/** -ENOMEM, -E2BIG (too many roles); table_finish() also then. */
chatd_status table_compile(
		struct table *, const struct chatd_host *, const struct rule_conf *, size_t n);
void table_finish(struct table *, const struct chatd_host *);

/** What the first rule that fits says of a SEND or SUBSCRIBE, or RULE_NONE. */
int32_t table_dest(const struct table *, enum verb, uint64_t who, struct chatd_str dest);
/** The same of a call.  @p who 0: nobody has asked yet who it is; then RULE_NONE also where
 *  that would matter. */
int32_t table_call(const struct table *, uint64_t who, uint32_t method, struct chatd_str path);
#endif
