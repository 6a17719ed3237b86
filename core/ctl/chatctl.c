/* SPDX-License-Identifier: Apache-2.0 */
/* chatctl: commands to a running chatd, and the tools around it. */
#include "ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
		"usage: chatctl [--socket PATH | -c FILE] [--json] [--timeout SECONDS] COMMAND\n"
		"\n"
		"  status                         how this node is\n"
		"  nodes                          how all nodes of the cluster are\n"
		"  sessions [--user U] [--limit N]  who is connected to this node\n"
		"  kick USER|SESSION [--reason R] close the connections of a user, or one, on all nodes\n"
		"  broadcast TEXT                 tell everybody, on /topic/public\n"
		"  drain [--wait]                 as SIGTERM: no new clients, the others leave, exit\n"
		"  backup PATH                    a copy of the store into a new file, while it is in use\n"
		"  plugin list                    the plugins: on or off, calls, errors, memory\n"
		"  plugin top                     what they did in one second\n"
		"  plugin enable|disable NAME     while the server runs, if the plugin can\n"
		"  plugin set NAME KEY VALUE      another value of a live option\n"
		"  plugin load NAME [--at-once]   the new file of a plugin, for sessions that begin now, or all\n"
		"  reload [--check]               the configuration again, as SIGHUP; or what would come of it\n"
		"  config check FILE              look for mistakes; exit code 0 good, 78 bad\n"
		"  store copy FROM TO             from one store into another (chatd-store-copy)\n"
		"  help                           this text\n"
		"\n"
		"      --socket PATH   the server's socket, else as in the configuration:\n"
		"  -c, --config FILE   default: /etc/chatd/chat.yaml\n"
		"      --json          print the answer as one line of JSON\n"
		"      --timeout S     how long to wait for it, default 30\n"
		"\n"
		"Exit codes: 0 done, 1 the server refused, 64 wrong usage, 69 no server, 78 bad configuration.\n";

struct args {
	const char *socket, *config, *user, *reason;
	int json, wait, timeout, at_once, check;
	long limit;
	int n;
	char **word; /* the command and what belongs to it */
};

static void fail_usage(const char *why)
{
	fprintf(stderr, "chatctl: %s; see chatctl help\n", why);
	exit(EX_USAGE);
}

static long number(const char *s, const char *what)
{
	char *end;
	errno = 0;
	long n = strtol(s, &end, 10);
	if (errno || *end || n < 1 || n > 100000) {
		fprintf(stderr, "chatctl: %s: \"%s\" is no number from 1 to 100000\n", what, s);
		exit(EX_USAGE);
	}
	return n;
}

static void parse(int argc, char **argv, struct args *a)
{
	enum { SOCKET = 256, JSON, TIMEOUT, USER, REASON, LIMIT, WAIT, AT_ONCE, CHECK };
	static const struct option longs[] = { { "socket", 1, NULL, SOCKET },
		{ "config", 1, NULL, 'c' }, { "json", 0, NULL, JSON }, { "timeout", 1, NULL, TIMEOUT },
		{ "user", 1, NULL, USER }, { "reason", 1, NULL, REASON }, { "limit", 1, NULL, LIMIT },
		{ "wait", 0, NULL, WAIT }, { "at-once", 0, NULL, AT_ONCE }, { "check", 0, NULL, CHECK },
		{ "help", 0, NULL, 'h' }, { 0 } };
	int c;
	*a = (struct args){ .config = "/etc/chatd/chat.yaml", .timeout = 30, .limit = 1000 };
	while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
		switch (c) {
		case SOCKET:
			a->socket = optarg;
			break;
		case 'c':
			a->config = optarg;
			break;
		case JSON:
			a->json = 1;
			break;
		case TIMEOUT:
			a->timeout = (int)number(optarg, "--timeout");
			break;
		case USER:
			a->user = optarg;
			break;
		case REASON:
			a->reason = optarg;
			break;
		case LIMIT:
			a->limit = number(optarg, "--limit");
			break;
		case WAIT:
			a->wait = 1;
			break;
		case AT_ONCE:
			a->at_once = 1;
			break;
		case CHECK:
			a->check = 1;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			exit(EX_USAGE);
		}
	}
	a->word = argv + optind;
	a->n = argc - optind;
}

