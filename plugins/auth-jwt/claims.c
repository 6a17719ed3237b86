/* SPDX-License-Identifier: Apache-2.0 */
#include "claims.h"

#include <chatd-sdk/json.h>

#include <errno.h>
#include <string.h>

/* 2^53: what every JSON reader has as a whole number; as milliseconds it still fits. */
#define SECONDS_MAX (INT64_C(1) << 53)

/* 1: *ret is set; 0: it is not there; -1: it is no time. */
static int take_time(const json_t *claims, const char *name, int64_t *ret)
{
	const json_t *j = json_object_get(claims, name);
	if (!j) {
		return 0;
	}
	*ret = json_integer_value(j);
	return json_is_integer(j) && *ret >= 0 && *ret <= SECONDS_MAX ? 1 : -1;
}

chatd_status claims_times(const json_t *claims, int64_t wall_ms, int64_t *ret_exp_ms)
{
	int64_t now = wall_ms / 1000, exp, nbf = 0, iat = 0;
	if (take_time(claims, "exp", &exp) != 1 || take_time(claims, "nbf", &nbf) < 0 ||
			take_time(claims, "iat", &iat) < 0 || nbf > now + CLAIMS_LEEWAY_S ||
			iat > now + CLAIMS_LEEWAY_S) {
		return -EKEYREJECTED;
	}
	*ret_exp_ms = exp * 1000;
	return exp + CLAIMS_LEEWAY_S > now ? 0 : -EKEYEXPIRED;
}

static int is_text(const json_t *j, const char *text)
{
	size_t n = strlen(text);
	return json_is_string(j) && json_string_length(j) == n &&
			memcmp(json_string_value(j), text, n) == 0;
}

int claims_are(const json_t *claims, const char *name, const char *text)
{
	return is_text(json_object_get(claims, name), text);
}

int claims_for(const json_t *claims, const char *audience)
{
	const json_t *aud = json_object_get(claims, "aud");
	int found = is_text(aud, audience);
	for (size_t i = 0; json_is_array(aud) && i < json_array_size(aud) && !found; i++) {
		found = is_text(json_array_get(aud, i), audience);
	}
	return found;
}

const json_t *claims_at(const json_t *claims, const char *path)
{
	/* A claim whose very name has dots ("https://x.example/roles") goes first. */
	const json_t *j = json_object_get(claims, path);
	while (!j && claims && path) {
		const char *dot = strchr(path, '.');
		size_t n = dot ? (size_t)(dot - path) : strlen(path);
		char name[128];
		if (n >= sizeof(name)) {
			return NULL;
		}
		memcpy(name, path, n);
		name[n] = '\0';
		claims = json_object_get(claims, name);
		path = dot ? dot + 1 : NULL;
		j = dot ? NULL : claims;
	}
	return j;
}

struct chatd_str claims_text(const json_t *claims, const char *path)
{
	return chatd_json_text(claims_at(claims, path));
}

static void each_word(const json_t *text, void (*fn)(void *arg, struct chatd_str word), void *arg)
{
	const char *p = json_string_value(text);
	while (p && *p) {
		size_t n = strcspn(p, " ");
		if (n) {
			fn(arg, chatd_str_of(p, n));
		}
		p += n + (p[n] == ' ');
	}
}

void claims_each(const json_t *claims, const char *path,
		void (*fn)(void *arg, struct chatd_str word), void *arg)
{
	const json_t *j = claims_at(claims, path);
	if (json_is_string(j)) {
		each_word(j, fn, arg);
	}
	for (size_t i = 0; json_is_array(j) && i < json_array_size(j); i++) {
		const json_t *item = json_array_get(j, i);
		if (json_is_string(item)) {
			fn(arg, chatd_str_of(json_string_value(item), json_string_length(item)));
		}
	}
}

uint32_t claims_role_flags(struct chatd_str roles)
{
	uint32_t flags = 0;
	const char *end = roles.n ? roles.p + roles.n : NULL;
	for (const char *p = end ? roles.p : NULL; p && p < end;) {
		const char *space = memchr(p, ' ', (size_t)(end - p));
		size_t n = (size_t)((space ? space : end) - p);
		if (n == 5 && memcmp(p, "admin", 5) == 0) {
			flags |= CHATD_ID_ADMIN;
		} else if (n == 9 && memcmp(p, "moderator", 9) == 0) {
			flags |= CHATD_ID_MODERATOR;
		}
		p += n + 1;
	}
	return flags;
}
