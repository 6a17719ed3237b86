/* SPDX-License-Identifier: Apache-2.0 */
/* From nodes to a plugin's struct, as its option table says. */
#include "base/addr.h"
#include "base/str.h"
#include "conf/node.h"
#include "conf/secret.h"
#include "conf/value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PATH_TEXT = 160 };

const char *const fill_common_keys[] = { "plugin", "enabled", "optional", "timeout", "on_error",
	"order", NULL };

/* One run over one table; @p path is where in the instance it is ("preset.1."). */
struct fill {
	struct conf *c;
	struct diag *d;
	const char *who;
	const struct chatd_opt *opts;
	size_t opt_size;
	const char *path;
	int common; /* the table is that of the keys every plugin has */
	int failed;
};

/* One option at hand. */
struct slot {
	struct chatd_opt o;
	void *to;
};

static const char *const no_texts[] = { NULL };

int fill_opt_at(const struct chatd_opt *opts, size_t opt_size, size_t i, struct chatd_opt *ret)
{
	if (!opts)
		return 0;
	/* A plugin built from older headers has shorter records, one from newer, longer. */
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, (const char *)opts + i * opt_size,
			opt_size < sizeof(*ret) ? opt_size : sizeof(*ret));
	return ret->key != NULL;
}

static void complain(struct fill *f, const struct conf_node *n, enum node_spot spot,
		const char *key, const char *fmt, ...) CHATD_PRINTF(5, 6);
static void complain(struct fill *f, const struct conf_node *n, enum node_spot spot,
		const char *key, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	node_complain(f->c, n, spot, f->d, "%s: %s%s: %s", f->who, f->path, key, text);
	f->failed = 1;
}

static void no_memory(struct fill *f)
{
	node_no_memory(f->d);
	f->failed = 1;
}

/* ---- one value ---------------------------------------------------------- */

/* The text of a value that must be one; .p NULL after a complaint. */
static struct chatd_str text_of(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	if (n->kind == NODE_TEXT && !n->is_null)
		return n->text;
	if (!n->is_null)
		complain(f, n, AT_VALUE, s->o.key, "a single value is expected, but this is %s",
				node_kind_name(n));
	else if (s->o.fallback && !(s->o.flags & CHATD_O_SECRET))
		complain(f, n, AT_KEY, s->o.key,
				"there is no value; write one, or remove the key to get the default, %s",
				*s->o.fallback ? s->o.fallback : "\"\"");
	else
		complain(f, n, AT_KEY, s->o.key, "there is no value; write one, or remove the key");
	return chatd_str_of(NULL, 0);
}

static void bad_value(
		struct fill *f, const struct slot *s, const struct conf_node *n, const char *why)
{
	if (s->o.flags & CHATD_O_SECRET)
		complain(f, n, AT_VALUE, s->o.key, "the value %s", why);
	else
		complain(f, n, AT_VALUE, s->o.key, "\"%.*s\" %s", n->text.n > 64 ? 64 : (int)n->text.n,
				n->text.p, why);
}

static void set_number(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	struct chatd_str t = text_of(f, s, n);
	int64_t v = 0;
	if (!t.p)
		return;
	const char *why = s->o.type == CHATD_T_SIZE ? value_size(t, &v)
			: s->o.type == CHATD_T_DURATION     ? value_duration(t, &v)
												: value_int(t, &v);
	if (why) {
		bad_value(f, s, n, why);
		return;
	}
	struct value_range r = value_range_of(&s->o);
	if (v < r.min || v > r.max) {
		char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX], text[128];
		value_print(min, s->o.type, r.min);
		value_print(max, s->o.type, r.max);
		if (r.max == INT64_MAX)
			snprintf(text, sizeof(text), "is too small; the least is %s", min);
		else
			snprintf(text, sizeof(text), "is out of range; allowed is %s to %s", min, max);
		bad_value(f, s, n, text);
		return;
	}
	*(int64_t *)s->to = v;
}

static void set_bool(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	struct chatd_str t = text_of(f, s, n);
	const char *why = t.p ? value_bool(t, s->to) : NULL;
	if (why)
		bad_value(f, s, n, why);
}

