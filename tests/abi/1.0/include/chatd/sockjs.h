/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/sockjs.h
 * @brief SockJS endpoints for plugins: text messages over whatever the browser can.
 *
 * Provided by the plugin "sockjs".  A connection stays on its worker; all its
 * functions and callbacks are [worker].
 */
#ifndef CHATD_SOCKJS_H
#define CHATD_SOCKJS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_SOCKJS "chatd.sockjs/1"

typedef struct chatd_sockjs_conn chatd_sockjs_conn;

struct chatd_sockjs_app {
	uint32_t struct_size;
	const char *prefix;    /**< "/echo" */
	int32_t websocket;     /**< offer WebSocket, framed and raw */
	int32_t cookie;        /**< set and expect JSESSIONID */
	size_t response_limit; /**< bytes after which a streamed response ends; 0: 128 KiB */
	size_t max_message;    /**< 0: 64 KiB */
	/** A client: returns what the other callbacks get as @p conn_arg. */
	void *(*open)(void *arg, chatd_worker *, chatd_sockjs_conn *);
	/** One message.  @p binary only on the raw WebSocket. */
	void (*message)(void *conn_arg, struct chatd_str text, int32_t binary);
	/** It is over; the connection must not be touched afterwards.  Not after close(). */
	void (*gone)(void *conn_arg);
	void *arg;
};

struct chatd_sockjs {
	uint32_t struct_size;
	/** [main] In init(): serve app->prefix and everything below it.  Copied. */
	chatd_status (*endpoint)(void *obj, chatd_ctx *, const struct chatd_sockjs_app *);
	void (*send)(chatd_sockjs_conn *, struct chatd_str text, int32_t binary);
	void (*close)(chatd_sockjs_conn *, int32_t code, const char *why);
};

#ifdef __cplusplus
}
#endif
#endif
