/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include <chatd-sdk/thread.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct outbox {
	struct self *self;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct mail *queue;
	struct mail *under_way;
	int64_t waiting;
	int stop;
	atomic_int hurry; /* the mail under way belongs to a worker that stops */
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* ---- one attempt ------------------------------------------------------------------------- */

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
	struct mail *m = arg;
	size_t left = m->n - m->at, take = size * n < left ? size * n : left;
	memcpy(to, m->bytes + m->at, take);
	m->at += take;
	return take;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct outbox *box = arg;
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return atomic_load(&box->hurry); /* anything but 0 ends the transfer */
}

static void set_server(CURL *curl, const struct conf *conf)
{
	char url[640];
	int v6 = strchr(conf->host, ':') != NULL;
	snprintf(url, sizeof(url), "%s://%s%s%s:%d%s%s",
			conf->security == SECURITY_TLS ? "smtps" : "smtp", v6 ? "[" : "", conf->host,
			v6 ? "]" : "", (int)conf->port, conf->helo ? "/" : "", conf->helo ? conf->helo : "");
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* not what the environment says */
	curl_easy_setopt(curl, CURLOPT_USE_SSL,
			conf->security == SECURITY_NONE ? (long)CURLUSESSL_NONE : (long)CURLUSESSL_ALL);
	if (conf->ca_file) {
		curl_easy_setopt(curl, CURLOPT_CAINFO, conf->ca_file);
		curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
	}
	if (conf->user) {
		curl_easy_setopt(curl, CURLOPT_USERNAME, conf->user);
		curl_easy_setopt(curl, CURLOPT_PASSWORD, conf->password);
	}
}

/* 0: the mail server has it; *ret_again: it may take it later. */
static chatd_status attempt(struct outbox *box, struct mail *m, int *ret_again)
{
	const struct self *self = box->self;
	const struct conf *conf = self->conf;
	char from[ADDRESS_MAX + 3], why[CURL_ERROR_SIZE] = "";
	CURL *curl = curl_easy_init();
	struct curl_slist *to = curl_slist_append(NULL, m->to);
	long code = 0;
	CURLcode rc = CURLE_OUT_OF_MEMORY;
	if (curl && to) {
		snprintf(from, sizeof(from), "<%s>", conf->from);
		m->at = 0;
		set_server(curl, conf);
		curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
		curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)conf->connect_timeout);
		curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)conf->send_timeout);
		curl_easy_setopt(curl, CURLOPT_MAIL_FROM, from);
		curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, to);
		curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(curl, CURLOPT_READDATA, m);
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
		curl_easy_setopt(curl, CURLOPT_XFERINFODATA, box);
		rc = curl_easy_perform(curl);
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
	}
	curl_slist_free_all(to);
	curl_easy_cleanup(curl);
	*ret_again = rc != CURLE_OK && !(code >= 500 && code < 600);
	if (rc != CURLE_OK) {
		/* Not to whom: addresses of people do not belong into logs. */
		self->h->log(self->ctx, CHATD_LOG_WARN, "the mail server %s:%d did not take a mail: %s",
				conf->host, (int)conf->port, why[0] ? why : curl_easy_strerror(rc));
	}
	return rc == CURLE_OK ? 0 : -EIO;
}

/* ---- the thread -------------------------------------------------------------------------- */

/* With the lock held.  The worker hears of it. */
static void give_back(struct mail *m, chatd_status rc)
{
	const uint64_t one = 1;
	m->rc = rc;
	m->next = m->seat->done;
	m->seat->done = m;
	(void)!write(m->seat->fd, &one, sizeof(one));
}

static struct mail *take_due(struct outbox *box, int64_t now, int64_t *ret_next)
{
	*ret_next = INT64_MAX;
	for (struct mail **l = &box->queue; *l; l = &(*l)->next) {
		struct mail *m = *l;
		if (m->due <= now) {
			*l = m->next;
			box->waiting--;
			return m;
		}
		*ret_next = m->due < *ret_next ? m->due : *ret_next;
	}
	return NULL;
}

static void append(struct outbox *box, struct mail *m)
{
	struct mail **l = &box->queue;
	while (*l) {
		l = &(*l)->next;
	}
	m->next = NULL;
	*l = m;
	box->waiting++;
}

