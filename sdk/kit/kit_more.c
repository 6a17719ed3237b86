/* SPDX-License-Identifier: Apache-2.0 */
/* Fakes of what is told something, or knows something of users; see chatd/kit_fakes.h. */
#include "base/str.h"
#include "kit_impl.h"

#include <chatd/kit_fakes.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HEARERS_MAX = 8, STATS_MAX = 64 };

/* What a service was told: of whom or what, and the rest. */
struct told {
	struct told *next;
	const char *service; /* a literal */
	char *what, *text;
};

/* Two users of whom one has blocked the other; .b NULL: who hides what is read. */
struct pair {
	struct pair *next;
	char *a, *b;
};

struct token {
	struct token *next;
	char *text;
	struct chatd_claims claims; /* its texts are the token's own */
};

struct stat {
	struct chatd_stat_def def;
	int64_t added;
};

struct kit_more {
	struct told *told;
	struct pair *pairs;
	struct token *tokens;
	uint32_t n_tokens;
	int privacy_unknown, cluster_down;
	struct {
		chatd_privacy_event *fn;
		void *arg;
	} blocks[HEARERS_MAX];
	struct {
		chatd_log_event *fn;
		void *arg;
		int stored; /* stored(), not watch() */
	} rows[HEARERS_MAX];
	struct chatd_cluster_receiver receivers[HEARERS_MAX];
	struct stat stats[STATS_MAX];
	size_t n_blocks, n_rows, n_receivers, n_stats;
};

struct question {
	struct kit_answer a; /* first */
	union {
		chatd_users_done *done;
		chatd_stats_fn *stats;
		void (*sent)(void *arg, chatd_status rc);
	} to;
	void *arg;
};

static struct kit_more *more(struct kit *k)
{
	k->more = k->more ? k->more : calloc(1, sizeof(*k->more));
	if (!k->more) {
		kit_broken(k, "no memory for the test itself");
	}
	return k->more;
}

static void here(struct kit *k, const chatd_worker *w, const char *what)
{
	if (k->here != w) {
		kit_broken(k, "%s was called for worker %d, but not on it", what, worker_index(w));
	}
}

static chatd_status in_init(struct kit *k, size_t n, const char *what)
{
	if (!k->registering) {
		kit_broken(k, "%s is for init() only", what);
	}
	return kit_fault(k) ? -ENOMEM : n == HEARERS_MAX ? -ENOSPC : 0;
}

void kit_note(struct kit *k, const char *service, struct chatd_str what, char *text)
{
	struct told *t = calloc(1, sizeof(*t)), **at = &more(k)->told;
	if (!t) {
		kit_broken(k, "no memory for the test itself");
		return;
	}
	t->service = service;
	t->what = kit_dup(what.p ? what : CHATD_LIT(""));
	t->text = text ? text : kit_dup(CHATD_LIT(""));
	while (*at) {
		at = &(*at)->next;
	}
	*at = t;
}

