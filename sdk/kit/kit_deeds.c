/* SPDX-License-Identifier: Apache-2.0 */
/* Fakes of what reaches outside; see chatd/kit_fakes.h. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FETCH_MS = 5000 }; /* fetch's request_timeout, as it is if nobody says otherwise */

/* A request that was made or a mail that was sent. */
struct deed {
	struct deed *next;
	const char *method, *url, *body; /* a mail: method NULL, url: whom to */
};

struct kit_deeds {
	struct deed *first;
	int32_t status; /* 0: nobody is there */
	char *answer;
	int64_t retry_ms;
};

struct question {
	struct kit_answer a; /* first */
	union {
		chatd_fetch_fn *fetched;
		chatd_mail_fn *mailed;
		chatd_limiter_fn *taken;
	} to;
	void *arg;
};

static struct kit_deeds *deeds(struct kit *k)
{
	if (!k->deeds) {
		k->deeds = calloc(1, sizeof(*k->deeds));
	}
	if (!k->deeds) {
		kit_broken(k, "no memory for the test itself");
	}
	return k->deeds;
}

static void note(struct kit *k, const char *method, struct chatd_str url, struct chatd_str body)
{
	struct deed *d = calloc(1, sizeof(*d)), **at = &deeds(k)->first;
	if (!d) {
		kit_broken(k, "no memory for the test itself");
		return;
	}
	d->method = method ? kit_dup(str_of(method)) : NULL;
	d->url = kit_dup(url);
	d->body = kit_dup(body.p ? body : CHATD_LIT(""));
	while (*at) {
		at = &(*at)->next;
	}
	*at = d;
}

static void question_free(struct kit_answer *a)
{
	free(a);
}

static struct question *ask(chatd_worker *w, void (*give)(struct kit_answer *), void *arg)
{
	struct question *q = calloc(1, sizeof(*q));
	if (!q) {
		kit_broken(w->k, "no memory for the test itself");
		return NULL;
	}
	q->a = (struct kit_answer){ .k = w->k, .w = w, .give = give, .free = question_free };
	q->arg = arg;
	return q;
}

/* ---- fetch ---------------------------------------------------------------------- */

static void give_fetched(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	const struct kit_deeds *d = deeds(a->k);
	chatd_status rc = a->rc < 0 ? a->rc : d->status ? 0 : -ECONNREFUSED;
	const struct chatd_fetch_answer answer = { .struct_size = sizeof(answer),
		.status = rc == 0 ? d->status : 0,
		.body = str_of(rc == 0 && d->answer ? d->answer : ""),
		.type = rc == 0 ? CHATD_LIT("application/json") : chatd_str_of(NULL, 0),
		.why = rc == 0 ? chatd_str_of(NULL, 0) : CHATD_LIT("the test wants it so") };
	q->to.fetched(q->arg, rc, &answer);
}

static chatd_status f_check(
		void *obj, struct chatd_str url, uint32_t flags, struct chatd_str *ret_why)
{
	(void)obj;
	int good = (url.n > 8 && memcmp(url.p, "https://", 8) == 0) ||
			(!(flags & CHATD_FETCH_OUTSIDE) && url.n > 7 && memcmp(url.p, "http://", 7) == 0);
	if (!good && ret_why) {
		*ret_why = CHATD_LIT("the URL must begin with https://");
	}
	return good ? 0 : -EINVAL;
}

static chatd_status f_fetch(void *obj, chatd_worker *w, const struct chatd_fetch_request *r,
		chatd_fetch_fn *fn, void *arg)
{
	if (f_check(obj, r->url, r->flags, NULL) < 0 || r->body.n > CHATD_FETCH_BODY_MAX) {
		return -EINVAL;
	}
	struct question *q = ask(w, give_fetched, arg);
	struct kit *k = w->k;
	char *method = kit_dup(r->method);
	q->to.fetched = fn;
	q->a.due = k->now + (r->timeout > 0 ? r->timeout : FETCH_MS);
	chatd_status rc = kit_answers_send(&q->a, KIT_FETCH);
	if (rc == 0) {
		note(k, method, r->url, r->body);
	}
	free(method);
	return rc;
}

