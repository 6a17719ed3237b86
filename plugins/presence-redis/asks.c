/* SPDX-License-Identifier: Apache-2.0 */
/* The service: who is online, and where. */
#include "presence.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { USERS_MAX = 1000 };

/* ---- who is online ---------------------------------------------------------------------------- */

/* Goes to the home, which knows those that are here, to Redis for the others, and back. */
struct question {
	struct self *self;
	chatd_worker *from;
	chatd_presence_fn *fn;
	chatd_presence_states_fn *states_fn; /* the one or the other */
	void *arg;
	chatd_status rc;
	struct chatd_presence_state *states; /* and their texts, made at the home */
	size_t n, asked;
	int32_t *online; /* behind users[]; -1: not known yet */
	struct chatd_str users[];
};

static void question_free(struct question *q)
{
	q->self->h->mem_free(q->states);
	q->self->h->mem_free(q);
}

static void on_answer(void *arg)
{
	struct question *q = arg;
	if (q->states_fn) {
		q->states_fn(q->arg, q->rc, q->rc < 0 ? NULL : q->states, q->rc < 0 ? 0 : q->n);
	} else {
		q->fn(q->arg, q->rc, q->rc < 0 ? NULL : q->online, q->n);
	}
	question_free(q);
}

/* A worker that has ended needs no answer. */
static void answer(struct question *q, chatd_status rc)
{
	q->rc = rc;
	if (q->self->h->post(q->from, on_answer, q) < 0) {
		question_free(q);
	}
}

static void on_get(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct question *q = arg;
	size_t at = 0;
	if (rc < 0 || r->type != CHATD_REDIS_ARRAY || r->n != q->asked) {
		answer(q, -EAGAIN);
		return;
	}
	for (size_t i = 0; i < q->n; i++) {
		if (q->online[i] < 0) {
			q->online[i] = r->items[at++].integer == 1;
		}
	}
	answer(q, 0);
}

int is_unknown(const struct self *self, chatd_worker *w)
{
	return atomic_load(&self->unknown) || self->h->now_ms(w) < atomic_load(&self->settled_at);
}

static chatd_status ask_redis(struct self *self, struct question *q)
{
	chatd_worker *w = home_of(self);
	struct chatd_str *argv = self->h->mem_alloc(q->asked * (sizeof(*argv) + KEY_MAX));
	chatd_status rc = argv ? 0 : -ENOMEM;
	if (argv) {
		char(*keys)[KEY_MAX] = (char(*)[KEY_MAX])(void *)(argv + q->asked);
		size_t n = 0;
		for (size_t i = 0; i < q->n; i++) {
			if (q->online[i] < 0) {
				argv[n] = key_of(self, "connection:", q->users[i], keys[n]);
				n++;
			}
		}
		const struct chatd_redis_command c = command_of(self->get, n, argv, n);
		rc = self->redis->call(self->redis_service->obj, w, &c, on_get, q);
	}
	self->h->mem_free(argv);
	return rc;
}

static void on_question(void *arg)
{
	struct question *q = arg;
	struct self *self = q->self;
	for (size_t i = 0; i < q->n; i++) {
		const struct user *u = user_find(self, q->users[i]);
		q->online[i] = u && u->places ? 1 : -1;
		q->asked += q->online[i] < 0;
	}
	if (q->asked == 0) {
		answer(q, 0);
	} else if (is_unknown(self, home_of(self)) || ask_redis(self, q) < 0) {
		answer(q, -EAGAIN);
	}
}

/* ---- what they are ----------------------------------------------------------------------------- */

/* Where Redis does not say, or not yet, what is known here is better than nothing. */
static void state_of(struct question *q, size_t i, const struct chatd_redis_reply *r,
		struct chatd_presence_state *ret)
{
	const struct user *u = user_find(q->self, q->users[i]);
	*ret = (struct chatd_presence_state){ .struct_size = sizeof(*ret) };
	if (r) {
		state_take(&r->items[i], ret);
	}
	if (ret->status <= CHATD_PRESENCE_OFFLINE && u && u->places) {
		user_state(u, ret);
	}
	if (!q->self->conf->last_seen && ret->status == CHATD_PRESENCE_OFFLINE) {
		ret->since = ret->last_seen = 0;
	}
}

