/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"

#include <chatd-sdk/chat.h>

enum {
	MENTIONS_MAX = 100,
	ATTACHMENTS_MAX = 16,
	URL_MAX = 2048,
	TYPE_MAX = 127,
	EXPIRES_MAX = 366 * 24 * 3600, /* s */
};

/* Every field of a ChatMessage, as clients may send it. */
struct input {
	struct chatd_str to, receiver, receiver_id, room, content, message, client_id, type;
	struct chatd_str content_type, reply_to, thread, attachment_url, key_id;
	struct chatd_str ignored;
	json_t *mentions, *attachments, *ignored_any;
	int64_t ignored_int, expires_in;
	int32_t encrypted, ignored_flag;
};

#define AT(f) offsetof(struct input, f)
static const struct chatd_json_field fields[] = {
	{ "to", CHATD_J_TEXT, AT(to) },
	{ "receiver", CHATD_J_TEXT, AT(receiver) },
	{ "receiverId", CHATD_J_TEXT, AT(receiver_id) },
	{ "roomId", CHATD_J_TEXT, AT(room) },
	{ "content", CHATD_J_TEXT, AT(content) },
	{ "message", CHATD_J_TEXT, AT(message) },
	{ "clientId", CHATD_J_TEXT, AT(client_id) },
	{ "type", CHATD_J_TEXT, AT(type) },
	{ "contentType", CHATD_J_TEXT, AT(content_type) },
	{ "replyTo", CHATD_J_TEXT, AT(reply_to) },
	{ "threadId", CHATD_J_TEXT, AT(thread) },
	{ "expiresIn", CHATD_J_INT, AT(expires_in) },
	{ "mentions", CHATD_J_LIST, AT(mentions) },
	{ "attachments", CHATD_J_LIST, AT(attachments) },
	{ "attachmentUrl", CHATD_J_TEXT, AT(attachment_url) },
	{ "encrypted", CHATD_J_BOOL, AT(encrypted) },
	{ "keyId", CHATD_J_TEXT, AT(key_id) },
	{ "id", CHATD_J_TEXT, AT(ignored) },
	{ "sender", CHATD_J_TEXT, AT(ignored) },
	{ "senderId", CHATD_J_TEXT, AT(ignored) },
	{ "senderName", CHATD_J_TEXT, AT(ignored) },
	{ "timestamp", CHATD_J_TEXT, AT(ignored) },
	{ "status", CHATD_J_TEXT, AT(ignored) },
	{ "seq", CHATD_J_INT, AT(ignored_int) },
	{ "edited", CHATD_J_BOOL, AT(ignored_flag) },
	{ "deleted", CHATD_J_BOOL, AT(ignored_flag) },
	{ "reactions", CHATD_J_ANY, AT(ignored_any) },
	{ NULL, 0, 0 },
};

static chatd_status fault(struct message_fault *f, const char *code, const char *why)
{
	f->code = code;
	snprintf(f->why, sizeof(f->why), "%s", why);
	return -EINVAL;
}

static chatd_status invalid(struct message_fault *f, const char *why)
{
	return fault(f, "VALIDATION", why);
}

/* An empty id is none: forms send those. */
static void drop_empty(struct chatd_str *s)
{
	if (s->n == 0) {
		*s = chatd_str_of(NULL, 0);
	}
}

/* Two names for one thing may both be there, with one meaning. */
static int merge(struct chatd_str *into, struct chatd_str other)
{
	if (!into->p) {
		*into = other;
	}
	return !other.p || chatd_str_same(*into, other);
}

static chatd_status check_target(struct input *in, struct message_fault *f)
{
	const struct chatd_chat_names names = { in->to, in->receiver, in->receiver_id, in->room };
	const char *why = chatd_chat_target(&names, &in->to, &in->room);
	return why ? invalid(f, why) : 0;
}

int message_blank(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\n' && s.p[i] != '\r') {
			return 0;
		}
	}
	return 1;
}

chatd_status message_size(
		struct chatd_str content, const struct message_limits *max, struct message_fault *f)
{
	if ((int64_t)content.n > max->bytes) {
		fault(f, "TOO_LARGE", "");
		snprintf(f->why, sizeof(f->why), "content has %zu bytes; %lld are allowed", content.n,
				(long long)max->bytes);
		return -EINVAL;
	}
	size_t chars = chatd_str_chars(content);
	if ((int64_t)chars > max->chars) {
		fault(f, "TOO_LARGE", "");
		snprintf(f->why, sizeof(f->why), "content has %zu characters; %lld are allowed", chars,
				(long long)max->chars);
		return -EINVAL;
	}
	return 0;
}