/* "bob (spam)": the parts that are there. */
char *kit_words(struct chatd_str a, struct chatd_str b)
{
	char *text = malloc(a.n + b.n + 4);
	if (text) {
		snprintf(text, a.n + b.n + 4, "%.*s%s%.*s%s", (int)a.n, a.n ? a.p : "", b.n ? " (" : "",
				(int)b.n, b.n ? b.p : "", b.n ? ")" : "");
	}
	return text;
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

/* ---- audit, reports: told, and nothing comes back -------------------------------------- */

static void a_note(void *obj, chatd_worker *w, const struct chatd_audit_entry *e)
{
	struct kit *k = obj;
	here(k, w, "note() of chatd.audit/1");
	kit_note(k, CHATD_AUDIT, e->action, kit_words(e->target.p ? e->target : e->room, e->detail));
}

const struct chatd_audit kit_audit_vt = { .struct_size = sizeof(kit_audit_vt), .note = a_note };

static void r_report(void *obj, chatd_worker *w, const struct chatd_report *r)
{
	struct kit *k = obj;
	here(k, w, "report() of chatd.reports/1");
	kit_note(k, CHATD_REPORTS, r->message, kit_words(r->reason, r->note));
}

const struct chatd_reports kit_reports_vt = { .struct_size = sizeof(kit_reports_vt),
	.report = r_report };

/* ---- users, log: asked to do something ---------------------------------------------------- */

static void give_done(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	const char *code = a->code ? a->code : a->rc < 0 ? "UNAVAILABLE" : NULL;
	q->to.done(q->arg, code, code ? "the test wants it so" : NULL);
}

static chatd_status u_ban(void *obj, chatd_worker *w, const struct chatd_users_ban *ban,
		chatd_users_done *fn, void *arg)
{
	struct question *q = ask(w, give_done, arg);
	struct kit *k = obj;
	q->to.done = fn;
	chatd_status rc = kit_answers_send(&q->a, KIT_USERS);
	if (rc == 0) {
		kit_note(k, CHATD_USERS, ban->user, kit_dup(ban->reason));
	}
	return rc;
}

const struct chatd_users kit_users_vt = { .struct_size = sizeof(kit_users_vt), .ban = u_ban };

static chatd_worker *l_home(void *obj, const struct chatd_store_conv *conv)
{
	struct kit *k = obj;
	(void)conv;
	return &k->workers[k->n_workers - 1];
}

static chatd_status l_publish(
		void *obj, chatd_worker *w, const struct chatd_store_message *row, struct chatd_str epoch)
{
	struct kit *k = obj;
	(void)epoch;
	here(k, w, "publish() of chatd.log/1");
	if (kit_fault(k)) {
		return -ENOMEM;
	}
	kit_note(k, CHATD_LOG, row->id, kit_dup(row->body));
	return 0;
}

static chatd_status hear_rows(struct kit *k, chatd_log_event *fn, void *arg, int stored)
{
	struct kit_more *m = more(k);
	chatd_status rc = in_init(k, m->n_rows, stored ? "stored() of chatd.log/1" : "watch()");
	if (rc == 0) {
		m->rows[m->n_rows].fn = fn;
		m->rows[m->n_rows].arg = arg;
		m->rows[m->n_rows++].stored = stored;
	}
	return rc;
}

static chatd_status l_watch(void *obj, chatd_log_event *fn, void *arg)
{
	return hear_rows(obj, fn, arg, 0);
}

static chatd_status l_stored(void *obj, chatd_log_event *fn, void *arg)
{
	return hear_rows(obj, fn, arg, 1);
}

static chatd_status l_remove(void *obj, chatd_worker *w, const struct chatd_log_remove *what,
		chatd_log_removed *fn, void *arg)
{
	struct question *q = ask(w, give_done, arg);
	struct kit *k = obj;
	q->to.done = fn; /* of the same type */
	chatd_status rc = kit_answers_send(&q->a, KIT_LOG);
	if (rc == 0) {
		kit_note(k, CHATD_LOG, what->message, kit_dup(CHATD_LIT("removed")));
	}
	return rc;
}

const struct chatd_log kit_log_vt = { .struct_size = sizeof(kit_log_vt),
	.home = l_home,
	.publish = l_publish,
	.watch = l_watch,
	.remove = l_remove,
	.stored = l_stored };

void kit_row(struct kit *k, const struct chatd_store_message *row, int here_written)
{
	struct kit_more *m = more(k);
	for (size_t i = 0; i < m->n_rows && !k->dead; i++) {
		if (m->rows[i].stored == (here_written != 0)) {
			k->here = &k->workers[k->n_workers - 1];
			m->rows[i].fn(m->rows[i].arg, k->here, row);
			k->here = NULL;
		}
	}
	kit_settle(k);
}

/* ---- privacy ------------------------------------------------------------------------------- */

static struct pair **pair_of(struct kit *k, const char *a, const char *b)
{
	struct pair **at = &more(k)->pairs;
	while (*at &&
			(strcmp((*at)->a, a) != 0 || !(*at)->b != !b || (b && strcmp((*at)->b, b) != 0))) {
		at = &(*at)->next;
	}
	return at;
}

/* 1: it has changed. */
static int pair_set(struct kit *k, const char *a, const char *b, int on)
{
	struct pair **at = pair_of(k, a, b), *p = *at;
	if ((p != NULL) == (on != 0)) {
		return 0;
	}
	if (p) {
		*at = p->next;
		free(p->a);
		free(p->b);
		free(p);
		return 1;
	}
	p = *at = calloc(1, sizeof(*p));
	if (!p) {
		kit_broken(k, "no memory for the test itself");
		return 0;
	}
	p->a = kit_dup(str_of(a));
	p->b = b ? kit_dup(str_of(b)) : NULL;
	return 1;
}

static int32_t known(struct kit *k, struct chatd_str a, struct chatd_str b)
{
	char *who = kit_dup(a), *whom = kit_dup(b);
	int32_t is = more(k)->privacy_unknown ? -EAGAIN : *pair_of(k, who, whom) != NULL;
	free(who);
	free(whom);
	return is;
}

static int32_t p_blocks(
		void *obj, const chatd_worker *w, struct chatd_str who, struct chatd_str whom)
{
	here(obj, w, "blocks() of chatd.privacy/1");
	return known(obj, who, whom);
}

static int32_t p_hides(void *obj, const chatd_worker *w, struct chatd_str user)
{
	here(obj, w, "hides_reads() of chatd.privacy/1");
	return known(obj, user, chatd_str_of(NULL, 0));
}

static chatd_status p_watch(void *obj, chatd_privacy_event *fn, void *arg)
{
	struct kit_more *m = more(obj);
	chatd_status rc = in_init(obj, m->n_blocks, "watch() of chatd.privacy/1");
	if (rc == 0) {
		m->blocks[m->n_blocks].fn = fn;
		m->blocks[m->n_blocks++].arg = arg;
	}
	return rc;
}

const struct chatd_privacy kit_privacy_vt = { .struct_size = sizeof(kit_privacy_vt),
	.blocks = p_blocks,
	.hides_reads = p_hides,
	.watch = p_watch };

void kit_block(struct kit *k, const char *who, const char *whom, int on)
{
	struct kit_more *m = more(k);
	if (!pair_set(k, who, whom, on)) {
		return;
	}
	for (int32_t w = 0; w < k->n_workers && !k->dead; w++) {
		for (size_t i = 0; i < m->n_blocks; i++) {
			k->here = &k->workers[w];
			m->blocks[i].fn(m->blocks[i].arg, k->here, str_of(who), str_of(whom), on != 0);
			k->here = NULL;
		}
	}
	kit_settle(k);
}

void kit_hide_reads(struct kit *k, const char *user, int on)
{
	(void)pair_set(k, user, NULL, on);
}

void kit_privacy_known(struct kit *k, int on)
{
	more(k)->privacy_unknown = !on;
}

/* ---- tokens: numbered, and what they say is looked up ------------------------------------- */

static void claims_copy(struct chatd_claims *to, const struct chatd_claims *from)
{
	*to = *from;
	to->struct_size = sizeof(*to);
	struct chatd_str *text[] = { &to->user, &to->name, &to->login, &to->roles };
	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
		text[i]->p = kit_dup(*text[i]);
	}
}

