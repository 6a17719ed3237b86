/* SPDX-License-Identifier: Apache-2.0 */
/* The codec between a fake layer and a fake core. */
#include "test_world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int begin(void **state)
{
	(void)state;
	world_begin();
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_end();
	return 0;
}

static void expect_out(const char *want)
{
	assert_string_equal(world_out(), want);
}

static void expect_log(const char *want)
{
	assert_string_equal(world.log, want);
	world.log[0] = '\0';
}

/** The whole ERROR frame, and the close. */
static void expect_error(const char *headers, const char *body, int code)
{
	char want[512];
	(void)snprintf(want, sizeof(want),
			"ERROR\n%s\ncontent-type:text/plain\ncontent-length:%zu\n\n%s^@\n", headers,
			strlen(body), body);
	expect_out(want);
	assert_int_equal(world.closed, code);
}

#define V12 "accept-version:1.2\n"

/* ---- CONNECT ------------------------------------------------------------------------ */

static void connect_without_version_is_1_0(void **state)
{
	(void)state;
	SEND("CONNECT\nlogin: ann \npasscode:secret\n\n\0");
	expect_log("form 10\nlogin  login=ann passcode=secret peer=127.0.0.1 #\n");
	expect_out("CONNECTED\nversion:1.0\nsession:S1\nserver:chatd/test\nheart-beat:10000,10000\n"
			   "user-name:ann\nack-level:accepted\n\n^@\n");
	assert_int_equal(world.settled, 1);
	assert_int_equal(world.beats, 0);
}

static void connect_of_stock_clients(void **state)
{
	(void)state;
	SEND("CONNECT\naccept-version:1.1,1.0\nheart-beat:10000,10000\n\n\0");
	expect_log("form 11\nlogin  peer=127.0.0.1 #\n");
	expect_out("CONNECTED\nversion:1.1\nsession:S1\nserver:chatd/test\nheart-beat:10000,10000\n"
			   "user-name:ann\nack-level:accepted\n\n^@\n");
	assert_int_equal(world.beats, 1);
}

static void highest_common_version_wins(void **state)
{
	(void)state;
	world_login("accept-version:1.0,10.1\n");
	SEND("DISCONNECT\nreceipt:a:b\\\n\n\0");
	expect_out("RECEIPT\nreceipt-id:a:b\\\n\n^@\n");
	world_connect();
	SEND("STOMP\naccept-version: 1.0, 1.2 ,1.1\nhost:h\n\n\0");
	assert_non_null(strstr(world_out(), "version:1.2\n"));
}

static void no_common_version(void **state)
{
	(void)state;
	SEND("CONNECT\naccept-version:1.3,2.0\nreceipt:r\n\n\0");
	expect_error(
			"message:Version mismatch\ncode:VERSION_MISMATCH\nversion:1.0,1.1,1.2\nreceipt-id:r",
			"Supported versions are 1.0,1.1,1.2", 1002);
	assert_string_equal(world.why, "Version mismatch");
	assert_int_equal(world.sessions, 0);
}

static void replies_go_with_connected(void **state)
{
	(void)state;
	world.reply = world_msg("", "", 0);
	world_msg_set(world.reply, "device-token", "d:1");
	world_msg_set(world.reply, "ack-level", "stored");
	world_msg_set(world.reply, "session", "forged");
	SEND("CONNECT\naccept-version:1.2\n\n\0");
	expect_out("CONNECTED\nversion:1.2\nsession:S1\nserver:chatd/test\nheart-beat:10000,10000\n"
			   "user-name:ann\nack-level:stored\ndevice-token:d:1\n\n^@\n");
}

static void replies_go_with_the_receipt(void **state)
{
	(void)state;
	world_login(V12);
	world.reply = world_msg("", "", 0);
	world_msg_set(world.reply, "message-id", "m1");
	world_msg_set(world.reply, "seq", "4");
	SEND("SEND\ndestination:/a\nreceipt:r\\c\\n\n\nx\0");
	expect_out("RECEIPT\nreceipt-id:r\\c\\n\nmessage-id:m1\nseq:4\n\n^@\n");
}

static void credentials_of_frame_and_request(void **state)
{
	(void)state;
	world.bearer = "from-request";
	world.token = "from-url";
	SEND("CONNECT\naccept-version:1.2\nAuthorization: Bearer  abc \ndevice-token:d\nnickname:Ann\n"
		 "host:h\nuserId:eve\n\n\0");
	expect_log(
			"form 12\nlogin  token=from-url bearer=three tokens device-token=d nickname=Ann host=h "
			"peer=127.0.0.1 #\n");
	world.codec->gone(world.conn, 1);
	world.bearer = NULL;
	world_connect();
	SEND("CONNECT\naccept-version:1.2\nAuthorization:Bearer abc\n\n\0");
	expect_log("form 12\nlogin  bearer=abc token=from-url peer=127.0.0.1 #\n");
	world.bearer = "from-request";
	world.codec->gone(world.conn, 1);
	world.token = NULL;
	world_connect();
	SEND("CONNECT\naccept-version:1.2\nAuthorization:Bearer abc\n\n\0");
	expect_log("form 12\nlogin  bearer=abc token=from-request token-via=authorization "
			   "peer=127.0.0.1 #\n");
	world.codec->gone(world.conn, 1);
	world_connect();
	SEND("CONNECT\naccept-version:1.2\nAuthorization:Bearer from-request\n\n\0");
	expect_log("form 12\nlogin  bearer=from-request peer=127.0.0.1 #\n");
	world.codec->gone(world.conn, 1);
	world_connect();
	SEND("CONNECT\nlogin:\npasscode:\n\n\0");
	expect_log("form 10\nlogin  bearer=from-request peer=127.0.0.1 #\n");
}

