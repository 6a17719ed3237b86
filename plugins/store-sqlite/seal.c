/* SPDX-License-Identifier: Apache-2.0 */
/* What messages say, encrypted: when there is a cipher, body and text of a row lie together in
 * its column `sealed`, bound to conversation, seq and sender.  Its body is empty then, and its text
 * is what search may know: keyed words, or nothing. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	LENGTH = 4,     /* of the first part, in front of both; its highest bit: there is a second */
	SAY_MS = 10000, /* how often the log hears of rows that cannot be read */
	WORDS_OF_ROW = 20000
};
#define HAS_SECOND UINT32_C(0x80000000)

static struct chatd_str none(void)
{
	return chatd_str_of(NULL, 0);
}

int seals(const struct engine *e)
{
	return e->cipher && e->cipher_conf.seals;
}

static const struct chatd_keys *keys_now(const struct engine *e)
{
	return e->cipher->keys(e->cipher_obj);
}

/* ---- two texts in one record ---------------------------------------------------------- */

static struct chatd_str pack(struct arena *a, struct chatd_str first, struct chatd_str second)
{
	size_t n = LENGTH + first.n + second.n;
	char *p = arena_alloc(a, n);
	uint32_t length = (uint32_t)first.n | (second.p ? HAS_SECOND : 0);
	if (!p) {
		return none();
	}
	for (int i = 0; i < LENGTH; i++) {
		p[i] = (char)(length >> (8 * i));
	}
	if (first.n) {
		memcpy(p + LENGTH, first.p, first.n);
	}
	if (second.n) {
		memcpy(p + LENGTH + first.n, second.p, second.n);
	}
	return chatd_str_of(p, n);
}

static int unpack(struct chatd_str s, struct chatd_str *first, struct chatd_str *second)
{
	uint32_t length = 0;
	if (s.n < LENGTH) {
		return 0;
	}
	for (int i = 0; i < LENGTH; i++) {
		length |= (uint32_t)(unsigned char)s.p[i] << (8 * i);
	}
	size_t n = length & ~HAS_SECOND;
	if (n > s.n - LENGTH) {
		return 0;
	}
	*first = chatd_str_of(s.p + LENGTH, n);
	*second = length & HAS_SECOND ? chatd_str_of(s.p + LENGTH + n, s.n - LENGTH - n) : none();
	return 1;
}

static struct chatd_cipher_place place_of(const struct seal_at *at)
{
	return (struct chatd_cipher_place){ .struct_size = sizeof(struct chatd_cipher_place),
		.kind = str_z(at->kind),
		.conv = at->conv,
		.sender = at->sender,
		.seq = at->seq };
}

static chatd_status seal_with(struct engine *e, const struct chatd_keys *keys, struct arena *a,
		const struct seal_at *at, struct said *said)
{
	const struct chatd_cipher_place place = place_of(at);
	struct chatd_str plain = pack(a, said->body, said->text);
	char *to = plain.p ? arena_alloc(a, plain.n + CHATD_CIPHER_EXTRA) : NULL;
	if (!to) {
		return -ENOMEM;
	}
	said->sealed = chatd_str_of(to, plain.n + CHATD_CIPHER_EXTRA);
	return e->cipher->seal(keys, &place, plain, to);
}

/* ---- keyed words ------------------------------------------------------------------------- */

struct word_list {
	const struct engine *e;
	const struct chatd_keys *keys;
	char (*words)[CHATD_CIPHER_WORD];
	size_t n, cap;
	int failed;
};

static int on_word(void *arg, struct chatd_str word)
{
	struct word_list *l = arg;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		void *p = cap <= 2 * WORDS_OF_ROW ? realloc(l->words, cap * sizeof(*l->words)) : NULL;
		if (!p) {
			l->failed = l->n < WORDS_OF_ROW;
			return 0;
		}
		l->words = p;
		l->cap = cap;
	}
	return l->e->cipher->word(l->keys, 0, word, l->words[l->n++]) == 0;
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, CHATD_CIPHER_WORD);
}

/* Each once, in an order that says nothing of the text. */
static struct chatd_str list_of(struct arena *a, struct word_list *l)
{
	size_t n = 0;
	if (l->n) {
		qsort(l->words, l->n, sizeof(*l->words), by_bytes);
	}
	char *to = arena_alloc(a, l->n * (CHATD_CIPHER_WORD + 1) + 1);
	for (size_t i = 0; to && i < l->n; i++) {
		if (i && memcmp(l->words[i], l->words[i - 1], CHATD_CIPHER_WORD) == 0) {
			continue;
		}
		if (n) {
			to[n++] = ' ';
		}
		memcpy(to + n, l->words[i], CHATD_CIPHER_WORD);
		n += CHATD_CIPHER_WORD;
	}
	return chatd_str_of(to, n);
}

