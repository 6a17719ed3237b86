/* SPDX-License-Identifier: Apache-2.0 */
/* The sequencer under random interleavings: a store gives the numbers, plugins/chat/order.c says
 * which row may be published now, and whoever listens hears 1, 2, 3 ... of every conversation.
 * usage: test_sequencer PLUGIN.so
 *
 * Each round is made of its seed alone.  When one fails it is cut to the fewest steps that still
 * fail, and told as  CHATD_SEED=n CHATD_STEPS=n, which run just that. */
#include "../../plugins/chat/order.h"
#include "suite.h"

#include <time.h>

enum { CONVS = 5, WORKERS = 4, STEPS = 150, ROWS_MAX = 4 * STEPS + 64, EVENTS_MAX = 8 * ROWS_MAX };

enum what { APPENDED, ROW, ROWS };

/* An answer of the store that its worker has not looked at yet. */
struct event {
	enum what what;
	int conv, lost;
	chatd_status rc;
	int64_t seq, first, n; /* ROWS: first .. first + n - 1 */
};

struct conv {
	char name[32];
	uint64_t hash;
	int home;
	int64_t top, heard;
	int64_t due; /* the newest one that the running read must bring */
	int filling;
};

/* One append, until it is answered. */
struct shot {
	struct round *r;
	int conv, lost;
	chatd_status want;
	int64_t repeats; /* the seq that must come again; 0: a new row */
	char id[48];
};

struct queue {
	struct event e[EVENTS_MAX];
	size_t first, n;
};

struct round {
	uint32_t seed, state;
	int64_t outstanding, number;
	struct conv conv[CONVS];
	struct queue appends[WORKERS], reads;
	struct order *order[WORKERS];
	struct { /* those that were told "busy", and are asked for later */
		int conv;
		char id[48];
	} doubt[ROWS_MAX];
	size_t n_doubts;
	char why[256];
};

static uint32_t roll(struct round *r, uint32_t n)
{
	r->state = r->state * 1664525u + 1013904223u;
	return (r->state >> 8) % n;
}

#define WRONG(r, ...)                                          \
	do {                                                       \
		if (!(r)->why[0]) {                                    \
			snprintf((r)->why, sizeof((r)->why), __VA_ARGS__); \
		}                                                      \
	} while (0)

static void put(struct queue *q, struct event e)
{
	assert_true(q->n < EVENTS_MAX);
	q->e[q->n++] = e;
}

/* Everything that was asked is answered, though nobody has looked at it. */
static void settle(struct round *r)
{
	while (r->outstanding > 0) {
		int any = 0;
		for (int i = 0; i < WORKERS; i++) {
			any |= host_turn(&h->workers[i], 0);
		}
		if (!any) {
			usleep(50);
		}
	}
}

/* ---- asking the store ------------------------------------------------------------ */

static void on_appended(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct shot *s = arg;
	struct round *r = s->r;
	struct conv *c = &r->conv[s->conv];
	r->outstanding--;
	if (rc != s->want) {
		WRONG(r, "an append was answered %d, not %d", rc, s->want);
	} else if (rc == 0 && s->repeats) {
		if (!a->repeated || a->seq != s->repeats) {
			WRONG(r, "a repeat got %lld, not %lld", (long long)a->seq, (long long)s->repeats);
		}
	} else if (rc == 0) {
		if (a->seq != ++c->top || a->repeated) {
			WRONG(r, "the store gave %lld, not %lld", (long long)a->seq, (long long)c->top);
		}
		put(&r->appends[c->home],
				(struct event){ APPENDED, .conv = s->conv, .lost = s->lost, .seq = a->seq });
		if (s->lost) {
			r->doubt[r->n_doubts].conv = s->conv;
			snprintf(r->doubt[r->n_doubts++].id, sizeof(s->id), "%s", s->id);
		}
	}
	free(s);
}

/* The clientId of a row is its seq, which is not known before: so repeats are of settled rows. */
static void append(struct round *r, int conv, int kind)
{
	struct conv *c = &r->conv[conv];
	char client_id[32];
	struct shot *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	int64_t number = ++r->number;
	s->r = r;
	s->conv = conv;
	s->lost = kind == 0 && roll(r, 5) == 0;
	snprintf(s->id, sizeof(s->id), "%u-%lld", r->seed, (long long)number);
	snprintf(client_id, sizeof(client_id), "%u-%lld", r->seed, (long long)number);
	struct chatd_store_append a = { SZ(chatd_store_append), .conv = conv_of(c->name),
		.id = z(s->id), .sender = S("ann"), .client_id = z(client_id), .hash = S("same"),
		.body = S("{}"), .text = S("word"), .wall = WALL };
	if (kind == 1) { /* said again */
		a.client_id = z(c->name);
		s->repeats = 1;
	} else if (kind == 2) { /* something else with a clientId that was used */
		a.client_id = z(c->name);
		a.hash = S("other");
		s->want = -EEXIST;
	} else if (kind == 3) { /* fails when it has written already */
		a.id = z(c->name);
		s->want = -EEXIST;
	} else if (kind == 4) {
		a.sender = S("not an id");
		s->want = -EINVAL;
	}
	r->outstanding++;
	assert_int_equal(h->vt->append(h->obj, &h->workers[c->home], &a, on_appended, s), 0);
}

