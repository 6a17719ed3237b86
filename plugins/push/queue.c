/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be told, as records of the store: one per user and conversation however much is said,
 * due after the grace, claimed by one node and, should that die, by another. */
#include "push.h"

enum {
	SOON_MS = 500,     /* while this node knows of jobs that wait */
	SELDOM_MS = 10000, /* for those of nodes that have died, and those put off */
	CLAIM_MS = 120000, /* more than a job takes: its tries are jobs of their own */
	CLAIM_MAX = 50,
	PUT_TRIES = 4,
};

struct sender {
	struct wself *ws;
	struct chatd_timer timer;
	struct jobs jobs;
	int64_t n;     /* of jobs */
	int64_t found; /* when some were found last */
	int64_t due;   /* wall-clock ms: a job that was put off, and waits no longer than SELDOM_MS */
	int32_t asking, dead;
};

/* A job on its way to the store. */
struct put {
	struct wself *ws;
	int32_t tries, anew;
	struct place place;
	char user[CHATD_ID_MAX + 1];
	char key[JOB_KEY];
};

/* ---- putting ---------------------------------------------------------------------------------- */

static void put_new(struct put *p);

static void put_end(struct put *p)
{
	chatd_open_free(p->ws->self->h, &p->ws->self->open, p);
}

static void tick(void *arg);

static chatd_worker *sender_worker(const struct self *self)
{
	return self->h->worker_at(self->h->worker_count() - 1);
}

static void on_hint(void *arg)
{
	struct self *self = arg;
	const struct wself *ws = self->h->worker_self(self->ctx, sender_worker(self));
	struct sender *s = ws->sender;
	atomic_store(&self->hinted, 0);
	if (s && !s->asking) {
		s->found = self->h->now_ms(ws->w);
		self->h->timer_set(ws->w, &s->timer, SOON_MS, tick, s);
	}
}

static void hint(struct self *self)
{
	if (!atomic_exchange(&self->hinted, 1) &&
			self->h->post(sender_worker(self), on_hint, self) < 0) {
		atomic_store(&self->hinted, 0);
	}
}

static struct chatd_store_record record_of(const struct put *p)
{
	const struct self *self = p->ws->self;
	int64_t now = self->h->wall_ms();
	return (struct chatd_store_record){ .struct_size = sizeof(struct chatd_store_record),
		.space = text(SPACE_JOB),
		.key = text(p->key),
		.value = CHATD_LIT("{}"),
		.owner = text(p->user),
		.at = now + self->conf->grace + 1,
		.max = JOBS_PER_USER,
		.wall = now };
}

static void put_done(struct put *p)
{
	struct self *self = p->ws->self;
	atomic_fetch_add(&self->waiting, 1);
	hint(self);
	put_end(p);
}

/* It told whoever works on it that there is more. */
static void on_touched(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct put *p = arg;
	(void)a;
	if ((rc == -ENOENT || rc == -ESTALE) && !p->ws->stopped && ++p->tries < PUT_TRIES) {
		put_new(p);
	} else if (rc == 0 && p->anew) {
		put_done(p);
	} else {
		put_end(p);
	}
}

/* What waits will tell this too; who has begun must look once more. */
static void on_there(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct put *p = arg;
	struct self *self = p->ws->self;
	if (p->ws->stopped || (rc < 0 && rc != -ENOENT) || ++p->tries >= PUT_TRIES) {
		put_end(p);
		return;
	}
	if (rc == -ENOENT) {
		put_new(p);
		return;
	}
	struct chatd_store_record r = record_of(p);
	r.how = CHATD_STORE_RECORD_VERSION;
	r.version = a->records[0].version;
	r.value = a->records[0].value;
	p->anew = a->records[0].at == 0; /* what was told lately */
	if (!p->anew) {
		r.at = a->records[0].at;
	}
	if (store_of(self)->record_put(self->store->obj, p->ws->w, &r, on_touched, p) < 0) {
		put_end(p);
	}
}

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct put *p = arg;
	struct self *self = p->ws->self;
	(void)a;
	if (rc == -EEXIST && !p->ws->stopped) {
		const struct chatd_store_record_key k = key_of_record(self, SPACE_JOB, p->key);
		rc = store_of(self)->record_get(self->store->obj, p->ws->w, &k, on_there, p);
		if (rc < 0) {
			put_end(p);
		}
		return;
	}
	if (rc == 0) {
		put_done(p);
		return;
	}
	if (!p->ws->stopped) {
		count(p->ws, FULL);
	}
	put_end(p);
}

static void put_new(struct put *p)
{
	struct self *self = p->ws->self;
	struct chatd_store_record r = record_of(p);
	r.how = CHATD_STORE_RECORD_NEW;
	if (store_of(self)->record_put(self->store->obj, p->ws->w, &r, on_put, p) < 0) {
		count(p->ws, FULL);
		put_end(p);
	}
}