static void refused_login(void **state)
{
	(void)state;
	world.refuse = "UNAUTHORIZED";
	SEND("CONNECT\naccept-version:1.2\nreceipt:c\n\n\0SEND\ndestination:/a\n\n\0");
	expect_error("message:Bad CONNECT\ncode:UNAUTHORIZED\nreceipt-id:c", "because", 1008);
	assert_int_equal(world.session_closes, 1);
	expect_log("form 12\nlogin  receipt=c peer=127.0.0.1 #\n");
}

static void too_many_logins_say_so_in_the_close_code(void **state)
{
	(void)state;
	world.refuse = "RATE_LIMIT_EXCEEDED";
	SEND("CONNECT\naccept-version:1.2\n\n\0");
	expect_error("message:Bad CONNECT\ncode:RATE_LIMIT_EXCEEDED", "because", 4429);
}

/* 1: a new connection from there is served. */
static int comes_in(const char *peer, void **ret_conn)
{
	world.peer = peer;
	world_connect();
	*ret_conn = world.conn;
	world_run();
	int in = world.closed != 4429;
	world.closed = 0;
	if (!in) {
		*ret_conn = NULL; /* it ended itself */
	}
	return in;
}

static void strangers_are_bounded_but_for_those_of_this_machine(void **state)
{
	(void)state;
	void *first = world.conn, *conn[8];
	world.conf.max_strangers = 2;
	assert_true(comes_in("192.0.2.1", &conn[0]));
	assert_true(comes_in("127.1.2.3", &conn[1]));
	assert_true(comes_in("::1", &conn[2]));
	assert_true(comes_in("unix", &conn[3]));
	assert_true(comes_in("2001:db8::1", &conn[4]));
	assert_false(comes_in("192.0.2.2", &conn[5]));
	world.codec->gone(conn[0], 1);
	assert_true(comes_in("192.0.2.2", &conn[5]));
	assert_false(comes_in("192.0.2.2", &conn[6]));
	world.conn = conn[5]; /* once logged in it is a stranger no more */
	world_login("accept-version:1.2\n");
	assert_true(comes_in("192.0.2.3", &conn[6]));
	assert_false(comes_in("192.0.2.3", &conn[7]));
	for (int i = 1; i < 7; i++) {
		world.codec->gone(conn[i], 1);
	}
	world.conn = first;
}

static void late_refusal_of_a_login(void **state)
{
	(void)state;
	world.hold = 1;
	SEND("CONNECT\naccept-version:1.2\n\n\0SEND\ndestination:/a\n\n\0");
	assert_int_equal(world.paused, 1);
	expect_out("");
	world_answer(CHATD_REJECT, "UNAUTHORIZED");
	expect_error("message:Bad CONNECT\ncode:UNAUTHORIZED", "because", 1008);
}

static void late_login_goes_on(void **state)
{
	(void)state;
	world.hold = 1;
	SEND("CONNECT\naccept-version:1.2\n\n\0SEND\ndestination:/a\n\nx\0");
	world.hold = 0;
	world.log[0] = '\0';
	world_answer(CHATD_ACCEPT, NULL);
	assert_int_equal(world.paused, 0);
	expect_log("input /a #x\n");
}

static void frames_before_connect(void **state)
{
	static const char *const frames[] = { "SEND\ndestination:/a\nreceipt:1\n\n",
		"SUBSCRIBE\nid:1\ndestination:/a\nreceipt:1\n\n", "ACK\nid:1\nreceipt:1\n\n",
		"BEGIN\ntransaction:1\nreceipt:1\n\n", "DISCONNECT\nreceipt:1\n\n" };
	(void)state;
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		world_send(frames[i], strlen(frames[i]) + 1);
		expect_error("message:Illegal command\ncode:ILLEGAL_COMMAND\nreceipt-id:1",
				"You must log in using CONNECT first", 1002);
		world_connect();
	}
	expect_log("");
}

static void second_connect(void **state)
{
	(void)state;
	world_login(V12);
	SEND("STOMP\naccept-version:1.2\n\n\0");
	expect_error("message:Illegal command\ncode:ILLEGAL_COMMAND", "Already connected", 1002);
	assert_int_equal(world.sessions, 1);
}

static void large_frame_before_login(void **state)
{
	(void)state;
	char *s = malloc(9000);
	assert_non_null(s);
	memset(s, 'a', 9000);
	memcpy(s, "CONNECT\na:", 10);
	for (size_t i = 1000; i < 9000; i += 1000) {
		memcpy(s + i, "\na:", 3);
	}
	world_send(s, 9000);
	free(s);
	expect_error(
			"message:Frame too large\ncode:TOO_LARGE", "A frame has at most 8192 octets", 1009);
}

