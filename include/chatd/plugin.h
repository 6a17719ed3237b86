/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/plugin.h
 * @brief The plugin contract.  The one header every plugin includes.
 *
 * A plugin is a shared object that exports one constant, ::chatd_plugin_v1.  It
 * links to nothing of the server's: the server hands it a table, chatd_host.
 *
 * Compatible from 1.0 on: a plugin built from headers of 1.n loads under a server of
 * any 1.m, unless it asks for more (min_host).  What is here stays; structs, enums and
 * the table of functions grow.
 *
 * Rules that hold everywhere below, unless a comment says otherwise:
 *  - Pointers passed to a callback are borrowed: valid until it returns.
 *  - A name starting with ret_ is written on success only, and then owned.
 *  - chatd_status is 0, or a negative errno.  Whoever detects an error reports it
 *    once, with fail() or log(); callers just pass the number up.
 *  - Thread tags: [main] start-up and shutdown; [worker] the thread of the worker
 *    at hand, never two at once for the same wself; [any] any thread.
 *  - Never block on [main] or [worker]: use watch_*(), offload(), suspend().
 *  - All text is UTF-8.  Structs grow at the end only.  Numbers are not reused.
 */
#ifndef CHATD_PLUGIN_H
#define CHATD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_ABI_MAJOR 1u /**< also in the symbol's name: an old server finds no symbol */
#define CHATD_ABI_MINOR 0u /**< grows with what is new; neither side needs the other to match */

/** Does the other side's struct reach as far as field @p f, and is it set? */
#define CHATD_HAS(p, f)                                                                          \
	((size_t)((const char *)&(p)->f - (const char *)(p)) + sizeof((p)->f) <= (p)->struct_size && \
			(p)->f)

typedef struct chatd_ctx chatd_ctx;         /**< this plugin instance, as the server sees it */
typedef struct chatd_worker chatd_worker;   /**< one event loop and its thread */
typedef struct chatd_session chatd_session; /**< one client; stays on its worker for life */
typedef struct chatd_ident chatd_ident;     /**< who someone is; refcounted, immutable */
typedef struct chatd_msg chatd_msg;         /**< refcounted; immutable once published */
typedef struct chatd_buf chatd_buf;         /**< refcounted bytes; immutable once sent */
typedef struct chatd_call chatd_call;       /**< one walk of one event along a hook chain */
typedef struct chatd_watch chatd_watch;     /**< a timer or a descriptor being watched */
typedef uint64_t chatd_token;               /**< a suspended call; 0 is none; safe when stale */
typedef uint64_t chatd_sid;                 /**< names a session across threads; safe when stale */
typedef int32_t chatd_status;

/** Borrowed text or bytes, not NUL-terminated.  The layout is frozen for ever. */
struct chatd_str {
	const char *p; /**< NULL means absent, which differs from empty */
	size_t n;
};

/* ---- hooks ------------------------------------------------------------- */

/** What a hook answers.  A negative value is a failure: the instance's
 *  `on_error:` setting (default: reject) then decides.  The sender hears UNAVAILABLE ("try again") of
 *  what passes by itself: -EBUSY, -EAGAIN, -ENOMEM, -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET,
 *  -EHOSTUNREACH, -ENETUNREACH, -EPIPE, -ESHUTDOWN; of everything else INTERNAL. */
typedef int32_t chatd_verdict;
enum {
	CHATD_NEXT = 0,   /**< no objection; ask the next hook */
	CHATD_ACCEPT = 1, /**< settled: skip the rest of this chain, go ahead */
	CHATD_DROP = 2,   /**< stop here; the sender is not told of any error */
	CHATD_REJECT = 3, /**< stop here; the sender gets the error set by reject() */
	CHATD_WAIT = 4,   /**< suspend() was called; resume() will bring the verdict */
};

/** X(number, name, kind, may_wait, verdict when the chain ends in CHATD_NEXT).
 *  session_auth: call_msg() holds the credentials as headers, see CHATD_CRED_*;
 *    there may be no session (a REST call).  A hook that verified one calls
 *    identify() and answers CHATD_NEXT; whoever sees none of its own, the same.
 *    At the end the server refuses if nobody was identified or if a credential
 *    that was presented has been verified by no hook.
 *  session_open: after login and before the client hears of it; may wait, so that
 *    presence can be registered first.  Its verdict is ignored, its reply headers
 *    go to the client with the answer to the login.
 *  subscribe, message_in: call_msg() has the destination; a subscription's headers
 *    are the frame's.  A session with a suspended call is not read from, so its
 *    order holds.  A message that a program gave in (input_as() in transport.h) has no session.
 *  message_out: once per recipient; it must not wait.
 *  request: an HTTP call of an API route came, nobody has asked yet from whom.
 *    call_msg() has its path as destination and the headers method, peer, user-agent
 *    and origin.  For limits by address.  The path is the one that found the route: each
 *    segment was decoded and then escaped in one way only ([A-Za-z0-9._~-] as they are,
 *    the rest as %XX), so whatever differs from "/api/files" is another path.
 *  request_as: the same when its caller is known, see call_ident(); whoever decides
 *    what may be done over STOMP decides here about REST. */
