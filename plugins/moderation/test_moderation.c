/* SPDX-License-Identifier: Apache-2.0 */
#include "moderation.h"

#include <chatd/kit.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

#define MOD   "4" /* CHATD_ID_MODERATOR */
#define ADMIN "2" /* CHATD_ID_ADMIN */

/* ---- who does what moderators decide ------------------------------------------------------- */

static struct {
	struct kit *k;
	char did[400], noted[400];
	const char *code; /* the next answer; NULL: done */
	int hold;
	void (*fn)(void *arg, const char *code, const char *why);
	void *arg;
	chatd_status refuse;
} power;

static void on_power(void *arg)
{
	const char *code = power.code;
	(void)arg;
	power.code = NULL;
	power.fn(power.arg, code, code ? "not so" : NULL);
}

CHATD_PRINTF(3, 4)
static chatd_status act(
		chatd_worker *w, void (*fn)(void *, const char *, const char *), const char *fmt, ...)
{
	size_t n = strlen(power.did);
	va_list ap;
	if (power.refuse) {
		return power.refuse;
	}
	va_start(ap, fmt);
	vsnprintf(power.did + n, sizeof(power.did) - n, fmt, ap);
	va_end(ap);
	power.fn = fn;
	return power.hold ? 0 : kit_host(power.k)->post(w, on_power, NULL);
}

static chatd_status f_act(void *obj, chatd_worker *w, const struct chatd_rooms_act *r,
		chatd_rooms_done *fn, void *arg)
{
	static const char *const names[] = { "", "kick", "ban", "mute" };
	(void)obj;
	power.arg = arg;
	return act(w, fn, "%s %.*s in %.*s for %lld over %d; ", names[r->what], (int)r->user.n,
			r->user.p, (int)r->room.n, r->room.p, (long long)r->seconds, (int)r->over);
}

static chatd_status f_remove(void *obj, chatd_worker *w, const struct chatd_log_remove *r,
		chatd_log_removed *fn, void *arg)
{
	(void)obj;
	power.arg = arg;
	return act(w, fn, "delete %.*s over %d; ", (int)r->message.n, r->message.p, (int)r->over);
}

static chatd_status f_ban(void *obj, chatd_worker *w, const struct chatd_users_ban *b,
		chatd_users_done *fn, void *arg)
{
	(void)obj;
	power.arg = arg;
	return act(w, fn, "ban-account %.*s for %lld: %.*s; ", (int)b->user.n, b->user.p,
			(long long)b->seconds, (int)b->reason.n, b->reason.p);
}

static void f_note(void *obj, chatd_worker *w, const struct chatd_audit_entry *e)
{
	(void)obj;
	(void)w;
	snprintf(power.noted, sizeof(power.noted), "%.*s %.*s %.*s %.*s %.*s", (int)e->action.n,
			e->action.p, (int)e->actor.n, e->actor.p, (int)e->target.n, e->target.p, (int)e->room.n,
			e->room.n ? e->room.p : "", (int)e->detail.n, e->detail.p);
}

/* ---- how often ------------------------------------------------------------------------------- */

static struct {
	struct kit *k;
	char asked[400];
	const char *full; /* the bucket that is empty */
	chatd_status rc;
	chatd_limiter_fn *fn;
	void *arg;
} limits;

static void on_take(void *arg)
{
	(void)arg;
	limits.fn(limits.arg, limits.rc, 1500);
}

static chatd_status f_take(
		void *obj, chatd_worker *w, const struct chatd_bucket *b, chatd_limiter_fn *fn, void *arg)
{
	size_t n = strlen(limits.asked);
	(void)obj;
	snprintf(limits.asked + n, sizeof(limits.asked) - n, "%.*s %lld/%lld; ", (int)b->key.n,
			b->key.p, (long long)b->burst, (long long)b->per_minute);
	limits.fn = fn;
	limits.arg = arg;
	limits.rc =
			limits.full && strncmp(b->key.p, limits.full, strlen(limits.full)) == 0 ? -EDQUOT : 0;
	return kit_host(limits.k)->post(w, on_take, NULL);
}

static const struct chatd_rooms rooms_vt = { .struct_size = sizeof(rooms_vt), .act = f_act };
static const struct chatd_log log_vt = { .struct_size = sizeof(log_vt), .remove = f_remove };
static const struct chatd_users users_vt = { .struct_size = sizeof(users_vt), .ban = f_ban };
static const struct chatd_audit audit_vt = { .struct_size = sizeof(audit_vt), .note = f_note };
static const struct chatd_limiter limiter_vt = { .struct_size = sizeof(limiter_vt),
	.take = f_take };

