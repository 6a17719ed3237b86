/* SPDX-License-Identifier: Apache-2.0 */
/* Telling others how far somebody has read: at once, and then not too often. */
#include "receipts.h"

enum { CONVERSATIONS_MAX = 16 }; /* that one session's marks are remembered of */

/* How far a session has read in one conversation. */
struct reader {
	TAILQ_ENTRY(reader) link;
	struct self *self;
	chatd_worker *w;
	struct slot *slot;
	const chatd_ident *who;
	struct chatd_timer timer; /* set: what is in .at is told when it fires */
	int32_t waiting;
	int64_t told;
	struct mark at;
};
TAILQ_HEAD(readers, reader);

struct slot { /* of a session, zeroed; the longest unused reader first */
	struct readers all;
	int32_t n;
};

/* ---- telling --------------------------------------------------------------------------- */

static void write_event(struct chatd_json *j, const struct reader *r)
{
	const struct chatd_host *h = r->self->h;
	struct chatd_str name = h->ident_name(r->who);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "type", CHATD_LIT("READ"));
	chatd_json_member(j, "sender", h->ident_user(r->who));
	chatd_json_member(j, "senderId", h->ident_user(r->who));
	chatd_json_member(j, "senderName", name.n ? name : chatd_str_of(NULL, 0));
	if (r->at.is_room) {
		chatd_json_member(j, "roomId", text(r->at.where));
	} else {
		chatd_json_member(j, "receiver", text(r->at.where));
		chatd_json_member(j, "receiverId", text(r->at.where));
	}
	if (r->at.message[0]) {
		chatd_json_member(j, "messageId", text(r->at.message));
	}
	if (r->at.seq) {
		chatd_json_int(j, "seq", r->at.seq);
	}
	chatd_json_member(j, "status", r->at.delivered ? CHATD_LIT("DELIVERED") : CHATD_LIT("READ"));
	chatd_json_time(j, "timestamp", h->wall_ms());
	chatd_json_lit(j, "}");
}

/* @p user .p NULL: to everybody who is subscribed. */
static void publish(
		const struct reader *r, struct chatd_str user, const char *dest, struct chatd_str body)
{
	const struct chatd_host *h = r->self->h;
	chatd_msg *m = h->msg_new(text(dest), body);
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->msg_flags(m, CHATD_MSG_EPHEMERAL);
		(void)(user.p ? h->publish_user(r->w, user, m) : h->publish(r->w, m));
	}
	h->msg_unref(m);
}

/* Who hides what is read: nobody is told, and between two, the other one's marks neither.  That
 * something has arrived is told all the same, but not between two of whom one has blocked the
 * other. */
static int is_hidden(const struct reader *r)
{
	const struct chatd_service *p = r->self->privacy;
	struct chatd_str me = r->self->h->ident_user(r->who), other = text(r->at.where);
	if (!r->at.delivered && chatd_privacy_hides_reads(p, r->w, me)) {
		return 1;
	}
	return !r->at.is_room &&
			((!r->at.delivered && chatd_privacy_hides_reads(p, r->w, other)) ||
					chatd_privacy_between(p, r->w, me, other));
}

static void tell_others(const struct reader *r, struct chatd_str body)
{
	char topic[sizeof("/topic/room/") + CHATD_ID_MAX];
	if (is_hidden(r)) {
		return;
	}
	if (r->at.is_room) {
		snprintf(topic, sizeof(topic), "/topic/room/%s", r->at.where);
		if (!r->at.quiet) {
			publish(r, chatd_str_of(NULL, 0), topic, body);
		}
		return;
	}
	publish(r, text(r->at.where), "/user/queue/read", body);
	if (r->self->conf->legacy_queues) {
		publish(r, text(r->at.where), "/user/queue/messages", body);
	}
}

static void tell(struct reader *r)
{
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	write_event(&j, r);
	if (!j.failed) {
		tell_others(r, chatd_json_str(&j));
		if (r->self->store) { /* the reader's other devices need not ask what was read here */
			publish(r, r->self->h->ident_user(r->who), "/user/queue/read", chatd_json_str(&j));
		}
	}
	chatd_json_free(&j);
	r->told = r->self->h->now_ms(r->w);
	r->waiting = 0;
}

