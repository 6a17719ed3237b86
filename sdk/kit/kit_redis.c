/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of chatd.redis/1: it knows a few commands on texts and channels by itself; whatever else it
 * is asked, and scripts, the test answers. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

enum { HEARERS_MAX = 8, ARGS_MAX = 64 };

struct value {
	struct value *next;
	char *key, *text;
	int64_t expires; /* of now_ms(); 0: never */
};

struct kit_redis {
	int down;
	uint32_t n_scripts;
	struct value *values;
	kit_redis_fn *answers;
	void *answers_arg;
	struct {
		void (*fn)(void *arg, int32_t up);
		void *arg;
	} watchers[HEARERS_MAX];
	struct hearer {
		struct kit *k;
		char *channel;
		chatd_redis_heard *fn;
		void *arg;
	} hearers[HEARERS_MAX];
	size_t n_watchers, n_hearers;
};

struct command {
	struct kit_answer a; /* first */
	struct chatd_redis_command c;
	struct chatd_str argv[ARGS_MAX];
	chatd_redis_fn *fn;
	void *arg;
};

static struct kit_redis *redis(struct kit *k)
{
	k->redis = k->redis ? k->redis : calloc(1, sizeof(*k->redis));
	if (!k->redis) {
		kit_broken(k, "no memory for the test itself");
	}
	return k->redis;
}

/* ---- texts -------------------------------------------------------------------------------- */

static struct value **place_of(struct kit *k, struct chatd_str key)
{
	struct value **at = &redis(k)->values;
	while (*at) {
		struct value *v = *at;
		if (v->expires && v->expires <= k->now) {
			*at = v->next;
			free(v->key);
			free(v->text);
			free(v);
		} else if (str_is(key, v->key)) {
			break;
		} else {
			at = &v->next;
		}
	}
	return at;
}

static void put(struct kit *k, struct chatd_str key, struct chatd_str text, int64_t expires)
{
	struct value **at = place_of(k, key);
	if (!*at && !(*at = calloc(1, sizeof(**at)))) {
		kit_broken(k, "no memory for the test itself");
		return;
	}
	struct value *v = *at;
	v->key = v->key ? v->key : kit_dup(key);
	free(v->text);
	v->text = kit_dup(text);
	v->expires = expires;
}

static int drop(struct kit *k, struct chatd_str key)
{
	struct value **at = place_of(k, key), *v = *at;
	if (v) {
		*at = v->next;
		free(v->key);
		free(v->text);
		free(v);
	}
	return v != NULL;
}

