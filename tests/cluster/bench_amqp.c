/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishes with confirms as fast as the library and the broker allow, for comparison: what a
 * loop around amqp_basic_publish() does with the same window, size and headers as the plugin.
 * WINDOW 0: without confirms; the time ends when the broker answers a question asked after them.
 *
 * usage: bench-amqp PORT COUNT SIZE WINDOW ROUTING-KEY
 */
#include "../../plugins/route-rabbitmq/wire.h"

#include <amqp_tcp_socket.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int is, const char *what)
{
	if (!is) {
		fprintf(stderr, "bench-amqp: %s failed\n", what);
		exit(1);
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static amqp_connection_state_t open_link(int port, int confirms)
{
	amqp_connection_state_t c = amqp_new_connection();
	amqp_socket_t *s = amqp_tcp_socket_new(c);
	must(amqp_socket_open(s, "127.0.0.1", port) == 0, "connect");
	must(amqp_login(c, "/", 0, 131072, 10, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type ==
					AMQP_RESPONSE_NORMAL,
			"login");
	amqp_channel_open(c, 1);
	if (confirms) {
		amqp_confirm_select(c, 1);
	}
	must(amqp_get_rpc_reply(c).reply_type == AMQP_RESPONSE_NORMAL, "channel");
	return c;
}

/* How many messages are confirmed by now. */
static uint64_t drain(amqp_connection_state_t c, uint64_t so_far)
{
	struct timeval none = { 0 };
	amqp_frame_t f;
	for (;;) {
		amqp_maybe_release_buffers(c);
		int rc = amqp_simple_wait_frame_noblock(c, &f, &none);
		if (rc == AMQP_STATUS_TIMEOUT) {
			return so_far;
		}
		must(rc == AMQP_STATUS_OK, "read");
		if (f.frame_type == AMQP_FRAME_METHOD && f.payload.method.id == AMQP_BASIC_ACK_METHOD) {
			const amqp_basic_ack_t *a = f.payload.method.decoded;
			so_far = a->multiple || a->delivery_tag > so_far ? a->delivery_tag : so_far;
		}
	}
}

static struct wire_out *message(size_t size)
{
	static char body[WIRE_BODY];
	const struct wire_sender s = {
		.node = CHATD_LIT("bench"), .epoch = CHATD_LIT("0123456789abcdef"), .number = 1
	};
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_TOPIC,
		.kind = CHATD_LIT("topic"),
		.topic = CHATD_LIT("/topic/bench"),
		.key = CHATD_LIT("/topic/bench"),
		.body = { body, size } };
	struct wire_out *o;
	const char *why;
	memset(body, 'x', size);
	must(wire_encode(&e, &s, &o, &why) == 0, "encode");
	o->props.correlation_id = amqp_cstring_bytes("1");
	return o;
}

int main(int argc, char **argv)
{
	must(argc == 6, "usage: bench-amqp PORT COUNT SIZE WINDOW ROUTING-KEY");
	uint64_t count = strtoull(argv[2], NULL, 10), window = strtoull(argv[4], NULL, 10);
	amqp_connection_state_t c = open_link(atoi(argv[1]), window > 0);
	struct wire_out *o = message(strtoull(argv[3], NULL, 10));
	struct pollfd p = { .fd = amqp_get_sockfd(c), .events = POLLIN };
	uint64_t sent = 0, confirmed = 0;
	double begin = now();
	while (confirmed < count) {
		while (sent < count && (sent - confirmed < window || window == 0)) {
			must(amqp_basic_publish(c, 1, amqp_cstring_bytes("chat.exchange"),
						 amqp_cstring_bytes(argv[5]), 1, 0, &o->props, o->body) == 0,
					"publish");
			sent++;
		}
		if (window == 0) {
			amqp_exchange_declare(c, 1, amqp_cstring_bytes("chat.exchange"),
					amqp_cstring_bytes("topic"), 1, 0, 0, 0, amqp_empty_table);
			must(amqp_get_rpc_reply(c).reply_type == AMQP_RESPONSE_NORMAL, "the question");
			break;
		}
		if (!amqp_data_in_buffer(c) && !amqp_frames_enqueued(c)) {
			poll(&p, 1, 1000);
		}
		confirmed = drain(c, confirmed);
	}
	printf("%.0f\n", (double)count / (now() - begin));
	amqp_destroy_connection(c);
	free(o);
	return 0;
}
