/* SPDX-License-Identifier: Apache-2.0 */
/* Editing, deleting, reacting and pinning: looked up where the call is, put to the store at the
 * home of the conversation, published there, answered where the call is. */
#include "change_body.h"
#include "send.h"

enum { NICK_MAX = 256, ID_TEXT = 64 };

struct change {
	struct self *self;
	chatd_worker *from, *home;
	chatd_token token;
	enum change_kind kind;
	struct change_draft draft;
	uint64_t hash[2];
	int64_t wall;
	char user[CHATD_ID_MAX + 1], nick[NICK_MAX + 1];
	char room[CHATD_ID_MAX + 1], other[CHATD_ID_MAX + 1]; /* one of them is "" */
	char id[37];                                          /* of the new row */
	char author[CHATD_ID_MAX + 1];                        /* of the message */
	struct chatd_json event, body;                        /* the row, and the message from now on */
	int32_t over;              /* the right to it was checked elsewhere */
	char by[CHATD_ID_MAX + 1]; /* who does it, if .user is another one */
	chatd_log_removed *done;   /* a plugin waits, and no call */
	void *arg;
	/* the answer */
	struct refusal no; /* .code NULL: it went well */
	char first[ID_TEXT + 1], epoch[EPOCH_MAX + 1];
	int64_t seq;       /* 0: nothing was written, for it was so already */
	int32_t unchecked; /* a back end does it: nobody's right is asked */
};

/* Whose right to do it is checked. */
static struct chatd_str actor_of(const struct change *c)
{
	return c->unchecked || c->over ? chatd_str_of(NULL, 0) : text(c->user);
}

static void change_free(struct change *c)
{
	json_decref(c->draft.root);
	chatd_json_free(&c->event);
	chatd_json_free(&c->body);
	c->self->h->mem_free(c);
}

static void refuse(struct change *c, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == -ENOENT) {
		c->no = (struct refusal){ "NOT_FOUND", "there is no such message", 0 };
	} else if (rc == -EACCES && a && a->why == CHATD_STORE_NO_RIGHT && c->kind == CHANGE_PIN) {
		c->no = (struct refusal){ "FORBIDDEN", "only moderators of the room may pin", 0 };
	} else if (rc == -EDQUOT) {
		c->no = (struct refusal){ "VALIDATION", "this message has all the reactions it can have",
			0 };
	} else {
		c->no = stored_refusal(rc, a);
	}
}

/* ---- the answer -------------------------------------------------------------------------- */

static void answer(struct change *c)
{
	const struct chatd_host *h = c->self->h;
	char digits[24];
	if (c->done) {
		c->done(c->arg, c->no.code, c->no.why);
		change_free(c);
		return;
	}
	chatd_call *call = h->call_of(c->from, c->token);
	if (call && c->no.code) {
		stored_until(c->self, call, c->no.until);
	} else if (call && c->seq) {
		snprintf(digits, sizeof(digits), "%lld", (long long)c->seq);
		h->reply(call, "message-id", text(c->first));
		h->reply(call, "seq", text(digits));
		h->reply(call, "epoch", text(c->epoch));
	}
	if (call && c->draft.client_id.n) {
		h->reply(call, "clientId", c->draft.client_id);
	}
	(void)h->resume(c->token, c->no.code ? CHATD_REJECT : CHATD_ACCEPT, c->no.code, c->no.why);
	change_free(c);
}

static void on_back(void *arg)
{
	answer(arg);
}

static void go_back(struct change *c)
{
	if (c->self->h->post(c->from, on_back, c) < 0) {
		change_free(c); /* that worker has ended, and with it whoever waits */
	}
}

/* ---- at the home -------------------------------------------------------------------------- */

static struct chatd_store_conv conv_of(const struct change *c)
{
	struct chatd_store_conv v = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	if (c->room[0]) {
		v.room = text(c->room);
	} else {
		v.a = text(c->user);
		v.b = text(c->other);
	}
	return v;
}

static int32_t row_kind(enum change_kind kind)
{
	switch (kind) {
	case CHANGE_EDIT:
		return CHATD_STORE_EDIT;
	case CHANGE_DELETE:
		return CHATD_STORE_DELETE;
	case CHANGE_REACT:
		return CHATD_STORE_REACTION;
	default:
		return CHATD_STORE_EVENT;
	}
}

