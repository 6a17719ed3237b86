/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: from libwebsockets' table of headers to text.  libwebsockets has decoded the path
 * and the query already, so both are encoded anew.  Each line is kept apart, so that the parts
 * of plugins/http find what must not be there twice.
 */
#include "engine_lws.h"

#include <stdlib.h>
#include <string.h>

struct text {
	char *p;
	size_t n, cap;
	bool failed;
};

static char *room(struct text *t, size_t n)
{
	if (t->n + n > t->cap) {
		size_t cap = 2 * (t->n + n) + 256;
		char *p = t->failed ? NULL : realloc(t->p, cap);
		if (!p) {
			t->failed = true;
			return NULL;
		}
		t->p = p;
		t->cap = cap;
	}
	return t->p + t->n;
}

static void put(struct text *t, const char *p, size_t n)
{
	char *to = room(t, n);
	if (!to)
		return;
	if (n > 0)
		memcpy(to, p, n);
	t->n += n;
}

static void put_lit(struct text *t, const char *s)
{
	put(t, s, strlen(s));
}

static void put_encoded(struct text *t, struct chatd_str s, const char *plain)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
		char code[3] = { '%', hex[c >> 4], hex[c & 15] };
		if (alnum || (c && strchr(plain, c)))
			put(t, (const char *)&s.p[i], 1);
		else
			put(t, code, 3);
	}
}