/* @p r NULL: Redis cannot be asked. */
static void answer_states(struct question *q, const struct chatd_redis_reply *r)
{
	size_t text = 0;
	struct chatd_presence_state s;
	for (size_t i = 0; i < q->n; i++) {
		state_of(q, i, r, &s);
		text += s.text.n;
	}
	q->states = q->self->h->mem_alloc((q->n + 1) * sizeof(*q->states) + text);
	if (!q->states) {
		answer(q, -ENOMEM);
		return;
	}
	char *at = (char *)(q->states + q->n);
	for (size_t i = 0; i < q->n; i++) {
		state_of(q, i, r, &q->states[i]);
		struct chatd_str said = q->states[i].text;
		if (said.n) {
			memcpy(at, said.p, said.n);
			q->states[i].text = chatd_str_of(at, said.n);
			at += said.n;
		}
	}
	answer(q, 0);
}

static void on_look(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct question *q = arg;
	answer_states(q, rc == 0 && r->type == CHATD_REDIS_ARRAY && r->n == q->n ? r : NULL);
}

static chatd_status look_redis(struct self *self, struct question *q)
{
	struct chatd_str *argv = self->h->mem_alloc((2 * q->n + 1) * (sizeof(*argv) + KEY_MAX));
	if (!argv) {
		return -ENOMEM;
	}
	char(*keys)[KEY_MAX] = (char(*)[KEY_MAX])(void *)(argv + 2 * q->n);
	for (size_t i = 0; i < q->n; i++) {
		argv[2 * i] = key_of(self, "connection:", q->users[i], keys[2 * i]);
		argv[2 * i + 1] = key_of(self, "presence:", q->users[i], keys[2 * i + 1]);
	}
	const struct chatd_redis_command c = command_of(self->look, 2 * q->n, argv, 2 * q->n);
	chatd_status rc = self->redis->call(self->redis_service->obj, home_of(self), &c, on_look, q);
	self->h->mem_free(argv);
	return rc;
}

static void on_states_question(void *arg)
{
	struct question *q = arg;
	if (is_unknown(q->self, home_of(q->self)) || look_redis(q->self, q) < 0) {
		answer_states(q, NULL);
	}
}

/* ---- questions --------------------------------------------------------------------------------- */

static struct question *question_create(
		struct self *self, chatd_worker *w, const struct chatd_str *users, size_t n)
{
	size_t text = 0;
	for (size_t i = 0; i < n; i++) {
		text += users[i].n;
	}
	struct question *q =
			self->h->mem_alloc(sizeof(*q) + n * (sizeof(q->users[0]) + sizeof(int32_t)) + text);
	if (!q) {
		return NULL;
	}
	q->self = self;
	q->from = w;
	q->n = n;
	q->online = (int32_t *)(void *)(q->users + n);
	char *at = (char *)(q->online + n);
	for (size_t i = 0; i < n; i++) {
		if (users[i].n) {
			memcpy(at, users[i].p, users[i].n);
		}
		q->users[i] = chatd_str_of(at, users[i].n);
		at += users[i].n;
	}
	return q;
}

static chatd_status put(struct question *q, void (*fn)(void *arg))
{
	chatd_status rc = q->self->h->post(home_of(q->self), fn, q);
	if (rc < 0) {
		question_free(q);
	}
	return rc;
}

static chatd_status get(void *obj, chatd_worker *w, const struct chatd_str *users, size_t n,
		chatd_presence_fn *fn, void *arg)
{
	struct question *q = question_create(obj, w, users, n);
	if (!q) {
		return -ENOMEM;
	}
	q->fn = fn;
	q->arg = arg;
	return put(q, on_question);
}

