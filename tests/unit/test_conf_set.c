/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "conf/conf.h"
#include "sample.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)

static const char file[] = "plugins:\n"
						   "  s:\n"
						   "    ttl: nonsense\n"
						   "    rules:\n"
						   "      - {prefix: /a/}\n"
						   "      - {prefix: /b/}\n"
						   "  t:\n";

struct run {
	struct diag d;
	struct conf *c;
	struct sample s, t;
};

static int set_up(void **state)
{
	struct run *r = calloc(1, sizeof(*r));
	r->c = conf_load_text("/etc/chatd/t.yaml", str_of(file), &r->d);
	*state = r;
	return r->c ? 0 : -1;
}

static int tear_down(void **state)
{
	struct run *r = *state;
	conf_free(r->c);
	diag_finish(&r->d);
	free(r);
	return 0;
}

static void finish(struct run *r)
{
	conf_plan(r->c, &r->d);
	conf_fill(r->c, conf_plugin_at(r->c, 0)->node, "s", sample_opts, sizeof(sample_opts[0]), &r->s,
			&r->d);
	conf_fill(r->c, conf_plugin_at(r->c, 1)->node, "t", sample_opts, sizeof(sample_opts[0]), &r->t,
			&r->d);
}

static int set(struct run *r, const char *assignment)
{
	return conf_set(r->c, assignment, &r->d);
}

TEST(values_of_the_file_are_replaced)
{
	struct run *r = *state_;
	assert_int_equal(set(r, "s.ttl=1s"), 0);
	assert_int_equal(set(r, "s.ttl=2s"), 0); /* the last one counts */
	assert_int_equal(set(r, "plugins.s.rules.1.prefix=/c/"), 0);
	finish(r);
	assert_int_equal(diag_count(&r->d), 0); /* the nonsense is gone with its value */
	assert_int_equal(r->s.ttl, 2000);
	const struct sample_rule *rule = r->s.rules.items;
	assert_string_equal(rule[0].prefix, "/a/");
	assert_string_equal(rule[1].prefix, "/c/");
}

TEST(what_the_file_does_not_have_is_added)
{
	struct run *r = *state_;
	set(r, "s.ttl=1s");
	assert_int_equal(set(r, "server.workers=4"), 0);
	assert_int_equal(set(r, "server.data_dir=here"), 0);
	assert_int_equal(set(r, "t.listen=127.0.0.1:0"), 0);
	assert_int_equal(set(r, "t.enabled=false"), 0);
	assert_int_equal(set(r, "t.order.message_in=7"), 0);
	assert_int_equal(set(r, "t.rules.0.prefix=/x/"), 0);
	assert_int_equal(set(r, "t.rules.0.only.0=y"), 0);
	assert_int_equal(set(r, "s.rules.2.prefix=/z/"), 0);
	finish(r);
	assert_int_equal(diag_count(&r->d), 0);
	assert_int_equal(conf_server(r->c)->workers, 4);
	assert_string_equal(conf_server(r->c)->data_dir, "here"); /* from the working directory */
	assert_string_equal(r->t.listen[0], "127.0.0.1:0");
	assert_int_equal(conf_plugin_at(r->c, 1)->enabled, 0);
	assert_int_equal(conf_plugin_at(r->c, 1)->order[0].order, 7);
	assert_int_equal(r->t.rules.n, 1);
	assert_string_equal(((const struct sample_rule *)r->t.rules.items)->only[0], "y");
	assert_int_equal(r->s.rules.n, 3);
	assert_string_equal(r->s.root, "/etc/chatd/www");
}

TEST(values_are_text_unless_they_open_like_yaml)
{
	struct run *r = *state_;
	set(r, "s.ttl=1s");
	assert_int_equal(set(r, "s.listen=[a, \"b c\"]"), 0);
	assert_int_equal(set(r, "s.greeting=a: b # c = d"), 0);
	assert_int_equal(set(r, "s.path="), 0);
	assert_int_equal(set(r, "t.greeting=\"quo\\tted\""), 0);
	assert_int_equal(set(r, "t.rules=[{prefix: /p/, limit: 3 KiB}]"), 0);
	finish(r);
	assert_int_equal(diag_count(&r->d), 0);
	assert_string_equal(r->s.listen[1], "b c");
	assert_string_equal(r->s.greeting, "a: b # c = d");
	assert_string_equal(r->s.path, "");
	assert_string_equal(r->t.greeting, "quo\tted");
	assert_int_equal(((const struct sample_rule *)r->t.rules.items)->limit, 3072);
}

TEST(wrong_assignments_are_refused)
{
	struct run *r = *state_;
	static const char *const bad[] = { "", "=", "s", "s=1", "s.", "s.=1", ".ttl=1s",
		"nobody.ttl=1s", "server=1", "server.=1", "s.ttl.x=1", "s.rules.9.prefix=/",
		"s.rules.-1.prefix=/", "s.rules.x=1", "s.rules.99999999999999999999.x=1", "s.path=[a",
		"s.path={a: *b}", "s.path=\"\xff\"", "t.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s=1", NULL };
	for (size_t i = 0; bad[i]; i++) {
		size_t before = diag_count(&r->d);
		int rc = set(r, bad[i]);
		if (rc != -EINVAL || diag_count(&r->d) != before + 1)
			fail_msg("\"%s\" gave %d and %zu complaints", bad[i], rc, diag_count(&r->d) - before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(values_of_the_file_are_replaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_the_file_does_not_have_is_added, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
				values_are_text_unless_they_open_like_yaml, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_assignments_are_refused, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
