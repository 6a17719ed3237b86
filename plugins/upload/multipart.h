/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file multipart.h
 * @brief multipart/form-data as it arrives (RFC 7578, RFC 2046), strictly.  Pure.
 *
 * Bytes may come at any boundaries.  What is kept is one part's head at most, so memory does not
 * grow with the body.  What two programs could read differently is refused: bare CR or LF, folded
 * lines, two names, a part inside a part.
 */
#ifndef UPLOAD_MULTIPART_H
#define UPLOAD_MULTIPART_H

#include <chatd/plugin.h>

enum { MULTIPART_BOUNDARY = 70, MULTIPART_HEAD = 4096, MULTIPART_PARTS = 8 };

struct multipart_part {
	struct chatd_str name;
	struct chatd_str filename; /**< .p NULL: this is no file.  As it was sent, quotes resolved */
	struct chatd_str encoded;  /**< of filename*: UTF-8, its percent signs too; .p NULL: none */
};

/** A refusal is noted in struct multipart; what these return below 0 ends the reading. */
struct multipart_user {
	chatd_status (*part)(void *arg, const struct multipart_part *);
	chatd_status (*data)(void *arg, const char *p, size_t n);
	chatd_status (*end)(void *arg); /**< of a part */
};

struct multipart {
	const struct multipart_user *user;
	void *arg;
	const char *why;                   /**< after -EINVAL: a literal */
	char mark[MULTIPART_BOUNDARY + 4]; /**< CR LF - - and the boundary */
	char head[MULTIPART_HEAD];
	size_t mark_n, head_n;
	size_t matched; /**< bytes of the mark at the end of what came */
	int32_t state, parts;
};

/** @p type: the Content-Type.  -ENOTSUP: it is another; -EINVAL: its boundary is wrong. */
chatd_status multipart_init(struct multipart *, struct chatd_str type);
/** 0, -EINVAL (see .why), or what a callback returned. */
chatd_status multipart_feed(struct multipart *, const char *p, size_t n);
/** The body has ended.  -EINVAL: too early. */
chatd_status multipart_finish(struct multipart *);

#endif
