/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a project from the templates: files end in ".in", @NAME@ and its like are filled in. */
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { NAME_LEN_MAX = 32 };

struct project {
	const char *name, *kind, *dir;
	char ident[NAME_LEN_MAX + 1], upper[NAME_LEN_MAX + 1];
	char templates[PATH_MAX];
	char *try; /* what @TRY@ stands for */
	int failed;
};

static int complain(struct project *p, const char *what, const char *path)
{
	fprintf(stderr, "chatd-plugin: cannot %s %s: %s\n", what, path, strerror(errno));
	p->failed = 1;
	return -1;
}

static int set_name(struct project *p, const char *name)
{
	size_t n = strlen(name);
	int good = n > 0 && n <= NAME_LEN_MAX && name[0] >= 'a' && name[0] <= 'z' && name[n - 1] != '-';
	for (size_t i = 0; i < n && good; i++) {
		char c = name[i];
		good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
		p->ident[i] = (char)(c == '-' ? '_' : c);
		p->upper[i] = (char)(c == '-' ? '_' : c >= 'a' && c <= 'z' ? c - 32 : c);
	}
	if (!good || strcmp(name, "server") == 0) {
		fprintf(stderr,
				"chatd-plugin: \"%s\" is no name for a plugin: up to %d of a-z, 0-9 and -, beginning "
				"with a letter, not \"server\"; for example word-count\n",
				name, NAME_LEN_MAX);
		return -1;
	}
	p->name = name;
	return 0;
}

/* Beside the program in a build, under its prefix when installed. */
static int find_templates(struct project *p, const char *exe_dir)
{
	static const char *const places[] = { "templates", "../share/chatd/templates" };
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(p->templates, sizeof(p->templates), "%s/%s", exe_dir, places[i]);
		if (access(p->templates, R_OK) == 0) {
			return 0;
		}
	}
	snprintf(p->templates, sizeof(p->templates), "%s", CHATD_TEMPLATES);
	if (access(p->templates, R_OK) == 0) {
		return 0;
	}
	fprintf(stderr, "chatd-plugin: the templates are not in %s; install chatd's SDK whole\n",
			p->templates);
	return -1;
}

static char *read_file(struct project *p, const char *path)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = fopen(path, "re");
	if (!f || getdelim(&text, &n, '\0', f) < 0) {
		(void)complain(p, "read", path);
		free(text);
		text = NULL;
	}
	if (f) {
		fclose(f);
	}
	return text;
}

/* Writes @p text with the placeholders filled in. */
static void fill(const struct project *p, const char *text, FILE *to)
{
	const struct {
		const char *mark, *value;
	} marks[] = { { "@NAME@", p->name }, { "@IDENT@", p->ident }, { "@UPPER@", p->upper },
		{ "@TRY@", p->try } };
	while (*text) {
		size_t i = 0, n = sizeof(marks) / sizeof(marks[0]);
		while (i < n && strncmp(text, marks[i].mark, strlen(marks[i].mark)) != 0) {
			i++;
		}
		if (i == n) {
			fputc(*text++, to);
			continue;
		}
		text += strlen(marks[i].mark);
		if (marks[i].value == p->try) {
			fill(p, marks[i].value, to);
		} else {
			fputs(marks[i].value, to);
		}
	}
}

/* "test_plugin.c.in" becomes "test_word_count.c". */
static void target(const struct project *p, const char *file, char *ret, size_t room)
{
	const char *stem = strstr(file, "plugin.");
	int n = (int)strlen(file) - 3;
	if (stem) {
		snprintf(ret, room, "%s/%.*s%s%.*s", p->dir, (int)(stem - file), file, p->ident,
				n - (int)(stem - file) - 6, stem + 6);
	} else {
		snprintf(ret, room, "%s/%.*s", p->dir, n, file);
	}
}

static int write_one(struct project *p, const char *from, const char *file)
{
	char path[PATH_MAX], to[PATH_MAX];
	snprintf(path, sizeof(path), "%.2000s/%.255s", from, file);
	target(p, file, to, sizeof(to));
	char *text = read_file(p, path);
	FILE *f = text ? fopen(to, "wxe") : NULL;
	if (text && !f) {
		(void)complain(p, "write", to);
	}
	if (f) {
		fill(p, text, f);
		if (fclose(f) != 0) {
			(void)complain(p, "write", to);
		} else {
			printf("  %s\n", to);
		}
	}
	free(text);
	return p->failed ? -1 : 0;
}

static int write_folder(struct project *p, const char *part)
{
	char from[PATH_MAX];
	struct dirent **all = NULL;
	snprintf(from, sizeof(from), "%.2000s/%s", p->templates, part);
	int n = scandir(from, &all, NULL, alphasort);
	if (n < 0) {
		return complain(p, "read", from);
	}
	for (int i = 0; i < n; i++) {
		size_t len = strlen(all[i]->d_name);
		char own[PATH_MAX];
		snprintf(own, sizeof(own), "%.2000s/%s/%.255s", p->templates, p->kind, all[i]->d_name);
		int has_own = strcmp(part, p->kind) != 0 && access(own, R_OK) == 0;
		if (!p->failed && !has_own && len > 3 && strcmp(all[i]->d_name + len - 3, ".in") == 0 &&
				strcmp(all[i]->d_name, "try.md.in") != 0) {
			(void)write_one(p, from, all[i]->d_name);
		}
		free(all[i]);
	}
	free(all);
	return p->failed ? -1 : 0;
}

static int write_project(struct project *p)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%.2000s/%s/try.md.in", p->templates, p->kind);
	p->try = read_file(p, path);
	if (!p->try) {
		return EX_NOINPUT;
	}
	if (mkdir(p->dir, 0777) != 0) {
		fprintf(stderr, "chatd-plugin: cannot make the folder %s: %s%s\n", p->dir, strerror(errno),
				errno == EEXIST ? "; take it away, or name another with --dir" : "");
		free(p->try);
		return EX_CANTCREAT;
	}
	printf("%s, a plugin of the kind \"%s\":\n", p->name, p->kind);
	int rc = write_folder(p, "common") < 0 || write_folder(p, p->kind) < 0 ? EX_CANTCREAT : 0;
	free(p->try);
	if (rc == 0) {
		printf("next: cd %s && meson setup build && meson test -C build; then README.md\n", p->dir);
	}
	return rc;
}

int cmd_new(int argc, char **argv, const char *exe_dir)
{
	static const struct option longs[] = { { "kind", 1, NULL, 'k' }, { "dir", 1, NULL, 'd' },
		{ 0 } };
	static const char *const kinds[] = { "hook", "service", "transport", "http", "store", "rooms" };
	struct project p = { .kind = kinds[0] };
	int c, known = 0;
	while ((c = getopt_long(argc, argv, "k:d:", longs, NULL)) != -1) {
		if (c == 'k') {
			p.kind = optarg;
		} else if (c == 'd') {
			p.dir = optarg;
		} else {
			return EX_USAGE;
		}
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		known |= strcmp(kinds[i], p.kind) == 0;
	}
	if (!known) {
		fprintf(stderr,
				"chatd-plugin: --kind: \"%s\" is none of hook, service, transport, http, store, rooms\n",
				p.kind);
		return EX_USAGE;
	}
	if (optind != argc - 1) {
		fputs("chatd-plugin: new needs one name: chatd-plugin new NAME\n", stderr);
		return EX_USAGE;
	}
	if (set_name(&p, argv[optind]) < 0) {
		return EX_USAGE;
	}
	p.dir = p.dir ? p.dir : p.name;
	return find_templates(&p, exe_dir) < 0 ? EX_NOINPUT : write_project(&p);
}
