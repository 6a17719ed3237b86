/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include "escape.h"

#include <string.h>

#define JAVASCRIPT "application/javascript; charset=UTF-8"
#define PLAIN      "text/plain; charset=UTF-8"
#define HTML       "text/html; charset=UTF-8"

static const struct transport transports[] = {
	{ "xhr", XHR, CHATD_POST, JAVASCRIPT, true, false, true, false },
	{ "xhr_streaming", XHR_STREAMING, CHATD_POST, JAVASCRIPT, true, true, true, false },
	{ "eventsource", EVENTSOURCE, CHATD_GET, "text/event-stream", true, true, true, false },
	{ "htmlfile", HTMLFILE, CHATD_GET, HTML, true, true, false, true },
	{ "jsonp", JSONP, CHATD_GET, JAVASCRIPT, true, false, false, true },
	{ "xhr_send", XHR_SEND, CHATD_POST, PLAIN, false, false, true, false },
	{ "jsonp_send", JSONP_SEND, CHATD_POST, PLAIN, false, false, false, false },
	{ "websocket", WEBSOCKET, CHATD_GET, NULL, false, false, false, false },
};

static const char html_head[] =
		"<!doctype html>\n"
		"<html><head>\n"
		"  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n"
		"  <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n"
		"</head><body><h2>Don't panic!</h2>\n"
		"  <script>\n"
		"    document.domain = document.domain;\n"
		"    var c = parent.";
static const char html_tail[] = ";\n"
								"    c.start();\n"
								"    function p(d) {c.message(d);};\n"
								"    window.onload = function() {c.stop();};\n"
								"  </script>\n";

/* What browsers buffer before they look at a page. */
#define HTML_LEAST 1024
#define XHR_FILL   2048

/** How a transport dresses a frame: text before and after; quoted: as a JSON string. */
struct dress {
	const char *before, *after;
	bool quoted;
};

const struct transport *frames_transport(struct chatd_str name)
{
	for (size_t i = 0; i < sizeof(transports) / sizeof(*transports); i++) {
		if (strlen(transports[i].name) == name.n && !memcmp(transports[i].name, name.p, name.n))
			return &transports[i];
	}
	return NULL;
}

bool frames_callback_ok(struct chatd_str name)
{
	if (!name.n || name.n > SOCKJS_CALLBACK_MAX)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
				c != '-' && c != '_' && c != '.')
			return false;
	}
	return true;
}

static char *put(char *out, const char *p, size_t n)
{
	memcpy(out, p, n);
	return out + n;
}

static chatd_buf *html_prelude(const struct chatd_host *host, const char *callback)
{
	size_t used = sizeof(html_head) - 1 + strlen(callback) + sizeof(html_tail) - 1;
	size_t fill = used < HTML_LEAST ? HTML_LEAST - used : 0;
	chatd_buf *buf = host->buf_new(0, used + fill + 4);
	if (!buf)
		return NULL;
	char *out = put(host->buf_data(buf), html_head, sizeof(html_head) - 1);
	out = put(out, callback, strlen(callback));
	out = put(out, html_tail, sizeof(html_tail) - 1);
	memset(out, ' ', fill);
	put(out + fill, "\r\n\r\n", 4);
	return buf;
}

chatd_buf *frames_prelude(
		const struct chatd_host *host, const struct transport *t, const char *callback)
{
	if (t->id == HTMLFILE)
		return html_prelude(host, callback);
	size_t n = t->id == XHR_STREAMING ? XHR_FILL + 1 : 2;
	chatd_buf *buf = host->buf_new(0, n);
	if (!buf)
		return NULL;
	char *out = host->buf_data(buf);
	if (t->id == XHR_STREAMING) {
		memset(out, 'h', XHR_FILL);
		out[XHR_FILL] = '\n';
	} else {
		put(out, "\r\n", 2);
	}
	return buf;
}

static struct dress dress_of(const struct transport *t)
{
	switch (t->id) {
	case EVENTSOURCE:
		return (struct dress){ "data: ", "\r\n\r\n", false };
	case HTMLFILE:
		return (struct dress){ "<script>\np(\"", "\");\n</script>\r\n", true };
	case JSONP:
		return (struct dress){ "(\"", "\");\r\n", true };
	default:
		return (struct dress){ "", "\n", false };
	}
}

chatd_buf *frames_dress(const struct chatd_host *host, const struct transport *t,
		const char *callback, const struct chatd_str parts[], size_t n)
{
	struct dress d = dress_of(t);
	/* A comment in front: the answer cannot pass for some other kind of file. */
	const char *guard = t->id == JSONP ? "/**/" : "", *name = t->id == JSONP ? callback : "";
	size_t size = strlen(guard) + strlen(name) + strlen(d.before) + strlen(d.after);
	for (size_t i = 0; i < n; i++)
		size += d.quoted ? escape_size(parts[i].p, parts[i].n, ESCAPE_SCRIPT) : parts[i].n;
	chatd_buf *buf = host->buf_new(0, size);
	if (!buf)
		return NULL;
	char *out = put(host->buf_data(buf), guard, strlen(guard));
	out = put(out, name, strlen(name));
	out = put(out, d.before, strlen(d.before));
	for (size_t i = 0; i < n; i++) {
		out = d.quoted ? escape_put(out, parts[i].p, parts[i].n, ESCAPE_SCRIPT)
					   : put(out, parts[i].p, parts[i].n);
	}
	put(out, d.after, strlen(d.after));
	return buf;
}
