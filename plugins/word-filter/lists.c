/* SPDX-License-Identifier: Apache-2.0 */
/* Files of words and patterns.  Words go into one automaton, patterns to ICU's regular expressions,
 * with a limit on their memory and on the time that all of them have for a text: ICU's own limit
 * counts anew at each place where a match may begin, which is no limit for a long text. */
#include "lists.h"

#include "words.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unicode/uchar.h>
#include <unicode/uregex.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

enum {
	LINE_MAX_BYTES = 1024,
	PATTERNS_MAX = 100,
	STACK_MAX = 256 * 1024, /* bytes */
	CPU_MAX_NS = 10000000,  /* of the thread, for one text */
	PLACES = 16,            /* places tried between two looks at the clock */
};

enum { HEAD_OPEN = 1, TAIL_OPEN = 2 }; /* the word may have something before, behind it */

struct entry {
	uint32_t list;
	uint32_t open;
};

struct pattern {
	uint32_t list;
	URegularExpression *re; /* cloned by each eye */
};

struct lists {
	atomic_uint refs;
	struct words *words;
	struct entry *entries; /* by the id of a word */
	size_t n, cap;
	struct pattern patterns[PATTERNS_MAX];
	size_t n_patterns;
	int32_t *actions;
};

struct eye {
	struct lists *lists;
	struct fold *fold;
	URegularExpression *re[PATTERNS_MAX];
};

/* ---- reading --------------------------------------------------------------------------- */

struct reading {
	struct lists *lists;
	struct fold *fold;
	const char *file;
	uint32_t list;
	int line;
	char *why;
};

static int fault(const struct reading *r, const char *what)
{
	snprintf(r->why, LISTS_WHY, "%s:%d: %s", r->file, r->line, what);
	return -EINVAL;
}

static int add_pattern(struct reading *r, const char *p, size_t n)
{
	struct lists *l = r->lists;
	UErrorCode e = U_ZERO_ERROR;
	UParseError at;
	UText *t = utext_openUTF8(NULL, p, (int64_t)n, &e);
	if (l->n_patterns == PATTERNS_MAX) {
		utext_close(t);
		return fault(r, "there are 100 patterns already; make some of them words");
	}
	URegularExpression *re = uregex_openUText(t, UREGEX_CASE_INSENSITIVE, &at, &e);
	utext_close(t);
	if (U_FAILURE(e)) {
		snprintf(r->why, LISTS_WHY, "%s:%d: no pattern that ICU takes (%s, near character %d)",
				r->file, r->line, u_errorName(e), (int)at.offset);
		return -EINVAL;
	}
	uregex_setStackLimit(re, STACK_MAX, &e);
	l->patterns[l->n_patterns++] = (struct pattern){ r->list, re };
	return 0;
}

static int room_for_entry(struct lists *l)
{
	if (l->n < l->cap) {
		return 0;
	}
	size_t cap = l->cap ? l->cap * 2 : 256;
	struct entry *entries = realloc(l->entries, cap * sizeof(*entries));
	if (!entries) {
		return -ENOMEM;
	}
	l->entries = entries;
	l->cap = cap;
	return 0;
}

static int add_word(struct reading *r, const char *p, size_t n)
{
	struct lists *l = r->lists;
	struct folded f;
	uint32_t open = 0;
	if (n && p[0] == '*') {
		open |= HEAD_OPEN;
		p++;
		n--;
	}
	if (n && p[n - 1] == '*') {
		open |= TAIL_OPEN;
		n--;
	}
	int rc = fold_text(r->fold, chatd_str_of(p, n), &f);
	if (rc < 0) {
		return rc == -EINVAL ? fault(r, "this is no UTF-8") : rc;
	}
	if (!f.n) {
		rc = fault(r, "nothing is left of this word without case, accents and what cannot be seen");
	}
	rc = rc < 0 ? rc : room_for_entry(l);
	if (rc == 0) {
		l->entries[l->n] = (struct entry){ r->list, open };
		rc = words_add(l->words, f.p, f.n, (uint32_t)l->n++);
	}
	folded_free(&f);
	return rc;
}

