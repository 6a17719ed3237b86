/* SPDX-License-Identifier: Apache-2.0 */
/* Expectations.  All hold their tongue once a failure has been injected. */
#include "base/str.h"
#include "chat/ident.h"
#include "chat/msg.h"
#include "kit_impl.h"

#include <stdlib.h>
#include <string.h>

static const char *verdict_name(chatd_verdict v)
{
	switch (v) {
	case CHATD_ACCEPT:
		return "accepted";
	case CHATD_DROP:
		return "dropped";
	case CHATD_REJECT:
		return "rejected";
	default:
		return "answered in a way that is none";
	}
}

static int has(struct chatd_str text, const char *part)
{
	return !part || !*part || (text.n && memmem(text.p, text.n, part, strlen(part)) != NULL);
}

static int expect_verdict(struct kit *k, chatd_verdict want, struct kit_at at)
{
	const struct kit_outcome *o = &k->last;
	if (kit_muted(k)) {
		return 0;
	}
	if (!o->answered) {
		kit_die(k, at.file, at.line, "the request has no answer; expected it %s",
				verdict_name(want));
	}
	if (o->verdict != want) {
		kit_die(k, at.file, at.line, "the request was %s (%s: %s); expected it %s",
				verdict_name(o->verdict), o->code ? o->code : "no code", o->why ? o->why : "",
				verdict_name(want));
	}
	return 1;
}

void kit_expect_waiting_at(struct kit *k, size_t n, struct kit_at at)
{
	if (!kit_muted(k) && k->n_tickets != n) {
		kit_die(k, at.file, at.line, "%zu requests wait; expected %zu", k->n_tickets, n);
	}
}

void kit_expect_accept_at(struct kit *k, struct kit_at at)
{
	(void)expect_verdict(k, CHATD_ACCEPT, at);
}

void kit_expect_drop_at(struct kit *k, struct kit_at at)
{
	(void)expect_verdict(k, CHATD_DROP, at);
}

void kit_expect_reject_at(struct kit *k, const char *code, const char *text, struct kit_at at)
{
	const struct kit_outcome *o = &k->last;
	if (!expect_verdict(k, CHATD_REJECT, at)) {
		return;
	}
	if ((code && (!o->code || strcmp(o->code, code) != 0)) || !has(str_of(o->why), text)) {
		kit_die(k, at.file, at.line, "rejected with %s: %s; expected %s: ...%s...",
				o->code ? o->code : "no code", o->why ? o->why : "", code ? code : "any code",
				text ? text : "");
	}
}

struct chatd_str kit_reply(struct kit *k, const char *header)
{
	return k->last.reply ? msg_get(k->last.reply, header) : chatd_str_of(NULL, 0);
}

void kit_expect_reply_at(struct kit *k, const char *header, const char *value, struct kit_at at)
{
	struct chatd_str have = kit_reply(k, header);
	if (kit_muted(k)) {
		return;
	}
	if (value ? !have.p || !str_is(have, value) : have.p != NULL) {
		kit_die(k, at.file, at.line, "the answer's header %s is %.*s; expected %s", header,
				have.p ? (int)have.n : 6, have.p ? have.p : "absent", value ? value : "none");
	}
}

void kit_expect_user_at(struct kit *k, const char *user, uint32_t flags, struct kit_at at)
{
	const chatd_ident *i = k->last.ident;
	if (!expect_verdict(k, CHATD_ACCEPT, at)) {
		return;
	}
	if (!i || !str_is(ident_user(i), user) || ident_flags(i) != flags) {
		struct chatd_str have = i ? ident_user(i) : CHATD_LIT("nobody");
		kit_die(k, at.file, at.line, "logged in as %.*s with flags %u; expected %s with %u",
				(int)have.n, have.p, i ? ident_flags(i) : 0, user, flags);
	}
}

static int published_fits(const struct kit_published *p, struct kit_to to, const char *part)
{
	int same_user = p->user && to.user ? strcmp(p->user, to.user) == 0 : !p->user && !to.user;
	return !p->taken && same_user && str_is(msg_dest(p->msg), to.dest) &&
			has(msg_body(p->msg), part);
}

