/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file bytes.h
 * @brief Where objects lie, by their names.  Everything blocks: [crew].
 *
 * In a folder, or at a server that speaks S3: then the folder keeps what is on its way alone.
 *
 * An object is whole or not there, and never changes.  Small ones that go with it have its name with
 * "-..." behind, and go when it goes.
 */
#ifndef UPLOAD_BYTES_H
#define UPLOAD_BYTES_H

#include <chatd/plugin.h>

enum { OBJECT_NAME = 129 /* with its NUL */, SMALL_MAX = 4 << 20 };

struct self;

/** An object that is read piece by piece; zeroed but for .fd, which is -1. */
struct bytes_file {
	char object[OBJECT_NAME];
	int64_t size; /**< of what is in it */
	int fd;
};

/** The file at @p path becomes the object, where it survives whatever happens from now on; @p path
 *  has gone then.  @p hash: its SHA-256 in hex. */
chatd_status bytes_put(struct self *, const char *path, const char *object, const char *hash);
chatd_status bytes_put_small(struct self *, const char *object, const void *p, size_t n);
/** All of a small one in a buffer of its own; -ENOENT. */
chatd_status bytes_get_small(struct self *, const char *object, chatd_buf **ret);
/** Exactly @p n bytes from @p from on.  Of an encrypted one: -EBADMSG, -ENOKEY, and the log says why. */
chatd_status bytes_read(struct self *, struct bytes_file *, int64_t from, void *to, size_t n);
void bytes_close(struct bytes_file *);
/** The first @p n bytes as they lie there; -EIO: there are not as many. */
chatd_status bytes_head(struct self *, const char *object, char *to, size_t n);
/** A descriptor to read the whole of it from, as it lies there; or a negative errno. */
int bytes_open(struct self *, const char *object);
/** With its small ones; 0 also when it was not there. */
chatd_status bytes_remove(struct self *, const char *object);
/** As dir_list(), also the small ones. */
chatd_status bytes_list(struct self *, int hh, int64_t before,
		int (*found)(void *arg, const char *object), void *arg);

chatd_status write_fully(int fd, const char *p, size_t n);
/** Of a file: -EIO when there are not as many. */
chatd_status read_fully(int fd, int64_t from, char *to, size_t n);

#endif
