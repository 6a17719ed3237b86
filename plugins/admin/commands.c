/* SPDX-License-Identifier: Apache-2.0 */
/* What can be asked for. */
#include "admin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 4000 };

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void begin(struct job *job)
{
	chatd_json_lit(&job->out, "{\"ok\":true");
}

/* Whoever may use the socket is the operator: no account is asked for. */
void command_note(
		const struct job *job, const char *action, struct chatd_str target, struct chatd_str detail)
{
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = text(action),
		.actor = CHATD_LIT("operator"),
		.target = target,
		.detail = detail,
		.address = CHATD_LIT("admin socket") };
	chatd_audit_note(job->self->audit, job->home, &e);
}

static void end(struct job *job)
{
	chatd_json_lit(&job->out, "}");
	job_answer(job);
}

/* ---- status, nodes ---------------------------------------------------------------- */

static const char *state_of(const struct self *self)
{
	switch (self->h->stopping()) {
	case CHATD_SERVES:
		return "UP";
	case CHATD_WARNS:
		return "STOPPING";
	default:
		return "DRAINING";
	}
}

static const char *store_of(const struct self *self)
{
	static const char *const names[] = { "OK", "FULL", "FAILED", "STALLED" };
	const struct chatd_store *store = self->store ? self->store->vt : NULL;
	int32_t state = store ? store->state(self->store->obj) : 0;
	return !store ? "NONE" : state >= 0 && state < 4 ? names[state] : "FAILED";
}

static const char *broker_of(const struct self *self)
{
	const struct chatd_cluster *c = self->cluster ? self->cluster->vt : NULL;
	return !c ? "NONE" : c->is_up(self->cluster->obj) ? "UP" : "DOWN";
}

static int64_t resident_bytes(void)
{
	long skipped = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	int n = f ? fscanf(f, "%ld %ld", &skipped, &pages) : 0;
	if (f) {
		fclose(f);
	}
	return n == 2 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

static void on_stats(void *arg, const struct chatd_stat *stats, size_t n)
{
	static const struct {
		const char *stat, *member;
	} shown[] = { { "chatd_sessions", "sessions" }, { "chatd_connections", "connections" },
		{ "chatd_subscriptions", "subscriptions" }, { "chatd_queued_bytes", "queuedBytes" } };
	struct job *job = arg;
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		int64_t sum = 0;
		for (size_t k = 0; k < n; k++) {
			sum += strcmp(stats[k].name, shown[i].stat) == 0 ? stats[k].value : 0;
		}
		chatd_json_int(&job->out, shown[i].member, sum);
	}
	job->done(job);
}

void command_describe(struct job *job, void (*done)(struct job *))
{
	const struct self *self = job->self;
	struct chatd_json *j = &job->out;
	chatd_json_member(j, "node", text(self->h->server_id()));
	chatd_json_member(j, "state", text(state_of(self)));
	chatd_json_member(j, "store", text(store_of(self)));
	chatd_json_member(j, "broker", text(broker_of(self)));
	chatd_json_int(j, "pid", getpid());
	chatd_json_int(j, "uptimeSeconds", (self->h->wall_ms() - self->started) / 1000);
	chatd_json_int(j, "workers", self->h->worker_count());
	chatd_json_int(j, "residentBytes", resident_bytes());
	job->done = done;
	const struct chatd_stats *stats = self->stats->vt;
	if (stats->collect(self->stats->obj, job->home, on_stats, job) < 0) {
		job_refuse(job, "UNAVAILABLE", "the server has no memory left");
	}
}

static void status_described(struct job *job)
{
	plugins_left_out(job);
	end(job);
}

static void run_status(struct job *job)
{
	begin(job);
	command_describe(job, status_described);
}

static void nodes_described(struct job *job)
{
	chatd_json_lit(&job->out, "}");
	cluster_ask(job);
}

static void run_nodes(struct job *job)
{
	begin(job);
	chatd_json_lit(&job->out, ",\"nodes\":[{");
	command_describe(job, nodes_described);
}

/* ---- sessions, kick ------------------------------------------------------------------ */

static void sessions_listed(struct job *job)
{
	chatd_json_lit(&job->out, "]");
	chatd_json_int(&job->out, "total", job->total);
	end(job);
}

static void run_sessions(struct job *job)
{
	begin(job);
	chatd_json_lit(&job->out, ",\"sessions\":[");
	job_travel(job, roster_list, sessions_listed);
}

void command_kick(struct job *job, void (*done)(struct job *))
{
	job_travel(job, roster_kick, done);
}

static void kicked(struct job *job)
{
	int told = cluster_kick(job);
	if (job->n == 0 && !told) {
		job_refuse(job, "NOT_FOUND", "no session fits; see \"chatctl sessions\"");
		return;
	}
	job->self->h->log(job->self->ctx, CHATD_LOG_INFO, "kick %.*s: %lld sessions closed here",
			(int)(job->wish.user.p ? job->wish.user.n : job->wish.session.n),
			job->wish.user.p ? job->wish.user.p : job->wish.session.p, (long long)job->n);
	command_note(job, "session.kick", job->wish.user.p ? job->wish.user : job->wish.session,
			job->wish.reason);
	begin(job);
	chatd_json_int(&job->out, "closed", job->n);
	chatd_json_flag(&job->out, "othersTold", told);
	end(job);
}

