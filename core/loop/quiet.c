/* SPDX-License-Identifier: Apache-2.0 */
/* Whether anything of some code is under way still, in a server that goes on.  As at the server's end:
 * it is over when a whole round of all workers has brought nothing of it. */
#include "loop/worker_impl.h"

struct look {
	const struct loop_whose *whose; /* from now on; NULL: the look is over */
	atomic_bool ran;
};

static void on_look(struct chatd_worker *w, void *arg)
{
	struct look *look = arg;
	if (w->mine && w->ran)
		atomic_store(&look->ran, true);
	w->mine = look->whose;
	w->ran = 0;
}

int loop_quiet(struct loop *loop, const struct loop_whose *whose)
{
	struct look look = { .whose = whose };
	/* Callbacks that run now come to their end, and what they post is in the mailboxes. */
	loop_run_all(loop, on_look, &look);
	bool busy = offload_has(loop->offload, whose);
	if (!busy)
		loop_run_all(loop, on_look, &look);
	look.whose = NULL;
	loop_run_all(loop, on_look, &look);
	return !busy && !atomic_load(&look.ran);
}
