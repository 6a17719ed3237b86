/* SPDX-License-Identifier: Apache-2.0 */
#include "render.h"
#include <stdio.h>
#include <string.h>

/* Written once, on [main], before the first worker runs. */
static const struct chatd_host *host;

void render_init(const struct chatd_host *h)
{
	host = h;
}

/** Counts what it is given, and writes it once there is room. */
struct out {
	char *p; /**< NULL: count only */
	size_t n;
};

static void put(struct out *o, const char *s, size_t n)
{
	if (o->p && n) {
		memcpy(o->p + o->n, s, n);
	}
	o->n += n;
}

/** 1.0 has no escapes: text goes as it is, but a line end would forge a header. */
static char escape_of(char c, uint32_t form, int in_name)
{
	switch (c) {
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case ':':
		return form >= 11 || in_name ? 'c' : 0;
	case '\\':
		return form >= 11 ? '\\' : 0;
	default:
		return 0;
	}
}

static void put_escaped(struct out *o, struct chatd_str s, uint32_t form, int in_name)
{
	size_t done = 0;
	for (size_t i = 0; i < s.n; i++) {
		char as = escape_of(s.p[i], form, in_name);
		if (as) {
			put(o, s.p + done, i - done);
			put(o, (char[]){ '\\', as }, 2);
			done = i + 1;
		}
	}
	put(o, s.p + done, s.n - done);
}

static void put_header(struct out *o, struct chatd_str name, struct chatd_str value, uint32_t form)
{
	put_escaped(o, name, form, 1);
	put(o, ":", 1);
	put_escaped(o, value, form, 0);
	put(o, "\n", 1);
}

static int same(struct chatd_str a, struct chatd_str b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/** Is @p name written by us, or of no business to the receiver? */
static int is_ours(const struct render_frame *f, struct chatd_str name)
{
	for (size_t i = 0; i < f->n; i++) {
		if (same(f->header[i].name, name)) {
			return 1;
		}
	}
	return same(name, CHATD_LIT("content-length")) || same(name, CHATD_LIT("receipt")) ||
			same(name, CHATD_LIT("transaction"));
}

static void put_frame(struct out *o, const struct render_frame *f)
{
	struct chatd_str name, value;
	put(o, f->command, strlen(f->command));
	put(o, "\n", 1);
	for (size_t i = 0; i < f->n; i++) {
		if (f->header[i].value.p) {
			put_header(o, f->header[i].name, f->header[i].value, f->form);
		}
	}
	for (size_t i = 0; f->more && host->msg_header(f->more, i, &name, &value); i++) {
		if (!is_ours(f, name)) {
			put_header(o, name, value, f->form);
		}
	}
	if (f->with_length) {
		char line[40];
		int n = snprintf(line, sizeof(line), "content-length:%zu\n", f->body.n);
		put(o, line, (size_t)n);
	}
	put(o, "\n", 1);
	put(o, f->body.p, f->body.n);
	put(o, "\0", 1);
}

chatd_buf *render_frame(const struct render_frame *f)
{
	struct out o = { NULL, 0 };
	put_frame(&o, f);
	chatd_buf *b = host->buf_new(CHATD_WRAP_ROOM, o.n);
	if (b) {
		o = (struct out){ host->buf_data(b), 0 };
		put_frame(&o, f);
	}
	return b;
}

chatd_buf *render_message(uint32_t form, struct chatd_str sub, struct chatd_str ack,
		const chatd_msg *msg, uint32_t *ret_flags)
{
	const struct chatd_str none = { NULL, 0 };
	/* The last ones are here with no value to keep forged ones from being copied. */
	const struct stomp_header header[] = {
		{ CHATD_LIT("subscription"), sub },
		{ CHATD_LIT("message-id"), host->msg_id(msg) },
		{ CHATD_LIT("destination"), host->msg_dest(msg) },
		{ CHATD_LIT("ack"), form >= 12 ? ack : none },
		{ CHATD_LIT("user-id"), none },
	};
	struct render_frame f = { .command = "MESSAGE",
		.form = form,
		.header = header,
		.n = sizeof(header) / sizeof(header[0]),
		.more = msg,
		.with_length = 1,
		.body = host->msg_body(msg) };
	chatd_buf *b = render_frame(&f);
	if (b) {
		*ret_flags = stomp_utf8(f.body) ? 0 : CHATD_WRAP_BINARY;
	}
	return b;
}

chatd_buf *render_beat(void)
{
	chatd_buf *b = host->buf_new(CHATD_WRAP_ROOM, 1);
	if (b) {
		host->buf_data(b)[0] = '\n';
	}
	return b;
}
