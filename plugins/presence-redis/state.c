/* SPDX-License-Identifier: Apache-2.0 */
/* What Redis says of a user.  Another program wrote it: whatever cannot be is left out. */
#include "presence.h"

#include <chatd-sdk/text.h>

#include <stdlib.h>
#include <string.h>

enum { STATE_ITEMS = 6, SEQ_BITS = 20 };

static const int64_t time_max = INT64_C(253402300799999); /* the end of the year 9999 */

static int same(struct chatd_str s, const char *word)
{
	return s.p && s.n == strlen(word) && memcmp(s.p, word, s.n) == 0;
}

struct chatd_str text_take(struct chatd_str s)
{
	struct chatd_str none = { NULL, 0 };
	if (!s.n || s.n > CHATD_PRESENCE_TEXT_MAX || !chatd_text_ok(s)) {
		return none;
	}
	for (size_t at = 0; at < s.n;) {
		if (chatd_char_invisible(chatd_char_next(s, &at))) {
			return none;
		}
	}
	return s;
}

/* 0: it is no number, or one that is out of all bounds. */
static int64_t number_take(struct chatd_str s, int64_t max)
{
	int64_t v = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || v > max / 10) {
			return 0;
		}
		v = v * 10 + (s.p[i] - '0');
	}
	return v <= max ? v : 0;
}

int64_t event_time(struct chatd_str id)
{
	const char *dash = id.n ? memchr(id.p, '-', id.n) : NULL;
	return dash ? number_take(chatd_str_of(id.p, (size_t)(dash - id.p)), time_max) : 0;
}

/* Entries are named by the millisecond and a number within it. */
int64_t event_version(struct chatd_str id)
{
	int64_t ms = event_time(id), most = (INT64_C(1) << SEQ_BITS) - 1;
	if (ms == 0 || ms > INT64_MAX >> SEQ_BITS) {
		return 0;
	}
	const char *dash = memchr(id.p, '-', id.n);
	size_t n = id.n - (size_t)(dash - id.p) - 1;
	return ms * (most + 1) + number_take(chatd_str_of(dash + 1, n), most);
}

int32_t status_take(struct chatd_str s)
{
	return same(s, "busy")    ? CHATD_PRESENCE_BUSY
			: same(s, "away") ? CHATD_PRESENCE_AWAY
							  : CHATD_PRESENCE_ONLINE;
}

void state_take(const struct chatd_redis_reply *r, struct chatd_presence_state *ret)
{
	*ret = (struct chatd_presence_state){ .struct_size = sizeof(*ret) };
	if (r->type != CHATD_REDIS_ARRAY || r->n != STATE_ITEMS) {
		return;
	}
	int online = r->items[0].type == CHATD_REDIS_INTEGER && r->items[0].integer == 1;
	ret->version = event_version(r->items[5].text);
	if (!online) {
		ret->status = CHATD_PRESENCE_OFFLINE;
		ret->since = ret->last_seen = number_take(r->items[4].text, time_max);
		return;
	}
	ret->status = status_take(r->items[1].text);
	ret->text = text_take(r->items[2].text);
	ret->since = number_take(r->items[3].text, time_max);
}
