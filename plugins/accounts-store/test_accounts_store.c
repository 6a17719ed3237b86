/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/accounts.h>
#include <chatd/kit.h>
#include <chatd/store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

/* A store with room for one account, which answers by post. */
struct fake {
	struct kit *k;
	struct chatd_account kept;
	char id[32], nick[32], secret[80], email[32], roles[32];
	int has;
	chatd_status refuse;
	chatd_store_fn *fn;
	void *arg;
	chatd_status rc;
};

static struct fake fake;

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void on_post(void *arg)
{
	struct chatd_store_answer a = { .struct_size = sizeof(a) };
	(void)arg;
	fake.kept.id = z(fake.id);
	fake.kept.nickname = z(fake.nick);
	fake.kept.secret = z(fake.secret);
	fake.kept.email = z(fake.email);
	fake.kept.roles = z(fake.roles);
	if (fake.rc == 0) {
		a.accounts = &fake.kept;
		a.n_accounts = 1;
	}
	fake.fn(fake.arg, fake.rc, &a);
}

static chatd_status answer(chatd_worker *w, chatd_store_fn *fn, void *arg, chatd_status rc)
{
	if (fake.refuse) {
		return fake.refuse;
	}
	fake.fn = fn;
	fake.arg = arg;
	fake.rc = rc;
	return kit_host(fake.k)->post(w, on_post, NULL);
}

static chatd_status fake_create(
		void *obj, chatd_worker *w, const struct chatd_account *a, chatd_store_fn *fn, void *arg)
{
	(void)obj;
	if (fake.has) {
		return answer(w, fn, arg, -EEXIST);
	}
	snprintf(fake.id, sizeof(fake.id), "%.*s", (int)a->id.n, a->id.p);
	snprintf(fake.nick, sizeof(fake.nick), "%.*s", (int)a->nickname.n, a->nickname.p);
	snprintf(fake.secret, sizeof(fake.secret), "%.*s", (int)a->secret.n, a->secret.p);
	snprintf(fake.email, sizeof(fake.email), "%.*s", (int)a->email.n, a->email.p ? a->email.p : "");
	snprintf(fake.roles, sizeof(fake.roles), "%.*s", (int)a->roles.n, a->roles.p ? a->roles.p : "");
	fake.kept.banned_until = a->banned_until;
	fake.has = 1;
	return answer(w, fn, arg, 0);
}

static chatd_status fake_get(void *obj, chatd_worker *w, const struct chatd_store_account_key *r,
		chatd_store_fn *fn, void *arg)
{
	const char *want = r->by == CHATD_STORE_BY_ID ? fake.id : fake.secret;
	int same = fake.has && strlen(want) == r->key.n && memcmp(want, r->key.p, r->key.n) == 0;
	(void)obj;
	return answer(w, fn, arg, same && r->by != CHATD_STORE_BY_CLIENT ? 0 : -ENOENT);
}

static chatd_status fake_rename(void *obj, chatd_worker *w,
		const struct chatd_store_account_name *r, chatd_store_fn *fn, void *arg)
{
	(void)obj;
	snprintf(fake.nick, sizeof(fake.nick), "%.*s", (int)r->nickname.n, r->nickname.p);
	return answer(w, fn, arg, 0);
}

static const struct chatd_store fake_vt = {
	.struct_size = sizeof(fake_vt),
	.account_create = fake_create,
	.account_get = fake_get,
	.account_rename = fake_rename,
};

static struct kit *fresh(void)
{
	static const struct kit_service services[] = { { CHATD_STORE, &fake_vt, NULL },
		{ NULL, NULL, NULL } };
	static const struct kit_conf conf = { .workers = 1, .services = services };
	fake = (struct fake){ 0 };
	fake.k = kit_new_with(&chatd_plugin_under_test, "", &conf);
	return fake.k;
}

enum what { CREATE, BY_ID, BY_SECRET, BY_CLIENT, RENAME };
struct call {
	enum what what;
	const char *key, *other, *email;
	char got[128];
	chatd_status at_once, rc;
	int answers;
};

