/* SPDX-License-Identifier: Apache-2.0 */
/* Codes by mail: for an address that must be confirmed, and for a password that was forgotten.
 *
 * A code is 128 random bits.  The store has its hash, whose it is, until when, and the address
 * it was mailed to; it gives it out once.  Guessing is hopeless, and slowed down by address.
 * Whether there is an account of some address is never told: the answer comes before anybody
 * has looked. */
#include "auth.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* ---- mails ------------------------------------------------------------------------------- */

static void mailed(void *arg, chatd_status rc)
{
	const struct self *self = arg;
	if (rc < 0) {
		self->h->log(self->ctx, CHATD_LOG_ERROR, "a mail could not be sent: %s", strerror(-rc));
	}
}

static void mail(const struct self *self, chatd_worker *w, const char *to, const char *subject,
		const char *body)
{
	char line[200];
	const struct chatd_mailer *m = self->mailer ? self->mailer->vt : NULL;
	if (!m || !to[0]) {
		return;
	}
	int n = snprintf(line, sizeof(line), "%s: %s", self->conf->site, subject);
	struct chatd_mail letter = { .struct_size = sizeof(letter),
		.to = text(to),
		.subject = chatd_str_of(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1),
		.text = text(body) };
	chatd_status rc = m->send(self->mailer->obj, w, &letter, mailed, (void *)(uintptr_t)self);
	if (rc < 0) {
		mailed((void *)(uintptr_t)self, rc);
	}
}

void codes_notice(struct op *op, const char *email, const char *subject, const char *line)
{
	char body[1024];
	snprintf(body, sizeof(body), "Hello %s,\n\n%s: %s.\n%s\n", op->who.nick, op->self->conf->site,
			subject, line);
	mail(op->self, op->w, email, subject, body);
}

/* The code where the configured link has {code}. */
static void write_link(char *ret, size_t cap, const char *link, const char *code)
{
	const char *at = link ? strstr(link, "{code}") : NULL;
	ret[0] = '\0';
	if (at) {
		snprintf(ret, cap, "\n%.*s%s%s\n", (int)(at - link), link, code, at + strlen("{code}"));
	}
}

static void mail_code(struct op *op)
{
	char body[3072], link[1024];
	write_link(link, sizeof(link), op->link, op->code);
	snprintf(body, sizeof(body),
			"Hello %s,\n\n"
			"%s: %s. This is your code, good for one use:\n\n"
			"%.5s-%.5s-%.5s-%.5s-%.6s\n%s\n"
			"If you did not ask for it, ignore this mail; nothing has changed.\n",
			op->who.nick, op->self->conf->site, op->subject, op->code, op->code + 5, op->code + 10,
			op->code + 15, op->code + 20, link);
	mail(op->self, op->w, op->email, op->subject, body);
	sodium_memzero(body, sizeof(body));
	sodium_memzero(link, sizeof(link));
}

/* ---- making one ---------------------------------------------------------------------------- */

static void code_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	op->busy = 0;
	if (rc == 0) {
		mail_code(op);
	} else {
		op->self->h->log(
				op->self->ctx, CHATD_LOG_ERROR, "a code could not be kept: %s", strerror(-rc));
	}
	op_free(op);
}

static void code_due(struct op *op, int64_t wait)
{
	unsigned char raw[16];
	const struct self *self = op->self;
	int64_t now = self->h->wall_ms();
	if (wait > 0) {
		op_free(op);
		return;
	}
	self->h->random(raw, sizeof(raw));
	check_code_write(raw, op->code);
	sodium_memzero(raw, sizeof(raw));
	tokens_hash(text(op->code), op->code_hash);
	struct chatd_store_secret s = { .struct_size = sizeof(s),
		.kind = op->secret,
		.hash = text(op->code_hash),
		.user = text(op->who.id),
		.data = text(op->email),
		.expires =
				now + (op->secret == SECRET_RESET ? self->conf->reset_ttl : self->conf->verify_ttl),
		.wall = now };
	op->busy = 1;
	if (op_store(op)->secret_put(op_store_obj(op), op->w, &s, code_kept, op) < 0) {
		code_kept(op, -EAGAIN, NULL);
	}
}

/* To op->email, for op->who; the op ends with it.  Each mail counts like a failure: the next one
 * must wait a little longer. */
