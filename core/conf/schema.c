/* SPDX-License-Identifier: Apache-2.0 */
/* Option tables as JSON Schema, so that editors complete and check the YAML. */
#include "base/str.h"
#include "conf/node.h"
#include "conf/value.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

/* jansson's *_new functions take what is handed to them and turn NULL into NULL or an
 * error, so a failed allocation shows in the end: the document is checked once. */
struct schema {
	int failed;
};

static void put(struct schema *s, json_t *to, const char *key, json_t *value)
{
	if (json_object_set_new(to, key, value))
		s->failed = 1;
}

static void add(struct schema *s, json_t *to, json_t *value)
{
	if (json_array_append_new(to, value))
		s->failed = 1;
}

/* ---- defaults ----------------------------------------------------------- */

static json_t *scalar_json(struct chatd_str t, int32_t type)
{
	int32_t b;
	int64_t v;
	if (type == CHATD_T_BOOL && !value_bool(t, &b))
		return json_boolean(b);
	if (type == CHATD_T_INT && !value_int(t, &v))
		return json_integer(v);
	return json_stringn(t.p, t.n);
}

static json_t *node_json(struct schema *s, const struct conf_node *n)
{
	if (n->kind == NODE_TEXT)
		return n->is_null ? json_null() : json_stringn(n->text.p, n->text.n);
	json_t *to = n->kind == NODE_LIST ? json_array() : json_object();
	for (const struct conf_node *k = n->first; k; k = k->next) {
		if (n->kind == NODE_LIST)
			add(s, to, node_json(s, k));
		else
			put(s, to, k->key.p, node_json(s, k));
	}
	return to;
}

static json_t *default_json(struct schema *s, const struct chatd_opt *o)
{
	if (o->type != CHATD_T_STRINGS && o->type != CHATD_T_LIST)
		return scalar_json(str_of(o->fallback), o->type);
	struct conf c = { .name = "default" };
	struct diag d = { 0 };
	struct parse_input in = { .text = str_of(o->fallback), .origin = "default" };
	const struct conf_node *n = parse_yaml(&c, &in, &d);
	json_t *j = n ? node_json(s, n) : json_array();
	arena_finish(&c.arena);
	diag_finish(&d);
	return j;
}

/* ---- one option --------------------------------------------------------- */

static json_t *object_of(struct schema *s, const struct chatd_opt *opts, size_t opt_size);

static json_t *types(const char *a, const char *b, const char *c)
{
	return c ? json_pack("[sss]", a, b, c) : json_pack("[ss]", a, b);
}

static void put_number(struct schema *s, json_t *j, const struct chatd_opt *o)
{
	struct value_range r = value_range_of(o);
	if (o->type == CHATD_T_INT) {
		put(s, j, "type", json_string("integer"));
		put(s, j, "minimum", json_integer(r.min));
		if (r.max != INT64_MAX)
			put(s, j, "maximum", json_integer(r.max));
		return;
	}
	put(s, j, "type", types("string", "integer", NULL));
	if (o->type == CHATD_T_SIZE) {
		put(s, j, "pattern", json_string("^[0-9]+ ?(B|KiB|MiB|GiB)?$"));
	} else {
		put(s, j, "pattern", json_string("^(0|-?[0-9]+ ?(ms|s|m|h|d))$"));
		put(s, j, "minimum", json_integer(0)); /* a bare number must be 0 */
		put(s, j, "maximum", json_integer(0));
	}
}

static void put_choices(struct schema *s, json_t *j, const struct chatd_opt *o)
{
	json_t *all = json_array();
	for (size_t i = 0; o->choices && o->choices[i]; i++)
		add(s, all, json_string(o->choices[i]));
	put(s, j, "enum", all);
}

static json_t *option(struct schema *s, const struct chatd_opt *o, size_t opt_size)
{
	json_t *j = json_object();
	switch (o->type) {
	case CHATD_T_BOOL:
		put(s, j, "type", json_string("boolean"));
		break;
	case CHATD_T_INT:
	case CHATD_T_SIZE:
	case CHATD_T_DURATION:
		put_number(s, j, o);
		break;
	case CHATD_T_STRING:
		put(s, j, "type", types("string", "number", "boolean"));
		if ((o->flags & (CHATD_O_URL | CHATD_O_SECRET)) == CHATD_O_URL)
			put(s, j, "format", json_string("uri"));
		break;
	case CHATD_T_CHOICE:
		put_choices(s, j, o);
		break;
	case CHATD_T_STRINGS: {
		json_t *item = json_object();
		put(s, item, "type", types("string", "number", "boolean"));
		put(s, j, "type", types("array", "string", "number"));
		put(s, j, "items", item);
		break;
	}
	default:
		put(s, j, "type", json_string("array"));
		put(s, j, "items", object_of(s, o->sub, opt_size));
	}
	if (o->doc)
		put(s, j, "description", json_string(o->doc));
	if (o->fallback && !(o->flags & CHATD_O_SECRET))
		put(s, j, "default", default_json(s, o));
	return j;
}

