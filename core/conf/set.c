/* SPDX-License-Identifier: Apache-2.0 */
/* --set: one value put in the place of, or beside, what the file says. */
#include "base/str.h"
#include "conf/node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One assignment on its way into the tree. */
struct set {
	struct conf *c;
	struct diag *d;
	const char *origin; /* "--set http.listen": never the value, it may be a secret */
};

static void complain(const struct set *s, const char *fmt, ...) CHATD_PRINTF(2, 3);
static void complain(const struct set *s, const char *fmt, ...)
{
	struct diag_at at = { .file = s->origin };
	va_list ap;
	va_start(ap, fmt);
	diag_vadd(s->d, &at, fmt, ap);
	va_end(ap);
}

static struct conf_node *make(struct set *s, enum node_kind kind)
{
	struct conf_node *n = node_new(s->c, kind);
	if (n)
		n->origin = s->origin;
	else
		node_no_memory(s->d);
	return n;
}

static struct conf_node *value_of(struct set *s, const char *text)
{
	if (*text && strchr("[{\"'", *text)) {
		struct parse_input in = { .text = str_of(text), .origin = s->origin };
		return parse_yaml(s->c, &in, s->d);
	}
	struct conf_node *n = make(s, NODE_TEXT);
	if (!n)
		return NULL;
	n->text = chatd_str_of(arena_text(&s->c->arena, text, strlen(text)), strlen(text));
	if (!n->text.p) {
		node_no_memory(s->d);
		return NULL;
	}
	return n;
}

/* Turns @p n into an empty map or list, for a key that must go below it. */
static int open_up(struct set *s, struct conf_node *n, int as_list)
{
	if (n->kind != NODE_TEXT)
		return 0;
	if (!n->is_null) {
		complain(s, "\"%.64s\" is a text; nothing can be set below it", n->key.p ? n->key.p : "it");
		return -1;
	}
	n->kind = as_list ? NODE_LIST : NODE_MAP;
	n->is_null = 0;
	return 0;
}

static void replace(struct conf_node *up, struct conf_node *old, struct conf_node *fresh)
{
	struct conf_node **link = &up->first;
	while (*link != old)
		link = &(*link)->next;
	*link = fresh;
	fresh->next = old->next;
	fresh->up = up;
	if (up->last == old)
		up->last = fresh;
}

static struct conf_node *child_of(
		struct set *s, struct conf_node *up, struct chatd_str part, int *ret_bad)
{
	uint64_t i = 0;
	*ret_bad = 0;
	if (up->kind == NODE_MAP)
		return node_find(up, part);
	if (str_u64(part, &i) == 0 && i <= up->count)
		return node_item(up, i);
	complain(s, "\"%.*s\" is no item of the list; write 0 to %zu, the last to append", (int)part.n,
			part.p, up->count);
	*ret_bad = 1;
	return NULL;
}

static int put(struct set *s, struct conf_node *up, struct chatd_str part, struct conf_node *fresh)
{
	int bad;
	struct conf_node *old = child_of(s, up, part, &bad);
	if (bad)
		return -1;
	if (up->kind == NODE_MAP) {
		fresh->key = chatd_str_of(arena_text(&s->c->arena, part.p, part.n), part.n);
		if (!fresh->key.p) {
			node_no_memory(s->d);
			return -1;
		}
	}
	if (old)
		replace(up, old, fresh);
	else
		node_append(up, fresh);
	return 0;
}

/* The value goes to @p path below @p at; what is missing on the way is made. */
static int store(struct set *s, struct conf_node *at, const char *path, struct conf_node *value)
{
	for (int depth = 0; depth < CONF_DEPTH_MAX; depth++) {
		struct chatd_str part = chatd_str_of(path, strcspn(path, "."));
		uint64_t number;
		if (!part.n) {
			complain(s, "there is an empty name between the dots");
			return -1;
		}
		if (open_up(s, at, str_u64(part, &number) == 0))
			return -1;
		if (!path[part.n])
			return put(s, at, part, value);
		int bad;
		struct conf_node *next = child_of(s, at, part, &bad);
		if (bad)
			return -1;
		if (!next) {
			next = make(s, NODE_TEXT);
			if (!next)
				return -1;
			next->is_null = 1;
			if (put(s, at, part, next))
				return -1;
		}
		at = next;
		path += part.n + 1;
	}
	complain(s, "nested too deeply; %d levels are allowed", CONF_DEPTH_MAX);
	return -1;
}

