/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/privacy.h
 * @brief What users keep from each other: whom they have blocked, and whether they tell that they
 * have read.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "privacy".  For plugins that pass something on from one user to another: messages,
 * typing, receipts, presence, notifications.  The answers are there at once, on every worker, and
 * cost a hash and a load at most; nothing but a comparison while nobody blocks anybody.
 */
#ifndef CHATD_PRIVACY_H
#define CHATD_PRIVACY_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_PRIVACY "chatd.privacy/1"

/** [worker, each] @p who has blocked @p whom (1), or does so no more (0). */
typedef void chatd_privacy_event(
		void *arg, chatd_worker *, struct chatd_str who, struct chatd_str whom, int32_t on);

struct chatd_privacy {
	uint32_t struct_size;
	/** [worker] 1: @p who has blocked @p whom; 0: not; -EAGAIN: that is not known yet, a moment
	 *  after the start. */
	int32_t (*blocks)(void *obj, const chatd_worker *, struct chatd_str who, struct chatd_str whom);
	/** [worker] 1: nobody is to learn what @p user has read; 0; -EAGAIN likewise. */
	int32_t (*hides_reads)(void *obj, const chatd_worker *, struct chatd_str user);
	/** [main] In init(): hear of every block.  -ENOSPC: too many do. */
	chatd_status (*watch)(void *obj, chatd_privacy_event *fn, void *arg);
};

/** [worker] 1: one of the two has blocked the other; @p service may be NULL: then nobody has. */
static inline int chatd_privacy_between(const struct chatd_service *service, const chatd_worker *w,
		struct chatd_str a, struct chatd_str b)
{
	if (!service) {
		return 0;
	}
	const struct chatd_privacy *p = (const struct chatd_privacy *)service->vt;
	return p->blocks(service->obj, w, a, b) > 0 || p->blocks(service->obj, w, b, a) > 0;
}

/** [worker] 1: the one hides what is read, or may not know it of others because of that.  What is
 *  not known yet is not told. */
static inline int chatd_privacy_hides_reads(
		const struct chatd_service *service, const chatd_worker *w, struct chatd_str user)
{
	if (!service || !user.n) {
		return 0;
	}
	const struct chatd_privacy *p = (const struct chatd_privacy *)service->vt;
	return p->hides_reads(service->obj, w, user) != 0;
}

#ifdef __cplusplus
}
#endif
#endif
