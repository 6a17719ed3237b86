/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file engine.h
 * @brief What the parts of the HTTP engine share: connections, requests, answers.
 *
 * Everything is [worker] unless said otherwise.  A connection has at most one request
 * at a time; while it is under way, bytes of the next one stay unread in the stream.
 * An idle connection has no request and thus no memory but struct conn.
 */
#ifndef HTTP_ENGINE_H
#define HTTP_ENGINE_H

#include <stdatomic.h>

#include <chatd/http.h>
#include <chatd/plugins.h>
#include <chatd/stats.h>
#include <chatd/stream.h>
#include <chatd/transport.h>

#include "parser.h"
#include "routes.h"
#include "uri.h"

/** A route of the engine's own that is served while draining. */
#define ROUTE_HEALTH (1u << 31)

#define HTTP_OPT(field_, key_, type_, fallback_, doc_)                            \
	.key = (key_), .type = (type_), .offset = offsetof(struct http_conf, field_), \
	.fallback = (fallback_), .doc = (doc_)

extern const char *const http_proxy_headers[];

enum { PROXY_AUTO, PROXY_XFF, PROXY_FORWARDED, PROXY_REAL_IP };

struct http_conf {
	const char *const *listen;
	const char *tls_cert, *tls_key;
	const char *const *trusted;
	int32_t proxy_protocol;
	int32_t proxy_header; /**< PROXY_* */
	const char *const *origins;
	int32_t cors;
	int64_t cors_max_age_ms;
	int64_t line, field, fields, total;
	int64_t header_ms, body_ms, body_idle_ms, keepalive_ms, write_ms;
	int64_t max_requests, max_connections;
	int32_t ignore_upgrade;
};

struct engine_way;

/** The instance; read-only once init() is over. */
enum { ENGINE_REJECTIONS = 22 };

struct http {
	const struct chatd_host *host;
	chatd_ctx *ctx;
	const struct http_conf *conf;
	const struct chatd_service *net, *sessions;
	const struct chatd_service *store, *plugins; /**< NULL if there is none */
	struct chatd_ready back_ends[16];
	const chatd_ctx *back_end_of[16]; /**< whose; NULL: it is not known */
	size_t n_back_ends;
	struct routes *routes;
	struct http_limits limits;
	const struct chatd_service *stats;
	uint32_t rejected[ENGINE_REJECTIONS];
	atomic_llong *connections; /**< of all workers; those that were upgraded left */
	const struct engine_way *way;
};

/** In what engines made of these parts differ: how clients' streams come about. */
struct engine_way {
	void (*accepted)(void *http, chatd_worker *, chatd_stream *);
	bool tls; /**< the listeners' streams speak it; else the engine does */
	/** Can this stream still be upgraded?  NULL: always. */
	bool (*may_upgrade)(const chatd_stream *);
	/** Does each request come on a stream of its own?  Then it is closed after the answer,
	 *  although the client's connection goes on. */
	bool single;
};

struct conn;

/** What one worker has; its wself. */
struct http_worker {
	struct http *http;
	chatd_worker *worker;
	struct conn *conns;
	chatd_buf *crlf;
	int64_t logged_at; /**< of the last complaint in the log */
	int64_t date_s;
	char date[32]; /**< for date_s, as RFC 9110 has it */
	bool draining;
};

enum conn_state { CONN_HEAD, CONN_BODY, CONN_BUSY };

/** Lives on the stack of a callback that may end the connection under its own feet. */
struct turn {
	bool dead;
};

struct conn {
	struct http_worker *w;
	chatd_stream *stream;
	struct conn *next, **link;
	chatd_req *req; /**< NULL while idle */
	struct turn *turn;
	struct chatd_timer timer;
	uint32_t requests; /**< that were begun */
	uint8_t state;     /**< enum conn_state, of req */
	bool paused;
	bool closing; /**< no more requests; ends when all is sent */
	bool unread;  /**< bytes were left in the stream */
	bool half;    /**< the client sends no more: what it asked for is answered, then it ends */
};

struct ident_wait;
struct guard_wait;

struct req_block { /**< of the request's memory */
	struct req_block *next;
	max_align_t space[];
};

