/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that another server answers: it is asked while the SEND waits, and what it says goes to
 * the one who typed it, or to everybody there. */
#include "slash.h"

#include <chatd-sdk/text.h>
#include <errno.h>

/* A call may be parked for 5 s.  Deciders and the store may take longer to let an answer through
 * than what its server has left of them. */
enum { PARKED_MS = 4600, LEAST_MS = 50, WHY_MAX = 160 };

struct asking {
	struct self *self;
	chatd_worker *w;
	const struct command *c;
	const chatd_ident *who; /* who typed it; then whom the answer comes from */
	chatd_token token;
	chatd_sid session; /* 0: none */
	int32_t gone;
	int64_t since;
	struct chatd_timer late; /* the answer is on its way, but not fast enough for the SEND */
	int32_t receipted;
	struct chatd_json question;
	char id[37];
	char name[COMMAND_MAX + 1], to[CHATD_ID_MAX + 1], room[CHATD_ID_MAX + 1], client_id[129];
};

static struct said said_of(const struct asking *a)
{
	const struct chatd_str none = { NULL, 0 };
	return (struct said){ .name = text(a->name),
		.to = a->to[0] ? text(a->to) : none,
		.room = a->room[0] ? text(a->room) : none,
		.client_id = a->client_id[0] ? text(a->client_id) : none };
}

static void asking_free(struct asking *a)
{
	a->self->h->timer_clear(&a->late);
	a->self->h->ident_unref(a->who);
	chatd_json_free(&a->question);
	atomic_fetch_sub(&a->self->asks, 1);
	a->self->h->mem_free(a);
}

static void end(struct asking *a, chatd_verdict v, const char *code, const char *why)
{
	if (!a->gone && !a->receipted) {
		(void)a->self->h->resume(a->token, v, code, why);
	}
	asking_free(a);
}

/* To who typed it, and nobody else. */
static void tell_alone(const struct asking *a, struct chatd_str content)
{
	const struct said s = said_of(a);
	tell(a->self, a->session ? a->self->h->session_find(a->w, a->session) : NULL, &s, content);
}

/* ---- to everybody ------------------------------------------------------------------------- */

static void on_said(void *arg, const struct chatd_outcome *o)
{
	struct asking *a = arg;
	const struct chatd_host *h = a->self->h;
	chatd_call *call = a->gone || a->receipted ? NULL : h->call_of(a->w, a->token);
	char why[WHY_MAX + 40];
	if (o->verdict == CHATD_REJECT) {
		struct chatd_str because = chatd_text_cut(o->why, WHY_MAX);
		int n = snprintf(why, sizeof(why), "the answer could not be said: %.*s", (int)because.n,
				because.p ? because.p : "");
		if (a->receipted && !a->gone) {
			tell_alone(a, chatd_str_of(why, (size_t)n));
		}
		end(a, CHATD_REJECT, "FORBIDDEN", why);
		return;
	}
	if (call && o->reply) {
		h->reply(call, "message-id", h->msg_get(o->reply, "message-id"));
	}
	end(a, CHATD_DROP, NULL, NULL);
}

/* To be told UNAVAILABLE, and then to see the answer come, would be wrong twice.  The command was
 * run, so that is what the receipt says, without a message-id. */
static void on_late(void *arg)
{
	struct asking *a = arg;
	a->receipted = a->self->h->resume(a->token, CHATD_DROP, NULL, NULL) == 0;
}

static void expect_it_in_time(struct asking *a)
{
	int64_t left = PARKED_MS - (a->self->h->now_ms(a->w) - a->since);
	a->self->h->timer_set(a->w, &a->late, left > LEAST_MS ? left : LEAST_MS, on_late, a);
}

/* Where the command was typed, under the bot's name but by who typed it: so that nobody speaks
 * through a command where they may not speak themselves. */
