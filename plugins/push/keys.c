/* SPDX-License-Identifier: Apache-2.0 */
/* The key pair that push services know this server by: of the configuration, or made once and kept
 * in the store, for all nodes. */
#include "push.h"

enum { AGAIN_MS = 2000, TOKEN_MS = 12 * 3600000, RENEW_MS = 3600000, HEX_SCALAR = 2 * SCALAR };

static void load(void *wselfp);

static void try_again(struct wself *ws)
{
	ws->self->h->timer_set(ws->w, &ws->key_timer, AGAIN_MS, load, ws);
}

static int take(struct wself *ws, struct chatd_str value)
{
	uint8_t scalar[SCALAR];
	int ok = base64_take(value, scalar, sizeof(scalar)) == 0 && vapid_read(scalar, &ws->vapid) == 0;
	OPENSSL_cleanse(scalar, sizeof(scalar));
	return ok;
}

/* Another may have been first: what is there counts. */
static void on_made(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct wself *ws = arg;
	(void)a;
	chatd_open_end(&ws->self->open);
	if (!ws->stopped && rc != -ESHUTDOWN) {
		if (rc == 0 || rc == -EEXIST) {
			load(ws);
		} else {
			try_again(ws);
		}
	}
}

static void make(struct wself *ws)
{
	struct self *self = ws->self;
	uint8_t scalar[SCALAR];
	char value[HEX_SCALAR];
	vapid_make(scalar);
	base64_put(scalar, sizeof(scalar), value, sizeof(value));
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_NEW,
		.space = text(SPACE_KEY),
		.key = CHATD_LIT("vapid"),
		.value = text(value),
		.wall = self->h->wall_ms() };
	if (chatd_open_asked(&self->open,
				store_of(self)->record_put(self->store->obj, ws->w, &r, on_made, ws)) < 0) {
		try_again(ws);
	}
	OPENSSL_cleanse(scalar, sizeof(scalar));
	OPENSSL_cleanse(value, sizeof(value));
}

static void on_loaded(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct wself *ws = arg;
	chatd_open_end(&ws->self->open);
	if (ws->stopped || rc == -ESHUTDOWN) {
		return;
	}
	if (rc == -ENOENT) {
		make(ws);
	} else if (rc < 0) {
		try_again(ws);
	} else if (!take(ws, a->records[0].value)) {
		ws->self->h->log(ws->self->ctx, CHATD_LOG_ERROR,
				"the key kept in the store is none; nothing is pushed to browsers. Give one with "
				"vapid_key: subscriptions that were made with another are lost");
	}
}

static void load(void *wselfp)
{
	struct wself *ws = wselfp;
	struct self *self = ws->self;
	const struct chatd_store_record_key k = key_of_record(self, SPACE_KEY, "vapid");
	if (chatd_open_asked(&self->open,
				store_of(self)->record_get(self->store->obj, ws->w, &k, on_loaded, ws)) < 0) {
		try_again(ws);
	}
}

void keys_start(struct wself *ws)
{
	const char *key = ws->self->conf->vapid_key;
	if (!key || !take(ws, text(key))) {
		load(ws);
	}
}

void keys_stop(struct wself *ws)
{
	ws->self->h->timer_clear(&ws->key_timer);
	vapid_finish(&ws->vapid);
}

const char *keys_token(struct wself *ws, const char *audience)
{
	int64_t now = ws->self->h->wall_ms();
	struct token *t = NULL;
	for (size_t i = 0; i < AUDIENCES && !t; i++) {
		t = strcmp(ws->tokens[i].audience, audience) == 0 ? &ws->tokens[i] : NULL;
	}
	if (t && t->expires - RENEW_MS > now) {
		return t->text;
	}
	if (!t) {
		t = &ws->tokens[ws->next_token++ % AUDIENCES];
	}
	t->audience[0] = '\0';
	t->expires = now + TOKEN_MS;
	if (!ws->vapid.key || strlen(audience) >= sizeof(t->audience) ||
			vapid_token(&ws->vapid, audience, ws->self->conf->subject, t->expires / 1000, t->text) <
					0) {
		return NULL;
	}
	chatd_str_copy(t->audience, sizeof(t->audience), text(audience));
	return t->text;
}
