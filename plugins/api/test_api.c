/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"

#include <chatd/kit.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define SECRET "0123456789abcdef0123456789abcdef"
#define BOOT   "Bearer ck_boot_" SECRET
#define CONF                                                                                         \
	"keys:\n  - { id: boot, secret: " SECRET                                                         \
	", scopes: [publish, broadcast, history, presence, rooms, users, disconnect, keys, as, files] }" \
	"\n  - { id: few, secret: " SECRET ", scopes: [history] }"

static const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ CHATD_LIMITER, NULL, NULL }, { CHATD_CLUSTER, NULL, NULL }, { NULL, NULL, NULL } };

static struct kit *begin(const char *conf)
{
	const struct kit_conf with = { .services = services };
	const struct chatd_account ann = {
		.struct_size = sizeof(ann), .id = CHATD_LIT("ann"), .nickname = CHATD_LIT("Ann")
	};
	kit_store_clear();
	struct kit *k = kit_new_with(&chatd_plugin_under_test, conf, &with);
	kit_account(k, &ann);
	return k;
}

static struct kit_req *call(
		struct kit *k, const char *auth, const char *method, const char *path, const char *body)
{
	return kit_http(k, method, path, body, "Authorization", auth, NULL);
}

/* ---- pure ------------------------------------------------------------------------------ */

static void keys_are_told_from_other_tokens(void **state)
{
	static const char *const bad[] = { "", "ck_", "ck__", "ck_a", "ck_a_", "ck_A_x", "ck_a-b_x",
		"xk_a_x", "ck_0123456789abcdef0123456789abcdef0_x", "eyJh.eyJz.c2ln" };
	struct chatd_str id, secret;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(keys_split(text(bad[i]), &id, &secret));
	}
	assert_false(keys_split(chatd_str_of(NULL, 0), &id, &secret));
	assert_true(keys_split(CHATD_LIT("ck_a1_x_y-z"), &id, &secret));
	assert_true(chatd_str_same(id, CHATD_LIT("a1")));
	assert_true(chatd_str_same(secret, CHATD_LIT("x_y-z")));
}

