/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/hold.h"

#include "base/str.h"
#include "chat/dest.h"
#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>

enum { KEPT_MAX = 10000, KEPT_BYTES_MAX = 8 << 20 };

struct kept {
	struct kept *next;
	chatd_msg *msg;
};

struct hold {
	struct hold_wish wish;
	int began;
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
	struct ended *e = h->began ? malloc(sizeof(*e)) : NULL;
	if (e) {
		*e = (struct ended){
			.w = w, .session = session_sid(s->session), .done = h->done, .arg = h->arg
		};
	}
	/* By post: whoever ends subscriptions may be going through a list of them. */
	if (h->began && (!e || worker_post(w, on_ended, e) < 0)) {
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

void hold_keep(struct sub *s, chatd_msg *msg)
{
	struct hold *h = s->hold;
	struct kept *k = h->n < KEPT_MAX && h->bytes < KEPT_BYTES_MAX ? malloc(sizeof(*k)) : NULL;
	if (!k) {
		session_close(s->session, 4010, "insufficient state: subscribe again");
		return;
	}
	k->msg = msg_ref(msg);
	k->next = NULL;
	*h->last = k;
	h->last = &k->next;
	h->n++;
	h->bytes += msg_size(msg);
}

static struct sub *held(chatd_worker *w, struct chatd_hold name)
{
	chatd_session *s = session_find(w, name.session);
	struct sub *sub = s ? session_sub(s, name.sub) : NULL;
	return sub && sub->hold ? sub : NULL;
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

static int is_news(const chatd_msg *msg, uint64_t after_seq)
{
	uint64_t seq;
	struct chatd_str text = msg_get(msg, "seq");
	return !text.p || str_u64(text, &seq) < 0 || seq > after_seq;
}

chatd_status hold_release(chatd_worker *w, struct chatd_hold name, uint64_t after_seq)
{
	struct sub *s = held(w, name);
	if (!s) {
		return -ESTALE;
	}
	struct hold *h = s->hold;
	s->hold = NULL;
	for (struct kept *k = h->first; k; k = k->next) {
		if (is_news(k->msg, after_seq)) {
			dest_deliver_now(s, k->msg);
		}
	}
	struct chatd_outcome o = {
		.struct_size = sizeof(o), .verdict = CHATD_ACCEPT, .reply = h->reply
	};
	h->done(h->arg, &o);
	hold_destroy(h);
	return 0;
}
