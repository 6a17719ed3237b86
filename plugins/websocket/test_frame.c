/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cases of the Autobahn test suite, groups 1 to 7 and 10, and what else section 5 of
 * RFC 6455 asks of a server, against the pure decoder.
 *
 * A case is written as frames, blank-separated: the first byte in hex, then the payload as
 * 'text', #hex or *count (that many asterisks); "=hex" is bytes as they are.  Frames are
 * masked and get the shortest length.  What is expected is written alike: T text, B binary,
 * P ping, p pong, C close (code and reason), F failure (code), in order.  Each case is run
 * whole, byte by byte, in two parts split everywhere, in chops of 997 octets, with little
 * room to unmask to, and with a consumer that takes only a part at a time.
 */
#include "frame.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_MESSAGE (1024 * 1024)
#define MAX_EMPTY   1024

struct bytes {
	char *p;
	size_t n, room;
};

static void add(struct bytes *b, const void *p, size_t n)
{
	if (b->room - b->n < n) {
		b->room = (b->n + n) * 2;
		b->p = realloc(b->p, b->room);
		assert_non_null(b->p);
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void add_text(struct bytes *b, const char *text)
{
	add(b, text, strlen(text));
}

/* ---- writing frames ---------------------------------------------------------- */

static size_t hex(const char *s, struct bytes *to)
{
	size_t i = 0;
	for (; isxdigit((unsigned char)s[i]) && isxdigit((unsigned char)s[i + 1]); i += 2) {
		char two[3] = { s[i], s[i + 1], 0 };
		char byte = (char)strtoul(two, NULL, 16);
		add(to, &byte, 1);
	}
	return i;
}

static void add_frame(struct bytes *to, int first, const char *payload, size_t n)
{
	static const unsigned char mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
	char header[FRAME_HEADER_MAX];
	size_t len = frame_header(header, 0, n);
	header[0] = (char)first;
	header[1] = (char)(header[1] | 0x80);
	add(to, header, len);
	add(to, mask, sizeof(mask));
	for (size_t i = 0; i < n; i++) {
		char c = (char)((unsigned char)payload[i] ^ mask[i % 4]);
		add(to, &c, 1);
	}
}

static size_t payload_of(const char *s, struct bytes *to)
{
	if (*s == '\'') {
		size_t n = strcspn(s + 1, "'");
		add(to, s + 1, n);
		return n + 2;
	}
	if (*s == '#')
		return 1 + hex(s + 1, to);
	if (*s == '*') {
		char *end;
		size_t n = strtoul(s + 1, &end, 10);
		for (size_t i = 0; i < n; i++)
			add(to, "*", 1);
		return (size_t)(end - s);
	}
	return 0;
}

static struct bytes script_bytes(const char *s)
{
	struct bytes wire = { 0 };
	while (*s) {
		if (*s == ' ') {
			s++;
		} else if (*s == '=') {
			s += 1 + hex(s + 1, &wire);
		} else {
			struct bytes payload = { 0 };
			char first[3] = { s[0], s[1], 0 };
			s += 2;
			s += payload_of(s, &payload);
			add_frame(&wire, (int)strtol(first, NULL, 16), payload.p, payload.n);
			free(payload.p);
		}
	}
	return wire;
}

/* ---- reading them --------------------------------------------------------------- */

static void describe(struct bytes *out, char kind, const char *p, size_t n)
{
	char text[32];
	size_t stars = 0, plain = 0;
	for (size_t i = 0; i < n; i++) {
		stars += p[i] == '*';
		plain += isprint((unsigned char)p[i]) && p[i] != '\'';
	}
	if (out->n)
		add_text(out, " ");
	add(out, &kind, 1);
	if (n && stars == n) {
		snprintf(text, sizeof(text), "*%zu", n);
		add_text(out, text);
	} else if (plain == n) {
		add_text(out, "'");
		add(out, p, n);
		add_text(out, "'");
	} else {
		add_text(out, "#");
		for (size_t i = 0; i < n; i++) {
			snprintf(text, sizeof(text), "%02x", (unsigned char)p[i]);
			add_text(out, text);
		}
	}
}

struct run {
	struct frame_decoder decoder;
	struct bytes seen;    /* the transcript */
	struct bytes message; /* so far */
	struct bytes unread;  /* what the stream would keep */
	size_t room, take;    /* of the scratch buffer; of each piece at most, 0: all */
	size_t shown;         /* bytes that were given in */
	size_t ended_at;      /* shown, when it failed or closed; 0: it lives */
};

static size_t on_piece(struct run *r, const struct frame_event *ev)
{
	if (ev->flags & FRAME_F_FIRST)
		assert_int_equal(r->message.n, 0);
	size_t taken = r->take && ev->n > r->take ? r->take : ev->n;
	add(&r->message, ev->p, taken);
	if (taken == ev->n && ev->flags & FRAME_F_LAST) {
		describe(&r->seen, ev->flags & FRAME_F_BINARY ? 'B' : 'T', r->message.p, r->message.n);
		r->message.n = 0;
	}
	return ev->n - taken;
}

static void on_event(struct run *r, const struct frame_event *ev)
{
	char text[FRAME_CONTROL_MAX + 16];
	if (ev->kind == FRAME_EV_PING) {
		describe(&r->seen, 'P', ev->p, ev->n);
	} else if (ev->kind == FRAME_EV_PONG) {
		describe(&r->seen, 'p', ev->p, ev->n);
	} else if (ev->kind == FRAME_EV_CLOSE || ev->kind == FRAME_EV_FAIL) {
		char kind = ev->kind == FRAME_EV_FAIL ? 'F' : 'C';
		snprintf(text, sizeof(text), "%s%c%d%.*s", r->seen.n ? " " : "", kind, (int)ev->code,
				(int)ev->n, ev->n ? ev->p : "");
		add_text(&r->seen, text);
		r->ended_at = r->shown;
	}
}

/* What on_data() of a connection does. */
static void show(struct run *r, const char *p, size_t n)
{
	char scratch[8192];
	add(&r->unread, p, n);
	r->shown += n;
	size_t at = 0;
	while (!r->ended_at) {
		struct frame_event ev;
		size_t used =
				frame_next(&r->decoder, r->unread.p + at, r->unread.n - at, scratch, r->room, &ev);
		at += used;
		if (ev.kind == FRAME_EV_MORE && used == 0)
			break;
		if (ev.kind == FRAME_EV_DATA) {
			size_t rest = on_piece(r, &ev);
			if (rest) {
				frame_untake(&r->decoder, &ev, rest);
				at -= rest;
			}
		} else {
			on_event(r, &ev);
		}
	}
	assert_true(r->ended_at || r->unread.n - at < 14 + FRAME_CONTROL_MAX);
	memmove(r->unread.p, r->unread.p + at, r->unread.n - at);
	r->unread.n -= at;
}

static struct run start(size_t room, size_t take)
{
	struct run r = { .room = room, .take = take };
	frame_init(&r.decoder, MAX_MESSAGE, MAX_EMPTY, 0);
	return r;
}

static void finish(struct run *r)
{
	free(r->seen.p);
	free(r->message.p);
	free(r->unread.p);
}

static void expect(struct run *r, const char *name, const char *how, const char *expected)
{
	add(&r->seen, "", 1);
	if (strcmp(r->seen.p, expected) != 0)
		fail_msg("%s, %s: expected \"%.300s\", saw \"%.300s\"", name, how, expected, r->seen.p);
	finish(r);
}

static void in_chops(
		const char *name, const struct bytes *wire, size_t chop, struct run r, const char *expected)
{
	char how[64];
	snprintf(how, sizeof(how), "chops of %zu, room %zu, takes %zu", chop, r.room, r.take);
	for (size_t at = 0; at < wire->n; at += chop)
		show(&r, wire->p + at, wire->n - at < chop ? wire->n - at : chop);
	expect(&r, name, how, expected);
}

static void check(const char *name, const char *script, const char *expected)
{
	struct bytes wire = script_bytes(script);
	in_chops(name, &wire, wire.n, start(8192, 0), expected);
	in_chops(name, &wire, 1, start(8192, 0), expected);
	in_chops(name, &wire, 997, start(8192, 0), expected);
	in_chops(name, &wire, wire.n, start(FRAME_CONTROL_MAX, 0), expected);
	in_chops(name, &wire, wire.n, start(8192, 1 + wire.n / 100), expected);
	in_chops(name, &wire, 7, start(FRAME_CONTROL_MAX, 3), expected);
	for (size_t split = 1; split < wire.n && wire.n <= 2000; split++) {
		struct run r = start(8192, 0);
		show(&r, wire.p, split);
		show(&r, wire.p + split, wire.n - split);
		expect(&r, name, "split in two", expected);
	}
	free(wire.p);
}

struct a_case {
	const char *name, *script, *expected;
};

static void check_all(const struct a_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check(cases[i].name, cases[i].script, cases[i].expected);
}

#define CHECK_ALL(cases) check_all(cases, sizeof(cases) / sizeof((cases)[0]))

/* ---- groups 1 to 5 --------------------------------------------------------------- */

static void framing(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "1.1.1", "81''", "T''" },
		{ "1.1.2", "81*125", "T*125" },
		{ "1.1.3", "81*126", "T*126" },
		{ "1.1.4", "81*127", "T*127" },
		{ "1.1.5", "81*128", "T*128" },
		{ "1.1.6", "81*65535", "T*65535" },
		{ "1.1.7, 1.1.8", "81*65536", "T*65536" },
		{ "1.2.1", "82''", "B''" },
		{ "1.2.2", "82*125", "B*125" },
		{ "1.2.3", "82*126", "B*126" },
		{ "1.2.4", "82*127", "B*127" },
		{ "1.2.5", "82*128", "B*128" },
		{ "1.2.6", "82*65535", "B*65535" },
		{ "1.2.7, 1.2.8", "82*65536", "B*65536" },
		{ "bytes that are no text", "82#00fffe80c0", "B#00fffe80c0" },
	};
	CHECK_ALL(cases);
}

