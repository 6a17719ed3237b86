/* SPDX-License-Identifier: Apache-2.0 */
/* /app/presence.set: what a device says of its user. */
#include "presence.h"

#include <chatd-sdk/name.h>

enum { BURST = 10 };

struct input {
	struct chatd_str status, text;
};

static const struct chatd_json_field fields[] = {
	{ "status", CHATD_J_TEXT, offsetof(struct input, status) },
	{ "text", CHATD_J_TEXT, offsetof(struct input, text) },
	{ NULL, 0, 0 },
};

struct op {
	struct self *self;
	chatd_token token;
};

static void on_done(void *arg, chatd_status rc)
{
	struct op *op = arg;
	const struct chatd_host *h = op->self->h;
	/* -EAGAIN: it holds here, and the other nodes will hear of it. */
	if (rc == 0 || rc == -EAGAIN) {
		(void)h->resume(op->token, CHATD_ACCEPT, NULL, NULL);
	} else {
		(void)h->resume(
				op->token, CHATD_REJECT, "UNAVAILABLE", "your status cannot be set now; try again");
	}
	chatd_open_free(op->self->h, &op->self->open, op);
}

static chatd_verdict say(struct self *self, chatd_call *call, struct chatd_presence_word *word)
{
	const struct chatd_host *h = self->h;
	struct op *op = chatd_open_alloc(self->h, &self->open, sizeof(*op));
	if (!op) {
		return -ENOMEM;
	}
	*op = (struct op){ .self = self, .token = h->suspend(call, NULL, NULL) };
	if (!op->token) {
		chatd_open_free(self->h, &self->open, op);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	word->struct_size = sizeof(*word);
	word->session = h->session_sid(h->call_session(call));
	word->user = h->ident_user(h->call_ident(call));
	if (self->presence->set(self->service->obj, h->call_worker(call), word, on_done, op) < 0) {
		(void)h->resume(
				op->token, CHATD_REJECT, "UNAVAILABLE", "your status cannot be set now; try again");
		chatd_open_free(self->h, &self->open, op);
	}
	return CHATD_WAIT;
}

/* Each word goes to all who watch: a bucket per session, kept as the time at which it is full.
 * 0: there is one left; else how many ms until there will be. */
static int64_t wait_for_one(const struct self *self, struct watcher *s, int64_t now)
{
	int64_t rate = self->conf->sets_per_minute, each = rate ? 60000 / rate : 0;
	int64_t full = s->said > now ? s->said : now;
	int64_t over = full + each - now - BURST * each;
	if (over > 0) {
		return over;
	}
	s->said = full + each;
	return 0;
}

/* What cannot be seen is taken out, as it is of names.  -ERANGE, -ENOMEM. */
static chatd_status take_text(
		const struct self *self, struct chatd_str s, char room[CHATD_PRESENCE_TEXT_MAX + 1])
{
	int64_t n = chatd_name_clean(s, room, CHATD_PRESENCE_TEXT_MAX + 1);
	if (n < 0) {
		return (chatd_status)n;
	}
	int64_t chars = (int64_t)chatd_str_chars(chatd_str_of(room, (size_t)n));
	return chars > self->conf->max_text ? -ERANGE : 0;
}

chatd_verdict on_set(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct input in = { .status = { NULL, 0 } };
	char room[CHATD_PRESENCE_TEXT_MAX + 1], why[CHATD_JSON_WHY];
	json_t *root;
	if (!h->call_session(call)) {
		return h->reject(call, "FORBIDDEN", NO_SESSION);
	}
	if (chatd_json_read(h->msg_body(h->call_msg(call)), fields, &in, &root, why) < 0) {
		return h->reject(call, "VALIDATION", "%s", why);
	}
	struct chatd_presence_word word = { .status = chatd_presence_of(in.status) };
	chatd_status fault = take_text(self, in.text, room);
	json_decref(root);
	if (word.status < CHATD_PRESENCE_ONLINE) {
		return h->reject(
				call, "VALIDATION", "status must be online, away or busy; offline is who has left");
	}
	if (fault == -ENOMEM) {
		return fault;
	}
	if (fault < 0) {
		return h->reject(call, "VALIDATION", "text has at most %lld characters",
				(long long)self->conf->max_text);
	}
	int64_t ms = wait_for_one(
			self, h->slot(h->call_session(call), self->slot), h->now_ms(h->call_worker(call)));
	if (ms > 0) {
		char seconds[24];
		int n = snprintf(seconds, sizeof(seconds), "%lld", (long long)(ms + 999) / 1000);
		h->reply(call, "retryAfterSeconds", chatd_str_of(seconds, (size_t)n));
		return h->reject(call, "RATE_LIMIT_EXCEEDED",
				"you change your status too often; %lld times a minute are allowed",
				(long long)self->conf->sets_per_minute);
	}
	count(*(struct at **)wself, self->count_set, 1);
	word.text = chatd_str_of(room[0] ? room : NULL, strlen(room));
	return say(self, call, &word);
}
