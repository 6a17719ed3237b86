/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT with login (e-mail address or user id) and passcode (the password). */
#include "auth.h"

#include <errno.h>
#include <string.h>

static void enter(struct op *op)
{
	const struct chatd_host *h = op->self->h;
	chatd_call *call = h->call_of(op->w, op->token);
	if (call) {
		struct chatd_identity who = { .struct_size = sizeof(who),
			.flags = op->who.flags,
			.user = text(op->who.id),
			.name = text(op->who.nick),
			.roles = text_or_none(op->who.roles),
			.login = text(op->id) };
		(void)h->resume(op->token, h->identify_as(call, CHATD_CRED_PASSCODE, &who), NULL, NULL);
	}
	op_free(op);
}

static void refuse(struct op *op)
{
	op_problem(op, 401, "UNAUTHORIZED", "Access refused");
}

/* As at a login: whoever changed the password meanwhile did not see this session. */
static void looked_again(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	char hash[HASH_ROOM];
	if (!op_back(op)) {
		return;
	}
	if (rc < 0) {
		op_store_failed(op, rc);
		return;
	}
	memcpy(hash, op->job.made[0] ? op->job.made : op->who.hash, sizeof(hash));
	op_take_account(op, a);
	if (strcmp(hash, op->who.hash) != 0) {
		refuse(op);
	} else if (verify_may_enter(op)) {
		enter(op);
	}
}

static void verified(struct op *op, int right)
{
	if (!right) {
		refuse(op);
		return;
	}
	struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ID, .key = text(op->who.id)
	};
	op->busy = 1;
	op_asked(op, op_store(op)->account_get(op_store_obj(op), op->w, &key, looked_again, op));
}

static void found(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (!op_back(op)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		op_store_failed(op, rc);
		return;
	}
	if (rc == 0) {
		op_take_account(op, a);
	}
	verify_password(op, chatd_str_of(op->job.pass, op->job.n), verified);
}

static void ask(struct op *op, struct chatd_str login)
{
	struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ID, .key = login
	};
	if (check_email(login, op->email) == NULL) {
		key.by = CHATD_STORE_BY_EMAIL;
		key.key = text(op->email);
	} else {
		chatd_str_copy(op->email, sizeof(op->email), login);
	}
	op->busy = 1;
	if (op_store(op)->account_get(op_store_obj(op), op->w, &key, found, op) < 0) {
		op->busy = 0;
		op_problem(op, 503, "STORE_BUSY", "too many logins at once; try again");
	}
}

chatd_verdict on_connect(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *creds = h->call_msg(call);
	struct chatd_str login = h->msg_get(creds, CHATD_CRED_LOGIN);
	struct chatd_str pass = h->msg_get(creds, CHATD_CRED_PASSCODE);
	(void)wself;
	/* Somebody is known: by auth-static, whose login and passcode these were, or by a token
	 * that the passcode may be.  A credential that nobody proves is refused in the end. */
	if (!login.n || !pass.p || pass.n > PASSWORD_BYTES || h->call_ident(call) ||
			(check_email(login, (char[EMAIL_MAX + 1]){ 0 }) && !chatd_id_ok(login))) {
		return CHATD_NEXT;
	}
	struct op *op = op_create(self, h->call_worker(call));
	if (!op) {
		return -ENOMEM;
	}
	chatd_str_copy(op->peer, sizeof(op->peer), h->msg_get(creds, CHATD_CRED_PEER));
	live_login_id(self, 'p', op->id);
	op->job.n = pass.n;
	chatd_str_copy(op->job.pass, sizeof(op->job.pass), pass);
	op->token = h->suspend(call, NULL, NULL);
	if (!op->token) {
		op_free(op);
		return -EBUSY;
	}
	ask(op, login);
	return CHATD_WAIT;
}
