/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's descriptors and its clock, on libevent. */
#include "helper.h"

#include <stdlib.h>

/* Transfers that have ended. */
static void collect(struct lane *lane)
{
	CURLMsg *m;
	int left;
	while ((m = curl_multi_info_read(lane->multi, &left))) {
		struct transfer *t = NULL;
		if (m->msg == CURLMSG_DONE &&
				curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t) == CURLE_OK) {
			transfer_finish(t, m->data.result);
		}
	}
}

static void act(struct lane *lane, curl_socket_t fd, int what)
{
	int running;
	(void)curl_multi_socket_action(lane->multi, fd, what, &running);
	collect(lane);
}

static void on_ready(evutil_socket_t fd, short ready, void *arg)
{
	act(arg, fd,
			(ready & EV_READ ? CURL_CSELECT_IN : 0) | (ready & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_time(evutil_socket_t fd, short ready, void *arg)
{
	(void)fd;
	(void)ready;
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* Without memory for an event the request ends by its timeout. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *lanep, void *known)
{
	struct lane *lane = lanep;
	struct event *e = known;
	(void)easy;
	if (e) {
		event_free(e);
		e = NULL;
	}
	if (what != CURL_POLL_REMOVE) {
		int on = (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0);
		e = event_new(lane->helper->base, fd, (short)(on | EV_PERSIST), on_ready, lane);
		if (e) {
			(void)event_add(e, NULL);
		}
	}
	(void)curl_multi_assign(lane->multi, fd, e);
	return 0;
}

/* libcurl may not be called from here. */
static int on_timer(CURLM *multi, long ms, void *lanep)
{
	const struct lane *lane = lanep;
	const struct timeval in = { ms / 1000, ms % 1000 * 1000 };
	(void)multi;
	if (ms < 0) {
		(void)event_del(lane->timer);
	} else {
		(void)event_add(lane->timer, &in);
	}
	return 0;
}

int lane_start(struct lane *lane, struct helper *helper)
{
	const struct wire_setup *s = &helper->setup;
	lane->helper = helper;
	lane->timer = event_new(helper->base, -1, 0, on_time, lane);
	CURLM *m = lane->multi = curl_multi_init();
	if (!lane->timer || !m) {
		return -1;
	}
	CURLMcode rc = curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_SOCKETDATA, lane);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_timer);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_TIMERDATA, lane);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)s->connections);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)s->connections);
	rc = rc ? rc : curl_multi_setopt(m, CURLMOPT_MAX_HOST_CONNECTIONS, (long)s->host_connections);
	return rc ? -1 : 0;
}

int lane_add(struct transfer *t)
{
	return curl_multi_add_handle(t->lane->multi, t->easy) == CURLM_OK ? 0 : -1;
}
