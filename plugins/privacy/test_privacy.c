/* SPDX-License-Identifier: Apache-2.0 */
/* Also of chatd-sdk/record_set.h and ask.h, which this plugin is the plainest user of. */
#include <chatd-sdk/record_set.h>
#include <chatd/kit.h>
#include <chatd/kit_store.h>
#include <chatd/privacy.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define BLOCK "privacy.block"

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- other nodes -------------------------------------------------------------------------- */

static struct {
	struct chatd_cluster_receiver receiver[2];
	size_t n;
	char told[256]; /* "kind key body" of the last event */
	int32_t up;
	int64_t silent;
	int events;
} others;

static chatd_status c_receive(void *obj, const struct chatd_cluster_receiver *r)
{
	(void)obj;
	others.receiver[others.n++ % 2] = *r;
	return 0;
}

static chatd_status c_send(void *obj, chatd_worker *w, const struct chatd_cluster_event *e,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	(void)obj;
	(void)w;
	(void)done;
	(void)arg;
	others.events++;
	snprintf(others.told, sizeof(others.told), "%.*s %.*s %.*s", (int)e->kind.n, e->kind.p,
			(int)e->key.n, e->key.p, (int)e->body.n, e->body.p);
	return others.up ? 0 : -EAGAIN;
}

static int32_t c_up(void *obj)
{
	(void)obj;
	return others.up;
}

static int64_t c_silent(void *obj)
{
	(void)obj;
	return others.silent;
}

static const struct chatd_cluster cluster_vt = { .struct_size = sizeof(cluster_vt),
	.receive = c_receive,
	.send = c_send,
	.is_up = c_up,
	.silent = c_silent };

struct news {
	struct kit *k;
	int32_t worker;
	const char *body;
};

static void on_news(void *arg)
{
	const struct news *n = arg;
	const struct chatd_cluster_event e = {
		.struct_size = sizeof(e), .kind = CHATD_LIT(BLOCK), .body = z(n->body)
	};
	others.receiver[0].fn(others.receiver[0].arg, kit_worker(n->k, n->worker), &e);
}

static void tell(struct kit *k, int32_t worker, const char *body)
{
	struct news n = { k, worker, body };
	if (!kit_failing(k)) {
		kit_on(k, worker, on_news, &n);
	}
}

/* ---- the plugin ------------------------------------------------------------------------------ */

static const struct kit_service alone[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ CHATD_CLUSTER, NULL, NULL }, { NULL, NULL, NULL } };
static const struct kit_service many[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ CHATD_CLUSTER, &cluster_vt, NULL }, { NULL, NULL, NULL } };

static struct kit *begin(const char *conf, int32_t workers, const struct kit_service *services)
{
	const struct kit_conf with = { .workers = workers, .services = services };
	return kit_new_with(&chatd_plugin_under_test, conf, &with);
}

static void end(struct kit *k)
{
	kit_free(k);
	kit_store_clear();
	memset(&others, 0, sizeof(others));
}

struct question {
	struct kit *k;
	int32_t worker;
	const char *who, *whom; /* whom NULL: does who hide what is read? */
	int32_t rc;
};

static void on_question(void *arg)
{
	struct question *q = arg;
	struct chatd_service s = kit_provided(q->k, CHATD_PRIVACY);
	const struct chatd_privacy *p = s.vt;
	const chatd_worker *w = kit_worker(q->k, q->worker);
	if (p) {
		q->rc = q->whom ? p->blocks(s.obj, w, z(q->who), z(q->whom))
						: p->hides_reads(s.obj, w, z(q->who));
	}
}

static int32_t on(struct kit *k, int32_t worker, const char *who, const char *whom)
{
	struct question q = { k, worker, who, whom, -ENODATA };
	if (!kit_failing(k)) {
		kit_on(k, worker, on_question, &q);
	}
	return q.rc;
}

#define assert_asked(k, worker, who, whom, is) \
	assert_true(kit_failing(k) || on(k, worker, who, whom) == (is))

static struct kit_req *as(
		struct kit *k, const char *who, const char *method, const char *path, const char *body)
{
	return kit_http(k, method, path, body, "kit-user", who, NULL);
}

/* ---- the table ---------------------------------------------------------------------------------- */

