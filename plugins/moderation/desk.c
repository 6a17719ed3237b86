/* SPDX-License-Identifier: Apache-2.0 */
/* Moderators see reports and close them: those of the server all, those of a room its own. */
#include "moderation.h"

/* ---- who may ----------------------------------------------------------------------------- */

static void on_room(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc == -ENOENT || rc == -EACCES) {
		ask_problem(a, 404, "NOT_FOUND", "there is no such room");
	} else if (rc < 0) {
		ask_refused(a, rc);
	} else if (s->rooms[0].role < CHATD_ROLE_MODERATOR) {
		ask_problem(a, 403, "FORBIDDEN", "only moderators of the room may do that");
	} else {
		a->then(a);
	}
}

static void admit(struct ask *a, void (*then)(struct ask *))
{
	uint32_t flags = a->a.h->ident_flags(a->a.who);
	a->powerful = (flags & (CHATD_ID_ADMIN | CHATD_ID_MODERATOR)) != 0;
	a->then = then;
	if (a->powerful) {
		then(a);
	} else if (!a->room[0]) {
		ask_problem(a, 403, "FORBIDDEN",
				"only moderators of the server may do that; those of a room name it: roomId");
	} else {
		const struct chatd_store_room_key r = {
			.struct_size = sizeof(r), .room = text(a->room), .user = chatd_ask_user(&a->a)
		};
		chatd_ask_asked(
				&a->a, store_of(a)->room_get(self_of(a)->store->obj, a->a.w, &r, on_room, a));
	}
}

/* ---- GET /api/reports ---------------------------------------------------------------------- */

/* Nobody is to decide about himself. */
static int concerns(const struct ask *a, struct chatd_str value)
{
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(value, why);
	const char *sender = json_string_value(json_object_get(root, "sender"));
	int same = sender && chatd_str_same(text(sender), chatd_ask_user(&a->a));
	json_decref(root);
	return same;
}

static void on_list(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	struct chatd_json *j = &a->a.out;
	a->a.under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc);
		return;
	}
	chatd_json_lit(j, "{\"reports\":[");
	for (size_t i = 0; i < s->n_records; i++) {
		if (a->powerful || !concerns(a, s->records[i].value)) {
			chatd_json_next(j);
			chatd_json_raw(j, s->records[i].value.p, s->records[i].value.n);
		}
	}
	chatd_json_lit(j, "]");
	if (s->n_records) { /* a page may be short and not the last: that is the one with none */
		chatd_json_member(j, "after", s->records[s->n_records - 1].key);
	}
	chatd_json_lit(j, "}");
	ask_answer(a, 200);
}

static void list(struct ask *a)
{
	char prefix[CHATD_ID_MAX + 2];
	struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = a->limit,
		.space = a->closed ? CHATD_LIT(CLOSED) : CHATD_LIT(OPEN),
		.prefix = CHATD_LIT(""),
		.after = a->key[0] ? text(a->key) : chatd_str_of(NULL, 0),
		.wall = a->a.h->wall_ms() };
	if (a->room[0]) {
		snprintf(prefix, sizeof(prefix), "%s.", a->room);
		r.prefix = text(prefix);
	}
	chatd_ask_asked(
			&a->a, store_of(a)->record_list(self_of(a)->store->obj, a->a.w, &r, on_list, a));
}

/* Of a report in that room, if one is named. */
static int is_key(struct chatd_str key, struct chatd_str room)
{
	size_t dots = 0;
	for (size_t i = 0; i < key.n; i++) {
		dots += key.p[i] == '.';
		if (key.p[i] != '.' && !chatd_id_ok(chatd_str_of(key.p + i, 1))) {
			return 0;
		}
	}
	return key.n <= KEY_MAX && dots == 2 &&
			(!room.n ||
					(key.n > room.n && key.p[room.n] == '.' && memcmp(key.p, room.p, room.n) == 0));
}

void run_list(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	struct chatd_str room = ap->http->req_query(ap->req, "roomId");
	struct chatd_str status = ap->http->req_query(ap->req, "status");
	struct chatd_str after = ap->http->req_query(ap->req, "after");
	int32_t limit = chatd_ask_limit(ap, 50, 200);
	if (!limit) {
		return;
	}
	a->limit = limit;
	a->closed = chatd_str_same(status, CHATD_LIT("closed"));
	if (room.n && !chatd_id_ok(room)) {
		ask_problem(a, 404, "NOT_FOUND", "there is no such room");
	} else if (status.n && !a->closed && !chatd_str_same(status, CHATD_LIT("open"))) {
		ask_problem(a, 422, "VALIDATION", "status must be open or closed");
	} else if (after.p && !is_key(after, room)) {
		chatd_ask_bad_cursor(ap);
	} else {
		chatd_str_copy(a->room, sizeof(a->room), room);
		/* Copied: the client may have left by the time the room has been looked up. */
		chatd_str_copy(a->key, sizeof(a->key), after);
		admit(a, list);
	}
}