const char *kit_token(struct kit *k, const struct chatd_claims *claims)
{
	struct kit_more *m = more(k);
	struct token *t = calloc(1, sizeof(*t));
	char text[32];
	if (!t) {
		kit_broken(k, "no memory for the test itself");
		return NULL;
	}
	snprintf(text, sizeof(text), "kit.token.%u", ++m->n_tokens);
	t->text = kit_dup(str_of(text));
	claims_copy(&t->claims, claims);
	t->claims.issued = claims->issued ? claims->issued : wall_ms() / 1000 * 1000;
	t->claims.expires = claims->expires ? claims->expires : t->claims.issued + KIT_TOKEN_MS;
	t->next = m->tokens;
	m->tokens = t;
	return t->text;
}

static chatd_status t_issue(void *obj, const struct chatd_claims *claims, char ret[CHATD_TOKEN_MAX],
		struct chatd_claims *ret_claims)
{
	struct kit *k = obj;
	if (claims->user.n + claims->name.n + claims->login.n + claims->roles.n > CHATD_TOKEN_MAX / 2) {
		return -EINVAL;
	}
	if (kit_fault(k)) {
		return -ENOMEM;
	}
	snprintf(ret, CHATD_TOKEN_MAX, "%s", kit_token(k, claims));
	if (ret_claims) {
		*ret_claims = *claims;
		ret_claims->issued = more(k)->tokens->claims.issued;
		ret_claims->expires = more(k)->tokens->claims.expires;
	}
	return 0;
}

