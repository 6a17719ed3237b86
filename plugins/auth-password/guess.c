/* SPDX-License-Identifier: Apache-2.0 */
#include "auth.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A guess whose node has died is over after LEASE; KNOWN is remembered for that long. */
#define LEASE "30000"
#define KNOWN "2592000000"

/* KEYS of what counts, the pair of account and address first where there is one; then, if ARGV[2]
 * is 1, of who logged in before.  ARGV: mode is-known-asked lease known, then for each of what
 * counts: allowed first longest forget owed left (ms, and numbers of failures).
 * {wait, known, fails, left, ...}.  An entry is gone when it is forgiven. */
static const char script_guess[] =
		"local t = redis.call('TIME')\n"
		"local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
		"local mode, n, known = ARGV[1], #KEYS, 0\n"
		"if ARGV[2] == '1' then known, n = redis.call('EXISTS', KEYS[n]), n - 1 end\n"
		"local starts = mode == 'begin' or mode == 'count'\n"
		"local counts = starts and known == 1 and 1 or n\n"
		"local answer, entry = {0, known}, {}\n"
		"for i = 1, n do\n"
		"  local a = i * 6 - 2\n"
		"  local e = redis.call('HMGET', KEYS[i], 'fails', 'until', 'busy', 'lease')\n"
		"  for k = 1, 4 do e[k] = tonumber(e[k] or 0) or 0 end\n"
		"  if e[4] <= now or e[4] > now + ARGV[3] then e[3] = 0 end\n"
		"  e[2] = math.min(e[2], now + ARGV[a + 3])\n"
		"  if ARGV[a + 5] ~= '0' then\n"
		"    e[1], e[2] = e[1] + ARGV[a + 5], math.max(e[2], now + ARGV[a + 6])\n"
		"  end\n"
		"  if starts and i <= counts and e[1] >= tonumber(ARGV[a + 1]) then\n"
		"    local wait = e[2] > now and e[2] - now or e[3] > 0 and 1000 or 0\n"
		"    answer[1] = math.max(answer[1], wait)\n"
		"  end\n"
		"  entry[i] = e\n"
		"end\n"
		"for i = 1, n do\n"
		"  local a, e = i * 6 - 2, entry[i]\n"
		"  local go = starts and answer[1] == 0 and i <= counts\n"
		"  if mode == 'begin' and go then\n"
		"    e[3], e[4] = e[3] + 1, now + ARGV[3]\n"
		"  elseif mode == 'wrong' or mode == 'count' and go then\n"
		"    e[1] = e[1] + 1\n"
		"    local over = e[1] - ARGV[a + 1]\n"
		"    if over >= 0 then\n"
		"      e[2] = now + math.min(ARGV[a + 2] * 2 ^ math.min(over, 30), tonumber(ARGV[a + 3]))\n"
		"    end\n"
		"  elseif mode == 'right' and i == 1 and ARGV[2] == '1' then\n"
		"    e[1], e[2] = 0, 0\n"
		"  end\n"
		"  if not starts then e[3] = math.max(e[3] - 1, 0) end\n"
		"  local left = math.max(e[2] - now, 0)\n"
		"  if e[1] == 0 and e[3] == 0 then\n"
		"    redis.call('DEL', KEYS[i])\n"
		"  elseif go or not starts or ARGV[a + 5] ~= '0' then\n"
		"    redis.call('HSET', KEYS[i], 'fails', e[1], 'until', string.format('%.0f', e[2]),\n"
		"        'busy', e[3], 'lease', string.format('%.0f', e[4]))\n"
		"    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', left + ARGV[a + 4]))\n"
		"  end\n"
		"  answer[i * 2 + 1], answer[i * 2 + 2] = e[1], left\n"
		"end\n"
		"if mode == 'right' and ARGV[2] == '1' then\n"
		"  redis.call('SET', KEYS[n + 1], '', 'PX', ARGV[4])\n"
		"end\n"
		"return answer\n";

