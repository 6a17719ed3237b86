/* SPDX-License-Identifier: Apache-2.0 */
#include "host/memory.h"

#include "loop/worker.h"

#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	OWNERS = 256, /* one byte; 0: nobody's, or the server's own */
	SHARDS = 65,  /* of each worker, and the last one for all other threads */
};

struct range {
	uintptr_t begin, end;
	unsigned char owner;
};

/* Never freed: another thread may be looking. */
struct ranges {
	struct ranges *before;
	size_t n;
	struct range range[OWNERS];
};

static _Atomic(struct ranges *) known;
static _Atomic int64_t bytes[SHARDS][OWNERS];

static int by_begin(const void *a, const void *b)
{
	const struct range *x = a, *y = b;
	return x->begin < y->begin ? -1 : x->begin > y->begin;
}

struct search {
	const struct module *const *list;
	size_t n;
	struct ranges *to;
};

static int add_range(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	(void)size;
	for (size_t i = 0; i < s->n && i + 1 < OWNERS; i++) {
		if (!info->dlpi_name || strcmp(info->dlpi_name, s->list[i]->path) != 0) {
			continue;
		}
		struct range *r = &s->to->range[s->to->n++];
		*r = (struct range){ .begin = info->dlpi_addr, .owner = (unsigned char)(i + 1) };
		for (int k = 0; k < info->dlpi_phnum; k++) {
			const ElfW(Phdr) *p = &info->dlpi_phdr[k];
			uintptr_t end = info->dlpi_addr + p->p_vaddr + p->p_memsz;
			r->end = p->p_type == PT_LOAD && end > r->end ? end : r->end;
		}
	}
	return s->to->n + 1 >= OWNERS;
}

void memory_know(const struct module *const *list, size_t n)
{
	struct ranges *r = calloc(1, sizeof(*r));
	struct search s = { .list = list, .n = n, .to = r };
	if (r) {
		dl_iterate_phdr(add_range, &s);
		qsort(r->range, r->n, sizeof(r->range[0]), by_begin);
		r->before = atomic_load(&known);
		atomic_store_explicit(&known, r, memory_order_release);
	}
}

static unsigned char owner_of(const void *code)
{
	const struct ranges *r = atomic_load_explicit(&known, memory_order_acquire);
	size_t low = 0, high = r ? r->n : 0;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if ((uintptr_t)code < r->range[mid].begin) {
			high = mid;
		} else if ((uintptr_t)code >= r->range[mid].end) {
			low = mid + 1;
		} else {
			return r->range[mid].owner;
		}
	}
	return 0;
}

/* A worker writes its own numbers alone: no locked instruction. */
static void add(unsigned char owner, int64_t n)
{
	const struct chatd_worker *w = worker_current();
	if (w) {
		_Atomic int64_t *b = &bytes[worker_index(w)][owner];
		atomic_store_explicit(
				b, atomic_load_explicit(b, memory_order_relaxed) + n, memory_order_relaxed);
	} else {
		atomic_fetch_add_explicit(&bytes[SHARDS - 1][owner], n, memory_order_relaxed);
	}
}

void *memory_alloc(size_t n)
{
	unsigned char *p = n < SIZE_MAX ? calloc(1, n + 1) : NULL;
	if (p) {
		size_t room = malloc_usable_size(p);
		unsigned char owner = owner_of(__builtin_return_address(0));
		p[room - 1] = owner;
		add(owner, (int64_t)room);
	}
	return p;
}

void memory_free(void *p)
{
	if (p) {
		size_t room = malloc_usable_size(p);
		add(((unsigned char *)p)[room - 1], -(int64_t)room);
		free(p);
	}
}

int memory_owner(const void *code)
{
	return (int)owner_of(code) - 1;
}

int64_t memory_of(size_t i)
{
	int64_t sum = 0;
	for (size_t s = 0; i + 1 < OWNERS && s < SHARDS; s++) {
		sum += atomic_load_explicit(&bytes[s][i + 1], memory_order_relaxed);
	}
	return sum;
}
