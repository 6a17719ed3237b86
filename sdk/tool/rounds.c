/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the plugin in the kit's server, again and again, with a little of everything that may
 * come: clients, messages, requests, connections; whatever the kit objects to is a finding. */
#include "kit_impl.h"
#include "tool.h"

#include "base/str.h"
#include "chat/chat.h"
#include "conf/conf.h"

#include <chatd/fetch.h>
#include <chatd/kit_net.h>
#include <chatd/kit_store.h>
#include <chatd/limiter.h>
#include <chatd/mailer.h>

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS = 2, GROWTH = 8, SWEEP_STEPS = 2000, HOUR_MS = 3600 * 1000 };

static struct check *the_check; /* kit_sweep() and its like give their functions no argument */
static const char *the_options; /* that it is played with */
static int telling;             /* the round at hand is to say what none has reached */
static int quick;               /* no bodies of several kinds, for what is repeated very often */
static int keeps;               /* the store has what the round before has left: its own records */

static void on_death(const char *text)
{
	find(the_check, FINDING_ERROR, "%s", text);
	_exit(0);
}

static void on_step(const char *who, const char *what)
{
	step(the_check, who, what);
}

const char *unplayable(struct check *c)
{
	static const char *const also[] = { CHATD_STORE, CHATD_SESSIONS };
	const char *const *needs = c->module->plugin.needs;
	for (size_t i = 0; needs && needs[i]; i++) {
		int known = 0;
		for (size_t k = 0; k < KIT_SERVICES; k++) {
			known |= strcmp(kit_service_names[k], needs[i]) == 0;
		}
		for (size_t k = 0; k < sizeof(also) / sizeof(also[0]); k++) {
			known |= strcmp(also[k], needs[i]) == 0;
		}
		if (!known) {
			return needs[i];
		}
	}
	return NULL;
}

/* Who is there, in the store and beside it: ann owns the public room "den" and is in the private
 * "attic", bob is in both; "SPACE KEY VALUE" of --record. */
static void preset_store(const struct check *c)
{
	char space[64], key[260];
	kit_store_room("den");
	kit_store_room("attic");
	kit_store_member("den", "ann", CHATD_ROLE_OWNER);
	kit_store_member("den", "bob", CHATD_ROLE_MEMBER);
	kit_store_member("attic", "ann", CHATD_ROLE_MEMBER);
	kit_store_member("attic", "bob", CHATD_ROLE_OWNER);
	for (size_t i = 0; i < c->n_records; i++) {
		int n = 0;
		if (sscanf(c->records[i], "%63s %259s %n", space, key, &n) == 2) {
			kit_store_put(space, key, c->records[i] + n);
		}
	}
}

static void preset(struct kit *k)
{
	const struct chatd_account ann = { .id = CHATD_LIT("ann"), .nickname = CHATD_LIT("Ann") },
							   bob = { .id = CHATD_LIT("bob"), .nickname = CHATD_LIT("Bob") };
	kit_account(k, &ann);
	kit_account(k, &bob);
	kit_room(k, "den", "Den", 1);
	kit_room(k, "attic", "Attic", 0);
	kit_member(k, "den", "ann", CHATD_ROLE_OWNER);
	kit_member(k, "den", "bob", CHATD_ROLE_MEMBER);
	kit_member(k, "attic", "ann", CHATD_ROLE_MEMBER);
	kit_member(k, "attic", "bob", CHATD_ROLE_OWNER);
}

struct kit *play(const struct check *c, const char *options)
{
	static const struct kit_service services[] = { { CHATD_STORE, &kit_store_vt, NULL }, { 0 } };
	const struct kit_conf conf = { .workers = WORKERS, .services = services };
	if (!keeps) {
		kit_store_clear();
		preset_store(c);
	}
	struct kit *k = kit_new_with(&c->module->plugin, options, &conf);
	preset(k);
	return k;
}

/* ---- traffic ------------------------------------------------------------------------ */

