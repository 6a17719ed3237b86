/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an upload: the first line is the Content-Type, the second says where the rest is
 * cut.  However it is cut, the same parts come out, or the same refusal; and whatever a part is
 * called, its name becomes one that is safe in a header.  Ranges stay inside their file.
 */
#include "multipart.h"
#include "names.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct seen {
	uint64_t hash;
	int parts, ends;
	size_t bytes;
};

static void mix(struct seen *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		s->hash = (s->hash ^ (unsigned char)p[i]) * UINT64_C(1099511628211);
	}
}

static void look_at_name(struct chatd_str name)
{
	char clean[NAME_BYTES + 1], line[DISPOSITION_MAX];
	if (name_clean(name, clean) < 0) {
		return;
	}
	if (strlen(clean) > NAME_BYTES || !clean[0] || strchr(clean, '/') || strchr(clean, '\\')) {
		abort();
	}
	name_disposition(clean, 0, line);
	for (const char *p = line; *p; p++) {
		if (*p < 0x20 || *p > 0x7e) {
			abort();
		}
	}
	const char *quoted = strchr(line, '"') + 1;
	if (strcspn(quoted, "\"") + 1 > strlen(quoted) ||
			strncmp(strchr(quoted, '"'), "\"; filename*=UTF-8''", 20)) {
		abort();
	}
}

static chatd_status on_part(void *arg, const struct multipart_part *part)
{
	struct seen *s = arg;
	char *room = malloc(MULTIPART_HEAD);
	struct chatd_str name;
	if (!part->name.p || s->parts != s->ends || s->parts++ > MULTIPART_PARTS || !room) {
		abort();
	}
	mix(s, part->name.p, part->name.n);
	if (part->filename.p && name_decode(part->filename, 0, room, &name) == 0) {
		look_at_name(name);
		mix(s, name.p, name.n);
	}
	if (part->encoded.p && name_decode(part->encoded, 1, room, &name) == 0) {
		look_at_name(name);
	}
	free(room);
	return 0;
}

static chatd_status on_data(void *arg, const char *p, size_t n)
{
	struct seen *s = arg;
	if (n == 0 || s->parts != s->ends + 1) {
		abort();
	}
	s->bytes += n;
	mix(s, p, n);
	return 0;
}

static chatd_status on_end(void *arg)
{
	struct seen *s = arg;
	s->ends++;
	return 0;
}

static const struct multipart_user user = { on_part, on_data, on_end };

static chatd_status feed(struct chatd_str type, struct chatd_str body, size_t step, struct seen *s)
{
	struct multipart m;
	chatd_status rc = multipart_init(&m, type);
	memset(s, 0, sizeof(*s));
	m.user = &user;
	m.arg = s;
	for (size_t i = 0; rc == 0 && i < body.n; i += step) {
		size_t n = body.n - i < step ? body.n - i : step;
		char *copy = malloc(n); /* exactly as long: reads behind the end are seen */
		if (!copy) {
			abort();
		}
		memcpy(copy, body.p + i, n);
		rc = multipart_feed(&m, copy, n);
		free(copy);
	}
	rc = rc == 0 ? multipart_finish(&m) : rc;
	if (rc == -EINVAL && !m.why) {
		abort();
	}
	if (rc == 0 && (s->parts != s->ends || s->bytes > body.n)) {
		abort();
	}
	return rc;
}

static void look_at_range(struct chatd_str text)
{
	int64_t from = -1, n = -1;
	if (range_read(text, 1000, &from, &n) == RANGE_ONE && (from < 0 || n < 1 || from + n > 1000)) {
		abort();
	}
	etag_in(text, "\"0123\"");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *p = (const char *)data, *line = n ? memchr(p, '\n', n) : NULL;
	if (!line || n - (size_t)(line - p) < 2) {
		look_at_range(chatd_str_of(p, n));
		look_at_name(chatd_str_of(p, n));
		return 0;
	}
	struct chatd_str type = chatd_str_of(p, (size_t)(line - p));
	size_t step = (unsigned char)line[1] % 97 + 1;
	struct chatd_str body = chatd_str_of(line + 2, n - type.n - 2);
	struct seen whole, cut;
	chatd_status rc = feed(type, body, body.n + 1, &whole), again = feed(type, body, step, &cut);
	if (rc != again || (rc == 0 && memcmp(&whole, &cut, sizeof(whole)) != 0)) {
		abort();
	}
	return 0;
}
