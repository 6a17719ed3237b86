/* SPDX-License-Identifier: Apache-2.0 */
#include "s3sign.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

enum { HASH = 32, HEX = 2 * HASH + 1, QUERY = 6144, DATE = 8 /* of "20130524T000000Z" */ };

chatd_status s3_encode(const char *text, char *ret, size_t cap)
{
	static const char plain[] =
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-";
	size_t n = 0;
	for (; *text; text++) {
		if (n + 4 > cap) {
			return -ENOSPC;
		}
		n += (size_t)snprintf(ret + n, cap - n, strchr(plain, *text) ? "%c" : "%%%02X",
				(unsigned)(unsigned char)*text);
	}
	ret[n] = '\0';
	return 0;
}

static void to_hex(const unsigned char *p, char ret[HEX])
{
	for (size_t i = 0; i < HASH; i++) {
		snprintf(ret + 2 * i, 3, "%02x", p[i]);
	}
}

static int mac(const void *key, size_t n, const char *text, unsigned char ret[HASH])
{
	unsigned out = 0;
	return HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)text, strlen(text), ret, &out) &&
			out == HASH;
}

/* The key of the day, place and service, from the secret. */
static int derive(const struct s3_presign *s, const char *date, unsigned char ret[HASH])
{
	char first[256];
	int n = snprintf(first, sizeof(first), "AWS4%s", s->secret);
	return n < (int)sizeof(first) && mac(first, (size_t)n, date, ret) &&
			mac(ret, HASH, s->region, ret) && mac(ret, HASH, "s3", ret) &&
			mac(ret, HASH, "aws4_request", ret);
}

static int write_query(const struct s3_presign *s, const char *stamp, const char *scope, char *ret)
{
	char id[512], credential[1024];
	int n = snprintf(id, sizeof(id), "%s/%s", s->key, scope);
	if (n >= (int)sizeof(id) || s3_encode(id, credential, sizeof(credential)) < 0) {
		return 0;
	}
	n = snprintf(ret, QUERY,
			"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%s&X-Amz-Date=%s&X-Amz-Expires=%d"
			"&X-Amz-SignedHeaders=%shost%s%s",
			credential, stamp, s->expires, s->puts ? "content-length%3B" : "",
			s->query[0] ? "&" : "", s->query);
	return n < QUERY;
}

static int hash_request(const struct s3_presign *s, const char *query, char ret[HEX])
{
	char text[QUERY + 1024];
	unsigned char hash[EVP_MAX_MD_SIZE];
	int n = s->puts
			? snprintf(text, sizeof(text),
					  "PUT\n%s\n%s\ncontent-length:%lld\nhost:%s\n\ncontent-length;host\nUNSIGNED-PAYLOAD",
					  s->path, query, (long long)s->puts, s->host)
			: snprintf(text, sizeof(text), "GET\n%s\n%s\nhost:%s\n\nhost\nUNSIGNED-PAYLOAD",
					  s->path, query, s->host);
	if (n >= (int)sizeof(text) ||
			EVP_Digest(text, (size_t)n, hash, NULL, EVP_sha256(), NULL) != 1) {
		return 0;
	}
	to_hex(hash, ret);
	return 1;
}

chatd_status s3_presign(const struct s3_presign *s, char *ret, size_t cap)
{
	char stamp[32], date[DATE + 1], scope[160], query[QUERY], hash[HEX], text[512], tag[HEX];
	unsigned char key[HASH];
	struct tm tm;
	gmtime_r(&s->now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(date, sizeof(date), "%.8s", stamp);
	if (snprintf(scope, sizeof(scope), "%s/%s/s3/aws4_request", date, s->region) >=
					(int)sizeof(scope) ||
			!write_query(s, stamp, scope, query) || !hash_request(s, query, hash)) {
		return -ENOSPC;
	}
	snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", stamp, scope, hash);
	if (!derive(s, date, key) || !mac(key, HASH, text, key)) {
		return -EIO;
	}
	to_hex(key, tag);
	return (size_t)snprintf(ret, cap, "%s&X-Amz-Signature=%s", query, tag) < cap ? 0 : -ENOSPC;
}