static const struct kit_service all[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ CHATD_ROOMS, &rooms_vt, NULL }, { CHATD_LOG, &log_vt, NULL },
	{ CHATD_USERS, &users_vt, NULL }, { CHATD_AUDIT, &audit_vt, NULL },
	{ CHATD_LIMITER, &limiter_vt, NULL }, { NULL, NULL, NULL } };
static const struct kit_service few[] = { { CHATD_STORE, &kit_store_vt, NULL },
	{ CHATD_ROOMS, NULL, NULL }, { CHATD_LOG, NULL, NULL }, { CHATD_USERS, NULL, NULL },
	{ CHATD_AUDIT, NULL, NULL }, { CHATD_LIMITER, NULL, NULL }, { NULL, NULL, NULL } };

static void say(const char *id, const char *room, const char *sender, const char *body)
{
	const struct chatd_store_message m = { .struct_size = sizeof(m),
		.kind = CHATD_STORE_MESSAGE,
		.conv = { .room = room ? text(room) : chatd_str_of(NULL, 0),
				.a = room ? chatd_str_of(NULL, 0) : CHATD_LIT("ann"),
				.b = room ? chatd_str_of(NULL, 0) : CHATD_LIT("bob") },
		.id = text(id),
		.sender = text(sender),
		.body = text(body) };
	(void)kit_store_row(&m);
}

static struct kit *begin(const char *conf, const struct kit_service *services)
{
	const struct kit_conf with = { .services = services };
	kit_store_clear();
	memset(&power, 0, sizeof(power));
	memset(&limits, 0, sizeof(limits));
	kit_store_room("lobby");
	kit_store_room("attic");
	kit_store_member("lobby", "mod", CHATD_ROLE_MODERATOR);
	kit_store_member("lobby", "ann", CHATD_ROLE_MEMBER);
	say("m1", "lobby", "bob", "{\"id\":\"m1\",\"content\":\"rude\"}");
	say("d1", NULL, "bob", "{\"id\":\"d1\",\"content\":\"rude to you\"}");
	struct kit *k = kit_new_with(&chatd_plugin_under_test, conf, &with);
	power.k = k;
	limits.k = k;
	return k;
}

static void end(struct kit *k)
{
	kit_free(k);
	kit_store_clear();
}

struct call {
	const char *who, *flags;
};
static const struct call ann = { "ann", "0" }, carol = { "carol", "0" }, mod = { "mod", "0" },
						 keeper = { "keeper", MOD }, root = { "root", ADMIN };

static struct kit_req *as(struct kit *k, const struct call *c, const char *path, const char *body)
{
	return kit_http(
			k, body ? "POST" : "GET", path, body, "kit-user", c->who, "kit-flags", c->flags, NULL);
}

static struct kit_req *report(struct kit *k, const struct call *c, const char *message)
{
	char body[200];
	snprintf(body, sizeof(body), "{\"messageId\":\"%s\",\"reason\":\"spam\"}", message);
	return as(k, c, "/api/reports", body);
}

#define RESOLVE "/api/reports/lobby.m1.ann/resolve"
#define DISMISS "/api/reports/lobby.m1.ann/dismiss"

/* ---- options ------------------------------------------------------------------------------------ */

static void mistakes_in_the_options_are_named(void **state)
{
	static const char *const wrong[][2] = { { "reasons: []", "name at least one, such as other" },
		{ "reasons: [\"a b\"]", "\"a b\" is no reason: write 1 to 32 letters" },
		{ "reasons: [abcdefghijklmnopqrstuvwxyzabcdefg]", "is no reason" },
		{ "reasons: [\"\"]", "\"\" is no reason" }, { "per_minute: 0", "per_minute" },
		{ "burst: 0", "burst" }, { "max_open: 0", "max_open" },
		{ "retention: 99999d", "retention" } };
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i][0], wrong[i][1]);
	}
}

/* ---- reports -------------------------------------------------------------------------------------- */

