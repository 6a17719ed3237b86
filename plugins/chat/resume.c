/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE with `since`: what was stored after it comes first, then what is new. */
#include "send.h"

enum { DEST_MAX = 128 };

struct resume {
	struct self *self;
	chatd_worker *w;
	struct chatd_hold hold;
	int64_t since;
	char room[CHATD_ID_MAX + 1]; /* "": the direct messages of .user */
	char user[CHATD_ID_MAX + 1];
	char epoch[EPOCH_MAX + 1]; /* "": not said */
};

static void on_drop(void *arg)
{
	struct resume *r = arg;
	r->self->h->mem_free(r);
}

static void reply(struct resume *r, const char *header, struct chatd_str value)
{
	(void)r->self->h->hold_reply(r->w, r->hold, header, value);
}

static void reply_int(struct resume *r, const char *header, int64_t value)
{
	char digits[24];
	snprintf(digits, sizeof(digits), "%lld", (long long)value);
	reply(r, header, text(digits));
}

static void dest_of(const struct resume *r, char ret[DEST_MAX])
{
	snprintf(ret, DEST_MAX, "%s%s", r->room[0] ? ROOM_TOPIC : INBOX, r->room);
}

static int send_rows(struct resume *r, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = r->self->h;
	char dest[DEST_MAX];
	dest_of(r, dest);
	for (size_t i = 0; i < a->n_messages; i++) {
		chatd_msg *m = stored_msg(r->self, text(dest), &a->messages[i], a->epoch);
		chatd_status rc = m ? h->hold_send(r->w, r->hold, m) : -ENOMEM;
		h->msg_unref(m);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

/* Told in the subscription too: stock clients do not show the RECEIPT's headers. */
static void tell_gap(struct resume *r, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = r->self->h;
	char dest[DEST_MAX], room[256];
	struct chatd_json j;
	dest_of(r, dest);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"type\":\"SYSTEM\",\"code\":\"HISTORY_GAP\"");
	if (r->room[0]) {
		chatd_json_member(&j, "roomId", text(r->room));
		chatd_json_int(&j, "firstSeq", a->first);
		chatd_json_int(&j, "topSeq", a->seq);
	}
	chatd_json_member(&j, "epoch", a->epoch);
	chatd_json_lit(&j, "}");
	chatd_msg *m = j.failed ? NULL : h->msg_new(text(dest), chatd_json_str(&j));
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->hold_send(r->w, r->hold, m);
	}
	h->msg_unref(m);
	chatd_json_free(&j);
}

static void close_session(struct resume *r, const char *why)
{
	chatd_session *s = r->self->h->session_find(r->w, r->hold.session);
	if (s) {
		r->self->h->session_close(s, 4010, why);
	}
}

static int above_top(const struct resume *r, const struct chatd_store_answer *a)
{
	return r->room[0] && r->since > a->seq &&
			(!r->epoch[0] || chatd_str_same(text(r->epoch), a->epoch));
}

static void answer(struct resume *r, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = r->self->h;
	if (above_top(r, a)) {
		close_session(r, "insufficient state: since is above what there is");
		return;
	}
	if (a->whole && send_rows(r, a) == -ENOMEM) {
		close_session(r, "insufficient state: subscribe again");
		return;
	}
	reply(r, "recovered", a->whole ? CHATD_LIT("true") : CHATD_LIT("false"));
	reply(r, "epoch", a->epoch);
	if (!a->whole) {
		tell_gap(r, a);
	}
	if (!r->room[0]) {
		(void)h->hold_release_by(r->w, r->hold, "cursor", (uint64_t)a->pos);
		return;
	}
	reply_int(r, "seq", a->seq);
	if (!a->whole) {
		reply_int(r, "first-seq", a->first);
	}
	(void)h->hold_release(r->w, r->hold, (uint64_t)a->seq);
}

static void on_replayed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct resume *r = arg;
	if (rc < 0) {
		close_session(r, "insufficient state: what was missed cannot be read now");
	} else {
		answer(r, a);
	}
	r->self->h->mem_free(r);
}

