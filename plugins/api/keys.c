/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: made, kept as a record each (the hash of the secret alone), and remembered by workers for
 * `recheck`, so that one that is revoked on any node is refused everywhere after that. */
#include "api.h"

#include <sodium.h>
#include <uthash.h>

struct cached {
	UT_hash_handle hh;
	struct key key;
	int64_t looked, used; /* now_ms; used: when that was written down last, 0: never */
};

struct look {
	struct worker *at;
	char id[KEY_ID * 2 + 1];
	keys_fn *fn;
	void *arg;
};

/* ---- text ------------------------------------------------------------------------- */

static int plain(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9'))) {
			return 0;
		}
	}
	return s.n > 0 && s.n <= 2 * KEY_ID;
}

int keys_split(struct chatd_str token, struct chatd_str *ret_id, struct chatd_str *ret_secret)
{
	const char *end = token.n > 3 ? memchr(token.p + 3, '_', token.n - 3) : NULL;
	if (!end || memcmp(token.p, "ck_", 3) != 0) {
		return 0;
	}
	*ret_id = chatd_str_of(token.p + 3, (size_t)(end - token.p) - 3);
	*ret_secret = chatd_str_of(end + 1, token.n - (size_t)(end - token.p) - 1);
	return plain(*ret_id) && ret_secret->n > 0;
}

static void hash_of(struct chatd_str secret, unsigned char ret[32])
{
	crypto_hash_sha256(ret, (const unsigned char *)secret.p, secret.n);
}

int keys_fits(const struct key *k, struct chatd_str secret)
{
	unsigned char hash[32];
	hash_of(secret, hash);
	return sodium_memcmp(hash, k->hash, sizeof(hash)) == 0;
}

void keys_make(const struct self *self, struct key *k, char ret_token[KEY_ID + KEY_SECRET + 8])
{
	unsigned char raw[KEY_ID / 2 + 32];
	char secret[KEY_SECRET + 1];
	self->h->random(raw, sizeof(raw));
	sodium_bin2hex(k->id, KEY_ID + 1, raw, KEY_ID / 2);
	sodium_bin2base64(
			secret, sizeof(secret), raw + KEY_ID / 2, 32, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	hash_of(text(secret), k->hash);
	snprintf(ret_token, KEY_ID + KEY_SECRET + 8, "ck_%s_%s", k->id, secret);
	sodium_memzero(raw, sizeof(raw));
	sodium_memzero(secret, sizeof(secret));
}

void keys_write(struct chatd_json *j, const struct key *k)
{
	char hex[65];
	sodium_bin2hex(hex, sizeof(hex), k->hash, sizeof(k->hash));
	chatd_json_lit(j, "{");
	chatd_json_member(j, "hash", text(hex));
	chatd_json_member(j, "name", text(k->name));
	chatd_json_member(j, "bot", text(k->bot));
	chatd_json_member(j, "by", text(k->by));
	scopes_write(j, "scopes", k->scopes);
	chatd_json_int(j, "created", k->created);
	chatd_json_int(j, "expires", k->expires);
	chatd_json_int(j, "perMinute", k->per_minute);
	chatd_json_lit(j, "}");
}

struct kept {
	struct chatd_str hash, name, bot, by;
	json_t *scopes;
	int64_t created, expires, per_minute;
};
static const struct chatd_json_field kept_fields[] = {
	{ "hash", CHATD_J_TEXT, offsetof(struct kept, hash) },
	{ "name", CHATD_J_TEXT, offsetof(struct kept, name) },
	{ "bot", CHATD_J_TEXT, offsetof(struct kept, bot) },
	{ "by", CHATD_J_TEXT, offsetof(struct kept, by) },
	{ "scopes", CHATD_J_LIST, offsetof(struct kept, scopes) },
	{ "created", CHATD_J_INT, offsetof(struct kept, created) },
	{ "expires", CHATD_J_INT, offsetof(struct kept, expires) },
	{ "perMinute", CHATD_J_INT, offsetof(struct kept, per_minute) },
	{ NULL, 0, 0 },
};

int keys_read(struct chatd_str id, struct chatd_str value, struct key *ret)
{
	struct kept v = { .created = 0 };
	json_t *root;
	char why[CHATD_JSON_WHY];
	size_t n = 0;
	if (chatd_json_read(value, kept_fields, &v, &root, why) < 0) {
		return 0;
	}
	memset(ret, 0, sizeof(*ret));
	int ok = sodium_hex2bin(ret->hash, sizeof(ret->hash), v.hash.p ? v.hash.p : "", v.hash.n, NULL,
					 &n, NULL) == 0 &&
			n == sizeof(ret->hash);
	chatd_str_copy(ret->id, sizeof(ret->id), id);
	chatd_str_copy(ret->name, sizeof(ret->name), v.name);
	chatd_str_copy(ret->bot, sizeof(ret->bot), v.bot);
	chatd_str_copy(ret->by, sizeof(ret->by), v.by);
	(void)scopes_read(v.scopes, &ret->scopes);
	ret->created = v.created;
	ret->expires = v.expires;
	ret->per_minute = v.per_minute;
	json_decref(root);
	return ok;
}

/* ---- those of the configuration ------------------------------------------------------ */

static chatd_status fix(struct self *self, const struct conf_key *c, struct key *k)
{
	chatd_str_copy(k->id, sizeof(k->id), text(c->id));
	chatd_str_copy(k->name, sizeof(k->name), text(c->name ? c->name : c->id));
	hash_of(text(c->secret), k->hash);
	k->per_minute = c->per_minute ? c->per_minute : self->conf->per_minute;
	k->fixed = 1;
	for (size_t i = 0; c->scopes[i]; i++) {
		k->scopes |= scope_of(text(c->scopes[i]));
	}
	return 0;
}

chatd_status keys_fixed(struct self *self)
{
	const struct conf_key *c = self->conf->keys.items;
	self->fixed = self->h->mem_alloc((self->conf->keys.n + 1) * sizeof(*self->fixed));
	if (!self->fixed || sodium_init() < 0) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < self->conf->keys.n; i++) {
		(void)fix(self, &c[i], &self->fixed[i]);
	}
	return 0;
}

