/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/hold.h"

#include "base/str.h"
#include "chat/dest.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_MAX = 10000, KEPT_BYTES_MAX = 8 << 20 };

struct kept {
	struct kept *next;
	chatd_msg *msg;
};

struct hold {
	struct hold_wish wish;
	int began;
	int released; /* kept for the messages that were stored first and published last */
	char header[24];
	uint64_t after;
	chatd_done *done;
	void *arg;
	chatd_msg *reply;
	struct kept *first, **last;
	size_t n, bytes;
};

struct hold *hold_create(const struct hold_wish *wish)
{
	struct hold *h = calloc(1, sizeof(*h));
	if (h) {
		h->wish = *wish;
		h->last = &h->first;
	}
	return h;
}

void hold_destroy(struct hold *h)
{
	if (!h) {
		return;
	}
	if (!h->began && h->wish.drop) {
		h->wish.drop(h->wish.arg);
	}
	while (h->first) {
		struct kept *k = h->first;
		h->first = k->next;
		msg_unref(k->msg);
		free(k);
	}
	msg_unref(h->reply);
	free(h);
}

/* A SUBSCRIBE that waits for its release, while somebody ended the subscription. */
struct ended {
	chatd_worker *w;
	chatd_sid session;
	chatd_done *done;
	void *arg;
};

static void on_ended(void *arg)
{
	struct ended *e = arg;
	struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = CHATD_REJECT,
		.code = "FORBIDDEN",
		.why = CHATD_LIT("the subscription was ended") };
	if (session_find(e->w, e->session)) {
		e->done(e->arg, &o);
	}
	free(e);
}

void hold_end(struct sub *s)
{
	struct hold *h = s->hold;
	chatd_worker *w = session_worker(s->session);
	int waits = h->began && !h->released;
	struct ended *e = waits ? malloc(sizeof(*e)) : NULL;
	if (e) {
		*e = (struct ended){
			.w = w, .session = session_sid(s->session), .done = h->done, .arg = h->arg
		};
	}
	/* By post: whoever ends subscriptions may be going through a list of them. */
	if (waits && (!e || worker_post(w, on_ended, e) < 0)) {
		session_close(s->session, 1011, "out of memory");
		free(e);
	}
	hold_destroy(h);
}

void hold_begin(struct sub *s, chatd_done *done, void *arg, chatd_msg *reply)
{
	struct hold *h = s->hold;
	struct chatd_hold name = { .session = session_sid(s->session), .sub = s->serial };
	h->began = 1;
	h->done = done;
	h->arg = arg;
	h->reply = reply ? msg_ref(reply) : NULL;
	h->wish.live(h->wish.arg, session_worker(s->session), name);
}

/* The number that a message's header begins with; 0: it has none. */
static int number_of(const struct hold *h, const chatd_msg *msg, uint64_t *ret)
{
	struct chatd_str text = msg_get(msg, h->header);
	size_t n = 0;
	while (n < text.n && text.p[n] >= '0' && text.p[n] <= '9') {
		n++;
	}
	return text.p && str_u64(chatd_str_of(text.p, n), ret) == 0;
}

/* What was delivered already may still come from its publisher.  The order is strict, so the
 * first message beyond ends the watch. */
static int released_keep(struct sub *s, const chatd_msg *msg)
{
	uint64_t number;
	if (!number_of(s->hold, msg, &number)) {
		return 0;
	}
	if (number <= s->hold->after) {
		return 1;
	}
	hold_destroy(s->hold);
	s->hold = NULL;
	return 0;
}

int hold_keep(struct sub *s, chatd_msg *msg)
{
	struct hold *h = s->hold;
	if (h->released) {
		return released_keep(s, msg);
	}
	struct kept *k = h->n < KEPT_MAX && h->bytes < KEPT_BYTES_MAX ? malloc(sizeof(*k)) : NULL;
	if (!k) {
		session_close(s->session, 4010, "insufficient state: subscribe again");
		return 1;
	}
	k->msg = msg_ref(msg);
	k->next = NULL;
	*h->last = k;
	h->last = &k->next;
	h->n++;
	h->bytes += msg_size(msg);
	return 1;
}

static struct sub *held(chatd_worker *w, struct chatd_hold name)
{
	chatd_session *s = session_find(w, name.session);
	struct sub *sub = s ? session_sub(s, name.sub) : NULL;
	return sub && session_is_open(s) && sub->hold && !sub->hold->released ? sub : NULL;
}

chatd_status hold_send(chatd_worker *w, struct chatd_hold name, chatd_msg *msg)
{
	struct sub *s = held(w, name);
	if (!s) {
		return -ESTALE;
	}
	dest_deliver_now(s, msg);
	return 0;
}

chatd_status hold_reply(
		chatd_worker *w, struct chatd_hold name, const char *header, struct chatd_str value)
{
	struct sub *s = held(w, name);
	if (!s) {
		return -ESTALE;
	}
	if (!s->hold->reply) {
		s->hold->reply = msg_new(CHATD_LIT(""), CHATD_LIT(""));
	}
	return s->hold->reply ? msg_set(s->hold->reply, header, value) : -ENOMEM;
}

/* Deliver what was kept and is new; 1: some of it had a number, so the watch is over. */
static int deliver_kept(struct sub *s, struct hold *h)
{
	uint64_t number;
	int beyond = 0;
	while (h->first) {
		struct kept *k = h->first;
		int numbered = number_of(h, k->msg, &number);
		h->first = k->next;
		h->last = h->first ? h->last : &h->first;
		if (!numbered || number > h->after) {
			dest_deliver_now(s, k->msg);
			beyond |= numbered;
		}
		msg_unref(k->msg);
		free(k);
	}
	return beyond;
}

chatd_status hold_release_by(
		chatd_worker *w, struct chatd_hold name, const char *header, uint64_t after)
{
	struct sub *s = held(w, name);
	if (!s) {
		return -ESTALE;
	}
	struct hold *h = s->hold;
	if (strlen(header) >= sizeof(h->header)) {
		return -EINVAL;
	}
	memcpy(h->header, header, strlen(header) + 1);
	h->after = after;
	int over = deliver_kept(s, h);
	struct chatd_outcome o = {
		.struct_size = sizeof(o), .verdict = CHATD_ACCEPT, .reply = h->reply
	};
	chatd_done *done = h->done;
	void *arg = h->arg;
	h->reply = NULL;
	h->released = 1;
	if (over) {
		s->hold = NULL;
		hold_destroy(h);
	}
	done(arg, &o);
	msg_unref(o.reply);
	return 0;
}

chatd_status hold_release(chatd_worker *w, struct chatd_hold name, uint64_t after_seq)
{
	return hold_release_by(w, name, "seq", after_seq);
}
