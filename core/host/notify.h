/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file host/notify.h
 * @brief What a service manager is told: the protocol of sd_notify(3), which is a datagram.
 *
 * By hand and not by libsystemd: the manual itself calls the protocol stable and shows these few
 * lines, and the library would bring five others into every process.  Without NOTIFY_SOCKET in
 * the environment nothing happens.  [main] notify_open(); the rest [any].
 */
#ifndef HOST_NOTIFY_H
#define HOST_NOTIFY_H

#include <stdint.h>

/** Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them from the environment:
 *  they are not meant for children. */
void notify_open(void);
int notify_is_open(void); /**< a service manager listens */
/** Lines such as "READY=1\nSTATUS=serving".  0, or a negative errno after it was logged once. */
int notify_send(const char *lines);
/** "RELOADING=1" with the time that goes with it. */
void notify_reloading(void);
/** How often the watchdog wants to hear of us, ms; 0: it does not. */
int64_t notify_watchdog_ms(void);
void notify_close(void);

#endif