/* ---- other programs ----------------------------------------------------------------- */

/* Beside this one; returns only if that is not possible. */
static int run_beside(const char *name, char *const argv[])
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash = NULL;
	if (n > 0) {
		path[n] = '\0';
		slash = strrchr(path, '/');
	}
	if (slash && (size_t)(slash - path) + strlen(name) + 2 < sizeof(path)) {
		snprintf(slash + 1, sizeof(path) - (size_t)(slash + 1 - path), "%s", name);
		execv(path, argv);
	}
	fprintf(stderr, "chatctl: cannot run %s: %s\n", slash ? path : name, strerror(errno));
	return EX_UNAVAILABLE;
}

static int config_check(const struct args *a)
{
	if (a->n != 3 || strcmp(a->word[1], "check") != 0) {
		fail_usage("write: config check FILE");
	}
	char program[] = "chatd", check[] = "--check", c[] = "-c";
	char *argv[] = { program, check, c, a->word[2], NULL };
	return run_beside("chatd", argv);
}

static int store_copy(const struct args *a)
{
	if (a->n != 4 || strcmp(a->word[1], "copy") != 0) {
		fail_usage("write: store copy FROM TO");
	}
	char program[] = "chatd-store-copy";
	char *argv[] = { program, a->word[2], a->word[3], NULL };
	int rc = run_beside("chatd-store-copy", argv);
	fputs("chatctl: chatd-store-copy comes with the plugin store-postgres; is that installed?\n",
			stderr);
	return rc;
}

/* ---- commands of the server ------------------------------------------------------------ */

