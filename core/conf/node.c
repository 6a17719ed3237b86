/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/node.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct conf_node *node_new(struct conf *c, enum node_kind kind)
{
	struct conf_node *n = arena_alloc(&c->arena, sizeof(*n));
	if (n)
		n->kind = kind;
	return n;
}

void node_append(struct conf_node *up, struct conf_node *child)
{
	child->up = up;
	child->next = NULL;
	if (up->last)
		up->last->next = child;
	else
		up->first = child;
	up->last = child;
	up->count++;
}

struct conf_node *node_find(const struct conf_node *map, struct chatd_str key)
{
	if (!map || map->kind != NODE_MAP)
		return NULL;
	for (struct conf_node *n = map->first; n; n = n->next)
		if (str_eq(n->key, key))
			return n;
	return NULL;
}

struct conf_node *node_item(const struct conf_node *list, size_t i)
{
	if (!list || list->kind != NODE_LIST)
		return NULL;
	struct conf_node *n = list->first;
	while (n && i--)
		n = n->next;
	return n;
}

const struct conf_node *node_walk(const struct conf_node *from, const char *path, int *ret_whole)
{
	const struct conf_node *at = from;
	while (at && path && *path) {
		struct chatd_str part = chatd_str_of(path, strcspn(path, "."));
		const struct conf_node *next = node_find(at, part);
		uint64_t i;
		if (!next && str_u64(part, &i) == 0)
			next = node_item(at, i);
		if (!next) {
			*ret_whole = 0;
			return at;
		}
		at = next;
		path += part.n;
		path += *path == '.';
	}
	*ret_whole = 1;
	return at;
}

const char *node_kind_name(const struct conf_node *n)
{
	if (n->kind == NODE_TEXT)
		return n->is_null ? "nothing" : "a text";
	return n->kind == NODE_MAP ? "a map of keys" : "a list";
}

int node_hide(struct conf *c, const struct conf_node *n, struct diag *d)
{
	struct node_hidden *h = arena_alloc(&c->arena, sizeof(*h));
	if (!h) {
		node_no_memory(d);
		return -1;
	}
	h->line = n->at.line;
	h->next = c->hidden;
	c->hidden = h;
	diag_hide(d, c->name, n->at.line);
	return 0;
}

void node_no_memory(struct diag *d)
{
	d->out_of_memory = 1;
}

/* The length of the line break at @p p as libyaml counts them; 0: there is none. */
static size_t line_break(const char *p, size_t n)
{
	if (p[0] == '\r')
		return n > 1 && p[1] == '\n' ? 2 : 1;
	if (p[0] == '\n')
		return 1;
	if (n > 1 && memcmp(p, "\xc2\x85", 2) == 0)
		return 2;
	if (n > 2 && (memcmp(p, "\xe2\x80\xa8", 3) == 0 || memcmp(p, "\xe2\x80\xa9", 3) == 0))
		return 3;
	return 0;
}

static int contains(struct chatd_str s, const char *word)
{
	size_t n = strlen(word);
	for (size_t i = 0; i + n <= s.n; i++)
		if (strncasecmp(s.p + i, word, n) == 0)
			return 1;
	return 0;
}

/* Before its option table is known, or when the key is misspelt, a secret is known by the
 * words around it only. */
static int looks_secret(struct chatd_str s)
{
	return contains(s, "secret") || contains(s, "passw") || contains(s, "passc") ||
			contains(s, "token") || contains(s, "private") || contains(s, "key:") ||
			(contains(s, "://") && contains(s, "@"));
}

struct chatd_str node_line(const struct conf *c, uint32_t line)
{
	struct chatd_str none = { NULL, 0 };
	size_t start = 0, i = 0;
	uint32_t now = 1;
	for (const struct node_hidden *h = c->hidden; h; h = h->next)
		if (h->line == line)
			return none;
	for (; i < c->text.n; i++) {
		size_t n = line_break(c->text.p + i, c->text.n - i);
		if (!n)
			continue;
		if (now == line)
			break;
		now++;
		i += n - 1;
		start = i + 1;
	}
	struct chatd_str s = { c->text.p + start, i - start };
	return now != line || looks_secret(s) ? none : s;
}

struct diag_at node_place(const struct conf *c, const struct conf_node *n, enum node_spot spot)
{
	struct diag_at at = { .file = c->name };
	if (!n)
		return at;
	if (n->origin) {
		at.file = n->origin;
		return at;
	}
	const struct node_at *where = spot == AT_KEY && n->key_at.line ? &n->key_at : &n->at;
	at.line = where->line;
	at.col = where->col;
	at.len = where->len;
	if (at.line)
		at.source = node_line(c, at.line);
	return at;
}

void node_complain(struct conf *c, const struct conf_node *n, enum node_spot spot, struct diag *d,
		const char *fmt, ...)
{
	/* Finding the line means counting all before it: not for what is only counted. */
	struct diag_at at = diag_full(d) ? (struct diag_at){ 0 } : node_place(c, n, spot);
	va_list ap;
	va_start(ap, fmt);
	diag_vadd(d, &at, fmt, ap);
	va_end(ap);
}

void conf_vcomplain(struct conf *c, const struct conf_node *node, const char *key, struct diag *d,
		const char *fmt, va_list ap)
{
	char text[1024];
	int whole = 0;
	const struct conf_node *n = node_walk(node, key, &whole);
	const char *who = node && node->key.p ? node->key.p : "configuration";
	/* A nested item that lacks the key is nearer to the mistake than the plugin's line. */
	enum node_spot spot = whole && key ? AT_VALUE : n == node ? AT_KEY : AT_VALUE;
	vsnprintf(text, sizeof(text), fmt, ap);
	if (key && *key)
		node_complain(c, n, spot, d, "%s: %s: %s", who, key, text);
	else
		node_complain(c, n, spot, d, "%s: %s", who, text);
}

void conf_complain(struct conf *c, const struct conf_node *node, const char *key, struct diag *d,
		const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	conf_vcomplain(c, node, key, d, fmt, ap);
	va_end(ap);
}
