/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include "credentials.h"
#include "handshake.h"
#include "service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GREETING  "Welcome to SockJS!\n" /* what SockJS clients expect at the endpoint's path */
#define TEXT_TYPE "text/plain; charset=UTF-8"

enum { CODE_STOPPING = 1012 };

/* wrap() is part of a table that is shared by all connections and is not told whose it is.
 * The pointer is written before any worker runs and is the same for every instance. */
static const struct chatd_host *the_host;

/* A session's way to its connection. */
struct link {
	chatd_ws *ws;
	void *codec;            /* the codec's side */
	chatd_msg *credentials; /* until the login is over */
	const struct ws_plugin *plugin;
};

static const struct chatd_codec *codec_of(const struct link *link)
{
	return link->plugin->codec->vt;
}

static void link_destroy(struct link *link)
{
	link->plugin->host->msg_unref(link->credentials);
	free(link);
}

/* ---- what the codec calls --------------------------------------------------- */

void endpoint_use_host(const struct chatd_host *host)
{
	the_host = host;
}

static chatd_buf *layer_wrap(chatd_buf *raw, uint32_t flags)
{
	char header[FRAME_HEADER_MAX];
	int opcode = flags & CHATD_WRAP_BINARY ? FRAME_BINARY : FRAME_TEXT;
	size_t n = the_host->buf_len(raw);
	size_t len = frame_header(header, opcode, n);
	char *front = the_host->buf_push(raw, len);
	if (front) {
		memcpy(front, header, len);
		return raw;
	}
	chatd_buf *copy = the_host->buf_new(0, len + n);
	if (copy) {
		memcpy(the_host->buf_data(copy), header, len);
		memcpy(the_host->buf_data(copy) + len, the_host->buf_data(raw), n);
	}
	the_host->buf_unref(raw);
	return copy;
}

static size_t layer_send(void *arg, chatd_buf *wrapped)
{
	const struct link *link = arg;
	return conn_send_buf(link->ws, wrapped);
}

static void layer_close(void *arg, int32_t code, const char *why)
{
	struct link *link = arg;
	conn_close(link->ws, code, why);
	link_destroy(link);
}

static void layer_pause(void *arg, int32_t on)
{
	const struct link *link = arg;
	conn_pause(link->ws, on);
}

static size_t layer_queued(void *arg)
{
	const struct link *link = arg;
	return conn_queued(link->ws);
}

static struct chatd_str layer_attr(void *arg, const char *name)
{
	const struct link *link = arg;
	if (!link->credentials)
		return chatd_str_of(NULL, 0);
	return link->plugin->host->msg_get(link->credentials, name);
}

static void layer_beats(void *arg)
{
	const struct link *link = arg;
	conn_beats(link->ws);
}

static void layer_settled(void *arg)
{
	struct link *link = arg;
	link->plugin->host->msg_unref(link->credentials);
	link->credentials = NULL;
}

const struct chatd_layer endpoint_layer = {
	.struct_size = sizeof(endpoint_layer),
	.name = "websocket",
	.wrap = layer_wrap,
	.send = layer_send,
	.close = layer_close,
	.pause = layer_pause,
	.queued = layer_queued,
	.attr = layer_attr,
	.beats = layer_beats,
	.settled = layer_settled,
};

/* ---- what the connection calls ---------------------------------------------- */

/* STOMP is a stream of bytes, so messages' borders and kinds say nothing: pieces are
 * handed down as they come. */
static size_t on_data(void *arg, const char *p, size_t n, uint32_t flags)
{
	struct link *link = arg;
	(void)flags;
	return n ? codec_of(link)->data(link->codec, p, n) : 0;
}

static void on_gone(void *arg, int32_t why)
{
	struct link *link = arg;
	codec_of(link)->gone(link->codec, why);
	link_destroy(link);
}

static void on_drain(void *arg)
{
	struct link *link = arg;
	const struct chatd_codec *codec = codec_of(link);
	if (CHATD_HAS(codec, leave)) {
		codec->leave(link->codec, CODE_STOPPING, "service restart");
		return;
	}
	codec->gone(link->codec, CHATD_END_DRAIN);
	layer_close(link, CODE_STOPPING, "service restart");
}

static const struct chatd_ws_user link_user = {
	.struct_size = sizeof(link_user),
	.data = on_data,
	.gone = on_gone,
	.drain = on_drain,
};

/* ---- requests ------------------------------------------------------------------ */

static void open_link(const struct ws_plugin *plugin, chatd_req *req)
{
	const struct chatd_http *http = plugin->http->vt;
	const struct chatd_codec *codec = plugin->codec->vt;
	chatd_worker *worker = http->req_worker(req);
	struct link *link = calloc(1, sizeof(*link));
	if (!link || !(link->credentials = credentials_of(plugin->host, http, req))) {
		free(link);
		http->problem(req, 503, "OVERLOADED", "Out of memory; try again later.");
		return;
	}
	link->plugin = plugin;
	struct chatd_ws_accept accept = {
		.struct_size = sizeof(accept),
		.protocols = codec->protocols,
		.user = &link_user,
		.arg = link,
	};
	link->ws = service_accept(plugin, req, &accept);
	if (!link->ws) {
		link_destroy(link);
		return;
	}
	link->codec = codec->open(plugin->codec->obj, worker, &endpoint_layer, link);
	if (!link->codec) {
		conn_close(link->ws, 1013, "out of memory");
		link_destroy(link);
	}
}

static void on_request(void *arg, chatd_req *req)
{
	const struct ws_plugin *plugin = arg;
	const struct chatd_http *http = plugin->http->vt;
	if (http->req_header(req, "Upgrade").p)
		open_link(plugin, req);
	else
		http->respond(req, 200, TEXT_TYPE, CHATD_LIT(GREETING));
}

static void on_raw_request(void *arg, chatd_req *req)
{
	open_link(arg, req); /* answers what is no handshake */
}

chatd_status endpoint_open(struct ws_plugin *plugin)
{
	const struct chatd_http *http = plugin->http->vt;
	char raw[256]; /* check() has seen to it that the path is shorter */
	struct chatd_route route = {
		.struct_size = sizeof(route),
		.methods = CHATD_GET,
		.flags = CHATD_HTTP_BARE,
		.path = plugin->conf->path,
		.handle = on_request,
		.arg = plugin,
	};
	chatd_status rc = http->route(plugin->http->obj, plugin->ctx, &route);
	if (rc)
		return plugin->host->fail(plugin->ctx, rc,
				rc == -EEXIST ? "path %s: another plugin serves it already"
							  : "path %s: the HTTP engine refused it",
				route.path);
	snprintf(raw, sizeof(raw), "%s/websocket", plugin->conf->path);
	route.path = raw;
	route.handle = on_raw_request;
	rc = http->route(plugin->http->obj, plugin->ctx, &route);
	return rc ? plugin->host->fail(plugin->ctx, rc, "path %s: the HTTP engine refused it", raw) : 0;
}
