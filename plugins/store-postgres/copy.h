/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file copy.h
 * @brief What the parts of chatd-store-copy share.
 *
 * A row is a line of PostgreSQL's COPY, in its text format: it is what goes over, and what comes
 * back byte by byte when the same columns are read again.  So the hash of a table is the sum of
 * those of its lines, in whatever order they come.
 */
#ifndef STORE_POSTGRES_COPY_H
#define STORE_POSTGRES_COPY_H

#include "../store-sqlite/store.h"

#include <sqlite3.h>

struct copy_table {
	const char *name;
	const char *columns; /* as both databases call them */
};
enum { COPY_TABLES = 22 };
extern const struct copy_table copy_tables[COPY_TABLES];

struct copy_sum {
	int64_t rows;
	uint64_t hash;
};

struct copy {
	const char *path; /* of the file */
	sqlite3 *file;
	int lock_fd;
	char node[65]; /* through which the rows were written */
	char epoch[EPOCH_CHARS + 1];
	int is_backup; /* the file is: chatd would give it a new epoch */

	struct db db; /* the target */
	char place[256];
	struct chatd_hash_key key; /* of the hashes */
	struct copy_sum sent[COPY_TABLES], found[COPY_TABLES];

	struct copy_line {
		char *p;
		size_t n, cap;
	} line;
	struct op op;      /* whose arena the tokenizer uses */
	int64_t next_word; /* when to say how far it is */
};

/* Says it, in one line, and returns the exit code @p code. */
int copy_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* copy_file.c: 0, or an exit code. */
int file_open(struct copy *);
void file_close(struct copy *);
int file_failed(struct copy *);                   /* says what SQLite says */
int64_t file_int(struct copy *, const char *sql); /* 0: also if there is none */

/* copy_rows.c: 0, or an exit code. */
int rows_send(struct copy *, int table); /* fills .sent[table] */
int rows_read(struct copy *, int table); /* fills .found[table] */
int target_failed(struct copy *);        /* says what PostgreSQL says */

#endif
