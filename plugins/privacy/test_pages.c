/* SPDX-License-Identifier: Apache-2.0 */
#include <chatd/cluster.h>
#include <chatd/kit.h>
#include <chatd/kit_store.h>
#include <chatd/privacy.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define BLOCKS "privacy.block"

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

/* ---- a broker that is away ------------------------------------------------------------------ */

static chatd_status receive(void *obj, const struct chatd_cluster_receiver *r)
{
	(void)obj;
	(void)r;
	return 0;
}

static chatd_status dropped(void *obj, chatd_worker *w, const struct chatd_cluster_event *e,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	(void)obj;
	(void)w;
	(void)e;
	(void)done;
	(void)arg;
	return -EAGAIN;
}

static int32_t is_up(void *obj)
{
	(void)obj;
	return 0;
}

static const struct chatd_cluster away = {
	.struct_size = sizeof(away), .receive = receive, .send = dropped, .is_up = is_up
};

/* ---- asking --------------------------------------------------------------------------------- */

struct question {
	struct kit *k;
	int32_t worker, says;
	const char *who, *whom; /* whom NULL: whether who hides what is read */
};

static void on_asked(void *arg)
{
	struct question *q = arg;
	const struct chatd_service s = kit_provided(q->k, CHATD_PRIVACY);
	const struct chatd_privacy *p = s.vt;
	chatd_worker *w = kit_worker(q->k, q->worker);
	q->says = q->whom ? p->blocks(s.obj, w, z(q->who), z(q->whom))
					  : p->hides_reads(s.obj, w, z(q->who));
}

static int32_t asked(struct kit *k, int32_t worker, const char *who, const char *whom)
{
	struct question q = { .k = k, .worker = worker, .who = who, .whom = whom };
	kit_on(k, worker, on_asked, &q);
	return q.says;
}

static struct kit *begin(const struct chatd_cluster *cluster)
{
	const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL },
		{ CHATD_CLUSTER, cluster, NULL }, { NULL, NULL, NULL } };
	const struct kit_conf conf = { .workers = 2, .services = services };
	return kit_new_with(&chatd_plugin_under_test, "", &conf);
}

static void end(struct kit *k)
{
	kit_free(k);
	kit_store_clear();
}

/* ---- the tests -------------------------------------------------------------------------------- */

static void a_short_page_is_not_the_end_of_the_set(void **state)
{
	char key[32];
	(void)state;
	kit_store_clear();
	for (int i = 0; i < 7; i++) {
		snprintf(key, sizeof(key), "ann/u%d", i);
		kit_store_put(BLOCKS, key, "1");
	}
	kit_store_put("privacy.unread", "bob", "");
	kit_store_put("privacy.unread", "carol", "");
	kit_store_page(2);
	struct kit *k = begin(NULL);
	for (int i = 0; i < 7; i++) {
		snprintf(key, sizeof(key), "u%d", i);
		assert_int_equal(asked(k, 0, "ann", key), 1);
		assert_int_equal(asked(k, 1, "ann", key), 1);
	}
	assert_int_equal(asked(k, 1, "u1", "ann"), 0);
	kit_store_page(1);
	assert_int_equal(asked(k, 1, "carol", NULL), 1);
	assert_int_equal(asked(k, 1, "ann", NULL), 0);
	end(k);
}

static void what_other_nodes_changed_is_found_however_short_the_pages(void **state)
{
	char key[48];
	(void)state;
	kit_store_clear();
	struct kit *k = begin(&away);
	assert_int_equal(asked(k, 0, "ann", "u2"), 0);
	kit_store_page(1);
	for (int i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), "ann/u%d", i);
		kit_store_put(BLOCKS, key, "1");
		snprintf(key, sizeof(key), "%013lld.ann/u%d", (long long)kit_host(k)->wall_ms(), i);
		kit_store_put(BLOCKS ".log", key, "");
	}
	kit_advance(k, 1100);
	for (int i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), "u%d", i);
		assert_int_equal(asked(k, 0, "ann", key), 1);
		assert_int_equal(asked(k, 1, "ann", key), 1);
	}
	end(k);
}

static void a_block_counts_on_all_workers_when_it_is_answered(void **state)
{
	(void)state;
	kit_store_clear();
	struct kit *k = begin(NULL);
	kit_expect_http(kit_http(k, "PUT", "/api/blocks/bob", "", "kit-user", "ann", NULL), 204, NULL);
	assert_int_equal(asked(k, 0, "ann", "bob"), 1);
	assert_int_equal(asked(k, 1, "ann", "bob"), 1);
	assert_int_equal(asked(k, 1, "bob", "ann"), 0);
	kit_expect_http(
			kit_http(k, "DELETE", "/api/blocks/bob", "", "kit-user", "ann", NULL), 204, NULL);
	assert_int_equal(asked(k, 1, "ann", "bob"), 0);
	end(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_short_page_is_not_the_end_of_the_set),
		cmocka_unit_test(what_other_nodes_changed_is_found_however_short_the_pages),
		cmocka_unit_test(a_block_counts_on_all_workers_when_it_is_answered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
