/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts in memory, on one home worker: for tests and servers without a store. */
#include <chatd/accounts.h>
#include <chatd/plugin.h>

#include <chatd-sdk/hash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct conf {
	int64_t max;
};

enum { ID_MAX = 64, NAME_MAX_BYTES = 256, HEX_MAX = 64 };

/* id, secret, client and nickname follow the struct, in this order. */
struct account {
	UT_hash_handle by_id, by_secret, by_client;
	TAILQ_ENTRY(account) use;
	int64_t created;
	uint32_t flags;
	uint8_t id_n, secret_n, client_n, has_client;
	char *nickname; /* replaced by rename() */
	char text[];
};

TAILQ_HEAD(uses, account);

struct table { /* the home's */
	struct chatd_hash_key key;
	struct account *ids, *secrets, *clients;
	struct uses uses; /* least recently looked up first: that one makes room */
	int64_t n;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	struct table *table;
};

enum op_kind { OP_CREATE, OP_BY_ID, OP_BY_SECRET, OP_BY_CLIENT, OP_RENAME };

struct op {
	struct self *self;
	chatd_worker *from;
	enum op_kind kind;
	chatd_account_fn *fn;
	void *arg;
	chatd_status rc;
	struct chatd_account a; /* asked, then answered; its text is in room[] */
	char room[ID_MAX + NAME_MAX_BYTES + 2 * HEX_MAX];
};

static const struct chatd_opt opts[] = {
	{ .key = "max",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, max),
			.fallback = "100000",
			.min = 1,
			.max = 100000000,
			.doc = "Accounts that are kept; the one longest unused makes room for a new one." },
	{ 0 },
};

/* ---- the table ------------------------------------------------------------ */

static char *secret_of(struct account *a)
{
	return a->text + a->id_n;
}

static char *client_of(struct account *a)
{
	return secret_of(a) + a->secret_n;
}

static unsigned hash(const struct table *t, const char *p, size_t n)
{
	return (unsigned)chatd_hash(&t->key, p, n);
}

static void forget(struct table *t, struct account *a)
{
	HASH_DELETE(by_id, t->ids, a);
	if (a->secret_n) {
		HASH_DELETE(by_secret, t->secrets, a);
	}
	if (a->has_client) {
		HASH_DELETE(by_client, t->clients, a);
	}
	TAILQ_REMOVE(&t->uses, a, use);
	t->n--;
	free(a->nickname);
	free(a);
}

static void used(struct table *t, struct account *a)
{
	TAILQ_REMOVE(&t->uses, a, use);
	TAILQ_INSERT_TAIL(&t->uses, a, use);
}

static char *dup_text(struct chatd_str s)
{
	char *p = malloc(s.n + 1);
	if (p) {
		memcpy(p, s.p ? s.p : "", s.n);
		p[s.n] = '\0';
	}
	return p;
}

/* The most recent account of a client is the one that its identifier finds. */
static void index_client(struct table *t, struct account *a)
{
	struct account *old = NULL;
	if (!a->client_n) {
		return;
	}
	HASH_FIND_BYHASHVALUE(by_client, t->clients, client_of(a), a->client_n,
			hash(t, client_of(a), a->client_n), old);
	if (old) {
		HASH_DELETE(by_client, t->clients, old);
		old->has_client = 0;
	}
	HASH_ADD_KEYPTR_BYHASHVALUE(by_client, t->clients, client_of(a), a->client_n,
			hash(t, client_of(a), a->client_n), a);
	a->has_client = a->by_client.tbl != NULL;
}

static struct account *account_create(const struct chatd_account *from)
{
	struct account *a = calloc(1, sizeof(*a) + from->id.n + from->secret.n + from->client.n);
	if (!a) {
		return NULL;
	}
	a->id_n = (uint8_t)from->id.n;
	a->secret_n = (uint8_t)from->secret.n;
	a->client_n = (uint8_t)from->client.n;
	memcpy(a->text, from->id.p, from->id.n);
	if (from->secret.n) {
		memcpy(secret_of(a), from->secret.p, from->secret.n);
	}
	if (from->client.n) {
		memcpy(client_of(a), from->client.p, from->client.n);
	}
	a->created = from->created;
	a->flags = from->flags;
	a->nickname = dup_text(from->nickname);
	if (!a->nickname) {
		free(a);
		return NULL;
	}
	return a;
}

