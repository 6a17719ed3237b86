/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of this node: each entry has the number after, and the hash of, the one before.  One
 * is stored at a time, so that none is there without its predecessor, whatever fails.
 *
 * A record holds the end of the chain, the newest entry as a whole, and is written first, by who
 * knows its version: so two versions of this plugin, of which one goes while the other has begun,
 * write one chain.  Who finds it stores its entry once more, as the one who wrote it may have ended
 * before. */
#include "audit.h"

#include <sodium.h>

enum { RETRY_MS = 1000, LOOK_BACK_MAX = 1000 };

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

static void pop(struct chain *c)
{
	struct item *i = STAILQ_FIRST(&c->waiting);
	STAILQ_REMOVE_HEAD(&c->waiting, link);
	c->n_waiting--;
	item_free(c->self, i);
}

/* An answer has come.  0: to nobody. */
static int heard(struct chain *c)
{
	chatd_open_end(&c->self->open);
	c->asking = 0;
	return !c->dead;
}

/* What became of it is seen at the end. */
static void look_again(struct chain *c)
{
	c->step = FIND_END;
	wait_and_retry(c);
}

/* As of an entry that was noted at @p wall. */
static void put(struct chain *c, struct chatd_store_record r, int64_t wall, chatd_store_fn *fn)
{
	const struct chatd_store *store = c->self->store->vt;
	int64_t keep = c->self->conf->retention;
	r.struct_size = sizeof(r);
	r.expires = keep ? wall + keep : 0;
	r.wall = wall;
	c->asking = r.value.p &&
			chatd_open_asked(
					&c->self->open, store->record_put(c->self->store->obj, c->w, &r, fn, c)) == 0;
	if (!c->asking) {
		look_again(c);
	}
}

static void put_entry(
		struct chain *c, const char *id, struct chatd_str value, int64_t wall, chatd_store_fn *fn)
{
	const struct chatd_store_record r = {
		.how = CHATD_STORE_RECORD_NEW, .space = CHATD_LIT(SPACE), .key = text(id), .value = value
	};
	put(c, r, wall, fn);
}

static void put_end(struct chain *c, struct chatd_str value, int64_t wall, chatd_store_fn *fn)
{
	const struct chatd_store_record r = { .how = c->version ? CHATD_STORE_RECORD_VERSION
															: CHATD_STORE_RECORD_NEW,
		.version = c->version,
		.space = CHATD_LIT(END_SPACE),
		.key = text(c->self->h->server_id()),
		.value = value };
	put(c, r, wall, fn);
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

static void on_stored(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	(void)a;
	if (!heard(c)) {
		return;
	}
	/* An answer that was lost leaves an entry that is there already. */
	if (rc < 0 && rc != -EEXIST) {
		look_again(c);
		return;
	}
	c->n++;
	memcpy(c->last, c->next, sizeof(c->last));
	pop(c);
	go_on(c);
}

static void store_first(struct chain *c, int is_end_there);

static void on_end_put(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	(void)a;
	if (!heard(c)) {
		return;
	}
	if (rc == 0) {
		c->version++;
		store_first(c, 1);
	} else if (rc == -ESTALE || rc == -EEXIST || rc == -ENOENT) {
		c->step = FIND_END; /* another version of this plugin was there, or it has expired */
		go_on(c);
	} else {
		look_again(c);
	}
}

static void store_first(struct chain *c, int is_end_there)
{
	const struct item *i = STAILQ_FIRST(&c->waiting);
	struct chatd_json j;
	chatd_json_init(&j, NULL, 0);
	write_value(&j, c, i);
	struct chatd_str value = j.failed ? chatd_str_of(NULL, 0) : chatd_json_str(&j);
	if (is_end_there) {
		put_entry(c, i->id, value, i->wall, on_stored);
	} else {
		put_end(c, value, i->wall, on_end_put);
	}
	chatd_json_free(&j);
}

/* ---- where this node stopped ---------------------------------------------------------------- */

/* 1: it is one of this node's, and the newest. */
static int take_last(struct chain *c, struct chatd_str value)
{
	struct last {
		struct chatd_str node, hash, id;
		int64_t n;
	} last = { .n = 0 };
	static const struct chatd_json_field fields[] = {
		{ "node", CHATD_J_TEXT, offsetof(struct last, node) },
		{ "hash", CHATD_J_TEXT, offsetof(struct last, hash) },
		{ "id", CHATD_J_TEXT, offsetof(struct last, id) },
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
		chatd_str_copy(c->end_id, sizeof(c->end_id), last.id);
	}
	json_decref(root);
	return mine;
}

static void on_end_copied(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	(void)a;
	if (!heard(c)) {
		return;
	}
	if (rc < 0 && rc != -EEXIST) {
		wait_and_retry(c);
		return;
	}
	c->step = READY;
	if (strcmp(STAILQ_FIRST(&c->waiting)->id, c->end_id) == 0) {
		pop(c); /* its answer was lost */
	}
	go_on(c);
}

static void on_end(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	if (!heard(c)) {
		return;
	}
	if (rc == 0 && take_last(c, a->records[0].value)) {
		c->version = a->records[0].version;
		put_entry(c, c->end_id, a->records[0].value, a->records[0].wall, on_end_copied);
	} else if (rc == 0 || rc == -ENOENT) {
		c->version = rc == 0 ? a->records[0].version : 0;
		c->step = LOOK_BACK;
		c->looked = 0;
		go_on(c);
	} else {
		wait_and_retry(c);
	}
}

static void find_end(struct chain *c)
{
	const struct chatd_store *store = c->self->store->vt;
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT(END_SPACE),
		.key = text(c->self->h->server_id()),
		.wall = c->self->h->wall_ms() };
	c->asking = chatd_open_asked(&c->self->open,
						store->record_get(c->self->store->obj, c->w, &r, on_end, c)) == 0;
	if (!c->asking) {
		wait_and_retry(c);
	}
}

/* An end that has expired, or was never written: a version of this plugin wrote none. */
static void on_last(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct chain *c = arg;
	if (!heard(c)) {
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
	if (i < a->n_records || !a->n_records || c->looked >= LOOK_BACK_MAX) {
		c->step = READY;
	}
	go_on(c);
}

static void look_back(struct chain *c)
{
	const struct chatd_store *store = c->self->store->vt;
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = LOOK_BACK_MAX - c->looked,
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
	if (c->step == FIND_END) {
		find_end(c);
	} else if (c->step == LOOK_BACK) {
		look_back(c);
	} else {
		store_first(c, 0);
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
