/* SPDX-License-Identifier: Apache-2.0 */
#include "base/diag.h"

#include "base/utf8.h"

#include <string.h>

enum { TEXT_MAX = 4096, SOURCE_MAX = 160 };

static int comes_after(const struct diag_item *a, const struct diag_item *b)
{
	if (!a->at.file || !b->at.file || !b->at.line || strcmp(a->at.file, b->at.file) != 0)
		return 0;
	return a->at.line > b->at.line || (a->at.line == b->at.line && a->at.col > b->at.col);
}

static void insert(struct diag *d, struct diag_item *it)
{
	struct diag_item **link = &d->items;
	while (*link && !comes_after(*link, it))
		link = &(*link)->next;
	it->next = *link;
	*link = it;
}

void diag_vadd(struct diag *d, const struct diag_at *at, const char *fmt, va_list ap)
{
	char text[TEXT_MAX];
	if (diag_full(d)) {
		d->count++;
		return;
	}
	vsnprintf(text, sizeof(text), fmt, ap);
	struct diag_item *it = arena_alloc(&d->arena, sizeof(*it));
	if (it && at)
		it->at = *at;
	if (it)
		it->text = arena_text(&d->arena, text, strlen(text));
	if (it && at && at->file)
		it->at.file = arena_text(&d->arena, at->file, strlen(at->file));
	if (it && at && at->source.p)
		it->at.source.p = arena_text(&d->arena, at->source.p, at->source.n);
	if (!it || !it->text || (at && at->file && !it->at.file) ||
			(at && at->source.p && !it->at.source.p)) {
		d->out_of_memory = 1;
		return;
	}
	insert(d, it);
	d->count++;
}

void diag_add(struct diag *d, const struct diag_at *at, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	diag_vadd(d, at, fmt, ap);
	va_end(ap);
}

void diag_hide(struct diag *d, const char *file, uint32_t line)
{
	for (struct diag_item *it = d->items; it; it = it->next)
		if (it->at.line == line && it->at.file && strcmp(it->at.file, file) == 0)
			it->at.source = (struct chatd_str){ NULL, 0 };
}

size_t diag_count(const struct diag *d)
{
	return d->count + (d->out_of_memory ? 1 : 0);
}

/* One character of the file, or of a complaint that quotes it, safe for a terminal. */
static size_t put_char(FILE *to, const char *p, size_t n)
{
	unsigned char c = (unsigned char)*p;
	size_t len = utf8_char(p, n < 4 ? n : 4);
	int c1 = len == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0;
	if (c < 0x20 || c == 0x7f || c1)
		fputc('?', to);
	else if (len)
		fwrite(p, 1, len, to);
	else
		fputc('?', to);
	return len ? len : 1;
}

static void put_text(FILE *to, const char *p)
{
	size_t n = strlen(p);
	for (size_t i = 0; i < n;) {
		if (p[i] == '\n') {
			fputs("\n       ", to);
			i++;
		} else {
			i += put_char(to, p + i, n - i);
		}
	}
	fputc('\n', to);
}

/* A tab counts as one column in the file, so it is shown as one blank. */
static void put_source(FILE *to, const struct diag_at *at)
{
	size_t shown = 0, i = 0;
	fprintf(to, "%5u | ", (unsigned)at->line);
	for (; i < at->source.n && shown < SOURCE_MAX; shown++) {
		if (at->source.p[i] == '\t') {
			fputc(' ', to);
			i++;
		} else {
			i += put_char(to, at->source.p + i, at->source.n - i);
		}
	}
	fputc('\n', to);
	if (!at->col || at->col > shown + 1)
		return;
	fprintf(to, "%5s | %*s^", "", (int)at->col - 1, "");
	for (size_t k = at->col + 1; k < (size_t)at->col + at->len && k <= shown; k++)
		fputc('~', to);
	fputc('\n', to);
}

void diag_print(const struct diag *d, FILE *to)
{
	for (const struct diag_item *it = d->items; it; it = it->next) {
		const char *more = strchr(it->text, '\n');
		size_t first = more ? (size_t)(more - it->text) : strlen(it->text);
		if (it->at.file && it->at.line)
			fprintf(to, "%s:%u:%u: ", it->at.file, (unsigned)it->at.line, (unsigned)it->at.col);
		else if (it->at.file)
			fprintf(to, "%s: ", it->at.file);
		fputs("error: ", to);
		for (size_t i = 0; i < first;)
			i += put_char(to, it->text + i, first - i);
		fputc('\n', to);
		if (it->at.line && it->at.source.p)
			put_source(to, &it->at);
		if (more) {
			fputs("       ", to);
			put_text(to, more + 1);
		}
	}
	if (d->count > DIAG_MAX)
		fprintf(to, "error: and %zu more\n", d->count - DIAG_MAX);
	if (d->out_of_memory)
		fputs("error: out of memory\n", to);
}

void diag_finish(struct diag *d)
{
	if (!d)
		return;
	arena_finish(&d->arena);
	*d = (struct diag){ 0 };
}
