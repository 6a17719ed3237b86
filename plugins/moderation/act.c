/* SPDX-License-Identifier: Apache-2.0 */
/* What a moderator has decided: one thing after the other, each by the plugin whose business it
 * is.  The first that fails ends the call, and the report stays open. */
#include "moderation.h"

const char *const act_names[ACTS] = { "delete", "mute", "kick", "ban", "ban-account" };

static int32_t status_of(const char *code)
{
	return strcmp(code, "NOT_FOUND") == 0 ? 404
			: strcmp(code, "STORE_BUSY") == 0 || strcmp(code, "STORE_FULL") == 0 ||
					strcmp(code, "UNAVAILABLE") == 0
			? 503
			: 403;
}

static void on_done(void *arg, const char *code, const char *why)
{
	struct ask *a = arg;
	int32_t act = a->left & -a->left;
	a->a.under_way = 0;
	/* Somebody else was there first: that is what was wanted. */
	if (code && strcmp(code, "NOT_FOUND") == 0 && (act == ACT_DELETE || act == ACT_KICK)) {
		code = NULL;
	}
	if (code) {
		ask_problem(a, status_of(code), code, why);
		return;
	}
	a->left &= ~act;
	act_go_on(a);
}

static chatd_status remove_message(struct ask *a)
{
	const struct chatd_service *s = self_of(a)->log;
	const struct chatd_log *log = s ? s->vt : NULL;
	if (!log || !CHATD_HAS(log, remove)) {
		return -ENOSYS;
	}
	const struct chatd_log_remove r = {
		.struct_size = sizeof(r), .message = text(a->message), .by = a->a.who, .over = a->powerful
	};
	return log->remove(s->obj, a->a.w, &r, on_done, a);
}

static chatd_status act_in_room(struct ask *a, int32_t what)
{
	const struct chatd_service *s = self_of(a)->rooms;
	const struct chatd_rooms *rooms = s ? s->vt : NULL;
	if (!rooms || !CHATD_HAS(rooms, act)) {
		return -ENOSYS;
	}
	const struct chatd_rooms_act r = { .struct_size = sizeof(r),
		.what = what,
		.room = text(a->room),
		.user = text(a->sender),
		.by = a->a.who,
		.over = a->powerful,
		.seconds = a->seconds,
		.address = text(a->a.peer),
		.request = text(a->a.id) };
	return rooms->act(s->obj, a->a.w, &r, on_done, a);
}

static chatd_status ban_account(struct ask *a)
{
	const struct chatd_service *s = self_of(a)->users;
	const struct chatd_users *users = s ? s->vt : NULL;
	if (!users || !CHATD_HAS(users, ban)) {
		return -ENOSYS;
	}
	const struct chatd_users_ban b = { .struct_size = sizeof(b),
		.user = text(a->sender),
		.by = a->a.who,
		.seconds = a->seconds,
		.reason = text(a->reason),
		.address = text(a->a.peer),
		.request = text(a->a.id) };
	return users->ban(s->obj, a->a.w, &b, on_done, a);
}

void act_go_on(struct ask *a)
{
	chatd_status rc;
	switch (a->left & -a->left) {
	case 0:
		desk_close(a);
		return;
	case ACT_DELETE:
		rc = remove_message(a);
		break;
	case ACT_MUTE:
		rc = act_in_room(a, CHATD_ROOMS_MUTE);
		break;
	case ACT_KICK:
		rc = act_in_room(a, CHATD_ROOMS_KICK);
		break;
	case ACT_BAN:
		rc = act_in_room(a, CHATD_ROOMS_BAN);
		break;
	default:
		rc = ban_account(a);
		break;
	}
	a->a.under_way = rc == 0;
	if (rc == -ENOSYS) {
		ask_problem(a, 501, "NOT_AVAILABLE",
				"this server has no plugin for that; chat deletes, rooms mutes, users bans accounts");
	} else if (rc < 0) {
		ask_refused(a, rc);
	}
}
