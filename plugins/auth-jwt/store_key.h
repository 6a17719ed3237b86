/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file store_key.h
 * @brief The key that is made at the first start, for servers that configure none.
 */
#ifndef STORE_KEY_H
#define STORE_KEY_H

#include "key.h"

/** Reads server.data_dir/jwt.key, or makes it. */
chatd_status store_key(const struct chatd_host *, chatd_ctx *, struct key *ret);

#endif