static chatd_status key_words(
		struct db *db, const struct chatd_keys *keys, struct arena *a, struct said *said)
{
	struct word_list l = { .e = db->e, .keys = keys };
	if (!db->e->cipher_conf.words || !said->text.p) {
		said->text = none();
		return 0;
	}
	chatd_status rc = words_each(db, said->text, on_word, &l);
	said->text = list_of(a, &l);
	rc = l.failed || !said->text.p ? -ENOMEM : rc;
	free(l.words);
	return rc;
}

/* ---- rows ----------------------------------------------------------------------------------- */

chatd_status seal_said(struct db *db, struct arena *a, const struct seal_at *at, struct said *said)
{
	if (!seals(db->e)) {
		said->sealed = none();
		return 0;
	}
	const struct chatd_keys *keys = keys_now(db->e);
	chatd_status rc = seal_with(db->e, keys, a, at, said);
	rc = rc < 0 ? rc : key_words(db, keys, a, said);
	said->body = CHATD_LIT("");
	if (rc == -EIO) {
		db->e->h->log(db->e->ctx, CHATD_LOG_ERROR,
				"the kernel's random numbers repeat themselves: nothing is encrypted with them, "
				"and messages are refused");
	}
	return rc;
}

static void note_unreadable(
		struct engine *e, struct chatd_str id, chatd_status rc, struct chatd_str sealed)
{
	char name[CHATD_CIPHER_NAME] = "";
	int64_t now = clock_ms(), said = atomic_load(&e->said_unreadable);
	int64_t n = atomic_fetch_add(&e->unreadable, 1) + 1;
	if ((said && now - said < SAY_MS) ||
			!atomic_compare_exchange_strong(&e->said_unreadable, &said, now)) {
		return;
	}
	if (e->cipher) {
		e->cipher->name(keys_now(e), sealed, name);
	}
	e->h->log(e->ctx, CHATD_LOG_ERROR,
			"message or record %.*s cannot be decrypted: %s%s%s; %lld such reads since the start",
			(int)id.n, id.p ? id.p : "",
			!e->cipher ? "the plugin encrypt is not configured here, but other nodes use it"
					: rc == -ENOKEY ? "encrypt: keys: lacks its key "
									: "it was damaged or changed, key ",
			name, rc == -ENOKEY ? "; add that key" : "", (long long)n);
}

int open_said(struct engine *e, struct arena *a, const struct seal_at *at, struct said *said)
{
	const struct chatd_cipher_place place = place_of(at);
	struct chatd_str sealed = said->sealed;
	chatd_status rc = -EBADMSG;
	if (e->cipher && sealed.n >= CHATD_CIPHER_EXTRA) {
		size_t n = sealed.n - CHATD_CIPHER_EXTRA;
		char *to = arena_alloc(a, n + 1);
		rc = to ? e->cipher->open(keys_now(e), &place, sealed, to) : -ENOMEM;
		if (rc == 0 && unpack(chatd_str_of(to, n), &said->body, &said->text)) {
			return 1;
		}
		rc = rc ? rc : -EBADMSG;
	}
	said->body = CHATD_LIT("");
	said->text = none();
	note_unreadable(e, at->id, rc, sealed);
	return 0;
}

/* ---- hashes of what was sent with a clientId ------------------------------------------------ */

struct chatd_str seal_hash(struct engine *e, struct arena *a, struct chatd_str hash)
{
	char *to = seals(e) && hash.p ? arena_alloc(a, CHATD_CIPHER_MARK) : NULL;
	if (!to) {
		return hash;
	}
	e->cipher->mark(keys_now(e), hash, to);
	return chatd_str_of(to, CHATD_CIPHER_MARK);
}

int hash_same(const struct engine *e, struct chatd_str stored, struct chatd_str hash)
{
	if (stored.n != CHATD_CIPHER_MARK || !hash.p) {
		return str_same(stored, hash);
	}
	/* Who cannot tell takes it for what the clientId says: the same. */
	return !e->cipher || e->cipher->is_mark(keys_now(e), stored, hash);
}

/* ---- the outbox --------------------------------------------------------------------------------- */

static struct chatd_str or_empty(struct chatd_str s)
{
	return s.p ? s : CHATD_LIT("");
}

