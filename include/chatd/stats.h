/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/stats.h
 * @brief Numbers about the server, and plugins' own, for whoever shows them.
 *
 * The core provides "chatd.stats/1".  A plugin that counts something registers it in init() and
 * adds on the worker where it happens; nothing is shared between workers, so counting costs an
 * addition.  Who wants to show the numbers ("metrics", "admin") collects them.
 *
 * Names are Prometheus' way: chatd_<what>_<unit>, counters end in _total.
 */
#ifndef CHATD_STATS_H
#define CHATD_STATS_H

#include <chatd/plugin.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_STATS "chatd.stats/1"

enum {
	CHATD_STAT_COUNTER = 1, /**< only grows */
	CHATD_STAT_GAUGE = 2,   /**< goes up and down; add() takes negative numbers too */
};

struct chatd_stat_def {
	uint32_t struct_size;
	int32_t kind;       /**< CHATD_STAT_* */
	const char *name;   /**< lives as long as the plugin, as do the others */
	const char *labels; /**< `reason="full"`, or NULL; one name may have several */
	const char *help;   /**< one sentence */
	/** [worker] Optional: what stands there instead of what was added; summed over workers. */
	int64_t (*read)(void *arg, chatd_worker *);
	void *arg;
};

/** One number, summed over the workers.  Borrowed for the callback. */
struct chatd_stat {
	uint32_t struct_size;
	int32_t kind;
	const char *name, *labels, *help;
	int64_t value;
};

/** [worker] Those of one name stand side by side. */
typedef void chatd_stats_fn(void *arg, const struct chatd_stat *stats, size_t n);

struct chatd_stats {
	uint32_t struct_size;
	/** [main] In init().  *ret_id is for add().  -EEXIST: that name and labels are taken. */
	chatd_status (*define)(void *obj, chatd_ctx *, const struct chatd_stat_def *, uint32_t *ret_id);
	/** [worker] */
	void (*add)(void *obj, chatd_worker *, uint32_t id, int64_t n);
	/** [worker] Asks every worker; fn runs later, once, on this one. */
	chatd_status (*collect)(void *obj, chatd_worker *, chatd_stats_fn *fn, void *arg);
};

#define CHATD_REJECTED_HELP "What clients sent or asked and were refused."
/** One row for chatd_stats_rejections(). */
#define CHATD_REJECTION(layer, reason) "layer=\"" layer "\",reason=\"" reason "\""

/** [main] In init(): the counter chatd_rejected_total, what clients sent or asked and were refused,
 *  for each of @p labels (CHATD_REJECTION(), living as long as the plugin).  Their ids go to
 *  @p ret_ids; a row that repeats an earlier one has its id.  As define(); 0 without @p stats. */
static inline chatd_status chatd_stats_rejections(const struct chatd_service *stats, chatd_ctx *ctx,
		const char *const *labels, size_t n, uint32_t *ret_ids)
{
	for (size_t i = 0; stats && i < n; i++) {
		size_t same = 0;
		while (same < i && strcmp(labels[same], labels[i]) != 0) {
			same++;
		}
		ret_ids[i] = ret_ids[same];
		if (same == i) {
			struct chatd_stat_def d;
			memset(&d, 0, sizeof(d));
			d.struct_size = sizeof(d);
			d.kind = CHATD_STAT_COUNTER;
			d.name = "chatd_rejected_total";
			d.labels = labels[i];
			d.help = CHATD_REJECTED_HELP;
			chatd_status rc = ((const struct chatd_stats *)stats->vt)
									  ->define(stats->obj, ctx, &d, &ret_ids[i]);
			if (rc < 0) {
				return rc;
			}
		}
	}
	return 0;
}

/** [worker] One more; nothing without @p stats. */
static inline void chatd_stats_count(
		const struct chatd_service *stats, chatd_worker *w, uint32_t id)
{
	if (stats) {
		((const struct chatd_stats *)stats->vt)->add(stats->obj, w, id, 1);
	}
}

#ifdef __cplusplus
}
#endif
#endif