const struct chatd_fetch kit_fetch_vt = {
	.struct_size = sizeof(kit_fetch_vt), .fetch = f_fetch, .check = f_check
};

void kit_fetch_gives(struct kit *k, int32_t status, const char *body)
{
	struct kit_deeds *d = deeds(k);
	free(d->answer);
	d->status = status;
	d->answer = kit_dup(str_of(body ? body : ""));
}

/* ---- mailer --------------------------------------------------------------------- */

static void give_mailed(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	q->to.mailed(q->arg, a->rc);
}

static chatd_status m_send(
		void *obj, chatd_worker *w, const struct chatd_mail *mail, chatd_mail_fn *fn, void *arg)
{
	struct question *q = ask(w, give_mailed, arg);
	struct kit *k = w->k;
	(void)obj;
	q->to.mailed = fn;
	chatd_status rc = kit_answers_send(&q->a, KIT_MAILER);
	if (rc == 0) {
		note(k, NULL, mail->to, mail->text);
	}
	return rc;
}

const struct chatd_mailer kit_mailer_vt = { .struct_size = sizeof(kit_mailer_vt), .send = m_send };

/* ---- limiter -------------------------------------------------------------------- */

static void give_taken(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	int64_t retry = deeds(a->k)->retry_ms;
	q->to.taken(q->arg, a->rc < 0 ? a->rc : retry ? -EDQUOT : 0, retry);
}

static chatd_status l_take(
		void *obj, chatd_worker *w, const struct chatd_bucket *b, chatd_limiter_fn *fn, void *arg)
{
	struct question *q = ask(w, give_taken, arg);
	(void)obj;
	(void)b;
	q->to.taken = fn;
	return kit_answers_send(&q->a, KIT_LIMITER);
}

const struct chatd_limiter kit_limiter_vt = { .struct_size = sizeof(kit_limiter_vt),
	.take = l_take };

void kit_limit(struct kit *k, int64_t retry_ms)
{
	deeds(k)->retry_ms = retry_ms;
}

/* ---- expectations ------------------------------------------------------------------ */

static void deed_free(struct deed *d)
{
	free((char *)(uintptr_t)d->method);
	free((char *)(uintptr_t)d->url);
	free((char *)(uintptr_t)d->body);
	free(d);
}

static const char *or_mail(const char *method)
{
	return method ? method : "a mail to";
}

/* The oldest deed is this one; it is taken away. */
static void expect(struct kit *k, const struct deed *want, struct kit_at at)
{
	struct kit_deeds *all = deeds(k);
	struct deed *d = all->first;
	if (kit_muted(k)) {
		return;
	}
	if (!d || (d->method == NULL) != (want->method == NULL) ||
			(d->method && strcmp(d->method, want->method) != 0) || !strstr(d->url, want->url) ||
			(want->body && !strstr(d->body, want->body))) {
		kit_die(k, at.file, at.line, "sent: %s %s: %s; expected: %s ...%s...: ...%s...",
				d ? or_mail(d->method) : "nothing", d ? d->url : "", d ? d->body : "",
				or_mail(want->method), want->url, want->body ? want->body : "");
		return;
	}
	all->first = d->next;
	deed_free(d);
}

void kit_expect_fetched_at(
		struct kit *k, const char *method, const char *url, const char *body, struct kit_at at)
{
	const struct deed want = { .method = method, .url = url, .body = body };
	expect(k, &want, at);
}

void kit_expect_mailed_at(struct kit *k, const char *to, const char *text, struct kit_at at)
{
	const struct deed want = { .url = to, .body = text };
	expect(k, &want, at);
}

void kit_expect_nothing_sent_at(struct kit *k, struct kit_at at)
{
	const struct deed *d = deeds(k)->first;
	if (d && !kit_muted(k)) {
		kit_die(k, at.file, at.line, "sent: %s %s: %s; expected nothing", or_mail(d->method),
				d->url, d->body);
	}
}

void kit_deeds_finish(struct kit *k)
{
	while (k->deeds && k->deeds->first) {
		struct deed *next = k->deeds->first->next;
		deed_free(k->deeds->first);
		k->deeds->first = next;
	}
	if (k->deeds) {
		free(k->deeds->answer);
	}
	free(k->deeds);
	k->deeds = NULL;
}
