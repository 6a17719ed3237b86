/* SPDX-License-Identifier: Apache-2.0 */
#include "e2ee.h"

#include "bytes.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "chatd-e2ee-1"
enum { PAD = 128, STRETCH = 100000 };

static const struct bytes none = { NULL, 0 };

/* ---- devices ------------------------------------------------------------------------ */

static void id_of(const uint8_t *identity, const uint8_t *dh, char ret[23])
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	struct bytes b = none;
	bytes_text(&b, P " device");
	bytes_field(&b, identity, E2EE_KEY);
	bytes_field(&b, dh, E2EE_KEY);
	crypto_hash_sha256(hash, b.p, b.n);
	sodium_bin2base64(ret, 23, hash, 16, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	bytes_free(&b);
}

static void pair_from(struct e2ee_pair *pair, int64_t id)
{
	pair->id = id;
	if (crypto_scalarmult_base(pair->public, pair->secret) != 0) {
		abort();
	}
}

static void pair_make(struct e2ee_pair *pair, int64_t id)
{
	randombytes_buf(pair->secret, sizeof(pair->secret));
	pair_from(pair, id);
}

/* What follows from the secrets. */
static void device_finish(struct e2ee_device *d)
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES];
	crypto_sign_seed_keypair(d->identity, secret, d->seed);
	pair_from(&d->dh, 0);
	id_of(d->identity, d->dh.public, d->id);
}

void e2ee_make(struct e2ee_device *d, const char *user, size_t onetimes)
{
	memset(d, 0, sizeof(*d));
	snprintf(d->user, sizeof(d->user), "%s", user);
	randombytes_buf(d->seed, sizeof(d->seed));
	randombytes_buf(d->self, sizeof(d->self));
	randombytes_buf(d->dh.secret, sizeof(d->dh.secret));
	device_finish(d);
	pair_make(&d->prekey, 1);
	for (d->n_onetimes = 0; d->n_onetimes < onetimes; d->n_onetimes++) {
		pair_make(&d->onetimes[d->n_onetimes], (int64_t)d->n_onetimes + 1);
	}
}

static json_t *base64_json(const void *p, size_t n)
{
	char *text = base64_of(p, n);
	json_t *v = json_string(text);
	free(text);
	return v;
}

json_t *e2ee_secrets(const struct e2ee_device *d)
{
	json_t *onetimes = json_array();
	for (size_t i = 0; i < d->n_onetimes; i++) {
		json_array_append_new(onetimes,
				json_pack("{sIso}", "id", (json_int_t)d->onetimes[i].id, "secret",
						base64_json(d->onetimes[i].secret, E2EE_KEY)));
	}
	return json_pack("{sssososos{sIso}so}", "user", d->user, "identity",
			base64_json(d->seed, E2EE_KEY), "dh", base64_json(d->dh.secret, E2EE_KEY), "self",
			base64_json(d->self, E2EE_KEY), "prekey", "id", (json_int_t)d->prekey.id, "secret",
			base64_json(d->prekey.secret, E2EE_KEY), "onetimes", onetimes);
}

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static int read_pair(struct e2ee_pair *pair, const json_t *v)
{
	if (!base64_read(text_of(v, "secret"), pair->secret, E2EE_KEY)) {
		return 0;
	}
	pair_from(pair, json_integer_value(json_object_get(v, "id")));
	return 1;
}

int e2ee_from_secrets(struct e2ee_device *d, const json_t *v)
{
	const json_t *onetimes = json_object_get(v, "onetimes");
	const char *user = text_of(v, "user");
	memset(d, 0, sizeof(*d));
	snprintf(d->user, sizeof(d->user), "%s", user ? user : "");
	if (!base64_read(text_of(v, "identity"), d->seed, E2EE_KEY) ||
			!base64_read(text_of(v, "dh"), d->dh.secret, E2EE_KEY) ||
			!base64_read(text_of(v, "self"), d->self, E2EE_KEY) ||
			!read_pair(&d->prekey, json_object_get(v, "prekey")) ||
			json_array_size(onetimes) > E2EE_PREKEYS) {
		return 0;
	}
	device_finish(d);
	for (size_t i = 0; i < json_array_size(onetimes); i++) {
		if (!read_pair(&d->onetimes[d->n_onetimes++], json_array_get(onetimes, i))) {
			return 0;
		}
	}
	return 1;
}

static json_t *signature(const struct e2ee_device *d, struct bytes *what)
{
	uint8_t public[E2EE_KEY], secret[crypto_sign_SECRETKEYBYTES], sig[E2EE_SIGNATURE];
	crypto_sign_seed_keypair(public, secret, d->seed);
	crypto_sign_detached(sig, NULL, what->p, what->n, secret);
	bytes_free(what);
	return base64_json(sig, sizeof(sig));
}