static void pings_and_pongs(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "2.1", "89''", "P''" },
		{ "2.2", "89'Hello, world!'", "P'Hello, world!'" },
		{ "2.3", "89#00fffefdfcfb00ff", "P#00fffefdfcfb00ff" },
		{ "2.4, 2.6", "89*125", "P*125" },
		{ "2.5", "89*126", "F1002" },
		{ "2.7", "8a''", "p''" },
		{ "2.8", "8a'unsolicited pong payload'", "p'unsolicited pong payload'" },
		{ "2.9", "8a'unsolicited' 89'ping payload'", "p'unsolicited' P'ping payload'" },
		{ "2.10, 2.11", "89'0' 89'1' 89'2' 89'3' 89'4' 89'5' 89'6' 89'7' 89'8' 89'9'",
				"P'0' P'1' P'2' P'3' P'4' P'5' P'6' P'7' P'8' P'9'" },
		{ "a pong too long", "8a*126", "F1002" },
		{ "a ping much too long", "89*65536", "F1002" },
	};
	CHECK_ALL(cases);
}

static void reserved_bits(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "3.1", "91'Hello, world!'", "F1002" },
		{ "3.2", "81'Hello' a1'Hello' 89''", "T'Hello' F1002" },
		{ "3.3", "81'Hello' b1'Hello' 89''", "T'Hello' F1002" },
		{ "3.4", "81'Hello' c1'Hello' 89''", "T'Hello' F1002" },
		{ "3.5", "d2#0001fe", "F1002" },
		{ "3.6", "e9'Hello'", "F1002" },
		{ "3.7", "f8#03e8", "F1002" },
		{ "on a continuation", "01'a' c0'b'", "F1002" },
	};
	CHECK_ALL(cases);
}

