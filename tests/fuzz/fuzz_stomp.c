/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a STOMP stream: cut in pieces or whole, the same frames and the same fault
 * come out.  The first octet chooses the version, the second the pieces.  With clang:
 *   clang -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Iplugins/stomp \
 *       tests/fuzz/fuzz_stomp.c plugins/stomp/parser.c plugins/stomp/text.c
 */
#include "parser.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;
	for (size_t i = 0; i < n; i++) {
		h = (h ^ s[i]) * UINT64_C(0x100000001b3);
	}
	return (h ^ n) * UINT64_C(0x100000001b3);
}

static uint64_t mix_frame(uint64_t h, const struct stomp_frame *f)
{
	h = mix(h, f->verb.p, f->verb.n);
	for (size_t i = 0; i < f->n; i++) {
		h = mix(h, f->header[i].name.p, f->header[i].name.n);
		h = mix(h, f->header[i].value.p, f->header[i].value.n);
	}
	return mix(h, f->body.p, f->body.n);
}

/** What comes of @p n octets in pieces of up to @p step, each in a block of its own. */
static uint64_t run(uint32_t version, const uint8_t *data, size_t n, size_t step)
{
	struct stomp_frame *f = malloc(sizeof(*f));
	struct parser_rules rules = { .max_frame = 600, .max_headers = 8, .version = version };
	struct parser p = { 0 };
	uint64_t h = 0;
	enum parser_result rc = PARSER_MORE;
	for (size_t i = 0; f && i < n && rc != PARSER_FAULT; i += step) {
		size_t piece = n - i < step ? n - i : step;
		char *copy = malloc(piece);
		if (!copy) {
			break;
		}
		memcpy(copy, data + i, piece);
		struct chatd_str in = chatd_str_of(copy, piece);
		while ((rc = parser_feed(&p, &rules, &in, f)) == PARSER_FRAME) {
			h = mix_frame(h, f);
			parser_done(&p);
		}
		if (p.cap > rules.max_frame || (rc == PARSER_MORE && in.n)) {
			abort();
		}
		free(copy);
	}
	if (f && rc == PARSER_FAULT) {
		h = mix(h, f->detail, strlen(f->detail));
	}
	parser_done(&p);
	free(f);
	return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint32_t versions[] = { 0, 10, 11, 12 };
	if (n < 3) {
		return 0;
	}
	uint32_t version = versions[data[0] % 4];
	size_t step = 1 + data[1] % 64;
	if (run(version, data + 2, n - 2, n) != run(version, data + 2, n - 2, step)) {
		abort();
	}
	return 0;
}
