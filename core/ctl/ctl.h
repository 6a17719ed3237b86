/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ctl/ctl.h
 * @brief chatctl: what its parts share.  One thread, no server code beyond reading YAML.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>

enum { CTL_REFUSED = 1 }; /**< the server said no; other exit codes are those of sysexits.h */

/** The path of the socket from @p config ("server.data_dir", plugin "admin"); to free().  NULL
 *  after complaints. */
char *ctl_socket_of(const char *config);
/** Sends @p command and returns the answer, to json_decref().  NULL: @p *ret_rc is the exit code
 *  and the reason was printed. */
json_t *ctl_ask(const char *socket_path, json_t *command, int seconds, int *ret_rc);
/** What of two answers to "plugin list" grows becomes what it grew by, busiest first. */
void ctl_differences(const json_t *before, json_t *after);
/** The answer for people. */
void ctl_show(const char *command, json_t *answer);

#endif
