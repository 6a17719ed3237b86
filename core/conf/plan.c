/* SPDX-License-Identifier: Apache-2.0 */
/* The server section and what every plugin has in common. */
#include "base/str.h"
#include "conf/node.h"
#include "conf/value.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS_MAX = 64 /* a destination keeps one bit for each */, ID_MAX = 64, ORDER_MAX = 999 };

static const char *const levels[] = { "error", "warn", "info", "debug", "trace", NULL };
static const char *const formats[] = { "text", "json", NULL };
static const char *const on_stall[] = { "auto", "abort", "log", NULL };
static const char *const on_error[] = { "reject", "continue", NULL };

#define SERVER(f) offsetof(struct conf_server, f)
static const struct chatd_opt server_opts[] = {
	{ .key = "data_dir",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = SERVER(data_dir),
			.fallback = "./data",
			.doc = "The folder for everything the server keeps." },
	{ .key = "workers",
			.type = CHATD_T_STRING,
			.offset = SERVER(workers_text),
			.fallback = "auto",
			.doc = "How many event loops, each with a thread: 1 to 64, or auto for one per "
				   "processor." },
	{ .key = "plugin_path",
			.type = CHATD_T_STRINGS,
			.flags = CHATD_O_PATH,
			.offset = SERVER(plugin_path),
			.fallback = "[]",
			.doc = "Folders to look for plugins in, before the installed ones." },
	{ .key = "server_id",
			.type = CHATD_T_STRING,
			.offset = SERVER(server_id),
			.doc = "This server's name among others; up to 64 of A-Z a-z 0-9 - _. Default: the "
				   "host's name." },
	{ .key = "log_level",
			.type = CHATD_T_CHOICE,
			.flags = CHATD_O_LIVE,
			.offset = SERVER(log_level),
			.fallback = "info",
			.choices = levels,
			.doc = "The least important lines that are still written." },
	{ .key = "log_format",
			.type = CHATD_T_CHOICE,
			.flags = CHATD_O_LIVE,
			.offset = SERVER(log_format),
			.fallback = "text",
			.choices = formats,
			.doc = "Plain lines, or one JSON object per line." },
	{ .key = "drain_grace",
			.type = CHATD_T_DURATION,
			.offset = SERVER(drain_grace),
			.fallback = "2s",
			.max = 600000,
			.doc = "After SIGTERM /readyz answers 503 this long before anything is closed, so that a "
				   "balancer notices; skipped when nobody is connected, and by SIGINT." },
	{ .key = "drain_spread",
			.type = CHATD_T_DURATION,
			.offset = SERVER(drain_spread),
			.fallback = "10s",
			.max = 600000,
			.doc = "Then clients are closed over this time, so that they do not all come back at "
				   "once; few of them faster, about 100 a second and worker." },
	{ .key = "drain_timeout",
			.type = CHATD_T_DURATION,
			.offset = SERVER(drain_timeout),
			.fallback = "10s",
			.max = 3600000,
			.doc = "Who is not gone this long after the last one was asked to leave is cut off." },
	{ .key = "offload_threads",
			.type = CHATD_T_INT,
			.offset = SERVER(offload_threads),
			.fallback = "4",
			.min = 1,
			.max = 256,
			.doc = "Threads for work that may block, such as files and password hashes." },
	{ .key = "max_suspended",
			.type = CHATD_T_INT,
			.offset = SERVER(max_suspended),
			.fallback = "4096",
			.min = 1,
			.max = 1000000,
			.doc = "How many calls per worker may wait for an answer at once." },
	{ .key = "slow_queue",
			.type = CHATD_T_SIZE,
			.offset = SERVER(slow_queue),
			.fallback = "512 KiB",
			.min = 4096,
			.max = (int64_t)1 << 30,
			.doc = "How much may wait for a slow client before it is closed." },
	{ .key = "stall",
			.type = CHATD_T_DURATION,
			.offset = SERVER(stall),
			.fallback = "10s",
			.min = 100,
			.max = 3600000,
			.doc = "How long a client with data waiting may take none of it." },
	{ .key = "on_stall",
			.type = CHATD_T_CHOICE,
			.offset = SERVER(on_stall),
			.fallback = "auto",
			.choices = on_stall,
			.doc = "A plugin that holds a worker for 2 s: abort ends the server, for its supervisor to "
				   "start it again; log only names it; auto is abort under systemd, and log elsewhere." },
	{ .key = "max_subscriptions",
			.type = CHATD_T_INT,
			.offset = SERVER(max_subscriptions),
			.fallback = "128",
			.min = 1,
			.max = 100000,
			.doc = "Subscriptions per session." },
	{ .key = NULL },
};

