/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file chat/lost.h
 * @brief Ids of subscriptions that a client may still believe in.
 *
 * One that was refused, or was cut off, is ended by its client later, for a stock client does
 * not know better.  That is no fault; to end one that never was is.  A few are remembered.
 */
#ifndef CHAT_LOST_H
#define CHAT_LOST_H

#include <chatd/plugin.h>

enum { LOST_MAX = 32, LOST_ID_MAX = 128 }; /* of a session; longer ids are not remembered */

struct lost;

void lost_note(struct lost **, struct chatd_str id);
/** 1: it was remembered, and is no more. */
int lost_take(struct lost **, struct chatd_str id);
void lost_free(struct lost **);

#endif
