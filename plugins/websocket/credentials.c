/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include "utf8.h"

#include <string.h>
#include <strings.h>

#define AGENT_MAX 256 /* enough to tell clients apart; kept until the login is over */

/* A credential that cannot even be read must be refused, not overlooked: it becomes one
 * that nobody has issued. */
#define UNREADABLE CHATD_LIT("\xef\xbf\xbd")

static int is_text(struct chatd_str s)
{
	struct utf8 u = { 0 };
	return utf8_check(&u, s.p, s.n) == s.n && u.need == 0;
}

/* Whoever sends an Authorization wants it to count: one that cannot be read is refused. */
static struct chatd_str bearer(const struct chatd_http *http, chatd_req *req)
{
	static const char scheme[] = "Bearer ";
	struct chatd_str value = http->req_header(req, "Authorization");
	size_t n = sizeof(scheme) - 1;
	if (!value.p)
		return value;
	if (value.n <= n || strncasecmp(value.p, scheme, n) != 0 ||
			(CHATD_HAS(http, req_header_at) && http->req_header_at(req, "Authorization", 1).p))
		return UNREADABLE;
	while (n < value.n && value.p[n] == ' ')
		n++;
	return chatd_str_of(value.p + n, value.n - n);
}

/* A cookie is sent along by any page; only with an Origin that may be here does it say
 * anything about the sender. */
static struct chatd_str device(const struct chatd_http *http, chatd_req *req)
{
	struct chatd_str value = http->req_header(req, "device-token");
	if (!value.p && http->req_header(req, "Origin").p && http->origin_allowed(req))
		value = http->req_cookie(req, "device-token");
	return value;
}

static chatd_status set_secret(
		const struct chatd_host *host, chatd_msg *msg, const char *name, struct chatd_str value)
{
	if (value.n == 0)
		return 0; /* "?token=" is what a page without a token sends */
	return host->msg_set(msg, name, is_text(value) ? value : UNREADABLE);
}

static chatd_status set_text(
		const struct chatd_host *host, chatd_msg *msg, const char *name, struct chatd_str value)
{
	return value.n && is_text(value) ? host->msg_set(msg, name, value) : 0;
}

chatd_msg *credentials_of(
		const struct chatd_host *host, const struct chatd_http *http, chatd_req *req)
{
	chatd_msg *msg = host->msg_new(CHATD_LIT(""), CHATD_LIT(""));
	if (!msg)
		return NULL;
	struct chatd_str agent = http->req_header(req, "User-Agent");
	if (agent.n > AGENT_MAX)
		agent.n = AGENT_MAX;
	if (set_text(host, msg, CHATD_CRED_PEER, http->req_peer(req)) ||
			set_secret(host, msg, CHATD_CRED_BEARER, bearer(http, req)) ||
			set_secret(host, msg, CHATD_CRED_TOKEN, http->req_query(req, "token")) ||
			set_secret(host, msg, CHATD_CRED_DEVICE, device(http, req)) ||
			set_text(host, msg, CHATD_CRED_NICKNAME, http->req_query(req, "nickname")) ||
			set_text(host, msg, CHATD_CRED_AGENT, agent)) {
		host->msg_unref(msg);
		return NULL;
	}
	return msg;
}
