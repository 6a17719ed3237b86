/* SPDX-License-Identifier: Apache-2.0 */
/* One user is told of one conversation: still absent, still a member, still unread?  Then what was
 * said last goes to each of the user's subscriptions. */
#include "push.h"

#include <chatd-sdk/text.h>

#include <sodium.h>

enum { PRESENCE_TRIES = 5, AGAIN_MAX_MS = 3600000, TOLD_MS = 60000, LOOK_BACK = 20 };

struct job {
	TAILQ_ENTRY(job) link;
	struct wself *ws;
	struct jobs *jobs;
	int32_t out, dead; /* out: calls that will be answered */
	int64_t version, tries;
	int64_t told; /* the seq of what was told last, lately */
	json_t *only; /* ids that are tried again; NULL: all */
	json_t *book, *again, *gone;
	struct place place;
	int64_t unread, seq, after; /* after: ms that somebody wants us to wait */
	int32_t encrypted, called;
	int32_t rows; /* how many of the newest messages were asked for */
	char user[CHATD_ID_MAX + 1], key[JOB_KEY], topic[32];
	char name[400]; /* of the room */
	struct chatd_json plain;
};

/* A push under way; the book may change meanwhile. */
struct sending {
	struct job *job;
	char id[SUB_ID + 1];
};

/* ---- life ------------------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
	struct wself *ws = j->ws;
	json_decref(j->only);
	json_decref(j->book);
	json_decref(j->again);
	json_decref(j->gone);
	chatd_json_free(&j->plain);
	if (!j->dead) {
		TAILQ_REMOVE(j->jobs, j, link);
		queue_freed(ws);
	}
	chatd_open_free(ws->self->h, &ws->self->open, j);
}

/* 0: the worker has ended, and with the last answer the job does. */
static int answered(struct job *j)
{
	j->out--;
	if (j->dead) {
		if (!j->out) {
			job_free(j);
		}
		return 0;
	}
	return 1;
}

/* What could not be asked is claimed again later, by whoever comes first. */
static void asked(struct job *j, chatd_status rc)
{
	if (rc < 0) {
		job_free(j);
	} else {
		j->out++;
	}
}

void jobs_stop(struct jobs *jobs)
{
	struct job *j;
	while ((j = TAILQ_FIRST(jobs))) {
		TAILQ_REMOVE(jobs, j, link);
		j->dead = 1;
		if (!j->out) {
			job_free(j);
		}
	}
}

/* ---- the end ------------------------------------------------------------------------------------ */

static struct chatd_store_record record_of(const struct job *j, struct chatd_str value)
{
	return (struct chatd_store_record){ .struct_size = sizeof(struct chatd_store_record),
		.how = CHATD_STORE_RECORD_VERSION,
		.space = text(SPACE_JOB),
		.key = text(j->key),
		.value = value,
		.owner = text(j->user),
		.version = j->version,
		.wall = j->ws->self->h->wall_ms() };
}

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *a);

static struct chatd_str told_value(const struct job *j, char room[64])
{
	snprintf(room, 64, "{\"told\":%lld}", (long long)j->told);
	return text(room);
}

static void put(struct job *j, const struct chatd_store_record *r, chatd_store_fn *fn)
{
	struct self *self = j->ws->self;
	asked(j, store_of(self)->record_put(self->store->obj, j->ws->w, r, fn, j));
}

static void on_over(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)rc;
	(void)a;
	if (answered(j)) {
		job_free(j);
	}
}

static void on_newer(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!answered(j)) {
		return;
	}
	if (rc < 0) {
		job_free(j);
		return;
	}
	j->version = a->records[0].version;
	char value[64];
	struct chatd_store_record r = record_of(j, told_value(j, value));
	r.at = r.wall + j->ws->self->conf->grace + 1;
	put(j, &r, on_over);
}

/* More was said while this was told: that is told too. */
static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct self *self = j->ws->self;
	(void)a;
	if (!answered(j)) {
		return;
	}
	if (rc != -ESTALE) {
		job_free(j);
		return;
	}
	const struct chatd_store_record_key k = key_of_record(self, SPACE_JOB, j->key);
	asked(j, store_of(self)->record_get(self->store->obj, j->ws->w, &k, on_newer, j));
}

/* It is over, unless it has changed.  What was told is remembered for a while, since presence may
 * bring it up once more. */