enum { NUMBERS = 6, HEAD = 4, KEY_ROOM = 160 };
enum { COUNTED = THROTTLE_KNOWN, ARGV_MAX = THROTTLE_KINDS + HEAD + COUNTED * NUMBERS };

/* A question under way.  What has begun may end when its op is gone. */
struct asked {
	const struct self *self;
	struct op *op; /* NULL: nobody waits */
	chatd_worker *w;
	struct throttle_try try;
	int outcome; /* of an end; -1: it begins */
	uint32_t kinds;
	int64_t owed[COUNTED];
};

chatd_status guess_init(struct self *self)
{
	const struct chatd_redis *redis;
	self->presence = self->h->service(self->ctx, CHATD_PRESENCE);
	if (self->conf->shared == SHARED_AUTO) {
		self->redis = self->h->service(self->ctx, CHATD_REDIS);
	}
	redis = self->redis ? self->redis->vt : NULL;
	return redis ? redis->script(self->redis->obj, script_guess, &self->script) : 0;
}

/* ---- the question ------------------------------------------------------------------------- */

/* Accounts may be somebody's e-mail address, and addresses are people's as well. */
static chatd_status make_names(struct op *op, const struct throttle_who *who)
{
	const struct chatd_service *redis = op->self->redis;
	const struct chatd_redis *vt = redis->vt;
	unsigned char net[16];
	char room[THROTTLE_KINDS][EMAIL_MAX + 64];
	size_t n = throttle_network(who->peer, net);
	char *at = room[THROTTLE_ADDRESS];
	chatd_status rc = 0;
	*at = '\0';
	for (size_t i = 0; i < n; i++) {
		at += snprintf(at, 3, "%02x", net[i]);
	}
	snprintf(room[THROTTLE_ACCOUNT], sizeof(room[0]), "%.*s", (int)who->whom.n,
			who->whom.p ? who->whom.p : "");
	snprintf(room[THROTTLE_PAIR], sizeof(room[0]), "%.32s %.*s", room[THROTTLE_ADDRESS],
			(int)who->whom.n, who->whom.p ? who->whom.p : "");
	memcpy(room[THROTTLE_KNOWN], room[THROTTLE_PAIR], sizeof(room[0]));
	for (int kind = 0; kind < THROTTLE_KINDS && rc == 0; kind++) {
		rc = vt->hide(redis->obj, text(room[kind]), op->attempt.name[kind]);
	}
	return rc;
}

struct words {
	size_t n, n_keys;
	struct chatd_str argv[ARGV_MAX];
	char key[THROTTLE_KINDS][KEY_ROOM], number[COUNTED * NUMBERS][24];
};

static void add_key(struct words *m, const struct op *op, int kind)
{
	static const char *const whats[] = { "login", "code", "mail" };
	static const char *const kinds[] = { "pair", "account", "address" };
	const struct chatd_redis *redis = op->self->redis->vt;
	const struct guess *g = &op->attempt;
	struct chatd_str prefix = redis->prefix(op->self->redis->obj);
	char what[32] = "known";
	if (kind != THROTTLE_KNOWN) {
		snprintf(what, sizeof(what), "fails:%s:%s", whats[g->try.what], kinds[kind]);
	}
	char *room = m->key[m->n_keys++];
	int n = snprintf(
			room, KEY_ROOM, "%.*sauth:%s:%s", (int)prefix.n, prefix.p, what, g->name[kind]);
	m->argv[m->n++] = chatd_str_of(room, (size_t)n);
}