static void malformed_heart_beats(void **state)
{
	static const char *const bad[] = { "-1,5", "a,b", "1", "0", "T,0", "100,10,50", "", ",", "1,",
		"1, 2x", "+1,1" };
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char frame[128];
		int n = snprintf(
				frame, sizeof(frame), "CONNECT\naccept-version:1.2\nheart-beat:%s\n\n", bad[i]);
		world_send(frame, (size_t)n + 1);
		expect_error("message:Bad CONNECT\ncode:BAD_CONNECT", "Invalid heart-beat", 1002);
		world_connect();
	}
	SEND("CONNECT\naccept-version:1.2\nheart-beat:99999999999,0\n\n\0");
	assert_non_null(strstr(world_out(), "heart-beat:10000,10000\n"));
}

static void no_connect_in_time(void **state)
{
	(void)state;
	SEND("CONN");
	world_advance(9990);
	assert_int_equal(world.closed, 0);
	world_advance(20);
	expect_error(
			"message:CONNECT timeout\ncode:CONNECT_TIMEOUT", "No CONNECT frame came in time", 4408);
	assert_string_equal(world.why, "CONNECT timeout");
}

/* ---- heart-beats ----------------------------------------------------------------------- */

static void server_beats_as_often_as_asked(void **state)
{
	(void)state;
	SEND("CONNECT\naccept-version:1.2\nheart-beat:0,1000\n\n\0");
	assert_non_null(strstr(world_out(), "heart-beat:1000,10000\n"));
	int64_t last = world.now;
	for (int beats = 0; beats < 5;) {
		world_advance(10);
		if (world.out_n) {
			expect_out("\n");
			assert_in_range(world.now - last, 900, 1000);
			last = world.now;
			beats++;
		}
	}
	assert_int_equal(world.closed, 0);
}

static void frames_count_as_beats(void **state)
{
	(void)state;
	world_login(V12 "heart-beat:0,2000\n");
	for (int i = 0; i < 5; i++) {
		world_advance(1500);
		SEND("BEGIN\ntransaction:a\nreceipt:1\n\n\0ABORT\ntransaction:a\n\n\0");
		expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	}
}

static void shortest_interval_is_bounded(void **state)
{
	(void)state;
	SEND("CONNECT\naccept-version:1.2\nheart-beat:10,10\n\n\0");
	assert_non_null(strstr(world_out(), "heart-beat:1000,1000\n"));
}

static void silent_client_is_closed(void **state)
{
	(void)state;
	world_login(V12 "heart-beat:1000,0\n");
	for (int i = 0; i < 20; i++) {
		world_advance(1000);
		SEND("\n");
	}
	assert_int_equal(world.closed, 0);
	world_advance(2990);
	assert_int_equal(world.closed, 0);
	world_advance(20);
	expect_error("message:heart-beat timeout\ncode:HEARTBEAT_TIMEOUT",
			"Nothing was heard for two heart-beat intervals", 1002);
}

static void paused_client_is_not_silent(void **state)
{
	(void)state;
	world_login(V12 "heart-beat:1000,0\n");
	world.hold = 1;
	SEND("SEND\ndestination:/a\n\n\0");
	world_advance(20000);
	assert_int_equal(world.closed, 0);
	world_answer(CHATD_ACCEPT, NULL);
	world_advance(2000);
	assert_int_equal(world.closed, 0);
	world_advance(1500);
	assert_int_equal(world.closed, 1002);
}

static void half_a_frame_times_out(void **state)
{
	(void)state;
	world_login(V12);
	world_advance(60000);
	SEND("SEND\ndestination:/a\ncontent-length:10\n\nabc");
	world_advance(20000);
	SEND("d");
	world_advance(9990);
	assert_int_equal(world.closed, 0);
	world_advance(20);
	expect_error("message:Incomplete frame\ncode:INCOMPLETE_FRAME",
			"The rest of a frame did not come in time", 1002);
}

/* ---- SEND and receipts --------------------------------------------------------------------- */

static void send_drops_what_only_the_server_says(void **state)
{
	(void)state;
	world_login(V12);
	SEND("SEND\ndestination:/topic/a\nmessage-id:x\nsubscription:x\nredelivered:x\nuser-id:x\n"
		 "sender:x\nseq:1\nfoo:b\\car\ncontent-type:text/plain\ncontent-length:2\nreceipt:r\n\nhi\0");
	expect_log("input /topic/a foo=b:ar content-type=text/plain receipt=r #hi\n");
	expect_out("RECEIPT\nreceipt-id:r\n\n^@\n");
}

static void receipts_in_order_of_frames(void **state)
{
	(void)state;
	world_login(V12);
	world.hold = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0BEGIN\ntransaction:t\nreceipt:2\n\n\0");
	expect_out("");
	assert_int_equal(world.paused, 1);
	world.hold = 0;
	world_answer(CHATD_ACCEPT, NULL);
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\nRECEIPT\nreceipt-id:2\n\n^@\n");
	assert_int_equal(world.pauses, 1);
}