static void done(struct job *j)
{
	char value[64];
	struct chatd_store_record r = record_of(j, told_value(j, value));
	r.expires = j->told ? r.wall + j->ws->self->conf->recent + TOLD_MS : 1;
	put(j, &r, on_put);
}

/* It is due again at that time; a try more, or not, and to whom. */
static void later(struct job *j, int64_t at, int64_t tries, json_t *only)
{
	struct wself *ws = j->ws; /* the job may end in put() */
	json_t *v = json_pack("{s:I, s:I}", "tries", (json_int_t)tries, "told", (json_int_t)j->told);
	if (v && only) {
		(void)json_object_set(v, "only", only);
	}
	char *value = v ? json_dumps(v, JSON_COMPACT) : NULL;
	struct chatd_store_record r = record_of(j, text(value ? value : "{}"));
	r.at = at;
	put(j, &r, on_put);
	queue_due(ws, at);
	free(value);
	json_decref(v);
}

static void drop(struct job *j, enum result why)
{
	count(j->ws, why);
	done(j);
}

/* ---- sending ------------------------------------------------------------------------------------- */

static void send_all(struct job *j);
static void on_book_again(void *arg, chatd_status rc, const struct chatd_store_answer *a);

static int64_t pause_of(const struct job *j)
{
	int64_t ms = j->ws->self->conf->retry;
	for (int64_t i = 0; i < j->tries && ms < AGAIN_MAX_MS; i++) {
		ms *= 4;
	}
	ms = j->after > ms ? j->after : ms;
	return ms < AGAIN_MAX_MS ? ms : AGAIN_MAX_MS;
}

static void all_sent(struct job *j)
{
	const struct conf *conf = j->ws->self->conf;
	size_t n = json_array_size(j->again);
	if (!n || j->tries + 1 >= conf->tries) {
		j->told = j->seq;
	}
	if (!n) {
		done(j);
	} else if (j->tries + 1 >= conf->tries) {
		drop(j, GIVEN_UP);
	} else {
		count(j->ws, RETRIED);
		later(j, j->ws->self->h->wall_ms() + pause_of(j), j->tries + 1, j->again);
	}
}

static void on_dropped(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct self *self = j->ws->self;
	const json_t *id;
	size_t i;
	(void)a;
	if (!answered(j)) {
		return;
	}
	if (rc == -ESTALE) {
		const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, j->user);
		asked(j, store_of(self)->record_get(self->store->obj, j->ws->w, &k, on_book_again, j));
		return;
	}
	json_array_foreach (j->gone, i, id) {
		if (rc == 0) {
			sub_release(self, j->ws->w, j->user, json_string_value(id));
		}
	}
	all_sent(j);
}

/* The subscriptions that are no more go from the book as it is now. */
static void on_book_again(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	json_t *id;
	size_t i;
	if (!answered(j)) {
		return;
	}
	json_t *book = rc == 0 ? book_read(a->records[0].value) : NULL;
	json_array_foreach (j->gone, i, id) {
		(void)book_drop(book, json_string_value(id));
	}
	char *value = book ? book_write(book) : NULL;
	json_decref(book);
	if (!value) {
		all_sent(j);
		return;
	}
	struct chatd_store_record r = record_of(j, text(value));
	r.space = text(SPACE_USER);
	r.key = text(j->user);
	r.version = a->records[0].version;
	put(j, &r, on_dropped);
	free(value);
}

static void sent_one(struct job *j)
{
	struct self *self = j->ws->self;
	if (j->out) {
		return;
	}
	if (json_array_size(j->gone)) {
		const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, j->user);
		asked(j, store_of(self)->record_get(self->store->obj, j->ws->w, &k, on_book_again, j));
	} else {
		all_sent(j);
	}
}

static enum result result_of(chatd_status rc, int32_t status)
{
	if (rc == -EACCES || rc == -EINVAL) {
		return REFUSED; /* the guard, or the address, says so, and will again */
	}
	if (status >= 200 && status < 300) {
		return DELIVERED; /* however much was said besides */
	}
	if (status == 404 || status == 410) {
		return GONE;
	}
	return rc < 0 || status == 408 || status == 429 || status >= 500 ? RETRIED : REFUSED;
}

