/* SPDX-License-Identifier: Apache-2.0 */
/* Which plugin files are refused, how start order is found, and in which words. */
#include "base/map.h"
#include "base/str.h"
#include "host/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

/* The folder of the test's plugins, made by the build; and one for files of the test. */
static const char *built(void)
{
	const char *dir = getenv("CHATD_TEST_PLUGINS");
	assert_non_null(dir);
	return dir;
}

static char *scratch(void)
{
	char *dir = strdup("/tmp/chatd-load-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return dir;
}

static void write_file(const char *dir, const char *name, const void *p, size_t n)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), (ssize_t)n);
	close(fd);
}

static void remove_all(char *dir)
{
	char command[600];
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	assert_int_equal(system(command), 0);
	free(dir);
}

/* ---- files ------------------------------------------------------------------ */

static void expect_refused(const char *dir, const char *name, const char *fmt, ...)
		CHATD_PRINTF(3, 4);
static void expect_refused(const char *dir, const char *name, const char *fmt, ...)
{
	const char *const dirs[] = { dir, NULL };
	struct modules *m = modules_create(dirs);
	struct load_error e = { "" };
	char want[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(want, sizeof(want), fmt, ap);
	va_end(ap);
	assert_null(module_load(m, name, &e));
	assert_string_equal(e.text, want);
	modules_destroy(m);
}

TEST(a_missing_plugin_is_named_with_the_folders_and_the_remedy)
{
	UNUSED;
	const char *const dirs[] = { "/nowhere/one", "/nowhere/two", NULL };
	struct modules *m = modules_create(dirs);
	struct load_error e = { "" };
	assert_null(module_load(m, "absent", &e));
	assert_string_equal(e.text,
			"plugin \"absent\": there is no absent.so in /nowhere/one, /nowhere/two; install it, "
			"correct the name, or add its folder to server.plugin_path");
	modules_destroy(m);
}

TEST(a_path_is_no_name)
{
	UNUSED;
	expect_refused(built(), "../good",
			"plugin \"../good\": a plugin is named without a path; add its folder to "
			"server.plugin_path");
}

TEST(a_file_that_is_no_shared_object_is_refused)
{
	UNUSED;
	char *dir = scratch();
	write_file(
			dir, "text.so", "this is no ELF file, but it is long enough to look like one....", 64);
	expect_refused(dir, "text",
			"plugin \"text\" (%s/text.so) cannot be loaded: it is no shared object (ELF file)",
			dir);
	write_file(dir, "empty.so", "", 0);
	expect_refused(dir, "empty",
			"plugin \"empty\" (%s/empty.so) cannot be loaded: the file is empty; install it again",
			dir);
	remove_all(dir);
}

TEST(a_shared_object_without_the_symbol_is_refused)
{
	UNUSED;
	expect_refused(built(), "no-symbol",
			"plugin \"no-symbol\" (%s/no-symbol.so) was built for contract 99, this server has %u.%u: "
			"upgrade chatd",
			built(), CHATD_ABI_MAJOR, CHATD_ABI_MINOR);
}

TEST(another_minor_is_no_reason_to_refuse)
{
	UNUSED;
	const char *const dirs[] = { built(), NULL };
	struct modules *m = modules_create(dirs);
	struct load_error e = { "" };
	assert_non_null(module_load(m, "other-minor", &e));
	assert_string_equal(e.text, "");
	modules_destroy(m);
}

/* So large is a descriptor in the file: AddressSanitizer puts some room behind each variable. */
static size_t descriptor_room(void)
{
	char command[256];
	size_t n = 0;
	snprintf(command, sizeof(command), "readelf -sW '%s/wrong-size.so'", built());
	FILE *f = popen(command, "r");
	char line[512];
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, " chatd_plugin_v1")) {
			assert_int_equal(sscanf(line, "%*s %*s %zu", &n), 1);
		}
	}
	pclose(f);
	assert_true(n >= sizeof(struct chatd_plugin));
	return n;
}

