/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file api.h
 * @brief What the parts of this plugin share.
 *
 * A request becomes a job: who calls is found (auth.c, keys.c), whether the key may is asked
 * (scopes.c), then the route's run() begins, and ends with job_answer() or job_problem().
 */
#ifndef API_H
#define API_H

#include "scopes.h"

#include <chatd-sdk/json.h>
#include <chatd-sdk/open.h>
#include <chatd/accounts.h>
#include <chatd/audit.h>
#include <chatd/cluster.h>
#include <chatd/http.h>
#include <chatd/limiter.h>
#include <chatd/plugin.h>
#include <chatd/store.h>
#include <chatd/transport.h>

#include <sys/queue.h>

#define SERVER_PATH "/api/server/"
#define PUBLIC      "/topic/public"

enum {
	KEY_ID = 16,        /* hex digits */
	KEY_SECRET = 43,    /* base64url of 32 bytes */
	KEY_NAME_MAX = 100, /* bytes, of a key */
	NICK_MAX = 256,     /* bytes, of who speaks */
	CACHE_MAX = 1024,   /* keys that a worker remembers */
	USED_MS = 3600000,  /* how coarse "last used" is */
	CALLS_MAX = 100,
	TARGETS_MAX = 1000,
	LIST_MAX = 1000,
};

struct conf_key {
	const char *id, *name, *secret;
	const char *const *scopes;
	int64_t per_minute;
};

struct conf {
	struct chatd_list keys;
	const char *sender;
	int64_t recheck, per_minute, max_keys;
};

/* What a key is, as it was looked up last. */
struct key {
	char id[KEY_ID * 2 + 1]; /* those of the configuration choose theirs */
	char name[KEY_NAME_MAX + 1];
	char bot[CHATD_ID_MAX + 1]; /* whose key it is; "": the server's own */
	char by[CHATD_ID_MAX + 1];  /* who made it */
	unsigned char hash[32];     /* SHA-256 of the secret */
	uint32_t scopes;
	int64_t created, expires; /* wall-clock ms; expires 0: never */
	int64_t per_minute;
	int32_t fixed; /* of the configuration */
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *http, *sessions;
	const struct chatd_service *accounts, *limiter, *cluster, *audit; /* NULL: not there */
	struct key *fixed;                                                /* conf->keys.n of them */
	uint32_t slot;
	struct route_arg *routes;
	struct chatd_open open; /* calls, logins and keys that wait for an answer */
};

struct cached;
struct seat;
struct worker { /* wself */
	struct self *self;
	chatd_worker *w;
	struct cached *cache; /* uthash, newest last */
	LIST_HEAD(seats, seat) seats;
	struct chatd_timer timer;
	int32_t asking; /* auth.c: keys of open sessions that are being looked up */
	int32_t dead;
};

/* ---- a call ------------------------------------------------------------------------ */

struct job;
struct route {
	uint32_t method;
	const char *path;
	uint32_t scope; /* 0: of no one scope */
	void (*run)(struct job *);
	const char *to; /* forward.c: what stands in the place of /api/server */
};
struct route_arg {
	struct self *self;
	const struct route *route;
};

struct job {
	struct self *self;
	chatd_worker *w;
	const struct route *route;
	chatd_req *req;        /* NULL: the client has gone */
	int32_t under_way;     /* somebody will call back: gone() must not free */
	const chatd_ident *by; /* who calls */
	struct key key;        /* id "": an administrator */
	json_t *root;          /* the body; NULL: none */
	/* who it is done in the name of */
	char as[CHATD_ID_MAX + 1], nick[NICK_MAX + 1];
	uint32_t as_flags;
	const chatd_ident *who;
	void (*next)(struct job *); /* once that is known */
	struct chatd_json out;
	const char *action; /* forward.c: noted for the trail once it is done; NULL: nothing is */
	/* each route's own */
	void *state;
	void (*state_free)(struct job *);
};

/* job.c */
chatd_status routes_init(struct self *); /* [main] */
void job_free(struct job *);
void job_answer(struct job *, int32_t status); /* with .out, if that holds anything */
void job_problem(struct job *, int32_t status, const char *code, const char *why);
void job_problem_fmt(struct job *, int32_t status, const char *code, const char *fmt, ...)
		CHATD_PRINTF(4, 5);
/* What the store, or another service, refused; the answer may be NULL. */
void job_failed(struct job *, chatd_status rc, const char *what);
/* .p NULL: the body has no such text.  *ret_bad is set when it is none, to what was expected. */
struct chatd_str job_text(const struct job *, const char *name, const char **ret_bad);
int job_may(const struct job *, uint32_t scope);
/* The call came from somebody whose key is not this: 1 if the client is still there. */
int job_back(struct job *);
/* Whom the call is done in the name of: query or body `as`, else the key's bot, else the server;
 * then next().  Or the answer is given. */
void job_as(struct job *, struct chatd_str as, void (*next)(struct job *));
/* Done: for the trail, or the log where there is none. */
void audit(const struct job *, const char *action, struct chatd_str target);

static inline const struct chatd_http *http_of(const struct job *j)
{
	return j->self->http->vt;
}
static inline const struct chatd_store *store_of(const struct job *j)
{
	return j->self->store->vt;
}
static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* keys.c: keys as they are kept, and as workers remember them */
struct look; /* a key being looked up */
typedef void keys_fn(void *arg, chatd_status rc, const struct key *);
/* "ck_ID_SECRET" apart; 0: it is none. */
int keys_split(struct chatd_str token, struct chatd_str *ret_id, struct chatd_str *ret_secret);
int keys_fits(const struct key *, struct chatd_str secret);
/* What is remembered and fresh; NULL: nothing. */
const struct key *keys_known(struct worker *, struct chatd_str id);
/* The same for whoever has just been identified by it, and may be busy for a while. */
const struct key *keys_recent(struct worker *, struct chatd_str id);
/* fn runs once, later: 0, -ENOENT or what the store says.  An error at once: it does not. */
chatd_status keys_find(struct worker *, struct chatd_str id, keys_fn *fn, void *arg);
void keys_used(struct worker *, const struct key *);
chatd_status keys_fixed(struct self *); /* [main] */
void keys_stop(struct worker *);
/* Writes and reads the value of a record. */
void keys_write(struct chatd_json *, const struct key *);
int keys_read(struct chatd_str id, struct chatd_str value, struct key *ret);
void keys_make(const struct self *, struct key *, char ret_token[KEY_ID + KEY_SECRET + 8]);

/* auth.c: [main] hooks, [worker] */
chatd_status auth_init(struct self *);
chatd_status auth_start(struct worker *);
void auth_drain(struct worker *);
void auth_stop(struct worker *);

/* manage.c, publish.c, batch.c, forward.c, people.c */
void run_keys_list(struct job *);
void run_keys_make(struct job *);
void run_keys_end(struct job *);
void run_bots_make(struct job *);
void run_bots_list(struct job *);
void run_publish(struct job *);
void run_broadcast(struct job *);
void run_batch(struct job *);
void run_forward(struct job *);
void run_user_make(struct job *);
void run_user_delete(struct job *);
void run_disconnect(struct job *);
chatd_status people_init(struct self *); /* [main] */
/* forward.c: calls another route in the name of j->who, and answers with what it says */
void forward_to(
		struct job *, struct chatd_str method, struct chatd_str path, struct chatd_str body);
/* people.c: what is said of an account of that id */
extern const char sender_taken[];
/* publish.c: the status of HTTP that a refusal of a message has */
int32_t status_of(const char *code);

#endif
