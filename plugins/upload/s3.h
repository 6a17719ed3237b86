/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file s3.h
 * @brief The back end that keeps bytes at a server that speaks S3.  Everything blocks: [crew].
 *
 * Requests are signed by libcurl.  What may pass (no connection, 5xx, 429) is tried again a little
 * later, three times in all; when several in a row have failed, the others fail at once for a while
 * (-EHOSTDOWN), so that the threads are free for who is next.  -EKEYREJECTED: it does not take the
 * key, or the key may not do this.
 */
#ifndef UPLOAD_S3_H
#define UPLOAD_S3_H

#include <chatd/plugin.h>

struct s3;
struct s3_conf {
	const char *endpoint; /**< "https://s3.eu-central-1.amazonaws.com" */
	const char *bucket;   /**< empty: the endpoint is the bucket's own address */
	const char *prefix;   /**< of all names: "chat/", or empty */
	const char *region, *key, *secret, *ca;
	void (*tell)(void *arg, int up); /**< [any] it has gone away (0), is back (1) */
	void *arg;
};

/** [main] NULL: no memory. */
struct s3 *s3_create(const struct s3_conf *);
void s3_destroy(struct s3 *);
/** The file at @p path; @p hash: SHA-256 in hex, which the server compares. */
chatd_status s3_put_file(struct s3 *, const char *path, const char *name, const char *hash);
chatd_status s3_put(struct s3 *, const char *name, const void *p, size_t n);
/** 0: it is there; -ENOENT. */
chatd_status s3_look(struct s3 *, const char *name);
/** Exactly @p n bytes from @p from on; -ENOENT. */
chatd_status s3_read(struct s3 *, const char *name, int64_t from, void *to, size_t n);
/** All of it, up to @p cap bytes: -EFBIG; @p ret_n: how many. */
chatd_status s3_get(struct s3 *, const char *name, void *to, size_t cap, size_t *ret_n);
/** All of it into a file, up to @p most bytes: -EFBIG; 0: however much there is. */
chatd_status s3_get_file(struct s3 *, const char *name, int fd, int64_t most);
/** 0 also when it was not there. */
chatd_status s3_remove(struct s3 *, const char *name);
/** Names that begin with @p prefix and are older than @p before (seconds); @p found gets what is
 *  behind @p prefix and returns 0 to go on. */
chatd_status s3_list(struct s3 *, const char *prefix, int64_t before,
		int (*found)(void *arg, const char *rest), void *arg);
/** [any] 1: it has answered a moment ago. */
int s3_answers(struct s3 *);
/** [any] Where its addresses lead: "https://s3.eu-central-1.amazonaws.com". */
struct chatd_str s3_origin(const struct s3 *);
/** [any] An address that is good for @p seconds without keys; @p query: as s3_presign has it. */
chatd_status s3_address(
		const struct s3 *, const char *name, const char *query, int seconds, char *ret, size_t cap);
/** [any] Likewise to PUT exactly @p n bytes there. */
chatd_status s3_put_address(
		const struct s3 *, const char *name, int64_t n, int seconds, char *ret, size_t cap);

#endif
