/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAC = 32, ENTRIES = WIRE_HEADERS + 16 };

struct key {
	EVP_MAC_CTX *mac; /* with the key in it; begins anew without one */
	char id[SEAL_ID + 1];
};

struct seal {
	struct key keys[SEAL_KEYS];
	size_t n;
	char *text; /* what is signed but for the body, in one piece */
	size_t at, cap;
	/* The message that is coming in. */
	EVP_MAC_CTX *mac;
	unsigned char want[MAC];
	int64_t time;
	int32_t failed;
};

/* ---- keys --------------------------------------------------------------------------------- */

static int mac_of(EVP_MAC *hmac, const char *key, const char *text, unsigned char ret[MAC])
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = { OSSL_PARAM_utf8_string("digest", digest, sizeof(digest) - 1),
		OSSL_PARAM_END };
	EVP_MAC_CTX *c = EVP_MAC_CTX_new(hmac);
	size_t n;
	int good = c && EVP_MAC_init(c, (const unsigned char *)key, strlen(key), params) &&
			EVP_MAC_update(c, (const unsigned char *)text, strlen(text)) &&
			EVP_MAC_final(c, ret, &n, MAC);
	EVP_MAC_CTX_free(c);
	return good ? 0 : -ENOMEM;
}

/* The names keep what one key does here apart from whatever else it may be used for. */
static int add_key(struct seal *s, EVP_MAC *hmac, const char *text)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = { OSSL_PARAM_utf8_string("digest", digest, sizeof(digest) - 1),
		OSSL_PARAM_END };
	unsigned char id[MAC], key[MAC];
	struct key *k = &s->keys[s->n];
	if (mac_of(hmac, text, "chatd cluster events 1: key id", id) < 0 ||
			mac_of(hmac, text, "chatd cluster events 1: key", key) < 0) {
		return -ENOMEM;
	}
	for (int i = 0; i < SEAL_ID / 2; i++) {
		snprintf(k->id + (ptrdiff_t)2 * i, 3, "%02x", id[i]);
	}
	k->mac = EVP_MAC_CTX_new(hmac);
	int good = k->mac && EVP_MAC_init(k->mac, key, sizeof(key), params);
	OPENSSL_cleanse(key, sizeof(key));
	s->n++;
	return good ? 0 : -ENOMEM;
}

struct seal *seal_create(const char *const *keys)
{
	struct seal *s = calloc(1, sizeof(*s));
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	int rc = s && hmac ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && keys[i] && i < SEAL_KEYS; i++) {
		rc = add_key(s, hmac, keys[i]);
	}
	EVP_MAC_free(hmac);
	if (rc < 0) {
		seal_destroy(s);
		return NULL;
	}
	return s;
}

void seal_destroy(struct seal *s)
{
	if (!s) {
		return;
	}
	for (size_t i = 0; i < s->n; i++) {
		EVP_MAC_CTX_free(s->keys[i].mac);
	}
	free(s->text);
	free(s);
}

const char *seal_id(const struct seal *s)
{
	return s->keys[0].id;
}

/* ---- what is signed ------------------------------------------------------------------------- */

static void put(struct seal *s, const void *p, size_t n)
{
	if (s->at + n > s->cap) {
		size_t cap = (s->at + n) * 2;
		char *more = realloc(s->text, cap);
		if (!more) {
			s->failed = 1;
			return;
		}
		s->text = more;
		s->cap = cap;
	}
	if (n) {
		memcpy(s->text + s->at, p, n);
	}
	s->at += n;
}

static void put_number(struct seal *s, uint64_t n)
{
	unsigned char b[8];
	for (int i = 0; i < 8; i++) {
		b[i] = (unsigned char)(n >> (56 - 8 * i));
	}
	put(s, b, sizeof(b));
}

static void put_text(struct seal *s, amqp_bytes_t b)
{
	put_number(s, b.len);
	put(s, b.bytes, b.len);
}