static chatd_status t_verify(void *obj, int32_t type, struct chatd_str token,
		char room[CHATD_TOKEN_MAX], struct chatd_claims *ret)
{
	const struct token *t = more(obj)->tokens;
	size_t used = 0;
	while (t && !str_eq(str_of(t->text), token)) {
		t = t->next;
	}
	if (!t || t->claims.type != type) {
		return -EKEYREJECTED;
	}
	if (t->claims.expires <= wall_ms()) {
		return -EKEYEXPIRED;
	}
	*ret = t->claims;
	struct chatd_str *text[] = { &ret->user, &ret->name, &ret->login, &ret->roles };
	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
		if (text[i]->p) {
			memcpy(room + used, text[i]->p, text[i]->n);
			text[i]->p = room + used;
			used += text[i]->n;
		}
	}
	return 0;
}

const struct chatd_tokens kit_tokens_vt = {
	.struct_size = sizeof(kit_tokens_vt), .issue = t_issue, .verify = t_verify
};

/* ---- cluster --------------------------------------------------------------------------------- */

static chatd_status c_receive(void *obj, const struct chatd_cluster_receiver *r)
{
	struct kit_more *m = more(obj);
	chatd_status rc = in_init(obj, m->n_receivers, "receive() of chatd.cluster/1");
	if (rc == 0) {
		m->receivers[m->n_receivers++] = *r;
	}
	return rc;
}

static void give_sent(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	if (q->to.sent) {
		q->to.sent(q->arg, a->rc);
	}
}

static chatd_status c_send(void *obj, chatd_worker *w, const struct chatd_cluster_event *e,
		void (*done)(void *arg, chatd_status rc), void *arg)
{
	struct kit *k = obj;
	if (!e->kind.n || e->kind.n > 32 || e->n_users > 1000 || e->n_headers > 32 ||
			e->body.n > 1 << 20) {
		return -EINVAL;
	}
	struct question *q = ask(w, give_sent, arg);
	q->to.sent = done;
	chatd_status rc = kit_answers_send(&q->a, KIT_CLUSTER);
	if (rc == 0) {
		kit_note(k, CHATD_CLUSTER, e->kind, kit_dup(e->body.p ? e->body : CHATD_LIT("")));
	}
	return rc;
}

static int32_t c_is_up(void *obj)
{
	return !more(obj)->cluster_down;
}

static int64_t c_silent(void *obj)
{
	return more(obj)->cluster_down ? 60000 : 0;
}

const struct chatd_cluster kit_cluster_vt = { .struct_size = sizeof(kit_cluster_vt),
	.receive = c_receive,
	.send = c_send,
	.is_up = c_is_up,
	.silent = c_silent };

void kit_cluster_comes(struct kit *k, const struct chatd_cluster_event *e)
{
	struct kit_more *m = more(k);
	for (size_t i = 0; i < m->n_receivers && !k->dead; i++) {
		const struct chatd_cluster_receiver *r = &m->receivers[i];
		if (str_is(e->kind, r->kind)) {
			k->here = r->home ? r->home(r->arg, e) : &k->workers[0];
			r->fn(r->arg, k->here, e);
			k->here = NULL;
		}
	}
	kit_settle(k);
}

void kit_cluster_up(struct kit *k, int up)
{
	struct kit_more *m = more(k);
	m->cluster_down = !up;
	for (size_t i = 0; i < m->n_receivers && !k->dead; i++) {
		if (m->receivers[i].link) {
			k->here = &k->workers[0];
			m->receivers[i].link(m->receivers[i].arg, up != 0);
			k->here = NULL;
		}
	}
	kit_settle(k);
}

/* ---- stats -------------------------------------------------------------------------------------- */

