/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Somebody who may log in to the broker and listens to what nodes tell each other: takes COUNT
 * messages that go by ROUTING-KEY, and publishes them again, as stdin says line by line:
 *
 *   same KEY       as they are
 *   body KEY       with another first byte
 *   unsigned KEY   without the signature
 *
 * On stdout: "ready" once it listens, "taken" once it has them, "done" after each line.
 *
 * usage: amqp-spy PORT ROUTING-KEY COUNT
 */
#include "../../plugins/route-rabbitmq/wire.h"

#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 100 };

static void must(int is, const char *what)
{
	if (!is) {
		fprintf(stderr, "amqp-spy: %s failed\n", what);
		exit(1);
	}
}

static void answered(amqp_connection_state_t c, const char *what)
{
	must(amqp_get_rpc_reply(c).reply_type == AMQP_RESPONSE_NORMAL, what);
}

static void say(const char *what)
{
	puts(what);
	fflush(stdout);
}

static amqp_connection_state_t listen_to(int port, const char *key)
{
	amqp_connection_state_t c = amqp_new_connection();
	amqp_socket_t *s = amqp_tcp_socket_new(c);
	must(amqp_socket_open(s, "127.0.0.1", port) == 0, "connect");
	must(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type ==
					AMQP_RESPONSE_NORMAL,
			"login");
	amqp_channel_open(c, 1);
	answered(c, "channel");
	amqp_queue_declare(c, 1, amqp_cstring_bytes("chat.spy"), 0, 0, 1, 1, amqp_empty_table);
	answered(c, "queue");
	amqp_queue_bind(c, 1, amqp_cstring_bytes("chat.spy"), amqp_cstring_bytes("chat.exchange"),
			amqp_cstring_bytes(key), amqp_empty_table);
	answered(c, "bind");
	amqp_basic_consume(
			c, 1, amqp_cstring_bytes("chat.spy"), amqp_empty_bytes, 0, 1, 1, amqp_empty_table);
	answered(c, "consume");
	return c;
}

static void again(amqp_connection_state_t c, const amqp_message_t *m, const char *how, char *key)
{
	amqp_basic_properties_t p = m->properties;
	amqp_table_entry_t kept[64];
	char *body = malloc(m->body.len + 1);
	memcpy(body, m->body.bytes, m->body.len);
	if (strcmp(how, "body") == 0 && m->body.len) {
		body[0] ^= 1;
	}
	if (strcmp(how, "unsigned") == 0) {
		int n = 0;
		for (int i = 0; i < p.headers.num_entries && n < 64; i++) {
			amqp_bytes_t name = p.headers.entries[i].key;
			if (name.len != 9 || memcmp(name.bytes, "chatd-sig", 9) != 0) {
				kept[n++] = p.headers.entries[i];
			}
		}
		p.headers.entries = kept;
		p.headers.num_entries = n;
	}
	const amqp_bytes_t bytes = { m->body.len, body };
	must(amqp_basic_publish(c, 1, amqp_cstring_bytes("chat.exchange"), amqp_cstring_bytes(key), 0,
				 0, &p, bytes) == 0,
			"publish");
	free(body);
}

int main(int argc, char **argv)
{
	static amqp_envelope_t all[MOST];
	char how[16], key[256];
	must(argc == 4 && atoi(argv[3]) <= MOST, "usage: amqp-spy PORT ROUTING-KEY COUNT");
	amqp_connection_state_t c = listen_to(atoi(argv[1]), argv[2]);
	say("ready");
	int n = atoi(argv[3]);
	for (int i = 0; i < n; i++) {
		must(amqp_consume_message(c, &all[i], NULL, 0).reply_type == AMQP_RESPONSE_NORMAL,
				"consume");
	}
	/* What it publishes itself by that key is not for it. */
	amqp_queue_unbind(c, 1, amqp_cstring_bytes("chat.spy"), amqp_cstring_bytes("chat.exchange"),
			amqp_cstring_bytes(argv[2]), amqp_empty_table);
	say("taken");
	while (scanf("%15s %255s", how, key) == 2) {
		for (int i = 0; i < n; i++) {
			again(c, &all[i].message, how, key);
		}
		say("done");
	}
	for (int i = 0; i < n; i++) {
		amqp_destroy_envelope(&all[i]);
	}
	/* In good order: else the broker drops what its channel has not come to yet. */
	must(amqp_connection_close(c, AMQP_REPLY_SUCCESS).reply_type == AMQP_RESPONSE_NORMAL, "close");
	amqp_destroy_connection(c);
	return 0;
}
