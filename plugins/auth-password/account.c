/* SPDX-License-Identifier: Apache-2.0 */
/* Change of the password and of the e-mail address. */
#include "auth.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* The account of who asks, for op->step. */
static void loaded(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (!op_back(op)) {
		return;
	}
	if (rc == -ENOENT) {
		op_problem(op, 404, "NOT_FOUND", "There is no account of yours here.");
	} else if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		op_take_account(op, a);
		op->step(op);
	}
}

static void load(struct op *op, void (*step)(struct op *))
{
	struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ID, .key = text(op->user)
	};
	op->step = step;
	op->busy = 1;
	op_asked(op, op_store(op)->account_get(op_store_obj(op), op->w, &key, loaded, op));
}

/* ---- POST /api/auth/password -------------------------------------------------------------- */

static void changed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	if (rc == 0) {
		live_end(op,
				&(struct live_end){
						.user = op->user, .keep = op->login, .why = "the password was changed" });
		codes_notice(op, op->who.email, "your password was changed",
				"If this was not you, ask for a new password at once.");
	}
	if (!op_back(op)) {
		return;
	}
	if (rc == -ESTALE) {
		op_problem(op, 409, "CHANGED", "The password was changed meanwhile; try again.");
	} else if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		op_success(op, 200, "password changed; other logins have ended");
	}
}

static void store_password(struct op *op)
{
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.set = CHATD_STORE_ACCOUNT_PASSWORD,
		.id = text(op->user),
		.password = text(op->job.made),
		.end_logins = op->login[0] ? 2 : 1,
		.keep = text_or_none(op->login),
		.was = text(op->who.hash) };
	op->busy = 1;
	op_asked(op, op_store(op)->account_update(op_store_obj(op), op->w, &u, changed, op));
}

/* The new password waits in op->spent, which nobody else needs here. */
static void old_checked(struct op *op, int right)
{
	if (!right) {
		op_problem(op, 401, "INVALID_CREDENTIALS", "The old password is wrong.");
		return;
	}
	if (op->job.made[0]) { /* re-hashed: that is what `was` must name */
		memcpy(op->who.hash, op->job.made, sizeof(op->who.hash));
	}
	op_hash(op, text(op->spent), store_password);
}

static void password_loaded(struct op *op)
{
	verify_password(op, chatd_str_of(op->job.pass, op->job.n), old_checked);
}

static void password_asked(struct op *op)
{
	load(op, password_loaded);
}

void on_password(struct op *op)
{
	struct fields f;
	json_t *root;
	if (!op_read(op, &f, &root)) {
		return;
	}
	if (!f.old_password.p) {
		op_fault(op, "old", "REQUIRED", "old is missing: the password until now");
	}
	op_check_password(op, "new", f.new_password);
	op->spent = op->self->h->mem_alloc(CHATD_TOKEN_MAX);
	if (op->n_faults) {
		op_faults(op, 422, "VALIDATION", "The password cannot be changed like this; see errors.");
	} else if (f.old_password.n > PASSWORD_BYTES) {
		op_problem(op, 401, "INVALID_CREDENTIALS", "The old password is wrong.");
	} else if (!op->spent) {
		op_problem(op, 503, "UNAVAILABLE", "the server has no memory left");
	} else {
		op->job.n = f.old_password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), f.old_password);
		chatd_str_copy(op->spent, CHATD_TOKEN_MAX, f.new_password);
		op_identify(op, password_asked);
	}
	json_decref(root);
}

/* ---- POST /api/auth/email ----------------------------------------------------------------- */

static void moved(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (rc == 0) {
		codes_notice(op, op->who.email, "your e-mail address was changed",
				"If this was not you, change your password at once.");
	}
	if (!op_back(op)) {
		return;
	}
	if (rc == -EEXIST && a->why == CHATD_STORE_EMAIL_TAKEN) {
		op_fault(op, "email", "EMAIL_TAKEN", "there is an account of this address");
		op_faults(op, 409, "EMAIL_TAKEN", "There is an account of this e-mail address.");
	} else if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		op_success(op, 200, "e-mail address changed");
	}
}

static void mail_checked(struct op *op, int right)
{
	if (!right) {
		op_problem(op, 401, "INVALID_CREDENTIALS", "The password is wrong.");
		return;
	}
	if (op->self->conf->verify != VERIFY_OFF) {
		/* It counts once it is confirmed: a slip of the pen would lock the owner out. */
		struct op *mail = op_create(op->self, op->w);
		if (!mail) {
			op_problem(op, 503, "UNAVAILABLE", "the server has no memory left");
			return;
		}
		mail->who = op->who;
		codes_send_verify(mail, op->email);
		op_success(op, 202, "a code was mailed to the new address; it counts once confirmed");
		return;
	}
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.set = CHATD_STORE_ACCOUNT_EMAIL | CHATD_STORE_ACCOUNT_BITS,
		.id = text(op->user),
		.email = text(op->email),
		.bits_off = CHATD_ACCOUNT_VERIFIED };
	op->busy = 1;
	op_asked(op, op_store(op)->account_update(op_store_obj(op), op->w, &u, moved, op));
}

static void mail_loaded(struct op *op)
{
	verify_password(op, chatd_str_of(op->job.pass, op->job.n), mail_checked);
}

static void mail_asked(struct op *op)
{
	load(op, mail_loaded);
}

void on_email(struct op *op)
{
	struct fields f;
	json_t *root;
	if (!op_read(op, &f, &root)) {
		return;
	}
	op_check_email(op, f.email);
	if (!f.password.p || f.password.n > PASSWORD_BYTES) {
		op_fault(op, "password", "REQUIRED", "password is missing: the one of today");
	}
	if (op->n_faults) {
		op_faults(op, 422, "VALIDATION", "The address cannot be changed like this; see errors.");
	} else {
		op->job.n = f.password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), f.password);
		op_identify(op, mail_asked);
	}
	json_decref(root);
}
