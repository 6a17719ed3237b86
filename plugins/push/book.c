/* SPDX-License-Identifier: Apache-2.0 */
#include "book.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum { MINUTES_OF_DAY = 24 * 60, MINUTE_MS = 60000 };

/* ---- the document -------------------------------------------------------------------------- */

json_t *book_read(struct chatd_str value)
{
	char why[CHATD_JSON_WHY];
	json_t *book = value.n ? chatd_json_parse(value, why) : NULL;
	if (!book) {
		book = json_object();
	}
	if (!json_is_array(json_object_get(book, "subs"))) {
		(void)json_object_set_new(book, "subs", json_array());
	}
	if (!json_is_object(json_object_get(book, "settings"))) {
		(void)json_object_set_new(book, "settings", json_object());
	}
	return book;
}

char *book_write(const json_t *book)
{
	return json_dumps(book, JSON_COMPACT);
}

/* ---- subscriptions --------------------------------------------------------------------------- */

void sub_id(struct chatd_str kind, struct chatd_str endpoint, char ret[SUB_ID + 1])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state st;
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, (const uint8_t *)kind.p, kind.n);
	crypto_hash_sha256_update(&st, (const uint8_t *)"\n", 1);
	crypto_hash_sha256_update(&st, (const uint8_t *)endpoint.p, endpoint.n);
	crypto_hash_sha256_final(&st, hash);
	sodium_bin2hex(ret, SUB_ID + 1, hash, SUB_ID / 2);
}

static json_t *subs_of(const json_t *book)
{
	return json_object_get(book, "subs");
}

size_t book_count(const json_t *book)
{
	return json_array_size(subs_of(book));
}

static size_t find(const json_t *book, const char *id)
{
	json_t *sub;
	size_t i;
	json_array_foreach (subs_of(book), i, sub) {
		if (strcmp(json_text_of(sub, "id"), id) == 0) {
			break;
		}
	}
	return i;
}

json_t *book_sub(const json_t *book, const char *id)
{
	return json_array_get(subs_of(book), find(book, id));
}

int book_drop(json_t *book, const char *id)
{
	return json_array_remove(subs_of(book), find(book, id)) == 0;
}

int book_add(json_t *book, json_t *sub)
{
	size_t at = find(book, json_text_of(sub, "id")), n = book_count(book);
	if (at < n) {
		return json_array_set_new(subs_of(book), at, sub) < 0 ? -ENOMEM : 1;
	}
	if (n >= SUBS_MAX) {
		json_decref(sub);
		return -EDQUOT;
	}
	return json_array_append_new(subs_of(book), sub) < 0 ? -ENOMEM : 0;
}

/* ---- what is wanted --------------------------------------------------------------------------- */

static int64_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* What is said of this conversation, if it still holds. */
static const char *mode_of(const json_t *settings, const struct place *p, int64_t now)
{
	const char *key = p->room[0] ? "roomId" : "with", *id = p->room[0] ? p->room : p->with;
	json_t *c;
	size_t i;
	json_array_foreach (json_object_get(settings, "conversations"), i, c) {
		int64_t until = number(c, "until");
		if (strcmp(json_text_of(c, key), id) == 0 && (until == 0 || until > now)) {
			return json_text_of(c, "mode");
		}
	}
	return json_text_of(settings, "mode");
}

int book_wants(const json_t *book, const struct place *p, int called, int64_t now)
{
	const json_t *settings = json_object_get(book, "settings");
	/* Off is off for all conversations, whatever is said of one. */
	if (book_count(book) == 0 || strcmp(json_text_of(settings, "mode"), "off") == 0) {
		return 0;
	}
	const char *mode = mode_of(settings, p, now);
	return strcmp(mode, "off") == 0 ? 0 : strcmp(mode, "mentions") == 0 ? called : 1;
}

int64_t book_quiet_until(const json_t *book, int64_t now)
{
	const json_t *quiet = json_object_get(json_object_get(book, "settings"), "quiet");
	int64_t from = number(quiet, "fromMinute"), to = number(quiet, "toMinute");
	if (!quiet || from == to) {
		return 0;
	}
	int64_t there = now + number(quiet, "offset") * MINUTE_MS;
	int64_t at = there / MINUTE_MS % MINUTES_OF_DAY;
	int64_t since = (at - from + MINUTES_OF_DAY) % MINUTES_OF_DAY;
	int64_t length = (to - from + MINUTES_OF_DAY) % MINUTES_OF_DAY;
	return since < length ? now - there % MINUTE_MS + (length - since) * MINUTE_MS : 0;
}

/* ---- what a client says ------------------------------------------------------------------------ */

static int mode_ok(const json_t *v)
{
	const char *s = json_string_value(v);
	return s && (strcmp(s, "all") == 0 || strcmp(s, "mentions") == 0 || strcmp(s, "off") == 0);
}