enum { NAMES = 512, ROUNDS = 20000 };

/* Small numbers collide all the time, so that removing has gaps to close. */
static void the_table_keeps_what_is_put_into_it(void **state)
{
	static char in[NAMES];
	unsigned long long seed = 88172645463325252ull;
	size_t n = 0;
	(void)state;
	struct kit *k = begin("", 1, alone);
	struct chatd_set_table t = { NULL, 0, 0 };
	chatd_set_remove(&t, 1); /* of an empty one */
	for (int i = 0; i < ROUNDS; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		size_t one = seed % NAMES;
		uint64_t x = one % 3 ? one + 1 : (uint64_t)(one + 1) << 12;
		int add = (seed >> 32) % 5 < (i < ROUNDS / 2 ? 3 : 2);
		if (add) {
			assert_true(chatd_set_add(kit_host(k), &t, x));
		} else {
			chatd_set_remove(&t, x);
		}
		n += (size_t)(add && !in[one]);
		n -= (size_t)(!add && in[one]);
		in[one] = (char)add;
		assert_int_equal(t.n, n);
		for (size_t j = 0; i % 97 == 0 && j < NAMES; j++) {
			uint64_t y = j % 3 ? j + 1 : (uint64_t)(j + 1) << 12;
			assert_int_equal(t.slots[chatd_set_find(&t, y)] == y, in[j]);
		}
	}
	chatd_set_empty(kit_host(k), &t);
	end(k);
}

/* ---- blocking ------------------------------------------------------------------------------------- */

static void mistakes_in_the_options_are_named(void **state)
{
	static const char *const wrong[][2] = { { "max_blocks: 0", "max_blocks" },
		{ "max_blocks: 100001", "100000" }, { "max_blocks: many", "max_blocks" },
		{ "max_block: 5", "max_blocks" }, { "guest_blocks: -1", "guest_blocks" } };
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i][0], wrong[i][1]);
	}
}

static void who_blocks_somebody_has_it_so_on_all_workers(void **state)
{
	(void)state;
	struct kit *k = begin("", 3, alone);
	kit_expect_http(as(k, "ann", "GET", "/api/blocks", NULL), 200, "{\"blocks\":[]}");
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL);
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL);
	for (int32_t i = 0; i < 3; i++) {
		assert_asked(k, i, "ann", "bob", 1);
		assert_asked(k, i, "bob", "ann", 0);
		assert_asked(k, i, "carol", "dave", 0);
		assert_asked(k, i, "", "bob", 0);
		assert_asked(k, i, "ann", "", 0);
		assert_asked(k, i, "an", "nbob", 0);
	}
	kit_expect_http(as(k, "ann", "GET", "/api/blocks", NULL), 200,
			"{\"blocks\":[{\"userId\":\"bob\",\"since\":\"2023-");
	kit_expect_http(as(k, "bob", "GET", "/api/blocks", NULL), 200, "{\"blocks\":[]}");
	kit_expect_http(as(k, "ann", "DELETE", "/api/blocks/bob", NULL), 204, NULL);
	kit_expect_http(as(k, "ann", "DELETE", "/api/blocks/bob", NULL), 204, NULL);
	for (int32_t i = 0; i < 3; i++) {
		assert_asked(k, i, "ann", "bob", 0);
	}
	end(k);
}

static void a_list_comes_in_pages(void **state)
{
	(void)state;
	struct kit *k = begin("max_blocks: 2", 1, alone);
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL);
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/carol", NULL), 204, NULL);
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/dave", NULL), 409, "TOO_MANY_BLOCKS");
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL); /* it is there */
	kit_expect_http(as(k, "anne", "PUT", "/api/blocks/dave", NULL), 204, NULL);
	struct kit_req *r = as(k, "ann", "GET", "/api/blocks?limit=1", NULL);
	kit_expect_http(r, 200, "\"after\":\"bob\"");
	assert_null(strstr(kit_http_body(r).p, "carol"));
	r = as(k, "ann", "GET", "/api/blocks?limit=2&after=bob", NULL);
	kit_expect_http(r, 200, "carol");
	assert_null(strstr(kit_http_body(r).p, "after"));
	assert_null(strstr(kit_http_body(r).p, "dave"));
	kit_expect_http(as(k, "ann", "GET", "/api/blocks?limit=x", NULL), 400, "VALIDATION");
	kit_expect_http(as(k, "ann", "GET", "/api/blocks?limit=0", NULL), 200, "\"after\":\"bob\"");
	kit_expect_http(as(k, "ann", "GET", "/api/blocks?after=..", NULL), 400, "BAD_CURSOR");
	end(k);
}

