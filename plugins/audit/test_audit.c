/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include <chatd/kit.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define ADMIN     "2" /* CHATD_ID_ADMIN */
#define MODERATOR "4" /* CHATD_ID_MODERATOR */

static const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ NULL, NULL, NULL } };

static struct kit *begin(const char *conf, int32_t workers)
{
	const struct kit_conf with = { .workers = workers, .services = services };
	return kit_new_with(&chatd_plugin_under_test, conf, &with);
}

static void end(struct kit *k)
{
	kit_free(k);
	kit_store_clear();
}

struct noted {
	struct kit *k;
	int32_t worker;
	const struct chatd_audit_entry *e;
};

static void on_note(void *arg)
{
	const struct noted *n = arg;
	struct chatd_service s = kit_provided(n->k, CHATD_AUDIT);
	if (s.vt) {
		chatd_audit_note(&s, kit_worker(n->k, n->worker), n->e);
	}
}

static void note(struct kit *k, int32_t worker, const struct chatd_audit_entry *e)
{
	struct noted n = { k, worker, e };
	kit_on(k, worker, on_note, &n);
}

static void note_by(struct kit *k, int32_t worker, const char *actor)
{
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = CHATD_LIT("room.ban"),
		.actor = text(actor),
		.target = CHATD_LIT("bob"),
		.room = CHATD_LIT("lobby") };
	note(k, worker, &e);
}

static int busy(struct kit *k)
{
	return chatd_plugin_under_test.busy(kit_provided(k, CHATD_AUDIT).obj);
}

static struct kit_req *look(struct kit *k, const char *query)
{
	char path[300];
	snprintf(path, sizeof(path), "/api/audit%s", query);
	return kit_http(k, "GET", path, NULL, "kit-user", "root", "kit-flags", ADMIN, NULL);
}

/* Newest first. */
static json_t *entries(struct kit *k, const char *query)
{
	struct kit_req *r = look(k, query);
	kit_expect_http(r, 200, "{\"entries\":[");
	json_t *root = json_loads(kit_http_body(r).p, 0, NULL);
	assert_non_null(root);
	json_t *list = json_incref(json_object_get(root, "entries"));
	json_decref(root);
	return list;
}

static const char *member(const json_t *list, size_t i, const char *name)
{
	const char *s = json_string_value(json_object_get(json_array_get(list, i), name));
	return s ? s : "";
}

/* The number of entries that fit what comes before them; all, if nobody has changed anything. */
static size_t intact(const json_t *list)
{
	size_t n = json_array_size(list), i = n;
	char hash[HASH_HEX], before[HASH_HEX] = "";
	while (i > 0) {
		struct chatd_str field[FIELDS];
		const json_t *e = json_array_get(list, --i);
		for (int f = 0; f < FIELDS; f++) {
			const char *s = json_string_value(json_object_get(e, field_names[f]));
			field[f] = s ? text(s) : chatd_str_of(NULL, 0);
		}
		const struct seal seal = {
			.node = text(member(list, i, "node")), .prev = text(before), .n = (int64_t)(n - i)
		};
		chain_hash(&seal, field, hash);
		if (json_integer_value(json_object_get(e, "n")) != seal.n ||
				strcmp(member(list, i, "prev"), before) != 0 ||
				strcmp(member(list, i, "hash"), hash) != 0) {
			return n - i - 1;
		}
		memcpy(before, hash, sizeof(before));
	}
	return n;
}

/* ---- pure --------------------------------------------------------------------------------- */

/* printf 'n1\n1\n\nt\nroom.ban\nann\nbob\nlobby\ndone\nforever\n\n::1\nabc' | sha256sum */
static void the_hash_is_what_the_readme_says(void **state)
{
	char hash[HASH_HEX], other[HASH_HEX];
	(void)state;
	struct chatd_str field[FIELDS] = { [TIME] = CHATD_LIT("t"),
		[ACTION] = CHATD_LIT("room.ban"),
		[ACTOR] = CHATD_LIT("ann"),
		[TARGET] = CHATD_LIT("bob"),
		[ROOM] = CHATD_LIT("lobby"),
		[RESULT] = CHATD_LIT("done"),
		[UNTIL] = CHATD_LIT("forever"),
		[ADDRESS] = CHATD_LIT("::1"),
		[REQUEST] = CHATD_LIT("abc") };
	struct seal seal = { .node = CHATD_LIT("n1"), .prev = CHATD_LIT(""), .n = 1 };
	chain_hash(&seal, field, hash);
	assert_string_equal(hash, "0086536ea2a1edc861576b026dc1868f97be94d8d69643647455d324727e1cb4");
	for (int f = 0; f < FIELDS; f++) { /* each one counts */
		struct chatd_str was = field[f];
		field[f] = CHATD_LIT("x");
		chain_hash(&seal, field, other);
		assert_string_not_equal(hash, other);
		field[f] = was;
	}
	seal.n = 2;
	chain_hash(&seal, field, other);
	assert_string_not_equal(hash, other);
}

