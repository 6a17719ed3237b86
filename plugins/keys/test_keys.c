/* SPDX-License-Identifier: Apache-2.0 */
#include "bundle.h"

#include <chatd/kit.h>
#include <chatd/limiter.h>
#include <chatd/store.h>

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define GUEST "1" /* CHATD_ID_ANONYMOUS */

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- a store of records, which answers by post -------------------------------------------- */

enum { ROWS = 200, ROOM = 1024 };
struct row {
	char space[33], key[160], value[ROOM], owner[65];
	int there;
};
static struct fake {
	struct kit *k;
	struct row rows[ROWS];
	chatd_status refuse; /* at once, every call of .what */
	const char *what;
	const char *peer; /* of a direct conversation of everybody */
	int limited;      /* the limiter says no */
	char bucket[200];
	int64_t cost;
} fake;

struct reply {
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_store_answer a;
	struct chatd_store_record records[ROWS];
	struct row rows[ROWS]; /* as they were */
	struct chatd_store_conversation conversations[2];
};

static void on_post(void *arg)
{
	struct reply *r = arg;
	r->fn(r->arg, r->rc, &r->a);
	free(r);
}

static struct reply *reply(chatd_store_fn *fn, void *arg)
{
	struct reply *r = calloc(1, sizeof(*r));
	assert_non_null(r);
	r->fn = fn;
	r->arg = arg;
	r->a.struct_size = sizeof(r->a);
	r->a.records = r->records;
	return r;
}

static chatd_status send_reply(chatd_worker *w, struct reply *r, const char *what)
{
	chatd_status rc = fake.what && strcmp(fake.what, what) == 0 ? fake.refuse : 0;
	rc = rc ? rc : kit_host(fake.k)->post(w, on_post, r);
	if (rc < 0) {
		free(r);
	}
	return rc;
}

static void copy(char *to, size_t cap, struct chatd_str s)
{
	assert_true(s.n < cap);
	chatd_str_copy(to, cap, s);
}

static int fits(const struct row *row, struct chatd_str space, struct chatd_str key, int prefix)
{
	return row->there && chatd_str_same(z(row->space), space) &&
			(prefix ? strlen(row->key) >= key.n && memcmp(row->key, key.p, key.n) == 0
					: chatd_str_same(z(row->key), key));
}

static int compare_rows(const void *a, const void *b)
{
	const struct row *one = a, *other = b;
	return one->there != other->there ? other->there - one->there : strcmp(one->key, other->key);
}

static void give(struct reply *r, const struct row *row)
{
	size_t i = r->a.n_records++;
	r->rows[i] = *row;
	r->records[i] = (struct chatd_store_record){ .struct_size = sizeof(r->records[0]),
		.space = z(r->rows[i].space),
		.key = z(r->rows[i].key),
		.value = z(r->rows[i].value),
		.owner = z(r->rows[i].owner) };
}

static chatd_status fake_put(void *obj, chatd_worker *w, const struct chatd_store_record *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	struct row *at = NULL;
	int64_t owned = 0;
	(void)obj;
	for (size_t i = 0; i < ROWS; i++) {
		int same_owner = fake.rows[i].there && chatd_str_same(z(fake.rows[i].owner), q->owner) &&
				chatd_str_same(z(fake.rows[i].space), q->space);
		at = fits(&fake.rows[i], q->space, q->key, 0) ? &fake.rows[i] : at;
		owned += same_owner && !fits(&fake.rows[i], q->space, q->key, 0);
	}
	if (at && q->how == CHATD_STORE_RECORD_NEW) {
		r->rc = -EEXIST;
	} else if (q->max && owned >= q->max) {
		r->rc = -EDQUOT;
	} else {
		for (size_t i = 0; !at; i++) {
			at = fake.rows[i].there ? NULL : &fake.rows[i];
		}
		at->there = 1;
		copy(at->space, sizeof(at->space), q->space);
		copy(at->key, sizeof(at->key), q->key);
		copy(at->value, sizeof(at->value), q->value);
		copy(at->owner, sizeof(at->owner), q->owner);
		assert_true(q->expires > q->wall);
	}
	qsort(fake.rows, ROWS, sizeof(fake.rows[0]), compare_rows);
	return send_reply(w, r, "put");
}

