/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/accounts.h>
#include <chatd/kit.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_
#define NOBODY     (-1000)

extern const struct chatd_plugin chatd_plugin_under_test;

enum what { CREATE, BY_ID, BY_SECRET, BY_CLIENT, RENAME };

/* One call of the service from one worker, and its answer. */
struct call {
	struct kit *k;
	int32_t worker;
	enum what what;
	struct chatd_account a;
	chatd_status at_once, rc;
	int answers;
	char text[512]; /* id nickname client of the answer */
};

static void on_answer(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct call *c = arg;
	c->answers++;
	c->rc = rc;
	if (a) {
		snprintf(c->text, sizeof(c->text), "%.*s %.*s %.*s", (int)a->id.n, a->id.p,
				(int)a->nickname.n, a->nickname.p, (int)a->client.n,
				a->client.n ? a->client.p : "");
	}
}

static void make(void *arg)
{
	struct call *c = arg;
	struct chatd_service s = kit_provided(c->k, CHATD_ACCOUNTS);
	const struct chatd_accounts *v = s.vt;
	chatd_worker *w = kit_worker(c->k, c->worker);
	if (!v) {
		return;
	}
	switch (c->what) {
	case CREATE:
		c->at_once = v->create(s.obj, w, &c->a, on_answer, c);
		break;
	case BY_ID:
		c->at_once = v->by_id(s.obj, w, c->a.id, on_answer, c);
		break;
	case BY_SECRET:
		c->at_once = v->by_secret(s.obj, w, c->a.secret, on_answer, c);
		break;
	case BY_CLIENT:
		c->at_once = v->by_client(s.obj, w, c->a.client, on_answer, c);
		break;
	case RENAME:
		c->at_once = v->rename(s.obj, w, c->a.id, c->a.nickname, on_answer, c);
		break;
	}
	if (!kit_failing(c->k)) {
		assert_int_equal(c->answers, 0); /* always later */
	}
}

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, s ? strlen(s) : 0);
}

/* The status, at once or later; the answer's text in @p ret. */
static chatd_status run(struct call *c)
{
	c->rc = NOBODY;
	kit_on(c->k, c->worker, make, c);
	if (!kit_failing(c->k)) {
		assert_int_equal(c->answers, c->at_once == 0);
	}
	return c->at_once ? c->at_once : c->rc;
}

static chatd_status create(struct kit *k, const char *id, const char *secret, const char *client)
{
	struct call c = { .k = k,
		.worker = 1,
		.what = CREATE,
		.a = { .struct_size = sizeof(c.a),
				.id = z(id),
				.nickname = z(id),
				.secret = z(secret),
				.client = z(client) } };
	return run(&c);
}

static void expect(struct kit *k, enum what what, const char *key, const char *want)
{
	struct call c = {
		.k = k, .worker = 1, .what = what, .a = { .id = z(key), .secret = z(key), .client = z(key) }
	};
	chatd_status rc = run(&c);
	if (kit_failing(k)) {
		return;
	}
	assert_int_equal(rc, want ? 0 : -ENOENT);
	assert_string_equal(c.text, want ? want : "");
}

static struct kit *start(const char *yaml)
{
	static const struct kit_conf conf = { .workers = 2 };
	return kit_new_with(&chatd_plugin_under_test, yaml, &conf);
}

TEST(an_account_is_found_by_id_secret_and_client)
{
	UNUSED;
	struct kit *k = start("");
	assert_int_equal(create(k, "ann", "s1", "c1"), 0);
	expect(k, BY_ID, "ann", "ann ann c1");
	expect(k, BY_SECRET, "s1", "ann ann c1");
	expect(k, BY_CLIENT, "c1", "ann ann c1");
	expect(k, BY_ID, "bob", NULL);
	expect(k, BY_SECRET, "c1", NULL);
	expect(k, BY_CLIENT, "", NULL);
	kit_free(k);
}

TEST(an_id_and_a_secret_belong_to_one)
{
	UNUSED;
	struct kit *k = start("");
	assert_int_equal(create(k, "ann", "s1", NULL), 0);
	assert_int_equal(create(k, "ann", "s2", NULL), -EEXIST);
	assert_int_equal(create(k, "bob", "s1", NULL), -EEXIST);
	assert_int_equal(create(k, "bob", NULL, NULL), 0);
	assert_int_equal(create(k, "cid", NULL, NULL), 0);
	expect(k, BY_SECRET, "s1", "ann ann ");
	kit_free(k);
}

TEST(a_client_finds_its_most_recent_account)
{
	UNUSED;
	struct kit *k = start("");
	assert_int_equal(create(k, "ann", NULL, "c"), 0);
	assert_int_equal(create(k, "bob", NULL, "c"), 0);
	expect(k, BY_CLIENT, "c", "bob bob c");
	kit_free(k);
}

TEST(the_longest_unused_makes_room)
{
	UNUSED;
	struct kit *k = start("max: 2");
	assert_int_equal(create(k, "ann", "s1", "c1"), 0);
	assert_int_equal(create(k, "bob", "s2", "c2"), 0);
	expect(k, BY_ID, "ann", "ann ann c1"); /* now bob is the one */
	assert_int_equal(create(k, "cid", "s3", "c3"), 0);
	expect(k, BY_ID, "bob", NULL);
	expect(k, BY_SECRET, "s2", NULL);
	expect(k, BY_CLIENT, "c2", NULL);
	expect(k, BY_ID, "ann", "ann ann c1");
	kit_free(k);
}

TEST(renaming_changes_the_nickname_alone)
{
	UNUSED;
	struct kit *k = start("");
	struct call c = { .k = k, .what = RENAME, .a = { .id = z("ann"), .nickname = z("Ann B.") } };
	assert_int_equal(run(&c), -ENOENT);
	assert_int_equal(create(k, "ann", NULL, "c"), 0);
	c.answers = 0;
	assert_int_equal(run(&c), 0);
	assert_string_equal(c.text, "ann Ann B. c");
	expect(k, BY_ID, "ann", "ann Ann B. c");
	kit_free(k);
}

TEST(text_that_is_too_long_is_refused_at_once)
{
	UNUSED;
	char id[66];
	struct kit *k = start("");
	memset(id, 'a', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	assert_int_equal(create(k, id, NULL, NULL), -EINVAL);
	id[64] = '\0';
	assert_int_equal(create(k, id, NULL, NULL), 0);
	kit_free(k);
}

TEST(registered_accounts_are_for_a_store)
{
	UNUSED;
	struct kit *k = start("");
	struct call c = { .k = k,
		.worker = 1,
		.what = CREATE,
		.a = { .struct_size = sizeof(c.a), .id = z("ann"), .password = z("hash") } };
	assert_int_equal(run(&c), -ENOTSUP);
	c.a.password = z(NULL);
	c.a.email = z("ann@example.org");
	assert_int_equal(run(&c), -ENOTSUP);
	expect(k, BY_ID, "ann", NULL);
	kit_free(k);
}

static void make_and_find(void)
{
	struct kit *k = start("");
	(void)create(k, "ann", "s", "c");
	expect(k, BY_SECRET, "s", "ann ann c");
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(make_and_find);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_account_is_found_by_id_secret_and_client),
		cmocka_unit_test(an_id_and_a_secret_belong_to_one),
		cmocka_unit_test(a_client_finds_its_most_recent_account),
		cmocka_unit_test(the_longest_unused_makes_room),
		cmocka_unit_test(registered_accounts_are_for_a_store),
		cmocka_unit_test(renaming_changes_the_nickname_alone),
		cmocka_unit_test(text_that_is_too_long_is_refused_at_once),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
