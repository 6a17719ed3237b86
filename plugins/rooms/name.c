/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <chatd-sdk/name.h>

const char *name_take(struct chatd_str name, char ret[NAME_MAX_BYTES + 1])
{
	int64_t n = chatd_name_clean(name, ret, NAME_MAX_BYTES + 1);
	size_t at = 0, seen = 0;
	if (n == -ENOMEM) {
		return "the server has no memory left";
	}
	if (n < 0 || chatd_str_chars(chatd_str_of(ret, (size_t)n)) > NAME_CHARS) {
		return "name must have at most 100 characters";
	}
	while (at < (size_t)n) {
		seen += !chatd_char_space(chatd_char_next(chatd_str_of(ret, (size_t)n), &at));
	}
	return seen ? NULL : "name must not be empty";
}

const char *about_fault(struct chatd_str about)
{
	size_t at = 0;
	if (chatd_str_chars(about) > ABOUT_CHARS || about.n > ABOUT_MAX) {
		return "about must have at most 500 characters";
	}
	while (at < about.n) {
		uint32_t c = chatd_char_next(about, &at);
		if (c != '\n' && chatd_char_invisible(c)) {
			return "about must not contain control characters or invisible ones";
		}
	}
	return NULL;
}
