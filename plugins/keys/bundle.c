/* SPDX-License-Identifier: Apache-2.0 */
#include "bundle.h"

#include <sodium.h>

#define PROTOCOL "chatd-e2ee-1"
enum {
	KEY = 32,
	SIGNATURE = crypto_sign_BYTES,
	FIELDS_ROOM = 512,
};

/* ---- what is signed ------------------------------------------------------------------ */

/* Each field with its length before it, so that no two lists of fields are the same bytes. */
struct fields {
	unsigned char p[FIELDS_ROOM];
	size_t n;
};

static void put(struct fields *f, const void *p, size_t n)
{
	const unsigned char length[4] = { 0, 0, (unsigned char)(n >> 8), (unsigned char)n };
	memcpy(f->p + f->n, length, sizeof(length));
	memcpy(f->p + f->n + sizeof(length), p, n);
	f->n += sizeof(length) + n;
}

static void begin(struct fields *f, const char *what)
{
	f->n = 0;
	put(f, what, strlen(what));
}

static int signed_by(
		const unsigned char *identity, const unsigned char *signature, const struct fields *f)
{
	return crypto_sign_verify_detached(signature, f->p, f->n, identity) == 0;
}

static void write_id(
		const unsigned char *identity, const unsigned char *dh, char ret[DEVICE_ID_CHARS + 1])
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	struct fields f;
	begin(&f, PROTOCOL " device");
	put(&f, identity, KEY);
	put(&f, dh, KEY);
	crypto_hash_sha256(hash, f.p, f.n);
	sodium_bin2base64(ret, DEVICE_ID_CHARS + 1, hash, 16, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* ---- reading --------------------------------------------------------------------------- */

struct reader {
	const char *wrong; /* the field that is; NULL: none so far */
	size_t bytes;      /* that it must have */
};

static json_t *member(const json_t *object, const char *name)
{
	return json_object_get(object, name);
}

/* Bytes in base64url without padding. */
static struct chatd_str read_bytes(
		struct reader *r, const json_t *v, const char *field, struct chatd_str ret_bytes)
{
	struct chatd_str s = json_is_string(v)
			? chatd_str_of(json_string_value(v), json_string_length(v))
			: chatd_str_of("", 0);
	size_t n = 0;
	unsigned char *to = (unsigned char *)(uintptr_t)ret_bytes.p;
	if (!r->wrong &&
			(sodium_base642bin(to, ret_bytes.n, s.p, s.n, NULL, &n, NULL,
					 sodium_base64_VARIANT_URLSAFE_NO_PADDING) < 0 ||
					n != ret_bytes.n)) {
		r->wrong = field;
		r->bytes = ret_bytes.n;
	}
	return s;
}

static struct chatd_str room(unsigned char *p, size_t n)
{
	return chatd_str_of((const char *)p, n);
}

static int is_prekey_id(const json_t *v)
{
	return json_is_integer(v) && json_integer_value(v) >= 1 &&
			json_integer_value(v) <= PREKEY_ID_MAX;
}

static int read_onetime(struct bundle *b, char why[CHATD_JSON_WHY])
{
	unsigned char key[KEY];
	struct reader r = { NULL, 0 };
	json_t *item;
	size_t i;
	if (b->onetime && !json_is_array(b->onetime)) {
		snprintf(why, CHATD_JSON_WHY, "prekeys must be a list");
		return 0;
	}
	json_array_foreach (b->onetime, i, item) {
		read_bytes(&r, member(item, "key"), "key", room(key, sizeof(key)));
		if (r.wrong || !is_prekey_id(member(item, "id"))) {
			snprintf(why, CHATD_JSON_WHY,
					"prekeys: number %zu is none: {\"id\":1…2000000000,\"key\":32 bytes in base64url}",
					i + 1);
			return 0;
		}
	}
	return 1;
}

static int read_name(struct bundle *b, const json_t *v, char why[CHATD_JSON_WHY])
{
	b->name = chatd_json_text(v);
	int bad = v && !json_is_string(v);
	for (size_t i = 0; i < b->name.n; i++) {
		unsigned char c = (unsigned char)b->name.p[i];
		bad |= c < 0x20 || c == 0x7f;
	}
	if (bad || b->name.n > DEVICE_NAME_MAX) {
		snprintf(why, CHATD_JSON_WHY,
				"device.name must be a text of at most %d bytes without control characters",
				DEVICE_NAME_MAX);
		return 0;
	}
	return 1;
}

int bundle_read(json_t *root, struct chatd_str user, struct bundle *b, char why[CHATD_JSON_WHY])
{
	unsigned char identity[KEY], dh[KEY], key[KEY], dh_sig[SIGNATURE], key_sig[SIGNATURE];
	const json_t *device = member(root, "device"), *prekey = member(device, "prekey");
	struct reader r = { NULL, 0 };
	char number[24];
	struct fields f;
	*b = (struct bundle){ .onetime = member(root, "prekeys") };
	b->identity = read_bytes(&r, member(device, "identity"), "identity", room(identity, KEY));
	b->dh = read_bytes(&r, member(device, "dh"), "dh", room(dh, KEY));
	b->dh_signature =
			read_bytes(&r, member(device, "dhSignature"), "dhSignature", room(dh_sig, SIGNATURE));
	b->prekey = read_bytes(&r, member(prekey, "key"), "prekey.key", room(key, KEY));
	b->prekey_signature = read_bytes(
			&r, member(prekey, "signature"), "prekey.signature", room(key_sig, SIGNATURE));
	if (r.wrong) {
		snprintf(why, CHATD_JSON_WHY, "device.%s must be %zu bytes in base64url without padding",
				r.wrong, r.bytes);
		return 0;
	}
	if (!is_prekey_id(member(prekey, "id"))) {
		snprintf(why, CHATD_JSON_WHY, "device.prekey.id must be a number, 1 to %d", PREKEY_ID_MAX);
		return 0;
	}
	b->prekey_id = json_integer_value(member(prekey, "id"));
	begin(&f, PROTOCOL " dh");
	put(&f, user.p, user.n);
	put(&f, dh, KEY);
	int good = signed_by(identity, dh_sig, &f);
	begin(&f, PROTOCOL " prekey");
	put(&f, user.p, user.n);
	put(&f, number, (size_t)snprintf(number, sizeof(number), "%lld", (long long)b->prekey_id));
	put(&f, key, KEY);
	if (!good || !signed_by(identity, key_sig, &f)) {
		snprintf(why, CHATD_JSON_WHY,
				"device: dhSignature or prekey.signature was not made by identity for this user");
		return 0;
	}
	write_id(identity, dh, b->id);
	return read_name(b, member(device, "name"), why) && read_onetime(b, why);
}

int64_t onetime_id(const json_t *item)
{
	return json_integer_value(member(item, "id"));
}

struct chatd_str onetime_key(const json_t *item)
{
	const json_t *key = member(item, "key");
	return chatd_str_of(json_string_value(key), json_string_length(key));
}

/* ---- writing ----------------------------------------------------------------------------- */

void bundle_write(struct chatd_json *j, const struct bundle *b)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", chatd_str_of(b->id, strlen(b->id)));
	chatd_json_member(j, "identity", b->identity);
	chatd_json_member(j, "dh", b->dh);
	chatd_json_member(j, "dhSignature", b->dh_signature);
	chatd_json_key(j, "prekey");
	chatd_json_lit(j, "{");
	chatd_json_int(j, "id", b->prekey_id);
	chatd_json_member(j, "key", b->prekey);
	chatd_json_member(j, "signature", b->prekey_signature);
	chatd_json_lit(j, "}}");
}
