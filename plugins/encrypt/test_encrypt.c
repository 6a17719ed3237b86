/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors were made apart from libsodium and from this code: XChaCha20-Poly1305 as in appendix
 * A of draft-irtf-cfrg-xchacha (whose example came out right), BLAKE2b by Python's hashlib. */
#include "encrypt.h"

#include <chatd/kit.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_
#define S(s)       CHATD_LIT(s)

extern const struct chatd_plugin chatd_plugin_under_test;

#define K1 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define K2 "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define K3 "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"

static struct chatd_keys *keys_of(const char *text, int words)
{
	char why[WHY_MAX] = "";
	struct chatd_keys *set = keys_parse(text, why);
	if (!set) {
		fail_msg("%s", why);
	}
	set->seals = 1;
	set->words = words;
	return set;
}

static struct chatd_cipher_place here(void)
{
	return (struct chatd_cipher_place){ .struct_size = sizeof(struct chatd_cipher_place),
		.kind = S("message"),
		.conv = S("r:lobby"),
		.sender = S("ann"),
		.seq = 7 };
}

static size_t unhex(const char *hex, unsigned char *to, size_t cap)
{
	size_t n = 0;
	assert_int_equal(sodium_hex2bin(to, cap, hex, strlen(hex), NULL, &n, NULL), 0);
	return n;
}

static struct chatd_str bytes(const unsigned char *p, size_t n)
{
	return chatd_str_of((const char *)p, n);
}

static void expect_open(const struct chatd_keys *set, const struct chatd_cipher_place *at,
		struct chatd_str sealed, const char *text)
{
	char to[256] = "";
	assert_int_equal(record_open(set, at, sealed, to), 0);
	assert_string_equal(to, text);
}

/* ---- vectors ----------------------------------------------------------------------- */

TEST(a_record_of_version_1_opens_for_ever)
{
	UNUSED;
	unsigned char sealed[256];
	size_t n = unhex("010160fd082475d710a4a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b77b6395e8"
					 "18589c6ae96f37b2a29abf2a5fedfef3a9d9bda47c2cd55785c810bbc7efa5",
			sealed, sizeof(sealed));
	struct chatd_keys *set = keys_of("2024 " K1 "\n", 1);
	const struct chatd_cipher_place at = here();
	expect_open(set, &at, bytes(sealed, n), "{\"content\":\"hello\"}");
	assert_int_equal(record_look(set, bytes(sealed, n)), CHATD_CIPHER_GOOD);
	keys_free(set);
}

TEST(words_and_marks_stay_what_they_are)
{
	UNUSED;
	char word[CHATD_CIPHER_WORD], mark[CHATD_CIPHER_MARK];
	unsigned char want[CHATD_CIPHER_MARK];
	struct chatd_keys *set = keys_of("a " K1, 1);
	assert_int_equal(words_key(set, 0, S("hello"), word), 0);
	assert_memory_equal(word, "a9a8eeb3de9e", CHATD_CIPHER_WORD);
	assert_int_equal(words_key(set, 1, S("hello"), word), -ENOENT);
	marks_make(set, S("0123456789abcdef"), mark);
	unhex("0160fd082475d710a4dc12e207bff25664db481b948ecb8bef8b188a4828c3ff6d", want, sizeof(want));
	assert_memory_equal(mark, want, sizeof(want));
	assert_true(marks_match(set, chatd_str_of(mark, sizeof(mark)), S("0123456789abcdef")));
	assert_false(marks_match(set, chatd_str_of(mark, sizeof(mark)), S("0123456789abcdeg")));
	keys_free(set);
}

/* ---- what does not open (H188) --------------------------------------------------------- */

struct sample {
	struct chatd_keys *set;
	char sealed[5 + CHATD_CIPHER_EXTRA];
};

static struct sample sample(const char *keys)
{
	struct sample s = { .set = keys_of(keys, 0) };
	const struct chatd_cipher_place at = here();
	assert_int_equal(record_seal(s.set, &at, S("hello"), s.sealed), 0);
	return s;
}

static chatd_status open_it(const struct sample *s, const struct chatd_cipher_place *at, size_t n)
{
	char to[64];
	memset(to, 'x', sizeof(to));
	chatd_status rc = record_open(s->set, at, chatd_str_of(s->sealed, n), to);
	if (rc < 0) {
		assert_null(memmem(to, sizeof(to), "hello", 5));
	}
	return rc;
}