static int same(const char *a, const char *b)
{
	return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static chatd_status s_define(
		void *obj, chatd_ctx *c, const struct chatd_stat_def *def, uint32_t *ret_id)
{
	struct kit_more *m = more(obj);
	chatd_status rc = in_init(obj, 0, "define() of chatd.stats/1");
	(void)c;
	for (size_t i = 0; i < m->n_stats; i++) {
		if (same(m->stats[i].def.name, def->name) && same(m->stats[i].def.labels, def->labels)) {
			return -EEXIST;
		}
	}
	if (rc == 0 && m->n_stats == STATS_MAX) {
		rc = -ENOSPC;
	}
	if (rc == 0) {
		m->stats[m->n_stats].def = *def;
		*ret_id = (uint32_t)m->n_stats++;
	}
	return rc;
}

static void s_add(void *obj, chatd_worker *w, uint32_t id, int64_t n)
{
	struct kit_more *m = more(obj);
	here(obj, w, "add() of chatd.stats/1");
	if (id >= m->n_stats) {
		kit_broken(obj, "add() of chatd.stats/1 with %u, which define() did not give", id);
	}
	m->stats[id].added += n;
}

static int64_t value_of(struct kit *k, const struct stat *s)
{
	chatd_worker *was = k->here;
	int64_t sum = s->added;
	if (CHATD_HAS(&s->def, read)) {
		sum = 0;
		for (int32_t i = 0; i < k->n_workers; i++) {
			k->here = &k->workers[i];
			sum += s->def.read(s->def.arg, k->here);
		}
	}
	k->here = was;
	return sum;
}

static void give_stats(struct kit_answer *a)
{
	struct question *q = (struct question *)a;
	const struct kit_more *m = more(a->k);
	struct chatd_stat all[STATS_MAX];
	for (size_t i = 0; i < m->n_stats; i++) {
		const struct chatd_stat_def *d = &m->stats[i].def;
		all[i] = (struct chatd_stat){ .struct_size = sizeof(all[i]),
			.kind = d->kind,
			.name = d->name,
			.labels = d->labels,
			.help = d->help,
			.value = value_of(a->k, &m->stats[i]) };
	}
	q->to.stats(q->arg, all, m->n_stats);
}

static chatd_status s_collect(void *obj, chatd_worker *w, chatd_stats_fn *fn, void *arg)
{
	struct question *q = ask(w, give_stats, arg);
	(void)obj;
	q->to.stats = fn;
	return kit_answers_send(&q->a, KIT_STATS);
}

const struct chatd_stats kit_stats_vt = {
	.struct_size = sizeof(kit_stats_vt), .define = s_define, .add = s_add, .collect = s_collect
};

int64_t kit_stat(struct kit *k, const char *name, const char *labels)
{
	const struct kit_more *m = more(k);
	for (size_t i = 0; i < m->n_stats; i++) {
		if (same(m->stats[i].def.name, name) && same(m->stats[i].def.labels, labels)) {
			return value_of(k, &m->stats[i]);
		}
	}
	if (!k->injected) {
		kit_broken(k, "the plugin has defined no number %s%s%s%s", name, labels ? "{" : "",
				labels ? labels : "", labels ? "}" : "");
	}
	return -1;
}

/* ---- expectations ------------------------------------------------------------------------------ */

static struct told **first_told(struct kit *k, const char *service)
{
	struct told **at = &more(k)->told;
	while (*at && strcmp((*at)->service, service) != 0) {
		at = &(*at)->next;
	}
	return at;
}

static void told_free(struct told *t)
{
	free(t->what);
	free(t->text);
	free(t);
}

void kit_expect_told_at(
		struct kit *k, const char *service, const char *what, const char *text, struct kit_at at)
{
	struct told **first = first_told(k, service), *t = *first;
	if (kit_muted(k)) {
		return;
	}
	if (!t || (what && strcmp(t->what, what) != 0) || (text && !strstr(t->text, text))) {
		kit_die(k, at.file, at.line, "%s was told %s%s%s; expected %s: ...%s...", service,
				t ? t->what : "nothing", t ? ": " : "", t ? t->text : "", what ? what : "something",
				text ? text : "");
		return;
	}
	*first = t->next;
	told_free(t);
}

void kit_expect_not_told_at(struct kit *k, const char *service, struct kit_at at)
{
	const struct told *t = *first_told(k, service);
	if (t && !kit_muted(k)) {
		kit_die(k, at.file, at.line, "%s was told %s: %s; expected nothing", service, t->what,
				t->text);
	}
}

void kit_more_finish(struct kit *k)
{
	struct kit_more *m = k->more;
	while (m && m->told) {
		struct told *next = m->told->next;
		told_free(m->told);
		m->told = next;
	}
	while (m && m->pairs) {
		(void)pair_set(k, m->pairs->a, m->pairs->b, 0);
	}
	while (m && m->tokens) {
		struct token *t = m->tokens;
		struct chatd_str *text[] = { &t->claims.user, &t->claims.name, &t->claims.login,
			&t->claims.roles };
		m->tokens = t->next;
		for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
			free((char *)(uintptr_t)text[i]->p);
		}
		free(t->text);
		free(t);
	}
	free(m);
	k->more = NULL;
}
