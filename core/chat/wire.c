/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/wire.h"

#include "base/map.h"

#include <stdlib.h>
#include <string.h>

/* What is hashed: fixed part and the id behind it, without padding in between. */
struct key {
	const void *ops, *layer;
	uint64_t form;
};

struct entry {
	struct wire wire;
	UT_hash_handle hh;
	uint32_t refs;
	_Alignas(struct key) char key[];
};

struct wire_table {
	struct entry *all;
};

enum { ID_ON_STACK = 256 };

struct wire_table *wire_table_create(void)
{
	return calloc(1, sizeof(struct wire_table));
}

void wire_table_destroy(struct wire_table *t)
{
	free(t);
}

static void key_fill(char *at, const struct wire *w)
{
	struct key k = { .ops = w->ops, .layer = w->layer, .form = w->form };
	memcpy(at, &k, sizeof(k));
	if (w->id.n) {
		memcpy(at + sizeof(k), w->id.p, w->id.n);
	}
}

static struct entry *entry_create(struct wire_table *t, const struct wire *like)
{
	size_t len = sizeof(struct key) + like->id.n;
	struct entry *e = calloc(1, sizeof(*e) + len);
	if (!e) {
		return NULL;
	}
	key_fill(e->key, like);
	e->wire.ops = like->ops;
	e->wire.layer = like->layer;
	e->wire.form = like->form;
	e->wire.id = chatd_str_of(e->key + sizeof(struct key), like->id.n);
	HASH_ADD_KEYPTR(hh, t->all, e->key, len, e);
	if (!MAP_ADDED(e, hh)) {
		free(e);
		return NULL;
	}
	return e;
}

struct wire *wire_get(struct wire_table *t, const struct wire *like)
{
	char small[sizeof(struct key) + ID_ON_STACK];
	size_t len = sizeof(struct key) + like->id.n;
	char *k = like->id.n <= ID_ON_STACK ? small : malloc(len);
	struct entry *e = NULL;
	if (!k) {
		return NULL;
	}
	key_fill(k, like);
	HASH_FIND(hh, t->all, k, len, e);
	if (k != small) {
		free(k);
	}
	if (!e) {
		e = entry_create(t, like);
	}
	if (!e) {
		return NULL;
	}
	e->refs++;
	return &e->wire;
}

void wire_put(struct wire_table *t, struct wire *w)
{
	struct entry *e = (struct entry *)(void *)w;
	if (e && --e->refs == 0) {
		HASH_DEL(t->all, e);
		free(e);
	}
}

chatd_buf *wire_render(const struct wire *w, struct chatd_str ack, const chatd_msg *msg)
{
	uint32_t flags = 0;
	chatd_buf *raw = w->ops->render(w->form, w->id, ack, msg, &flags);
	return raw ? w->layer->wrap(raw, flags) : NULL;
}
