/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: command line, signals, exit codes (sysexits.h where one fits). */
#include "base/crash.h"
#include "base/id.h"
#include "base/log.h"
#include "base/map.h"
#include "conf/conf.h"
#include "host/host.h"
#include "host/notify.h"
#include "host/stop.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum action { RUN, CHECK, DESCRIBE, LIST_PLUGINS, LIST_HOOKS, SCHEMA };

struct options {
	const char *config, *describe, *ready_file;
	int config_given;
	const char **sets;
	size_t n_sets;
	enum action action;
	int format;
};

static const char usage[] =
		"usage: chatd [-c FILE] [--set KEY=VALUE]... [--ready-file FILE]\n"
		"       chatd --check | --list-plugins | --list-hooks | --schema | --version\n"
		"       chatd --describe PLUGIN [--format text|markdown|schema]\n"
		"\n"
		"  -c, --config FILE    the configuration (default: /etc/chatd/chat.yaml)\n"
		"      --set KEY=VALUE  override one value: http.listen=127.0.0.1:0, server.workers=2\n"
		"      --ready-file F   once it serves, write pid, server id and addresses as JSON\n"
		"      --check          check the configuration and exit: 0 good, 78 bad\n"
		"      --describe P     the options of a plugin, or of \"server\"\n"
		"      --list-plugins   all plugins that can be found\n"
		"      --list-hooks     who is asked, in which order, with this configuration\n"
		"      --schema         a JSON Schema of the configuration, for editors\n";

enum {
	OPT_SET = 256,
	OPT_CHECK,
	OPT_DESCRIBE,
	OPT_PLUGINS,
	OPT_HOOKS,
	OPT_VERSION,
	OPT_READY,
	OPT_FORMAT,
	OPT_SCHEMA
};

static int format_of(const char *name)
{
	static const char *const names[] = { "text", "markdown", "schema" };
	for (int i = 0; i < 3; i++) {
		if (strcmp(names[i], name) == 0) {
			return i;
		}
	}
	fprintf(stderr, "chatd: --format: \"%s\" is none of text, markdown, schema\n", name);
	exit(EX_USAGE);
}

static void parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = { { "config", 1, NULL, 'c' }, { "set", 1, NULL, OPT_SET },
		{ "check", 0, NULL, OPT_CHECK }, { "describe", 1, NULL, OPT_DESCRIBE },
		{ "list-plugins", 0, NULL, OPT_PLUGINS }, { "list-hooks", 0, NULL, OPT_HOOKS },
		{ "version", 0, NULL, OPT_VERSION }, { "ready-file", 1, NULL, OPT_READY },
		{ "format", 1, NULL, OPT_FORMAT }, { "schema", 0, NULL, OPT_SCHEMA },
		{ "help", 0, NULL, 'h' }, { 0 } };
	int c;
	o->sets = calloc((size_t)argc, sizeof(*o->sets));
	while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			o->config_given = 1;
			break;
		case OPT_SET:
			o->sets[o->n_sets++] = optarg;
			break;
		case OPT_CHECK:
			o->action = CHECK;
			break;
		case OPT_DESCRIBE:
			o->action = DESCRIBE;
			o->describe = optarg;
			break;
		case OPT_PLUGINS:
			o->action = LIST_PLUGINS;
			break;
		case OPT_HOOKS:
			o->action = LIST_HOOKS;
			break;
		case OPT_SCHEMA:
			o->action = SCHEMA;
			break;
		case OPT_READY:
			o->ready_file = optarg;
			break;
		case OPT_FORMAT:
			o->format = format_of(optarg);
			break;
		case OPT_VERSION:
			printf("chatd %s (plugin contract %u.%u)\n", CHATD_VERSION, CHATD_ABI_MAJOR,
					CHATD_ABI_MINOR);
			exit(0);
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(EX_USAGE);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "chatd: \"%s\" is no option\n%s", argv[optind], usage);
		exit(EX_USAGE);
	}
}

/* NULL: not even YAML.  Complaints do not end it: what the plugins have to say about their
 * options is shown together with them. */
static struct conf *read_config(const struct options *o, struct diag *d)
{
	struct conf *conf = conf_load_file(o->config, d);
	for (size_t i = 0; conf && i < o->n_sets; i++) {
		conf_set(conf, o->sets[i], d);
	}
	if (conf) {
		conf_plan(conf, d);
	}
	return conf;
}

static struct conf *read_again(void *arg, struct diag *d)
{
	return read_config(arg, d);
}

static int make_data_dir(const char *dir)
{
	struct stat st;
	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		log_write(CHATD_LOG_ERROR, "core", "cannot make server.data_dir \"%s\": %s", dir,
				errno == ENOENT ? "the folder above it is missing" : strerror(errno));
		return -1;
	}
	if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
		log_write(CHATD_LOG_ERROR, "core", "server.data_dir \"%s\" is not a folder", dir);
		return -1;
	}
	if (access(dir, R_OK | W_OK | X_OK) != 0) {
		log_write(CHATD_LOG_ERROR, "core",
				"server.data_dir \"%s\" cannot be written: %s; give it to the user chatd runs as",
				dir, strerror(errno));
		return -1;
	}
	return 0;
}

/* What a plugin's init() says of itself will not get better by another start; an address, a file or
 * a database that is not there may. */