static void on_read(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct shot *s = arg;
	struct round *r = s->r;
	r->outstanding--;
	struct event e = { s->id[0] ? ROW : ROWS, .conv = s->conv, .rc = rc };
	if (rc == 0 && a->n_messages) {
		e.seq = e.first = a->messages[0].seq;
		e.n = (int64_t)a->n_messages;
	}
	if (rc < 0 || (e.what == ROWS && !a->whole)) {
		WRONG(r, "rows that were stored cannot be read: %d", rc);
	}
	for (size_t i = 1; rc == 0 && i < a->n_messages; i++) {
		if (a->messages[i].seq != e.first + (int64_t)i) {
			WRONG(r, "a replay has a hole");
		}
	}
	if (e.what == ROWS && roll(r, 8) == 0) {
		e.rc = -EAGAIN; /* as if it had failed: it is asked again */
	}
	put(&r->reads, e);
	free(s);
}

/* @p id: one row; NULL: those that are missing. */
static void read_rows(struct round *r, int conv, const char *id)
{
	struct conv *c = &r->conv[conv];
	struct shot *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	settle(r);
	*s = (struct shot){ .r = r, .conv = conv };
	r->outstanding++;
	if (id) {
		snprintf(s->id, sizeof(s->id), "%s", id);
		struct chatd_store_message_key key = { SZ(chatd_store_message_key), .id = z(id) };
		assert_int_equal(h->vt->message(h->obj, &h->workers[c->home], &key, on_read, s), 0);
	} else {
		struct chatd_store_replay all = { SZ(chatd_store_replay), .conv = conv_of(c->name),
			.max = 1000, .since = order_last(r->order[c->home], c->hash) };
		assert_int_equal(h->vt->replay(h->obj, &h->workers[c->home], &all, on_read, s), 0);
	}
	settle(r);
}

/* ---- publishing, as plugins/chat/log.c does ----------------------------------------- */

static int give(struct round *r, struct conv *c, int64_t seq)
{
	if (roll(r, 16) == 0) {
		return -1; /* no memory */
	}
	if (seq != c->heard + 1) {
		WRONG(r, "%s: %lld is heard after %lld", c->name, (long long)seq, (long long)c->heard);
	}
	c->heard = seq;
	return 0;
}

static void publish(struct round *r, int conv, int64_t seq)
{
	struct conv *c = &r->conv[conv];
	struct order *o = r->order[c->home];
	switch (order_take(o, c->hash, seq)) {
	case ORDER_PUBLISH:
		/* Nothing can be missing before the first row of all, so that one is not lost here. */
		if (seq == 1) {
			c->heard = 1;
		} else if (give(r, c, seq) < 0) {
			order_failed(o, c->hash, seq);
		}
		break;
	case ORDER_FILL:
		if (c->filling || seq <= c->heard + 1) {
			WRONG(r, "a hole is read where none is, or twice");
		}
		c->filling = 1;
		c->due = seq;
		read_rows(r, conv, NULL);
		break;
	case ORDER_WAIT:
		c->due = seq > c->due ? seq : c->due;
		break;
	default:
		if (seq > c->heard) {
			WRONG(r, "%s: %lld is left out", c->name, (long long)seq);
		}
		break;
	}
}

static void take_rows(struct round *r, const struct event *e)
{
	struct conv *c = &r->conv[e->conv];
	struct order *o = r->order[c->home];
	int more = e->rc < 0;
	for (int64_t seq = e->first; !more && seq < e->first + e->n; seq++) {
		if (seq > order_last(o, c->hash)) {
			if (give(r, c, seq) < 0) {
				more = 1;
			} else if (!order_filled(o, c->hash, seq)) {
				c->filling = 0;
				if (c->heard < c->due) {
					WRONG(r, "%s: %lld came while a hole was read, and is forgotten", c->name,
							(long long)c->due);
				}
				return;
			}
		}
	}
	read_rows(r, e->conv, NULL);
}

/* ---- a round ------------------------------------------------------------------------- */

static int look(struct round *r, struct queue *q)
{
	if (q->first == q->n) {
		return 0;
	}
	struct event e = q->e[q->first++];
	if (e.what == ROWS) {
		take_rows(r, &e);
	} else if (!e.lost) {
		publish(r, e.conv, e.seq);
	}
	return 1;
}

static void ask_for_doubtful(struct round *r)
{
	if (r->n_doubts) {
		size_t at = roll(r, (uint32_t)r->n_doubts);
		char id[48];
		int conv = r->doubt[at].conv;
		snprintf(id, sizeof(id), "%s", r->doubt[at].id);
		if (roll(r, 2)) { /* else it is asked for again */
			r->doubt[at] = r->doubt[--r->n_doubts];
		}
		read_rows(r, conv, id);
	}
}