TEST(a_descriptor_of_an_impossible_size_is_refused)
{
	UNUSED;
	expect_refused(built(), "wrong-size",
			"plugin \"wrong-size\" (%s/wrong-size.so): its descriptor is damaged (it says 8 bytes, and "
			"has %zu; %zu at the least); write CHATD_PLUGIN_HEADER in it and rebuild it",
			built(), descriptor_room(), offsetof(struct chatd_plugin, check));
}

TEST(a_file_must_have_the_plugins_name)
{
	UNUSED;
	expect_refused(built(), "wrong-name",
			"plugin \"wrong-name\" (%s/wrong-name.so) says that its name is \"right-name\": rename the "
			"file to right-name.so, or is it a copy of that plugin?",
			built());
}

TEST(what_everyone_may_write_is_refused_unopened)
{
	UNUSED;
	char *dir = scratch(), path[512];
	write_file(dir, "open.so", "x", 1);
	snprintf(path, sizeof(path), "%s/open.so", dir);
	assert_int_equal(chmod(path, 0666), 0);
	expect_refused(
			dir, "open", "plugin \"open\": %s is writable by group or others; chmod go-w it", path);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(chmod(dir, 0777), 0);
	expect_refused(
			dir, "open", "plugin \"open\": %s is writable by group or others; chmod go-w it", dir);
	assert_int_equal(chmod(dir, 0755), 0);
	expect_refused(dir, "open",
			"plugin \"open\" (%s) cannot be loaded: it is no shared object (ELF file)", path);
	remove_all(dir);
}

TEST(a_good_one_is_loaded_once_and_listed)
{
	UNUSED;
	const char *const dirs[] = { "/nowhere", built(), built(), NULL };
	struct modules *m = modules_create(dirs);
	struct load_error e = { "" };
	size_t n = 0, good = 0;
	const struct module *a = module_load(m, "good", &e);
	assert_non_null(a);
	assert_ptr_equal(module_load(m, "good", &e), a);
	assert_string_equal(a->plugin.name, "good");
	char **names = modules_list(m, &n);
	for (size_t i = 0; i < n; i++) {
		good += strcmp(names[i], "good") == 0;
		assert_true(i == 0 || strcmp(names[i - 1], names[i]) < 0);
	}
	for (size_t i = 0; i < n; i++) {
		free(names[i]);
	}
	free(names);
	assert_int_equal(good, 1);
	modules_destroy(m);
}

/* ---- order -------------------------------------------------------------------- */

struct loaded {
	struct diag d;
	struct conf *conf;
	struct host *host;
	int rc;
	char *complaints;
};

/* A configuration with these plugins, in this order. */
static struct loaded load(const char *plugins)
{
	struct loaded l = { .rc = -1 };
	char yaml[2048];
	size_t n = 0;
	map_init();
	snprintf(
			yaml, sizeof(yaml), "server: {plugin_path: [\"%s\"]}\nplugins: %s\n", built(), plugins);
	l.conf = conf_load_text("c", str_of(yaml), &l.d);
	assert_non_null(l.conf);
	assert_int_equal(conf_plan(l.conf, &l.d), 0);
	l.host = host_create(l.conf, "/nowhere");
	assert_non_null(l.host);
	l.rc = host_load(l.host, &l.d);
	FILE *f = open_memstream(&l.complaints, &n);
	for (const struct diag_item *i = l.d.items; i; i = i->next) {
		fprintf(f, "%s\n", i->text);
	}
	fclose(f);
	return l;
}

static void unload(struct loaded *l)
{
	host_destroy(l->host);
	conf_free(l->conf);
	diag_finish(&l->d);
	free(l->complaints);
}

