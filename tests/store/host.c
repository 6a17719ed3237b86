/* SPDX-License-Identifier: Apache-2.0 */
/* The mini server of the store tests; see host.h. */
#include "host.h"

#include <chatd/cipher.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

struct host_post {
	struct host_post *next;
	void (*fn)(void *arg);
	void *arg;
};

static struct {
	pthread_mutex_t lock;
	char log[65536];
	size_t n;
	atomic_llong wall;
	char dir[4096];
	char node[65];
	const char *cipher_so;
	const char *const *cipher_set;
	struct host *cipher_open; /* of the store that was opened last */
} the = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the table ----------------------------------------------------------------- */

CHATD_PRINTF(1, 0)
static void note(const char *fmt, va_list ap)
{
	pthread_mutex_lock(&the.lock);
	if (the.n < sizeof(the.log) - 512) {
		int n = vsnprintf(the.log + the.n, 500, fmt, ap);
		the.n += (size_t)(n < 0 ? 0 : n > 499 ? 499 : n);
		the.log[the.n++] = '\n';
		the.log[the.n] = '\0';
	}
	pthread_mutex_unlock(&the.lock);
}

CHATD_PRINTF(3, 4)
static void host_note(chatd_ctx *ctx, int32_t level, const char *fmt, ...)
{
	va_list ap;
	(void)ctx;
	(void)level;
	va_start(ap, fmt);
	note(fmt, ap);
	va_end(ap);
}

CHATD_PRINTF(3, 4)
static chatd_status host_fail(chatd_ctx *ctx, chatd_status err, const char *fmt, ...)
{
	va_list ap;
	(void)ctx;
	va_start(ap, fmt);
	note(fmt, ap);
	va_end(ap);
	return err;
}

static void *mem_alloc(size_t n)
{
	return calloc(1, n);
}

static chatd_status provide(chatd_ctx *ctx, const char *interface, const void *vt, void *obj)
{
	struct host *h = (struct host *)(void *)ctx;
	if (strcmp(interface, CHATD_CIPHER) == 0) {
		h->service = (struct chatd_service){ vt, obj };
		return 0;
	}
	if (strcmp(interface, CHATD_STORE) != 0) {
		return -EINVAL;
	}
	h->vt = vt;
	h->obj = obj;
	return 0;
}

static const struct chatd_service *service(chatd_ctx *ctx, const char *interface)
{
	struct host *h = (struct host *)(void *)ctx;
	return h->cipher && strcmp(interface, CHATD_CIPHER) == 0 ? &h->cipher->service : NULL;
}

static const char *data_dir(void)
{
	return the.dir;
}

static int64_t wall_ms(void)
{
	return host_wall();
}

static chatd_status post(chatd_worker *w, void (*fn)(void *arg), void *arg)
{
	struct host_post *p = calloc(1, sizeof(*p));
	if (!p) {
		return -ENOMEM;
	}
	p->fn = fn;
	p->arg = arg;
	pthread_mutex_lock(&w->lock);
	*w->last = p;
	w->last = &p->next;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static int32_t worker_count(void)
{
	return HOST_WORKERS;
}

static int32_t worker_index(const chatd_worker *w)
{
	return w->index;
}

static const char *server_id(void)
{
	return the.node;
}

static void random_bytes(void *p, size_t n)
{
	if (getrandom(p, n, 0) != (ssize_t)n) {
		abort();
	}
}

static const struct chatd_host table = {
	.struct_size = sizeof(table),
	.abi_minor = CHATD_ABI_MINOR,
	.log = host_note,
	.fail = host_fail,
	.mem_alloc = mem_alloc,
	.mem_free = free,
	.provide = provide,
	.service = service,
	.data_dir = data_dir,
	.wall_ms = wall_ms,
	.post = post,
	.random = random_bytes,
	.server_id = server_id,
	.worker_count = worker_count,
	.worker_index = worker_index,
};

void host_set_node(const char *id)
{
	snprintf(the.node, sizeof(the.node), "%s", id);
}

/* A copy, for the main thread: the store's go on writing. */
const char *host_log(void)
{
	static char copy[sizeof(the.log)];
	pthread_mutex_lock(&the.lock);
	memcpy(copy, the.log, the.n + 1);
	pthread_mutex_unlock(&the.lock);
	return copy;
}

void host_log_clear(void)
{
	pthread_mutex_lock(&the.lock);
	the.n = 0;
	the.log[0] = '\0';
	pthread_mutex_unlock(&the.lock);
}

void host_set_wall(int64_t ms)
{
	atomic_store(&the.wall, ms);
}

int64_t host_wall(void)
{
	int64_t fixed = atomic_load(&the.wall);
	struct timespec t;
	if (fixed) {
		return fixed;
	}
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- options --------------------------------------------------------------------- */

static int64_t number(const char *s)
{
	static const struct {
		const char *unit;
		int64_t n;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "KiB", 1 << 10 },
		{ "MiB", 1 << 20 }, { "GiB", 1 << 30 }, { "", 1 } };
	char *end;
	int64_t n = strtoll(s, &end, 10);
	while (*end == ' ') {
		end++;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) == 0) {
			return n * units[i].n;
		}
	}
	fprintf(stderr, "a value that the test host cannot read: %s\n", s);
	abort();
}

