/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a helper: it is started when somebody asks for something, ended when it hangs, lies or
 * stands on files that have been replaced, and started again, later each time it does not live. */
#include "fetch.h"

#include <chatd-sdk/spawn.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
	READY_MS = 10000, /* to shut itself in, on a busy machine */
	REST_MS = 100,    /* before the next one; twice that after the next ... */
	REST_MAX_MS = 30000,
	WAIT_MS = 1000,   /* requests wait for the next one so long; else they are refused */
	LIVED_MS = 60000, /* so long it has to live to be no bad one */
	LOOK_MS = 1000,
};

/* What a resolver reads.  The helper may open these files, not those that take their places. */
static const char *const watched[WATCHED] = { "/etc/resolv.conf", "/etc/hosts" };

static void begin(struct wself *ws);

static const struct chatd_host *host(const struct wself *ws)
{
	return ws->self->h;
}

/* ---- its end ------------------------------------------------------------------------------------ */

static void on_rested(void *arg)
{
	struct wself *ws = arg;
	ws->resting = 0;
	keeper_need(ws);
}

static void say_how(const struct wself *ws, char *to, size_t cap)
{
	static const char *const codes[] = { [WIRE_EXIT_USAGE] = "it was not started as a helper",
		[WIRE_EXIT_SYSTEM] = "it could not get what it needs of the system",
		[WIRE_EXIT_FRAME] = "it was told what it does not understand: is it of this version?",
		[WIRE_EXIT_FENCE] = "it could not shut itself in" };
	int code = ws->exited >= 0 && WIFEXITED(ws->exited) ? WEXITSTATUS(ws->exited) : -1;
	if (code > 0) {
		int known = (size_t)code < sizeof(codes) / sizeof(codes[0]) && codes[code];
		snprintf(to, cap, "it has ended with code %d%s%s", code, known ? ": " : "",
				known ? codes[code] : "");
	} else if (ws->exited > 0 && WIFSIGNALED(ws->exited) && !ws->why) {
		snprintf(to, cap, "it was ended by signal %d", WTERMSIG(ws->exited));
	} else {
		snprintf(to, cap, "%s", ws->why ? ws->why : "it has closed its connection");
	}
}

static void rest(struct wself *ws, int64_t ms)
{
	ws->resting = 1;
	host(ws)->timer_set(ws->w, &ws->timer, ms, on_rested, ws);
}

/* It is gone, and nothing of it left. */
static void report(struct wself *ws)
{
	char how[160];
	if (ws->pid || ws->stopped) {
		return;
	}
	if (ws->retired) {
		ws->retired = 0;
		rest(ws, 1);
		return;
	}
	say_how(ws, how, sizeof(how));
	host(ws)->log(ws->self->ctx, CHATD_LOG_WARN,
			"the process that asks for worker %d is gone: %s; %zu requests are without an answer; "
			"the next one may start in %lld ms",
			(int)host(ws)->worker_index(ws->w), how, ws->lost, (long long)ws->backoff);
	rest(ws, ws->backoff);
}

static void slow_down(struct wself *ws)
{
	int64_t now = host(ws)->now_ms(ws->w);
	if (ws->up_since && now - ws->up_since >= LIVED_MS) {
		ws->backoff = 0;
	}
	ws->backoff = ws->backoff ? ws->backoff * 2 : REST_MS;
	ws->backoff = ws->backoff > REST_MAX_MS ? REST_MAX_MS : ws->backoff;
	ws->up_since = 0;
}

static void shut(struct wself *ws)
{
	ws->state = DOWN;
	host(ws)->timer_clear(&ws->timer);
	channel_close(ws);
	if (ws->pid) {
		kill(-ws->pid, SIGKILL);
	}
}

void keeper_end(struct wself *ws, const char *why)
{
	shut(ws);
	ws->why = why;
	slow_down(ws);
	ws->resting = 1; /* who is told now may ask again */
	ws->lost = calls_lost(ws);
	report(ws);
}

static void forget_process(struct wself *ws)
{
	host(ws)->unwatch(ws->exit_watch);
	ws->exit_watch = NULL;
	close(ws->pidfd);
	ws->pid = 0;
}

/* What it has said before is still heard. */
static void on_exit_of(void *arg, uint32_t ready)
{
	struct wself *ws = arg;
	(void)ready;
	if (waitpid(ws->pid, &ws->exited, WNOHANG) != ws->pid) {
		return;
	}
	forget_process(ws);
	if (ws->state == DOWN) {
		report(ws);
		return;
	}
	channel_read(ws); /* to its end */
	if (ws->state != DOWN) {
		keeper_end(ws, NULL);
	}
}

/* ---- its beginning ------------------------------------------------------------------------------ */

static void look(struct mark marks[WATCHED])
{
	for (int i = 0; i < WATCHED; i++) {
		struct stat st;
		int there = stat(watched[i], &st) == 0;
		marks[i] = (struct mark){ there ? st.st_dev : 0, there ? st.st_ino : 0 };
	}
}

static int is_replaced(struct wself *ws)
{
	struct mark now[WATCHED];
	int64_t ms = host(ws)->now_ms(ws->w);
	if (ms - ws->looked < LOOK_MS) {
		return 0;
	}
	ws->looked = ms;
	look(now);
	for (int i = 0; i < WATCHED; i++) {
		if (now[i].dev != ws->marks[i].dev || now[i].ino != ws->marks[i].ino) {
			return 1;
		}
	}
	return 0;
}

