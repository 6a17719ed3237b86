/* SPDX-License-Identifier: Apache-2.0 */
/* What nobody needs any more goes: objects whose last file has gone, at once; uploads that were
 * broken off, after some minutes; and objects that no store knows, once they are too old to be on
 * their way into it.  No name is used twice, so several nodes may sweep one folder. */
#include "pieces.h"

#include <time.h>

enum {
	EVERY_MS = 60000,
	TEMP_S = 300,         /* an upload writes more often, or has ended */
	ORPHAN_S = 3600,      /* much more than any commit takes */
	ORPHANS_EVERY = 3600, /* seconds between two looks at all objects */
	GONE_MAX = 200,       /* at one go */
	LIST_MAX = 1000,
	KNOWN = 127, /* the byte of a name that says so; ours are shorter */
};

struct sweep {
	struct worker *at;
	int waiting, stopped;
	int hh;           /* the folder that is looked through; 256: none */
	int64_t next_all; /* monotonic ms */
	/* [crew] while .waiting */
	int64_t temps;
	struct names {
		char (*name)[OBJECT_NAME];
		size_t n, next, cap;
	} found;
};

static void next_step(struct sweep *s);
static void begin(void *arg);

static struct self *self_of(const struct sweep *s)
{
	return s->at->self;
}

static void rest(struct sweep *s)
{
	s->found.n = s->found.next = 0;
	self_of(s)->h->timer_set(s->at->w, &s->at->timer, EVERY_MS, begin, s);
}

static void end(struct sweep *s)
{
	const struct chatd_host *h = self_of(s)->h;
	if (s->waiting) {
		return;
	}
	free(s->found.name);
	h->mem_free(s);
}

/* The step that was waited for is done; 0: nobody goes on. */
static int back(struct sweep *s)
{
	s->waiting = 0;
	if (s->stopped) {
		end(s);
		return 0;
	}
	return 1;
}

static void off(struct sweep *s, void (*work)(void *), void (*done)(void *))
{
	s->waiting = 1;
	if (crew_do(self_of(s)->crew, s->at->w, work, done, s) < 0) {
		s->waiting = 0;
		rest(s);
	}
}

/* 0: there is no memory for more. */
static int note(struct names *names, struct chatd_str name)
{
	if (names->n == names->cap) {
		size_t cap = names->cap ? 2 * names->cap : LIST_MAX;
		void *more = realloc(names->name, cap * sizeof(names->name[0]));
		if (!more) {
			return 0;
		}
		names->name = more;
		names->cap = cap;
	}
	if (name.n < KNOWN) {
		memset(names->name[names->n], 0, sizeof(names->name[0]));
		chatd_str_copy(names->name[names->n++], KNOWN, name);
	}
	return 1;
}

/* ---- objects whose last file has gone ------------------------------------------------------ */

static void remove_found(void *arg)
{
	struct sweep *s = arg;
	for (size_t i = 0; i < s->found.n; i++) {
		if (bytes_remove(self_of(s), s->found.name[i]) < 0) {
			s->found.name[i][0] = '\0'; /* it stays on the list */
		}
	}
}

static void on_forgotten(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct sweep *s = arg;
	(void)a;
	if (!back(s)) {
		return;
	}
	s->found.next++;
	if (rc < 0) {
		rest(s);
	} else {
		next_step(s);
	}
}

/* One after the other: they share commits with whatever else is written. */
static int forget_next(struct sweep *s)
{
	const struct chatd_store *store = self_of(s)->store->vt;
	while (s->found.next < s->found.n && !s->found.name[s->found.next][0]) {
		s->found.next++;
	}
	if (s->found.next >= s->found.n) {
		return 0;
	}
	const struct chatd_store_object r = { .struct_size = sizeof(r),
		.object = text(s->found.name[s->found.next]) };
	s->waiting = 1;
	if (store->object_end(self_of(s)->store->obj, s->at->w, &r, on_forgotten, s) < 0) {
		s->waiting = 0;
		rest(s);
	}
	return 1;
}

static void on_removed(void *arg)
{
	struct sweep *s = arg;
	if (back(s)) {
		next_step(s);
	}
}

static void on_gone_list(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct sweep *s = arg;
	if (!back(s)) {
		return;
	}
	s->found.n = s->found.next = 0;
	for (size_t i = 0; rc == 0 && i < a->n_files; i++) {
		note(&s->found, a->files[i].object);
	}
	if (s->found.n) {
		off(s, remove_found, on_removed);
	} else {
		next_step(s);
	}
}

/* ---- objects that nobody knows --------------------------------------------------------------- */

static int note_object(void *arg, const char *object)
{
	struct sweep *s = arg;
	return !note(&s->found, text(object));
}

static void list_folder(void *arg)
{
	struct sweep *s = arg;
	s->found.n = s->found.next = 0;
	bytes_list(self_of(s), s->hh, time(NULL) - ORPHAN_S, note_object, s);
}

