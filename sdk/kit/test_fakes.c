/* SPDX-License-Identifier: Apache-2.0 */
/* The fakes of services, and what a client that leaves and a server that stops are like, as a plugin
 * sees them. */
#include <chatd/kit.h>
#include <chatd/kit_fakes.h>
#include <chatd/kit_store.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct worker {
	int stopped;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct chatd_service *audit, *reports, *users, *log, *cluster, *privacy, *tokens, *stats,
			*rooms, *store;
	uint32_t counted;
	char *heard; /* what came last: of an event, a row or a block */
};

/* One message's question; it belongs to the answer. */
struct ask {
	const struct self *self;
	struct worker *mine;
	chatd_worker *w;
	chatd_token token;
};

static struct {
	int answers, after_stop, cancels;
	chatd_status rc;
	struct chatd_instance instance;
} seen; /* of the test at hand: each runs in a process of its own */

static struct chatd_str text(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static int is(struct chatd_str a, const char *b)
{
	return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

static void hear(struct self *self, struct chatd_str what)
{
	char *copy = malloc(what.n + 1);
	if (copy) {
		memcpy(copy, what.p, what.n);
		copy[what.n] = '\0';
	}
	free(self->heard);
	self->heard = copy;
}

/* ---- what it asks ------------------------------------------------------------------ */

static void resume(struct ask *a, chatd_status rc)
{
	const struct chatd_host *h = a->self->h;
	seen.answers++;
	seen.rc = rc;
	seen.after_stop += a->mine->stopped;
	(void)h->resume(a->token, rc < 0 ? rc : CHATD_ACCEPT, NULL, NULL);
	h->mem_free(a);
}

static void on_done(void *arg, const char *code, const char *why)
{
	(void)why;
	resume(arg, code ? -EIO : 0);
}

static void on_sent(void *arg, chatd_status rc)
{
	resume(arg, rc);
}

static void on_stats(void *arg, const struct chatd_stat *stats, size_t n)
{
	resume(arg, n == 1 && stats[0].value == 3 ? 0 : -EIO);
}

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	(void)a;
	resume(arg, rc);
}

static void on_cancel(void *arg)
{
	(void)arg;
	seen.cancels++;
}

static chatd_status send_event(struct ask *a)
{
	const struct chatd_cluster *vt = a->self->cluster->vt;
	const struct chatd_cluster_event e = { .struct_size = sizeof(e),
		.to = CHATD_CLUSTER_ALL,
		.kind = CHATD_LIT("all.hear"),
		.body = CHATD_LIT("hello nodes") };
	return vt->send(a->self->cluster->obj, a->w, &e, on_sent, a);
}

static chatd_status ban(struct ask *a)
{
	const struct chatd_users *vt = a->self->users->vt;
	const struct chatd_users_ban b = { .struct_size = sizeof(b),
		.user = CHATD_LIT("eve"),
		.seconds = -1,
		.reason = CHATD_LIT("spam, again") };
	return vt->ban(a->self->users->obj, a->w, &b, on_done, a);
}

static chatd_status remove_message(struct ask *a)
{
	const struct chatd_log *vt = a->self->log->vt;
	const struct chatd_log_remove r = {
		.struct_size = sizeof(r), .message = CHATD_LIT("m-1"), .over = 1
	};
	return vt->remove(a->self->log->obj, a->w, &r, on_done, a);
}

static chatd_status collect(struct ask *a)
{
	const struct chatd_stats *vt = a->self->stats->vt;
	vt->add(a->self->stats->obj, a->w, a->self->counted, 3);
	return vt->collect(a->self->stats->obj, a->w, on_stats, a);
}

static chatd_status put(struct ask *a)
{
	const struct chatd_store *vt = a->self->store->vt;
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_ANY,
		.space = CHATD_LIT("all"),
		.key = CHATD_LIT("k"),
		.value = CHATD_LIT("v") };
	return vt->record_put(a->self->store->obj, a->w, &r, on_put, a);
}

static chatd_verdict ask(chatd_call *c, const struct self *self, struct worker *mine)
{
	static const struct {
		const char *body;
		chatd_status (*fn)(struct ask *);
	} kinds[] = { { "event", send_event }, { "ban", ban }, { "remove", remove_message },
		{ "collect", collect }, { "put", put } };
	const struct chatd_host *h = self->h;
	struct ask *a = h->mem_alloc(sizeof(*a));
	if (!a) {
		return -ENOMEM;
	}
	*a = (struct ask){ .self = self, .mine = mine, .w = h->call_worker(c) };
	a->token = h->suspend(c, on_cancel, NULL);
	if (!a->token) {
		h->mem_free(a);
		return -EBUSY;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (is(h->msg_body(h->call_msg(c)), kinds[i].body)) {
			chatd_status rc = kinds[i].fn(a);
			if (rc < 0) {
				resume(a, rc);
			}
			return CHATD_WAIT;
		}
	}
	resume(a, -EINVAL);
	return CHATD_WAIT;
}

