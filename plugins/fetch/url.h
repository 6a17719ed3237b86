/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file url.h
 * @brief Which URLs may be asked.  Pure.
 *
 * A URL is parsed once, by libcurl, and what was checked is what is connected to.
 */
#ifndef URL_H
#define URL_H

#include <chatd/fetch.h>
#include <curl/curl.h>

struct url_rules {
	const char *const *hosts; /**< NULL-terminated; empty: any.  "*.example.org": all below it */
	const char *const *allow; /**< "host:port" that are exempt */
};

struct url {
	CURLU *u; /**< to curl_url_cleanup() */
	char host[256];
	uint16_t port;
	int32_t is_tls;
	int32_t exempt; /**< its address need not be public */
};

/** 0; -EINVAL, -EACCES and why, a literal. */
chatd_status url_read(struct url *ret, struct chatd_str text, uint32_t flags,
		const struct url_rules *, const char **ret_why);
void url_finish(struct url *);

int url_allow_ok(const char *host_and_port);
int url_pattern_ok(const char *host);

#endif
