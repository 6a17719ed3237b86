/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file seal.h
 * @brief Files at rest: chunks of 64 KiB, each a record of "chatd.cipher/1".  [any]
 *
 * A record names its key and is bound to the file's name, its place in the file, and whether it is
 * the last one: what was changed, cut, moved or put in another's place does not open.  Any part of a
 * file is read without the rest.  An empty file is one empty record.  The name says whether a file
 * is sealed, so that nobody can put a plain one in its place.
 */
#ifndef UPLOAD_SEAL_H
#define UPLOAD_SEAL_H

#include <chatd/cipher.h>

#include "bytes.h"

enum { SEAL_CHUNK = 64 * 1024, SEAL_RECORD = SEAL_CHUNK + CHATD_CIPHER_EXTRA };

struct self;

/** Of the object, or of a small one that goes with it. */
int seal_is(const char *name);
/** A name for a sealed object: of chance alone, as what it says would be readable. */
void seal_name(struct self *, char ret[OBJECT_NAME]);
/** How long a sealed file is. */
int64_t seal_size(int64_t plain);

struct seal_at {
	const char *name;
	int64_t number; /**< of the chunk, from 0 */
	int last;
};
/** @p to has room for CHATD_CIPHER_EXTRA bytes more than there are in @p plain. */
chatd_status seal_chunk(
		const struct self *, const struct seal_at *, struct chatd_str plain, char *to);
/** -EBADMSG: damaged; -ENOKEY: its key is not here.  The log says which, and @p to is not written. */
chatd_status seal_open(
		const struct self *, const struct seal_at *, struct chatd_str sealed, char *to);

/** Takes a file as it comes and gives out records. */
struct sealer;
typedef chatd_status seal_write_fn(void *arg, const char *p, size_t n);
struct sealer *sealer_new(const struct self *, const char *name, seal_write_fn *, void *arg);
chatd_status sealer_take(struct sealer *, const char *p, size_t n);
chatd_status sealer_end(struct sealer *);
void sealer_free(struct sealer *);

/** Takes records as they come, from the first to the last one, and gives out what is in them. */
struct opener {
	const struct self *self;
	const char *name;
	int64_t size; /**< of the sealed file */
	seal_write_fn *write;
	void *arg;
};
/** From a descriptor. */
chatd_status opener_run(const struct opener *, int fd);
/** All of a small file, in memory of its own (free()); @p n: how long it is, and then that is. */
chatd_status seal_small(
		const struct self *, const char *name, const char *p, size_t *n, char **ret);
/** All of a small file in memory, in place; -EBADMSG, -ENOKEY. */
chatd_status seal_open_small(const struct self *, const char *name, char *p, size_t *n);

/** A program's standard input: what is in the sealed file @p from goes to the pipe @p to, as long as
 *  it is read, @p ms at most.  Should it end too soon, the program is ended first (@p pidfd): it
 *  must not think that this was all.  Both are closed. */
struct seal_feed {
	const struct self *self;
	const char *name;
	int from, to, pidfd;
	int64_t ms;
};
chatd_status seal_feed(struct seal_feed *);

#endif