static int is_word(struct chatd_str s, const char *word)
{
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

static int64_t number_of(struct chatd_str s)
{
	char *text = kit_dup(s);
	int64_t n = text ? strtoll(text, NULL, 10) : 0;
	free(text);
	return n;
}

static void integer(struct chatd_redis_reply *r, int64_t n)
{
	*r = (struct chatd_redis_reply){ .type = CHATD_REDIS_INTEGER, .integer = n };
}

static void reply_text(struct chatd_redis_reply *r, const char *text)
{
	*r = (struct chatd_redis_reply){ .type = text ? CHATD_REDIS_TEXT : CHATD_REDIS_NIL,
		.text = text ? str_of(text) : chatd_str_of(NULL, 0) };
}

/* SET key value [NX|XX] [EX seconds|PX milliseconds] */
static void set(struct kit *k, const struct chatd_redis_command *c, struct chatd_redis_reply *r)
{
	int64_t expires = 0;
	int there = *place_of(k, c->argv[1]) != NULL, wanted = 1;
	for (size_t i = 3; i < c->n; i++) {
		int seconds = is_word(c->argv[i], "EX");
		if (is_word(c->argv[i], "NX") || is_word(c->argv[i], "XX")) {
			wanted = there == is_word(c->argv[i], "XX");
		} else if ((seconds || is_word(c->argv[i], "PX")) && i + 1 < c->n) {
			expires = k->now + number_of(c->argv[++i]) * (seconds ? 1000 : 1);
		}
	}
	if (wanted) {
		put(k, c->argv[1], c->argv[2], expires);
	}
	reply_text(r, wanted ? "OK" : NULL);
}

static void incr(struct kit *k, struct chatd_str key, int64_t by, struct chatd_redis_reply *r)
{
	const struct value *v = *place_of(k, key);
	int64_t n = (v ? strtoll(v->text, NULL, 10) : 0) + by;
	char text[32];
	snprintf(text, sizeof(text), "%" PRId64, n);
	put(k, key, str_of(text), v ? v->expires : 0);
	integer(r, n);
}

static void expire(struct kit *k, struct chatd_str key, int64_t ms, struct chatd_redis_reply *r)
{
	struct value *v = *place_of(k, key);
	if (v) {
		v->expires = k->now + ms;
	}
	integer(r, v != NULL);
}

static void left(struct kit *k, struct chatd_str key, int64_t unit, struct chatd_redis_reply *r)
{
	const struct value *v = *place_of(k, key);
	integer(r, !v ? -2 : !v->expires ? -1 : (v->expires - k->now + unit - 1) / unit);
}

static int64_t tell_hearers(struct kit *k, struct chatd_str channel, struct chatd_str payload)
{
	struct kit_redis *x = redis(k);
	chatd_worker *was = k->here;
	int64_t n = 0;
	for (size_t i = 0; i < x->n_hearers && !k->dead; i++) {
		if (str_is(channel, x->hearers[i].channel)) {
			k->here = &k->workers[0];
			x->hearers[i].fn(x->hearers[i].arg, k->here, payload);
			n++;
		}
	}
	k->here = was;
	return n;
}

/* Of several keys: how many there were. */
static void each_key(
		struct kit *k, const struct chatd_redis_command *c, int drops, struct chatd_redis_reply *r)
{
	int64_t n = 0;
	for (size_t i = 1; i < c->n; i++) {
		n += drops ? drop(k, c->argv[i]) : *place_of(k, c->argv[i]) != NULL;
	}
	integer(r, n);
}

/* 0: it is none of the fake's own. */
static int own(struct kit *k, const struct chatd_redis_command *c, struct chatd_redis_reply *r)
{
	static const struct {
		const char *name;
		size_t n; /* words at least */
	} known[] = { { "PING", 1 }, { "GET", 2 }, { "SET", 3 }, { "DEL", 2 }, { "UNLINK", 2 },
		{ "EXISTS", 2 }, { "INCR", 2 }, { "INCRBY", 3 }, { "EXPIRE", 3 }, { "PEXPIRE", 3 },
		{ "TTL", 2 }, { "PTTL", 2 }, { "PUBLISH", 3 } };
	enum { PING, GET, SET, DEL, UNLINK, EXISTS, INCR, INCRBY, EXPIRE, PEXPIRE, TTL, PTTL, PUBLISH };
	size_t i = 0;
	while (i < sizeof(known) / sizeof(known[0]) && !is_word(c->argv[0], known[i].name)) {
		i++;
	}
	if (i == sizeof(known) / sizeof(known[0]) || c->n < known[i].n) {
		return 0;
	}
	const struct value *v = i == GET ? *place_of(k, c->argv[1]) : NULL;
	switch (i) {
	case SET:
		set(k, c, r);
		break;
	case DEL:
	case UNLINK:
	case EXISTS:
		each_key(k, c, i != EXISTS, r);
		break;
	case INCR:
	case INCRBY:
		incr(k, c->argv[1], i == INCR ? 1 : number_of(c->argv[2]), r);
		break;
	case EXPIRE:
	case PEXPIRE:
		expire(k, c->argv[1], number_of(c->argv[2]) * (i == EXPIRE ? 1000 : 1), r);
		break;
	case TTL:
	case PTTL:
		left(k, c->argv[1], i == TTL ? 1000 : 1, r);
		break;
	case PUBLISH:
		integer(r, tell_hearers(k, c->argv[1], c->argv[2]));
		break;
	default:
		reply_text(r, i == PING ? "PONG" : v ? v->text : NULL);
		break;
	}
	return 1;
}

/* ---- commands ------------------------------------------------------------------------------- */

static void command_free(struct kit_answer *a)
{
	struct command *c = (struct command *)a;
	for (size_t i = 0; i < c->c.n; i++) {
		free((char *)(uintptr_t)c->argv[i].p);
	}
	free(c);
}

static void give(struct kit_answer *a)
{
	struct command *c = (struct command *)a;
	const struct kit_redis *x = redis(a->k);
	struct chatd_redis_reply r = { .type = CHATD_REDIS_NIL };
	char text[200];
	if (a->rc < 0) { /* what a connection may end with */
		c->fn(c->arg, a->rc == -EIO ? -ECONNRESET : a->rc, NULL);
		return;
	}
	if (!(x->answers && x->answers(x->answers_arg, &c->c, &r)) &&
			(c->c.script || !own(a->k, &c->c, &r))) {
		snprintf(text, sizeof(text), "ERR the kit's Redis has no %s; see kit_redis_answers()",
				c->c.script ? "scripts" : c->argv[0].p);
		reply_text(&r, text);
		r.type = CHATD_REDIS_ERROR;
	}
	c->fn(c->arg, r.type == CHATD_REDIS_ERROR ? -EPROTO : 0, &r);
}

/* "SET", "key value EX 60"; of a script "script 1" and its keys and arguments. */
static void note(struct kit *k, const struct command *c)
{
	char what[24], *rest = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&rest, &n);
	snprintf(what, sizeof(what), "script %u", c->c.script);
	for (size_t i = !c->c.script; f && i < c->c.n; i++) {
		fprintf(f, "%s%s", n || ftell(f) ? " " : "", c->argv[i].p);
	}
	if (f) {
		fclose(f);
	}
	kit_note(k, CHATD_REDIS, c->c.script ? str_of(what) : c->argv[0], rest);
}

