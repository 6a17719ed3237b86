/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml's events to a tree.  What YAML can do beyond maps, lists and text is refused:
 * aliases grow (a few lines become gigabytes), tags mean something to one reader only. */
#include "base/str.h"
#include "base/utf8.h"
#include "conf/node.h"

#include <string.h>
#include <yaml.h>

struct parse {
	struct conf *c;
	struct diag *d;
	const struct parse_input *in;
	yaml_parser_t yaml;
	int failed; /* no use going on */
};

static struct node_at place_of(yaml_mark_t from, yaml_mark_t to)
{
	struct node_at at = { .line = (uint32_t)from.line + 1, .col = (uint32_t)from.column + 1 };
	at.len = to.line == from.line && to.column > from.column ? (uint32_t)(to.column - from.column)
															 : 1;
	return at;
}

static void complain_at(struct parse *p, struct node_at at, const char *fmt, ...)
		CHATD_PRINTF(3, 4);
static void complain_at(struct parse *p, struct node_at at, const char *fmt, ...)
{
	struct conf_node where = { .origin = p->in->origin, .at = at };
	struct diag_at place =
			diag_full(p->d) ? (struct diag_at){ 0 } : node_place(p->c, &where, AT_VALUE);
	va_list ap;
	va_start(ap, fmt);
	diag_vadd(p->d, &place, fmt, ap);
	va_end(ap);
}

static void complain(struct parse *p, const yaml_event_t *ev, const char *text)
{
	complain_at(p, place_of(ev->start_mark, ev->end_mark), "%s", text);
}

/* Line and column of a byte, for what libyaml tells by offset only. */
static struct node_at place_of_byte(struct chatd_str text, size_t offset)
{
	struct node_at at = { 1, 1, 1 };
	for (size_t i = 0; i < offset && i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if (c == '\n') {
			at.line++;
			at.col = 1;
		} else if ((c & 0xc0) != 0x80) {
			at.col++;
		}
	}
	return at;
}

/* libyaml says of a tab only that it "cannot start any token". */
static int is_tab(struct chatd_str text, yaml_mark_t at)
{
	const char *p = text.p, *end = text.p + text.n;
	for (size_t line = 0; line < at.line && p; line++) {
		p = memchr(p, '\n', (size_t)(end - p));
		p = p ? p + 1 : NULL;
	}
	while (p && p < end && *p == ' ')
		p++;
	return p && p < end && *p == '\t';
}

static void complain_yaml(struct parse *p)
{
	const yaml_parser_t *y = &p->yaml;
	p->failed = 1;
	if (y->error == YAML_MEMORY_ERROR) {
		node_no_memory(p->d);
		return;
	}
	const char *problem = y->problem ? y->problem : "this is not YAML";
	if (y->error == YAML_READER_ERROR) {
		complain_at(p, place_of_byte(p->in->text, y->problem_offset), "%s", problem);
		return;
	}
	struct node_at at = place_of(y->problem_mark, y->problem_mark);
	if (y->error == YAML_SCANNER_ERROR && is_tab(p->in->text, y->problem_mark))
		complain_at(p, at, "a tab cannot indent a line; use spaces");
	else if (y->context)
		complain_at(p, at, "%s (%s that begins on line %zu)", problem, y->context,
				y->context_mark.line + 1);
	else
		complain_at(p, at, "%s", problem);
}

static int next_event(struct parse *p, yaml_event_t *ret)
{
	if (p->failed)
		return -1;
	if (!yaml_parser_parse(&p->yaml, ret)) {
		complain_yaml(p);
		return -1;
	}
	return 0;
}

static void check_extras(
		struct parse *p, const yaml_event_t *ev, const yaml_char_t *anchor, const yaml_char_t *tag)
{
	if (anchor)
		complain_at(p, place_of(ev->start_mark, ev->end_mark),
				"anchors and aliases are not allowed; remove \"&%.64s\" and write the value out",
				(const char *)anchor);
	if (!tag)
		return;
	/* libyaml has already spelt out what "!!" stands for. */
	static const char core[] = "tag:yaml.org,2002:";
	const char *name = (const char *)tag;
	int is_core = strncmp(name, core, sizeof(core) - 1) == 0;
	complain_at(p, place_of(ev->start_mark, ev->end_mark),
			"tags are not allowed; remove \"%s%.64s\"", is_core ? "!!" : "",
			is_core ? name + sizeof(core) - 1 : name);
}

