/* SPDX-License-Identifier: Apache-2.0 */
/* What is pure: the vector of RFC 8291, keys of browsers, what a user wants to be told. */
#include "book.h"
#include "crypto.h"

#include <chatd/kit.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEST(name) static void name(void **state_)
#define UNUSED     (void)state_

extern const struct chatd_plugin chatd_plugin_under_test;

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* RFC 8291, 5 and appendix A. */
#define RFC_PLAIN "When I grow up, I want to be a watermelon"
#define RFC_OURS  "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
#define RFC_THEIRS \
	"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
#define RFC_AUTH "BTBZMqHH6r4Tts7J_aSIgg"
#define RFC_SALT "DGv6ra1nlYgDCS1FRnbzlw"
#define RFC_BODY                                                                                   \
	"DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS" \
	"6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Q"  \
	"ulcy4a-fN"

TEST(the_vector_of_rfc_8291)
{
	UNUSED;
	uint8_t scalar[SCALAR], salt[SALT], body[PUSH_MAX];
	char shown[2 * PUSH_MAX];
	struct vapid ours;
	struct browser_keys theirs;
	assert_int_equal(base64_take(z(RFC_OURS), scalar, SCALAR), 0);
	assert_int_equal(base64_take(z(RFC_SALT), salt, SALT), 0);
	assert_int_equal(vapid_read(scalar, &ours), 0);
	assert_int_equal(browser_keys_read(z(RFC_THEIRS), z(RFC_AUTH), &theirs), 0);
	long n = push_encrypt_with(ours.key, salt, &theirs, z(RFC_PLAIN), body);
	assert_int_equal(n, 144);
	base64_put(body, (size_t)n, shown, sizeof(shown));
	assert_string_equal(shown, RFC_BODY);
	vapid_finish(&ours);
}

TEST(as_much_as_fits_and_no_more)
{
	UNUSED;
	static char plain[PUSH_MAX];
	uint8_t a[PUSH_MAX], b[PUSH_MAX];
	struct browser_keys theirs;
	assert_int_equal(browser_keys_read(z(RFC_THEIRS), z(RFC_AUTH), &theirs), 0);
	assert_int_equal(push_encrypt(&theirs, chatd_str_of(plain, PUSH_PLAIN_MAX), a), PUSH_MAX);
	assert_int_equal(push_encrypt(&theirs, chatd_str_of(plain, PUSH_PLAIN_MAX + 1), a), -EMSGSIZE);
	assert_int_equal(push_encrypt(&theirs, z("x"), a), 104);
	assert_int_equal(push_encrypt(&theirs, z("x"), b), 104);
	assert_memory_not_equal(a, b, SALT); /* another salt, another key */
	assert_memory_not_equal(a + SALT + 5, b + SALT + 5, POINT);
}

TEST(keys_that_are_none) /* H182 */
{
	UNUSED;
	struct browser_keys k;
	uint8_t point[POINT];
	char shown[2 * POINT];
	assert_int_equal(base64_take(z(RFC_THEIRS), point, POINT), 0);
	assert_int_equal(browser_keys_read(z(RFC_THEIRS), z(RFC_AUTH "=="), &k), 0);
	assert_int_equal(browser_keys_read(z(RFC_THEIRS), z("BTBZMqHH6r4Tts7J_aSI"), &k), -EINVAL);
	assert_int_equal(browser_keys_read(z(RFC_THEIRS), z(RFC_AUTH "AA"), &k), -EINVAL);
	assert_int_equal(browser_keys_read(z(RFC_THEIRS), z(""), &k), -EINVAL);
	assert_int_equal(browser_keys_read(z(RFC_THEIRS "AA"), z(RFC_AUTH), &k), -EINVAL);
	assert_int_equal(browser_keys_read(z("not base64!"), z(RFC_AUTH), &k), -EINVAL);
	assert_int_equal(browser_keys_read(chatd_str_of(NULL, 0), z(RFC_AUTH), &k), -EINVAL);
	point[POINT - 1] ^= 1; /* off the curve */
	base64_put(point, POINT, shown, sizeof(shown));
	assert_int_equal(browser_keys_read(z(shown), z(RFC_AUTH), &k), -EINVAL);
	memset(point, 0, POINT); /* infinity */
	base64_put(point, POINT, shown, sizeof(shown));
	assert_int_equal(browser_keys_read(z(shown), z(RFC_AUTH), &k), -EINVAL);
	point[0] = 4;
	base64_put(point, POINT, shown, sizeof(shown));
	assert_int_equal(browser_keys_read(z(shown), z(RFC_AUTH), &k), -EINVAL);
}