#define CHATD_HOOK_MAP(X)                        \
	X(1, session_auth, DECIDE, 1, CHATD_REJECT)  \
	X(2, session_open, NOTIFY, 1, CHATD_ACCEPT)  \
	X(3, session_close, NOTIFY, 0, CHATD_ACCEPT) \
	X(4, subscribe, DECIDE, 1, CHATD_ACCEPT)     \
	X(5, unsubscribe, NOTIFY, 0, CHATD_ACCEPT)   \
	X(6, message_in, DECIDE, 1, CHATD_ACCEPT)    \
	X(7, message_out, DECIDE, 0, CHATD_ACCEPT)   \
	X(8, message_sent, NOTIFY, 0, CHATD_ACCEPT)  \
	X(9, request, DECIDE, 1, CHATD_ACCEPT)       \
	X(10, request_as, DECIDE, 1, CHATD_ACCEPT)

enum {
#define CHATD_X(num, name, kind, may_wait, at_end) chatd_hook_##name = num,
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
			chatd_hook_count
};

/** Order within a chain; ties run in configuration order; `order:` overrides. */
enum {
	CHATD_ORDER_GUARD = 100,   /**< rate limits, size limits, bans */
	CHATD_ORDER_CHECK = 200,   /**< permission, validity */
	CHATD_ORDER_CHANGE = 300,  /**< rewriting, encryption */
	CHATD_ORDER_STORE = 400,   /**< persistence */
	CHATD_ORDER_OBSERVE = 500, /**< metrics, audit */
};

/** [worker] The one signature of every hook and every /app handler. */
typedef chatd_verdict chatd_hook_fn(chatd_call *call, void *self, void *wself);

/** Headers of the message that session_auth hooks see.  The first four are
 *  credentials: each one present must be verified by some hook. */
#define CHATD_CRED_LOGIN    "login"        /**< user name; goes with passcode */
#define CHATD_CRED_PASSCODE "passcode"     /**< a password for login, or a token */
#define CHATD_CRED_BEARER   "bearer"       /**< of the frame's or request's Authorization */
#define CHATD_CRED_TOKEN    "token"        /**< of the URL's query */
#define CHATD_CRED_DEVICE   "device-token" /**< finds an anonymous account; may be unknown */
#define CHATD_CRED_PEER     "peer"         /**< the client's address, proxies accounted for */
#define CHATD_CRED_AGENT    "user-agent"   /**< of the HTTP request, if there was one */
#define CHATD_CRED_NICKNAME "nickname"     /**< the display name a guest asks for */
#define CHATD_CRED_HOST     "host"         /**< of the CONNECT frame */
/** "authorization": the token is of the request's Authorization, since the frame has one too;
 *  else it is of the URL.  No credential itself. */
#define CHATD_CRED_TOKEN_VIA "token-via"

/** Flags of an identity. */
enum {
	CHATD_ID_ANONYMOUS = 1 << 0, /**< a guest: may read and send, owns nothing */
	CHATD_ID_ADMIN = 1 << 1,     /**< may do what any rule allows an administrator */
	CHATD_ID_MODERATOR = 1 << 2, /**< likewise; an administrator is one without this flag */
	CHATD_ID_BOT = 1 << 3,       /**< a program: its messages say so */
	/** A back end speaks for the server itself, or for a user whom it has checked: what a room asks
	 *  of its members (membership, mutes, slow mode) is not asked. */
	CHATD_ID_SYSTEM = 1 << 4,
};

/** All that a login can say about someone.  What is not known is .p NULL, or 0. */
struct chatd_identity {
	uint32_t struct_size;
	uint32_t flags;         /**< CHATD_ID_* */
	struct chatd_str user;  /**< [A-Za-z0-9_-]{1,64} */
	struct chatd_str name;  /**< display name */
	struct chatd_str roles; /**< server-wide, separated by one space: "moderator support" */
	/** What a logout ends: the login, of one device, that the credential came from. */
	struct chatd_str login;
	struct chatd_str client; /**< clientIdentifier: the rate key of who has no account */
	/** Wall-clock ms: an open session hears of it a little before (AUTH_EXPIRING) and is
	 *  closed then, unless session_renew() comes first. */
	int64_t expires;
};

/* ---- configuration ----------------------------------------------------- */

