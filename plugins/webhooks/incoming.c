/* SPDX-License-Identifier: Apache-2.0 */
/* Incoming: an address with a secret, and what is posted there is said in a room.  Whoever moderates
 * the room makes them. */
#include "webhooks.h"

#include <chatd-sdk/name.h>
#include <chatd-sdk/retry.h>
#include <chatd-sdk/text.h>
#include <errno.h>

#define SPACE "webhooks.in"
#define IN    "/api/hooks/in/"
#define HOOKS "/api/chat/rooms/{id}/hooks"

enum { ID_MAX = CHATD_ID_MAX + 1 + HOOK_HEX, USERNAME_MAX = 128 };

struct hook {
	char id[ID_MAX + 1]; /* "ROOM.HEX" */
	char room[CHATD_ID_MAX + 1], name[HOOK_NAME_MAX + 1], by[CHATD_ID_MAX + 1];
	unsigned char hash[32];
	int64_t created, version;
};

struct job {
	struct chatd_ask a;
	struct hook hook;
	char secret[SECRET_MAX + 1]; /* new; "": none */
	int32_t status;              /* of the answer */
	void (*then)(struct job *);  /* once it is known that they may */
};

static const struct self *self_of(const struct job *j)
{
	return j->a.self;
}

static void problem(struct job *j, int32_t status, const char *code, const char *why)
{
	chatd_ask_problem(&j->a, status, code, why);
}

static int back(struct job *j)
{
	return chatd_ask_back(&j->a);
}

/* What the store said; the same for a hook that is not there and a secret that does not fit. */
static void failed(struct job *j, chatd_status rc)
{
	if (rc == -ENOENT) {
		problem(j, 404, "NOT_FOUND", "there is no such webhook");
	} else {
		chatd_ask_refused(&j->a, rc);
	}
}

/* A call was made: with an error at once nobody calls back. */
static void asked(struct job *j, chatd_status rc)
{
	j->a.under_way = rc == 0;
	if (rc < 0) {
		failed(j, rc);
	}
}

/* ---- a hook as it is kept ------------------------------------------------------------------ */

struct kept {
	struct chatd_str hash, name, by;
	int64_t created;
};
static const struct chatd_json_field kept_fields[] = {
	{ "hash", CHATD_J_TEXT, offsetof(struct kept, hash) },
	{ "name", CHATD_J_TEXT, offsetof(struct kept, name) },
	{ "by", CHATD_J_TEXT, offsetof(struct kept, by) },
	{ "created", CHATD_J_INT, offsetof(struct kept, created) },
	{ NULL, 0, 0 },
};

static int hook_read(const struct chatd_store_record *r, struct hook *ret)
{
	struct kept k = { .created = 0 };
	char why[CHATD_JSON_WHY];
	json_t *root;
	size_t n = 0;
	const char *dot = memchr(r->key.p, '.', r->key.n);
	if (!dot || chatd_json_read(r->value, kept_fields, &k, &root, why) < 0) {
		return 0;
	}
	*ret = (struct hook){ .created = k.created, .version = r->version };
	chatd_str_copy(ret->id, sizeof(ret->id), r->key);
	chatd_str_copy(ret->room, sizeof(ret->room), chatd_str_of(r->key.p, (size_t)(dot - r->key.p)));
	chatd_str_copy(ret->name, sizeof(ret->name), k.name);
	chatd_str_copy(ret->by, sizeof(ret->by), k.by);
	int ok = sodium_hex2bin(ret->hash, sizeof(ret->hash), k.hash.p ? k.hash.p : "", k.hash.n, NULL,
					 &n, NULL) == 0 &&
			n == sizeof(ret->hash);
	json_decref(root);
	return ok;
}