static void set_strings(char *at, const char *value)
{
	static const char *lists[8][2];
	static size_t n;
	const char *const *list = lists[n++ % 8];
	((const char **)(uintptr_t)list)[0] = strcmp(value, "[]") == 0 ? NULL : value;
	memcpy(at, &list, sizeof(list));
}

static void set_opt(void *conf, const struct chatd_opt *o, const char *value)
{
	char *at = (char *)conf + o->offset;
	int32_t small = 0;
	int64_t big;
	switch (o->type) {
	case CHATD_T_STRING:
		memcpy(at, &value, sizeof(value));
		break;
	case CHATD_T_STRINGS: /* one, or none */
		set_strings(at, value);
		break;
	case CHATD_T_CHOICE:
		while (o->choices[small] && strcmp(o->choices[small], value) != 0) {
			small++;
		}
		memcpy(at, &small, sizeof(small));
		break;
	case CHATD_T_BOOL:
		small = strcmp(value, "true") == 0;
		memcpy(at, &small, sizeof(small));
		break;
	default:
		big = number(value);
		memcpy(at, &big, sizeof(big));
		break;
	}
}

static void set_opts(struct host *h, const char *const *set)
{
	for (const struct chatd_opt *o = h->plugin->opts; o->key; o++) {
		if (o->fallback) {
			set_opt(h->conf, o, o->fallback);
		}
		for (size_t i = 0; set && set[i]; i++) {
			size_t n = strlen(o->key);
			if (strncmp(set[i], o->key, n) == 0 && set[i][n] == '=') {
				set_opt(h->conf, o, set[i] + n + 1);
			}
		}
	}
}

/* ---- life -------------------------------------------------------------------------- */

static struct host *open_plugin(const char *so, const char *const *set)
{
	struct host *h = calloc(1, sizeof(*h));
	void *lib = dlopen(so, RTLD_NOW | RTLD_LOCAL);
	h->plugin = lib ? dlsym(lib, "chatd_plugin_v1") : NULL;
	if (!h->plugin) {
		fprintf(stderr, "%s\n", dlerror());
		abort();
	}
	for (int i = 0; i < HOST_WORKERS; i++) {
		h->workers[i].index = i;
		pthread_mutex_init(&h->workers[i].lock, NULL);
		pthread_cond_init(&h->workers[i].more, NULL);
		h->workers[i].last = &h->workers[i].first;
	}
	h->conf = calloc(1, h->plugin->conf_size);
	set_opts(h, set);
	return h;
}

static void init_plugin(struct host *h)
{
	h->rc = h->plugin->init(&table, (chatd_ctx *)(void *)h, h->conf, &h->self);
}

/* ---- the cipher ------------------------------------------------------------------------ */

void host_cipher(const char *so, const char *const *set)
{
	the.cipher_so = so;
	the.cipher_set = set;
}