enum {                    /* option type: the C type of the field at .offset */
	CHATD_T_BOOL = 1,     /**< int32_t, 0 or 1 */
	CHATD_T_INT = 2,      /**< int64_t within [min, max] */
	CHATD_T_SIZE = 3,     /**< int64_t bytes: "64 KiB" */
	CHATD_T_DURATION = 4, /**< int64_t milliseconds: "30s" */
	CHATD_T_STRING = 5,   /**< const char *, lives as long as the instance; NULL if unset */
	CHATD_T_CHOICE = 6,   /**< int32_t index into .choices */
	CHATD_T_STRINGS = 7,  /**< const char *const *, NULL-terminated; never NULL */
	CHATD_T_LIST = 8,     /**< struct chatd_list of structs that .sub describes */
};
enum {
	CHATD_O_REQUIRED = 1 << 0, /**< there is no default; it must be given */
	CHATD_O_SECRET = 1 << 1,   /**< never echoed; takes env:NAME and file:PATH as values */
	CHATD_O_LIVE = 1 << 2,     /**< reload() can change it */
	CHATD_O_PATH = 1 << 3,     /**< a relative path counts from the configuration's folder */
	CHATD_O_LISTEN = 1 << 4,   /**< ADDRESS:PORT or unix:PATH, as chatd.net's listen() takes it */
	/** https://HOST[:PORT][/PATH] or http://..., as chatd.fetch/1 takes it with flags 0. */
	CHATD_O_URL = 1 << 5,
};

/** The field of a CHATD_T_LIST option. */
struct chatd_list {
	const void *items; /**< an array of the struct that .sub fills; NULL if n is 0 */
	size_t n;
};

/** One key of the instance.  The server parses, range-checks, fills in defaults,
 *  names file:line:column in every complaint, suggests a near miss for an unknown
 *  key, and prints this table for --describe. */
struct chatd_opt {
	const char *key; /**< NULL ends the table */
	int32_t type;
	uint32_t flags;
	size_t offset;        /**< offsetof(struct my_conf, field) */
	const char *fallback; /**< default as written in YAML; lists: "[a, b]"; NULL: unset */
	int64_t min, max;     /**< of INT, SIZE, DURATION; both 0: any value >= 0 */
	const char *const *choices;
	const char *doc;             /**< one sentence for the manual */
	const struct chatd_opt *sub; /**< of CHATD_T_LIST: the keys of one item */
	size_t sub_size;             /**< of CHATD_T_LIST: sizeof one item */
};

/* ---- what the server gives --------------------------------------------- */

#if defined(__GNUC__)
#define CHATD_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define CHATD_EXPORT       __attribute__((visibility("default")))
#else
#define CHATD_PRINTF(f, a)
#define CHATD_EXPORT
#endif

enum { CHATD_LOG_ERROR, CHATD_LOG_WARN, CHATD_LOG_INFO, CHATD_LOG_DEBUG, CHATD_LOG_TRACE };

/** A service: a vtable of the agreed interface, and its object. */
struct chatd_service {
	const void *vt;
	void *obj;
};

/** A timer embedded in its owner's struct; zeroed before first use.  The worker
 *  keeps them in a wheel: setting and clearing costs a few pointer moves, and
 *  fires up to 50 ms late, never early.  The fields are the server's. */
struct chatd_timer {
	struct chatd_timer *next, **link;
	int64_t due;
	void (*fn)(void *arg);
	void *arg;
};

/** How a claimed destination prefix behaves; see prefix(). */
enum {
	CHATD_DEST_TOPIC = 1, /**< every subscriber gets every message */
	CHATD_DEST_QUEUE = 2, /**< each message goes to one subscriber in turn, and waits */
};
struct chatd_dest_conf {
	uint32_t struct_size;
	int32_t kind;         /**< CHATD_DEST_* */
	int64_t max_messages; /**< QUEUE: kept per destination while nobody takes them */
	int64_t max_bytes;    /**< QUEUE: likewise, bodies and headers */
};

/** Names a held subscription; safe when stale.  See hold(). */
struct chatd_hold {
	chatd_sid session;
	uint32_t sub;
};
typedef void chatd_hold_fn(void *arg, chatd_worker *, struct chatd_hold);

/** Flags of a message. */
enum {
	CHATD_MSG_EPHEMERAL = 1 << 0, /**< typing and the like: dropped first under pressure */
};

/** What each_session() is to do. */
struct chatd_each {
	uint32_t struct_size;
	struct chatd_str user; /**< .p NULL: everybody */
	void (*fn)(const void *data, chatd_session *);
	/** Copied, once per worker: text in there must be in arrays, not behind pointers. */
	const void *data;
	size_t n;
	/** So long fn runs also for sessions of the user that open only now: a login that was
	 *  checked just before a ban, say, and not counted yet. */
	int64_t linger_ms;
};

/** See session_facts().  Borrowed until the callback at hand returns. */
struct chatd_session_facts {
	uint32_t struct_size; /**< set it: so much is filled */
	uint32_t subscriptions;
	struct chatd_str id;        /**< the `session` header of CONNECTED */
	struct chatd_str transport; /**< the layer's name: "tcp", "websocket", "sockjs-http" */
	uint64_t queued;            /**< bytes that wait for the client */
	uint32_t unacked;           /**< deliveries that wait for its ACK */
};

