/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin in the kit, with a store of the test's own that remembers one file. */
#include <chatd/cipher.h>
#include <chatd/kit.h>
#include <chatd/store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define TYPE "multipart/form-data; boundary=b"
#define S3   "backend: s3\ns3_endpoint: http://x\ns3_key: a\ns3_secret: b\n"
#define BODY(data)                                                                       \
	"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\n" data \
	"\r\n--b--\r\n"

static struct {
	struct kit *k;
	struct chatd_store_file file; /* .id.p NULL: there is none */
	char text[6][160];
	chatd_status rc; /* of file_put() */
	int32_t why, repeated;
	int64_t stored, owned;
} fake;

struct answer {
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_store_answer a;
};

static void on_answer(void *arg)
{
	struct answer *a = arg;
	a->fn(a->arg, a->rc, &a->a);
	free(a);
}

static chatd_status answer(
		chatd_worker *w, chatd_store_fn *fn, void *arg, const struct answer *what)
{
	struct answer *a = malloc(sizeof(*a));
	*a = *what;
	a->fn = fn;
	a->arg = arg;
	a->a.struct_size = sizeof(a->a);
	chatd_status rc = kit_host(fake.k)->post(w, on_answer, a);
	if (rc < 0) {
		free(a);
	}
	return rc;
}

static struct chatd_str keep(int i, struct chatd_str s)
{
	assert_true(s.n < sizeof(fake.text[i]));
	memcpy(fake.text[i], s.p, s.n);
	return chatd_str_of(fake.text[i], s.n);
}

static chatd_status put(
		void *obj, chatd_worker *w, const struct chatd_store_file *r, chatd_store_fn *fn, void *arg)
{
	struct answer a = { .rc = fake.rc, .a = { .why = fake.why, .repeated = fake.repeated } };
	(void)obj;
	if (fake.rc == 0) {
		fake.file = *r;
		fake.file.id = keep(0, r->id);
		fake.file.owner = keep(1, r->owner);
		fake.file.name = keep(2, r->name);
		fake.file.hash = keep(3, r->hash);
		fake.file.object = keep(4, r->object);
		fake.file.type = keep(5, r->type);
		a.a.files = &fake.file;
		a.a.n_files = 1;
	}
	return answer(w, fn, arg, &a);
}

static int fits(const struct chatd_store_file_key *r)
{
	const struct chatd_store_file *f = &fake.file;
	return f->id.p && f->id.n == r->id.n && memcmp(f->id.p, r->id.p, r->id.n) == 0 &&
			f->owner.n == r->user.n && memcmp(f->owner.p, r->user.p, r->user.n) == 0;
}

static chatd_status get(void *obj, chatd_worker *w, const struct chatd_store_file_key *r,
		chatd_store_fn *fn, void *arg)
{
	const struct answer a = { .rc = fits(r) ? 0 : -ENOENT,
		.a = { .files = &fake.file, .n_files = 1 } };
	(void)obj;
	return answer(w, fn, arg, &a);
}

static chatd_status drop(void *obj, chatd_worker *w, const struct chatd_store_file_key *r,
		chatd_store_fn *fn, void *arg)
{
	const struct answer a = { .rc = fits(r) ? 0 : -ENOENT };
	(void)obj;
	fake.file.id.p = a.rc == 0 ? NULL : fake.file.id.p;
	return answer(w, fn, arg, &a);
}

static chatd_status space(void *obj, chatd_worker *w, const struct chatd_store_file_key *r,
		chatd_store_fn *fn, void *arg)
{
	const struct answer a = { .a = { .n = fake.stored, .owned = fake.owned } };
	(void)obj;
	(void)r;
	return answer(w, fn, arg, &a);
}

static chatd_status objects(void *obj, chatd_worker *w, const struct chatd_store_objects *r,
		chatd_store_fn *fn, void *arg)
{
	const struct answer a = { .rc = 0 };
	(void)obj;
	(void)r;
	return answer(w, fn, arg, &a);
}

