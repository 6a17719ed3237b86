/* SPDX-License-Identifier: Apache-2.0 */
/* What a destination's text means. */
#include "chat/dest.h"

#include "base/str.h"

static const struct chat_app *find_app(const struct chat_table *t, struct chatd_str name)
{
	for (size_t i = 0; i < t->n_apps; i++) {
		if (str_is(name, t->apps[i].name)) {
			return &t->apps[i];
		}
	}
	return NULL;
}

struct dest_name dest_parse(const struct chat *chat, struct chatd_str dest)
{
	return dest_parse_for(chat, atomic_load_explicit(&chat->table, memory_order_acquire), dest);
}

struct dest_name dest_parse_for(
		const struct chat *chat, const struct chat_table *t, struct chatd_str dest)
{
	struct dest_name r = { .kind = DEST_UNKNOWN };
	if (str_starts(dest, CHATD_LIT("/app/"))) {
		r.kind = DEST_APP;
		r.app = find_app(t, chatd_str_of(dest.p + 5, dest.n - 5));
		return r;
	}
	if (str_starts(dest, CHATD_LIT("/user/"))) {
		r.kind =
				str_starts(dest, CHATD_LIT("/user/queue/")) && dest.n > 12 ? DEST_USER : DEST_OTHER;
		return r;
	}
	for (size_t i = 0; i < chat->n_prefixes; i++) {
		const struct chat_prefix *p = &chat->prefixes[i];
		if (dest.n > p->n && str_starts(dest, chatd_str_of(p->prefix, p->n))) {
			r.kind = DEST_PREFIX;
			r.prefix = p;
			return r;
		}
	}
	return r;
}