/** What becomes of a message of a work queue, see chatd_router.settled. */
enum {
	CHATD_SETTLED = 1,       /**< its consumer has acknowledged it, or had it without an ack */
	CHATD_SETTLED_AGAIN = 2, /**< NACKed, or its consumer left: somebody is to have it again */
};

/** What carries messages to other nodes, see router().  All [worker]: the home worker of the
 *  destination, in the order in which the messages take their places there. */
struct chatd_router {
	uint32_t struct_size;
	/** The first subscriber of this node to topic @p dest has come (1), the last has gone (0). */
	void (*interest)(void *self, chatd_worker *, struct chatd_str dest, int32_t on);
	/** publish() was called here, for a topic. */
	void (*publish)(void *self, chatd_worker *, chatd_msg *);
	/** Likewise publish_user(). */
	void (*publish_user)(void *self, chatd_worker *, struct chatd_str user, chatd_msg *);
	/** Optional.  A SUBSCRIBE to topic @p dest, which interest() has told of, is to be answered.
	 *  0: done(arg, rc) runs here, later, once, also when the worker stops: 0, from now on comes
	 *  what other nodes publish there, until interest() tells that nobody wants it; negative: it
	 *  was not to be had in time.  Negative: it is not waited for.  The SUBSCRIBE is answered in
	 *  any case; where it is known to be so nobody asks again. */
	chatd_status (*settle)(void *self, chatd_worker *, struct chatd_str dest,
			void (*done)(void *arg, chatd_status rc), void *arg);
	/* Work queues.  A router that has these three keeps them for all nodes; without them each
	 * node keeps its own. */
	/** To the end of the queue msg_dest(), within the bounds of @p conf (of the prefix; lives as
	 *  long as the server).  Once it is safe there, resume() @p token with CHATD_ACCEPT, or with
	 *  CHATD_REJECT within 4 s; 0: nobody waits. */
	void (*enqueue)(void *self, chatd_worker *, chatd_msg *, const struct chatd_dest_conf *conf,
			chatd_token token);
	/** The first consumer of this node has come to queue @p dest (1): give it messages with
	 *  queue_give(); the last has gone (0). */
	void (*demand)(void *self, chatd_worker *, struct chatd_str dest,
			const struct chatd_dest_conf *conf, int32_t on);
	/** [any worker] What queue_give() brought has become: CHATD_SETTLED...  Once for each, but
	 *  for those that a consumer still has when the server ends. */
	void (*settled)(void *self, chatd_worker *, uint64_t handle, int32_t how);
};

/** What `on_error:` says; see instance(). */
enum {
	CHATD_ON_ERROR_REJECT = 0,
	CHATD_ON_ERROR_CONTINUE = 1, /**< a hook that fails has no objection */
};

/** What the configuration says of an instance besides its own options. */
struct chatd_instance {
	uint32_t struct_size; /**< set it: so much is filled */
	int32_t on_error;     /**< CHATD_ON_ERROR_* */
	/** Under which it stands there: for names of handlers and routes, of which two instances must
	 *  not have the same.  Lives as long as the instance. */
	const char *name;
	int64_t timeout; /**< `timeout:` in ms: how long a call may be suspended */
};

struct chatd_host {
	uint32_t struct_size, abi_minor;

	/* Reports.  [any]  level: CHATD_LOG_*.  fail() logs an error, returns err. */
	void (*log)(chatd_ctx *, int32_t level, const char *fmt, ...) CHATD_PRINTF(3, 4);
	chatd_status (*fail)(chatd_ctx *, chatd_status err, const char *fmt, ...) CHATD_PRINTF(3, 4);
	/** [main] From check(): complain about @p key, at its line.  Returns -EINVAL. */
	chatd_status (*conf_error)(chatd_ctx *, const char *key, const char *fmt, ...)
			CHATD_PRINTF(3, 4);

	void *(*mem_alloc)(size_t); /**< [any] zeroed; NULL: no memory */
	void (*mem_free)(void *);   /**< [any] only for what mem_alloc() gave; NULL is fine */

	/* Registration.  [main], in init() only; tables freeze before traffic. */
	chatd_status (*hook)(chatd_ctx *, uint32_t hook, int32_t order, chatd_hook_fn *fn);
	chatd_status (*provide)(chatd_ctx *, const char *interface, const void *vt, void *obj);
	/** A service named in .needs is there; one in .wants may be NULL.  Also from check(), where it
	 *  says no more than whether the service will be there: .vt is NULL. */
	const struct chatd_service *(*service)(chatd_ctx *, const char *interface);
	/** Room for @p size zeroed bytes in every session; drop() runs at its end. */
	chatd_status (*session_slot)(
			chatd_ctx *, size_t size, void (*drop)(void *slot), uint32_t *ret_slot);
	/** SENDs to /app/@p name, after message_in.  May wait; ACCEPT and NEXT mean done. */
	chatd_status (*app)(chatd_ctx *, const char *name, chatd_hook_fn *fn);
	/** Destinations that begin with @p prefix ("/topic/") exist and behave as said. */
	chatd_status (*prefix)(chatd_ctx *, const char *prefix, const struct chatd_dest_conf *);
	/** [main] An address that was bound, for the ready file: kind "http", "tcp" ... */
	void (*bound)(chatd_ctx *, const char *kind, const char *address);