chatd_status message_sealed(struct chatd_str content, struct chatd_str key_id,
		const struct message_limits *max, struct message_fault *f)
{
	if (!chatd_id_ok(key_id)) {
		return invalid(f,
				"an encrypted message needs keyId, which says whose key it was encrypted with: "
				"1 to 64 letters, digits, _ and -");
	}
	if (!content.n) {
		return invalid(f, "an encrypted message needs content");
	}
	if ((int64_t)content.n > max->sealed) {
		fault(f, "TOO_LARGE", "");
		snprintf(f->why, sizeof(f->why), "content has %zu bytes; %lld are allowed, encrypted",
				content.n, (long long)max->sealed);
		return -EINVAL;
	}
	return 0;
}

static chatd_status check_content(
		struct input *in, const struct message_limits *max, struct message_fault *f)
{
	if (!merge(&in->content, in->message)) {
		return invalid(f, "content and message say different things");
	}
	if (!in->content.p && !in->attachments && !in->attachment_url.p) {
		return invalid(f, "content is missing");
	}
	if (message_blank(in->content) && !in->attachments && !in->attachment_url.p) {
		return invalid(f, "content must not be empty");
	}
	return in->encrypted > 0 ? message_sealed(in->content, in->key_id, max, f)
							 : message_size(in->content, max, f);
}

int message_printable(struct chatd_str s, size_t max)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c < 0x20 || c == 0x7f) {
			return 0;
		}
	}
	return s.n <= max;
}

/* Nothing that a client might run when it is clicked. */
static int safe_url(struct chatd_str s)
{
	if (!message_printable(s, URL_MAX) || s.n == 0) {
		return 0;
	}
	return (s.p[0] == '/' && (s.n == 1 || (s.p[1] != '/' && s.p[1] != '\\'))) ||
			(s.n > 8 && memcmp(s.p, "https://", 8) == 0) ||
			(s.n > 7 && memcmp(s.p, "http://", 7) == 0);
}

static chatd_status check_attachments(const struct input *in, struct message_fault *f)
{
	json_t *item;
	size_t i;
	if (in->attachment_url.p && !safe_url(in->attachment_url)) {
		return invalid(f, "attachmentUrl must be a path, or begin with http:// or https://");
	}
	if (json_array_size(in->attachments) > ATTACHMENTS_MAX) {
		return invalid(f, "attachments has more than 16 entries");
	}
	json_array_foreach (in->attachments, i, item) {
		json_t *url = json_object_get(item, "url");
		if (!json_is_object(item)) {
			return invalid(f, "attachments must hold objects");
		}
		if (url &&
				(!json_is_string(url) ||
						!safe_url(chatd_str_of(json_string_value(url), json_string_length(url))))) {
			return invalid(f, "attachments: url must be a path, or begin with http:// or https://");
		}
	}
	return 0;
}

static chatd_status check_mentions(const struct input *in, struct message_fault *f)
{
	json_t *item;
	size_t i;
	if (json_array_size(in->mentions) > MENTIONS_MAX) {
		return invalid(f, "mentions has more than 100 entries");
	}
	json_array_foreach (in->mentions, i, item) {
		if (!json_is_string(item) ||
				!chatd_id_ok(chatd_str_of(json_string_value(item), json_string_length(item)))) {
			return invalid(f, "mentions must hold user ids");
		}
	}
	return 0;
}

static chatd_status check_rest(struct input *in, struct message_fault *f)
{
	drop_empty(&in->reply_to);
	drop_empty(&in->thread);
	drop_empty(&in->content_type);
	if (in->type.p && !chatd_str_same(in->type, CHATD_LIT("CHAT"))) {
		return invalid(f, "type must be CHAT; the others are the server's to send");
	}
	if (in->content_type.p && !message_printable(in->content_type, TYPE_MAX)) {
		return invalid(f, "contentType must be a media type of at most 127 characters");
	}
	if (in->reply_to.p && !chatd_id_ok(in->reply_to)) {
		return invalid(f, "replyTo must be the id of a message");
	}
	if (in->thread.p && !chatd_id_ok(in->thread)) {
		return invalid(f, "threadId must be the id of the thread's first message");
	}
	if (in->expires_in < 0 || in->expires_in > EXPIRES_MAX) {
		return invalid(f, "expiresIn must be 1 to 31622400 seconds");
	}
	chatd_status rc = check_attachments(in, f);
	return rc < 0 ? rc : check_mentions(in, f);
}

static chatd_status check_client_id(struct input *in, struct message_fault *f)
{
	drop_empty(&in->client_id);
	if (!message_printable(in->client_id, CLIENT_ID_MAX)) {
		return invalid(f, "clientId must have at most 128 bytes and no control characters");
	}
	chatd_str_copy(f->client_id, sizeof(f->client_id), in->client_id);
	return 0;
}