TEST(every_bit_counts)
{
	UNUSED;
	struct sample s = sample("a " K1);
	const struct chatd_cipher_place at = here();
	for (size_t i = 0; i < sizeof(s.sealed); i++) {
		for (int bit = 0; bit < 8; bit++) {
			s.sealed[i] ^= (char)(1 << bit);
			chatd_status rc = open_it(&s, &at, sizeof(s.sealed));
			assert_int_equal(rc, i >= 2 && i < 10 ? -ENOKEY : -EBADMSG);
			s.sealed[i] ^= (char)(1 << bit);
		}
	}
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), 0);
	keys_free(s.set);
}

TEST(every_length_counts)
{
	UNUSED;
	struct sample s = sample("a " K1);
	const struct chatd_cipher_place at = here();
	for (size_t n = 0; n < sizeof(s.sealed); n++) {
		assert_int_equal(open_it(&s, &at, n), -EBADMSG);
	}
	keys_free(s.set);
}

TEST(the_place_counts)
{
	UNUSED;
	struct sample s = sample("a " K1);
	struct chatd_cipher_place at = here();
	at.seq = 8;
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	at = here();
	at.conv = S("r:lobbz");
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	at = here();
	at.sender = S("bob");
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	at = here();
	at.kind = S("outbox");
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	at = here(); /* the same bytes, cut in another place */
	at.conv = S("r:lobb");
	at.sender = S("yann");
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	at = here();
	at.conv.n = 4096;
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	keys_free(s.set);
}

TEST(another_keys_number_does_not_help)
{
	UNUSED;
	struct sample s = sample("a " K1 "\nb " K2);
	const struct chatd_cipher_place at = here();
	memcpy(s.sealed + 2, s.set->key[0].id, KEY_ID);
	assert_int_equal(open_it(&s, &at, sizeof(s.sealed)), -EBADMSG);
	keys_free(s.set);
}

TEST(a_record_of_a_mebibyte)
{
	UNUSED;
	struct chatd_keys *set = keys_of("a " K1, 0);
	const struct chatd_cipher_place at = here();
	size_t n = 1 << 20;
	char *plain = malloc(n), *sealed = malloc(n + CHATD_CIPHER_EXTRA), *back = malloc(n);
	memset(plain, 'm', n);
	assert_int_equal(record_seal(set, &at, chatd_str_of(plain, n), sealed), 0);
	assert_int_equal(record_open(set, &at, chatd_str_of(sealed, n + CHATD_CIPHER_EXTRA), back), 0);
	assert_memory_equal(plain, back, n);
	sealed[n / 2] ^= 1;
	assert_int_equal(
			record_open(set, &at, chatd_str_of(sealed, n + CHATD_CIPHER_EXTRA), back), -EBADMSG);
	free(plain);
	free(sealed);
	free(back);
	keys_free(set);
}

/* ---- nonces ------------------------------------------------------------------------------ */

TEST(no_nonce_twice)
{
	UNUSED;
	struct chatd_keys *set = keys_of("a " K1, 0);
	const struct chatd_cipher_place at = here();
	char first[CHATD_CIPHER_EXTRA], second[CHATD_CIPHER_EXTRA];
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(record_seal(set, &at, S(""), first), 0);
		assert_int_equal(record_seal(set, &at, S(""), second), 0);
		assert_memory_not_equal(first + CHATD_CIPHER_HEAD, second + CHATD_CIPHER_HEAD, 24);
	}
	keys_free(set);
}

static void stuck(void *p, size_t n)
{
	memset(p, 7, n);
}

static const char *stuck_name(void)
{
	return "stuck";
}

static uint32_t stuck_number(void)
{
	return 7;
}

/* The last test: libsodium's random numbers cannot be given back. */
TEST(random_numbers_that_stand_still_seal_nothing)
{
	UNUSED;
	static struct randombytes_implementation still = {
		.implementation_name = stuck_name, .random = stuck_number, .buf = stuck
	};
	struct chatd_keys *set = keys_of("a " K1, 0);
	const struct chatd_cipher_place at = here();
	char sealed[2][5 + CHATD_CIPHER_EXTRA];
	memset(sealed, 0, sizeof(sealed));
	randombytes_set_implementation(&still);
	assert_int_equal(record_seal(set, &at, S("hello"), sealed[0]), 0);
	assert_int_equal(record_seal(set, &at, S("other"), sealed[1]), -EIO);
	assert_int_equal(sealed[1][CHATD_CIPHER_EXTRA], 0); /* nothing came out */
	randombytes_set_implementation(&randombytes_sysrandom_implementation);
	keys_free(set);
}

/* ---- keys ---------------------------------------------------------------------------------- */

