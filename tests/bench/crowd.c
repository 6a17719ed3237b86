/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modes that carry no messages: many connections that do nothing, so that the server's memory
 * can be read, and many that come and go.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STUCK_NS 60000000000u

struct crowd {
	const struct load_opts *o;
	struct load_result *r;
	struct swarm s;
	struct swarm_role role;
	uint64_t stop_at; /* churn: no connection is begun after this */
	uint64_t begun, left;
};

static void on_ready(void *arg, struct swarm_conn *c)
{
	struct crowd *w = arg;

	if (w->stop_at)
		swarm_leave(&w->s, c);
}

static void begin(struct crowd *w, struct swarm_conn *c)
{
	if (wire_now() >= w->stop_at || w->begun >= w->o->total)
		return;
	w->begun++;
	swarm_open(&w->s, c, &w->role);
}

static void on_left(void *arg, struct swarm_conn *c)
{
	struct crowd *w = arg;

	w->left++;
	begin(w, c);
}

static void on_message(void *arg, struct swarm_conn *c, const struct wire_stomp *f)
{
	(void)arg;
	(void)c;
	(void)f;
}

static void start(struct crowd *w, uint32_t cap)
{
	w->role.topic = w->o->topic;
	swarm_init(&w->s, &w->o->to, cap);
	w->s.hooks = (struct swarm_hooks){ on_ready, on_message, on_left, NULL, w };
}

static void finish(struct crowd *w)
{
	w->r->errors = w->s.errors;
	w->r->disconnects = w->s.disconnects;
	swarm_finish(&w->s);
}

void crowd_idle(const struct load_opts *o, struct load_result *r)
{
	struct crowd w = { .o = o, .r = r };
	/* The first connections make the server touch its code and grow its tables; they stay. */
	uint32_t warm = o->connections / 100 + 1;

	start(&w, o->connections + warm);
	r->connections = o->connections;
	if (!swarm_fill(&w.s, 0, warm, &w.role)) {
		r->why = "not all connections were made";
		finish(&w);
		return;
	}
	swarm_rest(&w.s, o->settle);
	r->before = stats_memory(o->pid);
	uint64_t began = wire_now();
	if (!swarm_fill(&w.s, warm, o->connections, &w.role))
		r->why = "not all connections were made";
	swarm_rest(&w.s, o->settle);
	r->after = stats_memory(o->pid);
	r->server_cpu = stats_cpu(o->pid);
	began = wire_now();
	if (!r->why && o->seconds > 0)
		swarm_rest(&w.s, o->seconds);
	else if (!r->why)
		swarm_hold(&w.s);
	r->server_cpu = stats_cpu(o->pid) - r->server_cpu;
	r->seconds = (double)(wire_now() - began) / 1e9;
	if (!r->why && w.s.ready != o->connections + warm)
		r->why = "the server closed idle connections";
	for (uint32_t i = 0; i < w.s.cap; i++)
		swarm_drop(&w.s, &w.s.conn[i]);
	swarm_rest(&w.s, o->settle);
	r->end = stats_memory(o->pid);
	finish(&w);
}

/* Connections come and go for so long; ends when all have gone. */
static bool churn(struct crowd *w, double seconds)
{
	uint64_t left = w->left, moved = wire_now();

	w->stop_at = moved + (uint64_t)(seconds * 1e9);
	for (uint32_t i = 0; i < w->s.cap; i++)
		begin(w, &w->s.conn[i]);
	while (w->s.opened > 0) {
		swarm_turn(&w->s, 100000000);
		if (w->left != left) {
			left = w->left;
			moved = wire_now();
		} else if (wire_now() - moved > STUCK_NS) {
			return false;
		}
	}
	return w->s.disconnects == 0;
}

void crowd_churn(const struct load_opts *o, struct load_result *r)
{
	struct crowd w = { .o = o, .r = r };

	start(&w, o->connections);
	r->connections = o->connections;
	if (!churn(&w, o->warm))
		r->why = "connections got stuck while warming up";
	uint64_t left = w.left;
	uint64_t began = wire_now();
	r->before = stats_memory(o->pid);
	r->load_cpu = stats_cpu(getpid());
	r->server_cpu = stats_cpu(o->pid);
	for (uint32_t i = 0; i < o->groups; i++)
		stats_group_begin(&o->group[i]);
	if (!r->why && !churn(&w, o->seconds))
		r->why = "connections got stuck or were refused";
	r->server_cpu = stats_cpu(o->pid) - r->server_cpu;
	for (uint32_t i = 0; i < o->groups; i++)
		stats_group_end(&o->group[i]);
	r->load_cpu = stats_cpu(getpid()) - r->load_cpu;
	r->seconds = (double)(wire_now() - began) / 1e9;
	swarm_rest(&w.s, o->settle);
	r->after = stats_memory(o->pid);
	r->completed = w.left - left;
	finish(&w);
}
