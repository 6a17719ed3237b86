/* SPDX-License-Identifier: Apache-2.0 */
/* What is sent to other servers.  Each target has a flow, on one worker: look where it stands (a
 * record), read what comes after that, send it, note that it went.  With a shared store the record
 * is leased while a request is under way, so that one node sends at a time. */
#include "out.h"

#include <chatd-sdk/text.h>
#include <errno.h>

#define PLACES "webhooks.out"
#define EVENTS "webhooks.event"

enum {
	ID_MAX = 120,
	SKIP_MAX = 1000,
	KEYS_MAX = 1000,
	BODY_MAX = CHATD_FETCH_BODY_MAX - 2, /* what closes it comes behind the events */
};

struct flow {
	struct self *self;
	struct target *t;
	chatd_worker *w;
	struct chatd_timer timer;
	int32_t busy, again, drains, dead;
	struct place place;
	int64_t version, lease; /* of the record; lease: until when it is somebody's */
	int64_t read;           /* rows up to here were of no interest */
	int64_t skipped;
	/* what is being sent */
	struct chatd_json body;
	int64_t upto;           /* the last row in it */
	int32_t presence;       /* it is of these, not of rows: */
	struct chatd_json keys; /* "KEY\0" each */
	size_t n_keys, ends;    /* ends: how many are being taken out of the store */
	char id[ID_MAX + 1];
};

static void cycle(struct flow *f);

static const struct chatd_host *host(const struct flow *f)
{
	return f->self->h;
}

static void on_timer(void *arg)
{
	struct flow *f = arg;
	if (!f->busy && !f->drains && !f->dead) {
		cycle(f);
	}
}

/* Nothing to do, or nothing that can be done now. */
static void rest(struct flow *f, int64_t ms)
{
	if (f->busy) {
		f->busy = 0;
		chatd_json_free(&f->body);
		chatd_json_free(&f->keys);
		chatd_open_end(&f->self->open);
	}
	if (f->dead || f->drains) {
		return;
	}
	if (f->again) {
		f->again = 0;
		ms = ms < POLL_MS ? ms : ms == POLL_MS ? WAKE_MS : ms;
	}
	host(f)->timer_set(f->w, &f->timer, ms, on_timer, f);
}

/* ---- the place -------------------------------------------------------------------------- */

static chatd_status put(struct flow *f, int32_t how, int64_t lease, chatd_store_fn *fn)
{
	char room[512];
	struct chatd_json value;
	chatd_json_init(&value, room, sizeof(room));
	place_write(&value, &f->place);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = how,
		.space = CHATD_LIT(PLACES),
		.key = text(f->t->conf->name),
		.value = chatd_json_str(&value),
		.at = lease,
		.version = f->version,
		.wall = host(f)->wall_ms() };
	chatd_status rc = value.failed
			? -ENOMEM
			: store_of(f->self)->record_put(f->self->store->obj, f->w, &r, fn, f);
	chatd_json_free(&value);
	f->lease = lease;
	return rc;
}

static void after_put(struct flow *f, chatd_status rc, const struct chatd_store_answer *a)
{
	if (rc == 0) {
		f->version = a->records[0].version;
	}
}

static int64_t lease_end(const struct flow *f)
{
	return f->self->shared ? host(f)->wall_ms() + f->self->conf->lease : 0;
}

static void on_released(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	after_put(f, rc, a);
	rest(f, POLL_MS);
}

/* All is sent: another node may go on as well. */
static void idle(struct flow *f)
{
	int64_t moved = f->read > f->place.pos ? f->read : f->place.pos;
	int far = f->skipped >= SKIP_MAX;
	if (!f->lease && !far) {
		rest(f, POLL_MS);
		return;
	}
	f->place.pos = moved;
	f->skipped = 0;
	f->place.owner[0] = '\0';
	if (put(f, CHATD_STORE_RECORD_VERSION, 0, on_released) < 0) {
		rest(f, POLL_MS);
	}
}

/* ---- sending -------------------------------------------------------------------------------- */

static void on_noted(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	after_put(f, rc, a);
	if (f->place.fails) {
		rest(f, f->place.until - host(f)->wall_ms());
	} else if (f->dead || rc < 0) {
		rest(f, POLL_MS);
	} else {
		cycle(f);
	}
}