static void say(struct asking *a, struct chatd_str content)
{
	const struct chatd_host *h = a->self->h;
	const struct chatd_sessions *sessions = a->self->sessions->vt;
	const char *bot = a->c->conf->bot ? a->c->conf->bot : a->c->conf->name;
	struct chatd_json body;
	const struct chatd_identity who = { .struct_size = sizeof(who),
		.flags = h->ident_flags(a->who) | CHATD_ID_BOT,
		.user = h->ident_user(a->who),
		.name = text(bot),
		.roles = h->ident_roles(a->who),
		.login = h->ident_login(a->who),
		.client = h->ident_client(a->who) };
	chatd_json_init(&body, NULL, 0);
	chatd_json_lit(&body, "{");
	struct said s = said_of(a);
	chatd_json_member(&body, "roomId", s.room);
	chatd_json_member(&body, "to", s.to);
	chatd_json_member(&body, "clientId", s.client_id);
	chatd_json_member(&body, "content", content);
	chatd_json_lit(&body, "}");
	chatd_msg *m =
			body.failed ? NULL : h->msg_new(CHATD_LIT("/app/chat.send"), chatd_json_str(&body));
	const chatd_ident *as = m ? sessions->make_ident(a->self->sessions->obj, &who) : NULL;
	chatd_json_free(&body);
	if (!as) {
		h->msg_unref(m);
		end(a, CHATD_REJECT, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	h->ident_unref(a->who);
	a->who = as;
	expect_it_in_time(a);
	sessions->input_as(a->self->sessions->obj, a->w, as, m, on_said, a);
	h->msg_unref(m);
}

/* ---- the answer ------------------------------------------------------------------------------ */

struct word {
	struct chatd_str content, kind;
};
static const struct chatd_json_field word_fields[] = {
	{ "text", CHATD_J_TEXT, offsetof(struct word, content) },
	{ "response_type", CHATD_J_TEXT, offsetof(struct word, kind) },
	{ NULL, 0, 0 },
};

static void heed(struct asking *a, const struct word *w)
{
	if (!w->content.n) {
		end(a, CHATD_DROP, NULL, NULL); /* it has nothing to say */
	} else if (chatd_str_same(w->kind, CHATD_LIT("in_channel"))) {
		say(a, w->content);
	} else {
		tell_alone(a, w->content);
		end(a, CHATD_DROP, NULL, NULL);
	}
}

static void on_answer(void *arg, chatd_status rc, const struct chatd_fetch_answer *f)
{
	struct asking *a = arg;
	struct word w = { { NULL, 0 }, { NULL, 0 } };
	json_t *root = NULL;
	char why[CHATD_JSON_WHY];
	if (a->gone) {
		asking_free(a);
		return;
	}
	int good = rc == 0 && f->status >= 200 && f->status < 300 &&
			(f->body.n == 0 || chatd_json_read(f->body, word_fields, &w, &root, why) == 0);
	if (!good) {
		a->self->h->log(a->self->ctx, CHATD_LOG_WARN, "/%s: %s answers %d (%.*s)", a->name,
				a->c->conf->url, f->status, (int)f->why.n, f->why.p ? f->why.p : "");
		end(a, CHATD_REJECT, "UNAVAILABLE", "what answers this command does not answer now");
		return;
	}
	heed(a, &w);
	json_decref(root);
}

/* ---- the question ------------------------------------------------------------------------------ */

static void write_question(struct asking *a, const struct said *s)
{
	const struct chatd_host *h = a->self->h;
	struct chatd_json *j = &a->question;
	h->new_id(a->id);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", text(a->id));
	chatd_json_member(j, "command", s->name);
	chatd_json_member(j, "text", s->rest);
	chatd_json_member(j, "roomId", s->room);
	chatd_json_member(j, "to", s->to);
	chatd_json_key(j, "user");
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", h->ident_user(a->who));
	chatd_json_member(j, "name", h->ident_name(a->who));
	chatd_json_flag(j, "guest", (h->ident_flags(a->who) & CHATD_ID_ANONYMOUS) != 0);
	chatd_json_lit(j, "}");
	chatd_json_time(j, "timestamp", h->wall_ms());
	chatd_json_lit(j, "}");
}

static chatd_status post_it(struct asking *a)
{
	const struct chatd_host *h = a->self->h;
	const struct chatd_fetch *fetch = a->self->fetch->vt;
	const struct chatd_webhook_key none = { .n = 0 };
	struct chatd_webhook_lines l;
	chatd_webhook_lines(&l, &a->c->key, &none, a->id, h->wall_ms(), chatd_json_str(&a->question));
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.method = CHATD_LIT("POST"),
		.url = text(a->c->conf->url),
		.body = chatd_json_str(&a->question),
		.headers = l.line,
		.n_headers = 4,
		.timeout = a->c->conf->timeout,
		.max_answer = SAYS_MAX };
	return fetch->fetch(a->self->fetch->obj, a->w, &r, on_answer, a);
}

static const char no_member[] = "you are not a member of this room, or there is no such room";
static const char no_question[] = "what answers this command cannot be asked now";

/* The other server must be able to rely on it that who asks belongs there. */
static void on_room(void *arg, chatd_status rc, const struct chatd_room_view *v)
{
	struct asking *a = arg;
	if (a->gone) {
		asking_free(a);
	} else if (rc == -ENOENT || (rc == 0 && v->role == CHATD_ROLE_NONE)) {
		end(a, CHATD_REJECT, "NOT_MEMBER", no_member);
	} else if (rc < 0 || post_it(a) < 0) {
		end(a, CHATD_REJECT, "UNAVAILABLE", no_question);
	}
}

static chatd_status look(struct asking *a)
{
	const struct chatd_service *s = a->self->rooms;
	const struct chatd_rooms *rooms = s->vt;
	return rooms->look(s->obj, a->w, text(a->room), a->self->h->ident_user(a->who), on_room, a);
}

static void on_cancel(void *arg)
{
	struct asking *a = arg;
	a->gone = 1;
	a->self->h->timer_clear(&a->late);
}

static struct asking *asking_of(
		struct self *self, chatd_call *call, const struct command *c, const struct said *s)
{
	const struct chatd_host *h = self->h;
	chatd_session *session = h->call_session(call);
	struct asking *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return NULL;
	}
	atomic_fetch_add(&self->asks, 1);
	a->self = self;
	a->w = h->call_worker(call);
	a->c = c;
	a->who = h->ident_ref(h->call_ident(call));
	a->session = session ? h->session_sid(session) : 0;
	a->since = h->now_ms(a->w);
	chatd_str_copy(a->name, sizeof(a->name), s->name);
	chatd_str_copy(a->to, sizeof(a->to), s->to);
	chatd_str_copy(a->room, sizeof(a->room), s->room);
	chatd_str_copy(a->client_id, sizeof(a->client_id), s->client_id);
	chatd_json_init(&a->question, NULL, 0);
	write_question(a, s);
	return a;
}

chatd_verdict ask(
		struct self *self, chatd_call *call, const struct command *c, const struct said *s)
{
	const struct chatd_host *h = self->h;
	if (s->room.n && (!self->rooms || !chatd_id_ok(s->room))) {
		return h->reject(call, "NOT_MEMBER", "%s", no_member);
	}
	struct asking *a = asking_of(self, call, c, s);
	if (!a || a->question.failed) {
		if (a) {
			asking_free(a);
		}
		return -ENOMEM;
	}
	a->token = h->suspend(call, on_cancel, a);
	if (!a->token) {
		asking_free(a);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	if ((s->room.n ? look(a) : post_it(a)) < 0) {
		asking_free(a);
		return h->reject(call, "UNAVAILABLE", "%s", no_question);
	}
	return CHATD_WAIT;
}