TEST(keys_in_all_their_forms)
{
	UNUSED;
	struct chatd_keys *set = keys_of("# ours\n\n  old\t" K1 "\r\n"
									 "b64 ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n"
									 "next " K3 " standby",
			0);
	assert_int_equal(set->n, 3);
	assert_int_equal(set->active, 1);
	struct chatd_keys *same = keys_of("x ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8\n", 0);
	struct chatd_keys *hex = keys_of("y " K2, 0);
	assert_memory_equal(set->key[1].id, same->key[0].id, KEY_ID);
	assert_memory_equal(set->key[1].seal, hex->key[0].seal, KEY_BYTES);
	assert_memory_not_equal(set->key[1].seal, set->key[1].word, KEY_BYTES);
	keys_free(set);
	keys_free(same);
	keys_free(hex);
}

TEST(bad_keys_are_refused_and_not_repeated)
{
	UNUSED;
	static const char *const bad[] = { "", "\n# nothing\n", K1, "a " K1 "00", "a 0001", "a b c d",
		"a " K1 " Standby", "a " K1 " standby", "a/b " K1, "a " K1 "\na " K2, "a " K1 "\nb " K1,
		"a " K1 " standby\nb " K2,
		"a 0000000000000000000000000000000000000000000000000000000000000000",
		"a23456789012345678901234567890123 " K1 };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char why[WHY_MAX] = "";
		assert_null(keys_parse(bad[i], why));
		assert_true(strlen(why) > 20);
		assert_null(strstr(why, "0001"));
	}
}

/* ---- rotation ------------------------------------------------------------------------------ */

TEST(old_keys_are_for_reading)
{
	UNUSED;
	struct sample s = sample("a " K1);
	const struct chatd_cipher_place at = here();
	struct chatd_str sealed = chatd_str_of(s.sealed, sizeof(s.sealed));
	struct chatd_keys *both = keys_of("a " K1 "\nb " K2, 0), *later = keys_of("b " K2, 0);
	struct chatd_keys *before = keys_of("z " K3 "\na " K1 " standby", 0);
	char anew[5 + CHATD_CIPHER_EXTRA], to[16] = "";
	assert_int_equal(record_look(both, sealed), CHATD_CIPHER_OLD);
	assert_int_equal(record_look(later, sealed), CHATD_CIPHER_LOST);
	assert_int_equal(record_look(before, sealed), CHATD_CIPHER_LATER);
	assert_int_equal(record_open(both, &at, sealed, to), 0);
	assert_int_equal(record_open(later, &at, sealed, to), -ENOKEY);
	assert_int_equal(record_open(before, &at, sealed, to), 0);
	assert_int_equal(record_seal(both, &at, S("hello"), anew), 0);
	assert_memory_equal(anew + 2, both->key[1].id, KEY_ID);
	assert_int_equal(record_look(both, chatd_str_of(anew, sizeof(anew))), CHATD_CIPHER_GOOD);
	keys_free(s.set);
	keys_free(both);
	keys_free(later);
	keys_free(before);
}

TEST(other_settings_are_another_head)
{
	UNUSED;
	struct sample s = sample("a " K1);
	struct chatd_str sealed = chatd_str_of(s.sealed, sizeof(s.sealed));
	s.set->words = 1;
	assert_int_equal(record_look(s.set, sealed), CHATD_CIPHER_OLD);
	s.set->words = 0;
	assert_int_equal(record_look(s.set, sealed), CHATD_CIPHER_GOOD);
	s.set->seals = 0;
	assert_int_equal(record_look(s.set, sealed), CHATD_CIPHER_OLD);
	keys_free(s.set);
}

TEST(words_of_all_keys_and_marks_of_lost_ones)
{
	UNUSED;
	char word[3][CHATD_CIPHER_WORD], one[CHATD_CIPHER_WORD], mark[CHATD_CIPHER_MARK];
	struct chatd_keys *set = keys_of("a " K1 "\nb " K2 "\nc " K3 " standby", 1);
	struct chatd_keys *first = keys_of("a " K1, 1), *second = keys_of("b " K2, 1);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(words_key(set, i, S("hello"), word[i]), 0);
	}
	assert_int_equal(words_key(set, 3, S("hello"), one), -ENOENT);
	words_key(second, 0, S("hello"), one);
	assert_memory_equal(one, word[0], sizeof(one)); /* the active one first */
	words_key(first, 0, S("hello"), one);
	assert_memory_equal(one, word[1], sizeof(one));
	assert_memory_not_equal(word[0], word[2], sizeof(one));
	marks_make(first, S("hash"), mark);
	assert_false(marks_match(set, chatd_str_of(mark, sizeof(mark)), S("other")));
	assert_true(marks_match(set, chatd_str_of(mark, sizeof(mark)), S("hash")));
	assert_true(marks_match(second, chatd_str_of(mark, sizeof(mark)), S("who knows")));
	keys_free(set);
	keys_free(first);
	keys_free(second);
}

/* ---- the plugin -------------------------------------------------------------------------------- */