static void opcodes(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "4.1.1", "83''", "F1002" },
		{ "4.1.2", "84'reserved'", "F1002" },
		{ "4.1.3", "81'Hello' 85'' 89''", "T'Hello' F1002" },
		{ "4.1.4", "81'Hello' 86'Hello' 89''", "T'Hello' F1002" },
		{ "4.1.5", "81'Hello' 87'Hello' 89''", "T'Hello' F1002" },
		{ "4.2.1", "8b''", "F1002" },
		{ "4.2.2", "8c'reserved'", "F1002" },
		{ "4.2.3", "81'Hello' 8d'' 89''", "T'Hello' F1002" },
		{ "4.2.4", "81'Hello' 8e'Hello' 89''", "T'Hello' F1002" },
		{ "4.2.5", "81'Hello' 8f'Hello' 89''", "T'Hello' F1002" },
	};
	CHECK_ALL(cases);
}

static void fragmentation(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "5.1", "09'fragment1' 80'fragment2'", "F1002" },
		{ "5.2", "0a'fragment1' 80'fragment2'", "F1002" },
		{ "5.3, 5.4, 5.5", "01'fragment1' 80'fragment2'", "T'fragment1fragment2'" },
		{ "5.6, 5.7, 5.8", "01'fragment1' 89'ping' 80'fragment2'",
				"P'ping' T'fragment1fragment2'" },
		{ "5.9, 5.10, 5.11", "80'non-continuation' 81'Hello'", "F1002" },
		{ "5.12, 5.13, 5.14", "00'non-continuation' 81'Hello'", "F1002" },
		{ "5.15", "01'fragment1' 80'fragment2' 00'fragment3' 81'fragment4'",
				"T'fragment1fragment2' F1002" },
		{ "5.16", "00'fragment1' 81'fragment2' 00'fragment3' 81'fragment4'", "F1002" },
		{ "5.17", "80'fragment1' 81'fragment2' 80'fragment3' 81'fragment4'", "F1002" },
		{ "5.18", "01'fragment1' 81'fragment2'", "F1002" },
		{ "5.19, 5.20",
				"01'fragment1' 00'fragment2' 89'ping 1' 00'fragment3' 00'fragment4' "
				"89'ping 2' 80'fragment5'",
				"P'ping 1' P'ping 2' T'fragment1fragment2fragment3fragment4fragment5'" },
		{ "a fragmented close", "08#03e8 80''", "F1002" },
		{ "a binary start within a text", "01'a' 82'b'", "F1002" },
		{ "a binary message in fragments", "02#ff 00#fe 80#fd", "B#fffefd" },
		{ "10.1.1 in little", "01*1300 00*1300 00*1300 80*97", "T*3997" },
	};
	CHECK_ALL(cases);
}

