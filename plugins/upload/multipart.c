/* SPDX-License-Identifier: Apache-2.0 */
#include "multipart.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum state { FIRST, AFTER, AFTER_CR, AFTER_DASH, HEAD, DATA, OVER };

static chatd_status wrong(struct multipart *m, const char *why)
{
	m->why = why;
	return -EINVAL;
}

static int same(struct chatd_str a, const char *b)
{
	return a.n == strlen(b) && a.n && strncasecmp(a.p, b, a.n) == 0;
}

static int is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c && strchr("!#$%&'*+-.^_`|~", c));
}

/* ---- parameters: ; name=token ; name="text" ------------------------------------------ */

static void skip_blanks(struct chatd_str *s)
{
	while (s->n && (*s->p == ' ' || *s->p == '\t')) {
		s->p++;
		s->n--;
	}
}

static struct chatd_str take_token(struct chatd_str *s)
{
	struct chatd_str t = { s->p, 0 };
	while (t.n < s->n && is_token(s->p[t.n])) {
		t.n++;
	}
	s->p += t.n;
	s->n -= t.n;
	return t;
}

/* The text between quotes.  Browsers write a quote as %22, others as \"; a backslash before
 * anything else is one (of C:\x).  It is resolved in place. */
static int take_quoted(struct chatd_str *s, char *room, struct chatd_str *ret)
{
	size_t n = 0, i = 1;
	for (; i < s->n && s->p[i] != '"'; i++) {
		if (s->p[i] == '\\' && i + 1 < s->n && (s->p[i + 1] == '"' || s->p[i + 1] == '\\')) {
			i++;
		}
		room[n++] = s->p[i];
	}
	if (i >= s->n) {
		return 0;
	}
	*ret = chatd_str_of(room, n);
	s->p += i + 1;
	s->n -= i + 1;
	return 1;
}

/* The next parameter; 1: there is one, 0: no more, -1: it is malformed.  @p room holds what a
 * quoted value becomes: as long as the rest of the text. */
static int next_parameter(
		struct chatd_str *s, char *room, struct chatd_str *ret_name, struct chatd_str *ret_value)
{
	skip_blanks(s);
	if (!s->n) {
		return 0;
	}
	if (*s->p != ';') {
		return -1;
	}
	s->p++;
	s->n--;
	skip_blanks(s);
	if (!s->n) {
		return 0;
	}
	*ret_name = take_token(s);
	if (!ret_name->n || !s->n || *s->p != '=') {
		return -1;
	}
	s->p++;
	s->n--;
	if (s->n && *s->p == '"') {
		return take_quoted(s, room, ret_value) ? 1 : -1;
	}
	*ret_value = take_token(s);
	return ret_value->n ? 1 : -1;
}

/* ---- the boundary -------------------------------------------------------------------- */

static int boundary_ok(struct chatd_str b)
{
	for (size_t i = 0; i < b.n; i++) {
		char c = b.p[i];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
					(c && strchr("'()+_,-./:=? ", c)))) {
			return 0;
		}
	}
	return b.n > 0 && b.n <= MULTIPART_BOUNDARY && b.p[b.n - 1] != ' ';
}

chatd_status multipart_init(struct multipart *m, struct chatd_str type)
{
	static const char media[] = "multipart/form-data";
	char room[512];
	struct chatd_str name, value, boundary = { NULL, 0 };
	int rc;
	memset(m, 0, sizeof(*m));
	m->state = FIRST;
	const char *semicolon = type.n ? memchr(type.p, ';', type.n) : NULL;
	struct chatd_str rest = chatd_str_of(type.p, semicolon ? (size_t)(semicolon - type.p) : type.n);
	while (rest.n && (rest.p[rest.n - 1] == ' ' || rest.p[rest.n - 1] == '\t')) {
		rest.n--;
	}
	if (!same(rest, media)) {
		return -ENOTSUP;
	}
	rest = chatd_str_of(semicolon, semicolon ? type.n - (size_t)(semicolon - type.p) : 0);
	if (rest.n > sizeof(room)) {
		return wrong(m, "the Content-Type is too long");
	}
	while ((rc = next_parameter(&rest, room, &name, &value)) > 0) {
		if (!same(name, "boundary")) {
			continue;
		}
		if (boundary.p) {
			return wrong(m, "the Content-Type names two boundaries");
		}
		if (!boundary_ok(value)) {
			return wrong(
					m, "the boundary must be 1 to 70 characters of those that RFC 2046 allows");
		}
		memcpy(m->mark, "\r\n--", 4);
		memcpy(m->mark + 4, value.p, value.n);
		m->mark_n = value.n + 4;
		boundary = value;
	}
	if (rc < 0) {
		return wrong(m, "the parameters of the Content-Type are malformed");
	}
	if (!boundary.p) {
		return wrong(m, "the Content-Type names no boundary");
	}
	m->matched = 2; /* the first boundary begins the body, as if a line had ended before it */
	return 0;
}

