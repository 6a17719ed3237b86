/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/str.h"
#include "conf/conf.h"
#include "conf/value.h"
#include "sample.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

/* A configuration with one instance "s", read and filled. */
struct read {
	struct diag d;
	struct conf *c;
	struct sample s;
	char *complaints;
};

static void read_as(struct read *r, const char *name, const char *yaml)
{
	size_t n = 0;
	memset(r, 0, sizeof(*r));
	r->c = conf_load_text(name, str_of(yaml), &r->d);
	if (r->c) {
		conf_plan(r->c, &r->d);
		conf_fill(r->c, conf_plugin_at(r->c, 0)->node, "s", sample_opts, sizeof(sample_opts[0]),
				&r->s, &r->d);
	}
	FILE *f = open_memstream(&r->complaints, &n);
	diag_print(&r->d, f);
	fclose(f);
}

static void read_finish(struct read *r)
{
	free(r->complaints);
	conf_free(r->c);
	diag_finish(&r->d);
}

TEST(every_type_reaches_its_field)
{
	UNUSED;
	struct read r;
	read_as(&r, "t.yaml",
			"plugins:\n  s:\n    listen: [\"[::1]:80\", 0.0.0.0:81]\n    path: /x\n    greeting: ''\n"
			"    max_frame: 1 MiB\n    ttl: 5m\n    count: 7\n    mode: exact\n    verify: false\n"
			"    secret: open sesame\n    root: /srv/www\n    rules:\n"
			"      - {action: allow, prefix: /a/, passcode: p, limit: 2KiB, only: [x, y]}\n"
			"      - prefix: /b/\n");
	assert_string_equal(r.complaints, "");
	assert_string_equal(r.s.listen[0], "[::1]:80");
	assert_string_equal(r.s.listen[1], "0.0.0.0:81");
	assert_null(r.s.listen[2]);
	assert_string_equal(r.s.path, "/x");
	assert_string_equal(r.s.greeting, "");
	assert_int_equal(r.s.max_frame, 1048576);
	assert_int_equal(r.s.ttl, 300000);
	assert_int_equal(r.s.count, 7);
	assert_int_equal(r.s.mode, 2);
	assert_int_equal(r.s.verify, 0);
	assert_string_equal(r.s.secret, "open sesame");
	assert_string_equal(r.s.root, "/srv/www");
	assert_int_equal(r.s.rules.n, 2);
	const struct sample_rule *rule = r.s.rules.items;
	assert_int_equal(rule[0].action, 0);
	assert_string_equal(rule[0].prefix, "/a/");
	assert_string_equal(rule[0].passcode, "p");
	assert_int_equal(rule[0].limit, 2048);
	assert_string_equal(rule[0].only[1], "y");
	assert_int_equal(rule[1].action, 1);
	assert_null(rule[1].passcode);
	assert_int_equal(rule[1].limit, 1024);
	assert_null(rule[1].only[0]);
	read_finish(&r);
}

TEST(what_is_not_written_has_its_default)
{
	UNUSED;
	struct read r;
	read_as(&r, "t.yaml", "plugins: {s: }\n");
	assert_string_equal(r.complaints, "");
	assert_string_equal(r.s.listen[0], "127.0.0.1:8080");
	assert_null(r.s.listen[1]);
	assert_string_equal(r.s.path, "/ws-chat");
	assert_null(r.s.greeting);
	assert_int_equal(r.s.max_frame, 65536);
	assert_int_equal(r.s.ttl, 30000);
	assert_int_equal(r.s.any, 0);
	assert_int_equal(r.s.mode, 1);
	assert_int_equal(r.s.verify, 1);
	assert_int_equal(r.s.rules.n, 1);
	assert_string_equal(((const struct sample_rule *)r.s.rules.items)->prefix, "/topic/");
	const struct conf_server *server = conf_server(r.c);
	assert_string_equal(server->data_dir, "./data");
	assert_int_equal(server->workers, 0);
	assert_null(server->plugin_path[0]);
	assert_true(strlen(server->server_id) >= 1);
	assert_int_equal(server->log_level, CHATD_LOG_INFO);
	assert_int_equal(server->slow_queue, 524288);
	assert_int_equal(server->stall, 10000);
	assert_int_equal(server->max_subscriptions, 128);
	read_finish(&r);
}