static void a_message_is_reported_once_by_each(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	kit_expect_http(as(k, &ann, "/api/reports",
							"{\"messageId\":\"m1\",\"reason\":\"hate\",\"note\":\"look\"}"),
			201, "{\"id\":\"lobby.m1.ann\"}");
	kit_expect_http(report(k, &ann, "m1"), 409, "ALREADY_REPORTED");
	kit_expect_http(report(k, &carol, "m1"), 201, "lobby.m1.carol");
	kit_expect_http(report(k, &ann, "d1"), 201, "{\"id\":\".d1.ann\"}");
	assert_string_equal(kit_store_value(OPEN, "lobby.m1.ann"),
			"{\"id\":\"lobby.m1.ann\",\"messageId\":\"m1\",\"roomId\":\"lobby\",\"sender\":\"bob\","
			"\"reporter\":\"ann\",\"reason\":\"hate\",\"note\":\"look\","
			"\"createdAt\":\"2023-11-14T22:13:21.000Z\","
			"\"message\":{\"id\":\"m1\",\"content\":\"rude\"}}");
	const char *direct = kit_store_value(OPEN, ".d1.ann");
	assert_non_null(strstr(direct, "\"receiver\":\"ann\",\"sender\":\"bob\""));
	assert_null(strstr(direct, "note"));
	assert_null(strstr(direct, "roomId"));
	end(k);
}

static void what_cannot_be_reported(void **state)
{
	char longer[2200];
	(void)state;
	struct kit *k = begin("reasons: [spam]", all);
	snprintf(longer, sizeof(longer),
			"{\"messageId\":\"m1\",\"reason\":\"spam\",\"note\":\"%02001d\"}", 1);
	const struct {
		const struct call *who;
		const char *body;
		int32_t status;
		const char *part;
	} table[] = {
		{ &ann, "{\"messageId\":\"m1\",\"reason\":\"hate\"}", 422, "reason must be one of" },
		{ &ann, "{\"messageId\":\"m1\"}", 422, "reason must be one of" },
		{ &ann, "{\"reason\":\"spam\"}", 422, "messageId is missing" },
		{ &ann, "{\"messageId\":\"m 1\",\"reason\":\"spam\"}", 422, "messageId is missing" },
		{ &ann, "{\"messageId\":7,\"reason\":\"spam\"}", 422, "messageId must be a string" },
		{ &ann, "[", 400, "not JSON" },
		{ &ann, longer, 422, "note has at most 2000 bytes" },
		{ &ann, "{\"messageId\":\"m9\",\"reason\":\"spam\"}", 404, "no such message" },
		{ &carol, "{\"messageId\":\"d1\",\"reason\":\"spam\"}", 404, "no such message" },
		{ &ann, "{\"messageId\":\"own\",\"reason\":\"spam\"}", 422, "your own; delete it" },
		{ &ann, "{\"messageId\":\"gone\",\"reason\":\"spam\"}", 404, "no such message" },
		{ &ann, "{\"messageId\":\"event\",\"reason\":\"spam\"}", 404, "no such message" },
	};
	say("own", "lobby", "ann", "{}");
	const struct chatd_store_message gone = { .struct_size = sizeof(gone),
		.kind = CHATD_STORE_MESSAGE,
		.flags = CHATD_STORE_DELETED,
		.conv = { .room = CHATD_LIT("lobby") },
		.id = CHATD_LIT("gone"),
		.sender = CHATD_LIT("bob"),
		.body = CHATD_LIT("{}") };
	struct chatd_store_message event = gone;
	event.id = CHATD_LIT("event");
	event.flags = 0;
	event.kind = CHATD_STORE_EVENT;
	(void)kit_store_row(&gone);
	(void)kit_store_row(&event);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		kit_expect_http(
				as(k, table[i].who, "/api/reports", table[i].body), table[i].status, table[i].part);
	}
	kit_expect_http(kit_http(k, "POST", "/api/reports", "{}", NULL), 401, "");
	assert_int_equal(kit_store_count(OPEN), 0);
	kit_store_fail(-EIO);
	kit_expect_http(report(k, &ann, "m1"), 503, "UNAVAILABLE");
	kit_store_fail(0);
	end(k);
}

