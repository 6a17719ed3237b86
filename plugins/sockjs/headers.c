/* SPDX-License-Identifier: Apache-2.0 */
#include "headers.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define YEAR_S 31536000

void headers_set(const struct sockjs *self, chatd_req *req, const char *name, const char *value)
{
	self->http->header(req, name, chatd_str_of(value, strlen(value)));
}

void headers_cors(const struct sockjs *self, chatd_req *req)
{
	struct chatd_str origin = self->http->req_header(req, "Origin");
	headers_set(self, req, "Vary", "Origin");
	if (!origin.p || !origin.n) {
		headers_set(self, req, "Access-Control-Allow-Origin", "*");
		return;
	}
	self->http->header(req, "Access-Control-Allow-Origin", origin);
	headers_set(self, req, "Access-Control-Allow-Credentials", "true");
}

void headers_fresh(const struct sockjs *self, chatd_req *req)
{
	headers_set(self, req, "Cache-Control",
			"no-store, no-cache, no-transform, must-revalidate, max-age=0");
}

void headers_lasting(const struct sockjs *self, chatd_req *req)
{
	time_t when = (time_t)(self->host->wall_ms() / 1000) + YEAR_S;
	struct tm tm;
	char text[40];
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &tm));
	headers_set(self, req, "Cache-Control", "public, max-age=31536000");
	headers_set(self, req, "Expires", text);
}

/* What a client sends is given back only if it can be nothing but an id. */
static bool is_id(struct chatd_str s)
{
	if (!s.n || s.n > 64)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
				c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}

void headers_cookie(const struct endpoint *ep, chatd_req *req)
{
	if (!ep->cookie)
		return;
	struct chatd_str id = ep->self->http->req_cookie(req, "JSESSIONID");
	if (!id.p || !is_id(id))
		id = CHATD_LIT("dummy");
	char text[96];
	snprintf(text, sizeof(text), "JSESSIONID=%.*s; Path=/", (int)id.n, id.p);
	headers_set(ep->self, req, "Set-Cookie", text);
}

void headers_text(const struct sockjs *self, chatd_req *req, int32_t status, const char *text)
{
	self->http->respond(req, status, "text/plain; charset=UTF-8", chatd_str_of(text, strlen(text)));
}

void headers_bare(const struct sockjs *self, chatd_req *req, int32_t status)
{
	self->http->respond(req, status, NULL, CHATD_LIT(""));
}