static void auto_fragmentation(void **state)
{
	(void)state;
	struct bytes script = { 0 };
	add_text(&script, "01*1300"); /* 65,536 = 50 x 1,300 + 536 */
	for (int i = 1; i < 50; i++)
		add_text(&script, " 00*1300");
	add(&script, " 80*536", sizeof(" 80*536"));
	check("10.1.1", script.p, "T*65536");
	free(script.p);
}

/* ---- group 6: UTF-8 ------------------------------------------------------------------ */

static void text_in_fragments(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "6.1.1", "81''", "T''" },
		{ "6.1.2", "01'' 00'' 80''", "T''" },
		{ "6.1.3", "01'' 00'middle frame payload' 80''", "T'middle frame payload'" },
		{ "6.2.1", "81#48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121",
				"T#48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121" },
		{ "6.2.2", "01#48656c6c6f2dc2b540c39f 80#c3b6c3a4c3bcc3a0c3a12d5554462d382121",
				"T#48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121" },
		{ "6.2.3", "01#c3 00#9f 00#c3 00#b6 80#21", "T#c39fc3b621" },
		{ "6.2.4", "01#ce 00#ba 00#e1 00#bd 00#b9 00#cf 00#83 00#ce 00#bc 00#ce 80#b5",
				"T#cebae1bdb9cf83cebcceb5" },
		{ "6.3.1", "81#cebae1bdb9cf83cebcceb5eda080656469746564", "F1007" },
		{ "6.3.2", "01#ce 00#ba 00#ed 00#a0 00#80 80#65", "F1007" },
		{ "6.4.1", "01#cebae1bdb9cf83cebcceb5 00#f4908080 80#656469746564", "F1007" },
		{ "6.4.2", "01#cebae1bdb9cf83cebcceb5f4 00#90 80#8080656469746564", "F1007" },
		{ "6.4.3", "81#cebae1bdb9cf83cebcceb5f4908080656469746564", "F1007" },
		{ "a ping between the bytes of a character", "01#c3 89'x' 80#9f", "P'x' T#c39f" },
		{ "cut off by an empty last fragment", "01#c3 80''", "F1007" },
		{ "the next message begins anew", "01#c3 80#9f 81#c3b6", "T#c39f T#c3b6" },
	};
	CHECK_ALL(cases);
}

