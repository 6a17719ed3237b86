/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, prefixes, and the PROXY protocol: the parsers, and real connections. */
#include "loop_kit.h"

#include "loop/proxy.h"

/* ---- addresses --------------------------------------------------------- */

static void addresses_read_back_as_they_were_written(void **state)
{
	(void)state;
	static const char *const good[] = { "127.0.0.1:0", "0.0.0.0:65535", "[::]:80",
		"[2001:db8::1]:443", "unix:/run/chatd.sock" };
	static const char *const bad[] = { "", ":", "80", ":80", "127.0.0.1",
		"127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:080", "127.0.0.1:-1", "127.0.0.1: 1",
		"1.2.3:80", "::1:80", "[::1]", "[::1:80", "::1]:80", "[]:80", "[127.0.0.1]:80",
		"localhost:80", "unix:", "127.0.0.1:99999999999999999999" };
	struct addr a;
	char text[ADDR_TEXT];
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(addr_parse(good[i], &a), 0);
		addr_print(&a, text, sizeof(text));
		assert_string_equal(text, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (addr_parse(bad[i], &a) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static void prefixes_match_by_family_and_bits(void **state)
{
	(void)state;
	static const struct {
		const char *peer, *net;
		int in;
	} cases[] = {
		{ "10.1.2.3", "10.0.0.0/8", 1 },
		{ "11.1.2.3", "10.0.0.0/8", 0 },
		{ "10.1.2.3", "10.1.2.3", 1 },
		{ "10.1.2.4", "10.1.2.3", 0 },
		{ "10.1.2.3", "0.0.0.0/0", 1 },
		{ "::1", "0.0.0.0/0", 0 },
		{ "10.1.2.3", "::/0", 0 },
		{ "172.31.255.255", "172.16.0.0/12", 1 },
		{ "172.32.0.0", "172.16.0.0/12", 0 },
		{ "192.168.1.129", "192.168.1.128/25", 1 },
		{ "192.168.1.127", "192.168.1.128/25", 0 },
		{ "::1", "::1", 1 },
		{ "::2", "::1", 0 },
		{ "2001:db8:1::9", "2001:db8::/32", 1 },
		{ "2001:db9::9", "2001:db8::/32", 0 },
		{ "2001:db8:0:8000::", "2001:db8:0:8000::/49", 1 },
		{ "2001:db8::", "2001:db8:0:8000::/49", 0 },
		{ "::ffff:10.1.2.3", "10.0.0.0/8", 1 },
		{ "10.1.2.3", "::ffff:10.0.0.0/104", 1 },
		{ "11.1.2.3", "::ffff:10.0.0.0/104", 0 },
		{ "unix", "unix", 1 },
		{ "unix", "0.0.0.0/0", 0 },
		{ "10.0.0.0/8", "10.0.0.0/8", 0 },
		{ "10.1.2.3:80", "10.0.0.0/8", 0 },
		{ "", "0.0.0.0/0", 0 },
		{ "rubbish", "0.0.0.0/0", 0 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *nets[] = { "203.0.113.7", cases[i].net, NULL };
		struct chatd_str peer = chatd_str_of(cases[i].peer, strlen(cases[i].peer));
		if (net_address_in(peer, nets) != cases[i].in)
			fail_msg("%s in %s: not %d", cases[i].peer, cases[i].net, cases[i].in);
	}
	const char *good[] = { "10.0.0.0/8", "::1", "::/0", "unix", NULL };
	const char *bad[] = { "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "host", "1.2.3.4/-1",
		"1.2.3.4/08", "" };
	assert_null(net_address_check(good));
	assert_null(net_address_check(NULL));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *one[] = { "::1", bad[i], NULL };
		assert_ptr_equal(net_address_check(one), bad[i]);
	}
}

/* ---- headers ----------------------------------------------------------- */

#define V2       "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(s) (s), sizeof(s) - 1

struct header {
	const char *p;
	size_t n;
	const char *from; /* "": none named */
};

static const struct header good_headers[] = {
	{ BYTES("PROXY TCP4 192.0.2.9 127.0.0.1 56324 443\r\n"), "192.0.2.9" },
	{ BYTES("PROXY TCP6 2001:db8::9 ::1 0 65535\r\n"), "2001:db8::9" },
	{ BYTES("PROXY TCP6 ::ffff:192.0.2.9 ::1 1 2\r\n"), "192.0.2.9" },
	{ BYTES("PROXY UNKNOWN\r\n"), "" },
	{ BYTES("PROXY UNKNOWN ffff::1 what ever\r\n"), "" },
	{ BYTES(V2 "\x20\x00\x00\x00"), "" },
	{ BYTES(V2 "\x20\x11\x00\x0c\xc0\x00\x02\x09\x7f\x00\x00\x01\x01\x02\x01\xbb"), "" },
	{ BYTES(V2 "\x21\x11\x00\x0c\xc0\x00\x02\x09\x7f\x00\x00\x01\x01\x02\x01\xbb"), "192.0.2.9" },
	{ BYTES(V2 "\x21\x11\x00\x10\xc0\x00\x02\x09\x7f\x00\x00\x01\x01\x02\x01\xbb\x04\x00\x01\x00"),
			"192.0.2.9" },
	{ BYTES(V2 "\x21\x21\x00\x24"
			   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09"
			   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02\x01\xbb"),
			"2001:db8::9" },
	{ BYTES(V2 "\x21\x00\x00\x00"), "" },
	{ BYTES(V2 "\x21\x31\x00\x04\x41\x42\x43\x44"), "" },
};

static void headers_are_read_at_any_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good_headers) / sizeof(good_headers[0]); i++) {
		const struct header *h = &good_headers[i];
		struct addr a;
		char text[ADDR_TEXT] = "";
		char more[256];
		for (size_t n = 0; n < h->n; n++)
			assert_int_equal(proxy_parse(h->p, n, &a), 0);
		memcpy(more, h->p, h->n);
		memcpy(more + h->n, "CONNECT", 7);
		assert_int_equal(proxy_parse(more, h->n + 7, &a), (int)h->n);
		if (a.len)
			addr_print_peer(&a, text, sizeof(text));
		assert_string_equal(text, h->from);
	}
}

static void what_is_no_header_is_refused(void **state)
{
	(void)state;
	static const struct header bad[] = {
		{ BYTES("CONNECT\n"), NULL },
		{ BYTES("PROXX"), NULL },
		{ BYTES("PROXY TCP4 192.0.2.9 127.0.0.1 56324 443\n"), NULL },
		{ BYTES("PROXY TCP4 192.0.2.9 127.0.0.1 56324\r\n"), NULL },
		{ BYTES("PROXY TCP4 192.0.2.9 127.0.0.1 56324 443 1\r\n"), NULL },
		{ BYTES("PROXY TCP4  192.0.2.9 127.0.0.1 56324 443\r\n"), NULL },
		{ BYTES("PROXY TCP4 192.0.2.9 127.0.0.1 65536 443\r\n"), NULL },
		{ BYTES("PROXY TCP4 192.0.2.9 127.0.0.1 01 443\r\n"), NULL },
		{ BYTES("PROXY TCP4 ::1 ::1 1 443\r\n"), NULL },
		{ BYTES("PROXY TCP6 192.0.2.9 127.0.0.1 1 443\r\n"), NULL },
		{ BYTES("PROXY TCP5 192.0.2.9 127.0.0.1 1 443\r\n"), NULL },
		{ BYTES("PROXY TCP4 192.0.2.9\0 127.0.0.1 1 443\r\n"), NULL },
		{ BYTES("PROXY \r\n"), NULL },
		{ BYTES("PROXY UNKNOWN 000000000000000000000000000000000000000000000000000000000000"
				"0000000000000000000000000000000000000000000"),
				NULL },
		{ BYTES(V2 "\x11\x11\x00\x0c"), NULL },
		{ BYTES(V2 "\x22\x11\x00\x0c"), NULL },
		{ BYTES(V2 "\x21\x11\x00\x0b"), NULL },
		{ BYTES(V2 "\x21\x21\x00\x0c"), NULL },
		{ BYTES(V2 "\x21\x11\xff\xff"), NULL },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct addr a;
		if (proxy_parse(bad[i].p, bad[i].n, &a) != -EBADMSG)
			fail_msg("header %zu was not refused", i);
	}
}

/* ---- real connections -------------------------------------------------- */

struct test {
	struct kit kit;
	atomic_int accepted;
};

static size_t tell_peer(void *arg, const char *p, size_t n)
{
	chatd_stream *s = arg;
	struct chatd_str peer = s->ops->peer(s);
	kit_send_copy(s, peer.p, peer.n);
	kit_send_copy(s, ":", 1);
	kit_send_copy(s, p, n);
	return n;
}

static void on_gone(void *arg, int32_t why)
{
	(void)arg;
	(void)why;
}

static const struct chatd_stream_user user = {
	.struct_size = sizeof(user), .data = tell_peer, .gone = on_gone
};

static void accepted(void *arg, chatd_worker *w, chatd_stream *s)
{
	(void)w;
	atomic_fetch_add(&((struct test *)arg)->accepted, 1);
	s->ops->attach(s, &user, s);
}

static void begin(struct test *t, int workers, const char *const *nets)
{
	memset(t, 0, sizeof(*t));
	struct chatd_listen conf = { .accepted = accepted, .arg = t };
	conf.proxy_from = nets;
	conf.handshake_ms = 300;
	kit_listen(&t->kit, workers, conf);
}

static const char *const loopback[] = { "127.0.0.0/8", NULL };
static const char *const elsewhere[] = { "192.0.2.0/24", NULL };

static void the_peer_is_the_one_the_header_names(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, loopback);
	for (size_t i = 0; i < sizeof(good_headers) / sizeof(good_headers[0]); i++) {
		const struct header *h = &good_headers[i];
		char want[128];
		char all[256];
		snprintf(want, sizeof(want), "%s:hello", h->from[0] ? h->from : "127.0.0.1");
		memcpy(all, h->p, h->n);
		memcpy(all + h->n, "hello", 5);
		int fd = kit_connect(&t.kit);
		kit_write(fd, all, h->n + 5); /* header and first bytes in one piece */
		kit_expect(fd, want);
		close(fd);
	}
	const struct header *h = &good_headers[0];
	int fd = kit_connect(&t.kit);
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
	for (size_t i = 0; i < h->n; i++) {
		kit_write(fd, h->p + i, 1);
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	}
	kit_write(fd, "hello", 5);
	kit_expect(fd, "192.0.2.9:hello");
	close(fd);
	kit_stop(&t.kit);
}

