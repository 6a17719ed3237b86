/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures: whatever is changed of a message is noticed. */
#include "seal.h"
#include "test_wire.h"

#include <stdio.h>
#include <stdlib.h>

static const char first[] = "the first key, which has thirty-two bytes and some";
static const char second[] = "the second key, which has as many or even more bytes";
static const char *const one_key[] = { first, NULL }, *const other_key[] = { second, NULL },
						 *const both_keys[] = { second, first, NULL };

enum { NOW = 1000000 };

static amqp_table_entry_t text(const char *name, const char *value)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(name) };
	e.value.kind = AMQP_FIELD_KIND_UTF8;
	e.value.value.bytes = amqp_cstring_bytes(value);
	return e;
}

static amqp_table_entry_t number(const char *name, int64_t n)
{
	amqp_table_entry_t e = { .key = amqp_cstring_bytes(name) };
	e.value.kind = AMQP_FIELD_KIND_I64;
	e.value.value.i64 = n;
	return e;
}

/* A message as it is published, and as it is about to come. */
struct mail {
	amqp_table_entry_t entries[8];
	amqp_basic_properties_t props;
	const char *rkey;
	char body[16], sig[SEAL_TEXT + 1];
	size_t n;
};

static struct sealed of(struct mail *m)
{
	struct sealed s = {
		.rkey = chatd_str_of(m->rkey, strlen(m->rkey)), .props = &m->props, .body_size = m->n
	};
	m->props.headers.entries = m->entries;
	return s;
}

static struct mail mail(struct seal *by)
{
	struct mail m = { .rkey = "chat.n1", .body = "hello", .n = 5 };
	m.props._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
			AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
	m.props.delivery_mode = 2;
	m.props.content_type = amqp_cstring_bytes("text/plain");
	m.props.message_id = amqp_cstring_bytes("m-1");
	m.entries[0] = number("chatd-v", 1);
	m.entries[1] = text("chatd-kind", "row");
	m.entries[2] = text("seq", "12");
	m.entries[3] = number("chatd-time", NOW);
	m.props.headers.num_entries = 4;
	const struct sealed s = of(&m);
	assert_int_equal(seal_sign(by, &s, chatd_str_of(m.body, m.n), m.sig), 0);
	assert_int_equal(strlen(m.sig), SEAL_TEXT);
	m.entries[m.props.headers.num_entries++] = text("chatd-sig", "");
	return m;
}

static enum seal_verdict verdict_at(struct seal *by, struct mail *m, int64_t now)
{
	/* Its signature stands in what was copied. */
	for (int i = 0; i < m->props.headers.num_entries; i++) {
		if (m->entries[i].key.len == 9 && memcmp(m->entries[i].key.bytes, "chatd-sig", 9) == 0 &&
				!m->entries[i].value.value.bytes.len) {
			m->entries[i] = text("chatd-sig", m->sig);
		}
	}
	const struct sealed s = of(m);
	enum seal_verdict v = seal_begin(by, &s);
	if (v != SEAL_GOOD) {
		return v;
	}
	const amqp_bytes_t a = { 2, m->body }, b = { m->n - 2, m->body + 2 };
	seal_body(by, a);
	seal_body(by, b);
	return seal_end(by, now);
}

static enum seal_verdict verdict(struct seal *by, struct mail *m)
{
	return verdict_at(by, m, NOW + 5000);
}

TEST(what_is_signed_is_believed_by_whoever_has_the_key)
{
	UNUSED;
	struct seal *a = seal_create(one_key), *b = seal_create(both_keys), *c = seal_create(other_key);
	struct mail m = mail(a);
	assert_int_equal(verdict(a, &m), SEAL_GOOD);
	assert_int_equal(verdict(b, &m), SEAL_GOOD);
	assert_int_equal(verdict(c, &m), SEAL_KEY_UNKNOWN);
	m = mail(b); /* with the second key, which is its first */
	assert_int_equal(verdict(a, &m), SEAL_KEY_UNKNOWN);
	assert_int_equal(verdict(b, &m), SEAL_GOOD);
	assert_int_equal(verdict(c, &m), SEAL_GOOD);
	assert_string_not_equal(seal_id(a), seal_id(b));
	assert_string_equal(seal_id(b), seal_id(c));
	seal_destroy(a);
	seal_destroy(b);
	seal_destroy(c);
}

TEST(a_broker_may_put_headers_in_another_order_and_add_tables)
{
	UNUSED;
	struct seal *s = seal_create(one_key);
	struct mail m = mail(s);
	amqp_table_entry_t e = m.entries[0];
	m.entries[0] = m.entries[2];
	m.entries[2] = e;
	m.entries[1].value.kind = AMQP_FIELD_KIND_BYTES;
	m.entries[m.props.headers.num_entries] = text("x-death", "");
	m.entries[m.props.headers.num_entries++].value.kind = AMQP_FIELD_KIND_ARRAY;
	assert_int_equal(verdict(s, &m), SEAL_GOOD);
	seal_destroy(s);
}

