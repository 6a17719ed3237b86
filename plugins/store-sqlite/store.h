/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file store.h
 * @brief What the parts of the stores share.
 *
 * Threads: workers make ops and put them into a queue; the writer thread owns the one
 * connection that writes, and carries out what writes, a group per commit; reader threads own
 * a connection each.  A watch thread answers for writes that take too long.  Answers go back
 * by post, one post per worker and group.
 *
 * The engine is the same whatever keeps the rows: op.c, queues and threads (store.c, writer.c,
 * reader.c, watch.c) and what the calls do (do_*.c) are compiled into each of the stores.  How
 * statements are run, committed and looked after is a back-end's: SQLite's is here, that of
 * PostgreSQL in store-postgres.  store-memory is SQLite's on a database in memory; there are
 * no readers then, the writer does everything.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <chatd-sdk/hash.h>
#include <chatd/cipher.h>
#include <chatd/store.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

enum {
	ID_MAX_BYTES = 64,
	KEY_MAX = 2 * ID_MAX_BYTES + 8,
	EPOCH_CHARS = 32,
	REQUEST_MAX = 8 << 20, /* bytes of one request */
	QUEUE_MAX = 64 << 20,  /* bytes of requests that wait */
	REACTIONS_MAX = 500,   /* of one message */
	MENTIONS_MAX = 100,
	UNREAD_MAX = 1000,
	SWEEP_ROWS = 1000, /* at one go, so that nobody waits long behind a sweep */
	STMT_SLOTS = 512,
};

/* The back-end's: struct back_conf, struct back, struct db, db_rows and the SQL_ macros. */
#ifdef STORE_POSTGRES
#include "../store-postgres/back.h"
#else
#include "sqlite.h"
#endif

/* What the options say. */
struct store_conf {
	struct back_conf back;
	int64_t commit_window, commit_rows, commit_timeout;
	int64_t dedupe_window, anonymous_retention;
	int64_t readers, read_timeout;
	int64_t max_messages; /* the oldest rows go first; 0: any number */
};

/* ---- ops: one call on its way ------------------------------------------------ */

enum call {
#define CHATD_X(name, request, writes) CALL_##name,
	CHATD_STORE_MAP(CHATD_X) CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
			CALL_COUNT
};

struct chunk;
struct arena { /* freed as a whole with the op */
	struct chunk *chunks;
	int failed; /* there was no memory, once */
};

struct engine;

struct op {
	STAILQ_ENTRY(op) link; /* in a queue, a group, or a batch of answers */
	TAILQ_ENTRY(op) wait;  /* in engine.waiting while it writes and is unanswered */
	struct engine *e;
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
	void *req; /* the request's struct, its texts copied too */
	enum call call;
	int32_t running;  /* in a group; under engine.lock */
	int32_t answered; /* by the watch, because it took too long; under engine.lock */
	int64_t born;     /* monotonic ms */
	size_t size;
	struct arena arena;
	chatd_status rc;
	int32_t keep; /* what it wrote is meant, although it is refused */
	struct chatd_store_answer a;
	/* What the search index must learn before the commit, after all savepoints: a text that
	 * was changed. */
	int64_t index_pos;
	struct chatd_str index_old, index_new;
	char epoch[EPOCH_CHARS];
};
STAILQ_HEAD(ops, op);
TAILQ_HEAD(waiting, op);

/* op.c */
struct op_from {
	chatd_worker *w;
	chatd_store_fn *fn;
	void *arg;
};
chatd_status op_create(
		struct engine *, enum call, const void *req, const struct op_from *, struct op **ret_op);
void op_destroy(struct op *);
int op_writes(const struct op *);
void ops_answer(struct engine *, struct ops *done);       /* [writer, readers] takes them all */
void asker_told(struct engine *, chatd_worker *, long n); /* store.c: so many calls are answered */

void *arena_alloc(struct arena *, size_t n); /* zeroed; NULL and .failed: no memory */
struct chatd_str arena_copy(struct arena *, struct chatd_str);
void arena_free(struct arena *);

/* An array that grows inside an op's arena. */
struct vec {
	void *p;
	size_t n, cap;
};
void *vec_push(struct op *, struct vec *, size_t size); /* zeroed item; NULL: no memory */

/* ---- a connection: the back-end's ------------------------------------------------- */

