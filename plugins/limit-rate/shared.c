/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets that all nodes share: one atomic script in Redis for each draw, with Redis' clock.
 *
 * The bucket here mirrors what Redis said last.  It is never emptier than the one in Redis, so
 * what it refuses need not be asked about: who floods one node does not flood Redis.  While Redis
 * is away each node grants its part of the rate from it, and tells Redis later how empty it is. */
#include "limit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MICRO = 1000, REDIS_KEY = KEY_MAX + 80 };

/* KEYS rate:...  ARGV token depth cost known (microseconds, but for the cost)
 * The value is the time at which the bucket will be full.  {1, 0, used}: drawn; {0, wait, used}.
 * known: so long from now it will not be full, as the node that asks has granted by itself.
 * A clock that steps back leaves it empty at most, one that steps forward full at most. */
static const char script_draw[] =
		"local t = redis.call('TIME')\n"
		"local now = t[1] * 1000000 + t[2]\n"
		"local token, depth, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
		"local at = tonumber(redis.call('GET', KEYS[1]) or 0) or 0\n"
		"if at > now + depth then at = now + depth end\n"
		"at = math.max(at, now + math.min(tonumber(ARGV[4]), depth))\n"
		"local after = at + token * cost\n"
		"if after > now + depth then return {0, after - now - depth, at - now} end\n"
		"local ttl = math.max(300000, math.ceil(depth / 1000) + 1000)\n"
		"redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', string.format('%.0f', ttl))\n"
		"return {1, 0, after - now}\n";

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

/* What a node grants by itself, Redis has to hear of later. */
struct rate shared_part(const struct self *self, const struct rate *rate, nanos now)
{
	const struct chatd_presence *presence = self->presence ? self->presence->vt : NULL;
	int32_t nodes = 1;
	if (presence && CHATD_HAS(presence, live)) {
		nodes = presence->live(self->presence->obj);
	}
	atomic_store_explicit(&self->away->at, now, memory_order_relaxed);
	return rate_part(rate, nodes > 1 ? nodes : 1);
}

/* ---- one draw ------------------------------------------------------------------------------ */

struct asked {
	const struct self *self;
	struct bucket *bucket;
	struct rate rate;
	int64_t cost;
	nanos at;
	chatd_worker *w;
	shared_fn *fn;
	void *arg;
};

static int is_answer(const struct chatd_redis_reply *r)
{
	return r->type == CHATD_REDIS_ARRAY && r->n == 3 && r->items[0].type == CHATD_REDIS_INTEGER &&
			r->items[1].integer >= 0 && r->items[2].integer >= 0 &&
			r->items[1].integer < INT64_MAX / MICRO && r->items[2].integer < INT64_MAX / MICRO;
}

static void on_drawn(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct asked *a = arg;
	const struct self *self = a->self;
	struct drawn drawn = { 0, 0 };
	if (rc == 0 && is_answer(r)) {
		drawn.wait = r->items[1].integer * MICRO;
		drawn.used = r->items[2].integer * MICRO;
		/* Counted from the question, it is rather too full than too empty. */
		self->backend->raise(a->bucket, a->at + drawn.used);
		rc = r->items[0].integer == 1 ? 0 : -EDQUOT;
	} else {
		nanos now = limit_now(self, a->w);
		struct rate part = shared_part(self, &a->rate, now);
		if (rc == -EPROTO) {
			self->h->log(self->ctx, CHATD_LOG_ERROR, "Redis cannot count: %.*s", (int)r->text.n,
					r->text.p);
		}
		rc = self->backend->draw(a->bucket, &part, a->cost, now, &drawn);
	}
	a->fn(a->arg, rc, &drawn);
	self->backend->release(a->bucket);
	self->h->mem_free(a);
}

/* For as long as a bucket may remember it. */
static nanos known_of(const struct self *self, const struct shared_draw *d, nanos now)
{
	struct drawn drawn = { 0, 0 };
	nanos at = atomic_load_explicit(&self->away->at, memory_order_relaxed);
	if (at && now - at <= d->rate->depth) {
		(void)self->backend->look(d->bucket, d->rate, 0, now, &drawn);
	}
	return drawn.used;
}

static struct chatd_str micros(nanos v, char room[24])
{
	int n = snprintf(room, 24, "%" PRId64, (int64_t)((v + MICRO - 1) / MICRO));
	return chatd_str_of(room, (size_t)n);
}

