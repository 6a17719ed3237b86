/* SPDX-License-Identifier: Apache-2.0 */
/* FTS5's own tokenizer, called without a table: what it sees as words. */
#include "tokenizer.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>

struct tokenizer {
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

static struct tokenizer *open_one(void)
{
	static const char *args[] = { "remove_diacritics", "2" };
	struct tokenizer *t = calloc(1, sizeof(*t));
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

int tokenize(struct tokenizer **at, struct chatd_str text, int query, void *arg, token_fn *fn)
{
	*at = *at ? *at : open_one();
	struct tokenizer *t = *at;
	return !t ? SQLITE_ERROR
			  : t->api.xTokenize(t->t, arg, query ? FTS5_TOKENIZE_QUERY : FTS5_TOKENIZE_DOCUMENT,
						text.p, (int)text.n, fn);
}

void tokenizer_close(struct tokenizer *t)
{
	if (t) {
		t->api.xDelete(t->t);
		sqlite3_close(t->h);
		free(t);
	}
}

/* ---- for those who want words alone ------------------------------------------------------- */

struct each {
	word_fn *fn;
	void *arg;
};

static int on_token(void *arg, int flags, const char *word, int n, int start, int end)
{
	const struct each *e = arg;
	(void)flags;
	(void)start;
	(void)end;
	return e->fn(e->arg, chatd_str_of(word, (size_t)n)) ? SQLITE_OK : SQLITE_DONE;
}

chatd_status words_each(struct db *db, struct chatd_str text, word_fn *fn, void *arg)
{
	struct each each = { fn, arg };
	int code = tokenize(&db->tokenizer, text, 0, &each, on_token);
	return code == SQLITE_OK || code == SQLITE_DONE ? 0 : -ENOMEM;
}
