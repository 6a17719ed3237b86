/* SPDX-License-Identifier: Apache-2.0 */
#include "change_body.h"

/* ---- reading -------------------------------------------------------------------------- */

struct input {
	struct chatd_str target, content, message, reaction, client_id, key_id;
	int32_t remove, encrypted;
};

#define AT(f) offsetof(struct input, f)
static const struct chatd_json_field fields[] = {
	{ "messageId", CHATD_J_TEXT, AT(target) },
	{ "content", CHATD_J_TEXT, AT(content) },
	{ "message", CHATD_J_TEXT, AT(message) },
	{ "reaction", CHATD_J_TEXT, AT(reaction) },
	{ "clientId", CHATD_J_TEXT, AT(client_id) },
	{ "remove", CHATD_J_BOOL, AT(remove) },
	{ "encrypted", CHATD_J_BOOL, AT(encrypted) },
	{ "keyId", CHATD_J_TEXT, AT(key_id) },
	{ NULL, 0, 0 },
};

static const char *fault_of(const struct input *in, enum change_kind kind)
{
	if (!in->target.p) {
		return "messageId is missing";
	}
	if (!message_printable(in->client_id, CLIENT_ID_MAX)) {
		return "clientId must have at most 128 bytes and no control characters";
	}
	if (kind == CHANGE_EDIT && !in->content.p) {
		return "content is missing";
	}
	if (kind == CHANGE_EDIT && message_blank(in->content)) {
		return "content must not be empty; delete the message instead";
	}
	if (kind == CHANGE_REACT && !in->reaction.p) {
		return "reaction is missing";
	}
	if (kind == CHANGE_REACT &&
			(message_blank(in->reaction) || !message_printable(in->reaction, EMOJI_MAX))) {
		return "reaction must have 1 to 64 bytes and no control characters";
	}
	return NULL;
}

static chatd_status check_size(
		const struct input *in, const struct message_limits *max, struct message_fault *f)
{
	return in->encrypted ? message_sealed(in->content, in->key_id, max, f)
						 : message_size(in->content, max, f);
}

chatd_status change_read(struct chatd_str body, enum change_kind kind,
		const struct message_limits *max, struct change_draft *ret, struct message_fault *ret_fault)
{
	struct input in = { .remove = 0 };
	json_t *root;
	*ret_fault = (struct message_fault){ .code = "VALIDATION" };
	if (chatd_json_read(body, fields, &in, &root, ret_fault->why) < 0) {
		return -EINVAL;
	}
	in.content = in.content.p ? in.content : in.message;
	const char *why = fault_of(&in, kind);
	chatd_str_copy(ret_fault->client_id, sizeof(ret_fault->client_id),
			in.client_id.n <= CLIENT_ID_MAX ? in.client_id : CHATD_LIT(""));
	if (why) {
		snprintf(ret_fault->why, sizeof(ret_fault->why), "%s", why);
	}
	if (why || (kind == CHANGE_EDIT && check_size(&in, max, ret_fault) < 0)) {
		json_decref(root);
		return -EINVAL;
	}
	*ret = (struct change_draft){ .root = root,
		.target = in.target,
		.content = kind == CHANGE_EDIT ? in.content : chatd_str_of(NULL, 0),
		.emoji = kind == CHANGE_REACT ? in.reaction : chatd_str_of(NULL, 0),
		.client_id = in.client_id.n ? in.client_id : chatd_str_of(NULL, 0),
		.key_id = kind == CHANGE_EDIT && in.encrypted ? in.key_id : chatd_str_of(NULL, 0),
		.remove = in.remove };
	return 0;
}

/* ---- the event ------------------------------------------------------------------------- */

static struct chatd_str type_of(enum change_kind kind)
{
	switch (kind) {
	case CHANGE_EDIT:
		return CHATD_LIT("EDIT");
	case CHANGE_DELETE:
		return CHATD_LIT("DELETE");
	case CHANGE_REACT:
		return CHATD_LIT("REACTION");
	default:
		return CHATD_LIT("SYSTEM");
	}
}

void change_write_event(struct chatd_json *j, enum change_kind kind, const struct change_draft *d,
		const struct change_stamp *s)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", s->id);
	chatd_json_member(j, "clientId", d->client_id);
	chatd_json_member(j, "type", type_of(kind));
	if (kind == CHANGE_PIN) {
		chatd_json_member(j, "code", d->remove ? CHATD_LIT("UNPINNED") : CHATD_LIT("PINNED"));
	}
	chatd_json_member(j, "messageId", d->target);
	chatd_json_member(j, "sender", s->sender);
	chatd_json_member(j, "senderId", s->sender);
	chatd_json_member(j, "senderName", s->sender_name);
	chatd_json_member(j, "receiver", s->receiver);
	chatd_json_member(j, "receiverId", s->receiver);
	chatd_json_member(j, "roomId", s->room);
	chatd_json_member(j, "content", d->content);
	if (d->key_id.p) {
		chatd_json_flag(j, "encrypted", 1);
		chatd_json_member(j, "keyId", d->key_id);
	}
	if (kind == CHANGE_REACT) {
		chatd_json_member(j, "reaction", d->emoji);
		chatd_json_flag(j, "removed", d->remove);
	}
	chatd_json_time(j, "timestamp", s->now);
	chatd_json_lit(j, "}");
}

/* ---- the message ------------------------------------------------------------------------- */

/* It is the server's own work, so what is wrong with it does not matter here. */
static json_t *parse(struct chatd_str stored)
{
	char why[CHATD_JSON_WHY];
	return chatd_json_parse(stored, why);
}

int change_write_edited(
		struct chatd_json *j, struct chatd_str stored, const struct change_draft *d, int64_t now)
{
	json_t *root = parse(stored), *value;
	const char *key;
	if (!root) {
		return 0;
	}
	chatd_json_lit(j, "{");
	json_object_foreach (root, key, value) {
		if (strcmp(key, "content") != 0 && strcmp(key, "editedAt") != 0 &&
				strcmp(key, "keyId") != 0) {
			chatd_json_key(j, key);
			chatd_json_value(j, value);
		}
	}
	chatd_json_member(j, "content", d->content);
	chatd_json_member(j, "keyId", d->key_id);
	chatd_json_time(j, "editedAt", now);
	chatd_json_lit(j, "}");
	json_decref(root);
	return 1;
}

/* Who said something and when stays; nothing of what. */
int change_write_tombstone(struct chatd_json *j, struct chatd_str stored)
{
	static const char *const stays[] = { "id", "type", "sender", "senderId", "senderName",
		"receiver", "receiverId", "roomId", "threadId", "timestamp" };
	json_t *root = parse(stored);
	if (!root) {
		return 0;
	}
	chatd_json_lit(j, "{");
	for (size_t i = 0; i < sizeof(stays) / sizeof(stays[0]); i++) {
		json_t *value = json_object_get(root, stays[i]);
		if (value) {
			chatd_json_key(j, stays[i]);
			chatd_json_value(j, value);
		}
	}
	chatd_json_lit(j, "}");
	json_decref(root);
	return 1;
}