static void each_call_has_one_scope(void **state)
{
	static const struct {
		const char *method, *path;
		uint32_t scope;
	} calls[] = {
		{ "GET", "/api/chat/rooms", SCOPE_ROOMS },
		{ "DELETE", "/api/chat/rooms/x/members/y", SCOPE_ROOMS },
		{ "GET", "/api/chat/roomsX", SCOPE_HISTORY },
		{ "POST", "/api/chat/rooms", SCOPE_ROOMS },
		{ "POST", "/api/chat/rooms/", SCOPE_ROOMS },
		{ "POST", "/api/chat/rooms/hooks", SCOPE_ROOMS },
		{ "POST", "/api/chat/rooms/x/hooks", SCOPE_ROOMS | SCOPE_PUBLISH },
		{ "POST", "/api/chat/rooms/x/hooks/y/rotate", SCOPE_ROOMS | SCOPE_PUBLISH },
		{ "POST", "/api/chat/rooms/x/hooksy", SCOPE_ROOMS },
		{ "GET", "/api/chat/rooms/x/hooks", SCOPE_ROOMS },
		{ "DELETE", "/api/chat/rooms/x/hooks/y", SCOPE_ROOMS },
		{ "GET", "/api/chat/messages/room/x", SCOPE_HISTORY },
		{ "HEAD", "/api/chat/search", SCOPE_HISTORY },
		{ "POST", "/api/chat/anything", SCOPE_PUBLISH },
		{ "GET", "/api/chat/users/x/status", SCOPE_PRESENCE },
		{ "GET", "/api/chat/presence", SCOPE_PRESENCE },
		{ "POST", "/api/users/x/ban", SCOPE_USERS },
		{ "POST", "/api/files", SCOPE_FILES },
		{ "POST", "/api/auth/login", 0 },
		{ "GET", "/", 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		assert_int_equal(scope_of_call(text(calls[i].method), text(calls[i].path)), calls[i].scope);
	}
	assert_int_equal(scope_of_frame(CHATD_LIT("/user/queue/messages"), 0), 0);
	assert_int_equal(scope_of_frame(CHATD_LIT("/topic/room/x"), 0), SCOPE_HISTORY);
	assert_int_equal(scope_of_frame(CHATD_LIT("/app/chat.send"), 1), SCOPE_PUBLISH);
}

static void a_key_is_read_as_it_was_written(void **state)
{
	struct key k = { .id = "abc",
		.name = "a \"name\"",
		.bot = "b",
		.by = "root",
		.scopes = SCOPE_PUBLISH | SCOPE_FILES,
		.created = 7,
		.expires = 9,
		.per_minute = 3 };
	struct key back;
	struct chatd_json j;
	(void)state;
	memset(k.hash, 0xa5, sizeof(k.hash));
	chatd_json_init(&j, NULL, 0);
	keys_write(&j, &k);
	assert_true(keys_read(CHATD_LIT("abc"), chatd_json_str(&j), &back));
	assert_memory_equal(back.hash, k.hash, sizeof(k.hash));
	assert_string_equal(back.name, k.name);
	assert_int_equal(back.scopes, k.scopes);
	assert_int_equal(back.expires, 9);
	chatd_json_free(&j);
	assert_false(keys_read(CHATD_LIT("abc"), CHATD_LIT("{\"hash\":\"a5\"}"), &back));
	assert_false(keys_read(CHATD_LIT("abc"), CHATD_LIT("no"), &back));
}

static void mistakes_in_the_options_are_named(void **state)
{
	static const struct {
		const char *conf, *part;
	} wrong[] = {
		{ "keys:\n  - { id: A, secret: " SECRET ", scopes: [keys] }", "cannot be a key's id" },
		{ "keys:\n  - { id: a, secret: short, scopes: [keys] }", "5 characters" },
		{ "keys:\n  - { id: a, secret: " SECRET ", scopes: [all] }", "no scope \"all\"" },
		{ "keys:\n  - { id: a, secret: " SECRET ", scopes: [keys] }\n  - { id: a, secret: " SECRET
		  ", scopes: [keys] }",
				"two keys" },
		{ "sender: a b", "cannot be a user's id" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i].conf, wrong[i].part);
	}
}

/* ---- calls --------------------------------------------------------------------------------- */

static void calls_take_a_key_with_the_scope(void **state)
{
	struct kit *k = begin(CONF);
	(void)state;
	kit_expect_http(kit_http(k, "GET", "/api/server/keys", NULL, NULL), 401, "");
	kit_expect_http(call(k, "Bearer ck_boot_wrong", "GET", "/api/server/keys", NULL), 401, "");
	kit_expect_http(call(k, "Bearer ck_nobody_x", "GET", "/api/server/keys", NULL), 401, "");
	kit_expect_http(
			call(k, "Bearer ck_few_" SECRET, "GET", "/api/server/keys", NULL), 403, "\"keys\"");
	kit_expect_http(call(k, BOOT, "GET", "/api/server/keys", NULL), 200, "\"configured\":true");
	kit_expect_http(kit_http(k, "GET", "/api/server/keys", NULL, "kit-user", "ann", NULL), 403, "");
	kit_expect_http(kit_http(k, "GET", "/api/server/keys", NULL, "kit-user", "root", "kit-flags",
							"2", NULL),
			200, "keys");
	kit_free(k);
	kit_store_clear();
}