static int means_null(const yaml_event_t *ev)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL" };
	if (ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return 0;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp((const char *)ev->data.scalar.value, words[i]) == 0)
			return 1;
	return 0;
}

static struct chatd_str scalar_text(struct parse *p, const yaml_event_t *ev)
{
	const char *v = (const char *)ev->data.scalar.value;
	size_t n = ev->data.scalar.length;
	if (memchr(v, 0, n)) {
		complain(p, ev, "the character \\0 cannot be part of a text");
		n = 0;
	}
	struct chatd_str s = { arena_text(&p->c->arena, v, n), n };
	if (!s.p) {
		node_no_memory(p->d);
		p->failed = 1;
	}
	return s;
}

static struct conf_node *new_node(struct parse *p, const yaml_event_t *ev, enum node_kind kind)
{
	struct conf_node *n = node_new(p->c, kind);
	if (!n) {
		node_no_memory(p->d);
		p->failed = 1;
		return NULL;
	}
	n->origin = p->in->origin;
	n->at = place_of(ev->start_mark, ev->end_mark);
	return n;
}

static struct conf_node *parse_value(struct parse *p, const yaml_event_t *ev, int depth);

static int may_grow(struct parse *p, const struct conf_node *n, const yaml_event_t *ev)
{
	if (n->count < CONF_ENTRIES_MAX)
		return 1;
	complain_at(
			p, place_of(ev->start_mark, ev->end_mark), "more than %d entries", CONF_ENTRIES_MAX);
	p->failed = 1;
	return 0;
}

static void parse_list(struct parse *p, struct conf_node *list, int depth)
{
	yaml_event_t ev;
	while (next_event(p, &ev) == 0) {
		if (ev.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&ev);
			return;
		}
		struct conf_node *item = may_grow(p, list, &ev) ? parse_value(p, &ev, depth) : NULL;
		yaml_event_delete(&ev);
		if (item)
			node_append(list, item);
	}
}

/* The value of the key @p ev, which is put into @p map. */
static void parse_entry(struct parse *p, struct conf_node *map, const yaml_event_t *ev, int depth)
{
	struct chatd_str key = { NULL, 0 };
	struct node_at key_at = place_of(ev->start_mark, ev->end_mark);
	if (ev->type == YAML_SCALAR_EVENT) {
		check_extras(p, ev, ev->data.scalar.anchor, ev->data.scalar.tag);
		key = scalar_text(p, ev);
	} else {
		complain(p, ev, "a key must be a plain word");
		parse_value(p, ev, depth);
	}
	yaml_event_t value;
	if (next_event(p, &value))
		return;
	struct conf_node *n = parse_value(p, &value, depth);
	yaml_event_delete(&value);
	if (!n || !key.p)
		return;
	const struct conf_node *before = node_find(map, key);
	if (before) {
		complain_at(p, key_at, "the key \"%.64s\" is here a second time; the first is on line %u",
				key.p, (unsigned)before->key_at.line);
		return;
	}
	n->key = key;
	n->key_at = key_at;
	node_append(map, n);
}

static void parse_map(struct parse *p, struct conf_node *map, int depth)
{
	yaml_event_t ev;
	while (next_event(p, &ev) == 0) {
		if (ev.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&ev);
			return;
		}
		if (may_grow(p, map, &ev))
			parse_entry(p, map, &ev, depth);
		yaml_event_delete(&ev);
	}
}