TEST(one_text_is_a_list_of_one)
{
	UNUSED;
	struct read r;
	read_as(&r, "t.yaml", "plugins: {s: {listen: 0.0.0.0:80}}\n");
	assert_string_equal(r.complaints, "");
	assert_string_equal(r.s.listen[0], "0.0.0.0:80");
	assert_null(r.s.listen[1]);
	read_finish(&r);
	read_as(&r, "t.yaml", "plugins: {s: {listen: []}}\n");
	assert_string_equal(r.complaints, "");
	assert_null(r.s.listen[0]);
	read_finish(&r);
}

TEST(relative_paths_count_from_the_file)
{
	UNUSED;
	struct read r;
	read_as(&r, "/etc/chatd/chat.yaml",
			"server: {plugin_path: [p, /q]}\nplugins: {s: {root: pub}}\n");
	assert_string_equal(r.s.root, "/etc/chatd/pub");
	assert_string_equal(conf_server(r.c)->data_dir, "/etc/chatd/data");
	assert_string_equal(conf_server(r.c)->plugin_path[0], "/etc/chatd/p");
	assert_string_equal(conf_server(r.c)->plugin_path[1], "/q");
	read_finish(&r);
	read_as(&r, "/etc/chatd/chat.yaml", "plugins: {s: {}}\n");
	assert_string_equal(r.s.root, "/etc/chatd/www");
	read_finish(&r);
}

/* ---- records of other sizes --------------------------------------------- */

/* struct chatd_opt as a plugin of another day may have it: longer, or cut before .sub. */
struct longer_opt {
	struct chatd_opt o;
	const char *more;
};

TEST(option_records_may_be_longer_or_shorter)
{
	UNUSED;
	static const struct longer_opt longer[] = {
		{ { .key = "path", .type = CHATD_T_STRING, .offset = SAMPLE(path) }, "x" },
		{ { .key = "count", .type = CHATD_T_INT, .offset = SAMPLE(count), .fallback = "5" }, "y" },
		{ { .key = NULL }, NULL },
	};
	size_t cut = offsetof(struct chatd_opt, sub);
	char shorter[3 * sizeof(struct chatd_opt)];
	struct diag d = { 0 };
	struct sample s = { 0 };
	for (size_t i = 0; i < 3; i++)
		memcpy(shorter + i * cut, &longer[i].o, cut);
	struct conf *c = conf_load_text("t.yaml", str_of("plugins: {s: {path: /y}}"), &d);
	conf_plan(c, &d);
	const struct conf_node *node = conf_plugin_at(c, 0)->node;
	const void *tables[] = { longer, shorter };
	size_t sizes[] = { sizeof(longer[0]), cut };
	for (int i = 0; i < 2; i++) {
		memset(&s, 0, sizeof(s));
		assert_int_equal(conf_fill(c, node, "s", tables[i], sizes[i], &s, &d), 0);
		assert_string_equal(s.path, "/y");
		assert_int_equal(s.count, 5);
	}
	assert_int_equal(diag_count(&d), 0);
	conf_free(c);
	diag_finish(&d);
}