static int exit_code_of(int rc)
{
	switch (-rc) {
	case EINVAL:
	case EPERM:
	case EEXIST:
	case ENOTSUP:
	case ENOTUNIQ:
	case EPROTO:
		return EX_CONFIG;
	default:
		return EX_UNAVAILABLE;
	}
}

static int start(struct host *h, const struct options *o, const struct conf_server *server)
{
	if (stop_open() < 0) {
		return EX_OSERR;
	}
	if (make_data_dir(server->data_dir) < 0) {
		return EX_CANTCREAT;
	}
	crash_serving(1);
	int rc = host_start(h);
	if (rc < 0) {
		return exit_code_of(rc);
	}
	/* Whoever asked for the file waits for it: without it nobody would come. */
	if (o->ready_file && host_ready_file(h, o->ready_file) < 0) {
		return EX_CANTCREAT;
	}
	return 0;
}

static int serve(struct host *h, const struct options *o, const struct conf_server *server)
{
	notify_open();
	int rc = start(h, o, server);
	if (rc == 0) {
		host_announce(h);
		(void)notify_send("READY=1\nSTATUS=serving");
		stop_wait(h, server);
	}
	host_stop(h);
	stop_close();
	crash_serving(0);
	if (rc == 0) {
		log_write(CHATD_LOG_INFO, "core", "stopped");
	}
	notify_close();
	return rc == 0 && host_gave_up(h) ? EX_CONFIG : rc;
}

/* Half of what the limit allows is no use to anyone: take the hard limit. */
static void raise_descriptors(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int with_config(struct options *o, const char *exe_dir)
{
	struct diag d = { 0 };
	int rc = 0;
	struct conf *conf = read_config(o, &d);
	if (!conf) {
		diag_print(&d, stderr);
		diag_finish(&d);
		return EX_CONFIG;
	}
	const struct conf_server *server = conf_server(conf);
	/* The list is what was asked for; that a plugin has made a key in a folder that goes again
	 * would only confuse. */
	int quiet = o->action == LIST_HOOKS && server->log_level == CHATD_LOG_INFO;
	log_open(quiet ? CHATD_LOG_WARN : server->log_level, server->log_format);
	struct host *h = host_create(conf, exe_dir);
	if (!h || host_load(h, &d) < 0) {
		diag_print(&d, stderr);
		rc = EX_CONFIG;
	} else if (o->action == CHECK) {
		printf("%s: good\n", o->config);
	} else if (o->action == LIST_HOOKS) {
		rc = host_rehearse(h) < 0 ? EX_UNAVAILABLE : 0;
		if (rc == 0) {
			host_print_hooks(h, stdout);
		}
	} else {
		host_can_read_again(h, read_again, o);
		rc = serve(h, o, server);
	}
	host_destroy(h);
	diag_finish(&d);
	conf_free(conf);
	return rc;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

/* Plugins keep keys and files in the data folder from init() on; to list the hooks must
 * leave no trace, and must not need the rights of the server. */
static int list_hooks(struct options *o, const char *exe_dir)
{
	char dir[] = "/tmp/chatd-hooks-XXXXXX";
	char set[sizeof("server.data_dir=") + sizeof(dir)];
	if (!mkdtemp(dir)) {
		fprintf(stderr, "chatd: cannot make a folder in /tmp: %s\n", strerror(errno));
		return EX_CANTCREAT;
	}
	snprintf(set, sizeof(set), "server.data_dir=%s", dir);
	o->sets[o->n_sets++] = set; /* there is room: the program's name is in argc, and is no --set */
	int rc = with_config(o, exe_dir);
	(void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return rc;
}

/* A file that is given says where plugins are; what else is wrong with it is not asked here. */
static int without_config(const struct options *o, const char *exe_dir)
{
	struct diag d = { 0 };
	struct conf *conf = o->config_given ? read_config(o, &d) : NULL;
	if (o->config_given && !conf) {
		diag_print(&d, stderr);
		diag_finish(&d);
		return EX_CONFIG;
	}
	struct host *h = host_create(conf, exe_dir);
	int rc = -ENOMEM;
	if (h && o->action == DESCRIBE) {
		rc = host_describe(h, o->describe, o->format, stdout);
	} else if (h && o->action == SCHEMA) {
		rc = host_print_schema(h, stdout);
	} else if (h) {
		rc = host_print_plugins(h, stdout);
	}
	host_destroy(h);
	diag_finish(&d);
	conf_free(conf);
	return rc < 0 ? EX_USAGE : 0;
}

int main(int argc, char **argv)
{
	struct options o = { .config = "/etc/chatd/chat.yaml" };
	char exe[4096] = "";
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash = n > 0 ? strrchr(exe, '/') : NULL;
	if (slash) {
		*slash = '\0';
	}
	umask(0077);
	map_init();
	parse(argc, argv, &o);
	raise_descriptors();
	if (crash_open() < 0) {
		fputs("chatd: no memory\n", stderr);
		return EX_OSERR;
	}
	int rc = o.action == DESCRIBE || o.action == LIST_PLUGINS || o.action == SCHEMA
			? without_config(&o, exe)
			: o.action == LIST_HOOKS ? list_hooks(&o, exe)
									 : with_config(&o, exe);
	free(o.sets);
	return rc;
}