/* The node that begins with @p ev, which stays the caller's. */
static struct conf_node *parse_value(struct parse *p, const yaml_event_t *ev, int depth)
{
	struct conf_node *n;
	if (depth >= CONF_DEPTH_MAX && ev->type != YAML_SCALAR_EVENT) {
		complain_at(p, place_of(ev->start_mark, ev->end_mark),
				"nested too deeply; %d levels are allowed", CONF_DEPTH_MAX);
		p->failed = 1;
		return NULL;
	}
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		check_extras(p, ev, ev->data.scalar.anchor, ev->data.scalar.tag);
		n = new_node(p, ev, NODE_TEXT);
		if (n) {
			n->is_null = means_null(ev);
			n->text = scalar_text(p, ev);
		}
		return p->failed ? NULL : n;
	case YAML_SEQUENCE_START_EVENT:
		check_extras(p, ev, ev->data.sequence_start.anchor, ev->data.sequence_start.tag);
		n = new_node(p, ev, NODE_LIST);
		if (n)
			parse_list(p, n, depth + 1);
		return n;
	case YAML_MAPPING_START_EVENT:
		check_extras(p, ev, ev->data.mapping_start.anchor, ev->data.mapping_start.tag);
		n = new_node(p, ev, NODE_MAP);
		if (n)
			parse_map(p, n, depth + 1);
		return n;
	case YAML_ALIAS_EVENT:
		complain_at(p, place_of(ev->start_mark, ev->end_mark),
				"anchors and aliases are not allowed; replace \"*%.64s\" by the value itself",
				(const char *)ev->data.alias.anchor);
		return NULL;
	default:
		complain(p, ev, "unexpected here");
		p->failed = 1;
		return NULL;
	}
}

/* The root of the one document; NULL: the text has none. */
static struct conf_node *parse_document(struct parse *p)
{
	struct conf_node *root = NULL;
	int documents = 0;
	yaml_event_t ev;
	while (next_event(p, &ev) == 0) {
		yaml_event_type_t type = ev.type;
		if (type == YAML_DOCUMENT_START_EVENT && ++documents == 2) {
			complain(p, &ev, "a second document begins here; a configuration is one document");
			p->failed = 1;
		} else if (type == YAML_DOCUMENT_START_EVENT &&
				ev.data.document_start.tag_directives.start !=
						ev.data.document_start.tag_directives.end) {
			complain(p, &ev, "tags are not allowed; remove the %TAG line");
		} else if (type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT &&
				type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT) {
			root = parse_value(p, &ev, 0);
		}
		yaml_event_delete(&ev);
		if (type == YAML_STREAM_END_EVENT)
			break;
	}
	return root;
}

/* libyaml takes a zero byte for the end of the text and tells of bad UTF-8 by offset. */
static int check_bytes(struct parse *p)
{
	struct chatd_str t = p->in->text;
	struct utf8_state u = { 0, 0, 0 };
	if (t.n >= 3 && memcmp(t.p, "\xef\xbb\xbf", 3) == 0) {
		struct node_at at = { 1, 1, 1 };
		complain_at(p, at, "the file begins with a byte order mark; save it as UTF-8 without one");
		return -1;
	}
	for (size_t i = 0; i < t.n; i++) {
		if (t.p[i] == 0) {
			complain_at(p, place_of_byte(t, i), "a zero byte; the file must be text");
			return -1;
		}
		if (utf8_step(&u, (unsigned char)t.p[i]) || (i + 1 == t.n && u.need)) {
			complain_at(p, place_of_byte(t, i),
					"the byte 0x%02x is not UTF-8; save the file as UTF-8", (unsigned char)t.p[i]);
			return -1;
		}
	}
	return 0;
}

struct conf_node *parse_yaml(struct conf *c, const struct parse_input *in, struct diag *d)
{
	struct parse p = { .c = c, .d = d, .in = in };
	if (check_bytes(&p))
		return NULL;
	if (!yaml_parser_initialize(&p.yaml)) {
		node_no_memory(d);
		return NULL;
	}
	yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&p.yaml, (const unsigned char *)in->text.p, in->text.n);
	size_t before = diag_count(d);
	struct conf_node *root = parse_document(&p);
	yaml_parser_delete(&p.yaml);
	if (!root && diag_count(d) == before)
		complain_at(&p, (struct node_at){ 0, 0, 0 }, "%s",
				in->origin ? "there is no value"
						   : "the file is empty; it needs at least the key \"plugins\"");
	return p.failed ? NULL : root;
}