static void nobody_reports_without_measure(void **state)
{
	(void)state;
	struct kit *k = begin("max_open: 1\nper_minute: 3\nburst: 7", all);
	kit_expect_http(report(k, &ann, "m1"), 201, NULL);
	assert_string_equal(limits.asked, "report:ann 7/3; report-from:192.0.2.1 28/12; ");
	kit_expect_http(report(k, &ann, "d1"), 409, "TOO_MANY_REPORTS");
	limits.full = "report:";
	struct kit_req *r = report(k, &carol, "m1");
	kit_expect_http(r, 429, "RATE_LIMIT_EXCEEDED");
	assert_true(chatd_str_same(kit_http_header(r, "Retry-After"), CHATD_LIT("2")));
	limits.full = "report-from:"; /* many guests of one address */
	kit_expect_http(report(k, &carol, "m1"), 429, "RATE_LIMIT_EXCEEDED");
	end(k);
	k = begin("", few); /* nobody counts */
	kit_expect_http(report(k, &ann, "m1"), 201, NULL);
	end(k);
}

static void a_closed_report_is_not_made_again(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	say("m", "lobby", "bob", "{}");
	kit_expect_http(report(k, &ann, "m1"), 201, NULL);
	kit_expect_http(as(k, &mod, DISMISS, "{}"), 200, "\"status\":\"dismissed\"");
	kit_expect_http(report(k, &ann, "m1"), 409, "ALREADY_REPORTED");
	kit_expect_http(report(k, &carol, "m1"), 201, NULL);
	kit_expect_http(report(k, &ann, "m"), 201, NULL); /* another one, whose id is a part of it */
	end(k);
}

static void a_large_message_is_kept_in_part(void **state)
{
	static char body[70000], question[20000];
	(void)state;
	enum { HEAD = sizeof("{\"content\":\"") - 1, WHOLE = VALUE_MAX - 2 * NOTE_MAX };
	struct kit *k = begin("", all);
	memset(body, 'a', sizeof(body));
	memcpy(body, "{\"content\":\"", HEAD);
	snprintf(body + WHOLE - 2, 3, "\"}");
	say("whole", "lobby", "bob", body);
	kit_expect_http(report(k, &ann, "whole"), 201, NULL);
	assert_null(strstr(kit_store_value(OPEN, "lobby.whole.ann"), "\"cut\""));
	/* A note of which each byte needs six leaves less room, and closing needs some as well. */
	size_t n = (size_t)snprintf(
			question, sizeof(question), "{\"messageId\":\"whole\",\"reason\":\"spam\",\"note\":\"");
	memset(question + n, '<', NOTE_MAX);
	snprintf(question + n + NOTE_MAX, 3, "\"}");
	kit_expect_http(as(k, &carol, "/api/reports", question), 201, NULL);
	assert_non_null(strstr(kit_store_value(OPEN, "lobby.whole.carol"), "\"cut\":true"));
	kit_expect_http(as(k, &mod, "/api/reports/lobby.whole.carol/dismiss", "{}"), 200, "dismissed");
	kit_expect_http(as(k, &mod, "/api/reports/lobby.whole.ann/dismiss", "{}"), 200, "dismissed");
	static char larger[70000];
	memset(larger, 'a', WHOLE + 1);
	memcpy(larger, "{\"content\":\"", HEAD);
	memcpy(larger + HEAD + COPY_MAX - 1, "\xe2\x82\xac", 3); /* the cut would be within */
	snprintf(larger + WHOLE - 1, 3, "\"}");
	say("larger", "lobby", "bob", larger);
	kit_expect_http(report(k, &ann, "larger"), 201, NULL);
	const char *kept = kit_store_value(OPEN, "lobby.larger.ann");
	const char *copy = strstr(kept, "\"content\":\"");
	assert_non_null(copy);
	assert_int_equal(strspn(copy + 11, "a"), COPY_MAX - 1);
	assert_non_null(strstr(copy, "a\",\"cut\":true}}"));
	end(k);
}

/* ---- the desk ------------------------------------------------------------------------------------------ */