/* Where the byte that makes it certain is, nothing later may be awaited. */
static void bad_text_fails_at_once(void **state)
{
	(void)state;
	static const struct {
		const char *name, *script;
		size_t at; /* the offending byte, counted from 1 */
	} cases[] = {
		{ "6.4.1", "01#cebae1bdb9cf83cebcceb5 00#f4908080 80#656469746564", 6 + 11 + 6 + 2 },
		{ "6.4.2", "01#cebae1bdb9cf83cebcceb5f4 00#90 80#8080656469746564", 6 + 12 + 6 + 1 },
		{ "6.4.3", "81#cebae1bdb9cf83cebcceb5f4908080656469746564", 6 + 11 + 2 },
		{ "6.4.4", "81#cebae1bdb9cf83cebcceb5f4", 6 + 12 },
		{ "a lone continuation byte", "81#8061", 6 + 1 },
		{ "a reserved bit is in the first byte", "91'Hello'", 1 },
		{ "a missing mask is in the second", "=8105", 2 },
		{ "a size is in the length", "=81ff0000000000100001", 10 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bytes wire = script_bytes(cases[i].script);
		struct run r = start(8192, 0);
		for (size_t at = 0; at < wire.n && !r.ended_at; at++)
			show(&r, wire.p + at, 1);
		if (r.ended_at != cases[i].at)
			fail_msg("%s: failed at byte %zu, not %zu", cases[i].name, r.ended_at, cases[i].at);
		finish(&r);
		free(wire.p);
	}
}

struct utf8_case {
	const char *hex;
	int good;
};

static const struct utf8_case utf8_cases[] = {
	/* 6.5 */
	{ "68656c6c6f24c2a2e282acf0a4ada2", 1 },
	{ "cebae1bdb9cf83cebcceb5", 1 },
	/* 6.6: every prefix of it */
	{ "ce", 0 },
	{ "ceba", 1 },
	{ "cebae1", 0 },
	{ "cebae1bd", 0 },
	{ "cebae1bdb9", 1 },
	{ "cebae1bdb9cf", 0 },
	{ "cebae1bdb9cf83", 1 },
	{ "cebae1bdb9cf83ce", 0 },
	{ "cebae1bdb9cf83cebc", 1 },
	{ "cebae1bdb9cf83cebcce", 0 },
	/* 6.7, 6.8: first sequence of each length */
	{ "00", 1 },
	{ "c280", 1 },
	{ "e0a080", 1 },
	{ "f0908080", 1 },
	{ "f888808080", 0 },
	{ "fc8480808080", 0 },
	/* 6.9, 6.10: last sequence of each length */
	{ "7f", 1 },
	{ "dfbf", 1 },
	{ "efbfbf", 1 },
	{ "f48fbfbf", 1 },
	{ "f7bfbfbf", 0 },
	{ "fbbfbfbfbf", 0 },
	{ "fdbfbfbfbfbf", 0 },
	/* 6.11: other borders */
	{ "ed9fbf", 1 },
	{ "ee8080", 1 },
	{ "efbfbd", 1 },
	{ "f4908080", 0 },
	/* 6.12: unexpected continuation bytes */
	{ "80", 0 },
	{ "bf", 0 },
	{ "80bf", 0 },
	{ "80bf80", 0 },
	{ "80bf80bf", 0 },
	{ "80bf80bf80", 0 },
	{ "80bf80bf80bf", 0 },
	{ "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7"
	  "a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf",
			0 },
	/* 6.13: lonely start bytes */
	{ "c020c120c220c320c420c520c620c720c820c920ca20cb20cc20cd20ce20cf20d020d120d220d320"
	  "d420d520d620d720d820d920da20db20dc20dd20de20",
			0 },
	{ "e020e120e220e320e420e520e620e720e820e920ea20eb20ec20ed20ee20", 0 },
	{ "f020f120f220f320f420f520f620", 0 },
	{ "f820f920fa20", 0 },
	{ "fc20", 0 },
	/* 6.14: last continuation byte missing */
	{ "c0", 0 },
	{ "e080", 0 },
	{ "f08080", 0 },
	{ "f8808080", 0 },
	{ "fc80808080", 0 },
	{ "df", 0 },
	{ "efbf", 0 },
	{ "f7bfbf", 0 },
	{ "fbbfbfbf", 0 },
	{ "fdbfbfbfbf", 0 },
	/* 6.15: all of these together */
	{ "c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf", 0 },
	/* 6.16: impossible bytes */
	{ "fe", 0 },
	{ "ff", 0 },
	{ "fefeffff", 0 },
	/* 6.17: overlong slash */
	{ "c0af", 0 },
	{ "e080af", 0 },
	{ "f08080af", 0 },
	{ "f8808080af", 0 },
	{ "fc80808080af", 0 },
	/* 6.18: the largest overlong ones */
	{ "c1bf", 0 },
	{ "e09fbf", 0 },
	{ "f08fbfbf", 0 },
	{ "f887bfbfbf", 0 },
	{ "fc83bfbfbfbf", 0 },
	/* 6.19: overlong NUL */
	{ "c080", 0 },
	{ "e08080", 0 },
	{ "f0808080", 0 },
	{ "f880808080", 0 },
	{ "fc8080808080", 0 },
	/* 6.20, 6.21: surrogates, alone and in pairs */
	{ "eda080", 0 },
	{ "edadbf", 0 },
	{ "edae80", 0 },
	{ "edafbf", 0 },
	{ "edb080", 0 },
	{ "edbe80", 0 },
	{ "edbfbf", 0 },
	{ "eda080edb080", 0 },
	{ "eda080edbfbf", 0 },
	{ "edadbfedb080", 0 },
	{ "edadbfedbfbf", 0 },
	{ "edae80edb080", 0 },
	{ "edae80edbfbf", 0 },
	{ "edafbfedb080", 0 },
	{ "edafbfedbfbf", 0 },
	/* 6.22: no characters, but valid */
	{ "efbfbe", 1 },
	{ "efbfbf", 1 },
	{ "efb790", 1 },
	{ "efb7af", 1 },
	/* 6.23: specials */
	{ "efbfb9", 1 },
	{ "efbfba", 1 },
	{ "efbfbb", 1 },
	{ "efbfbc", 1 },
	{ "efbfbd", 1 },
	/* in the middle of long ASCII, where words of eight bytes are looked at at once */
	{ "6161616161616161616161616161c3b66161616161616161", 1 },
	{ "6161616161616161616161616161c36161616161616161", 0 },
	{ "61616161616161ff6161616161616161", 0 },
};

static void check_utf8(const char *digits, int good)
{
	char script[256], expected[256];
	struct bytes payload = { 0 }, seen = { 0 };
	hex(digits, &payload);
	describe(&seen, 'T', payload.p, payload.n);
	snprintf(script, sizeof(script), "81#%s", digits);
	snprintf(expected, sizeof(expected), "%.*s", (int)seen.n, seen.p);
	check(digits, script, good ? expected : "F1007");
	free(payload.p);
	free(seen.p);
}

static void utf8_sequences(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(utf8_cases) / sizeof(utf8_cases[0]); i++)
		check_utf8(utf8_cases[i].hex, utf8_cases[i].good);
}

