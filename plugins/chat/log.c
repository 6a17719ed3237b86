/* SPDX-License-Identifier: Apache-2.0 */
/* The homes of conversations, and what is published there: for this plugin and for others
 * that write rows. */
#include "send.h"

#include <chatd/log.h>

/* Direct conversations share one, so that what a user gets from several of them comes in the
 * order of its cursors. */
chatd_worker *log_home(const struct self *self, struct chatd_str room)
{
	const struct chatd_host *h = self->h;
	uint64_t n = (uint64_t)h->worker_count();
	return h->worker_at(n == 1 ? 0 : (int32_t)(chatd_hash(&self->key, room.p, room.n) % n));
}

chatd_status log_publish(struct self *self, chatd_worker *w, const struct log_row *r)
{
	const struct chatd_host *h = self->h;
	const struct chatd_store_conv *c = &r->row->conv;
	char dest[sizeof(ROOM_TOPIC) + CHATD_ID_MAX] = INBOX;
	if (c->room.p) {
		snprintf(dest, sizeof(dest), ROOM_TOPIC "%.*s", (int)c->room.n, c->room.p);
	}
	chatd_msg *msg = stored_msg(self, text(dest), r->row, r->epoch);
	chatd_status rc = msg ? 0 : -ENOMEM;
	if (rc == 0 && r->trace.p) {
		rc = h->msg_set(msg, "traceparent", r->trace);
	}
	if (rc == 0 && c->room.p) {
		rc = h->publish(w, msg);
	} else if (rc == 0) {
		rc = h->publish_user(w, c->b, msg);
		if (rc == 0 && !chatd_str_same(c->a, c->b)) {
			rc = h->publish_user(w, c->a, msg);
		}
	}
	h->msg_unref(msg);
	return rc;
}

static chatd_worker *svc_home(void *obj, const struct chatd_store_conv *c)
{
	return log_home(obj, c->room.p ? c->room : CHATD_LIT(""));
}

static chatd_status svc_publish(
		void *obj, chatd_worker *w, const struct chatd_store_message *row, struct chatd_str epoch)
{
	const struct log_row r = { .row = row, .epoch = epoch };
	return log_publish(obj, w, &r);
}

static const struct chatd_log vt = {
	.struct_size = sizeof(vt),
	.home = svc_home,
	.publish = svc_publish,
};

chatd_status log_init(struct self *self)
{
	return self->h->provide(self->ctx, CHATD_LOG, &vt, self);
}
