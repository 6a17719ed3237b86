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
	struct op *op;
	if (db_open(&db, e, 0) < 0) {
		db_close(&db); /* read_one() tries again */
	}
	while ((op = next(e))) {
		struct ops done = STAILQ_HEAD_INITIALIZER(done);
		read_one(&db, op);
		STAILQ_INSERT_TAIL(&done, op, link);
		ops_answer(e, &done);
	}
	db_close(&db);
	return NULL;
}