struct chatd_req {
	struct conn *conn;
	struct http_head head;
	struct http_info info;
	struct uri uri;
	struct uri_path *path;
	const struct route *route;
	uint32_t method; /**< one bit; 0: none that is served */
	uint32_t flags;  /**< of the route, or of the path when the method did not fit */

	char *body; /**< collected */
	size_t body_n, body_cap;
	int64_t body_start, body_last; /**< ms */
	int64_t held_at;               /**< since then no body is read; 0: it is */
	int64_t owed;                  /**< bytes of a sized answer still to be written */
	struct http_chunks chunks;

	const struct chatd_req_user *user;
	void *user_arg;
	struct ident_wait *ident;
	struct guard_wait *guard;
	struct req_block *blocks;
	struct chatd_str peer; /**< .p NULL: not asked yet */
	char id[17];

	char *extra; /**< header lines of the answer */
	size_t extra_n, extra_cap;
	int32_t retry_after; /**< seconds, of a Retry-After among them; 0: none */

	bool held;       /**< its route's owner waits for its end before it ends */
	bool handled;    /**< handle() was called: there is someone to tell */
	bool body_whole; /**< all of the body has come, or there is none */
	bool refused;    /**< body() said no: drop the rest */
	bool began;      /**< the answer's head is out */
	bool chunked;    /**< the answer is */
	bool mute;       /**< no content is sent: HEAD, or an answer that was replaced */
	bool keep;       /**< the connection goes on after the answer */
	bool offers_ws;  /**< a request to upgrade to WebSocket */
	bool cors;       /**< CORS headers go with the answer */
	bool has_cache_control;
};

/* owner.c: the plugin that a route belongs to */
/** Code of the owner's runs between the two.  The request may be gone at the end. */
struct owner_call {
	const struct http *http;
	chatd_worker *worker;
	struct chatd_plugins_call call; /**< .of NULL: nobody counts */
};
void owner_enter(const chatd_req *, struct owner_call *);
void owner_leave(struct owner_call *);
/** Its route was found: the owner does not end before the request does. */
void owner_hold(chatd_req *);
void owner_release(chatd_req *);
void owner_failed(const chatd_req *); /**< it answered with 500 */
/** NULL: the server does not tell of plugins that come and go. */
const struct chatd_plugins *owners_of(const struct http *);

/* engine.c */
/** As chatd_plugin.check. */
chatd_status engine_check(const struct chatd_host *, chatd_ctx *, const void *conf);
/** Finds the services, adds the health pages, provides chatd.http/1 and listens. */
chatd_status engine_init(struct http *, const struct chatd_host *, chatd_ctx *,
		const struct http_conf *, const struct engine_way *);
void engine_finish(struct http *); /**< also after a failed engine_init() */
void engine_worker_start(struct http *, chatd_worker *, struct http_worker *);
void engine_worker_stop(struct http_worker *);

/* conn.c */
/** A stream that carries HTTP/1.x is there. */
void conn_accepted(void *arg, chatd_worker *, chatd_stream *);
/** The answer ended: go on, or close (flushing). */
void conn_next(struct conn *, bool close);
/** Ends the connection; @p reset: cut it instead of flushing. */
void conn_end(struct conn *, bool reset);
/** Takes the stream out and frees the rest; nobody is told. */
chatd_stream *conn_give_away(struct conn *);
/** The body is awaited: watch its time. */
void conn_wait_body(struct conn *);
/** Reads on, if something was left unread. */
void conn_show_again(struct conn *);
/** Reads no more of the request's body, or goes on; the connection may end in here. */
void conn_hold(struct conn *, bool on);
void conn_drain(struct http_worker *);
void conn_stop(struct http_worker *);
/** Ends the requests at the routes of that plugin. */
void conn_cut(struct http_worker *, const chatd_ctx *);

/* intake.c: a request that was read completely goes to its handler */
/** The head is whole: judge it, then wait for the body or call the handler. */
void intake_head(chatd_req *);
/** Nobody objects to it: what intake_head() leaves for later. */
void intake_go(chatd_req *);
/** A piece of the body. */
void intake_body(chatd_req *, const char *p, size_t n);
void intake_body_end(chatd_req *);