static int64_t timeout_of(const struct kit *k)
{
	return (k->ctx.conf ? k->ctx.conf->timeout_ms : 0) + 1000;
}

/* What waits is given its time: at the deadline the server answers in the plugin's place. */
static int open_and_free(struct kit *k, const struct kit_client *c)
{
	if (k->n_tickets) {
		kit_advance(k, timeout_of(k));
	}
	return kit_is_open(c) && !k->n_tickets;
}

/* No service is slow here: who has not answered by now waits for somebody else, or has forgotten. */
static void expect_answer(struct kit *k, const char *dest)
{
	static int told;
	if (k->n_tickets && !told && !kit_failing(k)) {
		told = 1;
		find(the_check, FINDING_WARNING,
				"a message to %s was answered by its deadline alone: does every suspend() have its "
				"resume()?",
				dest);
	}
}

static void send(struct kit *k, struct kit_client *c, const char *dest, const char *body)
{
	if (open_and_free(k, c)) {
		doing(the_check, "a message to %s: %.80s", dest, body);
		kit_send(c, dest, body, (char *)NULL);
		expect_answer(k, dest);
	}
}

static void subscribe(struct kit *k, struct kit_client *c, const char *dest)
{
	if (open_and_free(k, c)) {
		doing(the_check, "a subscription to %s", dest);
		kit_subscribe(c, dest);
	}
}

/* What the rounds have come to: a part of the plugin that they have not reached is not checked. */
static struct {
	uint32_t hooks;        /* a bit each, by number: its hook waited */
	uint64_t apps, fared;  /* of the first 64 handlers: it waited; a call of a route succeeded */
	uint64_t took;         /* likewise: a message was not refused */
	char refused[64][120]; /* and what the last one that was heard */
} reached;

static void note_answer(const struct kit *k, size_t n)
{
	const struct kit_outcome *o = &k->last;
	if (n >= 64 || !o->answered) {
		return;
	}
	if (o->verdict >= 0 && o->verdict != CHATD_REJECT) {
		reached.took |= (uint64_t)1 << n;
	} else if (o->code) {
		snprintf(reached.refused[n], sizeof(reached.refused[n]), "%s: %s", o->code,
				o->why ? o->why : "");
	}
}

static void message_to_app(struct kit *k, struct kit_client *c, size_t n, const char *body)
{
	char dest[256];
	size_t before = k->app_waits;
	snprintf(dest, sizeof(dest), "/app/%s", k->chat->apps[n].name);
	send(k, c, dest, body);
	note_answer(k, n);
	if (k->app_waits > before && n < 64) {
		reached.apps |= (uint64_t)1 << n;
	}
}

/* What --message asks for: "DEST BODY". */
static void own_message(struct kit *k, struct kit_client *c, const char *message)
{
	static char dest[256];
	const char *blank = strchr(message, ' ');
	snprintf(dest, sizeof(dest), "%.*s", (int)(blank - message), message);
	if (strncmp(dest, "/app/", 5) == 0 && k->chat) {
		kit_app(k, dest + 5);
	}
	size_t before = k->app_waits;
	send(k, c, dest, blank + 1);
	for (size_t n = 0; k->chat && n < k->chat->n_apps && n < 64; n++) {
		if (strncmp(dest, "/app/", 5) == 0 && strcmp(k->chat->apps[n].name, dest + 5) == 0) {
			note_answer(k, n);
			reached.apps |= (uint64_t)(k->app_waits > before) << n;
		}
	}
}

static void messages(struct kit *k, struct kit_client *c)
{
	static char big[2001];
	static const char *const bodies[] = { "hello", "{\"roomId\":\"den\",\"content\":\"hi\"}", "",
		"{}", "{\"to\":\"bob\",\"text\":\"hi\"}", "bob", "[1", "\xec\x95\x88", big };
	memset(big, 'x', sizeof(big) - 1);
	for (size_t i = 0; i < (quick ? 2 : sizeof(bodies) / sizeof(bodies[0])); i++) {
		send(k, c, "/topic/check", bodies[i]);
		for (size_t n = 0; k->chat && n < k->chat->n_apps; n++) {
			message_to_app(k, c, n, bodies[i]);
		}
	}
	for (size_t i = 0; i < the_check->n_messages; i++) {
		own_message(k, c, the_check->messages[i]);
	}
}