static void publish(struct change *c, const struct chatd_store_answer *a)
{
	const struct chatd_store_message m = { .struct_size = sizeof(m),
		.kind = row_kind(c->kind),
		.conv = conv_of(c),
		.seq = a->seq,
		.pos = a->pos,
		.id = text(c->id),
		.sender = text(c->user),
		.target = c->draft.target,
		.body = chatd_json_str(&c->event) };
	int turned = !chatd_str_same(m.conv.a, a->conv.a);
	const struct log_row row = { .row = &m,
		.epoch = a->epoch,
		.before_a = turned ? a->before_b : a->before_a,
		.before_b = turned ? a->before_a : a->before_b };
	if (log_publish(c->self, c->home, &row) < 0) {
		c->self->h->log(c->self->ctx, CHATD_LOG_ERROR,
				"change %s is stored, but could not be delivered: no memory", c->id);
	}
}

/* Who deletes what somebody else has said uses a power over them. */
static void note(const struct change *c)
{
	if (c->kind != CHANGE_DELETE || (strcmp(c->author, c->user) == 0 && !c->by[0])) {
		return;
	}
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = CHATD_LIT("message.delete"),
		.actor = text(c->by[0] ? c->by : c->user),
		.target = text(c->author),
		.room = c->room[0] ? text(c->room) : chatd_str_of(NULL, 0),
		.detail = c->draft.target };
	chatd_audit_note(c->self->audit, c->home, &e);
}

static void on_changed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct change *c = arg;
	if (rc < 0) {
		if (rc == -EBUSY && a->in_doubt) {
			late_doubt(c->self, c->home, c->id);
		}
		refuse(c, rc, a);
	} else {
		if (a->seq && !a->repeated) {
			publish(c, a);
			note(c);
		}
		c->seq = a->seq;
		chatd_str_copy(c->first, sizeof(c->first), a->id);
		chatd_str_copy(c->epoch, sizeof(c->epoch), a->epoch);
	}
	go_back(c);
}

static chatd_status put_pin(struct change *c)
{
	const struct chatd_store *store = c->self->store->vt;
	const struct chatd_store_append event = { .struct_size = sizeof(event),
		.kind = CHATD_STORE_EVENT,
		.conv = conv_of(c),
		.id = text(c->id),
		.sender = text(c->user),
		.body = chatd_json_str(&c->event),
		.wall = c->wall };
	struct chatd_store_pin r = { .struct_size = sizeof(r),
		.remove = c->draft.remove,
		.id = c->draft.target,
		.actor = actor_of(c),
		.wall = c->wall,
		.event = &event };
	return store->pin(c->self->store->obj, c->home, &r, on_changed, c);
}

static chatd_status put_change(struct change *c)
{
	const struct chatd_store *store = c->self->store->vt;
	struct chatd_store_change r = { .struct_size = sizeof(r),
		.kind = row_kind(c->kind),
		.target = c->draft.target,
		.id = text(c->id),
		.actor = actor_of(c),
		.hash = { (const char *)c->hash, sizeof(c->hash) },
		.body = chatd_json_str(&c->event),
		.new_body = chatd_json_str(&c->body),
		.new_text = c->draft.content,
		.emoji = c->draft.emoji,
		.remove = c->draft.remove,
		.wall = c->wall };
	if (c->draft.client_id.n) {
		r.client_id = c->draft.client_id;
	}
	return store->change(c->self->store->obj, c->home, &r, on_changed, c);
}

static void on_home(void *arg)
{
	struct change *c = arg;
	chatd_status rc = c->kind == CHANGE_PIN ? put_pin(c) : put_change(c);
	if (rc < 0) {
		refuse(c, rc, NULL);
		go_back(c);
	}
}

/* ---- the message that is meant ---------------------------------------------------------------- */

/* One that cannot be decrypted can be deleted all the same. */
static int write_tombstone(struct change *c, const struct chatd_store_message *m)
{
	if (m->flags & CHATD_STORE_UNREADABLE) {
		stored_write_known(&c->body, m);
		chatd_json_lit(&c->body, "}");
		return 1;
	}
	return change_write_tombstone(&c->body, m->body);
}