	/* The server.  [any] */
	const char *(*server_id)(void);
	const char *(*data_dir)(void);
	int32_t (*worker_count)(void);
	chatd_worker *(*worker_at)(int32_t index); /**< 0 .. worker_count() - 1 */
	int32_t (*worker_index)(const chatd_worker *);
	/** The worker state of this instance on @p w.  [worker w] */
	void *(*worker_self)(chatd_ctx *, chatd_worker *w);

	/* The call at hand.  [worker] */
	chatd_worker *(*call_worker)(chatd_call *);
	chatd_session *(*call_session)(chatd_call *);   /**< NULL for REST, and for input_as() */
	const chatd_ident *(*call_ident)(chatd_call *); /**< NULL before identify() */
	chatd_msg *(*call_msg)(chatd_call *);
	chatd_msg *(*call_edit)(chatd_call *);     /**< the message, made private for writing */
	void *(*call_alloc)(chatd_call *, size_t); /**< zeroed; freed when the walk ends */
	/** Sets the error of a refusal and returns CHATD_REJECT.  @p code is a constant such
	 *  as "NOT_MEMBER" (a literal: it is not copied); the text is. */
	chatd_verdict (*reject)(chatd_call *, const char *code, const char *fmt, ...)
			CHATD_PRINTF(3, 4);
	/** Adds a header to the answer: RECEIPT, CONNECTED, or of a refused frame a member of the
	 *  error at /user/queue/errors, as a string ("retryAfterSeconds": a number).  The value is
	 *  copied.  What the server itself says there (code, message, ...) stays as it is. */
	void (*reply)(chatd_call *, const char *header, struct chatd_str value);
	/** session_auth: credential @p cred (CHATD_CRED_*) proves to be @p user.  A second
	 *  call with another user makes the walk end in "conflicting credentials". */
	chatd_verdict (*identify)(chatd_call *, const char *cred, struct chatd_str user,
			struct chatd_str name, uint32_t flags);

	/** [worker] Park this call; return CHATD_WAIT next.  The server copies what
	 *  would not outlive the callback, sets the deadline (`timeout:`), and runs
	 *  cancel(arg) once if the session ends or time is up; the token is then
	 *  stale.  Never both cancel() and a resume() that returns 0.  A client that just
	 *  leaves ends its session only after the answer: nothing is read of it meanwhile. */
	chatd_token (*suspend)(chatd_call *, void (*cancel)(void *arg), void *arg);
	/** [any] Give the verdict; the walk goes on with the NEXT hook, on its own
	 *  worker, never inside this call.  @p code (a literal: it is not copied) and @p why
	 *  (copied) are for CHATD_REJECT and may be NULL.  -ESTALE if too late: harmless. */
	chatd_status (*resume)(chatd_token, chatd_verdict, const char *code, const char *why);
	/** [worker] The parked call, to add reply()s before resume(); NULL when stale. */
	chatd_call *(*call_of)(chatd_worker *, chatd_token);

	/* Waiting without blocking. */
	chatd_watch *(*watch_fd)(chatd_worker *, int fd, uint32_t read1_write2, /* [worker] */
			void (*fn)(void *arg, uint32_t ready), void *arg);
	chatd_watch *(*watch_time)(chatd_worker *, int64_t ms, int32_t repeat, /* [worker] */
			void (*fn)(void *arg), void *arg);
	void (*unwatch)(chatd_watch *); /**< [worker] NULL is fine; fn runs no more */
	/** [worker] (Re)arm; fn runs once, @p ms from now. */
	void (*timer_set)(
			chatd_worker *, struct chatd_timer *, int64_t ms, void (*fn)(void *arg), void *arg);
	void (*timer_clear)(struct chatd_timer *); /**< [worker] also when not set */
	int64_t (*now_ms)(chatd_worker *); /**< monotonic, once per loop turn; the kit moves it */
	int64_t (*wall_ms)(void);          /**< [any] since 1970, UTC */
	/** [any] fn runs on that worker, after what was posted there from this thread before. */
	chatd_status (*post)(chatd_worker *, void (*fn)(void *arg), void *arg);
	/** [worker] work() on the pool, where it may block; done() back here. */
	chatd_status (*offload)(
			chatd_worker *, void (*work)(void *arg), void (*done)(void *arg), void *arg);

	/* Identities.  [any]; borrowed text lives as long as the identity. */
	struct chatd_str (*ident_user)(const chatd_ident *); /**< the user id */
	struct chatd_str (*ident_name)(const chatd_ident *); /**< the display name */
	uint32_t (*ident_flags)(const chatd_ident *);        /**< CHATD_ID_* */
	const chatd_ident *(*ident_ref)(const chatd_ident *);
	void (*ident_unref)(const chatd_ident *); /**< NULL is fine */

