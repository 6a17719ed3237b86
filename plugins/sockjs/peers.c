/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a session, and what is passed on to it. */
#include "peers.h"

#include "frames.h"
#include "peers_impl.h"
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define uthash_malloc(n)  malloc(n)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
	LEASE_MS = 600000,
	RENEW_MS = 180000,
	TICK_MS = 2000,
	RENEWALS = 200,   /* of a worker, in one tick */
	ANSWER_MS = 3000, /* an owner that says nothing so long has gone */
	FORWARDS = 20000, /* of a worker, at once */
	REDIS_KEY = 256,
};

/** A request that was passed on. */
struct forward {
	UT_hash_handle hh;
	uint64_t number;
	struct exch *x;
	struct worker_state *state;
	struct chatd_timer timer;
	char node[65], boot[17];
};

/* KEYS sockjs:HASH  ARGV owner milliseconds.  Who has it; false: it is the owner's now. */
static const char script_claim[] = "local v = redis.call('GET', KEYS[1])\n"
								   "if v and v ~= ARGV[1] then return v end\n"
								   "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
								   "return false\n";
/* KEYS sockjs:HASH  ARGV owner */
static const char script_release[] =
		"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end\n"
		"return false\n";

static const struct sockjs *self_of(const struct exch *x)
{
	return x->ep->self;
}

static struct worker_state *state_of(const struct exch *x)
{
	return self_of(x)->host->worker_self(self_of(x)->ctx, x->owner);
}

void peers_count(const struct sockjs *self, chatd_worker *w, int what)
{
	if (self->stats)
		self->stats->add(self->stats_obj, w, self->stat[what], 1);
}

/* ---- Redis ------------------------------------------------------------- */

/* The id is the client's text, and nobody who reads Redis needs it. */
static struct chatd_str key_of(
		const struct sockjs *self, const struct exch_name *name, char room[REDIS_KEY])
{
	struct chatd_str prefix = self->redis->prefix(self->redis_obj);
	unsigned char raw[DIGEST];
	char hex[DIGEST_HEX];
	crypto_generichash_state h;
	crypto_generichash_init(&h, NULL, 0, sizeof(raw));
	crypto_generichash_update(
			&h, (const unsigned char *)name->ep->prefix, name->ep->prefix_len + 1);
	crypto_generichash_update(&h, (const unsigned char *)name->id.p, name->id.n);
	crypto_generichash_final(&h, raw, sizeof(raw));
	sodium_bin2hex(hex, sizeof(hex), raw, sizeof(raw));
	int n = snprintf(room, REDIS_KEY, "%.*ssockjs:%s", (int)prefix.n, prefix.p, hex);
	return chatd_str_of(room, n < REDIS_KEY ? (size_t)n : REDIS_KEY - 1);
}

static chatd_status claim(const struct sockjs *self, chatd_worker *w, const struct exch_name *name,
		chatd_redis_fn *fn, void *arg)
{
	char room[REDIS_KEY], lease[16];
	int n = snprintf(lease, sizeof(lease), "%d", LEASE_MS);
	const struct chatd_str argv[] = { key_of(self, name, room),
		chatd_str_of(self->mark, strlen(self->mark)), chatd_str_of(lease, (size_t)n) };
	const struct chatd_redis_command c = {
		.struct_size = sizeof(c), .script = self->claim, .n_keys = 1, .argv = argv, .n = 3
	};
	return self->redis->call(self->redis_obj, w, &c, fn, arg);
}

static void ignore(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	(void)arg;
	(void)rc;
	(void)r; /* what is not released ends by itself, what is not renewed is tried again */
}

void peers_release(
		const struct sockjs *self, struct worker_state *state, const struct exch_name *name)
{
	char room[REDIS_KEY];
	const struct chatd_str argv[] = { key_of(self, name, room),
		chatd_str_of(self->mark, strlen(self->mark)) };
	const struct chatd_redis_command c = {
		.struct_size = sizeof(c), .script = self->release, .n_keys = 1, .argv = argv, .n = 2
	};
	if (!state->stopped)
		(void)self->redis->call(self->redis_obj, state->worker, &c, ignore, NULL);
}

