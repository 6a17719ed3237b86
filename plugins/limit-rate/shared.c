/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets that all nodes share: one atomic script in Redis for all that a call draws, with Redis'
 * clock.
 *
 * The bucket here mirrors what Redis said last.  It is never emptier than the one in Redis, so
 * what it refuses need not be asked about: who floods one node does not flood Redis.  While Redis
 * is away each node grants its part of the rate from it, and tells Redis later how empty it is. */
#include "limit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MICRO = 1000, REDIS_KEY = KEY_MAX + 80, NUMBER = 24, WORDS = 4 };

/* KEYS rate:...  ARGV for each: token depth cost known (microseconds, but for the cost)
 * The value is the time at which the bucket will be full.  {0, 0, used, ...}: all are drawn;
 * {which, wait, used, ...}: none is, that one (from 1 on) would have to wait longest.
 * known: so long from now it will not be full, as the node that asks has granted by itself.
 * A clock that steps back leaves it empty at most, one that steps forward full at most; the former is
 * written down at once, or whoever is refused would find it empty until the clock is there again. */
static const char script_draw[] =
		"local t = redis.call('TIME')\n"
		"local now = t[1] * 1000000 + t[2]\n"
		"local after, answer = {}, {0, 0}\n"
		"local function put(key, at, depth)\n"
		"  local ttl = math.max(300000, math.ceil(depth / 1000) + 1000)\n"
		"  redis.call('SET', key, string.format('%.0f', at), 'PX', string.format('%.0f', ttl))\n"
		"end\n"
		"for i, key in ipairs(KEYS) do\n"
		"  local a = i * 4 - 4\n"
		"  local depth = tonumber(ARGV[a + 2])\n"
		"  local at = tonumber(redis.call('GET', key) or 0) or 0\n"
		"  if at > now + depth then\n"
		"    at = now + depth\n"
		"    put(key, at, depth)\n"
		"  end\n"
		"  at = math.max(at, now + math.min(tonumber(ARGV[a + 4]), depth))\n"
		"  after[i] = at + ARGV[a + 1] * ARGV[a + 3]\n"
		"  local wait = after[i] - now - depth\n"
		"  if wait > answer[2] then answer[1], answer[2] = i, wait end\n"
		"  answer[i + 2] = at - now\n"
		"end\n"
		"if answer[1] > 0 then return answer end\n"
		"for i, key in ipairs(KEYS) do\n"
		"  put(key, after[i], ARGV[i * 4 - 2])\n"
		"  answer[i + 2] = after[i] - now\n"
		"end\n"
		"return answer\n";

chatd_status shared_init(struct self *self)
{
	self->presence = self->h->service(self->ctx, CHATD_PRESENCE);
	if (self->conf->shared == SHARED_AUTO) {
		self->redis = self->h->service(self->ctx, CHATD_REDIS);
	}
	const struct chatd_redis *redis = self->redis ? self->redis->vt : NULL;
	self->away = self->h->mem_alloc(sizeof(*self->away));
	if (!self->away) {
		return -ENOMEM;
	}
	return redis ? redis->script(self->redis->obj, script_draw, &self->script) : 0;
}

int64_t shared_nodes(const struct self *self)
{
	const struct chatd_presence *presence = self->presence ? self->presence->vt : NULL;
	int32_t nodes = 1;
	if (presence && CHATD_HAS(presence, live)) {
		nodes = presence->live(self->presence->obj);
	}
	return nodes > 1 ? nodes : 1;
}

/* ---- the question -------------------------------------------------------------------------- */

struct words {
	char key[REDIS_KEY], number[WORDS][NUMBER];
};

/* For as long as a bucket may remember it. */
static nanos known_of(const struct self *self, const struct draw *d, nanos now)
{
	struct drawn drawn = { 0, 0 };
	nanos at = atomic_load_explicit(&self->away->at, memory_order_relaxed);
	if (at && now - at <= d->rate.depth) {
		(void)self->backend->look(d->bucket, &d->rate, 0, now, &drawn);
	}
	return drawn.used;
}

static struct chatd_str number(int64_t v, char room[NUMBER])
{
	int n = snprintf(room, NUMBER, "%" PRId64, v);
	return chatd_str_of(room, (size_t)n);
}

