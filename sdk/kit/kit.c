/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a kit: options, start, the search for what is left over, the sweep. */
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "chat/msg.h"
#include "kit_impl.h"

#include <chatd/kit_store.h>
#include <chatd/store.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SUBSCRIPTIONS = 64, MAX_SUSPENDED = 64, SWEEP_MAX = 100000 };

/* resume() and server_id() are given no instance; one kit exists at a time. */
static struct {
	struct kit *kit;
	long fail_at; /* of the sweep; 0: no sweep */
	int injected; /* in the kit of this round */
	int trouble;  /* KIT_LATE ... with answer number .trouble_at, of .answers so far */
	long trouble_at, answers;
	int late; /* every request waits, and what the test expects is not asked */
	int may_fail, quiet;
	void (*on_death)(const char *text);
	void (*on_step)(const char *who, const char *what);
	const char *instance; /* its name in the configuration; NULL: the plugin's */
	int beside;           /* check() is told that what the plugin wants is there */
} the;

/* cmocka's, if the test is one of cmocka's: ends the test, not the process. */
extern void _fail(const char *file, int line) __attribute__((weak));
extern void cm_print_error(const char *format, ...) __attribute__((weak, format(printf, 1, 2)));

struct kit *kit_the(void)
{
	return the.kit;
}

int kit_muted(const struct kit *k)
{
	return k->injected;
}

int kit_failing(const struct kit *k)
{
	return k->injected;
}

void kit_on_death(void (*fn)(const char *text))
{
	the.on_death = fn;
}

void kit_on_step(void (*fn)(const char *who, const char *what))
{
	the.on_step = fn;
}

void kit_step_is(const char *who, const char *what)
{
	kit_crash_doing(who, what);
	if (the.on_step) {
		the.on_step(who, what);
	}
}

void kit_may_fail(int on)
{
	the.may_fail = on;
}

/* Of the failing call of a sweep, and where the rule was broken: the plugin's lines, and the test's. */
static void add_places(const struct kit *k, const struct kit_frames *here, char *text, size_t room)
{
	if (k && k->failed_at && k->injected) {
		(void)kit_frames_tell(kit_fault_frames(), "\n  the failing call: ", 1, text, room);
	}
	(void)kit_frames_tell(here, "\n  at ", 6, text, room);
}

static const char *trouble_name(int trouble)
{
	static const char *const names[] = { "", "fails", "comes late",
		"comes after the client has left", "comes when the service stops" };
	return names[trouble];
}

void kit_die(struct kit *k, const char *file, int line, const char *fmt, ...)
{
	char text[6000], test[PATH_MAX];
	struct kit_frames here;
	va_list ap;
	kit_frames_now(&here);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (k && k->failed_at) {
		size_t n = strlen(text);
		snprintf(text + n, sizeof(text) - n, " (in the sweep, call %ld of the host failing)",
				k->failed_at);
	}
	if (k && k->trouble) {
		size_t n = strlen(text);
		snprintf(text + n, sizeof(text) - n, " (answer %ld of a service %s)", the.trouble_at,
				trouble_name(k->trouble));
	}
	add_places(k, &here, text, sizeof(text));
	if (the.on_death) {
		the.on_death(text);
	}
	if (!file && kit_frames_first(&here, test, sizeof(test), &line)) {
		file = test;
	}
	file = file ? file : "kit";
	if (_fail && cm_print_error) {
		cm_print_error("%s:%d: %s\n", file, line, text);
		the.fail_at = 0;
		the.trouble = 0;
		_fail(file, line);
	}
	fprintf(stderr, "%s:%d: %s\n", file, line, text);
	abort();
}

int kit_fault(struct kit *k)
{
	if (k->registering == 2) { /* the kit itself is at it */
		return 0;
	}
	if (++k->calls != k->failed_at) {
		return 0;
	}
	kit_frames_now(kit_fault_frames());
	kit_crash_failing(k->failed_at);
	k->injected = 1;
	the.injected = 1;
	return 1;
}

int kit_trouble_now(struct kit *k)
{
	if (!the.trouble || ++the.answers != the.trouble_at) {
		return 0;
	}
	k->injected = 1; /* what the test expects is not what comes */
	k->trouble = the.trouble;
	return the.trouble;
}