static chatd_status fake_find(
		chatd_worker *w, const struct chatd_store_record_key *q, struct reply *r, const char *what)
{
	int take = strcmp(what, "take") == 0, end = strcmp(what, "end") == 0;
	r->rc = end ? 0 : -ENOENT;
	for (size_t i = 0; i < ROWS && (end || r->rc); i++) {
		if (fits(&fake.rows[i], q->space, q->key, q->prefix)) {
			r->rc = 0;
			if (!end) {
				give(r, &fake.rows[i]);
			}
			fake.rows[i].there = !take && !end;
		}
	}
	return send_reply(w, r, what);
}

static chatd_status fake_get(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return fake_find(w, q, reply(fn, arg), "get");
}

static chatd_status fake_take(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return fake_find(w, q, reply(fn, arg), "take");
}

static chatd_status fake_end(void *obj, chatd_worker *w, const struct chatd_store_record_key *q,
		chatd_store_fn *fn, void *arg)
{
	(void)obj;
	return fake_find(w, q, reply(fn, arg), "end");
}

static chatd_status fake_list(void *obj, chatd_worker *w, const struct chatd_store_record_list *q,
		chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	(void)obj;
	for (size_t i = 0; i < ROWS && (int32_t)r->a.n_records < q->limit; i++) {
		if (fits(&fake.rows[i], q->space, q->prefix, 1)) {
			give(r, &fake.rows[i]);
		}
	}
	return send_reply(w, r, "list");
}

static chatd_status fake_conversations(void *obj, chatd_worker *w,
		const struct chatd_store_conversations *q, chatd_store_fn *fn, void *arg)
{
	struct reply *r = reply(fn, arg);
	(void)obj;
	(void)q;
	r->conversations[0].conv = (struct chatd_store_conv){ .room = CHATD_LIT("lobby") };
	r->conversations[1].conv = (struct chatd_store_conv){ .a = CHATD_LIT("ann"),
		.b = z(fake.peer ? fake.peer : "ann") };
	r->a.conversations = r->conversations;
	r->a.n_conversations = fake.peer ? 2 : 1;
	return send_reply(w, r, "conversations");
}

static const struct chatd_store store = { .struct_size = sizeof(store),
	.conversations = fake_conversations,
	.record_put = fake_put,
	.record_get = fake_get,
	.record_list = fake_list,
	.record_take = fake_take,
	.record_end = fake_end };

/* ---- a limiter ------------------------------------------------------------------------------ */

struct drawn {
	chatd_limiter_fn *fn;
	void *arg;
	chatd_status rc;
};

static void on_limit(void *arg)
{
	struct drawn *d = arg;
	d->fn(d->arg, d->rc, d->rc ? 5000 : 0);
	free(d);
}

static chatd_status fake_limit(
		void *obj, chatd_worker *w, const struct chatd_bucket *b, chatd_limiter_fn *fn, void *arg)
{
	struct drawn *d = calloc(1, sizeof(*d));
	(void)obj;
	assert_non_null(d);
	*d = (struct drawn){ fn, arg, fake.limited ? -EDQUOT : 0 };
	chatd_str_copy(fake.bucket, sizeof(fake.bucket), b->key);
	fake.cost = b->cost;
	chatd_status rc = kit_host(fake.k)->post(w, on_limit, d);
	if (rc < 0) {
		free(d);
	}
	return rc;
}

static const struct chatd_limiter limiter = { .struct_size = sizeof(limiter), .take = fake_limit };