static struct seal_at out_at(int64_t pos, struct chatd_str route)
{
	return (struct seal_at){ .kind = "outbox", .conv = route, .seq = pos };
}

void outbox_put(struct db *db, struct op *op, const struct new_row *r)
{
	for (size_t i = 0; op->rc == 0 && i < r->n_out; i++) {
		struct chatd_str route = or_empty(r->out[i].route);
		struct said said = { .body = or_empty(r->out[i].headers), .text = r->out[i].body };
		const struct seal_at at = out_at(op->a.pos, route);
		if (seals(db->e)) {
			op->rc = seal_with(db->e, keys_now(db->e), &op->arena, &at, &said);
			said.body = CHATD_LIT("");
			said.text = none();
		}
		db_push(db,
				"INSERT INTO outbox(pos, route, headers, body, held, sealed) VALUES(?,?,?,?,0,?)",
				"isssb", op->a.pos, route, said.body, said.text, said.sealed);
	}
}

void outbox_open(struct op *op, int64_t pos, struct chatd_store_out_row *o, struct chatd_str sealed)
{
	struct said said = { .sealed = sealed };
	const struct seal_at at = out_at(pos, o->route);
	if (sealed.p) {
		(void)open_said(op->e, &op->arena, &at, &said);
		o->headers = said.body;
		o->body = said.text;
	}
}

/* ---- records of plugins ------------------------------------------------------------------------- */

static struct seal_at record_at(struct arena *a, struct chatd_str space, struct chatd_str key)
{
	char *both = arena_alloc(a, space.n + key.n + 1);
	if (both) {
		memcpy(both, space.p, space.n);
		both[space.n] = ' '; /* in neither of them */
		memcpy(both + space.n + 1, key.p, key.n);
	}
	return (struct seal_at){
		.kind = "record", .conv = chatd_str_of(both, both ? space.n + key.n + 1 : 0), .id = key
	};
}

chatd_status seal_value(struct engine *e, struct arena *a, struct chatd_str space,
		struct chatd_str key, struct chatd_str *value)
{
	if (!seals(e)) {
		return 0;
	}
	const struct seal_at at = record_at(a, space, key);
	struct said said = { .body = *value };
	chatd_status rc = at.conv.p ? seal_with(e, keys_now(e), a, &at, &said) : -ENOMEM;
	*value = said.sealed;
	return rc;
}

int open_value(struct engine *e, struct arena *a, struct chatd_str space, struct chatd_str key,
		struct chatd_str *value)
{
	const struct seal_at at = record_at(a, space, key);
	struct said said = { .sealed = *value };
	int good = at.conv.p && open_said(e, a, &at, &said);
	*value = said.body;
	return good;
}

/* ---- search ------------------------------------------------------------------------------------ */

int search_is_off(const struct engine *e)
{
	return seals(e) && !e->cipher_conf.words;
}

enum { QUERY_WORDS = 16, QUERY_KEYS = 16, QUERY_ROOM = CHATD_CIPHER_WORD + 8 };

struct query {
	const struct engine *e;
	const struct chatd_keys *keys;
	const struct keyed_form *form;
	char *p;
	size_t n, cap;
	int words;
};

static void put(struct query *q, const char *text)
{
	size_t n = strlen(text);
	if (q->n + n <= q->cap) {
		memcpy(q->p + q->n, text, n);
		q->n += n;
	}
}

/* As rows may have it: under each of the keys. */
static int on_asked(void *arg, struct chatd_str word)
{
	struct query *q = arg;
	char keyed[CHATD_CIPHER_WORD + 1] = "";
	put(q, q->words ? q->form->both : "");
	put(q, "(");
	for (size_t i = 0; i < QUERY_KEYS && q->e->cipher->word(q->keys, i, word, keyed) == 0; i++) {
		put(q, i ? q->form->either : "");
		put(q, q->form->quote);
		put(q, keyed);
		put(q, q->form->quote);
	}
	put(q, ")");
	return ++q->words < QUERY_WORDS;
}

struct chatd_str keyed_query(
		struct db *db, struct op *op, struct chatd_str text, const struct keyed_form *form)
{
	struct query q = { .e = db->e,
		.keys = keys_now(db->e),
		.form = form,
		.cap = QUERY_WORDS * QUERY_KEYS * QUERY_ROOM };
	q.p = arena_alloc(&op->arena, q.cap);
	if (q.p && words_each(db, text, on_asked, &q) < 0) {
		op->rc = -ENOMEM;
	}
	return chatd_str_of(q.words ? q.p : NULL, q.n);
}
