/* SPDX-License-Identifier: Apache-2.0 */
/* Options and life; the service itself. */
#include "outbox.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const securities[] = { "starttls", "tls", "none", NULL };

static const struct chatd_opt opts[] = {
	{ .key = "host",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf, host),
			.doc = "The mail server: a name or an address." },
	{ .key = "port",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, port),
			.fallback = "587",
			.min = 1,
			.max = 65535,
			.doc = "Its port: 587 goes with starttls, 465 with tls, 25 with none." },
	{ .key = "security",
			.type = CHATD_T_CHOICE,
			.offset = offsetof(struct conf, security),
			.fallback = "starttls",
			.choices = securities,
			.doc = "starttls: TLS is demanded after the greeting; tls: from the start; none." },
	{ .key = "ca_file",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_PATH,
			.offset = offsetof(struct conf, ca_file),
			.doc = "Certificates to trust instead of the system's, as PEM." },
	{ .key = "user",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, user),
			.doc = "Login at the mail server; absent: none." },
	{ .key = "password",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_SECRET,
			.offset = offsetof(struct conf, password),
			.doc = "Its password, as env:NAME or file:PATH." },
	{ .key = "from",
			.type = CHATD_T_STRING,
			.flags = CHATD_O_REQUIRED,
			.offset = offsetof(struct conf, from),
			.doc = "The sender's address." },
	{ .key = "from_name",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, from_name),
			.fallback = "",
			.doc = "The sender's name." },
	{ .key = "helo",
			.type = CHATD_T_STRING,
			.offset = offsetof(struct conf, helo),
			.doc = "How this server introduces itself; absent: by its host name." },
	{ .key = "queue",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, queue),
			.fallback = "200",
			.min = 1,
			.max = 100000,
			.doc = "Mails that may wait; further ones are refused." },
	{ .key = "connect_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, connect_timeout),
			.fallback = "10s",
			.min = 100,
			.max = 300000,
			.doc = "So long the mail server may take to accept a connection." },
	{ .key = "send_timeout",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, send_timeout),
			.fallback = "30s",
			.min = 100,
			.max = 600000,
			.doc = "So long one attempt may take altogether." },
	{ .key = "tries",
			.type = CHATD_T_INT,
			.offset = offsetof(struct conf, tries),
			.fallback = "4",
			.min = 1,
			.max = 20,
			.doc = "Attempts before a mail is given up; refusals for good (5xx) are not repeated." },
	{ .key = "retry",
			.type = CHATD_T_DURATION,
			.offset = offsetof(struct conf, retry),
			.fallback = "5s",
			.min = 10,
			.max = 3600000,
			.doc = "The pause before the second attempt; it is four times as long each time." },
	{ 0 },
};

static int is_loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
			strcmp(host, "::1") == 0;
}

/* It becomes a part of a URL: nothing but names and addresses. */
static int host_ok(const char *host)
{
	size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:_");
	return n > 0 && n <= 253 && host[n] == '\0';
}

static chatd_status check(const struct chatd_host *h, chatd_ctx *ctx, const void *confp)
{
	const struct conf *c = confp;
	chatd_status rc = 0;
	if (!host_ok(c->host)) {
		rc = h->conf_error(ctx, "host",
				"\"%.80s\" is no host; write its name or address alone, the port goes under port",
				c->host);
	}
	if (c->helo && !host_ok(c->helo)) {
		rc = h->conf_error(ctx, "helo", "\"%.80s\" is no host name; write this server's", c->helo);
	}
	if (!letter_address_ok(chatd_str_of(c->from, strlen(c->from)))) {
		rc = h->conf_error(ctx, "from",
				"\"%.80s\" is no address; write chat@example.org, the name goes under from_name",
				c->from);
	}
	if (!c->user != !c->password) {
		rc = h->conf_error(ctx, c->user ? "password" : "user",
				"user and password go together; give both or none");
	}
	if (c->password && c->security == SECURITY_NONE && !is_loopback(c->host)) {
		rc = h->conf_error(ctx, "security",
				"none would send the password in the clear to %s; use starttls or tls", c->host);
	}
	return rc;
}

static chatd_status send_mail(
		void *obj, chatd_worker *w, const struct chatd_mail *m, chatd_mail_fn *fn, void *arg)
{
	struct self *self = obj;
	const struct chatd_host *h = self->h;
	struct wself *ws = h->worker_self(self->ctx, w);
	struct mail *mail = h->mem_alloc(sizeof(*mail));
	if (!mail) {
		return -ENOMEM;
	}
	char id[37];
	h->new_id(id);
	struct letter l = { .from = chatd_str_of(self->conf->from, strlen(self->conf->from)),
		.from_name = chatd_str_of(self->conf->from_name, strlen(self->conf->from_name)),
		.to = m->to,
		.subject = m->subject,
		.text = m->text,
		.id = id,
		.wall_ms = h->wall_ms() };
	mail->bytes = letter_write(&l, &mail->n);
	chatd_status rc = mail->bytes ? 0 : -errno;
	if (rc == 0) {
		snprintf(mail->to, sizeof(mail->to), "<%.*s>", (int)m->to.n, m->to.p);
		mail->fn = fn;
		mail->arg = arg;
		mail->seat = &ws->seat;
		rc = outbox_put(self->outbox, mail);
	}
	if (rc < 0) {
		free(mail->bytes);
		h->mem_free(mail);
	}
	return rc;
}

static const struct chatd_mailer vt = { .struct_size = sizeof(vt), .send = send_mail };

static chatd_status init(
		const struct chatd_host *h, chatd_ctx *ctx, const void *conf, void **ret_self)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		return h->fail(ctx, -ENOSYS, "libcurl cannot be initialised");
	}
	struct self *self = h->mem_alloc(sizeof(*self));
	if (!self) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	*self = (struct self){ .h = h, .ctx = ctx, .conf = conf };
	*ret_self = self;
	self->outbox = outbox_create(self);
	if (!self->outbox) {
		return h->fail(ctx, -ENOMEM, "the thread that sends mails cannot be started");
	}
	return h->provide(ctx, CHATD_MAILER, &vt, self);
}

static chatd_status worker_start(void *selfp, chatd_worker *w, void *wselfp)
{
	struct self *self = selfp;
	struct wself *ws = wselfp;
	return outbox_sit(self->outbox, w, &ws->seat);
}

static void worker_stop(void *selfp, chatd_worker *w, void *wselfp)
{
	struct wself *ws = wselfp;
	(void)selfp;
	(void)w;
	if (ws->seat.box) {
		outbox_rise(&ws->seat);
	}
}

static void fini(void *selfp)
{
	struct self *self = selfp;
	outbox_destroy(self->outbox);
	self->h->mem_free(self);
	curl_global_cleanup();
}

static const char *const provides[] = { CHATD_MAILER, NULL };

CHATD_PLUGIN = {
	CHATD_PLUGIN_HEADER,
	.name = "mail-smtp",
	.version = "0.1",
	.summary = "mails through a mail server (SMTP)",
	.provides = provides,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.worker_size = sizeof(struct wself),
	.check = check,
	.init = init,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.fini = fini,
};