/* "HH:MM" as minutes; -1: it is none. */
static int64_t minute_of(const json_t *v)
{
	const char *s = json_string_value(v);
	if (!s || strlen(s) != 5 || s[2] != ':' || strspn(s, "0123456789:") != 5) {
		return -1;
	}
	int64_t hour = (s[0] - '0') * 10 + s[1] - '0', minute = (s[3] - '0') * 10 + s[4] - '0';
	return s[3] == ':' || s[4] == ':' || s[0] == ':' || s[1] == ':' || hour > 23 || minute > 59
			? -1
			: hour * 60 + minute;
}

static const char *take_quiet(const json_t *in, json_t *to)
{
	const json_t *offset = json_object_get(in, "offset");
	int64_t from = minute_of(json_object_get(in, "from"));
	int64_t until = minute_of(json_object_get(in, "to"));
	if (from < 0 || until < 0) {
		return "quiet needs from and to, as \"HH:MM\"";
	}
	if ((offset && !json_is_integer(offset)) || json_integer_value(offset) < -14 * 60 ||
			json_integer_value(offset) > 14 * 60) {
		return "quiet.offset must be minutes east of UTC, -840 to 840";
	}
	json_t *quiet = json_pack("{s:O, s:O, s:I, s:I, s:I}", "from", json_object_get(in, "from"),
			"to", json_object_get(in, "to"), "offset",
			(json_int_t)(offset ? json_integer_value(offset) : 0), "fromMinute", (json_int_t)from,
			"toMinute", (json_int_t)until);
	return json_object_set_new(to, "quiet", quiet) < 0 ? "the server has no memory left" : NULL;
}

static int id_of(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_string(v) &&
			chatd_id_ok(chatd_str_of(json_string_value(v), json_string_length(v)));
}

static const char *take_conversation(const json_t *in, json_t *all)
{
	const json_t *until = json_object_get(in, "until");
	int room = id_of(in, "roomId"), with = id_of(in, "with");
	if (room == with || (json_object_get(in, "roomId") && json_object_get(in, "with"))) {
		return "each of conversations needs roomId or with (a user)";
	}
	if (!mode_ok(json_object_get(in, "mode"))) {
		return "each of conversations needs a mode: all, mentions or off";
	}
	if (until && !json_is_null(until) &&
			(!json_is_integer(until) || json_integer_value(until) < 1)) {
		return "until must be milliseconds since 1970";
	}
	const char *key = room ? "roomId" : "with";
	json_t *c = json_pack(
			"{s:O, s:O}", key, json_object_get(in, key), "mode", json_object_get(in, "mode"));
	if (c && json_is_integer(until)) {
		(void)json_object_set_new(c, "until", json_integer(json_integer_value(until)));
	}
	return json_array_append_new(all, c) < 0 ? "the server has no memory left" : NULL;
}

static const char *take_conversations(const json_t *in, json_t *to)
{
	json_t *all = json_array(), *c;
	const char *fault = NULL;
	size_t i;
	if (!json_is_array(in) || json_array_size(in) > CONVERSATIONS_MAX) {
		fault = "conversations must be a list of at most 200";
	}
	for (i = 0; !fault && i < json_array_size(in); i++) {
		c = json_array_get(in, i);
		fault = take_conversation(c, all);
	}
	if (fault) {
		json_decref(all);
		return fault;
	}
	return json_object_set_new(to, "conversations", all) < 0 ? "the server has no memory left"
															 : NULL;
}

const char *settings_take(const json_t *in, json_t **ret)
{
	json_t *to = json_object();
	json_t *mode = json_object_get(in, "mode"), *quiet = json_object_get(in, "quiet");
	json_t *all = json_object_get(in, "conversations"), *text = json_object_get(in, "text");
	const char *fault = NULL;
	if (!json_is_object(in)) {
		fault = "settings must be an object";
	} else if (mode && !mode_ok(mode)) {
		fault = "mode must be all, mentions or off";
	} else if (text && !json_is_boolean(text)) {
		fault = "text must be true or false";
	} else if (quiet && !json_is_null(quiet) && !json_is_object(quiet)) {
		fault = "quiet must be {\"from\",\"to\",\"offset\"} or null";
	}
	if (!fault && mode) {
		(void)json_object_set(to, "mode", mode);
	}
	if (!fault && text) {
		(void)json_object_set(to, "text", text);
	}
	fault = fault ? fault : json_is_object(quiet) ? take_quiet(quiet, to) : NULL;
	fault = fault ? fault : all ? take_conversations(all, to) : NULL;
	if (fault) {
		json_decref(to);
		return fault;
	}
	*ret = to;
	return NULL;
}
