/* SPDX-License-Identifier: Apache-2.0 */
/* Whether an option table makes sense: a mistake in it would write beside the plugin's struct. */
#include "conf/conf.h"
#include "conf/node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { OPTIONS_MAX = 1000, DEPTH_MAX = 8, RECORD_MAX = 4096 };

struct table {
	const struct chatd_opt *opts;
	size_t opt_size, room; /* room: of the struct that it fills */
	int depth;
	char *why;
	size_t why_room;
};

static int wrong(const struct table *t, const char *key, const char *what)
{
	snprintf(t->why, t->why_room, "option \"%.64s\": %s", key, what);
	return -EINVAL;
}

/* Of the C type that an option fills; 0: there is no such type. */
static size_t size_of(int32_t type)
{
	switch (type) {
	case CHATD_T_BOOL:
	case CHATD_T_CHOICE:
		return sizeof(int32_t);
	case CHATD_T_INT:
	case CHATD_T_SIZE:
	case CHATD_T_DURATION:
		return sizeof(int64_t);
	case CHATD_T_STRING:
	case CHATD_T_STRINGS:
		return sizeof(char *);
	case CHATD_T_LIST:
		return sizeof(struct chatd_list);
	default:
		return 0;
	}
}

static int is_common(const char *key)
{
	for (size_t i = 0; fill_common_keys[i]; i++)
		if (strcmp(fill_common_keys[i], key) == 0)
			return 1;
	return 0;
}

static int check_table(const struct table *t);

static int check_sub(const struct table *t, const struct chatd_opt *o)
{
	if (!o->sub || !o->sub_size)
		return wrong(t, o->key, "a list needs .sub and .sub_size, which describe an item");
	if (t->depth == DEPTH_MAX)
		return wrong(t, o->key, "lists within lists, too deep");
	struct table sub = *t;
	sub.opts = o->sub;
	sub.room = o->sub_size;
	sub.depth++;
	return check_table(&sub);
}

static int check_option(const struct table *t, const struct chatd_opt *o)
{
	size_t n = size_of(o->type);
	char text[128];
	if (!n) {
		snprintf(text, sizeof(text), "its type %d does not exist in this server", (int)o->type);
		return wrong(t, o->key, text);
	}
	if (!t->depth && is_common(o->key))
		return wrong(t, o->key, "every plugin has an option of that name; choose another");
	if (n > t->room || o->offset > t->room - n) {
		snprintf(text, sizeof(text), "its offset %zu is outside of a struct of %zu bytes",
				o->offset, t->room);
		return wrong(t, o->key, text);
	}
	if (o->offset % (n > sizeof(void *) ? sizeof(void *) : n))
		return wrong(t, o->key, "its offset is not that of a field of its type");
	if (o->min > o->max)
		return wrong(t, o->key, ".min is above .max");
	if (o->type == CHATD_T_CHOICE && (!o->choices || !o->choices[0]))
		return wrong(t, o->key, "a choice needs .choices");
	if (o->flags & CHATD_O_REQUIRED && o->fallback)
		return wrong(t, o->key, "it is required and has a default: one of the two");
	return o->type == CHATD_T_LIST ? check_sub(t, o) : 0;
}

/* Not the same name, not the same bytes. */
static int check_before(const struct table *t, size_t at, const struct chatd_opt *o)
{
	struct chatd_opt b;
	for (size_t i = 0; i < at && fill_opt_at(t->opts, t->opt_size, i, &b); i++) {
		if (strcmp(b.key, o->key) == 0)
			return wrong(t, o->key, "it is there twice");
		if (b.offset < o->offset + size_of(o->type) && o->offset < b.offset + size_of(b.type)) {
			char text[128];
			snprintf(text, sizeof(text), "it fills the same field as \"%.64s\"", b.key);
			return wrong(t, o->key, text);
		}
	}
	return 0;
}

static int check_table(const struct table *t)
{
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(t->opts, t->opt_size, i, &o); i++) {
		if (i == OPTIONS_MAX)
			return wrong(t, o.key, "the table does not end: its last record has .key = NULL");
		int rc = check_option(t, &o);
		if (rc == 0)
			rc = check_before(t, i, &o);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int conf_check_table(const struct conf_about *a, size_t conf_size, char *why, size_t room)
{
	if (!a->opts)
		return 0;
	if (a->opt_size < offsetof(struct chatd_opt, doc) || a->opt_size > RECORD_MAX) {
		snprintf(why, room, "its .opt_size is %zu: write CHATD_PLUGIN_HEADER", a->opt_size);
		return -EINVAL;
	}
	struct table t = {
		.opts = a->opts, .opt_size = a->opt_size, .room = conf_size, .why = why, .why_room = room
	};
	return check_table(&t);
}