static void what_cannot_be_is_refused(void **state)
{
	(void)state;
	struct kit *k = begin("", 1, alone);
	kit_expect_http(kit_http(k, "GET", "/api/blocks", NULL, NULL), 401, "");
	kit_expect_http(kit_http(k, "PUT", "/api/blocks/bob", NULL, NULL), 401, "");
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/ann", NULL), 422, "themselves");
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/a.b", NULL), 404, "no such user");
	kit_expect_http(
			as(k, "ann", "PUT", "/api/chat/settings", "{}"), 422, "readReceipts is missing");
	kit_expect_http(as(k, "ann", "PUT", "/api/chat/settings", ""), 422, "readReceipts is missing");
	kit_expect_http(as(k, "ann", "PUT", "/api/chat/settings", "{\"readReceipts\":1}"), 422,
			"true or false");
	kit_expect_http(as(k, "ann", "PUT", "/api/chat/settings", "{"), 400, "not JSON");
	assert_int_equal(kit_store_count(BLOCK) + kit_store_count("privacy.unread"), 0);
	end(k);
}

static void settings_are_kept(void **state)
{
	(void)state;
	struct kit *k = begin("", 2, alone);
	kit_expect_http(
			as(k, "ann", "GET", "/api/chat/settings", NULL), 200, "{\"readReceipts\":true}");
	kit_expect_http(as(k, "ann", "PUT", "/api/chat/settings", "{\"readReceipts\":false}"), 200,
			"{\"readReceipts\":false}");
	kit_expect_http(
			as(k, "ann", "GET", "/api/chat/settings", NULL), 200, "{\"readReceipts\":false}");
	assert_asked(k, 0, "ann", NULL, 1);
	assert_asked(k, 1, "ann", NULL, 1);
	assert_asked(k, 1, "bob", NULL, 0);
	kit_free(k);
	k = begin("", 2, alone); /* after a restart */
	assert_asked(k, 1, "ann", NULL, 1);
	kit_expect_http(as(k, "ann", "PUT", "/api/chat/settings", "{\"readReceipts\":true}"), 200,
			"{\"readReceipts\":true}");
	assert_asked(k, 0, "ann", NULL, 0);
	end(k);
}

/* ---- who hears of it --------------------------------------------------------------------------- */

static char heard[256];

static void on_event(
		void *arg, chatd_worker *w, struct chatd_str who, struct chatd_str whom, int32_t is)
{
	const struct chatd_host *h = arg;
	size_t n = strlen(heard);
	snprintf(heard + n, sizeof(heard) - n, "%d:%.*s/%.*s=%d ", (int)h->worker_index(w), (int)who.n,
			who.p, (int)whom.n, whom.p, (int)is);
}

static void a_block_is_told_to_who_watches(void **state)
{
	(void)state;
	struct kit *k = begin("", 2, alone);
	struct chatd_service s = kit_provided(k, CHATD_PRIVACY);
	const struct chatd_privacy *p = s.vt;
	heard[0] = '\0';
	assert_int_equal(p->watch(s.obj, on_event, (void *)(uintptr_t)kit_host(k)), 0);
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL);
	kit_expect_http(
			as(k, "ann", "PUT", "/api/chat/settings", "{\"readReceipts\":false}"), 200, NULL);
	kit_expect_http(as(k, "ann", "DELETE", "/api/blocks/bob", NULL), 204, NULL);
	assert_string_equal(heard, "0:ann/bob=1 1:ann/bob=1 0:ann/bob=0 1:ann/bob=0 ");
	for (int i = 1; i < 16; i++) {
		assert_int_equal(p->watch(s.obj, on_event, NULL), 0);
	}
	assert_int_equal(p->watch(s.obj, on_event, NULL), -ENOSPC);
	end(k);
}

