/* SPDX-License-Identifier: Apache-2.0 */
#include "slash.h"

#include <chatd/kit.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

extern const struct chatd_plugin chatd_plugin_under_test;

static void commands_are_told_from_other_text(void **state)
{
	static const struct {
		const char *content, *name, *rest; /* name NULL: no command */
	} all[] = {
		{ "/me waves", "me", "waves" },
		{ "/me", "me", "" },
		{ "/me  \n two  words \n", "me", "two  words" },
		{ "/a-1 x", "a-1", "x" },
		{ "/etc/passwd", NULL, NULL },
		{ "/ me", NULL, NULL },
		{ "/", NULL, NULL },
		{ "", NULL, NULL },
		{ "//me", NULL, NULL },
		{ "/Me", NULL, NULL },
		{ "/1x", NULL, NULL },
		{ " /me", NULL, NULL },
		{ "me", NULL, NULL },
		{ "/abcdefghijklmnopqrstuvwxyzabcdefg", NULL, NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct chatd_str name = { NULL, 0 }, rest = { NULL, 0 };
		int is = words_split(text(all[i].content), &name, &rest);
		assert_int_equal(is, all[i].name != NULL);
		assert_true(!is || chatd_str_same(name, text(all[i].name)));
		assert_true(!is || chatd_str_same(rest, text(all[i].rest)));
	}
}

static void what_they_say(void **state)
{
	struct chatd_json j;
	(void)state;
	chatd_json_init(&j, NULL, 0);
	assert_true(words_say(&j, CHATD_LIT("me"), CHATD_LIT("waves"), CHATD_LIT("Ann")));
	assert_true(chatd_str_same(chatd_json_str(&j), CHATD_LIT("_Ann waves_")));
	j.n = 0;
	assert_true(words_say(&j, CHATD_LIT("shrug"), CHATD_LIT("ok"), CHATD_LIT("Ann")));
	assert_true(chatd_str_same(
			chatd_json_str(&j), CHATD_LIT("ok \xc2\xaf\\_(\xe3\x83\x84)_/\xc2\xaf")));
	j.n = 0;
	assert_true(words_say(&j, CHATD_LIT("me"), CHATD_LIT(""), CHATD_LIT("Ann")));
	assert_int_equal(j.n, 0);
	assert_false(words_say(&j, CHATD_LIT("mee"), CHATD_LIT(""), CHATD_LIT("Ann")));
	chatd_json_free(&j);
}

static void mistakes_in_the_options_are_named(void **state)
{
#define COMMAND(name) \
	"commands:\n  - { name: " name ", url: \"http://x\", secret: 0123456789abcdef }"
	static const struct {
		const char *conf, *part;
	} wrong[] = {
		{ COMMAND("A b"), "cannot be a command" }, { COMMAND("shrug"), "already" },
		{ COMMAND("help"), "already" },
		{ COMMAND("a") "\n  - { name: a, url: \"http://x\", secret: 0123456789abcdef }",
				"already" },
		{ "commands:\n  - { name: a, url: x, secret: 0123456789abcdef }", "no http" },
		{ "commands:\n  - { name: a, url: \"http://x\", secret: short }", "openssl rand" },
		{ COMMAND("a"), "\"fetch: {}\"" }, /* which kit_complaints() has not */
	};
	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kit_expect_complaint(&chatd_plugin_under_test, wrong[i].conf, wrong[i].part);
	}
}

/* No handler is here: that one is asked at all shows that the hook let it pass. */
static void passes(struct kit *k)
{
	kit_expect_reject(k, "NOT_FOUND", "/app/chat.send");
}

