/* SPDX-License-Identifier: Apache-2.0 */
#include "own.h"

#include "claims.h"

#include <chatd-sdk/json.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

enum { NAME_MAX_BYTES = 512, ROLES_MAX = 512, JTI_BYTES = 16 };

static const char *type_name(int32_t type)
{
	return type == CHATD_TOKEN_REFRESH ? "refresh" : "access";
}

/* ---- issuing -------------------------------------------------------------------- */

static int fits(const struct chatd_claims *c)
{
	return (c->type == CHATD_TOKEN_ACCESS || c->type == CHATD_TOKEN_REFRESH) &&
			chatd_id_ok(c->user) && (!c->login.p || chatd_id_ok(c->login)) &&
			c->name.n <= NAME_MAX_BYTES && c->roles.n <= ROLES_MAX;
}

static int put_text(json_t *j, const char *name, struct chatd_str s)
{
	return s.p ? json_object_set_new(j, name, json_stringn(s.p, s.n)) : 0;
}

static json_t *roles_of(struct chatd_str roles)
{
	json_t *list = json_array();
	const char *end = roles.n ? roles.p + roles.n : NULL;
	for (const char *p = end ? roles.p : NULL; list && p && p < end;) {
		const char *space = memchr(p, ' ', (size_t)(end - p));
		size_t n = (size_t)((space ? space : end) - p);
		if (n) {
			json_array_append_new(list, json_stringn(p, n));
		}
		p += n + 1;
	}
	return list;
}

/* NULL: no memory, or text that is no UTF-8. */
static json_t *write_claims(const struct own *o, const struct chatd_claims *c)
{
	unsigned char raw[JTI_BYTES];
	char jti[2 * JTI_BYTES + 1];
	o->random(raw, sizeof(raw));
	sodium_bin2hex(jti, sizeof(jti), raw, sizeof(raw));
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "iss", o->issuer, "aud", o->audience,
			"jti", jti, "type", type_name(c->type), "iat", (json_int_t)(c->issued / 1000), "exp",
			(json_int_t)(c->expires / 1000));
	int rc = j ? put_text(j, "sub", c->user) : -1;
	rc = rc ? rc : put_text(j, "name", c->name);
	rc = rc ? rc : put_text(j, "sid", c->login);
	rc = rc || !c->roles.p ? rc : json_object_set_new(j, "roles", roles_of(c->roles));
	if (rc) {
		json_decref(j);
		j = NULL;
	}
	return j;
}

chatd_status own_issue(const struct own *o, int64_t wall_ms, const struct chatd_claims *want,
		char ret[CHATD_TOKEN_MAX], struct chatd_claims *ret_claims)
{
	struct chatd_claims c = { 0 };
	memcpy(&c, want, want->struct_size < sizeof(c) ? want->struct_size : sizeof(c));
	if (!fits(&c)) {
		return -EINVAL;
	}
	int64_t ttl = c.type == CHATD_TOKEN_REFRESH ? o->refresh_ms : o->access_ms;
	c.struct_size = sizeof(c);
	c.issued = (c.issued ? c.issued : wall_ms) / 1000 * 1000;
	c.expires = (c.expires ? c.expires : c.issued + ttl) / 1000 * 1000;
	json_t *j = write_claims(o, &c);
	chatd_status rc = j ? key_sign(&o->keys[0], j, ret, CHATD_TOKEN_MAX) : -EINVAL;
	json_decref(j);
	if (rc == 0 && ret_claims) {
		*ret_claims = c;
	}
	return rc == -EMSGSIZE ? -EINVAL : rc;
}

/* ---- verifying -------------------------------------------------------------------- */

struct writer {
	char *at, *end;
	int full;
};

struct take {
	struct writer w;
	struct chatd_claims *ret;
};

static struct chatd_str keep(struct writer *w, struct chatd_str s)
{
	if (!s.p || s.n >= (size_t)(w->end - w->at)) {
		w->full |= s.p != NULL;
		return chatd_str_of(NULL, 0);
	}
	char *at = w->at;
	memcpy(at, s.p, s.n);
	at[s.n] = '\0';
	w->at += s.n + 1;
	return chatd_str_of(at, s.n);
}

static void add_role(void *arg, struct chatd_str word)
{
	struct writer *w = arg;
	if (!word.n || memchr(word.p, ' ', word.n)) {
		return;
	}
	if (word.n + 2 > (size_t)(w->end - w->at)) {
		w->full = 1;
		return;
	}
	memcpy(w->at, word.p, word.n);
	w->at += word.n;
	*w->at++ = ' ';
}

static struct chatd_str read_roles(const json_t *j, struct writer *w)
{
	char *from = w->at;
	if (!json_object_get(j, "roles")) {
		return chatd_str_of(NULL, 0);
	}
	claims_each(j, "roles", add_role, w);
	size_t n = w->at > from ? (size_t)(w->at - from) - 1 : 0;
	from[n] = '\0';
	w->at = from + n + 1;
	return chatd_str_of(from, n);
}

/* An old token of another kind is not "expired": it never was what is asked for. */
static int is_ours(const struct own *o, const json_t *j, int32_t type)
{
	struct chatd_str login = claims_text(j, "sid");
	return claims_are(j, "iss", o->issuer) && claims_for(j, o->audience) &&
			claims_are(j, "type", type_name(type)) && chatd_id_ok(claims_text(j, "sub")) &&
			(!json_object_get(j, "sid") || chatd_id_ok(login));
}

static chatd_status take_claims(
		const struct own *o, const json_t *j, int64_t wall_ms, struct take *t)
{
	struct chatd_claims *ret = t->ret;
	chatd_status times = claims_times(j, wall_ms, &ret->expires);
	if (times == -EKEYREJECTED || !is_ours(o, j, ret->type)) {
		return -EKEYREJECTED;
	}
	ret->issued = json_integer_value(json_object_get(j, "iat")) * 1000;
	ret->user = keep(&t->w, claims_text(j, "sub"));
	ret->name = keep(&t->w, claims_text(j, "name"));
	ret->login = keep(&t->w, claims_text(j, "sid"));
	ret->roles = read_roles(j, &t->w);
	return t->w.full ? -EKEYREJECTED : times;
}

static chatd_status signed_by_us(const struct own *o, const struct token *t)
{
	chatd_status rc = -ENOKEY;
	for (size_t i = 0; i < o->n && rc != 0; i++) {
		const struct key *k = &o->keys[i];
		if (strcmp(t->alg, key_algs[k->alg]) == 0 && (!t->kid[0] || strcmp(t->kid, k->kid) == 0)) {
			rc = key_verify(k, t);
		}
	}
	return rc;
}

chatd_status own_verify(const struct own *o, int64_t wall_ms, int32_t type, const struct token *t,
		char room[CHATD_TOKEN_MAX], struct chatd_claims *ret)
{
	if (t->text.n >= CHATD_TOKEN_MAX) {
		return -ENOKEY; /* none of ours is so long */
	}
	chatd_status rc = signed_by_us(o, t);
	if (rc < 0) {
		return rc;
	}
	struct take take = { .w = { .at = room, .end = room + CHATD_TOKEN_MAX }, .ret = ret };
	*ret = (struct chatd_claims){ .struct_size = sizeof(*ret), .type = type };
	json_t *j = token_claims(t);
	rc = j ? take_claims(o, j, wall_ms, &take) : -EKEYREJECTED;
	json_decref(j);
	return rc;
}