/* ---- what a worker remembers ---------------------------------------------------------- */

static struct cached *cached_of(struct worker *at, struct chatd_str id)
{
	struct cached *c = NULL;
	HASH_FIND(hh, at->cache, id.p, id.n, c);
	return c;
}

static void forget(struct worker *at, struct cached *c)
{
	HASH_DEL(at->cache, c);
	at->self->h->mem_free(c);
}

static int over(const struct worker *at, const struct key *k)
{
	return k->expires && k->expires <= at->self->h->wall_ms();
}

static const struct key *fixed_of(const struct self *self, struct chatd_str id)
{
	for (size_t i = 0; i < self->conf->keys.n; i++) {
		if (chatd_str_same(text(self->fixed[i].id), id)) {
			return &self->fixed[i];
		}
	}
	return NULL;
}

const struct key *keys_recent(struct worker *at, struct chatd_str id)
{
	const struct key *k = fixed_of(at->self, id);
	struct cached *c = k ? NULL : cached_of(at, id);
	return k ? k : c ? &c->key : NULL;
}

const struct key *keys_known(struct worker *at, struct chatd_str id)
{
	const struct self *self = at->self;
	const struct key *k = fixed_of(self, id);
	struct cached *c = k ? NULL : cached_of(at, id);
	if (!c || over(at, &c->key) || self->h->now_ms(at->w) - c->looked >= self->conf->recheck) {
		return k;
	}
	return &c->key;
}

static struct cached *remember(struct worker *at, const struct key *k)
{
	struct cached *c = cached_of(at, text(k->id));
	if (!c) {
		if (HASH_COUNT(at->cache) >= CACHE_MAX) {
			forget(at, at->cache); /* the one that is there longest */
		}
		c = at->self->h->mem_alloc(sizeof(*c));
		if (!c) {
			return NULL;
		}
		c->key = *k;
		HASH_ADD(hh, at->cache, key.id, strlen(c->key.id), c);
	}
	c->key = *k;
	c->looked = at->self->h->now_ms(at->w);
	return c;
}

static void on_record(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct look look = *(struct look *)arg;
	struct worker *at = look.at;
	struct key k;
	at->self->h->mem_free(arg);
	chatd_open_end(&at->self->open);
	rc = rc == 0 && at->dead ? -ESHUTDOWN : rc;
	if (rc == 0 && (!keys_read(text(look.id), a->records[0].value, &k) || over(at, &k))) {
		rc = -ENOENT;
	}
	if (rc == 0) {
		(void)remember(at, &k);
	} else if (rc == -ENOENT) {
		struct cached *c = cached_of(at, text(look.id));
		if (c) {
			forget(at, c);
		}
	}
	look.fn(look.arg, rc, rc == 0 ? &k : NULL);
}

chatd_status keys_find(struct worker *at, struct chatd_str id, keys_fn *fn, void *arg)
{
	const struct self *self = at->self;
	const struct chatd_store *store = self->store->vt;
	struct look *look = self->h->mem_alloc(sizeof(*look));
	if (!look) {
		return -ENOMEM;
	}
	look->at = at;
	look->fn = fn;
	look->arg = arg;
	chatd_str_copy(look->id, sizeof(look->id), id);
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT("api.key"),
		.key = text(look->id),
		.wall = self->h->wall_ms() };
	chatd_status rc = chatd_open_asked(
			&at->self->open, store->record_get(self->store->obj, at->w, &r, on_record, look));
	if (rc < 0) {
		self->h->mem_free(look);
	}
	return rc;
}

/* ---- last used -------------------------------------------------------------------------- */

static void on_noted(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)arg;
	(void)rc;
	(void)a;
}

/* Within the hour, for a key that is used all the time must not be written all the time. */
void keys_used(struct worker *at, const struct key *k)
{
	const struct self *self = at->self;
	const struct chatd_store *store = self->store->vt;
	struct cached *c = k->fixed ? NULL : cached_of(at, text(k->id));
	int64_t now = self->h->wall_ms();
	char digits[24];
	if (!c || (c->used && now - c->used < USED_MS)) {
		return;
	}
	c->used = now;
	int n = snprintf(digits, sizeof(digits), "%lld", (long long)(now - now % USED_MS));
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_ANY,
		.space = CHATD_LIT("api.used"),
		.key = text(c->key.id),
		.value = chatd_str_of(digits, (size_t)n),
		.expires = k->expires,
		.wall = now };
	(void)store->record_put(self->store->obj, at->w, &r, on_noted, NULL);
}

void keys_stop(struct worker *at)
{
	while (at->cache) {
		forget(at, at->cache);
	}
}
