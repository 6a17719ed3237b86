/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file s3sign.h
 * @brief Addresses of objects that are good for a while without keys: AWS Signature Version 4 in the
 * query.  Pure.
 */
#ifndef UPLOAD_S3SIGN_H
#define UPLOAD_S3SIGN_H

#include <chatd/plugin.h>

#include <time.h>

struct s3_presign {
	const char *key, *secret, *region;
	const char *host;  /**< as the client's Host will have it: "bucket.s3.amazonaws.com" */
	const char *path;  /**< percent-encoded, with the slash in front */
	const char *query; /**< what else is asked for: encoded, sorted, after "X-"; may be empty */
	int64_t puts;      /**< 0: it is for a GET; else to PUT so many bytes */
	time_t now;
	int expires; /**< seconds */
};

/** "X-Amz-Algorithm=...&X-Amz-Signature=...": what stands behind the path and a "?".
 *  -ENOSPC: @p cap is too small. */
chatd_status s3_presign(const struct s3_presign *, char *ret, size_t cap);
/** Everything but [A-Za-z0-9._~-] as %XX. -ENOSPC. */
chatd_status s3_encode(const char *text, char *ret, size_t cap);

#endif