/* ---- what it tells, and looks up ----------------------------------------------------- */

static void tell(const struct self *self, chatd_worker *w)
{
	const struct chatd_reports *reports = self->reports->vt;
	const struct chatd_report r = { .struct_size = sizeof(r),
		.message = CHATD_LIT("m-1"),
		.by = CHATD_LIT("all"),
		.reason = CHATD_LIT("spam"),
		.note = CHATD_LIT("a word") };
	const struct chatd_audit_entry e = { .struct_size = sizeof(e),
		.action = CHATD_LIT("all.tell"),
		.target = CHATD_LIT("eve"),
		.detail = CHATD_LIT("for a test") };
	reports->report(self->reports->obj, w, &r);
	chatd_audit_note(self->audit, w, &e);
}

static chatd_verdict is_good(const struct self *self, struct chatd_str token)
{
	const struct chatd_tokens *vt = self->tokens->vt;
	char room[CHATD_TOKEN_MAX];
	struct chatd_claims c = { .struct_size = sizeof(c) };
	chatd_status rc = vt->verify(self->tokens->obj, CHATD_TOKEN_ACCESS, token, room, &c);
	if (rc < 0) {
		return rc == -EKEYEXPIRED ? CHATD_DROP : CHATD_REJECT;
	}
	return is(c.user, "ann") && is(c.roles, "one two") ? CHATD_ACCEPT : CHATD_REJECT;
}

static chatd_verdict on_in(chatd_call *c, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	chatd_msg *m = h->call_msg(c);
	chatd_worker *w = h->call_worker(c);
	if (is(h->msg_dest(m), "/topic/ask")) {
		return ask(c, self, wself);
	}
	if (is(h->msg_dest(m), "/topic/tell")) {
		tell(self, w);
	}
	if (is(h->msg_dest(m), "/topic/token")) {
		return is_good(self, h->msg_body(m));
	}
	if (is(h->msg_dest(m), "/topic/to") &&
			chatd_privacy_between(self->privacy, w, CHATD_LIT("ann"), h->msg_body(m))) {
		return h->reject(c, "BLOCKED", "one of you does not want it");
	}
	return CHATD_NEXT;
}

static void on_event(void *arg, chatd_worker *w, const struct chatd_cluster_event *e)
{
	(void)w;
	hear(arg, e->body);
}

static void on_row(void *arg, chatd_worker *w, const struct chatd_store_message *row)
{
	(void)w;
	hear(arg, row->body);
}

static void on_block(
		void *arg, chatd_worker *w, struct chatd_str who, struct chatd_str whom, int32_t on)
{
	(void)w;
	(void)who;
	hear(arg, on ? whom : CHATD_LIT("nobody"));
}

static void on_room(void *arg, chatd_worker *w, const struct chatd_room_event *e)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "%d %.*s %.*s", e->what, (int)e->room.n, e->room.p,
			(int)e->user.n, e->user.p ? e->user.p : "");
	(void)w;
	hear(arg, chatd_str_of(line, (size_t)n));
}

/* ---- life ------------------------------------------------------------------------------ */

static chatd_status listen(struct self *self)
{
	const struct chatd_cluster *cluster = self->cluster->vt;
	const struct chatd_log *log = self->log->vt;
	const struct chatd_privacy *privacy = self->privacy->vt;
	const struct chatd_stats *stats = self->stats->vt;
	const struct chatd_cluster_receiver r = {
		.struct_size = sizeof(r), .kind = "all.hear", .fn = on_event, .arg = self
	};
	const struct chatd_stat_def d = { .struct_size = sizeof(d),
		.kind = CHATD_STAT_COUNTER,
		.name = "all_messages",
		.help = "Messages." };
	chatd_status rc = cluster->receive(self->cluster->obj, &r);
	rc = rc < 0 ? rc : log->stored(self->log->obj, on_row, self);
	rc = rc < 0 ? rc : privacy->watch(self->privacy->obj, on_block, self);
	const struct chatd_rooms *rooms = self->rooms->vt;
	rc = rc < 0 ? rc : rooms->watch(self->rooms->obj, on_room, self);
	return rc < 0 ? rc : stats->define(self->stats->obj, self->ctx, &d, &self->counted);
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	(void)conf;
	if (!self) {
		return -ENOMEM;
	}
	self->h = h;
	self->ctx = ctx;
	self->audit = h->service(ctx, CHATD_AUDIT);
	self->reports = h->service(ctx, CHATD_REPORTS);
	self->users = h->service(ctx, CHATD_USERS);
	self->log = h->service(ctx, CHATD_LOG);
	self->cluster = h->service(ctx, CHATD_CLUSTER);
	self->privacy = h->service(ctx, CHATD_PRIVACY);
	self->tokens = h->service(ctx, CHATD_TOKENS);
	self->stats = h->service(ctx, CHATD_STATS);
	self->rooms = h->service(ctx, CHATD_ROOMS);
	self->store = h->service(ctx, CHATD_STORE);
	seen.instance.struct_size = sizeof(seen.instance);
	h->instance(ctx, &seen.instance);
	*ret_self = self;
	chatd_status rc = listen(self);
	return rc < 0 ? rc : h->hook(ctx, chatd_hook_message_in, CHATD_ORDER_CHECK, on_in);
}