static struct kit *fresh(const char *yaml)
{
	static const struct kit_service services[] = {
		{ CHATD_STORE, &store, NULL },
		{ CHATD_LIMITER, &limiter, NULL },
		{ NULL, NULL, NULL },
	};
	const struct kit_conf conf = { .workers = 1, .services = services };
	memset(&fake, 0, sizeof(fake));
	fake.k = kit_new_with(&chatd_plugin_under_test, yaml, &conf);
	return fake.k;
}

/* ---- devices ------------------------------------------------------------------------------------ */

static void field(unsigned char *b, size_t *n, const void *p, size_t len)
{
	b[*n] = b[*n + 1] = b[*n + 2] = 0;
	b[*n + 3] = (unsigned char)len;
	memcpy(b + *n + 4, p, len);
	*n += 4 + len;
}

struct made {
	char body[8192], id[23];
};

static void sign(const unsigned char *secret, const unsigned char *b, size_t n, char ret[100])
{
	unsigned char sig[crypto_sign_BYTES];
	crypto_sign_detached(sig, NULL, b, n, secret);
	sodium_bin2base64(ret, 100, sig, sizeof(sig), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static void encode(const unsigned char key[32], char ret[50])
{
	sodium_bin2base64(ret, 50, key, 32, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* The body of a PUT of @p user's device number @p seed, with one-time prekeys from..to-1. */
static const char *make(struct made *m, const char *user, unsigned char seed, int from, int to)
{
	unsigned char seeds[32], identity[32], secret[64], dh[32], key[32], b[512];
	char text[5][100];
	size_t n = 0;
	memset(seeds, seed, sizeof(seeds));
	memset(dh, seed + 1, sizeof(dh));
	memset(key, seed + 2, sizeof(key));
	crypto_sign_seed_keypair(identity, secret, seeds);
	encode(identity, text[0]);
	encode(dh, text[1]);
	encode(key, text[2]);
	field(b, &n, "chatd-e2ee-1 dh", 15);
	field(b, &n, user, strlen(user));
	field(b, &n, dh, 32);
	sign(secret, b, n, text[3]);
	n = 0;
	field(b, &n, "chatd-e2ee-1 prekey", 19);
	field(b, &n, user, strlen(user));
	field(b, &n, "3", 1);
	field(b, &n, key, 32);
	sign(secret, b, n, text[4]);
	int at = snprintf(m->body, sizeof(m->body),
			"{\"device\":{\"identity\":\"%s\",\"dh\":\"%s\",\"dhSignature\":\"%s\",\"prekey\":{"
			"\"id\":3,\"key\":\"%s\",\"signature\":\"%s\"},\"name\":\"it's\"},\"prekeys\":[",
			text[0], text[1], text[3], text[2], text[4]);
	for (int i = from; i < to; i++) {
		at += snprintf(m->body + at, sizeof(m->body) - (size_t)at, "%s{\"id\":%d,\"key\":\"%s\"}",
				i > from ? "," : "", i, text[2]);
	}
	snprintf(m->body + at, sizeof(m->body) - (size_t)at, "]}");
	struct bundle bundle;
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(z(m->body), why);
	if (!bundle_read(root, z(user), &bundle, why)) {
		fail_msg("%s", why);
	}
	chatd_str_copy(m->id, sizeof(m->id), z(bundle.id));
	json_decref(root);
	return m->body;
}

static struct kit_req *call(
		struct kit *k, const char *user, const char *method, const char *path, const char *body)
{
	return kit_http(
			k, method, path, body, "content-type", "application/json", "kit-user", user, NULL);
}

static int count(const char *space)
{
	int n = 0;
	for (size_t i = 0; i < ROWS; i++) {
		n += fake.rows[i].there && strcmp(fake.rows[i].space, space) == 0;
	}
	return n;
}

/* ---- bundles ------------------------------------------------------------------------------------- */

static void expect_fault(const char *body, const char *part)
{
	char why[CHATD_JSON_WHY];
	struct bundle b;
	json_t *root = chatd_json_parse(z(body), why);
	assert_non_null(root);
	assert_int_equal(bundle_read(root, z("ann"), &b, why), 0);
	if (!strstr(why, part)) {
		fail_msg("\"%s\" is not in \"%s\"", part, why);
	}
	json_decref(root);
}

/* The bundle with one piece of its text replaced. */
static const char *spoilt(const char *what, const char *by)
{
	static char body[8192];
	static struct made m;
	make(&m, "ann", 1, 1, 3);
	char *at = strstr(m.body, what);
	assert_non_null(at);
	snprintf(body, sizeof(body), "%.*s%s%s", (int)(at - m.body), m.body, by, at + strlen(what));
	return body;
}

static void a_bundle_must_be_what_others_would_take(void **state)
{
	struct made m;
	(void)state;
	assert_int_equal(strlen(make(&m, "ann", 1, 1, 1)) > 300, 1);
	expect_fault("{}", "device.identity must be 32 bytes");
	expect_fault("{\"device\":[]}", "device.identity");
	expect_fault(spoilt("\"dh\":\"", "\"dh\":\"A"), "device.dh must be 32 bytes");
	expect_fault(
			spoilt("\"dhSignature\":\"", "\"dhSignature\":\"="), "device.dhSignature must be 64");
	expect_fault(spoilt("\"id\":3", "\"id\":4"), "was not made by identity");
	expect_fault(spoilt("\"id\":3", "\"id\":\"3\""), "device.prekey.id must be a number");
	expect_fault(spoilt("\"dh\":\"Ag", "\"dh\":\"Aw"), "was not made by identity");
	expect_fault(spoilt("\"name\":\"it's\"", "\"name\":1"), "device.name");
	expect_fault(spoilt("it's", "it\\u0007s"), "device.name");
	expect_fault(spoilt("\"id\":2,", "\"id\":0,"), "prekeys: number 2");
	expect_fault(spoilt("[{", "[1,{"), "prekeys: number 1");
	expect_fault(spoilt("\"prekeys\":[", "\"prekeys\":{},\"x\":["), "prekeys must be a list");
	make(&m, "bob", 1, 1, 1);
	expect_fault(m.body, "for this user");
}

/* ---- PUT ------------------------------------------------------------------------------------------ */

static void a_device_is_put_seen_and_put_again(void **state)
{
	struct kit *k = fresh("");
	struct made m;
	char part[64];
	(void)state;
	fake.peer = "bob";
	struct kit_req *r = call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 4));
	snprintf(part, sizeof(part), "{\"deviceId\":\"%s\",\"prekeys\":3}", m.id);
	kit_expect_http(r, 200, part);
	assert_string_equal(fake.bucket, "keys-change:ann");
	kit_expect_published_user(
			k, "ann", "/user/queue/keys", "{\"type\":\"KEYS\",\"userId\":\"ann\"}");
	kit_expect_published_user(
			k, "bob", "/user/queue/keys", "{\"type\":\"KEYS\",\"userId\":\"ann\"}");
	kit_expect_nothing_published(k);
	/* The same again, as after an answer that was lost, and then every day: nobody is told. */
	fake.bucket[0] = '\0';
	kit_expect_http(
			call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 5)), 200, "\"prekeys\":4}");
	assert_string_equal(fake.bucket, "");
	kit_expect_nothing_published(k);
	r = call(k, "eve", "GET", "/api/keys/ann", NULL);
	snprintf(part, sizeof(part), "{\"userId\":\"ann\",\"devices\":[{\"id\":\"%s\"", m.id);
	kit_expect_http(r, 200, part);
	assert_null(strstr(kit_http_body(r).p, "it's"));
	kit_expect_http(call(k, "ann", "GET", "/api/keys", NULL), 200, "\"name\":\"it's\"");
	kit_expect_http(call(k, "eve", "GET", "/api/keys/bob", NULL), 200,
			"{\"userId\":\"bob\",\"devices\":[]}");
	kit_expect_http(call(k, "eve", "GET", "/api/keys", NULL), 200, "{\"devices\":[]}");
	kit_free(k);
}

