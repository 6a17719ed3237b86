/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: the way of a client's SEND, with every hook on it, and answered when it is. */
#include "api.h"

#include <chatd-sdk/name.h>
#include <errno.h>

enum { REASON_MAX = 250 };

int32_t status_of(const char *code)
{
	static const struct {
		const char *code;
		int32_t status;
	} known[] = {
		{ "VALIDATION", 422 },
		{ "NOT_FOUND", 404 },
		{ "TOO_LARGE", 413 },
		{ "DUPLICATE_ID_MISMATCH", 409 },
		{ "SLOW_MODE", 429 },
		{ "RATE_LIMIT_EXCEEDED", 429 },
		{ "STORE_BUSY", 503 },
		{ "STORE_FULL", 503 },
		{ "UNAVAILABLE", 503 },
		{ "TIMEOUT", 503 },
		{ "INTERNAL", 500 },
	};
	for (size_t i = 0; code && i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].code, code) == 0) {
			return known[i].status;
		}
	}
	return 403;
}

/* ---- one message ---------------------------------------------------------------------- */

struct sending {
	struct job *job;
	void (*sent)(struct job *, const struct chatd_outcome *);
};

static void write_sent(struct job *j, struct chatd_json *out, const struct chatd_outcome *o)
{
	const struct chatd_host *h = j->self->h;
	struct chatd_str seq = o->reply ? h->msg_get(o->reply, "seq") : chatd_str_of(NULL, 0);
	if (!o->reply) {
		return;
	}
	chatd_json_member(out, "messageId", h->msg_get(o->reply, "message-id"));
	if (seq.p) {
		chatd_json_key(out, "seq");
		chatd_json_raw(out, seq.p, seq.n);
	}
	chatd_json_member(out, "epoch", h->msg_get(o->reply, "epoch"));
	chatd_json_member(out, "clientId", h->msg_get(o->reply, "clientId"));
}

static void on_sent(void *arg, const struct chatd_outcome *o)
{
	struct sending s = *(struct sending *)arg;
	s.job->self->h->mem_free(arg);
	s.sent(s.job, o);
}

/* 0: sent() runs once, perhaps in here. */
static chatd_status send(struct job *j, struct chatd_str dest, struct chatd_str body,
		void (*sent)(struct job *, const struct chatd_outcome *))
{
	const struct chatd_host *h = j->self->h;
	const struct chatd_sessions *sessions = j->self->sessions->vt;
	struct sending *s = h->mem_alloc(sizeof(*s));
	chatd_msg *m = s ? h->msg_new(dest, body) : NULL;
	if (!m || h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0) {
		h->msg_unref(m);
		h->mem_free(s);
		return -ENOMEM;
	}
	*s = (struct sending){ j, sent };
	sessions->input_as(j->self->sessions->obj, j->w, j->who, m, on_sent, s);
	h->msg_unref(m);
	return 0;
}

static void refused(struct job *j, const struct chatd_outcome *o)
{
	const struct chatd_host *h = j->self->h;
	struct chatd_str retry =
			o->reply ? h->msg_get(o->reply, "retryAfterSeconds") : chatd_str_of(NULL, 0);
	if (retry.p) {
		(void)http_of(j)->header(j->req, "Retry-After", retry);
	}
	struct chatd_str why = chatd_text_cut(o->why.p ? o->why : CHATD_LIT("refused"), REASON_MAX);
	job_problem_fmt(
			j, status_of(o->code), o->code ? o->code : "FORBIDDEN", "%.*s", (int)why.n, why.p);
}

static void published(struct job *j, const struct chatd_outcome *o)
{
	if (!job_back(j)) {
		return;
	}
	if (o->verdict == CHATD_REJECT) {
		refused(j, o);
		return;
	}
	chatd_json_lit(&j->out, "{");
	write_sent(j, &j->out, o);
	if (o->verdict == CHATD_DROP) {
		chatd_json_flag(&j->out, "dropped", 1);
	}
	chatd_json_lit(&j->out, "}");
	job_answer(j, 200);
}

