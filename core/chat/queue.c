/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/queue.h"

#include <errno.h>
#include <stdlib.h>

struct item {
	struct item *next;
	uint64_t place;
	chatd_msg *msg;
};

struct queue {
	struct item *head, **tail;
	int64_t n, bytes, max_messages, max_bytes;
	uint64_t last_place;
	struct consumer *consumers;
	size_t n_consumers, cap, turn;
};

struct queue *queue_create(int64_t max_messages, int64_t max_bytes)
{
	struct queue *q = calloc(1, sizeof(*q));
	if (q) {
		q->tail = &q->head;
		q->max_messages = max_messages;
		q->max_bytes = max_bytes;
	}
	return q;
}

void queue_destroy(struct queue *q)
{
	if (!q) {
		return;
	}
	while (q->head) {
		struct item *next = q->head->next;
		msg_unref(q->head->msg);
		free(q->head);
		q->head = next;
	}
	free(q->consumers);
	free(q);
}

chatd_status queue_join(struct queue *q, const struct consumer *c)
{
	if (q->n_consumers == q->cap) {
		size_t cap = q->cap ? q->cap * 2 : 4;
		struct consumer *more = realloc(q->consumers, cap * sizeof(*more));
		if (!more) {
			return -ENOMEM;
		}
		q->consumers = more;
		q->cap = cap;
	}
	q->consumers[q->n_consumers++] = *c;
	return 0;
}

static struct consumer *find(struct queue *q, const struct consumer *c)
{
	for (size_t i = 0; i < q->n_consumers; i++) {
		if (q->consumers[i].session == c->session && q->consumers[i].serial == c->serial) {
			return &q->consumers[i];
		}
	}
	return NULL;
}

void queue_leave(struct queue *q, const struct consumer *c)
{
	struct consumer *at = find(q, c);
	if (at) {
		*at = q->consumers[--q->n_consumers];
	}
}

int queue_turn(struct queue *q, struct consumer *ret_to)
{
	size_t best = 0;
	for (size_t i = 1; i <= q->n_consumers; i++) {
		size_t at = (q->turn + i) % q->n_consumers;
		if (i == 1 || q->consumers[at].has < q->consumers[best].has) {
			best = at;
		}
		if (!q->consumers[best].has) {
			break;
		}
	}
	if (!q->n_consumers) {
		return 0;
	}
	q->turn = best;
	q->consumers[best].has++;
	*ret_to = q->consumers[best];
	return 1;
}

void queue_settled(struct queue *q, const struct consumer *c)
{
	struct consumer *at = find(q, c);
	if (at && at->has) {
		at->has--;
	}
}

size_t queue_consumers(const struct queue *q)
{
	return q->n_consumers;
}

static struct item *item_create(struct queue *q, chatd_msg *msg, uint64_t place)
{
	struct item *it = malloc(sizeof(*it));
	if (it) {
		it->place = place;
		it->msg = msg_ref(msg);
		it->next = NULL;
		q->n++;
		q->bytes += (int64_t)msg_size(msg);
	}
	return it;
}

chatd_status queue_push(struct queue *q, chatd_msg *msg)
{
	if (q->n >= q->max_messages || q->bytes + (int64_t)msg_size(msg) > q->max_bytes) {
		return -ENOSPC;
	}
	struct item *it = item_create(q, msg, q->last_place + 1);
	if (!it) {
		return -ENOMEM;
	}
	q->last_place++;
	*q->tail = it;
	q->tail = &it->next;
	return 0;
}

chatd_status queue_return(struct queue *q, chatd_msg *msg, uint64_t place)
{
	struct item *it = item_create(q, msg, place), **at = &q->head;
	if (!it) {
		return -ENOMEM;
	}
	while (*at && (*at)->place < place) {
		at = &(*at)->next;
	}
	it->next = *at;
	*at = it;
	if (!it->next) {
		q->tail = &it->next;
	}
	return 0;
}

int queue_next(struct queue *q, chatd_msg **ret_msg, uint64_t *ret_place, struct consumer *ret_to)
{
	struct item *it = q->head;
	if (!it || !q->n_consumers) {
		return 0;
	}
	q->turn = (q->turn + 1) % q->n_consumers;
	*ret_to = q->consumers[q->turn];
	*ret_msg = it->msg;
	*ret_place = it->place;
	q->head = it->next;
	if (!q->head) {
		q->tail = &q->head;
	}
	q->n--;
	q->bytes -= (int64_t)msg_size(it->msg);
	free(it);
	return 1;
}

int queue_idle(const struct queue *q)
{
	return !q->head && !q->n_consumers;
}