static void on_orphans_removed(void *arg)
{
	struct sweep *s = arg;
	if (!back(s)) {
		return;
	}
	if (s->found.n) {
		self_of(s)->h->log(self_of(s)->ctx, CHATD_LOG_INFO,
				"%zu objects that belong to no file were removed", s->found.n);
	}
	s->found.n = 0;
	next_step(s);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* It, and the small ones that come behind it in order: "NAME-320". */
static void mark_known(struct names *names, struct chatd_str object)
{
	char name[OBJECT_NAME];
	size_t low = 0, high = names->n;
	chatd_str_copy(name, sizeof(name), object);
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(names->name[mid], name) < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	for (; low < names->n && strncmp(names->name[low], name, object.n) == 0; low++) {
		char next = names->name[low][object.n];
		names->name[low][KNOWN] |= next == '\0' || next == '-';
	}
}

/* What the store knows is taken off the list. */
static void on_known(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct sweep *s = arg;
	char prefix[4];
	if (!back(s)) {
		return;
	}
	if (rc < 0) {
		rest(s);
		return;
	}
	snprintf(prefix, sizeof(prefix), "%02x/", s->hh);
	for (size_t i = 0; i < a->n_files; i++) {
		mark_known(&s->found, a->files[i].object);
	}
	struct chatd_str last = a->n_files ? a->files[a->n_files - 1].object : chatd_str_of("", 0);
	if (a->n_files == LIST_MAX && last.n > 3 && memcmp(last.p, prefix, 3) == 0) {
		const struct chatd_store *store = self_of(s)->store->vt;
		const struct chatd_store_objects more = {
			.struct_size = sizeof(more), .limit = LIST_MAX, .after = last
		};
		s->waiting = 1;
		if (store->objects(self_of(s)->store->obj, s->at->w, &more, on_known, s) < 0) {
			s->waiting = 0;
			rest(s);
		}
		return;
	}
	size_t n = 0;
	for (size_t i = 0; i < s->found.n; i++) {
		if (!s->found.name[i][KNOWN]) {
			memmove(s->found.name[n++], s->found.name[i], sizeof(s->found.name[0]));
		}
	}
	s->found.n = n;
	s->hh++;
	off(s, remove_found, on_orphans_removed);
}

static void on_listed(void *arg)
{
	struct sweep *s = arg;
	const struct chatd_store *store = self_of(s)->store->vt;
	char prefix[4];
	if (!back(s)) {
		return;
	}
	if (!s->found.n) {
		s->hh++;
		next_step(s);
		return;
	}
	qsort(s->found.name, s->found.n, sizeof(s->found.name[0]), by_name);
	snprintf(prefix, sizeof(prefix), "%02x/", s->hh);
	const struct chatd_store_objects r = {
		.struct_size = sizeof(r), .limit = LIST_MAX, .after = text(prefix)
	};
	s->waiting = 1;
	if (store->objects(self_of(s)->store->obj, s->at->w, &r, on_known, s) < 0) {
		s->waiting = 0;
		rest(s);
	}
}

/* ---- the round ---------------------------------------------------------------------------------- */

static void next_step(struct sweep *s)
{
	if (forget_next(s)) {
		return;
	}
	s->found.n = s->found.next = 0;
	if (s->hh < 256) {
		off(s, list_folder, on_listed);
	} else {
		rest(s);
	}
}

static void remove_temps(void *arg)
{
	struct sweep *s = arg;
	struct self *self = self_of(s);
	s->temps = dir_sweep(&self->dir, "tmp", time(NULL) - TEMP_S);
	s->temps += dir_sweep(&self->dir, "tus", time(NULL) - self->conf->partial_ttl / 1000);
	if (s->hh == 0) { /* once an hour, as with all objects */
		s->temps += pieces_sweep(self, time(NULL) - self->conf->partial_ttl / 1000);
	}
}

static void on_temps(void *arg)
{
	struct sweep *s = arg;
	const struct chatd_store *store = self_of(s)->store->vt;
	const struct chatd_store_objects gone = {
		.struct_size = sizeof(gone), .which = CHATD_STORE_OBJECTS_GONE, .limit = GONE_MAX
	};
	if (!back(s)) {
		return;
	}
	if (s->temps) {
		self_of(s)->h->log(self_of(s)->ctx, CHATD_LOG_INFO,
				"%lld uploads that were broken off were removed", (long long)s->temps);
	}
	s->waiting = 1;
	if (store->objects(self_of(s)->store->obj, s->at->w, &gone, on_gone_list, s) < 0) {
		s->waiting = 0;
		rest(s);
	}
}

static void begin(void *arg)
{
	struct sweep *s = arg;
	int64_t now = self_of(s)->h->now_ms(s->at->w);
	if (now >= s->next_all) {
		s->next_all = now + ORPHANS_EVERY * INT64_C(1000);
		s->hh = 0;
	}
	off(s, remove_temps, on_temps);
}

void sweep_start(struct worker *at)
{
	const struct chatd_host *h = at->self->h;
	struct sweep *s = h->mem_alloc(sizeof(*s));
	if (!s) {
		return;
	}
	s->at = at;
	s->hh = 256;
	at->sweep = s;
	h->timer_set(at->w, &at->timer, 1000, begin, s);
}

void sweep_stop(struct worker *at)
{
	if (at->sweep) {
		at->self->h->timer_clear(&at->timer);
		at->sweep->stopped = 1;
		end(at->sweep);
		at->sweep = NULL;
	}
}
