/* SPDX-License-Identifier: Apache-2.0 */
/* Other plugins that follow what happens in rooms. */
#include "rooms.h"

chatd_status watch_add(void *obj, chatd_room_event_fn *fn, void *arg)
{
	struct self *self = obj;
	int32_t i = chatd_hearers_place(&self->watching);
	if (i < 0) {
		return i;
	}
	self->watchers[i] = (struct watcher){ fn, arg };
	chatd_hearers_fill(&self->watching, i);
	return 0;
}

void watch_tell(const struct op *op, int32_t what, struct chatd_str user)
{
	const struct self *self = op->self;
	const struct chatd_room_event e = {
		.struct_size = sizeof(e), .what = what, .room = text(op->room), .user = user
	};
	for (int32_t i = 0; i < chatd_hearers_count(&self->watching); i++) {
		if (chatd_hearers_hears(&self->watching, i)) {
			self->watchers[i].fn(self->watchers[i].arg, op->home, &e);
		}
	}
}
