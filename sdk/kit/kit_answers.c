/* SPDX-License-Identifier: Apache-2.0 */
/* How the fakes of services answer: by post, when the test says so, or with the error that it
 * wants; exactly once, as their contracts say, unless the test wants it otherwise.  And the
 * trouble that kit_trouble() makes with one answer after the other. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/fetch.h>
#include <chatd/limiter.h>
#include <chatd/mailer.h>
#include <chatd/store.h>
#include <chatd/stream.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const kit_service_names[KIT_SERVICES] = {
	[KIT_PRESENCE] = CHATD_PRESENCE,
	[KIT_ACCOUNTS] = CHATD_ACCOUNTS,
	[KIT_ROOMS] = CHATD_ROOMS,
	[KIT_FETCH] = CHATD_FETCH,
	[KIT_MAILER] = CHATD_MAILER,
	[KIT_LIMITER] = CHATD_LIMITER,
	[KIT_USERS] = CHATD_USERS,
	[KIT_LOG] = CHATD_LOG,
	[KIT_CLUSTER] = CHATD_CLUSTER,
	[KIT_STATS] = CHATD_STATS,
	[KIT_REDIS] = CHATD_REDIS,
	[KIT_PLUGINS] = CHATD_PLUGINS,
	[KIT_HTTP] = CHATD_HTTP,
	[KIT_NET] = CHATD_NET,
	[KIT_AUDIT] = CHATD_AUDIT,
	[KIT_REPORTS] = CHATD_REPORTS,
	[KIT_PRIVACY] = CHATD_PRIVACY,
	[KIT_TOKENS] = CHATD_TOKENS,
	[KIT_CIPHER] = CHATD_CIPHER,
	[KIT_WEBSOCKET] = CHATD_WEBSOCKET,
	[KIT_SOCKJS] = CHATD_SOCKJS,
};

static int index_of(struct kit *k, const char *interface)
{
	for (int i = 0; i < KIT_ASKED; i++) {
		if (strcmp(kit_service_names[i], interface) == 0) {
			return i;
		}
	}
	if (strcmp(interface, CHATD_STORE) == 0) {
		kit_broken(k,
				"the store answers later with kit_store_hold() and kit_store_fail(), of "
				"<chatd/kit_store.h>");
	} else {
		kit_broken(k, "%s is none of the kit's services that answer later", interface);
	}
	return 0;
}

/* ---- one answer --------------------------------------------------------------- */

static void on_answer(void *arg)
{
	struct kit_answer *a = arg;
	kit_step_is("the answer of", kit_service_names[a->of]);
	a->give(a);
	if (a->again) {
		a->again = 0;
		(void)worker_post(a->w, on_answer, a);
		return;
	}
	a->free(a);
}

static void post(struct kit_answer *a)
{
	if (worker_post(a->w, on_answer, a) < 0) {
		kit_broken(a->k, "no memory for the test itself");
	}
}

static void hold(struct kit_answer *a)
{
	struct kit_answer **at = &a->k->held[a->of];
	while (*at) {
		at = &(*at)->next;
	}
	*at = a;
}

void kit_depart(struct kit *k)
{
	kit_http_depart(k);
	kit_sockets_leave(k, CHATD_END_EOF);
	kit_clients_close(k);
	kit_net_leave(k, CHATD_END_EOF);
}

/* Whoever asked goes, and then the answer comes. */
static void depart(void *arg)
{
	struct kit_answer *a = arg;
	kit_depart(a->k);
	post(a);
}

chatd_status kit_answers_send(struct kit_answer *a, int of)
{
	struct kit *k = a->k;
	chatd_status rc = k->refuse[of];
	a->of = of;
	if (k->here != a->w) {
		kit_broken(
				k, "%s was asked for worker %d, but not on it", kit_service_names[of], a->w->index);
	}
	if (rc == 0 && kit_fault(k)) {
		rc = -ENOMEM;
	}
	k->refuse[of] = 0;
	if (rc < 0) {
		a->free(a);
		return rc;
	}
	switch (kit_trouble_now(k)) {
	case KIT_FAILED:
		a->rc = -EIO;
		break;
	case KIT_DEPARTED:
		return worker_post(a->w, depart, a);
	case KIT_LATE:
	case KIT_NEVER:
		a->due = 0;
		hold(a);
		return 0;
	default:
		break;
	}
	if (k->hold[of]) {
		hold(a);
	} else {
		post(a);
	}
	return 0;
}

/* ---- what the test has forgotten, or wants to see -------------------------------------------- */

int64_t kit_answers_due(const struct kit *k)
{
	int64_t first = INT64_MAX;
	for (int i = 0; i < KIT_ASKED; i++) {
		for (const struct kit_answer *a = k->held[i]; a; a = a->next) {
			first = a->due && a->due < first ? a->due : first;
		}
	}
	return first;
}

