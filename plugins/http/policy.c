/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct http *http_of(const chatd_req *req)
{
	return req->conn->w->http;
}

/* ---- proxies ------------------------------------------------------------ */

bool policy_net_ok(const char *text)
{
	char address[INET6_ADDRSTRLEN];
	unsigned char bytes[16];
	size_t n = strcspn(text, "/");
	if (n >= sizeof(address))
		return false;
	memcpy(address, text, n);
	address[n] = '\0';
	bool v4 = inet_pton(AF_INET, address, bytes) == 1;
	if (!v4 && inet_pton(AF_INET6, address, bytes) != 1)
		return false;
	if (text[n] == '\0')
		return true;
	char *end;
	unsigned long bits = strtoul(text + n + 1, &end, 10);
	return text[n + 1] >= '0' && text[n + 1] <= '9' && *end == '\0' && bits <= (v4 ? 32 : 128);
}

static bool is_trusted(void *arg, struct chatd_str address)
{
	const struct http *http = arg;
	const struct chatd_net *net = http->net->vt;
	return http->conf->trusted[0] && net->address_in(http->net->obj, address, http->conf->trusted);
}

static struct chatd_str tcp_peer(chatd_req *req)
{
	return req->conn->stream->ops->peer(req->conn->stream);
}

/* Only a proxy's word counts, and of what it forwards only what proxies added: hence
 * from the right, up to the first address that is not a proxy of ours. */
static bool forwarded_peer(chatd_req *req, char ret[46])
{
	static const char *const names[] = { NULL, "x-forwarded-for", "forwarded", "x-real-ip" };
	struct http *http = req->conn->w->http;
	struct forward f = { is_trusted, http };
	int choice = http->conf->proxy_header;
	if (!is_trusted(http, tcp_peer(req)))
		return false;
	for (int i = PROXY_XFF; i <= PROXY_REAL_IP; i++)
		if ((choice == PROXY_AUTO || choice == i) && request_header(req, names[i]).p)
			return forward_client(&req->head, names[i], &f, ret);
	return false;
}

struct chatd_str policy_peer(chatd_req *req)
{
	char text[46];
	if (req->peer.p)
		return req->peer;
	req->peer = tcp_peer(req);
	if (forwarded_peer(req, text)) {
		size_t n = strlen(text);
		char *copy = request_alloc(req, n + 1);
		if (copy) {
			memcpy(copy, text, n);
			req->peer = chatd_str_of(copy, n);
		}
	}
	return req->peer;
}

int32_t policy_secure(chatd_req *req)
{
	chatd_stream *stream = req->conn->stream;
	struct http *http = req->conn->w->http;
	if (stream->ops->is_tls(stream))
		return 1;
	if (!is_trusted(http, tcp_peer(req)))
		return 0;
	struct chatd_str proto = forward_proto(&req->head, false);
	if (!proto.p)
		proto = forward_proto(&req->head, true);
	return http_same(proto, "https");
}

/* ---- origins ------------------------------------------------------------ */

bool policy_origin_ok(const char *text)
{
	if (strcmp(text, "*") == 0)
		return true;
	size_t scheme = strncmp(text, "http://", 7) == 0 ? 7
			: strncmp(text, "https://", 8) == 0      ? 8
													 : 0;
	for (const char *p = text; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			return false;
	return scheme > 0 && http_is_authority(chatd_str_of(text + scheme, strlen(text + scheme)));
}

/* Does "scheme://host[:port]" name this very site?  Browsers leave the scheme's own
 * port out of Origin, and proxies may put it into Host. */
static bool is_same_origin(chatd_req *req, struct chatd_str origin)
{
	bool secure = policy_secure(req) != 0;
	const char *scheme = secure ? "https://" : "http://", *port = secure ? ":443" : ":80";
	size_t n = strlen(scheme), port_n = strlen(port);
	struct chatd_str host = req->info.host;
	if (!host.p || origin.n < n || memcmp(origin.p, scheme, n) != 0)
		return false;
	if (host.n > port_n && memcmp(host.p + host.n - port_n, port, port_n) == 0)
		host.n -= port_n;
	struct chatd_str rest = chatd_str_of(origin.p + n, origin.n - n);
	for (size_t i = 0; i < rest.n; i++)
		if (rest.p[i] >= 'A' && rest.p[i] <= 'Z')
			return false; /* no browser writes it so */
	return rest.n == host.n && strncasecmp(rest.p, host.p, host.n) == 0;
}

int32_t policy_origin_allowed(chatd_req *req)
{
	size_t count;
	struct chatd_str origin = http_head_get(&req->head, "origin", &count);
	if (count == 0)
		return 1;
	if (count > 1)
		return 0;
	const char *const *list = http_of(req)->conf->origins;
	for (; *list; list++)
		if (strcmp(*list, "*") == 0 ||
				(strlen(*list) == origin.n && memcmp(*list, origin.p, origin.n) == 0))
			return 1;
	return is_same_origin(req, origin);
}

static bool any_origin(chatd_req *req)
{
	for (const char *const *list = http_of(req)->conf->origins; *list; list++)
		if (strcmp(*list, "*") == 0)
			return true;
	return false;
}

void policy_cors(chatd_req *req)
{
	struct chatd_str origin = request_header(req, "origin");
	if (!http_of(req)->conf->cors)
		return;
	answer_header(req, "Vary", CHATD_LIT("Origin"));
	if (!origin.p)
		return;
	req->cors = true;
	if (any_origin(req)) {
		/* Whoever lets everybody in does not let everybody use a visitor's cookies. */
		answer_header(req, "Access-Control-Allow-Origin", CHATD_LIT("*"));
	} else {
		answer_header(req, "Access-Control-Allow-Origin", origin);
		answer_header(req, "Access-Control-Allow-Credentials", CHATD_LIT("true"));
	}
	answer_header(req, "Access-Control-Expose-Headers", CHATD_LIT("ETag, Location, Retry-After"));
}

void policy_options(chatd_req *req, uint32_t methods)
{
	static const char defaults[] = "Authorization, Content-Type, Device-Token";
	struct chatd_str wanted = request_header(req, "access-control-request-headers");
	answer_allow(req, methods);
	if (req->cors && request_header(req, "access-control-request-method").p) {
		char age[24];
		int n = snprintf(
				age, sizeof(age), "%lld", (long long)(http_of(req)->conf->cors_max_age_ms / 1000));
		answer_header(req, "Access-Control-Allow-Methods",
				CHATD_LIT("GET, HEAD, POST, PUT, PATCH, DELETE"));
		struct chatd_str list = wanted, name;
		bool good = wanted.p && wanted.n <= 1024;
		while (good && http_list_next(&list, &name))
			good = http_is_token(name);
		answer_header(req, "Access-Control-Allow-Headers", good ? wanted : CHATD_LIT(defaults));
		answer_header(req, "Access-Control-Max-Age", chatd_str_of(age, (size_t)n));
	}
	answer_whole(req, 204, NULL, CHATD_LIT(""));
}

struct chatd_str policy_cookie(chatd_req *req, const char *name)
{
	struct chatd_str key, value, found = { NULL, 0 };
	for (size_t i = 0; !found.p && http_head_at(&req->head, i, &key, &value); i++)
		if (http_same(key, "cookie"))
			found = uri_cookie_get(value, name);
	return found;
}
