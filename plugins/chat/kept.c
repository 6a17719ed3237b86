/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of rows, for those that have to wait. */
#include "chat.h"

static struct chatd_str put(char **at, struct chatd_str s)
{
	char *p = *at;
	if (!s.p) {
		return s;
	}
	memcpy(p, s.p, s.n);
	*at = p + s.n;
	return chatd_str_of(p, s.n);
}

size_t row_bytes(const struct log_row *r)
{
	const struct chatd_store_message *m = r->row;
	return m->conv.room.n + m->conv.a.n + m->conv.b.n + m->id.n + m->sender.n + m->target.n +
			m->body.n + m->reactions.n + r->epoch.n + r->trace.n;
}

void row_copy(struct log_row *to, struct chatd_store_message *message, char *texts,
		const struct log_row *from)
{
	const struct chatd_store_message *m = from->row;
	char *at = texts;
	*to = *from;
	*message = *m;
	to->row = message;
	message->conv.room = put(&at, m->conv.room);
	message->conv.a = put(&at, m->conv.a);
	message->conv.b = put(&at, m->conv.b);
	message->id = put(&at, m->id);
	message->sender = put(&at, m->sender);
	message->target = put(&at, m->target);
	message->body = put(&at, m->body);
	message->reactions = put(&at, m->reactions);
	to->epoch = put(&at, from->epoch);
	to->trace = put(&at, from->trace);
}
