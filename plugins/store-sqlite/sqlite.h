/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file sqlite.h
 * @brief The engine on SQLite: see store.h, which includes this.
 */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include <sqlite3.h>

enum {
	BACK_IS_SHARED = 0,
	WRITER_BUSY_MS = 50, /* the writer's waits for locks; it looks around in between */
};

struct back_conf {
	const char *path; /* NULL: in memory */
	int32_t full_sync;
	int64_t min_free;
	int64_t max_bytes; /* of the database, in memory; 0: any */
};

static inline int32_t back_lasts(const struct back_conf *c)
{
	return c->path != NULL;
}

/* In the engine. */
struct back {
	int lock_fd;
	struct backup *backup; /* writer: the one being made */
	int64_t next_try, next_look, next_patience;
	int forgetting; /* writer: the index is being merged */
};

struct engine;
struct op;
struct ops;

struct db {
	sqlite3 *h;
	struct engine *e;
	chatd_status err; /* the first failure since db_clear() */
	int code;         /* its extended SQLite code */
	char why[160];
	int64_t deadline;                 /* monotonic ms; 0: none */
	int64_t next_pos;                 /* writer: of the next row */
	int64_t indexed;                  /* writer: rows up to here are in words and said */
	struct chatd_hash_key client_key; /* writer: of client_number() */
	size_t index_bytes;               /* writer: of the texts above, about */
	struct db *tail;                  /* words.c: an index in memory of what is above */
	struct tokenizer *tokenizer;      /* of keyed words */
	int wal_pages;                    /* writer: since the last checkpoint */
	char epoch[EPOCH_CHARS + 1];
	struct {
		const char *sql;
		sqlite3_stmt *stmt;
	} cache[STMT_SLOTS];
};

typedef sqlite3_stmt db_rows;

static inline int64_t db_i64(db_rows *s, int column)
{
	return sqlite3_column_int64(s, column);
}

static inline int32_t db_i32(db_rows *s, int column)
{
	return sqlite3_column_int(s, column);
}

static inline int db_null(db_rows *s, int column)
{
	return sqlite3_column_type(s, column) == SQLITE_NULL;
}

/* [writer] The place of the next row, and of the last one. */
static inline int64_t db_next_pos(struct db *db)
{
	return db->next_pos++;
}

static inline int64_t db_last_pos(struct db *db)
{
	return db->next_pos - 1;
}

/* What PostgreSQL says in another way.  A condition on an index must be written as the index
 * says it. */
#define SQL_ON(number)  " " number " "
#define SQL_OFF(number) " NOT " number " "
#define SQL_INNER       " CROSS JOIN" /* in this order */
#define SQL_BY(index)   " INDEXED BY " index
#define SQL_LAST_CHAR   "char(0x10ffff)"
/* msg m: what ?1 said before ?2, the last first; both must be in the condition as well.  The limit is
 * none: without one SQLite takes the order as not meant. */
#define SQL_SAID                                                                                    \
	" (SELECT pos FROM said WHERE sender=?1 AND pos < ?2 UNION ALL SELECT pos FROM msg WHERE pos >" \
	" (SELECT value FROM meta WHERE key='indexed') AND pos < ?2 AND sender=?1"                      \
	" ORDER BY pos DESC LIMIT -1) s CROSS JOIN msg m ON m.pos=s.pos"
#define SQL_SAID_ORDER       ""
#define SQL_ONE_EACH(column) ""
#define SQL_EACH(column)     " GROUP BY " column
#define SQL_REACTIONS                                                  \
	"SELECT json_group_object(emoji, json(users)) FROM (SELECT emoji," \
	" json_group_array(user) AS users FROM reaction WHERE pos=? GROUP BY emoji)"
#define SQL_NO_WORDS "" /* the row's words go with words_remove() */
/* A file has one node: whatever is there was written through it. */
#define SQL_WRITTEN_BY(node) " " node " IS NOT NULL"

/* Notes the first failure; returns it as a negative errno. */
chatd_status db_fail(struct db *, int code);
chatd_status db_script(struct db *, const char *sql); /* start-up only */
void db_rollback(struct db *);                        /* if a transaction is open */

/* schema.c: brings the schema up to date, or says why it cannot. */
chatd_status schema_migrate(struct db *);

/* health.c [writer] */
int health_may_write(struct engine *, chatd_status *ret_rc);
void health_note(struct engine *, const struct db *); /* a group failed */
void health_try(struct engine *);                     /* does it work again? */
/* Writes what the WAL holds into the database, when it is time.  [writer] */
void health_checkpoint(struct engine *);

/* backup.c [writer] */
void backup_start(struct engine *, struct op *); /* answers the op itself, later */
void backup_step(struct engine *);
void backup_cancel(struct engine *, chatd_status rc);

/* words.c: the search index.  [writer] */
int words_due(const struct db *, int idle); /* are there enough rows to be indexed? */
chatd_status words_index(struct engine *);  /* some of them, in a commit of their own */
/* Finds rows below @p before that are not in the index yet, the newest first, until @p found
 * says 0; returns up to which row the index is to be asked. */
typedef int words_found(void *arg, int64_t pos);
int64_t words_tail(
		struct db *, struct chatd_str words, int64_t before, words_found *found, void *arg);
void words_close(struct db *);
/* At the start: the index has the words of encrypted rows, or of plain ones, as the options say
 * now.  While rows are encrypted those that are not yet are not in it. */
void words_mode(struct db *);
/* Some of what is needed until no deleted word lies in the index any more; 1: there is more to do. */
int64_t words_merge(struct db *, int begin);

#endif
