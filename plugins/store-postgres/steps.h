/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file steps.h
 * @brief The steps that make the schema; the number of the last one is its number.
 */
#ifndef STORE_POSTGRES_STEPS_H
#define STORE_POSTGRES_STEPS_H

enum { STEPS = 7 };
extern const char *const steps[STEPS];

#endif
