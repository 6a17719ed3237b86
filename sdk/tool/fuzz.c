/* SPDX-License-Identifier: Apache-2.0 */
/* Odd configurations: each is refused with a complaint, or the plugin can do with it. */
#include "kit_impl.h"
#include "tool.h"

#include "conf/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STARTS_MAX = 60, DEPTH_MAX = 3, ITEMS_MAX = 4 };

struct fuzz {
	struct check *c;
	uint64_t state;
	FILE *to;
};

static struct check *the_check;
static const char *the_text;

static void on_death(const char *text)
{
	find(the_check, FINDING_ERROR, "%s\n%s", text, the_text);
	_exit(0);
}

/* splitmix64: the same on every machine, so that a seed says it all. */
static uint64_t next(struct fuzz *f, uint64_t below)
{
	uint64_t z = f->state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void put_text(struct fuzz *f)
{
	static const char *const texts[] = { "x", "", "127.0.0.1:0", "missing/file.txt",
		"https://example.org/x", "Ünïcödé 안녕", "a b\\tc", "%s%n", "/topic/", "../up/and/away",
		"true", "12", "{}", "name@example.org", "0", "-" };
	if (next(f, 20) == 0) {
		fprintf(f->to, "\"%0*d\"", 3000, 0);
	} else {
		fprintf(f->to, "\"%s\"", texts[next(f, sizeof(texts) / sizeof(texts[0]))]);
	}
}

static void put_odd(struct fuzz *f)
{
	static const char *const odd[] = { "", "-1", "0", "9223372036854775807", "-9223372036854775808",
		"99999999999999999999", "[]", "{}", "~", "1e9", "true", "[[]]", "{a: b}", "0x10", "1 KiB",
		"5m", "\"\\0\"", "[1, [2]]", ".nan" };
	fputs(odd[next(f, sizeof(odd) / sizeof(odd[0]))], f->to);
}

static void put_number(struct fuzz *f, const struct chatd_opt *o)
{
	int64_t max = o->min == 0 && o->max == 0 ? INT64_MAX : o->max, v;
	switch (next(f, 4)) {
	case 0:
		v = o->min;
		break;
	case 1:
		v = max;
		break;
	default:
		v = o->min +
				(int64_t)next(f,
						(uint64_t)max - (uint64_t)o->min < 1000000
								? (uint64_t)max - (uint64_t)o->min + 1
								: 1000000);
		break;
	}
	fprintf(f->to, "%lld%s", (long long)v,
			o->type == CHATD_T_DURATION       ? "ms"
					: o->type == CHATD_T_SIZE ? " B"
											  : "");
}

static void put_map(struct fuzz *f, const struct chatd_opt *opts, int depth);

static void put_list(struct fuzz *f, const struct chatd_opt *o, int depth)
{
	fputc('[', f->to);
	for (uint64_t i = 0, n = next(f, ITEMS_MAX); i < n; i++) {
		if (o->type == CHATD_T_LIST && depth < DEPTH_MAX) {
			put_map(f, o->sub, depth + 1);
		} else {
			put_text(f);
		}
		fputs(i + 1 < n ? ", " : "", f->to);
	}
	fputc(']', f->to);
}

static void put_value(struct fuzz *f, const struct chatd_opt *o, int depth)
{
	size_t n = 0;
	if (next(f, 4) == 0) {
		put_odd(f);
		return;
	}
	switch (o->type) {
	case CHATD_T_BOOL:
		fputs(next(f, 2) ? "true" : "false", f->to);
		break;
	case CHATD_T_INT:
	case CHATD_T_SIZE:
	case CHATD_T_DURATION:
		put_number(f, o);
		break;
	case CHATD_T_CHOICE:
		while (o->choices && o->choices[n]) {
			n++;
		}
		fputs(n ? o->choices[next(f, n)] : "", f->to);
		break;
	case CHATD_T_STRINGS:
	case CHATD_T_LIST:
		put_list(f, o, depth);
		break;
	default:
		put_text(f);
	}
}

static void put_map(struct fuzz *f, const struct chatd_opt *opts, int depth)
{
	struct chatd_opt o;
	int any = 0;
	fputc('{', f->to);
	for (size_t i = 0; fill_opt_at(opts, f->c->module->plugin.opt_size, i, &o); i++) {
		if (next(f, 10) < (o.flags & CHATD_O_REQUIRED ? 9u : 4u)) {
			fprintf(f->to, "%s%s: ", any++ ? ", " : "", o.key);
			put_value(f, &o, depth);
		}
	}
	fputc('}', f->to);
}

/* One to a line at the top, as people write it. */
static char *make(struct fuzz *f)
{
	char *text = NULL;
	size_t n = 0;
	struct chatd_opt o;
	f->to = open_memstream(&text, &n);
	if (!f->to) {
		return NULL;
	}
	for (size_t i = 0; fill_opt_at(f->c->module->plugin.opts, f->c->module->plugin.opt_size, i, &o);
			i++) {
		if (next(f, 10) < (o.flags & CHATD_O_REQUIRED ? 9u : 4u)) {
			fprintf(f->to, "%s: ", o.key);
			put_value(f, &o, 0);
			fputc('\n', f->to);
		}
	}
	fclose(f->to);
	return text;
}

static int good(struct check *c, const char *text, long i)
{
	doing(c, "the options, number %ld of seed %llu:\n%.6000s", i, (unsigned long long)c->seed,
			text);
	char *complaints = kit_complaints_beside(&c->module->plugin, text);
	int none = complaints && !*complaints;
	free(complaints);
	return none;
}

/* Paths that it makes up are relative: what they hit is in a folder of the check's own. */
void stage_fuzz(struct check *c)
{
	struct fuzz f = { .c = c, .state = c->seed };
	long starts = 0;
	if (open_plugin(c) < 0 || !c->module->plugin.opts) {
		return;
	}
	the_check = c;
	kit_on_death(on_death);
	kit_may_fail(1); /* no file, no memory for 9 EiB: that is no mistake of the plugin's */
	for (long i = 0; i < c->fuzz; i++) {
		char *text = make(&f);
		the_text = text ? text : "";
		if (text && good(c, text, i) && !unplayable(c) && starts < STARTS_MAX) {
			c->left->started = ++starts;
			struct kit *k = play(c, text);
			kit_advance(k, 1000);
			kit_free(k);
		}
		free(text);
		the_text = "";
	}
}