/* ---- before it is loaded ---------------------------------------------------------------------------- */

static void nobody_comes_in_before_it_is_known(void **state)
{
	(void)state;
	kit_store_put(BLOCK, "ann/bob", "1700000000000");
	kit_store_hold(1);
	struct kit *k = begin("", 1, alone);
	assert_asked(k, 0, "ann", "bob", -EAGAIN);
	assert_asked(k, 0, "ann", NULL, -EAGAIN);
	kit_expect_http(as(k, "ann", "GET", "/api/chat/settings", NULL), 503, "STORE_BUSY");
	struct kit_client *a = kit_login(k, 0, "kit-user", "ann", NULL);
	struct kit_client *b = kit_login(k, 0, "kit-user", "bob", NULL);
	kit_expect_waiting(k, 2);
	kit_close(b); /* it does not wait for that */
	kit_store_hold(0);
	kit_expect_waiting(k, 0);
	assert_true(kit_is_open(a));
	assert_asked(k, 0, "ann", "bob", 1);
	assert_asked(k, 0, "ann", NULL, 0);
	end(k);
}

static void a_store_that_fails_at_first_is_asked_again(void **state)
{
	(void)state;
	kit_store_put(BLOCK, "ann/bob", "1700000000000");
	kit_store_fail(-EIO);
	struct kit *k = begin("", 1, alone);
	kit_refuse_suspend(k, 1); /* then it is let in, and refused what depends on it */
	struct kit_client *a = kit_login(k, 0, "kit-user", "ann", NULL);
	assert_true(kit_is_open(a));
	kit_refuse_suspend(k, 0);
	kit_advance(k, 2500);
	assert_asked(k, 0, "ann", "bob", -EAGAIN);
	kit_store_fail(0);
	kit_advance(k, 1000);
	assert_asked(k, 0, "ann", "bob", 1);
	end(k);
}

/* The server stops while it asks. */
static void the_store_never_answers(void **state)
{
	(void)state;
	kit_store_hold(1);
	struct kit *k = begin("", 2, alone);
	struct kit_req *r = as(k, "ann", "PUT", "/api/blocks/bob", NULL);
	kit_http_gone(r);
	kit_store_fail(-ESHUTDOWN);
	kit_store_hold(0);
	assert_int_equal(kit_http_status(r), 0);
	end(k);
}

/* ---- the store says no, or says it late ----------------------------------------------------------------- */

static void what_the_store_says_is_answered(void **state)
{
	static const struct {
		chatd_status rc;
		int32_t status;
		const char *part;
	} no[] = { { -EAGAIN, 503, "STORE_BUSY" }, { -EBUSY, 503, "STORE_BUSY" },
		{ -ENOSPC, 503, "STORE_FULL" }, { -EINVAL, 422, "VALIDATION" },
		{ -EIO, 503, "UNAVAILABLE" }, { -EDQUOT, 409, "TOO_MANY_BLOCKS" } };
	(void)state;
	struct kit *k = begin("", 1, alone);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		kit_store_fail(no[i].rc);
		kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), no[i].status, no[i].part);
		kit_expect_http(as(k, "ann", "GET", "/api/blocks", NULL),
				no[i].rc == -EDQUOT ? 503 : no[i].status, NULL);
		assert_asked(k, 0, "ann", "bob", 0);
	}
	end(k);
}

static void a_client_that_leaves_takes_nothing_along(void **state)
{
	(void)state;
	struct kit *k = begin("", 2, alone);
	kit_store_hold(1);
	struct kit_req *r[] = { as(k, "ann", "PUT", "/api/blocks/bob", NULL),
		as(k, "ann", "GET", "/api/blocks", NULL),
		as(k, "ann", "PUT", "/api/chat/settings", "{\"readReceipts\":false}") };
	assert_int_equal(kit_store_held(), 3);
	assert_asked(k, 0, "ann", "bob", 0); /* not before it is stored */
	for (size_t i = 0; i < 3; i++) {
		kit_http_gone(r[i]);
	}
	kit_store_hold(0);
	assert_asked(k, 1, "ann", "bob", 1);
	assert_asked(k, 1, "ann", NULL, 1);
	end(k);
}

/* ---- in a cluster ------------------------------------------------------------------------------------------- */

