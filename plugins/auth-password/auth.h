/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file auth.h
 * @brief What the files of auth-password share.
 *
 * A request (or a CONNECT with a password) is an op.  It lives on one worker and goes from
 * step to step: to the store, to the hash pool, to the store again.  Each step is the callback
 * of the one before it.  At most one callback is under way; while it is, .busy is set and the
 * op is freed by it; else by whoever ends the request.
 */
#ifndef AUTH_H
#define AUTH_H

#include "check.h"
#include "guess.h"
#include "hash.h"
#include "pool.h"
#include "successor.h"
#include "throttle.h"

#include <chatd/cluster.h>
#include <chatd/http.h>
#include <chatd/limiter.h>
#include <chatd/mailer.h>
#include <chatd/plugin.h>
#include <chatd/presence.h>
#include <chatd/store.h>
#include <chatd/tokens.h>

#include <chatd-sdk/json.h>
#include <chatd-sdk/touched.h>

enum { VERIFY_OFF, VERIFY_OPTIONAL, VERIFY_REQUIRED };
enum { SHARED_AUTO, SHARED_NEVER };

struct conf {
	int64_t password_min, password_max;
	int32_t hash;
	int64_t argon_memory, argon_passes, bcrypt_cost;
	int64_t hash_threads, hash_queue, hash_wait;
	int64_t refresh_idle, refresh_lifetime, refresh_grace;
	int64_t devices;
	int64_t attempts, delay_max;
	int32_t shared;
	int64_t register_per_hour;
	int32_t verify;
	int64_t verify_ttl, reset_ttl;
	const char *site, *verify_link, *reset_link;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *tokens;
	const struct chatd_service *http, *mailer, *limiter, *cluster; /* NULL: not there */
	const struct chatd_service *redis,
			*presence; /* .redis NULL: every node counts guesses itself */
	uint32_t script;
	struct hash_params params;
	char dummy[HASH_ROOM]; /* verified when there is no account, so that this takes as long */
	struct pool *pool;
	struct throttle *throttle;
	struct successors *successors;
	struct route *routes;
	struct chatd_touched touched; /* of worker 0 */
};

struct wself {
	struct pool_seat seat;
};

/** An account as far as an op needs it, copied from the store's answer. */
struct person {
	int found;
	uint32_t flags, bits;
	int64_t banned_until;
	char id[CHATD_ID_MAX + 1], nick[256], email[EMAIL_MAX + 1];
	char hash[HASH_ROOM], roles[512];
};

/** What the body of a request may hold. */
struct fields {
	struct chatd_str email, password, nickname, device, refresh, code, old_password, new_password;
};

enum { FAULTS_MAX = 4 };
struct fault {
	const char *field, *code;
	char text[160];
};

struct op {
	const struct self *self;
	struct pool_seat *seat;
	chatd_worker *w;
	chatd_req *req;    /* NULL: it is a CONNECT, or the client has left */
	chatd_token token; /* of a CONNECT; 0: a request */
	int busy;          /* a callback will come */
	int alone;         /* goes on although nobody waits for an answer (any more) */
	void (*step)(struct op *);
	void (*verified)(struct op *, int right);

	char peer[64], device[DEVICE_MAX + 1];
	struct person who; /* the account in question */
	/* Who asks, as their credentials say. */
	char user[CHATD_ID_MAX + 1], login[CHATD_ID_MAX + 1];
	uint32_t flags;

	char email[EMAIL_MAX + 1], nick[NICK_MAX + 1];
	int nick_given, tries, upgrade;
	char id[CHATD_ID_MAX + 1]; /* of what is being made */
	struct hash_job job;
	struct guess attempt;
	chatd_status rc;       /* of a step, while the guess that it was is counted */
	char *refresh, *spent; /* refresh tokens, CHATD_TOKEN_MAX each: the new one and the old one */
	char code[CODE_LEN + 1], code_hash[65];
	int32_t secret; /* SECRET_* that is being made */
	const char *subject, *link;
	struct fault faults[FAULTS_MAX];
	size_t n_faults;
};

