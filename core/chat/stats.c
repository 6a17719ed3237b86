/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/stats.h"

#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LATER = 256 }; /* numbers that those may define who are turned on while the server runs */

/* What one instance has defined.  Workers read it while others come and go: the place of one that has
 * ended is filled again, and then counts by whose it is. */
struct stat_of {
	_Atomic(struct stat_of *) next;
	_Atomic(const chatd_ctx *) by; /* NULL: the core */
	int64_t (*read)(void *arg, chatd_worker *);
	void *arg;
};

struct stat_row {
	int32_t kind;
	char *name, *labels, *help; /* copies: their owner may go, and the number stays */
	struct stat_of of;
};

struct stat_table {
	struct stat_row *row;
	_Atomic size_t n;
	size_t room;
	int frozen;
};

static const struct chatd_stat_def own[] = {
#define CHATD_X(id, k, title, text)                 \
	{ .struct_size = sizeof(struct chatd_stat_def), \
		.kind = CHATD_STAT_##k,                     \
		.name = title,                              \
		.help = text },
	CHAT_STATS(CHATD_X)
#undef CHATD_X
#define CHATD_X(code)                               \
	{ .struct_size = sizeof(struct chatd_stat_def), \
		.kind = CHATD_STAT_COUNTER,                 \
		.name = "chatd_rejected_total",             \
		.labels = CHATD_REJECTION("chat", #code),   \
		.help = CHATD_REJECTED_HELP },
			CHAT_REJECTIONS(CHATD_X)
#undef CHATD_X
};

enum chat_stat stat_of_rejection(const char *code)
{
	static const char *const codes[] = {
#define CHATD_X(name) #name,
		CHAT_REJECTIONS(CHATD_X)
#undef CHATD_X
	};
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		if (strcmp(codes[i], code ? code : "FORBIDDEN") == 0) {
			return STAT_REJECTED_FORBIDDEN + (enum chat_stat)i;
		}
	}
	return STAT_REJECTED_OTHER;
}

static void row_finish(struct stat_row *r)
{
	for (struct stat_of *o = r->of.next; o;) {
		struct stat_of *next = o->next;
		free(o);
		o = next;
	}
	free(r->name);
	free(r->labels);
	free(r->help);
}

void stat_table_destroy(struct stat_table *t)
{
	for (size_t i = 0; t && i < t->n; i++) {
		row_finish(&t->row[i]);
	}
	if (t) {
		free(t->row);
		free(t);
	}
}