static chatd_status look(void *obj, chatd_worker *w, const struct chatd_str *users, size_t n,
		chatd_presence_states_fn *fn, void *arg)
{
	if (n == 0 || n > USERS_MAX) {
		return -EINVAL;
	}
	struct question *q = question_create(obj, w, users, n);
	if (!q) {
		return -ENOMEM;
	}
	q->states_fn = fn;
	q->arg = arg;
	return put(q, on_states_question);
}

/* ---- words --------------------------------------------------------------------------------------- */

static void on_said(void *arg)
{
	struct saying *s = arg;
	s->fn(s->arg, s->rc);
	s->self->h->mem_free(s);
}

void saying_answer(struct saying *s, chatd_status rc)
{
	s->rc = rc;
	if (s->self->h->post(s->from, on_said, s) < 0) {
		s->self->h->mem_free(s);
	}
}

static void on_saying(void *arg)
{
	struct saying *s = arg;
	user_says(s->self, s);
}

static chatd_status set(void *obj, chatd_worker *w, const struct chatd_presence_word *word,
		chatd_presence_set_fn *fn, void *arg)
{
	struct self *self = obj;
	if (word->status < CHATD_PRESENCE_ONLINE || word->status > CHATD_PRESENCE_BUSY ||
			word->text.n > CHATD_PRESENCE_TEXT_MAX || !word->user.n) {
		return -EINVAL;
	}
	struct saying *s = self->h->mem_alloc(sizeof(*s) + word->user.n + word->text.n);
	if (!s) {
		return -ENOMEM;
	}
	*s = (struct saying){ .self = self, .from = w, .fn = fn, .arg = arg, .word = *word };
	memcpy(s->texts, word->user.p, word->user.n);
	s->word.user.p = s->texts;
	if (word->text.n) {
		memcpy(s->texts + word->user.n, word->text.p, word->text.n);
		s->word.text.p = s->texts + word->user.n;
	}
	/* At the home at once: the session's end does not wait for a post either. */
	if (w == home_of(self)) {
		user_says(self, s);
		return 0;
	}
	chatd_status rc = self->h->post(home_of(self), on_saying, s);
	if (rc < 0) {
		self->h->mem_free(s);
	}
	return rc;
}

/* ---- those who listen ---------------------------------------------------------------------------- */

static chatd_status watch(void *obj, chatd_presence_event *fn, void *arg)
{
	struct self *self = obj;
	int32_t i = chatd_hearers_place(&self->watching);
	if (i < 0) {
		return i;
	}
	self->watchers[i] = (struct watcher){ fn, arg };
	chatd_hearers_fill(&self->watching, i);
	events_wanted(self);
	return 0;
}

static chatd_status follow(void *obj, const struct chatd_presence_follower *f)
{
	struct self *self = obj;
	int32_t i = chatd_hearers_place(&self->following);
	if (i < 0) {
		return i;
	}
	self->followers[i] = *f;
	chatd_hearers_fill(&self->following, i);
	events_wanted(self);
	return 0;
}

/* ---- where they are ----------------------------------------------------------------------------- */

/* One question; they are answered in their order, whatever becomes of each. */
struct where {
	struct where *next;
	struct self *self;
	struct asker *asker;
	chatd_presence_nodes_fn *fn;
	void *arg;
	chatd_status rc;
	int32_t done;
	size_t n;
	struct chatd_str nodes[]; /* and their text */
};

static struct where *where_create(struct self *self, size_t n, size_t text)
{
	struct where *q = self->h->mem_alloc(sizeof(*q) + n * sizeof(q->nodes[0]) + text);
	if (q) {
		q->self = self;
		q->n = n;
	}
	return q;
}

static void hand_out(struct asker *a)
{
	while (a->first && a->first->done) {
		struct where *q = a->first;
		a->first = q->next;
		if (!a->first) {
			a->end = &a->first;
		}
		q->fn(q->arg, q->rc, q->rc < 0 ? NULL : q->nodes, q->rc < 0 ? 0 : q->n);
		q->self->h->mem_free(q);
	}
}

