/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/http.h
 * @brief HTTP for plugins: routes, streamed requests and answers, upgrades.
 *
 * Provided by an HTTP engine plugin ("http"; others may follow).  Nothing here
 * says HTTP/1.1: the engine frames, limits and times requests as it must.
 *
 * A request lives on the worker that read it; everything is [worker] unless said
 * otherwise.  It ends with respond(), end() or abort(), or when gone() was called;
 * afterwards the handle must not be touched.  Every request is answered exactly
 * once; a handler may answer at once or later from the same worker.
 */
#ifndef CHATD_HTTP_H
#define CHATD_HTTP_H

#include <chatd/plugin.h>
#include <chatd/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_HTTP "chatd.http/1"

typedef struct chatd_req chatd_req;

enum {                  /* methods, as bits of a mask */
	CHATD_GET = 1 << 0, /**< HEAD is served with it; the engine drops the body */
	CHATD_POST = 1 << 1,
	CHATD_PUT = 1 << 2,
	CHATD_PATCH = 1 << 3,
	CHATD_DELETE = 1 << 4,
	CHATD_OPTIONS = 1 << 5,
	CHATD_HEAD = 1 << 6, /**< only in req_method(): the request was HEAD */
};

enum { /* flags of a route */
	/** The engine sends its CORS and origin policy: a request whose Origin is not
	 *  allowed gets 403, OPTIONS is answered by the engine.  For /api. */
	CHATD_HTTP_CORS = 1 << 0,
	/** The route wants the body as it arrives, through body(); otherwise the engine
	 *  collects it (at most max_body bytes, else 413) before it calls handle(). */
	CHATD_HTTP_STREAM = 1 << 1,
	/** The body must be JSON (application/json, UTF-8), else 415. */
	CHATD_HTTP_JSON = 1 << 2,
	/** A refused method is answered 405 with Allow but an empty body and no
	 *  Content-Type (the SockJS test suite wants that), and so is whatever else the
	 *  engine itself refuses; problem() keeps its document. */
	CHATD_HTTP_BARE = 1 << 3,
};

struct chatd_route {
	uint32_t struct_size;
	uint32_t methods; /**< CHATD_GET | ... */
	uint32_t flags;
	/** "/api/chat/rooms/{id}/members": each {name} is one non-empty segment, percent-decoded,
	 *  see req_param().  A last segment "{rest*}" takes all that is left, slashes
	 *  included, and may be empty.  Literals win over parameters, longer over shorter; and
	 *  "/{rest*}" answers for nothing below a first segment that another route has. */
	const char *path;
	size_t max_body; /**< 0: 64 KiB */
	/** The request is there, its body too unless CHATD_HTTP_STREAM. */
	void (*handle)(void *arg, chatd_req *);
	void *arg;
};

struct chatd_http_header {
	const char *name; /**< as written: "Cache-Control" */
	struct chatd_str value;
};

/** What the one who answers later wants to know. */
struct chatd_req_user {
	uint32_t struct_size;
	/** A piece of a streamed body; returns 0, or a negative errno to have the rest
	 *  discarded (the answer may have been given).  NULL unless CHATD_HTTP_STREAM. */
	chatd_status (*body)(void *arg, const char *p, size_t n);
	void (*body_end)(void *arg); /**< all of a streamed body was shown */
	/** The client went away before the answer ended: forget the handle. */
	void (*gone)(void *arg);
	/** Optional: what was written has left; write() more. */
	void (*drained)(void *arg);
};

/** The answer of identify(), unless the client has left before.  @p rc 0: @p ident is
 *  who (ref it to keep); else @p code and @p why say why not: "UNAUTHORIZED" when nothing
 *  was presented. */
typedef void chatd_http_identified(
		void *arg, chatd_status rc, const chatd_ident *ident, const char *code, const char *why);

enum {                    /* of a back end */
	CHATD_READY_NO = 1,   /**< without it this server can do nothing: /readyz answers 503 */
	CHATD_READY_DOWN = 2, /**< it is away, and the server works on without it */
	CHATD_READY_UP = 3,
};

/** What /readyz tells of a back end, beside the store: {"status":"UP","broker":"DOWN"}. */
struct chatd_ready {
	uint32_t struct_size;
	const char *name;            /**< a literal: "broker" */
	int32_t (*state)(void *arg); /**< [any] CHATD_READY_* */
	void *arg;
};

/** A call of a route by a plugin. */
struct chatd_http_call {
	uint32_t struct_size;
	const chatd_ident *ident; /**< who asks: no credentials are looked at, request_as is asked */
	struct chatd_str method;  /**< "POST" */
	struct chatd_str path;    /**< with its query, percent-encoded */
	struct chatd_str body;    /**< JSON; empty: none */
	int64_t max_answer;       /**< bytes; 0: 1 MiB */
};
struct chatd_http_answer { /**< borrowed for the callback */
	uint32_t struct_size;
	int32_t status;
	struct chatd_str type, body;
	int64_t retry_after; /**< seconds; 0: not said */
};
/** rc 0: an answer came, whatever it says; -EMSGSIZE: it was too long; -EIO: it was cut. */
typedef void chatd_http_called(void *arg, chatd_status rc, const struct chatd_http_answer *);