/* request.c */
extern const struct chatd_http request_service;
chatd_req *request_create(struct conn *);
void request_destroy(chatd_req *);
/** Tells whoever answers that nobody listens any more. */
void request_gone(chatd_req *);
void *request_alloc(chatd_req *, size_t n);
struct chatd_str request_id(chatd_req *);
struct chatd_str request_header(chatd_req *, const char *name);
struct chatd_str request_query(chatd_req *, const char *name);

/* answer.c */
chatd_status answer_header(chatd_req *, const char *name, struct chatd_str value);
void answer_whole(chatd_req *, int32_t status, const char *type, struct chatd_str body);
void answer_buf(chatd_req *, int32_t status, const char *type, chatd_buf *body);
void answer_problem(chatd_req *, int32_t status, const char *code, const char *detail);
/** A problem that the engine found: empty where the route is CHATD_HTTP_BARE. */
void answer_refusal(chatd_req *, int32_t status, const char *code, const char *detail);
/** Like answer_refusal(), then closes the connection. */
/** For chatd_stats_rejections(). */
extern const char *const answer_rejections[ENGINE_REJECTIONS];
void answer_fatal(chatd_req *, const struct http_error *);
void answer_begin(chatd_req *, int32_t status, const char *type);
void answer_begin_sized(chatd_req *, int32_t status, const char *type, int64_t length);
size_t answer_write(chatd_req *, chatd_buf *);
void answer_end(chatd_req *);
void answer_abort(chatd_req *);
chatd_stream *answer_upgrade(chatd_req *, const char *protocol);
/** Sends @p text as it is. */
void answer_raw(struct conn *, struct chatd_str text);
/** 503 to a connection that is not served at all. */
void answer_overload(struct http_worker *, chatd_stream *);
/** Sets Allow from a mask of methods. */
void answer_allow(chatd_req *, uint32_t methods);

/* policy.c */
/** Is @p text usable in allowed_origins: "*", or scheme://host[:port] in lower case? */
bool policy_origin_ok(const char *text);
/** Is @p text an address or a CIDR block? */
bool policy_net_ok(const char *text);
int32_t policy_origin_allowed(chatd_req *);
/** CORS headers for this answer, if the request and the configuration call for them. */
void policy_cors(chatd_req *);
/** Answers a preflight, or OPTIONS of a path. */
void policy_options(chatd_req *, uint32_t methods);
struct chatd_str policy_peer(chatd_req *);
int32_t policy_secure(chatd_req *);
struct chatd_str policy_cookie(chatd_req *, const char *name);

/* guard.c */
/** Asks the hooks whether the call may be made at all, then intake_go(). */
void guard_start(chatd_req *);
/** The request ends while the hooks are being asked. */
void guard_forget(chatd_req *);
/** What request_as hooks get to see; NULL: no memory. */
chatd_msg *guard_message(chatd_req *);
/** A header of a message for hooks: their text is UTF-8, those of HTTP may be anything. */
void guard_set_text(
		const struct chatd_host *, chatd_msg *, const char *name, struct chatd_str value);
/** Answers with the problem that a hook has found. */
void guard_refuse(chatd_req *, const struct chatd_outcome *);
/* identify.c */
void identify_start(chatd_req *, chatd_http_identified *fn, void *arg);
/** The request ends: whoever still looks must not come back to it. */
void identify_forget(chatd_req *);

/* forward.c: pure */
struct forward {
	/** Is this numeric address one of a trusted proxy? */
	bool (*trusted)(void *arg, struct chatd_str address);
	void *arg;
};
/** Reads one hop ("192.0.2.1:80", "[::1]", "\"[::1]:443\"") into @p ret as inet_ntop(3)
 *  would write it, IPv4-mapped as IPv4.  False: it is no address. */
bool forward_address(struct chatd_str hop, char ret[46]);
/** The right-most untrusted address of the chain in the headers @p name of @p head
 *  ("x-forwarded-for", "x-real-ip", "forwarded").  False: none, or unreadable. */
bool forward_client(
		const struct http_head *head, const char *name, const struct forward *f, char ret[46]);
/** The right-most scheme named by X-Forwarded-Proto, or by Forwarded; .p NULL: none. */
struct chatd_str forward_proto(const struct http_head *head, bool forwarded);

#endif
