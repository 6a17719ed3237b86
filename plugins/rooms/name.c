/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <chatd-sdk/text.h>

const char *name_fault(struct chatd_str name)
{
	size_t at = 0, seen = 0;
	if (chatd_str_chars(name) > NAME_CHARS || name.n > NAME_MAX_BYTES) {
		return "name must have at most 100 characters";
	}
	while (at < name.n) {
		uint32_t c = chatd_char_next(name, &at);
		if (chatd_char_invisible(c)) {
			return "name must not contain control characters or invisible ones";
		}
		seen += !chatd_char_space(c);
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