char *kit_dup(struct chatd_str s)
{
	char *z = s.p ? str_dup(s) : NULL;
	if (s.p && !z) {
		kit_die(the.kit, __FILE__, __LINE__, "no memory for the test itself");
	}
	return z;
}

/* ---- options ---------------------------------------------------------------- */

void kit_instance_name(const char *name)
{
	the.instance = name;
}

/* The options as a whole configuration with this one plugin. */
static char *whole(const char *name, const char *yaml)
{
	char *out = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&out, &n);
	if (!f) {
		return NULL;
	}
	fprintf(f, "plugins:\n  %s:\n", the.instance ? the.instance : name);
	if (the.instance) { /* what the tool writes, or is given, in block style */
		fprintf(f, "    plugin: %s\n", name);
	}
	while (*yaml) {
		size_t len = strcspn(yaml, "\n");
		fprintf(f, "    %.*s\n", (int)len, yaml);
		yaml += len + (yaml[len] == '\n');
	}
	fclose(f);
	return out;
}

static void read_options(struct kit *k, const char *yaml)
{
	char *text = whole(k->plugin->name, yaml);
	k->conf = text ? conf_load_text("options", str_of(text), &k->diag) : NULL;
	free(text);
	if (!k->conf || conf_plan(k->conf, &k->diag) < 0) {
		return;
	}
	k->ctx.conf = conf_plugin_at(k->conf, 0);
	k->options = calloc(1, k->plugin->conf_size + 1);
	if (k->options && k->plugin->opts) {
		(void)conf_fill(k->conf, k->ctx.conf->node, k->plugin->name, k->plugin->opts,
				k->plugin->opt_size, k->options, &k->diag);
	}
	if (k->options && diag_count(&k->diag) == 0 && k->plugin->check) {
		k->checking = 1;
		kit_step_is("check()", "");
		chatd_status rc = k->plugin->check(&kit_table, &k->ctx, k->options);
		k->checking = 0;
		if ((rc < 0) != (diag_count(&k->diag) > 0) && !k->injected) {
			kit_broken(k, "check() answered %d after %zu complaints", rc, diag_count(&k->diag));
		}
	}
}

static char *complaints(const struct kit *k)
{
	char *out = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&out, &n);
	if (f) {
		diag_print(&k->diag, f);
		fclose(f);
	}
	return out;
}

static void free_options(struct kit *k)
{
	free(k->options);
	conf_free(k->conf);
	diag_finish(&k->diag);
}

static struct kit *blank(const struct chatd_plugin *plugin)
{
	struct kit *k = calloc(1, sizeof(*k));
	if (!k) {
		kit_die(NULL, __FILE__, __LINE__, "no memory for the test itself");
		return NULL;
	}
	if (the.kit) { /* a test that failed half-way must not make the next one fail */
		fputs("# kit: the last kit was not freed\n", stderr);
	}
	k->plugin = plugin;
	k->ctx.k = k;
	k->published_tail = &k->published;
	k->said_tail = &k->said;
	k->now = 1000;
	the.kit = k;
	map_init();
	return k;
}

int kit_beside(void)
{
	return the.beside;
}

char *kit_complaints_beside(const struct chatd_plugin *plugin, const char *yaml)
{
	the.beside = 1;
	char *out = kit_complaints(plugin, yaml);
	the.beside = 0;
	return out;
}

char *kit_complaints(const struct chatd_plugin *plugin, const char *yaml)
{
	struct kit *k = blank(plugin);
	read_options(k, yaml);
	char *out = complaints(k);
	free_options(k);
	the.kit = NULL;
	free(k);
	return out;
}

/* ---- starting ----------------------------------------------------------------- */

