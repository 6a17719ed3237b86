/* SPDX-License-Identifier: Apache-2.0 */
/* Which names are served, and that nothing leads out of the root. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "files.h"

/* A buffer as the server's, but without sharing. */
struct chatd_buf {
	size_t n;
	char bytes[];
};

static chatd_buf *fake_new(size_t room, size_t n)
{
	chatd_buf *buf = calloc(1, sizeof(*buf) + room + n);
	if (buf)
		buf->n = n;
	return buf;
}

static char *fake_data(chatd_buf *buf)
{
	return buf->bytes;
}

static size_t fake_len(const chatd_buf *buf)
{
	return buf->n;
}

static void fake_unref(chatd_buf *buf)
{
	free(buf);
}

static const struct chatd_host host = {
	.struct_size = sizeof(host),
	.buf_new = fake_new,
	.buf_data = fake_data,
	.buf_len = fake_len,
	.buf_unref = fake_unref,
};

static const char *name_of(const char *path)
{
	static char name[FILES_PATH_MAX];
	return files_name(chatd_str_of(path, strlen(path)), name) ? name : "(refused)";
}

static void names_are_plain(void **state)
{
	(void)state;
	assert_string_equal(name_of(""), "index.html");
	assert_string_equal(name_of("a/"), "a/index.html");
	assert_string_equal(name_of("a/b.js"), "a/b.js");
	assert_string_equal(name_of("..\\"), "(refused)");
	static const char *const refused[] = { "..", "../x", "a/../x", "a/..", "/etc", "a//b", ".git/x",
		"a/.x", "/", "//" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_string_equal(name_of(refused[i]), "(refused)");
	char longest[FILES_PATH_MAX + 8];
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_string_equal(name_of(longest), "(refused)");
}

static void write_file(const char *root, const char *name, const char *text)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int read_size(const char *root, const char *name, size_t max)
{
	chatd_buf *buf;
	char etag[FILES_ETAG_MAX];
	int rc = files_read(&host, root, name, max, &buf, etag);
	if (rc < 0)
		return rc;
	rc = (int)host.buf_len(buf);
	assert_int_equal(strlen(etag), 34);
	host.buf_unref(buf);
	return rc;
}

static void nothing_leads_out_of_the_root(void **state)
{
	char top[] = "/tmp/chatd-web-XXXXXX", root[64], path[128];
	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(root, sizeof(root), "%s/root", top);
	assert_int_equal(mkdir(root, 0700), 0);
	snprintf(path, sizeof(path), "%s/dir", root);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file(top, "secret", "outside");
	write_file(root, "a.txt", "12345");
	write_file(root, "dir/b.txt", "");
	snprintf(path, sizeof(path), "%s/link", root);
	assert_int_equal(symlink("../secret", path), 0);
	snprintf(path, sizeof(path), "%s/out", root);
	assert_int_equal(symlink("..", path), 0);
	snprintf(path, sizeof(path), "%s/fifo", root);
	assert_int_equal(mkfifo(path, 0600), 0);

	assert_int_equal(read_size(root, "a.txt", 100), 5);
	assert_int_equal(read_size(root, "a.txt", 4), -EFBIG);
	assert_int_equal(read_size(root, "dir/b.txt", 100), 0);
	assert_int_equal(read_size(root, "dir", 100), -ENOENT);
	assert_int_equal(read_size(root, "none", 100), -ENOENT);
	assert_int_equal(read_size(root, "a.txt/x", 100), -ENOENT);
	assert_int_equal(read_size(root, "link", 100), -ENOENT);
	assert_int_equal(read_size(root, "out/secret", 100), -ENOENT);
	assert_int_equal(read_size(root, "fifo", 100), -ENOENT);

	snprintf(path, sizeof(path), "rm -r '%s'", top);
	assert_int_equal(system(path), 0);
}

static void tags_are_compared_whole(void **state)
{
	(void)state;
	assert_true(files_matches(CHATD_LIT("\"ab\""), "\"ab\""));
	assert_true(files_matches(CHATD_LIT("\"x\", W/\"ab\""), "\"ab\""));
	assert_true(files_matches(CHATD_LIT("*"), "\"ab\""));
	assert_false(files_matches(CHATD_LIT("\"abc\""), "\"ab\""));
	assert_false(files_matches(CHATD_LIT("ab"), "\"ab\""));
	assert_false(files_matches(CHATD_LIT(""), "\"ab\""));
}

static void gzip_is_taken_by_those_who_say_so(void **state)
{
	(void)state;
	assert_true(files_takes_gzip(CHATD_LIT("gzip")));
	assert_true(files_takes_gzip(CHATD_LIT("br, GZIP;q=0.5, deflate")));
	assert_true(files_takes_gzip(CHATD_LIT("deflate,\tgzip ;q=1")));
	assert_false(files_takes_gzip(CHATD_LIT("gzip;q=0")));
	assert_false(files_takes_gzip(CHATD_LIT("gzip; q=0.000")));
	assert_true(files_takes_gzip(CHATD_LIT("gzip; q=0.001")));
	assert_false(files_takes_gzip(CHATD_LIT("gzipped, x-gzip, identity")));
	assert_false(files_takes_gzip(CHATD_LIT("")));
	assert_false(files_takes_gzip((struct chatd_str){ 0 }));
}

static void parts_are_found_below_any_build(void **state)
{
	char asked[64];
	bool lasting;
	(void)state;
	snprintf(asked, sizeof(asked), "%sjs/main.js", embedded_build);
	assert_string_equal(files_of_build(asked, &lasting), "js/main.js");
	assert_true(lasting);
	assert_string_equal(files_of_build("b-ffffffffffffffff/js/main.js", &lasting), "js/main.js");
	assert_false(lasting);
	assert_string_equal(files_of_build("b-ff/js/main.js", &lasting), "b-ff/js/main.js");
	assert_string_equal(files_of_build("js/main.js", &lasting), "js/main.js");
	assert_false(lasting);
}

static void the_page_is_inside(void **state)
{
	(void)state;
	bool found = false;
	for (size_t i = 0; i < embedded_files_n; i++) {
		found = found || strcmp(embedded_files[i].path, "index.html") == 0;
		assert_string_equal(name_of(embedded_files[i].path), embedded_files[i].path);
		assert_int_equal(strlen(embedded_files[i].etag), 34);
		if (embedded_files[i].small) {
			assert_true(embedded_files[i].small_n < embedded_files[i].n);
			assert_string_not_equal(embedded_files[i].small_etag, embedded_files[i].etag);
		}
	}
	assert_true(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_plain),
		cmocka_unit_test(nothing_leads_out_of_the_root),
		cmocka_unit_test(tags_are_compared_whole),
		cmocka_unit_test(gzip_is_taken_by_those_who_say_so),
		cmocka_unit_test(parts_are_found_below_any_build),
		cmocka_unit_test(the_page_is_inside),
	};
	return cmocka_run_group_tests_name("web-files", tests, NULL, NULL);
}