/* ---- closing --------------------------------------------------------------------------------- */

static void note_end(struct ask *a)
{
	char detail[256];
	int n = snprintf(detail, sizeof(detail), "report %s:", a->key);
	for (int i = 0; i < ACTS; i++) {
		if (a->acts & 1 << i && n > 0 && (size_t)n < sizeof(detail)) {
			n += snprintf(detail + n, sizeof(detail) - (size_t)n, " %s", act_names[i]);
		}
	}
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = a->dismissed ? CHATD_LIT("report.dismiss") : CHATD_LIT("report.resolve"),
		.actor = chatd_ask_user(&a->a),
		.target = text(a->sender),
		.room = a->room[0] ? text(a->room) : chatd_str_of(NULL, 0),
		.detail = text(detail),
		.address = text(a->a.peer),
		.request = text(a->a.id) };
	chatd_audit_note(self_of(a)->audit, a->a.w, &e);
}

static void on_ended(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	a->a.under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc);
		return;
	}
	note_end(a);
	chatd_json_raw(&a->a.out, a->value.p, a->value.n);
	ask_answer(a, 200);
}

static void on_closed(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	a->a.under_way = 0;
	/* That it was closed before and could not be taken from the open ones is put right here. */
	if (rc < 0 && rc != -EEXIST) {
		ask_refused(a, rc);
		return;
	}
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT(OPEN),
		.key = text(a->key),
		.wall = a->a.h->wall_ms() };
	rc = store_of(a)->record_end(self_of(a)->store->obj, a->a.w, &r, on_ended, a);
	a->a.under_way = rc == 0;
	if (rc < 0) {
		ask_refused(a, rc);
	}
}

static void write_end(struct ask *a, int64_t now)
{
	struct chatd_json *j = &a->value;
	j->n -= j->n > 0; /* the brace at the end; without memory there is none */
	chatd_json_member(j, "status", a->dismissed ? CHATD_LIT("dismissed") : CHATD_LIT("resolved"));
	chatd_json_key(j, "actions");
	chatd_json_lit(j, "[");
	for (int i = 0; i < ACTS; i++) {
		if (a->acts & 1 << i) {
			chatd_json_next(j);
			chatd_json_quote(j, text(act_names[i]));
		}
	}
	chatd_json_lit(j, "]");
	chatd_json_member(j, "closedBy", chatd_ask_user(&a->a));
	chatd_json_time(j, "closedAt", now);
	chatd_json_member(j, "comment", a->note[0] ? text(a->note) : chatd_str_of(NULL, 0));
	chatd_json_lit(j, "}");
}

void desk_close(struct ask *a)
{
	const struct self *self = self_of(a);
	int64_t now = a->a.h->wall_ms();
	struct chatd_str reporter = text(strrchr(a->key, '.') + 1);
	write_end(a, now);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_NEW,
		.space = CHATD_LIT(CLOSED),
		.key = text(a->key),
		.value = chatd_json_str(&a->value),
		.owner = reporter,
		.expires = self->conf->retention ? now + self->conf->retention : 0,
		.wall = now };
	chatd_status rc = a->value.failed
			? -ENOMEM
			: store_of(a)->record_put(self->store->obj, a->a.w, &r, on_closed, a);
	a->a.under_way = rc == 0;
	if (rc < 0) {
		ask_refused(a, rc);
	}
}

static void on_report(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	char why[CHATD_JSON_WHY];
	a->a.under_way = 0;
	if (rc == -ENOENT || (rc == 0 && !a->powerful && concerns(a, s->records[0].value))) {
		ask_problem(a, 404, "NOT_FOUND", "there is no such open report");
		return;
	}
	if (rc < 0) {
		ask_refused(a, rc);
		return;
	}
	json_t *root = chatd_json_parse(s->records[0].value, why);
	const char *sender = json_string_value(json_object_get(root, "sender"));
	const char *message = json_string_value(json_object_get(root, "messageId"));
	const char *reason = json_string_value(json_object_get(root, "reason"));
	chatd_str_copy(a->reason, sizeof(a->reason), text(reason ? reason : ""));
	chatd_str_copy(a->sender, sizeof(a->sender), text(sender ? sender : ""));
	chatd_str_copy(a->message, sizeof(a->message), text(message ? message : ""));
	json_decref(root);
	chatd_json_raw(&a->value, s->records[0].value.p, s->records[0].value.n);
	a->left = a->acts;
	act_go_on(a);
}

