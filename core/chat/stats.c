/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/stats.h"

#include "loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct stat_table {
	struct chatd_stat_def *def;
	size_t n;
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

struct stat_table *stat_table_create(void)
{
	struct stat_table *t = calloc(1, sizeof(*t));
	if (t) {
		t->def = malloc(sizeof(own));
		if (!t->def) {
			free(t);
			return NULL;
		}
		memcpy(t->def, own, sizeof(own));
		t->n = STAT_COUNT;
	}
	return t;
}

void stat_table_destroy(struct stat_table *t)
{
	if (t) {
		free(t->def);
		free(t);
	}
}

static int same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

chatd_status stat_define(struct stat_table *t, const struct chatd_stat_def *given, uint32_t *ret_id)
{
	struct chatd_stat_def d = { 0 };
	memcpy(&d, given, given->struct_size < sizeof(d) ? given->struct_size : sizeof(d));
	if (t->frozen || !d.name || !d.help ||
			(d.kind != CHATD_STAT_COUNTER && d.kind != CHATD_STAT_GAUGE)) {
		return -EINVAL;
	}
	for (size_t i = 0; i < t->n; i++) {
		if (same(t->def[i].name, d.name) && same(t->def[i].labels, d.labels)) {
			return -EEXIST;
		}
	}
	struct chatd_stat_def *more = realloc(t->def, (t->n + 1) * sizeof(*more));
	if (!more) {
		return -ENOMEM;
	}
	t->def = more;
	*ret_id = (uint32_t)t->n;
	more[t->n++] = d;
	return 0;
}

int stat_table_freeze(struct chat *chat)
{
	chat->stats->frozen = 1;
	for (int32_t i = 0; i < chat->n_workers; i++) {
		int64_t *more = realloc(chat->workers[i].stats, chat->stats->n * sizeof(*more));
		if (!more) {
			return -ENOMEM;
		}
		memset(more, 0, chat->stats->n * sizeof(*more));
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
	int64_t sum[];
};

static void show(struct round *r)
{
	const struct stat_table *t = r->chat->stats;
	struct chatd_stat *all = calloc(t->n, sizeof(*all));
	size_t n = 0;
	for (size_t i = 0; all && i < t->n; i++) {
		size_t at = n;
		while (at > 0 && strcmp(all[at - 1].name, t->def[i].name) != 0) {
			at--;
		}
		at = at ? at : n; /* behind the others of its name, or at the end */
		memmove(&all[at + 1], &all[at], (n - at) * sizeof(*all));
		all[at] = (struct chatd_stat){ .struct_size = sizeof(*all),
			.kind = t->def[i].kind,
			.name = t->def[i].name,
			.labels = t->def[i].labels,
			.help = t->def[i].help,
			.value = r->sum[i] };
		n++;
	}
	r->fn(r->arg, all, n);
	free(all);
	free(r);
}

static void on_worker(void *arg)
{
	struct round *r = arg;
	const struct stat_table *t = r->chat->stats;
	if (r->next == r->chat->n_workers) {
		show(r);
		return;
	}
	struct chat_worker *cw = &r->chat->workers[r->next++];
	for (size_t i = 0; i < t->n; i++) {
		r->sum[i] += t->def[i].read ? t->def[i].read(t->def[i].arg, cw->w) : cw->stats[i];
	}
	chatd_worker *to = r->next < r->chat->n_workers ? r->chat->workers[r->next].w : r->home;
	if (worker_post(to, on_worker, r) < 0) {
		free(r); /* the server ends: nobody is left to show it to */
	}
}

static chatd_status vt_collect(void *obj, chatd_worker *w, chatd_stats_fn *fn, void *arg)
{
	struct chat *chat = obj;
	struct round *r = calloc(1, sizeof(*r) + chat->stats->n * sizeof(r->sum[0]));
	if (!r) {
		return -ENOMEM;
	}
	r->chat = chat;
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
	(void)ctx;
	return stat_define(chat->stats, d, ret_id);
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