static void other_nodes_are_told_and_heard(void **state)
{
	(void)state;
	others.up = 1;
	struct kit *k = begin("", 2, many);
	assert_string_equal(others.receiver[0].kind, BLOCK);
	assert_string_equal(others.receiver[1].kind, "privacy.unread");
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL);
	assert_string_equal(others.told, BLOCK " ann/bob ann/bob");
	assert_int_equal(kit_store_count(BLOCK ".log"), 1);
	kit_store_put(BLOCK, "carol/dave", "1700000000000");
	tell(k, 1, "carol/dave");
	assert_asked(k, 0, "carol", "dave", 1);
	assert_asked(k, 1, "carol", "dave", 1);
	tell(k, 1, "erin/dave"); /* the store knows better */
	assert_asked(k, 0, "erin", "dave", 0);
	assert_int_equal(others.events, 1); /* what was told is not told on */
	tell(k, 0, "");
	end(k);
}

static void what_was_not_told_is_found(void **state)
{
	char key[64];
	(void)state;
	others.up = 1;
	struct kit *k = begin("", 2, many);
	kit_advance(k, 100);
	kit_store_put(BLOCK, "carol/dave", "1700000000000");
	snprintf(key, sizeof(key), "%013lld.carol/dave", (long long)kit_host(k)->wall_ms());
	kit_store_put(BLOCK ".log", key, "");
	kit_advance(k, 5000);
	assert_asked(k, 1, "carol", "dave", 0); /* all is well: it would have been told */
	others.up = 0;
	kit_advance(k, 1000);
	assert_asked(k, 1, "carol", "dave", 1);
	others.up = 1;
	kit_store_put(BLOCK, "erin/dave", "1700000000000");
	snprintf(key, sizeof(key), "%013lld.erin/dave", (long long)kit_host(k)->wall_ms());
	kit_store_put(BLOCK ".log", key, "");
	kit_advance(k, 15000); /* although the broker seems well */
	assert_asked(k, 1, "erin", "dave", 1);
	others.silent = 3000;
	kit_store_put(BLOCK, "fred/dave", "1700000000000");
	snprintf(key, sizeof(key), "%013lld.fred/dave", (long long)kit_host(k)->wall_ms());
	kit_store_put(BLOCK ".log", key, "");
	kit_advance(k, 1000);
	assert_asked(k, 1, "fred", "dave", 1);
	end(k);
}

/* What another node told could not be looked at: it is not forgotten. */
static void what_could_not_be_looked_at_is_looked_at_again(void **state)
{
	char key[64];
	(void)state;
	others.up = 1;
	struct kit *k = begin("", 1, many);
	kit_advance(k, 100);
	kit_store_put(BLOCK, "carol/dave", "1700000000000");
	snprintf(key, sizeof(key), "%013lld.carol/dave", (long long)kit_host(k)->wall_ms());
	kit_store_put(BLOCK ".log", key, "");
	kit_store_fail(-EIO);
	tell(k, 0, "carol/dave");
	kit_store_fail(0);
	kit_advance(k, 1000);
	assert_asked(k, 0, "carol", "dave", 1);
	end(k);
}

/* The log holds an hour: who could not read it for longer reads everything. */
static void after_an_hour_all_is_read_again(void **state)
{
	(void)state;
	others.up = 1;
	struct kit *k = begin("", 2, many);
	kit_expect_http(as(k, "ann", "PUT", "/api/blocks/bob", NULL), 204, NULL);
	kit_advance(k, 15000);
	kit_store_clear(); /* meanwhile another node has lifted one block and put another */
	kit_store_put(BLOCK, "carol/dave", "1700000000000");
	kit_store_fail(-EIO);
	kit_advance(k, 3700000);
	assert_asked(k, 1, "ann", "bob", 1);
	kit_store_fail(0);
	kit_advance(k, 15000);
	assert_asked(k, 1, "ann", "bob", 0);
	assert_asked(k, 0, "carol", "dave", 1);
	assert_asked(k, 1, "carol", "dave", 1);
	end(k);
}

/* A store that refuses to say what one record is. */
static struct chatd_store flaky_vt;
static chatd_status flaky_rc;

