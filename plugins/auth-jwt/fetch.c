/* SPDX-License-Identifier: Apache-2.0 */
#include "fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Asks for one byte more than may be there: then it is too large. */
static void read_file(const char *path, struct fetched *ret)
{
	FILE *f = fopen(path, "re");
	if (!f) {
		snprintf(ret->why, sizeof(ret->why), "it cannot be read: %s", strerror(errno));
		return;
	}
	ret->p = malloc(ISSUER_JWKS_MAX + 1);
	ret->n = ret->p ? fread(ret->p, 1, ISSUER_JWKS_MAX + 1, f) : 0;
	if (!ret->p || ferror(f) || ret->n > ISSUER_JWKS_MAX) {
		snprintf(ret->why, sizeof(ret->why), "it cannot be read, or has more than %d KiB",
				ISSUER_JWKS_MAX / 1024);
		free(ret->p);
		ret->p = NULL;
	}
	fclose(f);
}

static size_t take(char *p, size_t size, size_t n, void *arg)
{
	struct fetched *to = arg;
	n *= size;
	if (n > ISSUER_JWKS_MAX - to->n) {
		return 0; /* curl ends the transfer */
	}
	memcpy(to->p + to->n, p, n);
	to->n += n;
	return n;
}

static CURLcode set_up(CURL *c, const struct issuer *is, struct fetched *to, char *why)
{
	/* Plain http only where nobody is in between; check() has seen to the host. */
	const char *only = strncmp(is->url, "https:", 6) == 0 ? "https" : "http";
	CURLcode rc = curl_easy_setopt(c, CURLOPT_URL, is->url);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, only);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)FETCH_MS);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_MAXFILESIZE, (long)ISSUER_JWKS_MAX);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_USERAGENT, "chatd");
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
	rc = rc ? rc : curl_easy_setopt(c, CURLOPT_WRITEDATA, to);
	if (is->ca) {
		rc = rc ? rc : curl_easy_setopt(c, CURLOPT_CAINFO, is->ca);
	}
	return rc;
}

static void read_url(const struct issuer *is, struct fetched *ret)
{
	char why[CURL_ERROR_SIZE] = "";
	CURL *c = curl_easy_init();
	ret->p = malloc(ISSUER_JWKS_MAX);
	CURLcode rc = c && ret->p ? set_up(c, is, ret, why) : CURLE_OUT_OF_MEMORY;
	if (rc == CURLE_OK) {
		rc = curl_easy_perform(c);
	}
	if (rc != CURLE_OK) {
		snprintf(ret->why, sizeof(ret->why), "it cannot be fetched: %s",
				rc == CURLE_WRITE_ERROR || rc == CURLE_FILESIZE_EXCEEDED ? "it is too large"
						: *why                                           ? why
																		 : curl_easy_strerror(rc));
		free(ret->p);
		ret->p = NULL;
	}
	curl_easy_cleanup(c);
}

void fetch_jwks(const struct issuer *is, struct fetched *ret)
{
	*ret = (struct fetched){ 0 };
	if (is->url) {
		read_url(is, ret);
	} else {
		read_file(is->file, ret);
	}
}