static const struct chatd_store fake_vt = { .struct_size = sizeof(fake_vt),
	.file_put = put,
	.file_get = get,
	.file_drop = drop,
	.file_space = space,
	.objects = objects };

/* No cipher, but whoever does not use it is found out. */
static const struct chatd_keys *no_keys(void *obj)
{
	(void)obj;
	return NULL;
}

static void seals(void *obj, struct chatd_cipher_conf *ret)
{
	(void)obj;
	ret->seals = 1;
}

static chatd_status turn(const struct chatd_keys *keys, const struct chatd_cipher_place *at,
		struct chatd_str plain, char *to)
{
	(void)keys;
	memset(to, 'x', CHATD_CIPHER_EXTRA);
	snprintf(to, CHATD_CIPHER_EXTRA, "%d %d", (int)at->seq, at->sender.n != 0);
	for (size_t i = 0; i < plain.n; i++) {
		to[CHATD_CIPHER_EXTRA + i] = plain.p[i] ^ 'k';
	}
	return 0;
}

static chatd_status turn_back(const struct chatd_keys *keys, const struct chatd_cipher_place *at,
		struct chatd_str sealed, char *to)
{
	char head[CHATD_CIPHER_EXTRA];
	(void)keys;
	snprintf(head, sizeof(head), "%d %d", (int)at->seq, at->sender.n != 0);
	if (sealed.n < CHATD_CIPHER_EXTRA || strcmp(head, sealed.p) != 0) {
		return -EBADMSG;
	}
	for (size_t i = CHATD_CIPHER_EXTRA; i < sealed.n; i++) {
		to[i - CHATD_CIPHER_EXTRA] = sealed.p[i] ^ 'k';
	}
	return 0;
}

static const struct chatd_cipher fake_cipher = { .struct_size = sizeof(fake_cipher),
	.keys = no_keys,
	.conf = seals,
	.seal = turn,
	.open = turn_back };

static struct kit *fresh(const char *yaml)
{
	static const struct kit_service plain[] = { { CHATD_STORE, &fake_vt, NULL },
		{ NULL, NULL, NULL } };
	static const struct kit_service sealed[] = { { CHATD_STORE, &fake_vt, NULL },
		{ CHATD_CIPHER, &fake_cipher, NULL }, { NULL, NULL, NULL } };
	const struct kit_conf conf = { .services = strstr(yaml, "required") ? sealed : plain };
	memset(&fake, 0, sizeof(fake));
	fake.k = kit_new_with(&chatd_plugin_under_test, yaml, &conf);
	return fake.k;
}

static struct kit_req *post(struct kit *k, const char *user, const char *body)
{
	struct kit_req *r = kit_http(
			k, "POST", "/api/files", body, "Content-Type", TYPE, "kit-user", user, (char *)NULL);
	kit_run(k);
	return r;
}

static struct kit_req *ask(struct kit *k, const char *method, const char *user, const char *more)
{
	char path[256];
	snprintf(path, sizeof(path), "/api/files/%s%s", fake.file.id.p ? fake.text[0] : "none", more);
	struct kit_req *r = kit_http(k, method, path, NULL, "kit-user", user, (char *)NULL);
	kit_run(k);
	return r;
}

static void go_up_and_down(const char *yaml)
{
	struct kit *k = fresh(yaml);
	kit_expect_http(post(k, "ann", BODY("hello, world")), 201,
			"\"size\":12,\"contentType\":\"text/plain\"}");
	kit_expect_http(ask(k, "GET", "ann", ""), 200, "hello, world");
	kit_expect_http(ask(k, "GET", "bob", ""), 404, "NOT_FOUND");
	kit_expect_http(ask(k, "GET", "ann", "/url"), 200, "\"url\":\"/api/files/");
	kit_expect_http(ask(k, "GET", "bob", "?u=ann&e=99999999999&s=0"), 403, "BAD_SIGNATURE");
	kit_in(k, "ann", "/app/chat.send",
			"{\"to\":\"bob\",\"attachments\":[{\"url\":\"/api/files/x\"},{\"url\":\"http://x\"}]}");
	char said[256];
	snprintf(said, sizeof(said),
			"{\"to\":\"bob\",\"clientId\":\"c\",\"attachments\":[{\"url\":\"/api/files/%s\",\"size\":12}]}",
			fake.text[0]);
	kit_in(k, "ann", "/app/chat.send", said);
	kit_run(k);
	kit_advance(k, 61000); /* the sweep, twice */
	kit_expect_http(ask(k, "DELETE", "bob", ""), 404, "NOT_FOUND");
	kit_expect_http(ask(k, "DELETE", "ann", ""), 204, NULL);
	kit_expect_http(ask(k, "GET", "ann", ""), 404, "NOT_FOUND");
	kit_free(k);
}

