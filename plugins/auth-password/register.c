/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/auth/register: a new account, or a guest's that becomes one. */
#include "auth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TRIES = 6 };

static void make(struct op *op);

/* ---- what was asked --------------------------------------------------------------------- */

void op_check_password(struct op *op, const char *field, struct chatd_str pass)
{
	char why[160];
	const struct conf *conf = op->self->conf;
	size_t chars = chatd_str_chars(pass), spaces = 0;
	for (size_t i = 0; i < pass.n; i++) {
		spaces += pass.p[i] == ' ';
	}
	if (!pass.p) {
		snprintf(why, sizeof(why), "%s is missing", field);
		op_fault(op, field, "REQUIRED", why);
	} else if (chars < (size_t)conf->password_min || chars > (size_t)conf->password_max) {
		snprintf(why, sizeof(why), "a password has %lld to %lld characters; this one has %zu",
				(long long)conf->password_min, (long long)conf->password_max, chars);
		op_fault(op, field, "LENGTH", why);
	} else if (spaces == pass.n) {
		op_fault(op, field, "BLANK", "a password must not be of spaces alone");
	} else if (conf->hash == HASH_BCRYPT && pass.n > HASH_BCRYPT_BYTES) {
		snprintf(why, sizeof(why), "a password has at most %d bytes here; this one has %zu",
				HASH_BCRYPT_BYTES, pass.n);
		op_fault(op, field, "LENGTH", why);
	}
}

void op_check_email(struct op *op, struct chatd_str email)
{
	const char *why = email.p ? check_email(email, op->email) : "email is missing";
	if (why) {
		op_fault(op, "email", email.p ? "INVALID" : "REQUIRED", why);
	}
}

static void check(struct op *op, const struct fields *f)
{
	op_check_email(op, f->email);
	op_check_password(op, "password", f->password);
	if (f->nickname.n) {
		const char *why = chatd_nick_take(f->nickname, op->nick);
		op->nick_given = 1;
		if (why) {
			op_fault(op, "nickname", "INVALID", why);
		}
	} else {
		check_nickname_of(op->email, op->nick);
	}
}

/* ---- the answer ----------------------------------------------------------------------------- */

static void answer(struct op *op)
{
	char room[1024];
	struct chatd_json j;
	int mailed = op->self->conf->verify != VERIFY_OFF;
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_flag(&j, "success", 1);
	chatd_json_member(&j, "userId", text(op->who.id));
	chatd_json_member(&j, "email", text(op->who.email));
	chatd_json_member(&j, "nickname", text(op->who.nick));
	chatd_json_flag(&j, "upgraded", op->upgrade);
	chatd_json_flag(&j, "verificationSent", mailed);
	chatd_json_key(&j, "accessToken"); /* the reference has these two, and never fills them */
	chatd_json_lit(&j, "null");
	chatd_json_key(&j, "refreshToken");
	chatd_json_lit(&j, "null");
	chatd_json_member(&j, "message",
			mailed ? CHATD_LIT("Registered; a code was mailed to confirm the address.")
				   : CHATD_LIT("Registered; log in now."));
	chatd_json_lit(&j, "}");
	if (!mailed) {
		op_json(op, 201, &j);
		return;
	}
	/* Two things are left to do with one op: the mail goes on its own. */
	struct op *mail = op_create(op->self, op->w);
	if (mail) {
		mail->who = op->who;
		codes_send_verify(mail, op->who.email);
	}
	op_json(op, 201, &j);
}

static void taken(struct op *op, int32_t why)
{
	if (why == CHATD_STORE_ID_TAKEN && !op->upgrade && op->tries < TRIES) {
		make(op);
	} else if (why == CHATD_STORE_NICK_TAKEN && !op->nick_given && op->tries < TRIES) {
		unsigned short n;
		check_nickname_of(op->email, op->nick);
		op->self->h->random(&n, sizeof(n));
		snprintf(op->nick + strlen(op->nick), 7, "-%u", n % 10000u);
		make(op);
	} else if (why == CHATD_STORE_NICK_TAKEN) {
		op_fault(op, "nickname", "NICKNAME_TAKEN", "somebody has this nickname; choose another");
		op_faults(op, 409, "NICKNAME_TAKEN", "Somebody has this nickname; choose another.");
	} else if (why == CHATD_STORE_EMAIL_TAKEN) {
		op_fault(op, "email", "EMAIL_TAKEN", "there is an account of this address; log in");
		op_faults(op, 409, "EMAIL_TAKEN", "There is an account of this e-mail address; log in.");
	} else {
		op_problem(op, 503, "UNAVAILABLE", "the account could not be made; try again");
	}
}

/* ---- in the store ----------------------------------------------------------------------------- */