static void note(struct flow *f, int64_t lease)
{
	chatd_json_free(&f->body);
	if (put(f, CHATD_STORE_RECORD_VERSION, lease, on_noted) < 0) {
		rest(f, POLL_MS);
	}
}

static void on_taken(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	(void)rc;
	(void)a;
	if (--f->ends == 0) {
		note(f, lease_end(f));
	}
}

/* What was told of presence is forgotten; one that stays is told again, which does no harm. */
static void take_out(struct flow *f)
{
	const char *key = f->keys.p;
	f->ends = 1;
	for (size_t i = 0; i < f->n_keys; i++, key += strlen(key) + 1) {
		const struct chatd_store_record_key r = { .struct_size = sizeof(r),
			.space = CHATD_LIT(EVENTS),
			.key = text(key),
			.wall = host(f)->wall_ms() };
		if (store_of(f->self)->record_end(f->self->store->obj, f->w, &r, on_taken, f) == 0) {
			f->ends++;
		}
	}
	chatd_json_free(&f->keys);
	on_taken(f, 0, NULL);
}

static void came_through(struct flow *f)
{
	if (f->place.fails) {
		host(f)->log(f->self->ctx, CHATD_LOG_INFO, "target %s answers again, after %lld failures",
				f->t->conf->name, (long long)f->place.fails);
	}
	f->place.fails = f->place.until = f->place.since = f->place.upto = 0;
	f->place.error[0] = '\0';
	if (f->presence) {
		take_out(f);
		return;
	}
	f->place.pos = f->upto;
	note(f, lease_end(f));
}

static void failed(struct flow *f, int64_t asked, const char *error)
{
	struct place *p = &f->place;
	uint32_t random;
	host(f)->random(&random, sizeof(random));
	int64_t now = host(f)->wall_ms(), wait;
	p->fails++;
	p->since = p->since ? p->since : now;
	p->upto = f->presence ? p->upto : f->upto;
	wait = place_backoff(f->self->conf, p->fails, asked, random);
	p->until = now + wait;
	p->owner[0] = '\0';
	snprintf(p->error, sizeof(p->error), "%s", error);
	if (p->fails == 1 || (p->fails & (p->fails - 1)) == 0) { /* 1, 2, 4, 8 ... */
		host(f)->log(f->self->ctx, CHATD_LOG_WARN,
				"target %s: %s; %lld failures, again in %lld ms. Nothing is lost meanwhile",
				f->t->conf->name, p->error, (long long)p->fails, (long long)wait);
	}
	note(f, 0);
}

static void on_answer(void *arg, chatd_status rc, const struct chatd_fetch_answer *a)
{
	struct flow *f = arg;
	char error[ERROR_MAX + 1];
	if (rc == -ESHUTDOWN || f->dead) {
		rest(f, POLL_MS);
	} else if ((rc == 0 || rc == -EMSGSIZE) && a->status >= 200 && a->status < 300) {
		came_through(f);
	} else if (rc == 0) {
		snprintf(error, sizeof(error), "it answered %d", a->status);
		failed(f, a->retry_after, error);
	} else {
		struct chatd_str why = a->why.p ? a->why : CHATD_LIT("no answer");
		chatd_str_copy(error, sizeof(error), chatd_text_cut(why, sizeof(error) - 1));
		failed(f, 0, error);
	}
}

static void post_it(struct flow *f)
{
	const struct chatd_fetch *fetch = f->self->fetch->vt;
	struct chatd_webhook_lines l;
	chatd_webhook_lines(
			&l, &f->t->key, &f->t->old, f->id, host(f)->wall_ms(), chatd_json_str(&f->body));
	const struct chatd_fetch_request r = { .struct_size = sizeof(r),
		.method = CHATD_LIT("POST"),
		.url = text(f->t->conf->url),
		.body = chatd_json_str(&f->body),
		.headers = l.line,
		.n_headers = 4,
		.timeout = f->t->conf->timeout };
	chatd_status rc = fetch->fetch(f->self->fetch->obj, f->w, &r, on_answer, f);
	if (rc == -EAGAIN || rc == -ESHUTDOWN) {
		rest(f, POLL_MS);
	} else if (rc < 0) {
		failed(f, 0, rc == -ENOMEM ? "no memory" : "this URL cannot be asked");
	}
}