static void new_secret(struct job *j)
{
	unsigned char raw[32];
	self_of(j)->h->random(raw, sizeof(raw));
	sodium_bin2base64(j->secret, sizeof(j->secret), raw, sizeof(raw),
			sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	crypto_hash_sha256(j->hook.hash, (const unsigned char *)j->secret, strlen(j->secret));
	sodium_memzero(raw, sizeof(raw));
}

static void write_hook(struct job *j, const struct hook *k)
{
	struct chatd_json *out = &j->a.out;
	chatd_json_next(out);
	chatd_json_lit(out, "{");
	chatd_json_member(out, "id", text(k->id));
	chatd_json_member(out, "roomId", text(k->room));
	chatd_json_member(out, "name", text(k->name));
	chatd_json_member(out, "createdBy", text(k->by));
	chatd_json_time(out, "createdAt", k->created);
	if (j->secret[0]) {
		char path[sizeof(IN) + ID_MAX + SECRET_MAX + 2];
		snprintf(path, sizeof(path), IN "%s/%s", k->id, j->secret);
		chatd_json_member(out, "path", text(path));
	}
	chatd_json_lit(out, "}");
}

static void audit(const struct job *j, const char *action)
{
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = text(action),
		.actor = self_of(j)->h->ident_user(j->a.who),
		.target = text(j->hook.id),
		.room = text(j->hook.room),
		.address = j->a.http->req_peer(j->a.req),
		.request = j->a.http->req_id(j->a.req) };
	chatd_audit_note(self_of(j)->audit, j->a.w, &e);
}

static void list(struct job *j, chatd_store_fn *fn);
static void on_recounted(void *arg, chatd_status rc, const struct chatd_store_answer *a);

static void tell_new(struct job *j)
{
	audit(j, j->status == 201 ? "webhook.create" : "webhook.rotate");
	write_hook(j, &j->hook);
	sodium_memzero(j->secret, sizeof(j->secret));
	chatd_ask_answer(&j->a, j->status);
}

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)a;
	if (!back(j)) {
		return;
	}
	if (rc < 0) {
		failed(j, rc);
	} else if (j->status == 201) {
		list(j, on_recounted);
	} else {
		tell_new(j);
	}
}

static void keep(struct job *j, int32_t how)
{
	char hex[65], room[512];
	struct chatd_json value;
	chatd_json_init(&value, room, sizeof(room));
	sodium_bin2hex(hex, sizeof(hex), j->hook.hash, sizeof(j->hook.hash));
	chatd_json_lit(&value, "{");
	chatd_json_member(&value, "hash", text(hex));
	chatd_json_member(&value, "name", text(j->hook.name));
	chatd_json_member(&value, "by", text(j->hook.by));
	chatd_json_int(&value, "created", j->hook.created);
	chatd_json_lit(&value, "}");
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = how,
		.space = CHATD_LIT(SPACE),
		.key = text(j->hook.id),
		.value = chatd_json_str(&value),
		.version = j->hook.version,
		.wall = self_of(j)->h->wall_ms() };
	asked(j,
			value.failed ? -ENOMEM
						 : store_of(self_of(j))
								   ->record_put(self_of(j)->store->obj, j->a.w, &r, on_kept, j));
	chatd_json_free(&value);
}

static void find(struct job *j, chatd_store_fn *fn)
{
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT(SPACE),
		.key = text(j->hook.id),
		.wall = self_of(j)->h->wall_ms() };
	asked(j, store_of(self_of(j))->record_get(self_of(j)->store->obj, j->a.w, &r, fn, j));
}

static void list(struct job *j, chatd_store_fn *fn)
{
	char prefix[CHATD_ID_MAX + 2];
	snprintf(prefix, sizeof(prefix), "%s.", j->hook.room);
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = 1000,
		.space = CHATD_LIT(SPACE),
		.prefix = text(prefix),
		.wall = self_of(j)->h->wall_ms() };
	asked(j, store_of(self_of(j))->record_list(self_of(j)->store->obj, j->a.w, &r, fn, j));
}

static void find_room(struct job *j, chatd_store_fn *fn)
{
	const struct chatd_store_room_key r = { .struct_size = sizeof(r), .room = text(j->hook.room) };
	asked(j, store_of(self_of(j))->room_get(self_of(j)->store->obj, j->a.w, &r, fn, j));
}

static void end(struct job *j, chatd_store_fn *fn)
{
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT(SPACE),
		.key = text(j->hook.id),
		.wall = self_of(j)->h->wall_ms() };
	asked(j, store_of(self_of(j))->record_end(self_of(j)->store->obj, j->a.w, &r, fn, j));
}

/* ---- made, listed, rotated, removed: for who moderates the room --------------------------------- */

static void too_many(struct job *j)
{
	problem(j, 409, "TOO_MANY", "this room has all the webhooks it can have; remove one first");
}

static void on_taken_back(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)rc;
	(void)a;
	if (back(j)) {
		too_many(j);
	}
}

/* Several at a time may each have found room: whoever sees too many then goes away again. */
static void on_recounted(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (rc == 0 && (int64_t)a->n_records > self_of(j)->conf->per_room) {
		end(j, on_taken_back);
	} else if (back(j)) {
		tell_new(j);
	}
}