static void late_answers_wait_for_earlier_ones(void **state)
{
	(void)state;
	world_login(V12);
	world.go_on = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0SEND\ndestination:/a\nreceipt:2\n\ny\0"
		 "SEND\ndestination:/a\nreceipt:3\n\nz\0BEGIN\ntransaction:t\nreceipt:4\n\n\0");
	assert_int_equal(world.pauses, 0);
	expect_out("");
	world_answer_at(2, CHATD_ACCEPT, NULL);
	expect_out("");
	world_answer_at(0, CHATD_ACCEPT, NULL);
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	world_answer_at(1, CHATD_REJECT, "STORE_BUSY");
	expect_out("RECEIPT\nreceipt-id:3\n\n^@\nRECEIPT\nreceipt-id:4\n\n^@\n");
}

static void a_message_that_was_parked_before_lets_the_next_one_in(void **state)
{
	(void)state;
	world_login(V12);
	world.hold = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0");
	assert_int_equal(world.paused, 1);
	world_proceed();
	assert_int_equal(world.paused, 0);
	world.hold = 0;
	SEND("SEND\ndestination:/a\nreceipt:2\n\ny\0");
	expect_out("");
	world_answer_at(0, CHATD_ACCEPT, NULL);
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\nRECEIPT\nreceipt-id:2\n\n^@\n");
}

static void a_farewell_waits_for_what_was_sent_before(void **state)
{
	(void)state;
	world_login(V12);
	world.go_on = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0DISCONNECT\nreceipt:2\n\n\0"
		 "SEND\ndestination:/a\n\nignored\0");
	expect_log("input /a receipt=1 #x\n");
	assert_int_equal(world.closed, 0);
	world_answer_at(0, CHATD_ACCEPT, NULL);
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\nRECEIPT\nreceipt-id:2\n\n^@\n");
	assert_int_equal(world.closed, 1000);
	expect_log("");
}

static void too_many_unanswered_messages_stop_the_reading(void **state)
{
	(void)state;
	world_login(V12);
	world.go_on = 1;
	for (int i = 0; i < 300; i++) {
		SEND("SEND\ndestination:/a\n\nx\0");
	}
	assert_int_equal(world.n_piped, 256);
	assert_int_equal(world.paused, 1);
	for (size_t i = 0; i < 200; i++) {
		world_answer_at(i, CHATD_ACCEPT, NULL);
	}
	assert_int_equal(world.paused, 0);
	assert_int_equal(world.n_piped, 300);
}

static void a_client_that_leaves_takes_its_unanswered_messages_along(void **state)
{
	(void)state;
	world_login(V12);
	world.go_on = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0SEND\ndestination:/a\nreceipt:2\n\ny\0");
	assert_int_equal(world.n_piped, 2); /* world_end() looks for what leaked */
}

static void refusals_are_soft(void **state)
{
	(void)state;
	world_login(V12);
	world.refuse = "FORBIDDEN";
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0SUBSCRIBE\nid:1\ndestination:/b\nreceipt:2\n\n\0");
	expect_out("");
	expect_log("input /a receipt=1 #x\nsoft error FORBIDDEN for 1\n"
			   "subscribe 1 ack 0 to /b id=1 receipt=2 #\nsoft error FORBIDDEN for 2\n");
	assert_int_equal(world.closed, 0);
}

static void destinations_that_are_none(void **state)
{
	static const char *const bad[] = { "", "a", "topic/a", "/a\\nb" };
	static const char *const wild[] = { "*", "#", "**", ">", "+", "/topic/room/*", "/topic/#",
		"/topic/a.>", "/topic/+/b" };
	char frame[1024];
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		world_login(V12);
		int n = snprintf(frame, sizeof(frame), "SEND\ndestination:%s\n\n", bad[i]);
		world_send(frame, (size_t)n + 1);
		assert_non_null(strstr(world_out(), "message:Invalid destination\n"));
		assert_int_equal(world.closed, 1002);
		world_connect();
	}
	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		world_login(V12);
		int n = snprintf(frame, sizeof(frame), "SUBSCRIBE\nid:1\ndestination:%s\n\n", wild[i]);
		world_send(frame, (size_t)n + 1);
		expect_error("message:Invalid destination\ncode:INVALID_DESTINATION",
				"Wildcards are not supported", 1002);
		world_connect();
	}
	world_login(V12);
	int n = snprintf(frame, sizeof(frame), "SEND\ndestination:/%0512d\n\n", 0);
	world_send(frame, (size_t)n + 1);
	assert_non_null(strstr(world_out(), "message:Invalid destination\n"));
	world_connect();
	world_login(V12);
	SEND("SEND\nreceipt:9\n\n\0");
	expect_error("message:Missing destination\ncode:MISSING_DESTINATION\nreceipt-id:9",
			"Header 'destination' is required", 1002);
	expect_log("");
	world_connect();
	world_login(V12);
	SEND("SEND\ndestination:/topic/c++ #1>0\n\n\0");
	assert_int_equal(world.closed, 0);
}