static void run_kick(struct job *job)
{
	if (!job->wish.user.p == !job->wish.session.p) {
		job_refuse(job, "VALIDATION", "kick needs a user or a session, and not both");
	} else if (job->wish.reason.n > REASON_MAX) {
		job_refuse(job, "VALIDATION", "the reason has %zu bytes, %d are allowed",
				job->wish.reason.n, REASON_MAX);
	} else {
		command_kick(job, kicked);
	}
}

/* ---- broadcast, drain, backup ----------------------------------------------------------- */

static chatd_msg *announcement(const struct job *job)
{
	const struct chatd_host *h = job->self->h;
	char room[512], id[37];
	struct chatd_json j;
	h->new_id(id);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "id", text(id));
	chatd_json_member(&j, "type", CHATD_LIT("SYSTEM"));
	chatd_json_member(&j, "sender", CHATD_LIT("SYSTEM"));
	chatd_json_member(&j, "senderId", CHATD_LIT("SYSTEM"));
	chatd_json_member(&j, "senderName", CHATD_LIT("SYSTEM"));
	chatd_json_member(&j, "content", job->wish.text);
	chatd_json_time(&j, "timestamp", h->wall_ms());
	chatd_json_lit(&j, "}");
	chatd_msg *m =
			j.failed ? NULL : h->msg_with_id(id, CHATD_LIT("/topic/public"), chatd_json_str(&j));
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0) {
		h->msg_unref(m);
		m = NULL;
	}
	chatd_json_free(&j);
	return m;
}

static void run_broadcast(struct job *job)
{
	const struct chatd_host *h = job->self->h;
	if (job->wish.text.n == 0 || job->wish.text.n > TEXT_MAX) {
		job_refuse(job, "VALIDATION", "the text has %zu bytes; write 1 to %d", job->wish.text.n,
				TEXT_MAX);
		return;
	}
	chatd_msg *m = announcement(job);
	chatd_status rc = m ? h->publish(job->home, m) : -ENOMEM;
	if (rc < 0) {
		h->msg_unref(m);
		job_refuse(job, "UNAVAILABLE", "it could not be published: %s", strerror(-rc));
		return;
	}
	command_note(job, "server.broadcast", h->msg_id(m), job->wish.text);
	begin(job);
	chatd_json_member(&job->out, "id", h->msg_id(m));
	h->msg_unref(m);
	end(job);
}

static void run_drain(struct job *job)
{
	const struct self *self = job->self;
	self->h->log(self->ctx, CHATD_LOG_INFO, "told to drain and stop");
	command_note(job, "server.drain", text(self->h->server_id()), chatd_str_of(NULL, 0));
	begin(job);
	chatd_json_member(&job->out, "node", text(self->h->server_id()));
	chatd_json_int(&job->out, "pid", getpid());
	end(job);
	self->h->stop();
}

static void on_backup(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *job = arg;
	if (rc < 0) {
		job_refuse(job, rc == -EEXIST ? "EXISTS" : "UNAVAILABLE", "no backup was made: %s",
				rc == -EEXIST ? "there is such a file already; name another one"
						: rc == -ENOSYS
						? "this store has no backup of its own; use its server's tools"
						: strerror(-rc));
		return;
	}
	command_note(job, "server.backup", chatd_str_of(NULL, 0), job->wish.path);
	begin(job);
	chatd_json_member(&job->out, "path", job->wish.path);
	chatd_json_int(&job->out, "bytes", (int64_t)a->n);
	end(job);
}

static void run_backup(struct job *job)
{
	const struct self *self = job->self;
	if (!self->store) {
		job_refuse(job, "NOT_FOUND", "no plugin of this server is a store");
		return;
	}
	if (job->wish.path.n < 2 || job->wish.path.p[0] != '/') {
		job_refuse(job, "VALIDATION",
				"backup needs the absolute path of a file that is not there yet");
		return;
	}
	const struct chatd_store *store = self->store->vt;
	const struct chatd_store_backup b = { .struct_size = sizeof(b), .path = job->wish.path };
	chatd_status rc = store->backup(self->store->obj, job->home, &b, on_backup, job);
	if (rc < 0) {
		on_backup(job, rc, NULL);
	}
}

/* ---- which ---------------------------------------------------------------------------- */

void command_run(struct job *job)
{
	static const struct {
		const char *name;
		void (*run)(struct job *);
	} all[] = {
		{ "status", run_status },
		{ "nodes", run_nodes },
		{ "sessions", run_sessions },
		{ "kick", run_kick },
		{ "broadcast", run_broadcast },
		{ "drain", run_drain },
		{ "backup", run_backup },
		{ "plugin", plugins_run },
		{ "reload", plugins_reload },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (chatd_str_same(job->wish.cmd, text(all[i].name))) {
			all[i].run(job);
			return;
		}
	}
	job_refuse(job, "NOT_FOUND",
			"there is no such command; there are status, nodes, sessions, kick, broadcast, drain, backup, "
			"reload and plugin");
}
