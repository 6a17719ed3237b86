/* SPDX-License-Identifier: Apache-2.0 */
/* Who is subscribed to /user/queue/rooms on this worker, and what they are told of rooms that
 * they do not listen to. */
#include "notice.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct listener { /* a session; its slot points here */
	LIST_ENTRY(listener) link;
	struct listeners *of;
	chatd_session *session;
};

struct listeners { /* of one user */
	UT_hash_handle hh;
	struct worker *at;
	LIST_HEAD(, listener) all;
	char user[CHATD_ID_MAX + 1];
};

/* A user whose unread messages are being counted. */
struct peek {
	struct self *self;
	chatd_worker *w;
	int64_t seq;
	size_t n_preview;
	char room[CHATD_ID_MAX + 1], user[CHATD_ID_MAX + 1];
	char preview[];
};

/* ---- who listens ---------------------------------------------------------------------------- */

static struct listeners *find(const struct worker *at, struct chatd_str user)
{
	struct listeners *l = NULL;
	HASH_FIND(hh, at->listeners, user.p, user.n, l);
	return l;
}

static struct listeners *find_or_add(struct worker *at, struct chatd_str user)
{
	const struct chatd_host *h = at->self->h;
	struct listeners *l = find(at, user);
	if (l) {
		return l;
	}
	l = h->mem_alloc(sizeof(*l));
	if (!l) {
		return NULL;
	}
	l->at = at;
	LIST_INIT(&l->all);
	chatd_str_copy(l->user, sizeof(l->user), user);
	HASH_ADD(hh, at->listeners, user, user.n, l);
	if (!l->hh.tbl) {
		h->mem_free(l);
		return NULL;
	}
	return l;
}

static void forget_if_empty(struct listeners *l)
{
	struct worker *at = l->at;
	if (LIST_EMPTY(&l->all)) {
		HASH_DEL(at->listeners, l);
		at->self->h->mem_free(l);
	}
}

static void drop_slot(void *slot)
{
	struct listener *me = *(struct listener **)slot;
	if (!me) {
		return;
	}
	struct listeners *of = me->of;
	struct self *self = of->at->self;
	LIST_REMOVE(me, link);
	self->h->mem_free(me);
	atomic_fetch_sub(listen_count(self), 1);
	forget_if_empty(of);
}

static chatd_verdict on_subscribe(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	struct worker *at = wself;
	const struct chatd_host *h = self->h;
	chatd_session *session = h->call_session(call);
	struct listener **slot = h->slot(session, self->slot);
	if (*slot || !chatd_str_same(h->msg_dest(h->call_msg(call)), CHATD_LIT(NOTICES))) {
		return CHATD_NEXT;
	}
	struct listeners *of = find_or_add(at, h->ident_user(h->call_ident(call)));
	struct listener *me = of ? h->mem_alloc(sizeof(*me)) : NULL;
	if (!me) {
		if (of) {
			forget_if_empty(of);
		}
		return -ENOMEM;
	}
	me->of = of;
	me->session = session;
	LIST_INSERT_HEAD(&of->all, me, link);
	*slot = me;
	atomic_fetch_add(listen_count(self), 1);
	return CHATD_NEXT;
}

/* ---- what they are told ------------------------------------------------------------------------ */

struct topic {
	char text[sizeof(ROOM_TOPIC) + CHATD_ID_MAX];
};

static struct chatd_str topic_of(const char *room, struct topic *t)
{
	int n = snprintf(t->text, sizeof(t->text), ROOM_TOPIC "%s", room);
	return chatd_str_of(t->text, (size_t)n);
}

static int wants(const struct self *self, const struct listener *l, struct chatd_str topic)
{
	return self->h->session_hears(l->session, CHATD_LIT(NOTICES)) &&
			!self->h->session_hears(l->session, topic);
}