#define PLUGIN(f) offsetof(struct conf_plugin, f)
static const struct chatd_opt plugin_opts[] = {
	{ .key = "plugin",
			.type = CHATD_T_STRING,
			.offset = PLUGIN(module),
			.doc = "The plugin this is an instance of; default: the one with the name of the instance." },
	{ .key = "enabled",
			.type = CHATD_T_BOOL,
			.offset = PLUGIN(enabled),
			.fallback = "true",
			.doc = "false: as if it were not here." },
	{ .key = "optional",
			.type = CHATD_T_BOOL,
			.offset = PLUGIN(optional),
			.fallback = "false",
			.doc = "true: the server starts without it if it is not installed." },
	/* Longer than a store takes to say that it is busy (commit_timeout), so that it can say so. */
	{ .key = "timeout",
			.type = CHATD_T_DURATION,
			.offset = PLUGIN(timeout_ms),
			.fallback = "7s",
			.min = 1,
			.max = 3600000,
			.doc = "How long an answer that a client waits for may take." },
	{ .key = "on_error",
			.type = CHATD_T_CHOICE,
			.offset = PLUGIN(on_error),
			.fallback = "reject",
			.choices = on_error,
			.doc = "What a failing hook means for the message at hand; plugins that decide who may what take "
				   "no continue." },
	{ .key = NULL },
};

const struct chatd_opt *plan_plugin_opts(void)
{
	return plugin_opts;
}

static const char *const hook_names[] = {
#define CHATD_X(num, name, kind, may_wait, at_end) #name,
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
			NULL
};
static const uint32_t hook_numbers[] = {
#define CHATD_X(num, name, kind, may_wait, at_end) num,
	CHATD_HOOK_MAP(CHATD_X)
#undef CHATD_X
};

const struct conf_about *conf_server_about(void)
{
	static const struct conf_about about = {
		.name = "server",
		.summary = "What holds for the whole server; its section stands beside \"plugins\".",
		.opts = server_opts,
		.opt_size = sizeof(server_opts[0]),
	};
	return &about;
}

const struct conf_server *conf_server(const struct conf *c)
{
	return &c->server;
}

const struct conf_node *conf_server_node(const struct conf *c)
{
	return c->server_node;
}

size_t conf_plugin_count(const struct conf *c)
{
	return c->n_plugins;
}

const struct conf_plugin *conf_plugin_at(const struct conf *c, size_t i)
{
	return i < c->n_plugins ? &c->plugins[i] : NULL;
}

const struct conf_plugin *conf_plugin_named(const struct conf *c, const char *name)
{
	for (size_t i = 0; i < c->n_plugins; i++)
		if (strcmp(c->plugins[i].name, name) == 0)
			return &c->plugins[i];
	return NULL;
}

static int is_id_byte(char b)
{
	return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '-' ||
			b == '_';
}

static const char *id_of_host(struct conf *c)
{
	char host[ID_MAX + 1] = "";
	if (gethostname(host, sizeof(host)) != 0 && !host[0])
		return "server1";
	host[ID_MAX] = '\0';
	for (char *p = host; *p; p++)
		if (!is_id_byte(*p))
			*p = '-';
	return host[0] ? arena_text(&c->arena, host, strlen(host)) : "server1";
}

static int plan_id(struct conf *c, struct diag *d)
{
	const char *id = c->server.server_id;
	if (!id) {
		c->server.server_id = id_of_host(c);
		if (!c->server.server_id)
			node_no_memory(d);
		return c->server.server_id ? 0 : -1;
	}
	size_t n = strlen(id), good = 0;
	while (good < n && is_id_byte(id[good]))
		good++;
	if (n && n <= ID_MAX && good == n)
		return 0;
	conf_complain(c, c->server_node, "server_id", d,
			"\"%.80s\" cannot name a server; write 1 to %d of A-Z a-z 0-9 - _", id, ID_MAX);
	return -1;
}