/* ---- the head of a part -------------------------------------------------------------- */

static chatd_status set_once(struct multipart *m, struct chatd_str *to, struct chatd_str value)
{
	if (to->p) {
		return wrong(m, "a part's Content-Disposition says the same thing twice");
	}
	*to = value;
	return 0;
}

/* form-data; name="file"; filename="a.png"; texts are put into @p room, one after the other. */
static chatd_status read_disposition(
		struct multipart *m, struct chatd_str s, char *room, struct multipart_part *ret)
{
	struct chatd_str name, value;
	chatd_status rc = 0;
	int more = 0;
	if (!same(take_token(&s), "form-data")) {
		return wrong(m, "a part's Content-Disposition is not form-data");
	}
	while (rc == 0 && (more = next_parameter(&s, room, &name, &value)) > 0) {
		if (value.p == room) {
			room += value.n;
		}
		if (same(name, "name")) {
			rc = set_once(m, &ret->name, value);
		} else if (same(name, "filename")) {
			rc = set_once(m, &ret->filename, value);
		} else if (same(name, "filename*")) {
			rc = set_once(m, &ret->encoded, value);
		}
	}
	if (rc == 0 && (more < 0 || !ret->name.p)) {
		rc = wrong(
				m, more < 0 ? "a part's Content-Disposition is malformed" : "a part has no name");
	}
	return rc;
}

static chatd_status read_line(
		struct multipart *m, struct chatd_str line, char *room, struct multipart_part *part)
{
	struct chatd_str name = take_token(&line);
	if (!name.n || !line.n || *line.p != ':') {
		return wrong(m, "a line in a part's head is no header");
	}
	line.p++;
	line.n--;
	skip_blanks(&line);
	if (same(name, "content-disposition")) {
		return part->name.p ? wrong(m, "a part has two Content-Dispositions")
							: read_disposition(m, line, room, part);
	}
	if (same(name, "content-type") && line.n >= 10 && strncasecmp(line.p, "multipart/", 10) == 0) {
		return wrong(m, "a part must not be multipart itself");
	}
	if (same(name, "content-transfer-encoding") && !same(line, "binary") && !same(line, "8bit") &&
			!same(line, "7bit")) {
		return wrong(m, "a part must be sent as it is, without a Content-Transfer-Encoding");
	}
	return 0;
}

/* The head is whole, without the empty line at its end; each of its lines ends in CR LF. */
static chatd_status read_head(struct multipart *m)
{
	char room[MULTIPART_HEAD];
	struct multipart_part part = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	chatd_status rc = 0;
	for (size_t at = 0; rc == 0 && at < m->head_n;) {
		const char *p = m->head + at;
		size_t n = (size_t)((const char *)memchr(p, '\r', m->head_n - at) - p);
		rc = read_line(m, chatd_str_of(p, n), room, &part);
		at += n + 2;
	}
	if (rc < 0) {
		return rc;
	}
	if (!part.name.p) {
		return wrong(m, "a part has no Content-Disposition");
	}
	m->state = DATA;
	return m->user->part(m->arg, &part);
}

static chatd_status take_head(struct multipart *m, char c)
{
	char before = m->head_n ? m->head[m->head_n - 1] : '\n';
	if (c == '\0') {
		return wrong(m, "a part's head has a NUL byte");
	}
	if ((c == '\n') != (before == '\r' && m->head_n > 0)) {
		return wrong(m, "the lines of a part's head must end in CR LF");
	}
	if (m->head_n == MULTIPART_HEAD) {
		return wrong(m, "a part's head is longer than 4 KiB");
	}
	m->head[m->head_n++] = c;
	if (m->head_n >= 2 && c == '\n' && (m->head_n == 2 || m->head[m->head_n - 3] == '\n')) {
		m->head_n -= 2;
		return read_head(m);
	}
	return 0;
}

