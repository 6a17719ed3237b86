/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets of a cluster: they lie in the store that the nodes share, which gives each away once,
 * to whichever node asks first.  The store has the ticket's hash and who it stands for. */
#include "ticket.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

enum {
	SECRET_TICKET = 301, /* kind of the store's secret */
	DATA_MAX = 4096,     /* of the store's secrets */
	HEX = 2 * crypto_hash_sha256_BYTES,
};

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static const struct chatd_store *store_of(const struct self *self)
{
	return self->store->vt;
}

int ticket_is_shared(const struct self *self)
{
	const struct chatd_store *s = self->store ? self->store->vt : NULL;
	return s && CHATD_HAS(s, is_shared) && s->is_shared && s->is_shared(self->store->obj);
}

static void hash_of(struct chatd_str ticket, char ret[HEX + 1])
{
	unsigned char md[crypto_hash_sha256_BYTES];
	crypto_hash_sha256(md, (const unsigned char *)ticket.p, ticket.n);
	sodium_bin2hex(ret, HEX + 1, md, sizeof(md));
}

/* ---- who it stands for ---------------------------------------------------------------- */

static void write_who(struct chatd_json *j, const struct who *who)
{
	chatd_json_lit(j, "{");
	chatd_json_member(j, "user", text(who->user));
	chatd_json_member(j, "name", text(who->name));
	chatd_json_member(j, "roles", text(who->roles));
	chatd_json_member(j, "login", text(who->login));
	chatd_json_member(j, "client", text(who->client));
	chatd_json_int(j, "flags", who->flags);
	chatd_json_int(j, "expires", who->expires);
	chatd_json_lit(j, "}");
}

struct read {
	struct chatd_str user, name, roles, login, client;
	int64_t flags, expires;
};

static chatd_status read_who(struct chatd_str data, struct who *ret)
{
	static const struct chatd_json_field fields[] = {
		{ "user", CHATD_J_TEXT, offsetof(struct read, user) },
		{ "name", CHATD_J_TEXT, offsetof(struct read, name) },
		{ "roles", CHATD_J_TEXT, offsetof(struct read, roles) },
		{ "login", CHATD_J_TEXT, offsetof(struct read, login) },
		{ "client", CHATD_J_TEXT, offsetof(struct read, client) },
		{ "flags", CHATD_J_INT, offsetof(struct read, flags) },
		{ "expires", CHATD_J_INT, offsetof(struct read, expires) },
		{ 0 },
	};
	struct read r = { 0 };
	char why[CHATD_JSON_WHY];
	json_t *root;
	chatd_status rc = chatd_json_read(data, fields, &r, &root, why);
	if (rc < 0) {
		return rc;
	}
	chatd_str_copy(ret->user, sizeof(ret->user), r.user);
	chatd_str_copy(ret->name, sizeof(ret->name), r.name);
	chatd_str_copy(ret->roles, sizeof(ret->roles), r.roles);
	chatd_str_copy(ret->login, sizeof(ret->login), r.login);
	chatd_str_copy(ret->client, sizeof(ret->client), r.client);
	ret->flags = (uint32_t)r.flags;
	ret->expires = r.expires;
	json_decref(root);
	return chatd_id_ok(text(ret->user)) ? 0 : -EBADMSG;
}

/* ---- making one --------------------------------------------------------------------------- */

struct mint {
	const struct self *self;
	chatd_req *req; /* NULL: its client has left */
	char ticket[TICKET_LEN + 1];
};

static void on_gone(void *arg)
{
	struct mint *m = arg;
	m->req = NULL;
}

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct mint *m = arg;
	const struct self *self = m->self;
	(void)a;
	if (rc < 0) {
		self->h->log(self->ctx, CHATD_LOG_WARN, "a ticket cannot be kept: the store says %d", rc);
	}
	if (m->req) {
		ticket_answer(self, m->req, rc < 0 ? NULL : m->ticket);
	}
	sodium_memzero(m->ticket, sizeof(m->ticket));
	self->h->mem_free(m);
}

