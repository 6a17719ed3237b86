/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chatd/reports.h
 * @brief What moderators should look at, found by a program.
 *
 * Draft: no part of contract 1.0.  It may change or go with any release.
 *
 * Provided by "moderation".  For plugins that judge messages, such as word-filter.
 */
#ifndef CHATD_REPORTS_H
#define CHATD_REPORTS_H

#include <chatd/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHATD_REPORTS "chatd.reports/1"

struct chatd_report {
	uint32_t struct_size;
	struct chatd_str message; /**< the id of the message */
	struct chatd_str by;      /**< the plugin, [A-Za-z0-9_-]{1,64} */
	struct chatd_str reason;  /**< a word */
	struct chatd_str note;    /**< for people; .p NULL: none */
};

struct chatd_reports {
	uint32_t struct_size;
	/** [worker] Copied.  As if a user had reported the message, once per message and plugin; that
	 *  it could not be stored is logged. */
	void (*report)(void *obj, chatd_worker *, const struct chatd_report *);
};

#ifdef __cplusplus
}
#endif
#endif