TEST(a_wrong_default_is_the_plugins_fault)
{
	UNUSED;
	static const struct chatd_opt opts[] = {
		{ .key = "count",
				.type = CHATD_T_INT,
				.offset = SAMPLE(count),
				.fallback = "0",
				.min = 1,
				.max = 9 },
		{ .key = "timeout", .type = CHATD_T_INT, .offset = SAMPLE(any) },
		{ .key = NULL },
	};
	struct read r;
	struct sample s = { 0 };
	read_as(&r, "t.yaml", "plugins: {s: }\n");
	assert_int_equal(
			conf_fill(r.c, conf_plugin_at(r.c, 0)->node, "s", opts, sizeof(opts[0]), &s, &r.d),
			-EINVAL);
	assert_int_equal(diag_count(&r.d), 2); /* the default, and a key that is every plugin's */
	read_finish(&r);
}

/* ---- secrets ------------------------------------------------------------ */

static void write_file(const char *path, const char *text, size_t n, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	fchmod(fd, mode);
	close(fd);
}

struct folder {
	char path[64], conf[80], secret[80];
};

static void folder_create(struct folder *f)
{
	snprintf(f->path, sizeof(f->path), "/tmp/conf-test-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	snprintf(f->conf, sizeof(f->conf), "%s/t.yaml", f->path);
	snprintf(f->secret, sizeof(f->secret), "%s/key", f->path);
}

static void folder_destroy(struct folder *f)
{
	unlink(f->conf);
	unlink(f->secret);
	rmdir(f->path);
}

TEST(secrets_come_from_files_and_the_environment)
{
	UNUSED;
	struct read r;
	struct folder f;
	folder_create(&f);
	write_file(f.secret, "hunter2\r\n\n", 10, 0600);
	read_as(&r, f.conf, "plugins: {s: {secret: file:key}}\n");
	assert_string_equal(r.complaints, "");
	assert_string_equal(r.s.secret, "hunter2");
	read_finish(&r);
	setenv("CONF_TEST_SECRET", "from outside", 1);
	read_as(&r, f.conf, "plugins: {s: {secret: \"env:CONF_TEST_SECRET\"}}\n");
	assert_string_equal(r.complaints, "");
	assert_string_equal(r.s.secret, "from outside");
	read_finish(&r);
	folder_destroy(&f);
}

static void refused(const struct folder *f, const char *why)
{
	struct read r;
	read_as(&r, f->conf, "plugins: {s: {secret: file:key}}\n");
	assert_non_null(strstr(r.complaints, why));
	assert_null(strstr(r.complaints, "hunter2"));
	assert_null(r.s.secret);
	read_finish(&r);
}

TEST(secret_files_must_be_private_and_hold_something)
{
	UNUSED;
	struct folder f;
	folder_create(&f);
	refused(&f, "cannot be read: No such file");
	write_file(f.secret, "hunter2", 7, 0640);
	refused(&f, "is open to others (mode 0640); run: chmod 600");
	write_file(f.secret, "hunter2", 7, 0604);
	refused(&f, "is open to others (mode 0604)");
	write_file(f.secret, "\n\n", 2, 0600);
	refused(&f, "is empty; it must hold the secret");
	write_file(f.secret, "hunter2\0x", 9, 0600);
	refused(&f, "holds a zero byte");
	unlink(f.secret);
	assert_int_equal(mkfifo(f.secret, 0600), 0);
	refused(&f, "is not a file");
	unlink(f.secret);
	assert_int_equal(mkdir(f.secret, 0700), 0);
	refused(&f, "is not a file");
	rmdir(f.secret);
	char *big = calloc(1, 70000);
	memset(big, 'x', 70000);
	write_file(f.secret, big, 70000, 0400);
	free(big);
	refused(&f, "is larger than 64 KiB");
	folder_destroy(&f);
}

/* ---- files -------------------------------------------------------------- */

TEST(files_are_read_or_named)
{
	UNUSED;
	struct folder f;
	struct diag d = { 0 };
	folder_create(&f);
	assert_null(conf_load_file(f.conf, &d));
	assert_null(conf_load_file("/", &d));
	write_file(f.conf, "plugins: {s: {}}\n", 17, 0644);
	struct conf *c = conf_load_file(f.conf, &d);
	assert_non_null(c);
	conf_free(c);
	char *big = malloc((1 << 20) + 2);
	memset(big, '#', (1 << 20) + 2);
	write_file(f.conf, big, (1 << 20) + 2, 0644);
	free(big);
	assert_null(conf_load_file(f.conf, &d));
	assert_int_equal(diag_count(&d), 3);
	char *p = NULL;
	size_t n = 0;
	FILE *m = open_memstream(&p, &n);
	diag_print(&d, m);
	fclose(m);
	assert_non_null(strstr(p, "t.yaml: error: cannot be read: No such file or directory\n"));
	assert_non_null(strstr(p, "/: error: cannot be read: Is a directory\n"));
	assert_non_null(strstr(p, "t.yaml: error: the file is larger than 1 MiB\n"));
	free(p);
	diag_finish(&d);
	folder_destroy(&f);
}

/* ---- what all plugins have ---------------------------------------------- */

TEST(instances_keep_their_order_and_settings)
{
	UNUSED;
	struct diag d = { 0 };
	struct conf *c = conf_load_text("t.yaml",
			str_of("server: {workers: 3, server_id: node-7, log_level: trace, log_format: json}\n"
				   "plugins:\n  zeta: {}\n  alpha:\n    plugin: zeta\n    enabled: false\n"
				   "    optional: true\n    timeout: 250ms\n    on_error: continue\n"
				   "    order: {message_in: 150, subscribe: 0}\n"),
			&d);
	assert_int_equal(conf_plan(c, &d), 0);
	assert_int_equal(diag_count(&d), 0);
	assert_int_equal(conf_plugin_count(c), 2);
	const struct conf_plugin *p = conf_plugin_at(c, 0);
	assert_string_equal(p->name, "zeta");
	assert_string_equal(p->module, "zeta");
	assert_true(p->enabled && !p->optional && p->on_error == 0 && p->timeout_ms == 7000);
	assert_int_equal(p->order_count, 0);
	p = conf_plugin_at(c, 1);
	assert_string_equal(p->name, "alpha");
	assert_string_equal(p->module, "zeta");
	assert_true(!p->enabled && p->optional && p->on_error == 1 && p->timeout_ms == 250);
	assert_int_equal(p->order_count, 2);
	assert_int_equal(p->order[0].hook, chatd_hook_message_in);
	assert_int_equal(p->order[0].order, 150);
	assert_int_equal(p->order[1].hook, chatd_hook_subscribe);
	assert_null(conf_plugin_at(c, 2));
	assert_int_equal(conf_server(c)->workers, 3);
	assert_string_equal(conf_server(c)->server_id, "node-7");
	assert_int_equal(conf_server(c)->log_level, CHATD_LOG_TRACE);
	assert_int_equal(conf_server(c)->log_format, 1);
	conf_free(c);
	diag_finish(&d);
}

TEST(a_plugins_own_complaint_points_at_its_key)
{
	UNUSED;
	struct diag d = { 0 };
	struct conf *c = conf_load_text("t.yaml",
			str_of("plugins:\n  s:\n    ttl: 30s\n    rules:\n      - {prefix: /a/}\n"
				   "      - {prefix: /b/, limit: 1}\n"),
			&d);
	conf_plan(c, &d);
	const struct conf_node *n = conf_plugin_at(c, 0)->node;
	conf_complain(c, n, "ttl", &d, "%s", "A");
	conf_complain(c, n, "missing", &d, "B");
	conf_complain(c, n, "rules.1.limit", &d, "C");
	conf_complain(c, n, "rules.1.action", &d, "D");
	conf_complain(c, n, NULL, &d, "E");
	char *p = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&p, &len);
	diag_print(&d, f);
	fclose(f);
	assert_string_equal(p,
			"t.yaml:2:3: error: s: missing: B\n    2 |   s:\n      |   ^\n"
			"t.yaml:2:3: error: s: E\n    2 |   s:\n      |   ^\n"
			"t.yaml:3:10: error: s: ttl: A\n    3 |     ttl: 30s\n      |          ^~~\n"
			"t.yaml:6:9: error: s: rules.1.action: D\n"
			"    6 |       - {prefix: /b/, limit: 1}\n      |         ^\n"
			"t.yaml:6:30: error: s: rules.1.limit: C\n"
			"    6 |       - {prefix: /b/, limit: 1}\n      |                              ^\n");
	free(p);
	conf_free(c);
	diag_finish(&d);
}

