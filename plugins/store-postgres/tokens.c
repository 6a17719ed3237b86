/* SPDX-License-Identifier: Apache-2.0 */
/* Texts taken apart as store-sqlite does it: by FTS5's own tokenizer, so that a search finds the
 * same on both.  PostgreSQL's parser would see hosts, numbers and addresses where people see
 * words, and fold letters as the database's locale says. */
#include "../store-sqlite/tokenizer.h"

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

void tokens_close(struct db *db)
{
	tokenizer_close(db->tokenizer);
	db->tokenizer = NULL;
}

/* ---- what is written ---------------------------------------------------------------- */

struct text {
	char *p;
	size_t n, cap;
	int words;
	int prefix; /* of a query: the last word may go on */
	const char *between;
};

static int take_apart(
		struct db *db, struct chatd_str text, int query, struct text *to, token_fn *fn)
{
	int code = tokenize(&db->tokenizer, text, query, to, fn);
	if (!db->tokenizer) {
		db_note(db, -ENOMEM, "", "no tokenizer: is SQLite built without FTS5?");
	} else if (code == SQLITE_NOMEM) {
		db_note(db, -ENOMEM, "", "no memory");
	}
	return code;
}

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
	if (!text.p || take_apart(db, text, 0, &to, on_word) == SQLITE_ERROR) {
		return chatd_str_of(NULL, 0);
	}
	struct chatd_str words = arena_copy(&op->arena, chatd_str_of(to.p ? to.p : "", to.n));
	free(to.p);
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
static struct chatd_str plain_query(struct db *db, struct op *op, struct chatd_str q)
{
	struct text to = { .between = "" };
	size_t i = 0;
	for (int words = 0; db->err == 0 && words < WORDS_MAX && i < q.n; words++) {
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
			take_apart(db, chatd_str_of(q.p + began, i - began), 1, &to, on_part);
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

struct chatd_str tokens_query(struct db *db, struct op *op, struct chatd_str q)
{
	static const struct keyed_form form = { "'", " | ", " & " };
	return seals(db->e) ? keyed_query(db, op, q, &form) : plain_query(db, op, q);
}