static void judge(
		struct job *j, const char *id, chatd_status rc, const struct chatd_fetch_answer *a)
{
	int32_t status = a ? a->status : 0;
	enum result r = result_of(rc, status);
	if (r == RETRIED) {
		(void)json_array_append_new(j->again, json_string(id));
		if (a && a->retry_after > j->after) {
			j->after = a->retry_after;
		}
	} else {
		count(j->ws, r);
	}
	if (r == GONE) {
		(void)json_array_append_new(j->gone, json_string(id));
	} else if (r == REFUSED) {
		j->ws->self->h->log(j->ws->self->ctx, CHATD_LOG_WARN,
				"a push was refused for good: status %d%s%.*s", (int)status,
				a && a->why.n ? ", " : "", a ? (int)a->why.n : 0, a && a->why.n ? a->why.p : "");
	}
}

static void on_sent(void *arg, chatd_status rc, const struct chatd_fetch_answer *a)
{
	struct sending *s = arg;
	struct job *j = s->job;
	char id[SUB_ID + 1];
	memcpy(id, s->id, sizeof(id));
	j->ws->self->h->mem_free(s);
	if (answered(j)) {
		judge(j, id, rc, a);
		sent_one(j);
	}
}

static void send_to(struct job *j, const json_t *sub)
{
	struct sending *s = j->ws->self->h->mem_alloc(sizeof(*s));
	const struct push p = { .ws = j->ws,
		.sub = sub,
		.plain = chatd_json_str(&j->plain),
		.topic = j->topic,
		.urgent = !j->place.room[0] || j->called };
	chatd_status rc = -ENOMEM;
	if (s) {
		s->job = j;
		chatd_str_copy(s->id, sizeof(s->id), text(json_text_of(sub, "id")));
		rc = send_push(&p, on_sent, s);
	}
	if (rc < 0) {
		judge(j, json_text_of(sub, "id"), rc, NULL);
		j->ws->self->h->mem_free(s);
	} else {
		j->out++;
	}
}

static int is_wanted(const struct job *j, const json_t *sub)
{
	json_t *id;
	size_t i;
	json_array_foreach (j->only, i, id) {
		if (strcmp(json_string_value(id) ? json_string_value(id) : "", json_text_of(sub, "id")) ==
				0) {
			return 1;
		}
	}
	return !j->only;
}

static void send_all(struct job *j)
{
	json_t *sub;
	size_t i;
	j->again = json_array();
	j->gone = json_array();
	json_array_foreach (json_object_get(j->book, "subs"), i, sub) {
		if (is_wanted(j, sub)) {
			send_to(j, sub);
		}
	}
	sent_one(j);
}

/* ---- what is told ------------------------------------------------------------------------------- */

struct said {
	struct chatd_str id, sender, name, content, time;
	int32_t encrypted;
	json_t *mentions;
};

static const struct chatd_json_field said_fields[] = {
	{ "id", CHATD_J_TEXT, offsetof(struct said, id) },
	{ "sender", CHATD_J_TEXT, offsetof(struct said, sender) },
	{ "senderName", CHATD_J_TEXT, offsetof(struct said, name) },
	{ "content", CHATD_J_TEXT, offsetof(struct said, content) },
	{ "timestamp", CHATD_J_TEXT, offsetof(struct said, time) },
	{ "encrypted", CHATD_J_BOOL, offsetof(struct said, encrypted) },
	{ "mentions", CHATD_J_LIST, offsetof(struct said, mentions) },
	{ NULL, 0, 0 },
};

static int is_called(const struct job *j, const struct said *s)
{
	json_t *one;
	size_t i;
	json_array_foreach (s->mentions, i, one) {
		if (strcmp(json_string_value(one) ? json_string_value(one) : "", j->user) == 0) {
			return 1;
		}
	}
	return 0;
}

static int tells_text(const struct job *j)
{
	const json_t *t = json_object_get(json_object_get(j->book, "settings"), "text");
	return j->ws->self->conf->text && !json_is_false(t);
}

static void write_plain(struct job *j, const struct said *s)
{
	struct chatd_json *p = &j->plain;
	chatd_json_lit(p, "{");
	chatd_json_member(p, "type", CHATD_LIT("MESSAGE"));
	chatd_json_member(p, "id", s->id);
	if (j->place.room[0]) {
		chatd_json_member(p, "roomId", text(j->place.room));
		chatd_json_member(p, "roomName", text(j->name));
	} else {
		chatd_json_member(p, "with", text(j->place.with));
	}
	chatd_json_member(p, "sender", s->sender);
	chatd_json_member(p, "senderName", s->name);
	chatd_json_int(p, "unread", j->unread);
	chatd_json_int(p, "seq", j->seq);
	chatd_json_member(p, "timestamp", s->time);
	if (j->called) {
		chatd_json_flag(p, "mention", 1);
	}
	if (j->encrypted) {
		chatd_json_flag(p, "encrypted", 1);
	} else if (s->content.n && tells_text(j)) {
		chatd_json_member(p, "content", chatd_text_first(s->content, EXCERPT_CHARS));
	}
	chatd_json_lit(p, "}");
}

