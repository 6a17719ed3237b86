/* SPDX-License-Identifier: Apache-2.0 */
#include "host/loader.h"

#include "base/str.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STRINGIFY(x) #x
#define TEXT_OF(x)   STRINGIFY(x)
#define SYMBOL_NAME  TEXT_OF(CHATD_PLUGIN_SYMBOL)

struct modules {
	char **dirs;
	size_t n_dirs;
	struct module *loaded;
};

struct modules *modules_create(const char *const *dirs)
{
	struct modules *m = calloc(1, sizeof(*m));
	size_t n = 0;
	while (dirs[n]) {
		n++;
	}
	if (!m) {
		return NULL;
	}
	m->dirs = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; m->dirs && i < n; i++) {
		m->dirs[i] = strdup(dirs[i]);
		m->n_dirs += m->dirs[i] != NULL;
	}
	if (!m->dirs || m->n_dirs != n) {
		modules_destroy(m);
		return NULL;
	}
	return m;
}

void modules_destroy(struct modules *m)
{
	if (!m) {
		return;
	}
	while (m->loaded) {
		struct module *next = m->loaded->next;
		free(m->loaded->name);
		free(m->loaded->path);
		free(m->loaded);
		m->loaded = next;
	}
	for (size_t i = 0; m->dirs && i < m->n_dirs; i++) {
		free(m->dirs[i]);
	}
	free(m->dirs);
	free(m);
}

static const struct module *refuse(struct load_error *e, const char *fmt, ...) CHATD_PRINTF(2, 3);
static const struct module *refuse(struct load_error *e, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return NULL;
}

static char *find_file(struct modules *m, const char *name)
{
	for (size_t i = 0; i < m->n_dirs; i++) {
		char *path = NULL;
		if (asprintf(&path, "%s/%s.so", m->dirs[i], name) < 0) {
			return NULL;
		}
		if (access(path, F_OK) == 0) {
			return path;
		}
		free(path);
	}
	return NULL;
}

/* The name that was probably meant; "" if none is near. */
static void near_name(struct modules *m, const char *name, char *ret, size_t room)
{
	size_t n = 0;
	char **names = modules_list(m, &n);
	char **more = names ? realloc(names, (n + 1) * sizeof(*names)) : NULL;
	ret[0] = '\0';
	if (more) {
		names = more;
		names[n] = NULL;
		const char *near = str_near(name, (const char *const *)names);
		snprintf(ret, room, "%s", near ? near : "");
	}
	for (size_t i = 0; i < n; i++) {
		free(names[i]);
	}
	free(names);
}

static const struct module *not_found(struct modules *m, const char *name, struct load_error *e)
{
	char near[64];
	near_name(m, name, near, sizeof(near));
	if (near[0]) {
		return refuse(e, "there is no plugin \"%s\"; did you mean \"%s\"?", name, near);
	}
	size_t at = (size_t)snprintf(
			e->text, sizeof(e->text), "plugin \"%s\": there is no %s.so in", name, name);
	for (size_t i = 0; i < m->n_dirs && at < sizeof(e->text); i++) {
		at += (size_t)snprintf(
				e->text + at, sizeof(e->text) - at, "%s %s", i ? "," : "", m->dirs[i]);
	}
	if (at < sizeof(e->text)) {
		snprintf(e->text + at, sizeof(e->text) - at,
				"; install it, correct the name, or add its folder to server.plugin_path");
	}
	return NULL;
}

/* Whoever can write the file owns the server: so nobody else may. */
static int writable_by_others(const char *path, const char **ret_what)
{
	struct stat st;
	char dir[4096];
	if (stat(path, &st) == 0 && (st.st_mode & S_IWOTH)) {
		*ret_what = "the file";
		return 1;
	}
	const char *slash = strrchr(path, '/');
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (stat(dir, &st) == 0 && (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX)) {
		*ret_what = "its folder";
		return 1;
	}
	return 0;
}

static const struct chatd_plugin *descriptor(
		const char *name, const char *path, struct load_error *e)
{
	void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		refuse(e, "plugin \"%s\" (%s) cannot be loaded: %s", name, path, dlerror());
		return NULL;
	}
	const struct chatd_plugin *p = dlsym(so, SYMBOL_NAME);
	if (!p) {
		refuse(e,
				"plugin \"%s\" (%s) does not export " SYMBOL_NAME
				": it is no chatd plugin, or built "
				"for another major version of the contract; rebuild it with this server's headers",
				name, path);
		return NULL;
	}
	size_t least = offsetof(struct chatd_plugin, check);
	if (p->struct_size < least || p->struct_size > 65536 || !p->name) {
		refuse(e, "plugin \"%s\" (%s): its descriptor is damaged (size %u); rebuild it", name, path,
				p->struct_size);
		return NULL;
	}
	if (p->abi_minor != CHATD_ABI_MINOR) {
		refuse(e,
				"plugin \"%s\" (%s) was built for contract %u.%u, this server has %u.%u: rebuild "
				"the plugin with this server's headers",
				name, path, CHATD_ABI_MAJOR, p->abi_minor, CHATD_ABI_MAJOR, CHATD_ABI_MINOR);
		return NULL;
	}
	if (strcmp(p->name, name) != 0) {
		refuse(e, "plugin \"%s\" (%s) says that its name is \"%s\": rename the file to %s.so", name,
				path, p->name, p->name);
		return NULL;
	}
	return p;
}

const struct module *module_load(struct modules *m, const char *name, struct load_error *e)
{
	const char *what;
	for (struct module *have = m->loaded; have; have = have->next) {
		if (strcmp(have->name, name) == 0) {
			return have;
		}
	}
	if (strchr(name, '/')) {
		return refuse(e,
				"plugin \"%s\": a plugin is named without a path; add its folder to "
				"server.plugin_path",
				name);
	}
	char *path = find_file(m, name);
	if (!path) {
		return not_found(m, name, e);
	}
	const struct chatd_plugin *p = NULL;
	if (writable_by_others(path, &what)) {
		refuse(e, "plugin \"%s\" (%s): everyone may write to %s; chmod o-w it", name, path, what);
	} else {
		p = descriptor(name, path, e);
	}
	struct module *mod = p ? calloc(1, sizeof(*mod)) : NULL;
	if (!mod) {
		free(path);
		return NULL;
	}
	mod->name = strdup(name);
	mod->path = path;
	size_t n = p->struct_size < sizeof(mod->plugin) ? p->struct_size : sizeof(mod->plugin);
	memcpy(&mod->plugin, p, n);
	mod->next = m->loaded;
	m->loaded = mod;
	return mod;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_dir(const char *dir, char ***list, size_t *n)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		if (len < 4 || strcmp(e->d_name + len - 3, ".so") != 0) {
			continue;
		}
		char **more = realloc(*list, (*n + 1) * sizeof(char *));
		if (!more) {
			break;
		}
		*list = more;
		more[*n] = strndup(e->d_name, len - 3);
		*n += more[*n] != NULL;
	}
	if (d) {
		closedir(d);
	}
}

char **modules_list(struct modules *m, size_t *ret_n)
{
	char **list = NULL;
	size_t n = 0, out = 0;
	for (size_t i = 0; i < m->n_dirs; i++) {
		list_dir(m->dirs[i], &list, &n);
	}
	if (n) {
		qsort(list, n, sizeof(*list), by_name);
	}
	for (size_t i = 0; i < n; i++) { /* the same name in two folders: the first one counts */
		if (out && strcmp(list[out - 1], list[i]) == 0) {
			free(list[i]);
		} else {
			list[out++] = list[i];
		}
	}
	*ret_n = out;
	return list;
}