static int render(struct change *c, const struct chatd_store_message *m)
{
	const struct chatd_host *h = c->self->h;
	int ok = 1;
	c->wall = h->wall_ms();
	h->new_id(c->id);
	const struct change_stamp stamp = { .id = text(c->id),
		.sender = text(c->user),
		.sender_name = c->nick[0] ? text(c->nick) : chatd_str_of(NULL, 0),
		.room = c->room[0] ? text(c->room) : chatd_str_of(NULL, 0),
		.receiver = c->room[0] ? chatd_str_of(NULL, 0) : text(c->other),
		.now = c->wall };
	change_write_event(&c->event, c->kind, &c->draft, &stamp);
	if (c->kind == CHANGE_EDIT) {
		ok = change_write_edited(&c->body, m->body, &c->draft, c->wall);
	} else if (c->kind == CHANGE_DELETE) {
		ok = write_tombstone(c, m);
	}
	return ok && !c->event.failed && !c->body.failed;
}

/* Of an encrypted message the text is none that could be found. */
static void hide_text(struct change *c, const struct chatd_store_message *m)
{
	static const struct chatd_hash_key lasting[2] = { { { 5, 6 } }, { { 7, 8 } } };
	struct chatd_json j;
	char room[512];
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_int(&j, "kind", c->kind);
	chatd_json_member(&j, "target", c->draft.target);
	chatd_json_member(&j, "content", c->draft.content);
	chatd_json_member(&j, "emoji", c->draft.emoji);
	chatd_json_flag(&j, "remove", c->draft.remove);
	c->hash[0] = chatd_hash(&lasting[0], j.p, j.n);
	c->hash[1] = chatd_hash(&lasting[1], j.p, j.n);
	chatd_json_free(&j);
	if (m->flags & CHATD_STORE_ENCRYPTED) {
		c->draft.content = chatd_str_of(NULL, 0);
	}
}

/* What was encrypted must not be replaced by something that everybody here can read. */
static int fits(struct change *c, const struct chatd_store_message *m)
{
	int sealed = (m->flags & CHATD_STORE_ENCRYPTED) != 0;
	if (c->kind != CHANGE_EDIT || sealed == (c->draft.key_id.p != NULL)) {
		return 1;
	}
	const char *why = sealed
			? "this message is end-to-end encrypted: so must be what it is changed "
			  "to, with encrypted and keyId"
			: "this message is not encrypted, and cannot become so: send a new one";
	c->no = (struct refusal){ "VALIDATION", why, 0 };
	return 0;
}

static void on_found(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct change *c = arg;
	const struct chatd_store_message *m = a->messages;
	if (rc < 0) {
		/* What one may not read is not there. */
		refuse(c, rc == -EACCES ? -ENOENT : rc, a);
		answer(c);
		return;
	}
	chatd_str_copy(c->author, sizeof(c->author), m->sender);
	if (c->over && !m->conv.room.n) {
		/* The conversation has two sides, and whoever has the right to is neither: to them it is as
		 * if its sender had taken it back. */
		chatd_str_copy(c->by, sizeof(c->by), text(c->user));
		chatd_str_copy(c->user, sizeof(c->user), m->sender);
		c->nick[0] = '\0';
	}
	int mine = chatd_str_same(m->conv.a, text(c->user));
	chatd_str_copy(c->room, sizeof(c->room), m->conv.room);
	chatd_str_copy(c->other, sizeof(c->other), mine ? m->conv.b : m->conv.a);
	int ours = m->conv.room.p || mine || chatd_str_same(m->conv.b, text(c->user));
	/* Whether it is there to be changed says the store: it may know the clientId. */
	int unreadable = (m->flags & CHATD_STORE_UNREADABLE) != 0;
	if (m->kind != CHATD_STORE_MESSAGE || (m->body.n == 0 && !unreadable) || !ours) {
		refuse(c, -ENOENT, a);
		answer(c);
		return;
	}
	/* What one has said oneself may be taken back. */
	if (c->kind != CHANGE_DELETE && c->other[0]) {
		c->no = blocked(c->self, c->from, text(c->user), text(c->other));
	}
	if (unreadable && c->kind == CHANGE_EDIT) {
		c->no = (struct refusal){ "DECRYPT_FAILED",
			"this message cannot be decrypted by the server, so it cannot be edited", 0 };
	}
	if (c->no.code || !fits(c, m)) {
		answer(c);
		return;
	}
	if (!render(c, m)) {
		c->no = (struct refusal){ "UNAVAILABLE", "the server has no memory left", 0 };
		answer(c);
		return;
	}
	hide_text(c, m);
	c->home = log_home(c->self, text(c->room));
	if (c->self->h->post(c->home, on_home, c) < 0) {
		refuse(c, -ESHUTDOWN, a);
		answer(c);
	}
}

/* ---- the call ---------------------------------------------------------------------------------- */

