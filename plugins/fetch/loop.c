/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's descriptors and its clock, on the loop of a worker. */
#include "fetch.h"

#include <errno.h>

struct sock {
	struct lane *lane;
	chatd_watch *watch;
	curl_socket_t fd;
};

/* Transfers that have ended.  Whoever is answered may ask again. */
static void collect(struct lane *lane)
{
	CURLMsg *m;
	int left;
	while (lane->multi && (m = curl_multi_info_read(lane->multi, &left))) {
		struct request *r = NULL;
		if (m->msg == CURLMSG_DONE &&
				curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r) == CURLE_OK) {
			request_finish(r, m->data.result);
		}
	}
}

static void act(struct lane *lane, curl_socket_t fd, int what)
{
	int running;
	if (lane->multi) {
		(void)curl_multi_socket_action(lane->multi, fd, what, &running);
		collect(lane);
	}
}

static void on_ready(void *arg, uint32_t ready)
{
	const struct sock *s = arg; /* may be gone once libcurl has acted */
	act(s->lane, s->fd, (ready & 1 ? CURL_CSELECT_IN : 0) | (ready & 2 ? CURL_CSELECT_OUT : 0));
}

static void on_time(void *arg)
{
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(void *arg)
{
	struct lane *lane = arg;
	lane->kicked = 0;
	on_time(lane);
}

static void forget(struct sock *s)
{
	const struct chatd_host *h = s->lane->ws->self->h;
	h->unwatch(s->watch);
	h->mem_free(s);
}

static struct sock *sock_of(struct lane *lane, curl_socket_t fd, struct sock *known)
{
	struct sock *s = known ? known : lane->ws->self->h->mem_alloc(sizeof(*s));
	if (s && !known) {
		*s = (struct sock){ .lane = lane, .fd = fd };
		(void)curl_multi_assign(lane->multi, fd, s);
	}
	return s;
}

/* Without memory for a watch the request ends by its timeout. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *lanep, void *known)
{
	struct lane *lane = lanep;
	const struct chatd_host *h = lane->ws->self->h;
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (known) {
			forget(known);
		}
		return 0;
	}
	struct sock *s = sock_of(lane, fd, known);
	if (s) {
		h->unwatch(s->watch);
		s->watch = h->watch_fd(lane->ws->w, fd,
				(what & CURL_POLL_IN ? 1u : 0u) | (what & CURL_POLL_OUT ? 2u : 0u), on_ready, s);
	}
	return 0;
}

/* libcurl may not be called from here.  What is due at once does not wait for the wheel. */
static int on_timer(CURLM *multi, long ms, void *lanep)
{
	struct lane *lane = lanep;
	const struct chatd_host *h = lane->ws->self->h;
	(void)multi;
	h->timer_clear(&lane->timer);
	if (ms == 0 && !lane->kicked && h->post(lane->ws->w, on_kick, lane) == 0) {
		lane->kicked = 1;
	} else if (ms >= 0) {
		h->timer_set(lane->ws->w, &lane->timer, ms, on_time, lane);
	}
	return 0;
}

chatd_status lane_start(struct lane *lane, struct wself *ws)
{
	const struct conf *conf = ws->self->conf;
	lane->ws = ws;
	TAILQ_INIT(&lane->all);
	CURLM *m = lane->multi = curl_multi_init();
	CURLMcode rc = m ? CURLM_OK : CURLM_OUT_OF_MEMORY;
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_SOCKETDATA, lane);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_timer);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_TIMERDATA, lane);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)conf->connections);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)conf->connections);
	rc = rc ? rc
			: curl_multi_setopt(m, CURLMOPT_MAX_HOST_CONNECTIONS, (long)conf->host_connections);
	return rc ? -ENOMEM : 0;
}

chatd_status lane_add(struct lane *lane, struct request *r)
{
	if (curl_multi_add_handle(lane->multi, r->easy) != CURLM_OK) {
		return -ENOMEM;
	}
	r->lane = lane;
	TAILQ_INSERT_TAIL(&lane->all, r, link);
	lane->ws->n++;
	atomic_fetch_add(&lane->ws->self->under_way, 1);
	return 0;
}

void lane_stop(struct lane *lane)
{
	struct request *r;
	if (!lane->multi) {
		return;
	}
	while ((r = TAILQ_FIRST(&lane->all))) {
		request_cancel(r, -ESHUTDOWN);
	}
	CURLM *m = lane->multi;
	(void)curl_multi_cleanup(m); /* on_socket() runs for connections that were kept */
	lane->multi = NULL;
	lane->ws->self->h->timer_clear(&lane->timer);
}