static struct bytes dh_fields(const char *user, const uint8_t *key)
{
	struct bytes b = none;
	bytes_text(&b, P " dh");
	bytes_text(&b, user);
	bytes_field(&b, key, E2EE_KEY);
	return b;
}

static struct bytes prekey_fields(const char *user, int64_t id, const uint8_t *key)
{
	struct bytes b = none;
	bytes_text(&b, P " prekey");
	bytes_text(&b, user);
	bytes_number(&b, id);
	bytes_field(&b, key, E2EE_KEY);
	return b;
}

json_t *e2ee_bundle(const struct e2ee_device *d, int with_onetimes)
{
	struct bytes dh = dh_fields(d->user, d->dh.public);
	struct bytes prekey = prekey_fields(d->user, d->prekey.id, d->prekey.public);
	json_t *onetimes = json_array();
	for (size_t i = 0; with_onetimes && i < d->n_onetimes; i++) {
		json_array_append_new(onetimes,
				json_pack("{sIso}", "id", (json_int_t)d->onetimes[i].id, "key",
						base64_json(d->onetimes[i].public, E2EE_KEY)));
	}
	return json_pack("{s{sssosososs s{sIsoso}}so}", "device", "id", d->id, "identity",
			base64_json(d->identity, E2EE_KEY), "dh", base64_json(d->dh.public, E2EE_KEY),
			"dhSignature", signature(d, &dh), "name", "a program in C", "prekey", "id",
			(json_int_t)d->prekey.id, "key", base64_json(d->prekey.public, E2EE_KEY), "signature",
			signature(d, &prekey), "prekeys", onetimes);
}

static int is_signed(const uint8_t *identity, const json_t *sig, struct bytes *what)
{
	uint8_t raw[E2EE_SIGNATURE];
	int good = base64_read(json_string_value(sig), raw, sizeof(raw)) &&
			crypto_sign_verify_detached(raw, what->p, what->n, identity) == 0;
	bytes_free(what);
	return good;
}

const char *e2ee_read_face(struct e2ee_face *f, const char *user, const json_t *given)
{
	const json_t *prekey = json_object_get(given, "prekey");
	const char *id = text_of(given, "id");
	memset(f, 0, sizeof(*f));
	snprintf(f->user, sizeof(f->user), "%s", user);
	f->prekey_id = json_integer_value(json_object_get(prekey, "id"));
	if (!base64_read(text_of(given, "identity"), f->identity, E2EE_KEY) ||
			!base64_read(text_of(given, "dh"), f->dh, E2EE_KEY) ||
			!base64_read(text_of(prekey, "key"), f->prekey, E2EE_KEY)) {
		return "MALFORMED";
	}
	id_of(f->identity, f->dh, f->id);
	struct bytes dh = dh_fields(user, f->dh);
	struct bytes key = prekey_fields(user, f->prekey_id, f->prekey);
	int good = is_signed(f->identity, json_object_get(given, "dhSignature"), &dh);
	good &= is_signed(f->identity, json_object_get(prekey, "signature"), &key);
	return good && id && strcmp(id, f->id) == 0 ? NULL : "BAD_SIGNATURE";
}

/* ---- sessions -------------------------------------------------------------------------- */

/* The public keys that a session is made of. */
struct session {
	const char *from_user, *to_user;
	const uint8_t *from_identity, *from_dh, *to_identity, *to_dh;
	const uint8_t *ephemeral, *prekey, *onetime; /* onetime: NULL is none */
};

static struct bytes session_info(const struct session *s)
{
	struct bytes b = none;
	bytes_text(&b, P " session");
	bytes_text(&b, s->from_user);
	bytes_field(&b, s->from_identity, E2EE_KEY);
	bytes_field(&b, s->from_dh, E2EE_KEY);
	bytes_text(&b, s->to_user);
	bytes_field(&b, s->to_identity, E2EE_KEY);
	bytes_field(&b, s->to_dh, E2EE_KEY);
	bytes_field(&b, s->ephemeral, E2EE_KEY);
	bytes_field(&b, s->prekey, E2EE_KEY);
	bytes_field(&b, s->onetime, s->onetime ? E2EE_KEY : 0);
	return b;
}