static void change(struct mail *m, int what)
{
	switch (what) {
	case 0:
		m->rkey = "chat.n2";
		break;
	case 1:
		m->body[4] = 'O';
		break;
	case 2:
		m->body[0] = 'H';
		break;
	case 3:
		m->n--;
		break;
	case 4:
		m->n++;
		break;
	case 5:
		m->props.delivery_mode = 1;
		break;
	case 6:
		m->props.content_type = amqp_cstring_bytes("text/html");
		break;
	case 7:
		m->props._flags &= ~(amqp_flags_t)AMQP_BASIC_MESSAGE_ID_FLAG;
		break;
	case 8:
		m->props.message_id = amqp_cstring_bytes("m-2");
		break;
	case 9:
		m->entries[0] = number("chatd-v", 2);
		break;
	case 10:
		m->entries[1] = text("chatd-kind", "rov");
		break;
	case 11:
		m->entries[2] = text("sEq", "12");
		break;
	case 12:
		m->entries[3] = number("chatd-time", NOW + 1);
		break;
	case 13: /* the same bytes, cut elsewhere */
		m->entries[2] = text("seq1", "2");
		break;
	case 14:
		m->entries[m->props.headers.num_entries++] = text("more", "1");
		break;
	case 15:
		m->entries[2] = m->entries[--m->props.headers.num_entries];
		break;
	case 16:
		m->entries[2] = number("seq", 12);
		break;
	case 17:
		m->sig[SEAL_TEXT - 1] ^= 1;
		break;
	case 18:
		m->sig[SEAL_ID] = 'G';
		break;
	case 19:
		m->sig[20] = '\0';
		break;
	case 20:
		m->entries[3] = text("chatd-time", "1000000");
		break;
	default: /* the header that wire_decode() reads is the last one of a name */
		m->entries[m->props.headers.num_entries++] = text("chatd-kind", "row");
	}
}

TEST(whatever_is_changed_is_noticed)
{
	UNUSED;
	struct seal *s = seal_create(one_key);
	for (int what = 0; what <= 21; what++) {
		struct mail m = mail(s);
		change(&m, what);
		enum seal_verdict v = verdict(s, &m);
		if (v != SEAL_FORGED) {
			print_error("change %d: verdict %d\n", what, (int)v);
		}
		assert_int_equal(v, SEAL_FORGED);
	}
	/* And it goes on with what is good. */
	struct mail m = mail(s);
	assert_int_equal(verdict(s, &m), SEAL_GOOD);
	seal_destroy(s);
}

TEST(what_is_not_signed_is_told_from_what_is_forged)
{
	UNUSED;
	struct seal *s = seal_create(one_key);
	struct mail m = mail(s);
	m.props.headers.num_entries--;
	assert_int_equal(verdict(s, &m), SEAL_UNSIGNED);
	m = mail(s);
	m.props._flags = 0;
	assert_int_equal(verdict(s, &m), SEAL_UNSIGNED);
	m = mail(s);
	m.sig[0] ^= 1;
	assert_int_equal(verdict(s, &m), SEAL_KEY_UNKNOWN);
	seal_destroy(s);
}

TEST(what_is_old_is_not_believed)
{
	UNUSED;
	struct seal *s = seal_create(one_key);
	struct mail m = mail(s);
	assert_int_equal(verdict_at(s, &m, NOW + SEAL_AGE), SEAL_GOOD);
	assert_int_equal(verdict_at(s, &m, NOW + SEAL_AGE + 1), SEAL_OLD);
	assert_int_equal(verdict_at(s, &m, NOW - SEAL_AGE), SEAL_GOOD);
	assert_int_equal(verdict_at(s, &m, NOW - SEAL_AGE - 1), SEAL_OLD);
	m.body[0] = 'H';
	assert_int_equal(verdict_at(s, &m, NOW + SEAL_AGE + 1), SEAL_FORGED);
	seal_destroy(s);
}

TEST(more_headers_than_an_event_has_are_forged)
{
	UNUSED;
	struct seal *s = seal_create(one_key);
	static amqp_table_entry_t many[100];
	struct mail m = mail(s);
	for (int i = 0; i < 98; i++) {
		many[i] = text("x", "1");
	}
	many[98] = number("chatd-time", NOW);
	many[99] = text("chatd-sig", m.sig);
	m.props.headers.num_entries = 100;
	m.props.headers.entries = many;
	const struct sealed as = { .rkey = CHATD_LIT("chat.n1"), .props = &m.props, .body_size = m.n };
	assert_int_equal(seal_begin(s, &as), SEAL_FORGED);
	seal_destroy(s);
}

/* Made with another implementation of HMAC: nodes of two releases must agree. */
TEST(a_signature_stays_what_it_was)
{
	UNUSED;
	struct seal *s = seal_create(one_key);
	struct mail m = mail(s);
	assert_string_equal(
			m.sig, "593845e60f51cb002b28fd95104bf756da56109183d2c1eb18e6599022708823aeebdbfc");
	seal_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_signed_is_believed_by_whoever_has_the_key),
		cmocka_unit_test(a_broker_may_put_headers_in_another_order_and_add_tables),
		cmocka_unit_test(whatever_is_changed_is_noticed),
		cmocka_unit_test(what_is_not_signed_is_told_from_what_is_forged),
		cmocka_unit_test(what_is_old_is_not_believed),
		cmocka_unit_test(more_headers_than_an_event_has_are_forged),
		cmocka_unit_test(a_signature_stays_what_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