/* "a, b or c", cut short if there are very many. */
static void join(char *ret, size_t max, const char *const *names, const char *last)
{
	size_t n = 0;
	ret[0] = '\0';
	for (size_t i = 0; names[i] && n < max; i++) {
		const char *sep = !i ? "" : names[i + 1] ? ", " : last;
		int k = snprintf(ret + n, max - n, "%s%s", sep, names[i]);
		n += k > 0 ? (size_t)k : 0;
	}
}

static void set_choice(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	struct chatd_str t = text_of(f, s, n);
	if (!t.p)
		return;
	for (int32_t i = 0; s->o.choices && s->o.choices[i]; i++) {
		if (str_is(t, s->o.choices[i])) {
			*(int32_t *)s->to = i;
			return;
		}
	}
	static const char *const none[] = { NULL };
	char all[400], text[600];
	const char *near = str_near(t.p, s->o.choices);
	join(all, sizeof(all), s->o.choices ? s->o.choices : none, " or ");
	if (near)
		snprintf(text, sizeof(text), "is not one of %s; did you mean \"%s\"?", all, near);
	else
		snprintf(text, sizeof(text), "is unknown; write %s", all);
	bad_value(f, s, n, text);
}

/* Paths of the command line count from where it was typed, those of the file from it. */
static const char *folder_for(const struct fill *f, const struct conf_node *n)
{
	return n->origin ? "" : f->c->folder;
}

static const char *path_of(struct fill *f, const struct conf_node *n, struct chatd_str t)
{
	const char *folder = folder_for(f, n);
	size_t k = strlen(folder);
	if (k && str_starts(t, str_of("./"))) { /* so that messages say config/data */
		t.p += 2;
		t.n -= 2;
	}
	if (!k || !t.n || t.p[0] == '/')
		return t.p;
	char *whole = arena_alloc(&f->c->arena, k + t.n + 1);
	if (!whole) {
		no_memory(f);
		return NULL;
	}
	memcpy(whole, folder, k);
	memcpy(whole + k, t.p, t.n);
	return whole;
}

/* What a text option or one item of a list of texts comes to; NULL after a complaint. */
static const char *final_text(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	struct chatd_str t = text_of(f, s, n);
	if (t.p && s->o.flags & CHATD_O_SECRET) {
		struct secret_why why;
		t = secret_resolve(f->c, t, folder_for(f, n), &why);
		if (!t.p)
			complain(f, n, AT_VALUE, s->o.key, "%s", why.text);
	}
	struct addr a;
	if (t.p && s->o.flags & CHATD_O_LISTEN && addr_parse(t.p, &a) < 0) {
		bad_value(f, s, n,
				"is no address to listen on; write ADDRESS:PORT, for example \"127.0.0.1:8080\", "
				"\"0.0.0.0:8080\", \"[::]:8080\", or \"unix:/run/chatd.sock\"");
		return NULL;
	}
	const char *why = t.p && s->o.flags & CHATD_O_URL ? value_url(t) : NULL;
	if (why) {
		bad_value(f, s, n, why);
		return NULL;
	}
	return t.p && s->o.flags & CHATD_O_PATH ? path_of(f, n, t) : t.p;
}

static void set_texts(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	if (n->kind == NODE_MAP) {
		complain(f, n, AT_VALUE, s->o.key, "a list is expected, as in [a, b], but this is %s",
				node_kind_name(n));
		return;
	}
	/* One text is a list of one: "listen: 0.0.0.0:8080". */
	size_t count = n->kind == NODE_LIST ? n->count : 1, i = 0;
	const char **all = arena_alloc(&f->c->arena, (count + 1) * sizeof(*all));
	if (!all) {
		no_memory(f);
		return;
	}
	for (const struct conf_node *k = n->kind == NODE_LIST ? n->first : n; k && i < count;
			k = k->next) {
		const char *t = final_text(f, s, k);
		if (t)
			all[i++] = t;
	}
	*(const char *const **)s->to = all;
}

/* ---- tables ------------------------------------------------------------- */

static void fill_map(struct fill *f, const struct conf_node *n, void *out);