static void dispatch(struct job *j, struct chatd_str dest, const json_t *body)
{
	struct chatd_json out;
	chatd_json_init(&out, NULL, 0);
	chatd_json_value(&out, body);
	j->under_way = 1;
	chatd_status rc = out.failed ? -ENOMEM : send(j, dest, chatd_json_str(&out), published);
	chatd_json_free(&out);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "message");
	}
}

/* ---- publish ------------------------------------------------------------------------------ */

/* What is ours is taken out; the handler sees what a client would have sent. */
static void strip(json_t *root)
{
	static const char *const ours[] = { "as", "senderName", "topic", "action", "data" };
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		(void)json_object_del(root, ours[i]);
	}
}

static void to_topic(struct job *j, struct chatd_str topic)
{
	const json_t *data = json_object_get(j->root, "data");
	/* Handlers (/app/) know of clients that have a session. */
	int fits = (topic.n > 7 && memcmp(topic.p, "/topic/", 7) == 0) ||
			(topic.n > 7 && memcmp(topic.p, "/queue/", 7) == 0);
	if (!fits) {
		job_problem(j, 422, "VALIDATION",
				"topic must begin with /topic/ or /queue/; for rooms and people there are roomId and to");
		return;
	}
	if (!data) {
		job_problem(
				j, 422, "VALIDATION", "data is missing: any JSON, for those who hear the topic");
		return;
	}
	dispatch(j, topic, data);
}

static void to_chat(struct job *j)
{
	const char *bad = NULL;
	struct chatd_str action = job_text(j, "action", &bad);
	char dest[32] = "/app/chat.send";
	if (action.p) {
		static const char *const known[] = { "send", "edit", "delete", "react", "pin" };
		size_t i = 0;
		while (i < 5 && !chatd_str_same(action, text(known[i]))) {
			i++;
		}
		if (i == 5) {
			job_problem(j, 422, "VALIDATION", "action must be send, edit, delete, react or pin");
			return;
		}
		snprintf(dest, sizeof(dest), "/app/chat.%s", known[i]);
	}
	strip(j->root);
	dispatch(j, text(dest), j->root);
}

static void on_room(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)a;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_failed(j, rc, "room");
		return;
	}
	to_chat(j);
}

/* Nobody asks whether the server may speak in a room; that there is one is asked here. */
static void find_room(struct job *j, struct chatd_str room)
{
	const struct chatd_store_room_key r = { .struct_size = sizeof(r), .room = room };
	if (!chatd_id_ok(room)) {
		job_failed(j, -ENOENT, "room");
		return;
	}
	j->under_way = 1;
	chatd_status rc = store_of(j)->room_get(j->self->store->obj, j->w, &r, on_room, j);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "room");
	}
}

static void publish_as(struct job *j)
{
	const char *bad = NULL;
	struct chatd_str topic = job_text(j, "topic", &bad), room = job_text(j, "roomId", &bad);
	if (bad) {
		job_problem(j, 422, "VALIDATION", "topic and roomId must be strings");
	} else if (topic.p) {
		to_topic(j, topic);
	} else if (room.n && !j->key.bot[0]) {
		find_room(j, room);
	} else {
		to_chat(j);
	}
}

/* 0: the answer has been given. */
static int take_name(struct job *j)
{
	const char *bad = NULL;
	struct chatd_str name = job_text(j, "senderName", &bad);
	if (bad || name.n >= NICK_MAX ||
			(name.p && chatd_name_clean(name, j->nick, sizeof(j->nick)) <= 0)) {
		job_problem(j, 422, "VALIDATION",
				"senderName must be a string of 1 to 255 bytes, of which something is seen");
		return 0;
	}
	if (name.p && j->key.bot[0]) {
		job_problem(j, 403, "FORBIDDEN", "a bot goes by the name of its account");
		return 0;
	}
	return 1;
}

void run_publish(struct job *j)
{
	const char *bad = NULL;
	if (!j->root) {
		job_problem(j, 400, "VALIDATION", "a JSON object is expected");
		return;
	}
	struct chatd_str as = job_text(j, "as", &bad);
	if (bad) {
		job_problem(j, 422, "VALIDATION", "as must be a string, the id of a user");
	} else if (take_name(j)) {
		job_as(j, as, publish_as);
	}
}