static void send_code(struct op *op, int32_t kind)
{
	const struct self *self = op->self;
	int reset = kind == SECRET_RESET;
	struct throttle_who who = { .what = THROTTLE_MAIL,
		.whom = text(op->who.id),
		.peer = text(op->peer),
		.now = self->h->now_ms(op->w) };
	op->subject = reset ? "a new password" : "confirm your e-mail address";
	op->link = reset ? self->conf->reset_link : self->conf->verify_link;
	op->secret = kind;
	op->alone = 1;
	guess_begin(op, &who, code_due);
}

void codes_send_verify(struct op *op, const char *email)
{
	snprintf(op->email, sizeof(op->email), "%s", email);
	send_code(op, SECRET_VERIFY);
}

/* ---- POST /api/auth/reset and /api/auth/verify/resend ----------------------------------------- */

static void owner_found(struct op *op, chatd_status rc, const struct chatd_store_answer *a)
{
	op->busy = 0;
	if (rc == 0) {
		op_take_account(op, a);
	}
	if (rc < 0 && rc != -ENOENT) {
		op->self->h->log(op->self->ctx, CHATD_LOG_ERROR, "no code was mailed: %s", strerror(-rc));
	}
}

static void reset_found(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	owner_found(op, rc, a);
	if (op->who.found) {
		send_code(op, SECRET_RESET);
	} else {
		op_free(op);
	}
}

static void resend_found(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	owner_found(op, rc, a);
	if (op->who.found && !(op->who.bits & CHATD_ACCOUNT_VERIFIED)) {
		send_code(op, SECRET_VERIFY);
	} else {
		op_free(op);
	}
}

static int has_mailer(struct op *op)
{
	if (!op->self->mailer) {
		op_problem(op, 501, "NOT_SUPPORTED",
				"This server sends no mail; ask whoever runs it for help.");
		return 0;
	}
	return 1;
}

static void answer_and_go_on(struct op *op, chatd_store_fn *found)
{
	struct op *rest = op_create(op->self, op->w);
	struct chatd_store_account_key key = { .struct_size = sizeof(key), .by = CHATD_STORE_BY_EMAIL };
	if (!rest) {
		op_problem(op, 503, "UNAVAILABLE", "the server has no memory left");
		return;
	}
	memcpy(rest->email, op->email, sizeof(rest->email));
	memcpy(rest->peer, op->peer, sizeof(rest->peer));
	op_success(op, 202, "if there is such an account, a mail is on its way");
	key.key = text(rest->email);
	rest->alone = 1;
	rest->busy = 1;
	if (op_store(rest)->account_get(op_store_obj(rest), rest->w, &key, found, rest) < 0) {
		rest->busy = 0;
		op_free(rest);
	}
}

static void mail_to(struct op *op, chatd_store_fn *found)
{
	struct fields f;
	json_t *root;
	if (!has_mailer(op) || !op_read(op, &f, &root)) {
		return;
	}
	op_check_email(op, f.email);
	json_decref(root);
	if (op->n_faults) {
		op_faults(op, 422, "VALIDATION", op->faults[0].text);
		return;
	}
	answer_and_go_on(op, found);
}

void on_reset(struct op *op)
{
	mail_to(op, reset_found);
}

void on_resend(struct op *op)
{
	mail_to(op, resend_found);
}

/* ---- presenting one ---------------------------------------------------------------------------- */

#define WRONG_CODE "This code is wrong, spent or over; ask for a new one."

static void code_counted(struct op *op)
{
	op->busy = 0;
	if (op->rc == 0) {
		op->step(op);
	} else if (op->rc == -ENOENT) {
		op_problem(op, 400, "INVALID_CODE", WRONG_CODE);
	} else {
		op_store_failed(op, op->rc);
	}
}

static void code_judged(struct op *op, int64_t wait)
{
	if (wait > 0) {
		op_retry(op, 429, "RATE_LIMIT_EXCEEDED", wait);
	} else if (!op->code[0]) {
		op->rc = -ENOENT;
		guess_end(op, THROTTLE_WRONG, code_counted);
	} else {
		tokens_hash(text(op->code), op->code_hash);
		op->step(op);
	}
}

/* step() goes on, unless too many were wrong already, or it cannot be one. */
static void take_code(struct op *op, struct chatd_str code, void (*step)(struct op *))
{
	struct throttle_who who = {
		.what = THROTTLE_CODE, .peer = text(op->peer), .now = op->self->h->now_ms(op->w)
	};
	if (!check_code_read(code, op->code)) {
		op->code[0] = '\0';
	}
	op->step = step;
	guess_begin(op, &who, code_judged);
}

