/* SPDX-License-Identifier: Apache-2.0 */
#include "handshake.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#define KEY_LEN    24
#define KEY_FILLER 2 /* "==" at the end of 16 bytes in base64 */
#define GUID       "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* ---- header values -------------------------------------------------------- */

static int is_token_char(char ch)
{
	unsigned char c = (unsigned char)ch;
	return c > 0x20 && c < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", ch);
}

static size_t blanks(struct chatd_str s, size_t at)
{
	while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t'))
		at++;
	return at;
}

/* The end of the token at @p at; @p at itself if there is none. */
static size_t token(struct chatd_str s, size_t at)
{
	while (at < s.n && is_token_char(s.p[at]))
		at++;
	return at;
}

static int same_text(struct chatd_str a, const char *b)
{
	return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

int handshake_has_token(struct chatd_str list, const char *name)
{
	for (size_t at = 0; at < list.n; at++) {
		at = blanks(list, at);
		size_t end = token(list, at);
		if (same_text(chatd_str_of(list.p + at, end - at), name))
			return 1;
		for (at = end; at < list.n && list.p[at] != ',';)
			at++;
	}
	return 0;
}

int handshake_token_list(struct chatd_str list)
{
	for (size_t at = 0;; at++) {
		at = blanks(list, at);
		size_t end = token(list, at);
		if (end == at)
			return 0;
		at = blanks(list, end);
		if (at == list.n)
			return 1;
		if (list.p[at] != ',')
			return 0;
	}
}

/* A parameter's value: a token, or a token in quotes.  0: neither. */
static size_t value_end(struct chatd_str s, size_t at)
{
	int quoted = at < s.n && s.p[at] == '"';
	size_t start = at + (size_t)quoted;
	size_t end = token(s, start);
	if (end == start || (quoted && (end == s.n || s.p[end] != '"')))
		return 0;
	return end + (size_t)quoted;
}

int handshake_extensions(struct chatd_str list)
{
	size_t at = 0;
	for (int want_name = 1;;) {
		at = blanks(list, at);
		size_t end = token(list, at);
		if (end == at)
			return 0;
		at = blanks(list, end);
		if (!want_name && at < list.n && list.p[at] == '=') {
			at = value_end(list, blanks(list, at + 1));
			if (at == 0)
				return 0;
			at = blanks(list, at);
		}
		if (at == list.n)
			return 1;
		if (list.p[at] != ',' && list.p[at] != ';')
			return 0;
		want_name = list.p[at++] == ',';
	}
}

int handshake_key(struct chatd_str key)
{
	if (key.n != KEY_LEN)
		return 0;
	for (size_t i = 0; i < KEY_LEN - KEY_FILLER; i++) {
		char c = key.p[i];
		int letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
		if (!letter && !(c >= '0' && c <= '9') && c != '+' && c != '/')
			return 0;
	}
	return memcmp(key.p + KEY_LEN - KEY_FILLER, "==", KEY_FILLER) == 0;
}

chatd_status handshake_accept(struct chatd_str key, char ret_accept[HANDSHAKE_ACCEPT_LEN + 1])
{
	unsigned char text[KEY_LEN + sizeof(GUID) - 1];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned digest_len = 0;
	if (key.n != KEY_LEN)
		return -EINVAL;
	memcpy(text, key.p, KEY_LEN);
	memcpy(text + KEY_LEN, GUID, sizeof(GUID) - 1);
	if (!EVP_Digest(text, sizeof(text), digest, &digest_len, EVP_sha1(), NULL))
		return -EIO;
	EVP_EncodeBlock((unsigned char *)ret_accept, digest, (int)digest_len);
	return 0;
}

/* ---- the request ----------------------------------------------------------- */

static struct chatd_str header_at(
		const struct chatd_http *http, chatd_req *req, const char *name, size_t i)
{
	if (CHATD_HAS(http, req_header_at))
		return http->req_header_at(req, name, i);
	return i == 0 ? http->req_header(req, name) : chatd_str_of(NULL, 0);
}

static int repeated(const struct chatd_http *http, chatd_req *req, const char *name)
{
	return header_at(http, req, name, 1).p != NULL;
}

static void plain(const struct chatd_http *http, chatd_req *req, const char *text)
{
	http->respond(req, 400, "text/plain; charset=UTF-8", chatd_str_of(text, strlen(text)));
}

static int check_upgrade(const struct chatd_http *http, chatd_req *req)
{
	struct chatd_str upgrade = http->req_header(req, "Upgrade");
	if (!upgrade.p) {
		plain(http, req, HANDSHAKE_NO_UPGRADE);
		return 0;
	}
	if (!same_text(upgrade, "websocket") || repeated(http, req, "Upgrade")) {
		http->problem(req, 400, "BAD_UPGRADE", HANDSHAKE_NO_UPGRADE);
		return 0;
	}
	struct chatd_str connection;
	for (size_t i = 0; (connection = header_at(http, req, "Connection", i)).p; i++) {
		if (handshake_has_token(connection, "upgrade"))
			return 1;
	}
	plain(http, req, HANDSHAKE_NO_CONNECTION);
	return 0;
}

/* The best of @p protocols that is offered, or NULL; 0: the offer is no list. */
static int choose(const struct chatd_http *http, chatd_req *req, const char *const *protocols,
		const char **ret_chosen)
{
	static const char name[] = "Sec-WebSocket-Protocol";
	struct chatd_str offer;
	for (size_t i = 0; (offer = header_at(http, req, name, i)).p; i++) {
		if (!handshake_token_list(offer))
			return 0;
	}
	*ret_chosen = NULL;
	for (; protocols && *protocols && !*ret_chosen; protocols++) {
		for (size_t i = 0; (offer = header_at(http, req, name, i)).p; i++) {
			if (handshake_has_token(offer, *protocols))
				*ret_chosen = *protocols;
		}
	}
	return 1;
}

static int check_rest(const struct chatd_http *http, chatd_req *req)
{
	static const char version[] = "Sec-WebSocket-Version";
	static const char extensions[] = "Sec-WebSocket-Extensions";
	if (!http->origin_allowed(req) || repeated(http, req, "Origin")) {
		http->problem(req, 403, "ORIGIN_NOT_ALLOWED", "This origin may not open a WebSocket here.");
		return 0;
	}
	if (!same_text(http->req_header(req, version), "13") || repeated(http, req, version)) {
		http->header(req, version, CHATD_LIT("13"));
		http->problem(req, 426, "UPGRADE_REQUIRED", "Sec-WebSocket-Version must be 13.");
		return 0;
	}
	if (!handshake_key(http->req_header(req, "Sec-WebSocket-Key")) ||
			repeated(http, req, "Sec-WebSocket-Key")) {
		http->problem(req, 400, "BAD_WS_KEY",
				"Sec-WebSocket-Key must be there once: 16 bytes in base64.");
		return 0;
	}
	struct chatd_str offer;
	for (size_t i = 0; (offer = header_at(http, req, extensions, i)).p; i++) {
		if (!handshake_extensions(offer)) {
			http->problem(req, 400, "BAD_WS_EXTENSIONS",
					"Sec-WebSocket-Extensions must be a list of extensions.");
			return 0;
		}
	}
	return 1;
}

chatd_stream *handshake(
		const struct chatd_service *service, chatd_req *req, const char *const *protocols)
{
	const struct chatd_http *http = service->vt;
	const char *chosen;
	if (http->req_method(req) != CHATD_GET) {
		plain(http, req, HANDSHAKE_NO_UPGRADE);
		return NULL;
	}
	if (!check_upgrade(http, req) || !check_rest(http, req))
		return NULL;
	if (!choose(http, req, protocols, &chosen)) {
		http->problem(
				req, 400, "BAD_WS_PROTOCOL", "Sec-WebSocket-Protocol must be a list of names.");
		return NULL;
	}
	char accept[HANDSHAKE_ACCEPT_LEN + 1];
	if (handshake_accept(http->req_header(req, "Sec-WebSocket-Key"), accept) != 0) {
		http->problem(req, 500, "INTERNAL", "SHA-1 is not available.");
		return NULL;
	}
	http->header(req, "Sec-WebSocket-Accept", chatd_str_of(accept, HANDSHAKE_ACCEPT_LEN));
	if (chosen)
		http->header(req, "Sec-WebSocket-Protocol", chatd_str_of(chosen, strlen(chosen)));
	chatd_stream *stream = http->upgrade(req, "websocket");
	if (!stream)
		plain(http, req, HANDSHAKE_NO_UPGRADE);
	return stream;
}
