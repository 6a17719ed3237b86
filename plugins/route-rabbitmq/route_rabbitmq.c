/* SPDX-License-Identifier: Apache-2.0 */
/* Options and life of the plugin. */
#include "link.h"
#include "seal.h"
#include "work.h"

#include <chatd/http.h>
#include <chatd/stats.h>
#include <chatd/store.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const batch_modes[] = { "off", "on", "auto", NULL };
static const char *const sign_modes[] = { "off", "accept", "require", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "addresses",
			.type = CHATD_T_STRINGS,
			.offset = offsetof(struct conf, addresses),
			.fallback = "[\"127.0.0.1:5672\"]",
			.doc = "Brokers, host:port; the next one is tried when one cannot be reached." },
	{ .key = "user",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, user),
			.fallback = "guest",
			.doc = "Who logs in to the broker; RabbitMQ lets guest in from its own host only." },
	{ .key = "password",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET | CHATD_O_LIVE,
			.offset = offsetof(struct conf, password),
			.fallback = "guest",
			.doc = "That user's password." },
	{ .key = "vhost",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, vhost),
			.fallback = "/",
			.doc = "The virtual host; nodes of one cluster share one." },
	{ .key = "tls",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, tls),
			.fallback = "false",
			.doc = "Speak TLS (port 5671 if none is named); the broker's name is checked." },
	{ .key = "ca_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, ca_file),
			.doc = "Certificates that the broker's must be signed by; the system's if absent." },
	{ .key = "cert_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, cert_file),
			.doc = "Our own certificate, for brokers that ask for one." },
	{ .key = "key_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, key_file),
			.doc = "The key of cert_file." },
	{ .key = "connect_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, connect_timeout),
			.fallback = "3s",
			.min = 100,
			.max = 60000,
			.doc = "For connecting to one address, and again for logging in." },
	{ .key = "heartbeat",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, heartbeat),
			.fallback = "10s",
			.min = 2000,
			.max = 60000,
			.doc = "A broker that is silent for twice as long is gone." },
	{ .key = "confirm_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, confirm_timeout),
			.fallback = "10s",
			.min = 1000,
			.max = 600000,
			.doc = "A broker that has not confirmed a message for so long is left and tried anew." },
	{ .key = "queue_max",
			.type = CHATD_T_SIZE,
			.offset = offsetof(struct conf, queue_max),
			.fallback = "64 MiB",
			.min = 65536,
			.max = INT64_C(1) << 40,
			.doc = "Memory for what waits for the broker; beyond it events are dropped." },
	{ .key = "window",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, window),
			.fallback = "1000",
			.min = 1,
			.max = 100000,
			.doc = "Messages published ahead of the broker's confirms." },
	{ .key = "prefetch",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, prefetch),
			.fallback = "200",
			.min = 1,
			.max = 10000,
			.doc = "Messages that the broker sends ahead of our acknowledgements." },
	{ .key = "unbind_after",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, unbind_after),
			.fallback = "30s",
			.max = 3600000,
			.doc = "How long a topic stays bound after its last subscriber has gone." },
	{ .key = "subscribe_wait",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, subscribe_wait),
			.fallback = "2s",
			.max = 30000,
			.doc = "How long a SUBSCRIBE's receipt waits at most until what other nodes publish comes; "
				   "0: not at all." },
	{ .key = "work_prefetch",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, work_prefetch),
			.fallback = "50",
			.min = 1,
			.max = 10000,
			.doc = "Messages of one work queue that this node's consumers have and have not "
				   "acknowledged." },
	{ .key = "work_expires",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, work_expires),
			.fallback = "24h",
			.min = 60000,
			.max = INT64_C(30) * 86400 * 1000,
			.doc = "A work queue that nobody consumes or sends to for so long is deleted with what is "
				   "in it; the same on all nodes." },
	{ .key = "accept_foreign",
			.type = CHATD_T_BOOL,
			.offset = offsetof(struct conf, accept_foreign),
			.fallback = "false",
			.doc = "Let in messages of other programs, if a plugin receives them." },
	{ .key = "keys",
			.type = CHATD_T_STRINGS,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, keys),
			.doc = "Sign what nodes tell each other: 32 bytes or more each, the same on all nodes.  The "
				   "first signs, all verify." },
	{ .key = "sign",
			.type = CHATD_T_CHOICE,
			.choices = sign_modes,
			.offset = offsetof(struct conf, sign),
			.fallback = "require",
			.doc = "require: what is not signed is refused.  accept: sign, and take what is not signed, "
				   "until all nodes sign.  off: neither sign nor look." },
	{ .key = "batch",
			.type = CHATD_T_CHOICE,
			.choices = batch_modes,
			.offset = offsetof(struct conf, batch),
			.fallback = "auto",
			.doc = "Several events in one message while many wait.  auto: for whom all nodes concerned "
				   "have said that they understand it; on: always; off: never." },
	{ 0 },
};