static json_t *object_of(struct schema *s, const struct chatd_opt *opts, size_t opt_size)
{
	json_t *j = json_object(), *all = json_object(), *required = json_array();
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(opts, opt_size, i, &o); i++) {
		put(s, all, o.key, option(s, &o, opt_size));
		if (o.flags & CHATD_O_REQUIRED)
			add(s, required, json_string(o.key));
	}
	put(s, j, "type", json_string("object"));
	put(s, j, "additionalProperties", json_false());
	put(s, j, "properties", all);
	if (json_array_size(required))
		put(s, j, "required", required);
	else
		json_decref(required);
	return j;
}

/* ---- plugins and the file ----------------------------------------------- */

static json_t *order_object(struct schema *s)
{
	json_t *j = json_object(), *hooks = json_object();
#define CHATD_X(num, name, kind, may_wait, at_end) \
	put(s, hooks, #name, json_pack("{ss si si}", "type", "integer", "minimum", 0, "maximum", 999));
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
	put(s, j, "type", json_string("object"));
	put(s, j, "additionalProperties", json_false());
	put(s, j, "properties", hooks);
	put(s, j, "description",
			json_string("The place in a hook's chain, in place of the plugin's own."));
	return j;
}

static json_t *plugin_object(struct schema *s, const struct conf_about *a)
{
	json_t *j = object_of(s, a->opts, a->opt_size);
	json_t *all = json_object_get(j, "properties");
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(plan_plugin_opts(), sizeof(o), i, &o); i++)
		put(s, all, o.key, option(s, &o, sizeof(o)));
	put(s, all, "order", order_object(s));
	/* "stomp:" without a value is an instance with its defaults. */
	put(s, j, "type", types("object", "null", NULL));
	if (a->summary)
		put(s, j, "description", json_string(a->summary));
	return j;
}

static json_t *any_instance(struct schema *s, const struct conf_about *plugins, size_t n)
{
	json_t *j = json_object(), *all = json_array();
	for (size_t i = 0; i < n; i++) {
		char ref[128];
		snprintf(ref, sizeof(ref), "#/$defs/%s", plugins[i].name);
		add(s, all,
				json_pack("{s{s{s{ss}}} s{ss}}", "if", "properties", "plugin", "const",
						plugins[i].name, "then", "$ref", ref));
	}
	put(s, j, "type", json_string("object"));
	put(s, j, "required", json_pack("[s]", "plugin"));
	put(s, j, "allOf", all);
	return j;
}

static json_t *file_schema(struct schema *s, const struct conf_about *plugins, size_t n)
{
	json_t *defs = json_object(), *names = json_object(), *top = json_object();
	for (size_t i = 0; i < n; i++) {
		char ref[128];
		snprintf(ref, sizeof(ref), "#/$defs/%s", plugins[i].name);
		put(s, defs, plugins[i].name, plugin_object(s, &plugins[i]));
		put(s, names, plugins[i].name, json_pack("{ss}", "$ref", ref));
	}
	json_t *instances = json_object();
	put(s, instances, "type", json_string("object"));
	put(s, instances, "description", json_string("Instance names and their options."));
	put(s, instances, "properties", names);
	put(s, instances, "additionalProperties", any_instance(s, plugins, n));
	put(s, instances, "minProperties", json_integer(1));
	const struct conf_about *server = conf_server_about();
	json_t *server_object = object_of(s, server->opts, server->opt_size);
	put(s, server_object, "type", types("object", "null", NULL));
	/* YAML reads a bare 4 as a number. */
	put(s, json_object_get(json_object_get(server_object, "properties"), "workers"), "type",
			types("string", "integer", NULL));
	put(s, top, "server", server_object);
	put(s, top, "plugins", instances);
	json_t *j = json_object();
	put(s, j, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
	put(s, j, "title", json_string("chatd configuration"));
	put(s, j, "type", json_string("object"));
	put(s, j, "additionalProperties", json_false());
	put(s, j, "required", json_pack("[s]", "plugins"));
	put(s, j, "properties", top);
	put(s, j, "$defs", defs);
	return j;
}

static int write_json(FILE *to, json_t *j, const struct schema *s)
{
	int rc = !j || s->failed || json_dumpf(j, to, JSON_INDENT(2)) ? -ENOMEM : 0;
	if (!rc)
		fputc('\n', to);
	json_decref(j);
	return rc;
}

int schema_one(FILE *to, const struct conf_about *a)
{
	struct schema s = { 0 };
	int is_server = a == conf_server_about();
	json_t *j = is_server ? object_of(&s, a->opts, a->opt_size) : plugin_object(&s, a);
	put(&s, j, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
	put(&s, j, "title", json_string(a->name));
	return write_json(to, j, &s);
}

int conf_schema(FILE *to, const struct conf_about *plugins, size_t n)
{
	struct schema s = { 0 };
	return write_json(to, file_schema(&s, plugins, n), &s);
}