/* What a parameter of a path may mean: somebody or something that is there. */
static const char *meant_by(const char *name, size_t n)
{
	static const char *const users[] = { "user", "userId", "who", "member" };
	static const char *const rooms[] = { "room", "roomId" };
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		if (strlen(users[i]) == n && strncmp(name, users[i], n) == 0) {
			return "bob";
		}
	}
	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		if (strlen(rooms[i]) == n && strncmp(name, rooms[i], n) == 0) {
			return "den";
		}
	}
	return "x";
}

/* "/api/x/{id}" with something in the place of each {parameter}. */
static void path_of(const char *pattern, char *ret, size_t room)
{
	size_t n = 0;
	while (*pattern && n + 2 < room) {
		const char *end = *pattern == '{' ? strchr(pattern, '}') : NULL;
		if (end) {
			n += (size_t)snprintf(
					ret + n, room - n, "%s", meant_by(pattern + 1, (size_t)(end - pattern - 1)));
			n = n < room ? n : room - 1;
			pattern = end + 1;
		} else {
			ret[n++] = *pattern++;
		}
	}
	ret[n] = '\0';
}

struct request {
	const char *method, *path, *body;
	int leaves; /* the client, a stranger, at once; else ann waits */
};

/* 1: it went well. */
static int one_request(struct kit *k, const struct request *q)
{
	doing(the_check, "%s %s%s", q->method, q->path, q->leaves ? ", whose client leaves" : "");
	struct kit_req *r = q->leaves
			? kit_http(k, q->method, q->path, q->body, (char *)NULL)
			: kit_http(k, q->method, q->path, q->body, "kit-user", "ann", (char *)NULL);
	if (q->leaves) {
		kit_http_gone(r);
		return 0;
	}
	if (kit_http_status(r) == 0) {
		kit_advance(k, timeout_of(k));
	}
	if (kit_http_status(r) == 0) {
		kit_advance(k, HOUR_MS);
	}
	if (kit_http_status(r) == 0 && !kit_failing(k)) {
		find(the_check, FINDING_ERROR, "%s %s was not answered within an hour", q->method, q->path);
		_exit(0);
	}
	int status = kit_http_status(r);
	kit_http_gone(r);
	return status >= 200 && status < 400;
}

enum { METHODS = 5, LAST = METHODS - 1 };
static const char *const methods[METHODS] = { "GET", "POST", "PUT", "PATCH", "DELETE" };

/* That a call went well, by the number of its route and method. */
static void note_fared(const struct kit *k, const struct kit_route *route, const char *method)
{
	size_t n = 0;
	for (const struct kit_route *r = k->routes; r; r = r->next) {
		for (size_t m = 0; m < METHODS; m++) {
			if (!(r->r.methods & (1u << m))) {
				continue;
			}
			if (r == route && strcmp(methods[m], method) == 0 && n < 64) {
				reached.fared |= (uint64_t)1 << n;
			}
			n++;
		}
	}
}

/* Each route by those of its methods that are among @p these. */
static void routes_by(struct kit *k, uint32_t these)
{
	char path[512];
	for (const struct kit_route *r = k->routes; r; r = r->next) {
		path_of(r->path, path, sizeof(path));
		for (size_t m = 0; m < METHODS; m++) {
			struct request q = { .method = methods[m], .path = path, .body = "{}" };
			if (!(r->r.methods & these & (1u << m))) {
				continue;
			}
			if (one_request(k, &q)) {
				note_fared(k, r, q.method);
			}
			q.leaves = 1;
			(void)one_request(k, &q);
		}
	}
}