static chatd_msg *notice(const struct peek *p, int64_t unread)
{
	const struct chatd_host *h = p->self->h;
	char room[1024];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{\"type\":\"SYSTEM\",\"code\":\"UNREAD\"");
	chatd_json_member(&j, "roomId", text(p->room));
	chatd_json_int(&j, "unread", unread);
	chatd_json_int(&j, "seq", p->seq);
	chatd_json_key(&j, "preview");
	chatd_json_raw(&j, p->preview, p->n_preview);
	chatd_json_time(&j, "timestamp", h->wall_ms());
	chatd_json_lit(&j, "}");
	chatd_msg *m = j.failed ? NULL : h->msg_new(CHATD_LIT(NOTICES), chatd_json_str(&j));
	chatd_json_free(&j);
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) < 0) {
		h->msg_unref(m);
		return NULL;
	}
	if (m) {
		(void)h->msg_flags(m, CHATD_MSG_EPHEMERAL);
	}
	return m;
}

static void on_counted(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct peek *p = arg;
	const struct chatd_host *h = p->self->h;
	const struct worker *at = h->worker_self(p->self->ctx, p->w);
	const struct listeners *of = find(at, text(p->user));
	struct listener *l;
	struct topic t;
	chatd_msg *m = rc == 0 && a->n > 0 && of ? notice(p, a->n) : NULL;
	if (m) {
		LIST_FOREACH (l, &of->all, link) {
			if (wants(p->self, l, topic_of(p->room, &t))) {
				(void)h->session_send(l->session, m);
			}
		}
	}
	h->msg_unref(m);
	h->mem_free(p);
}

static void count(const struct batch *b, const char *user)
{
	const struct chatd_host *h = b->self->h;
	const struct chatd_store *store = b->self->store->vt;
	struct peek *p = h->mem_alloc(sizeof(*p) + b->n_preview);
	if (!p) {
		return;
	}
	p->self = b->self;
	p->w = b->w;
	p->seq = b->seq;
	p->n_preview = b->n_preview;
	memcpy(p->preview, b->preview, b->n_preview);
	memcpy(p->room, b->room, sizeof(p->room));
	chatd_str_copy(p->user, sizeof(p->user), text(user));
	/* The store looks once more whether they may read there. */
	const struct chatd_store_conv_key r = {
		.struct_size = sizeof(r), .conv = { .room = text(p->room) }, .user = text(p->user)
	};
	if (store->top(b->self->store->obj, b->w, &r, on_counted, p) < 0) {
		h->mem_free(p);
	}
}

void listen_to(const struct batch *b)
{
	const struct worker *at = b->self->h->worker_self(b->self->ctx, b->w);
	struct topic t;
	struct chatd_str topic = topic_of(b->room, &t);
	for (size_t i = 0; i < b->n; i++) {
		const struct listeners *of = find(at, text(b->users[i]));
		const struct listener *l = of ? LIST_FIRST(&of->all) : NULL;
		while (l && !wants(b->self, l, topic)) {
			l = LIST_NEXT(l, link);
		}
		if (l) {
			count(b, b->users[i]);
		}
	}
}

/* ---- life ------------------------------------------------------------------------------------- */

/* The sessions are gone before; should one be left, its slot must not point to nothing. */
void listen_stop(struct worker *at)
{
	struct listeners *l, *next;
	HASH_ITER(hh, at->listeners, l, next)
	{
		struct listener *me;
		while ((me = LIST_FIRST(&l->all))) {
			struct listener **slot = at->self->h->slot(me->session, at->self->slot);
			*slot = NULL;
			LIST_REMOVE(me, link);
			at->self->h->mem_free(me);
		}
		forget_if_empty(l);
	}
}

chatd_status listen_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	chatd_status rc = h->session_slot(self->ctx, sizeof(struct listener *), drop_slot, &self->slot);
	return rc < 0 ? rc
				  : h->hook(self->ctx, chatd_hook_subscribe, CHATD_ORDER_OBSERVE, on_subscribe);
}