static void what_is_wrong_is_refused(void **state)
{
	struct kit *k = fresh("max_prekeys: 10");
	struct made m;
	(void)state;
	kit_expect_http(kit_http(k, "PUT", "/api/keys", "{}", "content-type", "application/json", NULL),
			401, "UNAUTHORIZED");
	kit_expect_http(call(k, "ann", "PUT", "/api/keys", "{"), 400, "VALIDATION");
	kit_expect_http(call(k, "ann", "PUT", "/api/keys", "{}"), 422, "VALIDATION");
	kit_expect_http(
			call(k, "ann", "PUT", "/api/keys", make(&m, "bob", 1, 1, 1)), 422, "VALIDATION");
	kit_expect_http(call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 12)), 422,
			"may have 10: send 10 at most");
	kit_expect_http(
			call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 9)), 200, "prekeys\":8");
	kit_expect_http(call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 9, 12)), 422,
			"has 8 and may have 10: send 2 at most");
	assert_int_equal(count("keys.onetime"), 8);
	kit_free(k);
}

static void nobody_has_more_devices_than_allowed(void **state)
{
	struct kit *k = fresh("max_devices: 2");
	struct made m;
	(void)state;
	for (unsigned char i = 1; i <= 2; i++) {
		kit_expect_http(call(k, "ann", "PUT", "/api/keys", make(&m, "ann", i, 1, 1)), 200, m.id);
	}
	kit_expect_http(
			call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 3, 1, 1)), 409, "TOO_MANY_DEVICES");
	kit_expect_http(call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 2, 1, 1)), 200, m.id);
	struct kit_req *r = kit_http(k, "PUT", "/api/keys", make(&m, "gus", 1, 1, 1), "content-type",
			"application/json", "kit-user", "gus", "kit-flags", GUEST, NULL);
	kit_expect_http(r, 200, m.id);
	r = kit_http(k, "PUT", "/api/keys", make(&m, "gus", 2, 1, 1), "content-type",
			"application/json", "kit-user", "gus", "kit-flags", GUEST, NULL);
	kit_expect_http(r, 409, "TOO_MANY_DEVICES");
	kit_free(k);
	k = fresh("guests: false");
	r = kit_http(k, "PUT", "/api/keys", make(&m, "gus", 1, 1, 1), "content-type",
			"application/json", "kit-user", "gus", "kit-flags", GUEST, NULL);
	kit_expect_http(r, 403, "registered accounts only");
	kit_free(k);
}