static void up_and_down(void)
{
	go_up_and_down("threads: 0\ntypes: [text/plain]\nurl_ttl: 10s");
}

static void up_and_down_sealed(void)
{
	go_up_and_down("threads: 0\ntypes: [text/plain]\nencrypt: required");
}

/* In two pieces, which are joined. */
static void pieces(void)
{
	struct kit *k = fresh("threads: 0\ntypes: [text/plain]\nencrypt: required");
	struct kit_req *r = kit_http(k, "POST", "/api/files/tus", "", "Tus-Resumable", "1.0.0",
			"Upload-Length", "12", "kit-user", "ann", (char *)NULL);
	kit_run(k);
	char where[256], offset[8];
	struct chatd_str location = kit_http_header(r, "Location");
	snprintf(where, sizeof(where), "%.*s", (int)location.n, location.p ? location.p : "");
	for (int at = 0; where[0] && at < 12; at += 5) {
		snprintf(offset, sizeof(offset), "%d", at);
		(void)kit_http(k, "PATCH", where,
				at == 0           ? "hello"
						: at == 5 ? ", wor"
								  : "ld",
				"Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream",
				"Upload-Offset", offset, "kit-user", "ann", (char *)NULL);
		kit_run(k);
	}
	kit_expect_http(ask(k, "GET", "ann", ""), 200, "hello, world");
	kit_free(k);
}

static void a_file_goes_up_and_comes_down(void **state)
{
	(void)state;
	up_and_down();
	up_and_down_sealed();
	pieces();
}

static void without_memory_nothing_is_lost(void **state)
{
	(void)state;
	kit_sweep(up_and_down);
	kit_sweep(up_and_down_sealed);
	kit_sweep(pieces);
}

static void a_user_has_so_many_files(void **state)
{
	struct kit *k = fresh("threads: 0\ntypes: [text/plain]\nuser_files: 2");
	(void)state;
	fake.owned = 1;
	kit_expect_http(post(k, "ann", BODY("one more")), 201, NULL);
	assert_int_equal(fake.file.uses, 2); /* which decides, should there be two at once */
	fake.owned = 2;
	kit_expect_http(post(k, "ann", BODY("x")), 429, "You have as many files as one may have here");
	struct kit_req *r = kit_http(k, "POST", "/api/files/tus", "", "Tus-Resumable", "1.0.0",
			"Upload-Length", "12", "kit-user", "ann", (char *)NULL);
	kit_run(k);
	kit_expect_http(r, 429, "as many files");
	fake.owned = 1;
	fake.rc = -EDQUOT;
	fake.why = CHATD_STORE_FILES;
	kit_expect_http(post(k, "ann", BODY("x y z")), 429, "as many files");
	kit_free(k);
}