static void mistakes_in_the_options_are_named(void **state)
{
	static const char *const wrong[][2] = { { "retention: soon", "retention" },
		{ "retention: 99999d", "retention" }, { "retention: -1d", "retention" },
		{ "reader: [x]", "readers" } };
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i][0], wrong[i][1]);
	}
}

/* ---- the chain ---------------------------------------------------------------------------------- */

static void entries_are_numbered_and_sealed(void **state)
{
	(void)state;
	struct kit *k = begin("", 2);
	note_by(k, 0, "ann");
	note_by(k, 1, "carol");
	note_by(k, 0, "dave");
	kit_expect_logged(k, "audit {\"time\":\"2023-");
	kit_expect_logged(k, "\"action\":\"room.ban\",\"actor\":\"carol\",\"target\":\"bob\"");
	assert_int_equal(busy(k), 0);
	json_t *list = entries(k, "");
	assert_int_equal(json_array_size(list), 3);
	assert_string_equal(member(list, 0, "actor"), "dave");
	assert_string_equal(member(list, 2, "actor"), "ann");
	assert_string_equal(member(list, 0, "result"), "done");
	assert_string_equal(member(list, 0, "node"), "kit");
	assert_string_equal(member(list, 2, "prev"), "");
	assert_int_equal(intact(list), 3);
	/* Whatever is changed is noticed at the entry itself, or at the next. */
	json_object_set_new(json_array_get(list, 1), "actor", json_string("eve"));
	assert_int_equal(intact(list), 1);
	json_object_set_new(json_array_get(list, 1), "actor", json_string("carol"));
	assert_int_equal(intact(list), 3);
	json_array_remove(list, 1);
	assert_int_equal(intact(list), 1);
	json_decref(list);
	end(k);
}

static void a_text_is_one_line_and_whole_characters(void **state)
{
	char raw[TEXT_MAX + 3];
	(void)state;
	struct kit *k = begin("", 1);
	memset(raw, 'a', sizeof(raw));
	memcpy(raw, "one\ntwo\x7f", 8);
	memcpy(raw + TEXT_MAX - 1, "\xe2\x82\xac", 3); /* 1 of its 3 bytes would fit */
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = CHATD_LIT("user.ban"),
		.actor = CHATD_LIT("ann"),
		.target = CHATD_LIT("bob"),
		.result = CHATD_LIT("FORBIDDEN"),
		.detail = chatd_str_of(raw, TEXT_MAX + 2),
		.address = CHATD_LIT("192.0.2.1"),
		.request = CHATD_LIT("77"),
		.until = INT64_MAX };
	note(k, 0, &e);
	struct chatd_audit_entry timed = e;
	timed.until = INT64_C(1700000000000);
	note(k, 0, &timed);
	json_t *list = entries(k, "");
	assert_string_equal(member(list, 1, "until"), "forever");
	assert_string_equal(member(list, 0, "until"), "2023-11-14T22:13:20.000Z");
	assert_string_equal(member(list, 0, "result"), "FORBIDDEN");
	assert_string_equal(member(list, 0, "address"), "192.0.2.1");
	assert_string_equal(member(list, 0, "requestId"), "77");
	const char *detail = member(list, 0, "detail");
	assert_int_equal(strlen(detail), TEXT_MAX - 1);
	assert_memory_equal(detail, "one two aaa", 11);
	assert_null(json_object_get(json_array_get(list, 0), "room"));
	assert_int_equal(intact(list), 2);
	json_decref(list);
	end(k);
}

