/* SPDX-License-Identifier: Apache-2.0 */
#include "urls.h"

#include "frames.h"
#include "headers.h"
#include "wsconn.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char iframe_page[] =
		"<!DOCTYPE html>\n"
		"<html>\n"
		"<head>\n"
		"  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n"
		"  <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n"
		"  <script src=\"%s\"></script>\n"
		"  <script>\n"
		"    document.domain = document.domain;\n"
		"    SockJS.bootstrap_iframe();\n"
		"  </script>\n"
		"</head>\n"
		"<body>\n"
		"  <h2>Don't panic!</h2>\n"
		"  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>\n"
		"</body>\n"
		"</html>";

int urls_setup(struct sockjs *self)
{
	char *page = NULL;
	int n = asprintf(&page, iframe_page, self->conf->script);
	if (n < 0)
		return -ENOMEM;
	self->iframe = chatd_str_of(page, (size_t)n);
	unsigned char hash[16];
	char text[2 * sizeof(hash) + 1];
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)page, (size_t)n, NULL, 0);
	sodium_bin2hex(text, sizeof(text), hash, sizeof(hash));
	snprintf(self->iframe_tag, sizeof(self->iframe_tag), "\"%.16s\"", text);
	return 0;
}

void urls_finish(struct sockjs *self)
{
	free((void *)(uintptr_t)self->iframe.p);
}

/* ---- which URL is it? -------------------------------------------------- */

static bool is(struct chatd_str s, const char *text)
{
	return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static int hex(char c)
{
	return c >= '0' && c <= '9'    ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
								   : -1;
}

/** Decodes a server's or session's id; false: it is none. */
static bool decode_id(struct chatd_str s, char out[SOCKJS_ID_MAX], size_t *ret_n)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '%') {
			if (s.n - i < 3 || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0)
				return false;
			c = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
			i += 2;
		}
		if (!c || c == '/' || c == '.' || n == SOCKJS_ID_MAX)
			return false;
		out[n++] = c;
	}
	*ret_n = n;
	return n > 0;
}

static bool is_iframe(struct chatd_str s)
{
	static const char begin[] = "iframe", end[] = ".html";
	if (s.n < 11 || memcmp(s.p, begin, 6) || memcmp(s.p + s.n - 5, end, 5))
		return false;
	for (size_t i = 6; i < s.n - 5; i++) {
		char c = s.p[i];
		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && c != '-' && c != '.' && c != '_')
			return false;
	}
	return true;
}

/** Splits "/a/b/c" at its slashes; returns the number of parts, 4 if there are more. */
static size_t split(struct chatd_str rest, struct chatd_str parts[3])
{
	size_t n = 0;
	for (size_t i = 0; i < rest.n;) {
		const char *from = rest.p + i + 1;
		const char *stop = memchr(from, '/', rest.n - i - 1);
		size_t len = stop ? (size_t)(stop - from) : rest.n - i - 1;
		if (n == 3)
			return 4;
		parts[n++] = chatd_str_of(from, len);
		i += 1 + len;
	}
	return n;
}

enum url_kind urls_parse(struct chatd_str rest, struct exch_target *ret_target)
{
	struct chatd_str part[3];
	if (rest.n && rest.p[0] != '/')
		return URL_NONE;
	size_t n = split(rest, part);
	if (n == 0 || (n == 1 && !part[0].n))
		return URL_GREETING;
	if (n == 1) {
		return is(part[0], "info")         ? URL_INFO
				: is(part[0], "websocket") ? URL_RAW
				: is_iframe(part[0])       ? URL_IFRAME
										   : URL_NONE;
	}
	char server[SOCKJS_ID_MAX];
	size_t server_len;
	if (n != 3 || !decode_id(part[0], server, &server_len) ||
			!decode_id(part[1], ret_target->id, &ret_target->id_len))
		return URL_NONE;
	ret_target->transport = frames_transport(part[2]);
	return ret_target->transport ? URL_SESSION : URL_NONE;
}

/* ---- answers without a session ----------------------------------------- */

static void answer_info(const struct endpoint *ep, chatd_req *req)
{
	const struct sockjs *self = ep->self;
	uint32_t entropy;
	self->host->random(&entropy, sizeof(entropy));
	char text[128];
	int n = snprintf(text, sizeof(text),
			"{\"entropy\":%" PRIu32 ",\"origins\":[\"*:*\"],\"cookie_needed\":%s,\"websocket\":%s}",
			entropy, ep->cookie ? "true" : "false", ep->websocket ? "true" : "false");
	headers_cors(self, req);
	headers_fresh(self, req);
	self->http->respond(req, 200, "application/json; charset=UTF-8", chatd_str_of(text, (size_t)n));
}

/* The page works with the origin it was loaded from, whoever embeds it: so only pages of
 * that origin may, unless all are welcome. */
static void answer_iframe(const struct endpoint *ep, chatd_req *req)
{
	const struct sockjs *self = ep->self;
	struct chatd_str known = self->http->req_header(req, "If-None-Match");
	headers_lasting(self, req);
	headers_set(self, req, "ETag", self->iframe_tag);
	if (known.n && memmem(known.p, known.n, self->iframe_tag, strlen(self->iframe_tag))) {
		headers_bare(self, req, 304);
		return;
	}
	if (self->conf->iframe == IFRAME_SAME_ORIGIN)
		headers_set(self, req, "X-Frame-Options", "SAMEORIGIN");
	headers_set(self, req, "Content-Security-Policy",
			self->conf->iframe == IFRAME_ANY
					? "default-src * 'unsafe-inline'; frame-ancestors *"
					: "default-src 'self' 'unsafe-inline'; frame-ancestors 'self'");
	self->http->respond(req, 200, "text/html; charset=UTF-8", self->iframe);
}