static chatd_status flaky_get(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	return flaky_rc < 0 ? flaky_rc : kit_store_vt.record_get(obj, w, q, fn, arg);
}

/* The look that had found it is over, and what came long before it is not read in the next one. */
static void what_a_look_found_and_could_not_ask_about_is_found_again(void **state)
{
	static const struct kit_service services[] = { { CHATD_STORE, &flaky_vt, NULL },
		{ CHATD_CLUSTER, &cluster_vt, NULL }, { NULL, NULL, NULL } };
	char key[64];
	(void)state;
	flaky_vt = kit_store_vt;
	flaky_vt.record_get = flaky_get;
	struct kit *k = begin("", 2, services);
	kit_advance(k, 3000);
	kit_store_put(BLOCK, "carol/dave", "1700000000000");
	snprintf(key, sizeof(key), "%013lld.carol/dave", (long long)kit_host(k)->wall_ms());
	kit_store_put(BLOCK ".log", key, "");
	kit_store_fail(-EIO); /* for longer than looks overlap */
	kit_advance(k, 100000);
	flaky_rc = -EAGAIN;
	kit_store_fail(0);
	kit_advance(k, 1000);
	assert_asked(k, 1, "carol", "dave", 0);
	flaky_rc = 0;
	kit_advance(k, 2000);
	assert_asked(k, 1, "carol", "dave", 1);
	end(k);
}

/* ---- two changes at a time ---------------------------------------------------------------------------------- */

struct race {
	struct kit *k;
	struct chatd_set set;
	struct chatd_service store;
	int32_t worker, on, done;
};

static void race_start(void *arg)
{
	struct race *r = arg;
	assert_int_equal(chatd_set_start(&r->set, kit_worker(r->k, r->worker)), 0);
}

static void race_done(void *arg, chatd_status rc)
{
	struct race *r = arg;
	assert_int_equal(rc, 0);
	r->done++;
}

static void race_change(void *arg)
{
	struct race *r = arg;
	const struct chatd_set_put p = { .key = CHATD_LIT("ann/bob"), .on = r->on };
	assert_int_equal(chatd_set_change(&r->set, kit_worker(r->k, r->worker), &p, race_done, r), 0);
}

static void race_stop(void *arg)
{
	struct race *r = arg;
	chatd_set_stop(&r->set, kit_worker(r->k, r->worker));
}

static void on_each(struct race *r, void (*fn)(void *))
{
	for (r->worker = 0; r->worker < 3; r->worker++) {
		kit_on(r->k, r->worker, fn, r);
	}
}

static void change_on(struct race *r, int32_t worker, int32_t on)
{
	r->worker = worker;
	r->on = on;
	kit_on(r->k, worker, race_change, r);
	assert_true(kit_step(r->k, worker));
}

/* Whoever stored last has the last word, whichever worker is faster to say what it has stored. */
static void all_workers_come_to_what_the_store_says(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		struct race r = { .store = { &kit_store_vt, NULL } };
		r.k = begin("", 3, alone);
		r.set = (struct chatd_set){ .h = kit_host(r.k), .store = &r.store, .space = "race" };
		assert_int_equal(chatd_set_init(&r.set), 0);
		on_each(&r, race_start);
		kit_run(r.k);
		kit_manual(r.k, 1);
		kit_store_hold(1);
		change_on(&r, 2, first);
		change_on(&r, 1, !first);
		kit_store_hold(0);
		while (kit_step(r.k, 1) || kit_step(r.k, 0)) { /* the second one is fast */
		}
		kit_manual(r.k, 0);
		kit_run(r.k);
		assert_int_equal(r.done, 2);
		for (int32_t i = 0; i < 3; i++) {
			assert_int_equal(
					chatd_set_has(&r.set, kit_worker(r.k, i), CHATD_LIT("ann/bob")), !first);
		}
		on_each(&r, race_stop);
		chatd_set_finish(&r.set);
		end(r.k);
	}
}

