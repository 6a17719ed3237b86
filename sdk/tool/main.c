/* SPDX-License-Identifier: Apache-2.0 */
/* chatd-plugin: begins, checks and describes plugins. */
#include "tool.h"

#include "base/map.h"
#include "base/str.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static const char usage[] =
		"usage: chatd-plugin new NAME [--kind hook|service|transport|http|store|rooms] [--dir FOLDER]\n"
		"       chatd-plugin check FILE.so [--options YAML] [--message 'DEST BODY']...\n"
		"                                   [--record 'SPACE KEY VALUE']... [--call 'METHOD PATH BODY']...\n"
		"                                   [--rounds N] [--fuzz N] [--seed N] [--limit SECONDS]\n"
		"       chatd-plugin describe FILE.so [--format text|markdown|schema]\n"
		"\n"
		"  new       write a project: plugin, tests, build files, a configuration to try it with\n"
		"  check     look for what would go wrong in a server; exit code 0: nothing, 1: something\n"
		"  describe  what the plugin provides, needs, and its options\n"
		"\n"
		"The guide is in the folder guide beside the templates; man chatd-plugin.\n";

const struct module *load_file(const char *path, struct load_error *e)
{
	char real[PATH_MAX];
	e->text[0] = '\0';
	char *slash = realpath(path, real) ? strrchr(real, '/') : NULL;
	size_t n = slash ? strlen(slash + 1) : 0;
	if (n < 4 || strcmp(slash + 1 + n - 3, ".so") != 0) {
		snprintf(e->text, sizeof(e->text), "\"%s\" %s", path,
				slash ? "is not named as a plugin is, NAME.so" : "is not there");
		return NULL;
	}
	*slash = '\0';
	slash[1 + n - 3] = '\0';
	const char *const dirs[] = { *real ? real : "/", NULL };
	struct modules *m = modules_create(dirs); /* lives as long as the process, as modules do */
	return m ? module_load(m, slash + 1, e) : NULL;
}

/* malloc() counts what it keeps in a thread's cache as in use, so that numbers of bytes would say
 * nothing about leaks; that cache can be turned off at the start of a program only. */
static void without_cache(char **argv)
{
	static const char tunable[] = "glibc.malloc.tcache_count=0";
	const char *have = getenv("GLIBC_TUNABLES");
	char all[1024];
	if (have && strstr(have, tunable)) {
		return;
	}
	int n = snprintf(all, sizeof(all), "%s%s%s", have ? have : "", have ? ":" : "", tunable);
	if (n > 0 && (size_t)n < sizeof(all) && setenv("GLIBC_TUNABLES", all, 1) == 0) {
		(void)execv("/proc/self/exe", argv); /* failed: then it is less exact */
	}
}

int main(int argc, char **argv)
{
	char exe[PATH_MAX] = "";
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash = n > 0 ? strrchr(exe, '/') : NULL;
	if (slash) {
		*slash = '\0';
	}
	map_init();
	if (argc > 1 && strcmp(argv[1], "new") == 0) {
		return cmd_new(argc - 1, argv + 1, exe);
	}
	if (argc > 1 && strcmp(argv[1], "check") == 0) {
		without_cache(argv);
		return cmd_check(argc - 1, argv + 1);
	}
	if (argc > 1 && strcmp(argv[1], "describe") == 0) {
		return cmd_describe(argc - 1, argv + 1);
	}
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		printf("chatd-plugin %s (plugin contract %u.%u)\n", CHATD_VERSION, CHATD_ABI_MAJOR,
				CHATD_ABI_MINOR);
		return 0;
	}
	int help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	fputs(usage, help ? stdout : stderr);
	return help ? 0 : EX_USAGE;
}