static void who_may_see_reports(void **state)
{
	static const struct {
		const struct call *who;
		const char *path;
		int32_t status;
		const char *part;
	} table[] = {
		{ &mod, "/api/reports?roomId=lobby", 200, "lobby.m1.ann" },
		{ &mod, "/api/reports?roomId=attic", 403, "only moderators of the room" },
		{ &mod, "/api/reports?roomId=nowhere", 404, "no such room" },
		{ &mod, "/api/reports?roomId=.", 404, "no such room" },
		{ &mod, "/api/reports", 403, "those of a room name it: roomId" },
		{ &ann, "/api/reports?roomId=lobby", 403, "only moderators of the room" },
		{ &keeper, "/api/reports", 200, ".d1.ann" },
		{ &keeper, "/api/reports?roomId=attic", 200, "{\"reports\":[]}" },
		{ &root, "/api/reports", 200, "lobby.m1.ann" },
		{ &keeper, "/api/reports?status=closed", 200, "{\"reports\":[]}" },
		{ &keeper, "/api/reports?status=open", 200, "lobby.m1.ann" },
		{ &keeper, "/api/reports?status=old", 422, "status must be open or closed" },
		{ &keeper, "/api/reports?limit=1", 200, "\"after\":\".d1.ann\"" },
		{ &keeper, "/api/reports?limit=1&after=.d1.ann", 200, "lobby.m1.ann" },
		{ &mod, "/api/reports?roomId=lobby&after=lobby.m1.ann", 200, "{\"reports\":[]}" },
		{ &mod, "/api/reports?roomId=lobby&after=lobbyx.m1.ann", 400, "BAD_CURSOR" },
		{ &mod, "/api/reports?roomId=lobby&after=.d1.ann", 400, "BAD_CURSOR" },
		{ &keeper, "/api/reports?after=lobby.m1", 400, "BAD_CURSOR" },
		{ &keeper, "/api/reports?after=lobby.m1.a%20b", 400, "BAD_CURSOR" },
		{ &keeper, "/api/reports?after=", 400, "BAD_CURSOR" },
		{ &keeper, "/api/reports?limit=x", 400, "VALIDATION" },
	};
	char path[300];
	(void)state;
	struct kit *k = begin("", all);
	(void)report(k, &ann, "m1");
	(void)report(k, &ann, "d1");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		kit_expect_http(as(k, table[i].who, table[i].path, NULL), table[i].status, table[i].part);
	}
	snprintf(path, sizeof(path), "/api/reports?after=%0250d", 1);
	kit_expect_http(as(k, &keeper, path, NULL), 400, "BAD_CURSOR");
	kit_expect_http(kit_http(k, "GET", "/api/reports", NULL, NULL), 401, "");
	kit_store_fail(-EIO);
	kit_expect_http(as(k, &mod, "/api/reports?roomId=lobby", NULL), 503, "UNAVAILABLE");
	kit_expect_http(as(k, &keeper, "/api/reports", NULL), 503, "UNAVAILABLE");
	kit_store_fail(0);
	end(k);
}

/* The store cuts a list at 4 MiB: few need not be all. */
static void large_reports_are_not_taken_for_the_last(void **state)
{
	static char value[60000];
	char key[40];
	(void)state;
	struct kit *k = begin("", all);
	memset(value, 'a', sizeof(value) - 1);
	memcpy(value, "{\"x\":\"", 6);
	memcpy(value + sizeof(value) - 3, "\"}", 2);
	for (int i = 0; i < 60; i++) {
		snprintf(key, sizeof(key), "lobby.m%02d.ann", i);
		kit_store_put(OPEN, key, value);
	}
	struct kit_req *r = as(k, &keeper, "/api/reports?limit=200", NULL);
	kit_expect_http(r, 200, "\"after\":\"lobby.m59.ann\"");
	end(k);
}

static void nobody_decides_about_oneself(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	say("m3", "lobby", "mod", "{}");
	(void)report(k, &ann, "m3");
	kit_expect_http(as(k, &mod, "/api/reports?roomId=lobby", NULL), 200, "\"reports\":[],");
	kit_expect_http(as(k, &mod, "/api/reports/lobby.m3.ann/dismiss", "{}"), 404, "NOT_FOUND");
	kit_expect_http(as(k, &keeper, "/api/reports/lobby.m3.ann/dismiss", "{}"), 200, NULL);
	end(k);
}

