/* SPDX-License-Identifier: Apache-2.0 */
/* Options for a plugin that requires some and was given none: what its table allows, tried out. */
#include "kit_impl.h"
#include "tool.h"

#include "conf/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 3 };

/* What a text may be, when the table does not say: the first that check() takes. */
static const char *const texts[] = { "x", "example", "https://example.org/x", "ann@example.org",
	"127.0.0.1:1", "/topic/x", "/api/x", "example.org", "1", "0123456789abcdef0123456789abcdef" };
enum { TRIES = sizeof(texts) / sizeof(texts[0]) };

struct writer {
	FILE *to;
	const struct check *c;
	size_t attempt;
};

static const char *text_for(const struct writer *w, const struct chatd_opt *o)
{
	static const char *const paths[] = { "made-up.txt", "made-up" };
	if (o->flags & CHATD_O_URL) {
		return "https://example.org/x";
	}
	if (o->flags & CHATD_O_LISTEN) {
		return "127.0.0.1:0";
	}
	return o->flags & CHATD_O_PATH ? paths[w->attempt % 2] : texts[w->attempt];
}

static void put_map(struct writer *w, const struct chatd_opt *opts, int depth);

static void put_value(struct writer *w, const struct chatd_opt *o, int depth)
{
	switch (o->type) {
	case CHATD_T_BOOL:
		fputs("true", w->to);
		break;
	case CHATD_T_INT:
	case CHATD_T_SIZE:
	case CHATD_T_DURATION: {
		int64_t least = o->min > 0 || o->max != 0 ? o->min : 1;
		fprintf(w->to, "%lld%s", (long long)least,
				o->type == CHATD_T_DURATION       ? "ms"
						: o->type == CHATD_T_SIZE ? " B"
												  : "");
		break;
	}
	case CHATD_T_CHOICE:
		fprintf(w->to, "\"%s\"", o->choices && o->choices[0] ? o->choices[0] : "");
		break;
	case CHATD_T_STRINGS:
		fprintf(w->to, "[\"%s\"]", text_for(w, o));
		break;
	case CHATD_T_LIST:
		fputc('[', w->to);
		if (depth < DEPTH_MAX) {
			put_map(w, o->sub, depth + 1);
		}
		fputc(']', w->to);
		break;
	default:
		fprintf(w->to, "\"%s\"", text_for(w, o));
	}
}

static void put_map(struct writer *w, const struct chatd_opt *opts, int depth)
{
	struct chatd_opt o;
	int any = 0;
	fputc('{', w->to);
	for (size_t i = 0; fill_opt_at(opts, w->c->module->plugin.opt_size, i, &o); i++) {
		if (o.flags & CHATD_O_REQUIRED) {
			fprintf(w->to, "%s%s: ", any++ ? ", " : "", o.key);
			put_value(w, &o, depth);
		}
	}
	fputc('}', w->to);
}

static char *write_one(const struct check *c, size_t attempt)
{
	const struct chatd_plugin *p = &c->module->plugin;
	char *text = NULL;
	size_t n = 0;
	struct chatd_opt o;
	struct writer w = { .to = open_memstream(&text, &n), .c = c, .attempt = attempt };
	if (!w.to) {
		return NULL;
	}
	for (size_t i = 0; fill_opt_at(p->opts, p->opt_size, i, &o); i++) {
		if (o.flags & CHATD_O_REQUIRED) {
			fprintf(w.to, "%s: ", o.key);
			put_value(&w, &o, 0);
			fputc('\n', w.to);
		}
	}
	fclose(w.to);
	return text;
}

/* In the folder of the check's own, where one is: relative paths lead there. */
static void make_files(void)
{
	FILE *f = fopen("made-up.txt", "we");
	(void)mkdir("made-up", 0700);
	if (f) {
		fputs("example\n", f);
		fclose(f);
	}
}

char *make_up(struct check *c, char **ret_why)
{
	make_files();
	for (size_t i = 0; i < TRIES; i++) {
		char *text = write_one(c, i);
		if (!text) {
			return NULL;
		}
		doing(c, "the options, made up:\n%.6000s", text);
		free(*ret_why);
		*ret_why = kit_complaints_beside(&c->module->plugin, text);
		if (*ret_why && !**ret_why) {
			return text;
		}
		free(text);
	}
	return NULL;
}
