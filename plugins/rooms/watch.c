/* SPDX-License-Identifier: Apache-2.0 */
/* Other plugins that follow what happens in rooms. */
#include "rooms.h"

#include <errno.h>

chatd_status watch_add(void *obj, chatd_room_event_fn *fn, void *arg)
{
	struct self *self = obj;
	if (self->n_watchers == WATCHERS_MAX) {
		return -ENOSPC;
	}
	self->watchers[self->n_watchers++] = (struct watcher){ fn, arg };
	return 0;
}

void watch_tell(const struct op *op, int32_t what, struct chatd_str user)
{
	const struct self *self = op->self;
	const struct chatd_room_event e = {
		.struct_size = sizeof(e), .what = what, .room = text(op->room), .user = user
	};
	for (size_t i = 0; i < self->n_watchers; i++) {
		self->watchers[i].fn(self->watchers[i].arg, op->home, &e);
	}
}