static void on_leased(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	after_put(f, rc, a);
	if (rc < 0 || f->dead) {
		rest(f, POLL_MS); /* another node was faster */
		return;
	}
	post_it(f);
}

static void begin(struct flow *f)
{
	chatd_json_lit(&f->body, "]}");
	if (f->body.failed) {
		rest(f, POLL_MS);
		return;
	}
	if (!f->self->shared) {
		post_it(f);
		return;
	}
	f->place.upto = f->presence ? f->place.upto : f->upto;
	snprintf(f->place.owner, sizeof(f->place.owner), "%s", host(f)->server_id());
	if (put(f, CHATD_STORE_RECORD_VERSION, lease_end(f), on_leased) < 0) {
		rest(f, POLL_MS);
	}
}

static void open_body(struct flow *f)
{
	chatd_json_free(&f->body);
	chatd_json_lit(&f->body, "{\"events\":[");
}

/* ---- presence --------------------------------------------------------------------------------- */

static void on_events(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	if (rc < 0 || f->dead) {
		rest(f, POLL_MS);
		return;
	}
	if (!a->n_records) {
		idle(f);
		return;
	}
	open_body(f);
	chatd_json_free(&f->keys);
	f->presence = 1;
	f->n_keys = a->n_records;
	for (size_t i = 0; i < a->n_records; i++) {
		chatd_json_next(&f->body);
		chatd_json_raw(&f->body, a->records[i].value.p, a->records[i].value.n);
		chatd_json_raw(&f->keys, a->records[i].key.p, a->records[i].key.n);
		chatd_json_raw(&f->keys, "", 1);
	}
	if (f->keys.failed) {
		rest(f, POLL_MS);
		return;
	}
	snprintf(f->id, sizeof(f->id), "%s.p.%.48s", f->t->conf->name,
			f->keys.p + strlen(f->t->conf->name) + 1);
	begin(f);
}

static void look_for_events(struct flow *f)
{
	char prefix[TARGET_NAME_MAX + 2];
	if (!(f->t->events & EVENT_PRESENCE)) {
		idle(f);
		return;
	}
	snprintf(prefix, sizeof(prefix), "%s/", f->t->conf->name);
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = (int32_t)f->t->conf->batch,
		.space = CHATD_LIT(EVENTS),
		.prefix = text(prefix),
		.wall = host(f)->wall_ms() };
	if (store_of(f->self)->record_list(f->self->store->obj, f->w, &r, on_events, f) < 0) {
		rest(f, POLL_MS);
	}
}

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)arg;
	(void)rc; /* -EEXIST: another node has told it */
	(void)a;
}

static void keep_event(struct self *self, chatd_worker *w, const struct target *t,
		struct chatd_str user, const struct chatd_presence_state *s)
{
	char key[CHATD_ID_MAX + TARGET_NAME_MAX + 40], room[1024];
	int64_t now = self->h->wall_ms();
	struct chatd_json value;
	/* The version is the same on all nodes, so each change is kept once. */
	snprintf(key, sizeof(key), "%s/%020lld-%.*s-%d", t->conf->name,
			(long long)(s->version ? s->version : now), (int)user.n, user.p, s->status);
	chatd_json_init(&value, room, sizeof(room));
	event_write_presence(&value, key + strlen(t->conf->name) + 1, user, s, now);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_NEW,
		.space = CHATD_LIT(EVENTS),
		.key = text(key),
		.value = chatd_json_str(&value),
		.expires = now + INT64_C(86400000), /* who was online yesterday is of no use */
		.wall = now };
	if (value.failed || store_of(self)->record_put(self->store->obj, w, &r, on_kept, NULL) < 0) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "target %s misses that %.*s came or went",
				t->conf->name, (int)user.n, user.p);
	}
	chatd_json_free(&value);
}

static void on_presence(
		void *arg, chatd_worker *w, struct chatd_str user, const struct chatd_presence_state *s)
{
	struct self *self = arg;
	for (size_t i = 0; i < self->n_targets; i++) {
		if (self->targets[i].events & EVENT_PRESENCE) {
			keep_event(self, w, &self->targets[i], user, s);
		}
	}
}