/* Not known yet, a moment after the start: the job is due again by itself. */
static int is_blocked(const struct job *j, struct chatd_str sender, int *ret_known)
{
	const struct chatd_service *s = j->ws->self->privacy;
	const struct chatd_privacy *p = s ? s->vt : NULL;
	int32_t one = p ? p->blocks(s->obj, j->ws->w, text(j->user), sender) : 0;
	int32_t other = p ? p->blocks(s->obj, j->ws->w, sender, text(j->user)) : 0;
	*ret_known = one >= 0 && other >= 0;
	return one > 0 || other > 0;
}

/* Whom one has blocked does not hide, in a room, what others have said just before and is not
 * read either.  NULL: of these there is none that could be told. */
static const struct chatd_store_message *newest(
		const struct job *j, const struct chatd_store_answer *a, int *ret_known)
{
	size_t n = a->n_messages;
	int64_t unread = j->unread;
	*ret_known = 1;
	while (n > 0 && unread > 0 && is_blocked(j, a->messages[n - 1].sender, ret_known)) {
		n--;
		unread--;
	}
	return n > 0 && unread > 0 ? &a->messages[n - 1] : NULL;
}

static void ask_page(struct job *j, int32_t rows);

static void on_page(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct said s = { .encrypted = 0 };
	json_t *root = NULL;
	char why[CHATD_JSON_WHY];
	if (!answered(j)) {
		return;
	}
	if (rc == -EACCES || rc == -ENOENT || (rc == 0 && a->n_messages == 0)) {
		drop(j, CAME_BACK);
		return;
	}
	if (rc < 0) {
		job_free(j);
		return;
	}
	int known;
	const struct chatd_store_message *m = newest(j, a, &known);
	if (!known) {
		job_free(j);
		return;
	}
	if (!m && j->place.room[0] && j->rows < LOOK_BACK && j->unread > j->rows) {
		ask_page(j, LOOK_BACK);
		return;
	}
	if (!m || chatd_str_same(m->sender, text(j->user)) || m->seq <= j->told ||
			chatd_json_read(m->body, said_fields, &s, &root, why) < 0) {
		drop(j, CAME_BACK);
		return;
	}
	j->seq = m->seq;
	j->encrypted = s.encrypted > 0 || (m->flags & CHATD_STORE_ENCRYPTED);
	j->called = is_called(j, &s);
	write_plain(j, &s);
	json_decref(root);
	if (j->plain.failed) {
		job_free(j);
	} else {
		send_all(j);
	}
}

/* ---- is it still to be told? ---------------------------------------------------------------------- */

static struct chatd_store_conv conv_of(const struct job *j)
{
	struct chatd_store_conv c = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	if (j->place.room[0]) {
		c.room = text(j->place.room);
	} else {
		c.a = text(j->user);
		c.b = text(j->place.with);
	}
	return c;
}

static void ask_page(struct job *j, int32_t rows)
{
	struct self *self = j->ws->self;
	const struct chatd_store_page p = { .struct_size = sizeof(p),
		.limit = rows,
		.conv = conv_of(j),
		.user = text(j->user),
		.after = -1 };
	j->rows = rows;
	asked(j, store_of(self)->page(self->store->obj, j->ws->w, &p, on_page, j));
}

static void on_top(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!answered(j)) {
		return;
	}
	j->unread = a->n;
	if (rc == -EACCES || rc == -ENOENT || (rc == 0 && j->unread == 0)) {
		drop(j, CAME_BACK);
		return;
	}
	if (rc < 0) {
		job_free(j);
	} else {
		ask_page(j, 1);
	}
}

static void ask_top(struct job *j)
{
	struct self *self = j->ws->self;
	const struct chatd_store_conv_key k = {
		.struct_size = sizeof(k), .conv = conv_of(j), .user = text(j->user)
	};
	asked(j, store_of(self)->top(self->store->obj, j->ws->w, &k, on_top, j));
}