/* ---- configuration ------------------------------------------------------------------------ */

static chatd_status check_tls(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	if (!conf->tls && (conf->ca_file || conf->cert_file || conf->key_file)) {
		return h->conf_error(ctx, conf->ca_file ? "ca_file" : "cert_file",
				"it is for TLS, and tls is false; set tls: true, or leave it out");
	}
	if (!conf->cert_file != !conf->key_file) {
		return h->conf_error(ctx, conf->cert_file ? "cert_file" : "key_file",
				"cert_file and key_file go together; name both, or neither");
	}
	return 0;
}

static chatd_status check_keys(const struct chatd_host *h, chatd_ctx *ctx, const struct conf *conf)
{
	size_t n = 0;
	for (; conf->keys[n]; n++) {
		size_t len = strlen(conf->keys[n]);
		if (len < SEAL_KEY_MIN || len > SEAL_KEY_MAX) {
			return h->conf_error(ctx, "keys",
					"key %zu has %zu bytes; %d to %d are needed: openssl rand -base64 48", n + 1,
					len, SEAL_KEY_MIN, SEAL_KEY_MAX);
		}
		for (size_t k = 0; k < n; k++) {
			if (strcmp(conf->keys[k], conf->keys[n]) == 0) {
				return h->conf_error(
						ctx, "keys", "keys %zu and %zu are the same; leave one out", k + 1, n + 1);
			}
		}
	}
	if (n > SEAL_KEYS) {
		return h->conf_error(ctx, "keys", "%zu keys; at most %d", n, SEAL_KEYS);
	}
	if (!n && conf->sign != SIGN_OFF) {
		return h->conf_error(ctx, "keys",
				"what nodes tell each other is signed, and there is no key; set keys: "
				"[env:CHATD_CLUSTER_KEY] (openssl rand -base64 48), the same on all nodes, or sign: off "
				"where nobody else can publish to the broker");
	}
	return 0;
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *conf = confp;
	char host[256];
	int port;
	chatd_status rc = 0;
	if (!conf->addresses[0]) {
		rc = h->conf_error(ctx, "addresses", "name at least one broker, for example mq1:5672");
	}
	for (size_t i = 0; conf->addresses[i]; i++) {
		if (!link_address(conf->addresses[i], conf->tls, host, &port)) {
			rc = h->conf_error(ctx, "addresses",
					"\"%s\" is no address; write host:port, [v6 address]:port, or just the host",
					conf->addresses[i]);
		}
	}
	if (strlen(conf->user) > 255 || strlen(conf->vhost) > 255) {
		rc = h->conf_error(ctx, "user", "user and vhost have at most 255 bytes");
	}
	if (strlen(conf->password) > 255) {
		rc = h->conf_error(ctx, "password", "it has more than 255 bytes");
	}
	chatd_status tls = check_tls(h, ctx, conf), keys = check_keys(h, ctx, conf);
	return tls < 0 ? tls : keys < 0 ? keys : rc;
}

/* ---- numbers -------------------------------------------------------------------------------- */

struct number {
	struct rabbit *r;
	int32_t what;
};
enum { GAUGE_WAITING = COUNTS, GAUGE_UP, NUMBERS };

static int64_t read_number(void *arg, chatd_worker *w)
{
	const struct number *n = arg;
	struct rabbit *r = n->r;
	if (r->h->worker_index(w) != 0) {
		return 0; /* they are summed */
	}
	switch (n->what) {
	case GAUGE_WAITING:
		return atomic_load(&r->held);
	case GAUGE_UP:
		return rabbit_is_up(r);
	default:
		return atomic_load_explicit(&r->counts[n->what], memory_order_relaxed);
	}
}

struct self {
	struct rabbit rabbit;
	struct number numbers[NUMBERS];
};

static chatd_status define_numbers(struct self *self)
{
	static const struct {
		int32_t kind;
		const char *name, *labels, *help;
	} all[NUMBERS] = {
#define X(n, metric, labels_, help_) { CHATD_STAT_COUNTER, metric, labels_, help_ },
		COUNT_MAP(X)
#undef X
				{ CHATD_STAT_GAUGE, "chatd_cluster_waiting_bytes", NULL,
						"Memory of what waits for the broker or for its confirm." },
		{ CHATD_STAT_GAUGE, "chatd_cluster_up", NULL, "1: what is sent to other nodes gets out." },
	};
	struct rabbit *r = &self->rabbit;
	const struct chatd_service *stats = r->h->service(r->ctx, CHATD_STATS);
	for (int32_t i = 0; stats && i < NUMBERS; i++) {
		const struct chatd_stats *vt = stats->vt;
		uint32_t id;
		self->numbers[i] = (struct number){ r, i };
		const struct chatd_stat_def def = { .struct_size = sizeof(def),
			.kind = all[i].kind,
			.name = all[i].name,
			.labels = all[i].labels,
			.help = all[i].help,
			.read = read_number,
			.arg = &self->numbers[i] };
		chatd_status rc = vt->define(stats->obj, r->ctx, &def, &id);
		if (rc < 0) {
			return rc;
		}
	}
	return 0;
}

