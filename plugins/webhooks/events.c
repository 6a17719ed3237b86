/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the store as events. */
#include "webhooks.h"

uint32_t event_of_row(const struct chatd_store_message *m)
{
	switch (m->kind) {
	case CHATD_STORE_MESSAGE:
		return EVENT_MESSAGE;
	case CHATD_STORE_EDIT:
	case CHATD_STORE_DELETE:
	case CHATD_STORE_REACTION:
		return EVENT_CHANGE;
	case CHATD_STORE_EVENT:
		return EVENT_ROOM;
	default:
		return 0;
	}
}

int event_wanted(const struct target *t, const struct chatd_store_message *m)
{
	const char *const *room = t->conf->rooms;
	if (!(t->events & event_of_row(m)) || m->body.n == 0) {
		return 0;
	}
	if (!m->conv.room.p) {
		return t->conf->direct;
	}
	while (*room && !chatd_str_same(text(*room), m->conv.room)) {
		room++;
	}
	return !t->conf->rooms[0] || *room;
}

static struct chatd_str type_of(int32_t kind)
{
	switch (kind) {
	case CHATD_STORE_EDIT:
		return CHATD_LIT("message.edited");
	case CHATD_STORE_DELETE:
		return CHATD_LIT("message.deleted");
	case CHATD_STORE_REACTION:
		return CHATD_LIT("message.reaction");
	case CHATD_STORE_EVENT:
		return CHATD_LIT("room.event");
	default:
		return CHATD_LIT("message.created");
	}
}

void event_write(struct chatd_json *j, const struct chatd_store_message *m, struct chatd_str epoch)
{
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", m->id);
	chatd_json_member(j, "type", type_of(m->kind));
	chatd_json_time(j, "timestamp", m->wall);
	chatd_json_member(j, "roomId", m->conv.room);
	if (!m->conv.room.p) {
		chatd_json_key(j, "users");
		chatd_json_lit(j, "[");
		chatd_json_quote(j, m->conv.a);
		chatd_json_lit(j, ",");
		chatd_json_quote(j, m->conv.b);
		chatd_json_lit(j, "]");
	}
	chatd_json_int(j, "seq", m->seq);
	chatd_json_member(j, "epoch", epoch);
	chatd_json_key(j, "data");
	chatd_json_raw(j, m->body.p, m->body.n);
	chatd_json_lit(j, "}");
}

static struct chatd_str status_name(int32_t status)
{
	switch (status) {
	case CHATD_PRESENCE_OFFLINE:
		return CHATD_LIT("offline");
	case CHATD_PRESENCE_ONLINE:
		return CHATD_LIT("online");
	case CHATD_PRESENCE_AWAY:
		return CHATD_LIT("away");
	case CHATD_PRESENCE_BUSY:
		return CHATD_LIT("busy");
	default:
		return CHATD_LIT("unknown");
	}
}

void event_write_presence(struct chatd_json *j, const char *id, struct chatd_str user,
		const struct chatd_presence_state *s, int64_t wall)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(id));
	chatd_json_member(j, "type", CHATD_LIT("user.presence"));
	chatd_json_time(j, "timestamp", wall);
	chatd_json_member(j, "userId", user);
	chatd_json_flag(j, "online", s->status != CHATD_PRESENCE_OFFLINE);
	chatd_json_member(j, "status", status_name(s->status));
	chatd_json_member(j, "text", s->text);
	chatd_json_lit(j, "}");
}