static chatd_status put(struct mint *m, const struct who *who)
{
	const struct self *self = m->self;
	const struct chatd_http *http = self->http->vt;
	char hash[HEX + 1], room[DATA_MAX];
	struct chatd_json j;
	hash_of(text(m->ticket), hash);
	chatd_json_init(&j, room, sizeof(room));
	write_who(&j, who);
	const int64_t now = self->h->wall_ms();
	const struct chatd_store_secret s = { .struct_size = sizeof(s),
		.kind = SECRET_TICKET,
		.hash = chatd_str_of(hash, HEX),
		.data = chatd_json_str(&j),
		.expires = now + TICKET_TTL_MS,
		.wall = now };
	chatd_status rc = j.failed ? -ENOMEM
							   : store_of(self)->secret_put(self->store->obj,
										 http->req_worker(m->req), &s, on_kept, m);
	chatd_json_free(&j);
	return rc;
}

void ticket_keep(const struct self *self, chatd_req *req, const struct who *who)
{
	static const struct chatd_req_user user = { .struct_size = sizeof(user), .gone = on_gone };
	const struct chatd_http *http = self->http->vt;
	struct mint *m = self->h->mem_alloc(sizeof(*m));
	if (!m) {
		ticket_answer(self, req, NULL);
		return;
	}
	m->self = self;
	m->req = req;
	ticket_make(self, "all", m->ticket);
	if (put(m, who) < 0) {
		self->h->mem_free(m);
		ticket_answer(self, req, NULL);
		return;
	}
	http->req_user(req, &user, m);
}

/* ---- spending one -------------------------------------------------------------------------- */

struct asked {
	const struct self *self;
	chatd_worker *w;
	chatd_token parked;
};

static void on_taken(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct asked *q = arg;
	const struct self *self = q->self;
	struct who who = { .flags = 0 };
	const struct admission ad = { .by = ADMIT_TICKET, .cred = CHATD_CRED_TOKEN, .who = &who };
	if (rc == 0) {
		rc = a->n_secrets ? read_who(a->secrets[0].data, &who) : -ENOENT;
	}
	if (rc == 0) {
		admit_parked(self, q->w, q->parked, &ad);
	} else if (rc == -ENOENT) {
		enter_refuse_parked(self, q->parked, -EKEYREJECTED);
	} else {
		self->h->log(
				self->ctx, CHATD_LOG_WARN, "a ticket cannot be checked: the store says %d", rc);
		(void)self->h->resume(q->parked, CHATD_REJECT, "UNAVAILABLE",
				"logins cannot be checked just now; try again with a new ticket");
	}
	self->h->mem_free(q);
}

chatd_verdict ticket_spend(const struct self *self, chatd_call *call, struct chatd_str ticket)
{
	const struct chatd_host *h = self->h;
	char hash[HEX + 1];
	struct asked *q = h->mem_alloc(sizeof(*q));
	if (!q) {
		return -ENOMEM;
	}
	*q = (struct asked){ .self = self, .w = h->call_worker(call) };
	q->parked = h->suspend(call, NULL, NULL);
	if (!q->parked) {
		h->mem_free(q);
		return -EBUSY;
	}
	hash_of(ticket, hash);
	const struct chatd_store_secret s = { .struct_size = sizeof(s),
		.kind = SECRET_TICKET,
		.hash = chatd_str_of(hash, HEX),
		.wall = h->wall_ms() };
	chatd_status rc = store_of(self)->secret_take(self->store->obj, q->w, &s, on_taken, q);
	if (rc < 0) {
		const struct chatd_store_answer none = { .struct_size = sizeof(none) };
		on_taken(q, rc == -ENOENT ? -EIO : rc, &none);
	}
	return CHATD_WAIT;
}