/* The secret is in no record, and the key that was told works until it is revoked. */
static void a_key_lives_until_it_is_revoked(void **state)
{
	struct kit *k = begin(CONF "\nrecheck: 1s");
	char token[200], id[64], path[128];
	struct kit_client *listener = kit_open(k, "ann");
	(void)state;
	kit_subscribe(listener, "/topic/x");
	struct kit_req *r = call(k, BOOT, "POST", "/api/server/keys",
			"{\"name\":\"n\",\"scopes\":[\"publish\"],\"expiresIn\":60}");
	kit_expect_http(r, 201, "\"key\":\"ck_");
	if (kit_failing(k)) {
		kit_free(k);
		kit_store_clear();
		return;
	}
	const char *at = strstr(kit_http_body(r).p, "\"key\":\"") + 7;
	snprintf(token, sizeof(token), "Bearer %.*s", (int)strcspn(at, "\""), at);
	snprintf(id, sizeof(id), "%.*s", KEY_ID, token + 10);
	assert_non_null(kit_store_value("api.key", id));
	assert_null(strstr(kit_store_value("api.key", id), token + 10 + KEY_ID + 1));
	const char *body = "{\"topic\":\"/topic/x\",\"data\":[1]}";
	kit_expect_http(call(k, token, "POST", "/api/server/publish", body), 200, "messageId");
	kit_expect_delivery(listener, "/topic/x", "[1]");
	assert_true(kit_failing(k) || kit_store_count("api.used") == 1);
	snprintf(path, sizeof(path), "/api/server/keys/%s", id);
	kit_expect_http(call(k, BOOT, "DELETE", path, NULL), 204, NULL);
	kit_expect_http(call(k, BOOT, "DELETE", path, NULL), 404, "NOT_FOUND");
	kit_expect_http(call(k, BOOT, "DELETE", "/api/server/keys/boot", NULL), 409, "CONFIGURED");
	kit_advance(k, 1000);
	kit_expect_http(call(k, token, "POST", "/api/server/publish", body), 401, "revoked");
	kit_store_fail(-EIO);
	kit_expect_http(call(k, token, "POST", "/api/server/publish", body), 503, "UNAVAILABLE");
	kit_free(k);
	kit_store_clear();
}

static void a_bots_session_ends_with_its_key(void **state)
{
	struct kit *k = begin(CONF "\nrecheck: 1s");
	char token[200];
	(void)state;
	struct kit_req *r = call(k, BOOT, "POST", "/api/server/bots",
			"{\"userId\":\"robo\",\"name\":\"Robo\",\"scopes\":[\"publish\"]}");
	kit_expect_http(r, 201, "\"bot\":\"robo\"");
	if (!kit_failing(k)) {
		const char *at = strstr(kit_http_body(r).p, "\"key\":\"") + 7;
		snprintf(token, sizeof(token), "%.*s", (int)strcspn(at, "\""), at);
		struct kit_client *c = kit_login(k, 0, "bearer", token, NULL);
		kit_expect_user(k, "robo", CHATD_ID_BOT);
		kit_send(c, "/topic/x", "hello", NULL);
		kit_expect_accept(k);
		kit_subscribe(c, "/topic/x");
		kit_expect_reject(k, "FORBIDDEN", "history");
		kit_login(k, 0, "bearer", "ck_boot_" SECRET, NULL);
		kit_expect_reject(k, "UNAUTHORIZED", "for HTTP");
		kit_advance(k, 3000);
		assert_true(kit_failing(k) || kit_is_open(c));
		kit_store_clear();
		kit_advance(k, 3000);
		kit_expect_closed(c, 4401);
	}
	kit_free(k);
	kit_store_clear();
}

static void calls_are_made_in_somebodys_name(void **state)
{
	struct kit *k = begin(CONF);
	(void)state;
	kit_expect_http(call(k, BOOT, "GET", "/api/server/rooms/r1/members?limit=3", NULL), 200,
			"\"called\":\"GET /api/chat/rooms/r1/members?limit=3\",\"by\":\"SYSTEM\"");
	kit_expect_http(call(k, BOOT, "GET", "/api/server/messages/direct?as=ann&with=bob", NULL), 200,
			"\"called\":\"GET /api/chat/messages/direct?with=bob\",\"by\":\"ann\"");
	kit_expect_http(call(k, BOOT, "POST", "/api/server/rooms?as=ann", "{\"name\":\"x\"}"), 200,
			"\"by\":\"ann\"");
	kit_expect_http(call(k, BOOT, "POST", "/api/server/rooms", "{\"name\":\"x\"}"), 422, "as=USER");
	kit_expect_http(call(k, BOOT, "GET", "/api/server/rooms?as=nobody", NULL), 404, "NOT_FOUND");
	kit_expect_http(
			call(k, "Bearer ck_few_" SECRET, "GET", "/api/server/conversations?as=ann", NULL), 403,
			"\"as\"");
	kit_expect_http(call(k, BOOT, "DELETE", "/api/server/users/ann", NULL), 200,
			"\"called\":\"DELETE /api/users/me\",\"by\":\"ann\"");
	kit_free(k);
	kit_store_clear();
}

