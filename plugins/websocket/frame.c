/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <string.h>

enum {                  /* frame_decoder.flags */
	IN_FRAME = 1 << 0,  /* the header of the present data frame is behind us */
	FIN = 1 << 1,       /* ... and it is the last one of its message */
	SHOWN = 1 << 2,     /* the first piece of the message has been given */
	EMPTY = 1 << 3,     /* the present frame has no payload */
	TEXT_ONLY = 1 << 4, /* from frame_init() */
};

enum {
	CODE_PROTOCOL = 1002,
	CODE_KIND = 1003,
	CODE_TEXT = 1007,
	CODE_POLICY = 1008,
	CODE_BIG = 1009
};

/* A header as far as it was read. */
struct head {
	size_t size; /* with the mask; 0: not all there */
	uint64_t n;
	int opcode;
	int fin;
};

void frame_init(struct frame_decoder *d, uint64_t max_message, uint32_t max_empty, int text_only)
{
	memset(d, 0, sizeof(*d));
	d->max_message = max_message;
	d->max_empty = max_empty;
	d->flags = text_only ? TEXT_ONLY : 0;
}

static size_t fail(struct frame_event *ev, int32_t code, const char *why)
{
	ev->kind = FRAME_EV_FAIL;
	ev->code = code;
	ev->why = why;
	return 0;
}

/* ---- headers ------------------------------------------------------------ */

static const char *bad_first_byte(const struct frame_decoder *d, unsigned char b)
{
	int opcode = b & 0x0f;
	if (b & 0x70)
		return "reserved bit set";
	if ((opcode > FRAME_BINARY && opcode < FRAME_CLOSE) || opcode > FRAME_PONG)
		return "reserved opcode";
	if (opcode >= FRAME_CLOSE)
		return b & 0x80 ? NULL : "fragmented control frame";
	if (opcode == FRAME_CONTINUATION && !d->open)
		return "continuation without a start";
	if (opcode != FRAME_CONTINUATION && d->open)
		return "new message within a fragmented one";
	return NULL;
}