/* @p secrets and @p publics: what is agreed on, in their order.  0: a point of small order. */
static int session_secret(const struct session *s, const uint8_t *const secrets[4],
		const uint8_t *const publics[4], uint8_t ret[E2EE_KEY])
{
	uint8_t input[5 * E2EE_KEY];
	size_t n = s->onetime ? 4 : 3;
	memset(input, 0xff, E2EE_KEY);
	for (size_t i = 0; i < n; i++) {
		if (crypto_scalarmult(input + (i + 1) * E2EE_KEY, secrets[i], publics[i]) != 0) {
			return 0;
		}
	}
	struct bytes info = session_info(s);
	hkdf(input, (n + 1) * E2EE_KEY, &info, ret);
	bytes_free(&info);
	return 1;
}

/* ---- envelopes ---------------------------------------------------------------------------- */

static struct bytes binding_of(const struct e2ee_context *c)
{
	struct bytes b = none;
	bytes_text(&b, P " message");
	bytes_text(&b, c->sender);
	bytes_text(&b, c->device);
	bytes_text(&b, c->receiver);
	bytes_text(&b, c->reference);
	bytes_text(&b, c->reply_to);
	return b;
}

static void wrap_key(const uint8_t secret[E2EE_KEY], const struct bytes *binding,
		const char *const whom[2], uint8_t ret[E2EE_KEY])
{
	struct bytes info = none;
	bytes_text(&info, P " wrap");
	bytes_field(&info, binding->p, binding->n);
	bytes_text(&info, whom[0]);
	bytes_text(&info, whom[1]);
	hkdf(secret, E2EE_KEY, &info, ret);
	bytes_free(&info);
}

struct entry {
	const char *user, *device;
	uint8_t ephemeral[E2EE_KEY];
	int64_t prekey, onetime; /* prekey 0: of the device itself, without a session */
	struct bytes key;
};

static void sign_entry(struct bytes *b, const struct entry *e)
{
	bytes_text(b, e->user);
	bytes_text(b, e->device);
	bytes_field(b, e->ephemeral, e->prekey ? E2EE_KEY : 0);
	bytes_number(b, e->prekey);
	bytes_number(b, e->onetime);
	bytes_field(b, e->key.p, e->key.n);
}

static struct bytes signed_begin(const struct bytes *binding, const struct bytes *body)
{
	struct bytes b = none;
	bytes_text(&b, P " envelope");
	bytes_field(&b, binding->p, binding->n);
	bytes_field(&b, body->p, body->n);
	return b;
}

/* A session with @p to; its secret. */
static void start(const struct e2ee_device *d, const struct e2ee_face *to, struct entry *e,
		uint8_t ret[E2EE_KEY])
{
	struct e2ee_pair fresh;
	pair_make(&fresh, 0);
	memcpy(e->ephemeral, fresh.public, E2EE_KEY);
	e->prekey = to->prekey_id;
	e->onetime = to->onetime_id;
	const struct session s = { d->user, to->user, d->identity, d->dh.public, to->identity, to->dh,
		fresh.public, to->prekey, to->onetime_id ? to->onetime : NULL };
	const uint8_t *secrets[4] = { d->dh.secret, fresh.secret, fresh.secret, fresh.secret };
	const uint8_t *publics[4] = { to->prekey, to->dh, to->prekey, to->onetime };
	if (!session_secret(&s, secrets, publics, ret)) {
		abort();
	}
}

static json_t *entry_json(const struct entry *e)
{
	json_t *v = json_pack(
			"{ssssso}", "u", e->user, "d", e->device, "k", base64_json(e->key.p, e->key.n));
	if (e->prekey) {
		json_object_set_new(v, "e", base64_json(e->ephemeral, E2EE_KEY));
		json_object_set_new(v, "p", json_integer(e->prekey));
	}
	if (e->onetime) {
		json_object_set_new(v, "o", json_integer(e->onetime));
	}
	return v;
}

static struct bytes padded(const char *text)
{
	json_t *said = json_pack("{ss}", "text", text);
	char *json = json_dumps(said, JSON_COMPACT);
	struct bytes b = none;
	bytes_add(&b, json, strlen(json));
	while (b.n % PAD) {
		bytes_add(&b, " ", 1);
	}
	free(json);
	json_decref(said);
	return b;
}

/* The message's key for one device: to[i], or for i == n_to the one that writes. */
static void add_entry(const struct e2ee_device *d, const struct e2ee_face *to,
		const struct bytes *binding, const struct bytes *key, struct entry *e)
{
	uint8_t secret[E2EE_KEY], wrap[E2EE_KEY];
	*e = (struct entry){ .user = to ? to->user : d->user, .device = to ? to->id : d->id };
	if (to) {
		start(d, to, e, secret);
	} else {
		memcpy(secret, d->self, E2EE_KEY);
	}
	wrap_key(secret, binding, (const char *const[2]){ e->user, e->device }, wrap);
	gcm_seal(wrap, key, &none, &e->key);
}