static int read_line(struct reading *r, char *p)
{
	size_t n = strlen(p);
	if (n == LINE_MAX_BYTES && p[n - 1] != '\n') {
		return fault(r, "a line has at most 1023 bytes");
	}
	while (n && strchr(" \t\r\n", p[n - 1])) {
		n--;
	}
	while (n && (*p == ' ' || *p == '\t')) {
		p++;
		n--;
	}
	if (n == 0 || *p == '#') {
		return 0;
	}
	if (*p == '/') {
		return n > 2 && p[n - 1] == '/' ? add_pattern(r, p + 1, n - 2)
										: fault(r, "a pattern is /between slashes/");
	}
	return add_word(r, p, n);
}

static int read_file(struct reading *r)
{
	char line[LINE_MAX_BYTES + 1];
	FILE *f = fopen(r->file, "re");
	int rc = f ? 0 : -errno;
	if (!f) {
		snprintf(r->why, LISTS_WHY, "%s cannot be read: %s", r->file, strerror(-rc));
		return rc;
	}
	while (rc == 0 && fgets(line, sizeof(line), f)) {
		r->line++;
		rc = read_line(r, line);
	}
	if (rc == 0 && ferror(f)) {
		snprintf(r->why, LISTS_WHY, "%s cannot be read", r->file);
		rc = -EIO;
	}
	fclose(f);
	return rc;
}

struct lists *lists_read(
		const struct list_conf *conf, size_t n, int confusables, char why[LISTS_WHY])
{
	struct lists *l = calloc(1, sizeof(*l));
	struct reading r = { .lists = l, .fold = fold_create(confusables), .why = why };
	int rc = l && r.fold ? 0 : -ENOMEM;
	snprintf(why, LISTS_WHY, "no memory for the lists, or ICU has no data");
	if (l) {
		atomic_init(&l->refs, 1);
		l->words = words_create();
		l->actions = calloc(n + 1, sizeof(*l->actions));
		rc = l->words && l->actions ? rc : -ENOMEM;
	}
	for (size_t i = 0; rc == 0 && i < n; i++) {
		l->actions[i] = conf[i].action;
		r.file = conf[i].file;
		r.list = (uint32_t)i;
		r.line = 0;
		rc = read_file(&r);
	}
	rc = rc < 0 ? rc : words_build(l->words);
	fold_destroy(r.fold);
	if (rc < 0) {
		lists_unref(l);
		return NULL;
	}
	return l;
}

