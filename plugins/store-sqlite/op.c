/* SPDX-License-Identifier: Apache-2.0 */
/* Ops: requests copied on their way to a thread, answers on their way back. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- arena ------------------------------------------------------------------- */

struct chunk {
	struct chunk *next;
	size_t n, cap;
	char data[]; /* aligned: the members before it are three words and malloc's block is */
};
enum { CHUNK_BYTES = 1024, ALIGNMENT = 16, HEAD = (sizeof(struct chunk) + 15) & ~(size_t)15 };

void *arena_alloc(struct arena *a, size_t n)
{
	size_t need = (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct chunk *c = a->chunks;
	if (!c || c->cap - c->n < need) {
		size_t cap = need > CHUNK_BYTES ? need : CHUNK_BYTES;
		c = malloc(HEAD + cap);
		if (!c) {
			a->failed = 1;
			return NULL;
		}
		*c = (struct chunk){ .next = a->chunks, .cap = cap };
		a->chunks = c;
	}
	void *p = (char *)c + HEAD + c->n;
	c->n += need;
	return memset(p, 0, n);
}

void arena_free(struct arena *a)
{
	for (struct chunk *c = a->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	a->chunks = NULL;
}

struct chatd_str arena_copy(struct arena *a, struct chatd_str s)
{
	if (!s.p) {
		return s;
	}
	char *p = arena_alloc(a, s.n + 1);
	if (!p) {
		return chatd_str_of(NULL, 0);
	}
	memcpy(p, s.p, s.n);
	return chatd_str_of(p, s.n);
}

void *vec_push(struct op *op, struct vec *v, size_t size)
{
	if (v->n == v->cap) {
		size_t cap = v->cap ? 2 * v->cap : 8;
		void *p = arena_alloc(&op->arena, cap * size);
		if (!p) {
			return NULL;
		}
		if (v->n) {
			memcpy(p, v->p, v->n * size);
		}
		v->p = p;
		v->cap = cap;
	}
	return (char *)v->p + v->n++ * size;
}

/* ---- copying requests ------------------------------------------------------------ */

/* Where the texts of each request are. */
#define AT(type, f)      (uint16_t) offsetof(struct type, f)
#define CONV_AT(type, f) AT(type, f.room), AT(type, f.a), AT(type, f.b)
#define SHAPE(call, ...)               \
	[CALL_##call] = (const uint16_t[]) \
	{                                  \
		__VA_ARGS__, UINT16_MAX        \
	}
#define SHAPE_NONE(call)               \
	[CALL_##call] = (const uint16_t[]) \
	{                                  \
		UINT16_MAX                     \
	}
#define KEY(type) CONV_AT(type, conv), AT(type, user)
#define RECORD_KEY                                                      \
	AT(chatd_store_record_key, space), AT(chatd_store_record_key, key), \
			AT(chatd_store_record_key, owner)

static const uint16_t *const shapes[CALL_COUNT] = {
	SHAPE(account_create, AT(chatd_account, id), AT(chatd_account, nickname),
			AT(chatd_account, secret), AT(chatd_account, client), AT(chatd_account, email),
			AT(chatd_account, password), AT(chatd_account, roles), AT(chatd_account, avatar)),
	SHAPE(account_get, AT(chatd_store_account_key, key)),
	SHAPE(account_rename, AT(chatd_store_account_name, id), AT(chatd_store_account_name, nickname)),
	SHAPE(account_search, AT(chatd_store_account_search, prefix)),
	SHAPE(room_create, AT(chatd_store_room, id), AT(chatd_store_room, name),
			AT(chatd_store_room, about), AT(chatd_store_room, user), AT(chatd_store_room, nick)),
	SHAPE(room_update, AT(chatd_store_room, id), AT(chatd_store_room, name),
			AT(chatd_store_room, about), AT(chatd_store_room, user), AT(chatd_store_room, nick)),
	SHAPE(room_delete, AT(chatd_store_room_key, room), AT(chatd_store_room_key, user)),
	SHAPE(room_get, AT(chatd_store_room_key, room), AT(chatd_store_room_key, user)),
	SHAPE(room_list, AT(chatd_store_room_list, user), AT(chatd_store_room_list, after)),
	SHAPE(members, AT(chatd_store_members, room), AT(chatd_store_members, user),
			AT(chatd_store_members, after)),
	SHAPE(member_change, AT(chatd_store_member_change, room), AT(chatd_store_member_change, user),
			AT(chatd_store_member_change, nick), AT(chatd_store_member_change, actor)),
	SHAPE(append, CONV_AT(chatd_store_append, conv), AT(chatd_store_append, id),
			AT(chatd_store_append, sender), AT(chatd_store_append, nick),
			AT(chatd_store_append, client_id), AT(chatd_store_append, hash),
			AT(chatd_store_append, body), AT(chatd_store_append, text),
			AT(chatd_store_append, reply_to), AT(chatd_store_append, thread),
			AT(chatd_store_append, files)),
	SHAPE(change, AT(chatd_store_change, target), AT(chatd_store_change, id),
			AT(chatd_store_change, actor), AT(chatd_store_change, client_id),
			AT(chatd_store_change, hash), AT(chatd_store_change, body),
			AT(chatd_store_change, new_body), AT(chatd_store_change, new_text),
			AT(chatd_store_change, emoji)),
	SHAPE(page, KEY(chatd_store_page), AT(chatd_store_page, thread)),
	SHAPE(message, AT(chatd_store_message_key, id), AT(chatd_store_message_key, user)),
	SHAPE(top, KEY(chatd_store_conv_key)),
	SHAPE(replay, KEY(chatd_store_replay), AT(chatd_store_replay, epoch)),
	SHAPE(replay_inbox, AT(chatd_store_inbox, user), AT(chatd_store_inbox, epoch)),
	SHAPE(cursor_set, KEY(chatd_store_cursor), AT(chatd_store_cursor, device)),
	SHAPE(cursors, KEY(chatd_store_cursor_list), AT(chatd_store_cursor_list, of)),
	SHAPE(conversations, AT(chatd_store_conversations, user)),
	SHAPE(mentions, AT(chatd_store_mentions, user)),
	SHAPE(pin, AT(chatd_store_pin, id), AT(chatd_store_pin, actor)),
	SHAPE(pins, KEY(chatd_store_conv_key)),
	SHAPE(search, KEY(chatd_store_search), AT(chatd_store_search, query)),
	SHAPE(outbox_fetch, AT(chatd_store_outbox_fetch, owner)),
	SHAPE_NONE(outbox_done),
	SHAPE_NONE(sweep),
	SHAPE(backup, AT(chatd_store_backup, path)),
	SHAPE(account_update, AT(chatd_store_account_update, id),
			AT(chatd_store_account_update, nickname), AT(chatd_store_account_update, email),
			AT(chatd_store_account_update, password), AT(chatd_store_account_update, roles),
			AT(chatd_store_account_update, avatar), AT(chatd_store_account_update, keep),
			AT(chatd_store_account_update, was), AT(chatd_store_account_update, needed)),
	SHAPE(account_delete, AT(chatd_store_account_delete, id),
			AT(chatd_store_account_delete, needed)),
	SHAPE(sent, AT(chatd_store_sent, user)),
	SHAPE(login_create, AT(chatd_store_login, id), AT(chatd_store_login, user),
			AT(chatd_store_login, device), AT(chatd_store_login, refresh)),
	SHAPE(login_get, AT(chatd_store_login_key, id)),
	SHAPE(login_list, AT(chatd_store_login_list, user)),
	SHAPE(login_rotate, AT(chatd_store_login_rotate, id), AT(chatd_store_login_rotate, refresh),
			AT(chatd_store_login_rotate, next)),
	SHAPE(login_end, AT(chatd_store_login_end, user), AT(chatd_store_login_end, id),
			AT(chatd_store_login_end, keep)),
	SHAPE(secret_put, AT(chatd_store_secret, hash), AT(chatd_store_secret, user),
			AT(chatd_store_secret, data)),
	SHAPE(secret_take, AT(chatd_store_secret, hash), AT(chatd_store_secret, user),
			AT(chatd_store_secret, data)),
	SHAPE(node_start, AT(chatd_store_node, node), AT(chatd_store_node, who)),
	SHAPE_NONE(changed),
	SHAPE(handed, AT(chatd_store_handed, node)),
	SHAPE(written, AT(chatd_store_written, node)),
	SHAPE_NONE(touched),
	SHAPE(file_put, AT(chatd_store_file, id), AT(chatd_store_file, owner),
			AT(chatd_store_file, name), AT(chatd_store_file, hash), AT(chatd_store_file, object),
			AT(chatd_store_file, type), AT(chatd_store_file, info)),
	SHAPE(file_get, AT(chatd_store_file_key, id), AT(chatd_store_file_key, user)),
	SHAPE(file_drop, AT(chatd_store_file_key, id), AT(chatd_store_file_key, user)),
	SHAPE(file_space, AT(chatd_store_file_key, id), AT(chatd_store_file_key, user)),
	SHAPE(file_mark, AT(chatd_store_file_mark, object), AT(chatd_store_file_mark, info)),
	SHAPE(objects, AT(chatd_store_objects, after)),
	SHAPE(object_end, AT(chatd_store_object, object)),
	SHAPE(object_move, AT(chatd_store_object_move, object), AT(chatd_store_object_move, to)),
	SHAPE(record_put, AT(chatd_store_record, space), AT(chatd_store_record, key),
			AT(chatd_store_record, value), AT(chatd_store_record, owner)),
	SHAPE(record_get, RECORD_KEY),
	SHAPE(record_list, AT(chatd_store_record_list, space), AT(chatd_store_record_list, prefix),
			AT(chatd_store_record_list, after), AT(chatd_store_record_list, owner)),
	SHAPE(record_claim, AT(chatd_store_record_claim, space)),
	SHAPE(record_take, RECORD_KEY),
	SHAPE(record_end, RECORD_KEY),
};

static const size_t sizes[CALL_COUNT] = {
#define CHATD_X(name, request, writes) [CALL_##name] = sizeof(request),
	CHATD_STORE_MAP(CHATD_X) CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
};
static const int8_t writing[CALL_COUNT] = {
#define CHATD_X(name, request, writes) [CALL_##name] = (writes),
	CHATD_STORE_MAP(CHATD_X) CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
};

int op_writes(const struct op *op)
{
	return writing[op->call];
}

/* The struct, as far as the caller's reaches, and its texts. */
static void *copy_flat(struct op *op, enum call call, const void *req)
{
	uint32_t theirs;
	memcpy(&theirs, req, sizeof(theirs));
	size_t n = sizes[call];
	char *copy = arena_alloc(&op->arena, n);
	if (!copy) {
		return NULL;
	}
	memcpy(copy, req, theirs < n ? theirs : n);
	for (const uint16_t *at = shapes[call]; *at != UINT16_MAX; at++) {
		struct chatd_str *s = (struct chatd_str *)(void *)(copy + *at);
		op->size += s->n;
		if (op->size > REQUEST_MAX) {
			return NULL;
		}
		*s = arena_copy(&op->arena, *s);
	}
	return copy;
}

static const struct chatd_store_out *copy_out(
		struct op *op, const struct chatd_store_out *out, size_t n)
{
	struct chatd_store_out *copy =
			n && n <= 1024 ? arena_alloc(&op->arena, n * sizeof(*copy)) : NULL;
	for (size_t i = 0; copy && i < n; i++) {
		op->size += out[i].route.n + out[i].headers.n + out[i].body.n;
		if (op->size > REQUEST_MAX) {
			return NULL;
		}
		copy[i].route = arena_copy(&op->arena, out[i].route);
		copy[i].headers = arena_copy(&op->arena, out[i].headers);
		copy[i].body = arena_copy(&op->arena, out[i].body);
	}
	return copy;
}

static struct chatd_store_append *copy_append(struct op *op, const struct chatd_store_append *req)
{
	struct chatd_store_append *r = copy_flat(op, CALL_append, req);
	if (!r || r->n_mentions > MENTIONS_MAX ||
			(r->n_out && !(r->out = copy_out(op, r->out, r->n_out)))) {
		return NULL;
	}
	if (r->n_mentions) {
		struct chatd_str *m = arena_alloc(&op->arena, r->n_mentions * sizeof(*m));
		for (size_t i = 0; m && i < r->n_mentions; i++) {
			m[i] = arena_copy(&op->arena, r->mentions[i]);
		}
		r->mentions = m;
	}
	return r;
}

/* What hangs on a request besides texts. */
static int copy_deep(struct op *op)
{
	if (op->call == CALL_change) {
		struct chatd_store_change *r = op->req;
		return !r->n_out || (r->out = copy_out(op, r->out, r->n_out));
	}
	if (op->call == CALL_member_change) {
		struct chatd_store_member_change *r = op->req;
		return !r->event || (r->event = copy_append(op, r->event));
	}
	if (op->call == CALL_pin) {
		struct chatd_store_pin *r = op->req;
		return !r->event || (r->event = copy_append(op, r->event));
	}
	if (op->call == CALL_outbox_done) {
		struct chatd_store_outbox_done *r = op->req;
		int64_t *rows = r->n <= 100000 ? arena_alloc(&op->arena, (r->n + 1) * sizeof(*rows)) : NULL;
		if (rows && r->n) {
			memcpy(rows, r->rows, r->n * sizeof(*rows));
		}
		r->rows = rows;
		return rows != NULL;
	}
	return 1;
}

chatd_status op_create(struct engine *e, enum call call, const void *req,
		const struct op_from *from, struct op **ret_op)
{
	struct op *op = calloc(1, sizeof(*op));
	if (!op) {
		return -ENOMEM;
	}
	*op = (struct op){ .e = e,
		.w = from->w,
		.fn = from->fn,
		.arg = from->arg,
		.call = call,
		.born = clock_ms(),
		.size = sizeof(*op) + sizes[call],
		.a = { .struct_size = sizeof(op->a) } };
	op->req = call == CALL_append ? copy_append(op, req) : copy_flat(op, call, req);
	if (!op->req || !copy_deep(op) || op->arena.failed) {
		chatd_status rc = op->arena.failed ? -ENOMEM : -EINVAL;
		op_destroy(op);
		return rc;
	}
	*ret_op = op;
	return 0;
}

void op_destroy(struct op *op)
{
	if (!op) {
		return;
	}
	arena_free(&op->arena);
	free(op);
}

/* ---- answers ------------------------------------------------------------------------ */

struct batch {
	struct ops ops;
};

static void on_answers(void *arg)
{
	struct batch *b = arg;
	struct op *op;
	while ((op = STAILQ_FIRST(&b->ops))) {
		STAILQ_REMOVE_HEAD(&b->ops, link);
		op->fn(op->arg, op->rc, &op->a);
		op_destroy(op);
	}
	free(b);
}

/* A worker that has ended takes no answers; nobody is left there to hear them. */
static void send_batch(struct engine *e, chatd_worker *w, struct ops *ops)
{
	struct batch *b = malloc(sizeof(*b));
	struct op *op;
	long n = 0;
	STAILQ_FOREACH (op, ops, link) {
		n++;
	}
	if (b) {
		STAILQ_INIT(&b->ops);
		STAILQ_CONCAT(&b->ops, ops);
		if (e->h->post(w, on_answers, b) == 0) {
			asker_told(e, w, n);
			return;
		}
		STAILQ_CONCAT(ops, &b->ops);
		free(b);
	}
	while ((op = STAILQ_FIRST(ops))) {
		STAILQ_REMOVE_HEAD(ops, link);
		op_destroy(op);
	}
	asker_told(e, w, n);
}

void ops_answer(struct engine *e, struct ops *done)
{
	while (!STAILQ_EMPTY(done)) {
		struct ops same = STAILQ_HEAD_INITIALIZER(same), rest = STAILQ_HEAD_INITIALIZER(rest);
		chatd_worker *w = STAILQ_FIRST(done)->w;
		struct op *op;
		while ((op = STAILQ_FIRST(done))) {
			STAILQ_REMOVE_HEAD(done, link);
			if (op->w == w) {
				STAILQ_INSERT_TAIL(&same, op, link);
			} else {
				STAILQ_INSERT_TAIL(&rest, op, link);
			}
		}
		STAILQ_CONCAT(done, &rest);
		send_batch(e, w, &same);
	}
}
