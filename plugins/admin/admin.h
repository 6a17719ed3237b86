/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file admin.h
 * @brief What the parts of the plugin share: the instance, the roster of sessions, a command.
 *
 * A command lives on the worker that its line came to (home).  Where it needs all workers it
 * travels: one after the other has it, none two at once, and it comes home in the end.
 */
#ifndef ADMIN_H
#define ADMIN_H

#include <chatd-sdk/json.h>
#include <chatd/audit.h>
#include <chatd/cluster.h>
#include <chatd/plugin.h>
#include <chatd/stats.h>
#include <chatd/store.h>
#include <chatd/stream.h>

enum { PEER_MAX = 46, REASON_MAX = 120, KEY_MAX = 48 };

struct conf {
	const char *socket;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	const struct chatd_service *stats, *plugins;
	const struct chatd_service *store, *cluster, *audit; /* NULL if there is none */
	char *address;                                       /* "unix:PATH" */
	uint32_t slot, uid;
	int64_t started; /* wall ms */
};

/** In each session. */
struct entry {
	struct entry *next, **link; /* link NULL: not in the roster */
	chatd_session *session;
	int64_t since; /* wall ms */
	char peer[PEER_MAX];
};

struct job;

struct worker {
	struct entry *roster;
	struct client *clients;
	struct job *waiting; /* for other nodes' answers */
	int32_t n_clients;
};

/** What a line asks for. */
struct wish {
	struct chatd_str cmd, user, session, reason, text, path;
	struct chatd_str what, name, key, value; /* of plugin */
	int64_t limit;
};

struct job {
	const struct self *self;
	chatd_worker *home;
	struct client *client; /* NULL: nobody waits any more, or it came from another node */
	json_t *root;          /* what .wish borrows from */
	struct wish wish;
	struct chatd_json out;
	void (*visit)(struct job *, chatd_worker *); /* of a journey: on each worker */
	void (*done)(struct job *);                  /* and then at home */
	int32_t next;
	int away; /* on its journey: it is not home's to free */
	int64_t n, total;
	/* nodes */
	struct job *next_waiting, **waiting_link;
	struct chatd_timer timer;
	char key[KEY_MAX];
};

/* ---- admin.c ------------------------------------------------------------------ */

/** A command without a client. */
struct job *job_new(const struct self *, chatd_worker *home);
void job_free(struct job *);
/** .out is the answer; the job is over. */
void job_answer(struct job *);
void job_refuse(struct job *, const char *code, const char *fmt, ...) CHATD_PRINTF(3, 4);
/** Run @p visit on each worker, then @p done at home.  On an error the job is over. */
void job_travel(
		struct job *, void (*visit)(struct job *, chatd_worker *), void (*done)(struct job *));

/* ---- commands.c ----------------------------------------------------------------- */

/** The job has a line: its .root is a JSON object and .wish is filled. */
void command_run(struct job *);
/** The members that describe this node, behind what is in .out already; then @p done. */
void command_describe(struct job *, void (*done)(struct job *));
/** Ends the sessions that .wish names, on this node. */
void command_kick(struct job *, void (*done)(struct job *));

/** Into the audit, as done by the operator. */
void command_note(
		const struct job *, const char *action, struct chatd_str target, struct chatd_str detail);

/* ---- plugins.c ------------------------------------------------------------------ */

void plugins_run(struct job *);
void plugins_reload(struct job *);
/** The member pluginsLeftOut, if there are any. */
void plugins_left_out(struct job *);

/* ---- roster.c --------------------------------------------------------------------- */

chatd_status roster_init(struct self *);
void roster_list(struct job *, chatd_worker *);
void roster_kick(struct job *, chatd_worker *);

/* ---- cluster.c --------------------------------------------------------------------- */

chatd_status cluster_init(struct self *);
/** Ask the other nodes how they are; .out is an open list with this node in it. */
void cluster_ask(struct job *);
/** Tell them whom to kick.  1: it is on its way. */
int cluster_kick(const struct job *);
/** The client is gone, or the worker ends. */
void cluster_forget(struct job *);

#endif
