/* SPDX-License-Identifier: Apache-2.0 */
/* The watch: nobody is left hanging because a disk is.  It answers -EBUSY for writes
 * that are older than commit_timeout, whether they still wait or are being committed. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { LOOK_MS = 100 };

/* An answer without the op, which the writer still works on. */
static struct op *stand_in(const struct op *op)
{
	struct op *late = calloc(1, sizeof(*late));
	if (late) {
		*late = (struct op){ .e = op->e, .w = op->w, .fn = op->fn, .arg = op->arg };
	}
	return late;
}

/* With the lock.  0: this one, and all behind it, may still wait. */
static int collect(struct engine *e, struct ops *late, int64_t now)
{
	struct op *op = TAILQ_FIRST(&e->waiting);
	if (!op || now - op->born < e->conf.commit_timeout) {
		return 0;
	}
	struct op *answer = op;
	if (op->running) {
		answer = stand_in(op);
		if (!answer) {
			return 0;
		}
		op->answered = 1;
		answer->a.in_doubt = 1;
	} else {
		STAILQ_REMOVE(&e->writes.ops, op, op, link);
		e->writes.n--;
		e->writes.bytes -= op->size;
	}
	TAILQ_REMOVE(&e->waiting, op, wait);
	answer->rc = -EBUSY;
	answer->a.struct_size = sizeof(answer->a);
	STAILQ_INSERT_TAIL(late, answer, link);
	return 1;
}

void *watch_main(void *arg)
{
	struct engine *e = arg;
	int told = 0;
	pthread_mutex_lock(&e->writes.lock);
	while (!e->stopping) {
		struct ops late = STAILQ_HEAD_INITIALIZER(late);
		while (collect(e, &late, clock_ms())) {
		}
		if (!STAILQ_EMPTY(&late)) {
			pthread_mutex_unlock(&e->writes.lock);
			atomic_store(&e->stalled, 1);
			if (!told) {
				e->h->log(e->ctx, CHATD_LOG_ERROR, "%s", back_stalled);
			}
			told = 1;
			ops_answer(e, &late);
			pthread_mutex_lock(&e->writes.lock);
			continue;
		}
		if (told && !atomic_load(&e->stalled)) {
			told = 0;
			e->h->log(e->ctx, CHATD_LOG_INFO, "commits come back in time again");
		}
		struct timespec end;
		clock_gettime(CLOCK_MONOTONIC, &end);
		end.tv_nsec += LOOK_MS * 1000000L;
		end.tv_sec += end.tv_nsec / 1000000000;
		end.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&e->quit, &e->writes.lock, &end);
	}
	pthread_mutex_unlock(&e->writes.lock);
	return NULL;
}