/* 6.22: the last two code points of every plane. */
static void utf8_plane_ends(void **state)
{
	(void)state;
	for (unsigned plane = 1; plane <= 16; plane++) {
		for (unsigned low = 0xfffe; low <= 0xffff; low++) {
			unsigned c = plane << 16 | low;
			char digits[16];
			snprintf(digits, sizeof(digits), "%02x%02x%02x%02x", 0xf0 | c >> 18,
					0x80 | (c >> 12 & 0x3f), 0x80 | (c >> 6 & 0x3f), 0x80 | (c & 0x3f));
			check_utf8(digits, 1);
		}
	}
}

/* ---- group 7: closing ----------------------------------------------------------------- */

static void closes(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "7.1.1", "81'Hello World!' 88#03e8", "T'Hello World!' C1000" },
		{ "7.1.2", "88#03e8 88#03e8", "C1000" },
		{ "7.1.3", "88#03e8 89''", "C1000" },
		{ "7.1.4", "88#03e8 81'Hello World!'", "C1000" },
		{ "7.1.5", "01'fragment1' 88#03e8 80'fragment2'", "C1000" },
		{ "7.1.6", "81*262144 88#03e8 89''", "T*262144 C1000" },
		{ "7.3.1", "88''", "C1005" },
		{ "7.3.2", "88'a'", "F1002" },
		{ "7.3.3", "88#03e8", "C1000" },
		{ "7.3.4", "88#03e8486f", "C1000Ho" },
		{ "7.3.6", "88*126", "F1002" },
		{ "7.5.1", "88#03e8cebae1bdb9cf83cebcceb5eda080656469746564", "F1007" },
		{ "a reason cut off in a character", "88#03e8ce", "F1007" },
		{ "7.13.1", "88#1388", "F1002" },
		{ "7.13.2", "88#ffff", "F1002" },
	};
	CHECK_ALL(cases);
}

