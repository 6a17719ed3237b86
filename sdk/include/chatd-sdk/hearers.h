/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/hearers.h
 * @brief Who has asked to hear of something, in a service that others call in their init().
 *
 * They may come and go while the server runs: whose callback it is is noted, one that has been turned
 * off hears no more, and the next one that comes takes its place.  Beside this is the service's own
 * array of CHATD_HEARERS_MAX callbacks:
 *
 *     int32_t i = chatd_hearers_place(&self->hearers);       in the service's function, [main]
 *     if (i >= 0) {
 *         self->callbacks[i] = given;
 *         chatd_hearers_fill(&self->hearers, i);
 *     }
 *
 *     for (int32_t i = 0; i < chatd_hearers_count(&self->hearers); i++) {               [worker]
 *         if (chatd_hearers_hears(&self->hearers, i)) {
 *             self->callbacks[i].fn(...);
 *
 * The plugin has CHATD_PLUGINS in its wants.
 */
#ifndef CHATD_SDK_HEARERS_H
#define CHATD_SDK_HEARERS_H

#ifdef __cplusplus
#error "chatd-sdk/hearers.h is for C"
#endif

#include <chatd/plugins.h>

#include <errno.h>

enum { CHATD_HEARERS_MAX = 16 };

/** Zeroed, then .plugins is set in init(). */
struct chatd_hearers {
	const struct chatd_service *plugins; /**< CHATD_PLUGINS; NULL: whoever hears stays */
	const chatd_ctx *by[CHATD_HEARERS_MAX];
	int32_t n;
};

static inline const struct chatd_plugins *chatd_hearers_owners(const struct chatd_hearers *a)
{
	const struct chatd_plugins *p =
			a->plugins ? (const struct chatd_plugins *)a->plugins->vt : NULL;
	return p && CHATD_HAS(p, ended) ? p : NULL;
}

/** [main] Where another one's callback goes; -ENOSPC. */
static inline int32_t chatd_hearers_place(const struct chatd_hearers *a)
{
	const struct chatd_plugins *p = chatd_hearers_owners(a);
	for (int32_t i = 0; p && i < a->n; i++) {
		if (a->by[i] && p->ended(a->plugins->obj, a->by[i])) {
			return i;
		}
	}
	return a->n < CHATD_HEARERS_MAX ? a->n : -ENOSPC;
}

/** [main] The callback is there. */
static inline void chatd_hearers_fill(struct chatd_hearers *a, int32_t i)
{
	const struct chatd_plugins *p = chatd_hearers_owners(a);
	__atomic_store_n(&a->by[i], p ? p->hearer(a->plugins->obj) : NULL, __ATOMIC_RELEASE);
	if (i == a->n) {
		__atomic_store_n(&a->n, i + 1, __ATOMIC_RELEASE);
	}
}

/** [any] Places; some may be empty. */
static inline int32_t chatd_hearers_count(const struct chatd_hearers *a)
{
	return __atomic_load_n(&a->n, __ATOMIC_ACQUIRE);
}

/** [worker] 1: its callback may be called, now. */
static inline int chatd_hearers_hears(const struct chatd_hearers *a, int32_t i)
{
	const struct chatd_plugins *p = chatd_hearers_owners(a);
	const chatd_ctx *by = __atomic_load_n(&a->by[i], __ATOMIC_ACQUIRE);
	return !p || !by || p->takes_part(a->plugins->obj, by);
}

#endif