static struct conf_node *instance(struct set *s, struct chatd_str name)
{
	struct conf_node *n = node_find(s->c->plugins_node, name);
	if (n)
		return n;
	size_t max = s->c->plugins_node->count, i = 0;
	const char **names = arena_alloc(&s->c->arena, (max + 1) * sizeof(*names));
	const char *word = arena_text(&s->c->arena, name.p, name.n);
	if (!names || !word) {
		node_no_memory(s->d);
		return NULL;
	}
	for (const struct conf_node *p = s->c->plugins_node->first; p; p = p->next)
		names[i++] = p->key.p;
	const char *near = str_near(word, names);
	if (near)
		complain(s, "no plugin instance \"%.64s\" is configured; did you mean \"%s\"?", word, near);
	else
		complain(s, "no plugin instance \"%.64s\" is configured; add it below \"plugins\" in %s",
				word, s->c->name);
	return NULL;
}

/* Finds where the path begins; *path moves to the key below it. */
static struct conf_node *start_of(struct set *s, const char **path)
{
	if (strncmp(*path, "server.", 7) == 0) {
		*path += 7;
		return s->c->server_node;
	}
	if (strncmp(*path, "plugins.", 8) == 0)
		*path += 8;
	struct chatd_str name = chatd_str_of(*path, strcspn(*path, "."));
	if (!(*path)[name.n]) {
		complain(s, "a key is missing; write NAME.KEY=value, for example http.listen=127.0.0.1:0");
		return NULL;
	}
	*path += name.n + 1;
	return instance(s, name);
}

int conf_set(struct conf *c, const char *assignment, struct diag *d)
{
	const char *eq = strchr(assignment, '=');
	size_t n = eq ? (size_t)(eq - assignment) : strlen(assignment);
	char label[256];
	snprintf(label, sizeof(label), "--set %.*s", n < 200 ? (int)n : 200, assignment);
	struct set s = { .c = c, .d = d, .origin = arena_text(&c->arena, label, strlen(label)) };
	const char *path = arena_text(&c->arena, assignment, n);
	if (!s.origin || !path) {
		node_no_memory(d);
		return -ENOMEM;
	}
	if (!eq) {
		complain(
				&s, "there is no \"=\"; write NAME.KEY=value, for example http.listen=127.0.0.1:0");
		return -EINVAL;
	}
	size_t before = diag_count(d);
	struct conf_node *at = start_of(&s, &path);
	struct conf_node *value = at ? value_of(&s, eq + 1) : NULL;
	/* A value may be there and still have been complained about: an alias in a list. */
	return value && diag_count(d) == before && store(&s, at, path, value) == 0 ? 0 : -EINVAL;
}

int conf_exchange(struct conf *c, const struct conf_node *plugin, const char *key,
		const char *value, struct conf_undo *undo, struct diag *d)
{
	char label[128];
	snprintf(label, sizeof(label), "set %.100s", key);
	struct set s = { .c = c, .d = d, .origin = arena_text(&c->arena, label, strlen(label)) };
	struct conf_node *up = node_find(c->plugins_node, plugin->key);
	struct conf_node *fresh = s.origin && up ? value_of(&s, value) : NULL;
	*undo = (struct conf_undo){ .up = up };
	if (!fresh || open_up(&s, up, 0))
		return -EINVAL;
	undo->was = node_find(up, str_of(key));
	undo->is = fresh;
	return put(&s, up, str_of(key), fresh) ? -ENOMEM : 0;
}

void conf_undo(const struct conf_undo *u)
{
	if (u->was) {
		u->was->next = NULL;
		replace(u->up, u->is, u->was);
		return;
	}
	struct conf_node **link = &u->up->first, *before = NULL;
	while (*link && *link != u->is) {
		before = *link;
		link = &before->next;
	}
	*link = u->is->next;
	if (u->up->last == u->is)
		u->up->last = before;
	u->up->count--;
}
