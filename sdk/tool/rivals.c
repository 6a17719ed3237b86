/* SPDX-License-Identifier: Apache-2.0 */
/* Would two instances register the same names?  Each is started under a name of its own. */
#include "kit_impl.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "/app/NAME", "route /api/x" and their like, one a line. */
static char *names_of(struct check *c, const char *options, const char *instance)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	if (!f) {
		return NULL;
	}
	doing(c, "starting as an instance of the name \"%s\"", instance);
	kit_instance_name(instance);
	struct kit *k = play(c, options);
	for (size_t i = 0; k->chat && i < k->chat->n_apps; i++) {
		fprintf(f, "/app/%s\n", k->chat->apps[i].name);
	}
	for (const struct kit_route *r = k->routes; r; r = r->next) {
		fprintf(f, "%s\n", r->path);
	}
	kit_free(k);
	kit_instance_name(NULL);
	fclose(f);
	return text;
}

static int has_line(const char *text, const char *line, size_t n)
{
	for (; *text; text += strcspn(text, "\n") + 1) {
		if (strcspn(text, "\n") == n && memcmp(text, line, n) == 0) {
			return 1;
		}
	}
	return 0;
}

void tell_rivals(struct check *c, const char *options)
{
	const struct chatd_plugin *p = &c->module->plugin;
	if (p->flags & CHATD_PLUGIN_ONCE || (p->provides && p->provides[0]) || *options == '{') {
		return; /* --check finds the second one, whatever it registers */
	}
	char *one = names_of(c, options, p->name), *two = names_of(c, options, "another-instance");
	for (const char *at = one; one && two && *at; at += strcspn(at, "\n") + 1) {
		size_t n = strcspn(at, "\n");
		if (has_line(two, at, n)) {
			find(c, FINDING_WARNING,
					"a second instance would register %.*s too, and the server would not start: make "
					"names from instance(), or from an option, or say in .flags that it is there "
					"once, CHATD_PLUGIN_ONCE",
					(int)n, at);
			break;
		}
	}
	free(one);
	free(two);
}
