/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file out.h
 * @brief A target's place in the log, as it is kept, and the wait after a failure.  Pure.
 */
#ifndef WEBHOOKS_OUT_H
#define WEBHOOKS_OUT_H

#include "webhooks.h"

enum { ERROR_MAX = 120, OWNER_MAX = 64 };

struct place {
	int64_t pos;   /* the target has had all up to this row */
	int64_t upto;  /* the request that failed ended here: it is repeated as it was; 0: none */
	int64_t fails; /* one after the other */
	int64_t until; /* wall-clock ms: nothing is tried before; 0 */
	int64_t since; /* of the first of those failures */
	char owner[OWNER_MAX + 1]; /* who sends now */
	char error[ERROR_MAX + 1]; /* of the last failure; "": none */
};

void place_write(struct chatd_json *, const struct place *);
int place_read(struct chatd_str value, struct place *ret);
/** Milliseconds to wait after that many failures; @p random: any number. */
int64_t place_backoff(const struct conf *, int64_t fails, int64_t asked, uint32_t random);

#endif
