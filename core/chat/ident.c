/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/ident.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct chatd_ident {
	atomic_uint refs;
	uint32_t flags;
	struct chatd_str user, name;
	char text[];
};

const chatd_ident *ident_create(struct chatd_str user, struct chatd_str name, uint32_t flags)
{
	chatd_ident *i = malloc(sizeof(*i) + user.n + name.n);
	if (!i) {
		return NULL;
	}
	atomic_init(&i->refs, 1);
	i->flags = flags;
	if (user.n) {
		memcpy(i->text, user.p, user.n);
	}
	if (name.n) {
		memcpy(i->text + user.n, name.p, name.n);
	}
	i->user = chatd_str_of(i->text, user.n);
	i->name = chatd_str_of(i->text + user.n, name.n);
	return i;
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

struct chatd_str ident_user(const chatd_ident *i)
{
	return i->user;
}

struct chatd_str ident_name(const chatd_ident *i)
{
	return i->name;
}

uint32_t ident_flags(const chatd_ident *i)
{
	return i->flags;
}
