/* SPDX-License-Identifier: Apache-2.0 */
#include "words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct node {
	uint32_t fail;  /* the longest end of it that is a beginning, too */
	uint32_t found; /* the first of its words + 1; 0: none ends here */
	uint32_t next;  /* along .fail, the next node where a word ends; 0: none */
	uint32_t depth, parent;
	unsigned char byte;
};

struct word {
	uint32_t id, next; /* next: another one that ends at the same node, + 1 */
};

struct edge { /* to: 0 is none, for nothing leads to the root */
	uint32_t from, to;
	unsigned char byte;
};

struct words {
	struct node *nodes;
	struct word *words;
	struct edge *edges; /* open addressing; twice as many places as nodes at least */
	size_t n_nodes, cap_nodes, n_words, cap_words, cap_edges;
};

static size_t place_of(const struct words *w, uint32_t from, unsigned char byte)
{
	uint64_t x = ((uint64_t)from << 8 | byte) * UINT64_C(0x9e3779b97f4a7c15);
	size_t i = (size_t)(x >> 32) & (w->cap_edges - 1);
	while (w->edges[i].to && (w->edges[i].from != from || w->edges[i].byte != byte)) {
		i = (i + 1) & (w->cap_edges - 1);
	}
	return i;
}

static uint32_t step(const struct words *w, uint32_t from, unsigned char byte)
{
	return w->edges[place_of(w, from, byte)].to;
}

static int grow_edges(struct words *w)
{
	size_t n = w->cap_edges, cap = n ? n * 2 : 256;
	struct edge *old = w->edges, *edges = calloc(cap, sizeof(*edges));
	if (!edges) {
		return -ENOMEM;
	}
	w->edges = edges;
	w->cap_edges = cap;
	for (size_t i = 0; i < n; i++) {
		if (old[i].to) {
			edges[place_of(w, old[i].from, old[i].byte)] = old[i];
		}
	}
	free(old);
	return 0;
}

static int room_for_one(struct words *w)
{
	if (w->n_nodes == w->cap_nodes) {
		size_t cap = w->cap_nodes ? w->cap_nodes * 2 : 128;
		struct node *nodes = realloc(w->nodes, cap * sizeof(*nodes));
		if (!nodes) {
			return -ENOMEM;
		}
		w->nodes = nodes;
		w->cap_nodes = cap;
	}
	return 2 * (w->n_nodes + 1) > w->cap_edges ? grow_edges(w) : 0;
}

struct words *words_create(void)
{
	struct words *w = calloc(1, sizeof(*w));
	if (!w || room_for_one(w) < 0) {
		words_destroy(w);
		return NULL;
	}
	w->nodes[w->n_nodes++] = (struct node){ .fail = 0 };
	return w;
}

void words_destroy(struct words *w)
{
	if (w) {
		free(w->nodes);
		free(w->words);
		free(w->edges);
		free(w);
	}
}

static int add_word(struct words *w, uint32_t node, uint32_t id)
{
	if (w->n_words == w->cap_words) {
		size_t cap = w->cap_words ? w->cap_words * 2 : 64;
		struct word *words = realloc(w->words, cap * sizeof(*words));
		if (!words) {
			return -ENOMEM;
		}
		w->words = words;
		w->cap_words = cap;
	}
	w->words[w->n_words++] = (struct word){ id, w->nodes[node].found };
	w->nodes[node].found = (uint32_t)w->n_words;
	return 0;
}

int words_add(struct words *w, const char *p, size_t n, uint32_t id)
{
	uint32_t at = 0;
	if (n == 0) {
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char byte = (unsigned char)p[i];
		uint32_t to = step(w, at, byte);
		if (!to) {
			int rc = room_for_one(w);
			if (rc < 0) {
				return rc;
			}
			to = (uint32_t)w->n_nodes++;
			w->nodes[to] =
					(struct node){ .depth = w->nodes[at].depth + 1, .parent = at, .byte = byte };
			w->edges[place_of(w, at, byte)] = (struct edge){ at, to, byte };
		}
		at = to;
	}
	return add_word(w, at, id);
}

static uint32_t go(const struct words *w, uint32_t at, unsigned char byte)
{
	uint32_t to = step(w, at, byte);
	while (!to && at) {
		at = w->nodes[at].fail;
		to = step(w, at, byte);
	}
	return to;
}

/* Nodes by depth: what a node fails to is less deep. */
static uint32_t *by_depth(const struct words *w)
{
	uint32_t deepest = 0, *order = malloc(w->n_nodes * sizeof(*order));
	for (size_t i = 0; i < w->n_nodes; i++) {
		deepest = w->nodes[i].depth > deepest ? w->nodes[i].depth : deepest;
	}
	size_t *at = calloc((size_t)deepest + 2, sizeof(*at));
	for (size_t i = 0; order && at && i < w->n_nodes; i++) {
		at[w->nodes[i].depth + 1]++;
	}
	for (size_t d = 0; at && d <= deepest; d++) {
		at[d + 1] += at[d];
	}
	for (size_t i = 0; order && at && i < w->n_nodes; i++) {
		order[at[w->nodes[i].depth]++] = (uint32_t)i;
	}
	if (!at) {
		free(order);
		order = NULL;
	}
	free(at);
	return order;
}

int words_build(struct words *w)
{
	uint32_t *order = by_depth(w);
	if (!order) {
		return -ENOMEM;
	}
	for (size_t i = 1; i < w->n_nodes; i++) {
		struct node *n = &w->nodes[order[i]];
		n->fail = n->parent ? go(w, w->nodes[n->parent].fail, n->byte) : 0;
		n->next = w->nodes[n->fail].found ? n->fail : w->nodes[n->fail].next;
	}
	free(order);
	return 0;
}

void words_scan(const struct words *w, const char *p, size_t n, words_fn *fn, void *arg)
{
	uint32_t at = 0;
	for (size_t i = 0; i < n; i++) {
		at = go(w, at, (unsigned char)p[i]);
		for (uint32_t k = w->nodes[at].found ? at : w->nodes[at].next; k; k = w->nodes[k].next) {
			for (uint32_t f = w->nodes[k].found; f; f = w->words[f - 1].next) {
				fn(arg, w->words[f - 1].id, i + 1, w->nodes[k].depth);
			}
		}
	}
}