char *e2ee_seal(const struct e2ee_device *d, const struct e2ee_context *c, const char *text,
		const struct e2ee_face *to, size_t n_to)
{
	uint8_t raw[E2EE_KEY];
	struct bytes binding = binding_of(c), plain = padded(text), key = { raw, sizeof(raw) }, body;
	json_t *entries = json_array();
	randombytes_buf(raw, sizeof(raw));
	gcm_seal(raw, &plain, &binding, &body);
	struct bytes all = signed_begin(&binding, &body);
	for (size_t i = 0; i <= n_to; i++) {
		struct entry e;
		add_entry(d, i < n_to ? &to[i] : NULL, &binding, &key, &e);
		sign_entry(&all, &e);
		json_array_append_new(entries, entry_json(&e));
		bytes_free(&e.key);
	}
	json_t *envelope = json_pack("{sisssososo}", "v", 1, "from", d->id, "body",
			base64_json(body.p, body.n), "to", entries, "sig", signature(d, &all));
	if (c->edit) {
		json_object_set_new(envelope, "edit", json_true());
	}
	char *content = json_dumps(envelope, JSON_COMPACT);
	json_decref(envelope);
	bytes_free(&binding);
	bytes_free(&plain);
	bytes_free(&body);
	return content;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
	const struct e2ee_device *d;
	const struct e2ee_face *from;
	struct bytes binding, body, all;
	struct entry mine;
	int found;
};

static const char *read_entry(struct reading *r, const json_t *v)
{
	struct entry e = { .user = text_of(v, "u"),
		.device = text_of(v, "d"),
		.prekey = json_integer_value(json_object_get(v, "p")),
		.onetime = json_integer_value(json_object_get(v, "o")),
		.key = base64_bytes(text_of(v, "k")) };
	int session = json_object_get(v, "e") != NULL;
	if (!e.user || !e.device || !e.key.p || session != (e.prekey > 0) ||
			(session && !base64_read(text_of(v, "e"), e.ephemeral, E2EE_KEY))) {
		bytes_free(&e.key);
		return "MALFORMED";
	}
	sign_entry(&r->all, &e);
	if (!r->found && strcmp(e.user, r->d->user) == 0 && strcmp(e.device, r->d->id) == 0) {
		r->mine = e;
		r->found = 1;
	} else {
		bytes_free(&e.key);
	}
	return NULL;
}

static const struct e2ee_pair *onetime_of(const struct e2ee_device *d, int64_t id)
{
	for (size_t i = 0; i < d->n_onetimes; i++) {
		if (d->onetimes[i].id == id) {
			return &d->onetimes[i];
		}
	}
	return NULL;
}

static int session_of(const struct reading *r, uint8_t ret[E2EE_KEY])
{
	const struct e2ee_device *d = r->d;
	const struct entry *e = &r->mine;
	const struct e2ee_pair *onetime = onetime_of(d, e->onetime);
	if (!e->prekey) {
		memcpy(ret, d->self, E2EE_KEY);
		return 1;
	}
	if (e->prekey != d->prekey.id || (e->onetime && !onetime)) {
		return 0;
	}
	const struct session s = { r->from->user, d->user, r->from->identity, r->from->dh, d->identity,
		d->dh.public, e->ephemeral, d->prekey.public, onetime ? onetime->public : NULL };
	const uint8_t *secrets[4] = { d->prekey.secret, d->dh.secret, d->prekey.secret,
		onetime ? onetime->secret : NULL };
	const uint8_t *publics[4] = { r->from->dh, e->ephemeral, e->ephemeral, e->ephemeral };
	return session_secret(&s, secrets, publics, ret);
}

static const char *open_body(const struct reading *r, char **ret_text)
{
	uint8_t secret[E2EE_KEY], wrap[E2EE_KEY];
	struct bytes key = none, plain = none;
	const char *fault = "DECRYPT_FAILED";
	if (!session_of(r, secret)) {
		return fault;
	}
	wrap_key(secret, &r->binding, (const char *const[2]){ r->mine.user, r->mine.device }, wrap);
	if (gcm_open(wrap, &r->mine.key, &none, &key) && key.n == E2EE_KEY &&
			gcm_open(key.p, &r->body, &r->binding, &plain)) {
		json_t *said = json_loadb((const char *)plain.p, plain.n, 0, NULL);
		const char *text = text_of(said, "text");
		fault = text ? NULL : "MALFORMED";
		*ret_text = text ? strdup(text) : NULL;
		json_decref(said);
	}
	bytes_free(&key);
	bytes_free(&plain);
	return fault;
}