static void fail_later(void *arg)
{
	struct where *q = arg;
	q->done = 1;
	hand_out(q->asker);
}

/* The answer takes the place of the question in the queue. */
static void put_in(struct where *q, struct where *full)
{
	struct where **at = &q->asker->first;
	while (*at != q) {
		at = &(*at)->next;
	}
	full->next = q->next;
	full->asker = q->asker;
	full->fn = q->fn;
	full->arg = q->arg;
	full->done = 1;
	*at = full;
	if (q->asker->end == &q->next) {
		q->asker->end = &full->next;
	}
	q->self->h->mem_free(q);
}

static struct where *copy_nodes(struct self *self, const struct chatd_redis_reply *r)
{
	size_t text = 0;
	for (size_t i = 0; i < r->n; i++) {
		text += r->items[i].text.n;
	}
	struct where *full = where_create(self, r->n, text);
	if (full) {
		char *at = (char *)(full->nodes + full->n);
		for (size_t i = 0; i < r->n; i++) {
			struct chatd_str node = r->items[i].text;
			if (node.n) {
				memcpy(at, node.p, node.n);
			}
			full->nodes[i] = chatd_str_of(at, node.n);
			at += node.n;
		}
	}
	return full;
}

static void doubt(void *arg)
{
	lease_doubted(arg);
}

static void on_nodes(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct where *q = arg;
	struct self *self = q->self;
	struct asker *a = q->asker;
	struct where *full = rc == 0 && r->type == CHATD_REDIS_ARRAY ? copy_nodes(self, r) : NULL;
	if (rc == 0 && r->type == CHATD_REDIS_NIL) {
		(void)self->h->post(home_of(self), doubt, self);
	}
	if (full) {
		put_in(q, full);
	} else {
		q->rc = -EAGAIN;
		q->done = 1;
	}
	hand_out(a);
}

static chatd_status ask_nodes(struct self *self, chatd_worker *w, const struct chatd_str *users,
		size_t n, struct where *q)
{
	struct chatd_str *argv = self->h->mem_alloc((n + 2) * (sizeof(*argv) + KEY_MAX));
	if (!argv) {
		return -ENOMEM;
	}
	char(*keys)[KEY_MAX] = (char(*)[KEY_MAX])(void *)(argv + n + 2);
	argv[0] = key_of(self, "active:servers", text_of(""), keys[0]);
	for (size_t i = 0; i < n; i++) {
		argv[i + 1] = key_of(self, "connection:", users[i], keys[i + 1]);
	}
	argv[n + 1] = text_of(self->node);
	const struct chatd_redis_command c = command_of(self->nodes, n + 1, argv, n + 2);
	chatd_status rc = self->redis->call(self->redis_service->obj, w, &c, on_nodes, q);
	self->h->mem_free(argv);
	return rc;
}

static chatd_status nodes(void *obj, chatd_worker *w, const struct chatd_str *users, size_t n,
		chatd_presence_nodes_fn *fn, void *arg)
{
	struct self *self = obj;
	struct asker *a = self->h->worker_self(self->ctx, w);
	if (n == 0 || n > USERS_MAX) {
		return -EINVAL;
	}
	struct where *q = where_create(self, 0, 0);
	if (!q) {
		return -ENOMEM;
	}
	q->asker = a;
	q->fn = fn;
	q->arg = arg;
	if (is_unknown(self, w) || ask_nodes(self, w, users, n, q) < 0) {
		/* Later, and behind those that were asked before. */
		q->rc = -EAGAIN;
		chatd_status rc = self->h->post(w, fail_later, q);
		if (rc < 0) {
			self->h->mem_free(q);
			return rc;
		}
	}
	*a->end = q;
	a->end = &q->next;
	return 0;
}

static int32_t live(void *obj)
{
	return atomic_load(&((struct self *)obj)->live);
}

const struct chatd_presence presence_vt = {
	.struct_size = sizeof(presence_vt),
	.get = get,
	.watch = watch,
	.nodes = nodes,
	.live = live,
	.look = look,
	.set = set,
	.follow = follow,
};