static void worker_stop(void *self, chatd_worker *w, void *wself)
{
	struct worker *mine = wself;
	(void)self;
	(void)w;
	mine->stopped = 1;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	free(self->heard);
	self->h->mem_free(self);
}

static const char *const needs[] = { CHATD_AUDIT, CHATD_REPORTS, CHATD_USERS, CHATD_LOG,
	CHATD_CLUSTER, CHATD_PRIVACY, CHATD_TOKENS, CHATD_STATS, CHATD_STORE, CHATD_ROOMS, NULL };
static const struct chatd_plugin plugin = { CHATD_PLUGIN_HEADER, .name = "all", .version = "1",
	.summary = "asks everybody", .needs = needs, .worker_size = sizeof(struct worker), .init = init,
	.worker_stop = worker_stop, .fini = fini };

/* ---- tests ------------------------------------------------------------------------------ */

static const char *heard(struct kit *k)
{
	const struct self *self = k ? kit_self(k) : NULL;
	return self && self->heard ? self->heard : "";
}

static void who_is_told_something_notes_it(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_in(k, "ann", "/topic/tell", "x");
	kit_expect_accept(k);
	kit_expect_told(k, CHATD_AUDIT, "all.tell", "eve (for a test)");
	kit_expect_told(k, CHATD_REPORTS, "m-1", "spam (a word)");
	kit_expect_not_told(k, CHATD_REPORTS);
	kit_free(k);
}

static void who_is_asked_something_answers_later(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_hold(k, CHATD_USERS, 1);
	kit_in(k, "ann", "/topic/ask", "ban");
	kit_expect_waiting(k, 1);
	kit_answer(k, CHATD_USERS);
	kit_expect_accept(k);
	kit_expect_told(k, CHATD_USERS, "eve", "spam");
	kit_in(k, "ann", "/topic/ask", "remove");
	kit_expect_accept(k);
	kit_expect_told(k, CHATD_LOG, "m-1", "removed");
	kit_in(k, "ann", "/topic/ask", "event");
	kit_expect_accept(k);
	kit_expect_told(k, CHATD_CLUSTER, "all.hear", "hello nodes");
	kit_in(k, "ann", "/topic/ask", "put");
	kit_expect_accept(k);
	kit_expect(k, kit_store_count("all") == 1);
	kit_refuse(k, CHATD_CLUSTER, -EAGAIN);
	kit_in(k, "ann", "/topic/ask", "event");
	kit_expect_reject(k, "UNAVAILABLE", "busy");
	kit_free(k);
}

static void what_others_do_is_heard(void)
{
	const struct chatd_cluster_event e = {
		.struct_size = sizeof(e), .kind = CHATD_LIT("all.hear"), .body = CHATD_LIT("from afar")
	};
	const struct chatd_store_message row = { .struct_size = sizeof(row), .body = text("a row") };
	struct kit *k = kit_new(&plugin, "");
	kit_cluster_comes(k, &e);
	kit_expect(k, strcmp(heard(k), "from afar") == 0);
	kit_row(k, &row, 1);
	kit_expect(k, strcmp(heard(k), "a row") == 0);
	kit_block(k, "ann", "bob", 1);
	kit_expect(k, strcmp(heard(k), "bob") == 0);
	kit_in(k, "ann", "/topic/to", "bob");
	kit_expect_reject(k, "BLOCKED", NULL);
	kit_privacy_known(k, 0);
	kit_in(k, "ann", "/topic/to", "bob");
	kit_expect_accept(k); /* chatd_privacy_between(): what is not known hinders nobody */
	kit_privacy_known(k, 1);
	kit_block(k, "ann", "bob", 0);
	kit_in(k, "ann", "/topic/to", "bob");
	kit_expect_accept(k);
	kit_free(k);
}