/* ---- rows --------------------------------------------------------------------------------------- */

/* 0: it has no place any more beside the others.  One that has none alone is left out, or nothing
 * behind it would ever be sent. */
static int add_event(struct flow *f, const struct chatd_store_answer *a, size_t i, size_t *n)
{
	const struct chatd_store_message *m = &a->messages[i];
	size_t before = f->body.n;
	event_write(&f->body, m, a->epoch);
	if (f->body.n <= BODY_MAX) {
		(*n)++;
		return 1;
	}
	f->body.n = before;
	if (*n == 0) {
		host(f)->log(f->self->ctx, CHATD_LOG_WARN,
				"target %s: message %.*s is too large for a request, and left out",
				f->t->conf->name, (int)m->id.n, m->id.p);
	}
	return *n == 0;
}

/* How many are wanted; *ret_last is the place of the last one that was looked at. */
static size_t gather(struct flow *f, const struct chatd_store_answer *a, int64_t *ret_last)
{
	size_t n = 0;
	open_body(f);
	for (size_t i = 0; i < a->n_messages; i++) {
		const struct chatd_store_message *m = &a->messages[i];
		if (f->place.upto && m->pos > f->place.upto) {
			break;
		}
		if (event_wanted(f->t, m) && !add_event(f, a, i, &n)) {
			break;
		}
		*ret_last = m->pos;
	}
	return n;
}

static void on_rows(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	int64_t last = 0;
	if (rc < 0 || f->dead) {
		rest(f, POLL_MS);
		return;
	}
	size_t wanted = gather(f, a, &last);
	if (wanted) {
		f->presence = 0;
		f->upto = last;
		snprintf(f->id, sizeof(f->id), "%s.%lld.%lld", f->t->conf->name, (long long)f->place.pos,
				(long long)last);
		begin(f);
		return;
	}
	f->place.upto = 0; /* what was to be repeated is gone by now */
	f->read = last ? last : f->read;
	f->skipped += (int64_t)a->n_messages;
	if (a->n_messages == (size_t)f->t->conf->batch) {
		cycle(f);
	} else {
		look_for_events(f);
	}
}

static void read_on(struct flow *f)
{
	const struct chatd_store_written r = { .struct_size = sizeof(r),
		.limit = (int32_t)f->t->conf->batch,
		.after_pos = f->read > f->place.pos ? f->read : f->place.pos };
	if (store_of(f->self)->written(f->self->store->obj, f->w, &r, on_rows, f) < 0) {
		rest(f, POLL_MS);
	}
}

/* ---- where it stands -------------------------------------------------------------------------------- */

static void on_made(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	(void)a;
	if (f->dead || (rc < 0 && rc != -EEXIST)) {
		rest(f, POLL_MS);
		return;
	}
	cycle(f);
}

/* A new target begins with what comes from now on. */
static void on_top(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	if (rc < 0 || f->dead) {
		rest(f, POLL_MS);
		return;
	}
	f->place = (struct place){ .pos = a->pos };
	if (put(f, CHATD_STORE_RECORD_NEW, 0, on_made) < 0) {
		rest(f, POLL_MS);
	}
}

static void on_place(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct flow *f = arg;
	int64_t now = host(f)->wall_ms();
	if (f->dead || (rc < 0 && rc != -ENOENT)) {
		rest(f, POLL_MS);
		return;
	}
	if (rc == -ENOENT || !place_read(a->records[0].value, &f->place)) {
		const struct chatd_store_changed r = { .struct_size = sizeof(r), .limit = 1 };
		if (store_of(f->self)->changed(f->self->store->obj, f->w, &r, on_top, f) < 0) {
			rest(f, POLL_MS);
		}
		return;
	}
	f->version = a->records[0].version;
	f->lease = a->records[0].at;
	int others = f->self->shared && f->lease > now && strcmp(f->place.owner, host(f)->server_id());
	if (others) {
		rest(f, POLL_MS);
	} else if (f->place.until > now) {
		f->again = 0;
		rest(f, f->place.until - now);
	} else {
		read_on(f);
	}
}

