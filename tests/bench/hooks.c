/* SPDX-License-Identifier: Apache-2.0 */
/* What the hooks of a plugin add to a SEND: the same messages through the server's own chat
 * code (the kit), with the plugin and without one, in turns.
 *
 * usage: bench-hooks PLUGIN.so OPTIONS [PLUGIN.so OPTIONS]...
 *
 * The kit checks each call of the host, so the differences are upper bounds. */
#include <chatd/kit.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SENDS = 100000, ROUNDS = 15, PLUGINS_MAX = 8 };

struct subject {
	const char *name, *yaml;
	const struct chatd_plugin *plugin;
	double ns[ROUNDS];
};

static const struct chatd_plugin none = { CHATD_PLUGIN_HEADER, .name = "none" };

static double cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static double measure(const struct subject *s)
{
	struct kit *k = kit_new(s->plugin, s->yaml);
	struct kit_client *c = kit_open(k, "ann");
	for (int i = 0; i < SENDS / 10; i++) {
		kit_send(c, "/app/nobody.listens", "x", (char *)NULL);
	}
	double begin = cpu_ns();
	for (int i = 0; i < SENDS; i++) {
		kit_send(c, "/app/nobody.listens", "x", (char *)NULL);
	}
	double ns = (cpu_ns() - begin) / SENDS;
	kit_expect_reject(k, "NOT_FOUND", NULL); /* the hooks have let it pass */
	kit_free(k);
	return ns;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static const struct chatd_plugin *load(const char *path)
{
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct chatd_plugin *p = module ? dlsym(module, "chatd_plugin_v1") : NULL;
	if (!p) {
		fprintf(stderr, "bench-hooks: %s is no plugin: %s\n", path, dlerror());
		exit(1);
	}
	return p;
}

int main(int argc, char **argv)
{
	struct subject s[PLUGINS_MAX] = { { .name = "no plugin", .yaml = "", .plugin = &none } };
	int n = 1;
	if (argc < 3 || argc % 2 == 0 || argc / 2 >= PLUGINS_MAX) {
		fprintf(stderr, "usage: bench-hooks PLUGIN.so OPTIONS [PLUGIN.so OPTIONS]...\n");
		return 64;
	}
	for (int i = 1; i + 1 < argc; i += 2, n++) {
		s[n].plugin = load(argv[i]);
		s[n].name = s[n].plugin->name;
		s[n].yaml = argv[i + 1];
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < n; i++) { /* in turns: what slows the machine slows all of them */
			s[i].ns[round] = measure(&s[i]);
		}
	}
	for (int i = n; i-- > 1;) {
		for (int round = 0; round < ROUNDS; round++) {
			s[i].ns[round] -= s[0].ns[round];
		}
	}
	for (int i = 0; i < n; i++) {
		qsort(s[i].ns, ROUNDS, sizeof(double), by_value);
		printf("%-12s %s%7.1f ns a SEND (%.1f..%.1f)\n", s[i].name, i ? "+" : " ",
				s[i].ns[ROUNDS / 2], s[i].ns[ROUNDS / 4], s[i].ns[3 * ROUNDS / 4]);
	}
	return 0;
}
