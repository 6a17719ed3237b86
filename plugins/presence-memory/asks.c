/* SPDX-License-Identifier: Apache-2.0 */
/* The service: questions and words go to the home, answers come back. */
#include "presence_memory.h"

#include <errno.h>
#include <string.h>

struct question {
	struct self *self;
	chatd_worker *from;
	chatd_presence_fn *fn;
	chatd_presence_states_fn *states_fn; /* the one or the other */
	void *arg;
	struct chatd_presence_state *states; /* and their texts, made at the home */
	size_t n;
	int32_t *online; /* behind users[] */
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
		q->states_fn(q->arg, q->states ? 0 : -ENOMEM, q->states, q->states ? q->n : 0);
	} else {
		q->fn(q->arg, 0, q->online, q->n);
	}
	question_free(q);
}

static void fill_states(struct question *q)
{
	size_t text = 0;
	struct chatd_presence_state s;
	for (size_t i = 0; i < q->n; i++) {
		user_state(q->self, q->users[i], &s);
		text += s.text.n;
	}
	q->states = q->self->h->mem_alloc((q->n + 1) * sizeof(*q->states) + text);
	if (!q->states) {
		return;
	}
	char *at = (char *)(q->states + q->n);
	for (size_t i = 0; i < q->n; i++) {
		user_state(q->self, q->users[i], &q->states[i]);
		struct chatd_str said = q->states[i].text;
		if (said.n) {
			memcpy(at, said.p, said.n);
			q->states[i].text = chatd_str_of(at, said.n);
			at += said.n;
		}
	}
}

static void on_question(void *arg)
{
	struct question *q = arg;
	if (q->states_fn) {
		fill_states(q);
	}
	for (size_t i = 0; i < q->n; i++) {
		q->online[i] = user_find(q->self, q->users[i]) != NULL;
	}
	if (q->self->h->post(q->from, on_answer, q) < 0) {
		question_free(q);
	}
}

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

static chatd_status put(struct question *q)
{
	chatd_status rc = q->self->h->post(home_of(q->self), on_question, q);
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
	return put(q);
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
	return put(q);
}

/* ---- words ------------------------------------------------------------------------------------- */

struct saying {
	struct self *self;
	chatd_worker *from;
	chatd_presence_set_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_presence_word word; /* its text is behind */
	char text[];
};

static void on_heard(void *arg)
{
	struct saying *s = arg;
	s->fn(s->arg, s->rc);
	s->self->h->mem_free(s);
}

static void on_saying(void *arg)
{
	struct saying *s = arg;
	s->rc = user_says(s->self, &s->word);
	if (s->self->h->post(s->from, on_heard, s) < 0) {
		s->self->h->mem_free(s);
	}
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
	memcpy(s->text, word->user.p, word->user.n);
	s->word.user.p = s->text;
	if (word->text.n) {
		memcpy(s->text + word->user.n, word->text.p, word->text.n);
		s->word.text.p = s->text + word->user.n;
	}
	/* At the home at once: the session's end does not wait for a post either. */
	int here = w == home_of(self);
	if (here) {
		s->rc = user_says(self, &s->word);
	}
	chatd_status rc = self->h->post(home_of(self), here ? on_heard : on_saying, s);
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
	return 0;
}

const struct chatd_presence presence_vt = {
	.struct_size = sizeof(presence_vt),
	.get = get,
	.watch = watch,
	.look = look,
	.set = set,
	.follow = follow,
};
