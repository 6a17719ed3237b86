/* SPDX-License-Identifier: Apache-2.0 */
/* Texts taken apart as store-sqlite does it: by FTS5's own tokenizer, so that a search finds the
 * same on both.  PostgreSQL's parser would see hosts, numbers and addresses where people see
 * words, and fold letters as the database's locale says. */
#include "../store-sqlite/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORDS_MAX = 16,        /* of a query */
	PREFIX_MIN = 3,        /* bytes */
	LEXEME_MAX = 2046,     /* PostgreSQL's limits: of a word, ... */
	PLACE_MAX = 16383,     /* ... of its place, ... */
	VECTOR_MAX = 256 << 10 /* ... and, of 1 MiB, what is sure to fit */
};

struct tokens {
	sqlite3 *h; /* in memory, and empty: it only leads to the tokenizer */
	fts5_tokenizer api;
	Fts5Tokenizer *t;
};

static fts5_api *find_api(sqlite3 *h)
{
	fts5_api *api = NULL;
	sqlite3_stmt *s = NULL;
	if (sqlite3_prepare_v2(h, "SELECT fts5(?1)", -1, &s, NULL) == SQLITE_OK) {
		sqlite3_bind_pointer(s, 1, &api, "fts5_api_ptr", NULL);
		sqlite3_step(s);
	}
	sqlite3_finalize(s);
	return api;
}

static struct tokens *open_tokens(void)
{
	static const char *args[] = { "remove_diacritics", "2" };
	struct tokens *t = calloc(1, sizeof(*t));
	void *context = NULL;
	if (!t || sqlite3_open(":memory:", &t->h) != SQLITE_OK) {
		goto failed;
	}
	fts5_api *api = find_api(t->h);
	if (api && api->xFindTokenizer(api, "unicode61", &context, &t->api) == SQLITE_OK &&
			t->api.xCreate(context, args, 2, &t->t) == SQLITE_OK) {
		return t;
	}
failed:
	if (t) {
		sqlite3_close(t->h);
	}
	free(t);
	return NULL;
}

static struct tokens *get(struct db *db)
{
	db->tokens = db->tokens ? db->tokens : open_tokens();
	if (!db->tokens) {
		db_note(db, -ENOMEM, "", "no tokenizer: is SQLite built without FTS5?");
	}
	return db->tokens;
}

void tokens_close(struct db *db)
{
	if (db->tokens) {
		db->tokens->api.xDelete(db->tokens->t);
		sqlite3_close(db->tokens->h);
		free(db->tokens);
	}
	db->tokens = NULL;
}

/* ---- what is written ---------------------------------------------------------------- */

struct text {
	char *p;
	size_t n, cap;
	int words;
	int prefix; /* of a query: the last word may go on */
	const char *between;
};

/* 'word' with what must be doubled; FTS5 gives letters and digits alone, but who knows. */
static void put_word(struct text *to, const char *word, int n)
{
	to->p[to->n++] = '\'';
	for (int i = 0; i < n; i++) {
		if (word[i] == '\'' || word[i] == '\\') {
			to->p[to->n++] = word[i];
		}
		to->p[to->n++] = word[i];
	}
	to->p[to->n++] = '\'';
}

static int room(struct text *to, int n)
{
	size_t need = to->n + 2 * (size_t)n + 32;
	if (need > to->cap) {
		size_t cap = 2 * need;
		char *p = realloc(to->p, cap);
		if (!p) {
			return 0;
		}
		to->p = p;
		to->cap = cap;
	}
	return 1;
}

static int on_word(void *arg, int flags, const char *word, int n, int start, int end)
{
	struct text *to = arg;
	(void)flags;
	(void)start;
	(void)end;
	if (n > LEXEME_MAX) {
		return SQLITE_OK;
	}
	if (to->n + (size_t)n > VECTOR_MAX) {
		return SQLITE_DONE;
	}
	if (!room(to, n)) {
		return SQLITE_NOMEM;
	}
	int place = ++to->words;
	put_word(to, word, n);
	to->n += (size_t)snprintf(
			to->p + to->n, to->cap - to->n, ":%d ", place < PLACE_MAX ? place : PLACE_MAX);
	return SQLITE_OK;
}

struct chatd_str tokens_of(struct db *db, struct op *op, struct chatd_str text)
{
	struct text to = { 0 };
	struct tokens *t = text.p ? get(db) : NULL;
	if (!t) {
		return chatd_str_of(NULL, 0);
	}
	int code = t->api.xTokenize(t->t, &to, FTS5_TOKENIZE_DOCUMENT, text.p, (int)text.n, on_word);
	struct chatd_str words = arena_copy(&op->arena, chatd_str_of(to.p ? to.p : "", to.n));
	free(to.p);
	if (code == SQLITE_NOMEM) {
		db_note(db, -ENOMEM, "", "no memory");
	}
	return words;
}

/* ---- what is asked for ---------------------------------------------------------------- */

static int on_part(void *arg, int flags, const char *word, int n, int start, int end)
{
	struct text *to = arg;
	(void)flags;
	(void)start;
	(void)end;
	if (n > LEXEME_MAX || !room(to, n)) {
		return n > LEXEME_MAX ? SQLITE_OK : SQLITE_NOMEM;
	}
	to->n += (size_t)snprintf(to->p + to->n, to->cap - to->n, "%s", to->between);
	put_word(to, word, n);
	to->between = " <-> "; /* what was written together stands together */
	to->words++;
	return SQLITE_OK;
}

/* All words; one that the tokenizer takes apart is a phrase. */
struct chatd_str tokens_query(struct db *db, struct op *op, struct chatd_str q)
{
	struct text to = { .between = "" };
	struct tokens *t = get(db);
	size_t i = 0;
	for (int words = 0; t && words < WORDS_MAX && i < q.n; words++) {
		while (i < q.n && (unsigned char)q.p[i] <= ' ') {
			i++;
		}
		size_t began = i;
		while (i < q.n && (unsigned char)q.p[i] > ' ') {
			i++;
		}
		int before = to.words;
		if (i > began) {
			to.between = before ? " & " : "";
			t->api.xTokenize(
					t->t, &to, FTS5_TOKENIZE_QUERY, q.p + began, (int)(i - began), on_part);
			to.prefix = to.words > before && i - began >= PREFIX_MIN;
		}
	}
	if (to.words && to.prefix && room(&to, 2)) {
		to.n += (size_t)snprintf(to.p + to.n, to.cap - to.n, ":*");
	}
	struct chatd_str query =
			to.words ? arena_copy(&op->arena, chatd_str_of(to.p, to.n)) : chatd_str_of(NULL, 0);
	free(to.p);
	return query;
}
