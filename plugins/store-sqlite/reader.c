/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: each a thread with a connection that can only read. */
#include "store.h"

#include <errno.h>

static struct op *next(struct engine *e)
{
	struct queue *q = &e->reads;
	pthread_mutex_lock(&q->lock);
	while (STAILQ_EMPTY(&q->ops) && !e->stopping) {
		pthread_cond_wait(&q->more, &q->lock);
	}
	struct op *op = STAILQ_FIRST(&q->ops);
	if (op) {
		STAILQ_REMOVE_HEAD(&q->ops, link);
		q->n--;
		q->bytes -= op->size;
	}
	pthread_mutex_unlock(&q->lock);
	return op;
}

void *reader_main(void *arg)
{
	struct engine *e = arg;
	struct db db;
	chatd_status rc = db_open(&db, e, 0);
	struct op *op;
	while ((op = next(e))) {
		struct ops done = STAILQ_HEAD_INITIALIZER(done);
		if (rc < 0) {
			db_close(&db);
			rc = db_open(&db, e, 0);
		}
		if (rc == 0) {
			read_one(&db, op);
			/* A connection that met an I/O error is not asked again. */
			if (db.err == -EIO) {
				e->h->log(e->ctx, CHATD_LOG_ERROR, "reading failed: %s", db.why);
				rc = -EIO;
			}
		} else {
			op->rc = rc;
		}
		STAILQ_INSERT_TAIL(&done, op, link);
		ops_answer(e, &done);
	}
	db_close(&db);
	return NULL;
}