struct chatd_http {
	uint32_t struct_size;
	/** [main] In init().  -EEXIST: another plugin has that method and path. */
	chatd_status (*route)(void *obj, chatd_ctx *, const struct chatd_route *);

	/* The request. Borrowed text lives until the request ends. */
	chatd_worker *(*req_worker)(chatd_req *);
	uint32_t (*req_method)(chatd_req *);                          /**< one bit */
	struct chatd_str (*req_path)(chatd_req *);                    /**< percent-encoded, no query */
	struct chatd_str (*req_param)(chatd_req *, const char *name); /**< of {name}, decoded */
	/** Decoded, the first one; as it stands when it cannot be decoded. */
	struct chatd_str (*req_query)(chatd_req *, const char *name);
	struct chatd_str (*req_header)(chatd_req *, const char *name); /**< any case; first one */
	struct chatd_str (*req_cookie)(chatd_req *, const char *name);
	struct chatd_str (*req_body)(chatd_req *); /**< when collected */
	/** The client's address: the peer's, or what trusted proxies say. */
	struct chatd_str (*req_peer)(chatd_req *);
	int32_t (*req_secure)(chatd_req *);      /**< TLS here or, as trusted proxies say, before us */
	struct chatd_str (*req_id)(chatd_req *); /**< 16 hex digits, for logs and problems */
	/** 1: no Origin, same origin, or in the list; 0: a foreign one. */
	int32_t (*origin_allowed)(chatd_req *);
	/** Room that lives as long as the request; zeroed. */
	void *(*req_alloc)(chatd_req *, size_t n);
	/** Who hears of the body, the departure and the draining. */
	void (*req_user)(chatd_req *, const struct chatd_req_user *, void *arg);
	/** Walks session_auth with the request's credentials (Authorization, ?token=,
	 *  device-token cookie or header), then request_as; fn runs once, later or in here.
	 *  When request_as refuses, the engine answers, fn does not run, and gone() does, as if
	 *  the client had left: call req_user() before, and touch nothing after. */
	void (*identify)(chatd_req *, chatd_http_identified *fn, void *arg);

	/* The answer.  Content-Length, Date, Connection and the standard security
	 * headers are the engine's. */
	/** Further headers, copied; before respond() or begin(). */
	chatd_status (*header)(chatd_req *, const char *name, struct chatd_str value);
	/** A whole answer.  @p type NULL: no Content-Type.  @p body is copied. */
	void (*respond)(chatd_req *, int32_t status, const char *type, struct chatd_str body);
	/** A whole answer whose body is shared, not copied (takes its own reference). */
	void (*respond_buf)(chatd_req *, int32_t status, const char *type, chatd_buf *body);
	/** An RFC 9457 problem document; @p code is a constant such as "NOT_MEMBER". */
	void (*problem)(chatd_req *, int32_t status, const char *code, const char *detail);
	/** A streamed answer: begin, write any number of times, end. Each write() is one
	 *  chunk where chunks exist.  Returns the bytes waiting for the client. */
	void (*begin)(chatd_req *, int32_t status, const char *type);
	size_t (*write)(chatd_req *, chatd_buf *); /**< takes its own reference */
	void (*end)(chatd_req *);
	void (*abort)(chatd_req *); /**< cut the connection: the answer cannot be finished */
	/** The request leaves HTTP: the engine sends 101 with "Upgrade: @p protocol", the
	 *  headers set by header(), and gives away the connection; the request is over.
	 *  NULL when it was not a proper upgrade request for @p protocol: then answer.
	 *  Call attach() on the stream before the callback at hand returns.  A request that
	 *  offers a WebSocket and is answered with success instead gets 404. */
	chatd_stream *(*upgrade)(chatd_req *, const char *protocol);
	/** The @p i-th (0: first) header of this name, in any case; .p NULL: no more.  For
	 *  headers that must not, or may, be repeated. */
	struct chatd_str (*req_header_at)(chatd_req *, const char *name, size_t i);
	/** [main] In init().  -ENOSPC: there are 16 already. */
	chatd_status (*ready)(void *obj, const struct chatd_ready *);
	/** Of CHATD_HTTP_STREAM: 1: no more of the body is read, so that a client that sends faster
	 *  than it can be put away waits, and its time with it; 0: it goes on, perhaps in here.
	 *  Pieces of a body are at most 64 KiB; body_end() may follow the last one although it was
	 *  held there. */
	void (*hold)(chatd_req *, int32_t on);
	/** begin() of an answer that has @p length bytes, which write() will bring: told to HEAD too,
	 *  which gets none of them.  One that ends too early is cut. */
	void (*begin_sized)(chatd_req *, int32_t status, const char *type, int64_t length);
	/** The query as it came, percent-encoded; .p NULL: none.  For what must hold nothing else. */
	struct chatd_str (*req_query_text)(chatd_req *);
	/** Calls a route, any plugin's, as if that request had come from the same address as @p outer,
	 *  which is under way.  All is copied.  fn runs once, later or in here, also when @p outer
	 *  has ended meanwhile.  -EINVAL, -ENOMEM: it does not run. */
	chatd_status (*call)(void *obj, chatd_req *outer, const struct chatd_http_call *,
			chatd_http_called *fn, void *arg);
};

#ifdef __cplusplus
}
#endif
#endif