static void spend(struct op *op, int32_t kind, chatd_store_fn *fn)
{
	struct chatd_store_secret s = { .struct_size = sizeof(s),
		.kind = kind,
		.hash = text(op->code_hash),
		.wall = op->self->h->wall_ms() };
	op->busy = 1;
	op_asked(op, op_store(op)->secret_take(op_store_obj(op), op->w, &s, fn, op));
}

/* step() goes on with op->who and op->email, if it was one: also when the client has left, since
 * it is spent. */
static void spent(struct op *op, chatd_status rc, const struct chatd_store_answer *a,
		void (*step)(struct op *))
{
	int good = rc == 0 && a->n_secrets && a->n_accounts;
	if (good) {
		op_take_account(op, a);
		chatd_str_copy(op->email, sizeof(op->email), a->secrets[0].data);
	}
	op->rc = good ? 0 : rc < 0 ? rc : -ENOENT;
	op->step = step;
	guess_end(op,
			good                        ? THROTTLE_RIGHT
					: op->rc == -ENOENT ? THROTTLE_WRONG
										: THROTTLE_NEITHER,
			code_counted);
}

static void confirmed(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	if (rc == 0 && strcmp(op->who.email, op->email) != 0) {
		codes_notice(op, op->who.email, "your e-mail address was changed",
				"If this was not you, change your password at once.");
	}
	if (!op_back(op)) {
		return;
	}
	if (rc == -EEXIST) {
		op_fault(op, "email", "EMAIL_TAKEN", "there is another account of this address");
		op_faults(op, 409, "EMAIL_TAKEN", "There is another account of this e-mail address.");
	} else if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		(void)a;
		op_success(op, 200, "e-mail address confirmed");
	}
}

static void verify_right(struct op *op)
{
	/* The address that the code went to: the account's own, or the one it is to have. */
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.set = CHATD_STORE_ACCOUNT_EMAIL | CHATD_STORE_ACCOUNT_BITS,
		.id = text(op->who.id),
		.email = text(op->email),
		.bits_on = CHATD_ACCOUNT_VERIFIED };
	op->busy = 1;
	op_asked(op, op_store(op)->account_update(op_store_obj(op), op->w, &u, confirmed, op));
}

static void verify_spent(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	spent(arg, rc, a, verify_right);
}

static void verify_judged(struct op *op)
{
	spend(op, SECRET_VERIFY, verify_spent);
}

void on_verify(struct op *op)
{
	struct fields f;
	json_t *root;
	if (!op_read(op, &f, &root)) {
		return;
	}
	take_code(op, f.code, verify_judged);
	json_decref(root);
}

static void password_set(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	(void)a;
	if (rc == 0) {
		live_end(op, &(struct live_end){ .user = op->who.id, .why = "the password was changed" });
		codes_notice(op, op->who.email, "your password was changed",
				"If this was not you, ask for a new password at once.");
	}
	if (!op_back(op)) {
		return;
	}
	if (rc < 0) {
		op_store_failed(op, rc);
	} else {
		op_success(op, 200, "password changed; all logins have ended, log in");
	}
}

static void reset_right(struct op *op)
{
	if (strcmp(op->email, op->who.email) != 0) {
		op_problem(op, 400, "INVALID_CODE", WRONG_CODE); /* the account has moved since */
		return;
	}
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.set = CHATD_STORE_ACCOUNT_PASSWORD | CHATD_STORE_ACCOUNT_BITS,
		.id = text(op->who.id),
		.password = text(op->job.made),
		.bits_on = CHATD_ACCOUNT_VERIFIED, /* whoever has the code reads that mailbox */
		.end_logins = 1 };
	op->busy = 1;
	op_asked(op, op_store(op)->account_update(op_store_obj(op), op->w, &u, password_set, op));
}

static void reset_spent(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	spent(arg, rc, a, reset_right);
}

/* Hashed first: a busy pool must not cost the code. */
static void reset_hashed(struct op *op)
{
	spend(op, SECRET_RESET, reset_spent);
}

static void reset_judged(struct op *op)
{
	op_hash(op, chatd_str_of(op->job.pass, op->job.n), reset_hashed);
}

void on_reset_confirm(struct op *op)
{
	struct fields f;
	json_t *root;
	if (!op_read(op, &f, &root)) {
		return;
	}
	op_check_password(op, "password", f.password);
	if (op->n_faults) {
		op_faults(op, 422, "VALIDATION", op->faults[0].text);
	} else {
		op->job.n = f.password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), f.password);
		take_code(op, f.code, reset_judged);
	}
	json_decref(root);
}