static void step(struct round *r)
{
	uint32_t what = roll(r, 20);
	if (what < 9) {
		for (uint32_t i = roll(r, 4) + 1; i > 0; i--) {
			uint32_t kind = roll(r, 12);
			append(r, (int)roll(r, CONVS), kind < 5 ? (int)kind : 0);
		}
		settle(r);
	} else if (what < 16) {
		look(r, &r->appends[roll(r, WORKERS)]);
	} else if (what < 19) {
		look(r, &r->reads);
	} else {
		ask_for_doubtful(r);
	}
}

static void drain(struct round *r)
{
	int more = 1;
	while (more && !r->why[0]) {
		more = look(r, &r->reads);
		for (int i = 0; i < WORKERS; i++) {
			more |= look(r, &r->appends[i]);
		}
	}
}

/* Whatever was lost: with the next row of its conversation it comes. */
static void finish(struct round *r)
{
	drain(r);
	for (int i = 0; i < CONVS && !r->why[0]; i++) {
		struct conv *c = &r->conv[i];
		for (int tries = 0; tries < 100 && (tries == 0 || c->heard < c->top); tries++) {
			append(r, i, 0);
			settle(r);
			drain(r);
		}
		if (c->heard != c->top) {
			WRONG(r, "%s: heard up to %lld of %lld", c->name, (long long)c->heard,
					(long long)c->top);
		}
	}
}

static void begin(struct round *r)
{
	for (int i = 0; i < CONVS; i++) {
		struct conv *c = &r->conv[i];
		snprintf(c->name, sizeof(c->name), "r%u-%lld-%d", r->seed, (long long)r->number, i);
		c->hash = (uint64_t)i + 1; /* a slot of its own */
		c->home = (int)roll(r, WORKERS);
		/* The first row: its id and clientId are the conversation's name. */
		struct chatd_store_append a = { SZ(chatd_store_append), .conv = conv_of(c->name),
			.id = z(c->name), .sender = S("ann"), .client_id = z(c->name), .hash = S("same"),
			.body = S("{}"), .wall = WALL };
		struct kept *k = ASK(h, append, a);
		assert_int_equal(k->rc, 0);
		assert_int_equal(k->a.seq, 1);
		c->top = 1;
		publish(r, i, 1);
	}
}

/* What went wrong, or "" */
static void run_round(uint32_t seed, int steps, char why[256])
{
	static int64_t rounds; /* names that were not used before, also when a seed is run again */
	struct round *r = calloc(1, sizeof(*r));
	assert_non_null(r);
	r->seed = r->state = seed;
	r->number = ++rounds * 100000;
	for (int i = 0; i < WORKERS; i++) {
		r->order[i] = calloc(1, sizeof(struct order));
		assert_non_null(r->order[i]);
	}
	begin(r);
	for (int i = 0; i < steps && !r->why[0]; i++) {
		step(r);
	}
	finish(r);
	settle(r);
	memcpy(why, r->why, sizeof(r->why));
	for (int i = 0; i < WORKERS; i++) {
		free(r->order[i]);
	}
	free(r);
	answers_free();
}

static void fail_round(uint32_t seed, int steps)
{
	char why[256], least[256];
	int n = 0;
	run_round(seed, steps, least);
	do {
		run_round(seed, n, why);
	} while (!why[0] && ++n < steps);
	fail_msg("CHATD_SEED=%u CHATD_STEPS=%d: %s", seed, n, why[0] ? why : least);
}

static long number_from(const char *name, long otherwise)
{
	const char *text = getenv(name);
	return text ? strtol(text, NULL, 10) : otherwise;
}

static void everybody_hears_one_row_after_the_other(void **state)
{
	char why[256];
	int on_disk = strstr(h->plugin->name, "sqlite") != NULL;
	long seed = number_from("CHATD_SEED", 0), steps = number_from("CHATD_STEPS", STEPS);
	long rounds = seed ? 1 : number_from("CHATD_ROUNDS", on_disk ? 30 : 150);
	(void)state;
	if (steps < 0 || steps > STEPS) {
		fail_msg("CHATD_STEPS is %ld; 0 to %d are allowed", steps, STEPS);
	}
	seed = seed ? seed : (long)(time(NULL) % 1000000) * 1000 + 1;
	printf("# seeds %ld to %ld\n", seed, seed + rounds - 1);
	for (long i = 0; i < rounds; i++) {
		run_round((uint32_t)(seed + i), (int)steps, why);
		if (why[0]) {
			fail_round((uint32_t)(seed + i), (int)steps);
		}
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(everybody_hears_one_row_after_the_other) };
	return suite_args(argc, argv) ? cmocka_run_group_tests(tests, NULL, NULL) : 2;
}