void peers_renew(const struct sockjs *self, struct worker_state *state,
		const struct exch_name *name, int64_t *at, uint32_t *round)
{
	int64_t now = self->host->now_ms(state->worker);
	uint32_t current = atomic_load(&self->round);
	if ((now - *at < RENEW_MS && *round == current) || state->renewals == 0)
		return;
	state->renewals--;
	if (claim(self, state->worker, name, ignore, NULL) < 0)
		return;
	*at = now;
	*round = current;
}

static void on_tick(void *arg)
{
	struct worker_state *state = arg;
	state->renewals = RENEWALS;
	sessions_renew(state->self, state);
	state->self->host->timer_set(state->worker, &state->renew_timer, TICK_MS, on_tick, state);
}

/* What it knew may be gone. */
static void on_redis(void *arg, int32_t up)
{
	struct sockjs *self = arg;
	if (up)
		atomic_fetch_add(&self->round, 1);
}

/* ---- passing on -------------------------------------------------------- */

/** "node boot", as a process writes itself. */
static bool read_mark(struct chatd_str text, struct forward *f)
{
	const char *space = text.p ? memchr(text.p, ' ', text.n) : NULL;
	size_t node = space ? (size_t)(space - text.p) : 0;
	if (!node || node >= sizeof(f->node) || text.n - node - 1 != sizeof(f->boot) - 1)
		return false;
	memcpy(f->node, text.p, node);
	memcpy(f->boot, space + 1, sizeof(f->boot) - 1);
	return true;
}

static void forget(struct forward *f)
{
	HASH_DEL(f->state->forwards, f);
	self_of(f->x)->host->timer_clear(&f->timer);
	f->x->forward = NULL;
	exch_unref(f->x);
	free(f);
}

static chatd_status ask(const struct forward *f, const char *op, struct chatd_str body)
{
	const struct exch *x = f->x;
	const struct sockjs *self = self_of(x);
	struct exch_name name = exch_name(x);
	char id[PEER_ID], session[2 * SOCKJS_ID_MAX + 1], digest[CREDS][DIGEST_HEX];
	struct headers h = { .n = 0 };
	int n = snprintf(id, sizeof(id), "%s.%d.%" PRIu64, self->boot,
			(int)self->host->worker_index(x->owner), f->number);
	sodium_bin2hex(session, sizeof(session), (const unsigned char *)name.id.p, name.id.n);
	headers_add(&h, CHATD_LIT("id"), chatd_str_of(id, (size_t)n));
	headers_add(&h, CHATD_LIT("op"), chatd_str_of(op, strlen(op)));
	headers_add(&h, CHATD_LIT("boot"), chatd_str_of(f->boot, sizeof(f->boot) - 1));
	headers_add(&h, CHATD_LIT("path"), chatd_str_of(x->ep->prefix, x->ep->prefix_len));
	headers_add(&h, CHATD_LIT("session"), chatd_str_of(session, strlen(session)));
	headers_add(&h, CHATD_LIT("transport"),
			chatd_str_of(x->transport->name, strlen(x->transport->name)));
	headers_add(&h, CHATD_LIT("callback"), chatd_str_of(x->callback, strlen(x->callback)));
	for (int i = 0; i < CREDS; i++) {
		peers_digest(self->host->msg_get(x->creds, peers_creds[i]), digest[i]);
		headers_add(&h, chatd_str_of(peers_creds[i], strlen(peers_creds[i])),
				chatd_str_of(digest[i], strlen(digest[i])));
	}
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_NODE,
		.flags = CHATD_CLUSTER_EPHEMERAL,
		.kind = CHATD_LIT("sockjs.ask"),
		.key = chatd_str_of(session, strlen(session) < 200 ? strlen(session) : 200),
		.node = chatd_str_of(f->node, strlen(f->node)),
		.headers = h.all,
		.n_headers = h.n,
		.body = body };
	return self->cluster->send(self->cluster_obj, x->owner, &e, NULL, NULL);
}