/* What --call asks for: "METHOD PATH", or "METHOD PATH BODY". */
static void own_call(struct kit *k, const char *call)
{
	char method[8], path[512];
	int n = 0;
	if (sscanf(call, "%7s %511s%n", method, path, &n) != 2) {
		return; /* parse() has looked */
	}
	const struct request q = {
		.method = method, .path = path, .body = call[n] ? call + n + 1 : ""
	};
	if (one_request(k, &q)) {
		note_fared(k, k->routed, method);
	} else if (!k->routed && telling) {
		find(the_check, FINDING_WARNING, "--call: there is no route for %s %s", method, path);
	}
}

/* Deleting comes last: what is there must be there for the others. */
static void requests(struct kit *k)
{
	for (size_t i = 0; i < the_check->n_calls; i++) {
		own_call(k, the_check->calls[i]);
	}
	routes_by(k, (1u << LAST) - 1);
	routes_by(k, 1u << LAST);
}

static void connections(struct kit *k)
{
	if (!k->listeners) {
		return;
	}
	doing(the_check, "a connection that sends nonsense");
	struct kit_peer *a = kit_connect(k), *b = kit_connect_on(k, WORKERS - 1);
	if (kit_peer_is_open(a)) { /* it may let nobody in from there */
		kit_feed(a, "\n");
	}
	if (kit_peer_is_open(b)) {
		kit_feed(b, "GET / HTTP/1.1\r\n\r\n");
	}
	doing(the_check, "a connection that ends");
	kit_hang_up(a); /* the other one is there when the server stops */
}

/* Of a plugin without a service that answers later nobody expects that it waits. */
static int asks_others(void)
{
	static const char *const later[] = { CHATD_STORE, CHATD_PRESENCE, CHATD_ACCOUNTS, CHATD_ROOMS,
		CHATD_FETCH, CHATD_MAILER, CHATD_LIMITER };
	const struct chatd_plugin *p = &the_check->module->plugin;
	for (size_t i = 0; i < 2; i++) {
		const char *const *names = i ? p->wants : p->needs;
		for (; names && *names; names++) {
			for (size_t n = 0; n < sizeof(later) / sizeof(later[0]); n++) {
				if (strcmp(*names, later[n]) == 0) {
					return 1;
				}
			}
		}
	}
	return 0;
}

static void tell_hooks(const struct kit *k)
{
#define CHATD_X(num, name, kind, may_wait, at_end)                                            \
	if ((may_wait) && !(reached.hooks & 1u << (num)) &&                                       \
			chat_chain(k->chat, (num))->n > 1 + 2 * ((num) == chatd_hook_session_auth)) {     \
		find(the_check, FINDING_NOTE,                                                         \
				"not reached: the hook " #name " never waited; if it does, what comes after " \
				"the answer is not checked%s",                                                \
				(num) == chatd_hook_message_in                                                \
						? "; give a message with which it waits: --message 'DEST BODY'"       \
						: "");                                                                \
	}
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
}

/* Not one message was taken: what comes after that is not looked at here. */
static void tell_refused(const struct kit *k)
{
	for (size_t i = 0; k->chat && i < k->chat->n_apps && i < 64; i++) {
		if (!(reached.took & (uint64_t)1 << i) && *reached.refused[i]) {
			find(the_check, FINDING_NOTE,
					"/app/%s refused every message, the last one with %s; give one that it takes: "
					"--message '/app/%s BODY', and what it wants to find in the store: --record 'SPACE "
					"KEY VALUE'",
					k->chat->apps[i].name, reached.refused[i], k->chat->apps[i].name);
		}
	}
}