static void a_batch_has_an_answer_for_each(void **state)
{
	struct kit *k = begin(CONF);
	(void)state;
	kit_store_room("r1");
	struct kit_req *r = call(k, BOOT, "POST", "/api/server/batch",
			"{\"calls\":[{\"id\":\"a\",\"path\":\"publish\",\"body\":{\"topic\":\"/topic/x\",\"data\":1}},"
			"{\"path\":\"publish\",\"body\":{\"roomId\":\"r2\",\"content\":\"x\"}},"
			"{\"path\":\"rooms\"},{\"path\":\"batch\"},{\"path\":\"/other\"}]}");
	kit_expect_http(r, 200, "{\"answers\":[{\"id\":\"a\",\"status\":200,\"body\":{\"messageId\":");
	kit_expect_http(r, 200, ",{\"status\":404,\"body\":{");
	kit_expect_http(r, 200, "\"called\":\"GET /api/chat/rooms\",\"by\":\"SYSTEM\"");
	kit_expect_http(r, 200, "a batch has no batches in it");
	kit_expect_http(r, 200, "path must be one of /api/server/");
	kit_expect_http(call(k, BOOT, "POST", "/api/server/batch", "{}"), 422, "1 to 100");
	/* Who leaves in the middle loses nothing but the answer. */
	kit_manual(k, 1);
	r = call(k, BOOT, "POST", "/api/server/batch",
			"{\"calls\":[{\"path\":\"publish\",\"body\":{\"roomId\":\"r1\",\"content\":\"x\"}}]}");
	kit_http_gone(r);
	kit_manual(k, 0);
	kit_run(k);
	kit_free(k);
	kit_store_clear();
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *path, *body;
		int32_t status;
		const char *part;
	} calls[] = {
		{ "publish", NULL, 400, "JSON" },
		{ "publish", "{\"topic\":\"/app/x\",\"data\":1}", 422, "/topic/" },
		{ "publish", "{\"topic\":\"/topic/x\"}", 422, "data is missing" },
		{ "publish", "{\"topic\":7}", 422, "strings" },
		{ "publish", "{\"as\":7}", 422, "as must be" },
		{ "publish", "{\"as\":\"a b\",\"to\":\"ann\"}", 422, "as must be" },
		{ "publish", "{\"senderName\":\"\",\"to\":\"ann\"}", 422, "senderName" },
		{ "publish", "{\"senderName\":\" \\u200b\\u202e\",\"to\":\"ann\"}", 422, "is seen" },
		{ "publish", "{\"action\":\"x\",\"to\":\"ann\"}", 422, "action" },
		{ "publish", "{\"roomId\":\"a b\",\"content\":\"x\"}", 404, "room" },
		{ "broadcast", "{\"content\":\"x\",\"rooms\":7}", 422, "lists" },
		{ "broadcast", "{\"content\":\"x\",\"users\":[7]}", 422, "lists" },
		{ "broadcast", "{}", 422, "content is missing" },
		{ "users", "{\"nickname\":\"\"}", 422, "nickname" },
		{ "users", "{\"userId\":\"a b\",\"nickname\":\"x\"}", 422, "userId" },
		{ "users", "{\"userId\":\"SYSTEM\",\"nickname\":\"x\"}", 409, "server itself" },
		{ "bots", "{\"userId\":\"SYSTEM\",\"name\":\"x\",\"scopes\":[\"publish\"]}", 409,
				"server itself" },
		{ "keys", "{\"name\":\"\\u200b\",\"scopes\":[\"publish\"]}", 422, "is seen" },
		{ "disconnect", "{\"userId\":\"a b\"}", 422, "userId" },
		{ "keys", "{\"name\":\"x\",\"scopes\":[\"x\"]}", 422, "scopes" },
		{ "bots", "{\"name\":\"x\",\"scopes\":[\"as\"],\"userId\":\"b\"}", 422,
				"nobody but itself" },
	};
	struct kit *k = begin(CONF);
	char path[64];
	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		snprintf(path, sizeof(path), "/api/server/%s", calls[i].path);
		kit_expect_http(call(k, BOOT, "POST", path, calls[i].body), calls[i].status, calls[i].part);
	}
	kit_free(k);
	kit_store_clear();
}