static void what_was_decided_is_done_in_its_order(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	(void)report(k, &ann, "m1");
	kit_expect_http(as(k, &mod, RESOLVE,
							"{\"actions\":[\"ban\",\"delete\",\"kick\",\"mute\",\"ban\"],"
							"\"seconds\":600,\"comment\":\"first time\"}"),
			200,
			"\"message\":{\"id\":\"m1\",\"content\":\"rude\"},\"status\":\"resolved\","
			"\"actions\":[\"delete\",\"mute\",\"kick\",\"ban\"],\"closedBy\":\"mod\",\"closedAt\":");
	assert_string_equal(power.did,
			"delete m1 over 0; mute bob in lobby for 600 over 0; kick bob in lobby for 600 over 0; "
			"ban bob in lobby for 600 over 0; ");
	assert_string_equal(
			power.noted, "report.resolve mod bob lobby report lobby.m1.ann: delete mute kick ban");
	assert_null(kit_store_value(OPEN, "lobby.m1.ann"));
	assert_non_null(strstr(kit_store_value(CLOSED, "lobby.m1.ann"), "\"comment\":\"first time\"}"));
	kit_expect_http(as(k, &mod, RESOLVE, "{}"), 404, "no such open report");
	/* A moderator of the server does so in the name of the room, and may do more. */
	power.did[0] = '\0';
	(void)report(k, &carol, "m1");
	kit_expect_http(as(k, &keeper, "/api/reports/lobby.m1.carol/resolve",
							"{\"actions\":[\"ban-account\",\"mute\"]}"),
			200, "\"actions\":[\"mute\",\"ban-account\"]");
	assert_string_equal(
			power.did, "mute bob in lobby for -1 over 1; ban-account bob for -1: spam; ");
	(void)report(k, &ann, "d1");
	kit_expect_http(as(k, &keeper, "/api/reports/.d1.ann/dismiss", ""), 200, "\"actions\":[]");
	assert_string_equal(power.noted, "report.dismiss keeper bob  report .d1.ann:");
	end(k);
}

static void decisions_that_are_none(void **state)
{
	static const struct {
		const struct call *who;
		const char *path, *body;
		int32_t status;
		const char *part;
	} table[] = {
		{ &mod, RESOLVE, "{\"actions\":[\"applaud\"]}", 422, "there are delete, mute, kick, ban" },
		{ &mod, RESOLVE, "{\"actions\":[1]}", 422, "there are delete, mute, kick, ban" },
		{ &mod, RESOLVE, "{\"actions\":\"ban\"}", 422, "actions must be a list" },
		{ &mod, RESOLVE, "{\"seconds\":0}", 422, "seconds must be 1 to 316224000" },
		{ &mod, RESOLVE, "{\"seconds\":316224001}", 422, "seconds must be 1 to 316224000" },
		{ &mod, RESOLVE, "{", 400, "not JSON" },
		{ &mod, RESOLVE, "{\"actions\":[\"ban-account\"]}", 403, "only moderators of the server" },
		{ &ann, RESOLVE, "{}", 403, "only moderators of the room" },
		{ &ann, DISMISS, "{}", 403, "only moderators of the room" },
		{ &keeper, "/api/reports/.d1.ann/resolve", "{\"actions\":[\"kick\"]}", 422,
				"are for messages of a room" },
		{ &mod, "/api/reports/.d1.ann/dismiss", "{}", 403, "moderators of the server" },
		{ &keeper, "/api/reports/attic.m1.ann/dismiss", "{}", 404, "no such open report" },
		{ &mod, "/api/reports/lobby.m1/dismiss", "{}", 404, "no such open report" },
		{ &mod, "/api/reports/lobby/dismiss", "{}", 404, "no such open report" },
		{ &mod, "/api/reports/lobby.m1.ann.x/dismiss", "{}", 404, "no such open report" },
		{ &mod, "/api/reports/lob+by.m1.ann/dismiss", "{}", 404, "no such open report" },
		{ &mod, "/api/reports/lobby..ann/dismiss", "{}", 404, "no such open report" },
		{ &mod, "/api/reports/lobby.m1./dismiss", "{}", 404, "no such open report" },
	};
	char longer[2200];
	(void)state;
	struct kit *k = begin("", all);
	(void)report(k, &ann, "m1");
	(void)report(k, &ann, "d1");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		kit_expect_http(
				as(k, table[i].who, table[i].path, table[i].body), table[i].status, table[i].part);
	}
	snprintf(longer, sizeof(longer), "{\"comment\":\"%02001d\"}", 1);
	kit_expect_http(as(k, &mod, RESOLVE, longer), 422, "comment has at most 2000 bytes");
	assert_int_equal(kit_store_count(OPEN), 2);
	assert_string_equal(power.did, "");
	end(k);
}