/* ---- broadcast -------------------------------------------------------------------------------- */

struct spread {
	json_t *list; /* of {"roomId"} and {"to"}, our own */
	size_t at, failed;
	/* Answers may come at once: a loop goes on with the next target then, so that the stack is not
	 * as deep as there are targets. */
	int32_t going, again;
	struct chatd_str client_id;
};

static void spread_free(struct job *j)
{
	struct spread *s = j->state;
	json_decref(s->list);
	j->self->h->mem_free(s);
}

static void spread_go(struct job *j);

static void spread_on(struct job *j, const struct chatd_outcome *o)
{
	struct spread *s = j->state;
	struct chatd_json *out = &j->out;
	chatd_json_next(out);
	chatd_json_value(out, json_array_get(s->list, s->at - 1));
	out->n -= out->failed ? 0 : 1; /* its brace, for what follows */
	chatd_json_int(out, "status", o->verdict == CHATD_REJECT ? status_of(o->code) : 200);
	if (o->verdict == CHATD_REJECT) {
		s->failed++;
		chatd_json_member(out, "code", text(o->code ? o->code : "FORBIDDEN"));
		chatd_json_member(out, "detail", o->why);
	} else {
		write_sent(j, out, o);
	}
	chatd_json_lit(out, "}");
	s->again = 1;
	if (!s->going && job_back(j)) {
		spread_go(j);
	}
}

/* Each target's message has a clientId of its own, so that the whole may be repeated. */
static json_t *message_for(const struct job *j, const json_t *target)
{
	const struct spread *s = j->state;
	json_t *m = json_copy(j->root);
	static const char *const ours[] = { "as", "senderName", "rooms", "users" };
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		(void)json_object_del(m, ours[i]);
	}
	(void)json_object_update(m, (json_t *)(uintptr_t)target);
	if (s->client_id.n) {
		const char *to = json_string_value(json_object_get(target, "to"));
		const char *room = json_string_value(json_object_get(target, "roomId"));
		(void)json_object_set_new(m, "clientId",
				json_sprintf("%.*s:%s", (int)s->client_id.n, s->client_id.p, to ? to : room));
	}
	return m;
}

/* 0: the answer has been given. */
static int spread_send(struct job *j)
{
	const struct spread *s = j->state;
	struct chatd_json body;
	json_t *m = message_for(j, json_array_get(s->list, s->at - 1));
	chatd_json_init(&body, NULL, 0);
	if (m) {
		chatd_json_value(&body, m);
	}
	json_decref(m);
	j->under_way = 1;
	chatd_status rc = !m || body.failed
			? -ENOMEM
			: send(j, CHATD_LIT("/app/chat.send"), chatd_json_str(&body), spread_on);
	chatd_json_free(&body);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "message");
	}
	return rc == 0;
}

static void on_target(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	const struct chatd_outcome no = { .struct_size = sizeof(no),
		.verdict = CHATD_REJECT,
		.code = rc == -ENOENT ? "NOT_FOUND" : "UNAVAILABLE",
		.why = rc == -ENOENT ? CHATD_LIT("there is no such room")
							 : CHATD_LIT("rooms cannot be looked up now; try again") };
	(void)a;
	if (rc < 0) {
		spread_on(j, &no);
	} else if (job_back(j)) {
		(void)spread_send(j);
	}
}

/* 0: the answer has been given.  That there is such a room is asked here, as find_room() does. */
static int spread_next(struct job *j)
{
	struct spread *s = j->state;
	if (s->at == json_array_size(s->list)) {
		chatd_json_lit(&j->out, "]");
		chatd_json_int(&j->out, "failed", (int64_t)s->failed);
		chatd_json_lit(&j->out, "}");
		job_answer(j, 200);
		return 0;
	}
	const json_t *room = json_object_get(json_array_get(s->list, s->at++), "roomId");
	const struct chatd_store_room_key r = { .struct_size = sizeof(r),
		.room = { json_string_value(room), json_string_length(room) } };
	if (!room) {
		return spread_send(j);
	}
	j->under_way = 1;
	chatd_status rc = chatd_id_ok(r.room)
			? store_of(j)->room_get(j->self->store->obj, j->w, &r, on_target, j)
			: -ENOENT;
	if (rc < 0) {
		on_target(j, rc, NULL);
	}
	return 1;
}