	/* Sessions.  [worker] unless said otherwise */
	void *(*slot)(chatd_session *, uint32_t slot);
	const chatd_ident *(*session_ident)(chatd_session *); /**< NULL before login */
	chatd_sid (*session_sid)(chatd_session *);
	chatd_worker *(*session_worker)(chatd_session *);
	chatd_session *(*session_find)(chatd_worker *, chatd_sid); /**< NULL: gone, or elsewhere */
	/** To this session's subscriptions of msg_dest() alone.  -ENOENT: it has none. */
	chatd_status (*session_send)(chatd_session *, chatd_msg *);
	void (*session_close)(chatd_session *, int32_t code, const char *why);
	/** [any] Ends the subscriptions of @p user to @p dest on every worker, also those that were allowed
	 *  just before and are in the making.  Who subscribes anew afterwards is not cut. */
	chatd_status (*cut)(struct chatd_str user, struct chatd_str dest);

	/* Messages.  Everything is opaque.  [any], but only the maker may change one. */
	chatd_msg *(*msg_new)(struct chatd_str dest, struct chatd_str body); /**< NULL: no memory */
	chatd_msg *(*msg_ref)(chatd_msg *);
	void (*msg_unref)(chatd_msg *); /**< NULL is fine */
	struct chatd_str (*msg_dest)(const chatd_msg *);
	struct chatd_str (*msg_body)(const chatd_msg *);
	struct chatd_str (*msg_get)(const chatd_msg *, const char *header); /**< .p NULL: none */
	/** Header number @p i, in order; 0: there is none.  Names are as they came. */
	int32_t (*msg_header)(
			const chatd_msg *, size_t i, struct chatd_str *ret_name, struct chatd_str *ret_value);
	/** Replaces; a value with .p NULL removes the header. */
	chatd_status (*msg_set)(chatd_msg *, const char *header, struct chatd_str value);
	chatd_status (*msg_flags)(chatd_msg *, uint32_t flags); /**< CHATD_MSG_* */
	/** The server's id of the message (UUIDv7 text, 36 bytes), also its message-id. */
	struct chatd_str (*msg_id)(const chatd_msg *);
	/** To every subscriber of msg_dest(), on every worker; the reference stays yours. */
	chatd_status (*publish)(chatd_worker *, chatd_msg *);
	/** msg_dest() is "/user/queue/NAME": to every session of @p user subscribed to it. */
	chatd_status (*publish_user)(chatd_worker *, struct chatd_str user, chatd_msg *);

	/* Buffers.  [any]; the one who makes a buffer may write until it is sent. */
	/** @p room bytes are kept free in front of @p n bytes, for framing. */
	chatd_buf *(*buf_new)(size_t room, size_t n); /**< NULL: no memory */
	chatd_buf *(*buf_ref)(chatd_buf *);
	void (*buf_unref)(chatd_buf *); /**< NULL is fine */
	char *(*buf_data)(chatd_buf *); /**< the first byte */
	size_t (*buf_len)(const chatd_buf *);
	char *(*buf_push)(chatd_buf *, size_t n); /**< grow to the front; NULL: no room left */
	void (*buf_trim)(chatd_buf *, size_t n);  /**< cut to @p n bytes */

