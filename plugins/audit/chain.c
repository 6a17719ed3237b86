/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of this node: each entry has the number after, and the hash of, the one before.  One
 * is stored at a time, so that none is there without its predecessor, whatever fails. */
#include "audit.h"

#include <sodium.h>

enum { RETRY_MS = 1000, LOOK_BACK = 1000 };

static void go_on(struct chain *c);

void item_free(struct self *self, struct item *i)
{
	__atomic_sub_fetch(&self->busy, 1, __ATOMIC_RELAXED);
	self->h->mem_free(i);
}

/* ---- hashing ---------------------------------------------------------------------------- */

void chain_hash(const struct seal *s, const struct chatd_str field[FIELDS], char ret[HASH_HEX])
{
	crypto_hash_sha256_state state;
	unsigned char raw[crypto_hash_sha256_BYTES];
	char n[24];
	int len = snprintf(n, sizeof(n), "\n%lld\n", (long long)s->n);
	crypto_hash_sha256_init(&state);
	crypto_hash_sha256_update(&state, (const unsigned char *)s->node.p, s->node.n);
	crypto_hash_sha256_update(&state, (const unsigned char *)n, (size_t)len);
	crypto_hash_sha256_update(&state, (const unsigned char *)s->prev.p, s->prev.n);
	for (int i = 0; i < FIELDS; i++) {
		crypto_hash_sha256_update(&state, (const unsigned char *)"\n", 1);
		if (field[i].n) {
			crypto_hash_sha256_update(&state, (const unsigned char *)field[i].p, field[i].n);
		}
	}
	crypto_hash_sha256_final(&state, raw);
	sodium_bin2hex(ret, HASH_HEX, raw, sizeof(raw));
}

/* ---- storing ------------------------------------------------------------------------------ */

static void again(void *arg)
{
	struct chain *c = arg;
	c->asking = 0;
	go_on(c);
}

static void wait_and_retry(struct chain *c)
{
	c->asking = 1; /* by the timer */
	c->self->h->timer_set(c->w, &c->retry, RETRY_MS, again, c);
}

static void on_stored(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	(void)a;
	chatd_open_end(&c->self->open);
	c->asking = 0;
	if (c->dead) {
		return;
	}
	/* An answer that was lost leaves an entry that is there already. */
	if (rc < 0 && rc != -EEXIST) {
		wait_and_retry(c);
		return;
	}
	struct item *i = STAILQ_FIRST(&c->waiting);
	STAILQ_REMOVE_HEAD(&c->waiting, link);
	c->n_waiting--;
	c->n++;
	memcpy(c->last, c->next, sizeof(c->last));
	item_free(c->self, i);
	go_on(c);
}

static void write_value(struct chatd_json *j, struct chain *c, const struct item *i)
{
	const struct seal s = {
		.node = text(c->self->h->server_id()), .prev = text(c->last), .n = c->n + 1
	};
	chain_hash(&s, i->field, c->next);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(i->id));
	chatd_json_member(j, "node", s.node);
	chatd_json_int(j, "n", s.n);
	for (int k = 0; k < FIELDS; k++) {
		chatd_json_member(j, field_names[k], i->field[k]);
	}
	chatd_json_member(j, "prev", s.prev);
	chatd_json_member(j, "hash", text(c->next));
	chatd_json_lit(j, "}");
}

static void store_first(struct chain *c)
{
	const struct chatd_store *store = c->self->store->vt;
	const struct item *i = STAILQ_FIRST(&c->waiting);
	int64_t keep = c->self->conf->retention;
	struct chatd_json j;
	chatd_json_init(&j, NULL, 0);
	write_value(&j, c, i);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_NEW,
		.space = CHATD_LIT(SPACE),
		.key = text(i->id),
		.value = chatd_json_str(&j),
		.expires = keep ? i->wall + keep : 0,
		.wall = i->wall };
	c->asking = !j.failed &&
			chatd_open_asked(&c->self->open,
					store->record_put(c->self->store->obj, c->w, &r, on_stored, c)) == 0;
	chatd_json_free(&j);
	if (!c->asking) {
		wait_and_retry(c);
	}
}

/* ---- where this node stopped ---------------------------------------------------------------- */

/* 1: it is one of this node's, and the newest. */
static int take_last(struct chain *c, struct chatd_str value)
{
	struct last {
		struct chatd_str node, hash;
		int64_t n;
	} last = { .n = 0 };
	static const struct chatd_json_field fields[] = {
		{ "node", CHATD_J_TEXT, offsetof(struct last, node) },
		{ "hash", CHATD_J_TEXT, offsetof(struct last, hash) },
		{ "n", CHATD_J_INT, offsetof(struct last, n) },
		{ NULL, 0, 0 },
	};
	char why[CHATD_JSON_WHY];
	json_t *root = NULL;
	int mine = chatd_json_read(value, fields, &last, &root, why) == 0 &&
			chatd_str_same(last.node, text(c->self->h->server_id()));
	if (mine) {
		c->n = last.n;
		chatd_str_copy(c->last, sizeof(c->last), last.hash);
	}
	json_decref(root);
	return mine;
}

static void on_last(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	chatd_open_end(&c->self->open);
	c->asking = 0;
	if (c->dead) {
		return;
	}
	if (rc < 0) {
		wait_and_retry(c);
		return;
	}
	size_t i = 0;
	while (i < a->n_records && !take_last(c, a->records[i].value)) {
		chatd_str_copy(c->looked_at, sizeof(c->looked_at), a->records[i].key);
		i++;
	}
	c->looked += (int32_t)i;
	/* A page may be short and not the last. */
	c->known = i < a->n_records || !a->n_records || c->looked >= LOOK_BACK;
	go_on(c);
}

static void look_back(struct chain *c)
{
	const struct chatd_store *store = c->self->store->vt;
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = LOOK_BACK - c->looked,
		.space = CHATD_LIT(SPACE),
		.after = c->looked ? text(c->looked_at) : chatd_str_of(NULL, 0),
		.down = 1,
		.wall = c->self->h->wall_ms() };
	c->asking = chatd_open_asked(&c->self->open,
						store->record_list(c->self->store->obj, c->w, &r, on_last, c)) == 0;
	if (!c->asking) {
		wait_and_retry(c);
	}
}

/* ---- life ------------------------------------------------------------------------------------- */

static void go_on(struct chain *c)
{
	if (c->asking || STAILQ_EMPTY(&c->waiting)) {
		return;
	}
	if (c->known) {
		store_first(c);
	} else {
		look_back(c);
	}
}

void chain_add(struct chain *c, struct item *i)
{
	if (c->dead || c->n_waiting >= QUEUE_MAX) {
		if (c->lost++ == 0) {
			c->self->h->log(c->self->ctx, CHATD_LOG_ERROR,
					"the store takes no entries; from now on some are in the log alone");
		}
		item_free(c->self, i);
		return;
	}
	c->self->h->new_id(i->id);
	STAILQ_INSERT_TAIL(&c->waiting, i, link);
	c->n_waiting++;
	go_on(c);
}

void chain_start(struct self *self, chatd_worker *w)
{
	struct chain *c = &self->chain;
	c->self = self;
	c->w = w;
	STAILQ_INIT(&c->waiting);
}

void chain_stop(struct self *self)
{
	struct chain *c = &self->chain;
	c->dead = 1;
	self->h->timer_clear(&c->retry);
	while (!STAILQ_EMPTY(&c->waiting)) {
		struct item *i = STAILQ_FIRST(&c->waiting);
		STAILQ_REMOVE_HEAD(&c->waiting, link);
		item_free(self, i);
	}
}