static void make_workers(struct kit *k, int32_t n)
{
	static const struct chat_conf conf = { .max_subscriptions = MAX_SUBSCRIPTIONS,
		.max_suspended = MAX_SUSPENDED,
		.soft_queue = KIT_QUEUE_SOFT };
	k->n_workers = n > 0 ? n : 1;
	k->loop.k = k;
	k->workers = calloc((size_t)k->n_workers, sizeof(*k->workers));
	k->wself = calloc((size_t)k->n_workers, sizeof(*k->wself));
	for (int32_t i = 0; k->workers && i < k->n_workers; i++) {
		k->workers[i].k = k;
		k->workers[i].index = i;
		k->workers[i].tail = &k->workers[i].head;
	}
	k->chat = k->workers && k->wself ? chat_create(&conf, &k->loop) : NULL;
	k->sessions = &chat_sessions_vt;
	for (int32_t i = 0; k->chat && i < k->n_workers; i++) {
		k->wself[i] = calloc(1, k->plugin->worker_size + 1);
		k->chat->workers[i].wself = &k->wself[i];
	}
	if (!k->chat || kit_fakes_init(k) < 0) {
		kit_die(k, __FILE__, __LINE__, "no memory for the test itself");
	}
	kit_services_init(k);
}

static void offer(struct kit *k, const struct kit_service *s)
{
	for (; s && s->name; s++) {
		struct kit_offered *o = calloc(1, sizeof(*o));
		if (o) {
			o->name = kit_dup(str_of(s->name));
			o->service = s->vt == KIT_FAKE ? kit_fake_of(k, s->name)
										   : (struct chatd_service){ s->vt, s->obj };
			o->next = k->offered;
			k->offered = o;
		}
	}
}

int kit_listed(const char *const *list, const char *what)
{
	while (list && *list && strcmp(*list, what) != 0) {
		list++;
	}
	return list && *list;
}

/* Whoever needs a store and is given none has the kit's, empty. */
static void offer_store(struct kit *k)
{
	static const struct kit_service store[] = { { CHATD_STORE, &kit_store_vt, NULL },
		{ NULL, NULL, NULL } };
	const struct kit_offered *o = k->offered;
	while (o && strcmp(o->name, CHATD_STORE) != 0) {
		o = o->next;
	}
	if (!o && kit_listed(k->plugin->needs, CHATD_STORE)) {
		kit_store_clear();
		offer(k, store);
	}
}

static void need_services(struct kit *k)
{
	for (size_t i = 0; k->plugin->needs && k->plugin->needs[i]; i++) {
		k->registering = 1;
		const struct chatd_service *s = kit_table.service(&k->ctx, k->plugin->needs[i]);
		k->registering = 0;
		if (!s || !s->vt) {
			kit_broken(k,
					"the plugin needs %s, of which the kit has no fake; give one with "
					"kit_new_with()",
					k->plugin->needs[i]);
		}
	}
}

/* What the kit registers for itself: hooks that make wait, a login for its clients, two prefixes. */
static void register_own(struct kit *k)
{
	static const struct chatd_dest_conf topic = { .struct_size = sizeof(topic),
		.kind = CHATD_DEST_TOPIC };
	static const struct chatd_dest_conf queue = { .struct_size = sizeof(queue),
		.kind = CHATD_DEST_QUEUE,
		.max_messages = 1000,
		.max_bytes = 1 << 20 };
	k->registering = 2;
	kit_late_init(k);
	(void)kit_table.hook(&k->ctx, chatd_hook_session_auth, INT32_MIN, kit_auth);
	(void)kit_table.hook(&k->ctx, chatd_hook_session_auth, INT32_MAX, kit_auth_guest);
	(void)kit_table.prefix(&k->ctx, "/topic/", &topic); /* -EEXIST: the plugin's own */
	(void)kit_table.prefix(&k->ctx, "/queue/", &queue);
	k->registering = 0;
}

/* Hooks are registered before init() has given its self. */
static void set_self(struct kit *k)
{
	for (int i = 0; i < chatd_hook_count; i++) {
		for (size_t n = 0; n < k->chat->chains[i].n; n++) {
			k->chat->chains[i].hooks[n].self = k->self;
		}
	}
	for (size_t i = 0; i < k->chat->n_apps; i++) {
		k->chat->apps[i].hook.self = k->self;
	}
}

static void start(struct kit *k)
{
	const struct chatd_plugin *p = k->plugin;
	k->registering = 1;
	kit_step_is("init()", "");
	chatd_status rc = p->init ? p->init(&kit_table, &k->ctx, k->options, &k->self) : 0;
	k->registering = 0;
	k->inited = rc == 0;
	if (rc == 0) {
		register_own(k);
		set_self(k);
		(void)chat_start(k->chat);
	}
	for (; rc == 0 && k->started < k->n_workers; k->started++) {
		k->here = &k->workers[k->started];
		kit_step_is("worker_start()", "");
		rc = p->worker_start ? p->worker_start(k->self, k->here, k->wself[k->started]) : 0;
		k->here = NULL;
	}
	if (rc < 0) {
		k->dead = 1;
		if (!k->injected && !the.may_fail) {
			kit_broken(k, "the plugin did not start: %d (%s)\n%s", rc, strerror(-rc),
					k->log ? k->log : "");
		}
	}
	kit_settle(k);
}

