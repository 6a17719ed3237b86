/* SPDX-License-Identifier: Apache-2.0 */
#include "host/loader.h"

#include "base/str.h"
#include "conf/conf.h"
#include "host/elf.h"
#include "host/place.h"

#include <chatd/sockjs.h>
#include <chatd/stream.h>
#include <chatd/websocket.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORKER_SIZE_MAX = 64 << 20 };

#define STRINGIFY(x) #x
#define TEXT_OF(x)   STRINGIFY(x)
#define SYMBOL_NAME  TEXT_OF(CHATD_PLUGIN_SYMBOL)

struct modules {
	char **dirs;
	size_t n_dirs;
	struct module *loaded;
	size_t n_loaded;
	uint64_t turns;
	struct module *refused; /* mapped all the same, under their names */
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

static void forget(struct module *m)
{
	while (m) {
		struct module *next = m->next;
		free(m->name);
		free(m->path);
		free(m->real);
		for (size_t i = 0; i < MODULE_TEXTS; i++) {
			free(m->texts[i]);
		}
		free(m);
		m = next;
	}
}

void modules_destroy(struct modules *m)
{
	if (!m) {
		return;
	}
	forget(m->loaded);
	forget(m->refused);
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

static char *find_file(struct modules *m, const char *name, const char **ret_dir)
{
	for (size_t i = 0; i < m->n_dirs; i++) {
		char *path = NULL;
		if (asprintf(&path, "%s/%s.so", m->dirs[i], name) < 0) {
			return NULL;
		}
		struct stat st;
		if (lstat(path, &st) == 0) { /* also a link that leads nowhere: it is said then */
			*ret_dir = m->dirs[i];
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

/* ---- the descriptor ------------------------------------------------------- */

/* A file of one plugin, on its way. */
struct candidate {
	const char *name, *path; /* as it is told */
	const char *open_as;     /* the same file, under a name that none is loaded by */
	void *so;
	const struct chatd_plugin *p;
	size_t there; /* bytes that the symbol has */
};

static int symbol_major(const struct candidate *c, unsigned major)
{
	char symbol[32];
	snprintf(symbol, sizeof(symbol), "chatd_plugin_v%u", major);
	return dlsym(c->so, symbol) != NULL;
}

/* Others' majors are in the symbol's name, so that one can say which it is. */
static int refuse_symbol(const struct candidate *c, struct load_error *e)
{
	for (unsigned major = 0; major < 1000; major++) {
		if (major != CHATD_ABI_MAJOR && symbol_major(c, major)) {
			refuse(e, "plugin \"%s\" (%s) was built for contract %u, this server has %u.%u: %s",
					c->name, c->path, major, CHATD_ABI_MAJOR, CHATD_ABI_MINOR,
					major > CHATD_ABI_MAJOR ? "upgrade chatd"
											: "rebuild the plugin with this server's headers");
			return -1;
		}
	}
	refuse(e,
			"plugin \"%s\" (%s) does not export " SYMBOL_NAME
			": it is no chatd plugin, or its build hides the symbol; see CHATD_PLUGIN in "
			"chatd/plugin.h",
			c->name, c->path);
	return -1;
}

static int find_symbol(struct candidate *c, struct load_error *e)
{
	Dl_info info;
	const ElfW(Sym) *sym = NULL;
	c->p = dlsym(c->so, SYMBOL_NAME);
	if (!c->p) {
		return refuse_symbol(c, e);
	}
	if (!dladdr1(c->p, &info, (void **)(uintptr_t)&sym, RTLD_DL_SYMENT) || !sym ||
			ELF64_ST_TYPE(sym->st_info) != STT_OBJECT) {
		refuse(e,
				"plugin \"%s\" (%s): " SYMBOL_NAME
				" is no constant; write CHATD_PLUGIN = { CHATD_PLUGIN_HEADER, ... }",
				c->name, c->path);
		return -1;
	}
	c->there = sym->st_size;
	return 0;
}

static int check_size(const struct candidate *c, struct load_error *e)
{
	size_t least = offsetof(struct chatd_plugin, check), n = 0;
	if (c->there >= sizeof(uint32_t)) {
		n = c->p->struct_size;
	}
	if (n >= least && n <= c->there) {
		return 0;
	}
	refuse(e,
			"plugin \"%s\" (%s): its descriptor is damaged (it says %zu bytes, and has %zu; %zu at the "
			"least); write CHATD_PLUGIN_HEADER in it and rebuild it",
			c->name, c->path, n, c->there, least);
	return -1;
}

static int check_minor(const struct candidate *c, struct load_error *e)
{
	if (c->p->min_host > CHATD_ABI_MINOR) {
		refuse(e, "plugin \"%s\" (%s) needs ABI %u.%u, this server has %u.%u: upgrade chatd",
				c->name, c->path, CHATD_ABI_MAJOR, c->p->min_host, CHATD_ABI_MAJOR,
				CHATD_ABI_MINOR);
		return -1;
	}
	return 0;
}

static int check_name(const struct candidate *c, struct load_error *e)
{
	if (!c->p->name || !*c->p->name) {
		refuse(e, "plugin \"%s\" (%s): its descriptor has no name; write .name = \"%s\"", c->name,
				c->path, c->name);
		return -1;
	}
	if (strcmp(c->p->name, c->name) != 0) {
		refuse(e,
				"plugin \"%s\" (%s) says that its name is \"%.64s\": rename the file to %.64s.so, or is "
				"it a copy of that plugin?",
				c->name, c->path, c->p->name, c->p->name);
		return -1;
	}
	return 0;
}

/* @p m has what of the descriptor both sides know. */
static int check_parts(const struct candidate *c, const struct module *m, struct load_error *e)
{
	const struct chatd_plugin *p = &m->plugin;
	char why[256];
	const struct conf_about about = { .opts = p->opts, .opt_size = p->opt_size };
	if (!p->init) {
		refuse(e, "plugin \"%s\" (%s): its descriptor has no init(): it could not do anything",
				c->name, c->path);
		return -1;
	}
	if (conf_check_table(&about, p->conf_size, why, sizeof(why)) < 0) {
		refuse(e, "plugin \"%s\" (%s): its option table is wrong: %s", c->name, c->path, why);
		return -1;
	}
	if (p->worker_size > WORKER_SIZE_MAX) {
		refuse(e, "plugin \"%s\" (%s): its worker_size of %zu bytes cannot be meant", c->name,
				c->path, p->worker_size);
		return -1;
	}
	return 0;
}

static void *own_list(const char *const *list)
{
	size_t n = 0, bytes = 0;
	for (; list[n]; n++) {
		bytes += strlen(list[n]) + 1;
	}
	const char **own = malloc((n + 1) * sizeof(*own) + bytes);
	char *text = own ? (char *)(own + n + 1) : NULL;
	for (size_t i = 0; own && i < n; i++) {
		size_t len = strlen(list[i]) + 1;
		own[i] = memcpy(text, list[i], len);
		text += len;
	}
	if (own) {
		own[n] = NULL;
	}
	return own;
}

/* Whoever writes over a file in use takes away all that is mapped of it, the descriptor's texts too; the
 * server must be able to say so. */
static int keep_texts(struct module *m, struct load_error *e)
{
	struct chatd_plugin *p = &m->plugin;
	const char **texts[] = { &p->name, &p->version, &p->summary };
	const char *const **lists[] = { &p->provides, &p->needs, &p->wants };
	_Static_assert(
			sizeof(texts) / sizeof(texts[0]) + sizeof(lists) / sizeof(lists[0]) == MODULE_TEXTS,
			"one place each");
	void **to = m->texts;
	int lacks = 0;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++, to++) {
		*to = *texts[i] ? strdup(*texts[i]) : NULL;
		lacks |= *texts[i] && !*to;
		*texts[i] = *to;
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++, to++) {
		*to = *lists[i] ? own_list(*lists[i]) : NULL;
		lacks |= *lists[i] && !*to;
		*lists[i] = *to;
	}
	if (lacks) {
		refuse(e, "plugin \"%s\": no memory", m->name);
	}
	return lacks ? -1 : 0;
}

static int open_descriptor(struct candidate *c, struct module *m, struct load_error *e)
{
	c->so = dlopen(c->open_as, RTLD_NOW | RTLD_LOCAL);
	if (!c->so) {
		refuse(e, "plugin \"%s\" (%s) cannot be loaded: %s", c->name, c->path, dlerror());
		return -1;
	}
	if (find_symbol(c, e) < 0 || check_size(c, e) < 0 || check_minor(c, e) < 0 ||
			check_name(c, e) < 0) {
		return -1;
	}
	size_t n = c->p->struct_size;
	memcpy(&m->plugin, c->p, n < sizeof(m->plugin) ? n : sizeof(m->plugin));
	return check_parts(c, m, e) < 0 ? -1 : keep_texts(m, e);
}

/* ---- loading -------------------------------------------------------------- */

static int has_name(const struct module *at, const char *path)
{
	while (at && strcmp(at->path, path) != 0) {
		at = at->next;
	}
	return at != NULL;
}

/* The dynamic linker takes a name that it has for the object that it has, whatever is in the file
 * by now.  Another way to write the name of the same place makes it look: DIR/./NAME.so, then
 * DIR/././NAME.so.  No copy is made, so what was checked of the place holds for what is mapped. */
static char *name_to_open(const struct modules *m, const char *real)
{
	const char *base = strrchr(real, '/');
	int taken = 1, dots = 0;
	char *name = NULL;
	while (taken) {
		free(name);
		size_t room = strlen(real) + 2 * (size_t)dots + 1;
		name = malloc(room);
		if (!name) {
			return NULL;
		}
		size_t n = (size_t)snprintf(name, room, "%.*s", (int)(base - real), real);
		for (int i = 0; i < dots; i++) {
			n += (size_t)snprintf(name + n, room - n, "/.");
		}
		snprintf(name + n, room - n, "%s", base);
		taken = has_name(m->loaded, name) || has_name(m->refused, name);
		dots++;
	}
	return name;
}

static int fill_module(struct module *m, struct candidate *c, struct load_error *e)
{
	char why[256];
	m->name = strdup(c->name);
	m->real = strdup(c->path);
	if (!m->name || !m->real) {
		refuse(e, "plugin \"%s\": no memory", c->name);
		return -1;
	}
	if (elf_check(c->path, why, sizeof(why)) < 0) {
		refuse(e, "plugin \"%s\" (%s) cannot be loaded: %s", c->name, c->path, why);
		return -1;
	}
	return open_descriptor(c, m, e);
}

/* @p real is where it is, and has been checked. */
static struct module *open_module(
		struct modules *all, const char *name, const char *real, struct load_error *e)
{
	struct module *m = calloc(1, sizeof(*m));
	char *open_as = name_to_open(all, real);
	struct candidate c = { .name = name, .path = real, .open_as = open_as };
	if (!m || !open_as) {
		refuse(e, "plugin \"%s\": no memory", name);
	} else if (stat(real, &m->file) < 0) {
		refuse(e, "plugin \"%s\": %s: %s", name, real, strerror(errno));
	} else {
		int rc = fill_module(m, &c, e);
		struct module **to = rc == 0 ? &all->loaded : &all->refused;
		m->path = open_as;
		m->index = rc == 0 ? all->n_loaded++ : 0;
		m->next = *to;
		*to = m;
		return rc == 0 ? m : NULL;
	}
	free(m);
	free(open_as);
	return NULL;
}

/* Where it is, checked; free it.  NULL after filling @p e. */
static char *find_real(struct modules *m, const char *name, struct load_error *e)
{
	if (strchr(name, '/')) {
		refuse(e,
				"plugin \"%s\": a plugin is named without a path; add its folder to "
				"server.plugin_path",
				name);
		return NULL;
	}
	const char *dir = NULL;
	char why[PATH_MAX + 256], *real = NULL, *path = find_file(m, name, &dir);
	if (!path) {
		not_found(m, name, e);
		return NULL;
	}
	if (place_check(dir, path, &real, why, sizeof(why)) < 0) {
		refuse(e, "plugin \"%s\": %s", name, why);
		real = NULL;
	}
	free(path);
	return real;
}

static struct module *in_use(const struct modules *m, const char *name)
{
	struct module *best = NULL;
	for (struct module *at = m->loaded; at; at = at->next) {
		if (at->turn && strcmp(at->name, name) == 0 && (!best || at->turn > best->turn)) {
			best = at;
		}
	}
	return best;
}

static int same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int module_is_damaged(const struct module *m, struct load_error *e)
{
	struct stat st;
	int is = stat(m->real, &st) == 0 && m->file.st_dev == st.st_dev &&
			m->file.st_ino == st.st_ino &&
			(m->file.st_size != st.st_size || !same_time(&m->file.st_mtim, &st.st_mtim));
	if (is) {
		e->damaged = 1;
		refuse(e,
				"plugin \"%s\": %s was written over while it is in use, so that the code that runs may be "
				"damaged: restart the server; next time put the new file in the place of the old one, as "
				"install(1) and mv do",
				m->name, m->real);
	}
	return is;
}

const struct module *module_load(struct modules *m, const char *name, struct load_error *e)
{
	struct module *have = in_use(m, name);
	if (have) {
		return module_is_damaged(have, e) ? NULL : have;
	}
	const struct module *mod = module_newest(m, name, e);
	if (mod) {
		module_use(m, mod);
	}
	return mod;
}

const struct module *module_newest(struct modules *m, const char *name, struct load_error *e)
{
	char *real = find_real(m, name, e);
	struct stat st;
	const struct module *mod = NULL;
	if (real && stat(real, &st) < 0) {
		refuse(e, "plugin \"%s\": %s: %s", name, real, strerror(errno));
		free(real);
		return NULL;
	}
	for (const struct module *at = m->loaded; real && at; at = at->next) {
		if (at->file.st_dev == st.st_dev && at->file.st_ino == st.st_ino &&
				strcmp(at->name, name) == 0) {
			mod = at;
		}
	}
	if (real && !mod) {
		mod = open_module(m, name, real, e);
	} else if (real && module_is_damaged(mod, e)) {
		mod = NULL;
	}
	free(real);
	return mod;
}

void module_use(struct modules *m, const struct module *used)
{
	for (struct module *at = m->loaded; at; at = at->next) {
		if (at == used) {
			at->turn = ++m->turns;
		}
	}
}

const struct module **modules_all(const struct modules *m, size_t *ret_n)
{
	const struct module **all = calloc(m->n_loaded + 1, sizeof(struct module *));
	for (const struct module *at = m->loaded; all && at; at = at->next) {
		all[at->index] = at;
	}
	*ret_n = all ? m->n_loaded : 0;
	return all;
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

struct conf_about module_about(const struct chatd_plugin *p)
{
	return (struct conf_about){ .name = p->name,
		.version = p->version,
		.summary = p->summary,
		.provides = p->provides,
		.needs = p->needs,
		.wants = p->wants,
		.opts = p->opts,
		.opt_size = p->opt_size };
}

const char *module_tied_by(const struct chatd_plugin *p)
{
	static const char *const ties[] = { CHATD_NET, CHATD_SOCKJS, CHATD_WEBSOCKET, NULL };
	const char *const *const lists[] = { p->needs, p->wants };
	for (size_t l = 0; l < 2; l++) {
		for (size_t i = 0; lists[l] && lists[l][i]; i++) {
			for (size_t k = 0; ties[k]; k++) {
				if (strcmp(lists[l][i], ties[k]) == 0) {
					return ties[k];
				}
			}
		}
	}
	return NULL;
}