static void on_counted(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	unsigned char raw[HOOK_HEX / 2];
	char hex[HOOK_HEX + 1];
	if (!back(j)) {
		return;
	}
	if (rc < 0) {
		failed(j, rc);
		return;
	}
	if ((int64_t)a->n_records >= self_of(j)->conf->per_room) {
		too_many(j);
		return;
	}
	self_of(j)->h->random(raw, sizeof(raw));
	sodium_bin2hex(hex, sizeof(hex), raw, sizeof(raw));
	snprintf(j->hook.id, sizeof(j->hook.id), "%s.%s", j->hook.room, hex);
	chatd_str_copy(j->hook.by, sizeof(j->hook.by), self_of(j)->h->ident_user(j->a.who));
	j->hook.created = self_of(j)->h->wall_ms();
	j->status = 201;
	new_secret(j);
	keep(j, CHATD_STORE_RECORD_NEW);
}

static void run_make(struct job *j)
{
	const json_t *name = json_object_get(j->a.root, "name");
	size_t n = json_is_string(name) ? json_string_length(name) : 0;
	if (n > HOOK_NAME_MAX ||
			!chatd_text_seen(
					chatd_str_of(json_string_value(name), n), j->hook.name, sizeof(j->hook.name))) {
		problem(j, 422, "VALIDATION",
				"name must be a string of 1 to 64 bytes, of which something is seen: who will be "
				"speaking");
		return;
	}
	list(j, on_counted);
}

static void on_listed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct hook k;
	if (!back(j)) {
		return;
	}
	if (rc < 0) {
		failed(j, rc);
		return;
	}
	chatd_json_lit(&j->a.out, "{\"hooks\":[");
	for (size_t i = 0; i < a->n_records; i++) {
		if (hook_read(&a->records[i], &k)) {
			write_hook(j, &k);
		}
	}
	chatd_json_lit(&j->a.out, "]}");
	chatd_ask_answer(&j->a, 200);
}

static void run_list(struct job *j)
{
	list(j, on_listed);
}

static void on_to_rotate(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!back(j)) {
		return;
	}
	if (rc < 0 || !hook_read(&a->records[0], &j->hook)) {
		failed(j, rc < 0 ? rc : -ENOENT);
		return;
	}
	j->status = 200;
	new_secret(j);
	keep(j, CHATD_STORE_RECORD_VERSION);
}

static void run_rotate(struct job *j)
{
	find(j, on_to_rotate);
}

static void on_removed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!back(j)) {
		return;
	}
	if (rc < 0 || a->n < 1) {
		failed(j, rc < 0 ? rc : -ENOENT);
	} else {
		audit(j, "webhook.delete");
		chatd_ask_answer(&j->a, 204);
	}
}

static void run_remove(struct job *j)
{
	end(j, on_removed);
}

static void no_room(struct job *j, chatd_status rc)
{
	problem(j, rc == -ENOENT ? 404 : 503, rc == -ENOENT ? "NOT_FOUND" : "UNAVAILABLE",
			rc == -ENOENT ? "there is no such room" : "rooms cannot be looked up now");
}

static void on_hidden_room(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)a;
	if (!back(j)) {
		return;
	}
	if (rc < 0) {
		no_room(j, rc);
	} else {
		j->then(j);
	}
}

static void on_room(void *arg, chatd_status rc, const struct chatd_room_view *v)
{
	struct job *j = arg;
	int admin = (self_of(j)->h->ident_flags(j->a.who) & CHATD_ID_ADMIN) != 0;
	if (!back(j)) {
		return;
	}
	if (rc == -ENOENT && admin) { /* perhaps one that only its members know */
		find_room(j, on_hidden_room);
	} else if (rc < 0) {
		no_room(j, rc);
	} else if (!admin && v->role < CHATD_ROLE_MODERATOR) {
		problem(j, 403, "FORBIDDEN", "only moderators and owners of the room see to its webhooks");
	} else {
		j->then(j);
	}
}

static void look(struct job *j)
{
	const struct self *self = self_of(j);
	const struct chatd_rooms *rooms = self->rooms->vt;
	asked(j,
			rooms->look(self->rooms->obj, j->a.w, text(j->hook.room), chatd_ask_user(&j->a),
					on_room, j) < 0
					? -EIO
					: 0);
}

/* ---- what comes in ------------------------------------------------------------------------------ */