static void long_close_reason(void **state)
{
	(void)state;
	char script[300], expected[200], stars[124];
	memset(stars, '*', sizeof(stars) - 1);
	stars[sizeof(stars) - 1] = 0;
	int n = snprintf(script, sizeof(script), "88#03e8");
	for (int i = 0; i < 123; i++)
		n += snprintf(script + n, sizeof(script) - (size_t)n, "2a");
	snprintf(expected, sizeof(expected), "C1000%s", stars);
	check("7.3.5", script, expected);
}

static void close_codes(void **state)
{
	(void)state;
	static const int good[] = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
		1014, 3000, 3999, 4000, 4999 };
	static const int bad[] = { 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
		65535 };
	char script[32], expected[32];
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(script, sizeof(script), "88#%04x", (unsigned)good[i]);
		snprintf(expected, sizeof(expected), "C%d", good[i]);
		check("7.7", script, expected);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(script, sizeof(script), "88#%04x", (unsigned)bad[i]);
		check("7.9", script, "F1002");
	}
}

/* ---- what no suite lists ----------------------------------------------------------------- */

static void lengths(void **state)
{
	(void)state;
	static const struct a_case cases[] = {
		{ "not masked", "=810548656c6c6f", "F1002" },
		{ "16 bits for 125", "=81fe007d00000000", "F1002" },
		{ "64 bits for 65,535", "=81ff000000000000ffff00000000", "F1002" },
		{ "64 bits for 5", "=82ff000000000000000500000000", "F1002" },
		{ "2^63", "=81ff8000000000000000", "F1002" },
		{ "2^63 - 1", "=81ff7fffffffffffffff", "F1009" },
		{ "4 GiB", "=82ff0000000100000000", "F1009" },
		{ "one too many", "=82ff0000000000100001", "F1009" },
		{ "one too many over two frames", "02*524288 80*524289", "F1009" },
		{ "just enough over two frames", "02*524288 80*524288", "B*1048576" },
	};
	CHECK_ALL(cases);
}

