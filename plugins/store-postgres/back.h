/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file back.h
 * @brief The engine of store-sqlite on PostgreSQL: see ../store-sqlite/store.h, which includes
 *        this.
 *
 * A connection belongs to one thread of the engine, so that nothing here needs a lock and no
 * event loop ever waits.  It is always in libpq's pipeline mode: statements that nobody has to
 * wait for are sent along with the next one.  Every wait has a deadline; a server that does not
 * answer in time is one that is not there.
 */
#ifndef STORE_POSTGRES_BACK_H
#define STORE_POSTGRES_BACK_H

#include <libpq-fe.h>
#include <stdatomic.h>

enum { BACK_IS_SHARED = 1, REPLICAS_MAX = 16, PENDING_MAX = 32768 };

struct back_conf {
	const char *url, *schema;
	const _Atomic(const char *) *password; /* NULL, or what it is now: reload() changes it */
	const char *synchronous_commit;        /* as PostgreSQL calls it */
	const char *const *replicas;           /* ends with NULL */
	int64_t replica_lag, start_timeout;
};

static inline int32_t back_lasts(const struct back_conf *c)
{
	(void)c;
	return 1;
}

/* In the engine. */
struct back {
	char node[65];     /* through which node a row is written */
	int said_down;     /* writer: the log knows */
	int64_t next_ping; /* writer */
	atomic_uint turn;  /* which replica the next reader asks */
};

struct engine;
struct op;
struct ops;
struct db;

/* The rows of one statement, all of them at once. */
typedef struct db_rows {
	PGresult *res;
	int row, n;
} db_rows;

/* One result that is to come. */
struct pending {
	db_rows *to;  /* NULL: its rows are nobody's */
	int32_t slot; /* of a statement that is being prepared; -1 */
};

struct dial { /* when to try again */
	int64_t next, delay;
};

struct db {
	struct engine *e;
	chatd_status err; /* the first failure since db_clear() */
	char code[6];     /* its SQLSTATE; "": it is libpq's, or ours */
	char why[256];
	int64_t deadline;                 /* monotonic ms; 0: none */
	int64_t next_pos;                 /* not used: see db_next_pos() */
	struct chatd_hash_key client_key; /* writer: of client_number() */
	char epoch[EPOCH_CHARS + 1];
	int32_t writer, saved; /* saved: inside a savepoint */
	int32_t begin;         /* a reader's snapshot begins with its first statement */
	PGconn *c;             /* NULL: not connected */
	int32_t fatal;         /* why it could not connect will not change by itself */
	int32_t newer;         /* the schema is of a newer program */
	int32_t strange;       /* there is something that nobody can work with */
	char timeline[9];      /* writer: of the server's history */
	/* writer: what the transaction at hand leaves in meta, so that one can tell whether it has
	 * happened.  Its number does not tell: after a crash the server gives out again those that
	 * had not reached its log. */
	char mark_key[96], mark[48];
	uint64_t mark_begin, mark_n;
	struct dial dial;
	struct tokenizer *tokenizer;
	struct batch *batch; /* writer */
	struct db *replica;  /* reader: asked for history; NULL: none is given */
	int32_t as_it_is;    /* who connects is content with whatever is there: replicas, store-copy */
	const char *url;     /* which server */
	size_t n_pending, first_pending;
	struct pending *pending; /* PENDING_MAX of them, a ring */
	struct {
		const char *sql;
		int prepared;
		db_rows rows;
	} cache[STMT_SLOTS];
};

int64_t db_i64(const db_rows *, int column);
static inline int32_t db_i32(const db_rows *s, int column)
{
	return (int32_t)db_i64(s, column);
}
static inline int db_null(const db_rows *s, int column)
{
	return PQgetisnull(s->res, s->row, column);
}
/* [writer] The place of the next row, and of the last one.  Inside the lock. */
int64_t db_next_pos(struct db *);
int64_t db_last_pos(struct db *);

/* What SQLite says in another way. */
#define SQL_ON(number)       " " number " <> 0 "
#define SQL_OFF(number)      " " number " = 0 "
#define SQL_INNER            " JOIN"
#define SQL_BY(index)        ""
#define SQL_LAST_CHAR        "chr(1114111)"
#define SQL_SAID             " msg m"
#define SQL_SAID_ORDER       " ORDER BY m.pos DESC"
#define SQL_ONE_EACH(column) "DISTINCT ON (" column ") "
#define SQL_EACH(column)     ""
#define SQL_REACTIONS                                                                            \
	"SELECT '{' || string_agg(to_json(emoji)::text || ':[' || users || ']', ',' ORDER BY emoji)" \
	" || '}' FROM (SELECT emoji, string_agg(to_json(user)::text, ',' ORDER BY user) AS users"    \
	" FROM reaction WHERE pos=? GROUP BY emoji) r"
#define SQL_NO_WORDS        ", words=NULL"
#define SQL_WRITTEN_BY(who) " m.node=" who

/* ---- connect.c ------------------------------------------------------------------------ */

/* Connects if that is due; 0, or -EIO and db->why. */
chatd_status db_connect(struct db *);
void db_hang_up(struct db *); /* and forget what was sent */
int db_lost(struct db *);     /* 1: the connection is of no use any more */
/* "host:port/database", without anybody's password. */
void db_place(const struct db *, char *to, size_t cap);
/* 0: the text is a connection string; else why not, without repeating what is secret. */
int url_ok(const char *url, char *why, size_t cap);

/* ---- db.c ------------------------------------------------------------------------------ */

/* Notes the first failure; returns it. */
chatd_status db_note(struct db *, chatd_status, const char *code, const char *why);
/* Sends a statement along; its rows, if any, are there after db_wait(), in @p to. */
void db_send(struct db *, db_rows *to, const char *sql, const char *types, ...);
chatd_status db_wait(struct db *);
void db_leave(struct db *); /* what was sent is on its way; nobody waits for it now */
/* Once the connection is in pipeline mode no more: several statements at once. */
chatd_status db_script(struct db *, const char *sql);
/* [connect.c] Waits until the socket can be read, or written; 0: not before the deadline. */
int db_poll(struct db *, int write);

/* dialect.c: a statement of the engine as PostgreSQL takes it; to be freed. */
char *dialect(const char *sql);

/* schema.c: brings the schema up to date, or says why it cannot; loads what the writer knows. */
chatd_status schema_open(struct db *);
/* Of a reader that has connected.  -EIO: a dump was put here, and no writer has given it a new epoch
 * yet; what clients know of the old one would be taken for true. */
chatd_status schema_at_home(struct db *);
int64_t schema_lock(const struct db *); /* the advisory lock of all that write */

int text_ok(struct chatd_str); /* may PostgreSQL be given it? */

/* append.c */
int append_is_plain(const struct op *); /* may it be written along with others? */
void append_add(struct db *, struct op *);
void append_run(struct db *); /* writes those that were added, and answers them */

/* tokens.c: texts taken apart as store-sqlite's search index does. */
struct chatd_str tokens_of(struct db *, struct op *, struct chatd_str text); /* a tsvector */
/* A tsquery; .p NULL: it has no words. */
struct chatd_str tokens_query(struct db *, struct op *, struct chatd_str query);
void tokens_close(struct db *);

#endif
