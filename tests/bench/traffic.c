/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modes that carry messages. Every body holds a mark `~#SENDER:NUMBER:TIME~`; each receiver
 * must see the numbers of each sender as 0, 1, 2, … so that a message which is lost, doubled or
 * out of order is seen at once. Both modes are one engine: n senders, each message of which
 * reaches `per_message` receivers.
 */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MARK_LEN = 2 + 5 + 1 + 10 + 1 + 19 + 1, TEXT_MAX = 16384, BURST_MAX = 64 };

#define STUCK_NS 10000000000u

struct sender {
	struct swarm_conn *c;
	char *text; /* its SEND frame, in which only the mark changes */
	size_t len, mark;
	uint32_t number;
};

struct traffic {
	const struct load_opts *o;
	struct load_result *r;
	struct swarm s;
	struct sender *sender;
	uint32_t senders, turn;
	uint32_t per_message;
	bool pairs; /* connection 2i talks with 2i+1, and hears its own echo */
	uint64_t sent, delivered, moved;
	size_t mark_hint; /* where the last mark was: the next is most often there too */
	char *out;
};

static uint64_t digits(const char *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v * 10 + (uint64_t)(p[i] - '0');
	return v;
}

static const char *find_mark(struct traffic *t, struct wire_str body)
{
	const char *p = NULL;

	if (t->mark_hint + MARK_LEN <= body.n && memcmp(body.p + t->mark_hint, "~#", 2) == 0)
		return body.p + t->mark_hint;
	if (body.n >= MARK_LEN)
		p = memmem(body.p, body.n - MARK_LEN + 2, "~#", 2);
	if (p)
		t->mark_hint = (size_t)(p - body.p);
	return p;
}

static void on_message(void *arg, struct swarm_conn *c, const struct wire_stomp *f)
{
	struct traffic *t = arg;
	const char *mark = find_mark(t, f->body);

	if (!mark)
		return; /* news of the room, such as somebody's JOIN */
	uint64_t from = digits(mark + 2, 5);
	uint32_t number = (uint32_t)digits(mark + 8, 10);
	uint64_t sent_at = digits(mark + 19, 19);
	if (from >= t->senders || (t->pairs && from / 2 != c->index / 2)) {
		swarm_complain(&t->s, c, "a message for somebody else", f->body);
		t->s.errors++;
		return;
	}
	uint32_t *next = &c->next[t->pairs ? from & 1 : from];
	if (number > *next)
		t->r->lost += number - *next;
	else if (number < *next)
		t->r->disorder++;
	*next = number + 1;
	t->delivered++;
	if (!t->pairs || from != c->index)
		stats_record(&t->r->latency, wire_now() - sent_at);
}

static void on_nothing(void *arg, struct swarm_conn *c)
{
	(void)arg;
	(void)c;
}

/* Lays out the SEND frame of a sender: the body is `open`, the mark, padding, `close`. */
static void lay_out(struct traffic *t, struct sender *a, const char *destination, const char *open)
{
	const char *close = *open ? "\"}" : "";
	size_t least = strlen(open) + MARK_LEN + strlen(close);
	size_t body = t->o->body > least ? t->o->body : least;
	int n;

	a->text = malloc(TEXT_MAX + body);
	if (!a->text)
		abort();
	n = snprintf(a->text, TEXT_MAX,
			"SEND\ndestination:%s\ncontent-type:%s\ncontent-length:%zu\n\n%s", destination,
			*open ? "application/json" : "text/plain", body, open);
	a->mark = (size_t)n;
	a->len = (size_t)n - strlen(open) + body + 1;
	memset(a->text + n, 'x', body - strlen(open));
	memcpy(a->text + a->len - 1 - strlen(close), close, strlen(close) + 1);
}