static struct command *command(
		struct kit *k, chatd_worker *w, const struct chatd_redis_command *from)
{
	struct command *c = calloc(1, sizeof(*c));
	if (!c || from->n == 0 || from->n > ARGS_MAX) {
		kit_broken(k,
				c ? "a command to Redis has no words, or more than %d"
				  : "no memory for the test itself",
				ARGS_MAX);
		return c;
	}
	if (from->script > redis(k)->n_scripts) {
		kit_broken(k, "call() of chatd.redis/1 with script %u, which script() did not give",
				from->script);
	}
	c->a = (struct kit_answer){ .k = k, .w = w, .give = give, .free = command_free };
	c->c = *from;
	c->c.argv = c->argv;
	for (size_t i = 0; i < from->n; i++) {
		c->argv[i] = from->argv[i];
		c->argv[i].p = kit_dup(from->argv[i].p ? from->argv[i] : CHATD_LIT(""));
	}
	return c;
}

static chatd_status r_call(void *obj, chatd_worker *w, const struct chatd_redis_command *from,
		chatd_redis_fn *fn, void *arg)
{
	struct kit *k = obj;
	if (redis(k)->down) {
		return -EAGAIN;
	}
	struct command *c = command(k, w, from);
	c->fn = fn;
	c->arg = arg;
	note(k, c);
	return kit_answers_send(&c->a, KIT_REDIS);
}

static chatd_status r_ask(
		void *obj, const struct chatd_redis_command *from, chatd_redis_fn *fn, void *arg)
{
	struct kit *k = obj;
	if (!k->here || (k->started == k->n_workers && !k->stopping)) {
		kit_broken(k, "ask() of chatd.redis/1 is for worker_start() and worker_stop() only");
	}
	if (redis(k)->down || kit_fault(k)) {
		return -EAGAIN;
	}
	struct command *c = command(k, k->here, from);
	c->fn = fn;
	c->arg = arg;
	note(k, c);
	give(&c->a);
	command_free(&c->a);
	return 0;
}

static chatd_status in_init(struct kit *k, size_t n, const char *what)
{
	if (!k->registering) {
		kit_broken(k, "%s of chatd.redis/1 is for init() only", what);
	}
	return kit_fault(k) ? -ENOMEM : n == HEARERS_MAX ? -ENOSPC : 0;
}

static chatd_status r_script(void *obj, const char *text, uint32_t *ret_id)
{
	struct kit *k = obj;
	chatd_status rc = in_init(k, 0, "script()");
	(void)text;
	if (rc == 0) {
		*ret_id = ++redis(k)->n_scripts;
	}
	return rc;
}

