/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modes that need a store: many senders that wait for their receipts, and many clients that
 * come back at once. A receipt must name a place (`seq`) that no other receipt names; a client that
 * comes back must get each message once, in its order, before its receipt says that it is whole.
 */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 2048, IN_FLIGHT_MAX = 1024 };

#define STUCK_NS 60000000000u

/* One connection's unanswered messages: a ring, as receipts come in the order of the SENDs. */
struct talker {
	uint64_t *sent_at;
	uint32_t first, n;
	uint64_t number;
};

struct durable {
	const struct load_opts *o;
	struct load_result *r;
	struct swarm s;
	struct talker *talker;
	uint64_t sent, receipts, low, high; /* low..high: the seqs of what was receipted */
	char epoch[64];
	char *out;
	bool stopping;
	/* resume */
	uint64_t since, whole, *got;
};

static uint64_t number_of(struct wire_str s)
{
	uint64_t v = 0;

	for (size_t i = 0; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	return v;
}

static void fault(
		struct durable *d, const struct swarm_conn *c, const char *what, struct wire_str s)
{
	swarm_complain(&d->s, c, what, s);
	d->s.errors++;
}

/* The SEND of one message; content fills the body up to --body bytes. */
static size_t lay_out(struct durable *d, char *frame, const struct swarm_conn *c, uint64_t number)
{
	char body[TEXT_MAX], text[TEXT_MAX];
	uint64_t mix = (number * 100003 + c->index + 1) * UINT64_C(0x9e3779b97f4a7c15);
	int n = snprintf(body, sizeof body,
			"{\"roomId\":\"%s\",\"clientId\":\"%08x-%04x-4000-8000-%06x%06" PRIx64
			"\",\"content\":\"",
			d->o->room, (unsigned)(mix >> 32), (unsigned)(mix >> 16 & 0xffff), c->index, number);
	while (n + 2 < (int)d->o->body && n + 3 < (int)sizeof body) {
		body[n] = n % 7 ? (char)('a' + (n * 5 + (int)number) % 26) : ' ';
		n++;
	}
	memcpy(body + n, "\"}", 2);
	n += 2;
	int len = snprintf(text, sizeof text,
			"SEND\ndestination:/app/chat.send\ncontent-type:application/json\n"
			"receipt:%" PRIu64 "\ncontent-length:%d\n\n%.*s",
			number, n, n, body);
	return wire_client_frame(frame, WIRE_TEXT, text, (size_t)len + 1);
}

static void say(struct durable *d, struct swarm_conn *c, uint32_t count)
{
	struct talker *t = &d->talker[c->index];
	size_t len = 0;

	for (uint32_t i = 0; i < count; i++) {
		t->sent_at[(t->first + t->n++) % IN_FLIGHT_MAX] = wire_now();
		len += lay_out(d, d->out + len, c, t->number++);
	}
	swarm_write(&d->s, c, d->out, len);
	d->sent += count;
}

static void on_receipt(void *arg, struct swarm_conn *c, const struct wire_stomp *f)
{
	struct durable *d = arg;
	struct talker *t = &d->talker[c->index];
	uint64_t seq = number_of(wire_header(f, "seq"));
	struct wire_str epoch = wire_header(f, "epoch");

	if (t->n == 0 || seq == 0 || number_of(wire_header(f, "receipt-id")) != t->number - t->n) {
		fault(d, c, "a receipt out of turn or without seq", f->headers);
		return;
	}
	stats_record(&d->r->latency, wire_now() - t->sent_at[t->first]);
	t->first = (t->first + 1) % IN_FLIGHT_MAX;
	t->n--;
	d->receipts++;
	d->low = !d->low || seq < d->low ? seq : d->low;
	d->high = seq > d->high ? seq : d->high;
	snprintf(d->epoch, sizeof d->epoch, "%.*s", (int)epoch.n, epoch.p);
	if (!d->stopping)
		say(d, c, 1);
}

static void on_nothing(void *arg, struct swarm_conn *c)
{
	(void)arg;
	(void)c;
}

/* Places that were missed are a resume's fault; talkers listen to nothing. */
static void on_message(void *arg, struct swarm_conn *c, const struct wire_stomp *f)
{
	struct durable *d = arg;
	uint64_t seq = number_of(wire_header(f, "seq"));

	if (!d->got || seq == 0)
		return;
	if (seq > d->got[c->index] + 1)
		d->r->lost += seq - d->got[c->index] - 1;
	else if (seq <= d->got[c->index])
		d->r->disorder++;
	d->got[c->index] = seq;
	d->r->deliveries++;
}

/* Turns until `done` reaches `want`. False: nothing moved for a minute, or something broke. */
static bool until(struct durable *d, const uint64_t *done, uint64_t want, uint64_t end)
{
	uint64_t seen = *done, moved = wire_now();

	while (*done < want) {
		uint64_t now = wire_now();
		if (end && now >= end)
			return true;
		if (*done != seen) {
			seen = *done;
			moved = now;
		}
		if (d->s.errors + d->s.disconnects > 0 || now - moved > STUCK_NS)
			return false;
		swarm_turn(&d->s, 10000000);
	}
	return true;
}

static void init(struct durable *d, uint32_t connections)
{
	struct swarm_target to = d->o->to;
	size_t burst = d->o->window < IN_FLIGHT_MAX ? d->o->window : IN_FLIGHT_MAX;

	swarm_init(&d->s, &to, connections);
	d->s.hooks = (struct swarm_hooks){ on_nothing, on_message, on_nothing, on_receipt, d };
	d->talker = calloc(connections, sizeof *d->talker);
	d->out = malloc((burst + 128) * (WIRE_HEAD_MAX + TEXT_MAX));
	if (!d->talker || !d->out)
		abort();
	for (uint32_t i = 0; i < connections; i++) {
		d->talker[i].sent_at = malloc(IN_FLIGHT_MAX * sizeof(uint64_t));
		if (!d->talker[i].sent_at)
			abort();
	}
}

static void finish(struct durable *d)
{
	struct load_result *r = d->r;

	r->errors = d->s.errors;
	r->disconnects = d->s.disconnects;
	if (!r->why && r->lost > 0)
		r->why = "messages were lost";
	if (!r->why && r->disorder > 0)
		r->why = "messages came twice or out of order";
	for (uint32_t i = 0; i < d->s.cap; i++)
		free(d->talker[i].sent_at);
	free(d->talker);
	free(d->out);
	free(d->got);
	swarm_finish(&d->s);
}

static void measure(struct durable *d)
{
	struct load_result *r = d->r;
	pid_t pid = d->o->pid;

	for (uint32_t i = 0; i < d->s.cap; i++)
		say(d, &d->s.conn[i], d->o->window);
	if (!until(d, &d->receipts, UINT64_MAX, wire_now() + (uint64_t)(d->o->warm * 1e9))) {
		r->why = "receipts did not come";
		return;
	}
	memset(&r->latency, 0, sizeof r->latency);
	uint64_t start = wire_now(), receipts = d->receipts;
	r->server_cpu = stats_cpu(pid);
	r->load_cpu = stats_cpu(getpid());
	bool good = until(d, &d->receipts, UINT64_MAX, start + (uint64_t)(d->o->seconds * 1e9));
	r->seconds = (double)(wire_now() - start) / 1e9;
	r->server_cpu = stats_cpu(pid) - r->server_cpu;
	r->load_cpu = stats_cpu(getpid()) - r->load_cpu;
	r->sent = r->completed = d->receipts - receipts;
	d->stopping = true;
	if (!good || !until(d, &d->receipts, d->sent, 0))
		r->why = "receipts did not come";
	else if (d->high - d->low + 1 != d->receipts)
		r->why = "receipts named places twice, or places are missing";
}

void durable_send(const struct load_opts *o, struct load_result *r)
{
	struct durable d = { .o = o, .r = r };
	struct swarm_role talker = { .room = o->room, .errors = true };

	if (o->window > IN_FLIGHT_MAX) {
		r->why = "--window is at most 1024 here";
		return;
	}
	init(&d, o->connections);
	r->connections = o->connections;
	if (!swarm_fill(&d.s, 0, o->connections, &talker))
		r->why = "not all connections were made";
	else
		measure(&d);
	finish(&d);
}

/* ---- resume ------------------------------------------------------------------------------- */

static void on_recovered(void *arg, struct swarm_conn *c, const struct wire_stomp *f)
{
	struct durable *d = arg;

	if (!wire_is(wire_header(f, "recovered"), "true") || d->got[c->index] != d->high)
		fault(d, c, "not whole", f->headers);
	else
		d->whole++;
}

static void come_back(struct durable *d)
{
	struct load_result *r = d->r;
	pid_t pid = d->o->pid;
	uint32_t n = d->s.cap - 1;
	char text[512];

	d->got = malloc(d->s.cap * sizeof *d->got);
	if (!d->got)
		abort();
	for (uint32_t i = 0; i <= n; i++)
		d->got[i] = d->since;
	d->s.hooks.on_receipt = on_recovered;
	snprintf(text, sizeof text,
			"SUBSCRIBE\nid:r\ndestination:/topic/room/%s\nsince:%" PRIu64
			"\nepoch:%s\nreceipt:r\n\n",
			d->o->room, d->since, d->epoch);
	uint64_t start = wire_now();
	r->before = stats_memory(pid);
	r->server_cpu = stats_cpu(pid);
	for (uint32_t i = 1; i <= n; i++)
		swarm_frame(&d->s, &d->s.conn[i], text);
	if (!until(d, &d->whole, n, 0))
		r->why = "not everybody got what was missed";
	r->server_cpu = stats_cpu(pid) - r->server_cpu;
	r->after = stats_memory(pid);
	r->seconds = (double)(wire_now() - start) / 1e9;
	r->completed = d->whole;
}

/* The first connection says --window messages; the others then want all of them at once. */
void durable_resume(const struct load_opts *o, struct load_result *r)
{
	struct durable d = { .o = o, .r = r, .stopping = true };
	struct swarm_role member = { .room = o->room, .errors = true };

	if (o->window > IN_FLIGHT_MAX) {
		r->why = "--window is at most 1024 here";
		return;
	}
	init(&d, o->connections + 1);
	r->connections = o->connections;
	if (!swarm_fill(&d.s, 0, o->connections + 1, &member)) {
		r->why = "not all connections were made";
	} else {
		say(&d, &d.s.conn[0], o->window);
		r->sent = o->window;
		if (until(&d, &d.receipts, o->window, 0)) {
			d.since = d.low - 1;
			come_back(&d);
		} else {
			r->why = "receipts did not come";
		}
	}
	finish(&d);
}