/* The client must learn which of its messages it was, whichever field was wrong. */
static void find_client_id(struct chatd_str body, struct message_fault *f)
{
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(body, why);
	json_t *id = json_object_get(root, "clientId");
	if (json_is_string(id)) {
		struct chatd_str text = chatd_str_of(json_string_value(id), json_string_length(id));
		if (message_printable(text, CLIENT_ID_MAX)) {
			chatd_str_copy(f->client_id, sizeof(f->client_id), text);
		}
	}
	json_decref(root);
}

chatd_status message_read(struct chatd_str body, const struct message_limits *max,
		struct message_draft *ret, struct message_fault *ret_fault)
{
	struct input in = { .encrypted = -1 };
	json_t *root;
	*ret_fault = (struct message_fault){ .code = "VALIDATION" };
	chatd_status rc = chatd_json_read(body, fields, &in, &root, ret_fault->why);
	if (rc < 0) {
		if (rc == -EINVAL) {
			find_client_id(body, ret_fault);
		}
		return -EINVAL;
	}
	if (check_client_id(&in, ret_fault) < 0 || check_target(&in, ret_fault) < 0 ||
			check_rest(&in, ret_fault) < 0 || check_content(&in, max, ret_fault) < 0) {
		json_decref(root);
		return -EINVAL;
	}
	*ret = (struct message_draft){ .root = root,
		.to = in.to,
		.room = in.room,
		.bad_target = !chatd_id_ok(in.to.p ? in.to : in.room),
		.content = in.content,
		.client_id = in.client_id,
		.content_type = in.content_type,
		.reply_to = in.reply_to,
		.thread = in.thread,
		.expires_in_s = in.expires_in,
		.attachment_url = in.attachment_url,
		.mentions = in.mentions,
		.attachments = in.attachments,
		.encrypted = in.encrypted,
		.key_id = in.encrypted > 0 ? in.key_id : chatd_str_of(NULL, 0) };
	return 0;
}

void message_free(struct message_draft *d)
{
	json_decref(d->root);
	d->root = NULL;
}

/* What the sender has said. */
static void write_said(struct chatd_json *j, const struct message_draft *d)
{
	chatd_json_member(j, "receiver", d->to);
	chatd_json_member(j, "receiverId", d->to);
	chatd_json_member(j, "roomId", d->room);
	chatd_json_member(j, "content", d->content);
	chatd_json_member(j, "contentType", d->content_type);
	chatd_json_member(j, "attachmentUrl", d->attachment_url);
	if (d->attachments) {
		chatd_json_key(j, "attachments");
		chatd_json_value(j, d->attachments);
	}
	chatd_json_member(j, "replyTo", d->reply_to);
	chatd_json_member(j, "threadId", d->thread);
	if (d->expires_in_s) {
		chatd_json_int(j, "expiresIn", d->expires_in_s);
	}
	if (d->mentions) {
		chatd_json_key(j, "mentions");
		chatd_json_value(j, d->mentions);
	}
	if (d->encrypted >= 0) {
		chatd_json_flag(j, "encrypted", d->encrypted);
	}
	chatd_json_member(j, "keyId", d->key_id);
	chatd_json_lit(j, "}");
}

void message_add_facts(
		struct chatd_json *j, size_t own, const struct message_draft *d, struct chatd_str facts)
{
	char why[CHATD_JSON_WHY], place[24];
	json_t *known = chatd_json_parse(facts, why), *item, *value;
	const char *key;
	size_t i;
	json_array_foreach (d->attachments, i, item) {
		snprintf(place, sizeof(place), "%zu", i);
		json_object_foreach (json_object_get(known, place), key, value) {
			json_t *said = json_object_get(item, key);
			if ((!said || json_is_null(said)) && json_object_set(item, key, value) < 0) {
				j->failed = 1;
			}
		}
	}
	j->failed |= !known;
	json_decref(known);
	j->n = own;
	write_said(j, d);
}

size_t message_write(
		struct chatd_json *j, const struct message_draft *d, const struct message_stamp *s)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", s->id);
	chatd_json_member(j, "clientId", d->client_id);
	chatd_json_member(j, "type", CHATD_LIT("CHAT"));
	chatd_json_member(j, "sender", s->sender);
	chatd_json_member(j, "senderId", s->sender);
	chatd_json_member(j, "senderName", s->sender_name);
	chatd_json_time(j, "timestamp", s->now);
	chatd_json_member(j, "status", CHATD_LIT("SENT"));
	if (s->bot) {
		chatd_json_flag(j, "bot", 1);
	}
	size_t own = j->n;
	write_said(j, d);
	return own;
}