static void commands_are_done(void **state)
{
	const struct kit_service none[] = { { CHATD_FETCH, NULL, NULL }, { NULL, NULL, NULL } };
	const struct kit_conf with = { .services = none };
	struct kit *k = kit_new_with(&chatd_plugin_under_test, "", &with);
	struct kit_client *c = kit_open(k, "ann");
	(void)state;
	kit_subscribe(c, "/user/queue/messages");
	kit_in(k, "ann", "/app/chat.send",
			"{\"to\":\"bob\",\"content\":\"/help\",\"clientId\":\"c1\"}");
	kit_expect_drop(k);
	kit_expect_delivery(c, "/user/queue/messages", "\"code\":\"COMMAND\",\"command\":\"help\"");
	kit_in(k, "ann", "/app/chat.send", "{\"receiverId\":\"bob\",\"content\":\"/help\"}");
	kit_expect_delivery(c, "/user/queue/messages", "\"receiver\":\"bob\"");
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/nothing\"}");
	kit_expect_reject(k, "UNKNOWN_COMMAND", "/help lists");
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/me\"}");
	kit_expect_reject(k, "VALIDATION", "write something");
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/me waves\"}");
	passes(k);
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"//me\"}");
	passes(k);
	kit_in(k, "ann", "/app/chat.send", "{\"to\":\"bob\",\"content\":\"/help\",\"encrypted\":true}");
	passes(k);
	kit_in(k, "ann", "/app/chat.send", "{\"content\":\"/");
	passes(k);
	kit_in(k, "ann", "/topic/x", "{\"content\":\"/help\"}");
	kit_expect_accept(k);
	kit_expect_quiet(c);
	struct kit_req *r = kit_http(k, "GET", "/api/chat/commands", NULL, "kit-user", "ann", NULL);
	kit_expect_http(r, 200, "{\"name\":\"shrug\",\"help\":\"[TEXT]: nobody knows\"}");
	kit_expect_http(kit_http(k, "GET", "/api/chat/commands", NULL, NULL), 401, "");
	kit_free(k);
}

/* ---- commands of another server ------------------------------------------------------------- */

static struct {
	struct kit *k;
	chatd_fetch_fn *fn; /* what is asked; NULL: nothing */
	void *arg;
	int asked;
	chatd_done *done; /* of the answer that is being said; NULL: none */
	void *done_arg;
	struct kit_client *c; /* ann's */
} other;

static chatd_status f_fetch(void *obj, chatd_worker *w, const struct chatd_fetch_request *r,
		chatd_fetch_fn *fn, void *arg)
{
	(void)obj;
	(void)w;
	(void)r;
	other.fn = fn;
	other.arg = arg;
	other.asked++;
	return 0;
}

static void s_input_as(void *obj, chatd_worker *w, const chatd_ident *who, chatd_msg *m,
		chatd_done *done, void *arg)
{
	(void)obj;
	(void)w;
	(void)who;
	(void)m;
	other.done = done;
	other.done_arg = arg;
}

static void on_word(void *word)
{
	const struct chatd_fetch_answer a = {
		.struct_size = sizeof(a), .status = 200, .body = text(word)
	};
	other.fn(other.arg, 0, &a);
	other.fn = NULL;
}

static void on_verdict(void *why)
{
	const struct chatd_outcome o = { .struct_size = sizeof(o),
		.verdict = why ? CHATD_REJECT : CHATD_ACCEPT,
		.code = "MUTED",
		.why = why ? text(why) : chatd_str_of(NULL, 0) };
	other.done(other.done_arg, &o);
	other.done = NULL;
}

static void says(const char *word)
{
	if (other.fn) {
		kit_on(other.k, 0, on_word, (void *)(uintptr_t)word);
	}
}

/* NULL: it was said. */
static void is_said(const char *why)
{
	if (other.done) {
		kit_on(other.k, 0, on_verdict, (void *)(uintptr_t)why);
	}
}

static const struct chatd_fetch fetch_vt = { .struct_size = sizeof(fetch_vt), .fetch = f_fetch };

/* Whoever it shall be: it is not looked at here. */
static const chatd_ident *s_make_ident(void *obj, const struct chatd_identity *who)
{
	const struct chatd_host *h = kit_host(other.k);
	(void)obj;
	(void)who;
	return h->ident_ref(h->session_ident(kit_session(other.c)));
}

static const struct chatd_sessions sessions_vt = {
	.struct_size = sizeof(sessions_vt), .make_ident = s_make_ident, .input_as = s_input_as
};

