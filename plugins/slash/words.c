/* SPDX-License-Identifier: Apache-2.0 */
#include "slash.h"

static const struct {
	const char *name, *help;
	const char *before, *after; /* of what is said; before NULL: in another way */
	int32_t bare;               /* says something without a text too */
} all[] = {
	{ "me", "TEXT: what you are doing", NULL, "_", 0 },
	{ "shrug", "[TEXT]: nobody knows", "", " \xc2\xaf\\_(\xe3\x83\x84)_/\xc2\xaf", 1 },
	{ "tableflip", "[TEXT]: enough of it", "",
			" (\xe2\x95\xaf\xc2\xb0\xe2\x96\xa1\xc2\xb0)\xe2\x95\xaf\xef\xb8\xb5 "
			"\xe2\x94\xbb\xe2\x94\x81\xe2\x94\xbb",
			1 },
	{ "unflip", "[TEXT]: put it back", "",
			" \xe2\x94\xac\xe2\x94\x80\xe2\x94\xac\xe3\x83\x8e( \xc2\xba _ "
			"\xc2\xba\xe3\x83\x8e)",
			1 },
};
enum { COUNT = sizeof(all) / sizeof(all[0]) };

int words_name_ok(struct chatd_str name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9' && i > 0) || (c == '-' && i > 0))) {
			return 0;
		}
	}
	return name.n > 0 && name.n <= COMMAND_MAX;
}

static int is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int words_split(struct chatd_str content, struct chatd_str *ret_name, struct chatd_str *ret_rest)
{
	size_t n = 1;
	if (content.n < 2 || content.p[0] != '/') {
		return 0;
	}
	while (n < content.n && !is_space(content.p[n])) {
		n++;
	}
	*ret_name = chatd_str_of(content.p + 1, n - 1);
	while (n < content.n && is_space(content.p[n])) {
		n++;
	}
	*ret_rest = chatd_str_of(content.p + n, content.n - n);
	while (ret_rest->n && is_space(ret_rest->p[ret_rest->n - 1])) {
		ret_rest->n--;
	}
	/* "/etc/passwd" and "/ me" are what somebody wants to say. */
	return words_name_ok(*ret_name);
}

static void trimmed(struct chatd_json *out, const char *s, int first)
{
	while (first && *s == ' ') {
		s++;
	}
	chatd_json_raw(out, s, strlen(s));
}

int words_say(
		struct chatd_json *out, struct chatd_str name, struct chatd_str rest, struct chatd_str who)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (!chatd_str_same(name, text(all[i].name))) {
			continue;
		}
		if (!rest.n && !all[i].bare) {
			return 1;
		}
		if (!all[i].before) {
			chatd_json_lit(out, "_");
			chatd_json_raw(out, who.p, who.n);
			chatd_json_lit(out, " ");
		}
		chatd_json_raw(out, rest.p, rest.n);
		trimmed(out, all[i].after, !rest.n);
		return 1;
	}
	return 0;
}

const char *words_name(size_t i, const char **ret_help)
{
	if (i >= COUNT) {
		return NULL;
	}
	*ret_help = all[i].help;
	return all[i].name;
}
