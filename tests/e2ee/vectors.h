/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file vectors.h
 * @brief Messages with all keys, so that they can be opened at any time by any implementation.
 *
 * {"safety": {users, devices, digits}, "vectors": [{"name", "receiver": secrets, "devices":
 * {user: [public devices]}, "message": a ChatMessage, "text" or "fault"}]}
 */
#ifndef E2EE_VECTORS_H
#define E2EE_VECTORS_H

#include <stdint.h>

int vectors_base64(const char *text, uint8_t ret[32]);
int vectors_open(const char *path); /* prints TAP; the exit code */
int vectors_make(void);             /* prints vectors; the exit code */

#endif
