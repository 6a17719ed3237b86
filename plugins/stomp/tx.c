/* SPDX-License-Identifier: Apache-2.0 */
#include "tx.h"
#include <errno.h>
#include <string.h>

/** What a message costs beside its text. */
enum { TX_OVERHEAD = 256 };

chatd_status tx_begin(struct tx_set *set, const struct chatd_host *h, struct chatd_str name)
{
	if (tx_find(set, name)) {
		return -EEXIST;
	}
	if (set->n == TX_OPEN_MAX) {
		return -E2BIG;
	}
	struct tx *tx = h->mem_alloc(sizeof(*tx) + name.n + 1);
	if (!tx) {
		return -ENOMEM;
	}
	memcpy(tx->text, name.p, name.n);
	tx->name = chatd_str_of(tx->text, name.n);
	tx->last = &tx->first;
	tx->next = set->open;
	set->open = tx;
	set->n++;
	return 0;
}

struct tx *tx_find(struct tx_set *set, struct chatd_str name)
{
	for (struct tx *tx = set->open; tx; tx = tx->next) {
		if (tx->name.n == name.n && memcmp(tx->name.p, name.p, name.n) == 0) {
			return tx;
		}
	}
	return NULL;
}

static void append(struct tx *tx, struct tx_action *a)
{
	*tx->last = a;
	tx->last = &a->next;
	tx->actions++;
}

chatd_status tx_add_send(struct tx_set *set, struct tx *tx, const struct chatd_host *h,
		chatd_msg *msg, size_t max_bytes)
{
	struct chatd_str name, value;
	size_t bytes = TX_OVERHEAD + h->msg_body(msg).n + h->msg_dest(msg).n;
	for (size_t i = 0; h->msg_header(msg, i, &name, &value); i++) {
		bytes += name.n + value.n;
	}
	if (tx->actions == TX_ACTIONS_MAX || set->bytes + bytes > max_bytes) {
		return -E2BIG;
	}
	struct tx_action *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	a->msg = h->msg_ref(msg);
	tx->bytes += bytes;
	set->bytes += bytes;
	append(tx, a);
	return 0;
}

chatd_status tx_add_ack(struct tx_set *set, struct tx *tx, const struct chatd_host *h,
		const struct tx_action *action)
{
	size_t n = action->id.n + action->sub.n;
	if (tx->actions == TX_ACTIONS_MAX) {
		return -E2BIG;
	}
	struct tx_action *a = h->mem_alloc(sizeof(*a) + n + 1);
	if (!a) {
		return -ENOMEM;
	}
	a->ack1_nack0 = action->ack1_nack0;
	memcpy(a->text, action->id.p, action->id.n);
	a->id = chatd_str_of(a->text, action->id.n);
	if (action->sub.p) {
		memcpy(a->text + a->id.n, action->sub.p, action->sub.n);
		a->sub = chatd_str_of(a->text + a->id.n, action->sub.n);
	}
	tx->bytes += n;
	set->bytes += n;
	append(tx, a);
	return 0;
}

void tx_detach(struct tx_set *set, struct tx *tx)
{
	struct tx **at = &set->open;
	while (*at != tx) {
		at = &(*at)->next;
	}
	*at = tx->next;
	tx->next = NULL;
	set->n--;
	set->bytes -= tx->bytes;
}

struct tx_action *tx_shift(struct tx *tx)
{
	struct tx_action *a = tx->first;
	if (a) {
		tx->first = a->next;
		if (!tx->first) {
			tx->last = &tx->first;
		}
	}
	return a;
}

void tx_action_free(struct tx_action *a, const struct chatd_host *h)
{
	if (a) {
		h->msg_unref(a->msg);
		h->mem_free(a);
	}
}

void tx_free(struct tx *tx, const struct chatd_host *h)
{
	struct tx_action *a;
	if (!tx) {
		return;
	}
	while ((a = tx_shift(tx))) {
		tx_action_free(a, h);
	}
	h->mem_free(tx);
}

void tx_free_all(struct tx_set *set, const struct chatd_host *h)
{
	while (set->open) {
		struct tx *tx = set->open;
		tx_detach(set, tx);
		tx_free(tx, h);
	}
}
