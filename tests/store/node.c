/* SPDX-License-Identifier: Apache-2.0 */
/* A node of a cluster, as far as its store goes: for tests that take the database away from it.
 *   store_node PLUGIN.so append NODE FIRST IN_FLIGHT [OPTION=VALUE]...
 *     appends messages to rooms and direct conversations until its input ends, each until it is
 *     acknowledged, as a client would; says of each "ack NUMBER SEQ POS BEFORE_A BEFORE_B REPEATED
 *     TRIES", and "state N" when the store's state changes; at last "end".
 *   store_node PLUGIN.so watch NODE [OPTION=VALUE]...
 *     asks what has changed, and says "row POS SEQ CONV" of each row that it sees.
 *   store_node PLUGIN.so ask NODE [OPTION=VALUE]...
 *     opens the store and says "open RC", the log, and of the room c0 "top SEQ EPOCH" and, of its
 *     newest message in the history, "page SEQ". */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CONVS = 8, PEOPLE = 4 };

struct node {
	struct host *h;
	const char *name;
	int in_flight, state;
};
struct shot {
	struct node *node;
	int number, tries;
};

static struct chatd_str str(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static int input_ended(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };
	return poll(&p, 1, 0) > 0;
}

static void shoot(struct shot *s);

static void on_append(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct shot *s = arg;
	s->node->in_flight--;
	if (rc == -EBUSY || rc == -EAGAIN || rc == -EIO) {
		struct timespec t = { 0, 2000000 };
		nanosleep(&t, NULL);
		shoot(s);
		return;
	}
	if (rc < 0) {
		printf("wrong %d %d\n%s", s->number, rc, host_log());
		exit(1);
	}
	printf("ack %d %lld %lld %lld %lld %d %d\n", s->number, (long long)a->seq, (long long)a->pos,
			(long long)a->before_a, (long long)a->before_b, a->repeated, s->tries);
	free(s);
}

/* Half of them to rooms, half to direct conversations of few people. */
static struct chatd_store_conv conv_of(int number, char text[3][16])
{
	struct chatd_store_conv c = { 0 };
	unsigned r = (unsigned)number * 2654435761u >> 8;
	if (r % 2) {
		snprintf(text[0], 16, "c%u", r / 2 % CONVS);
		c.room = str(text[0]);
	} else {
		snprintf(text[1], 16, "p%u", r / 2 % PEOPLE);
		snprintf(text[2], 16, "p%u", r / 8 % PEOPLE);
		c.a = str(text[1]);
		c.b = str(text[2]);
	}
	return c;
}

static void shoot(struct shot *s)
{
	struct node *node = s->node;
	char text[3][16], id[64], client_id[64];
	s->tries++;
	snprintf(id, sizeof(id), "%s-%d-%d", node->name, s->number, s->tries);
	snprintf(client_id, sizeof(client_id), "%d", s->number);
	struct chatd_store_append r = { .struct_size = sizeof(r),
		.conv = conv_of(s->number, text),
		.id = str(id),
		.sender = str(node->name),
		.client_id = str(client_id),
		.hash = str(client_id),
		.body = CHATD_LIT("{\"content\":\"some words that are stored\"}"),
		.text = CHATD_LIT("some words that are stored"),
		.wall = host_wall() };
	if (node->h->vt->append(node->h->obj, &node->h->workers[0], &r, on_append, s) < 0) {
		exit(2);
	}
	node->in_flight++;
}

static void say_state(struct node *node)
{
	int state = node->h->vt->state(node->h->obj);
	if (state != node->state) {
		printf("state %d\n", state);
	}
	node->state = state;
	fflush(stdout);
}

static void append_all(struct node *node, int number, int want)
{
	while (!input_ended()) {
		while (node->in_flight < want) {
			struct shot *s = calloc(1, sizeof(*s));
			*s = (struct shot){ .node = node, .number = number };
			number++;
			shoot(s);
		}
		host_turn(&node->h->workers[0], 50);
		say_state(node);
	}
	while (node->in_flight > 0) {
		host_turn(&node->h->workers[0], 50);
		say_state(node);
	}
	printf("end\n");
}