/* ---- numbers ------------------------------------------------------------ */

TEST(numbers_are_exact)
{
	UNUSED;
	int64_t v = 0;
	char text[VALUE_TEXT_MAX];
	assert_null(value_int(CHATD_LIT("9223372036854775807"), &v));
	assert_true(v == INT64_MAX);
	assert_non_null(value_int(CHATD_LIT("9223372036854775808"), &v));
	assert_null(value_int(CHATD_LIT("-5"), &v));
	assert_int_equal(v, -5);
	static const char *const not_ints[] = { "", "-", "--1", "+1", "1 ", " 1", "0x10", "1e3", NULL };
	for (size_t i = 0; not_ints[i]; i++)
		assert_non_null(value_int(str_of(not_ints[i]), &v));
	assert_null(value_size(CHATD_LIT("512"), &v));
	assert_int_equal(v, 512);
	assert_null(value_size(CHATD_LIT("3GiB"), &v));
	assert_true(v == 3 * ((int64_t)1 << 30));
	assert_non_null(value_size(CHATD_LIT("9999999999 GiB"), &v));
	assert_non_null(value_size(CHATD_LIT("1  KiB"), &v));
	assert_non_null(value_size(CHATD_LIT("1 kib"), &v));
	assert_null(value_duration(CHATD_LIT("0"), &v));
	assert_int_equal(v, 0);
	assert_null(value_duration(CHATD_LIT("2 d"), &v));
	assert_int_equal(v, 172800000);
	assert_non_null(value_duration(CHATD_LIT("1m30s"), &v));
	assert_non_null(value_duration(CHATD_LIT("9223372036854775807h"), &v));
	static const char *const good[] = { "https://example.org", "http://a.b-c_d:1/x?y#z",
		"https://[2001:db8::1]:443/", "https://127.0.0.1?x@y", "http://x/a@b" };
	static const char *const wrong[] = { "", "example.org", "ftp://x/", "https://", "https:///x",
		"https://a b/", "https://x:0/", "https://x:65536/", "https://x:/", "https://x:1a/",
		"https://u:p@x/", "https://[1]/", "https://[::1", "https://[::1]x/", "https://\xc3\xbc.de/",
		"https://x/\\", "https:/x/", "https://:80/" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_null(value_url(chatd_str_of(good[i], strlen(good[i]))));
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_non_null(value_url(chatd_str_of(wrong[i], strlen(wrong[i]))));
	}
	value_print(text, CHATD_T_SIZE, 65536);
	assert_string_equal(text, "64 KiB");
	value_print(text, CHATD_T_SIZE, 1500);
	assert_string_equal(text, "1500");
	value_print(text, CHATD_T_DURATION, 90000);
	assert_string_equal(text, "90s");
	value_print(text, CHATD_T_DURATION, 1);
	assert_string_equal(text, "1ms");
}