TEST(scalars_that_are_none)
{
	UNUSED;
	struct vapid v = { .key = NULL };
	uint8_t scalar[SCALAR] = { 0 };
	assert_int_equal(vapid_read(scalar, &v), -EINVAL);
	memset(scalar, 0xff, sizeof(scalar));
	assert_int_equal(vapid_read(scalar, &v), -EINVAL);
	vapid_make(scalar);
	assert_int_equal(vapid_read(scalar, &v), 0);
	vapid_finish(&v);
}

static EVP_PKEY *public_of(const struct vapid *v)
{
	EVP_PKEY *key = EVP_PKEY_new();
	assert_int_equal(EVP_PKEY_copy_parameters(key, v->key), 1);
	assert_int_equal(EVP_PKEY_set1_encoded_public_key(key, v->point, POINT), 1);
	return key;
}

/* The signature is checked with the public half that is given out. */
TEST(a_token_says_who_we_are)
{
	UNUSED;
	uint8_t scalar[SCALAR], sig[2 * SCALAR], der[80], *p = der;
	char token[TOKEN_MAX], claims[TOKEN_MAX];
	struct vapid v;
	size_t n;
	vapid_make(scalar);
	assert_int_equal(vapid_read(scalar, &v), 0);
	assert_int_equal(
			vapid_token(&v, "https://push.example.org", "mailto:a@b.cc", 1700000000, token), 0);
	char *dot = strchr(token, '.'), *last = strrchr(token, '.');
	assert_true(dot && last && dot != last);
	assert_int_equal(
			sodium_base642bin((uint8_t *)claims, sizeof(claims), dot + 1, (size_t)(last - dot - 1),
					NULL, &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING),
			0);
	claims[n] = '\0';
	assert_string_equal(claims,
			"{\"aud\":\"https://push.example.org\",\"exp\":1700000000,\"sub\":\"mailto:a@b.cc\"}");
	assert_int_equal(base64_take(z(last + 1), sig, sizeof(sig)), 0);
	ECDSA_SIG *s = ECDSA_SIG_new();
	ECDSA_SIG_set0(s, BN_bin2bn(sig, SCALAR, NULL), BN_bin2bn(sig + SCALAR, SCALAR, NULL));
	int len = i2d_ECDSA_SIG(s, &p);
	EVP_PKEY *key = public_of(&v);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(
			EVP_DigestVerify(ctx, der, (size_t)len, (uint8_t *)token, (size_t)(last - token)), 1);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	ECDSA_SIG_free(s);
	vapid_finish(&v);
	static char long_one[TOKEN_MAX];
	memset(long_one, 'a', sizeof(long_one) - 1);
	vapid_make(scalar);
	assert_int_equal(vapid_read(scalar, &v), 0);
	assert_int_equal(vapid_token(&v, long_one, NULL, 1, token), -EIO);
	vapid_finish(&v);
}

TEST(what_goes_to_a_gateway_is_signed)
{
	UNUSED;
	char mark[68];
	/* printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef */
	webhook_sign("0123456789abcdef", "1700000000", z("{}"), mark);
	assert_string_equal(
			mark, "v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e");
}

/* ---- books ------------------------------------------------------------------------------------- */

#define SUB "{\"subs\":[{\"id\":\"a\"}],\"settings\":"