static int is_text(const amqp_field_value_t *v)
{
	return v->kind == AMQP_FIELD_KIND_UTF8 || v->kind == AMQP_FIELD_KIND_BYTES;
}

static int name_is(amqp_bytes_t name, const char *text)
{
	return name.len == strlen(text) && memcmp(name.bytes, text, name.len) == 0;
}

static int before(amqp_bytes_t a, amqp_bytes_t b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int d = memcmp(a.bytes, b.bytes, n);
	return d < 0 || (d == 0 && a.len < b.len);
}

/* By name, as a broker may put them in another order.  Those that wire_decode() does not look at,
 * and a broker may add, are none of ours.  -E2BIG: more than an event has. */
static int sorted(const amqp_table_t *t, const amqp_table_entry_t *ret[ENTRIES], size_t *ret_n)
{
	size_t n = 0;
	for (int i = 0; i < t->num_entries; i++) {
		const amqp_table_entry_t *e = &t->entries[i];
		int64_t number;
		if ((!is_text(&e->value) && !wire_number(&e->value, &number)) ||
				name_is(e->key, "chatd-sig")) {
			continue;
		}
		if (n == ENTRIES) {
			return -E2BIG;
		}
		size_t at = n++;
		for (; at > 0 && before(e->key, ret[at - 1]->key); at--) {
			ret[at] = ret[at - 1];
		}
		ret[at] = e;
	}
	*ret_n = n;
	return 0;
}

static amqp_bytes_t property(const amqp_basic_properties_t *p, uint32_t flag, amqp_bytes_t value)
{
	return p->_flags & flag ? value : amqp_empty_bytes;
}

/* Every part with its length before it, so that none can be taken for another. */
static int write_down(struct seal *s, const struct sealed *m)
{
	const amqp_basic_properties_t *p = m->props;
	const amqp_table_entry_t *entries[ENTRIES];
	size_t n = 0;
	s->at = 0;
	s->failed = 0;
	if (sorted(&p->headers, entries, &n) < 0) {
		return -E2BIG;
	}
	put_text(s, wire_bytes(m->rkey));
	put_text(s, property(p, AMQP_BASIC_CONTENT_TYPE_FLAG, p->content_type));
	put_text(s, property(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id));
	put_number(s, p->_flags & AMQP_BASIC_DELIVERY_MODE_FLAG ? p->delivery_mode : 0);
	put_number(s, n);
	for (size_t i = 0; i < n; i++) {
		int64_t number;
		put_text(s, entries[i]->key);
		if (wire_number(&entries[i]->value, &number)) {
			put(s, "n", 1);
			put_number(s, (uint64_t)number);
		} else {
			put(s, "t", 1);
			put_text(s, entries[i]->value.value.bytes);
		}
	}
	put_number(s, m->body_size);
	return s->failed ? -ENOMEM : 0;
}

static int start(EVP_MAC_CTX *mac, const struct seal *s)
{
	return EVP_MAC_init(mac, NULL, 0, NULL) &&
			EVP_MAC_update(mac, (const unsigned char *)s->text, s->at);
}

/* ---- going out ------------------------------------------------------------------------------- */

int seal_sign(
		struct seal *s, const struct sealed *m, struct chatd_str body, char ret[SEAL_TEXT + 1])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char md[MAC];
	size_t n;
	EVP_MAC_CTX *mac = s->keys[0].mac;
	int rc = write_down(s, m);
	if (rc < 0) {
		return rc;
	}
	if (!start(mac, s) || (body.n && !EVP_MAC_update(mac, (const unsigned char *)body.p, body.n)) ||
			!EVP_MAC_final(mac, md, &n, sizeof(md))) {
		return -ENOMEM;
	}
	memcpy(ret, s->keys[0].id, SEAL_ID);
	for (size_t i = 0; i < MAC; i++) {
		ret[SEAL_ID + 2 * i] = hex[md[i] >> 4];
		ret[SEAL_ID + 2 * i + 1] = hex[md[i] & 15];
	}
	ret[SEAL_TEXT] = '\0';
	return 0;
}

