/* SPDX-License-Identifier: Apache-2.0 */
/* An option table as a page for people: plain text or Markdown. */
#include "conf/node.h"
#include "conf/value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NESTED_MAX = 4 };

struct page {
	FILE *to;
	size_t opt_size;
};

static void put_names(FILE *to, const char *before, const char *const *names, const char *after)
{
	if (!names || !names[0])
		return;
	fputs(before, to);
	for (size_t i = 0; names[i]; i++)
		fprintf(to, "%s%s", i ? ", " : "", names[i]);
	fputs(after, to);
}

static void put_range(FILE *to, const char *what, const struct chatd_opt *o)
{
	char min[VALUE_TEXT_MAX], max[VALUE_TEXT_MAX];
	struct value_range r = value_range_of(o);
	value_print(min, o->type, r.min);
	value_print(max, o->type, r.max);
	fputs(what, to);
	if (r.max != INT64_MAX)
		fprintf(to, ", %s to %s", min, max);
	else if (r.min)
		fprintf(to, ", at least %s", min);
}

static void put_type(FILE *to, const struct chatd_opt *o)
{
	switch (o->type) {
	case CHATD_T_BOOL:
		fputs("true or false", to);
		break;
	case CHATD_T_INT:
		put_range(to, "number", o);
		break;
	case CHATD_T_SIZE:
		put_range(to, "size", o);
		break;
	case CHATD_T_DURATION:
		put_range(to, "duration", o);
		break;
	case CHATD_T_STRING:
		fputs(o->flags & CHATD_O_PATH               ? "path"
						: o->flags & CHATD_O_LISTEN ? "address"
						: o->flags & CHATD_O_URL    ? "URL"
													: "text",
				to);
		break;
	case CHATD_T_CHOICE:
		put_names(to, "one of ", o->choices, "");
		break;
	case CHATD_T_STRINGS:
		fputs(o->flags & CHATD_O_PATH               ? "list of paths"
						: o->flags & CHATD_O_LISTEN ? "list of addresses"
						: o->flags & CHATD_O_URL    ? "list of URLs"
													: "list of texts",
				to);
		break;
	default:
		fputs("list of items", to);
	}
	if (o->flags & CHATD_O_SECRET)
		fputs("; secret: env:NAME or file:PATH", to);
	if (o->flags & CHATD_O_LIVE)
		fputs("; changes on reload", to);
}

/* ---- text --------------------------------------------------------------- */

static void text_options(const struct page *p, const struct chatd_opt *opts, int depth)
{
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(opts, p->opt_size, i, &o); i++) {
		fprintf(p->to, "%*s%s: ", depth * 4 + 2, "", o.key);
		if (o.flags & CHATD_O_REQUIRED)
			fputs("(required)", p->to);
		else if (o.fallback)
			fputs(*o.fallback ? o.fallback : "\"\"", p->to);
		else
			fputs("(unset)", p->to);
		fprintf(p->to, "\n%*s", depth * 4 + 6, "");
		put_type(p->to, &o);
		fputc('\n', p->to);
		if (o.doc)
			fprintf(p->to, "%*s%s\n", depth * 4 + 6, "", o.doc);
		if (o.type == CHATD_T_LIST && depth < NESTED_MAX) {
			fprintf(p->to, "%*sEach item:\n", depth * 4 + 6, "");
			text_options(p, o.sub, depth + 1);
		}
	}
}

/* The keys that are the server's to fill in, so that no plugin describes them. */
static void text_common(FILE *to)
{
	const char *sep = "\nEvery plugin also has: ";
	for (const struct chatd_opt *o = plan_plugin_opts(); o->key; o++) {
		fprintf(to, "%s%s", sep, o->key);
		if (o->fallback)
			fprintf(to, " (%s)", o->fallback);
		sep = ", ";
	}
	fputs(", order; see chat.yaml(5)\n", to);
}

static void text_page(const struct page *p, const struct conf_about *a)
{
	fprintf(p->to, "%s%s%s\n", a->name, a->version ? " " : "", a->version ? a->version : "");
	if (a->summary)
		fprintf(p->to, "%s\n", a->summary);
	put_names(p->to, "provides: ", a->provides, "\n");
	put_names(p->to, "needs: ", a->needs, "\n");
	put_names(p->to, "uses if there: ", a->wants, "\n");
	struct chatd_opt o;
	if (!fill_opt_at(a->opts, a->opt_size, 0, &o)) {
		fputs("\nThere are no options.\n", p->to);
		return;
	}
	fputs("\nOptions and their defaults:\n", p->to);
	text_options(p, a->opts, 0);
}

/* ---- Markdown ----------------------------------------------------------- */

static void put_cell(FILE *to, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			fputc('\\', to);
		fputc(*text == '\n' ? ' ' : *text, to);
	}
}

static void markdown_rows(
		const struct page *p, const struct chatd_opt *opts, const char *path, int depth)
{
	struct chatd_opt o;
	for (size_t i = 0; fill_opt_at(opts, p->opt_size, i, &o); i++) {
		fprintf(p->to, "| `%s%s` | ", path, o.key);
		put_type(p->to, &o);
		fputs(" | ", p->to);
		if (o.flags & CHATD_O_REQUIRED) {
			fputs("required", p->to);
		} else if (o.fallback) {
			fputc('`', p->to);
			put_cell(p->to, *o.fallback ? o.fallback : "\"\"");
			fputc('`', p->to);
		}
		fputs(" | ", p->to);
		put_cell(p->to, o.doc ? o.doc : "");
		fputs(" |\n", p->to);
		if (o.type != CHATD_T_LIST || depth >= NESTED_MAX)
			continue;
		char below[256];
		snprintf(below, sizeof(below), "%s%s[].", path, o.key);
		markdown_rows(p, o.sub, below, depth + 1);
	}
}

static void markdown_page(const struct page *p, const struct conf_about *a)
{
	fprintf(p->to, "# %s\n", a->name);
	if (a->summary)
		fprintf(p->to, "\n%s\n", a->summary);
	put_names(p->to, "\nProvides: ", a->provides, "\n");
	put_names(p->to, "\nNeeds: ", a->needs, "\n");
	put_names(p->to, "\nUses if there: ", a->wants, "\n");
	struct chatd_opt o;
	if (!fill_opt_at(a->opts, a->opt_size, 0, &o)) {
		fputs("\nThere are no options.\n", p->to);
		return;
	}
	fputs("\n| option | type | default | meaning |\n|---|---|---|---|\n", p->to);
	markdown_rows(p, a->opts, "", 0);
}

int conf_describe(FILE *to, int format, const struct conf_about *a)
{
	struct page p = { .to = to, .opt_size = a->opt_size };
	if (format == CONF_SCHEMA)
		return schema_one(to, a);
	if (format == CONF_MARKDOWN)
		markdown_page(&p, a);
	else
		text_page(&p, a);
	if (format == CONF_TEXT && a->opts != conf_server_about()->opts)
		text_common(to);
	return 0;
}
