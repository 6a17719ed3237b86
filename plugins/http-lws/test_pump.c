/* SPDX-License-Identifier: Apache-2.0 */
/* The pump against libwebsockets itself: a server with permessage-deflate in it, and a client that sends
 * compressed messages of the sizes that stop for ever without the pump's second half. */
#include "pump.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

enum { PATIENCE_MS = 20000, LARGEST = 1024 * 1024 };

/* ---- a loop with one descriptor and one timer, which is all that a pump asks for ------------- */

struct chatd_watch {
	int fd;
	void (*fn)(void *arg, uint32_t ready);
	void *arg;
};

static struct chatd_watch the_watch;
static struct {
	bool set;
	int64_t at;
	void (*fn)(void *arg);
	void *arg;
} the_timer;

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static chatd_watch *watch_fd(chatd_worker *w, int fd, uint32_t read1_write2,
		void (*fn)(void *arg, uint32_t ready), void *arg)
{
	(void)w;
	(void)read1_write2;
	the_watch = (struct chatd_watch){ fd, fn, arg };
	return &the_watch;
}

static void unwatch(chatd_watch *w)
{
	if (w)
		w->fd = -1;
}

static void timer_set(
		chatd_worker *w, struct chatd_timer *t, int64_t ms, void (*fn)(void *arg), void *arg)
{
	(void)w;
	(void)t;
	the_timer.set = true;
	the_timer.at = now_ms() + ms;
	the_timer.fn = fn;
	the_timer.arg = arg;
}

static void timer_clear(struct chatd_timer *t)
{
	(void)t;
	the_timer.set = false;
}

static const struct chatd_host host = {
	.struct_size = sizeof(host),
	.watch_fd = watch_fd,
	.unwatch = unwatch,
	.timer_set = timer_set,
	.timer_clear = timer_clear,
};

static void turn(int most_ms)
{
	int64_t wait = the_timer.set ? the_timer.at - now_ms() : most_ms;
	struct pollfd p = { .fd = the_watch.fd, .events = POLLIN };
	wait = wait < 0 ? 0 : wait > most_ms ? most_ms : wait;
	if (poll(&p, 1, (int)wait) > 0)
		the_watch.fn(the_watch.arg, 1);
	if (the_timer.set && now_ms() >= the_timer.at) {
		the_timer.set = false;
		the_timer.fn(the_timer.arg);
	}
}

/* ---- the server -------------------------------------------------------------------------------- */

static size_t received, messages;

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
	(void)user;
	(void)in;
	if (reason == LWS_CALLBACK_RECEIVE) {
		received += n;
		messages += lws_is_final_fragment(wsi) ? 1 : 0;
	}
	return 0;
}

static const struct lws_protocols protocols[] = {
	{ .name = "test", .callback = on_lws, .rx_buffer_size = 2048 },
	{ .name = NULL },
};
static const struct lws_extension extensions[] = {
	{ "permessage-deflate", lws_extension_callback_pm_deflate, "permessage-deflate" },
	{ NULL, NULL, NULL },
};

static struct pump pump;
static struct lws_vhost *vhost;

static int set_up(void **state)
{
	(void)state;
	struct lws_context_creation_info info = { 0 };
	void *loops[] = { &pump.loop };
	memset(&pump, 0, sizeof(pump));
	lws_set_log_level(LLL_ERR, NULL);
	assert_int_equal(pump_start(&pump, &host, NULL), 0);
	info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
	info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
	info.foreign_loops = loops;
	info.protocols = protocols;
	info.extensions = extensions;
	pump.context = lws_create_context(&info);
	assert_non_null(pump.context);
	vhost = lws_create_vhost(pump.context, &info);
	assert_non_null(vhost);
	pump_kick(&pump);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_true(pump_stop(&pump));
	return 0;
}

/* ---- the client --------------------------------------------------------------------------------- */

static int connected(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, len), 0);
	int theirs = accept(listener, NULL, NULL);
	close(listener);
	fcntl(theirs, F_SETFL, O_NONBLOCK);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	assert_non_null(lws_adopt_socket_vhost(vhost, theirs));
	pump_kick(&pump);
	return fd;
}

static void send_all(int fd, const unsigned char *p, size_t n)
{
	int64_t until = now_ms() + PATIENCE_MS;
	while (n > 0) {
		ssize_t rc = send(fd, p, n, MSG_NOSIGNAL);
		assert_true(now_ms() < until);
		if (rc > 0) {
			p += rc;
			n -= (size_t)rc;
		} else {
			assert_int_equal(errno, EAGAIN);
			turn(10);
		}
	}
}

static void shake_hands(int fd)
{
	static const char ask[] =
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			"Sec-WebSocket-Version: 13\r\n"
			"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
	char answer[1024];
	size_t n = 0;
	int64_t until = now_ms() + PATIENCE_MS;
	send_all(fd, (const unsigned char *)ask, sizeof(ask) - 1);
	while (n < 4 || memcmp(answer + n - 4, "\r\n\r\n", 4) != 0) {
		assert_true(now_ms() < until && n < sizeof(answer));
		ssize_t rc = recv(fd, answer + n, sizeof(answer) - n, 0);
		if (rc > 0)
			n += (size_t)rc;
		else
			turn(10);
	}
	assert_non_null(memmem(answer, n, "permessage-deflate", 18));
}

/* One compressed message: the frame's header with a mask of zeros, then the deflated bytes. */
static size_t make(unsigned char *to, size_t room, z_stream *z, size_t size)
{
	static unsigned char plain[LARGEST];
	for (size_t i = 0; i < size; i++)
		plain[i] = (unsigned char)('a' + (i * i / 7) % 23);
	z->next_in = plain;
	z->avail_in = (uInt)size;
	z->next_out = to + 14;
	z->avail_out = (uInt)(room - 14);
	assert_int_equal(deflate(z, Z_SYNC_FLUSH), Z_OK);
	size_t n = room - 14 - z->avail_out - 4; /* without 00 00 ff ff */
	to[0] = 0xc1;
	to[1] = 0xff;
	for (int i = 0; i < 8; i++)
		to[2 + i] = (unsigned char)((uint64_t)n >> (56 - 8 * i));
	memset(to + 10, 0, 4);
	return 14 + n;
}

static void compressed_messages_of_every_size_arrive(void **state)
{
	(void)state;
	static const size_t sizes[] = { 1, 1000, 4080, 4090, 4096, 4097, 8192, 65535, 65536, 262144,
		LARGEST };
	size_t room = LARGEST + 65536;
	unsigned char *frame = malloc(room);
	z_stream z = { 0 };
	int fd = connected();
	shake_hands(fd);
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	received = messages = 0;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t before = received;
		send_all(fd, frame, make(frame, room, &z, sizes[i]));
		int64_t until = now_ms() + PATIENCE_MS;
		while (messages < i + 1 && now_ms() < until)
			turn(100);
		assert_int_equal(messages, i + 1);
		assert_int_equal(received - before, sizes[i]);
	}
	deflateEnd(&z);
	close(fd);
	free(frame);
}

static void an_idle_pump_sleeps(void **state)
{
	(void)state;
	int turns = 0;
	for (int64_t until = now_ms() + 300; now_ms() < until; turns++)
		turn(1000);
	assert_true(turns < 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
				compressed_messages_of_every_size_arrive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_idle_pump_sleeps, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