chatd_status shared_ask(const struct self *self, chatd_worker *w, const struct shared_draw *d,
		shared_fn *fn, void *arg)
{
	const struct chatd_redis *redis = self->redis->vt;
	struct chatd_str prefix = redis->prefix(self->redis->obj);
	char key[REDIS_KEY], token[24], depth[24], cost[24], known[24];
	struct asked *a = redis->is_up(self->redis->obj) ? self->h->mem_alloc(sizeof(*a)) : NULL;
	if (!a) {
		return -EAGAIN;
	}
	nanos now = limit_now(self, w);
	*a = (struct asked){ self, d->bucket, *d->rate, d->cost, now, w, fn, arg };
	int n = snprintf(
			key, sizeof(key), "%.*srate:%.*s", (int)prefix.n, prefix.p, (int)d->key.n, d->key.p);
	int k = snprintf(cost, sizeof(cost), "%" PRId64, d->cost);
	const struct chatd_str argv[] = { chatd_str_of(key, (size_t)n), micros(d->rate->token, token),
		micros(d->rate->depth, depth), chatd_str_of(cost, (size_t)k),
		micros(known_of(self, d, now), known) };
	const struct chatd_redis_command c = {
		.struct_size = sizeof(c), .script = self->script, .n_keys = 1, .argv = argv, .n = 5
	};
	self->backend->keep(d->bucket);
	chatd_status rc = redis->call(self->redis->obj, w, &c, on_drawn, a);
	if (rc < 0) {
		self->backend->release(d->bucket);
		self->h->mem_free(a);
		return -EAGAIN;
	}
	return 0;
}

/* ---- a SEND or SUBSCRIBE ------------------------------------------------------------------- */

struct parked {
	const struct self *self;
	const struct limit *limit;
	chatd_worker *w;
	chatd_token token;
};

static void on_charged(void *arg, chatd_status rc, const struct drawn *drawn)
{
	struct parked *p = arg;
	const struct chatd_host *h = p->self->h;
	chatd_call *call = h->call_of(p->w, p->token);
	char seconds[24], why[WHY_MAX];
	if (call) {
		messages_drawn(p->self, call, p->limit, rc, drawn);
	}
	if (call && rc == -EDQUOT) {
		limit_why(p->limit, drawn, why, seconds);
		h->reply(call, "retryAfterSeconds", chatd_str_of(seconds, strlen(seconds)));
		(void)h->resume(p->token, CHATD_REJECT, "RATE_LIMIT_EXCEEDED", why);
	} else {
		(void)h->resume(p->token, rc < 0 ? rc : CHATD_NEXT, NULL, NULL);
	}
	h->mem_free(p);
}

static chatd_verdict draw_here(const struct self *self, chatd_call *call, const struct limit *l,
		const struct shared_draw *d, const struct rate *rate)
{
	struct drawn drawn;
	nanos now = limit_now(self, self->h->call_worker(call));
	chatd_status rc = self->backend->draw(d->bucket, rate, d->cost, now, &drawn);
	messages_drawn(self, call, l, rc, &drawn);
	return rc == -EDQUOT ? limit_refuse(self, call, l, &drawn) : rc;
}

/* Parks the call before it asks: the answer needs its token.  0: it cannot. */
static int park(const struct self *self, chatd_call *call, const struct limit *l,
		const struct shared_draw *d)
{
	const struct chatd_host *h = self->h;
	const struct chatd_redis *redis = self->redis->vt;
	chatd_worker *w = h->call_worker(call);
	struct parked *p = redis->is_up(self->redis->obj) ? h->mem_alloc(sizeof(*p)) : NULL;
	if (!p) {
		return 0;
	}
	*p = (struct parked){ self, l, w, h->suspend(call, NULL, NULL) };
	if (p->token && shared_ask(self, w, d, on_charged, p) == 0) {
		return 1;
	}
	if (!p->token) {
		h->mem_free(p);
		return 0;
	}
	/* It is parked already: the verdict comes by the same way. */
	nanos now = limit_now(self, w);
	struct rate part = shared_part(self, d->rate, now);
	struct drawn drawn;
	chatd_status rc = self->backend->draw(d->bucket, &part, d->cost, now, &drawn);
	on_charged(p, rc, &drawn);
	return 1;
}

chatd_verdict shared_charge(const struct self *self, chatd_call *call, const struct limit *l,
		const struct shared_draw *d)
{
	struct drawn drawn;
	if (!self->redis) {
		return draw_here(self, call, l, d, d->rate);
	}
	nanos now = limit_now(self, self->h->call_worker(call));
	if (self->backend->look(d->bucket, d->rate, d->cost, now, &drawn) == -EDQUOT) {
		messages_drawn(self, call, l, -EDQUOT, &drawn);
		return limit_refuse(self, call, l, &drawn);
	}
	if (park(self, call, l, d)) {
		return CHATD_WAIT;
	}
	struct rate part = shared_part(self, d->rate, now);
	return draw_here(self, call, l, d, &part);
}
