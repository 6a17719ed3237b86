/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dir.h
 * @brief The back end that keeps bytes in a folder.  Everything blocks: [pool], or [main].
 *
 *     ROOT/tmp/NAME             what is being uploaded
 *     ROOT/tus/NAME             what is uploaded piece by piece
 *     ROOT/objects/ab/abc...    what is there, by the hash of its content
 *
 * Nodes that share a store share the folder too.  What appears in objects/ is whole and synced.
 */
#ifndef UPLOAD_DIR_H
#define UPLOAD_DIR_H

#include <chatd/plugin.h>

enum { DIR_PATH = 512, DIR_HASH = 64, DIR_OBJECT = DIR_HASH + 3 + 17 };

struct dir {
	char root[DIR_PATH - 160];
};

/** Makes what is missing. */
chatd_status dir_open(struct dir *);
/** A path below the root. */
void dir_path(const struct dir *, const char *part, const char *name, char ret[DIR_PATH]);
/** A new file tmp/NAME; returns its descriptor, or a negative errno. */
int dir_temp(const struct dir *, const char *name);
/** From @p path to its place, where it survives whatever happens from now on. */
chatd_status dir_commit(const struct dir *, const char *path, const char *object);
int dir_read(const struct dir *, const char *object);
/** 0 also when it was not there. */
chatd_status dir_remove(const struct dir *, const char *object);
/** The names of objects that begin with byte @p hh (0 to 255) and were there before @p before
 *  (seconds); @p found returns 0 to go on. */
chatd_status dir_list(const struct dir *, int hh, int64_t before,
		int (*found)(void *arg, const char *object), void *arg);
/** Removes what nobody has written to in @p part since @p before (seconds); how many. */
int64_t dir_sweep(const struct dir *, const char *part, int64_t before);
/** "ab/abcd....0123": @p hash in hex, and something that no other object has. */
void dir_object(const char hash[DIR_HASH + 1], const unsigned char random[8], char ret[DIR_OBJECT]);

#endif