chatd_status db_open(struct db *, struct engine *, int writer);
void db_close(struct db *);
void db_clear(struct db *);
/* Inside a call: forgets a failure, and what the call has written if that must be. */
void db_recover(struct db *);
/* @p sql is a literal: statements are cached by its address.  It is SQLite's, in as far as
 * PostgreSQL understands it too, or one of the SQL_ macros.  @p types, one letter per
 * argument: s text (struct chatd_str), b blob (the same), i int64_t, d int.  The texts must
 * live until the statement is done.  NULL, with db->err set: it cannot be run. */
db_rows *db_query(struct db *, const char *sql, const char *types, ...);
int db_step(struct db *, db_rows *); /* 1: a row; 0: done, or failed: see db->err */
void db_done(db_rows *);             /* leaves the other rows; NULL is fine */
int64_t db_exec(struct db *, const char *sql, const char *types, ...); /* rows changed */
/* The same when nobody asks how many, nor at once whether it failed. */
void db_push(struct db *, const char *sql, const char *types, ...);
int64_t db_int(struct db *, const char *sql); /* the first column of the first row; 0 */
struct chatd_str db_text(struct op *, db_rows *, int column); /* a copy */
struct chatd_str db_peek(db_rows *, int column);              /* until the next step */

/* ---- the engine -------------------------------------------------------------------- */

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct ops ops;
	int64_t n;
	int64_t wanted; /* so many wake the thread that waits */
	size_t bytes;
};

struct asker {        /* a worker */
	atomic_long open; /* calls that are not answered yet */
	atomic_int left;  /* it asks nothing more */
};

struct engine {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	struct store_conf conf;
	struct queue writes, reads; /* .writes.lock also guards .waiting and ops' flags */
	struct waiting waiting;     /* oldest first */
	pthread_cond_t quit;        /* the watch waits here */
	pthread_cond_t told;        /* with reads.lock: a worker that leaves waits here */
	struct asker *askers;       /* one for each worker */
	atomic_int leaving;         /* workers that have left */
	int stopping;               /* under both locks */
	atomic_int state;           /* CHATD_STORE_OK ... */
	atomic_int stalled;
	struct db db; /* the writer's */
	pthread_t writer, watch, *readers;
	int n_readers, has_writer, has_watch;
	/* The writer's group: calls in it, after it those of the last one; how many it waits for; until when. */
	int64_t group_n, group_want;
	struct timespec group_end;
	int64_t next_sweep;
	int64_t trim_at;                   /* next_pos at which the oldest rows go */
	const struct chatd_cipher *cipher; /* NULL: there is none */
	void *cipher_obj;
	struct chatd_cipher_conf cipher_conf;
	_Atomic int64_t unreadable, said_unreadable; /* rows that did not open; when that was said */
	struct reseal *reseal;                       /* writer: how far it is; NULL: no cipher */
	struct back back;
};

chatd_status engine_start(
		const struct chatd_host *, chatd_ctx *, const struct store_conf *, struct engine **ret);
/* [worker] Its last act: what it has asked is answered by then, else whoever asked would wait, and
 * keep what they hold, for ever; from now on it is refused with -ESHUTDOWN. */
void engine_leave(struct engine *, chatd_worker *);
void engine_stop(struct engine *); /* NULL is fine; frees it */
chatd_status engine_provide(struct engine *);
int64_t clock_ms(void); /* monotonic */

void *writer_main(void *engine); /* writer.c */
void *watch_main(void *engine);  /* watch.c */
void *reader_main(void *engine); /* reader.c */

/* writer.c: for commit_group(). */
int all_answered(struct engine *, struct ops *group); /* has the watch answered all of them? */
int is_answered(struct engine *, const struct op *);
/* Waits for more calls to share the commit, and puts them into the group; the first of them.
 * NULL: nobody is to be waited for any more.  Not with a group that is empty. */
struct op *writer_more(struct engine *, struct ops *group);
void op_again(struct op *); /* as if it had not run */
void fail_group(struct ops *group, chatd_status rc);

/* ---- the back-end's part of the engine ----------------------------------------------- */

chatd_status back_start(struct engine *); /* opens the writer's connection, or says why not */
void back_stop(struct engine *);          /* after all threads */
extern const char back_stalled[];         /* what the log says of commits that take too long */
/* [writer] 1: groups can be committed.  0: not now; the calls stay in the queue. */
int back_ready(struct engine *);
/* [writer] Carries out what is in the group, and commits.  0: it was not done at all, and goes
 * back into the queue. */