static void tell_unreached(const struct kit *k)
{
	size_t n = 0;
	tell_refused(k);
	if (k->chat && asks_others()) {
		tell_hooks(k);
		for (size_t i = 0; i < k->chat->n_apps && i < 64; i++) {
			if (!(reached.apps & (uint64_t)1 << i)) {
				find(the_check, FINDING_NOTE,
						"not reached: /app/%s never waited; if it does, what comes after the answer "
						"is not checked; give a message with which it waits: --message 'DEST BODY'",
						k->chat->apps[i].name);
			}
		}
	}
	for (const struct kit_route *r = k->routes; r; r = r->next) {
		for (size_t m = 0; m < METHODS; m++) {
			if ((r->r.methods & (1u << m)) && n++ < 64 &&
					!(reached.fared & (uint64_t)1 << (n - 1))) {
				find(the_check, FINDING_NOTE,
						"not reached: no call of %s %s succeeded, so what comes after its checks is "
						"not checked here; give one that does: --call '%s PATH%s'",
						methods[m], r->path, methods[m], m == 0 || m == LAST ? "" : " BODY");
			}
		}
	}
}

static void rooms(struct kit *k)
{
	static const int32_t what[] = { CHATD_ROOM_MADE, CHATD_ROOM_JOINED, CHATD_ROOM_LEFT,
		CHATD_ROOM_DELETED };
	doing(the_check, "a room that comes and goes");
	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		kit_room_event(k, what[i], "shed", what[i] == CHATD_ROOM_MADE ? "ann" : "bob");
	}
}

static void round_of(void)
{
	doing(the_check, "starting");
	struct kit *k = play(the_check, the_options);
	struct kit_client *ann = kit_open(k, "ann"), *bob = kit_open_on(k, WORKERS - 1, "bob", 0);
	kit_presence(k, "bob", 1);
	subscribe(k, ann, "/topic/check");
	subscribe(k, ann, "/user/queue/check");
	subscribe(k, bob, "/topic/check");
	messages(k, ann);
	send(k, bob, "/topic/check", "from another worker");
	requests(k);
	connections(k);
	rooms(k);
	doing(the_check, "a login with a wrong password");
	(void)kit_login(k, 0, CHATD_CRED_LOGIN, "eve", CHATD_CRED_PASSCODE, "wrong", (char *)NULL);
	kit_advance(k, timeout_of(k));
	if (open_and_free(k, ann)) {
		kit_unsubscribe(ann, "/topic/check");
		doing(the_check, "a client that leaves");
		kit_send(ann, "/topic/check", "and gone", (char *)NULL);
	}
	kit_cut(ann);
	kit_advance(k, timeout_of(k));
	reached.hooks |= k->hooks_waited;
	if (telling) {
		tell_unreached(k);
	}
	doing(the_check, "stopping");
	kit_free(k);
}

/* ---- stages -------------------------------------------------------------------------- */

static void not_played(struct check *c, const char *fmt, ...) CHATD_PRINTF(2, 3);
static void not_played(struct check *c, const char *fmt, ...)
{
	char text[4000];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->left->unplayed = 1;
	find(c, FINDING_NOTE, "not played: %s", text);
}

/* Those that were given; else the defaults, or what can be made up of the table. */
static int find_options(struct check *c)
{
	char *why = NULL, *text = NULL;
	if (c->options || !(why = kit_complaints_beside(&c->module->plugin, "")) || !*why) {
		the_options = c->options ? c->options : "";
	} else {
		free(why);
		why = NULL;
		text = make_up(c, &why);
		the_options = text; /* stays until the stage ends */
	}
	if (!the_options) {
		not_played(c,
				"it needs options, and none could be made up; give them with --options 'key: "
				"value'. The last try:\n%s",
				why ? why : "no memory");
	}
	free(why);
	return the_options ? 0 : -1;
}

static int good_options(struct check *c)
{
	if (find_options(c) < 0) {
		return 0;
	}
	char *text = kit_complaints_beside(&c->module->plugin, the_options);
	int good = text && !*text;
	if (!good) {
		find(c, FINDING_ERROR, "the options are refused:\n%s", text ? text : "no memory");
	}
	free(text);
	return good;
}

