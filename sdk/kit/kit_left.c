/* SPDX-License-Identifier: Apache-2.0 */
/* What the plugin has taken and not given back, and where it took it. */
#include "kit_impl.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 6, TEXT_BYTES = 3000 };

struct kit_taken {
	struct kit_taken *next;
	enum kit_kind kind;
	const void *what;
	size_t n;
	const void *from; /* the address behind the call of the host */
};

void kit_took(struct kit *k, enum kit_kind kind, const void *what, size_t n, const void *from)
{
	struct kit_taken *t = what ? malloc(sizeof(*t)) : NULL;
	if (!t) {
		return; /* it is only not said where */
	}
	*t = (struct kit_taken){ .next = k->taken, .kind = kind, .what = what, .n = n, .from = from };
	k->taken = t;
}

void kit_gave(struct kit *k, enum kit_kind kind, const void *what)
{
	struct kit_taken **at = &k->taken;
	while (*at && ((*at)->kind != kind || (*at)->what != what)) {
		at = &(*at)->next;
	}
	struct kit_taken *t = *at;
	if (t) {
		*at = t->next;
		free(t);
	}
}

/* ---- memory --------------------------------------------------------------------- */

struct block {
	size_t n;
	uint64_t magic;
	_Alignas(16) char data[];
};

enum { BLOCK_MAGIC = 0x6b697431 };

void *kit_mem_alloc(size_t n)
{
	struct kit *k = kit_the();
	struct block *b = kit_fault(k) ? NULL : calloc(1, sizeof(*b) + n);
	if (!b) {
		return NULL;
	}
	b->n = n;
	b->magic = BLOCK_MAGIC;
	kit_took(k, KIT_MEMORY, b->data, n, KIT_CALLER);
	k->allocs++;
	k->bytes += n;
	return b->data;
}

void kit_mem_free(void *p)
{
	struct kit *k = kit_the();
	if (!p) {
		return;
	}
	struct block *b = (struct block *)(void *)((char *)p - offsetof(struct block, data));
	if ((uintptr_t)b % _Alignof(struct block) != 0 || b->magic != BLOCK_MAGIC) {
		kit_broken(k, "mem_free() of what mem_alloc() did not give, or twice");
	}
	b->magic = 0;
	kit_gave(k, KIT_MEMORY, p);
	k->allocs--;
	k->bytes -= b->n;
	free(b);
}

/* ---- what is left --------------------------------------------------------------- */

/* All that was taken at one place, as one line; they are removed. */
static void tell_one(struct kit *k, const struct kit_taken *first, char *text, size_t room)
{
	static const char *const nouns[] = { "pieces of mem_alloc()", "references to messages",
		"references to identities", "references to buffers", "watches", "timers, of" };
	const struct kit_taken like = *first;
	struct kit_frames f = { .n = 1, .pc = { (void *)(uintptr_t)like.from } };
	struct kit_taken **at = &k->taken;
	char before[80];
	size_t count = 0, used = strlen(text);
	while (*at) {
		struct kit_taken *t = *at;
		if (t->kind == like.kind && t->from == like.from) {
			count++;
			*at = t->next;
			free(t);
		} else {
			at = &t->next;
		}
	}
	snprintf(before, sizeof(before), "\n  %zu %s%s ", count, nouns[like.kind],
			like.kind == KIT_TIMER ? "" : " at");
	if (kit_frames_tell(&f, before, 1, text, room) == 0 && used + 1 < room) {
		snprintf(text + used, room - used, "%sa place that is not known (build with -g)", before);
	}
}

void kit_left(struct kit *k, const char *what)
{
	char text[TEXT_BYTES];
	snprintf(text, sizeof(text), "%s", what);
	for (int i = 0; i < PLACES && k->taken; i++) {
		tell_one(k, k->taken, text, sizeof(text));
	}
	kit_broken(k, "%s", text);
}

void kit_left_finish(struct kit *k)
{
	while (k->taken) {
		struct kit_taken *next = k->taken->next;
		free(k->taken);
		k->taken = next;
	}
}
