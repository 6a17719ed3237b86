/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the load generator's modes share: the options, and the record that becomes the one JSON
 * line on stdout. A mode fills the record; `why` stays NULL while the run is valid.
 */
#ifndef CHATD_BENCH_LOAD_H
#define CHATD_BENCH_LOAD_H

#include "stats.h"
#include "swarm.h"

struct load_opts {
	struct swarm_target to;
	struct stats_group *group; /* whose CPU is read, beside that of `pid` */
	uint32_t groups;
	pid_t pid;            /* of the server, 0 when its CPU and memory are not wanted */
	uint32_t connections; /* subscribers, idle ones, churning at once, or users of `direct` */
	uint32_t publishers;
	uint32_t body;   /* bytes of a SEND's body */
	uint32_t window; /* messages in flight, at most */
	uint32_t burst;  /* messages published at once when the window allows, unpaced */
	uint32_t total;  /* churn: connections at most */
	double rate;     /* fanout: deliveries a second, direct: messages a second; 0 = unpaced */
	double seconds, warm, settle;
	const char *topic; /* where to subscribe */
	const char *room;  /* the chat plugin's room; NULL = plain SEND to the topic */
	bool chat;         /* direct: through /app/chat.send */
	bool one_way;      /* direct: every other one only listens, and nobody hears an echo */
	bool go_on;        /* after a loss: count, and send on */
	uint32_t messages; /* direct: so many, and then no more; 0 = until the time is over */
	bool hold;         /* direct, fanout: begin when a line comes on stdin */
	double rest;       /* seconds between the last SUBSCRIBE and the first message */
};

struct load_result {
	const char *why;                 /* the run is invalid: this is the reason */
	double seconds, publish_seconds; /* until the last delivery; until the last receipt */
	uint64_t sent, deliveries, completed;
	uint64_t lost, disorder, doubled, errors, disconnects;
	uint64_t held_back; /* paced messages that the window delayed: the server is too slow */
	uint64_t bytes_in, reads;
	uint64_t server_cpu, load_cpu; /* ns */
	struct stats_memory before, after, end;
	uint32_t connections;
	struct stats_hist latency; /* ns */
};

void traffic_fanout(const struct load_opts *o, struct load_result *r);
void traffic_direct(const struct load_opts *o, struct load_result *r);
void durable_send(const struct load_opts *o, struct load_result *r);
void durable_resume(const struct load_opts *o, struct load_result *r);
void crowd_idle(const struct load_opts *o, struct load_result *r);
void crowd_churn(const struct load_opts *o, struct load_result *r);

#endif
