/* SPDX-License-Identifier: Apache-2.0 */
/* The other nodes: how they are, and whom they are to kick.  Without chatd.cluster/1 there are
 * none.  What they say is checked like any input. */
#include "admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PATIENCE_MS = 1000, TOLD_MAX = 4096, NODES_MAX = 1000 };

static const char ask_kind[] = "admin.ask", told_kind[] = "admin.told", kick_kind[] = "admin.kick";

static chatd_status send_event(
		const struct self *self, chatd_worker *w, const struct chatd_cluster_event *e)
{
	const struct chatd_cluster *c = self->cluster->vt;
	return c->send(self->cluster->obj, w, e, NULL, NULL);
}

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- asking ------------------------------------------------------------------------- */

void cluster_forget(struct job *job)
{
	if (job->waiting_link) {
		*job->waiting_link = job->next_waiting;
		if (job->next_waiting) {
			job->next_waiting->waiting_link = job->waiting_link;
		}
		job->waiting_link = NULL;
		job->self->h->timer_clear(&job->timer);
	}
}

static void close_list(struct job *job)
{
	chatd_json_lit(&job->out, "]");
	chatd_json_flag(&job->out, "cluster", job->self->cluster != NULL);
	chatd_json_lit(&job->out, "}");
	job_answer(job);
}

static void on_time(void *arg)
{
	struct job *job = arg;
	cluster_forget(job);
	close_list(job);
}

/* The worker's number stands first: that is how an answer finds home. */
static void make_key(struct job *job)
{
	uint64_t number;
	job->self->h->random(&number, sizeof(number));
	snprintf(job->key, sizeof(job->key), "%d-%016llx", (int)job->self->h->worker_index(job->home),
			(unsigned long long)number);
}

void cluster_ask(struct job *job)
{
	const struct self *self = job->self;
	if (!self->cluster) {
		close_list(job);
		return;
	}
	make_key(job);
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_ALL,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = text(ask_kind),
		.key = text(job->key) };
	if (send_event(self, job->home, &e) < 0) {
		close_list(job);
		return;
	}
	struct worker *w = self->h->worker_self(self->ctx, job->home);
	job->next_waiting = w->waiting;
	job->waiting_link = &w->waiting;
	if (job->next_waiting) {
		job->next_waiting->waiting_link = &job->next_waiting;
	}
	w->waiting = job;
	self->h->timer_set(job->home, &job->timer, PATIENCE_MS, on_time, job);
}

/* ---- answering ------------------------------------------------------------------------ */

static void described(struct job *job)
{
	chatd_json_lit(&job->out, "}");
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_NODE,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.node = job->wish.text,
		.kind = text(told_kind),
		.key = text(job->key),
		.body = chatd_json_str(&job->out) };
	if (!job->out.failed) {
		(void)send_event(job->self, job->home, &e);
	}
	job_free(job);
}

static void on_ask(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	const struct self *self = arg;
	if (e->key.n == 0 || e->key.n >= KEY_MAX || !chatd_id_ok(e->from)) {
		return;
	}
	struct job *job = job_new(self, w);
	json_t *from = job ? json_pack("{s:s%}", "node", e->from.p, e->from.n) : NULL;
	if (!from) {
		job_free(job);
		return;
	}
	job->root = from;
	json_t *node = json_object_get(from, "node");
	job->wish.text = chatd_str_of(json_string_value(node), json_string_length(node));
	chatd_str_copy(job->key, sizeof(job->key), e->key);
	chatd_json_lit(&job->out, "{");
	command_describe(job, described);
}

/* ---- what they tell ---------------------------------------------------------------------- */

struct told {
	struct chatd_str node, state, store, broker;
	int64_t pid, uptime, workers, resident, sessions, connections, subscriptions, queued;
};

#define T(name, type, field)                     \
	{                                            \
		name, type, offsetof(struct told, field) \
	}
static const struct chatd_json_field told_fields[] = {
	T("node", CHATD_J_TEXT, node),
	T("state", CHATD_J_TEXT, state),
	T("store", CHATD_J_TEXT, store),
	T("broker", CHATD_J_TEXT, broker),
	T("pid", CHATD_J_INT, pid),
	T("uptimeSeconds", CHATD_J_INT, uptime),
	T("workers", CHATD_J_INT, workers),
	T("residentBytes", CHATD_J_INT, resident),
	T("sessions", CHATD_J_INT, sessions),
	T("connections", CHATD_J_INT, connections),
	T("subscriptions", CHATD_J_INT, subscriptions),
	T("queuedBytes", CHATD_J_INT, queued),
	{ NULL, 0, 0 },
};
#undef T

