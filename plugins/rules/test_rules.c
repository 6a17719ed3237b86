/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

static const char table[] = "rules:\n"
							"  - {deny: send, prefix: /topic/news, who: anonymous}\n"
							"  - {allow: all, prefix: /topic/}\n"
							"  - {allow: subscribe, prefix: /queue/}\n"
							"  - {allow: send, prefix: /queue/admin, who: admin}\n"
							"  - {allow: send, prefix: /queue/known, who: authenticated}\n";

static struct kit *start(const char *yaml)
{
	return kit_new(&chatd_plugin_under_test, yaml);
}

TEST(the_first_rule_that_fits_decides)
{
	UNUSED;
	struct kit *k = start(table);
	struct kit_client *guest = kit_open_on(k, 0, "guest", CHATD_ID_ANONYMOUS);
	kit_send(guest, "/topic/news/today", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", "you may not send to /topic/news/today");
	kit_send(guest, "/topic/chat", "hi", NULL);
	kit_expect_accept(k);
	kit_subscribe(guest, "/topic/news/today");
	kit_expect_accept(k);
	kit_in(k, "ann", "/topic/news/today", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

TEST(a_rule_is_about_its_verb_alone)
{
	UNUSED;
	struct kit *k = start(table);
	struct kit_client *ann = kit_open(k, "ann");
	kit_subscribe(ann, "/queue/x");
	kit_expect_accept(k);
	kit_send(ann, "/queue/x", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", "send to /queue/x");
	kit_free(k);
}

TEST(flags_of_the_identity_choose_the_rule)
{
	UNUSED;
	struct kit *k = start(table);
	struct kit_client *root = kit_open_on(k, 0, "root", CHATD_ID_ADMIN);
	struct kit_client *guest = kit_open_on(k, 0, "guest", CHATD_ID_ANONYMOUS);
	kit_send(root, "/queue/admin", "hi", NULL);
	kit_expect_accept(k);
	kit_send(guest, "/queue/admin", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_send(guest, "/queue/known", "hi", NULL);
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_in(k, "ann", "/queue/known", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

TEST(without_a_rule_the_fallback_decides)
{
	UNUSED;
	struct kit *k = start("");
	kit_in(k, "ann", "/topic/x", "hi");
	kit_expect_reject(k, "FORBIDDEN", "/topic/x");
	kit_free(k);
	k = start("fallback: allow\nrules: [{deny: subscribe, prefix: /topic/x}]");
	struct kit_client *ann = kit_open(k, "ann");
	kit_send(ann, "/topic/x", "hi", NULL);
	kit_expect_accept(k);
	kit_subscribe(ann, "/topic/x");
	kit_expect_reject(k, "FORBIDDEN", "subscribe to /topic/x");
	kit_free(k);
}

TEST(a_prefix_longer_than_the_destination_does_not_fit)
{
	UNUSED;
	struct kit *k = start("rules: [{allow: all, prefix: /topic/longer}]");
	kit_in(k, "ann", "/topic/long", "hi");
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_free(k);
}

static void expect_complaint(const char *yaml, const char *part)
{
	kit_expect_complaint(&chatd_plugin_under_test, yaml, part);
}

TEST(a_rule_needs_exactly_one_of_allow_and_deny)
{
	UNUSED;
	expect_complaint("rules: [{prefix: /topic/}]",
			"rule 1 (prefix /topic/): must have one of allow and deny: send, subscribe, call or all");
	expect_complaint("rules: [{allow: all, prefix: /a/}, {allow: all, deny: send, prefix: /b/}]",
			"rule 2 (prefix /b/): must have one of allow and deny");
	expect_complaint("rules: [{allow: all, prefix: topic/}]",
			"prefix \"topic/\" must begin with a slash, for example /topic/");
	expect_complaint("rules: [{alow: all, prefix: /topic/}]", "did you mean \"allow\"?");
}

TEST(mistakes_are_named_with_what_to_write_instead)
{
	UNUSED;
	expect_complaint(
			"rules: [{deny: send, prefix: /a/, methods: [GET]}]", "methods belong to call");
	expect_complaint("rules: [{deny: call, prefix: /a, methods: [FETCH]}]",
			"method \"FETCH\" must be one of GET, POST, PUT, PATCH, DELETE");
	expect_complaint(
			"rules: [{deny: send, prefix: \"/topic/{id}\"}]", "destinations have no patterns");
	expect_complaint(
			"rules: [{deny: call, prefix: /api/*/x}]", "of plain words and of {parameters}");
	expect_complaint("rules: [{deny: call, prefix: /api//x}]", "of plain words");
	expect_complaint("rules: [{deny: call, prefix: /api/../x}]", "of plain words");
	expect_complaint("rules: [{deny: call, prefix: /api/%66iles}]", "of plain words");
	expect_complaint("rules: [{deny: send, prefix: /a/, who: user}]", "write authenticated");
	expect_complaint(
			"rules: [{deny: send, prefix: /a/, who: \"two words\"}]", "\"two words\" is no role");
	expect_complaint("rules: [{deny: send, prefix: /a/, who: []}]", "about nobody");
}

TEST(more_roles_than_bits_are_a_complaint)
{
	UNUSED;
	char yaml[4096] = "rules: [{deny: send, prefix: /a/, who: [";
	for (int i = 0; i < 60; i++) {
		snprintf(yaml + strlen(yaml), 32, "%sr%d", i ? "," : "", i);
	}
	snprintf(yaml + strlen(yaml), 4, "]}]");
	expect_complaint(yaml, "\"r59\" is one role too many; 59 different ones are allowed");
}

/* ---- destinations (T07, H104 to H108) ---------------------------------------------------- */

TEST(what_is_allowed_is_the_thing_itself_and_what_is_below_it)
{
	UNUSED;
	static const char *const others[] = { "/topic/publicity", "/topic/public.x", "/Topic/public",
		"/topic//public", "//topic/public", "/topic/./public", "/topic/%70ublic",
		"/topic/../topic/public", "/topic/PUBLIC", "/topic\xef\xbc\x8fpublic", "/topic/publi",
		"/queue/public" };
	struct kit *k = start("rules: [{allow: subscribe, prefix: /topic/public}]");
	struct kit_client *ann = kit_open(k, "ann");
	kit_subscribe(ann, "/topic/public");
	kit_expect_accept(k);
	kit_subscribe(ann, "/topic/public/below");
	kit_expect_accept(k);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		kit_subscribe(ann, others[i]);
		kit_expect_reject(k, "FORBIDDEN", others[i]);
	}
	kit_free(k);
}

TEST(what_is_denied_is_all_that_begins_so)
{
	UNUSED;
	struct kit *k = start("rules: [{deny: send, prefix: /topic/chat.send, who: anonymous},"
						  " {allow: send, prefix: /topic/}]");
	struct kit_client *guest = kit_open_on(k, 0, "guest", CHATD_ID_ANONYMOUS);
	kit_send(guest, "/topic/chat.sendMessage", "hi", NULL); /* its other name */
	kit_expect_reject(k, "FORBIDDEN", "as a guest; log in with an account");
	kit_in(k, "ann", "/topic/chat.sendMessage", "hi");
	kit_expect_accept(k);
	kit_free(k);
}

/* ---- roles --------------------------------------------------------------------------------- */

static struct chatd_identity someone(const char *user, uint32_t flags, const char *roles)
{
	struct chatd_identity who = { .struct_size = sizeof(who), .flags = flags };
	who.user = chatd_str_of(user, strlen(user));
	who.name = who.user;
	who.roles = chatd_str_of(roles, strlen(roles));
	return who;
}

static const char staff[] = "rules:\n"
							"  - {allow: send, prefix: /topic/staff, who: [support, billing]}\n"
							"  - {allow: send, prefix: /topic/mods, who: moderator}\n"
							"  - {allow: send, prefix: /topic/root, who: admin}\n";

TEST(the_table_of_roles_holds_for_every_kind_of_account)
{
	UNUSED;
	static const struct {
		uint32_t flags;
		const char *roles;
		int staff, mods, root;
	} rows[] = {
		{ 0, "", 0, 0, 0 },
		{ CHATD_ID_ANONYMOUS, "", 0, 0, 0 },
		{ 0, "support", 1, 0, 0 },
		{ 0, "other billing", 1, 0, 0 },
		{ 0, "supporter support-x xsupport", 0, 0, 0 },
		{ 0, "moderator admin", 0, 0, 0 }, /* words alone: the flags are what counts */
		{ CHATD_ID_MODERATOR, "moderator", 0, 1, 0 },
		{ CHATD_ID_ADMIN, "admin support", 1, 1, 1 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kit *k = start(staff);
		const struct chatd_identity who = someone("ann", rows[i].flags, rows[i].roles);
		struct kit_client *ann = kit_open_as(k, 0, &who);
		static const char *const dest[] = { "/topic/staff", "/topic/mods", "/topic/root" };
		const int may[] = { rows[i].staff, rows[i].mods, rows[i].root };
		for (int d = 0; d < 3; d++) {
			kit_send(ann, dest[d], "hi", NULL);
			if (may[d]) {
				kit_expect_accept(k);
			} else {
				kit_expect_reject(k, "FORBIDDEN", dest[d]);
			}
		}
		kit_free(k);
	}
}

TEST(a_change_of_roles_counts_at_once_and_ends_subscriptions)
{
	UNUSED;
	struct kit *k = start("rules: [{allow: all, prefix: /topic/staff, who: support},"
						  " {allow: subscribe, prefix: /user/queue/}]");
	const struct chatd_identity with = someone("ann", 0, "support"),
								without = someone("ann", 0, "");
	struct kit_client *ann = kit_open_as(k, 0, &with);
	kit_subscribe(ann, "/user/queue/errors");
	kit_subscribe(ann, "/topic/staff");
	kit_expect_accept(k);
	for (int i = 0; i < 3; i++) { /* identities come and go: no old answer is found again */
		kit_renew(ann, &without);
		kit_expect_delivery(ann, "/user/queue/errors", "FORBIDDEN");
		kit_send(ann, "/topic/staff", "hi", NULL);
		kit_expect_reject(k, "FORBIDDEN", NULL);
		kit_renew(ann, &with);
		kit_send(ann, "/topic/staff", "hi", NULL);
		kit_expect_accept(k);
		kit_subscribe(ann, "/topic/staff");
		kit_expect_accept(k);
		kit_expect_quiet(ann);
	}
	kit_free(k);
}

/* ---- calls --------------------------------------------------------------------------------- */

static const char calls[] =
		"fallback: allow\n"
		"rules:\n"
		"  - {allow: call, prefix: \"/api/chat/rooms/{id}/join\", methods: [POST], who: anonymous}\n"
		"  - {deny: call, prefix: /api/chat/rooms, methods: [POST, PUT, PATCH, DELETE],"
		" who: anonymous}\n"
		"  - {deny: call, prefix: /api/files, methods: [POST], who: anonymous}\n"
		"  - {deny: call, prefix: /api/auth/register}\n"
		"  - {allow: call, prefix: /api/admin/, who: [moderator, auditor]}\n"
		"  - {deny: call, prefix: /api/admin/}\n";

enum { GUEST = 1, USER = 2, AUDITOR = 4, ADMIN = 8, EVERYBODY = 15 };

static const struct {
	const char *method, *path;
	int may;
} call_rows[] = {
	{ "GET", "/api/chat/rooms", EVERYBODY },
	{ "HEAD", "/api/chat/rooms", EVERYBODY },
	{ "POST", "/api/chat/rooms", USER | AUDITOR | ADMIN },
	{ "POST", "/api/chat/rooms/", USER | AUDITOR | ADMIN },
	{ "POST", "/api/chat/rooms/lobby/join", EVERYBODY },
	{ "POST", "/api/chat/rooms//join", USER | AUDITOR | ADMIN },
	{ "POST", "/api/chat/rooms/a/b/join", USER | AUDITOR | ADMIN },
	{ "POST", "/api/chat/rooms/a%2Fjoin", USER | AUDITOR | ADMIN },
	{ "DELETE", "/api/chat/rooms/lobby/join", USER | AUDITOR | ADMIN },
	{ "PATCH", "/api/chat/rooms/lobby", USER | AUDITOR | ADMIN },
	{ "PUT", "/api/chat/rooms/lobby/members/bob/role", USER | AUDITOR | ADMIN },
	{ "POST", "/api/files", USER | AUDITOR | ADMIN },
	{ "POST", "/api/files/x", USER | AUDITOR | ADMIN },
	{ "GET", "/api/files/x", EVERYBODY },
	{ "POST", "/api/filesystem", EVERYBODY },
	{ "POST", "/api/auth/register", 0 },
	{ "GET", "/api/admin/users", AUDITOR | ADMIN },
	{ "GET", "/api/admin", AUDITOR | ADMIN },
	{ "GET", "/api/administer", EVERYBODY },
	{ "PURGE", "/api/admin", AUDITOR | ADMIN },
};

TEST(the_table_of_calls_holds_for_every_kind_of_account)
{
	UNUSED;
	const struct chatd_identity who[] = { someone("guest", CHATD_ID_ANONYMOUS, ""),
		someone("ann", 0, ""), someone("aud", 0, "auditor"),
		someone("root", CHATD_ID_ADMIN, "admin") };
	struct kit *k = start(calls);
	for (size_t i = 0; i < sizeof(call_rows) / sizeof(call_rows[0]); i++) {
		for (int w = 0; w < 4; w++) {
			kit_request(k, &who[w], call_rows[i].method, call_rows[i].path, (char *)NULL);
			if (call_rows[i].may >> w & 1) {
				kit_expect_accept(k);
			} else {
				kit_expect_reject(k, "FORBIDDEN", call_rows[i].path);
			}
		}
	}
	kit_free(k);
}

TEST(of_nobody_only_what_holds_for_anyone_is_decided)
{
	UNUSED;
	struct kit *k = start(calls);
	kit_request(k, NULL, "POST", "/api/auth/register", (char *)NULL);
	kit_expect_reject(k, "FORBIDDEN", "you may not call /api/auth/register");
	kit_request(k, NULL, "POST", "/api/auth/authenticate", (char *)NULL);
	kit_expect_accept(k);
	kit_request(k, NULL, "POST", "/api/chat/rooms", (char *)NULL); /* its handler asks who it is */
	kit_expect_accept(k);
	/* A rule for some comes first: whether the denial for all holds is not known yet. */
	kit_request(k, NULL, "GET", "/api/admin/users", (char *)NULL);
	kit_expect_accept(k);
	kit_free(k);
	k = start("fallback_call: deny\nrules: [{allow: call, prefix: /api/chat}]");
	const struct chatd_identity ann = someone("ann", 0, "");
	kit_request(k, NULL, "POST", "/api/auth/register", (char *)NULL);
	kit_expect_accept(k);
	kit_request(k, &ann, "GET", "/api/users", (char *)NULL);
	kit_expect_reject(k, "FORBIDDEN", NULL);
	kit_request(k, &ann, "GET", "/api/chat/rooms", (char *)NULL);
	kit_expect_accept(k);
	kit_free(k);
}

static void decide_twice(void)
{
	struct kit *k = start(staff);
	const struct chatd_identity who = someone("ann", 0, "support");
	struct kit_client *ann = kit_open_as(k, 0, &who);
	if (kit_is_open(ann)) {
		kit_send(ann, "/topic/staff", "hi", NULL);
		kit_expect_accept(k);
	}
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(decide_twice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_rule_that_fits_decides),
		cmocka_unit_test(a_rule_is_about_its_verb_alone),
		cmocka_unit_test(flags_of_the_identity_choose_the_rule),
		cmocka_unit_test(without_a_rule_the_fallback_decides),
		cmocka_unit_test(a_prefix_longer_than_the_destination_does_not_fit),
		cmocka_unit_test(a_rule_needs_exactly_one_of_allow_and_deny),
		cmocka_unit_test(mistakes_are_named_with_what_to_write_instead),
		cmocka_unit_test(more_roles_than_bits_are_a_complaint),
		cmocka_unit_test(what_is_allowed_is_the_thing_itself_and_what_is_below_it),
		cmocka_unit_test(what_is_denied_is_all_that_begins_so),
		cmocka_unit_test(the_table_of_roles_holds_for_every_kind_of_account),
		cmocka_unit_test(a_change_of_roles_counts_at_once_and_ends_subscriptions),
		cmocka_unit_test(the_table_of_calls_holds_for_every_kind_of_account),
		cmocka_unit_test(of_nobody_only_what_holds_for_anyone_is_decided),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