/* ---- descriptions ------------------------------------------------------- */

static const char *const sample_provides[] = { "chatd.sample/1", "chatd.other/1", NULL };
static const struct conf_about about = { .name = "sample",
	.version = "1.2",
	.summary = "One option of every type.",
	.provides = sample_provides,
	.opts = sample_opts,
	.opt_size = sizeof(sample_opts[0]) };

static char *described(int format, const struct conf_about *a)
{
	char *p = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&p, &n);
	assert_int_equal(conf_describe(f, format, a), 0);
	fclose(f);
	return p;
}

TEST(description_names_every_option)
{
	UNUSED;
	char *text = described(CONF_TEXT, &about), *markdown = described(CONF_MARKDOWN, &about);
	assert_non_null(strstr(text, "sample 1.2\nOne option of every type.\n"));
	assert_non_null(strstr(text, "provides: chatd.sample/1, chatd.other/1\n"));
	assert_non_null(strstr(text, "  max_frame: 64 KiB\n      size, 1 KiB to 1 GiB\n"));
	assert_non_null(strstr(text, "      prefix: (required)\n"));
	assert_non_null(strstr(text, "secret: env:NAME or file:PATH"));
	assert_non_null(strstr(markdown,
			"| `max_frame` | size, 1 KiB to 1 GiB | `64 KiB` | The largest frame \\| message. |\n"));
	assert_non_null(strstr(markdown, "| `rules[].prefix` | text | required |"));
	for (size_t i = 0; sample_opts[i].key; i++) {
		assert_non_null(strstr(text, sample_opts[i].key));
		assert_non_null(strstr(markdown, sample_opts[i].key));
	}
	free(text);
	free(markdown);
	text = described(CONF_TEXT, conf_server_about());
	assert_non_null(strstr(text, "workers: auto\n"));
	free(text);
}