static void answer_preflight(const struct sockjs *self, chatd_req *req, const char *methods)
{
	struct chatd_str asked = self->http->req_header(req, "Access-Control-Request-Headers");
	headers_cors(self, req);
	headers_lasting(self, req);
	headers_set(self, req, "Access-Control-Allow-Methods", methods);
	headers_set(self, req, "Access-Control-Max-Age", "31536000");
	if (asked.n)
		self->http->header(req, "Access-Control-Allow-Headers", asked);
	headers_bare(self, req, 204);
}

/* ---- who may do what --------------------------------------------------- */

/** What a URL takes; allow is both the Allow header and the preflight's answer. */
struct policy {
	uint32_t methods;
	const char *allow;
	bool found;
};

static bool is_offered(const struct endpoint *ep, const struct transport *t)
{
	const struct conf *conf = ep->self->conf;
	switch (t->id) {
	case HTMLFILE:
		return conf->htmlfile;
	case JSONP:
	case JSONP_SEND:
		return conf->jsonp;
	case WEBSOCKET:
		return ep->websocket;
	default:
		return true;
	}
}

static struct policy policy_of(
		const struct endpoint *ep, enum url_kind kind, const struct transport *t)
{
	const uint32_t get = CHATD_GET | CHATD_HEAD;
	switch (kind) {
	case URL_GREETING:
		return (struct policy){ get, "GET, HEAD", true };
	case URL_INFO:
		return (struct policy){ get | CHATD_OPTIONS, "OPTIONS, GET", true };
	case URL_IFRAME:
		return (struct policy){ get, "GET, HEAD", ep->self->conf->iframe != IFRAME_OFF };
	case URL_RAW:
		return (struct policy){ CHATD_GET, "GET", ep->websocket && !ep->stomp };
	case URL_SESSION:
		break;
	default:
		return (struct policy){ 0, "", false };
	}
	struct policy p = { t->method, t->method == CHATD_GET ? "GET" : "POST", is_offered(ep, t) };
	if (t->cors) {
		p.methods |= CHATD_OPTIONS;
		p.allow = t->method == CHATD_GET ? "OPTIONS, GET" : "OPTIONS, POST";
	}
	return p;
}

/** Checks ?c=; false: it was answered. */
static bool has_callback(const struct sockjs *self, chatd_req *req)
{
	struct chatd_str name = self->http->req_query(req, "c");
	if (name.n && frames_callback_ok(name))
		return true;
	headers_fresh(self, req);
	headers_text(self, req, 500,
			name.n ? "invalid \"callback\" parameter" : "\"callback\" parameter required");
	return false;
}

static bool wants_websocket(const struct sockjs *self, chatd_req *req)
{
	struct chatd_str upgrade = self->http->req_header(req, "Upgrade");
	return upgrade.n == 9 && !strncasecmp(upgrade.p, "websocket", 9);
}

/* Not the engine's problem(), which is bare on these routes: whoever set up a page on
 * another site should read what is wrong. */
static void refuse_origin(const struct sockjs *self, chatd_req *req)
{
	struct chatd_str id = self->http->req_id(req);
	char text[512];
	int n = snprintf(text, sizeof(text),
			"{\"type\":\"about:blank\",\"title\":\"Forbidden\",\"status\":403,"
			"\"detail\":\"This origin may not use the server.\",\"code\":\"ORIGIN_NOT_ALLOWED\","
			"\"error\":\"Forbidden\",\"message\":\"This origin may not use the server.\","
			"\"requestId\":\"%.*s\"}",
			(int)id.n, id.p);
	headers_set(self, req, "Cache-Control", "no-store");
	self->http->respond(req, 403, "application/problem+json", chatd_str_of(text, (size_t)n));
}

static void answer(const struct endpoint *ep, chatd_req *req, enum url_kind kind,
		const struct exch_target *target)
{
	const struct sockjs *self = ep->self;
	bool websocket = kind == URL_RAW || (kind == URL_SESSION && target->transport->id == WEBSOCKET);
	if (websocket)
		wsconn_start(ep, req, kind == URL_RAW);
	else if (wants_websocket(self, req))
		headers_text(self, req, 400, "There is no WebSocket at this URL.");
	else if (kind == URL_GREETING)
		headers_text(self, req, 200, "Welcome to SockJS!\n");
	else if (kind == URL_INFO)
		answer_info(ep, req);
	else if (kind == URL_IFRAME)
		answer_iframe(ep, req);
	else if (!target->transport->callback || has_callback(self, req))
		exch_start(ep, req, target);
}

void urls_handle(void *arg, chatd_req *req)
{
	const struct endpoint *ep = arg;
	const struct sockjs *self = ep->self;
	struct chatd_str path = self->http->req_path(req);
	struct exch_target target = { 0 };
	enum url_kind kind = URL_NONE;
	if (path.n >= ep->prefix_len && !memcmp(path.p, ep->prefix, ep->prefix_len)) {
		kind = urls_parse(chatd_str_of(path.p + ep->prefix_len, path.n - ep->prefix_len), &target);
	}
	struct policy policy = policy_of(ep, kind, target.transport);
	uint32_t method = self->http->req_method(req);
	if (!policy.found) {
		headers_bare(self, req, 404);
	} else if (!self->http->origin_allowed(req)) {
		refuse_origin(self, req);
	} else if (!(method & policy.methods)) {
		headers_set(self, req, "Allow", policy.allow);
		headers_bare(self, req, 405);
	} else if (method == CHATD_OPTIONS) {
		answer_preflight(self, req, policy.allow);
	} else {
		answer(ep, req, kind, &target);
	}
}