void kit_answers_expire(struct kit *k)
{
	for (int i = 0; i < KIT_ASKED; i++) {
		for (struct kit_answer **at = &k->held[i]; *at;) {
			struct kit_answer *a = *at;
			if (!a->due || a->due > k->now) {
				at = &a->next;
				continue;
			}
			*at = a->next;
			a->rc = -ETIMEDOUT;
			post(a);
		}
	}
}

/* ---- the test's side ------------------------------------------------------------ */

void kit_hold(struct kit *k, const char *interface, int on)
{
	int s = index_of(k, interface);
	k->hold[s] = on;
	while (!on && k->held[s]) {
		kit_answer(k, interface);
	}
}

size_t kit_held(struct kit *k, const char *interface)
{
	size_t n = 0;
	for (const struct kit_answer *a = k->held[index_of(k, interface)]; a; a = a->next) {
		n++;
	}
	return n;
}

static void answer(
		struct kit *k, const char *interface, chatd_status rc, const char *code, int again)
{
	int s = index_of(k, interface);
	struct kit_answer *a = k->held[s];
	if (!a) {
		if (!k->injected) {
			kit_broken(k, "nobody asked %s anything that is still open", interface);
		}
		return;
	}
	k->held[s] = a->next;
	a->rc = rc;
	a->code = code;
	a->again = again;
	post(a);
	kit_settle(k);
}

void kit_answer_error(struct kit *k, const char *interface, chatd_status rc)
{
	answer(k, interface, rc, NULL, 0);
}

void kit_answer(struct kit *k, const char *interface)
{
	answer(k, interface, 0, NULL, 0);
}

void kit_answer_twice(struct kit *k, const char *interface)
{
	answer(k, interface, 0, NULL, 1);
}

void kit_answer_code(struct kit *k, const char *interface, const char *code)
{
	answer(k, interface, 0, code, 0);
}

void kit_refuse(struct kit *k, const char *interface, chatd_status rc)
{
	k->refuse[index_of(k, interface)] = rc;
}

/* ---- the end -------------------------------------------------------------------- */

void kit_answers_late(struct kit *k)
{
	if (k->trouble != KIT_LATE) {
		return;
	}
	kit_advance(k, (k->ctx.conf ? k->ctx.conf->timeout_ms : 0) + 1000);
	for (int i = 0; i < KIT_ASKED; i++) {
		while (k->held[i]) {
			kit_answer(k, kit_service_names[i]);
		}
	}
	kit_store_release(0);
}

void kit_answers_flush(struct kit *k)
{
	for (int i = 0; i < KIT_ASKED; i++) {
		while (k->held[i]) {
			kit_answer_error(k, kit_service_names[i], -ESHUTDOWN);
		}
	}
	kit_store_release(-ESHUTDOWN);
}

/* ---- questions to the plugin ------------------------------------------------------- */

struct kit_question {
	struct kit_question *next;
	struct kit *k;
	chatd_worker *w;
	char *what;
	int asked, answered;
	chatd_status rc;
};

struct kit_question *kit_ask(struct kit *k, const char *what)
{
	struct kit_question *q = calloc(1, sizeof(*q));
	if (!q || !k->here) {
		kit_broken(k, "kit_ask(): ask inside kit_on(), as a plugin would");
		return NULL;
	}
	q->k = k;
	q->w = k->here;
	q->what = kit_dup(str_of(what));
	q->next = k->questions;
	k->questions = q;
	return q;
}

void kit_asked(struct kit_question *q, chatd_status rc)
{
	q->asked = 1;
	q->rc = rc;
	if (rc < 0 && !q->k->injected) {
		kit_broken(q->k, "the question \"%s\" was refused: %s", q->what, strerror(-rc));
	}
}

void kit_answered(struct kit_question *q)
{
	struct kit *k = q->k;
	if (!q->asked) {
		kit_broken(k, "\"%s\" was answered inside the call that asked", q->what);
	}
	if (q->rc < 0) {
		kit_broken(k, "\"%s\" was refused with %d, and answered all the same", q->what, q->rc);
	}
	if (q->answered++) {
		kit_broken(k, "\"%s\" was answered twice", q->what);
	}
	if (k->here != q->w) {
		kit_broken(k, "\"%s\" was answered on another thread than the one that asked", q->what);
	}
}

void kit_questions_finish(struct kit *k)
{
	while (k->questions) {
		struct kit_question *q = k->questions;
		if (q->asked && q->rc == 0 && !q->answered) {
			kit_broken(k, "\"%s\" was never answered, not even when the plugin stopped", q->what);
		}
		k->questions = q->next;
		free(q->what);
		free(q);
	}
}