static void without_a_header_a_proxy_is_turned_away(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, loopback);
	int wrong = kit_connect(&t.kit);
	int silent = kit_connect(&t.kit);
	int slow = kit_connect(&t.kit);
	int gone = kit_connect(&t.kit);
	close(gone);
	kit_write(wrong, "CONNECT\n\n", 9);
	kit_write(slow, "PROXY TCP4 ", 11);
	kit_expect_end(wrong);
	kit_expect_end(silent);
	kit_expect_end(slow);
	close(wrong);
	close(silent);
	close(slow);
	assert_int_equal(atomic_load(&t.accepted), 0);
	kit_stop(&t.kit);
}

static void from_anybody_else_a_header_is_not_understood(void **state)
{
	static struct test t;
	begin(&t, *(int *)*state, elsewhere);
	int fd = kit_connect(&t.kit);
	kit_write(fd, "PROXY UNKNOWN\r\n", 15);
	kit_expect(fd, "127.0.0.1:PROXY UNKNOWN\r\n");
	close(fd);
	kit_stop(&t.kit);
}

int main(void)
{
	static int one = 1;
	static int four = 4;
#define BOTH(f) cmocka_unit_test_prestate(f, &one), cmocka_unit_test_prestate(f, &four)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_read_back_as_they_were_written),
		cmocka_unit_test(prefixes_match_by_family_and_bits),
		cmocka_unit_test(headers_are_read_at_any_split),
		cmocka_unit_test(what_is_no_header_is_refused),
		BOTH(the_peer_is_the_one_the_header_names),
		BOTH(without_a_header_a_proxy_is_turned_away),
		BOTH(from_anybody_else_a_header_is_not_understood),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