static void set_list(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	if (n->kind != NODE_LIST) {
		complain(f, n, AT_VALUE, s->o.key, "a list of items is expected, but this is %s",
				node_kind_name(n));
		return;
	}
	char *items = n->count ? arena_alloc(&f->c->arena, n->count * s->o.sub_size) : NULL;
	if (n->count && !items) {
		no_memory(f);
		return;
	}
	size_t i = 0;
	for (const struct conf_node *k = n->first; k; k = k->next, i++) {
		char path[PATH_TEXT], item[PATH_TEXT + 32];
		snprintf(path, sizeof(path), "%s%s.%zu.", f->path, s->o.key, i);
		snprintf(item, sizeof(item), "%s.%zu", s->o.key, i);
		if (k->kind != NODE_MAP) {
			complain(f, k, AT_VALUE, item,
					"\"key: value\" pairs are expected, as in {a: 1, b: 2}, but this is %s",
					node_kind_name(k));
			continue;
		}
		struct fill sub = *f;
		sub.opts = s->o.sub;
		sub.path = path;
		sub.common = 0;
		fill_map(&sub, k, items + i * s->o.sub_size);
		f->failed |= sub.failed;
	}
	struct chatd_list *to = s->to;
	to->items = items;
	to->n = n->count;
}

static void set_value(struct fill *f, const struct slot *s, const struct conf_node *n)
{
	switch (s->o.type) {
	case CHATD_T_BOOL:
		set_bool(f, s, n);
		break;
	case CHATD_T_INT:
	case CHATD_T_SIZE:
	case CHATD_T_DURATION:
		set_number(f, s, n);
		break;
	case CHATD_T_STRING:
		*(const char **)s->to = final_text(f, s, n);
		break;
	case CHATD_T_CHOICE:
		set_choice(f, s, n);
		break;
	case CHATD_T_STRINGS:
		set_texts(f, s, n);
		break;
	case CHATD_T_LIST:
		set_list(f, s, n);
		break;
	default:
		complain(f, n, AT_KEY, s->o.key, "the plugin's option table has an unknown type %d",
				(int)s->o.type);
	}
}

/* The default is written as in YAML and read by the same code as a value of the file. */
static void set_default(struct fill *f, const struct slot *s)
{
	if (s->o.type == CHATD_T_STRINGS)
		*(const char *const **)s->to = no_texts;
	if (!s->o.fallback)
		return;
	char label[PATH_TEXT];
	snprintf(label, sizeof(label), "default of %s: %s%s", f->who, f->path, s->o.key);
	const char *origin = arena_text(&f->c->arena, label, strlen(label));
	struct conf_node *n = NULL;
	if (origin && (s->o.type == CHATD_T_STRINGS || s->o.type == CHATD_T_LIST)) {
		struct parse_input in = { .text = str_of(s->o.fallback), .origin = origin };
		n = parse_yaml(f->c, &in, f->d);
	} else if (origin) {
		n = node_new(f->c, NODE_TEXT);
		if (n)
			n->text = str_of(s->o.fallback);
	}
	if (!n) {
		no_memory(f);
		return;
	}
	/* A relative default is one of the file's: it says what is used when that is silent. */
	if (s->o.flags & CHATD_O_PATH && s->o.type == CHATD_T_STRING) {
		*(const char **)s->to = path_of(f, &(struct conf_node){ 0 }, n->text);
		return;
	}
	n->origin = origin;
	set_value(f, s, n);
}

static int is_common(const char *key)
{
	for (size_t i = 0; fill_common_keys[i]; i++)
		if (strcmp(key, fill_common_keys[i]) == 0)
			return 1;
	return 0;
}

static int is_known(const struct fill *f, const char *key)
{
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(f->opts, f->opt_size, i, &o); i++)
		if (strcmp(o.key, key) == 0)
			return 1;
	return 0;
}

/* A slip in the key does not make the value less secret. */
static int is_secret(const struct fill *f, const char *key)
{
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(f->opts, f->opt_size, i, &o); i++)
		if (strcmp(o.key, key) == 0)
			return (o.flags & CHATD_O_SECRET) != 0;
	return 0;
}

/* The names that may stand where @p n is, for suggestions; NULL: no memory. */
static const char **known_keys(struct fill *f, const struct conf_node *map)
{
	struct chatd_opt o;
	size_t count = 0, i = 0;
	while (fill_opt_at(f->opts, f->opt_size, count, &o))
		count++;
	size_t more = sizeof(fill_common_keys) / sizeof(fill_common_keys[0]);
	const char **names = arena_alloc(&f->c->arena, (count + more) * sizeof(*names));
	if (!names) {
		no_memory(f);
		return NULL;
	}
	for (; i < count && fill_opt_at(f->opts, f->opt_size, i, &o); i++)
		names[i] = o.key;
	for (size_t k = 0; map->is_plugin && fill_common_keys[k]; k++)
		names[i++] = fill_common_keys[k];
	return names;
}