/* ---- coming in --------------------------------------------------------------------------------- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_mac(const char *hex, unsigned char ret[MAC])
{
	for (size_t i = 0; i < MAC; i++) {
		int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
		if (high < 0 || low < 0) {
			return 0;
		}
		ret[i] = (unsigned char)(high << 4 | low);
	}
	return 1;
}

static EVP_MAC_CTX *key_of(const struct seal *s, const char *id)
{
	for (size_t i = 0; i < s->n; i++) {
		if (memcmp(s->keys[i].id, id, SEAL_ID) == 0) {
			return s->keys[i].mac;
		}
	}
	return NULL;
}

/* The last one of a name, as wire_decode() reads them. */
static const amqp_field_value_t *header(const amqp_basic_properties_t *p, const char *name)
{
	const amqp_field_value_t *found = NULL;
	for (int i = 0; i < p->headers.num_entries; i++) {
		if (name_is(p->headers.entries[i].key, name)) {
			found = &p->headers.entries[i].value;
		}
	}
	return found;
}

int seal_stamp(struct seal *s, const char *rkey, amqp_basic_properties_t *props,
		struct chatd_str body, int64_t now, char ret[SEAL_TEXT + 1])
{
	amqp_table_t *t = &props->headers;
	const struct sealed m = {
		.rkey = chatd_str_of(rkey, strlen(rkey)), .props = props, .body_size = body.n
	};
	amqp_table_entry_t *time = &t->entries[t->num_entries++];
	time->key = amqp_cstring_bytes("chatd-time");
	time->value.kind = AMQP_FIELD_KIND_I64;
	time->value.value.i64 = now;
	int rc = seal_sign(s, &m, body, ret);
	amqp_table_entry_t *sig = &t->entries[t->num_entries++];
	sig->key = amqp_cstring_bytes("chatd-sig");
	sig->value.kind = AMQP_FIELD_KIND_UTF8;
	sig->value.value.bytes = amqp_cstring_bytes(ret);
	return rc;
}

enum seal_verdict seal_begin(struct seal *s, const struct sealed *m)
{
	int any = m->props->_flags & AMQP_BASIC_HEADERS_FLAG;
	const amqp_field_value_t *sig = any ? header(m->props, "chatd-sig") : NULL;
	const amqp_field_value_t *time = any ? header(m->props, "chatd-time") : NULL;
	if (!sig) {
		return SEAL_UNSIGNED;
	}
	if (!is_text(sig) || sig->value.bytes.len != SEAL_TEXT) {
		return SEAL_FORGED;
	}
	const char *text = sig->value.bytes.bytes;
	s->mac = key_of(s, text);
	if (!s->mac) {
		return SEAL_KEY_UNKNOWN;
	}
	if (!time || !wire_number(time, &s->time) || !read_mac(text + SEAL_ID, s->want)) {
		return SEAL_FORGED;
	}
	int rc = write_down(s, m);
	if (rc == -E2BIG) {
		return SEAL_FORGED;
	}
	return rc == 0 && start(s->mac, s) ? SEAL_GOOD : SEAL_FAILED;
}

void seal_body(struct seal *s, amqp_bytes_t piece)
{
	if (piece.len && !EVP_MAC_update(s->mac, piece.bytes, piece.len)) {
		s->failed = 1;
	}
}

enum seal_verdict seal_end(struct seal *s, int64_t now)
{
	unsigned char md[MAC];
	size_t n;
	if (!EVP_MAC_final(s->mac, md, &n, sizeof(md)) || s->failed) {
		return SEAL_FAILED;
	}
	if (CRYPTO_memcmp(md, s->want, MAC) != 0) {
		return SEAL_FORGED;
	}
	return s->time < now - SEAL_AGE || s->time > now + SEAL_AGE ? SEAL_OLD : SEAL_GOOD;
}