static const char *check(struct reading *r, const json_t *envelope)
{
	const json_t *to = json_object_get(envelope, "to");
	const char *fault = r->body.p && json_is_array(to) ? NULL : "MALFORMED";
	if (!fault) {
		r->all = signed_begin(&r->binding, &r->body);
	}
	for (size_t i = 0; !fault && i < json_array_size(to); i++) {
		fault = read_entry(r, json_array_get(to, i));
	}
	if (!fault && !is_signed(r->from->identity, json_object_get(envelope, "sig"), &r->all)) {
		fault = "BAD_SIGNATURE";
	}
	bytes_free(&r->all);
	return fault ? fault : r->found ? NULL : "NOT_FOR_DEVICE";
}

static const struct e2ee_face *sender_of(
		const struct e2ee_face *from, size_t n, const char *user, const char *device)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(from[i].user, user) == 0 && strcmp(from[i].id, device) == 0) {
			return &from[i];
		}
	}
	return NULL;
}

static const char *or_nothing(const char *s)
{
	return s ? s : "";
}

const char *e2ee_unseal(const struct e2ee_device *d, const struct e2ee_face *from, size_t n_from,
		const json_t *message, char **ret_text)
{
	char reference[256];
	json_t *envelope = json_loads(or_nothing(text_of(message, "content")), 0, NULL);
	int64_t v = json_integer_value(json_object_get(envelope, "v"));
	int edit = json_is_true(json_object_get(envelope, "edit"));
	snprintf(reference, sizeof(reference), "%s:%s", edit ? "edit" : "message",
			or_nothing(text_of(message, edit ? "id" : "clientId")));
	const struct e2ee_context c = { .sender = or_nothing(text_of(message, "senderId")),
		.device = or_nothing(text_of(envelope, "from")),
		.receiver = or_nothing(text_of(message, "receiverId")),
		.reference = reference,
		.reply_to = or_nothing(text_of(message, "replyTo")),
		.edit = edit };
	struct reading r = { .d = d, .from = sender_of(from, n_from, c.sender, c.device) };
	const char *fault = v == 1 ? NULL : v ? "UNKNOWN_VERSION" : "MALFORMED";
	fault = fault ? fault : r.from ? NULL : "UNKNOWN_DEVICE";
	if (!fault) {
		r.binding = binding_of(&c);
		r.body = base64_bytes(text_of(envelope, "body"));
		fault = check(&r, envelope);
	}
	fault = fault ? fault : open_body(&r, ret_text);
	bytes_free(&r.binding);
	bytes_free(&r.body);
	bytes_free(&r.mine.key);
	json_decref(envelope);
	return fault;
}

/* ---- safety numbers ----------------------------------------------------------------------------- */

static int compare_faces(const void *a, const void *b)
{
	return memcmp(a, b, 2 * (size_t)E2EE_KEY);
}

static void digits_of(const char *user, const struct e2ee_face *devices, size_t n, char ret[31])
{
	uint8_t faces[E2EE_DEVICES][2 * E2EE_KEY], hash[32];
	struct bytes all = none, salt = none;
	for (size_t i = 0; i < n; i++) {
		memcpy(faces[i], devices[i].identity, E2EE_KEY);
		memcpy(faces[i] + E2EE_KEY, devices[i].dh, E2EE_KEY);
	}
	qsort(faces, n, sizeof(faces[0]), compare_faces);
	bytes_add(&all, faces, n * sizeof(faces[0]));
	bytes_text(&salt, P " safety");
	bytes_text(&salt, user);
	stretch(&all, &salt, STRETCH, hash);
	for (size_t i = 0; i < 6; i++) {
		uint64_t value = 0;
		for (size_t k = 0; k < 5; k++) {
			value = value << 8 | hash[5 * i + k];
		}
		snprintf(ret + 5 * i, 6, "%05u", (unsigned)(value % 100000));
	}
	bytes_free(&all);
	bytes_free(&salt);
}

void e2ee_safety(const char *users[2], const struct e2ee_face *devices[2], const size_t n[2],
		char ret_digits[61])
{
	char half[2][31];
	digits_of(users[0], devices[0], n[0], half[0]);
	digits_of(users[1], devices[1], n[1], half[1]);
	int swap = strcmp(half[0], half[1]) > 0;
	snprintf(ret_digits, 61, "%s%s", half[swap], half[!swap]);
}