static chatd_status enter(struct table *t, struct account *a)
{
	HASH_ADD_KEYPTR_BYHASHVALUE(by_id, t->ids, a->text, a->id_n, hash(t, a->text, a->id_n), a);
	if (!a->by_id.tbl) {
		return -ENOMEM;
	}
	if (a->secret_n) {
		HASH_ADD_KEYPTR_BYHASHVALUE(by_secret, t->secrets, secret_of(a), a->secret_n,
				hash(t, secret_of(a), a->secret_n), a);
		if (!a->by_secret.tbl) {
			HASH_DELETE(by_id, t->ids, a);
			return -ENOMEM;
		}
	}
	index_client(t, a);
	TAILQ_INSERT_TAIL(&t->uses, a, use);
	t->n++;
	return 0;
}

static struct account *find(struct table *t, enum op_kind kind, const struct chatd_account *key)
{
	struct account *a = NULL;
	if (kind == OP_BY_SECRET && key->secret.n) {
		HASH_FIND_BYHASHVALUE(by_secret, t->secrets, key->secret.p, key->secret.n,
				hash(t, key->secret.p, key->secret.n), a);
	} else if (kind == OP_BY_CLIENT && key->client.n) {
		HASH_FIND_BYHASHVALUE(by_client, t->clients, key->client.p, key->client.n,
				hash(t, key->client.p, key->client.n), a);
	} else if (kind == OP_BY_ID || kind == OP_RENAME) {
		HASH_FIND_BYHASHVALUE(
				by_id, t->ids, key->id.p, key->id.n, hash(t, key->id.p, key->id.n), a);
	}
	return a;
}

static chatd_status create(struct self *self, const struct chatd_account *from)
{
	struct table *t = self->table;
	if (find(t, OP_BY_ID, from) || find(t, OP_BY_SECRET, from)) {
		return -EEXIST;
	}
	while (t->n >= self->conf->max) {
		forget(t, TAILQ_FIRST(&t->uses));
	}
	struct account *a = account_create(from);
	if (!a) {
		return -ENOMEM;
	}
	chatd_status rc = enter(t, a);
	if (rc < 0) {
		free(a->nickname);
		free(a);
	}
	return rc;
}

/* ---- carrying questions to the home and answers back ----------------------- */

static chatd_status copy_text(char **at, struct chatd_str *s, size_t max)
{
	if (s->n > max) {
		return -EINVAL;
	}
	if (s->n) {
		memcpy(*at, s->p, s->n);
	}
	*s = chatd_str_of(s->p ? *at : NULL, s->n);
	*at += s->n;
	return 0;
}

static chatd_status own_text(struct op *op)
{
	char *at = op->room;
	if (copy_text(&at, &op->a.id, ID_MAX) < 0 ||
			copy_text(&at, &op->a.nickname, NAME_MAX_BYTES) < 0 ||
			copy_text(&at, &op->a.secret, HEX_MAX) < 0 ||
			copy_text(&at, &op->a.client, HEX_MAX) < 0) {
		return -EINVAL;
	}
	return 0;
}

static void answer_with(struct op *op, struct account *a)
{
	op->a = (struct chatd_account){ .struct_size = sizeof(op->a),
		.id = { a->text, a->id_n },
		.nickname = { a->nickname, strlen(a->nickname) },
		.flags = a->flags,
		.secret = { a->secret_n ? secret_of(a) : NULL, a->secret_n },
		.client = { a->client_n ? client_of(a) : NULL, a->client_n },
		.created = a->created };
	op->rc = own_text(op);
}

static void on_answer(void *arg)
{
	struct op *op = arg;
	op->fn(op->arg, op->rc, op->rc == 0 ? &op->a : NULL);
	op->self->h->mem_free(op);
}

static void rename_account(struct account *a, struct op *op)
{
	char *fresh = dup_text(op->a.nickname);
	if (!fresh) {
		op->rc = -ENOMEM;
		return;
	}
	free(a->nickname);
	a->nickname = fresh;
}

