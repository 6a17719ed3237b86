/* SPDX-License-Identifier: Apache-2.0 */
/* Which URLs and addresses may be asked: H181. */
#include "address.h"
#include "url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

static const char *const none[] = { NULL };
static const struct url_rules open_rules = { none, none };

static chatd_status read_by(const char *text, uint32_t flags, const struct url_rules *rules)
{
	struct url u;
	const char *why = NULL;
	chatd_status rc = url_read(&u, chatd_str_of(text, strlen(text)), flags, rules, &why);
	assert_true(rc == 0 ? why == NULL : why != NULL);
	assert_true((rc == 0) == (u.u != NULL));
	url_finish(&u);
	return rc;
}

static chatd_status outside(const char *text)
{
	return read_by(text, CHATD_FETCH_OUTSIDE, &open_rules);
}

TEST(what_a_user_may_have_asked)
{
	UNUSED;
	assert_int_equal(outside("https://push.example.org/send/abc?x=1"), 0);
	assert_int_equal(outside("https://push.example.org:443/"), 0);
	assert_int_equal(outside("HTTPS://Push.Example.Org./"), 0);
	assert_int_equal(outside("https://93.184.216.34/"), 0);
	assert_int_equal(outside("https://[2606:2800:220:1::1]/"), 0);
}

TEST(what_a_user_may_not_have_asked)
{
	UNUSED;
	static const char *const bad[] = { "http://push.example.org/", "http://push.example.org:443/",
		"https://127.0.0.1/", "https://127.1/", "https://[::1]/", "https://169.254.169.254/latest/",
		"https://0/", "https://0.0.0.0/", "https://2130706433/", "https://0x7f.1/",
		"https://0x7f000001/", "https://0177.0.0.1/", "https://127.0.0.1./", "https://10.0.0.1/",
		"https://192.168.1.1/", "https://172.16.0.1/", "https://100.64.0.1/",
		"https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[64:ff9b::7f00:1]/",
		"https://[2002:7f00:1::]/", "https://[fe80::1]/", "https://[fc00::1]/", "https://[::]/",
		"https://%31%32%37.0.0.1/", "https://push.example.org:22/", "https://push.example.org:80/",
		"https://user@push.example.org/", "https://user:pw@push.example.org/",
		"https://:pw@push.example.org/", "https://push.example.org@127.0.0.1/",
		"https://127.0.0.1#@push.example.org/", "https://127.0.0.1?@push.example.org/" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		chatd_status rc = outside(bad[i]);
		if (rc != -EACCES && rc != -EINVAL) {
			print_error("%s: %d\n", bad[i], rc);
		}
		assert_true(rc == -EACCES || rc == -EINVAL);
	}
}

TEST(what_is_no_url)
{
	UNUSED;
	static const char *const bad[] = { "", "push.example.org", "//push.example.org/", "/path",
		"file:///etc/passwd", "gopher://push.example.org/", "ftp://push.example.org/", "https://",
		"javascript:alert(1)", "https://push.example.org/\r\nX: y", "https://push.example.org/ x",
		"https://push.example.org\\@127.0.0.1/", " https://a.example/",
		"https:/evil.example/x://push.example.org/", "https:///push.example.org/",
		"https://push.example.org:0x50/", "https://push.example.org:99999/", "https://[::1/",
		"https://p\xc3\xbcsh.example.org/", "https://push.example.org/\x7f",
		"https://a_b c.example/", "https://[fe80::1%25eth0]/" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (outside(bad[i]) != -EINVAL || read_by(bad[i], 0, &open_rules) != -EINVAL) {
			print_error("%s\n", bad[i]);
		}
		assert_int_equal(outside(bad[i]), -EINVAL);
		assert_int_equal(read_by(bad[i], 0, &open_rules), -EINVAL);
	}
	char long_one[4096 + 1] = "https://push.example.org/";
	memset(long_one + 25, 'a', sizeof(long_one) - 26);
	assert_int_equal(outside(long_one), -EINVAL);
	long_one[CHATD_FETCH_URL_MAX] = '\0';
	assert_int_equal(outside(long_one), 0);
	struct url u;
	const char *why;
	assert_int_equal(
			url_read(&u, chatd_str_of("https://a.example/\0b", 20), 0, &open_rules, &why), -EINVAL);
}

TEST(what_the_server_may_ask_for_itself)
{
	UNUSED;
	assert_int_equal(read_by("http://127.0.0.1:8080/hook", 0, &open_rules), 0);
	assert_int_equal(read_by("https://intranet/hook", 0, &open_rules), 0);
	assert_int_equal(read_by("http://[::1]:8080/", 0, &open_rules), 0);
	assert_int_equal(read_by("http://user:pw@intranet/", 0, &open_rules), -EACCES);
}