/* A plugin that does not start with what was made up may well start with what is true. */
static int starts(struct check *c)
{
	if (c->options || !*the_options) {
		return 1;
	}
	doing(c, "starting with the options\n%s", the_options);
	kit_may_fail(1);
	struct kit *k = play(c, the_options);
	int dead = k->dead;
	char said[1000];
	snprintf(said, sizeof(said), "%s", k->log ? k->log : "");
	kit_free(k);
	kit_may_fail(0);
	if (dead) {
		not_played(c,
				"it does not start with options that were made up; give others with --options "
				"'key: value'. Made up were:\n%sIt said:\n%s",
				the_options, said);
	}
	return !dead;
}

static int begin(struct check *c)
{
	const char *foreign;
	the_check = c;
	if (open_plugin(c) < 0) {
		return -1;
	}
	if ((foreign = unplayable(c))) {
		not_played(c, "it needs %s, of which there is no fake; try it in a server", foreign);
		return -1;
	}
	kit_on_death(on_death);
	kit_on_step(on_step);
	return good_options(c) && starts(c) ? 0 : -1;
}

static int count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;
	while (d && readdir(d)) {
		n++;
	}
	if (d) {
		closedir(d);
	}
	return n;
}

struct footprint {
	size_t bytes;
	int fds, threads;
};

static struct footprint footprint(void)
{
	kit_store_clear();
	return (struct footprint){ .bytes = mallinfo2().uordblks,
		.fds = count_entries("/proc/self/fd"),
		.threads = count_entries("/proc/self/task") };
}

static void play_rounds(long n)
{
	for (long i = 0; i < n; i++) {
		keeps = i % 2; /* every other one finds what the one before has left in the store */
		round_of();
	}
	keeps = 0;
}

/* What grows once, a cache say, is no leak: it must grow in both halves. */
static size_t growth(const struct footprint f[3], long n)
{
	size_t a = f[1].bytes > f[0].bytes ? f[1].bytes - f[0].bytes : 0;
	size_t b = f[2].bytes > f[1].bytes ? f[2].bytes - f[1].bytes : 0;
	return (a < b ? a : b) / (size_t)n;
}

void stage_rounds(struct check *c)
{
	struct footprint f[3];
	long warm = c->rounds / 5, half = (c->rounds - warm) / 2;
	if (begin(c) < 0) {
		return;
	}
	if (!c->options && *the_options) {
		find(c, FINDING_NOTE,
				"it is played with options that were made up; give better ones with "
				"--options 'key: value':\n%s",
				the_options);
	}
	(void)mallopt(M_MXFAST, 0); /* see without_cache() */
	play_rounds(warm);
	f[0] = footprint();
	play_rounds(half);
	f[1] = footprint();
	play_rounds(c->rounds - warm - half);
	f[2] = footprint();
	if (half > 0 && growth(f, half) >= GROWTH) {
		find(c, FINDING_ERROR,
				"memory grows by %zu bytes with every start and stop: something of malloc() is not "
				"freed",
				growth(f, half));
	}
	if (f[2].fds > f[1].fds && f[1].fds > f[0].fds) {
		find(c, FINDING_ERROR, "%d descriptors are left open after %ld starts and stops",
				f[2].fds - f[1].fds, c->rounds - warm - half);
	}
	if (c->rounds > 0) {
		telling = 1;
		round_of();
		tell_rivals(c, the_options);
	}
	if (f[2].threads > 3) { /* ".", ".." and this one */
		find(c, FINDING_ERROR, "%d threads go on after fini()", f[2].threads - 3);
	}
}

void stage_sweep(struct check *c)
{
	if (begin(c) < 0) {
		return;
	}
	quick = 1;
	for (long n = 1; n <= SWEEP_STEPS && kit_sweep_at(round_of, n); n++) {
	}
}

void stage_trouble(struct check *c)
{
	if (begin(c) == 0) {
		quick = 1;
		kit_trouble(round_of);
	}
}
