/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/audit.h
 * @brief Who has used a power over others, on whom, with what result: noted for good.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "audit".  For plugins whose users moderate or administer: one call per action, when
 * it is known what became of it.
 */
#ifndef CHATD_AUDIT_H
#define CHATD_AUDIT_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_AUDIT "chatd.audit/1"

/** What is not known, or does not apply, has .p NULL, or is 0.  Texts are cut at 1,000 bytes. */
struct chatd_audit_entry {
	uint32_t struct_size;
	struct chatd_str action; /**< "room.ban": the plugin's noun, and a verb */
	struct chatd_str actor;  /**< a user; "operator": who has the machine; "server": itself */
	struct chatd_str target; /**< a user, a message, ... */
	struct chatd_str room;
	struct chatd_str result;           /**< .p NULL: it was done; else why not: "FORBIDDEN" */
	struct chatd_str detail;           /**< for people: a reason, the new roles, ... */
	struct chatd_str address, request; /**< where the request came from, and its id */
	int64_t until;                     /**< wall-clock ms; INT64_MAX: for ever */
};

struct chatd_audit {
	uint32_t struct_size;
	/** [worker] Copied.  Nothing is waited for: it is in the log at once, and in the store as
	 *  soon as that takes it. */
	void (*note)(void *obj, chatd_worker *, const struct chatd_audit_entry *);
};

/** [worker] Nothing if there is no such service. */
static inline void chatd_audit_note(
		const struct chatd_service *service, chatd_worker *w, const struct chatd_audit_entry *e)
{
	if (service) {
		((const struct chatd_audit *)service->vt)->note(service->obj, w, e);
	}
}

#ifdef __cplusplus
}
#endif
#endif
