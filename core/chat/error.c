/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/error.h"

#include "base/str.h"
#include "chat/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct text {
	FILE *f;
	int members;
};

static void quoted(FILE *f, struct chatd_str s)
{
	fputc('"', f);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '"' || c == '\\') {
			fputc('\\', f);
			fputc(c, f);
		} else if (c < 0x20) {
			fprintf(f, "\\u%04x", c);
		} else {
			fputc(c, f);
		}
	}
	fputc('"', f);
}

static void name(struct text *t, struct chatd_str key)
{
	fputc(t->members++ ? ',' : '{', t->f);
	quoted(t->f, key);
	fputc(':', t->f);
}

static void member(struct text *t, const char *key, struct chatd_str value)
{
	if (value.p) {
		name(t, chatd_str_of(key, strlen(key)));
		quoted(t->f, value);
	}
}

static int is_number(struct chatd_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') {
			return 0;
		}
	}
	return s.n > 0 && s.n < 16;
}

static void now(char ret[32])
{
	struct timespec ts;
	struct tm tm;
	char day[24];
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret, 32, "%s.%03dZ", day, (int)(ts.tv_nsec / 1000000));
}

/* What the server itself says of every error. */
static int is_own(struct chatd_str key)
{
	static const char *const own[] = { "errorCode", "code", "message", "timestamp", "receiptId",
		"destination" };
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (str_is(key, own[i])) {
			return 1;
		}
	}
	return 0;
}

static void replies(struct text *t, const chatd_msg *reply)
{
	struct chatd_str key, value;
	for (size_t i = 0; msg_header(reply, i, &key, &value); i++) {
		int number = str_is(key, "retryAfterSeconds");
		if (is_own(key) || (number && !is_number(value))) {
			continue;
		}
		name(t, key);
		if (number) {
			fwrite(value.p, 1, value.n, t->f);
		} else {
			quoted(t->f, value);
		}
	}
}

static void write_json(struct text *t, const struct chatd_outcome *o, const chatd_msg *frame)
{
	const char *code = o->code ? o->code : "FORBIDDEN";
	char stamp[32];
	now(stamp);
	member(t, "errorCode", chatd_str_of(code, strlen(code)));
	member(t, "code", chatd_str_of(code, strlen(code)));
	member(t, "message", o->why);
	member(t, "timestamp", chatd_str_of(stamp, strlen(stamp)));
	if (o->reply) {
		replies(t, o->reply);
	}
	if (frame) {
		member(t, "receiptId", msg_get(frame, "receipt"));
		member(t, "destination", msg_dest(frame));
	}
	fputc('}', t->f);
}

chatd_msg *error_message(const struct chatd_outcome *o, const chatd_msg *frame)
{
	char *body = NULL;
	size_t n = 0;
	struct text t = { .f = open_memstream(&body, &n) };
	if (!t.f) {
		return NULL;
	}
	write_json(&t, o, frame);
	chatd_msg *m = NULL;
	if (fclose(t.f) == 0) {
		m = msg_new(CHATD_LIT("/user/queue/errors"), chatd_str_of(body, n));
	}
	if (m && msg_set(m, "content-type", CHATD_LIT("application/json")) < 0) {
		msg_unref(m);
		m = NULL;
	}
	free(body);
	return m;
}