static struct host *open_cipher(void)
{
	static char keys[1024], search[16];
	static const char *const one[] = { keys, search, "pace=8000", NULL };
	const char *words = getenv("CHATD_TEST_SEARCH");
	snprintf(search, sizeof(search), "search=%s", words ? words : "words");
	const char *given = getenv("CHATD_TEST_KEYS");
	snprintf(keys, sizeof(keys), "keys=%s",
			given ? given : "one 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	const char *env = getenv("CHATD_TEST_CIPHER");
	const char *so = the.cipher_so ? the.cipher_so : env;
	if (!so || !*so) {
		return NULL;
	}
	struct host *h = open_plugin(so, the.cipher_so ? the.cipher_set : one);
	init_plugin(h);
	if (h->rc < 0) {
		fprintf(stderr, "%s", host_log());
		abort();
	}
	return h;
}

chatd_status host_cipher_reload(const char *keys)
{
	char conf[256] = "";
	struct host *h = the.cipher_open;
	memcpy(conf, h->conf, h->plugin->conf_size);
	memcpy(conf + h->plugin->opts[0].offset, &keys, sizeof(keys));
	return h->plugin->reload(h->self, conf);
}

/* ---- a store ----------------------------------------------------------------------------- */

struct host *host_open(const char *so, const char *dir, const char *const *set)
{
	snprintf(the.dir, sizeof(the.dir), "%s", dir);
	host_log_clear();
	struct host *h = open_plugin(so, set);
	h->cipher = the.cipher_open = open_cipher();
	init_plugin(h);
	return h;
}

void host_close(struct host *h)
{
	if (h->self) {
		h->plugin->fini(h->self);
	}
	for (int i = 0; i < HOST_WORKERS; i++) {
		while (host_turn(&h->workers[i], 0)) {
		}
	}
	if (h->cipher) {
		host_close(h->cipher);
	}
	free(h->conf);
	free(h);
}

int host_turn(struct chatd_worker *w, int ms)
{
	struct timespec end;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += ms / 1000;
	end.tv_nsec += ms % 1000 * 1000000L;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	pthread_mutex_lock(&w->lock);
	while (!w->first && ms > 0 && pthread_cond_timedwait(&w->more, &w->lock, &end) == 0) {
	}
	struct host_post *p = w->first;
	if (p) {
		w->first = p->next;
		w->last = w->first ? w->last : &w->first;
	}
	pthread_mutex_unlock(&w->lock);
	if (!p) {
		return 0;
	}
	p->fn(p->arg);
	free(p);
	return 1;
}

/* ---- answers that outlive their callback ---------------------------------------------- */

static struct memory {
	struct memory *next;
	char data[];
} * all_memory; /* of the test's main thread */

static void *hold(size_t n)
{
	struct memory *m = calloc(1, sizeof(*m) + n + 16);
	m->next = all_memory;
	all_memory = m;
	return (void *)(((uintptr_t)m->data + 15) & ~(uintptr_t)15);
}

static struct chatd_str hold_str(struct chatd_str s)
{
	if (!s.p) {
		return s;
	}
	char *p = hold(s.n + 1);
	memcpy(p, s.p, s.n);
	return chatd_str_of(p, s.n);
}

static void *hold_array(const void *p, size_t n, size_t size)
{
	void *copy = hold(n * size + 1);
	if (n) {
		memcpy(copy, p, n * size);
	}
	return copy;
}

/* Every text in a row of an answer is replaced by a copy. */
static void hold_conv(struct chatd_store_conv *c)
{
	c->room = hold_str(c->room);
	c->a = hold_str(c->a);
	c->b = hold_str(c->b);
}

static void hold_message(struct chatd_store_message *m)
{
	struct chatd_str *all[] = { &m->id, &m->sender, &m->client_id, &m->target, &m->reply_to,
		&m->thread, &m->body, &m->reactions };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		*all[i] = hold_str(*all[i]);
	}
	hold_conv(&m->conv);
}

static void hold_people(struct chatd_store_answer *to)
{
	struct chatd_account *a = hold_array(to->accounts, to->n_accounts, sizeof(*a));
	for (size_t i = 0; i < to->n_accounts; i++) {
		struct chatd_str *all[] = { &a[i].id, &a[i].nickname, &a[i].secret, &a[i].client,
			&a[i].email, &a[i].password, &a[i].roles, &a[i].avatar };
		for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
			*all[k] = hold_str(*all[k]);
		}
	}
	struct chatd_store_room *r = hold_array(to->rooms, to->n_rooms, sizeof(*r));
	for (size_t i = 0; i < to->n_rooms; i++) {
		r[i].id = hold_str(r[i].id);
		r[i].name = hold_str(r[i].name);
		r[i].about = hold_str(r[i].about);
	}
	struct chatd_store_member *m = hold_array(to->members, to->n_members, sizeof(*m));
	for (size_t i = 0; i < to->n_members; i++) {
		m[i].user = hold_str(m[i].user);
		m[i].nick = hold_str(m[i].nick);
	}
	struct chatd_store_cursor_row *c = hold_array(to->cursors, to->n_cursors, sizeof(*c));
	for (size_t i = 0; i < to->n_cursors; i++) {
		c[i].user = hold_str(c[i].user);
	}
	to->accounts = a;
	to->rooms = r;
	to->members = m;
	to->cursors = c;
}

