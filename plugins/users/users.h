/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file users.h
 * @brief What the parts of this plugin share.
 *
 * A request is a struct ask on its worker: who calls is found out, then run() asks the store,
 * perhaps several times, and ends with ask_answer() or ask_problem().  What was committed takes
 * its effect also when the client has left meanwhile.
 */
#ifndef USERS_H
#define USERS_H

#include <chatd-sdk/json.h>
#include <chatd-sdk/name.h>
#include <chatd-sdk/text.h>
#include <chatd-sdk/touched.h>
#include <chatd/audit.h>
#include <chatd/cluster.h>
#include <chatd/http.h>
#include <chatd/plugin.h>
#include <chatd/rooms.h>
#include <chatd/store.h>
#include <chatd/users.h>

#include <stdatomic.h>

enum {
	NICK_MAX = CHATD_NICK_MAX,
	AVATAR_MAX = 1024,
	ROLES_MAX = 512,
	REASON_MAX = 400,
	CODE_CHARS = 32, /* of the first administrator's code: hex digits */
	PEER_MAX = 64,
	REQUEST_ID_MAX = 32,
	LIFTED = 256,
	CLOSE_LOGGED_OUT = 4401,
};

struct conf {
	int32_t first_admin;
	int64_t fresh_login;
	const char *const *reserved_names;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *store, *http;
	const struct chatd_service *rooms, *cluster, *audit; /* NULL: not there */
	struct route *routes;
	struct chatd_touched touched; /* of worker 0 */
	/* Bans lifted so far, by a hash of the user: one that lingers knows that it is over. */
	atomic_uint lifted[LIFTED];
};

/* What a worker knows: wself. */
struct tries { /* wrong codes in a minute */
	int64_t since;
	int32_t n;
};
struct local {
	struct boot *boot; /* on the first worker */
	struct tries tries;
};

struct ask;
typedef void ask_fn(struct ask *);
struct route {
	struct self *self;
	ask_fn *run;
};

struct ask {
	struct self *self;
	chatd_worker *w;
	chatd_req *req; /* NULL: the client has gone */
	ask_fn *run;
	const chatd_ident *who;
	int32_t under_way; /* somebody will call back: gone() must not free */
	char target[CHATD_ID_MAX + 1], peer[PEER_MAX], id[REQUEST_ID_MAX];
	struct chatd_json out;
	/* What the request says, as far as it outlives the body. */
	char roles[ROLES_MAX + 1], reason[REASON_MAX + 1], nick[NICK_MAX + 1];
	int64_t until;
	struct export *export;
	chatd_users_done *done; /* a plugin asks, and no client */
	void *arg;
};

/* power.c: [main] */
chatd_status power_init(struct self *);

/* ask.c */
chatd_status routes_init(struct self *); /* [main] */
void ask_free(struct ask *);
/* End the request, if there still is one, and free the ask. */
void ask_problem(struct ask *, int32_t status, const char *code, const char *why);
void ask_answer(struct ask *, int32_t status); /* with .out, if that holds anything */
/* The store said no: a problem that tells why.  @p a may be NULL. */
void ask_refused(struct ask *, chatd_status rc, const struct chatd_store_answer *);
/* The store was asked: with an error at once its callback will not run. */
void ask_asked(struct ask *, chatd_status rc);
struct chatd_str ask_user(const struct ask *);
uint32_t ask_flags(const struct ask *);
/* The account of @p id goes to @p fn. */
void ask_account(struct ask *, struct chatd_str id, chatd_store_fn *fn);
/* Reads the body; 0: the answer has been given. */
int ask_body(struct ask *, const struct chatd_json_field *, void *into, json_t **ret_root);

static inline const struct chatd_store *store_of(const struct ask *a)
{
	return a->self->store->vt;
}
static inline const struct chatd_http *http_of(const struct ask *a)
{
	return a->self->http->vt;
}
static inline struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* words.c: pure */
int has_word(struct chatd_str words, const char *word);
uint32_t flags_of_roles(struct chatd_str roles); /* CHATD_ID_ADMIN, CHATD_ID_MODERATOR */
/* 0 somebody, 1 a moderator, 2 an administrator */
int rank_of(uint32_t flags);
int is_reserved(const char *const *names, const char *nick);
const char *check_avatar(struct chatd_str s);
/* NULL, and the roles as the store keeps them; else what is wrong. */
const char *check_roles(json_t *list, char ret[ROLES_MAX + 1]);

/* profile.c */
void run_search(struct ask *);
void run_get(struct ask *);
void run_me(struct ask *);
void run_patch(struct ask *);
void write_profile(struct chatd_json *, const struct chatd_account *);
void write_own(struct ask *, const struct chatd_account *);

/* power.c */
void run_roles(struct ask *);
void run_ban(struct ask *);
void run_unban(struct ask *);

/* live.c: what becomes of sessions that are open, on every worker, and who did it */
chatd_status live_init(struct self *); /* [main] */
void live_close(const struct ask *, struct chatd_str user, int32_t code, const char *why);
/* For so long as the ban lasts and the login may still have been under way. */
void live_ban(const struct ask *, struct chatd_str user, int64_t until);
void live_unban(const struct ask *, struct chatd_str user);
void live_roles(const struct ask *, struct chatd_str user, struct chatd_str roles);
void live_name(const struct ask *, struct chatd_str user, struct chatd_str name);
struct audit {
	const char *action;
	struct chatd_str target, roles, reason; /* .p NULL: none */
	int64_t until;                          /* 0: none */
	const char *code;                       /* why it was refused; NULL: it was done */
};
void audit(const struct ask *, const struct audit *);

/* admin.c */
struct boot *boot_create(struct self *, chatd_worker *); /* NULL: no memory */
void boot_destroy(struct boot *);                        /* NULL is fine */
void run_admin(struct ask *);

/* gate.c: session_auth */
chatd_hook_fn gate_auth;

/* leave.c, export.c */
void run_delete(struct ask *);
void run_export(struct ask *);
void export_drained(struct ask *);
void export_free(struct ask *);

#endif