static void a_store_that_fails_leaves_no_hole(void **state)
{
	(void)state;
	struct kit *k = begin("", 2);
	kit_store_fail(-EIO);
	note_by(k, 0, "ann");
	note_by(k, 1, "carol");
	kit_advance(k, 3000);
	assert_int_equal(busy(k), 1); /* a server that drains waits for them */
	kit_store_fail(0);
	kit_advance(k, 1000);
	assert_int_equal(busy(k), 0);
	kit_store_fail(-EAGAIN);
	note_by(k, 0, "dave");
	kit_store_fail(0);
	note_by(k, 0, "erin");
	kit_advance(k, 1000);
	json_t *list = entries(k, "");
	assert_int_equal(json_array_size(list), 4);
	assert_int_equal(intact(list), 4);
	json_decref(list);
	end(k);
}

/* Two versions of the plugin, one of which is about to go: here it ended between its end of the chain
 * and the entry. */
static void what_another_version_wrote_comes_before(void **state)
{
	static const char other[] =
			"{\"id\":\"5\",\"node\":\"kit\",\"n\":2,\"action\":\"room.ban\",\"hash\":\"aa\"}";
	(void)state;
	struct kit *k = begin("", 1);
	note_by(k, 0, "ann");
	kit_store_put(END_SPACE, "kit", other);
	note_by(k, 0, "carol");
	assert_int_equal(busy(k), 0);
	assert_string_equal(kit_store_value(SPACE, "5"), other);
	json_t *list = entries(k, "?actor=carol");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "n")), 3);
	assert_string_equal(member(list, 0, "prev"), "aa");
	json_decref(list);
	assert_int_equal(kit_store_count(SPACE), 3);
	/* As a plugin that kept no end left it. */
	kit_free(k);
	kit_store_put(END_SPACE, "kit", "nothing known");
	k = begin("", 1);
	note_by(k, 0, "dave");
	list = entries(k, "?actor=dave");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "n")), 4);
	json_decref(list);
	end(k);
}

static void a_node_goes_on_where_it_stopped(void **state)
{
	char other[200];
	(void)state;
	struct kit *k = begin("", 1);
	note_by(k, 0, "ann");
	note_by(k, 0, "carol");
	kit_free(k);
	snprintf(other, sizeof(other), "{\"node\":\"other\",\"n\":77,\"hash\":\"%s\"}", "ff");
	kit_store_put(SPACE, "zzzz", other); /* the newest of all is another node's */
	kit_store_put(SPACE, "zzzy", "no entry");
	k = begin("", 1);
	note_by(k, 0, "dave");
	assert_int_equal(kit_store_count(SPACE), 5);
	json_t *list = entries(k, "?actor=dave");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "n")), 3);
	json_t *before = entries(k, "?actor=carol");
	assert_string_equal(member(list, 0, "prev"), member(before, 0, "hash"));
	json_decref(before);
	json_decref(list);
	end(k);
}

static void too_many_that_wait_are_in_the_log_alone(void **state)
{
	(void)state;
	struct kit *k = begin("", 1);
	kit_store_hold(1);
	for (int i = 0; i < QUEUE_MAX + 2; i++) {
		note_by(k, 0, "ann");
	}
	kit_expect_logged(k, "the store takes no entries; from now on some are in the log alone");
	assert_int_equal(kit_store_held(), 1); /* one is stored at a time */
	kit_store_fail(-ESHUTDOWN);
	kit_store_hold(0);
	end(k); /* with all of them waiting */
}

static void entries_are_kept_as_long_as_was_said(void **state)
{
	(void)state;
	struct kit *k = begin("retention: 1h", 1);
	note_by(k, 0, "ann");
	kit_advance(k, 3599000);
	kit_expect_http(look(k, ""), 200, "\"actor\":\"ann\"");
	kit_advance(k, 1000);
	kit_expect_http(look(k, ""), 200, "{\"entries\":[]}");
	end(k);
	k = begin("retention: 0", 1);
	note_by(k, 0, "ann");
	kit_advance(k, INT64_C(36600) * 86400000);
	kit_expect_http(look(k, ""), 200, "\"actor\":\"ann\"");
	end(k);
}

/* ---- reading them -------------------------------------------------------------------------------- */

static struct kit_req *read_as(struct kit *k, const char *flags, const char *roles)
{
	return kit_http(k, "GET", "/api/audit", NULL, "kit-user", "zoe", "kit-flags", flags,
			"kit-roles", roles, NULL);
}