/* ---- one-time prekeys -------------------------------------------------------------------------------- */

static void take(struct kit *k, const char *device, const char *answer)
{
	char body[64];
	snprintf(body, sizeof(body), "{\"devices\":[\"%s\"]}", device);
	kit_expect_http(call(k, "bob", "POST", "/api/keys/ann/prekeys", body), 200, answer);
}

static void a_prekey_is_given_once_and_their_end_is_told(void **state)
{
	struct kit *k = fresh("low_water: 1");
	struct made m;
	(void)state;
	call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 9, 12));
	kit_expect_published_user(k, "ann", "/user/queue/keys", "KEYS");
	take(k, m.id, "\"id\":9,");
	kit_expect_nothing_published(k);
	take(k, m.id, "\"id\":10,");
	kit_expect_published_user(k, "ann", "/user/queue/keys", "\"type\":\"KEYS_LOW\"");
	take(k, m.id, "\"id\":11,");
	kit_expect_published_user(k, "ann", "/user/queue/keys", "\"prekeys\":0}");
	take(k, m.id, "{\"prekeys\":[]}");
	assert_string_equal(fake.bucket, "keys-take:bob");
	assert_int_equal(fake.cost, 1);
	kit_free(k);
}

/* Two tabs at the same moment: each has found room. */
static void a_device_has_no_more_prekeys_than_it_may(void **state)
{
	struct kit *k = fresh("max_prekeys: 10");
	struct made m;
	struct kit_req *r[2];
	(void)state;
	call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 1));
	kit_manual(k, 1);
	for (int i = 0; i < 2; i++) {
		r[i] = call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1 + 8 * i, 9 + 8 * i));
	}
	kit_manual(k, 0);
	kit_run(k);
	for (int i = 0; i < 2; i++) {
		assert_true(kit_http_status(r[i]) == 200 || kit_http_status(r[i]) == 422);
	}
	assert_true(count("keys.onetime") <= 10);
	kit_free(k);
}

