/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

/* "guest" is written out; the hashes are of "secret". */
static const char users[] =
		"users:\n"
		"  - {login: guest, passcode: guest, name: The Guest}\n"
		"  - {login: root, passcode: toor, admin: true}\n"
		"  - {login: mod, passcode: dom, moderator: true, roles: [support, night]}\n"
		"  - {login: hashed, passcode: "
		"'$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND"
		"4WQhG.'}\n";

static struct kit *start(const char *yaml)
{
	return kit_new(&chatd_plugin_under_test, yaml);
}

static void expect_roles(void *arg)
{
	const struct chatd_host *h = kit_host(NULL);
	chatd_session *s = kit_session(arg);
	struct chatd_str roles = h->ident_roles(h->session_ident(s));
	assert_int_equal(roles.n, 13);
	assert_memory_equal(roles.p, "support night", 13);
}

TEST(the_right_passcode_logs_in)
{
	UNUSED;
	struct kit *k = start(users);
	kit_login(k, 0, "login", "guest", "passcode", "guest", NULL);
	kit_expect_user(k, "guest", 0);
	kit_login(k, 0, "login", "root", "passcode", "toor", NULL);
	kit_expect_user(k, "root", CHATD_ID_ADMIN);
	struct kit_client *c = kit_login(k, 0, "login", "mod", "passcode", "dom", NULL);
	kit_expect_user(k, "mod", CHATD_ID_MODERATOR);
	kit_on(k, 0, expect_roles, c);
	kit_free(k);
	kit_expect_complaint(&chatd_plugin_under_test,
			"users: [{ login: x, passcode: y, roles: [a b] }]",
			"\"a b\" of \"x\" cannot be a role");
}

TEST(a_wrong_one_does_not)
{
	UNUSED;
	struct kit *k = start(users);
	static const char *const wrong[] = { "guesT", "", "gues", "guest ", "toor" };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_login(k, 0, "login", "guest", "passcode", wrong[i], NULL);
		kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	}
	kit_login(k, 0, "login", "guest", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_login(k, 0, "login", "nobody", "passcode", "guest", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_login(k, 0, "passcode", "guest", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(an_overlong_passcode_is_refused_without_work)
{
	UNUSED;
	char pass[130];
	struct kit *k = start(users);
	memset(pass, 'x', sizeof(pass) - 1);
	pass[sizeof(pass) - 1] = '\0';
	kit_hold_offload(k, 1);
	kit_login(k, 0, "login", "hashed", "passcode", pass, NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(a_hash_is_checked_on_the_pool)
{
	UNUSED;
	struct kit *k = start(users);
	kit_hold_offload(k, 1);
	kit_login(k, 0, "login", "hashed", "passcode", "secret", NULL);
	kit_expect_waiting(k, 1);
	kit_hold_offload(k, 0);
	kit_expect_user(k, "hashed", 0);
	kit_login(k, 0, "login", "hashed", "passcode", "Secret", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(a_hash_that_is_ready_after_the_client_left_harms_nothing)
{
	UNUSED;
	struct kit *k = start(users);
	kit_hold_offload(k, 1);
	kit_close(kit_login(k, 0, "login", "hashed", "passcode", "secret", NULL));
	struct kit_client *late = kit_login(k, 0, "login", "hashed", "passcode", "secret", NULL);
	kit_advance(k, 7000); /* and after the deadline */
	kit_expect_reject(k, "UNAVAILABLE", "did not answer in time");
	kit_hold_offload(k, 0);
	assert_false(kit_is_open(late));
	kit_free(k);
}

TEST(a_full_server_refuses_and_says_so)
{
	UNUSED;
	struct kit *k = start(users);
	kit_refuse_suspend(k, 1);
	kit_login(k, 0, "login", "hashed", "passcode", "secret", NULL);
	kit_expect_reject(k, "UNAVAILABLE", "busy");
	kit_free(k);
}

TEST(allow_any_takes_every_login_but_not_a_known_one_with_a_wrong_passcode)
{
	UNUSED;
	struct kit *k = start("allow_any: true\nusers: [{login: guest, passcode: guest}]");
	kit_login(k, 0, "login", "anything", "passcode", "x", NULL);
	kit_expect_user(k, "anything", 0);
	kit_login(k, 0, "login", "anything", NULL);
	kit_expect_user(k, "anything", 0);
	kit_login(k, 0, "login", "guest", "passcode", "wrong", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", NULL);
	kit_free(k);
}

TEST(a_login_that_is_no_user_id_maps_to_one_and_always_the_same)
{
	UNUSED;
	struct kit *k = start("allow_any: true");
	kit_login(k, 0, "login", "Ann Smith", "passcode", "x", NULL);
	kit_expect_user(k, "u_2323d3b416b01eb48844b949fc23bed6", 0);
	kit_login(k, 0, "login", "Ann Smith", NULL);
	kit_expect_user(k, "u_2323d3b416b01eb48844b949fc23bed6", 0);
	kit_free(k);
}

TEST(without_credentials_only_anonymous_lets_in)
{
	UNUSED;
	struct kit *k = start(users);
	kit_login(k, 0, NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
	k = start("anonymous: true");
	struct kit_client *c = kit_login(k, 0, NULL);
	kit_expect_accept(k);
	assert_true(kit_is_open(c));
	kit_login(k, 0, "bearer", "x", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_login(k, 0, "passcode", "x", NULL);
	kit_expect_reject(k, "UNAUTHORIZED", "Access refused");
	kit_free(k);
}

TEST(logins_are_user_ids_and_single)
{
	UNUSED;
	char *text = kit_complaints(&chatd_plugin_under_test, "users: [{login: 'a b', passcode: x}]");
	assert_non_null(strstr(
			text, "login \"a b\" cannot be a user id; use 1 to 64 letters, digits, _ and -"));
	free(text);
	text = kit_complaints(
			&chatd_plugin_under_test, "users: [{login: a, passcode: x}, {login: a, passcode: y}]");
	assert_non_null(strstr(text, "login \"a\" is there twice; keep one"));
	free(text);
}

static void log_in(void)
{
	struct kit *k = start(users);
	kit_login(k, 0, "login", "hashed", "passcode", "secret", NULL);
	kit_expect_user(k, "hashed", 0);
	kit_advance(k, 7000);
	kit_login(k, 0, "login", "guest", "passcode", "guest", NULL);
	kit_expect_user(k, "guest", 0);
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(log_in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_right_passcode_logs_in),
		cmocka_unit_test(a_wrong_one_does_not),
		cmocka_unit_test(an_overlong_passcode_is_refused_without_work),
		cmocka_unit_test(a_hash_is_checked_on_the_pool),
		cmocka_unit_test(a_hash_that_is_ready_after_the_client_left_harms_nothing),
		cmocka_unit_test(a_full_server_refuses_and_says_so),
		cmocka_unit_test(allow_any_takes_every_login_but_not_a_known_one_with_a_wrong_passcode),
		cmocka_unit_test(a_login_that_is_no_user_id_maps_to_one_and_always_the_same),
		cmocka_unit_test(without_credentials_only_anonymous_lets_in),
		cmocka_unit_test(logins_are_user_ids_and_single),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