/* Ann is in r1, and bob is not. */
static struct kit *begin(void)
{
	static const struct kit_service services[] = { { CHATD_FETCH, &fetch_vt, NULL },
		{ CHATD_SESSIONS, &sessions_vt, NULL }, { NULL, NULL, NULL } };
	const struct kit_conf with = { .services = services };
	memset(&other, 0, sizeof(other));
	other.k = kit_new_with(&chatd_plugin_under_test, COMMAND("ask"), &with);
	kit_room(other.k, "r1", "Room", 0);
	kit_member(other.k, "r1", "ann", CHATD_ROLE_MEMBER);
	return other.k;
}

#define SEND "/app/chat.send"
#define ASK  "{\"roomId\":\"r1\",\"content\":\"/ask\",\"clientId\":\"c1\"}"

static void nobody_asks_for_a_room_that_they_are_not_in(void **state)
{
	(void)state;
	struct kit *k = begin();
	kit_in(k, "bob", SEND, ASK);
	kit_expect_reject(k, "NOT_MEMBER", "no such room");
	kit_in(k, "ann", SEND, "{\"roomId\":\"r2\",\"content\":\"/ask\"}");
	kit_expect_reject(k, "NOT_MEMBER", "no such room");
	kit_in(k, "ann", SEND, "{\"roomId\":\"no id\",\"content\":\"/ask\"}");
	kit_expect_reject(k, "NOT_MEMBER", "no such room");
	kit_refuse(k, CHATD_ROOMS, -EAGAIN);
	kit_in(k, "ann", SEND, ASK);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	kit_hold(k, CHATD_ROOMS, 1);
	kit_in(k, "ann", SEND, ASK);
	kit_answer_error(k, CHATD_ROOMS, -EIO);
	kit_expect_reject(k, "UNAVAILABLE", NULL);
	struct kit_client *c = kit_open_on(k, 0, "ann", 0);
	kit_send(c, SEND, ASK, NULL);
	kit_cut(c); /* while the room is looked up */
	kit_answer(k, CHATD_ROOMS);
	kit_hold(k, CHATD_ROOMS, 0);
	assert_int_equal(other.asked, 0);
	c = kit_open(k, "ann");
	kit_subscribe(c, "/user/queue/messages");
	kit_in(k, "ann", SEND, ASK);
	assert_true(kit_failing(k) || other.asked == 1);
	says("{\"text\":\"for you\"}");
	kit_expect_drop(k);
	kit_expect_delivery(c, "/user/queue/messages", "for you");
	kit_free(k);
}

/* Deciders, or the store, let it through only after the SEND has waited for as long as it may. */
static void an_answer_that_takes_long_is_not_denied(void **state)
{
	(void)state;
	struct kit *k = begin();
	struct kit_client *c = other.c = kit_open(k, "ann");
	kit_subscribe(c, "/user/queue/messages");
	for (int i = 0; i < 3; i++) {
		kit_in(k, "ann", SEND, ASK);
		kit_advance(k, 3000);
		says("{\"text\":\"to all\",\"response_type\":\"in_channel\"}");
		kit_expect_waiting(k, 1);
		if (i) {
			kit_advance(k, 1800);
			kit_expect_waiting(k, 0);
			kit_expect_drop(k);
		}
		is_said(i == 2 ? "you may not speak" : NULL);
		kit_expect_drop(k);
	}
	kit_expect_delivery(c, "/user/queue/messages", "could not be said: you may not speak");
	kit_expect_quiet(c);
	kit_in(k, "ann", SEND, ASK);
	says("{\"text\":\"to all\",\"response_type\":\"in_channel\"}");
	is_said("not now");
	kit_expect_reject(k, "FORBIDDEN", "could not be said: not now");
	kit_free(k);
}

static void sweep(void)
{
	commands_are_done(NULL);
	nobody_asks_for_a_room_that_they_are_not_in(NULL);
}

static void no_memory(void **state)
{
	(void)state;
	kit_sweep(sweep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_told_from_other_text),
		cmocka_unit_test(what_they_say),
		cmocka_unit_test(mistakes_in_the_options_are_named),
		cmocka_unit_test(commands_are_done),
		cmocka_unit_test(nobody_asks_for_a_room_that_they_are_not_in),
		cmocka_unit_test(an_answer_that_takes_long_is_not_denied),
		cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
