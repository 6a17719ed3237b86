/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/loader.h
 * @brief Finds and opens plugin files.  [main]
 *
 * A file that others may write, that is no shared object of this machine, that lacks the
 * one symbol or was built for another contract is refused in plain words: which plugin,
 * which file, what is wrong, what to do.  Modules are never unloaded: a stopped plugin's
 * code stays mapped, because unloading is where plugin hosts crash.
 */
#ifndef HOST_LOADER_H
#define HOST_LOADER_H

#include <chatd/plugin.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum { MODULE_TEXTS = 6 };

struct module {
	struct module *next;
	char *name;   /**< also the file's name, without .so */
	char *path;   /**< as it was opened: of several versions each is written another way */
	char *real;   /**< where it is */
	size_t index; /**< how many had been loaded before */
	struct chatd_plugin plugin; /**< copied: fields beyond theirs are zero */
	uint64_t turn;    /**< of those of one name the one with the highest is used; 0: none */
	struct stat file; /**< as it was when it was opened */
	void *texts[MODULE_TEXTS]; /**< of .plugin, copied: its names and lists of services */
};

struct modules;

/** @p dirs are searched in order; NULL-terminated, copied.  NULL: no memory. */
struct modules *modules_create(const char *const *dirs);
void modules_destroy(struct modules *); /**< forgets them; the files stay mapped */

struct load_error {
	char text[1024];
	int damaged; /**< 1: what is in use was written over */
};
/** NULL after filling @p ret_err.  A module is loaded once: when its file is another one since
 *  then, that is for module_newest(). */
const struct module *module_load(struct modules *, const char *name, struct load_error *ret_err);
/** The same of the file that is there now: another version is mapped beside what is mapped of that
 *  name already, and is the one that module_load() finds once module_use() has said so.  A file
 *  that was written over, rather than put in the place of the old one, is refused: what is mapped
 *  of it may have changed under the code that runs. */
const struct module *module_newest(struct modules *, const char *name, struct load_error *ret_err);
/** 1, and why in @p ret_err: its file was written over since, so nothing of it may be called. */
int module_is_damaged(const struct module *, struct load_error *ret_err);
void module_use(struct modules *, const struct module *);
/** Those that were loaded, by index; free the array.  NULL: no memory. */
const struct module **modules_all(const struct modules *, size_t *ret_n);
struct conf_about;
/** What it says of itself, to be described; points into @p p. */
struct conf_about module_about(const struct chatd_plugin *p);
/** NULL, or the interface for which a plugin of CHATD_PLUGIN_LIVE must stay all the same: what is
 *  registered with it (listeners, endpoints) is not taken back. */
const char *module_tied_by(const struct chatd_plugin *p);
/** Names of all *.so in the directories, sorted; free each and the array. */
char **modules_list(struct modules *, size_t *ret_n);

#endif
