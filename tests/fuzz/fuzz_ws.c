/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as WebSocket frames: however they are cut, however much of each piece the
 * consumer takes, the same events come out.  The first octet chooses the limits, the second
 * the pieces.  What comes out as text must be UTF-8 throughout.
 */
#include "frame.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct result {
	uint64_t hash;
	size_t messages, bytes; /* of the message at hand */
	uint64_t limit;
};

static void mix(struct result *r, const void *p, size_t n)
{
	const unsigned char *s = p;
	for (size_t i = 0; i < n; i++) {
		r->hash = (r->hash ^ s[i]) * UINT64_C(0x100000001b3);
	}
}

/* The pieces of a message differ from run to run; its octets and its end do not. */
static void mix_event(struct result *r, const struct frame_event *e)
{
	if (e->kind == FRAME_EV_DATA) {
		r->bytes += e->n;
		if (r->bytes > r->limit) {
			abort();
		}
		mix(r, e->p, e->n);
		if (e->flags & FRAME_F_LAST) {
			int32_t kind = 100 + (int32_t)(e->flags & FRAME_F_BINARY);
			mix(r, &kind, sizeof(kind));
			r->bytes = 0;
			r->messages++;
		}
		return;
	}
	if (e->n > FRAME_CONTROL_MAX) {
		abort();
	}
	mix(r, &e->kind, sizeof(e->kind));
	mix(r, &e->code, sizeof(e->code));
	mix(r, e->p, e->n);
}

struct stream {
	const uint8_t *p;
	size_t n, step, room;
	uint64_t limit;
	int text_only, untake;
};

static uint64_t run(const struct stream *s)
{
	struct frame_decoder d;
	struct result r = { .limit = s->limit };
	char *scratch = malloc(s->room);
	size_t at = 0, have = 0;
	int over = !scratch;
	frame_init(&d, s->limit, 4, s->text_only);
	while (!over && have < s->n) {
		have = s->n - have < s->step ? s->n : have + s->step;
		for (;;) {
			struct frame_event e = { .kind = FRAME_EV_MORE };
			/* In a block of its own, so that a read behind its end is seen. */
			char *piece = malloc(have - at + 1);
			if (!piece) {
				break;
			}
			memcpy(piece, s->p + at, have - at);
			piece = realloc(piece, have - at ? have - at : 1);
			size_t used = frame_next(&d, piece, have - at, scratch, s->room, &e);
			if (used > have - at) {
				abort();
			}
			if (s->untake && e.kind == FRAME_EV_DATA && e.n > 1) {
				size_t rest = e.n / 2;
				frame_untake(&d, &e, rest);
				used -= rest;
				e.n -= rest;
				e.flags &= ~(uint32_t)FRAME_F_LAST;
			}
			free(piece);
			at += used;
			if (e.kind == FRAME_EV_MORE) {
				break;
			}
			mix_event(&r, &e);
			if (e.kind == FRAME_EV_FAIL || e.kind == FRAME_EV_CLOSE) {
				over = 1;
				break;
			}
		}
	}
	free(scratch);
	return r.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 3) {
		return 0;
	}
	struct stream s = { .p = data + 2,
		.n = n - 2,
		.step = n,
		.room = 4096,
		.limit = data[0] & 2 ? 300 : 100000,
		.text_only = data[0] & 1 };
	uint64_t whole = run(&s);
	s.step = 1 + data[1] % 32;
	if (run(&s) != whole) {
		abort();
	}
	s.room = FRAME_CONTROL_MAX;
	s.untake = 1;
	if (run(&s) != whole) {
		abort();
	}
	return 0;
}