static void write_words(const struct op *op, struct asked *a, struct words *m)
{
	static const char *const ends[] = { "right", "wrong", "neither" };
	const char *begin = a->try.what == THROTTLE_MAIL ? "count" : "begin";
	struct throttle *t = op->self->throttle;
	int64_t now = op->self->h->now_ms(op->w);
	char(*number)[24] = m->number;
	for (int kind = 0; kind < THROTTLE_KINDS; kind++) {
		if (kind == THROTTLE_KNOWN ? a->try.key[kind][0] != 0 : a->kinds & 1u << kind) {
			add_key(m, op, kind);
		}
	}
	m->argv[m->n++] = text(a->outcome < 0 ? begin : ends[a->outcome]);
	m->argv[m->n++] = a->try.key[THROTTLE_KNOWN][0] ? CHATD_LIT("1") : CHATD_LIT("0");
	m->argv[m->n++] = CHATD_LIT(LEASE);
	m->argv[m->n++] = CHATD_LIT(KNOWN);
	for (int kind = 0; kind < COUNTED; kind++) {
		const struct throttle_policy *p = throttle_policy(t, a->try.what, kind);
		if (!(a->kinds & 1u << kind)) {
			continue;
		}
		struct throttle_state s = throttle_settle(t, &a->try, kind, now);
		a->owed[kind] = s.fails;
		const int64_t v[NUMBERS] = { p->allowed, p->first, p->longest, p->forget, s.fails, s.left };
		for (int i = 0; i < NUMBERS; i++, number++) {
			int n = snprintf(*number, sizeof(*number), "%" PRId64, v[i]);
			m->argv[m->n++] = chatd_str_of(*number, (size_t)n);
		}
	}
}

static void give_back(const struct asked *a)
{
	for (int kind = 0; kind < COUNTED; kind++) {
		if (a->owed[kind]) {
			throttle_owe(a->self->throttle, &a->try, kind, a->owed[kind]);
		}
	}
}

/* The fields of @p want that are set; copied.  -EAGAIN: Redis cannot be asked. */
static chatd_status ask(struct op *op, const struct asked *want, chatd_redis_fn *fn)
{
	const struct self *self = op->self;
	const struct chatd_redis *redis = self->redis ? self->redis->vt : NULL;
	struct asked *a = NULL;
	struct words m = { 0 };
	if (redis && redis->is_up(self->redis->obj)) {
		a = self->h->mem_alloc(sizeof(*a));
	}
	if (!a) {
		return -EAGAIN;
	}
	*a = *want;
	a->self = self;
	a->w = op->w;
	write_words(op, a, &m);
	const struct chatd_redis_command c = { .struct_size = sizeof(c),
		.script = self->script,
		.n_keys = m.n_keys,
		.argv = m.argv,
		.n = m.n };
	chatd_status rc = redis->call(self->redis->obj, op->w, &c, fn, a);
	if (rc < 0) {
		give_back(a);
		self->h->mem_free(a);
	}
	return rc;
}

/* ---- the answer --------------------------------------------------------------------------- */

static int is_answer(const struct asked *a, const struct chatd_redis_reply *r)
{
	size_t n = 2;
	for (int kind = 0; kind < COUNTED; kind++) {
		n += a->kinds & 1u << kind ? 2 : 0;
	}
	int good = r->type == CHATD_REDIS_ARRAY && r->n == n;
	for (size_t i = 0; good && i < n; i++) {
		good = r->items[i].type == CHATD_REDIS_INTEGER && r->items[i].integer >= 0;
	}
	return good;
}

/* 0: it was none. */
static int learn(const struct asked *a, chatd_status rc, const struct chatd_redis_reply *r)
{
	const struct self *self = a->self;
	int64_t now = self->h->now_ms(a->w);
	if (rc == -EPROTO) {
		self->h->log(self->ctx, CHATD_LOG_ERROR, "Redis cannot count guesses: %.*s", (int)r->text.n,
				r->text.p);
	}
	if (rc < 0 || !is_answer(a, r)) {
		give_back(a);
		return 0;
	}
	const struct chatd_redis_reply *item = r->items + 2;
	for (int kind = 0; kind < COUNTED; kind++) {
		if (a->kinds & 1u << kind) {
			const struct throttle_state s = { item[0].integer, item[1].integer };
			throttle_learn(self->throttle, &a->try, kind, &s, now);
			item += 2;
		}
	}
	if (a->try.key[THROTTLE_KNOWN][0] && (r->items[1].integer || a->outcome == THROTTLE_RIGHT)) {
		throttle_know(self->throttle, &a->try, now);
	}
	return 1;
}