	/* Randomness and ids.  [any] */
	void (*random)(void *p, size_t n); /**< from the kernel; for secrets too */
	void (*new_id)(char ret_id[37]);   /**< UUIDv7, increasing within the process */
	/* Append below this line only, with the minor in a comment. */
	/** Like msg_new(), with an id that new_id() gave before: for a body that names it. */
	chatd_msg *(*msg_with_id)(const char id[37], struct chatd_str dest, struct chatd_str body);
	/** [worker] In an /app handler that will answer CHATD_WAIT: whoever has the message now
	 *  keeps its order (a store's queue, say), so the session's next frame may be read
	 *  before this one is answered.  Receipts keep the order of frames all the same. */
	void (*go_on)(chatd_call *);
	/** [worker] In a subscribe hook: what is published to this subscription is kept back
	 *  from its first moment until hold_release(), and older messages may be given to it
	 *  with hold_send().  Once it counts, live(arg) runs; if it never comes to that,
	 *  drop(arg) does.  -EBUSY: another hook holds it already. */
	chatd_status (*hold)(chatd_call *, chatd_hold_fn *live, void (*drop)(void *arg), void *arg);
	/** [worker] -ESTALE from all three: the subscription has ended, which is harmless. */
	chatd_status (*hold_send)(chatd_worker *, struct chatd_hold, chatd_msg *);
	/** A header of the SUBSCRIBE's RECEIPT. */
	chatd_status (*hold_reply)(
			chatd_worker *, struct chatd_hold, const char *header, struct chatd_str value);
	/** What was kept back follows; then it is live, and the SUBSCRIBE is answered.  Messages
	 *  whose `seq` header is at most @p after_seq were delivered: they do not come again, not
	 *  even when they are published only now. */
	chatd_status (*hold_release)(chatd_worker *, struct chatd_hold, uint64_t after_seq);
	/** The same by another header than `seq`: by the number that its value begins with. */
	chatd_status (*hold_release_by)(
			chatd_worker *, struct chatd_hold, const char *header, uint64_t after);
	/** As identify(), with all that is known. */
	chatd_verdict (*identify_as)(chatd_call *, const char *cred, const struct chatd_identity *);
	/* [any]; borrowed text lives as long as the identity. */
	struct chatd_str (*ident_roles)(const chatd_ident *);
	struct chatd_str (*ident_login)(const chatd_ident *);
	struct chatd_str (*ident_client)(const chatd_ident *);
	int64_t (*ident_expires)(const chatd_ident *); /**< wall-clock ms; 0: never */
	/** [any] Runs each->fn on every worker for each session of each->user, later, on the
	 *  session's worker.  fn may close or renew the session. */
	chatd_status (*each_session)(const struct chatd_each *);
	/** [worker] The session goes on as this identity, which must be the same user's (else
	 *  -EPERM).  Where roles or flags have changed, the hooks are asked again about every
	 *  subscription; those that are refused now end, and the client is told by soft errors. */
	chatd_status (*session_renew)(chatd_session *, const struct chatd_identity *);
	/** [main] In init(): this plugin carries messages to other nodes.  -EEXIST: another does. */
	chatd_status (*router)(chatd_ctx *, const struct chatd_router *, void *self);
	/** [worker] Like publish() and publish_user(), to this node's subscribers alone: for what
	 *  came from another node, and for what every node publishes by itself. */
	chatd_status (*publish_here)(chatd_worker *, chatd_msg *);
	chatd_status (*publish_user_here)(chatd_worker *, struct chatd_str user, chatd_msg *);
	/** [worker] 1: this session is subscribed to @p dest, and not `only` to some of what comes
	 *  there (that header of a SUBSCRIBE, and `except`, choose by a message's header `about`). */
	int32_t (*session_hears)(chatd_session *, struct chatd_str dest);
	/** [worker] In a subscribe hook, 1: nothing came in; the subscription is there, and after
	 *  session_renew() is asked about again.  What counts or limits SUBSCRIBEs lets it pass. */
	int32_t (*call_again)(chatd_call *);
	/* Of topics. */
	/** [any] The worker where its order is made: publish() there goes no detour. */
	chatd_worker *(*dest_home)(struct chatd_str dest);
	/** [worker: its home] 1: this node has subscribers. */
	int32_t (*dest_heard)(chatd_worker *, struct chatd_str dest);
	/** [worker: its home] Subscribers of this node have missed something that cannot be given
	 *  to them: they are closed with 4010, and come back and resume. */
	void (*dest_lost)(chatd_worker *, struct chatd_str dest);
	/** [any] This server cannot go on as it is configured: it drains and ends with exit code 78,
	 *  as it does when init() or worker_start() returns -ENOTUNIQ (its node id, say, is another's).
	 *  Say with fail() what is wrong. */
	void (*give_up)(chatd_ctx *);
	/** [any] CHATD_MSG_*, as msg_flags() set them. */
	uint32_t (*msg_flags_of)(const chatd_msg *);
	/** [any] CHATD_SERVES, or how far the end has come. */
	int32_t (*stopping)(void);
	/** [any] Over how many milliseconds drain() is to close what is open, at most. */
	int64_t (*drain_spread)(void);
	/** [worker] What an operator wants to know of a session. */
	void (*session_facts)(chatd_session *, struct chatd_session_facts *ret);
	/** [any] As SIGTERM, and not counted as one: the server drains and exits. */
	void (*stop)(void);
	/** [worker: dest_home() of msg_dest()] A router's: this message of a work queue is for one
	 *  consumer of this node, settled() will name @p handle (below 2^63).  -ENOENT: there is no
	 *  consumer (any more), and -ENOMEM: the message stays the router's. */
	chatd_status (*queue_give)(chatd_worker *, chatd_msg *, uint64_t handle);
	/** [any] Another body, copied, for a message that is yours to change: call_edit() gives one. */
	chatd_status (*msg_body_set)(chatd_msg *, struct chatd_str body);
	/** [worker] In a hook of message_sent: a header that reply() gave to the SEND ("message-id");
	 *  .p NULL: there is none. */
	struct chatd_str (*replied)(chatd_call *, const char *header);
	/** [any] Also from check(). */
	void (*instance)(chatd_ctx *, struct chatd_instance *ret);
};

/** What stopping() tells. */
enum {
	CHATD_SERVES = 0,
	CHATD_WARNS = 1,  /**< who asks is told that it stops; still it serves whoever comes */
	CHATD_DRAINS = 2, /**< nobody new is let in, everybody is asked to leave; see drain() */
};

