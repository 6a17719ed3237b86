/* SPDX-License-Identifier: Apache-2.0 */
/* Roles, nicknames, avatars: what they may be. */
#include "users.h"

enum { ROLE_CHARS = 32, ROLES_IN_ALL = 16 };

/* ---- roles --------------------------------------------------------------------- */

int has_word(struct chatd_str words, const char *word)
{
	size_t from = 0;
	for (size_t i = 0; words.p && i <= words.n; i++) {
		if (i == words.n || words.p[i] == ' ') {
			if (chatd_str_same(chatd_str_of(words.p + from, i - from), text(word))) {
				return 1;
			}
			from = i + 1;
		}
	}
	return 0;
}

uint32_t flags_of_roles(struct chatd_str roles)
{
	return (has_word(roles, "admin") ? (uint32_t)CHATD_ID_ADMIN : 0) |
			(has_word(roles, "moderator") ? (uint32_t)CHATD_ID_MODERATOR : 0);
}

int rank_of(uint32_t flags)
{
	return flags & CHATD_ID_ADMIN ? 2 : flags & CHATD_ID_MODERATOR ? 1 : 0;
}

static int role_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= ROLE_CHARS;
}

const char *check_roles(json_t *list, char ret[ROLES_MAX + 1])
{
	size_t i, n = 0;
	json_t *item;
	ret[0] = '\0';
	if (!list) {
		return "roles is missing: a list such as [\"moderator\"], or []";
	}
	if (json_array_size(list) > ROLES_IN_ALL) {
		return "roles: at most 16 at a time";
	}
	json_array_foreach (list, i, item) {
		struct chatd_str s = chatd_str_of(json_string_value(item), json_string_length(item));
		if (!s.p || !role_ok(s)) {
			return "roles: each is a string of 1 to 32 of a-z, 0-9, _ and -";
		}
		/* Everybody is a user. */
		if (!chatd_str_same(s, CHATD_LIT("user")) && !has_word(text(ret), s.p)) {
			n += (size_t)snprintf(
					ret + n, ROLES_MAX + 1 - n, "%s%.*s", n ? " " : "", (int)s.n, s.p);
		}
	}
	return NULL;
}

/* ---- names --------------------------------------------------------------------- */

/* "A_d-m in" is read as "admin". */
int is_reserved(const char *const *names, const char *nick)
{
	char plain[NICK_MAX + 1];
	size_t n = 0;
	for (const char *p = nick; *p; p++) {
		if (*p != ' ' && *p != '_' && *p != '-' && *p != '.') {
			plain[n++] = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
		}
	}
	plain[n] = '\0';
	for (; *names; names++) {
		if (strcmp(*names, plain) == 0) {
			return 1;
		}
	}
	return 0;
}

const char *check_avatar(struct chatd_str s)
{
	int local = s.n > 1 && s.p[0] == '/' && s.p[1] != '/' && s.p[1] != '\\';
	int remote = s.n > 8 && memcmp(s.p, "https://", 8) == 0;
	if (s.n > AVATAR_MAX) {
		return "avatar has at most 1024 bytes";
	}
	if (s.n && !local && !remote) {
		return "avatar must be a path of this server (/...) or an https:// address, or \"\": none";
	}
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= ' ' || c >= 0x7f || strchr("\"'<>\\^`{|}", c)) {
			return "avatar must be written as URLs are: ASCII without spaces and quotes";
		}
	}
	return NULL;
}