/* Nobody says which records went with an account. */
static void what_went_with_an_account_goes_from_memory_too(void **state)
{
	(void)state;
	kit_store_put(BLOCK, "ann/bob", "1700000000000");
	struct kit *k = begin("", 2, alone);
	assert_asked(k, 1, "ann", "bob", 1);
	kit_store_clear();
	kit_store_put(BLOCK, "carol/dave", "1700000000000");
	kit_store_hold(1);
	kit_advance(k, CHATD_SET_REFRESH_MS + 100);
	assert_asked(k, 1, "ann", "bob", 1); /* nobody waits while it is read */
	kit_expect_http(as(k, "erin", "PUT", "/api/blocks/bob", NULL), 0, NULL);
	kit_store_hold(0);
	for (int32_t i = 0; i < 2; i++) {
		assert_asked(k, i, "ann", "bob", 0);
		assert_asked(k, i, "carol", "dave", 1);
		assert_asked(k, i, "erin", "bob", 1);
	}
	end(k);
}

static void guests_block_fewer(void **state)
{
	(void)state;
	struct kit *k = begin("guest_blocks: 1", 1, alone);
	for (int i = 0; i < 2; i++) {
		const char *path = i ? "/api/blocks/carol" : "/api/blocks/bob";
		kit_expect_http(kit_http(k, "PUT", path, NULL, "kit-user", "ann", NULL), 204, NULL);
		kit_expect_http(kit_http(k, "PUT", path, NULL, "kit-user", "guest", "kit-flags", "1", NULL),
				i ? 409 : 204, i ? "TOO_MANY_BLOCKS" : NULL);
	}
	end(k);
	k = begin("guest_blocks: 0", 1, alone);
	kit_expect_http(kit_http(k, "PUT", "/api/blocks/bob", NULL, "kit-user", "guest", "kit-flags",
							"1", NULL),
			403, "FORBIDDEN");
	end(k);
}

/* ---- without memory -------------------------------------------------------------------------------------------- */

static void day(const struct kit_service *services)
{
	kit_store_clear();
	memset(&others, 0, sizeof(others));
	kit_store_put(BLOCK, "zoe/bob", "1700000000000");
	struct kit *k = begin("", 2, services);
	kit_advance(k, 1000);
	(void)kit_login(k, 0, "kit-user", "ann", NULL);
	struct kit_req *r = as(k, "ann", "PUT", "/api/blocks/bob", NULL);
	(void)as(k, "ann", "GET", "/api/blocks", NULL);
	(void)as(k, "ann", "PUT", "/api/chat/settings", "{\"readReceipts\":false}");
	(void)as(k, "ann", "GET", "/api/chat/settings", NULL);
	(void)as(k, "ann", "DELETE", "/api/blocks/bob", NULL);
	if (services == many && others.n) {
		tell(k, 1, "zoe/bob");
	}
	kit_advance(k, 3000);
	/* Whatever failed, nobody waits for ever. */
	assert_true(kit_http_status(r) != 0);
	assert_asked(k, 1, "zoe", "bob", 1);
	kit_free(k);
	kit_store_clear();
}

static void day_alone(void)
{
	day(alone);
}

static void day_in_a_cluster(void)
{
	day(many);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(day_alone);
	kit_sweep(day_in_a_cluster);
	memset(&others, 0, sizeof(others));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_keeps_what_is_put_into_it),
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(who_blocks_somebody_has_it_so_on_all_workers),
		cmocka_unit_test(a_list_comes_in_pages),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(settings_are_kept),
		cmocka_unit_test(a_block_is_told_to_who_watches),
		cmocka_unit_test(nobody_comes_in_before_it_is_known),
		cmocka_unit_test(a_store_that_fails_at_first_is_asked_again),
		cmocka_unit_test(the_store_never_answers),
		cmocka_unit_test(what_the_store_says_is_answered),
		cmocka_unit_test(a_client_that_leaves_takes_nothing_along),
		cmocka_unit_test(other_nodes_are_told_and_heard),
		cmocka_unit_test(what_was_not_told_is_found),
		cmocka_unit_test(what_could_not_be_looked_at_is_looked_at_again),
		cmocka_unit_test(after_an_hour_all_is_read_again),
		cmocka_unit_test(what_a_look_found_and_could_not_ask_about_is_found_again),
		cmocka_unit_test(all_workers_come_to_what_the_store_says),
		cmocka_unit_test(what_went_with_an_account_goes_from_memory_too),
		cmocka_unit_test(guests_block_fewer),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