/** Nobody answers: as far as the client is concerned its session has ended. */
static void on_silence(void *arg)
{
	struct forward *f = arg;
	struct exch *x = exch_ref(f->x);
	peers_count(self_of(x), x->owner, STAT_FAILED);
	if (x->transport->receives)
		(void)ask(f, "left", CHATD_LIT(""));
	forget(f);
	exch_answer(x, 404, "");
	exch_unref(x);
}

static struct forward *forward_new(struct exch *x, struct chatd_str owner)
{
	struct worker_state *state = state_of(x);
	struct forward *f = HASH_COUNT(state->forwards) < FORWARDS ? calloc(1, sizeof(*f)) : NULL;
	if (!f)
		return NULL;
	f->number = ++state->forwarded;
	f->state = state;
	if (read_mark(owner, f))
		HASH_ADD(hh, state->forwards, number, sizeof(f->number), f);
	if (!f->hh.tbl) {
		free(f);
		return NULL;
	}
	f->x = exch_ref(x);
	x->forward = f;
	return f;
}

static void pass_on(struct exch *x, struct chatd_str owner)
{
	const struct sockjs *self = self_of(x);
	bool poll = x->transport->receives;
	struct forward *f = self->cluster->is_up(self->cluster_obj) ? forward_new(x, owner) : NULL;
	chatd_status rc = f ? ask(f, poll ? "poll" : "send", poll ? CHATD_LIT("") : x->text) : -EAGAIN;
	if (rc == 0) {
		peers_count(self, x->owner, poll ? STAT_POLLS : STAT_SENDS);
		self->host->timer_set(x->owner, &f->timer, ANSWER_MS, on_silence, f);
		return;
	}
	peers_count(self, x->owner, STAT_FAILED);
	if (f)
		forget(f);
	exch_answer(x, rc == -EINVAL ? 413 : 503, "");
}

void peers_left(struct exch *x)
{
	x->left = true;
	if (!x->forward)
		return;
	(void)ask(x->forward, "left", CHATD_LIT(""));
	forget(x->forward);
}

static bool is_ours(const struct sockjs *self, struct chatd_str owner)
{
	return owner.n == strlen(self->mark) && !memcmp(owner.p, self->mark, owner.n);
}

static void on_claim(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct exch *x = arg;
	bool claimed = rc == 0 && r->type == CHATD_REDIS_NIL;
	x->asking = false;
	if (state_of(x)->stopped || x->left) {
		struct exch_name name = exch_name(x);
		if (claimed)
			peers_release(self_of(x), state_of(x), &name);
	} else if (rc == 0 && r->type == CHATD_REDIS_TEXT && !is_ours(self_of(x), r->text)) {
		pass_on(x, r->text);
	} else if (session_open_here(x, claimed) < 0 && claimed) {
		struct exch_name name = exch_name(x);
		peers_release(self_of(x), state_of(x), &name);
	}
	exch_unref(x);
}

/* Without Redis it is made here: with a balancer that keeps its clients apart that is right. */
void peers_receive(struct exch *x)
{
	struct exch_name name = exch_name(x);
	peers_count(self_of(x), x->owner, STAT_ASKED);
	x->asking = true;
	exch_ref(x);
	if (claim(self_of(x), x->owner, &name, on_claim, x) == 0)
		return;
	x->asking = false;
	session_open_here(x, false);
	exch_unref(x);
}

static void on_found(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct exch *x = arg;
	x->asking = false;
	if (state_of(x)->stopped)
		(void)0;
	else if (rc == 0 && r->type == CHATD_REDIS_TEXT && !is_ours(self_of(x), r->text))
		pass_on(x, r->text);
	else
		exch_answer(x, 404, "");
	exch_unref(x);
}