static void what_fails_leaves_the_report_open(void **state)
{
	static const struct {
		const char *code;
		int32_t status;
	} no[] = { { "FORBIDDEN", 403 }, { "NOT_FOUND", 404 }, { "STORE_BUSY", 503 },
		{ "STORE_FULL", 503 }, { "UNAVAILABLE", 503 } };
	(void)state;
	struct kit *k = begin("", all);
	(void)report(k, &ann, "m1");
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		power.code = no[i].code;
		kit_expect_http(as(k, &mod, RESOLVE, "{\"actions\":[\"ban\"]}"), no[i].status, no[i].code);
	}
	power.refuse = -EAGAIN;
	kit_expect_http(as(k, &mod, RESOLVE, "{\"actions\":[\"delete\"]}"), 503, "STORE_BUSY");
	power.refuse = 0;
	assert_int_equal(kit_store_count(OPEN), 1);
	assert_int_equal(kit_store_count(CLOSED), 0);
	assert_string_equal(power.noted, "");
	power.code = "NOT_FOUND"; /* somebody else has deleted it */
	kit_expect_http(as(k, &mod, RESOLVE, "{\"actions\":[\"delete\"]}"), 200, "resolved");
	end(k);
	k = begin("", few);
	(void)report(k, &ann, "m1");
	static const char *const acts[] = { "delete", "mute", "ban-account" };
	for (size_t i = 0; i < 3; i++) {
		char body[60];
		snprintf(body, sizeof(body), "{\"actions\":[\"%s\"]}", acts[i]);
		kit_expect_http(as(k, &keeper, RESOLVE, body), 501, "this server has no plugin for that");
	}
	kit_expect_http(as(k, &keeper, RESOLVE, "{}"), 200, NULL); /* nobody keeps who did it */
	end(k);
}

/* It was closed, and then the store could not take it from the open ones. */
static void half_a_closing_is_put_right(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	(void)report(k, &ann, "m1");
	kit_store_put(CLOSED, "lobby.m1.ann", "{\"status\":\"dismissed\"}");
	kit_expect_http(as(k, &mod, RESOLVE, "{}"), 200, NULL);
	assert_int_equal(kit_store_count(OPEN), 0);
	assert_string_equal(kit_store_value(CLOSED, "lobby.m1.ann"), "{\"status\":\"dismissed\"}");
	end(k);
}

static void reports_are_kept_as_long_as_was_said(void **state)
{
	(void)state;
	struct kit *k = begin("retention: 2h", all);
	(void)report(k, &ann, "m1");
	kit_advance(k, 7000000);
	kit_expect_http(as(k, &mod, DISMISS, "{}"), 200, NULL);
	kit_advance(k, 7000000); /* again from when it was closed */
	kit_expect_http(
			as(k, &keeper, "/api/reports?status=closed", NULL), 200, "\"status\":\"dismissed\"");
	kit_advance(k, 200000);
	kit_expect_http(as(k, &keeper, "/api/reports?status=closed", NULL), 200, "{\"reports\":[]}");
	(void)report(k, &carol, "m1");
	kit_advance(k, 7200000);
	kit_expect_http(as(k, &keeper, "/api/reports", NULL), 200, "{\"reports\":[]}");
	end(k);
}

/* ---- late answers ------------------------------------------------------------------------------------------ */

/* The client leaves after n steps of the answer. */
static void leave_at(const struct call *who, const char *path, const char *body)
{
	for (int n = 0; n < 6; n++) {
		struct kit *k = begin("", all);
		(void)report(k, &carol, "m1");
		kit_manual(k, 1);
		struct kit_req *r = as(k, who, path, body);
		for (int i = 0; i < n; i++) {
			(void)kit_step(k, 0);
		}
		kit_http_gone(r);
		kit_manual(k, 0);
		end(k);
	}
}

static void a_client_that_leaves_takes_nothing_along(void **state)
{
	(void)state;
	leave_at(&ann, "/api/reports", "{\"messageId\":\"m1\",\"reason\":\"spam\"}");
	leave_at(&mod, "/api/reports?roomId=lobby&after=lobby", NULL);
	leave_at(&keeper, "/api/reports", NULL);
	leave_at(&mod, "/api/reports/lobby.m1.carol/resolve", "{\"actions\":[\"delete\",\"mute\"]}");
	leave_at(&mod, "/api/reports/lobby.m1.carol/dismiss", "{}");
}

static void on_late(void *arg)
{
	on_power(arg);
}

static void an_action_that_takes_long_is_waited_for(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	(void)report(k, &ann, "m1");
	power.hold = 1;
	struct kit_req *r = as(k, &mod, RESOLVE, "{\"actions\":[\"mute\"]}");
	kit_advance(k, 60000);
	assert_int_equal(kit_http_status(r), 0);
	kit_http_gone(r);
	kit_on(k, 0, on_late, NULL);
	assert_int_equal(kit_store_count(CLOSED), 1); /* it was done, so it is kept */
	end(k);
}