/* ---- what the plugin gives --------------------------------------------- */

/** Flags of a plugin. */
enum {
	/** It decides who somebody is, or who may what: when it fails, nobody gets through, and
	 *  `on_error: continue` is refused. */
	CHATD_PLUGIN_GUARDS = 1 << 0,
	/** Its init() may wait for another program, within a limit of its own.  Any other plugin that
	 *  has not started after 10 s ends the server. */
	CHATD_PLUGIN_WAITS = 1 << 1,
	/** It can be turned on, off and replaced while the server runs.  What init() registers with the
	 *  host goes and comes with it, its routes, session_slot() and provide() among it; prefix(),
	 *  router() and listen() fail, and one that asks for chatd.net/1, websocket/1 or sockjs/1 is not
	 *  turned off.  What other services' headers do not say goes with it stays: it must not. */
	CHATD_PLUGIN_LIVE = 1 << 2,
	/** It stands in a configuration once: a second instance would register handlers, routes or
	 *  destinations of the same names.  --check then says so. */
	CHATD_PLUGIN_ONCE = 1 << 3,
};

struct chatd_plugin {
	uint32_t struct_size, abi_minor; /**< both set by CHATD_PLUGIN_HEADER */
	uint32_t min_host;               /**< oldest minor it can do with; usually 0 */
	uint32_t flags;                  /**< CHATD_PLUGIN_* */
	const char *name, *version, *summary;
	const char *const *provides;  /**< { "chatd.presence/1", NULL } */
	const char *const *needs;     /**< started after its providers, stopped before them */
	const char *const *wants;     /**< likewise, if there is one */
	const struct chatd_opt *opts; /**< last one has .key == NULL */
	size_t opt_size;              /**< sizeof(struct chatd_opt), set by CHATD_PLUGIN_HEADER */
	size_t conf_size;             /**< the struct that .opts fill */
	size_t worker_size;           /**< zeroed state per worker: wself */

	/** [main] What the table cannot say.  No side effects: --check runs it. */
	chatd_status (*check)(const struct chatd_host *, chatd_ctx *, const void *conf);
	/** [main] Once per configured instance.  @p conf stays valid until fini().
	 *  Afterwards *ret_self is read-only: what changes belongs in wself. */
	chatd_status (*init)(const struct chatd_host *, chatd_ctx *, const void *conf, void **ret_self);
	/** [worker] On every worker, before its first client: connect, listen, set timers. */
	chatd_status (*worker_start)(void *self, chatd_worker *, void *wself);
	/** [main] Other CHATD_O_LIVE options, or, where one may name files, the same: read those again.
	 *  Negative: refused, all is as it was.  If another plugin refuses, it is called with what it
	 *  had.  @p conf is for the call, its texts until fini().  NULL: they need a restart. */
	chatd_status (*reload)(void *self, const void *conf);
	/** [worker] No new clients come (CHATD_DRAINS): finish what is under way, and close what is
	 *  open in batches over drain_spread(), see chatd-sdk/pace.h. */
	void (*drain)(void *self, chatd_worker *, void *wself);
	/** [worker] No hook, handler or timer runs there afterwards; sessions have ended, tokens are
	 *  stale.  What others were asked is answered after it (-ESHUTDOWN): wself stays until fini(). */
	void (*worker_stop)(void *self, chatd_worker *, void *wself);
	void (*fini)(void *self); /**< [main] also after a failed init, if *ret_self was set */
	/** [main] Optional: while the server drains, or this is turned off: 1 as long as something is
	 *  under way that no session waits for and that should end before the workers do, or fini().
	 *  Asked again and again; at the server's end until server.drain_timeout at most. */
	int32_t (*busy)(void *self);
};

#ifndef CHATD_PLUGIN_SYMBOL /* a static build gives each plugin its own */
#define CHATD_PLUGIN_SYMBOL chatd_plugin_v1
#endif
#define CHATD_PLUGIN_HEADER                                                   \
	.struct_size = sizeof(struct chatd_plugin), .abi_minor = CHATD_ABI_MINOR, \
	.opt_size = sizeof(struct chatd_opt)

/** Usage: CHATD_PLUGIN = { CHATD_PLUGIN_HEADER, .name = "typing", .init = typing_init }; */
#define CHATD_PLUGIN                                                   \
	CHATD_EXPORT extern const struct chatd_plugin CHATD_PLUGIN_SYMBOL; \
	const struct chatd_plugin CHATD_PLUGIN_SYMBOL

/* ---- small helpers, no part of the ABI ---------------------------------- */

/** A borrowed string from a literal. */
#define CHATD_LIT(s) (chatd_str_of((s), sizeof(s) - 1))

static inline struct chatd_str chatd_str_of(const char *p, size_t n)
{
	struct chatd_str s;
	s.p = p;
	s.n = n;
	return s;
}

#ifdef __cplusplus
}
#endif
#endif
