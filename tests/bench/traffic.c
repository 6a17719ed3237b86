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

#define STUCK_NS 60000000000u

struct sender {
	struct swarm_conn *c;
	char *text; /* its SEND frame, in which only the mark changes */
	size_t len, mark;
	uint32_t number, done;
};

struct traffic {
	const struct load_opts *o;
	struct load_result *r;
	struct swarm s;
	struct sender *sender;
	uint32_t senders, turn;
	uint32_t per_message;
	bool pairs;   /* connection 2i talks with 2i+1, and hears its own echo */
	bool counted; /* the stretch ends with --messages, whose last ones want receipts */
	uint32_t quota, receipts, step;
	uint64_t last; /* the value of `sent` when all has been sent */
	uint64_t receipted_at;
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

/* What a number means, after those that came before. False: it has come already. */
static bool place(struct load_result *r, uint32_t *next, uint64_t *seen, uint32_t number)
{
	if (number >= *next) {
		uint32_t gap = number - *next;
		r->lost += gap;
		*seen = gap >= 63 ? 1 : *seen << (gap + 1) | 1;
		*next = number + 1;
		return true;
	}
	uint32_t back = *next - 1 - number;
	if (back >= 64 || *seen >> back & 1) {
		r->doubled++;
		return false;
	}
	*seen |= UINT64_C(1) << back;
	r->disorder++;
	if (r->lost > 0)
		r->lost--;
	return true;
}

static void on_receipt(void *arg, struct swarm_conn *c, const struct wire_stomp *f)
{
	struct traffic *t = arg;

	(void)c;
	if (wire_is(wire_header(f, "receipt-id"), "last") && ++t->receipts == t->senders / t->step)
		t->receipted_at = wire_now();
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
	if (!place(t->r, next, &c->seen[t->pairs ? from & 1 : from], number))
		return;
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
	a->text = realloc(a->text, a->len);
	if (!a->text)
		abort();
	memset(a->text + n, 'x', body - strlen(open));
	memcpy(a->text + a->len - 1 - strlen(close), close, strlen(close) + 1);
}

/* What it says next, and wants to know that the server has it. */
static size_t with_receipt(char *dst, const struct sender *a)
{
	static const char head[] = "SEND\nreceipt:last\n";
	size_t n = sizeof head - 1 + a->len - 5;
	char *text = malloc(n);

	if (!text)
		abort();
	memcpy(text, head, sizeof head - 1);
	memcpy(text + sizeof head - 1, a->text + 5, a->len - 5);
	n = wire_client_frame(dst, WIRE_TEXT, text, n);
	free(text);
	return n;
}

static void publish(struct traffic *t, uint32_t count)
{
	struct sender *a = &t->sender[t->turn];
	char mark[MARK_LEN + 1];
	size_t len = 0;

	t->turn = (t->turn + t->step) % t->senders;
	if (t->counted && count > t->quota - a->done)
		count = t->quota - a->done;
	for (uint32_t i = 0; i < count; i++) {
		snprintf(mark, sizeof mark, "~#%05u:%010u:%019" PRIu64 "~",
				(unsigned)(a - t->sender) % 100000u, a->number++, wire_now());
		memcpy(a->text + a->mark, mark, MARK_LEN);
		if (t->counted && ++a->done == t->quota)
			len += with_receipt(t->out + len, a);
		else
			len += wire_client_frame(t->out + len, WIRE_TEXT, a->text, a->len);
	}
	swarm_write(&t->s, a->c, t->out, len);
	t->sent += count;
}

/* What has come, or never will: a number after it has come. */
static uint64_t settled(const struct traffic *t)
{
	return t->delivered + (t->o->go_on ? t->r->lost : 0);
}

/* Whether that many more may be published. */
static bool room_for(const struct traffic *t, uint32_t count)
{
	if (t->counted && t->sent >= t->last)
		return false;
	uint64_t in_flight = t->sent - settled(t) / t->per_message;

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
		bool over = t->counted ? t->sent >= t->last : now >= end;
		if (t->delivered != seen) {
			seen = t->delivered;
			moved = now;
		}
		if (over && settled(t) >= t->sent * t->per_message && (!t->counted || t->receipted_at))
			return true;
		if (t->s.disconnects + t->s.errors > 0 || (t->r->lost > 0 && !t->o->go_on))
			return false;
		if (t->sent > 0 && now - moved > STUCK_NS)
			return t->o->go_on && over; /* check() counts what is missing */
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

	if (t->o->hold)
		swarm_hold(&t->s);
	swarm_rest(&t->s, t->o->rest);
	if (!run(t, t->o->warm)) {
		r->why = "not everything arrived while warming up";
		return;
	}
	memset(&r->latency, 0, sizeof r->latency);
	if (t->o->messages) {
		t->counted = true;
		t->quota = t->o->messages / (t->senders / t->step);
		t->quota += t->quota == 0;
		t->last = t->sent + (uint64_t)t->quota * (t->senders / t->step);
	}
	uint64_t sent = t->sent, delivered = t->delivered, reads = t->s.reads, bytes = t->s.bytes_in;
	uint64_t start = wire_now();
	r->held_back = 0;
	r->before = stats_memory(pid);
	r->load_cpu = stats_cpu(getpid());
	for (uint32_t i = 0; i < t->o->groups; i++)
		stats_group_begin(&t->o->group[i]);
	r->server_cpu = stats_cpu(pid);
	if (!run(t, t->o->seconds))
		r->why = "not everything arrived within a minute";
	r->server_cpu = stats_cpu(pid) - r->server_cpu;
	for (uint32_t i = 0; i < t->o->groups; i++)
		stats_group_end(&t->o->group[i]);
	r->load_cpu = stats_cpu(getpid()) - r->load_cpu;
	r->seconds = (double)(wire_now() - start) / 1e9;
	r->after = stats_memory(pid);
	if (t->receipted_at)
		r->publish_seconds = (double)(t->receipted_at - start) / 1e9;
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
		if (t->o->one_way && i % 2 == 0)
			continue;
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
	else if (!r->why && r->doubled > 0)
		r->why = "messages came twice";
	if (!r->why && r->disorder > 0)
		r->why = "messages came out of order";
}

static void start(struct traffic *t, uint32_t senders, uint32_t connections)
{
	struct swarm_target to = t->o->to;
	size_t out = BURST_MAX * (WIRE_HEAD_MAX + TEXT_MAX + (size_t)t->o->body);

	swarm_init(&t->s, &to, connections);
	t->s.hooks = (struct swarm_hooks){ on_nothing, on_message, on_nothing, on_receipt, t };
	t->senders = senders;
	t->step = t->pairs && t->o->one_way ? 2 : 1;
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
	static const struct swarm_role mute, silent = { .errors = true };
	uint32_t n = t->senders;
	char open[256] = "";

	for (uint32_t i = 0; i < n; i += 2) {
		snprintf(topic[i / 2], sizeof topic[0], "%s.%u", o->topic, i / 2);
		role[i / 2] = (struct swarm_role){ .topic = o->chat ? "/user/queue/messages" : topic[i / 2],
			.errors = o->chat };
		t->s.conn[i].role = t->s.conn[i + 1].role = &role[i / 2];
		if (o->one_way)
			t->s.conn[i].role = o->chat ? &silent : &mute;
	}
	if (!swarm_fill(&t->s, 0, n, NULL))
		return false;
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
	struct traffic t = { .o = o, .r = r, .per_message = o->one_way ? 1 : 2, .pairs = true };
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