static void on_sent(void *arg, const struct chatd_outcome *o)
{
	struct job *j = arg;
	const struct chatd_host *h = self_of(j)->h;
	if (!back(j)) {
		return;
	}
	if (o->verdict == CHATD_REJECT) {
		char why[200];
		int busy = o->code &&
				(strcmp(o->code, "STORE_BUSY") == 0 || strcmp(o->code, "STORE_FULL") == 0 ||
						strcmp(o->code, "UNAVAILABLE") == 0);
		chatd_str_copy(why, sizeof(why), chatd_text_cut(o->why, sizeof(why) - 1));
		problem(j, busy ? 503 : 422, o->code ? o->code : "FORBIDDEN", why);
		return;
	}
	chatd_json_lit(&j->a.out, "{\"ok\":true");
	if (o->reply) {
		struct chatd_str seq = h->msg_get(o->reply, "seq");
		chatd_json_member(&j->a.out, "messageId", h->msg_get(o->reply, "message-id"));
		if (seq.p) {
			chatd_json_key(&j->a.out, "seq");
			chatd_json_raw(&j->a.out, seq.p, seq.n);
		}
	}
	chatd_json_lit(&j->a.out, "}");
	chatd_ask_answer(&j->a, 200);
}

static struct chatd_str text_of(const json_t *root, const char *name)
{
	return chatd_json_text(json_object_get(root, name));
}

static chatd_msg *message_of(const struct job *j, struct chatd_str content)
{
	const struct chatd_host *h = self_of(j)->h;
	struct chatd_json body;
	chatd_json_init(&body, NULL, 0);
	chatd_json_lit(&body, "{");
	chatd_json_member(&body, "roomId", text(j->hook.room));
	chatd_json_member(&body, "content", content);
	chatd_json_member(&body, "clientId", text_of(j->a.root, "clientId"));
	chatd_json_member(&body, "threadId", text_of(j->a.root, "threadId"));
	chatd_json_lit(&body, "}");
	chatd_msg *m =
			body.failed ? NULL : h->msg_new(CHATD_LIT("/app/chat.send"), chatd_json_str(&body));
	chatd_json_free(&body);
	return m;
}

/* The way of a SEND: filters see it like any other. */
static void say(struct job *j)
{
	const struct chatd_host *h = self_of(j)->h;
	const struct chatd_sessions *sessions = self_of(j)->sessions->vt;
	struct chatd_str content = text_of(j->a.root, "text"), name = text_of(j->a.root, "username");
	char user[8 + HOOK_HEX], seen[USERNAME_MAX + 1];
	snprintf(user, sizeof(user), "hook_%.16s", j->hook.id + strlen(j->hook.room) + 1);
	content = content.p ? content : text_of(j->a.root, "content");
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.flags = CHATD_ID_BOT | CHATD_ID_SYSTEM,
		.user = text(user),
		.name = name.n <= USERNAME_MAX && chatd_name_clean(name, seen, sizeof(seen)) > 0
				? text(seen)
				: text(j->hook.name),
		.login = text(user) };
	if (!content.n || name.n > USERNAME_MAX) {
		problem(j, 422, "VALIDATION",
				content.n ? "username has at most 128 bytes"
						  : "text is missing: a string that says something");
		return;
	}
	chatd_msg *m = message_of(j, content);
	j->a.who = m ? sessions->make_ident(self_of(j)->sessions->obj, &who) : NULL;
	if (!j->a.who) {
		h->msg_unref(m);
		failed(j, -ENOMEM);
		return;
	}
	j->a.under_way = 1;
	sessions->input_as(self_of(j)->sessions->obj, j->a.w, j->a.who, m, on_sent, j);
	h->msg_unref(m);
}

static void on_there(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	(void)a;
	if (!back(j)) {
		return;
	}
	if (rc < 0) {
		failed(j, rc); /* a hook outlives its room */
		return;
	}
	say(j);
}

static void on_token(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct job *j = arg;
	if (!back(j)) {
		return;
	}
	if (rc == -EDQUOT) {
		chatd_http_retry(j->a.http, j->a.req, retry_ms);
		problem(j, 429, "RATE_LIMIT_EXCEEDED", "too much is posted to this webhook");
		return;
	}
	find_room(j, on_there);
}