static int64_t micros(nanos v)
{
	return (v + MICRO - 1) / MICRO;
}

static chatd_status write_key(
		const struct self *self, const struct draw *d, char room[REDIS_KEY], struct chatd_str *ret)
{
	const struct chatd_redis *redis = self->redis->vt;
	struct chatd_str prefix = redis->prefix(self->redis->obj);
	char hidden[CHATD_REDIS_HIDDEN] = "";
	chatd_status rc = 0;
	if (d->shown < d->key.n) {
		struct chatd_str whom = chatd_str_of(d->key.p + d->shown, d->key.n - d->shown);
		rc = redis->hide(self->redis->obj, whom, hidden);
	}
	int n = snprintf(room, REDIS_KEY, "%.*srate:%.*s%s", (int)prefix.n, prefix.p, (int)d->shown,
			d->key.p, hidden);
	*ret = chatd_str_of(room, (size_t)n);
	return rc;
}

/* The words of the command, with room for their text behind them. */
static chatd_status write_words(
		const struct self *self, const struct draws *d, nanos now, struct chatd_str *argv)
{
	struct words *words = (void *)(argv + d->n * (1 + WORDS));
	chatd_status rc = 0;
	for (size_t i = 0; i < d->n && rc == 0; i++) {
		const struct draw *one = &d->at[i];
		const int64_t v[WORDS] = { micros(one->rate.token), micros(one->rate.depth), one->cost,
			micros(known_of(self, one, now)) };
		rc = write_key(self, one, words[i].key, &argv[i]);
		for (size_t k = 0; k < WORDS; k++) {
			argv[d->n + i * WORDS + k] = number(v[k], words[i].number[k]);
		}
	}
	return rc;
}

/* ---- one draw ------------------------------------------------------------------------------ */

struct asked {
	const struct self *self;
	struct asker who;
	nanos at;
	size_t n;
	struct draw draw[];
};

static void forget(struct asked *a)
{
	for (size_t i = 0; i < a->n; i++) {
		a->self->backend->release(a->draw[i].bucket);
	}
	a->self->h->mem_free(a);
}

static int is_answer(const struct asked *a, const struct chatd_redis_reply *r)
{
	int good = r->type == CHATD_REDIS_ARRAY && r->n == a->n + 2;
	for (size_t i = 0; good && i < r->n; i++) {
		good = r->items[i].type == CHATD_REDIS_INTEGER && r->items[i].integer >= 0 &&
				r->items[i].integer < INT64_MAX / MICRO;
	}
	return good && r->items[0].integer <= (int64_t)a->n;
}

static void take_answer(
		const struct asked *a, const struct chatd_redis_reply *r, struct outcome *ret)
{
	size_t which = (size_t)r->items[0].integer;
	for (size_t i = 0; i < a->n; i++) {
		/* Counted from the question, it is rather too full than too empty. */
		a->self->backend->raise(a->draw[i].bucket, a->at + r->items[i + 2].integer * MICRO);
	}
	*ret = (struct outcome){ .rc = which ? -EDQUOT : 0, .which = which ? which - 1 : 0 };
	ret->drawn.wait = r->items[1].integer * MICRO;
	ret->drawn.used = r->items[ret->which + 2].integer * MICRO;
}

static void on_drawn(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct asked *a = arg;
	const struct self *self = a->self;
	struct outcome o;
	if (rc == 0 && is_answer(a, r)) {
		take_answer(a, r, &o);
	} else {
		const struct draws d = { a->draw, a->n };
		if (rc == -EPROTO) {
			self->h->log(self->ctx, CHATD_LOG_ERROR, "Redis cannot count: %.*s", (int)r->text.n,
					r->text.p);
		}
		draws_take_part(self, &d, limit_now(self, a->who.w), &o);
	}
	a->who.fn(a->who.arg, &o);
	forget(a);
}

