/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of a descriptor and an option table without running anything. */
#include "tool.h"

#include "base/diag.h"
#include "base/str.h"
#include "conf/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 4 };

/* "chatd.presence/1" */
static int is_interface(const char *name)
{
	const char *slash = strrchr(name, '/');
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_");
	return slash && n == (size_t)(slash - name) && n > 0 && strchr(name, '.') && slash[1] &&
			slash[1 + strspn(slash + 1, "0123456789")] == '\0';
}

static int listed(const char *const *list, const char *what)
{
	while (list && *list && strcmp(*list, what) != 0) {
		list++;
	}
	return list && *list;
}

static void check_list(struct check *c, const char *field, const char *const *list)
{
	const struct chatd_plugin *p = &c->module->plugin;
	for (size_t i = 0; list && list[i]; i++) {
		if (!is_interface(list[i])) {
			find(c, FINDING_ERROR,
					"%s has \"%s\", which is no name of an interface: write it as "
					"\"mine.presence/1\"",
					field, list[i]);
		}
		if (listed(list + i + 1, list[i])) {
			find(c, FINDING_ERROR, "%s has \"%s\" twice", field, list[i]);
		}
		if (list != p->provides && listed(p->provides, list[i])) {
			find(c, FINDING_ERROR, "it provides \"%s\" and has it in %s: nobody could start first",
					list[i], field);
		}
	}
}

void stage_describe(struct check *c)
{
	if (open_plugin(c) < 0) {
		return;
	}
	const struct chatd_plugin *p = &c->module->plugin;
	doing(c, "reading its descriptor");
	check_list(c, ".provides", p->provides);
	check_list(c, ".needs", p->needs);
	check_list(c, ".wants", p->wants);
	for (size_t i = 0; p->needs && p->needs[i]; i++) {
		if (listed(p->wants, p->needs[i])) {
			find(c, FINDING_WARNING, "\"%s\" is in .needs and in .wants: once is enough",
					p->needs[i]);
		}
	}
	uint32_t known =
			CHATD_PLUGIN_GUARDS | CHATD_PLUGIN_WAITS | CHATD_PLUGIN_LIVE | CHATD_PLUGIN_ONCE;
	if (p->flags & ~known) {
		find(c, FINDING_ERROR, ".flags is %u, which has bits that mean nothing in this contract",
				p->flags);
	}
	if (p->flags & CHATD_PLUGIN_LIVE && module_tied_by(p)) {
		find(c, FINDING_ERROR,
				".flags has CHATD_PLUGIN_LIVE, but what is opened with \"%s\" stays when the plugin is "
				"turned off: leave the flag out",
				module_tied_by(p));
	}
	if (!p->version || !*p->version) {
		find(c, FINDING_WARNING, "it has no .version, which --list-plugins shows");
	}
	if (!p->summary || !*p->summary) {
		find(c, FINDING_WARNING, "it has no .summary, which --list-plugins shows");
	}
}

/* ---- options -------------------------------------------------------------------- */

static int is_key(const char *key)
{
	size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_");
	return n > 0 && key[n] == '\0' && key[0] >= 'a';
}

static int is_text(int32_t type)
{
	return type == CHATD_T_STRING || type == CHATD_T_STRINGS;
}

static void check_option(struct check *c, const struct chatd_opt *o)
{
	if (!is_key(o->key)) {
		find(c, FINDING_ERROR, "option \"%s\": a key is made of a-z, 0-9 and _, as max_bytes",
				o->key);
	}
	if (!o->doc || !*o->doc) {
		find(c, FINDING_WARNING, "option \"%s\" has no .doc: say in one sentence what it means",
				o->key);
	}
	if ((o->flags & (CHATD_O_SECRET | CHATD_O_PATH | CHATD_O_LISTEN | CHATD_O_URL)) &&
			!is_text(o->type)) {
		find(c, FINDING_ERROR,
				"option \"%s\": CHATD_O_SECRET, _PATH, _LISTEN and _URL are for texts", o->key);
	}
	if (o->type == CHATD_T_CHOICE && o->fallback) {
		if (!listed(o->choices, o->fallback)) {
			find(c, FINDING_ERROR, "option \"%s\": its default \"%s\" is none of its choices",
					o->key, o->fallback);
		}
	}
	if (o->flags & CHATD_O_LIVE) {
		if (!CHATD_HAS(&c->module->plugin, reload)) {
			find(c, FINDING_ERROR, "option \"%s\" is CHATD_O_LIVE, but there is no reload()",
					o->key);
		}
	}
}

static int check_table(struct check *c, const struct chatd_opt *opts, int depth)
{
	struct chatd_opt o;
	int required = 0;
	for (size_t i = 0; fill_opt_at(opts, c->module->plugin.opt_size, i, &o); i++) {
		doing(c, "reading option %s", o.key);
		check_option(c, &o);
		required |= (o.flags & CHATD_O_REQUIRED) != 0;
		if (o.type == CHATD_T_LIST && o.sub && depth < DEPTH_MAX) {
			(void)check_table(c, o.sub, depth + 1);
		}
	}
	return required;
}

/* Does what stands in .fallback pass the table itself? */
static void check_defaults(struct check *c)
{
	const struct chatd_plugin *p = &c->module->plugin;
	struct diag d = { 0 };
	char *text = NULL;
	size_t n = 0;
	doing(c, "filling in the defaults");
	struct conf *conf = conf_load_text("options", CHATD_LIT("plugins: { x: }"), &d);
	void *out = calloc(1, p->conf_size + 1);
	if (conf && out && conf_fill(conf, NULL, p->name, p->opts, p->opt_size, out, &d) < 0) {
		FILE *f = open_memstream(&text, &n);
		if (f) {
			diag_print(&d, f);
			fclose(f);
			find(c, FINDING_ERROR, "its own defaults are refused:\n%s", text);
		}
	}
	free(text);
	free(out);
	conf_free(conf);
	diag_finish(&d);
}

void stage_options(struct check *c)
{
	if (open_plugin(c) < 0) {
		return;
	}
	const struct chatd_plugin *p = &c->module->plugin;
	if (p->opts && !check_table(c, p->opts, 0)) {
		check_defaults(c);
	}
}
