/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file spawn.h
 * @brief Starts a program that gets one file and nothing else of the server.
 */
#ifndef UPLOAD_SPAWN_H
#define UPLOAD_SPAWN_H

#include <chatd/plugin.h>

#include <sys/types.h>

/** @p in is its standard input, @p out its output (-1: none); in a process group of its own.
 *  0, and a descriptor of the process in @p ret_pidfd. */
chatd_status spawn_program(
		const char *const *argv, int in, int out, pid_t *ret_pid, int *ret_pidfd);

#endif