TEST(hosts_may_be_listed)
{
	UNUSED;
	static const char *const hosts[] = { "fcm.googleapis.com", "*.push.apple.com", NULL };
	const struct url_rules r = { hosts, none };
	assert_int_equal(read_by("https://fcm.googleapis.com/x", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("https://FCM.googleapis.com./x", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("https://web.push.apple.com/x", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("https://a.web.push.apple.com/x", CHATD_FETCH_OUTSIDE, &r), 0);
	static const char *const bad[] = { "https://push.apple.com/", "https://evilpush.apple.com/",
		"https://xfcm.googleapis.com/", "https://fcm.googleapis.com.evil.example/",
		"https://a.fcm.googleapis.com/", "https://93.184.216.34/" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(read_by(bad[i], CHATD_FETCH_OUTSIDE, &r), -EACCES);
		assert_int_equal(read_by(bad[i], 0, &r), 0);
	}
}

TEST(exempt_are_host_and_port)
{
	UNUSED;
	static const char *const allow[] = { "127.0.0.1:8090", "[::1]:8091", "Gateway.lan:443", NULL };
	const struct url_rules r = { none, allow };
	struct url u;
	const char *why;
	assert_int_equal(read_by("http://127.0.0.1:8090/x", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("https://127.0.0.1:8090/x", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("http://[::1]:8091/", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("https://gateway.lan/", CHATD_FETCH_OUTSIDE, &r), 0);
	assert_int_equal(read_by("http://127.0.0.1:8091/x", CHATD_FETCH_OUTSIDE, &r), -EACCES);
	assert_int_equal(read_by("http://gateway.lan/", CHATD_FETCH_OUTSIDE, &r), -EACCES);
	assert_int_equal(read_by("http://a@127.0.0.1:8090/", CHATD_FETCH_OUTSIDE, &r), -EACCES);
	assert_int_equal(
			url_read(&u, chatd_str_of("https://gateway.lan/", 20), CHATD_FETCH_OUTSIDE, &r, &why),
			0);
	assert_int_equal(u.exempt, 1);
	url_finish(&u);
	assert_int_equal(
			url_read(&u, chatd_str_of("https://gateway.net/", 20), CHATD_FETCH_OUTSIDE, &r, &why),
			0);
	assert_int_equal(u.exempt, 0);
	url_finish(&u);
}

static int public(const char *text)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET, text, &a4.sin_addr) == 1) {
		return address_is_public((const struct sockaddr *)&a4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &a6.sin6_addr), 1);
	return address_is_public((const struct sockaddr *)&a6);
}

TEST(special_addresses)
{
	UNUSED;
	/* The first and the last of each of the 19 ranges, and of what is not in 2000::/3. */
	static const char *const bad[] = { "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255",
		"100.64.0.0", "100.127.255.255", "127.0.0.0", "127.255.255.255", "169.254.0.0",
		"169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0",
		"192.0.2.255", "192.31.196.0", "192.31.196.255", "192.52.193.0", "192.52.193.255",
		"192.88.99.0", "192.88.99.255", "192.168.0.0", "192.168.255.255", "192.175.48.0",
		"192.175.48.255", "198.18.0.0", "198.19.255.255", "198.51.100.0", "198.51.100.255",
		"203.0.113.0", "203.0.113.255", "224.0.0.0", "239.255.255.255", "240.0.0.0",
		"255.255.255.254", "255.255.255.255", "::", "::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:1ff::1", "2001:db8::1", "2002:808:808::1",
		"3fff::1", "3fff:fff::1", "5f00::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1",
		"ff02::1" };
	static const char *const good[] = { "1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0",
		"100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255",
		"169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
		"192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.114.0", "223.255.255.255", "2000::1",
		"2001:200::1", "2001:db7::1", "2003::1", "2a00:1450::1", "3ffe::1", "3fff:1000::1" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (public(bad[i])) {
			print_error("%s\n", bad[i]);
		}
		assert_false(public(bad[i]));
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!public(good[i])) {
			print_error("%s\n", good[i]);
		}
		assert_true(public(good[i]));
	}
	const struct sockaddr local = { .sa_family = AF_UNIX };
	assert_false(address_is_public(&local));
}

TEST(options_are_looked_at)
{
	UNUSED;
	assert_true(url_allow_ok("127.0.0.1:80") && url_allow_ok("[::1]:443") && url_allow_ok("a.b:1"));
	assert_false(url_allow_ok("127.0.0.1") || url_allow_ok(":80") || url_allow_ok("a:") ||
			url_allow_ok("a:0") || url_allow_ok("a:65536") || url_allow_ok("http://a:80") ||
			url_allow_ok("::1:80") || url_allow_ok("a:8x"));
	assert_true(url_pattern_ok("a.example") && url_pattern_ok("*.a.example"));
	assert_false(url_pattern_ok("") || url_pattern_ok("*.") || url_pattern_ok("*") ||
			url_pattern_ok("a.*") || url_pattern_ok("https://a") || url_pattern_ok("*..a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_user_may_have_asked),
		cmocka_unit_test(what_a_user_may_not_have_asked),
		cmocka_unit_test(what_is_no_url),
		cmocka_unit_test(what_the_server_may_ask_for_itself),
		cmocka_unit_test(hosts_may_be_listed),
		cmocka_unit_test(exempt_are_host_and_port),
		cmocka_unit_test(special_addresses),
		cmocka_unit_test(options_are_looked_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