int commit_group(struct engine *, struct ops *group);
/* [writer] After a group, or now and then; idle: there is nothing else to do. */
void back_work(struct engine *, int idle);
int back_busy(const struct engine *); /* [writer] 1: back_work() shall run again at once */
void back_end(struct engine *);       /* [writer] at its end */
/* [writer] @p work in a transaction of its own; what it returns, or a negative errno. */
typedef int64_t back_work_fn(struct db *, int64_t wall);
int64_t back_between(struct engine *, back_work_fn *work);
/* [writer] What was overwritten or deleted does not stay in the log or the index.  Some of the
 * work; 1: it is done, or not ours to do. */
int back_forget(struct engine *);
/* [a reader] One call, one snapshot. */
void read_one(struct db *, struct op *);

/* ---- what the calls do -------------------------------------------------------------- */

/* Each sets op->rc and op->a. */
typedef void do_fn(struct db *, struct op *);
#define CHATD_X(name, request, writes) do_fn do_##name;
CHATD_STORE_MAP(CHATD_X)
CHATD_STORE_NEWER(CHATD_X)
#undef CHATD_X
void op_run(struct db *, struct op *); /* by op->call, with answers filled in */

struct conv_row {
	int64_t n, first, top, last_pos, gone_pos;
	struct chatd_store_conv conv; /* borrowed from the request, or copied for the op */
};
struct conv_key {
	char text[KEY_MAX];
	struct chatd_str key, room, a, b; /* a <= b */
};

/* do_common.c */
int id_ok(struct chatd_str);
int str_same(struct chatd_str, struct chatd_str);
struct chatd_str str_z(const char *);
void refuse(struct op *, chatd_status rc, int32_t why);
int conv_key(const struct chatd_store_conv *, struct conv_key *ret); /* 0: not a conversation */
int conv_find(struct db *, const struct conv_key *, struct conv_row *ret); /* 0: none yet */
/* 1 if @p user may read it; else 0 and the op is refused. */
int may_read(struct db *, struct op *, const struct conv_key *, struct chatd_str user);
void set_epoch(struct db *, struct op *);
/* The columns that row_message() reads, of msg m and conv c. */
#define MSG_COLUMNS                                                                  \
	"m.pos, m.seq, m.id, m.kind, m.flags, m.sender, m.client_id, m.wall, m.expires," \
	" m.target, m.reply_to, m.thread, m.body, c.room, c.a, c.b, m.sealed"
void row_message(struct db *, struct op *, db_rows *, struct chatd_store_message *ret);
struct chatd_store_message *push_message(struct db *, struct op *, db_rows *, struct vec *);
void set_messages(struct op *, const struct vec *);
/* Of msg m and conv c: a room that is public or that the user is in, not banned; a conversation of the user's
 * own.  ?1: the user, ?2: the time. */
#define MAY_READ                                                                       \
	" m.seq >= c.first AND (?1 IS NULL OR c.a=?1 OR c.b=?1 OR (c.room IS NOT NULL AND" \
	" EXISTS(SELECT 1 FROM room r LEFT JOIN member x ON x.room=r.id AND x.user=?1"     \
	" WHERE r.id=c.room AND (r.flags & 1 <> 0 OR x.role > 0) AND coalesce(x.banned, 0) <= ?2)))"

/* do_append.c, or the back-end's: a row of a conversation, once it is known to be allowed. */
struct new_row {
	int32_t kind;
	uint32_t flags;
	const struct conv_key *key;
	struct chatd_str id, sender, client_id, hash, body, text, target, reply_to, thread;
	const struct chatd_store_out *out;
	size_t n_out;
	int64_t wall, expires;
};
void append_row(struct db *, struct op *, const struct new_row *);
/* The row that comes with a change of a room. */
void append_event(struct db *, struct op *, const struct chatd_store_append *);

/* seal.c */
int seals(const struct engine *); /* 1: what is written is encrypted */
int search_is_off(const struct engine *);
struct seal_at { /* where a record lies */
	const char *kind;
	struct chatd_str conv, sender, id; /* id: for the log */
	int64_t seq;
};
struct said { /* what a row says: the columns body, text and sealed */
	struct chatd_str body, text, sealed;
};
/* What is to be written for .body and .text, into all three; without a cipher they stay. */
chatd_status seal_said(struct db *, struct arena *, const struct seal_at *, struct said *);
/* The other way; 0: it cannot be read, and both are empty. */
int open_said(struct engine *, struct arena *, const struct seal_at *, struct said *);
struct chatd_str seal_hash(struct engine *, struct arena *, struct chatd_str hash);
int hash_same(const struct engine *, struct chatd_str stored, struct chatd_str hash);
void outbox_put(struct db *, struct op *, const struct new_row *);
void outbox_open(struct op *, int64_t pos, struct chatd_store_out_row *, struct chatd_str sealed);
/* Of a plugin's record. */
chatd_status seal_value(struct engine *, struct arena *, struct chatd_str space,
		struct chatd_str key, struct chatd_str *value);