static void publish(struct traffic *t, uint32_t count)
{
	struct sender *a = &t->sender[t->turn];
	char mark[MARK_LEN + 1];
	size_t len = 0;

	t->turn = (t->turn + 1) % t->senders;
	for (uint32_t i = 0; i < count; i++) {
		snprintf(mark, sizeof mark, "~#%05u:%010u:%019" PRIu64 "~",
				(unsigned)(a - t->sender) % 100000u, a->number++, wire_now());
		memcpy(a->text + a->mark, mark, MARK_LEN);
		len += wire_client_frame(t->out + len, WIRE_TEXT, a->text, a->len);
	}
	swarm_write(&t->s, a->c, t->out, len);
	t->sent += count;
}

/* Whether that many more may be published. */
static bool room_for(const struct traffic *t, uint32_t count)
{
	uint64_t in_flight = t->sent - t->delivered / t->per_message;

	return in_flight + count <= t->o->window;
}

static uint64_t publish_due(struct traffic *t, uint64_t start, uint64_t *done)
{
	double per_ns = t->o->rate / (t->pairs ? 1 : t->per_message) / 1e9;
	uint64_t due = (uint64_t)((double)(wire_now() - start) * per_ns);

	for (; *done < due; (*done)++) {
		if (!room_for(t, 1)) {
			t->r->held_back++;
			return 1000000;
		}
		publish(t, 1);
	}
	uint64_t at = start + (uint64_t)((double)(*done + 1) / per_ns);
	uint64_t now = wire_now();
	return at > now ? at - now : 0;
}

/* Publishes for so long and then waits until everything has arrived. False: it did not. */
static bool run(struct traffic *t, double seconds)
{
	uint64_t start = wire_now();
	uint64_t end = start + (uint64_t)(seconds * 1e9);
	uint64_t done = 0, seen = t->delivered, moved = start, wait = 0;

	for (;;) {
		uint64_t now = wire_now();
		bool over = now >= end;
		if (t->delivered != seen) {
			seen = t->delivered;
			moved = now;
		}
		if (over && t->delivered >= t->sent * t->per_message)
			return true;
		if (t->s.disconnects + t->s.errors + t->r->lost > 0 ||
				(t->sent > 0 && now - moved > STUCK_NS))
			return false;
		wait = 100000000;
		if (!over && t->o->rate > 0)
			wait = publish_due(t, start, &done);
		while (!over && t->o->rate <= 0 && room_for(t, t->o->burst))
			publish(t, t->o->burst);
		swarm_turn(&t->s, wait);
	}
}

/* A first stretch that is thrown away, so that both programs are warm, then the one that counts. */
static void measure(struct traffic *t)
{
	struct load_result *r = t->r;
	pid_t pid = t->o->pid;

	if (!run(t, t->o->warm)) {
		r->why = "not everything arrived while warming up";
		return;
	}
	memset(&r->latency, 0, sizeof r->latency);
	uint64_t sent = t->sent, delivered = t->delivered, reads = t->s.reads, bytes = t->s.bytes_in;
	uint64_t start = wire_now();
	r->held_back = 0;
	r->before = stats_memory(pid);
	r->load_cpu = stats_cpu(getpid());
	r->server_cpu = stats_cpu(pid);
	if (!run(t, t->o->seconds))
		r->why = "not everything arrived within ten seconds";
	r->server_cpu = stats_cpu(pid) - r->server_cpu;
	r->load_cpu = stats_cpu(getpid()) - r->load_cpu;
	r->seconds = (double)(wire_now() - start) / 1e9;
	r->after = stats_memory(pid);
	r->sent = t->sent - sent;
	r->deliveries = t->delivered - delivered;
	r->reads = t->s.reads - reads;
	r->bytes_in = t->s.bytes_in - bytes;
}

/* Numbers that never came leave no gap behind them: the counts must agree too. */
static void check(struct traffic *t, uint32_t first)
{
	struct load_result *r = t->r;

	for (uint32_t i = first; i < t->s.cap; i++) {
		for (uint32_t k = 0; k < (t->pairs ? 2 : t->senders); k++) {
			const struct sender *a = &t->sender[t->pairs ? (i & ~1u) + k : k];
			if (t->s.conn[i].next[k] < a->number)
				r->lost += a->number - t->s.conn[i].next[k];
		}
	}
	r->errors = t->s.errors;
	r->disconnects = t->s.disconnects;
	if (r->errors + r->disconnects > 0)
		r->why = "the server refused something or closed a connection";
	else if (r->lost > 0)
		r->why = "messages were lost";
	else if (!r->why && t->delivered != t->sent * t->per_message)
		r->why = "messages came twice";
	if (!r->why && r->disorder > 0)
		r->why = "messages came out of order";
}