static void on_answer(void *arg, chatd_status rc, const struct chatd_account *a)
{
	struct call *c = arg;
	c->answers++;
	c->rc = rc;
	if (a) {
		int n = snprintf(c->got, sizeof(c->got), "%.*s %.*s", (int)a->id.n, a->id.p,
				(int)a->nickname.n, a->nickname.p);
		if (a->email.n) {
			snprintf(c->got + n, sizeof(c->got) - (size_t)n, " %.*s %.*s %d", (int)a->email.n,
					a->email.p, (int)a->roles.n, a->roles.p, (int)a->banned_until);
		}
	}
}

static void make(void *arg)
{
	struct call *c = arg;
	struct chatd_service s = kit_provided(fake.k, CHATD_ACCOUNTS);
	const struct chatd_accounts *v = s.vt;
	chatd_worker *w = kit_worker(fake.k, 0);
	if (!v) {
		c->at_once = -ENOMEM;
		return;
	}
	if (c->what == CREATE) {
		struct chatd_account a = {
			.struct_size = sizeof(a), .id = z(c->key), .nickname = z(c->key), .secret = z(c->other)
		};
		if (c->email) {
			a.email = z(c->email);
			a.roles = z("support");
			a.banned_until = 7;
		}
		c->at_once = v->create(s.obj, w, &a, on_answer, c);
	} else if (c->what == RENAME) {
		c->at_once = v->rename(s.obj, w, z(c->key), z(c->other), on_answer, c);
	} else {
		chatd_status (*by)(void *, chatd_worker *, struct chatd_str, chatd_account_fn *, void *) =
				c->what == BY_ID       ? v->by_id
				: c->what == BY_SECRET ? v->by_secret
									   : v->by_client;
		c->at_once = by(s.obj, w, z(c->key), on_answer, c);
	}
}

static void expect(struct call c, chatd_status rc, const char *got)
{
	kit_on(fake.k, 0, make, &c);
	if (kit_failing(fake.k)) {
		return;
	}
	assert_int_equal(c.answers, c.at_once == 0);
	assert_int_equal(c.at_once ? c.at_once : c.rc, rc);
	assert_string_equal(c.got, got);
}

static void a_day(void)
{
	struct kit *k = fresh();
	expect((struct call){ BY_ID, "ann", "" }, -ENOENT, "");
	expect((struct call){ CREATE, "ann", "s" }, 0, "ann ann");
	expect((struct call){ CREATE, "ann", "s" }, -EEXIST, "");
	expect((struct call){ BY_ID, "ann", "" }, 0, "ann ann");
	expect((struct call){ BY_SECRET, "s", "" }, 0, "ann ann");
	expect((struct call){ BY_CLIENT, "s", "" }, -ENOENT, "");
	expect((struct call){ RENAME, "ann", "Ann" }, 0, "ann Ann");
	kit_free(k);
}

static void accounts_go_to_the_store_and_come_back(void **state)
{
	(void)state;
	a_day();
}

static void what_the_registered_have_goes_along(void **state)
{
	struct kit *k = fresh();
	(void)state;
	expect((struct call){ CREATE, "ann", "s", .email = "a@x.org" }, 0, "ann ann a@x.org support 7");
	expect((struct call){ BY_ID, "ann", "" }, 0, "ann ann a@x.org support 7");
	kit_free(k);
}

static void what_the_store_refuses_is_passed_on(void **state)
{
	struct kit *k = fresh();
	char longest[9000];
	(void)state;
	fake.refuse = -EAGAIN;
	expect((struct call){ CREATE, "ann", "s" }, -EAGAIN, "");
	expect((struct call){ BY_ID, "ann", "" }, -EAGAIN, "");
	expect((struct call){ RENAME, "ann", "x" }, -EAGAIN, "");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	expect((struct call){ CREATE, longest, "s" }, -EINVAL, "");
	kit_free(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(a_day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accounts_go_to_the_store_and_come_back),
		cmocka_unit_test(what_the_registered_have_goes_along),
		cmocka_unit_test(what_the_store_refuses_is_passed_on),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
