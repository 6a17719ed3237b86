/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every NAME.yaml of a folder gives exactly the complaints of NAME.err, an empty file if
 * it is right.  Lines "#set KEY=VALUE" in it are --set arguments.  All instances have the
 * sample's options.  With CONF_GOLDEN_UPDATE=1 the .err files are written anew: read the
 * difference before committing it.
 */
#include "conf/conf.h"
#include "sample.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
	char *p;
	size_t n;
};

static struct text read_file(const char *path)
{
	struct text t = { NULL, 0 };
	FILE *f = fopen(path, "rb");
	if (!f)
		return t;
	t.p = malloc(2 << 20);
	t.n = fread(t.p, 1, (2 << 20) - 1, f);
	t.p[t.n] = '\0';
	fclose(f);
	return t;
}

static void apply_sets(struct conf *c, const struct text *t, struct diag *d)
{
	const char *p = t->p;
	while ((p = strstr(p, "#set ")) != NULL) {
		char assignment[256];
		p += 5;
		snprintf(assignment, sizeof(assignment), "%.*s", (int)strcspn(p, "\n"), p);
		conf_set(c, assignment, d);
	}
}

/* What a start with this file would print. */
static struct text complaints(const char *name, const struct text *t)
{
	struct diag d = { 0 };
	struct text out = { NULL, 0 };
	struct conf *c = conf_load_text(name, chatd_str_of(t->p, t->n), &d);
	if (c) {
		apply_sets(c, t, &d);
		conf_plan(c, &d);
		for (size_t i = 0; i < conf_plugin_count(c); i++) {
			struct sample s;
			const struct conf_plugin *p = conf_plugin_at(c, i);
			memset(&s, 0, sizeof(s));
			conf_fill(c, p->node, p->name, sample_opts, sizeof(sample_opts[0]), &s, &d);
		}
	}
	FILE *f = open_memstream(&out.p, &out.n);
	diag_print(&d, f);
	fclose(f);
	conf_free(c);
	diag_finish(&d);
	return out;
}

static int check(const char *folder, const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	struct text yaml = read_file(path);
	struct text got = complaints(name, &yaml);
	snprintf(path, sizeof(path), "%s/%.*s.err", folder, (int)strlen(name) - 5, name);
	if (getenv("CONF_GOLDEN_UPDATE")) {
		FILE *f = fopen(path, "wb");
		if (f) {
			fwrite(got.p, 1, got.n, f);
			fclose(f);
		}
	}
	struct text want = read_file(path);
	int ok = want.p && want.n == got.n && memcmp(want.p, got.p, got.n) == 0;
	if (!ok)
		fprintf(stderr, "# %s: expected\n%s# but got\n%s", name,
				want.p ? want.p : "(no .err file)\n", got.p);
	free(yaml.p);
	free(want.p);
	free(got.p);
	return ok;
}

static int is_yaml(const struct dirent *e)
{
	size_t n = strlen(e->d_name);
	return n > 5 && strcmp(e->d_name + n - 5, ".yaml") == 0;
}

int main(int argc, char **argv)
{
	struct dirent **all;
	int n = argc == 2 ? scandir(argv[1], &all, is_yaml, alphasort) : -1;
	int failed = 0;
	setenv("CONF_TEST_EMPTY", "", 1);
	if (n <= 0) {
		printf("Bail out! no *.yaml in %s\n", argc == 2 ? argv[1] : "(no folder given)");
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		int ok = check(argv[1], all[i]->d_name);
		printf("%s %d - %s\n", ok ? "ok" : "not ok", i + 1, all[i]->d_name);
		failed |= !ok;
		free(all[i]);
	}
	free(all);
	return failed;
}