/* ---- a server that answers at once ----------------------------------------------------------- */

static struct {
	const struct chatd_host *h;
	struct kit_client *c;
	uintptr_t highest, lowest; /* of the stack, where messages are given in */
	int n;
} deep;

/* Whoever it shall be: it is not looked at here. */
static const chatd_ident *s_make_ident(void *obj, const struct chatd_identity *who)
{
	(void)obj;
	(void)who;
	return deep.h->ident_ref(deep.h->session_ident(kit_session(deep.c)));
}

static void s_input_as(void *obj, chatd_worker *w, const chatd_ident *who, chatd_msg *m,
		chatd_done *done, void *arg)
{
	const struct chatd_outcome no = { .struct_size = sizeof(no),
		.verdict = CHATD_REJECT,
		.code = "NOT_FOUND",
		.why = CHATD_LIT("nobody") };
	uintptr_t at = (uintptr_t)&no;
	(void)obj;
	(void)w;
	(void)who;
	(void)m;
	deep.highest = !deep.n || at > deep.highest ? at : deep.highest;
	deep.lowest = !deep.n || at < deep.lowest ? at : deep.lowest;
	deep.n++;
	done(arg, &no);
}

static const struct chatd_sessions sessions_vt = {
	.struct_size = sizeof(sessions_vt), .make_ident = s_make_ident, .input_as = s_input_as
};

static void a_broadcast_to_many_is_no_deeper_than_one_to_few(void **state)
{
	static const struct kit_service all[] = { { CHATD_STORE, &kit_store_vt, NULL },
		{ CHATD_LIMITER, NULL, NULL }, { CHATD_CLUSTER, NULL, NULL },
		{ CHATD_SESSIONS, &sessions_vt, NULL }, { NULL, NULL, NULL } };
	static char body[TARGETS_MAX * 10 + 64];
	const struct kit_conf with = { .services = all };
	(void)state;
	kit_store_clear();
	struct kit *k = kit_new_with(&chatd_plugin_under_test, CONF, &with);
	deep.h = kit_host(k);
	deep.c = kit_open(k, "ann");
	size_t n = (size_t)snprintf(body, sizeof(body), "{\"content\":\"x\",\"users\":[");
	for (int i = 0; i < TARGETS_MAX; i++) {
		n += (size_t)snprintf(body + n, sizeof(body) - n, "%s\"u%d\"", i ? "," : "", i);
	}
	snprintf(body + n, sizeof(body) - n, "]}");
	kit_expect_http(call(k, BOOT, "POST", "/api/server/broadcast", body), 200, "\"failed\":1000}");
	assert_int_equal(deep.n, TARGETS_MAX);
	assert_true(deep.highest - deep.lowest < 16384);
	kit_expect_http(
			call(k, BOOT, "POST", "/api/server/broadcast", "{\"content\":\"x\",\"rooms\":[]}"), 200,
			"{\"answers\":[],\"failed\":0}");
	assert_int_equal(deep.n, TARGETS_MAX);
	kit_free(k);
	kit_store_clear();
}

static void sweep_of_calls(void)
{
	what_is_wrong_is_said(NULL);
	a_batch_has_an_answer_for_each(NULL);
	calls_are_made_in_somebodys_name(NULL);
}

static void sweep_of_keys(void)
{
	a_key_lives_until_it_is_revoked(NULL);
	a_bots_session_ends_with_its_key(NULL);
}

static void no_memory(void **state)
{
	(void)state;
	kit_sweep(sweep_of_calls);
	kit_sweep(sweep_of_keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_told_from_other_tokens),
		cmocka_unit_test(each_call_has_one_scope),
		cmocka_unit_test(a_key_is_read_as_it_was_written),
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(calls_take_a_key_with_the_scope),
		cmocka_unit_test(a_key_lives_until_it_is_revoked),
		cmocka_unit_test(a_bots_session_ends_with_its_key),
		cmocka_unit_test(calls_are_made_in_somebodys_name),
		cmocka_unit_test(a_batch_has_an_answer_for_each),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(a_broadcast_to_many_is_no_deeper_than_one_to_few),
		cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
