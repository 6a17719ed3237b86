/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/auth/authenticate: a password for a pair of tokens. */
#include "auth.h"

#include <errno.h>
#include <string.h>

static void refuse(struct op *op)
{
	op_problem(op, 401, "INVALID_CREDENTIALS", WRONG_LOGIN);
}

static void undone(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)rc;
	(void)a;
	if (op_back(op)) {
		op_retry(op, 503, "STORE_BUSY", 1000);
	}
}

/* The password may have been changed, or the account banned, between the look at its hash and
 * the login's commit: then whoever ended all logins did not see this one. */
static void looked_again(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	char hash[HASH_ROOM];
	op->busy = 0;
	if (rc < 0) {
		op_store_failed(op, rc);
		return;
	}
	memcpy(hash, op->job.made[0] ? op->job.made : op->who.hash, sizeof(hash));
	op_take_account(op, a);
	if (strcmp(hash, op->who.hash) == 0 && op->who.banned_until <= op->self->h->wall_ms()) {
		tokens_answer(op);
		return;
	}
	struct chatd_store_login_end end = {
		.struct_size = sizeof(end), .user = text(op->who.id), .id = text(op->id)
	};
	op->busy = 1;
	op_asked(op, op_store(op)->login_end(op_store_obj(op), op->w, &end, undone, op));
}

static void created(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	op->busy = 0; /* goes on even if the client has left: the login exists */
	if (rc == -ENOENT) {
		refuse(op); /* the account was deleted meanwhile */
		return;
	}
	if (rc < 0) {
		op_store_failed(op, rc);
		return;
	}
	struct chatd_store_login_key key = {
		.struct_size = sizeof(key), .id = text(op->id), .wall = op->self->h->wall_ms()
	};
	op->busy = 1;
	op_asked(op, op_store(op)->login_get(op_store_obj(op), op->w, &key, looked_again, op));
}

static void verified(struct op *op, int right)
{
	char hash[65];
	const struct conf *conf = op->self->conf;
	if (!right) {
		refuse(op);
		return;
	}
	if (!verify_may_enter(op)) {
		return;
	}
	live_login_id(op->self, 'l', op->id);
	if (tokens_refresh(op, hash) < 0) {
		op_problem(op, 503, "UNAVAILABLE", "no token could be made; try again");
		return;
	}
	int64_t now = op->self->h->wall_ms();
	struct chatd_store_login l = { .struct_size = sizeof(l),
		.id = text(op->id),
		.user = text(op->who.id),
		.device = text(op->device),
		.refresh = text(hash),
		.created = now,
		.used = now,
		.idle_ms = conf->refresh_idle,
		.expires = now + conf->refresh_lifetime,
		.max = (int32_t)conf->devices };
	op->busy = 1;
	op_asked(op, op_store(op)->login_create(op_store_obj(op), op->w, &l, created, op));
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
	/* The password waits in the job since the request was read. */
	struct chatd_str pass = chatd_str_of(op->job.pass, op->job.n);
	verify_password(op, pass, verified);
}

/* "Firefox on Linux" is the client's own word, else its User-Agent. */
static void take_device(struct op *op, struct chatd_str device)
{
	if (!device.n) {
		device = op_http(op)->req_header(op->req, "User-Agent");
		for (size_t i = 0; i < device.n; i++) {
			if ((unsigned char)device.p[i] >= 0x80) { /* a header may hold any bytes */
				device.n = i;
			}
		}
	}
	check_device(device, op->device);
}

void on_authenticate(struct op *op)
{
	struct fields f;
	json_t *root;
	if (!op_read(op, &f, &root)) {
		return;
	}
	if (!f.email.p) {
		op_fault(op, "email", "REQUIRED", "email is missing");
	}
	if (!f.password.p) {
		op_fault(op, "password", "REQUIRED", "password is missing");
	}
	if (op->n_faults) {
		op_faults(op, 422, "VALIDATION", "email and password are needed");
	} else if (check_email(f.email, op->email) || f.password.n > PASSWORD_BYTES) {
		refuse(op); /* says nothing of any account: there can be none */
	} else {
		struct chatd_store_account_key key = {
			.struct_size = sizeof(key), .by = CHATD_STORE_BY_EMAIL, .key = text(op->email)
		};
		take_device(op, f.device);
		op->job.n = f.password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), f.password);
		op->busy = 1;
		op_asked(op, op_store(op)->account_get(op_store_obj(op), op->w, &key, found, op));
	}
	json_decref(root);
}