static void spread_go(struct job *j)
{
	struct spread *s = j->state;
	do {
		s->going = 1;
		s->again = 0;
		if (!spread_next(j)) {
			return;
		}
		s->going = 0;
	} while (s->again && job_back(j));
}

static const char *gather(json_t *into, const json_t *from, const char *member)
{
	for (size_t i = 0; i < json_array_size(from); i++) {
		const json_t *item = json_array_get(from, i);
		if (!json_is_string(item)) {
			return "rooms and users must be lists of ids";
		}
		json_t *target = json_object();
		(void)json_object_set_new(target, member, json_string(json_string_value(item)));
		(void)json_array_append_new(into, target);
	}
	return from && !json_is_array(from) ? "rooms and users must be lists of ids" : NULL;
}

static void spread_as(struct job *j)
{
	chatd_json_lit(&j->out, "{\"answers\":[");
	spread_go(j);
}

/* To everybody who hears /topic/public: not stored, as what an operator says with chatctl. */
static void announce(struct job *j)
{
	const struct chatd_host *h = j->self->h;
	const char *bad = NULL;
	struct chatd_str content = job_text(j, "content", &bad);
	char id[37];
	struct chatd_json out;
	h->new_id(id);
	chatd_json_init(&out, NULL, 0);
	chatd_json_lit(&out, "{");
	chatd_json_member(&out, "id", text(id));
	chatd_json_member(&out, "type", CHATD_LIT("SYSTEM"));
	chatd_json_member(&out, "sender", text(j->as));
	chatd_json_member(&out, "senderId", text(j->as));
	chatd_json_member(&out, "senderName", h->ident_name(j->who));
	chatd_json_member(&out, "content", content);
	chatd_json_time(&out, "timestamp", h->wall_ms());
	chatd_json_lit(&out, "}");
	j->under_way = 1;
	chatd_status rc =
			out.failed ? -ENOMEM : send(j, CHATD_LIT(PUBLIC), chatd_json_str(&out), published);
	chatd_json_free(&out);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "message");
	}
}

void run_broadcast(struct job *j)
{
	const char *bad = NULL;
	struct spread *s = j->self->h->mem_alloc(sizeof(*s));
	if (!s) {
		job_failed(j, -ENOMEM, "broadcast");
		return;
	}
	j->state = s;
	j->state_free = spread_free;
	s->list = json_array();
	s->client_id = job_text(j, "clientId", &bad);
	struct chatd_str as = job_text(j, "as", &bad), content = job_text(j, "content", &bad);
	const json_t *rooms = json_object_get(j->root, "rooms");
	const json_t *users = json_object_get(j->root, "users");
	const char *fault = gather(s->list, rooms, "roomId");
	fault = fault ? fault : gather(s->list, users, "to");
	size_t asked = json_array_size(rooms) + json_array_size(users);
	if (!fault && json_array_size(s->list) != asked) {
		job_failed(j, -ENOMEM, "broadcast"); /* none of them must not become everybody */
	} else if (fault || bad || !content.n) {
		job_problem(j, 422, "VALIDATION",
				fault         ? fault
						: bad ? "as, content and clientId must be strings"
							  : "content is missing");
	} else if (s->client_id.n > 63) {
		job_problem(j, 422, "VALIDATION",
				"clientId has at most 63 bytes here: each target adds its id");
	} else if (json_array_size(s->list) > TARGETS_MAX) {
		job_problem_fmt(j, 422, "VALIDATION", "%zu targets; at most %d at a time",
				json_array_size(s->list), TARGETS_MAX);
	} else if (take_name(j)) {
		/* An empty list is nobody, not everybody. */
		job_as(j, as, rooms || users ? spread_as : announce);
	}
}
