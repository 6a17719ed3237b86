/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts that people register, their logins and their one-time secrets. */
#include "store.h"

#include <errno.h>

#define NOT_YET(name)                            \
	void do_##name(struct db *db, struct op *op) \
	{                                            \
		(void)db;                                \
		op->rc = -ENOSYS;                        \
	}
NOT_YET(account_update)
NOT_YET(account_delete)
NOT_YET(sent)
NOT_YET(login_create)
NOT_YET(login_get)
NOT_YET(login_list)
NOT_YET(login_rotate)
NOT_YET(login_end)
NOT_YET(secret_put)
NOT_YET(secret_take)