/* ---- the service ------------------------------------------------------------------------------- */

static chatd_status receive(void *obj, const struct chatd_cluster_receiver *what)
{
	struct rabbit *r = obj;
	if (rabbit_receiver(r, chatd_str_of(what->kind, strlen(what->kind)))) {
		return r->h->fail(r->ctx, -EEXIST, "two plugins receive events of kind \"%s\"", what->kind);
	}
	struct receiver *x = r->h->mem_alloc(sizeof(*x));
	if (!x) {
		return -ENOMEM;
	}
	memcpy(&x->is, what, what->struct_size < sizeof(x->is) ? what->struct_size : sizeof(x->is));
	x->next = r->receivers;
	r->receivers = x;
	return 0;
}

static int32_t readiness(void *arg)
{
	return rabbit_is_up(arg) ? CHATD_READY_UP : CHATD_READY_DOWN;
}

static chatd_status tell_readyz(struct rabbit *r)
{
	const struct chatd_service *s = r->h->service(r->ctx, CHATD_HTTP);
	const struct chatd_http *http = s ? s->vt : NULL;
	const struct chatd_ready broker = {
		.struct_size = sizeof(broker), .name = "broker", .state = readiness, .arg = r
	};
	return http && CHATD_HAS(http, ready) ? http->ready(s->obj, &broker) : 0;
}

static int32_t is_up(void *obj)
{
	return rabbit_is_up(obj);
}

static int64_t silent(void *obj)
{
	const struct rabbit *r = obj;
	return clock_ms() - atomic_load_explicit(&r->heard, memory_order_relaxed);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void set_password(struct rabbit *r, const char *password)
{
	pthread_mutex_lock(&r->lock);
	snprintf(r->password, sizeof(r->password), "%s", password);
	pthread_mutex_unlock(&r->lock);
}

static void tell_keys(struct rabbit *r)
{
	static const char *const words[] = { [SIGN_ACCEPT] = "what is not signed is taken as well",
		[SIGN_REQUIRE] = "what is not signed is refused" };
	struct seal *s = r->conf->sign == SIGN_OFF ? NULL : seal_create(r->conf->keys);
	if (s) {
		r->h->log(r->ctx, CHATD_LOG_INFO, "events for other nodes are signed with key %s; %s",
				seal_id(s), words[r->conf->sign]);
	} else {
		r->h->log(r->ctx, CHATD_LOG_WARN,
				"events between nodes are not signed: whoever may publish to chat.exchange can make up "
				"messages; set keys, and sign: require");
	}
	seal_destroy(s);
}

static chatd_status start(struct rabbit *r)
{
	char random[8], why[256];
	r->h->random(random, sizeof(random));
	wire_sha(chatd_str_of(random, sizeof(random)), r->epoch);
	r->h->random(&r->hash, sizeof(r->hash));
	r->n_homes = r->h->worker_count();
	r->homes = r->h->mem_alloc((size_t)r->n_homes * sizeof(*r->homes));
	if (!r->homes) {
		return -ENOMEM;
	}
	for (int32_t i = 0; i < r->n_homes; i++) {
		home_init(&r->homes[i], r);
		r->homes[i].w = r->h->worker_at(i);
	}
	tell_keys(r);
	r->peers = peers_create();
	r->publisher = publisher_create(r);
	r->consumer = consumer_create(r);
	r->work_out = work_out_create(r);
	r->work_in = work_in_create(r);
	if (!r->publisher || !r->consumer || !r->peers || !r->work_out || !r->work_in) {
		return -ENOMEM;
	}
	chatd_status rc = consumer_try(r->consumer, why);
	return rc == 0
			? 0
			: r->h->fail(r->ctx, rc,
					  "node id \"%.*s\" is in use: another process consumes chat.queue.%.*s "
					  "(%s); give each node a server.server_id of its own, or end the other one",
					  (int)r->node.n, r->node.p, (int)r->node.n, r->node.p, why);
}

/* Nodes that share topics and users but not what is stored would each tell another story. */
static chatd_status check_store(struct rabbit *r)
{
	const struct chatd_service *s = r->h->service(r->ctx, CHATD_STORE);
	const struct chatd_store *store = s ? s->vt : NULL;
	if (store && !(CHATD_HAS(store, is_shared) && store->is_shared(s->obj))) {
		return r->h->fail(r->ctx, -ENOTUNIQ,
				"config: route-rabbitmq requires store-postgres (sqlite files cannot be shared between "
				"nodes); use it in place of the other store, or leave out route-rabbitmq on a single "
				"node");
	}
	if (!wire_is_node(r->node)) {
		return r->h->fail(r->ctx, -ENOTUNIQ,
				"server.server_id \"%.*s\" cannot name a queue; use letters, digits, -, _ and ., at most 64",
				(int)r->node.n, r->node.p);
	}
	return 0;
}

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *confp, void **ret_self)
{
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		return -ENOMEM;
	}
	struct rabbit *r = &self->rabbit;
	r->h = h;
	r->ctx = ctx;
	r->conf = confp;
	r->node = chatd_str_of(h->server_id(), strlen(h->server_id()));
	r->vt = (struct chatd_cluster){ .struct_size = sizeof(r->vt),
		.receive = receive,
		.send = out_send,
		.is_up = is_up,
		.silent = silent };
	atomic_store(&r->heard, clock_ms());
	pthread_mutex_init(&r->lock, NULL);
	set_password(r, r->conf->password);
	*ret_self = self;
	r->presence = h->service(ctx, CHATD_PRESENCE);
	chatd_status rc = check_store(r);
	rc = rc < 0 ? rc : define_numbers(self);
	rc = rc < 0 ? rc : tell_readyz(r);
	rc = rc < 0 ? rc : route_init(r);
	rc = rc < 0 ? rc : h->provide(ctx, CHATD_CLUSTER, &r->vt, r);
	return rc < 0 ? rc : start(r);
}