struct lists *lists_ref(struct lists *l)
{
	atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

void lists_unref(struct lists *l)
{
	if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	for (size_t i = 0; i < l->n_patterns; i++) {
		uregex_close(l->patterns[i].re);
	}
	words_destroy(l->words);
	free(l->entries);
	free(l->actions);
	free(l);
}

size_t lists_count(const struct lists *l)
{
	return l->n + l->n_patterns;
}

/* ---- looking ------------------------------------------------------------------------------- */

struct eye *eye_create(struct lists *l, int confusables)
{
	UErrorCode e = U_ZERO_ERROR;
	struct eye *eye = calloc(1, sizeof(*eye));
	if (!eye) {
		return NULL;
	}
	eye->lists = lists_ref(l);
	eye->fold = fold_create(confusables);
	for (size_t i = 0; i < l->n_patterns && U_SUCCESS(e); i++) {
		eye->re[i] = uregex_clone(l->patterns[i].re, &e);
	}
	if (!eye->fold || U_FAILURE(e)) {
		eye_destroy(eye);
		return NULL;
	}
	return eye;
}

void eye_destroy(struct eye *eye)
{
	if (!eye) {
		return;
	}
	for (size_t i = 0; i < eye->lists->n_patterns; i++) {
		uregex_close(eye->re[i]);
	}
	fold_destroy(eye->fold);
	lists_unref(eye->lists);
	free(eye);
}

struct look {
	int64_t until; /* of the thread's time */
	int32_t places;
	const struct lists *lists;
	struct sight *sight;
	int failed;
};

static void found(struct look *k, uint32_t list, size_t from, size_t to)
{
	struct sight *s = k->sight;
	switch (k->lists->actions[list]) {
	case ACTION_REFUSE:
		s->refused = (int32_t)list + 1;
		return;
	case ACTION_FLAG:
		s->flagged = (int32_t)list + 1;
		return;
	default:
		break;
	}
	if (!s->masked) {
		s->masked = calloc(s->text.n_whole + 1, 1);
	}
	if (!s->masked) {
		k->failed = 1;
		return;
	}
	memset(s->masked + from, 1, to - from);
	s->masks = 1;
}

static void on_word(void *arg, uint32_t id, size_t end, size_t n)
{
	struct look *k = arg;
	const struct entry *e = &k->lists->entries[id];
	const struct folded *t = &k->sight->text;
	size_t from = t->from[end - n], to = t->from[end];
	/* Inside of what one character has become a word neither begins nor ends. */
	if ((end > n && t->from[end - n - 1] == from) || (end < t->n && t->from[end - 1] == to)) {
		return;
	}
	if ((!(e->open & HEAD_OPEN) && fold_word_before(t, from)) ||
			(!(e->open & TAIL_OPEN) && fold_word_at(t, to))) {
		return;
	}
	found(k, e->list, from, to);
}

static int64_t cpu_ns(void)
{
	struct timespec t = { 0 };
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Within one attempt, every some thousand steps. */
static UBool U_CALLCONV on_steps(const void *context, int32_t steps)
{
	const struct look *k = context;
	(void)steps;
	return cpu_ns() < k->until;
}

/* Between two attempts. */
static UBool U_CALLCONV on_place(const void *context, int64_t index)
{
	struct look *k = (struct look *)(uintptr_t)context;
	(void)index;
	return ++k->places % PLACES != 0 || cpu_ns() < k->until;
}

/* Of a character that became several a pattern may have found some: all of it is found then. */
static size_t end_of(const struct folded *t, size_t to)
{
	uint32_t last = t->from[to - 1];
	while (to < t->n && t->from[to] == last) {
		to++;
	}
	return t->from[to];
}

static void look_pattern(struct look *k, URegularExpression *re, uint32_t list)
{
	const struct folded *t = &k->sight->text;
	UErrorCode e = U_ZERO_ERROR;
	UText *u = utext_openUTF8(NULL, t->p, (int64_t)t->n, &e);
	uregex_setUText(re, u, &e);
	uregex_setMatchCallback(re, on_steps, k, &e);
	uregex_setFindProgressCallback(re, on_place, k, &e);
	while (U_SUCCESS(e) && uregex_findNext(re, &e)) {
		int64_t from = uregex_start64(re, 0, &e), to = uregex_end64(re, 0, &e);
		if (U_SUCCESS(e) && to > from) {
			found(k, list, t->from[from], end_of(t, (size_t)to));
		}
	}
	k->sight->gave_up |= U_FAILURE(e);
	utext_close(u);
}

int eye_look(struct eye *eye, struct chatd_str text, struct sight *ret)
{
	struct sight s = { .masked = NULL };
	struct look k = { .lists = eye->lists, .sight = &s };
	int rc = fold_text(eye->fold, text, &s.text);
	if (rc < 0) {
		return rc;
	}
	words_scan(eye->lists->words, s.text.p, s.text.n, on_word, &k);
	k.until = cpu_ns() + CPU_MAX_NS;
	for (size_t i = 0; i < eye->lists->n_patterns; i++) {
		look_pattern(&k, eye->re[i], eye->lists->patterns[i].list);
	}
	if (k.failed) {
		sight_free(&s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void sight_free(struct sight *s)
{
	folded_free(&s->text);
	free(s->masked);
	s->masked = NULL;
}

char *sight_masked(const struct sight *s, size_t *ret_n)
{
	const struct folded *t = &s->text;
	char *out = malloc(t->n_whole + 1);
	size_t n = 0;
	for (size_t i = 0; out && i < t->n_whole;) {
		size_t at = i;
		UChar32 c;
		U8_NEXT(t->whole, i, t->n_whole, c);
		if (s->masked[at]) {
			int8_t type = u_charType(c);
			int seen =
					type != U_NON_SPACING_MARK && type != U_ENCLOSING_MARK && type != U_FORMAT_CHAR;
			out[n] = '*'; /* one for each that can be seen */
			n += (size_t)seen;
		} else {
			memcpy(out + n, t->whole + at, i - at);
			n += i - at;
		}
	}
	*ret_n = n;
	return out;
}