static int wants(const char *settings, const char *room, const char *with, int called, int64_t now)
{
	char text[1024];
	struct place p = { "", "" };
	snprintf(text, sizeof(text), SUB "%s}", settings);
	snprintf(p.room, sizeof(p.room), "%s", room);
	snprintf(p.with, sizeof(p.with), "%s", with);
	json_t *book = book_read(z(text));
	int rc = book_wants(book, &p, called, now);
	json_decref(book);
	return rc;
}

TEST(what_a_user_wants)
{
	UNUSED;
	assert_int_equal(wants("{}", "lobby", "", 0, 1000), 1);
	assert_int_equal(wants("{\"mode\":\"mentions\"}", "lobby", "", 0, 1000), 0);
	assert_int_equal(wants("{\"mode\":\"mentions\"}", "lobby", "", 1, 1000), 1);
	assert_int_equal(wants("{\"mode\":\"off\"}", "lobby", "", 1, 1000), 0);
	static const char one[] =
			"{\"conversations\":[{\"roomId\":\"lobby\",\"mode\":\"off\",\"until\":2000},"
			"{\"with\":\"bob\",\"mode\":\"off\"},"
			"{\"roomId\":\"work\",\"mode\":\"mentions\"}]}";
	assert_int_equal(wants(one, "lobby", "", 1, 1999), 0);
	assert_int_equal(wants(one, "lobby", "", 0, 2000), 1); /* the time is over */
	assert_int_equal(wants(one, "", "bob", 1, 9999), 0);
	assert_int_equal(wants(one, "bob", "", 1, 9999), 1); /* a room of that name */
	assert_int_equal(wants(one, "work", "", 0, 9999), 0);
	assert_int_equal(wants(one, "work", "", 1, 9999), 1);
	static const char but[] = "{\"mode\":\"mentions\",\"conversations\":[{\"roomId\":\"lobby\","
							  "\"mode\":\"all\"}]}";
	assert_int_equal(wants(but, "lobby", "", 0, 1), 1);
	json_t *none = book_read(chatd_str_of(NULL, 0));
	const struct place p = { "lobby", "" };
	assert_int_equal(book_wants(none, &p, 1, 1), 0); /* no subscription */
	json_decref(none);
	json_t *bad = book_read(z("not json"));
	assert_int_equal(book_count(bad), 0);
	json_decref(bad);
}

#define HOUR INT64_C(3600000)

static int64_t quiet(const char *from, const char *to, int offset, int64_t now)
{
	char text[256];
	json_t *taken = NULL;
	snprintf(text, sizeof(text), "{\"quiet\":{\"from\":\"%s\",\"to\":\"%s\",\"offset\":%d}}", from,
			to, offset);
	json_t *in = json_loads(text, 0, NULL);
	assert_null(settings_take(in, &taken));
	json_t *book = json_pack("{s:o}", "settings", taken);
	int64_t rc = book_quiet_until(book, now);
	json_decref(book);
	json_decref(in);
	return rc;
}

TEST(quiet_hours)
{
	UNUSED;
	const int64_t day = 20000 * 24 * HOUR;
	assert_int_equal(quiet("22:00", "07:00", 0, day + 21 * HOUR), 0);
	assert_int_equal(quiet("22:00", "07:00", 0, day + 22 * HOUR), day + 31 * HOUR);
	assert_int_equal(quiet("22:00", "07:00", 0, day + 3 * HOUR + 1234), day + 7 * HOUR);
	assert_int_equal(quiet("22:00", "07:00", 0, day + 7 * HOUR), 0);
	assert_int_equal(quiet("12:30", "13:00", 0, day + 12 * HOUR + HOUR / 2), day + 13 * HOUR);
	assert_int_equal(quiet("12:30", "12:30", 0, day + 12 * HOUR + HOUR / 2), 0);
	/* 22:00 in Seoul is 13:00 UTC. */
	assert_int_equal(quiet("22:00", "07:00", 540, day + 13 * HOUR), day + 22 * HOUR);
	assert_int_equal(quiet("22:00", "07:00", 540, day + 12 * HOUR), 0);
	assert_int_equal(quiet("22:00", "07:00", -300, day + 3 * HOUR), day + 12 * HOUR);
}