static void on_live(void *arg, chatd_worker *w, struct chatd_hold hold)
{
	struct resume *r = arg;
	const struct chatd_service *s = r->self->store;
	const struct chatd_store *store = s->vt;
	struct chatd_str epoch = r->epoch[0] ? text(r->epoch) : chatd_str_of(NULL, 0);
	struct chatd_store_replay room = { .struct_size = sizeof(room),
		.max = (int32_t)r->self->conf->resume_max,
		.conv = { .room = text(r->room) },
		.epoch = epoch,
		.since = r->since };
	struct chatd_store_inbox inbox = { .struct_size = sizeof(inbox),
		.max = (int32_t)r->self->conf->resume_max,
		.user = text(r->user),
		.epoch = epoch,
		.since = r->since };
	r->w = w;
	r->hold = hold;
	chatd_status rc = r->room[0] ? store->replay(s->obj, w, &room, on_replayed, r)
								 : store->replay_inbox(s->obj, w, &inbox, on_replayed, r);
	if (rc < 0) {
		struct chatd_store_answer none = { .struct_size = sizeof(none) };
		on_replayed(r, rc, &none);
	}
}

/* Digits up to INT64_MAX; *at is where they end. */
static int take_number(struct chatd_str s, size_t *at, int64_t *ret)
{
	int64_t v = 0;
	size_t i = 0;
	for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
		int64_t digit = s.p[i] - '0';
		if (v > (INT64_MAX - digit) / 10) {
			return 0;
		}
		v = v * 10 + digit;
	}
	*at = i;
	*ret = v;
	return i > 0;
}

/* 0: `since` is none that this server gave. */
static int take_since(struct resume *r, struct chatd_str since)
{
	size_t at;
	if (!take_number(since, &at, &r->since)) {
		return 0;
	}
	if (r->room[0]) {
		return at == since.n;
	}
	if (at + 1 >= since.n || since.p[at] != '-' || since.n - at - 1 > EPOCH_MAX) {
		return 0;
	}
	chatd_str_copy(r->epoch, sizeof(r->epoch), chatd_str_of(since.p + at + 1, since.n - at - 1));
	return 1;
}

static struct resume *resume_create(struct self *self, chatd_call *call, struct chatd_str room)
{
	const struct chatd_host *h = self->h;
	struct chatd_str epoch = h->msg_get(h->call_msg(call), "epoch");
	struct resume *r = h->mem_alloc(sizeof(*r));
	if (r) {
		r->self = self;
		chatd_str_copy(r->room, sizeof(r->room), room);
		chatd_str_copy(r->user, sizeof(r->user), h->ident_user(h->call_ident(call)));
		chatd_str_copy(r->epoch, sizeof(r->epoch), epoch);
	}
	return r;
}

static chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	struct chatd_str dest = h->msg_dest(h->call_msg(call)), room = { NULL, 0 };
	struct chatd_str since = h->msg_get(h->call_msg(call), "since");
	size_t prefix = sizeof(ROOM_TOPIC) - 1;
	(void)wself;
	if (!since.p) {
		return CHATD_NEXT;
	}
	if (dest.n > prefix && memcmp(dest.p, ROOM_TOPIC, prefix) == 0) {
		room = chatd_str_of(dest.p + prefix, dest.n - prefix);
	} else if (!chatd_str_same(dest, CHATD_LIT(INBOX))) {
		return CHATD_NEXT;
	}
	struct resume *r = resume_create(self, call, room);
	if (!r) {
		return -ENOMEM;
	}
	if (!take_since(r, since)) {
		on_drop(r);
		return h->reject(call, "VALIDATION",
				"since must be the seq of a room's message, or the cursor of a direct one");
	}
	if (h->hold(call, on_live, on_drop, r) < 0) {
		on_drop(r);
		return h->reject(call, "UNAVAILABLE", "this subscription is replayed by another plugin");
	}
	return CHATD_NEXT;
}

chatd_status resume_init(struct self *self)
{
	return self->h->hook(self->ctx, chatd_hook_subscribe, CHATD_ORDER_STORE, on_subscribe);
}
