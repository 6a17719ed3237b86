/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a frame between the plugin fetch and its helper.  What is taken lies within what was
 * given, within its bounds, and is the same once it has been made and read again. */
#include "wire.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(int good)
{
	if (!good) {
		abort();
	}
}

static int inside(struct chatd_str part, struct chatd_str all)
{
	return part.p >= all.p && part.n <= all.n && part.p + part.n <= all.p + all.n;
}

static void ask(struct chatd_str in)
{
	struct wire_ask q, again;
	uint16_t type;
	uint32_t n;
	if (wire_ask_read(&q, in) < 0) {
		return;
	}
	must(inside(q.method, in) && inside(q.url, in) && (!q.body.p || inside(q.body, in)));
	for (size_t i = 0; i < q.n_headers; i++) {
		must(inside(q.headers[i], in) && strlen(q.headers[i].p) == q.headers[i].n);
	}
	struct chatd_str f = wire_ask_make(&q);
	must(f.p && wire_head(f, &type, &n) == 1 && type == WIRE_ASK && f.n == WIRE_HEAD + (size_t)n);
	must(wire_ask_read(&again, chatd_str_of(f.p + WIRE_HEAD, n)) == 0 && again.id == q.id);
	must(n == in.n && memcmp(f.p + WIRE_HEAD, in.p, n) == 0);
	free((void *)(uintptr_t)f.p);
}

static void setup(struct chatd_str in)
{
	struct wire_setup s;
	if (wire_setup_read(&s, in) < 0) {
		return;
	}
	const char **lists[2] = { s.hosts, s.allow };
	for (int i = 0; i < 2; i++) {
		for (const char **one = lists[i]; *one; one++) {
			must(inside(chatd_str_of(*one, strlen(*one)), in));
		}
		free(lists[i]);
	}
	must(inside(s.ca, in) && s.ca.n <= WIRE_CA_MAX);
}

static void answer(struct chatd_str in, uint32_t n)
{
	struct wire_answer a;
	if (wire_answer_read(&a, in, n) < 0) {
		return;
	}
	must(WIRE_ANSWER_BYTES + (uint64_t)a.n_type + a.n_why + a.n_body == n);
	must(a.rc <= 0 && a.status >= 0 && a.status <= 999 && a.retry_after >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct chatd_str in = { (const char *)data, n };
	uint16_t type;
	uint32_t length, flaws;
	if (wire_head(in, &type, &length) <= 0) {
		return 0;
	}
	in.p += WIRE_HEAD;
	in.n -= WIRE_HEAD;
	answer(in, length);
	ask(in);
	setup(in);
	(void)wire_ready_read(&flaws, in);
	return 0;
}
