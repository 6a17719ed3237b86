/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file internal.h
 * @brief What the parts of the plugin share: its settings, endpoints and transports.
 *
 * Everything here is written in init() of this plugin or of one that adds an
 * endpoint, and only read afterwards; so any thread may look at it.
 */
#ifndef SOCKJS_INTERNAL_H
#define SOCKJS_INTERNAL_H

#include <chatd-sdk/pace.h>
#include <chatd/cluster.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/redis.h>
#include <chatd/sockjs.h>
#include <chatd/stats.h>
#include <chatd/transport.h>
#include <chatd/websocket.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOCKJS_ID_MAX       256 /**< bytes of a session's id, decoded */
#define SOCKJS_CALLBACK_MAX 64  /**< bytes of the name of a JavaScript callback */

enum { IFRAME_OFF, IFRAME_SAME_ORIGIN, IFRAME_ANY };

struct conf {
	const char *path, *script;
	int32_t cookie, jsonp, htmlfile, iframe;
	int64_t heartbeat, disconnect_delay;
	int64_t stream_limit, max_queue, max_body;
	int32_t forward;
};

enum { STAT_POLLS, STAT_SENDS, STAT_ASKED, STAT_FAILED, STATS };

struct endpoint;

struct sockjs {
	const struct chatd_host *host;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_http *http;
	void *http_obj;
	const struct chatd_websocket *ws;
	void *ws_obj;
	const struct chatd_codec *codec;
	void *codec_obj;
	unsigned char hash_key[16]; /**< so that nobody can aim ids at one bucket or worker */
	struct endpoint *endpoints; /**< newest first */
	struct chatd_str iframe;    /**< the page */
	char iframe_tag[24];        /**< its ETag */
	uint16_t endpoint_count;
	/* See peers.h. */
	bool peers_on;
	const struct chatd_cluster *cluster;
	void *cluster_obj;
	const struct chatd_redis *redis;
	void *redis_obj;
	const struct chatd_stats *stats; /**< NULL: nobody counts */
	void *stats_obj;
	uint32_t claim, release, stat[STATS];
	atomic_uint round; /**< grows when Redis comes back */
	char mark[96];     /**< this process, as it stands in Redis: node, space, boot */
	char boot[17];
};

/** A prefix that is served: the plugin's own for STOMP, or one of another plugin. */
struct endpoint {
	const struct sockjs *self;
	struct endpoint *next;
	char *prefix;
	size_t prefix_len;
	uint16_t number; /**< begins the keys of its sessions */
	bool stomp;      /**< true: .self->codec talks; false: .app */
	bool websocket, cookie;
	size_t stream_limit, max_message, max_body;
	struct chatd_sockjs_app app;
};

enum transport_id {
	XHR,
	XHR_STREAMING,
	EVENTSOURCE,
	HTMLFILE,
	JSONP,
	XHR_SEND,
	JSONP_SEND,
	WEBSOCKET
};

struct transport {
	const char *name; /**< the last segment of the URL */
	enum transport_id id;
	uint32_t method;     /**< the one it takes, besides OPTIONS if .cors */
	const char *type;    /**< Content-Type of what it answers */
	bool receives;       /**< a request waits for frames */
	bool streams;        /**< and gets more than one */
	bool cors, callback; /**< callback: names one in ?c= */
};

/** What one worker has: its HTTP sessions, by key (see session.h).  The middle is set by the
 *  draining. */
struct worker_state {
	struct session *sessions;
	chatd_worker *worker;
	const struct sockjs *self;
	struct chatd_timer drain_timer;
	struct chatd_pace pace;
	bool draining;
	/* See peers.h. */
	struct forward *forwards; /**< requests that were passed on, by number */
	struct peer *peers;       /**< requests that came by way of others and wait here */
	uint64_t forwarded;       /**< the number of the last one */
	uint32_t renewals;        /**< that are left in this tick */
	struct chatd_timer renew_timer;
	bool stopped;
};

#endif