static void reading_stops_while_receipts_pile_up(void **state)
{
	(void)state;
	world_login(V12);
	world.queued = 200000;
	SEND("BEGIN\ntransaction:a\nreceipt:1\n\n\0BEGIN\ntransaction:b\nreceipt:2\n\n\0");
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	assert_int_equal(world.paused, 1);
	world_advance(300);
	assert_int_equal(world.paused, 1);
	world.queued = 0;
	world_advance(200);
	assert_int_equal(world.paused, 0);
	expect_out("RECEIPT\nreceipt-id:2\n\n^@\n");
}

static void many_frames_take_turns(void **state)
{
	(void)state;
	static const char frame[] = "SEND\ndestination:/a\n\n";
	char *all = malloc(sizeof(frame) * 1000);
	assert_non_null(all);
	world_login(V12);
	for (size_t i = 0; i < 1000; i++) {
		memcpy(all + i * sizeof(frame), frame, sizeof(frame));
	}
	world_send(all, sizeof(frame) * 1000);
	free(all);
	assert_int_equal(world.pauses, 999 / 64);
	size_t inputs = 0;
	for (const char *p = world.log; (p = strstr(p, "input")); p++) {
		inputs++;
	}
	assert_int_equal(inputs, 1000);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE -------------------------------------------------------------------- */

static void subscribe_and_unsubscribe(void **state)
{
	(void)state;
	world_login(V12);
	SEND("SUBSCRIBE\nid:s\ndestination:/a\nack:client-individual\nsince:5\nreceipt:1\n\n\0"
		 "UNSUBSCRIBE\nid:s\nreceipt:2\n\n\0");
	expect_log("subscribe s ack 2 to /a id=s ack=client-individual since=5 receipt=1 #\n"
			   "unsubscribe s\n");
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\nRECEIPT\nreceipt-id:2\n\n^@\n");
}

static void ids_are_needed_from_1_1_on(void **state)
{
	static const char *const frames[] = { "SUBSCRIBE\ndestination:/a\nreceipt:1\n\n",
		"UNSUBSCRIBE\ndestination:/a\nreceipt:1\n\n" };
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		world_login("accept-version:1.1\n");
		world_send(frames[i], strlen(frames[i]) + 1);
		expect_error("message:Missing Header\ncode:MISSING_HEADER\nreceipt-id:1",
				"Header 'id' is required", 1002);
		world_connect();
	}
}

static void ids_are_made_in_1_0(void **state)
{
	(void)state;
	world_login("");
	SEND("SUBSCRIBE\nid:auto-0\ndestination:/x\n\n\0SUBSCRIBE\ndestination:/a\n\n\0"
		 "UNSUBSCRIBE\ndestination:/a\nreceipt:2\n\n\0");
	expect_log("subscribe auto-0 ack 0 to /x id=auto-0 #\nsubscribe auto-1 ack 0 to /a #\n"
			   "unsubscribe auto-0\n");
	expect_out("RECEIPT\nreceipt-id:2\n\n^@\n");
}

static void subscriptions_that_cannot_be(void **state)
{
	static const struct {
		const char *frame, *error, *body;
		int code;
	} rows[] = {
		{ "SUBSCRIBE\nid:s\ndestination:/b\nreceipt:1\n\n",
				"message:Duplicated subscription identifier\ncode:DUPLICATE_SUBSCRIPTION\nreceipt-id:1",
				"A subscription of that id is there already", 1002 },
		{ "UNSUBSCRIBE\nid:t\n\n", "message:Subscription not found\ncode:SUBSCRIPTION_NOT_FOUND",
				"There is no such subscription to end", 1002 },
		{ "SUBSCRIBE\nid:t\ndestination:/b\nack:foo\n\n",
				"message:Invalid header\ncode:INVALID_HEADER",
				"ack is auto, client or client-individual", 1002 },
		{ "SUBSCRIBE\nid:t\ndestination:/b\nselector:T(java.lang.Runtime)\n\n",
				"message:Unsupported header\ncode:UNSUPPORTED_HEADER", "selector is not supported",
				1002 },
		{ "SUBSCRIBE\nid:t\ndestination:/b\n\n",
				"message:Subscription limit exceeded\ncode:SUBSCRIPTION_LIMIT",
				"A session cannot have that many subscriptions", 1008 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(world.subs, 0, sizeof(world.subs));
		world.max_subs = 1;
		world_login(V12);
		SEND("SUBSCRIBE\nid:s\ndestination:/a\n\n\0");
		world_send(rows[i].frame, strlen(rows[i].frame) + 1);
		expect_error(rows[i].error, rows[i].body, rows[i].code);
		world_connect();
	}
}

/* ---- ACK, NACK ------------------------------------------------------------------------------------ */

static void acks_per_version(void **state)
{
	(void)state;
	world_login(V12);
	SEND("ACK\nid:7\nreceipt:1\n\n\0NACK\nid:8\n\n\0");
	expect_log("ack 7 of \nnack 8 of \n");
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	SEND("ACK\nmessage-id:7\nsubscription:s\n\n\0");
	expect_error("message:Missing Header\ncode:MISSING_HEADER", "Header 'id' is required", 1002);
	world_connect();
	world_login("accept-version:1.1\n");
	SEND("ACK\nmessage-id:7\nsubscription:s\n\n\0");
	expect_log("ack 7 of s\n");
	SEND("ACK\nmessage-id:7\n\n\0");
	expect_error("message:Missing Header\ncode:MISSING_HEADER", "Header 'subscription' is required",
			1002);
	world_connect();
	world_login("");
	SEND("ACK\nmessage-id:7\n\n\0ACK\nmessage-id:none\nreceipt:r\n\n\0");
	expect_log("ack 7 of \nack none of \n");
	expect_error("message:Message not found\ncode:MESSAGE_NOT_FOUND\nreceipt-id:r",
			"unknown ack id", 1002);
}

/* ---- transactions --------------------------------------------------------------------------------- */

static void nothing_is_seen_before_commit(void **state)
{
	(void)state;
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/a\ntransaction:t\nreceipt:1\n\n1\0"
		 "SEND\ndestination:/b\n\nnow\0ACK\nid:3\ntransaction:t\n\n\0"
		 "SEND\ndestination:/a\ntransaction:t\n\n2\0");
	expect_log("input /b #now\n");
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	SEND("COMMIT\ntransaction:t\nreceipt:2\n\n\0");
	expect_log("input /a receipt=2 #1\nack 3 of \ninput /a receipt=2 #2\n");
	expect_out("RECEIPT\nreceipt-id:2\n\n^@\n");
}