static void look_report(struct ask *a)
{
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT(OPEN),
		.key = text(a->key),
		.wall = a->a.h->wall_ms() };
	if ((a->acts & ACT_BAN_ACCOUNT) && !a->powerful) {
		ask_problem(a, 403, "FORBIDDEN", "ban-account: only moderators of the server may do that");
		return;
	}
	chatd_ask_asked(
			&a->a, store_of(a)->record_get(self_of(a)->store->obj, a->a.w, &r, on_report, a));
}

/* ---- the question -------------------------------------------------------------------------------- */

struct input {
	json_t *actions;
	int64_t seconds; /* INT64_MIN: not said */
	struct chatd_str comment;
};
static const struct chatd_json_field fields[] = {
	{ "actions", CHATD_J_LIST, offsetof(struct input, actions) },
	{ "seconds", CHATD_J_INT, offsetof(struct input, seconds) },
	{ "comment", CHATD_J_TEXT, offsetof(struct input, comment) },
	{ NULL, 0, 0 },
};

static const char *take_actions(struct ask *a, json_t *list)
{
	const int32_t of_room = ACT_MUTE | ACT_KICK | ACT_BAN;
	json_t *item;
	size_t i;
	json_array_foreach (list, i, item) {
		int k = 0;
		const char *name = json_string_value(item);
		while (k < ACTS && !(name && strcmp(name, act_names[k]) == 0)) {
			k++;
		}
		if (k == ACTS) {
			return "actions: there are delete, mute, kick, ban and ban-account";
		}
		a->acts |= 1 << k;
	}
	if ((a->acts & of_room) && !a->room[0]) {
		return "actions: mute, kick and ban are for messages of a room";
	}
	return NULL;
}

static const char *take_input(struct ask *a, const struct input *in)
{
	if (in->comment.n > NOTE_MAX) {
		return "comment has at most 2000 bytes";
	}
	if (in->seconds != INT64_MIN && (in->seconds < 1 || in->seconds > 316224000)) {
		return "seconds must be 1 to 316224000, or be left out: for ever";
	}
	a->seconds = in->seconds == INT64_MIN ? -1 : in->seconds;
	chatd_str_copy(a->note, sizeof(a->note), in->comment);
	return a->dismissed ? NULL : take_actions(a, in->actions);
}

/* ROOM.MESSAGE.REPORTER; 0: it is none. */
static int take_id(struct ask *a)
{
	struct chatd_str id = a->a.http->req_param(a->a.req, "id");
	const char *one = id.n ? memchr(id.p, '.', id.n) : NULL;
	const char *two = one ? memchr(one + 1, '.', id.n - (size_t)(one + 1 - id.p)) : NULL;
	if (!two || id.n > KEY_MAX) {
		return 0;
	}
	struct chatd_str room = chatd_str_of(id.p, (size_t)(one - id.p));
	struct chatd_str message = chatd_str_of(one + 1, (size_t)(two - one - 1));
	struct chatd_str by = chatd_str_of(two + 1, id.n - (size_t)(two + 1 - id.p));
	if ((room.n && !chatd_id_ok(room)) || !chatd_id_ok(message) || !chatd_id_ok(by)) {
		return 0;
	}
	chatd_str_copy(a->room, sizeof(a->room), room);
	chatd_str_copy(a->key, sizeof(a->key), id);
	return 1;
}

static void begin_close(struct ask *a)
{
	struct input in = { .seconds = INT64_MIN };
	json_t *root;
	if (!take_id(a)) {
		ask_problem(a, 404, "NOT_FOUND", "there is no such open report");
		return;
	}
	if (!chatd_ask_body(&a->a, fields, &in, &root)) {
		return;
	}
	const char *fault = take_input(a, &in);
	json_decref(root);
	if (fault) {
		ask_problem(a, 422, "VALIDATION", fault);
	} else {
		admit(a, look_report);
	}
}

void run_resolve(struct chatd_ask *a)
{
	begin_close((struct ask *)a);
}

void run_dismiss(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	a->dismissed = 1;
	begin_close(a);
}
