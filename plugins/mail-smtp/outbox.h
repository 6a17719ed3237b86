/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file outbox.h
 * @brief The mails that wait, and the one thread that hands them to the mail server.
 *
 * A worker puts a mail into the queue; the thread sends it, again if it must, and puts it into
 * the list of its worker, which an eventfd tells.
 */
#ifndef MAIL_OUTBOX_H
#define MAIL_OUTBOX_H

#include "letter.h"

#include <chatd/mailer.h>
#include <chatd/plugin.h>

enum { SECURITY_STARTTLS, SECURITY_TLS, SECURITY_NONE };

struct conf {
	const char *host, *ca_file, *user, *password, *from, *from_name, *helo;
	int32_t security;
	int64_t port, queue, connect_timeout, send_timeout, tries, retry;
};

struct self {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	const struct conf *conf;
	struct outbox *outbox;
};

/** What a worker has of its own. */
struct seat {
	struct outbox *box;
	chatd_watch *watch;
	int fd;
	int stopping;      /* guarded by the box's lock, like the rest below */
	struct mail *done; /* sent or given up: fn must hear of it */
};

struct wself {
	struct seat seat;
};

struct mail {
	struct mail *next;
	struct seat *seat;
	chatd_mail_fn *fn;
	void *arg;
	chatd_status rc;
	int64_t due, tries;
	size_t n, at; /* at: what curl has read */
	char *bytes;  /* free() */
	char to[ADDRESS_MAX + 3];
};

struct outbox *outbox_create(struct self *); /**< [main] NULL: no memory or no thread */
void outbox_destroy(struct outbox *);        /**< [main] after the workers; NULL is fine */
chatd_status outbox_sit(struct outbox *, chatd_worker *, struct seat *); /**< [worker] */
/** [worker] What is not sent yet is answered with -ESHUTDOWN. */
void outbox_rise(struct seat *);
/** [worker] It is the box's now, unless this says -EAGAIN: the queue is full. */
chatd_status outbox_put(struct outbox *, struct mail *);

#endif