struct kit *kit_new_with(
		const struct chatd_plugin *plugin, const char *yaml, const struct kit_conf *conf)
{
	struct kit *k = blank(plugin);
	k->failed_at = the.fail_at;
	if (!getenv("KIT_LOG") && !the.quiet) {
		log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
		the.quiet = 1;
	}
	make_workers(k, conf ? conf->workers : 1);
	offer(k, conf ? conf->services : NULL);
	offer_store(k);
	read_options(k, yaml);
	if (diag_count(&k->diag) && !k->injected) {
		char *text = complaints(k);
		kit_broken(k, "the options are refused:\n%s", text ? text : "");
	}
	if (k->injected) {
		k->dead = 1;
		return k;
	}
	need_services(k);
	start(k);
	k->late = the.late;
	k->injected |= the.late;
	return k;
}

struct kit *kit_new(const struct chatd_plugin *plugin, const char *yaml)
{
	return kit_new_with(plugin, yaml, NULL);
}

/* ---- the end --------------------------------------------------------------------- */

static void stop_workers(struct kit *k)
{
	const struct chatd_plugin *p = k->plugin;
	k->stopping = CHATD_DRAINS;
	for (int32_t i = 0; i < k->started && p->drain; i++) {
		k->here = &k->workers[i];
		kit_step_is("drain()", "");
		p->drain(k->self, k->here, k->wself[i]);
		k->here = NULL;
	}
	k->manual = 0;
	k->hold_offload = 0;
	kit_run(k);
	kit_clients_close(k);
	kit_sockets_leave(k, CHATD_END_DRAIN);
	kit_net_leave(k, CHATD_END_DRAIN);
	kit_run(k);
	for (int32_t i = 0; i < k->n_workers; i++) {
		k->here = &k->workers[i];
		chat_worker_finish(&k->chat->workers[i]);
		if (p->worker_stop && i < k->started) {
			kit_step_is("worker_stop()", "");
			p->worker_stop(k->self, k->here, k->wself[i]);
		}
		k->here = NULL;
	}
	/* As in the server: whom the plugin asks stops after it, and answers then what is open. */
	kit_answers_flush(k);
	kit_run(k);
	if (p->busy && k->inited && p->busy(k->self)) {
		kit_broken(
				k, "busy() says 1 when all is over: a plugin that is turned off would never end");
	}
}

static void published_free(struct kit_published *p)
{
	while (p) {
		struct kit_published *next = p->next;
		free(p->user);
		msg_unref(p->msg);
		free(p);
		p = next;
	}
}