/* The @p i-th line of a header that libwebsockets knows; false: there is none. */
static bool fragment(struct text *scratch, struct lws *wsi, enum lws_token_indexes h, int i,
		struct chatd_str *ret)
{
	int n = lws_hdr_total_length(wsi, h);
	scratch->n = 0;
	char *p = room(scratch, (size_t)(n < 0 ? 0 : n) + 64);
	if (!p)
		return false;
	n = lws_hdr_copy_fragment(wsi, p, (int)scratch->cap, h, i);
	if (n < 0)
		return false;
	while (h != WSI_TOKEN_HTTP_URI_ARGS && n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	*ret = chatd_str_of(p, (size_t)n);
	return true;
}

static const char *method_of(struct lws *wsi, struct text *scratch, bool h2)
{
	static const char *const names[] = { "GET", "POST", "OPTIONS", "PUT", "PATCH", "DELETE",
		"CONNECT", "HEAD" };
	struct chatd_str named;
	char *path;
	int n;
	if (h2 && fragment(scratch, wsi, WSI_TOKEN_HTTP_COLON_METHOD, 0, &named)) {
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (http_same(named, names[i]))
				return names[i];
		return "UNKNOWN";
	}
	int method = lws_http_get_uri_and_method(wsi, &path, &n);
	return method >= 0 && method <= LWSHUMETH_HEAD ? names[method] : "UNKNOWN";
}

static void put_query(struct text *t, struct text *scratch, struct lws *wsi)
{
	struct chatd_str arg;
	for (int i = 0; fragment(scratch, wsi, WSI_TOKEN_HTTP_URI_ARGS, i, &arg); i++) {
		put_lit(t, i == 0 ? "?" : "&");
		put_encoded(t, arg, "-._~!$'()*,=:@/?");
	}
}

/* What says something about the connection is ours to say. */
static bool is_hop(const char *name)
{
	static const char *const hops[] = { "connection:", "http2-settings:", "te:" };
	for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
		if (strcmp(name, hops[i]) == 0)
			return true;
	return false;
}

static void put_known(struct text *t, struct text *scratch, struct lws *wsi)
{
	struct chatd_str value;
	for (int h = 0; h < WSI_TOKEN_COUNT; h++) {
		const char *name = (const char *)lws_token_to_string((enum lws_token_indexes)h);
		size_t n = name ? strlen(name) : 0;
		if (n < 2 || name[0] == ':' || name[n - 1] != ':' || is_hop(name))
			continue;
		for (int i = 0; fragment(scratch, wsi, (enum lws_token_indexes)h, i, &value); i++) {
			put(t, name, n);
			put_lit(t, " ");
			put(t, value.p, value.n);
			put_lit(t, "\r\n");
		}
	}
}

/* libwebsockets tells of headers that it does not know only whoever asks for them by name. */
static void put_named(struct text *t, struct lws *wsi, const char *const *names)
{
	for (; *names; names++) {
		char key[80];
		size_t n = strlen(*names);
		if (n + 2 > sizeof(key))
			continue;
		for (size_t i = 0; i < n; i++)
			key[i] = (char)((*names)[i] >= 'A' && (*names)[i] <= 'Z' ? (*names)[i] + 32
																	 : (*names)[i]);
		memcpy(key + n, ":", 2);
		int len = lws_hdr_custom_length(wsi, key, (int)n + 1);
		if (len < 0)
			continue;
		put(t, key, n + 1);
		put_lit(t, " ");
		char *p = room(t, (size_t)len + 1);
		if (p && lws_hdr_custom_copy(wsi, p, len + 1, key, (int)n + 1) == len)
			t->n += (size_t)len;
		put_lit(t, "\r\n");
	}
}

static bool has(struct text *scratch, struct lws *wsi, enum lws_token_indexes h, const char *word)
{
	struct chatd_str value;
	for (int i = 0; fragment(scratch, wsi, h, i, &value); i++)
		if (!word || http_list_has(value, word))
			return true;
	return false;
}

/* What libwebsockets would read as another length of the body than we do ends the connection. */
static void judge(struct exchange *x, struct text *scratch, struct lws *wsi, const char *method,
		bool *ret_http11)
{
	struct chatd_str version, size;
	x->left = -1;
	if (fragment(scratch, wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, 0, &size))
		x->left = strtoll(size.p, NULL, 10);
	bool length = has(scratch, wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, NULL);
	bool chunks = has(scratch, wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING, NULL);
	bool waits = method[0] == 'P'; /* POST, PUT, PATCH: it reads on without a length, too */
	bool twice = fragment(scratch, wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, 1, &version);
	bool http11 = fragment(scratch, wsi, WSI_TOKEN_HTTP, 0, &version) && version.n >= 8 &&
			memcmp(version.p, "HTTP/1.1", 8) == 0;
	bool asked = has(scratch, wsi, WSI_TOKEN_CONNECTION, http11 ? "close" : "keep-alive");
	/* Of a POST that has no body it tells the end all the same. */
	bool empty = length && x->left == 0 && !(method[0] == 'P' && method[1] == 'O');
	const struct link *l = x->link;
	x->body_whole = (empty || !length) && !chunks && !x->h2;
	x->keep = !x->h2 && asked != http11 && !chunks && !twice && (length || !waits) &&
			!l->w->http.draining && l->requests < l->w->engine->conf.max_requests;
	*ret_http11 = http11;
}

char *head_text(struct exchange *x, struct lws *wsi, struct chatd_str path, size_t *ret_n)
{
	struct text t = { 0 }, scratch = { 0 };
	struct chatd_str value;
	bool http11;
	const char *method = method_of(wsi, &scratch, x->h2);
	put_lit(&t, method);
	put_lit(&t, " ");
	put_encoded(&t, path, "-._~!$&'()*+,;=:@/");
	put_query(&t, &scratch, wsi);
	put_lit(&t, " ");
	judge(x, &scratch, wsi, method, &http11);
	if (x->h2)
		put_lit(&t, "HTTP/1.0");
	else if (fragment(&scratch, wsi, WSI_TOKEN_HTTP, 0, &value))
		put(&t, value.p, value.n);
	put_lit(&t, "\r\n");
	if (x->h2 && fragment(&scratch, wsi, WSI_TOKEN_HTTP_COLON_AUTHORITY, 0, &value)) {
		put_lit(&t, "host: ");
		put(&t, value.p, value.n);
		put_lit(&t, "\r\n");
	}
	put_known(&t, &scratch, wsi);
	put_named(&t, wsi, x->w->engine->all->headers);
	put_lit(&t, x->keep ? (http11 ? "" : "connection: keep-alive\r\n") : "connection: close\r\n");
	if (has(&scratch, wsi, WSI_TOKEN_CONNECTION, "upgrade"))
		put_lit(&t, "connection: upgrade\r\n");
	put_lit(&t, "\r\n");
	free(scratch.p);
	if (t.failed || scratch.failed) {
		free(t.p);
		return NULL;
	}
	*ret_n = t.n;
	return t.p;
}

bool head_line(struct chatd_str *rest, struct chatd_str *ret_name, struct chatd_str *ret_value)
{
	for (;;) {
		const char *end = rest->n ? memmem(rest->p, rest->n, "\r\n", 2) : NULL;
		if (!end || end == rest->p)
			return false;
		struct chatd_str line = chatd_str_of(rest->p, (size_t)(end - rest->p));
		rest->n -= line.n + 2;
		rest->p = end + 2;
		const char *colon = memmem(line.p, line.n, ": ", 2);
		if (!colon)
			continue; /* the status line */
		*ret_name = chatd_str_of(line.p, (size_t)(colon - line.p));
		*ret_value = chatd_str_of(colon + 2, line.n - ret_name->n - 2);
		return true;
	}
}