static void cycle(struct flow *f)
{
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT(PLACES),
		.key = text(f->t->conf->name),
		.wall = host(f)->wall_ms() };
	if (!f->busy) {
		f->busy = 1;
		chatd_open_begin(&f->self->open);
	}
	host(f)->timer_clear(&f->timer);
	if (f->dead || f->drains ||
			store_of(f->self)->record_get(f->self->store->obj, f->w, &r, on_place, f) < 0) {
		rest(f, POLL_MS);
	}
}

/* ---- woken ---------------------------------------------------------------------------------------------- */

static void on_wake(void *arg)
{
	struct flow *f = arg;
	atomic_store(&f->t->woken, 0);
	if (f->dead || f->drains) {
		return;
	}
	if (f->busy) {
		f->again = 1;
	} else if (f->place.until <= host(f)->wall_ms()) {
		host(f)->timer_set(f->w, &f->timer, WAKE_MS, on_timer, f);
	}
}

static chatd_verdict on_sent(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	(void)call;
	(void)wself;
	for (size_t i = 0; i < self->n_targets; i++) {
		struct target *t = &self->targets[i];
		if (!atomic_exchange(&t->woken, 1) &&
				self->h->post(self->h->worker_at(t->home), on_wake, &self->flows[i]) < 0) {
			atomic_store(&t->woken, 0); /* the next look is within a second */
		}
	}
	return CHATD_NEXT;
}

/* ---- life -------------------------------------------------------------------------------------------------- */

chatd_status out_init(struct self *self)
{
	const struct chatd_host *h = self->h;
	const struct chatd_presence *presence = self->presence ? self->presence->vt : NULL;
	const struct chatd_presence_follower follower = {
		.struct_size = sizeof(follower), .changed = on_presence, .arg = self
	};
	uint32_t events = 0;
	self->flows = h->mem_alloc((self->n_targets + 1) * sizeof(*self->flows));
	if (!self->flows) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < self->n_targets; i++) {
		self->targets[i].home = (int32_t)(i % (size_t)h->worker_count());
		events |= self->targets[i].events;
	}
	if (!self->n_targets) {
		return 0;
	}
	if (events & EVENT_PRESENCE) {
		if (!presence || !CHATD_HAS(presence, follow)) {
			return h->fail(self->ctx, -ENOENT,
					"a target wants presence: put presence-memory or presence-redis into the "
					"configuration, or take presence out of its events");
		}
		chatd_status rc = presence->follow(self->presence->obj, &follower);
		if (rc < 0) {
			return rc;
		}
	}
	return h->hook(self->ctx, chatd_hook_message_sent, CHATD_ORDER_OBSERVE, on_sent);
}

chatd_status out_start(struct worker *at)
{
	struct self *self = at->self;
	for (size_t i = 0; i < self->n_targets; i++) {
		struct flow *f = &self->flows[i];
		if (self->targets[i].home != self->h->worker_index(at->w)) {
			continue;
		}
		f->self = self;
		f->t = &self->targets[i];
		f->w = at->w;
		chatd_json_init(&f->body, NULL, 0);
		chatd_json_init(&f->keys, NULL, 0);
		self->h->timer_set(f->w, &f->timer, WAKE_MS, on_timer, f);
	}
	return 0;
}

/* What is on its way gets its answer, which is noted; the rest is sent by who comes next. */
void out_drain(struct worker *at)
{
	struct self *self = at->self;
	for (size_t i = 0; i < self->n_targets; i++) {
		struct flow *f = &self->flows[i];
		if (f->w == at->w) {
			f->drains = 1;
			self->h->timer_clear(&f->timer);
		}
	}
}

/* Answers that are still to come find it dead; its memory stays until fini(). */
void out_stop(struct worker *at)
{
	struct self *self = at->self;
	for (size_t i = 0; i < self->n_targets; i++) {
		struct flow *f = &self->flows[i];
		if (f->w == at->w) {
			f->dead = 1;
			self->h->timer_clear(&f->timer);
		}
	}
}

void out_fini(struct self *self)
{
	for (size_t i = 0; self->flows && i < self->n_targets; i++) {
		chatd_json_free(&self->flows[i].body);
		chatd_json_free(&self->flows[i].keys);
	}
	self->h->mem_free(self->flows);
}