/* Only now have all who receive anything said so. */
static chatd_status worker_start(void *selfp, chatd_worker *w, void *wself)
{
	(void)wself;
	struct rabbit *r = &((struct self *)selfp)->rabbit;
	if (r->h->worker_index(w) != 0) {
		return 0;
	}
	int rc = publisher_start(r->publisher);
	rc = rc < 0 ? rc : consumer_start(r->consumer);
	rc = rc < 0 ? rc : work_out_start(r->work_out);
	rc = rc < 0 ? rc : work_in_start(r->work_in);
	return rc < 0 ? r->h->fail(r->ctx, rc, "cannot start a thread: %s", strerror(-rc)) : 0;
}

static void worker_stop(void *selfp, chatd_worker *w, void *wself)
{
	(void)wself;
	struct rabbit *r = &((struct self *)selfp)->rabbit;
	pthread_mutex_lock(&r->lock);
	r->closed = 1;
	pthread_mutex_unlock(&r->lock);
	home_stop(&r->homes[r->h->worker_index(w)]);
}

/* What others have not got yet goes out before the server ends; with a broker that is away there
 * is nothing to wait for: they find it in the store. */
static int32_t busy(void *selfp)
{
	struct rabbit *r = &((struct self *)selfp)->rabbit;
	return atomic_load(&r->held) > 0 && atomic_load(&r->publishing);
}

static chatd_status reload(void *selfp, const void *confp)
{
	struct rabbit *r = &((struct self *)selfp)->rabbit;
	const struct conf *conf = confp;
	set_password(r, conf->password);
	publisher_hurry(r->publisher);
	consumer_hurry(r->consumer);
	work_out_hurry(r->work_out);
	work_in_hurry(r->work_in);
	return 0;
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	struct rabbit *r = &self->rabbit;
	const struct chatd_host *h = r->h;
	work_out_destroy(r->work_out);
	work_in_destroy(r->work_in);
	publisher_destroy(r->publisher);
	consumer_destroy(r->consumer);
	peers_destroy(r->peers);
	for (int32_t i = 0; r->homes && i < r->n_homes; i++) {
		out_finish(&r->homes[i]);
		home_finish(&r->homes[i]);
	}
	while (r->receivers) {
		struct receiver *next = r->receivers->next;
		h->mem_free(r->receivers);
		r->receivers = next;
	}
	h->mem_free(r->homes);
	explicit_bzero(r->password, sizeof(r->password));
	pthread_mutex_destroy(&r->lock);
	h->mem_free(self);
}

static const char *const provides[] = { CHATD_CLUSTER, NULL };
static const char *const wants[] = { CHATD_STORE, CHATD_PRESENCE, CHATD_STATS, CHATD_HTTP, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.flags = CHATD_PLUGIN_WAITS,
	.name = "route-rabbitmq",
	.version = "0.1",
	.summary = "carries messages between the nodes of a cluster, through RabbitMQ",
	.provides = provides,
	.wants = wants,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.reload = reload,
	.worker_stop = worker_stop,
	.fini = fini,
	.busy = busy,
};