static void hold_logins(struct chatd_store_answer *to)
{
	struct chatd_store_login *l = hold_array(to->logins, to->n_logins, sizeof(*l));
	for (size_t i = 0; i < to->n_logins; i++) {
		l[i].id = hold_str(l[i].id);
		l[i].user = hold_str(l[i].user);
		l[i].device = hold_str(l[i].device);
		l[i].refresh = hold_str(l[i].refresh);
	}
	struct chatd_store_secret *s = hold_array(to->secrets, to->n_secrets, sizeof(*s));
	for (size_t i = 0; i < to->n_secrets; i++) {
		s[i].hash = hold_str(s[i].hash);
		s[i].user = hold_str(s[i].user);
		s[i].data = hold_str(s[i].data);
	}
	to->logins = l;
	to->secrets = s;
}

static void hold_files(struct chatd_store_answer *to)
{
	struct chatd_store_file *f = hold_array(to->files, to->n_files, sizeof(*f));
	for (size_t i = 0; i < to->n_files; i++) {
		f[i].id = hold_str(f[i].id);
		f[i].owner = hold_str(f[i].owner);
		f[i].name = hold_str(f[i].name);
		f[i].hash = hold_str(f[i].hash);
		f[i].object = hold_str(f[i].object);
		f[i].type = hold_str(f[i].type);
		f[i].info = hold_str(f[i].info);
	}
	to->files = f;
}

static void hold_records(struct chatd_store_answer *to)
{
	struct chatd_store_record *r = hold_array(to->records, to->n_records, sizeof(*r));
	for (size_t i = 0; i < to->n_records; i++) {
		r[i].space = hold_str(r[i].space);
		r[i].key = hold_str(r[i].key);
		r[i].value = hold_str(r[i].value);
		r[i].owner = hold_str(r[i].owner);
	}
	to->records = r;
}

static void hold_rows(struct chatd_store_answer *to)
{
	struct chatd_store_message *m = hold_array(to->messages, to->n_messages, sizeof(*m));
	for (size_t i = 0; i < to->n_messages; i++) {
		hold_message(&m[i]);
	}
	struct chatd_store_conversation *c =
			hold_array(to->conversations, to->n_conversations, sizeof(*c));
	for (size_t i = 0; i < to->n_conversations; i++) {
		hold_conv(&c[i].conv);
		hold_message(&c[i].last);
		c[i].name = hold_str(c[i].name);
	}
	struct chatd_store_out_row *o = hold_array(to->outbox, to->n_outbox, sizeof(*o));
	for (size_t i = 0; i < to->n_outbox; i++) {
		o[i].route = hold_str(o[i].route);
		o[i].headers = hold_str(o[i].headers);
		o[i].body = hold_str(o[i].body);
		hold_message(&o[i].message);
	}
	struct chatd_store_changed_conv *g = hold_array(to->changed, to->n_changed, sizeof(*g));
	for (size_t i = 0; i < to->n_changed; i++) {
		hold_conv(&g[i].conv);
	}
	to->messages = m;
	to->conversations = c;
	to->outbox = o;
	to->changed = g;
}

void keep(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct kept *k = arg;
	if (k->done++) {
		fprintf(stderr, "answered twice\n");
		abort();
	}
	k->rc = rc;
	k->a = *a;
	k->a.id = hold_str(a->id);
	k->a.epoch = hold_str(a->epoch);
	k->a.successor = hold_str(a->successor);
	hold_conv(&k->a.conv);
	hold_people(&k->a);
	hold_rows(&k->a);
	hold_logins(&k->a);
	hold_files(&k->a);
	hold_records(&k->a);
}

void answers_free(void)
{
	while (all_memory) {
		struct memory *m = all_memory;
		all_memory = m->next;
		free(m);
	}
}

struct kept *kept_new(void)
{
	return hold(sizeof(struct kept));
}

struct kept *kept_wait(struct host *h, struct kept *k)
{
	for (int i = 0; i < 300 && k->rc == 0 && !k->done; i++) {
		host_turn(&h->workers[0], 100);
	}
	if (k->rc == 0 && !k->done) {
		fprintf(stderr, "no answer within 30 s\n%s", host_log());
		abort();
	}
	return k;
}