/* ---- how far a session has read ----------------------------------------------------------- */

static void forget(struct reader *r)
{
	const struct chatd_host *h = r->self->h;
	h->timer_clear(&r->timer);
	TAILQ_REMOVE(&r->slot->all, r, link);
	r->slot->n--;
	h->ident_unref(r->who);
	h->mem_free(r);
}

static void flush(struct reader *r)
{
	if (r->waiting) {
		tell(r);
	}
	forget(r);
}

static void drop_slot(void *slotp)
{
	struct slot *slot = slotp;
	while (slot->n > 0) {
		forget(TAILQ_FIRST(&slot->all));
	}
}

static void on_due(void *arg)
{
	tell(arg);
}

static struct reader *find(struct slot *slot, const struct mark *m)
{
	struct reader *r = slot->n > 0 ? TAILQ_FIRST(&slot->all) : NULL;
	while (r &&
			(r->at.is_room != m->is_room || r->at.delivered != m->delivered ||
					strcmp(r->at.where, m->where) != 0)) {
		r = TAILQ_NEXT(r, link);
	}
	return r;
}

static struct reader *add(struct self *self, chatd_session *session, const struct mark *m)
{
	const struct chatd_host *h = self->h;
	struct slot *slot = h->slot(session, self->slot);
	struct reader *r = h->mem_alloc(sizeof(*r));
	if (!r) {
		return NULL;
	}
	if (slot->n == 0) {
		TAILQ_INIT(&slot->all);
	} else if (slot->n == CONVERSATIONS_MAX) {
		flush(TAILQ_FIRST(&slot->all));
	}
	r->self = self;
	r->w = h->session_worker(session);
	r->slot = slot;
	r->who = h->ident_ref(h->session_ident(session));
	r->at = *m;
	TAILQ_INSERT_TAIL(&slot->all, r, link);
	slot->n++;
	return r;
}

/* Reading goes forward only.  The server's ids of equal length sort by time. */
static int is_news(const struct reader *r, const struct mark *m)
{
	int further_seq = m->seq > r->at.seq;
	int further_id = m->message[0] &&
			(strlen(m->message) != strlen(r->at.message) || strcmp(m->message, r->at.message) > 0);
	return further_seq || further_id;
}

static void advance(struct reader *r, const struct mark *m)
{
	r->at.quiet = m->quiet;
	if (m->message[0]) {
		memcpy(r->at.message, m->message, sizeof(r->at.message));
	}
	if (m->seq > r->at.seq) {
		r->at.seq = m->seq;
	}
	TAILQ_REMOVE(&r->slot->all, r, link);
	TAILQ_INSERT_TAIL(&r->slot->all, r, link);
}

/* What comes too soon after the last is told later, as one. */
static void wait_or_tell(struct reader *r)
{
	const struct chatd_host *h = r->self->h;
	int64_t left = r->told + r->self->conf->interval - h->now_ms(r->w);
	if (r->waiting) {
		return;
	}
	if (left <= 0) {
		tell(r);
		return;
	}
	r->waiting = 1;
	h->timer_set(r->w, &r->timer, left, on_due, r);
}

int tell_is_news(struct self *self, chatd_session *session, const struct mark *m)
{
	const struct reader *r = find(self->h->slot(session, self->slot), m);
	return !r || is_news(r, m);
}

/* The reader may speak there. */
void tell_go_on(struct self *self, chatd_session *session, const struct mark *m)
{
	struct reader *r = find(self->h->slot(session, self->slot), m);
	if (!r) {
		r = add(self, session, m);
		if (r) {
			tell(r);
		}
	} else if (is_news(r, m)) {
		advance(r, m);
		wait_or_tell(r);
	}
}

static chatd_verdict on_close(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	struct slot *slot = self->h->slot(self->h->call_session(call), self->slot);
	(void)wself;
	while (slot->n > 0) {
		flush(TAILQ_FIRST(&slot->all));
	}
	return CHATD_NEXT;
}

chatd_status tell_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	chatd_status rc = h->session_slot(self->ctx, sizeof(struct slot), drop_slot, &self->slot);
	return rc < 0 ? rc : h->hook(self->ctx, chatd_hook_session_close, CHATD_ORDER_CHECK, on_close);
}