void queue_put(struct wself *ws, const char *user, const struct place *place)
{
	struct self *self = ws->self;
	struct put *p = atomic_load(&self->waiting) < self->conf->queue
			? chatd_open_alloc(self->h, &self->open, sizeof(*p))
			: NULL;
	if (!p) {
		count(ws, FULL);
		return;
	}
	p->ws = ws;
	p->place = *place;
	chatd_str_copy(p->user, sizeof(p->user), text(user));
	job_key(user, place, p->key);
	put_new(p);
}

/* ---- handing out -------------------------------------------------------------------------------- */

static void tick_in(struct sender *s, int64_t ms)
{
	s->ws->self->h->timer_set(s->ws->w, &s->timer, ms, tick, s);
}

/* What this node has put may have gone to another: after a while in which there was nothing to do
 * nothing of it waits. */
static void settle(struct sender *s, size_t n, int full)
{
	struct self *self = s->ws->self;
	int64_t now = self->h->now_ms(s->ws->w);
	if (n) {
		s->found = now;
	} else if (now - s->found > self->conf->grace + SELDOM_MS && s->n == 0) {
		atomic_store(&self->waiting, 0);
	}
	int64_t ms = full ? 0 : atomic_load(&self->waiting) > 0 ? SOON_MS : SELDOM_MS;
	int64_t left = s->due ? s->due - self->h->wall_ms() : ms;
	tick_in(s, left < ms ? left > 0 ? left : 0 : ms);
}

static void on_claimed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct sender *s = arg;
	s->asking = 0;
	chatd_open_end(&s->ws->self->open);
	if (s->dead) {
		s->ws->self->h->mem_free(s);
		return;
	}
	if (rc < 0) {
		tick_in(s, SELDOM_MS);
		return;
	}
	for (size_t i = 0; i < a->n_records; i++) {
		s->n++;
		job_start(s->ws, &s->jobs, &a->records[i]);
	}
	settle(s, a->n_records, a->n_records == CLAIM_MAX);
}

static void tick(void *arg)
{
	struct sender *s = arg;
	struct self *self = s->ws->self;
	int64_t now = self->h->wall_ms(), room = self->conf->concurrency - s->n;
	if (s->asking || room <= 0 || s->ws->drains) {
		return; /* queue_freed() goes on */
	}
	if (s->due <= now) {
		s->due = 0;
	}
	const struct chatd_store_record_claim c = { .struct_size = sizeof(c),
		.limit = (int32_t)(room < CLAIM_MAX ? room : CLAIM_MAX),
		.space = text(SPACE_JOB),
		.wall = now,
		.until = now + CLAIM_MS };
	s->asking = chatd_open_asked(&self->open,
						store_of(self)->record_claim(
								self->store->obj, s->ws->w, &c, on_claimed, s)) == 0;
	if (!s->asking) {
		tick_in(s, SELDOM_MS);
	}
}

void queue_freed(struct wself *ws)
{
	struct sender *s = ws->sender;
	if (atomic_load(&ws->self->waiting) > 0) {
		atomic_fetch_sub(&ws->self->waiting, 1);
	}
	if (s && s->n-- == ws->self->conf->concurrency) {
		tick_in(s, 0);
	}
}

void queue_due(struct wself *ws, int64_t at)
{
	struct sender *s = ws->sender;
	int64_t left = at - ws->self->h->wall_ms();
	if (s && left < SELDOM_MS && (!s->due || at < s->due)) {
		s->due = at;
		if (!s->asking) {
			tick_in(s, left > 0 && left < SOON_MS ? left : SOON_MS);
		}
	}
}

chatd_status queue_start(struct wself *ws)
{
	if (ws->w != sender_worker(ws->self)) {
		return 0;
	}
	struct sender *s = ws->self->h->mem_alloc(sizeof(*s));
	if (!s) {
		return -ENOMEM;
	}
	s->ws = ws;
	TAILQ_INIT(&s->jobs);
	ws->sender = s;
	tick_in(s, SOON_MS);
	return 0;
}

/* What is claimed goes on; what waits is another's, or for later. */
void queue_drain(struct wself *ws)
{
	if (ws->sender) {
		ws->self->h->timer_clear(&ws->sender->timer);
	}
}

void queue_stop(struct wself *ws)
{
	struct sender *s = ws->sender;
	if (!s) {
		return;
	}
	ws->sender = NULL;
	ws->self->h->timer_clear(&s->timer);
	jobs_stop(&s->jobs);
	s->dead = 1;
	if (!s->asking) {
		ws->self->h->mem_free(s);
	}
}