/* ---- the body ------------------------------------------------------------------------ */

static chatd_status found_mark(struct multipart *m)
{
	int first = m->state == FIRST;
	m->matched = 0;
	m->state = AFTER;
	return first ? 0 : m->user->end(m->arg);
}

/* What began like the mark and was none, is content: before the first part there is none. */
static chatd_status not_mark(struct multipart *m)
{
	size_t n = m->matched;
	m->matched = 0;
	if (m->state == FIRST) {
		return wrong(m, "the body does not begin with the boundary");
	}
	return n ? m->user->data(m->arg, m->mark, n) : 0;
}

/* How many bytes at the end of @p p may begin the mark.  CR occurs in it only once, at its start. */
static size_t tail_of(const struct multipart *m, const char *p, size_t n)
{
	size_t most = n < m->mark_n - 1 ? n : m->mark_n - 1;
	const char *cr = memrchr(p + n - most, '\r', most);
	size_t tail = cr ? (size_t)(p + n - cr) : 0;
	return tail && memcmp(cr, m->mark, tail) == 0 ? tail : 0;
}

/* Content up to the next mark; returns the bytes taken, or what is wrong. */
static int64_t take_data(struct multipart *m, const char *p, size_t n)
{
	const char *at = memmem(p, n, m->mark, m->mark_n);
	size_t tail = at ? 0 : tail_of(m, p, n);
	size_t content = at ? (size_t)(at - p) : n - tail;
	chatd_status rc = content ? m->user->data(m->arg, p, content) : 0;
	if (rc < 0) {
		return rc;
	}
	m->matched = tail;
	if (!at) {
		return (int64_t)n;
	}
	rc = found_mark(m);
	return rc < 0 ? rc : (int64_t)(content + m->mark_n);
}

/* Goes on with a mark that began before. */
static int64_t take_mark(struct multipart *m, const char *p, size_t n)
{
	size_t want = m->mark_n - m->matched;
	size_t most = n < want ? n : want;
	chatd_status rc;
	if (memcmp(p, m->mark + m->matched, most) != 0) {
		rc = not_mark(m);
		return rc < 0 ? rc : 0;
	}
	m->matched += most;
	rc = m->matched == m->mark_n ? found_mark(m) : 0;
	return rc < 0 ? rc : (int64_t)most;
}

/* Behind a boundary: CR LF and the next part, or two dashes. */
static chatd_status take_after(struct multipart *m, char c)
{
	if (m->state == AFTER && (c == '\r' || c == '-')) {
		m->state = c == '\r' ? AFTER_CR : AFTER_DASH;
		return 0;
	}
	if (m->state == AFTER_DASH && c == '-') {
		m->state = OVER;
		return 0;
	}
	if (m->state != AFTER_CR || c != '\n') {
		return wrong(m, "a boundary must be followed by CR LF, or by -- at the end");
	}
	if (++m->parts > MULTIPART_PARTS) {
		return wrong(m, "there are more than 8 parts");
	}
	m->state = HEAD;
	m->head_n = 0;
	return 0;
}

chatd_status multipart_feed(struct multipart *m, const char *p, size_t n)
{
	for (size_t i = 0; i < n && m->state != OVER;) {
		int64_t used = 1;
		if (m->matched || m->state == FIRST) {
			used = take_mark(m, p + i, n - i);
		} else if (m->state == DATA) {
			used = take_data(m, p + i, n - i);
		} else {
			chatd_status rc = m->state == HEAD ? take_head(m, p[i]) : take_after(m, p[i]);
			used = rc < 0 ? rc : 1;
		}
		if (used < 0) {
			return (chatd_status)used;
		}
		i += (size_t)used;
	}
	return 0;
}

chatd_status multipart_finish(struct multipart *m)
{
	return m->state == OVER ? 0 : wrong(m, "the final boundary is missing");
}