static chatd_status spawn(struct wself *ws, int *ret_fd)
{
	char parent[16];
	int fds[2];
	const char *const argv[] = { ws->self->program, parent, NULL };
	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
		return -errno;
	}
	struct chatd_spawn s = { .argv = argv, .in = fds[1], .out = -1 };
	chatd_status rc = fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : chatd_spawn(&s);
	close(fds[1]);
	if (rc < 0) {
		close(fds[0]);
		return rc;
	}
	ws->pid = s.pid;
	ws->pidfd = s.pidfd;
	ws->exit_watch = host(ws)->watch_fd(ws->w, s.pidfd, 1, on_exit_of, ws);
	*ret_fd = fds[0];
	return 0;
}

static chatd_status join(const char *path, int *ret_fd)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return -errno;
	}
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0) {
		chatd_status rc = -errno;
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

static void on_not_ready(void *arg)
{
	struct wself *ws = arg;
	channel_read(ws);
	if (ws->state == STARTING) {
		keeper_end(ws, "it did not begin in time");
	}
}

static void begin(struct wself *ws)
{
	const struct conf *conf = ws->self->conf;
	int fd = -1;
	look(ws->marks);
	ws->looked = host(ws)->now_ms(ws->w);
	ws->exited = -1;
	ws->why = NULL;
	ws->lost = 0;
	chatd_status rc = conf->helper_socket ? join(conf->helper_socket, &fd) : spawn(ws, &fd);
	if (rc < 0) {
		slow_down(ws);
		host(ws)->log(ws->self->ctx, CHATD_LOG_WARN,
				"%s %s: %s; nothing can be asked until then: the next attempt may be in %lld ms",
				conf->helper_socket ? "nobody serves" : "cannot start",
				conf->helper_socket ? conf->helper_socket : ws->self->program, strerror(-rc),
				(long long)ws->backoff);
		rest(ws, ws->backoff);
		return;
	}
	ws->state = STARTING;
	count_start(ws);
	host(ws)->timer_set(ws->w, &ws->timer, READY_MS, on_not_ready, ws);
	if (channel_open(ws, fd) < 0 || (ws->pid && !ws->exit_watch)) {
		keeper_end(ws, "there is no memory");
	}
}

void keeper_need(struct wself *ws)
{
	if (ws->state == DOWN && !ws->pid && !ws->resting && !ws->stopped &&
			!TAILQ_EMPTY(&ws->waiting)) {
		begin(ws);
	}
}

int keeper_is_broken(const struct wself *ws)
{
	return ws->state == DOWN && ws->resting && ws->backoff > WAIT_MS;
}

void keeper_ready(struct wself *ws, uint32_t flaws)
{
	host(ws)->timer_clear(&ws->timer);
	ws->state = UP;
	ws->up_since = host(ws)->now_ms(ws->w);
	channel_send(ws);
	if (flaws && !atomic_exchange(&ws->self->told, 1)) {
		host(ws)->log(ws->self->ctx, CHATD_LOG_WARN,
				"the process that asks other servers is not shut in as it should be:%s%s",
				flaws & WIRE_NO_LANDLOCK
						? " it may read the files that this user may (the kernel has no Landlock);"
						: "",
				flaws & WIRE_NO_FILTER ? " it may make any system call (it is built with a "
										 "sanitizer);"
									   : "");
	}
}

/* ---- another one for it -------------------------------------------------------------------------- */

int keeper_may_send(struct wself *ws)
{
	if (ws->state == UP && is_replaced(ws)) {
		ws->state = RETIRING;
		keeper_idle(ws);
	}
	return ws->state == UP;
}

void keeper_idle(struct wself *ws)
{
	if (ws->state == RETIRING && TAILQ_EMPTY(&ws->sent)) {
		host(ws)->log(ws->self->ctx, CHATD_LOG_INFO,
				"%s has been replaced: another process asks for worker %d from now on", watched[0],
				(int)host(ws)->worker_index(ws->w));
		shut(ws);
		ws->retired = ws->resting = 1;
		report(ws);
	}
}

/* ---- life ----------------------------------------------------------------------------------------- */

void keeper_stop(struct wself *ws)
{
	int status;
	if (ws->state != DOWN) {
		shut(ws);
	}
	host(ws)->timer_clear(&ws->timer);
	if (ws->pid) {
		kill(-ws->pid, SIGKILL);
		(void)waitpid(ws->pid, &status, 0);
		forget_process(ws);
	}
}

/* Beside the plugin, as it was built; else where it was installed. */
chatd_status keeper_find(struct self *self)
{
	static const char installed[] = CHATD_FETCH_HELPER;
	const struct conf *conf = self->conf;
	Dl_info here;
	if (conf->helper || conf->helper_socket) {
		snprintf(self->program, sizeof(self->program), "%s", conf->helper ? conf->helper : "");
		return 0;
	}
	if (dladdr(installed, &here) && here.dli_fname) {
		const char *slash = strrchr(here.dli_fname, '/');
		int n = slash ? (int)(slash - here.dli_fname) : 0;
		snprintf(self->program, PROGRAM_PATH, "%.*s/fetch/chatd-fetch", n, here.dli_fname);
		if (slash && access(self->program, X_OK) == 0) {
			return 0;
		}
	}
	snprintf(self->program, PROGRAM_PATH, "%s", installed);
	if (access(self->program, X_OK) == 0) {
		return 0;
	}
	return self->h->fail(self->ctx, -ENOENT,
			"there is no program %s; install it, or say with helper: where it is", self->program);
}
