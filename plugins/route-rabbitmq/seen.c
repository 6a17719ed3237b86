/* SPDX-License-Identifier: Apache-2.0 */
#include "seen.h"

#include <stdlib.h>
#include <string.h>

enum { NODES = 256, WINDOW = 65536, WORDS = WINDOW / 64 };

struct node {
	char name[64], epoch[16];
	size_t name_n, epoch_n;
	uint64_t top, used;
	uint64_t bits[WORDS];
};

struct seen {
	struct node *nodes[NODES];
	size_t n;
	uint64_t turn;
};

struct seen *seen_create(void)
{
	return calloc(1, sizeof(struct seen));
}

void seen_destroy(struct seen *s)
{
	for (size_t i = 0; s && i < s->n; i++) {
		free(s->nodes[i]);
	}
	free(s);
}

/* A new one, or in place of that which was silent for longest: names are not ours to trust. */
static struct node *node_add(struct seen *s)
{
	if (s->n < NODES) {
		struct node *n = calloc(1, sizeof(*n));
		if (n) {
			s->nodes[s->n++] = n;
		}
		return n;
	}
	struct node *oldest = s->nodes[0];
	for (size_t i = 1; i < s->n; i++) {
		if (s->nodes[i]->used < oldest->used) {
			oldest = s->nodes[i];
		}
	}
	return oldest;
}

static int is_of(const struct node *n, struct chatd_str name, struct chatd_str epoch)
{
	return n->name_n == name.n && n->epoch_n == epoch.n && memcmp(n->name, name.p, name.n) == 0 &&
			memcmp(n->epoch, epoch.p, epoch.n) == 0;
}

/* A process that has ended keeps its window: what it sent may come once more. */
static struct node *node_of(struct seen *s, struct chatd_str name, struct chatd_str epoch)
{
	for (size_t i = 0; i < s->n; i++) {
		if (is_of(s->nodes[i], name, epoch)) {
			return s->nodes[i];
		}
	}
	struct node *n = node_add(s);
	if (n) {
		memset(n, 0, sizeof(*n));
		memcpy(n->name, name.p, name.n);
		memcpy(n->epoch, epoch.p, epoch.n);
		n->name_n = name.n;
		n->epoch_n = epoch.n;
	}
	return n;
}

static void advance(struct node *n, uint64_t number)
{
	if (number - n->top >= WINDOW) {
		memset(n->bits, 0, sizeof(n->bits));
	} else {
		for (uint64_t i = n->top + 1; i <= number; i++) {
			n->bits[i / 64 % WORDS] &= ~((uint64_t)1 << i % 64);
		}
	}
	n->top = number;
}

int seen_before(struct seen *s, const struct seen_event *e)
{
	uint64_t number = e->number;
	struct node *n = e->node.n <= sizeof(n->name) && e->epoch.n <= sizeof(n->epoch)
			? node_of(s, e->node, e->epoch)
			: NULL;
	if (!n) {
		return 0;
	}
	n->used = ++s->turn;
	if (number > n->top) {
		advance(n, number);
	} else if (n->top - number >= WINDOW) {
		return e->strict;
	}
	uint64_t *word = &n->bits[number / 64 % WORDS], bit = (uint64_t)1 << number % 64;
	int was = (*word & bit) != 0;
	*word |= bit;
	return was;
}
