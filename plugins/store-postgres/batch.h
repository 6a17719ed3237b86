/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file batch.h
 * @brief Rows of conversations that are written in one statement.
 */
#ifndef STORE_POSTGRES_BATCH_H
#define STORE_POSTGRES_BATCH_H

#include "../store-sqlite/store.h"

enum { BATCH_ROWS = 256, BATCH_BYTES = 4 << 20, BATCH_COLUMNS = 24 };

/* One parameter: an array, as it goes over the wire. */
struct column {
	char *p;
	size_t n, cap;
	int32_t count, nulls;
};

struct batch_row {
	struct new_row row;
	struct conv_key key;
	int32_t check, twice;
	struct chatd_str mentions; /* as PostgreSQL writes an array */
	uint64_t client, place;    /* hashes, to compare quickly */
	struct said said;          /* what is written: encrypted, if it is, for .seq */
	int64_t seq;               /* the one that it will get if nothing before it is refused */
	struct op *op;
};

struct batch {
	struct column columns[BATCH_COLUMNS];
	struct batch_row rows[BATCH_ROWS];
	int n;
	size_t bytes;
	int failed; /* no memory */
};

/* Its place is the last one's, which the caller has filled.  0: it must wait for the next batch,
 * because what it asks depends on one before it. */
int batch_add(struct db *, struct batch *);
/* Writes all of them; answers their ops.  After it the batch is empty again. */
void batch_run(struct db *, struct batch *);
void batch_free(struct batch *);

#endif