static void on_room(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!answered(j)) {
		return;
	}
	if (rc == -ENOENT || rc == -EACCES || (rc == 0 && a->rooms[0].role == CHATD_ROLE_NONE)) {
		drop(j, CAME_BACK);
	} else if (rc < 0) {
		job_free(j);
	} else {
		chatd_str_copy(j->name, sizeof(j->name), a->rooms[0].name);
		ask_top(j);
	}
}

static void on_book(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct self *self = j->ws->self;
	int64_t now = self->h->wall_ms();
	if (!answered(j)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		job_free(j);
		return;
	}
	j->book = book_read(rc == 0 ? a->records[0].value : chatd_str_of(NULL, 0));
	int64_t quiet = book_quiet_until(j->book, now);
	if (!book_wants(j->book, &j->place, 1, now)) {
		drop(j, CAME_BACK);
	} else if (quiet) {
		count(j->ws, QUIET);
		later(j, quiet, 0, NULL);
	} else if (j->place.room[0]) {
		const struct chatd_store_room_key k = {
			.struct_size = sizeof(k), .room = text(j->place.room), .user = text(j->user)
		};
		asked(j, store_of(self)->room_get(self->store->obj, j->ws->w, &k, on_room, j));
	} else {
		ask_top(j);
	}
}

static void on_online(void *arg, chatd_status rc, const int32_t *online, size_t n)
{
	struct job *j = arg;
	struct self *self = j->ws->self;
	if (!answered(j)) {
		return;
	}
	if (rc == 0 && n && online[0]) {
		drop(j, CAME_BACK);
		return;
	}
	if (rc < 0 && j->tries < PRESENCE_TRIES) {
		/* Better late than to somebody who reads it already. */
		later(j, self->h->wall_ms() + pause_of(j), j->tries + 1, j->only);
		return;
	}
	const struct chatd_store_record_key k = key_of_record(self, SPACE_USER, j->user);
	asked(j, rc < 0 ? rc : store_of(self)->record_get(self->store->obj, j->ws->w, &k, on_book, j));
}

/* "USER/r:ROOM", "USER/u:OTHER" */
static int take_key(struct job *j, struct chatd_str key)
{
	chatd_str_copy(j->key, sizeof(j->key), key);
	const char *slash = strchr(j->key, '/');
	if (!slash || key.n >= sizeof(j->key) || strlen(slash) < 4 || slash[2] != ':') {
		return 0;
	}
	chatd_str_copy(j->user, sizeof(j->user), chatd_str_of(j->key, (size_t)(slash - j->key)));
	char *where = slash[1] == 'r' ? j->place.room : j->place.with;
	chatd_str_copy(where, CHATD_ID_MAX + 1, text(slash + 3));
	return chatd_id_ok(text(where)) && chatd_id_ok(text(j->user));
}

/* At most 32 characters of base64url; the same for the same user and conversation, and nothing
 * that a push service could make an id of. */
static void make_topic(struct job *j)
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state st;
	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, j->ws->vapid.point, sizeof(j->ws->vapid.point));
	crypto_hash_sha256_update(&st, (const uint8_t *)j->key, strlen(j->key));
	crypto_hash_sha256_final(&st, hash);
	base64_put(hash, 18, j->topic, sizeof(j->topic));
}

void job_start(struct wself *ws, struct jobs *jobs, const struct chatd_store_record *r)
{
	struct self *self = ws->self;
	struct job *j = chatd_open_alloc(self->h, &self->open, sizeof(*j));
	char why[CHATD_JSON_WHY];
	if (!j) {
		queue_freed(ws); /* it is claimed, and due again by itself */
		return;
	}
	j->ws = ws;
	j->jobs = jobs;
	j->version = r->version;
	chatd_json_init(&j->plain, NULL, 0);
	TAILQ_INSERT_TAIL(jobs, j, link);
	json_t *value = chatd_json_parse(r->value, why);
	j->tries = json_integer_value(json_object_get(value, "tries"));
	j->told = json_integer_value(json_object_get(value, "told"));
	j->only = json_incref(json_object_get(value, "only"));
	json_decref(value);
	if (!take_key(j, r->key)) {
		done(j); /* nothing that this release knows */
		return;
	}
	make_topic(j);
	const struct chatd_presence *p = self->presence->vt;
	const struct chatd_str user = text(j->user);
	asked(j, p->get(self->presence->obj, ws->w, &user, 1, on_online, j));
}