TEST(settings_that_are_none)
{
	UNUSED;
	static const char *const bad[] = { "{\"mode\":\"loud\"}", "{\"mode\":1}", "{\"text\":1}",
		"{\"quiet\":1}", "{\"quiet\":{\"from\":\"22:00\"}}",
		"{\"quiet\":{\"from\":\"24:00\",\"to\":\"07:00\"}}",
		"{\"quiet\":{\"from\":\"22:60\",\"to\":\"07:00\"}}",
		"{\"quiet\":{\"from\":\"2:000\",\"to\":\"07:00\"}}",
		"{\"quiet\":{\"from\":\"22:00\",\"to\":\"07:00\",\"offset\":900}}",
		"{\"quiet\":{\"from\":\"22:00\",\"to\":\"07:00\",\"offset\":\"9\"}}",
		"{\"conversations\":{}}", "{\"conversations\":[1]}",
		"{\"conversations\":[{\"mode\":\"off\"}]}", "{\"conversations\":[{\"roomId\":\"a\"}]}",
		"{\"conversations\":[{\"roomId\":\"a\",\"with\":\"b\",\"mode\":\"off\"}]}",
		"{\"conversations\":[{\"roomId\":\"a b\",\"mode\":\"off\"}]}",
		"{\"conversations\":[{\"roomId\":\"a\",\"mode\":\"off\",\"until\":\"x\"}]}" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *in = json_loads(bad[i], 0, NULL), *taken = NULL;
		assert_non_null(in);
		if (!settings_take(in, &taken)) {
			print_error("%s\n", bad[i]);
		}
		assert_non_null(settings_take(in, &taken));
		assert_null(taken);
		json_decref(in);
	}
}

TEST(subscriptions_of_one_user)
{
	UNUSED;
	json_t *book = book_read(chatd_str_of(NULL, 0));
	char id[SUB_ID + 1], other[SUB_ID + 1];
	for (int i = 0; i < SUBS_MAX; i++) {
		char endpoint[32];
		snprintf(endpoint, sizeof(endpoint), "https://a/%d", i);
		sub_id(z("web"), z(endpoint), id);
		assert_int_equal(book_add(book, json_pack("{s:s}", "id", id)), 0);
	}
	assert_int_equal(book_add(book, json_pack("{s:s, s:i}", "id", id, "n", 2)), 1);
	assert_int_equal(json_integer_value(json_object_get(book_sub(book, id), "n")), 2);
	sub_id(z("fcm"), z("https://a/1"), other);
	assert_int_equal(book_add(book, json_pack("{s:s}", "id", other)), -EDQUOT);
	assert_int_equal(book_count(book), SUBS_MAX);
	assert_int_equal(book_drop(book, other), 0);
	assert_int_equal(book_drop(book, id), 1);
	assert_null(book_sub(book, id));
	char *s = book_write(book);
	json_t *again = book_read(z(s));
	assert_true(json_equal(book, again));
	free(s);
	json_decref(again);
	json_decref(book);
}

static void complains(const char *yaml, const char *part)
{
	kit_expect_complaint(&chatd_plugin_under_test, yaml, part);
}

TEST(options_that_make_no_sense)
{
	UNUSED;
	complains("subject: admin@example.org", "write mailto:");
	complains("vapid_key: AAAA", "no private key of P-256");
	complains("webhook_url: https://a/", "go together");
	complains("webhook_url: https://a/\nwebhook_secret: short", "less than 16 bytes");
	complains("tries: 0", "tries");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_vector_of_rfc_8291),
		cmocka_unit_test(as_much_as_fits_and_no_more),
		cmocka_unit_test(keys_that_are_none),
		cmocka_unit_test(scalars_that_are_none),
		cmocka_unit_test(a_token_says_who_we_are),
		cmocka_unit_test(what_goes_to_a_gateway_is_signed),
		cmocka_unit_test(what_a_user_wants),
		cmocka_unit_test(quiet_hours),
		cmocka_unit_test(settings_that_are_none),
		cmocka_unit_test(subscriptions_of_one_user),
		cmocka_unit_test(options_that_make_no_sense),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