static struct change *create(struct self *self, chatd_call *call, const struct change_draft *d)
{
	const struct chatd_host *h = self->h;
	struct change *c = h->mem_alloc(sizeof(*c));
	if (!c) {
		return NULL;
	}
	c->self = self;
	c->from = h->call_worker(call);
	c->draft = *d;
	chatd_str_copy(c->user, sizeof(c->user), h->ident_user(h->call_ident(call)));
	c->unchecked = (h->ident_flags(h->call_ident(call)) & CHATD_ID_SYSTEM) != 0;
	chatd_str_copy(c->nick, sizeof(c->nick), h->ident_name(h->call_ident(call)));
	chatd_json_init(&c->event, NULL, 0);
	chatd_json_init(&c->body, NULL, 0);
	return c;
}

static chatd_verdict start(struct change *c, chatd_call *call)
{
	const struct chatd_host *h = c->self->h;
	const struct chatd_store *store = c->self->store->vt;
	const struct chatd_store_message_key key = {
		.struct_size = sizeof(key), .id = c->draft.target, .user = actor_of(c)
	};
	c->token = h->suspend(call, NULL, NULL);
	if (!c->token) {
		change_free(c);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	chatd_status rc = store->message(c->self->store->obj, c->from, &key, on_found, c);
	if (rc < 0) {
		refuse(c, rc, NULL);
		answer(c);
	}
	return CHATD_WAIT;
}

static chatd_verdict on_change(struct self *self, chatd_call *call, enum change_kind kind)
{
	const struct chatd_host *h = self->h;
	const struct message_limits limits = { self->conf->max_content, self->conf->max_bytes,
		self->conf->max_encrypted };
	struct change_draft d;
	struct message_fault f;
	if (change_read(h->msg_body(h->call_msg(call)), kind, &limits, &d, &f) < 0) {
		if (f.client_id[0]) {
			h->reply(call, "clientId", text(f.client_id));
		}
		return h->reject(call, f.code, "%s", f.why);
	}
	struct change *c = create(self, call, &d);
	if (!c) {
		json_decref(d.root);
		return -ENOMEM;
	}
	c->kind = kind;
	return start(c, call);
}

static chatd_verdict on_edit(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return on_change(self, call, CHANGE_EDIT);
}

static chatd_verdict on_delete(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return on_change(self, call, CHANGE_DELETE);
}

static chatd_verdict on_react(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return on_change(self, call, CHANGE_REACT);
}

static chatd_verdict on_pin(chatd_call *call, void *self, void *wself)
{
	(void)wself;
	return on_change(self, call, CHANGE_PIN);
}

/* ---- for other plugins --------------------------------------------------------------------------- */

chatd_status change_remove(void *obj, chatd_worker *w, const struct chatd_log_remove *r,
		chatd_log_removed *fn, void *arg)
{
	struct self *self = obj;
	const struct chatd_host *h = self->h;
	const struct chatd_store *store = self->store->vt;
	struct change *c = h->mem_alloc(sizeof(*c));
	json_t *root = c ? json_pack("{s:s%}", "messageId", r->message.p, r->message.n) : NULL;
	if (!root) {
		h->mem_free(c);
		return -ENOMEM;
	}
	const char *id = json_string_value(json_object_get(root, "messageId"));
	*c = (struct change){ .self = self,
		.from = w,
		.kind = CHANGE_DELETE,
		.draft = { .root = root, .target = text(id) },
		.over = r->over,
		.done = fn,
		.arg = arg };
	chatd_str_copy(c->user, sizeof(c->user), h->ident_user(r->by));
	chatd_str_copy(c->nick, sizeof(c->nick), h->ident_name(r->by));
	chatd_json_init(&c->event, NULL, 0);
	chatd_json_init(&c->body, NULL, 0);
	const struct chatd_store_message_key key = { .struct_size = sizeof(key),
		.id = c->draft.target,
		.user = r->over ? chatd_str_of(NULL, 0) : text(c->user) };
	chatd_status rc = store->message(self->store->obj, w, &key, on_found, c);
	if (rc < 0) {
		change_free(c);
	}
	return rc;
}

chatd_status change_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	chatd_status rc = h->app(self->ctx, "chat.edit", on_edit);
	rc = rc < 0 ? rc : h->app(self->ctx, "chat.delete", on_delete);
	rc = rc < 0 ? rc : h->app(self->ctx, "chat.react", on_react);
	return rc < 0 ? rc : h->app(self->ctx, "chat.pin", on_pin);
}