static json_t *at(json_t *j, const char *path)
{
	char part[64];
	while (*path && j) {
		size_t n = strcspn(path, "/");
		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		j = json_object_get(j, part);
		path += n + (path[n] == '/');
	}
	return j;
}

TEST(schema_is_json_and_knows_types)
{
	UNUSED;
	char *text = described(CONF_SCHEMA, &about);
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	assert_non_null(j);
	assert_string_equal(json_string_value(at(j, "properties/verify/type")), "boolean");
	assert_int_equal(json_integer_value(at(j, "properties/count/maximum")), 100);
	assert_true(json_is_true(at(j, "properties/verify/default")));
	assert_string_equal(json_string_value(json_array_get(at(j, "properties/listen/default"), 0)),
			"127.0.0.1:8080");
	assert_string_equal(
			json_string_value(json_array_get(at(j, "properties/rules/items/required"), 0)),
			"prefix");
	assert_null(at(j, "properties/secret/default"));
	assert_non_null(at(j, "properties/order/properties/message_in"));
	assert_true(json_is_false(at(j, "additionalProperties")));
	json_decref(j);
	char *whole = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&whole, &n);
	assert_int_equal(conf_schema(f, &about, 1), 0);
	fclose(f);
	j = json_loads(whole, JSON_REJECT_DUPLICATES, NULL);
	free(whole);
	assert_string_equal(json_string_value(at(j, "properties/plugins/properties/sample/$ref")),
			"#/$defs/sample");
	assert_non_null(at(j, "$defs/sample/properties/ttl"));
	assert_non_null(at(j, "properties/server/properties/data_dir"));
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_reaches_its_field),
		cmocka_unit_test(what_is_not_written_has_its_default),
		cmocka_unit_test(one_text_is_a_list_of_one),
		cmocka_unit_test(relative_paths_count_from_the_file),
		cmocka_unit_test(option_records_may_be_longer_or_shorter),
		cmocka_unit_test(a_wrong_default_is_the_plugins_fault),
		cmocka_unit_test(secrets_come_from_files_and_the_environment),
		cmocka_unit_test(secret_files_must_be_private_and_hold_something),
		cmocka_unit_test(files_are_read_or_named),
		cmocka_unit_test(instances_keep_their_order_and_settings),
		cmocka_unit_test(a_plugins_own_complaint_points_at_its_key),
		cmocka_unit_test(numbers_are_exact),
		cmocka_unit_test(description_names_every_option),
		cmocka_unit_test(schema_is_json_and_knows_types),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