int open_value(struct engine *, struct arena *, struct chatd_str space, struct chatd_str key,
		struct chatd_str *value); /* 0: it cannot be read */
/* A search for whole words, all of them, under whichever key; .p NULL: there are no words. */
struct keyed_form {
	const char *quote, *either, *both; /* as the search's language has them */
};
struct chatd_str keyed_query(
		struct db *, struct op *, struct chatd_str text, const struct keyed_form *);

/* tokenizer.c: the words of a text as FTS5 sees them, until @p fn says 0. */
typedef int word_fn(void *arg, struct chatd_str word);
chatd_status words_each(struct db *, struct chatd_str text, word_fn *fn, void *arg);

/* reseal.c [writer] */
chatd_status reseal_start(struct engine *);
void reseal_stop(struct engine *);
void reseal_when_due(struct engine *);

/* do_dedupe.c */
int row_ok(const struct new_row *);
/* By what a clientId is found. */
int64_t client_number(struct db *, struct chatd_str sender, struct chatd_str client_id);
/* 1: that clientId was there, and the op is answered. */
int deduped(struct db *, struct op *, struct chatd_str sender, struct chatd_str client_id,
		struct chatd_str hash, int64_t wall);

/* do_rooms.c */
struct room_row {
	int64_t slow_ms, max_members, version, members;
	uint32_t flags;
	/* Of one user: */
	int32_t role, there, invited; /* there: has a row, perhaps only a ban */
	int64_t muted_until, banned_until, spoke;
	int32_t guest;
};
int says_banned(const struct room_row *, int64_t wall);
int room_look(struct db *, struct chatd_str room, struct chatd_str user, struct room_row *ret);
void room_remove(struct db *, struct chatd_str room);

/* do_members.c: the user leaves every room, and what rooms knew of it goes. */
void members_forget(struct db *, struct op *, struct chatd_str user);

/* do_nodes.c: the account or the logins of that user change; all_ended: when all logins end, or 0 */
void touch(struct db *, struct chatd_str user, int64_t all_ended);

/* do_accounts.c: .accounts[0] of the answer, if there is such an account. */
int answer_account(struct db *, struct op *, struct chatd_str id);

/* do_logins.c */
int64_t logins_end(struct db *, struct chatd_str user, struct chatd_str keep); /* all but keep */
int64_t logins_sweep(struct db *, int64_t wall);                               /* secrets too */

/* do_cursors.c: on whichever device; 0: nowhere yet */
int64_t cursor_furthest(struct db *, struct chatd_str user, int64_t conv, int32_t kind);
/* of logins that are gone, or whose end comes next in logins_sweep() */
void cursors_fold(struct db *, struct chatd_str user);
void cursors_fold_ended(struct db *, int64_t wall, int limit);

/* do_sweep.c */
int64_t sweep(struct db *, int64_t wall);

/* do_files.c */
/* The files of a message that was just written, at @p pos; else the op is refused. */
void files_attach(struct db *, struct op *, const struct chatd_store_append *, int64_t pos);
void files_detach(struct db *, int64_t pos);            /* the message goes, or what it says */
void files_forget(struct db *, struct chatd_str owner); /* those that nobody else has */
int64_t files_sweep(struct db *, int64_t wall);

/* do_records.c */
void records_forget(struct db *, struct chatd_str owner);
int64_t records_sweep(struct db *, int64_t wall);

/* The search index, the back-end's. */
/* [writer] A text was changed: it is no more, and there is a new one. */
void words_change(struct db *, int64_t pos, struct chatd_str old_text, struct chatd_str new_text);
void words_remove(struct db *, int64_t pos);     /* [writer] the row's text goes */
void words_remove_row(struct db *, int64_t pos); /* [writer] the row goes */

/* do_sweep.c: what a user's messages say goes: some now, what is left by the sweep. */
int64_t erase_messages(struct db *, struct chatd_str sender);

#endif