static void check_unknown(struct fill *f, const struct conf_node *map)
{
	const char **names = NULL;
	for (const struct conf_node *n = map->first; n; n = n->next) {
		if (is_known(f, n->key.p) || (map->is_plugin && is_common(n->key.p)))
			continue;
		if (!names)
			names = known_keys(f, map);
		if (!names)
			return;
		const char *near = str_near(n->key.p, names);
		if (near && is_secret(f, near))
			f->failed |= node_hide(f->c, n, f->d);
		char where[PATH_TEXT], all[400];
		/* "preset.1." without its last dot */
		snprintf(where, sizeof(where), "%s%.*s", *f->path ? ": " : "",
				*f->path ? (int)strlen(f->path) - 1 : 0, f->path);
		join(all, sizeof(all), names, " and ");
		if (near)
			node_complain(f->c, n, AT_KEY, f->d,
					"%s%s: unknown option \"%.64s\"; did you mean \"%s\"?", f->who, where, n->key.p,
					near);
		else
			node_complain(f->c, n, AT_KEY, f->d, "%s%s: unknown option \"%.64s\"; there are %s",
					f->who, where, n->key.p, all);
		f->failed = 1;
	}
}

/* Before anything is said about these lines; lists of maps with all that is in them. */
static void hide_secrets(struct fill *f, const struct conf_node *map, const struct chatd_opt *opts)
{
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(opts, f->opt_size, i, &o); i++) {
		const struct conf_node *n = node_find(map, str_of(o.key));
		if (!n)
			continue;
		int secret = (o.flags & CHATD_O_SECRET) != 0;
		if (secret)
			f->failed |= node_hide(f->c, n, f->d);
		for (const struct conf_node *k = n->first; k; k = k->next) {
			if (secret)
				f->failed |= node_hide(f->c, k, f->d);
			else if (o.type == CHATD_T_LIST && k->kind == NODE_MAP)
				hide_secrets(f, k, o.sub);
		}
	}
}

static void fill_map(struct fill *f, const struct conf_node *map, void *out)
{
	if (map && !f->common)
		check_unknown(f, map);
	struct slot s;
	for (size_t i = 0; fill_opt_at(f->opts, f->opt_size, i, &s.o); i++) {
		const struct conf_node *n = map ? node_find(map, str_of(s.o.key)) : NULL;
		s.to = (char *)out + s.o.offset;
		if (map && map->is_plugin && !f->common && is_common(s.o.key)) {
			complain(f, map, AT_KEY, s.o.key,
					"the plugin declares an option that every plugin has; it must be renamed");
		} else if (n) {
			if (s.o.type == CHATD_T_STRINGS) /* never NULL, also after a complaint */
				*(const char *const **)s.to = no_texts;
			set_value(f, &s, n);
		} else if (s.o.flags & CHATD_O_REQUIRED) {
			complain(f, map, AT_KEY, s.o.key, "this option must be given%s%s", s.o.doc ? ": " : "",
					s.o.doc ? s.o.doc : "");
		} else {
			set_default(f, &s);
		}
	}
}

int conf_fill(struct conf *c, const struct conf_node *node, const char *who,
		const struct chatd_opt *opts, size_t opt_size, void *out, struct diag *d)
{
	struct fill f = { .c = c, .d = d, .who = who, .opts = opts, .opt_size = opt_size, .path = "" };
	if (node)
		hide_secrets(&f, node, opts);
	fill_map(&f, node, out);
	return f.failed ? -EINVAL : 0;
}

int fill_common(struct conf *c, const struct conf_node *node, const char *who,
		const struct chatd_opt *opts, void *out, struct diag *d)
{
	struct fill f = {
		.c = c, .d = d, .who = who, .opts = opts, .opt_size = sizeof(*opts), .path = "", .common = 1
	};
	fill_map(&f, node, out);
	return f.failed ? -EINVAL : 0;
}