chatd_status shared_ask(const struct self *self, const struct draws *d, const struct asker *who)
{
	const struct chatd_redis *redis = self->redis->vt;
	nanos now = limit_now(self, who->w);
	size_t words = d->n * (1 + WORDS), room = words * sizeof(struct chatd_str);
	if (!redis->is_up(self->redis->obj)) {
		return -EAGAIN;
	}
	struct asked *a = self->h->mem_alloc(sizeof(*a) + d->n * sizeof(*a->draw));
	struct chatd_str *argv = self->h->mem_alloc(room + d->n * sizeof(struct words));
	chatd_status rc = a && argv ? 0 : -ENOMEM;
	if (a) {
		*a = (struct asked){ .self = self, .who = *who, .at = now };
	}
	if (rc == 0) {
		rc = write_words(self, d, now, argv);
	}
	if (rc == 0) {
		const struct chatd_redis_command c = { .struct_size = sizeof(c),
			.script = self->script,
			.n_keys = d->n,
			.argv = argv,
			.n = words };
		for (; a->n < d->n; a->n++) {
			a->draw[a->n] = d->at[a->n];
			self->backend->keep(a->draw[a->n].bucket);
		}
		rc = redis->call(self->redis->obj, who->w, &c, on_drawn, a);
	}
	self->h->mem_free(argv);
	if (rc < 0 && a) {
		forget(a);
	}
	return rc < 0 ? -EAGAIN : 0;
}

/* ---- a call -------------------------------------------------------------------------------- */

struct parked {
	const struct self *self;
	chatd_worker *w;
	chatd_token token;
	size_t n;
	const struct limit *limit[];
};

static void on_charged(void *arg, const struct outcome *o)
{
	struct parked *p = arg;
	const struct chatd_host *h = p->self->h;
	const struct limit *limit = p->limit[o->which];
	chatd_call *call = h->call_of(p->w, p->token);
	char seconds[NUMBER], why[WHY_MAX];
	if (call) {
		messages_drawn(p->self, call, limit, o);
	}
	if (call && o->rc == -EDQUOT) {
		limit_why(limit, &o->drawn, why, seconds);
		h->reply(call, "retryAfterSeconds", chatd_str_of(seconds, strlen(seconds)));
		(void)h->resume(p->token, CHATD_REJECT, "RATE_LIMIT_EXCEEDED", why);
	} else {
		(void)h->resume(p->token, o->rc < 0 ? o->rc : CHATD_NEXT, NULL, NULL);
	}
	h->mem_free(p);
}

typedef void take_fn(const struct self *, const struct draws *, nanos now, struct outcome *ret);

static chatd_verdict charge_here(
		const struct self *self, chatd_call *call, const struct draws *d, take_fn *take)
{
	struct outcome o;
	take(self, d, limit_now(self, self->h->call_worker(call)), &o);
	messages_drawn(self, call, d->at[o.which].limit, &o);
	return limit_verdict(self, call, d, &o);
}

/* Parks the call before it asks: the answer needs its token.  0: it cannot. */
static int park(const struct self *self, chatd_call *call, const struct draws *d)
{
	const struct chatd_host *h = self->h;
	const struct chatd_redis *redis = self->redis->vt;
	struct parked *p = NULL;
	if (redis->is_up(self->redis->obj)) {
		p = h->mem_alloc(sizeof(*p) + d->n * sizeof(*p->limit));
	}
	if (!p) {
		return 0;
	}
	*p = (struct parked){ self, h->call_worker(call), h->suspend(call, NULL, NULL), d->n };
	for (size_t i = 0; i < d->n; i++) {
		p->limit[i] = d->at[i].limit;
	}
	const struct asker asker = { p->w, on_charged, p };
	if (p->token && shared_ask(self, d, &asker) == 0) {
		return 1;
	}
	if (!p->token) {
		h->mem_free(p);
		return 0;
	}
	/* It is parked already: the verdict comes by the same way. */
	struct outcome o;
	draws_take_part(self, d, limit_now(self, p->w), &o);
	on_charged(p, &o);
	return 1;
}

chatd_verdict shared_charge(const struct self *self, chatd_call *call, const struct draws *d)
{
	struct outcome o;
	if (!self->redis) {
		return charge_here(self, call, d, draws_take);
	}
	const struct draws exact = { d->at, d->n, 1 };
	draws_look(self, &exact, limit_now(self, self->h->call_worker(call)), &o);
	if (o.rc == -EDQUOT) {
		messages_drawn(self, call, d->at[o.which].limit, &o);
		return limit_verdict(self, call, d, &o);
	}
	return park(self, call, d) ? CHATD_WAIT : charge_here(self, call, d, draws_take_part);
}
