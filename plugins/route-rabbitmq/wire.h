/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event between nodes as an AMQP message: the envelope in its headers, the body as it is.
 * Pure functions, [any]; nothing of a connection.
 *
 * | AMQP | what |
 * | chatd-v | the version of this format, a number: 1 |
 * | chatd-kind, chatd-key, chatd-to, chatd-topic, chatd-users | of struct chatd_cluster_event;
 *   users are separated by commas |
 * | chatd-from, chatd-epoch, chatd-n | the node, its process, the event's number in there |
 * | chatd-headers | of a STOMP message: lines of name:value, escaped as in STOMP 1.2 |
 * | chatd-time, chatd-sig | when it was published, and its signature: seal.h |
 * | any other | the event's headers |
 * | delivery_mode | 1: ephemeral; then it expires after 5 s |
 *
 * Version 2: several events of one sender in one message: wire_pack.c.
 */
#ifndef ROUTE_RABBITMQ_WIRE_H
#define ROUTE_RABBITMQ_WIRE_H

#include <chatd/cluster.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

enum {
	WIRE_VERSION = 1,
	WIRE_BATCH_VERSION = 2,
	WIRE_USERS = 1000,
	WIRE_HEADERS = 32,
	WIRE_KIND = 32,
	WIRE_KEY = 255,
	WIRE_NAME = 64, /* of a header, a node */
	WIRE_EPOCH = 16,
	WIRE_TOPIC = 4096,
	WIRE_BODY = 1 << 20,
	/* All of the envelope: it must fit into one frame, of 128 KiB. */
	WIRE_ENVELOPE = 120 * 1024,
	WIRE_RKEY = 128, /* a routing key's room */
	WIRE_SPARE = 2,  /* entries for what is known only when it is published */
	WIRE_BATCH_EVENTS = 256,
	WIRE_BATCH_BYTES = 64 * 1024,
};

static inline amqp_bytes_t wire_bytes(struct chatd_str s)
{
	amqp_bytes_t b = { s.n, (void *)(uintptr_t)s.p };
	return b;
}

static inline struct chatd_str wire_str(amqp_bytes_t b)
{
	return chatd_str_of(b.bytes, b.len);
}

/* ---- routing keys -------------------------------------------------------------- */

int wire_is_id(struct chatd_str);   /* [A-Za-z0-9_-]{1,64} */
int wire_is_node(struct chatd_str); /* likewise, and a dot */
void wire_node_key(struct chatd_str node, char ret[WIRE_RKEY]);
void wire_topic_key(struct chatd_str dest, char ret[WIRE_RKEY]);
void wire_sha(struct chatd_str s, char ret[17]); /* the first 16 hex digits of SHA-256 */

/* ---- going out ------------------------------------------------------------------- */

/* What is sent besides the event itself. */
struct wire_sender {
	struct chatd_str node, epoch;
	uint64_t number;
	struct chatd_str message_id, content_type; /* .p NULL: none */
	struct chatd_str lines;                    /* chatd-headers; .p NULL: none */
};

/* One allocation: all that an AMQP message of this event needs, but for the routing key. */
struct wire_out {
	amqp_basic_properties_t props; /* correlation_id is whoever publishes it's own */
	amqp_bytes_t body;
	size_t size;                  /* of the allocation */
	char *text;                   /* behind the entries */
	amqp_table_entry_t entries[]; /* and WIRE_SPARE more than .props say */
};

/* 0; -EINVAL: no event may look like this, *ret_why says what is wrong; -E2BIG: its envelope;
 * -ENOMEM.  To free(). */
chatd_status wire_encode(const struct chatd_cluster_event *, const struct wire_sender *,
		struct wire_out **ret, const char **ret_why);

/* Several in one: each takes so many bytes of the body. */
size_t wire_pack_size(const struct wire_out *);
void wire_pack(const struct wire_out *, char *ret);
struct wire_batch {
	amqp_basic_properties_t props;
	amqp_table_entry_t entries[3 + WIRE_SPARE];
};
/* The head of the message; @p one is any of its events, which are all ephemeral or all not. */
void wire_batch(struct wire_batch *, const struct wire_sender *, const struct wire_out *one);

/* A message's headers as lines: to free(); .p NULL: no memory. */
struct wire_lines {
	char *p;
	size_t n, cap;
	int failed;
};
void wire_line_add(struct wire_lines *, struct chatd_str name, struct chatd_str value);
/* The next line of @p *at, unescaped in place.  1; 0: no more; -EINVAL. */
int wire_line_next(
		char **at, size_t *left, struct chatd_str *ret_name, struct chatd_str *ret_value);

/* ---- coming in ---------------------------------------------------------------------- */

enum wire_verdict {
	WIRE_OK,
	WIRE_FOREIGN, /* of a program that is no chatd */
	WIRE_POISON,
	WIRE_UNKNOWN_VERSION,
	WIRE_BATCH, /* several events; of .e only .from, .flags and .body are there */
};

/* 1: a number that int64_t holds. */
int wire_number(const amqp_field_value_t *, int64_t *ret);

/* Where it came from, for what a foreign program sent. */
struct wire_source {
	struct chatd_str routing_key;
	uint64_t body_size;
};

/* Owns all that it points to, in one allocation; the body is yet to come. */
struct wire_in {
	struct chatd_cluster_event e;
	struct chatd_str epoch, lines, message_id, content_type;
	uint64_t number;
	char *body; /* room for e.body.n bytes */
};

/* @p *ret is to free() unless NULL, which WIRE_OK means: no memory; it is there for WIRE_OK,
 * WIRE_BATCH and WIRE_FOREIGN only. */
enum wire_verdict wire_decode(const amqp_basic_properties_t *, const struct wire_source *,
		struct wire_in **ret, const char **ret_why);

/* The next event of several, body and all, to free(); begin with *at 0.  1; 0: there is no more;
 * -EBADMSG: it is none, and so is what follows; -ENOMEM. */
int wire_unpack(
		const struct wire_in *batch, size_t *at, struct wire_in **ret, const char **ret_why);

#endif