static void empty_fragments_are_counted(void **state)
{
	(void)state;
	struct bytes script = { 0 };
	add_text(&script, "01''");
	for (int i = 1; i < MAX_EMPTY; i++)
		add_text(&script, " 00''");
	struct bytes wire = { 0 };
	add(&wire, script.p, script.n);
	add(&wire, " 80'x'", sizeof(" 80'x'"));
	check("1,024 are fine", wire.p, "T'x'");
	wire.n = 0;
	add(&wire, script.p, script.n);
	add(&wire, " 80''", sizeof(" 80''"));
	check("1,025 are not", wire.p, "F1008");
	free(wire.p);
	free(script.p);
}

static void text_only(void **state)
{
	(void)state;
	struct bytes wire = script_bytes("81'a' 82'b'");
	struct run r = start(8192, 0);
	frame_init(&r.decoder, MAX_MESSAGE, MAX_EMPTY, 1);
	show(&r, wire.p, wire.n);
	expect(&r, "text only", "whole", "T'a' F1003");
	free(wire.p);
}

static void header_lengths(void **state)
{
	(void)state;
	static const struct {
		uint64_t n;
		size_t len;
		const char *bytes;
	} cases[] = {
		{ 0, 2, "\x81\x00" },
		{ 125, 2, "\x81\x7d" },
		{ 126, 4, "\x81\x7e\x00\x7e" },
		{ 65535, 4, "\x81\x7e\xff\xff" },
		{ 65536, 10, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char out[FRAME_HEADER_MAX];
		assert_int_equal(frame_header_len(cases[i].n), cases[i].len);
		assert_int_equal(frame_header(out, FRAME_TEXT, cases[i].n), cases[i].len);
		assert_memory_equal(out, cases[i].bytes, cases[i].len);
	}
}

static void close_frames(void **state)
{
	(void)state;
	char out[2 + FRAME_CONTROL_MAX], why[200];
	assert_int_equal(frame_close(out, FRAME_NO_CODE, "unsaid"), 2);
	assert_memory_equal(out, "\x88\x00", 2);
	assert_int_equal(frame_close(out, 1000, NULL), 4);
	assert_memory_equal(out, "\x88\x02\x03\xe8", 4);
	assert_int_equal(frame_close(out, 4500, "slow"), 8);
	assert_memory_equal(out, "\x88\x06\x11\x94slow", 8);
	memset(why, 'x', sizeof(why));
	why[sizeof(why) - 1] = 0;
	assert_int_equal(frame_close(out, 1002, why), 2 + FRAME_CONTROL_MAX);
	memcpy(why + 122, "\xc3\xb6", 2); /* straddles the limit of 123 bytes */
	assert_int_equal(frame_close(out, 1002, why), 2 + FRAME_CONTROL_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framing),
		cmocka_unit_test(pings_and_pongs),
		cmocka_unit_test(reserved_bits),
		cmocka_unit_test(opcodes),
		cmocka_unit_test(fragmentation),
		cmocka_unit_test(auto_fragmentation),
		cmocka_unit_test(text_in_fragments),
		cmocka_unit_test(bad_text_fails_at_once),
		cmocka_unit_test(utf8_sequences),
		cmocka_unit_test(utf8_plane_ends),
		cmocka_unit_test(closes),
		cmocka_unit_test(long_close_reason),
		cmocka_unit_test(close_codes),
		cmocka_unit_test(lengths),
		cmocka_unit_test(empty_fragments_are_counted),
		cmocka_unit_test(text_only),
		cmocka_unit_test(header_lengths),
		cmocka_unit_test(close_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
