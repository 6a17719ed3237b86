/* SPDX-License-Identifier: Apache-2.0 */
#include "scopes.h"

#define ROOMS "/api/chat/rooms"

static const struct {
	const char *name;
	uint32_t bit;
} all[] = {
	{ "publish", SCOPE_PUBLISH },
	{ "broadcast", SCOPE_BROADCAST },
	{ "history", SCOPE_HISTORY },
	{ "presence", SCOPE_PRESENCE },
	{ "rooms", SCOPE_ROOMS },
	{ "users", SCOPE_USERS },
	{ "disconnect", SCOPE_DISCONNECT },
	{ "keys", SCOPE_KEYS },
	{ "as", SCOPE_AS },
	{ "files", SCOPE_FILES },
};
enum { COUNT = sizeof(all) / sizeof(all[0]) };

uint32_t scope_of(struct chatd_str name)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (strlen(all[i].name) == name.n && memcmp(all[i].name, name.p, name.n) == 0) {
			return all[i].bit;
		}
	}
	return 0;
}

const char *scope_name(uint32_t bit)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (all[i].bit & bit) {
			return all[i].name;
		}
	}
	return "no scope";
}

const char *scopes_read(const json_t *list, uint32_t *ret)
{
	uint32_t bits = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		uint32_t bit = json_is_string(item)
				? scope_of(chatd_str_of(json_string_value(item), json_string_length(item)))
				: 0;
		if (!bit) {
			return "scopes: each is one of publish, broadcast, history, presence, rooms, users, "
				   "disconnect, keys, as and files";
		}
		bits |= bit;
	}
	*ret = bits;
	return bits ? NULL : "scopes is missing or empty: a key that may do nothing is of no use";
}

void scopes_write(struct chatd_json *j, const char *key, uint32_t scopes)
{
	chatd_json_key(j, key);
	chatd_json_lit(j, "[");
	for (size_t i = 0; i < COUNT; i++) {
		if (scopes & all[i].bit) {
			chatd_json_next(j);
			chatd_json_quote(j, chatd_str_of(all[i].name, strlen(all[i].name)));
		}
	}
	chatd_json_lit(j, "]");
}

static int below(struct chatd_str path, const char *prefix)
{
	size_t n = strlen(prefix);
	return path.n >= n && memcmp(path.p, prefix, n) == 0 && (path.n == n || path.p[n] == '/');
}

static int ends(struct chatd_str path, const char *with)
{
	size_t n = strlen(with);
	return path.n >= n && memcmp(path.p + path.n - n, with, n) == 0;
}

int scope_makes_hook(struct chatd_str rest)
{
	const char *cut = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
	return cut && below(chatd_str_of(cut, rest.n - (size_t)(cut - rest.p)), "/hooks");
}

uint32_t scope_of_call(struct chatd_str method, struct chatd_str path)
{
	int reads =
			chatd_str_same(method, CHATD_LIT("GET")) || chatd_str_same(method, CHATD_LIT("HEAD"));
	if (below(path, ROOMS)) {
		size_t n = path.n > sizeof(ROOMS) ? sizeof(ROOMS) : path.n;
		int hook = chatd_str_same(method, CHATD_LIT("POST")) &&
				scope_makes_hook(chatd_str_of(path.p + n, path.n - n));
		return hook ? SCOPE_ROOMS | SCOPE_PUBLISH : SCOPE_ROOMS;
	}
	if (below(path, "/api/chat/presence") ||
			(below(path, "/api/chat/users") && ends(path, "/status"))) {
		return SCOPE_PRESENCE;
	}
	if (below(path, "/api/chat")) {
		return reads ? SCOPE_HISTORY : SCOPE_PUBLISH;
	}
	if (below(path, "/api/users")) {
		return SCOPE_USERS;
	}
	return below(path, "/api/files") ? SCOPE_FILES : 0;
}

uint32_t scope_of_frame(struct chatd_str dest, int send)
{
	if (send) {
		return SCOPE_PUBLISH;
	}
	/* Its own queues: receipts, errors, what is said to it. */
	return dest.n > 6 && memcmp(dest.p, "/user/", 6) == 0 ? 0 : SCOPE_HISTORY;
}