static const struct kit_published *untaken(const struct kit_published *p)
{
	while (p && p->taken) {
		p = p->next;
	}
	return p;
}

static void expect_one(struct kit *k, struct kit_published *all, const char *was, struct kit_to to,
		const char *part, struct kit_at at)
{
	if (kit_muted(k)) {
		return;
	}
	for (struct kit_published *p = all; p; p = p->next) {
		if (published_fits(p, to, part)) {
			p->taken = 1;
			return;
		}
	}
	const struct kit_published *p = untaken(all);
	struct chatd_str d = p ? msg_dest(p->msg) : CHATD_LIT("none");
	struct chatd_str b = p ? msg_body(p->msg) : CHATD_LIT("");
	kit_die(k, at.file, at.line,
			"nothing like ...%s... was %s to %s%s%s; the oldest that is left: %s %.*s: %.*s",
			part ? part : "", was, to.user ? to.user : "", to.user ? ": " : "", to.dest,
			p && p->user ? p->user : "", (int)d.n, d.p, (int)b.n, b.p);
}

static void expect_none(
		struct kit *k, const struct kit_published *all, const char *was, struct kit_at at)
{
	const struct kit_published *p = untaken(all);
	if (p && !kit_muted(k)) {
		struct chatd_str d = msg_dest(p->msg), b = msg_body(p->msg);
		kit_die(k, at.file, at.line, "%s to %s %.*s: %.*s; expected nothing", was,
				p->user ? p->user : "", (int)d.n, d.p, (int)b.n, b.p);
	}
}

void kit_expect_published_at(struct kit *k, struct kit_to to, const char *part, struct kit_at at)
{
	expect_one(k, k->published, "published", to, part, at);
}

void kit_expect_nothing_published_at(struct kit *k, struct kit_at at)
{
	expect_none(k, k->published, "published", at);
}

void kit_expect_said_at(struct kit *k, struct kit_to to, const char *part, struct kit_at at)
{
	expect_one(k, k->said, "said", to, part, at);
}

void kit_expect_nothing_said_at(struct kit *k, struct kit_at at)
{
	expect_none(k, k->said, "said", at);
}

void kit_expect_delivery_at(
		struct kit_client *c, const char *dest, const char *part, struct kit_at at)
{
	struct kit_delivery *d = c->got;
	if (kit_muted(c->k)) {
		return;
	}
	if (!d || strcmp(d->dest, dest) != 0 || !has(str_of(d->body), part)) {
		kit_die(c->k, at.file, at.line, "%s got %s: %s; expected %s: ...%s...",
				c->user ? c->user : "the client", d ? d->dest : "nothing", d ? d->body : "", dest,
				part ? part : "");
		return;
	}
	c->got = d->next;
	if (!c->got) {
		c->got_tail = &c->got;
	}
	free(d->dest);
	free(d->body);
	free(d);
}

void kit_expect_quiet_at(struct kit_client *c, struct kit_at at)
{
	if (c->got && !kit_muted(c->k)) {
		kit_die(c->k, at.file, at.line, "%s got %s: %s; expected nothing",
				c->user ? c->user : "the client", c->got->dest, c->got->body);
	}
}

void kit_expect_closed_at(struct kit_client *c, int32_t code, struct kit_at at)
{
	if (kit_muted(c->k)) {
		return;
	}
	if (c->s || c->code != code) {
		kit_die(c->k, at.file, at.line, "the session is %s (code %d); expected %d",
				c->s ? "there" : "closed", c->code, code);
	}
}

void kit_expect_logged_at(struct kit *k, const char *part, struct kit_at at)
{
	if (!kit_muted(k) && !has(str_of(k->log), part)) {
		kit_die(k, at.file, at.line, "no line with \"%s\" in the log:\n%s", part,
				k->log ? k->log : "");
	}
}

void kit_expect_complaint_at(
		const struct chatd_plugin *plugin, const char *yaml, const char *part, struct kit_at at)
{
	char *said = kit_complaints(plugin, yaml);
	if (!said || !strstr(said, part)) {
		kit_die(NULL, at.file, at.line, "of the options \"%s\" is said: %s; expected: ...%s...",
				yaml, said ? said : "nothing", part);
	}
	free(said);
}