static void what_is_refused(void **state)
{
	struct kit *k = fresh("threads: 0\ntypes: [text/plain]\nmax_size: 1 KiB\nuser_bytes: 2 KiB");
	char large[2000];
	(void)state;
	kit_expect_http(post(k, "ann", "nonsense"), 400, "BAD_MULTIPART");
	kit_expect_http(post(k, "ann", ""), 400, "the final boundary is missing");
	kit_expect_http(post(k, "ann", BODY("<!doctype html><html>")), 415, "TYPE_NOT_ALLOWED");
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	memcpy(large, BODY(""), strlen(BODY("")) - strlen("\r\n--b--\r\n"));
	kit_expect_http(post(k, "ann", large), 413, "TOO_LARGE");
	fake.stored = 2040;
	kit_expect_http(post(k, "ann", BODY("more than eight bytes")), 429, "QUOTA_EXCEEDED");
	fake.stored = 2048;
	kit_expect_http(post(k, "ann", BODY("x")), 429, "QUOTA_EXCEEDED");
	fake.stored = 0;
	fake.rc = -EDQUOT;
	fake.why = CHATD_STORE_TODAY;
	kit_expect_http(post(k, "ann", BODY("x y z")), 429, "QUOTA_EXCEEDED");
	fake.rc = -EACCES;
	kit_expect_http(post(k, "ann", BODY("x y z")), 422, "FILE_REFUSED");
	fake.rc = -ENOSPC;
	kit_expect_http(post(k, "ann", BODY("x y z")), 507, "STORE_FULL");
	struct kit_req *r = kit_http(k, "POST", "/api/files", BODY("x"), "Content-Type", TYPE,
			"kit-user", "gus", "kit-flags", "1", (char *)NULL);
	kit_expect_http(r, 403, "UPLOAD_FORBIDDEN");
	kit_free(k);
}

static void who_leaves_in_between(void **state)
{
	struct kit *k = fresh("threads: 0\ntypes: [text/plain]");
	(void)state;
	kit_hold_offload(k, 1);
	kit_http_gone(post(k, "ann", BODY("hello, world")));
	kit_hold_offload(k, 0);
	kit_run(k);
	assert_null(fake.file.id.p);
	post(k, "ann", BODY("hello, world"));
	kit_hold_offload(k, 1);
	kit_http_gone(ask(k, "GET", "ann", ""));
	kit_hold_offload(k, 0);
	kit_run(k);
	kit_expect_http(ask(k, "GET", "ann", ""), 200, "hello, world");
	kit_free(k);
}

static void options_are_checked(void **state)
{
	static const struct {
		const char *yaml, *says;
	} cases[] = {
		{ "types: []", "nothing could be uploaded" },
		{ "types: [png]", "is no media type" },
		{ "types: [\"*/*\"]", "is no media type" },
		{ "key: short", "needs at least 32" },
		{ "uploads: 2\nuploads_per_user: 3", "it is more than uploads" },
		{ "scanner: [clamdscan]", "give its whole path" },
		{ "scanner: [/no/such/program]", "give its whole path" },
		{ "thumbnailer: /no/such/program", "is no program that this user can run" },
		{ "encrypt: required\npresigned: true", "set presigned and presigned_uploads to false" },
		{ "encrypt: required\npresigned_uploads: true", "presigned_uploads to false" },
		{ "presigned_uploads: true", "set backend: s3" },
		{ "encrypt: maybe", "auto" },
		{ "thumbnails: [5]", "write pixels, from 16 to 4096" },
		{ "thumbnails: [large]", "write pixels, from 16 to 4096" },
		{ "thumbnails: [16, 17, 18, 19, 20, 21, 22, 23, 24]", "more than 8 sizes" },
		{ "backend: s3", "write one as https://" },
		{ "backend: s3\ns3_endpoint: ftp://x", "write one as https://" },
		{ "backend: s3\ns3_endpoint: http://x\ns3_key: a", "backend: s3 needs it" },
		{ S3 "s3_bucket: a/b", "no bucket's name" },
		{ S3 "s3_prefix: \"a b\"", "letters, digits" },
		{ S3 "s3_region: a/b", "no region" },
		{ S3 "max_size: 6 GiB", "at most 5 GiB" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, cases[i].yaml, cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_goes_up_and_comes_down),
		cmocka_unit_test(without_memory_nothing_is_lost),
		cmocka_unit_test(a_user_has_so_many_files),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(who_leaves_in_between),
		cmocka_unit_test(options_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