/* With the lock held, which is let go meanwhile. */
static void handle(struct outbox *box, struct mail *m)
{
	int again = 0;
	box->under_way = m;
	atomic_store(&box->hurry, m->seat->stopping);
	pthread_mutex_unlock(&box->lock);
	chatd_status rc = attempt(box, m, &again);
	pthread_mutex_lock(&box->lock);
	box->under_way = NULL;
	m->tries++;
	if (m->seat->stopping && rc < 0) {
		give_back(m, -ESHUTDOWN);
	} else if (rc < 0 && again && m->tries < box->self->conf->tries) {
		int64_t shift = m->tries < 10 ? 2 * (m->tries - 1) : 20;
		int64_t pause = box->self->conf->retry << shift;
		m->due = now_ms() + (pause < 3600000 ? pause : 3600000);
		append(box, m);
	} else {
		give_back(m, rc);
	}
	pthread_cond_broadcast(&box->idle);
}

static void *run(void *arg)
{
	struct outbox *box = arg;
	pthread_mutex_lock(&box->lock);
	while (!box->stop) {
		int64_t next;
		struct mail *m = take_due(box, now_ms(), &next);
		if (m) {
			handle(box, m);
		} else if (next == INT64_MAX) {
			pthread_cond_wait(&box->work, &box->lock);
		} else {
			struct timespec until = { .tv_sec = next / 1000, .tv_nsec = next % 1000 * 1000000 };
			pthread_cond_timedwait(&box->work, &box->lock, &until);
		}
	}
	pthread_mutex_unlock(&box->lock);
	return NULL;
}

/* ---- the workers' side --------------------------------------------------------------------- */

static void answer(struct seat *seat)
{
	const struct chatd_host *h = seat->box->self->h;
	pthread_mutex_lock(&seat->box->lock);
	struct mail *m = seat->done;
	seat->done = NULL;
	pthread_mutex_unlock(&seat->box->lock);
	while (m) {
		struct mail *next = m->next;
		m->fn(m->arg, m->rc);
		memset(m->bytes, 0, m->n); /* there may be a code in it */
		free(m->bytes);
		h->mem_free(m);
		m = next;
	}
}

static void on_done(void *arg, uint32_t ready)
{
	struct seat *seat = arg;
	uint64_t n;
	(void)ready;
	(void)!read(seat->fd, &n, sizeof(n));
	answer(seat);
}

chatd_status outbox_put(struct outbox *box, struct mail *m)
{
	chatd_status rc = -EAGAIN;
	pthread_mutex_lock(&box->lock);
	if (box->waiting < box->self->conf->queue && !m->seat->stopping) {
		m->due = now_ms();
		append(box, m);
		rc = 0;
		pthread_cond_signal(&box->work);
	}
	pthread_mutex_unlock(&box->lock);
	return rc;
}

chatd_status outbox_sit(struct outbox *box, chatd_worker *w, struct seat *seat)
{
	*seat = (struct seat){ .box = box, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (seat->fd < 0) {
		seat->box = NULL;
		return -errno;
	}
	seat->watch = box->self->h->watch_fd(w, seat->fd, 1, on_done, seat);
	return seat->watch ? 0 : -ENOMEM;
}

void outbox_rise(struct seat *seat)
{
	struct outbox *box = seat->box;
	pthread_mutex_lock(&box->lock);
	seat->stopping = 1;
	for (struct mail **l = &box->queue; *l;) {
		struct mail *m = *l;
		if (m->seat == seat) {
			*l = m->next;
			box->waiting--;
			give_back(m, -ESHUTDOWN);
		} else {
			l = &m->next;
		}
	}
	while (box->under_way && box->under_way->seat == seat) {
		atomic_store(&box->hurry, 1);
		pthread_cond_wait(&box->idle, &box->lock);
	}
	pthread_mutex_unlock(&box->lock);
	answer(seat);
	box->self->h->unwatch(seat->watch);
	close(seat->fd);
	seat->box = NULL;
}

/* ---- life ---------------------------------------------------------------------------------- */

struct outbox *outbox_create(struct self *self)
{
	pthread_condattr_t attr;
	struct outbox *box = self->h->mem_alloc(sizeof(*box));
	if (!box) {
		return NULL;
	}
	box->self = self;
	pthread_mutex_init(&box->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&box->work, &attr);
	pthread_cond_init(&box->idle, &attr);
	pthread_condattr_destroy(&attr);
	if (chatd_thread(&box->thread, "chatd-smtp", run, box) < 0) {
		pthread_mutex_destroy(&box->lock);
		pthread_cond_destroy(&box->work);
		pthread_cond_destroy(&box->idle);
		self->h->mem_free(box);
		return NULL;
	}
	return box;
}

void outbox_destroy(struct outbox *box)
{
	if (!box) {
		return;
	}
	pthread_mutex_lock(&box->lock);
	box->stop = 1;
	pthread_cond_signal(&box->work);
	pthread_mutex_unlock(&box->lock);
	pthread_join(box->thread, NULL);
	pthread_mutex_destroy(&box->lock);
	pthread_cond_destroy(&box->work);
	pthread_cond_destroy(&box->idle);
	box->self->h->mem_free(box);
}
