/* SPDX-License-Identifier: Apache-2.0 */
/**
 * One WebSocket connection after the handshake: a stream on one side, messages on the
 * other, and the limits and goodbyes between.  All of it [worker].
 *
 * Life: OPEN, with a user.  Then either the stream ends (the user hears gone()), or a
 * close begins; from there on the user is detached and the connection winds down alone.
 */
#ifndef WEBSOCKET_CONN_H
#define WEBSOCKET_CONN_H

#include "frame.h"

#include <chatd-sdk/pace.h>
#include <chatd/plugin.h>
#include <chatd/stats.h>
#include <chatd/stream.h>
#include <chatd/transport.h>
#include <chatd/websocket.h>

/** What the plugin's options fill. */
struct ws_conf {
	const char *path;
	int64_t max_message;
	int64_t ping, pong;
	int64_t max_queue, stall;
};

/** The codes that a connection is closed with for what it did. */
#define CONN_REJECTED_FOR(X) X(1002) X(1003) X(1007) X(1008) X(1009) X(4500)
enum { CONN_REJECTIONS = 6 };
extern const char *const conn_rejections[CONN_REJECTIONS];

/** The plugin instance; read-only once it runs. */
struct ws_plugin {
	const struct chatd_host *host;
	chatd_ctx *ctx;
	const struct ws_conf *conf;
	const struct chatd_service *http;
	const struct chatd_service *codec;
	const struct chatd_service *stats;
	uint32_t rejected[CONN_REJECTIONS];
	size_t max_message; /**< the option, or what the codec takes */
};

/** The instance on one worker. */
struct ws_worker {
	const struct ws_plugin *plugin;
	chatd_worker *worker;
	chatd_buf *ping;          /**< the one ping frame that everybody gets */
	struct chatd_ws *open;    /**< connections that drain() has not come to */
	struct chatd_ws *closing; /**< the others */
	size_t n_open;
	struct chatd_timer drain_timer;
	struct chatd_pace pace;
	int32_t draining;
	int64_t logged_at; /**< when a breach was last logged; 0: never */
	size_t unlogged;   /**< breaches since */
};

/** How often something came, in windows of one second. */
struct ws_rate {
	uint32_t window; /**< seconds of the monotonic clock */
	uint16_t count;
	uint8_t strikes; /**< windows over the limit, one after the other */
};

struct ws_assembly;

struct chatd_ws {
	chatd_stream *stream;
	const struct chatd_ws_user *user; /**< NULL: detached */
	void *arg;
	struct ws_worker *ww;
	struct chatd_ws *next, **link;
	struct ws_assembly *assembly; /**< a message that came in pieces, for user->message */
	struct frame_decoder decoder;
	struct chatd_timer timer;
	int64_t heard; /**< when bytes came last */
	struct ws_rate pings, empties;
	uint8_t state;   /**< see conn.c */
	uint8_t busy;    /**< on_data() is running: whoever ends the connection leaves it there */
	uint8_t paused;  /**< by the user */
	uint8_t pinged;  /**< and nothing heard since */
	uint8_t suspect; /**< too much is queued; the timer will look again */
	uint8_t beats;   /**< the user sees to it that both sides live */
};

/** Room for a connection, not yet in use; conn_start() or conn_discard() follows. */
struct chatd_ws *conn_create(struct ws_worker *ww, const struct chatd_ws_accept *a);
void conn_discard(struct chatd_ws *ws);
/** The handshake is done. */
void conn_start(struct chatd_ws *ws, chatd_stream *stream);

/** See chatd_websocket. */
size_t conn_send_buf(struct chatd_ws *ws, chatd_buf *wrapped);
void conn_close(struct chatd_ws *ws, int32_t code, const char *why);
void conn_cut(struct chatd_ws *ws);
void conn_pause(struct chatd_ws *ws, int32_t on);
size_t conn_queued(const struct chatd_ws *ws);
void conn_beats(struct chatd_ws *ws);
struct chatd_str conn_peer(const struct chatd_ws *ws);

/** The server stops and this connection's turn has come. */
void conn_drain(struct chatd_ws *ws);
/** The worker stops: end it now. */
void conn_abandon(struct chatd_ws *ws);

#endif
