/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include "conf/conf.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static int format_of(const char *name)
{
	static const char *const names[] = { "text", "markdown", "schema" };
	for (int i = 0; i < 3; i++) {
		if (strcmp(names[i], name) == 0) {
			return i;
		}
	}
	fprintf(stderr, "chatd-plugin: --format: \"%s\" is none of text, markdown, schema\n", name);
	return -1;
}

int cmd_describe(int argc, char **argv)
{
	static const struct option longs[] = { { "format", 1, NULL, 'f' }, { 0 } };
	struct load_error e;
	int c, format = CONF_TEXT;
	while ((c = getopt_long(argc, argv, "f:", longs, NULL)) != -1) {
		format = c == 'f' ? format_of(optarg) : -1;
		if (format < 0) {
			return EX_USAGE;
		}
	}
	if (optind != argc - 1) {
		fputs("chatd-plugin: describe needs one file: chatd-plugin describe FILE.so\n", stderr);
		return EX_USAGE;
	}
	const struct module *m = load_file(argv[optind], &e);
	if (!m) {
		fprintf(stderr, "chatd-plugin: %s\n", e.text);
		return EX_NOINPUT;
	}
	const struct conf_about about = module_about(&m->plugin);
	return conf_describe(stdout, format, &about) < 0 ? EX_SOFTWARE : 0;
}