/* op.c */
struct op *op_create(const struct self *, chatd_worker *);
void op_free(struct op *);
/** A callback has come back.  0: nobody waits any more, and the op is freed. */
int op_back(struct op *);
/** What a service said when it was asked; an error ends the op. */
void op_asked(struct op *, chatd_status rc);
void op_store_failed(struct op *, chatd_status rc);
void op_problem(struct op *, int32_t status, const char *code, const char *detail);
/** With Retry-After. */
void op_retry(struct op *, int32_t status, const char *code, int64_t ms);
/** A problem document that lists op->faults; success: false, as the reference's answers have. */
void op_faults(struct op *, int32_t status, const char *code, const char *detail);
void op_fault(struct op *, const char *field, const char *code, const char *text);
/** Answers with what is in @p j (NULL: no content) and frees it and the op. */
void op_json(struct op *, int32_t status, struct chatd_json *j);
/** {"success":true,"message":...} */
void op_success(struct op *, int32_t status, const char *message);
/** Add to op->faults what is wrong; a good address is in op->email then. */
void op_check_password(struct op *, const char *field, struct chatd_str);
void op_check_email(struct op *, struct chatd_str);
/** The texts in *ret live until json_decref(*ret_root).  0: answered already. */
int op_read(struct op *, struct fields *ret, json_t **ret_root);
/** Who asks; step() goes on when they are known, else the request ends with 401. */
void op_identify(struct op *, void (*step)(struct op *));
void op_take_account(struct op *, const struct chatd_store_answer *);
/** 0: hashing begins; step() goes on with op->job.made. */
void op_hash(struct op *, struct chatd_str password, void (*step)(struct op *));

static inline const struct chatd_store *op_store(const struct op *op)
{
	return op->self->store->vt;
}
static inline void *op_store_obj(const struct op *op)
{
	return op->self->store->obj;
}
static inline const struct chatd_http *op_http(const struct op *op)
{
	return op->self->http->vt;
}
static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}
static inline struct chatd_str text_or_none(const char *s)
{
	return s[0] ? text(s) : chatd_str_of(NULL, 0);
}

/* verify.c: is this op->who's password?  Delays, hashing and re-hashing are its business. */
void verify_password(
		struct op *, struct chatd_str password, void (*verified)(struct op *, int right));
/** 0: a banned account, or one whose address must be confirmed first: the op has ended. */
int verify_may_enter(struct op *);
#define WRONG_LOGIN    "The e-mail address or the password is wrong."
#define VERIFY_LONGEST PASSWORD_BYTES

/* live.c: what becomes of sessions that are open, on every worker */
enum { LOGIN_ROOM = 1 + 12 + 1 + 22 + 1 };
/** A new login id: 128 random bits and, so that a login can be told from those that ended
 *  before it was made, the time.  @p kind: 'l', or 'p' for a session without tokens. */
void live_login_id(const struct self *, char kind, char ret[LOGIN_ROOM]);
/** login .p NULL: every session of the user; but never those of @p keep ("" keeps none). */
struct live_end {
	const char *user, *login, *keep, *why;
};
void live_end(const struct op *, const struct live_end *);
/** The guest's sessions go on as the registered account. */
void live_registered(const struct op *, const struct person *);
chatd_status live_init(struct self *); /* [main] */

/* login.c, session.c, register.c, account.c, codes.c: the routes */
void on_authenticate(struct op *);
void on_refresh(struct op *);
void on_logout(struct op *);
void on_sessions(struct op *);
void on_session_end(struct op *);
void on_sessions_end(struct op *);
void on_register(struct op *);
void on_password(struct op *);
void on_email(struct op *);
void on_verify(struct op *);
void on_resend(struct op *);
void on_reset(struct op *);
void on_reset_confirm(struct op *);

/* tokens.c */
/** Makes a refresh token of op->id for op->who into op->refresh, and its hash. */
chatd_status tokens_refresh(struct op *, char ret_hash[65]);
/** 200 with an access token and op->refresh; ends the op. */
void tokens_answer(struct op *);
void tokens_hash(struct chatd_str token, char ret_hash[65]);

/* codes.c */
enum { SECRET_VERIFY = 101, SECRET_RESET = 102 };
/** Mails a code that proves @p email to be op->who's; the op goes on by itself and ends. */
void codes_send_verify(struct op *, const char *email);
/** A line to the owner, nobody waits for it. */
void codes_notice(struct op *, const char *email, const char *subject, const char *line);

/* connect.c */
chatd_verdict on_connect(chatd_call *, void *self, void *wself);

/** One of the plugin's routes. */
struct route {
	const struct self *self;
	void (*start)(struct op *);
};

#endif