static void on_question(void *arg)
{
	struct op *op = arg;
	struct table *t = op->self->table;
	if (op->kind == OP_CREATE) {
		op->rc = create(op->self, &op->a);
	} else {
		struct account *a = find(t, op->kind, &op->a);
		op->rc = a ? 0 : -ENOENT;
		if (a && op->kind == OP_RENAME) {
			rename_account(a, op);
		}
		if (a && op->rc == 0) {
			used(t, a);
			answer_with(op, a);
		}
	}
	if (op->self->h->post(op->from, on_answer, op) < 0) {
		op->self->h->mem_free(op);
	}
}

static chatd_status ask(struct op *op, const struct chatd_account *a)
{
	op->a = (struct chatd_account){ .struct_size = sizeof(op->a),
		.id = a->id,
		.nickname = a->nickname,
		.flags = a->flags,
		.secret = a->secret,
		.client = a->client,
		.created = a->created };
	chatd_status rc = own_text(op);
	if (rc == 0) {
		rc = op->self->h->post(op->self->h->worker_at(0), on_question, op);
	}
	if (rc < 0) {
		op->self->h->mem_free(op);
	}
	return rc;
}

static struct op *op_create(
		struct self *self, chatd_worker *from, enum op_kind kind, chatd_account_fn *fn, void *arg)
{
	struct op *op = self->h->mem_alloc(sizeof(*op));
	if (op) {
		op->self = self;
		op->from = from;
		op->kind = kind;
		op->fn = fn;
		op->arg = arg;
	}
	return op;
}

/* ---- the service ----------------------------------------------------------- */

static chatd_status svc_create(
		void *obj, chatd_worker *w, const struct chatd_account *a, chatd_account_fn *fn, void *arg)
{
	/* What somebody registered must outlast the process: that takes a store. */
	if (a->struct_size >= sizeof(*a) && (a->email.p || a->password.p)) {
		return -ENOTSUP;
	}
	struct op *op = op_create(obj, w, OP_CREATE, fn, arg);
	return op ? ask(op, a) : -ENOMEM;
}

static chatd_status svc_by_id(
		void *obj, chatd_worker *w, struct chatd_str id, chatd_account_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_BY_ID, fn, arg);
	struct chatd_account a = { .id = id };
	return op ? ask(op, &a) : -ENOMEM;
}

static chatd_status svc_by_secret(
		void *obj, chatd_worker *w, struct chatd_str secret, chatd_account_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_BY_SECRET, fn, arg);
	struct chatd_account a = { .secret = secret };
	return op ? ask(op, &a) : -ENOMEM;
}

static chatd_status svc_by_client(
		void *obj, chatd_worker *w, struct chatd_str client, chatd_account_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_BY_CLIENT, fn, arg);
	struct chatd_account a = { .client = client };
	return op ? ask(op, &a) : -ENOMEM;
}

static chatd_status svc_rename(void *obj, chatd_worker *w, struct chatd_str id,
		struct chatd_str nickname, chatd_account_fn *fn, void *arg)
{
	struct op *op = op_create(obj, w, OP_RENAME, fn, arg);
	struct chatd_account a = { .id = id, .nickname = nickname };
	return op ? ask(op, &a) : -ENOMEM;
}

static const struct chatd_accounts vt = {
	.struct_size = sizeof(vt),
	.create = svc_create,
	.by_id = svc_by_id,
	.by_secret = svc_by_secret,
	.by_client = svc_by_client,
	.rename = svc_rename,
};

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf };
	*ret_self = self;
	self->table = h->mem_alloc(sizeof(*self->table));
	if (!self->table) {
		return -ENOMEM;
	}
	h->random(&self->table->key, sizeof(self->table->key));
	TAILQ_INIT(&self->table->uses);
	return h->provide(ctx, CHATD_ACCOUNTS, &vt, self);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	while (self->table && !TAILQ_EMPTY(&self->table->uses)) {
		forget(self->table, TAILQ_FIRST(&self->table->uses));
	}
	self->h->mem_free(self->table);
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_ACCOUNTS, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "accounts-memory",
	.version = "0.1",
	.summary = "accounts that last as long as the process",
	.provides = provides,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.init = init,
	.fini = fini,
};
