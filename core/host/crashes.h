/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/crashes.h
 * @brief What base/crash.c has noted of earlier crashes: an optional plugin that has brought the
 * server down three times within a minute is left out.  [main]
 *
 * The file data_dir/crashes/NAME is the state: as nothing is added while the plugin is off, it
 * stays off, until the file goes (chatctl plugin enable NAME, or by hand) or the plugin's own file
 * is a newer one.
 */
#ifndef HOST_CRASHES_H
#define HOST_CRASHES_H

#include <stddef.h>

enum { CRASHES_OFF = 3, CRASHES_WITHIN_S = 60 };

/** 1: @p name, whose file is @p module, has crashed so often; @p ret_last tells the last time:
 *  "SIGSEGV in message_in, 2026-01-01T00:00:00Z". */
int crashes_too_many(
		const char *data_dir, const char *name, const char *module, char *ret_last, size_t room);
/** Another try.  0 also if nothing was noted; or a negative errno. */
int crashes_forget(const char *data_dir, const char *name);

#endif