static void tell_watchers(void *arg)
{
	struct kit *k = arg;
	const struct kit_redis *x = redis(k);
	for (size_t i = 0; i < x->n_watchers && !k->dead; i++) {
		x->watchers[i].fn(x->watchers[i].arg, !x->down);
	}
}

static chatd_status r_watch(void *obj, void (*fn)(void *arg, int32_t up), void *arg)
{
	struct kit *k = obj;
	struct kit_redis *x = redis(k);
	chatd_status rc = in_init(k, x->n_watchers, "watch()");
	if (rc == 0 && x->n_watchers == 0) { /* once for all of them, when the workers run */
		rc = worker_post(&k->workers[0], tell_watchers, k);
	}
	if (rc == 0) {
		x->watchers[x->n_watchers].fn = fn;
		x->watchers[x->n_watchers++].arg = arg;
	}
	return rc;
}

static void listens(void *arg)
{
	const struct hearer *h = arg;
	if (!h->k->dead) {
		h->fn(h->arg, &h->k->workers[0], chatd_str_of(NULL, 0));
	}
}

static chatd_status r_subscribe(
		void *obj, struct chatd_str channel, chatd_redis_heard *fn, void *arg)
{
	struct kit *k = obj;
	struct kit_redis *x = redis(k);
	if (!k->here) {
		kit_broken(k, "subscribe() of chatd.redis/1 is for workers only");
	}
	if (kit_fault(k)) {
		return -ENOMEM;
	}
	if (x->n_hearers == HEARERS_MAX) {
		return -ENOSPC;
	}
	struct hearer *h = &x->hearers[x->n_hearers++];
	*h = (struct hearer){ .k = k, .channel = kit_dup(channel), .fn = fn, .arg = arg };
	return worker_post(&k->workers[0], listens, h);
}

static int32_t r_is_up(void *obj)
{
	return !redis(obj)->down;
}

static struct chatd_str r_prefix(void *obj)
{
	(void)obj;
	return CHATD_LIT("kit:");
}

static chatd_status r_hide(void *obj, struct chatd_str text, char ret[CHATD_REDIS_HIDDEN])
{
	unsigned char hash[crypto_generichash_BYTES_MIN];
	if (kit_fault(obj)) {
		return -ENOMEM;
	}
	crypto_generichash(
			hash, sizeof(hash), (const unsigned char *)(text.p ? text.p : ""), text.n, NULL, 0);
	sodium_bin2hex(ret, CHATD_REDIS_HIDDEN, hash, sizeof(hash));
	return 0;
}

const struct chatd_redis kit_redis_vt = { .struct_size = sizeof(kit_redis_vt),
	.script = r_script,
	.watch = r_watch,
	.subscribe = r_subscribe,
	.call = r_call,
	.ask = r_ask,
	.is_up = r_is_up,
	.prefix = r_prefix,
	.hide = r_hide };

/* ---- the test's side ------------------------------------------------------------------------- */

void kit_redis_up(struct kit *k, int up)
{
	redis(k)->down = !up;
	k->here = &k->workers[0];
	tell_watchers(k);
	k->here = NULL;
	kit_settle(k);
}

void kit_redis_answers(struct kit *k, kit_redis_fn *fn, void *arg)
{
	redis(k)->answers = fn;
	redis(k)->answers_arg = arg;
}

void kit_redis_comes(struct kit *k, const char *channel, const char *payload)
{
	(void)tell_hearers(k, str_of(channel), str_of(payload));
	kit_settle(k);
}

const char *kit_redis_value(struct kit *k, const char *key)
{
	const struct value *v = *place_of(k, str_of(key));
	return v ? v->text : NULL;
}

void kit_redis_put(struct kit *k, const char *key, const char *value)
{
	put(k, str_of(key), str_of(value), 0);
}

void kit_redis_finish(struct kit *k)
{
	struct kit_redis *x = k->redis;
	while (x && x->values) {
		(void)drop(k, str_of(x->values->key));
	}
	for (size_t i = 0; x && i < x->n_hearers; i++) {
		free(x->hearers[i].channel);
	}
	free(x);
	k->redis = NULL;
}
