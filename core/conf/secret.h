/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets that the file only refers to: env:NAME and file:PATH.
 */
#ifndef CONF_SECRET_H
#define CONF_SECRET_H

#include "conf/node.h"

enum { SECRET_MAX = 65536 };

/*
 * What @p value stands for, in the arena of @p c; a value that is no reference stands for
 * itself.  @p folder begins relative paths.  .p NULL: *ret_why says why, without the value.
 */
struct secret_why {
	char text[512];
};
struct chatd_str secret_resolve(
		struct conf *c, struct chatd_str value, const char *folder, struct secret_why *ret_why);

#endif