static void commit_waits_for_each_message(void **state)
{
	(void)state;
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/a\ntransaction:t\n\n1\0"
		 "SEND\ndestination:/a\ntransaction:t\n\n2\0");
	world.hold = 1;
	SEND("COMMIT\ntransaction:t\nreceipt:2\n\n\0BEGIN\ntransaction:t\nreceipt:3\n\n\0");
	expect_log("input /a receipt=2 #1\n");
	world_answer(CHATD_ACCEPT, NULL);
	expect_log("input /a receipt=2 #2\n");
	expect_out("");
	world_answer(CHATD_ACCEPT, NULL);
	expect_out("RECEIPT\nreceipt-id:2\n\n^@\nRECEIPT\nreceipt-id:3\n\n^@\n");
}

static void refused_message_costs_the_commit_its_receipt(void **state)
{
	(void)state;
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/a\ntransaction:t\n\n1\0");
	world.refuse = "FORBIDDEN";
	SEND("COMMIT\ntransaction:t\nreceipt:2\n\n\0");
	expect_log("input /a receipt=2 #1\nsoft error FORBIDDEN for 2\n");
	expect_out("");
}

static void aborted_is_forgotten(void **state)
{
	(void)state;
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/a\ntransaction:t\n\n1\0"
		 "ABORT\ntransaction:t\nreceipt:1\n\n\0");
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	expect_log("");
	SEND("SEND\ndestination:/a\ntransaction:t\n\n1\0");
	expect_error(
			"message:Bad transaction\ncode:BAD_TRANSACTION", "No such transaction is open", 1002);
}

static void transactions_are_bounded(void **state)
{
	char frame[64];
	(void)state;
	world_login(V12);
	for (int i = 0; i < 17; i++) {
		assert_int_equal(world.closed, 0);
		int n = snprintf(frame, sizeof(frame), "BEGIN\ntransaction:%d\n\n", i);
		world_send(frame, (size_t)n + 1);
	}
	expect_error("message:Transaction limit exceeded\ncode:TRANSACTION_LIMIT",
			"At most 16 transactions", 1002);
	world_connect();
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0");
	for (int i = 0; i < 1025; i++) {
		assert_int_equal(world.closed, 0);
		SEND("SEND\ndestination:/a\ntransaction:t\n\n\0");
	}
	assert_non_null(strstr(world_out(), "message:Transaction too large\n"));
	world_connect();
	world.conf.max_transaction = 4096;
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0");
	for (int i = 0; i < 16 && !world.closed; i++) {
		SEND("SEND\ndestination:/a\ntransaction:t\n\n\0");
	}
	assert_int_equal(world.closed, 1002);
	world_connect();
	world_login(V12);
	SEND("BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n\0");
	assert_non_null(strstr(world_out(), "message:Bad transaction\n"));
}

/* ---- the end -------------------------------------------------------------------------------------- */

static void frames_after_disconnect_are_ignored(void **state)
{
	(void)state;
	world_login(V12);
	SEND("DISCONNECT\nreceipt:1\n\n\0SEND\ndestination:/a\n\nx\0FOO\n\n\0");
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	expect_log("");
	assert_int_equal(world.closed, 1000);
	assert_int_equal(world.session_closes, 1);
}

static void the_core_ends_a_connection(void **state)
{
	(void)state;
	world_login(V12);
	stomp_conn_ops.close(world.conn, 4401, "token expired");
	expect_error("message:token expired\ncode:CLOSED", "token expired", 4401);
	assert_string_equal(world.why, "token expired");
	world.session_closes++; /* the core's own doing */
	world_connect();
	world_login(V12);
	stomp_conn_ops.close(world.conn, 1012, "");
	expect_out("");
	assert_int_equal(world.closed, 1012);
	world.session_closes++;
	world_connect();
	world_login(V12);
	stomp_conn_ops.close(world.conn, 1012, "service restart");
	expect_out(""); /* no ERROR: it is no fault of the client's */
	assert_int_equal(world.closed, 1012);
	assert_string_equal(world.why, "service restart");
	world.session_closes++;
}