static void who_has_left_uses_nothing_up(void **state)
{
	struct kit *k = fresh("");
	struct made m;
	char body[64];
	(void)state;
	call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 9));
	snprintf(body, sizeof(body), "{\"devices\":[\"%s\"]}", m.id);
	kit_manual(k, 1);
	struct kit_req *r = call(k, "bob", "POST", "/api/keys/ann/prekeys", body);
	kit_http_gone(r); /* while the limiter is asked */
	kit_manual(k, 0);
	kit_run(k);
	assert_int_equal(count("keys.onetime"), 8);
	kit_free(k);
}

static void who_takes_prekeys_says_of_which_devices(void **state)
{
	static const struct {
		const char *body, *part;
	} cases[] = {
		{ "{}", "devices must be a list" },
		{ "{\"devices\":[]}", "devices must be a list" },
		{ "{\"devices\":{}}", "devices must be a list" },
		{ "{\"devices\":[1]}", "ids of devices" },
		{ "{\"devices\":[\"abc\"]}", "ids of devices" },
		{ "{\"devices\":[\"/234567890123456789012\"]}", "ids of devices" },
		{ "{\"devices\":[\"1234567890123456789012\",\"1234567890123456789012\"]}", "twice" },
	};
	struct kit *k = fresh("");
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kit_expect_http(
				call(k, "bob", "POST", "/api/keys/ann/prekeys", cases[i].body), 422, cases[i].part);
	}
	fake.limited = 1;
	struct kit_req *r = call(k, "bob", "POST", "/api/keys/ann/prekeys",
			"{\"devices\":[\"1234567890123456789012\",\"1234567890123456789013\"]}");
	kit_expect_http(r, 429, "RATE_LIMIT_EXCEEDED");
	assert_int_equal(fake.cost, 2);
	assert_true(chatd_str_same(kit_http_header(r, "Retry-After"), z("6")));
	kit_free(k);
}

/* ---- removing ------------------------------------------------------------------------------------------ */

static void a_removed_device_does_not_come_back(void **state)
{
	struct kit *k = fresh("");
	struct made m, other;
	char path[64];
	(void)state;
	call(k, "ann", "PUT", "/api/keys", make(&other, "ann", 2, 1, 3));
	call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 4));
	kit_expect_published_user(k, "ann", "/user/queue/keys", "KEYS");
	kit_expect_published_user(k, "ann", "/user/queue/keys", "KEYS");
	snprintf(path, sizeof(path), "/api/keys/devices/%s", m.id);
	kit_expect_http(call(k, "bob", "DELETE", path, NULL), 404, "NOT_FOUND");
	kit_expect_http(call(k, "ann", "DELETE", "/api/keys/devices/x", NULL), 404, "NOT_FOUND");
	kit_expect_http(call(k, "ann", "DELETE", path, NULL), 204, "");
	kit_expect_published_user(k, "ann", "/user/queue/keys", "\"userId\":\"ann\"");
	kit_expect_http(call(k, "ann", "DELETE", path, NULL), 404, "NOT_FOUND");
	assert_int_equal(count("keys.device"), 1);
	assert_int_equal(count("keys.onetime"), 2); /* the other one's */
	kit_expect_http(call(k, "ann", "PUT", "/api/keys", m.body), 409, "DEVICE_REMOVED");
	kit_free(k);
}

