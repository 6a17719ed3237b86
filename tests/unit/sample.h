/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin's option table with one option of every type, for the tests of core/conf. */
#ifndef TESTS_UNIT_SAMPLE_H
#define TESTS_UNIT_SAMPLE_H

#include <chatd/plugin.h>
#include <stddef.h>
#include <stdint.h>

struct sample_rule {
	int32_t action;
	const char *prefix;
	const char *passcode;
	int64_t limit;
	const char *const *only;
};

struct sample {
	const char *const *listen;
	const char *path;
	const char *greeting;
	int64_t max_frame;
	int64_t ttl;
	int64_t count;
	int64_t any;
	int32_t mode;
	int32_t verify;
	const char *secret;
	const char *root;
	struct chatd_list rules;
};

static const char *const sample_actions[] = { "allow", "deny", NULL };
static const char *const sample_modes[] = { "fast", "safe", "exact", NULL };

#define SAMPLE_RULE(f) offsetof(struct sample_rule, f)
static const struct chatd_opt sample_rule_opts[] = {
	{ .key = "action",
			.type = CHATD_T_CHOICE,
			.offset = SAMPLE_RULE(action),
			.choices = sample_actions,
			.fallback = "deny" },
	{ .key = "prefix",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = SAMPLE_RULE(prefix),
			.doc = "What destinations begin with." },
	{ .key = "passcode",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = SAMPLE_RULE(passcode) },
	{ .key = "limit", .type = CHATD_T_SIZE, .offset = SAMPLE_RULE(limit), .fallback = "1 KiB" },
	{ .key = "only", .type = CHATD_T_STRINGS, .offset = SAMPLE_RULE(only) },
	{ .key = NULL },
};

#define SAMPLE(f) offsetof(struct sample, f)
static const struct chatd_opt sample_opts[] = {
	{ .key = "listen",
			.type = CHATD_T_STRINGS,
			.offset = SAMPLE(listen),
			.fallback = "[\"127.0.0.1:8080\"]",
			.doc = "Addresses to listen on." },
	{ .key = "path",
			.type = CHATD_T_STRING,
			.offset = SAMPLE(path),
			.fallback = "/ws-chat",
			.doc = "The endpoint's path." },
	{ .key = "greeting", .type = CHATD_T_STRING, .offset = SAMPLE(greeting) },
	{ .key = "max_frame",
			.type = CHATD_T_SIZE,
			.offset = SAMPLE(max_frame),
			.fallback = "64 KiB",
			.min = 1024,
			.max = (int64_t)1 << 30,
			.doc = "The largest frame | message." },
	{ .key = "ttl",
			.type = CHATD_T_DURATION,
			.flags = CHATD_O_LIVE,
			.offset = SAMPLE(ttl),
			.fallback = "30s",
			.min = 1000,
			.max = 3600000 },
	{ .key = "count",
			.type = CHATD_T_INT,
			.offset = SAMPLE(count),
			.fallback = "10",
			.min = 1,
			.max = 100 },
	{ .key = "any", .type = CHATD_T_INT, .offset = SAMPLE(any) },
	{ .key = "mode",
			.type = CHATD_T_CHOICE,
			.offset = SAMPLE(mode),
			.fallback = "safe",
			.choices = sample_modes },
	{ .key = "verify", .type = CHATD_T_BOOL, .offset = SAMPLE(verify), .fallback = "true" },
	{ .key = "secret", .type = CHATD_T_STRING, .flags = CHATD_O_SECRET, .offset = SAMPLE(secret) },
	{ .key = "root",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = SAMPLE(root),
			.fallback = "www" },
	{ .key = "rules",
			.type = CHATD_T_LIST,
			.offset = SAMPLE(rules),
			.fallback = "[{action: allow, prefix: /topic/}]",
			.sub = sample_rule_opts,
			.sub_size = sizeof(struct sample_rule) },
	{ .key = NULL },
};

#endif