static void look_for_leaks(struct kit *k)
{
	size_t timers = kit_timers_left(k), watches = 0;
	char text[200];
	for (const struct chatd_watch *w = k->watches; w; w = w->next) {
		watches++;
	}
	if (k->allocs) {
		snprintf(text, sizeof(text), "%zu pieces of mem_alloc() are left, %zu bytes", k->allocs,
				k->bytes);
		kit_left(k, text);
	}
	if (k->msgs || k->idents || k->bufs) {
		snprintf(text, sizeof(text),
				"references are left: %ld to messages, %ld to identities, %ld to buffers", k->msgs,
				k->idents, k->bufs);
		kit_left(k, text);
	}
	if (watches || timers) {
		snprintf(text, sizeof(text), "%zu watches and %zu timers are left", watches, timers);
		kit_left(k, text);
	}
	kit_left_finish(k);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static void offered_free(struct kit_offered *o)
{
	while (o) {
		struct kit_offered *next = o->next;
		free(o->name);
		free(o);
		o = next;
	}
}

static void expect_answered(struct kit *k)
{
	if (k->n_tickets && !k->injected) {
		kit_broken(k,
				"%zu requests were never answered: answer them, cut their clients off or let "
				"the deadline pass",
				k->n_tickets);
	}
}

void kit_free(struct kit *k)
{
	kit_answers_late(k);
	expect_answered(k);
	kit_http_leave(k);
	stop_workers(k);
	/* Also after an init() that failed, if it left something behind. */
	if (k->plugin->fini && (k->inited || k->self)) {
		kit_step_is("fini()", "");
		k->plugin->fini(k->self);
	}
	published_free(k->published);
	published_free(k->said);
	kit_clients_finish(k);
	kit_http_finish(k);
	kit_net_finish(k);
	kit_questions_finish(k);
	look_for_leaks(k);
	chat_destroy(k->chat);
	kit_loop_finish(k);
	kit_fakes_finish(k);
	kit_deeds_finish(k);
	kit_more_finish(k);
	kit_cipher_finish(k);
	kit_redis_finish(k);
	kit_plugins_finish(k);
	kit_sockets_finish(k);
	for (int32_t i = 0; i < k->n_workers; i++) {
		free(k->wself[i]);
	}
	free(k->wself);
	offered_free(k->offered);
	offered_free(k->given);
	free_options(k);
	if (k->dir) {
		(void)nftw(k->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	}
	free(k->dir);
	free(k->log);
	the.kit = NULL;
	free(k);
}

const char *kit_data_dir(struct kit *k)
{
	const char *tmp = getenv("TMPDIR");
	if (!k->dir) {
		char path[512];
		snprintf(path, sizeof(path), "%s/chatd-kit-XXXXXX", tmp ? tmp : "/tmp");
		if (!mkdtemp(path)) {
			kit_broken(k, "cannot make a folder in %s", tmp ? tmp : "/tmp");
		}
		k->dir = kit_dup(str_of(path));
	}
	return k->dir;
}

int kit_sweep_at(void (*test)(void), long at)
{
	the.fail_at = at;
	the.injected = 0;
	test();
	the.fail_at = 0;
	return the.injected;
}

void kit_sweep(void (*test)(void))
{
	for (long n = 1; kit_sweep_at(test, n); n++) {
		if (n == SWEEP_MAX) {
			kit_die(NULL, __FILE__, __LINE__, "the sweep does not end");
		}
	}
}

/* 0: the test asked fewer questions. */
static int trouble_once(void (*test)(void), int trouble, long at)
{
	the.trouble = trouble;
	the.trouble_at = at;
	the.answers = 0;
	test();
	the.trouble = 0;
	return the.answers >= at;
}

void kit_trouble(void (*test)(void))
{
	for (int trouble = KIT_FAILED; trouble <= KIT_NEVER; trouble++) {
		for (long n = 1; trouble_once(test, trouble, n); n++) {
			if (n == SWEEP_MAX) {
				kit_die(NULL, __FILE__, __LINE__, "the test never asks the same twice");
			}
		}
	}
	the.late = 1;
	test();
	the.late = 0;
}

chatd_status kit_reload(struct kit *k)
{
	const struct chatd_plugin *p = k->plugin;
	void *options = calloc(1, p->conf_size + 1);
	chatd_status rc = options && !k->dead ? conf_fill(k->conf, k->ctx.conf->node, p->name, p->opts,
													p->opt_size, options, &k->diag)
										  : -ENOMEM;
	rc = rc < 0 ? rc : p->reload(k->self, options);
	free(options);
	kit_settle(k);
	return rc;
}

const struct chatd_host *kit_host(struct kit *k)
{
	(void)k;
	return &kit_table;
}

chatd_worker *kit_worker(struct kit *k, int32_t i)
{
	return &k->workers[i];
}

void *kit_self(const struct kit *k)
{
	return k->dead ? NULL : k->self;
}

struct chatd_service kit_provided(struct kit *k, const char *interface)
{
	for (const struct kit_offered *o = k->given; o; o = o->next) {
		if (strcmp(o->name, interface) == 0) {
			return o->service;
		}
	}
	if (!k->injected) {
		kit_broken(k, "the plugin does not provide %s", interface);
	}
	return (struct chatd_service){ NULL, NULL };
}

void kit_on(struct kit *k, int32_t worker, void (*fn)(void *arg), void *arg)
{
	if (worker_post(&k->workers[worker], fn, arg) == 0) {
		kit_settle(k);
	}
}