void peers_take(struct exch *x)
{
	const struct sockjs *self = self_of(x);
	struct exch_name name = exch_name(x);
	char room[REDIS_KEY];
	const struct chatd_str argv[] = { CHATD_LIT("GET"), key_of(self, &name, room) };
	const struct chatd_redis_command c = { .struct_size = sizeof(c), .argv = argv, .n = 2 };
	peers_count(self, x->owner, STAT_ASKED);
	x->asking = true;
	exch_ref(x);
	if (self->redis->call(self->redis_obj, x->owner, &c, on_found, x) == 0)
		return;
	x->asking = false;
	exch_answer(x, 404, "");
	exch_unref(x);
}

/* ---- what comes back --------------------------------------------------- */

/** boot.worker.number of a question of ours. */
static bool read_id(const struct sockjs *self, const struct chatd_cluster_event *e,
		int32_t *ret_worker, uint64_t *ret_number)
{
	struct chatd_str id = chatd_cluster_get(e, CHATD_LIT("id"));
	const size_t n = sizeof(self->boot) - 1;
	char text[PEER_ID];
	int worker, end = 0;
	if (!id.p || id.n <= n || id.n >= sizeof(text) || memcmp(id.p, self->boot, n))
		return false;
	memcpy(text, id.p, id.n);
	text[id.n] = '\0';
	if (sscanf(text + n, ".%9d.%19" SCNu64 "%n", &worker, ret_number, &end) != 2 ||
			end != (int)(id.n - n) || worker < 0 || worker >= self->host->worker_count())
		return false;
	*ret_worker = worker;
	return true;
}

static chatd_worker *home_of_answer(void *arg, const struct chatd_cluster_event *e)
{
	const struct sockjs *self = arg;
	int32_t worker = 0;
	uint64_t number;
	(void)read_id(self, e, &worker, &number);
	return self->host->worker_at(worker);
}

