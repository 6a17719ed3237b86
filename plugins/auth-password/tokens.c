/* SPDX-License-Identifier: Apache-2.0 */
#include "auth.h"

#include <errno.h>
#include <sodium.h>

static const struct chatd_tokens *tokens(const struct op *op)
{
	return op->self->tokens->vt;
}

void tokens_hash(struct chatd_str token, char ret_hash[65])
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256(hash, (const unsigned char *)token.p, token.n);
	sodium_bin2hex(ret_hash, 65, hash, sizeof(hash));
}

chatd_status tokens_refresh(struct op *op, char ret_hash[65])
{
	/* It ends with the idle time; when the login itself ends, the store knows. */
	struct chatd_claims c = { .struct_size = sizeof(c),
		.type = CHATD_TOKEN_REFRESH,
		.user = text(op->who.id),
		.login = text(op->id),
		.expires = (op->self->h->wall_ms() + op->self->conf->refresh_idle) / 1000 * 1000 };
	op->refresh = op->refresh ? op->refresh : op->self->h->mem_alloc(CHATD_TOKEN_MAX);
	chatd_status rc =
			op->refresh ? tokens(op)->issue(op->self->tokens->obj, &c, op->refresh, NULL) : -ENOMEM;
	if (rc == 0) {
		tokens_hash(text(op->refresh), ret_hash);
	}
	return rc;
}

void tokens_answer(struct op *op)
{
	char access[CHATD_TOKEN_MAX], room[2 * CHATD_TOKEN_MAX];
	struct chatd_claims said = { .struct_size = sizeof(said) },
						c = { .struct_size = sizeof(c),
							.type = CHATD_TOKEN_ACCESS,
							.user = text(op->who.id),
							.name = text(op->who.nick),
							.login = text(op->id),
							.roles = text_or_none(op->who.roles) };
	struct chatd_json j;
	if (tokens(op)->issue(op->self->tokens->obj, &c, access, &said) < 0) {
		op_problem(op, 503, "UNAVAILABLE", "no token could be made; try again");
		return;
	}
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "accessToken", text(access));
	chatd_json_member(&j, "refreshToken", text(op->refresh));
	chatd_json_member(&j, "tokenType", CHATD_LIT("Bearer"));
	chatd_json_int(&j, "expiresIn", (said.expires - said.issued) / 1000);
	chatd_json_member(&j, "userId", text(op->who.id));
	chatd_json_member(&j, "nickname", text(op->who.nick));
	chatd_json_member(&j, "email", text_or_none(op->who.email));
	chatd_json_member(&j, "roles", text_or_none(op->who.roles));
	chatd_json_member(&j, "session", text(op->id));
	chatd_json_flag(&j, "emailVerified", (op->who.bits & CHATD_ACCOUNT_VERIFIED) != 0);
	chatd_json_lit(&j, "}");
	sodium_memzero(access, sizeof(access));
	op_json(op, 200, &j);
}