static void registered(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct op *op = arg;
	op->busy = 0; /* goes on without a listener: the account exists */
	if (rc == -EEXIST) {
		taken(op, a->why);
		return;
	}
	if (rc == -ENOENT) {
		op_problem(op, 401, "UNAUTHORIZED", "This guest does not exist any more.");
		return;
	}
	if (rc == -ESTALE) {
		op_problem(op, 409, "ALREADY_REGISTERED", "You have an account; log in to it.");
		return;
	}
	if (rc < 0) {
		op_store_failed(op, rc);
		return;
	}
	if (op->upgrade) {
		op_take_account(op, a);
		live_registered(op, &op->who);
	} else {
		snprintf(op->who.id, sizeof(op->who.id), "%s", op->id);
		snprintf(op->who.nick, sizeof(op->who.nick), "%s", op->nick);
		snprintf(op->who.email, sizeof(op->who.email), "%s", op->email);
	}
	answer(op);
}

static void new_id(struct op *op)
{
	static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";
	unsigned char raw[12];
	op->self->h->random(raw, sizeof(raw));
	memcpy(op->id, "user_", 5);
	for (size_t i = 0; i < sizeof(raw); i++) {
		op->id[5 + i] = alphabet[raw[i] & 31];
	}
	op->id[5 + sizeof(raw)] = '\0';
}

static void make(struct op *op)
{
	const struct chatd_store *s = op_store(op);
	chatd_status rc;
	op->tries++;
	op->busy = 1;
	if (op->upgrade) {
		struct chatd_store_account_update u = { .struct_size = sizeof(u),
			.set = CHATD_STORE_ACCOUNT_REGISTER | CHATD_STORE_ACCOUNT_EMAIL |
					CHATD_STORE_ACCOUNT_PASSWORD | CHATD_STORE_ACCOUNT_NICKNAME,
			.id = text(op->user),
			.nickname = text(op->nick),
			.email = text(op->email),
			.password = text(op->job.made) };
		rc = s->account_update(op_store_obj(op), op->w, &u, registered, op);
	} else {
		new_id(op);
		struct chatd_account a = { .struct_size = sizeof(a),
			.id = text(op->id),
			.nickname = text(op->nick),
			.created = op->self->h->wall_ms(),
			.email = text(op->email),
			.password = text(op->job.made) };
		rc = s->account_create(op_store_obj(op), op->w, &a, registered, op);
	}
	op_asked(op, rc);
}

/* ---- who asks, and how often --------------------------------------------------------------------- */

static void begin(struct op *op)
{
	if (op->user[0] && !(op->flags & CHATD_ID_ANONYMOUS)) {
		op_problem(op, 409, "ALREADY_REGISTERED", "You have an account; log out to make another.");
		return;
	}
	op->upgrade = op->user[0] != '\0';
	op_hash(op, chatd_str_of(op->job.pass, op->job.n), make);
}

static void guest_known(
		void *arg, chatd_status rc, const chatd_ident *ident, const char *code, const char *why)
{
	struct op *op = arg;
	(void)code;
	(void)why;
	if (rc == 0) {
		chatd_str_copy(op->user, sizeof(op->user), op->self->h->ident_user(ident));
		op->flags = op->self->h->ident_flags(ident);
	}
	begin(op);
}

static void who_asks(struct op *op)
{
	const struct chatd_http *http = op_http(op);
	if (http->req_header(op->req, "Authorization").p || http->req_query(op->req, "token").p) {
		op_identify(op, begin);
	} else if (http->req_header(op->req, "Device-Token").p ||
			http->req_cookie(op->req, "device-token").p) {
		/* A cookie that is left from a guest who is gone must not stand in the way. */
		http->identify(op->req, guest_known, op);
	} else {
		begin(op);
	}
}

static void allowed(void *arg, chatd_status rc, int64_t retry_ms)
{
	struct op *op = arg;
	if (!op_back(op)) {
		return;
	}
	if (rc == -EDQUOT) {
		op_retry(op, 429, "RATE_LIMIT_EXCEEDED", retry_ms);
		return;
	}
	who_asks(op); /* a limiter that is out of order keeps nobody out */
}

static void ask_limiter(struct op *op)
{
	char key[80];
	const struct self *self = op->self;
	const struct chatd_limiter *limiter = self->limiter ? self->limiter->vt : NULL;
	int n = snprintf(key, sizeof(key), "register:%s", op->peer);
	struct chatd_bucket b = { .struct_size = sizeof(b),
		.key = chatd_str_of(key, (size_t)n),
		/* One registration costs an hour's worth of minutes. */
		.burst = 60 * self->conf->register_per_hour,
		.per_minute = self->conf->register_per_hour,
		.cost = 60 };
	op->busy = 1;
	if (!limiter || self->conf->register_per_hour == 0 ||
			limiter->take(self->limiter->obj, op->w, &b, allowed, op) < 0) {
		op->busy = 0;
		who_asks(op);
	}
}

void on_register(struct op *op)
{
	struct fields f;
	json_t *root;
	if (!op_read(op, &f, &root)) {
		return;
	}
	check(op, &f);
	if (op->n_faults) {
		op_faults(op, 422, "VALIDATION", "This cannot be registered; see errors.");
	} else {
		op->job.n = f.password.n;
		chatd_str_copy(op->job.pass, sizeof(op->job.pass), f.password);
		ask_limiter(op);
	}
	json_decref(root);
}