static bool is(struct chatd_str s, const char *text)
{
	return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static chatd_buf *body_of(const struct sockjs *self, const struct chatd_cluster_event *e)
{
	chatd_buf *buf = self->host->buf_new(0, e->body.n);
	if (buf && e->body.n)
		memcpy(self->host->buf_data(buf), e->body.p, e->body.n);
	return buf;
}

/** Three digits; anything else is an owner that talks nonsense. */
static int32_t status_of(const struct chatd_cluster_event *e)
{
	struct chatd_str s = chatd_cluster_get(e, CHATD_LIT("status"));
	int32_t status = 0;
	for (size_t i = 0; i < s.n && s.n == 3; i++)
		status = status * 10 + (s.p[i] >= '0' && s.p[i] <= '9' ? s.p[i] - '0' : 1000);
	return status >= 200 && status < 600 ? status : 502;
}

static void finish(struct forward *f, const struct chatd_cluster_event *e, struct chatd_str op)
{
	struct exch *x = exch_ref(f->x);
	chatd_buf *frame = NULL;
	if (is(op, "frame") && x->transport->receives)
		frame = body_of(self_of(x), e);
	forget(f);
	if (frame)
		exch_frame(x, frame, true);
	else if (is(op, "answer"))
		exch_answer(x, status_of(e), is(chatd_cluster_get(e, CHATD_LIT("text")), "ok") ? "ok" : "");
	else
		exch_answer(x, 503, "");
	exch_unref(x);
}

static void on_answer(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	const struct sockjs *self = arg;
	struct worker_state *state = self->host->worker_self(self->ctx, w);
	struct chatd_str op = chatd_cluster_get(e, CHATD_LIT("op"));
	struct forward *f = NULL;
	int32_t worker;
	uint64_t number;
	if (read_id(self, e, &worker, &number) && self->host->worker_index(w) == worker)
		HASH_FIND(hh, state->forwards, &number, sizeof(number), f);
	if (!f || !is(e->from, f->node))
		return; /* its client has left, or gave up */
	if (!is(op, "held")) {
		finish(f, e, op);
		return;
	}
	self->host->timer_set(w, &f->timer, PEERS_POLL_MS + ANSWER_MS, on_silence, f);
	if (f->x->transport->streams)
		exch_frame(f->x, NULL, false);
}

/* ---- life -------------------------------------------------------------- */

void peers_start(const struct sockjs *self, chatd_worker *w, struct worker_state *state)
{
	state->self = self;
	state->worker = w;
	if (self->peers_on)
		self->host->timer_set(w, &state->renew_timer, TICK_MS, on_tick, state);
}

void peers_stop(struct worker_state *state)
{
	struct forward *f, *next;
	if (state->self)
		state->self->host->timer_clear(&state->renew_timer);
	state->stopped = true;
	HASH_ITER(hh, state->forwards, f, next)
	{
		forget(f);
	}
}

static chatd_status define_numbers(struct sockjs *self)
{
	static const char forwarded[] =
			"SockJS requests passed on to the node that has the session; 0 with a sticky balancer.";
	static const struct {
		const char *name, *labels, *help;
	} all[STATS] = {
		[STAT_POLLS] = { "chatd_sockjs_forwarded_total", "kind=\"receive\"", forwarded },
		[STAT_SENDS] = { "chatd_sockjs_forwarded_total", "kind=\"send\"", forwarded },
		[STAT_ASKED] = { "chatd_sockjs_lookups_total", NULL,
				"Questions to Redis who has a SockJS session that is not here." },
		[STAT_FAILED] = { "chatd_sockjs_forward_failures_total", NULL,
				"SockJS requests that could not be passed on, or that the owner did not answer." },
	};
	const struct chatd_service *s = self->host->service(self->ctx, CHATD_STATS);
	chatd_status rc = 0;
	if (!s)
		return 0;
	self->stats = s->vt;
	self->stats_obj = s->obj;
	for (int i = 0; i < STATS && !rc; i++) {
		const struct chatd_stat_def def = { .struct_size = sizeof(def),
			.kind = CHATD_STAT_COUNTER,
			.name = all[i].name,
			.labels = all[i].labels,
			.help = all[i].help };
		rc = self->stats->define(self->stats_obj, self->ctx, &def, &self->stat[i]);
	}
	return rc;
}

static chatd_status setup_services(struct sockjs *self)
{
	const struct chatd_cluster_receiver answers = { .struct_size = sizeof(answers),
		.kind = "sockjs.re",
		.fn = on_answer,
		.home = home_of_answer,
		.arg = self };
	chatd_status rc = self->redis->script(self->redis_obj, script_claim, &self->claim);
	rc = rc ? rc : self->redis->script(self->redis_obj, script_release, &self->release);
	rc = rc ? rc : self->redis->watch(self->redis_obj, on_redis, self);
	rc = rc ? rc : self->cluster->receive(self->cluster_obj, &answers);
	rc = rc ? rc : peers_in_setup(self);
	return rc ? rc : define_numbers(self);
}

chatd_status peers_setup(struct sockjs *self)
{
	const struct chatd_service *cluster = self->host->service(self->ctx, CHATD_CLUSTER);
	const struct chatd_service *redis = self->host->service(self->ctx, CHATD_REDIS);
	unsigned char boot[8];
	if (!self->conf->forward || !cluster)
		return 0;
	if (!redis) {
		self->host->log(self->ctx, CHATD_LOG_INFO,
				"requests of a SockJS session must come to its node: without redis nobody knows who "
				"has which session");
		return 0;
	}
	self->cluster = cluster->vt;
	self->cluster_obj = cluster->obj;
	self->redis = redis->vt;
	self->redis_obj = redis->obj;
	self->host->random(boot, sizeof(boot));
	sodium_bin2hex(self->boot, sizeof(self->boot), boot, sizeof(boot));
	snprintf(self->mark, sizeof(self->mark), "%.64s %s", self->host->server_id(), self->boot);
	self->peers_on = true;
	return setup_services(self);
}
