/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd-sdk/open.h
 * @brief How much of what a plugin has asked others for is not answered yet: for busy(), so that a
 * plugin with CHATD_PLUGIN_LIVE ends after the last answer.
 *
 *     if (chatd_open_asked(&self->open, store->record_get(..., on_record, arg)) < 0) ...
 *     static void on_record(void *arg, ...) { chatd_open_end(&self->open); ...
 *
 * Or by the memory that waits for the answer: chatd_open_alloc(), chatd_open_free().  [any]
 */
#ifndef CHATD_SDK_OPEN_H
#define CHATD_SDK_OPEN_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct chatd_open {
	int32_t n;
};

static inline void chatd_open_begin(struct chatd_open *o)
{
	__atomic_fetch_add(&o->n, 1, __ATOMIC_RELAXED);
}

/** The memory that it is in may be gone after this. */
static inline void chatd_open_end(struct chatd_open *o)
{
	__atomic_fetch_sub(&o->n, 1, __ATOMIC_RELEASE);
}

/** mem_alloc() of what lasts as long as a question. */
static inline void *chatd_open_alloc(const struct chatd_host *h, struct chatd_open *o, size_t n)
{
	void *p = h->mem_alloc(n);
	if (p) {
		chatd_open_begin(o);
	}
	return p;
}

/** NULL is fine. */
static inline void chatd_open_free(const struct chatd_host *h, struct chatd_open *o, void *p)
{
	if (p) {
		h->mem_free(p);
		chatd_open_end(o);
	}
}

/** On the worker that is answered: what others say who never answer before the callback at hand has
 *  returned; negative: they never will. */
static inline chatd_status chatd_open_asked(struct chatd_open *o, chatd_status rc)
{
	if (rc >= 0) {
		chatd_open_begin(o);
	}
	return rc;
}

/** 1: there is something.  At the server's end nothing is waited for: who is asked answers then. */
static inline int32_t chatd_open_busy(const struct chatd_host *h, const struct chatd_open *o)
{
	return h->stopping() == CHATD_SERVES && __atomic_load_n(&o->n, __ATOMIC_ACQUIRE) > 0;
}

#ifdef __cplusplus
}
#endif
#endif