/* ---- watching ------------------------------------------------------------------- */

struct seen {
	struct chatd_store_conv conv;
	char text[3][80];
};

static int take_changed(struct host *h, int64_t *after, struct seen *seen, int max)
{
	struct chatd_store_changed r = { .struct_size = sizeof(r), .limit = max, .after_pos = *after };
	struct kept *k = ASK(h, changed, r);
	int n = 0;
	for (; k->rc == 0 && n < (int)k->a.n_changed; n++) {
		const struct chatd_store_conv *c = &k->a.changed[n].conv;
		snprintf(seen[n].text[0], 80, "%.*s", (int)c->room.n, c->room.p ? c->room.p : "");
		snprintf(seen[n].text[1], 80, "%.*s", (int)c->a.n, c->a.p ? c->a.p : "");
		snprintf(seen[n].text[2], 80, "%.*s", (int)c->b.n, c->b.p ? c->b.p : "");
		seen[n].conv = (struct chatd_store_conv){ 0 };
		if (c->room.p) {
			seen[n].conv.room = str(seen[n].text[0]);
		} else {
			seen[n].conv.a = str(seen[n].text[1]);
			seen[n].conv.b = str(seen[n].text[2]);
		}
		*after = k->a.changed[n].pos;
	}
	return n;
}

static void watch_all(struct host *h)
{
	static struct seen seen[64];
	int64_t after = 0;
	for (int ended = 0; !ended;) {
		int64_t from = after;
		ended = input_ended();
		int n = take_changed(h, &after, seen, 64);
		for (int i = 0; i < n; i++) {
			struct chatd_store_replay r = { .struct_size = sizeof(r),
				.conv = seen[i].conv,
				.since = -1,
				.after_pos = from,
				.max = 10000 };
			struct kept *k = ASK(h, replay, r);
			for (size_t m = 0; m < k->a.n_messages; m++) {
				const struct chatd_store_message *row = &k->a.messages[m];
				if (row->pos <= after) {
					printf("row %lld %lld %s/%s/%s\n", (long long)row->pos, (long long)row->seq,
							seen[i].text[0], seen[i].text[1], seen[i].text[2]);
				}
			}
		}
		ended = ended && n == 0;
		answers_free();
		fflush(stdout);
		usleep(5000);
	}
	printf("end\n");
}

static void ask(struct host *h)
{
	printf("open %d\n%s", h->rc, host_log());
	if (h->rc == 0) {
		struct chatd_store_conv_key r = { .struct_size = sizeof(r),
			.conv = { .room = CHATD_LIT("c0") } };
		struct kept *k = ASK(h, top, r);
		printf("top %lld %.*s\n", (long long)k->a.seq, (int)k->a.epoch.n, k->a.epoch.p);
		struct chatd_store_page page = {
			.struct_size = sizeof(page), .conv = r.conv, .limit = 1, .after = -1
		};
		k = ASK(h, page, page);
		int is_dark = k->a.n_messages && k->a.messages[0].flags & CHATD_STORE_UNREADABLE;
		printf("page %lld%s\n",
				k->a.n_messages ? (long long)k->a.messages[0].seq : (long long)k->rc,
				is_dark ? " unreadable" : "");
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[2] : "";
	int append = strcmp(what, "append") == 0;
	if (argc < (append ? 6 : 4)) {
		fprintf(stderr,
				"usage: store_node PLUGIN.so append|watch|ask NODE ... [OPTION=VALUE]...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOFBF, 65536);
	host_set_node(argv[3]);
	struct node node = { .name = argv[3],
		.h = host_open(argv[1], "/tmp", (const char *const *)(void *)(argv + (append ? 6 : 4))) };
	if (strcmp(what, "ask") == 0) {
		ask(node.h);
	} else if (node.h->rc < 0) {
		printf("open %d\n%s", node.h->rc, host_log());
	} else if (append) {
		append_all(&node, atoi(argv[4]), atoi(argv[5]));
	} else {
		watch_all(node.h);
	}
	fflush(stdout);
	fprintf(stderr, "%s", host_log());
	host_close(node.h);
	return 0;
}
