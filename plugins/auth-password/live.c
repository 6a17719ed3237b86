/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that are open: a login that ends, ends them too; a guest who registers stays. */
#include "auth.h"

#include <sodium.h>
#include <stdio.h>

enum { LINGER_MS = 10000 };

struct ending {
	const struct chatd_host *h;
	int64_t at;
	char login[CHATD_ID_MAX + 1], keep[CHATD_ID_MAX + 1], why[64];
};

void live_login_id(const struct self *self, char kind, char ret[LOGIN_ROOM])
{
	unsigned char raw[16];
	char b64[sodium_base64_ENCODED_LEN(16, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
	self->h->random(raw, sizeof(raw));
	sodium_bin2base64(b64, sizeof(b64), raw, sizeof(raw), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	snprintf(ret, LOGIN_ROOM, "%c%012llx_%s", kind, (unsigned long long)self->h->wall_ms(), b64);
}

/* When it was made; 0: it is none of ours. */
static int64_t login_time(struct chatd_str id)
{
	int64_t t = 0;
	if (id.n != LOGIN_ROOM - 1 || id.p[13] != '_') {
		return 0;
	}
	for (size_t i = 1; i < 13; i++) {
		char c = id.p[i];
		t = t << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return t;
}

static void end_one(const void *data, chatd_session *s)
{
	const struct ending *e = data;
	const chatd_ident *ident = e->h->session_ident(s);
	struct chatd_str login = ident ? e->h->ident_login(ident) : chatd_str_of(NULL, 0);
	if ((e->keep[0] && chatd_str_same(login, text(e->keep))) || login_time(login) > e->at) {
		return;
	}
	if (!e->login[0] || chatd_str_same(login, text(e->login))) {
		e->h->session_close(s, 4401, e->why);
	}
}

void live_end(const struct self *self, const struct live_end *what)
{
	struct ending e = { .h = self->h, .at = self->h->wall_ms() };
	struct chatd_each each = { .struct_size = sizeof(each),
		.user = text(what->user),
		.fn = end_one,
		.data = &e,
		.n = sizeof(e),
		/* A login that was looked up just before it ended may still be on its way in. */
		.linger_ms = LINGER_MS };
	chatd_str_copy(e.login, sizeof(e.login), text(what->login ? what->login : ""));
	chatd_str_copy(e.keep, sizeof(e.keep), text(what->keep ? what->keep : ""));
	chatd_str_copy(e.why, sizeof(e.why), text(what->why));
	if (self->h->each_session(&each) < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR,
				"sessions of %s that have ended could not be closed: no memory", what->user);
	}
}

struct registered {
	const struct chatd_host *h;
	char user[CHATD_ID_MAX + 1], name[256], roles[512];
};

static void renew_one(const void *data, chatd_session *s)
{
	const struct registered *r = data;
	const chatd_ident *was = r->h->session_ident(s);
	if (!was || !(r->h->ident_flags(was) & CHATD_ID_ANONYMOUS)) {
		return;
	}
	struct chatd_identity who = { .struct_size = sizeof(who),
		.user = text(r->user),
		.name = text(r->name),
		.roles = text_or_none(r->roles),
		.login = r->h->ident_login(was),
		.client = r->h->ident_client(was),
		.expires = r->h->ident_expires(was) };
	if (r->h->session_renew(s, &who) < 0) {
		r->h->session_close(s, 4401, "you are registered now; log in");
	}
}

void live_registered(const struct self *self, const struct person *p)
{
	struct registered r = { .h = self->h };
	struct chatd_each each = { .struct_size = sizeof(each),
		.user = text(p->id),
		.fn = renew_one,
		.data = &r,
		.n = sizeof(r),
		.linger_ms = LINGER_MS };
	chatd_str_copy(r.user, sizeof(r.user), text(p->id));
	chatd_str_copy(r.name, sizeof(r.name), text(p->nick));
	chatd_str_copy(r.roles, sizeof(r.roles), text(p->roles));
	(void)self->h->each_session(&each);
}
