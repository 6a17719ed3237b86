/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file devices.h
 * @brief How many sessions a guest may have: a new one takes over from the oldest.
 */
#ifndef DEVICES_H
#define DEVICES_H

#include "guest.h"

/** [main] In init(): hooks of session_open and session_close. */
chatd_status devices_start(struct self *);
void devices_stop(struct self *);

#endif
