/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts that a back end makes and ends, and sessions that it closes. */
#include "api.h"

#include <chatd-sdk/events.h>
#include <chatd-sdk/name.h>

#include <errno.h>

enum { REASON_MAX = 120, CLOSE_CODE = 1008, LINGER_MS = 0 };
#define EVENT "api.kick"

const char sender_taken[] = "the server itself speaks under this id; choose another userId";

/* ---- accounts ---------------------------------------------------------------------------- */

static void random_id(const struct chatd_host *h, char ret[CHATD_ID_MAX + 1])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned char raw[10];
	h->random(raw, sizeof(raw));
	memcpy(ret, "user_", 5);
	for (size_t i = 0; i < sizeof(raw); i++) {
		ret[5 + i] = letters[raw[i] & 31];
	}
	ret[5 + sizeof(raw)] = '\0';
}

static void on_made(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_failed(j, rc, a->why == CHATD_STORE_NICK_TAKEN ? "nickname" : "user");
		return;
	}
	audit(j, "user.create", text(j->as));
	chatd_json_lit(&j->out, "{");
	chatd_json_member(&j->out, "userId", text(j->as));
	chatd_json_member(&j->out, "nickname", text(j->nick));
	chatd_json_lit(&j->out, "}");
	job_answer(j, 201);
}

void run_user_make(struct job *j)
{
	const char *bad = NULL;
	struct chatd_str id = job_text(j, "userId", &bad), nick = job_text(j, "nickname", &bad);
	if (bad || (id.p && !chatd_id_ok(id))) {
		job_problem(j, 422, "VALIDATION",
				"userId must be 1 to 64 letters, digits, _ and -, or be left out");
		return;
	}
	if (id.p && chatd_str_same(id, text(j->self->conf->sender))) {
		job_problem(j, 409, "EXISTS", sender_taken);
		return;
	}
	bad = chatd_nick_take(nick, j->nick);
	if (bad) {
		job_problem(j, 422, "VALIDATION", bad);
		return;
	}
	if (id.p) {
		chatd_str_copy(j->as, sizeof(j->as), id);
	} else {
		random_id(j->self->h, j->as);
	}
	const struct chatd_account a = { .struct_size = sizeof(a),
		.id = text(j->as),
		.nickname = text(j->nick),
		.created = j->self->h->wall_ms() };
	j->under_way = 1;
	chatd_status rc = store_of(j)->account_create(j->self->store->obj, j->w, &a, on_made, j);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "user");
	}
}

/* As if the user did it: rooms hear of it, and the sessions end. */
static void delete_as(struct job *j)
{
	char body[CHATD_ID_MAX + 32];
	int n = snprintf(body, sizeof(body), "{\"confirm\":\"%s\"}", j->as);
	j->action = "user.delete";
	forward_to(j, CHATD_LIT("DELETE"), CHATD_LIT("/api/users/me"), chatd_str_of(body, (size_t)n));
}

void run_user_delete(struct job *j)
{
	struct chatd_str id = http_of(j)->req_param(j->req, "id");
	if (j->key.bot[0]) {
		job_problem(j, 403, "FORBIDDEN", "a bot deletes nobody; this takes a key of the server");
		return;
	}
	if (!chatd_id_ok(id) || chatd_str_same(id, text(j->self->conf->sender))) {
		job_failed(j, -ENOENT, "user");
		return;
	}
	j->key.scopes |= SCOPE_AS; /* this call alone: it is what `users` is for */
	job_as(j, id, delete_as);
}

/* ---- sessions ------------------------------------------------------------------------------- */

struct kick {
	const struct chatd_host *h;
	char reason[REASON_MAX + 1];
};

static void on_session(const void *data, chatd_session *s)
{
	const struct kick *k = data;
	k->h->session_close(s, CLOSE_CODE, k->reason);
}

static chatd_status kick(const struct self *self, struct chatd_str user, struct chatd_str reason)
{
	struct kick k = { .h = self->h };
	chatd_str_copy(k.reason, sizeof(k.reason), reason);
	const struct chatd_each each = {
		.struct_size = sizeof(each), .user = user, .fn = on_session, .data = &k, .n = sizeof(k)
	};
	return self->h->each_session(&each);
}

static void on_event(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	struct self *self = arg;
	struct chatd_str user = chatd_event_get(e, "user"), reason;
	(void)w;
	if (!chatd_id_ok(user) || !chatd_event_text(e, "reason", REASON_MAX, &reason) ||
			kick(self, user, reason) < 0) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "node %.*s asks to disconnect nobody known",
				(int)e->from.n, e->from.p);
	}
}

chatd_status people_init(struct self *self)
{
	if (!self->cluster) {
		return 0;
	}
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_cluster_receiver r = {
		.struct_size = sizeof(r), .kind = EVENT, .fn = on_event, .arg = self
	};
	return cluster->receive(self->cluster->obj, &r);
}

static chatd_status tell_others(struct job *j, struct chatd_str user, struct chatd_str reason)
{
	struct chatd_sheet s = { .n = 0 };
	if (!j->self->cluster) {
		return 0;
	}
	const struct chatd_cluster *cluster = j->self->cluster->vt;
	chatd_sheet_put(&s, "user", user);
	chatd_sheet_put(&s, "reason", reason);
	const struct chatd_cluster_event e = chatd_sheet_event(&s, EVENT, user);
	return cluster->send(j->self->cluster->obj, j->w, &e, NULL, NULL);
}

void run_disconnect(struct job *j)
{
	const char *bad = NULL;
	struct chatd_str user = job_text(j, "userId", &bad), reason = job_text(j, "reason", &bad);
	if (bad || !chatd_id_ok(user)) {
		job_problem(j, 422, "VALIDATION", "userId must be the id of a user");
		return;
	}
	if (reason.n > REASON_MAX) {
		job_problem_fmt(j, 422, "VALIDATION", "reason has %zu bytes; at most %d fit into a close",
				reason.n, REASON_MAX);
		return;
	}
	reason = reason.n ? reason : CHATD_LIT("disconnected");
	chatd_status rc = kick(j->self, user, reason), others = tell_others(j, user, reason);
	if (rc < 0 || others < 0) {
		job_failed(j, -EAGAIN, "user");
		return;
	}
	audit(j, "user.disconnect", user);
	job_answer(j, 204);
}
