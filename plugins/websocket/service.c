/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include "credentials.h"
#include "endpoint.h"
#include "handshake.h"

#include <string.h>

chatd_ws *service_accept(
		const struct ws_plugin *plugin, chatd_req *req, const struct chatd_ws_accept *accept)
{
	const struct chatd_http *http = plugin->http->vt;
	chatd_worker *worker = http->req_worker(req);
	struct ws_worker *ww = plugin->host->worker_self(plugin->ctx, worker);
	if (ww->draining) {
		http->header(req, "Retry-After", CHATD_LIT("1"));
		http->problem(req, 503, "DRAINING", "The server is being restarted; connect again.");
		return NULL;
	}
	/* Before the 101, so that running out of memory still has an answer. */
	struct chatd_ws *ws = conn_create(ww, accept);
	if (!ws) {
		http->problem(req, 503, "OVERLOADED", "Out of memory; try again later.");
		return NULL;
	}
	chatd_stream *stream = handshake(plugin->http, req, accept->protocols);
	if (!stream) {
		conn_discard(ws);
		return NULL;
	}
	conn_start(ws, stream);
	return ws;
}

static chatd_ws *do_accept(void *obj, chatd_req *req, const struct chatd_ws_accept *accept)
{
	return service_accept(obj, req, accept);
}

static chatd_msg *do_credentials(void *obj, chatd_req *req)
{
	const struct ws_plugin *plugin = obj;
	return credentials_of(plugin->host, plugin->http->vt, req);
}

static chatd_buf *do_wrap(chatd_buf *raw, uint32_t flags)
{
	return endpoint_layer.wrap(raw, flags);
}

static size_t do_send(chatd_ws *ws, struct chatd_str payload, int32_t binary)
{
	const struct chatd_host *host = ws->ww->plugin->host;
	chatd_buf *buf = host->buf_new(CHATD_WRAP_ROOM, payload.n);
	if (!buf)
		return conn_queued(ws);
	if (payload.n)
		memcpy(host->buf_data(buf), payload.p, payload.n);
	buf = do_wrap(buf, binary ? CHATD_WRAP_BINARY : 0);
	if (!buf)
		return conn_queued(ws);
	size_t waiting = conn_send_buf(ws, buf);
	host->buf_unref(buf);
	return waiting;
}

const struct chatd_websocket service_table = {
	.struct_size = sizeof(service_table),
	.accept = do_accept,
	.credentials = do_credentials,
	.wrap = do_wrap,
	.send_buf = conn_send_buf,
	.send = do_send,
	.close = conn_close,
	.cut = conn_cut,
	.pause = conn_pause,
	.queued = conn_queued,
	.beats = conn_beats,
	.peer = conn_peer,
};