/* What CONNECTED calls a session is 32 hex digits; --user says that it is a user all the same. */
static int is_session(const char *s)
{
	return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

static json_t *text(const char *what, const char *s)
{
	json_t *v = json_string(s);
	if (!v) {
		fprintf(stderr, "chatctl: %s is not UTF-8\n", what);
		exit(EX_USAGE);
	}
	return v;
}

static void add(json_t *command, const char *key, const char *value)
{
	if (value) {
		json_object_set_new(command, key, text(key, value));
	}
}

static void add_kick(const struct args *a, json_t *command)
{
	const char *whom = a->user ? a->user : a->n == 2 ? a->word[1] : NULL;
	if (!whom || (a->user && a->n != 1)) {
		fail_usage("write: kick USER, kick SESSION, or kick --user USER");
	}
	add(command, a->user || !is_session(whom) ? "user" : "session", whom);
	add(command, "reason", a->reason);
}

/* The server's working directory is not ours. */
static void add_path(const struct args *a, json_t *command)
{
	char path[2 * PATH_MAX], cwd[PATH_MAX];
	if (a->n != 2) {
		fail_usage("write: backup PATH");
	}
	const char *to = a->word[1];
	if (to[0] != '/' && !getcwd(cwd, sizeof(cwd))) {
		fail_usage("the working directory is gone; name an absolute path");
	}
	snprintf(path, sizeof(path), "%s%s%s", to[0] == '/' ? "" : cwd, to[0] == '/' ? "" : "/", to);
	add(command, "path", path);
}

static void add_plugin(const struct args *a, json_t *command)
{
	const char *what = a->n > 1 ? a->word[1] : "";
	int reads = strcmp(what, "list") == 0 || strcmp(what, "top") == 0;
	int changes = strcmp(what, "enable") == 0 || strcmp(what, "disable") == 0;
	int loads = strcmp(what, "load") == 0;
	if ((reads && a->n == 2) || ((changes || loads) && a->n == 3) ||
			(strcmp(what, "set") == 0 && a->n == 5)) {
		add(command, "what", reads ? "list" : loads && a->at_once ? "load-at-once" : what);
		add(command, "name", a->n > 2 ? a->word[2] : NULL);
		add(command, "key", a->n > 3 ? a->word[3] : NULL);
		add(command, "value", a->n > 4 ? a->word[4] : NULL);
		return;
	}
	fail_usage(
			"write: plugin list, plugin top, plugin enable NAME, plugin disable NAME, plugin set "
			"NAME KEY VALUE, or plugin load NAME [--at-once]");
}

static json_t *command_of(const struct args *a)
{
	json_t *command = json_object();
	const char *name = a->word[0];
	add(command, "cmd", name);
	if (strcmp(name, "kick") == 0) {
		add_kick(a, command);
	} else if (strcmp(name, "backup") == 0) {
		add_path(a, command);
	} else if (strcmp(name, "plugin") == 0) {
		add_plugin(a, command);
	} else if (strcmp(name, "broadcast") == 0) {
		if (a->n != 2) {
			fail_usage("write: broadcast TEXT, the text as one argument");
		}
		add(command, "text", a->word[1]);
	} else if (a->n != 1) {
		fail_usage("there are too many arguments");
	}
	if (strcmp(name, "reload") == 0 && a->check) {
		add(command, "what", "check");
	}
	if (strcmp(name, "sessions") == 0) {
		add(command, "user", a->user);
		json_object_set_new(command, "limit", json_integer(a->limit));
	}
	return command;
}

static int await_end(const json_t *answer, int seconds)
{
	pid_t pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
	const struct timespec nap = { .tv_nsec = 100000000 };
	for (int i = 0; pid > 0 && i < seconds * 10; i++) {
		if (kill(pid, 0) < 0 && errno == ESRCH) {
			return 0;
		}
		nanosleep(&nap, NULL);
	}
	fprintf(stderr,
			"chatctl: the server (process %ld) has not ended within %d s; --timeout gives it more\n",
			(long)pid, seconds);
	return CTL_REFUSED;
}

static int show(const struct args *a, json_t *answer)
{
	int good = json_is_true(json_object_get(answer, "ok"));
	if (a->json) {
		json_dumpf(answer, stdout, JSON_COMPACT);
		fputc('\n', stdout);
	} else if (good) {
		ctl_show(a->word[0], answer);
	} else {
		const char *why = json_string_value(json_object_get(answer, "message"));
		fprintf(stderr, "chatctl: %s\n", why ? why : "the server refused");
	}
	return good ? 0 : CTL_REFUSED;
}

static int is_top(const struct args *a)
{
	return strcmp(a->word[0], "plugin") == 0 && strcmp(a->word[1], "top") == 0;
}

/* Asks again a second later and leaves the differences. */
static json_t *since_then(
		const char *path, json_t *command, int seconds, json_t *before, int *ret_rc)
{
	const struct timespec second = { .tv_sec = 1 };
	nanosleep(&second, NULL);
	json_t *after = ctl_ask(path, command, seconds, ret_rc);
	if (after) {
		ctl_differences(before, after);
	}
	json_decref(before);
	return after;
}

static int ask_server(const struct args *a)
{
	json_t *command = command_of(a);
	char *path = a->socket ? strdup(a->socket) : ctl_socket_of(a->config);
	int rc = EX_CONFIG;
	json_t *answer = path ? ctl_ask(path, command, a->timeout, &rc) : NULL;
	if (answer && is_top(a)) {
		answer = since_then(path, command, a->timeout, answer, &rc);
	}
	if (answer) {
		rc = show(a, answer);
		fflush(stdout);
		if (rc == 0 && a->wait && strcmp(a->word[0], "drain") == 0) {
			rc = await_end(answer, a->timeout);
		}
	}
	json_decref(answer);
	json_decref(command);
	free(path);
	return rc;
}

int main(int argc, char **argv)
{
	static const char *const asked[] = { "status", "nodes", "sessions", "kick", "broadcast",
		"drain", "backup", "plugin", "reload" };
	struct args a;
	parse(argc, argv, &a);
	if (a.n == 0) {
		fputs(usage, stderr);
		return EX_USAGE;
	}
	const char *name = a.word[0];
	if (strcmp(name, "help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(name, "config") == 0) {
		return config_check(&a);
	}
	if (strcmp(name, "store") == 0) {
		return store_copy(&a);
	}
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		if (strcmp(name, asked[i]) == 0) {
			return ask_server(&a);
		}
	}
	fprintf(stderr, "chatctl: there is no command \"%s\"\n%s", name, usage);
	return EX_USAGE;
}
