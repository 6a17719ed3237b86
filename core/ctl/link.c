/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server's socket is, and one question over it. */
#include "base/diag.h"
#include "conf/conf.h"
#include "ctl/ctl.h"

#include <chatd/plugin.h>

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 256 << 20 };

/* ---- where it is --------------------------------------------------------------------- */

struct admin_conf {
	const char *socket;
};

static const struct chatd_opt admin_opts[] = {
	{ .key = "socket",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct admin_conf, socket) },
	{ .key = NULL },
};

static char *from_conf(struct conf *c, const char *config, struct diag *d)
{
	struct admin_conf a = { NULL };
	char *path = NULL;
	for (size_t i = 0; i < conf_plugin_count(c); i++) {
		const struct conf_plugin *p = conf_plugin_at(c, i);
		if (strcmp(p->module, "admin") != 0 || !p->enabled) {
			continue;
		}
		if (conf_fill(c, p->node, p->name, admin_opts, sizeof(admin_opts[0]), &a, d) < 0) {
			return NULL;
		}
		if (asprintf(&path, "%s%s", a.socket ? a.socket : conf_server(c)->data_dir,
					a.socket ? "" : "/admin.sock") < 0) {
			return NULL;
		}
		return path;
	}
	fprintf(stderr,
			"chatctl: %s has no plugin \"admin\", so its server takes no commands; add \"  admin: {}\" "
			"below \"plugins:\"\n",
			config);
	return NULL;
}

char *ctl_socket_of(const char *config)
{
	struct diag d = { 0 };
	struct conf *c = conf_load_file(config, &d);
	char *path = NULL;
	if (c && conf_plan(c, &d) == 0) {
		path = from_conf(c, config, &d);
	}
	diag_print(&d, stderr);
	diag_finish(&d);
	conf_free(c);
	return path;
}

/* ---- the question ---------------------------------------------------------------------- */

static int dial(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(to.sun_path)) {
		fprintf(stderr,
				"chatctl: \"%s\" is too long for a unix socket: %zu bytes, %zu are possible\n",
				path, strlen(path), sizeof(to.sun_path) - 1);
		return -1;
	}
	memcpy(to.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0) {
		const char *hint = errno == ENOENT || errno == ECONNREFUSED
				? "no server listens there; does it run, with the plugin \"admin\"?"
				: errno == EACCES ? "only root and the user that chatd runs as may command it"
								  : strerror(errno);
		fprintf(stderr, "chatctl: cannot reach the server at \"%s\": %s\n", path, hint);
		if (fd >= 0) {
			close(fd);
		}
		return -1;
	}
	return fd;
}

static int say(int fd, json_t *command)
{
	char *text = json_dumps(command, JSON_COMPACT);
	size_t n = text ? strlen(text) : 0, at = 0;
	if (text) {
		text[n++] = '\n';
	}
	while (at < n) {
		ssize_t rc = send(fd, text + at, n - at, MSG_NOSIGNAL);
		if (rc < 0 && errno != EINTR) {
			break;
		}
		at += rc > 0 ? (size_t)rc : 0;
	}
	free(text);
	return text && at == n ? 0 : -1;
}

struct answer {
	char *p;
	size_t n, cap;
};

static int more_room(struct answer *a)
{
	if (a->cap - a->n > 65536) {
		return 0;
	}
	size_t cap = a->cap ? a->cap * 2 : 1 << 18;
	char *p = cap <= ANSWER_MAX ? realloc(a->p, cap) : NULL;
	if (!p) {
		return -1;
	}
	a->p = p;
	a->cap = cap;
	return 0;
}

/* NULL: one line has come; else what is wrong. */
static const char *hear(int fd, struct answer *a, int seconds)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	time_t until = now.tv_sec + seconds;
	for (;;) {
		if (a->n && a->p[a->n - 1] == '\n') {
			return NULL;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		struct pollfd p = { .fd = fd, .events = POLLIN };
		if (now.tv_sec >= until) {
			return "it does not answer; --timeout gives it more time";
		}
		if (poll(&p, 1, 500) <= 0) {
			continue;
		}
		if (more_room(a) < 0) {
			return "its answer is too big";
		}
		ssize_t rc = recv(fd, a->p + a->n, a->cap - a->n, 0);
		if (rc == 0) {
			return "it has closed the connection: it stops, 16 others ask at once, or it does not "
				   "take commands from this user; its log says which";
		}
		if (rc < 0 && errno != EINTR) {
			return strerror(errno);
		}
		a->n += rc > 0 ? (size_t)rc : 0;
	}
}

json_t *ctl_ask(const char *socket_path, json_t *command, int seconds, int *ret_rc)
{
	struct answer a = { NULL, 0, 0 };
	int fd = dial(socket_path);
	*ret_rc = EX_UNAVAILABLE;
	if (fd < 0) {
		return NULL;
	}
	const char *wrong = say(fd, command) < 0 ? "it does not listen" : hear(fd, &a, seconds);
	json_error_t e;
	json_t *root = wrong ? NULL : json_loadb(a.p, a.n, 0, &e);
	if (!json_is_object(root)) {
		fprintf(stderr, "chatctl: the server at \"%s\": %s\n", socket_path,
				wrong ? wrong : "its answer is no JSON");
		json_decref(root);
		root = NULL;
	}
	free(a.p);
	close(fd);
	return root;
}
