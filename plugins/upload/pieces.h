/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pieces.h
 * @brief Unfinished uploads where no file can grow: at an S3 server, or encrypted.  [crew]
 *
 * Each request's bytes are a piece of their own, ID.OFFSET.RANDOM.LENGTH; what it is of lies beside
 * them, ID.info.  All of it lies in tus/ of the folder, or below tus/ at the S3 server, where each
 * node finds it.  An upload is as long as its pieces follow one another; of two that begin at one
 * place (two nodes were sent the same), the longer counts.
 */
#ifndef UPLOAD_PIECES_H
#define UPLOAD_PIECES_H

#include "partial.h"

enum { PIECE_NAME = 192, PIECES_MAX = 10000 };

/** Are uploads in pieces here, and not files that grow? */
static inline int pieces_are(const struct self *self)
{
	return self->s3 || self->seals;
}

/** -EDQUOT: the owner has @p most of them already. */
chatd_status pieces_create(struct self *, const struct partial *, int64_t most);
/** By .id.  -ENOENT: there is none; -EFBIG: it has more than PIECES_MAX. */
chatd_status pieces_load(struct self *, struct partial *);
/** It is still wanted: it will not be swept so soon. */
void pieces_touch(struct self *, const struct partial *);
/** What a sink has written becomes the piece at .offset. */
chatd_status pieces_add(struct self *, const struct partial *, const struct sink_facts *);
/** All of it, and @p last behind it (.path[0] '\0': nothing), becomes one file of tmp/.  -EPROTOTYPE:
 *  that type is not allowed; -EBADMSG: it is not as long as was said, or cannot be decrypted. */
chatd_status pieces_join(struct self *, const struct partial *, const struct sink_facts *last,
		struct sink_facts *ret);
void pieces_remove(struct self *, const char *id);
/** At the S3 server, what nobody has gone on with since @p before (seconds); how many. */
int64_t pieces_sweep(struct self *, int64_t before);
/** What the piece that is all of an upload is called, for who puts it there himself. */
void pieces_whole(struct self *, const struct partial *, char ret[PIECE_NAME]);

#endif