static int same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static int grow(struct stat_table *t, size_t room)
{
	struct stat_row *more = realloc(t->row, room * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	t->row = more;
	t->room = room;
	return 0;
}

static void fill(struct stat_of *o, const chatd_ctx *by, const struct chatd_stat_def *d)
{
	o->read = d->read;
	o->arg = d->arg;
	atomic_store_explicit(&o->by, by, memory_order_release);
}

static chatd_status append(
		struct stat_table *t, const chatd_ctx *by, const struct chatd_stat_def *d, uint32_t *ret_id)
{
	size_t n = t->n;
	if (n == t->room && (t->frozen || grow(t, t->room ? 2 * t->room : 64) < 0)) {
		return t->frozen ? -ENOSPC : -ENOMEM;
	}
	struct stat_row r = { .kind = d->kind,
		.name = strdup(d->name),
		.labels = d->labels ? strdup(d->labels) : NULL,
		.help = strdup(d->help) };
	if (!r.name || !r.help || (d->labels && !r.labels)) {
		row_finish(&r);
		return -ENOMEM;
	}
	t->row[n] = r;
	fill(&t->row[n].of, by, d);
	*ret_id = (uint32_t)n;
	atomic_store_explicit(&t->n, n + 1, memory_order_release);
	return 0;
}

/* Somebody else's, who is there no more, or goes when this one begins. */
static chatd_status take_over(const struct chat_owners *owners, struct stat_row *r,
		const chatd_ctx *by, const struct chatd_stat_def *d)
{
	struct stat_of *vacant = NULL;
	for (struct stat_of *o = &r->of; o; o = o->next) {
		if (!owners || !o->by || !by || owners->stays(o->by, by) || r->kind != d->kind) {
			return -EEXIST;
		}
		vacant = owners->ended(o->by) ? o : vacant;
	}
	if (vacant) {
		fill(vacant, by, d);
		return 0;
	}
	struct stat_of *o = calloc(1, sizeof(*o));
	if (!o) {
		return -ENOMEM;
	}
	atomic_init(&o->next, r->of.next);
	fill(o, by, d);
	atomic_store_explicit(&r->of.next, o, memory_order_release);
	return 0;
}

static chatd_status define(struct stat_table *t, const struct chat_owners *owners,
		const chatd_ctx *by, const struct chatd_stat_def *given, uint32_t *ret_id)
{
	struct chatd_stat_def d = { 0 };
	memcpy(&d, given, given->struct_size < sizeof(d) ? given->struct_size : sizeof(d));
	int late = t->frozen && !(owners && by && owners->begins(by));
	if (late || !d.name || !d.help ||
			(d.kind != CHATD_STAT_COUNTER && d.kind != CHATD_STAT_GAUGE)) {
		return -EINVAL;
	}
	for (size_t i = 0; i < t->n; i++) {
		if (same(t->row[i].name, d.name) && same(t->row[i].labels, d.labels)) {
			*ret_id = (uint32_t)i;
			return take_over(owners, &t->row[i], by, &d);
		}
	}
	return append(t, by, &d, ret_id);
}

chatd_status stat_define(struct stat_table *t, const struct chatd_stat_def *given, uint32_t *ret_id)
{
	return define(t, NULL, NULL, given, ret_id);
}

struct stat_table *stat_table_create(void)
{
	struct stat_table *t = calloc(1, sizeof(*t));
	uint32_t id;
	for (size_t i = 0; t && i < sizeof(own) / sizeof(own[0]); i++) {
		if (append(t, NULL, &own[i], &id) < 0) {
			stat_table_destroy(t);
			t = NULL;
		}
	}
	return t;
}

int stat_table_freeze(struct chat *chat)
{
	struct stat_table *t = chat->stats;
	if (grow(t, t->n + LATER) < 0) {
		return -ENOMEM;
	}
	t->frozen = 1;
	for (int32_t i = 0; i < chat->n_workers; i++) {
		int64_t *more = realloc(chat->workers[i].stats, t->room * sizeof(*more));
		if (!more) {
			return -ENOMEM;
		}
		memset(more, 0, t->room * sizeof(*more));
		chat->workers[i].stats = more;
	}
	return 0;
}

/* ---- collecting ------------------------------------------------------------------- */

/* Goes from worker to worker and adds up, so that it belongs to one of them at a time. */
struct round {
	struct chat *chat;
	chatd_worker *home;
	int32_t next;
	chatd_stats_fn *fn;
	void *arg;
	size_t n; /* numbers that there were when it began */
	int64_t sum[];
};

/* The one whose number it is now; NULL: it is off. */
static const struct stat_of *teller(const struct chat *chat, const struct stat_row *r)
{
	const struct stat_of *found = NULL;
	int best = 0;
	for (const struct stat_of *o = &r->of; o;
			o = atomic_load_explicit(&o->next, memory_order_acquire)) {
		const chatd_ctx *by = atomic_load_explicit(&o->by, memory_order_acquire);
		int counts = by && chat->owners ? chat->owners->counts(by) : 2;
		if (counts > best) {
			best = counts;
			found = o;
		}
	}
	return found;
}

static void show(struct round *r)
{
	const struct stat_table *t = r->chat->stats;
	struct chatd_stat *all = calloc(r->n, sizeof(*all));
	size_t n = 0;
	for (size_t i = 0; all && i < r->n; i++) {
		const struct stat_row *row = &t->row[i];
		size_t at = n;
		if (!teller(r->chat, row)) {
			continue;
		}
		while (at > 0 && strcmp(all[at - 1].name, row->name) != 0) {
			at--;
		}
		at = at ? at : n; /* behind the others of its name, or at the end */
		memmove(&all[at + 1], &all[at], (n - at) * sizeof(*all));
		all[at] = (struct chatd_stat){ .struct_size = sizeof(*all),
			.kind = row->kind,
			.name = row->name,
			.labels = row->labels,
			.help = row->help,
			.value = r->sum[i] };
		n++;
	}
	r->fn(r->arg, all, n);
	free(all);
	free(r);
}

static int64_t value_of(struct chat_worker *cw, size_t i)
{
	const struct stat_of *o = teller(cw->chat, &cw->chat->stats->row[i]);
	return o && o->read ? o->read(o->arg, cw->w) : cw->stats[i];
}

static void on_worker(void *arg)
{
	struct round *r = arg;
	if (r->next == r->chat->n_workers) {
		show(r);
		return;
	}
	struct chat_worker *cw = &r->chat->workers[r->next++];
	for (size_t i = 0; i < r->n; i++) {
		r->sum[i] += value_of(cw, i);
	}
	chatd_worker *to = r->next < r->chat->n_workers ? r->chat->workers[r->next].w : r->home;
	if (worker_post(to, on_worker, r) < 0) {
		free(r); /* the server ends: nobody is left to show it to */
	}
}

static chatd_status vt_collect(void *obj, chatd_worker *w, chatd_stats_fn *fn, void *arg)
{
	struct chat *chat = obj;
	size_t n = atomic_load_explicit(&chat->stats->n, memory_order_acquire);
	struct round *r = calloc(1, sizeof(*r) + n * sizeof(r->sum[0]));
	if (!r) {
		return -ENOMEM;
	}
	r->chat = chat;
	r->n = n;
	r->home = w;
	r->fn = fn;
	r->arg = arg;
	chatd_status rc = worker_post(chat->workers[0].w, on_worker, r);
	if (rc < 0) {
		free(r);
	}
	return rc;
}

static chatd_status vt_define(
		void *obj, chatd_ctx *ctx, const struct chatd_stat_def *d, uint32_t *ret_id)
{
	struct chat *chat = obj;
	return define(chat->stats, chat->owners, ctx, d, ret_id);
}

static void vt_add(void *obj, chatd_worker *w, uint32_t id, int64_t n)
{
	(void)obj;
	stat_add(chat_at(w), id, n);
}

const struct chatd_stats chat_stats_vt = {
	.struct_size = sizeof(struct chatd_stats),
	.define = vt_define,
	.add = vt_add,
	.collect = vt_collect,
};