static void what_happens_in_rooms_is_heard(void)
{
	static const struct {
		int32_t what;
		const char *user, *says;
	} steps[] = { { CHATD_ROOM_MADE, NULL, "1 den " }, { CHATD_ROOM_JOINED, "bob", "3 den bob" },
		{ CHATD_ROOM_LEFT, "bob", "4 den bob" }, { CHATD_ROOM_DELETED, "ann", "2 den ann" },
		{ CHATD_ROOM_LEFT, "bob", "2 den ann" /* who is in no room leaves none */ } };
	struct kit *k = kit_new(&plugin, "");
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		kit_room_event(k, steps[i].what, "den", steps[i].user);
		kit_expect(k, strcmp(heard(k), steps[i].says) == 0);
	}
	kit_free(k);
}

static void tokens_are_good_for_a_while(void)
{
	const struct chatd_claims c = { .struct_size = sizeof(c),
		.type = CHATD_TOKEN_ACCESS,
		.user = CHATD_LIT("ann"),
		.roles = CHATD_LIT("one two") };
	struct kit *k = kit_new(&plugin, "");
	const char *token = kit_token(k, &c);
	kit_in(k, "ann", "/topic/token", token);
	kit_expect_accept(k);
	kit_in(k, "ann", "/topic/token", "kit.token.7");
	kit_expect_reject(k, NULL, NULL);
	kit_advance(k, KIT_TOKEN_MS + 1000);
	kit_in(k, "ann", "/topic/token", token);
	kit_expect_drop(k);
	kit_free(k);
}

static void what_is_counted_is_summed(void)
{
	struct kit *k = kit_new(&plugin, "");
	kit_in(k, "ann", "/topic/ask", "collect");
	kit_expect_accept(k);
	kit_expect(k, kit_stat(k, "all_messages", NULL) == 3);
	kit_free(k);
}

/* Nothing is read of a session while its call is parked: neither the end of the connection. */
static void a_client_that_leaves_ends_no_call(void)
{
	seen.cancels = 0;
	struct kit *k = kit_new(&plugin, "");
	struct kit_client *ann = kit_open(k, "ann");
	kit_hold(k, CHATD_USERS, 1);
	kit_send(ann, "/topic/ask", "ban", (char *)NULL);
	kit_close(ann);
	kit_expect(k, kit_is_open(ann) && seen.cancels == 0);
	kit_answer(k, CHATD_USERS);
	kit_expect_accept(k);
	kit_expect(k, !kit_is_open(ann));
	kit_free(k);
}

static void a_session_that_ends_ends_its_call(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_client *ann = kit_open(k, "ann");
	seen.cancels = 0;
	kit_hold(k, CHATD_USERS, 1);
	kit_send(ann, "/topic/ask", "ban", (char *)NULL);
	kit_cut(ann);
	kit_expect(k, !kit_is_open(ann) && seen.cancels == 1);
	kit_answer(k, CHATD_USERS);
	kit_free(k);
}

/* As in the server: whom it asks stops after the plugin. */
static void what_is_open_is_answered_after_worker_stop(void)
{
	struct kit *k = kit_new(&plugin, "");
	struct kit_client *ann = kit_open(k, "ann");
	memset(&seen, 0, sizeof(seen));
	kit_hold(k, CHATD_USERS, 1);
	kit_send(ann, "/topic/ask", "ban", (char *)NULL);
	int asked = kit_held(k, CHATD_USERS) == 1 && !kit_failing(k);
	kit_cut(ann);
	kit_free(k);
	if (asked && (seen.answers != 1 || seen.after_stop != 1 || seen.rc != -EIO)) {
		abort();
	}
}

static void an_instance_knows_what_is_configured(void)
{
	struct kit *k = kit_new(&plugin, "timeout: 3s\non_error: continue");
	kit_expect(k,
			kit_failing(k) ||
					(strcmp(seen.instance.name, "all") == 0 && seen.instance.timeout == 3000 &&
							seen.instance.on_error == CHATD_ON_ERROR_CONTINUE));
	kit_free(k);
}

KIT_MAIN(KIT_TEST(who_is_told_something_notes_it), KIT_TEST(who_is_asked_something_answers_later),
		KIT_TEST(what_others_do_is_heard), KIT_TEST(what_happens_in_rooms_is_heard),
		KIT_TEST(tokens_are_good_for_a_while), KIT_TEST(what_is_counted_is_summed),
		KIT_TEST(a_client_that_leaves_ends_no_call), KIT_TEST(a_session_that_ends_ends_its_call),
		KIT_TEST_ONCE(what_is_open_is_answered_after_worker_stop),
		KIT_TEST(an_instance_knows_what_is_configured))
