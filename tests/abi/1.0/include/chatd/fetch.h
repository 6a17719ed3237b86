/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/fetch.h
 * @brief HTTP requests to other servers: push services, webhooks, whatever is small.
 *
 * Provided by the plugin "fetch".  Nothing blocks: a request is made by a process of the worker's
 * own.  Redirects are never followed and certificates always checked.
 */
#ifndef CHATD_FETCH_H
#define CHATD_FETCH_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_FETCH "chatd.fetch/1"

enum {
	/** The URL comes from a user, so it may aim at what only this server can reach.  Only https on
	 *  port 443, only hosts of the option `outside_hosts` when that is not empty, only addresses
	 *  that are public: the one that is connected to is looked at, not what the name resolved to
	 *  before.  Of what `outside_allow` names ("host:port"), http too and any address. */
	CHATD_FETCH_OUTSIDE = 1 << 0,
};
enum {
	CHATD_FETCH_URL_MAX = 2048,     /**< bytes */
	CHATD_FETCH_BODY_MAX = 1 << 20, /**< of a request */
	CHATD_FETCH_HEADERS_MAX = 32,   /**< of a request */
	CHATD_FETCH_ANSWER = 4096,      /**< of the answer's body, when nothing else is said */
};

struct chatd_fetch_request {
	uint32_t struct_size;
	uint32_t flags;                     /**< CHATD_FETCH_* */
	struct chatd_str method, url, body; /**< copied; body .p NULL: none */
	const struct chatd_str *headers;    /**< "Name: value" each, copied */
	size_t n_headers;
	int64_t timeout;    /**< ms for the whole; 0: the option `request_timeout` */
	int64_t max_answer; /**< bytes of the answer's body; 0: CHATD_FETCH_ANSWER */
};

/** Borrowed for the callback. */
struct chatd_fetch_answer {
	uint32_t struct_size;
	int32_t status; /**< of HTTP; 0: there was none */
	struct chatd_str body, type;
	int64_t retry_after;  /**< ms, as the answer's Retry-After says; 0: it does not */
	struct chatd_str why; /**< rc < 0: for the log */
};

/** [worker] Once, later, on the worker that asked, never inside fetch().  @p rc: 0 an answer came,
 *  whatever its status; -EACCES the address is not public; -EHOSTUNREACH, -ECONNREFUSED;
 *  -ETIMEDOUT; -ECONNRESET the process that asked has ended, it may be another time; -EPROTO (TLS,
 *  or no HTTP); -EMSGSIZE more came than .max_answer, the status is
 *  known; -ENOMEM; -ESHUTDOWN. */
typedef void chatd_fetch_fn(void *arg, chatd_status rc, const struct chatd_fetch_answer *);

struct chatd_fetch {
	uint32_t struct_size;
	/** [worker] An error at once means: never fn.  -EINVAL: not a request; -EACCES: not a URL
	 *  that may be asked, see check(); -EAGAIN: too many are under way (option `limit`), or
	 *  there is nobody who could ask at the moment; -ENOMEM; -ESHUTDOWN. */
	chatd_status (*fetch)(void *obj, chatd_worker *, const struct chatd_fetch_request *,
			chatd_fetch_fn *fn, void *arg);
	/** [any] May @p url be asked, as far as its text tells: form, scheme, port, host?  Else
	 *  -EINVAL or -EACCES, and why, as a literal.  @p ret_why may be NULL. */
	chatd_status (*check)(
			void *obj, struct chatd_str url, uint32_t flags, struct chatd_str *ret_why);
};

#ifdef __cplusplus
}
#endif
#endif