static void only_administrators_and_readers_may_look(void **state)
{
	static const struct {
		const char *flags, *roles;
		int32_t status;
	} who[] = { { "0", "", 403 }, { "1", "", 403 }, { MODERATOR, "moderator", 403 },
		{ ADMIN, "", 200 }, { "0", "auditor", 200 }, { "0", "one auditor two", 200 },
		{ "0", "two auditor", 200 }, { "0", "auditors", 403 }, { "0", "theauditor", 403 },
		{ "0", "one two", 403 } };
	(void)state;
	struct kit *k = begin("", 1);
	for (size_t i = 0; i < sizeof(who) / sizeof(who[0]); i++) {
		kit_expect_http(read_as(k, who[i].flags, who[i].roles), who[i].status,
				who[i].status == 403 ? "only administrators and auditors" : "entries");
	}
	kit_expect_http(kit_http(k, "GET", "/api/audit", NULL, NULL), 401, "");
	end(k);
	k = begin("readers: [legal, \"\"]", 1);
	kit_expect_http(read_as(k, "0", "legal"), 200, NULL);
	kit_expect_http(read_as(k, "0", "auditor"), 403, NULL);
	kit_expect_http(read_as(k, "0", ""), 403, NULL); /* an empty word is nobody's role */
	end(k);
}

static void a_list_comes_in_pages_and_filtered(void **state)
{
	char query[100];
	(void)state;
	struct kit *k = begin("", 1);
	for (int i = 0; i < 5; i++) {
		note_by(k, 0, i % 2 ? "carol" : "ann");
	}
	struct kit_req *r = look(k, "?limit=2");
	kit_expect_http(r, 200, "\"before\":\"");
	json_t *root = json_loads(kit_http_body(r).p, 0, NULL);
	assert_int_equal(json_array_size(json_object_get(root, "entries")), 2);
	snprintf(
			query, sizeof(query), "?before=%s", json_string_value(json_object_get(root, "before")));
	json_decref(root);
	json_t *list = entries(k, query);
	assert_int_equal(json_array_size(list), 3);
	assert_int_equal(intact(list), 3);
	json_decref(list);
	list = entries(k, "?actor=carol&room=lobby&action=room.ban&target=bob");
	assert_int_equal(json_array_size(list), 2);
	json_decref(list);
	kit_expect_http(look(k, "?actor=carol&room=attic"), 200, "{\"entries\":[]}");
	kit_expect_http(look(k, "?before=x"), 400, "BAD_CURSOR");
	kit_expect_http(look(k, "?before="), 400, "BAD_CURSOR");
	kit_store_fail(-EIO);
	kit_expect_http(look(k, ""), 503, "UNAVAILABLE");
	kit_store_fail(0);
	end(k);
}

static void a_client_that_leaves_takes_nothing_along(void **state)
{
	(void)state;
	struct kit *k = begin("", 1);
	note_by(k, 0, "ann");
	kit_store_hold(1);
	struct kit_req *r = look(k, "");
	kit_http_gone(r);
	kit_store_hold(0);
	assert_int_equal(kit_http_status(r), 0);
	end(k);
}

/* ---- without memory ----------------------------------------------------------------------------------- */

static void day(void)
{
	kit_store_clear();
	struct kit *k = begin("", 2);
	int started = !kit_failing(k);
	if (started) {
		note_by(k, 0, "ann");
		note_by(k, 1, "carol");
	}
	struct kit_req *r = look(k, "?actor=ann");
	kit_advance(k, 3000);
	assert_true(kit_http_status(r) != 0);
	assert_true(
			!started || !busy(k)); /* whatever was lost, the end of the server waits for nothing */
	kit_free(k);
	kit_store_clear();
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_hash_is_what_the_readme_says),
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(entries_are_numbered_and_sealed),
		cmocka_unit_test(a_text_is_one_line_and_whole_characters),
		cmocka_unit_test(a_store_that_fails_leaves_no_hole),
		cmocka_unit_test(what_another_version_wrote_comes_before),
		cmocka_unit_test(a_node_goes_on_where_it_stopped),
		cmocka_unit_test(too_many_that_wait_are_in_the_log_alone),
		cmocka_unit_test(entries_are_kept_as_long_as_was_said),
		cmocka_unit_test(only_administrators_and_readers_may_look),
		cmocka_unit_test(a_list_comes_in_pages_and_filtered),
		cmocka_unit_test(a_client_that_leaves_takes_nothing_along),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
