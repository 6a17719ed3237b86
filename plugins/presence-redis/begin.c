/* SPDX-License-Identifier: Apache-2.0 */
/* Before the first client: is our node id free? */
#include "presence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 200, OBJECT_MS = 1000, OBJECT_POLL_MS = 20, SAY_TURNS = 5 };

struct chatd_redis_command command_of(
		uint32_t script, size_t n_keys, const struct chatd_str *argv, size_t n)
{
	return (struct chatd_redis_command){ .struct_size = sizeof(struct chatd_redis_command),
		.script = script,
		.n_keys = n_keys,
		.argv = argv,
		.n = n };
}

void claim_words(const struct self *self, int64_t epoch, int64_t since, const char *dead,
		struct claim_words *w)
{
	const struct chatd_str argv[CLAIM_WORDS] = {
		key_of(self, "active:servers", text_of(""), w->keys[0]),
		key_of(self, "active:retired", text_of(""), w->keys[1]),
		key_of(self, "active:epochs", text_of(""), w->keys[2]),
		text_of(self->node),
		number_of(epoch, w->numbers[0]),
		text_of(self->instance),
		text_of(self->who),
		number_of(self->conf->lease, w->numbers[1]),
		number_of(since, w->numbers[2]),
		text_of(dead),
		text_of(self->alone ? " alone" : ""),
	};
	memcpy(w->argv, argv, sizeof(argv));
}

void holder_text(
		const struct self *self, struct chatd_str text, struct chatd_str node, char *room, size_t n)
{
	struct lease l;
	char since[32] = "?";
	if (!lease_parse(text, &l)) {
		snprintf(room, n, "node id \"%s\" is held by a lease that cannot be read", self->node);
		return;
	}
	time_t t = (time_t)(l.since / 1000);
	struct tm tm;
	if (gmtime_r(&t, &tm)) {
		strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &tm);
	}
	int other = node.n != strlen(self->node) || memcmp(node.p, self->node, node.n) != 0;
	snprintf(room, n, "%snode id \"%.*s\" is held by %s:%lld since %s (boot epoch %lld)%s",
			other ? "config: more than one node on a Redis requires store-postgres (sqlite files "
					"cannot be shared between nodes): "
				  : "",
			(int)node.n, node.p, l.host, (long long)l.pid, since, (long long)l.epoch,
			other ? "; use store-postgres on all nodes, or give each server a redis.prefix of its own"
				  : "");
}

static int64_t clock_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void rest(int64_t ms)
{
	const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
	(void)nanosleep(&ts, NULL);
}

/* What came of one attempt. */
struct attempt {
	chatd_status rc;
	int ours;
	int64_t integer;
	char text[512];          /* the lease */
	char node[NODE_MAX + 1]; /* whose */
};

static void keep(struct attempt *a, const struct chatd_redis_reply *r)
{
	if (r->type == CHATD_REDIS_TEXT && r->text.n < sizeof(a->text)) {
		memcpy(a->text, r->text.p, r->text.n);
		a->text[r->text.n] = '\0';
	}
	a->integer = r->type == CHATD_REDIS_INTEGER ? r->integer : 0;
}

static void on_answer(void *arg, chatd_status rc, const struct chatd_redis_reply *r)
{
	struct attempt *a = arg;
	a->rc = rc;
	if (rc == 0 && r->type == CHATD_REDIS_ARRAY && r->n >= 2) {
		a->ours = r->items[0].type == CHATD_REDIS_INTEGER && r->items[0].integer == 1;
		keep(a, &r->items[1]);
		if (r->n > 2 && r->items[2].type == CHATD_REDIS_TEXT) {
			snprintf(a->node, sizeof(a->node), "%.*s", (int)r->items[2].text.n, r->items[2].text.p);
		}
	} else if (rc == 0) {
		keep(a, r);
	}
}

static struct attempt ask(struct self *self, const struct chatd_redis_command *c)
{
	struct attempt a = { .rc = 0 };
	chatd_status rc = self->redis->ask(self->redis_service->obj, c, on_answer, &a);
	a.rc = rc < 0 ? rc : a.rc;
	return a;
}

static struct attempt try_claim(struct self *self, const char *dead)
{
	struct claim_words w;
	claim_words(self, 0, 0, dead, &w);
	const struct chatd_redis_command c = command_of(self->claim, 3, w.argv, CLAIM_WORDS);
	return ask(self, &c);
}

/* Redis may have been wiped, with the holder of our node id alive: it listens, and takes its
 * lease back when it hears of us.  That lease is then what the claim has come to. */
static int is_objected_to(struct self *self, struct attempt *claimed)
{
	char key[KEY_MAX], servers[KEY_MAX];
	const struct chatd_str say[] = { CHATD_LIT("PUBLISH"),
		key_of(self, "node:", text_of(self->node), key), text_of(self->instance) };
	const struct chatd_str look[] = { CHATD_LIT("HGET"),
		key_of(self, "active:servers", text_of(""), servers), text_of(self->node) };
	const struct chatd_redis_command publish = command_of(0, 0, say, 3),
									 get = command_of(0, 0, look, 3);
	int64_t end = clock_ms() + OBJECT_MS;
	for (int turn = 0; clock_ms() < end; turn++) {
		struct lease l;
		/* Again and again: Redis may be wiped once more, and the objection with it. */
		struct attempt said = turn % SAY_TURNS == 0 ? ask(self, &publish) : (struct attempt){ 0 };
		if (said.rc < 0 || (turn == 0 && said.integer == 0)) {
			return 0; /* nobody listens */
		}
		rest(OBJECT_POLL_MS);
		struct attempt seen = ask(self, &get);
		if (seen.rc == 0 && lease_parse(text_of(seen.text), &l) &&
				strcmp(l.instance, self->instance) != 0) {
			snprintf(seen.node, sizeof(seen.node), "%s", self->node);
			*claimed = seen;
			return 1;
		}
	}
	return 0;
}

chatd_status begin(struct self *self)
{
	int64_t end = clock_ms() + self->conf->lease;
	char text[HOLDER_MAX];
	struct lease l = { .until = 0 };
	const char *dead = "";
	for (;;) {
		struct attempt a = try_claim(self, dead);
		if (a.rc < 0) {
			return 0; /* without Redis: registered when it comes */
		}
		if (a.ours && !is_objected_to(self, &a)) {
			return 0;
		}
		dead = "";
		if (!a.ours && lease_parse(text_of(a.text), &l) && lease_is_dead(&l)) {
			dead = l.instance;
			self->h->log(self->ctx, CHATD_LOG_INFO,
					"process %lld of this host, which had node id \"%s\", is no more: taken over",
					(long long)l.pid, a.node);
			continue;
		}
		if (clock_ms() >= end) {
			holder_text(self, text_of(a.text), text_of(a.node), text, sizeof(text));
			return self->h->fail(self->ctx, -ENOTUNIQ, "%s", text);
		}
		rest(POLL_MS);
	}
}