static void expect_order(const char *plugins, const char *want)
{
	struct loaded l = load(plugins);
	char have[256] = "";
	assert_string_equal(l.complaints, "");
	assert_int_equal(l.rc, 0);
	for (size_t i = 0; i < l.host->n; i++) {
		size_t at = strlen(have);
		snprintf(have + at, sizeof(have) - at, "%s%s", i ? " " : "", l.host->order[i]->name);
	}
	assert_string_equal(have, want);
	unload(&l);
}

static void expect_complaint(const char *plugins, const char *want)
{
	struct loaded l = load(plugins);
	assert_int_equal(l.rc, -EINVAL);
	assert_string_equal(l.complaints, want);
	unload(&l);
}

TEST(providers_start_before_those_who_need_or_want_them)
{
	UNUSED;
	expect_order("{needs-x: {}, good: {}, gives-x: {}}", "gives-x needs-x good");
	expect_order("{wants-x: {}, gives-x: {}}", "gives-x wants-x");
	expect_order("{wants-x: {}, good: {}}", "wants-x good");
	expect_order("{good: {}, needs-core: {}}", "good needs-core");
}

TEST(a_missing_provider_is_named_with_those_that_would_do)
{
	UNUSED;
	expect_complaint("{needs-x: {}}",
			"needs-x: it needs the service \"test.x/1\", which no plugin that is turned on provides\n"
			"add one that does, or turn it on: also-gives-x, gives-x\n");
	expect_complaint("{needs-x: {}, gives-x: {enabled: false}}",
			"needs-x: it needs the service \"test.x/1\", which no plugin that is turned on provides\n"
			"add one that does, or turn it on: also-gives-x, gives-x\n");
	expect_complaint("{needs-nothing-known: {}}",
			"needs-nothing-known: it needs the service \"test.unknown/1\", which no plugin that is turned on "
			"provides\nnor does any installed plugin\n");
}

TEST(two_providers_of_one_service_are_one_too_many)
{
	UNUSED;
	expect_complaint("{gives-x: {}, also-gives-x: {}}",
			"also-gives-x: plugins \"gives-x\" and \"also-gives-x\" both provide \"test.x/1\": keep one, or set "
			"enabled: false on the other\n");
	expect_order("{gives-x: {}, also-gives-x: {enabled: false}}", "gives-x");
}

TEST(a_circle_is_named_by_two_of_its_members)
{
	UNUSED;
	expect_complaint("{needs-b: {}, needs-a: {}}",
			"needs-a: plugins \"needs-a\" and \"needs-b\" need each other (through \"test.a/1\"): one of them "
			"must do without\n");
}

TEST(an_optional_plugin_may_be_missing_and_a_disabled_one_too)
{
	UNUSED;
	expect_order("{absent: {optional: true}, good: {}, gone: {enabled: false}}", "good");
}

TEST(a_second_instance_of_a_module_is_another_plugin)
{
	UNUSED;
	expect_order("{good: {}, better: {plugin: good}}", "good better");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_plugin_is_named_with_the_folders_and_the_remedy),
		cmocka_unit_test(a_path_is_no_name),
		cmocka_unit_test(a_file_that_is_no_shared_object_is_refused),
		cmocka_unit_test(a_shared_object_without_the_symbol_is_refused),
		cmocka_unit_test(another_minor_is_no_reason_to_refuse),
		cmocka_unit_test(a_descriptor_of_an_impossible_size_is_refused),
		cmocka_unit_test(a_file_must_have_the_plugins_name),
		cmocka_unit_test(what_everyone_may_write_is_refused_unopened),
		cmocka_unit_test(a_good_one_is_loaded_once_and_listed),
		cmocka_unit_test(providers_start_before_those_who_need_or_want_them),
		cmocka_unit_test(a_missing_provider_is_named_with_those_that_would_do),
		cmocka_unit_test(two_providers_of_one_service_are_one_too_many),
		cmocka_unit_test(a_circle_is_named_by_two_of_its_members),
		cmocka_unit_test(an_optional_plugin_may_be_missing_and_a_disabled_one_too),
		cmocka_unit_test(a_second_instance_of_a_module_is_another_plugin),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
