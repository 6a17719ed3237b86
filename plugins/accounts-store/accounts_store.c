/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts in the store: they last as long as it does. */
#include <chatd/accounts.h>
#include <chatd/plugin.h>
#include <chatd/store.h>

#include <errno.h>
#include <string.h>

enum { TEXT_MAX = 8192 }; /* all that one account says */

struct self {
	const struct chatd_host *h;
	const struct chatd_service *store;
};

struct ask {
	struct self *self;
	chatd_account_fn *fn;
	void *arg;
	struct chatd_account a; /* of create(): its answer */
	char text[];
};

static struct ask *ask_create(struct self *self, size_t text, chatd_account_fn *fn, void *arg)
{
	struct ask *q = self->h->mem_alloc(sizeof(*q) + text);
	if (q) {
		q->self = self;
		q->fn = fn;
		q->arg = arg;
	}
	return q;
}

static chatd_status asked(struct ask *q, chatd_status rc)
{
	if (rc < 0) {
		q->self->h->mem_free(q);
	}
	return rc;
}

static void on_found(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct ask *q = arg;
	if (rc == 0 && a->n_accounts == 0) {
		rc = -ENOENT;
	}
	q->fn(q->arg, rc, rc == 0 ? &a->accounts[0] : NULL);
	q->self->h->mem_free(q);
}

static void on_created(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct ask *q = arg;
	(void)a;
	q->fn(q->arg, rc, rc == 0 ? &q->a : NULL);
	q->self->h->mem_free(q);
}

enum { TEXTS = 8 };
static void texts_of(struct chatd_account *a, struct chatd_str *ret[TEXTS])
{
	struct chatd_str *all[TEXTS] = { &a->id, &a->nickname, &a->secret, &a->client, &a->email,
		&a->password, &a->roles, &a->avatar };
	memcpy(ret, all, sizeof(all));
}

static void own_texts(struct ask *q)
{
	struct chatd_str *all[TEXTS];
	char *at = q->text;
	texts_of(&q->a, all);
	for (int i = 0; i < TEXTS; i++) {
		if (all[i]->n) {
			memcpy(at, all[i]->p, all[i]->n);
		}
		all[i]->p = all[i]->p ? at : NULL;
		at += all[i]->n;
	}
}

static chatd_status svc_create(
		void *obj, chatd_worker *w, const struct chatd_account *a, chatd_account_fn *fn, void *arg)
{
	struct self *self = obj;
	const struct chatd_store *store = self->store->vt;
	struct chatd_account mine = { .struct_size = sizeof(mine) };
	struct chatd_str *all[TEXTS];
	size_t n = 0;
	/* What an older caller's struct lacks is 0. */
	memcpy(&mine, a, a->struct_size < sizeof(mine) ? a->struct_size : sizeof(mine));
	mine.struct_size = sizeof(mine);
	texts_of(&mine, all);
	for (int i = 0; i < TEXTS; i++) {
		if (all[i]->n > TEXT_MAX) {
			return -EINVAL;
		}
		n += all[i]->n;
	}
	struct ask *q = ask_create(self, n, fn, arg);
	if (!q) {
		return -ENOMEM;
	}
	q->a = mine;
	own_texts(q);
	return asked(q, store->account_create(self->store->obj, w, &q->a, on_created, q));
}

struct key {
	int32_t by;
	struct chatd_str text;
};

static chatd_status find(
		struct self *self, chatd_worker *w, const struct key *key, chatd_account_fn *fn, void *arg)
{
	const struct chatd_store *store = self->store->vt;
	struct chatd_store_account_key r = {
		.struct_size = sizeof(r), .by = key->by, .key = key->text
	};
	struct ask *q = ask_create(self, 0, fn, arg);
	return q ? asked(q, store->account_get(self->store->obj, w, &r, on_found, q)) : -ENOMEM;
}

static chatd_status svc_by_id(
		void *obj, chatd_worker *w, struct chatd_str id, chatd_account_fn *fn, void *arg)
{
	return find(obj, w, &(struct key){ CHATD_STORE_BY_ID, id }, fn, arg);
}

static chatd_status svc_by_secret(
		void *obj, chatd_worker *w, struct chatd_str secret, chatd_account_fn *fn, void *arg)
{
	return find(obj, w, &(struct key){ CHATD_STORE_BY_SECRET, secret }, fn, arg);
}

static chatd_status svc_by_client(
		void *obj, chatd_worker *w, struct chatd_str client, chatd_account_fn *fn, void *arg)
{
	return find(obj, w, &(struct key){ CHATD_STORE_BY_CLIENT, client }, fn, arg);
}

static chatd_status svc_rename(void *obj, chatd_worker *w, struct chatd_str id,
		struct chatd_str nickname, chatd_account_fn *fn, void *arg)
{
	struct self *self = obj;
	const struct chatd_store *store = self->store->vt;
	struct chatd_store_account_name r = {
		.struct_size = sizeof(r), .id = id, .nickname = nickname
	};
	struct ask *q = ask_create(self, 0, fn, arg);
	return q ? asked(q, store->account_rename(self->store->obj, w, &r, on_found, q)) : -ENOMEM;
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
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .store = h->service(ctx, CHATD_STORE) };
	*ret_self = self;
	return h->provide(ctx, CHATD_ACCOUNTS, &vt, self);
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	self->h->mem_free(self);
}

static const char *const provides[] = { CHATD_ACCOUNTS, NULL };
static const char *const needs[] = { CHATD_STORE, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "accounts-store",
	.version = "0.1",
	.summary = "accounts that are kept in the store",
	.provides = provides,
	.needs = needs,
	.init = init,
	.fini = fini,
};