static void leave(void)
{
	world.codec->leave(world.conn, 1012, "service restart");
	world_run();
}

static void who_is_idle_leaves_at_once(void **state)
{
	(void)state;
	leave(); /* before the login too */
	assert_int_equal(world.closed, 1012);
	world_connect();
	world_login(V12);
	leave();
	expect_out("");
	assert_int_equal(world.closed, 1012);
	assert_string_equal(world.why, "service restart");
	assert_int_equal(world.session_closes, 1);
}

static void who_leaves_gets_the_answers_that_are_due(void **state)
{
	(void)state;
	world_login(V12);
	world.hold = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0");
	leave();
	assert_int_equal(world.closed, 0);
	SEND("SEND\ndestination:/b\nreceipt:2\n\nx\0"); /* is not read any more */
	world_answer(CHATD_ACCEPT, NULL);
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\n");
	expect_log("input /a receipt=1 #x\n");
	assert_int_equal(world.closed, 1012);
}

static void who_leaves_gets_what_was_taken_over_too(void **state)
{
	(void)state;
	world_login(V12);
	world.go_on = 1;
	SEND("SEND\ndestination:/a\nreceipt:1\n\nx\0SEND\ndestination:/b\nreceipt:2\n\ny\0");
	assert_int_equal(world.n_piped, 2);
	leave();
	world_answer_at(1, CHATD_ACCEPT, NULL);
	world_run();
	assert_int_equal(world.closed, 0);
	world_answer_at(0, CHATD_ACCEPT, NULL);
	world_run();
	expect_out("RECEIPT\nreceipt-id:1\n\n^@\nRECEIPT\nreceipt-id:2\n\n^@\n");
	assert_int_equal(world.closed, 1012);
}

static void nobody_logs_in_while_the_server_drains(void **state)
{
	(void)state;
	world.stopping = CHATD_WARNS;
	world_login(V12);
	assert_int_equal(world.closed, 0);
	leave();
	world_connect();
	world.stopping = CHATD_DRAINS;
	SEND("CONNECT\naccept-version:1.2\n\n\0");
	expect_out("");
	assert_int_equal(world.closed, 1012);
}

static void nothing_is_sent_after_an_error(void **state)
{
	(void)state;
	world.hold = 1;
	SEND("CONNECT\naccept-version:1.2\n\n\0");
	struct chatd_outcome o = { .struct_size = sizeof(o), .verdict = CHATD_REJECT, .code = "NO" };
	world.held(world.held_arg, &o);
	expect_out("ERROR\nmessage:Bad CONNECT\ncode:NO\ncontent-type:text/plain\ncontent-length:14\n\n"
			   "Access refused^@\n");
	chatd_buf *b = render_beat();
	assert_int_equal(stomp_conn_ops.send(world.conn, b), 0);
	assert_string_equal(world_show(b), "\n");
	assert_int_equal(world.closed, 0);
	world_run();
	assert_int_equal(world.closed, 1008);
}

static void gone_while_the_core_is_asked(void **state)
{
	(void)state;
	world_login(V12);
	world.hold = 1;
	SEND("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/a\ntransaction:t\n\nx\0"
		 "COMMIT\ntransaction:t\nreceipt:1\n\n\0");
	assert_int_equal(world.paused, 1);
	world.codec->gone(world.conn, 1);
	world.conn = NULL;
	assert_int_equal(world.session_closes, 1);
}

static void every_split_gives_the_same(void **state)
{
	static const char session[] =
			"CONNECT\naccept-version:1.2\n\n\0\nSUBSCRIBE\nid:0\ndestination:/a\nreceipt:1\n\n\0"
			"SEND\ndestination:/a\ncontent-length:3\n\na\0b\0\r\nBEGIN\ntransaction:t\n\n\0"
			"SEND\ndestination:/c\ntransaction:t\n\nx\0COMMIT\ntransaction:t\nreceipt:2\n\n\0";
	char *out = NULL, *log = NULL;
	(void)state;
	for (size_t cut = 0; cut < sizeof(session); cut++) {
		memset(world.subs, 0, sizeof(world.subs));
		world_send(session, cut);
		world_send(session + cut, sizeof(session) - 1 - cut);
		if (!out) {
			log = strdup(world.log);
			out = strdup(world_out());
			assert_non_null(strstr(out, "receipt-id:2"));
		}
		if (cut) {
			assert_string_equal(world_out(), out);
			assert_string_equal(world.log, log);
		}
		world.log[0] = '\0';
		world.codec->gone(world.conn, 1);
		world_connect();
	}
	free(out);
	free(log);
}

/* ---- MESSAGE ----------------------------------------------------------------------------------------- */

