/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a password is right: the same road for a login, a CONNECT and a change. */
#include "auth.h"

#include <errno.h>
#include <string.h>

static void rehashed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)rc; /* a better hash is a chance, not a condition; the old one may have changed */
	(void)a;
	if (op_back(op)) {
		op->verified(op, 1);
	}
}

/* A hash of another kind or cost (of the reference, say) is replaced while the password is
 * known.  `was` sees to it that a change of the password at the same time wins. */
static void rehash(struct op *op)
{
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.set = CHATD_STORE_ACCOUNT_PASSWORD,
		.id = text(op->who.id),
		.password = text(op->job.made),
		.was = text(op->who.hash) };
	op->busy = 1;
	if (op_store(op)->account_update(op_store_obj(op), op->w, &u, rehashed, op) < 0) {
		op->busy = 0;
		op->verified(op, 1);
		return;
	}
}

static void counted(struct op *op)
{
	int right = op->rc == 0 && op->job.right;
	if (!op_back(op)) {
		return;
	}
	if (op->rc < 0) {
		op_retry(op, 503, "BUSY", 2000);
	} else if (right && op->job.made[0]) {
		rehash(op);
	} else {
		op->verified(op, right);
	}
}

/* Counted also when the client has left: else a guess would be free for who hangs up. */
static void compared(void *arg, chatd_status rc)
{
	struct op *op = arg;
	op->rc = rc;
	guess_end(op,
			rc < 0                  ? THROTTLE_NEITHER
					: op->job.right ? THROTTLE_RIGHT
									: THROTTLE_WRONG,
			counted);
}

static void judged(struct op *op, int64_t wait)
{
	int real = op->who.found && op->who.hash[0];
	if (wait > 0) {
		op_retry(op, 429, "RATE_LIMIT_EXCEEDED", wait);
		return;
	}
	op->job.kind = JOB_VERIFY;
	op->job.dummy = !real;
	op->job.done = compared;
	op->job.arg = op;
	chatd_str_copy(op->job.have, sizeof(op->job.have), text(real ? op->who.hash : op->self->dummy));
	op->busy = 1;
	if (pool_submit(op->seat, &op->job) < 0) {
		op->busy = 0;
		op_retry(op, 503, "BUSY", 1000);
	}
}

void verify_password(
		struct op *op, struct chatd_str password, void (*verified)(struct op *, int right))
{
	struct throttle_who who = { .what = THROTTLE_LOGIN,
		/* What was asked for, if there is no such account: an attacker sees no difference. */
		.whom = text(op->who.found ? op->who.id : op->email),
		.peer = text(op->peer),
		.now = op->self->h->now_ms(op->w) };
	op->verified = verified;
	if (password.p != op->job.pass) {
		op->job.n = password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), password);
	}
	guess_begin(op, &who, judged);
}

int verify_may_enter(struct op *op)
{
	if (op->who.banned_until > op->self->h->wall_ms()) {
		op_problem(op, 403, "BANNED", "This account is banned.");
		return 0;
	}
	if (op->self->conf->verify == VERIFY_REQUIRED && !(op->who.bits & CHATD_ACCOUNT_VERIFIED)) {
		op_problem(op, 403, "EMAIL_NOT_VERIFIED",
				"Confirm your e-mail address first, by the code that was mailed to you.");
		return 0;
	}
	return 1;
}
