/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/place.h
 * @brief Whether a plugin file lies where nobody else may put or change one.  [any]
 *
 * Whoever can write the file, or its folder, owns the server.
 */
#ifndef HOST_PLACE_H
#define HOST_PLACE_H

#include <stddef.h>

/** @p path is a file below @p dir.  0: it is safe, and *ret_real is where it really is, to
 *  free().  -1: @p ret_why says what is wrong, and what to do. */
int place_check(const char *dir, const char *path, char **ret_real, char *ret_why, size_t room);

#endif