TEST(the_configuration_is_looked_through)
{
	UNUSED;
	static const struct {
		const char *yaml, *part;
	} bad[] = { { "keys: 'a b'", "line 1" }, { "search: off", "keys" },
		{ "keys: 'a " K1 "'\nsearch: some", "search" }, { "keys: 'a " K1 "'\npace: 0", "pace" } };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *said = kit_complaints(&chatd_plugin_under_test, bad[i].yaml);
		assert_non_null(said);
		assert_non_null(strstr(said, bad[i].part));
		assert_null(strstr(said, K1));
		free(said);
	}
}

struct reading {
	const struct chatd_cipher *vt;
	void *obj;
	atomic_int stop;
	struct chatd_str sealed;
	int64_t n, failed;
};

static void *read_on(void *arg)
{
	struct reading *r = arg;
	const struct chatd_cipher_place at = here();
	while (!atomic_load(&r->stop)) {
		char to[16] = "";
		r->failed += r->vt->open(r->vt->keys(r->obj), &at, r->sealed, to) != 0 ||
				strcmp(to, "hello") != 0;
		r->n++;
	}
	return NULL;
}

static struct {
	const struct chatd_cipher *vt;
	void *obj;
} provided;

static chatd_status provide(chatd_ctx *ctx, const char *name, const void *vt, void *obj)
{
	(void)ctx;
	assert_string_equal(name, CHATD_CIPHER);
	provided.vt = vt;
	provided.obj = obj;
	return 0;
}

static void quiet(chatd_ctx *ctx, int32_t level, const char *fmt, ...)
{
	(void)ctx;
	(void)level;
	(void)fmt;
}

static chatd_status refuse(chatd_ctx *ctx, chatd_status err, const char *fmt, ...)
{
	(void)ctx;
	(void)fmt;
	return err;
}

static void *get(size_t n)
{
	return calloc(1, n);
}

static const struct chatd_host table = { .struct_size = sizeof(table),
	.log = quiet,
	.fail = refuse,
	.mem_alloc = get,
	.mem_free = free,
	.provide = provide };

/* As the plugin's own struct begins. */
struct conf {
	const char *keys;
	int32_t seal, search;
	int64_t pace;
};

TEST(keys_change_while_others_read)
{
	UNUSED;
	const struct chatd_plugin *p = &chatd_plugin_under_test;
	struct conf conf = { .keys = "a " K1, .seal = 1, .pace = 100 };
	struct conf other = { .keys = "a " K1 "\nb " K2 };
	struct conf bad = { .keys = "nothing" };
	void *self = NULL;
	struct reading r = { 0 };
	pthread_t thread;
	char sealed[5 + CHATD_CIPHER_EXTRA];
	const struct chatd_cipher_place at = here();
	assert_int_equal(p->init(&table, NULL, &conf, &self), 0);
	r.vt = provided.vt;
	r.obj = provided.obj;
	const struct chatd_keys *first = r.vt->keys(r.obj);
	assert_int_equal(r.vt->seal(first, &at, S("hello"), sealed), 0);
	r.sealed = chatd_str_of(sealed, sizeof(sealed));
	assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(p->reload(self, &other), 0);
		assert_int_equal(p->reload(self, &bad), -EINVAL);
		assert_int_equal(p->reload(self, &conf), 0);
	}
	assert_int_equal(p->reload(self, &other), 0);
	atomic_store(&r.stop, 1);
	pthread_join(thread, NULL);
	assert_int_equal(r.failed, 0);
	/* Who began with the old keys goes on with them. */
	assert_int_equal(r.vt->look(first, r.sealed), CHATD_CIPHER_GOOD);
	assert_int_equal(r.vt->look(r.vt->keys(r.obj), r.sealed), CHATD_CIPHER_OLD);
	p->fini(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_of_version_1_opens_for_ever),
		cmocka_unit_test(words_and_marks_stay_what_they_are),
		cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(every_length_counts),
		cmocka_unit_test(the_place_counts),
		cmocka_unit_test(another_keys_number_does_not_help),
		cmocka_unit_test(a_record_of_a_mebibyte),
		cmocka_unit_test(no_nonce_twice),
		cmocka_unit_test(keys_in_all_their_forms),
		cmocka_unit_test(bad_keys_are_refused_and_not_repeated),
		cmocka_unit_test(old_keys_are_for_reading),
		cmocka_unit_test(other_settings_are_another_head),
		cmocka_unit_test(words_of_all_keys_and_marks_of_lost_ones),
		cmocka_unit_test(the_configuration_is_looked_through),
		cmocka_unit_test(keys_change_while_others_read),
		cmocka_unit_test(random_numbers_that_stand_still_seal_nothing),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
