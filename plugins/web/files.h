/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file files.h
 * @brief Where the files come from: the page inside the plugin, or a directory.
 */
#ifndef WEB_FILES_H
#define WEB_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include <chatd/plugin.h>

/** A file of the page, made part of the plugin by embed.py. */
struct embedded_file {
	const char *path; /**< "js/main.js" */
	const unsigned char *data;
	size_t n;
	const char *etag;           /**< with its quotes */
	const unsigned char *small; /**< the same by gzip; NULL: it does not get much smaller */
	size_t small_n;
	const char *small_etag;
};

extern const struct embedded_file embedded_files[];
extern const size_t embedded_files_n;
/** "b-0123456789abcdef/": below it the files of this build, and of no other, are found. */
extern const char embedded_build[];

#define FILES_PATH_MAX 1024
#define FILES_ETAG_MAX 40

/** Turns the decoded path of a URL (without its first slash) into the name of a file:
 *  "" and "x/" mean their index.html.  False: no such name is ever served, because a
 *  part is empty or begins with a dot, or it is too long. */
bool files_name(struct chatd_str path, char ret[FILES_PATH_MAX]);

/** The Content-Type for a file of this name. */
const char *files_type(const char *name);

/** [any, may block] Reads @p name below @p root, never through a symbolic link.  Returns
 *  0 and an owned buffer with the ETag of its content, -ENOENT (nothing there that could
 *  be served), -EFBIG (over @p max bytes), or another negative errno. */
int files_read(const struct chatd_host *, const char *root, const char *name, size_t max,
		chatd_buf **ret_buf, char ret_etag[FILES_ETAG_MAX]);

/** The name of a file of the page without the build that it was asked of.  @p ret_lasting:
 *  it was this build, so whoever has the file need not ask again. */
const char *files_of_build(const char *name, bool *ret_lasting);

/** Does the Accept-Encoding header @p list take gzip? */
bool files_takes_gzip(struct chatd_str list);

/** Does the If-None-Match header @p list name @p etag?  Compared weakly, as it must be. */
bool files_matches(struct chatd_str list, const char *etag);

#endif