/* The server stops. */
static void the_store_never_answers(void **state)
{
	(void)state;
	struct kit *k = begin("", all);
	kit_store_hold(1);
	struct kit_req *r[] = { report(k, &ann, "m1"), as(k, &keeper, "/api/reports", NULL),
		as(k, &mod, DISMISS, "{}") };
	assert_int_equal(kit_store_held(), 3);
	kit_store_fail(-ESHUTDOWN);
	kit_store_hold(0);
	for (size_t i = 0; i < 3; i++) {
		kit_expect_http(r[i], 503, "UNAVAILABLE");
	}
	end(k);
}

/* ---- reports by a plugin --------------------------------------------------------------------------------------- */

static void on_find(void *arg)
{
	const struct chatd_report r = { .struct_size = sizeof(r),
		.message = text(arg),
		.by = CHATD_LIT("word-filter"),
		.reason = CHATD_LIT("words"),
		.note = CHATD_LIT("2") };
	struct chatd_service s = kit_provided(power.k, CHATD_REPORTS);
	if (s.vt) {
		((const struct chatd_reports *)s.vt)->report(s.obj, kit_worker(power.k, 0), &r);
	}
}

static void a_plugin_reports_what_it_finds(void **state)
{
	static char m1[] = "m1", none[] = "none";
	(void)state;
	struct kit *k = begin("", all);
	kit_on(k, 0, on_find, m1);
	kit_on(k, 0, on_find, m1); /* once */
	assert_int_equal(kit_store_count(OPEN), 1);
	const char *kept = kit_store_value(OPEN, "lobby.m1.word-filter");
	assert_non_null(
			strstr(kept, "\"reporter\":\"word-filter\",\"reason\":\"words\",\"note\":\"2\""));
	kit_on(k, 0, on_find, none);
	kit_expect_logged(k, "message none, which word-filter has found, could not be reported");
	assert_string_equal(limits.asked, ""); /* a program is not limited */
	end(k);
}

/* ---- without memory ------------------------------------------------------------------------------------------------ */

static void day(void)
{
	static char m1[] = "m1";
	struct kit *k = begin("", all);
	struct kit_req *r[6];
	r[0] = report(k, &ann, "m1");
	r[1] = as(k, &mod, "/api/reports?roomId=lobby", NULL);
	r[2] = as(k, &keeper, "/api/reports", NULL);
	r[3] = as(k, &mod, RESOLVE, "{\"actions\":[\"delete\",\"kick\"],\"comment\":\"x\"}");
	r[4] = report(k, &carol, "m1");
	r[5] = as(k, &keeper, "/api/reports/lobby.m1.carol/resolve", "{\"actions\":[\"ban-account\"]}");
	kit_on(k, 0, on_find, m1);
	for (size_t i = 0; i < 6; i++) {
		assert_true(kit_http_status(r[i]) != 0);
	}
	end(k);
}

static void no_memory_leaks_and_breaks_nothing(void **state)
{
	(void)state;
	kit_sweep(day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(a_message_is_reported_once_by_each),
		cmocka_unit_test(what_cannot_be_reported),
		cmocka_unit_test(nobody_reports_without_measure),
		cmocka_unit_test(a_closed_report_is_not_made_again),
		cmocka_unit_test(a_large_message_is_kept_in_part),
		cmocka_unit_test(who_may_see_reports),
		cmocka_unit_test(large_reports_are_not_taken_for_the_last),
		cmocka_unit_test(nobody_decides_about_oneself),
		cmocka_unit_test(what_was_decided_is_done_in_its_order),
		cmocka_unit_test(decisions_that_are_none),
		cmocka_unit_test(what_fails_leaves_the_report_open),
		cmocka_unit_test(half_a_closing_is_put_right),
		cmocka_unit_test(reports_are_kept_as_long_as_was_said),
		cmocka_unit_test(a_client_that_leaves_takes_nothing_along),
		cmocka_unit_test(an_action_that_takes_long_is_waited_for),
		cmocka_unit_test(the_store_never_answers),
		cmocka_unit_test(a_plugin_reports_what_it_finds),
		cmocka_unit_test(no_memory_leaks_and_breaks_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
