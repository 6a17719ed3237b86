/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/kit.h>
#include <chatd/mailer.h>

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

struct sending {
	struct kit *k;
	const char *to, *subject, *text;
	chatd_status at_once, rc;
	int answers;
};

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void on_sent(void *arg, chatd_status rc)
{
	struct sending *s = arg;
	s->answers++;
	s->rc = rc;
}

static void do_send(void *arg)
{
	struct sending *s = arg;
	struct chatd_service mailer = kit_provided(s->k, CHATD_MAILER);
	const struct chatd_mailer *vt = mailer.vt;
	struct chatd_mail m = {
		.struct_size = sizeof(m), .to = z(s->to), .subject = z(s->subject), .text = z(s->text)
	};
	s->at_once = vt ? vt->send(mailer.obj, kit_worker(s->k, 0), &m, on_sent, s) : -ENOMEM;
}

static struct sending mail(struct kit *k, const char *to, const char *subject, const char *text)
{
	struct sending s = { .k = k, .to = to, .subject = subject, .text = text };
	kit_on(k, 0, do_send, &s);
	return s;
}

/* The one mail in the folder, into a room of 500; its mode. */
static int read_mail(const char *folder, char room[500])
{
	char path[800];
	struct stat st = { 0 };
	struct dirent *e;
	DIR *d = opendir(folder);
	int n = 0;
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.') {
			n++;
			snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		}
	}
	closedir(d);
	assert_int_equal(n, 1);
	assert_int_equal(stat(path, &st), 0);
	FILE *f = fopen(path, "r");
	room[fread(room, 1, 499, f)] = '\0';
	fclose(f);
	return st.st_mode & 0777;
}

TEST(a_mail_is_a_file_that_nobody_else_can_read)
{
	UNUSED;
	char folder[500], text[500];
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	struct sending s = mail(k, "ann@example.org", "H\xc3\xa9llo", "line\nline\n");
	assert_int_equal(s.at_once, 0);
	assert_int_equal(s.answers, 1);
	assert_int_equal(s.rc, 0);
	snprintf(folder, sizeof(folder), "%s/mail", kit_data_dir(k));
	assert_int_equal(read_mail(folder, text), 0600);
	assert_string_equal(text, "To: ann@example.org\nSubject: H\xc3\xa9llo\n\nline\nline\n");
	kit_free(k);
}

TEST(nobody_adds_a_header)
{
	UNUSED;
	static const char *const bad[] = { "a@b.cc\r\nBcc: x@y.zz", "a@b.cc\nX: y", "", "a\x7f@b.cc" };
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(mail(k, bad[i], "s", "t").at_once, -EINVAL);
		assert_int_equal(mail(k, "a@b.cc", bad[i], "t").at_once, -EINVAL);
	}
	kit_free(k);
}

TEST(the_queue_is_bounded_and_a_folder_that_is_gone_is_told)
{
	UNUSED;
	char folder[500];
	struct kit *k = kit_new(&chatd_plugin_under_test, "queue: 1");
	snprintf(folder, sizeof(folder), "%s/mail", kit_data_dir(k));
	kit_hold_offload(k, 1);
	struct sending a = { .k = k, .to = "a@b.cc", .subject = "s", .text = "t" };
	kit_on(k, 0, do_send, &a);
	assert_int_equal(mail(k, "a@b.cc", "s", "t").at_once, -EAGAIN);
	assert_int_equal(remove(folder), 0);
	kit_hold_offload(k, 0);
	kit_run(k);
	assert_int_equal(a.rc, -ENOENT);
	kit_expect_logged(k, "cannot write a mail into");
	kit_free(k);
}

static void send_one(void)
{
	struct kit *k = kit_new(&chatd_plugin_under_test, "");
	struct sending s = mail(k, "ann@example.org", "Hello", "text\n");
	if (!kit_failing(k)) {
		assert_int_equal(s.rc, 0);
	}
	kit_free(k);
}

TEST(no_memory_hurts_nobody)
{
	UNUSED;
	kit_sweep(send_one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mail_is_a_file_that_nobody_else_can_read),
		cmocka_unit_test(nobody_adds_a_header),
		cmocka_unit_test(the_queue_is_bounded_and_a_folder_that_is_gone_is_told),
		cmocka_unit_test(no_memory_hurts_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