static int plan_workers(struct conf *c, struct diag *d)
{
	const char *text = c->server.workers_text;
	c->server.workers = 0;
	if (!text || strcmp(text, "auto") == 0)
		return 0;
	if (!value_int(str_of(text), &c->server.workers) && c->server.workers >= 1 &&
			c->server.workers <= WORKERS_MAX)
		return 0;
	conf_complain(c, c->server_node, "workers", d,
			"\"%.64s\" is not a number of workers; write 1 to %d, or auto for one per processor",
			text, WORKERS_MAX);
	return -1;
}

static int plan_order_entry(
		struct conf *c, const struct conf_node *n, struct conf_order *to, struct diag *d)
{
	const struct conf_node *plugin = n->up->up;
	int64_t v = 0;
	for (size_t i = 0; hook_names[i]; i++)
		if (str_is(n->key, hook_names[i]))
			to->hook = hook_numbers[i];
	if (!to->hook) {
		const char *near = str_near(n->key.p, hook_names);
		node_complain(c, n, AT_KEY, d, "%s: order: unknown hook \"%.64s\"; %s%s%s", plugin->key.p,
				n->key.p, near ? "did you mean \"" : "see chatd --list-hooks", near ? near : "",
				near ? "\"?" : "");
		return -1;
	}
	if (n->kind != NODE_TEXT || value_int(n->text, &v) || v < 0 || v > ORDER_MAX) {
		node_complain(c, n, AT_VALUE, d, "%s: order: %s: a whole number from 0 to %d is expected",
				plugin->key.p, n->key.p, ORDER_MAX);
		return -1;
	}
	to->order = (int32_t)v;
	return 0;
}

static int plan_order(struct conf *c, struct conf_plugin *p, struct diag *d)
{
	const struct conf_node *n = node_find(p->node, str_of("order"));
	int rc = 0;
	if (!n)
		return 0;
	if (n->kind != NODE_MAP) {
		node_complain(c, n, AT_VALUE, d,
				"%s: order: hooks and numbers are expected, as in {message_in: 150}, but this is %s",
				p->name, node_kind_name(n));
		return -1;
	}
	struct conf_order *all = arena_alloc(&c->arena, (n->count + 1) * sizeof(*all));
	if (!all) {
		node_no_memory(d);
		return -1;
	}
	for (const struct conf_node *k = n->first; k; k = k->next)
		if (plan_order_entry(c, k, &all[p->order_count], d) == 0)
			p->order_count++;
		else
			rc = -1;
	p->order = all;
	return rc;
}

static int plan_plugin(
		struct conf *c, const struct conf_node *n, struct conf_plugin *p, struct diag *d)
{
	p->name = n->key.p;
	p->node = n;
	int rc = fill_common(c, n, p->name, plugin_opts, p, d);
	/* A module becomes part of a path: it must not climb out of the plugin folders. */
	for (const char *b = p->module; b && *b; b++) {
		if (!is_id_byte(*b)) {
			conf_complain(c, n, "plugin", d,
					"\"%.64s\" cannot name a plugin; write its name alone, as in \"http\"",
					p->module);
			p->module = NULL; /* nobody shall look for it */
			p->enabled = 0;
			rc = -EINVAL;
			break;
		}
	}
	if (!p->module || !*p->module)
		p->module = p->name;
	return plan_order(c, p, d) ? -EINVAL : rc;
}

int conf_plan(struct conf *c, struct diag *d)
{
	int rc = conf_fill(
			c, c->server_node, "server", server_opts, sizeof(server_opts[0]), &c->server, d);
	if (plan_id(c, d) || plan_workers(c, d))
		rc = -EINVAL;
	size_t n = c->plugins_node->count;
	c->plugins = arena_alloc(&c->arena, (n + 1) * sizeof(*c->plugins));
	if (!c->plugins) {
		node_no_memory(d);
		return -ENOMEM;
	}
	for (const struct conf_node *k = c->plugins_node->first; k; k = k->next)
		if (plan_plugin(c, k, &c->plugins[c->n_plugins++], d))
			rc = -EINVAL;
	if (!n) {
		node_complain(c, c->plugins_node, AT_KEY, d,
				"no plugin is named below \"plugins\"; without one the server does nothing");
		rc = -EINVAL;
	}
	return rc;
}