static uint64_t big_endian(const unsigned char *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

/* Says what is wrong as soon as the bytes prove it, not only when the header is whole. */
static int check_header(struct frame_decoder *d, const unsigned char *p, size_t n,
		struct head *head, struct frame_event *ev)
{
	head->size = 0;
	if (n == 0)
		return 1;
	const char *why = bad_first_byte(d, p[0]);
	if (why)
		return fail(ev, CODE_PROTOCOL, why), 0;
	head->opcode = p[0] & 0x0f;
	head->fin = p[0] >> 7;
	if (head->opcode == FRAME_BINARY && d->flags & TEXT_ONLY)
		return fail(ev, CODE_KIND, "text only"), 0;
	if (n < 2)
		return 1;
	if (!(p[1] & 0x80))
		return fail(ev, CODE_PROTOCOL, "client frame not masked"), 0;
	unsigned len = p[1] & 0x7f;
	if (len > FRAME_CONTROL_MAX && head->opcode >= FRAME_CLOSE)
		return fail(ev, CODE_PROTOCOL, "control frame too long"), 0;
	size_t more = len == 126 ? 2 : len == 127 ? 8 : 0;
	if (n < 2 + more)
		return 1;
	head->n = more ? big_endian(p + 2, more) : len;
	if (head->n >> 63)
		return fail(ev, CODE_PROTOCOL, "length with the top bit set"), 0;
	if (more && head->n < (more == 2 ? 126u : 65536u))
		return fail(ev, CODE_PROTOCOL, "length not in its shortest form"), 0;
	/* message <= max_message always holds, so that the difference does not wrap */
	if (head->opcode < FRAME_CLOSE && head->n > d->max_message - d->message)
		return fail(ev, CODE_BIG, "message too big"), 0;
	if (n >= 2 + more + sizeof(d->mask))
		head->size = 2 + more + sizeof(d->mask);
	return 1;
}

static void unmask(char *to, const char *from, size_t n, const unsigned char mask[4])
{
	unsigned char twice[8];
	memcpy(twice, mask, 4);
	memcpy(twice + 4, mask, 4);
	uint64_t wide;
	memcpy(&wide, twice, sizeof(wide));
	size_t i = 0;
	for (; n - i >= sizeof(wide); i += sizeof(wide)) {
		uint64_t word;
		memcpy(&word, from + i, sizeof(word));
		word ^= wide;
		memcpy(to + i, &word, sizeof(word));
	}
	for (; i < n; i++)
		to[i] = (char)((unsigned char)from[i] ^ mask[i & 3]);
}

/* Turns the mask on by @p n bytes; 4 - n % 4 turns it back. */
static void turn(unsigned char mask[4], size_t n)
{
	unsigned char old[4];
	memcpy(old, mask, sizeof(old));
	for (size_t i = 0; i < sizeof(old); i++)
		mask[i] = old[(i + n) & 3];
}

/* ---- control frames ------------------------------------------------------ */

int frame_code_valid(int32_t code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
			(code >= 3000 && code <= 4999);
}

static void closing(const char *p, size_t n, struct frame_event *ev)
{
	ev->kind = FRAME_EV_CLOSE;
	ev->code = FRAME_NO_CODE;
	if (n == 0)
		return;
	if (n == 1) {
		fail(ev, CODE_PROTOCOL, "close code of one byte");
		return;
	}
	ev->code = (int32_t)big_endian((const unsigned char *)p, 2);
	if (!frame_code_valid(ev->code)) {
		fail(ev, CODE_PROTOCOL, "bad close code");
		return;
	}
	struct utf8 u = { 0 };
	if (utf8_check(&u, p + 2, n - 2) != n - 2 || u.need) {
		fail(ev, CODE_TEXT, "close reason is not UTF-8");
		return;
	}
	ev->p = p + 2;
	ev->n = n - 2;
}

static size_t control(
		const struct head *head, const char *p, size_t n, char *scratch, struct frame_event *ev)
{
	size_t whole = head->size + (size_t)head->n;
	if (n < whole)
		return 0;
	unsigned char mask[4];
	memcpy(mask, p + head->size - sizeof(mask), sizeof(mask));
	unmask(scratch, p + head->size, (size_t)head->n, mask);
	if (head->opcode == FRAME_CLOSE) {
		closing(scratch, (size_t)head->n, ev);
	} else {
		ev->kind = head->opcode == FRAME_PING ? FRAME_EV_PING : FRAME_EV_PONG;
		ev->p = scratch;
		ev->n = (size_t)head->n;
	}
	return whole;
}

/* ---- data frames --------------------------------------------------------- */

static void end_frame(struct frame_decoder *d)
{
	if (d->flags & FIN) {
		d->open = 0;
		d->message = 0;
		d->empty = 0;
		d->flags &= TEXT_ONLY;
	} else {
		d->flags &= TEXT_ONLY | SHOWN;
	}
}

/* The good bytes in front of a bad one are still given, and the bad one is left for the
 * next call: so the outcome does not depend on where the network split the bytes. */
static size_t payload(struct frame_decoder *d, const char *p, size_t n, char *scratch, size_t room,
		struct frame_event *ev)
{
	if (n > d->left)
		n = (size_t)d->left;
	if (n > room)
		n = room;
	if (n == 0 && d->left)
		return 0;
	unmask(scratch, p, n, d->mask);
	ev->before = d->utf8;
	if (d->open == FRAME_TEXT) {
		size_t good = utf8_check(&d->utf8, scratch, n);
		if (good == n && n == d->left && d->flags & FIN && d->utf8.need) {
			/* cut off in the middle of a character: the last byte makes it certain */
			good = n ? n - 1 : 0;
			d->utf8 = ev->before;
			utf8_check(&d->utf8, scratch, good);
			if (good == 0)
				return fail(ev, CODE_TEXT, "text is not UTF-8");
		} else if (good == 0 && n) {
			return fail(ev, CODE_TEXT, "text is not UTF-8");
		}
		n = good;
	}
	d->left -= n;
	turn(d->mask, n);
	ev->kind = FRAME_EV_DATA;
	ev->p = scratch;
	ev->n = n;
	ev->flags = (d->open == FRAME_BINARY ? FRAME_F_BINARY : 0u) |
			(d->flags & SHOWN ? 0u : FRAME_F_FIRST) | (d->flags & EMPTY ? FRAME_F_EMPTY : 0u) |
			(d->left == 0 && d->flags & FIN ? FRAME_F_LAST : 0u);
	d->flags |= SHOWN;
	return n;
}

static int begin_frame(
		struct frame_decoder *d, const struct head *head, const char *p, struct frame_event *ev)
{
	if (head->n == 0 && !(d->open == 0 && head->fin) && ++d->empty > d->max_empty) {
		fail(ev, CODE_POLICY, "too many empty fragments");
		return 0;
	}
	memcpy(d->mask, p + head->size - sizeof(d->mask), sizeof(d->mask));
	if (head->opcode != FRAME_CONTINUATION) {
		d->open = (uint8_t)head->opcode;
		memset(&d->utf8, 0, sizeof(d->utf8));
	}
	d->message += head->n;
	d->left = head->n;
	d->flags |= IN_FRAME | (head->fin ? FIN : 0) | (head->n == 0 ? EMPTY : 0);
	return 1;
}

size_t frame_next(struct frame_decoder *d, const char *p, size_t n, char *scratch, size_t room,
		struct frame_event *ret_event)
{
	memset(ret_event, 0, sizeof(*ret_event));
	/* A frame is only left when its successor begins or more is asked for, so that
	 * frame_untake() finds the state as it was. */
	if (d->flags & IN_FRAME && d->left == 0)
		end_frame(d);
	if (d->flags & IN_FRAME)
		return payload(d, p, n, scratch, room, ret_event);
	struct head head;
	if (!check_header(d, (const unsigned char *)p, n, &head, ret_event) || head.size == 0)
		return 0;
	if (head.opcode >= FRAME_CLOSE)
		return control(&head, p, n, scratch, ret_event);
	if (!begin_frame(d, &head, p, ret_event))
		return 0;
	size_t used = payload(d, p + head.size, n - head.size, scratch, room, ret_event);
	return head.size + used;
}

void frame_untake(struct frame_decoder *d, const struct frame_event *event, size_t rest)
{
	size_t taken = event->n - rest;
	d->left += rest;
	turn(d->mask, 4 - rest % 4);
	if (event->flags & FRAME_F_FIRST && taken == 0)
		d->flags &= (uint8_t)~SHOWN;
	if (d->open == FRAME_TEXT) {
		d->utf8 = event->before;
		utf8_check(&d->utf8, event->p, taken);
	}
}

/* ---- what a server sends ------------------------------------------------- */

size_t frame_header_len(uint64_t n)
{
	return n < 126 ? 2 : n < 65536 ? 4 : FRAME_HEADER_MAX;
}

size_t frame_header(char out[FRAME_HEADER_MAX], int opcode, uint64_t n)
{
	size_t len = frame_header_len(n);
	out[0] = (char)(0x80 | opcode);
	out[1] = (char)(len == 2 ? n : len == 4 ? 126 : 127);
	for (size_t i = len; i > 2; i--, n >>= 8)
		out[i - 1] = (char)(n & 0xff);
	return len;
}

size_t frame_close(char out[2 + FRAME_CONTROL_MAX], int32_t code, const char *why)
{
	size_t n = 0;
	if (code != FRAME_NO_CODE) {
		out[2] = (char)(code >> 8);
		out[3] = (char)(code & 0xff);
		size_t len = why ? strnlen(why, FRAME_CONTROL_MAX) : 0;
		if (len > FRAME_CONTROL_MAX - 2) {
			len = FRAME_CONTROL_MAX - 2;
			while (len > 0 && ((unsigned char)why[len] & 0xc0) == 0x80)
				len--;
		}
		if (len)
			memcpy(out + 4, why, len);
		n = 2 + len;
	}
	frame_header(out, FRAME_CLOSE, n);
	return 2 + n;
}