static void limit(struct job *j)
{
	const struct chatd_limiter *limiter = self_of(j)->limiter ? self_of(j)->limiter->vt : NULL;
	int64_t per_minute = self_of(j)->conf->per_minute;
	char key[ID_MAX + 8];
	snprintf(key, sizeof(key), "hook:%s", j->hook.id);
	const struct chatd_bucket b = { .struct_size = sizeof(b),
		.key = text(key),
		.burst = per_minute / 3 > 1 ? per_minute / 3 : 1,
		.per_minute = per_minute,
		.cost = 1 };
	j->a.under_way = 1;
	if (!limiter || limiter->take(self_of(j)->limiter->obj, j->a.w, &b, on_token, j) < 0) {
		j->a.under_way = 0;
		find_room(j, on_there);
	}
}

static void on_hook(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	unsigned char hash[32];
	if (!back(j)) {
		return;
	}
	struct chatd_str secret = j->a.http->req_param(j->a.req, "secret");
	crypto_hash_sha256(hash, (const unsigned char *)secret.p, secret.n);
	if (rc == 0 &&
			(!hook_read(&a->records[0], &j->hook) ||
					sodium_memcmp(hash, j->hook.hash, sizeof(hash)) != 0)) {
		rc = -ENOENT;
	}
	if (rc < 0) {
		failed(j, rc);
	} else {
		limit(j);
	}
}

static void run_in(struct job *j)
{
	find(j, on_hook);
}

/* ---- the beginning --------------------------------------------------------------------------------- */

/* As the store takes keys. */
static int key_ok(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] <= ' ' || s.p[i] > '~') {
			return 0;
		}
	}
	return s.n > 0;
}

/* 0: the answer has been given. */
static int take(struct job *j)
{
	const struct chatd_http *http = j->a.http;
	int32_t open = j->a.route->open;
	struct chatd_str id = http->req_param(j->a.req, open ? "hook" : "id");
	struct chatd_str hook = http->req_param(j->a.req, "hook"), body = http->req_body(j->a.req);
	char why[CHATD_JSON_WHY];
	if (!open) {
		chatd_str_copy(j->hook.room, sizeof(j->hook.room), chatd_id_ok(id) ? id : CHATD_LIT("-"));
	}
	int ours = open || (hook.n > id.n && memcmp(hook.p, id.p, id.n) == 0 && hook.p[id.n] == '.');
	/* What cannot be one is an empty one, which nothing has. */
	int fits = hook.p && hook.n <= ID_MAX && ours && key_ok(hook);
	chatd_str_copy(j->hook.id, sizeof(j->hook.id), fits ? hook : CHATD_LIT("-"));
	if (body.n) {
		j->a.root = chatd_json_parse(body, why);
		if (!j->a.root) {
			problem(j, 400, "VALIDATION", why);
			return 0;
		}
	}
	return 1;
}

static void begin(struct chatd_ask *a, void (*then)(struct job *))
{
	struct job *j = (struct job *)a;
	if (!take(j)) {
		return;
	}
	j->then = then;
	if (a->route->open) {
		then(j);
	} else {
		look(j);
	}
}

static void ask_list(struct chatd_ask *a)
{
	begin(a, run_list);
}

static void ask_make(struct chatd_ask *a)
{
	begin(a, run_make);
}

static void ask_rotate(struct chatd_ask *a)
{
	begin(a, run_rotate);
}

static void ask_remove(struct chatd_ask *a)
{
	begin(a, run_remove);
}

static void ask_in(struct chatd_ask *a)
{
	begin(a, run_in);
}

chatd_status incoming_init(struct self *self)
{
	static const struct {
		uint32_t method;
		const char *path;
		void (*run)(struct chatd_ask *);
	} routes[IN_ROUTES] = {
		{ CHATD_GET, HOOKS, ask_list },
		{ CHATD_POST, HOOKS, ask_make },
		{ CHATD_POST, HOOKS "/{hook}/rotate", ask_rotate },
		{ CHATD_DELETE, HOOKS "/{hook}", ask_remove },
		{ CHATD_POST, IN "{hook}/{secret}", ask_in },
	};
	struct chatd_ask_route table[IN_ROUTES];
	if (!self->http || !self->rooms) {
		return 0;
	}
	for (size_t i = 0; i < IN_ROUTES; i++) {
		table[i] = (struct chatd_ask_route){ .method = routes[i].method,
			.path = routes[i].path,
			.run = routes[i].run,
			.size = sizeof(struct job),
			.max_body = (size_t)self->conf->max_bytes,
			.open = routes[i].run == ask_in };
	}
	self->routes[0] = (struct chatd_ask_route){ .self = self, .h = self->h, .http = self->http };
	return chatd_ask_routes(self->ctx, self->routes, table, IN_ROUTES);
}