static void start(struct traffic *t, uint32_t senders, uint32_t connections)
{
	struct swarm_target to = t->o->to;
	size_t out = BURST_MAX * (WIRE_HEAD_MAX + TEXT_MAX + (size_t)t->o->body);

	swarm_init(&t->s, &to, connections);
	t->s.hooks = (struct swarm_hooks){ on_nothing, on_message, on_nothing, NULL, t };
	t->senders = senders;
	t->sender = calloc(senders, sizeof *t->sender);
	t->out = malloc(out);
	if (!t->sender || !t->out)
		abort();
}

static void stop(struct traffic *t)
{
	for (uint32_t i = 0; i < t->senders; i++)
		free(t->sender[i].text);
	free(t->sender);
	free(t->out);
	swarm_finish(&t->s);
}

void traffic_fanout(const struct load_opts *o, struct load_result *r)
{
	struct traffic t = { .o = o, .r = r, .per_message = o->connections };
	struct swarm_role listener = { .topic = o->topic };
	struct swarm_role talker = { .room = o->room, .errors = o->room != NULL };
	char open[256] = "";

	start(&t, o->publishers, o->publishers + o->connections);
	r->connections = o->connections;
	if (o->room)
		snprintf(open, sizeof open, "{\"roomId\":\"%s\",\"content\":\"", o->room);
	for (uint32_t i = 0; i < o->publishers; i++) {
		t.sender[i].c = &t.s.conn[i];
		lay_out(&t, &t.sender[i], o->room ? "/app/chat.send" : o->topic, open);
	}
	if (!swarm_fill(&t.s, 0, o->publishers, &talker) ||
			!swarm_fill(&t.s, o->publishers, o->connections, &listener))
		r->why = "not all connections were made";
	else
		measure(&t);
	check(&t, o->publishers);
	stop(&t);
}

/* Without a chat plugin a topic per pair, heard by both, carries the same two deliveries. */
static bool make_pairs(struct traffic *t, struct swarm_role *role, char (*topic)[256])
{
	const struct load_opts *o = t->o;
	uint32_t n = t->senders;
	char open[256] = "";

	for (uint32_t i = 0; i < n; i += 2) {
		snprintf(topic[i / 2], sizeof topic[0], "%s.%u", o->topic, i / 2);
		role[i / 2] = (struct swarm_role){ .topic = o->chat ? "/user/queue/messages" : topic[i / 2],
			.errors = o->chat };
		if (!swarm_fill(&t->s, i, 2, &role[i / 2]))
			return false;
	}
	for (uint32_t i = 0; i < n; i++) {
		const char *peer = t->s.conn[i ^ 1].user;
		if (o->chat && !peer)
			return false;
		if (o->chat)
			snprintf(open, sizeof open, "{\"to\":\"%s\",\"content\":\"", peer);
		t->sender[i].c = &t->s.conn[i];
		lay_out(t, &t->sender[i], o->chat ? "/app/chat.send" : topic[i / 2], open);
	}
	return true;
}

void traffic_direct(const struct load_opts *o, struct load_result *r)
{
	struct traffic t = { .o = o, .r = r, .per_message = 2, .pairs = true };
	uint32_t n = o->connections & ~1u;
	struct swarm_role *role = calloc(n / 2, sizeof *role);
	char(*topic)[256] = calloc(n / 2, sizeof *topic);

	if (!role || !topic)
		abort();
	start(&t, n, n);
	r->connections = n;
	if (!make_pairs(&t, role, topic))
		r->why = "not all pairs were made";
	else
		measure(&t);
	check(&t, 0);
	stop(&t);
	free(role);
	free(topic);
}