static void expect_message(
		uint32_t form, const char *ack, const chatd_msg *m, const char *want, uint32_t want_flags)
{
	uint32_t flags = 99;
	struct chatd_str sub = form == 10 ? CHATD_LIT("a:b") : CHATD_LIT("a\n:b");
	struct chatd_str id = chatd_str_of(ack, ack ? strlen(ack) : 0);
	assert_string_equal(world_show(stomp_conn_ops.render(form, sub, id, m, &flags)), want);
	assert_int_equal(flags, want_flags);
}

static void messages_per_version(void **state)
{
	(void)state;
	chatd_msg *m = world_msg("/topic/a", "hi", 2);
	world_msg_set(m, "content-type", "text/plain");
	world_msg_set(m, "k:\\e\ny", " v:\\\r\n ");
	world_msg_set(m, "receipt", "1");
	world_msg_set(m, "user-id", "eve");
	world_msg_set(m, "message-id", "forged");
	world_msg_set(m, "redelivered", "true");
	expect_message(10, "7", m,
			"MESSAGE\nsubscription:a:b\nmessage-id:id-1\ndestination:/topic/a\n"
			"content-type:text/plain\nk\\c\\e\\ny: v:\\\\r\\n \nredelivered:true\n"
			"content-length:2\n\nhi^@\n",
			0);
	expect_message(11, "7", m,
			"MESSAGE\nsubscription:a\\n\\cb\nmessage-id:id-1\ndestination:/topic/a\n"
			"content-type:text/plain\nk\\c\\\\e\\ny: v\\c\\\\\\r\\n \nredelivered:true\n"
			"content-length:2\n\nhi^@\n",
			0);
	expect_message(12, "7", m,
			"MESSAGE\nsubscription:a\\n\\cb\nmessage-id:id-1\ndestination:/topic/a\nack:7\n"
			"content-type:text/plain\nk\\c\\\\e\\ny: v\\c\\\\\\r\\n \nredelivered:true\n"
			"content-length:2\n\nhi^@\n",
			0);
	world_msg_drop(m);
}

static void bodies_that_are_not_text(void **state)
{
	(void)state;
	chatd_msg *m = world_msg("/a", "\xff\0x", 3);
	expect_message(12, NULL, m,
			"MESSAGE\nsubscription:a\\n\\cb\nmessage-id:id-1\ndestination:/a\ncontent-length:3\n\n"
			"\xff^@\nx^@\n",
			CHATD_WRAP_BINARY);
	world_msg_drop(m);
	m = world_msg("/a", "", 0);
	expect_message(12, NULL, m,
			"MESSAGE\nsubscription:a\\n\\cb\nmessage-id:id-1\ndestination:/a\ncontent-length:0\n\n"
			"^@\n",
			0);
	world_msg_drop(m);
}

static void an_idle_connection_is_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct stomp_conn) <= 250);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
	const struct CMUnitTest tests[] = {
		T(connect_without_version_is_1_0),
		T(connect_of_stock_clients),
		T(late_answers_wait_for_earlier_ones),
		T(a_message_that_was_parked_before_lets_the_next_one_in),
		T(a_farewell_waits_for_what_was_sent_before),
		T(too_many_unanswered_messages_stop_the_reading),
		T(a_client_that_leaves_takes_its_unanswered_messages_along),
		T(highest_common_version_wins),
		T(no_common_version),
		T(replies_go_with_connected),
		T(replies_go_with_the_receipt),
		T(credentials_of_frame_and_request),
		T(refused_login),
		T(who_is_idle_leaves_at_once),
		T(who_leaves_gets_the_answers_that_are_due),
		T(who_leaves_gets_what_was_taken_over_too),
		T(nobody_logs_in_while_the_server_drains),
		T(too_many_logins_say_so_in_the_close_code),
		T(strangers_are_bounded_but_for_those_of_this_machine),
		T(late_refusal_of_a_login),
		T(late_login_goes_on),
		T(frames_before_connect),
		T(second_connect),
		T(large_frame_before_login),
		T(malformed_heart_beats),
		T(no_connect_in_time),
		T(server_beats_as_often_as_asked),
		T(frames_count_as_beats),
		T(shortest_interval_is_bounded),
		T(silent_client_is_closed),
		T(paused_client_is_not_silent),
		T(half_a_frame_times_out),
		T(send_drops_what_only_the_server_says),
		T(receipts_in_order_of_frames),
		T(refusals_are_soft),
		T(destinations_that_are_none),
		T(reading_stops_while_receipts_pile_up),
		T(many_frames_take_turns),
		T(subscribe_and_unsubscribe),
		T(ids_are_needed_from_1_1_on),
		T(ids_are_made_in_1_0),
		T(subscriptions_that_cannot_be),
		T(acks_per_version),
		T(nothing_is_seen_before_commit),
		T(commit_waits_for_each_message),
		T(refused_message_costs_the_commit_its_receipt),
		T(aborted_is_forgotten),
		T(transactions_are_bounded),
		T(frames_after_disconnect_are_ignored),
		T(the_core_ends_a_connection),
		T(nothing_is_sent_after_an_error),
		T(gone_while_the_core_is_asked),
		T(every_split_gives_the_same),
		T(messages_per_version),
		T(bodies_that_are_not_text),
		T(an_idle_connection_is_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
