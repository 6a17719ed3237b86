/* SPDX-License-Identifier: Apache-2.0 */
/* Encryption at rest: the options, and the keys as they are now. */
#include "encrypt.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct conf {
	const char *keys;
	int32_t seal, search;
	int64_t pace;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	/* Readers have no lock: sets that were replaced stay until the end. */
	_Atomic(struct chatd_keys *) keys;
};

static const char *const searches[] = { "off", "words", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "keys",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET | CHATD_O_LIVE,
			.offset = offsetof(struct conf, keys),
			.doc = "The keys, one a line, the oldest first: NAME KEY, KEY being 64 hex digits or "
				   "base64 of 32 random bytes; the last one is used, the others only read. One that "
				   "is followed by the word standby is read and not used yet." },
	{ .key = "seal",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, seal),
			.fallback = "true",
			.doc = "false: nothing new is encrypted, and what is encrypted is written as plain text "
				   "again in the background; then the plugin can be removed." },
	{ .key = "search",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, search),
			.fallback = "off",
			.choices = searches,
			.doc = "off: no search, nothing about words is stored; words: whole words are found, by "
				   "keyed hashes of them, which show what messages have words in common." },
	{ .key = "pace",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, pace),
			.fallback = "500",
			.min = 1,
			.max = 8000,
			.doc = "Messages per second that are encrypted anew in the background, at most." },
	{ 0 },
};

/* ---- the service -------------------------------------------------------------------- */

static const struct chatd_keys *svc_keys(void *obj)
{
	struct self *self = obj;
	return atomic_load(&self->keys);
}

static void svc_conf(void *obj, struct chatd_cipher_conf *ret)
{
	const struct self *self = obj;
	*ret = (struct chatd_cipher_conf){ .struct_size = sizeof(*ret),
		.seals = self->conf->seal,
		.words = self->conf->seal && self->conf->search,
		.pace = self->conf->pace };
}

static const struct chatd_cipher vt = { .struct_size = sizeof(vt),
	.keys = svc_keys,
	.conf = svc_conf,
	.seal = record_seal,
	.open = record_open,
	.head = record_head,
	.look = record_look,
	.word = words_key,
	.mark = marks_make,
	.is_mark = marks_match,
	.name = record_name };

/* ---- keys ------------------------------------------------------------------------------ */

static void say_keys(const struct self *self, const struct chatd_keys *set)
{
	char list[KEYS_MAX * (KEY_NAME + 2 * KEY_ID + 32)];
	size_t n = 0;
	for (size_t i = 0; i < set->n; i++) {
		char id[2 * KEY_ID + 1];
		sodium_bin2hex(id, sizeof(id), set->key[i].id, KEY_ID);
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s (%s%s)", n ? ", " : "",
				set->key[i].name, id,
				i == set->active          ? ", active"
						: i > set->active ? ", standby"
										  : ", read-only");
	}
	self->h->log(self->ctx, CHATD_LOG_INFO, "keys: %s", list);
}

static struct chatd_keys *parse(const struct conf *conf, char why[WHY_MAX])
{
	struct chatd_keys *set = keys_parse(conf->keys ? conf->keys : "", why);
	if (set) {
		set->seals = conf->seal;
		set->words = conf->seal && conf->search;
		sodium_mprotect_readonly(set);
	}
	return set;
}

static void use(struct self *self, struct chatd_keys *set)
{
	sodium_mprotect_readwrite(set);
	set->before = atomic_load(&self->keys);
	sodium_mprotect_readonly(set);
	atomic_store(&self->keys, set);
	say_keys(self, set);
}

/* ---- life --------------------------------------------------------------------------------- */

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	char why[WHY_MAX] = "";
	if (sodium_init() < 0) {
		return h->conf_error(ctx, "keys", "libsodium cannot be used here");
	}
	struct chatd_keys *set = parse(confp, why);
	if (!set) {
		return h->conf_error(ctx, "keys", "%s", why);
	}
	keys_free(set);
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	char why[WHY_MAX] = "";
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->ctx = ctx;
	self->conf = confp;
	*ret_self = self;
	struct chatd_keys *set = sodium_init() < 0 ? NULL : parse(confp, why);
	if (!set) {
		return h->fail(ctx, -EINVAL, "keys: %s", why[0] ? why : "libsodium cannot be used here");
	}
	use(self, set);
	if (!self->conf->seal) {
		h->log(ctx, CHATD_LOG_WARN,
				"seal: false: messages are written as plain text, and those that are encrypted "
				"become plain text again");
	}
	return h->provide(ctx, CHATD_CIPHER, &vt, self);
}

static chatd_status reload(void *selfp, const void *confp)
{
	struct self *self = selfp;
	char why[WHY_MAX] = "";
	struct conf conf = *self->conf; /* the others change with a restart */
	conf.keys = ((const struct conf *)confp)->keys;
	struct chatd_keys *set = parse(&conf, why);
	if (!set) {
		return self->h->fail(self->ctx, -EINVAL, "keys: %s", why);
	}
	use(self, set);
	return 0;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	keys_free(atomic_load(&self->keys));
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_CIPHER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "encrypt",
	.version = "0.1",
	.summary = "encrypts stored messages (XChaCha20-Poly1305)",
	.provides = provides,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.reload = reload,
	.fini = fini,
};