static int32_t nodes(const struct self *self)
{
	const struct chatd_presence *presence = self->presence ? self->presence->vt : NULL;
	int32_t n = 0;
	if (presence && CHATD_HAS(presence, live)) {
		n = presence->live(self->presence->obj);
	}
	return !self->redis ? 0 : n > 1 ? n : 1;
}

/* ---- a guess ------------------------------------------------------------------------------ */

static void begin_here(struct op *op)
{
	struct throttle_try *try = &op->attempt.try;
	int64_t now = op->self->h->now_ms(op->w);
	try->nodes = nodes(op->self);
	int64_t wait = throttle_begin(op->self->throttle, try, now);
	if (try->what == THROTTLE_MAIL) {
		throttle_end(op->self->throttle, try, now, THROTTLE_WRONG);
	}
	op->attempt.judged(op, wait);
}

static void on_begun(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct asked *a = arg;
	struct op *op = a->op;
	struct throttle_try *try = &op->attempt.try;
	int good = learn(a, rc, r);
	int64_t wait = good ? r->items[0].integer : 0;
	if (good && wait == 0 && try->what != THROTTLE_MAIL) {
		try->shared = 1;
		try->begun = r->items[1].integer ? 1u << THROTTLE_PAIR : a->kinds;
	}
	a->self->h->mem_free(a);
	if (!op_back(op)) {
		return; /* and it has ended, for the other nodes too */
	}
	if (good) {
		op->attempt.judged(op, wait);
	} else {
		begin_here(op);
	}
}

void guess_begin(
		struct op *op, const struct throttle_who *who, void (*judged)(struct op *, int64_t wait))
{
	const struct self *self = op->self;
	struct throttle_try *try = &op->attempt.try;
	struct asked a = { .op = op, .outcome = -1 };
	throttle_prepare(self->throttle, who, try);
	op->attempt.judged = judged;
	a.try = *try;
	for (int kind = 0; kind < COUNTED; kind++) {
		int counts = throttle_policy(self->throttle, who->what, kind)->allowed > 0;
		a.kinds |= counts && try->key[kind][0] ? 1u << kind : 0;
	}
	op->busy = 1;
	if (!self->redis || make_names(op, who) < 0 || ask(op, &a, on_begun) < 0) {
		op->busy = 0;
		begin_here(op);
	}
}

static void end_here(const struct self *self, chatd_worker *w, const struct asked *a)
{
	struct throttle_try try = a->try;
	try.nodes = nodes(self);
	throttle_end(self->throttle, &try, self->h->now_ms(w), a->outcome);
}

static void on_ended(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct asked *a = arg;
	struct op *op = a->op;
	if (!learn(a, rc, r)) {
		end_here(a->self, a->w, a);
	}
	a->self->h->mem_free(a);
	if (op) {
		op->attempt.counted(op);
	}
}

void guess_end(struct op *op, int outcome, void (*counted)(struct op *))
{
	const struct self *self = op->self;
	struct asked a = { .op = counted ? op : NULL, .try = op->attempt.try, .outcome = outcome };
	a.kinds = a.try.begun;
	op->attempt.try.begun = 0;
	op->attempt.counted = counted;
	if (a.kinds && outcome == THROTTLE_WRONG && a.try.what == THROTTLE_LOGIN &&
			throttle_alarm(self->throttle, self->h->now_ms(op->w))) {
		self->h->log(self->ctx, CHATD_LOG_WARN,
				"more than 200 wrong passwords in a minute: somebody is guessing");
	}
	if (counted) {
		op->busy = 1;
	}
	if (a.try.shared && a.kinds && ask(op, &a, on_ended) == 0) {
		return;
	}
	end_here(self, op->w, &a);
	if (counted) {
		counted(op);
	}
}