/* ---- trouble ------------------------------------------------------------------------------------------- */

static void a_store_in_trouble_is_said_and_leaves_nothing_behind(void **state)
{
	static const char *const calls[] = { "put", "get", "list", "take", "end", "conversations" };
	struct made m;
	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct kit *k = fresh("");
		char path[64], body[64];
		make(&m, "ann", 1, 1, 4);
		snprintf(path, sizeof(path), "/api/keys/devices/%s", m.id);
		snprintf(body, sizeof(body), "{\"devices\":[\"%s\"]}", m.id);
		call(k, "ann", "PUT", "/api/keys", m.body);
		fake.what = calls[i];
		fake.refuse = -EAGAIN;
		const struct kit_req *all[] = {
			call(k, "ann", "PUT", "/api/keys", m.body),
			call(k, "ann", "GET", "/api/keys/ann", NULL),
			call(k, "ann", "GET", "/api/keys", NULL),
			call(k, "bob", "POST", "/api/keys/ann/prekeys", body),
			call(k, "ann", "DELETE", path, NULL),
		};
		int busy = 0;
		for (size_t n = 0; n < sizeof(all) / sizeof(all[0]); n++) {
			int32_t status = kit_http_status(all[n]);
			assert_true(status == 503 || status == 200 || status == 204);
			busy += status == 503;
		}
		/* Whom a change concerns is told if that can be found out. */
		assert_int_equal(busy > 0, strcmp(calls[i], "conversations") != 0);
		kit_free(k);
	}
}

static void a_client_that_leaves_leaves_nothing_behind(void **state)
{
	struct kit *k = fresh("");
	struct made m;
	(void)state;
	kit_manual(k, 1);
	struct kit_req *r = call(k, "ann", "PUT", "/api/keys", make(&m, "ann", 1, 1, 4));
	kit_step(k, 0);
	kit_http_gone(r);
	kit_manual(k, 0);
	kit_run(k);
	assert_int_equal(count("keys.device"), 1); /* and is there all the same */
	kit_free(k);
}

static void a_whole_life(void)
{
	struct kit *k = fresh("low_water: 5");
	struct made m;
	char path[64], body[64];
	fake.peer = "bob";
	make(&m, "ann", 1, 1, 4);
	snprintf(path, sizeof(path), "/api/keys/devices/%s", m.id);
	snprintf(body, sizeof(body), "{\"devices\":[\"%s\"]}", m.id);
	call(k, "ann", "PUT", "/api/keys", m.body);
	call(k, "ann", "GET", "/api/keys", NULL);
	call(k, "bob", "GET", "/api/keys/ann", NULL);
	call(k, "bob", "POST", "/api/keys/ann/prekeys", body);
	call(k, "ann", "DELETE", path, NULL);
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(a_whole_life);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bundle_must_be_what_others_would_take),
		cmocka_unit_test(a_device_is_put_seen_and_put_again),
		cmocka_unit_test(what_is_wrong_is_refused),
		cmocka_unit_test(nobody_has_more_devices_than_allowed),
		cmocka_unit_test(a_prekey_is_given_once_and_their_end_is_told),
		cmocka_unit_test(a_device_has_no_more_prekeys_than_it_may),
		cmocka_unit_test(who_has_left_uses_nothing_up),
		cmocka_unit_test(who_takes_prekeys_says_of_which_devices),
		cmocka_unit_test(a_removed_device_does_not_come_back),
		cmocka_unit_test(a_store_in_trouble_is_said_and_leaves_nothing_behind),
		cmocka_unit_test(a_client_that_leaves_leaves_nothing_behind),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
