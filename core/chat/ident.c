/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/ident.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The texts stand in .text one after the other; every session has one of these, so their
 * places are summed up when asked for instead of being kept. */
enum { USER, NAME, ROLES, LOGIN, CLIENT, TEXTS };

struct chatd_ident {
	atomic_uint refs;
	uint32_t flags;
	int64_t expires;
	uint16_t n[TEXTS];
	uint16_t has; /* bit per text: absent differs from empty */
	char text[];
};

const chatd_ident *ident_create_as(const struct chatd_identity *like)
{
	const struct chatd_str text[TEXTS] = {
		[USER] = like->user,
		[NAME] = like->name,
		[ROLES] = like->roles,
		[LOGIN] = like->login,
		[CLIENT] = like->client,
	};
	size_t size = 0;
	for (int i = 0; i < TEXTS; i++) {
		if (text[i].n > UINT16_MAX) {
			return NULL;
		}
		size += text[i].n;
	}
	chatd_ident *ident = malloc(sizeof(*ident) + size);
	if (!ident) {
		return NULL;
	}
	atomic_init(&ident->refs, 1);
	ident->flags = like->flags;
	ident->expires = like->expires;
	ident->has = 0;
	char *at = ident->text;
	for (int i = 0; i < TEXTS; i++) {
		ident->n[i] = (uint16_t)text[i].n;
		ident->has |= (uint16_t)((text[i].p != NULL) << i);
		if (text[i].n) {
			memcpy(at, text[i].p, text[i].n);
			at += text[i].n;
		}
	}
	return ident;
}

const chatd_ident *ident_create(struct chatd_str user, struct chatd_str name, uint32_t flags)
{
	const struct chatd_identity like = {
		.struct_size = sizeof(like), .user = user, .name = name, .flags = flags
	};
	return ident_create_as(&like);
}

/* Immutable but for the count: the cast keeps `const` in everyone else's hands. */
static chatd_ident *counted(const chatd_ident *i)
{
	union {
		const chatd_ident *in;
		chatd_ident *out;
	} u = { .in = i };
	return u.out;
}

const chatd_ident *ident_ref(const chatd_ident *i)
{
	atomic_fetch_add_explicit(&counted(i)->refs, 1, memory_order_relaxed);
	return i;
}

void ident_unref(const chatd_ident *i)
{
	if (i && atomic_fetch_sub_explicit(&counted(i)->refs, 1, memory_order_acq_rel) == 1) {
		free(counted(i));
	}
}

static struct chatd_str text_of(const chatd_ident *ident, int which)
{
	const char *at = ident->text;
	for (int i = 0; i < which; i++) {
		at += ident->n[i];
	}
	return chatd_str_of(ident->has >> which & 1 ? at : NULL, ident->n[which]);
}

struct chatd_str ident_user(const chatd_ident *i)
{
	return text_of(i, USER);
}

struct chatd_str ident_name(const chatd_ident *i)
{
	return text_of(i, NAME);
}

struct chatd_str ident_roles(const chatd_ident *i)
{
	return text_of(i, ROLES);
}

struct chatd_str ident_login(const chatd_ident *i)
{
	return text_of(i, LOGIN);
}

struct chatd_str ident_client(const chatd_ident *i)
{
	return text_of(i, CLIENT);
}

int64_t ident_expires(const chatd_ident *i)
{
	return i->expires;
}

uint32_t ident_flags(const chatd_ident *i)
{
	return i->flags;
}