static void write_told(struct chatd_json *j, const struct told *t)
{
	chatd_json_next(j);
	chatd_json_lit(j, "{");
	for (const struct chatd_json_field *f = told_fields; f->name; f++) {
		const char *at = (const char *)t + f->offset;
		if (f->type == CHATD_J_TEXT) {
			chatd_json_member(j, f->name, *(const struct chatd_str *)(const void *)at);
		} else {
			chatd_json_int(j, f->name, *(const int64_t *)(const void *)at);
		}
	}
	chatd_json_lit(j, "}");
}

static struct job *waiting_for(struct worker *w, struct chatd_str key)
{
	struct job *job = w->waiting;
	while (job && !chatd_str_same(text(job->key), key)) {
		job = job->next_waiting;
	}
	return job;
}

static void on_told(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	const struct self *self = arg;
	struct job *job = waiting_for(self->h->worker_self(self->ctx, w), e->key);
	struct told t = { .node = CHATD_LIT("") };
	char why[CHATD_JSON_WHY];
	json_t *root;
	if (!job || job->n >= NODES_MAX || e->body.n > TOLD_MAX ||
			chatd_json_read(e->body, told_fields, &t, &root, why) < 0) {
		return;
	}
	if (chatd_str_same(t.node, e->from)) { /* nobody speaks for another */
		job->n++;
		write_told(&job->out, &t);
	}
	json_decref(root);
}

static chatd_worker *told_home(void *arg, const struct chatd_cluster_event *e)
{
	const struct self *self = arg;
	int32_t i = 0;
	for (size_t k = 0; k < e->key.n && k < 3 && e->key.p[k] >= '0' && e->key.p[k] <= '9'; k++) {
		i = i * 10 + (e->key.p[k] - '0');
	}
	return self->h->worker_at(i < self->h->worker_count() ? i : 0);
}

/* ---- kicks ------------------------------------------------------------------------------- */

int cluster_kick(const struct job *job)
{
	if (!job->self->cluster) {
		return 0;
	}
	struct chatd_json j;
	chatd_json_init(&j, NULL, 0);
	chatd_json_lit(&j, "{");
	if (job->wish.user.p) {
		chatd_json_member(&j, "user", job->wish.user);
	} else {
		chatd_json_member(&j, "session", job->wish.session);
	}
	chatd_json_member(&j, "reason", job->wish.reason.p ? job->wish.reason : CHATD_LIT(""));
	chatd_json_lit(&j, "}");
	struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_ALL,
		.kind = text(kick_kind),
		.body = chatd_json_str(&j) };
	int told = !j.failed && send_event(job->self, job->home, &e) == 0;
	chatd_json_free(&j);
	return told;
}

static void on_kick(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	static const struct chatd_json_field fields[] = {
		{ "user", CHATD_J_TEXT, offsetof(struct wish, user) },
		{ "session", CHATD_J_TEXT, offsetof(struct wish, session) },
		{ "reason", CHATD_J_TEXT, offsetof(struct wish, reason) },
		{ NULL, 0, 0 },
	};
	char why[CHATD_JSON_WHY];
	struct job *job = job_new(arg, w);
	if (!job || chatd_json_read(e->body, fields, &job->wish, &job->root, why) < 0 ||
			!job->wish.user.p == !job->wish.session.p || job->wish.reason.n > REASON_MAX) {
		job_free(job);
		return;
	}
	command_kick(job, job_free);
}

chatd_status cluster_init(struct self *self)
{
	struct chatd_cluster_receiver all[] = {
		{ .struct_size = sizeof(all[0]), .kind = ask_kind, .fn = on_ask, .arg = self },
		{ .struct_size = sizeof(all[0]),
				.kind = told_kind,
				.fn = on_told,
				.home = told_home,
				.arg = self },
		{ .struct_size = sizeof(all[0]), .kind = kick_kind, .fn = on_kick, .arg = self },
	};
	const struct chatd_cluster *c = self->cluster ? self->cluster->vt : NULL;
	chatd_status rc = 0;
	for (size_t i = 0; c && i < sizeof(all) / sizeof(all[0]) && rc == 0; i++) {
		rc = c->receive(self->cluster->obj, &all[i]);
	}
	return rc;
}
