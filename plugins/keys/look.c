/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/keys/{user}: the devices that one may write to.  GET /api/keys: one's own, to manage. */
#include "keys.h"

struct chatd_str device_line(struct chatd_str value, int which)
{
	const char *end = memchr(value.p, '\n', value.n);
	size_t n = end ? (size_t)(end - value.p) : value.n;
	return which == 0 ? chatd_str_of(value.p, n)
					  : chatd_str_of(value.p + n + (end != NULL), value.n - n - (end != NULL));
}

static void on_devices(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (!ask_heard(a, rc)) {
		return;
	}
	chatd_json_lit(&a->a.out, "{");
	chatd_json_member(&a->a.out, "userId", text(a->target));
	chatd_json_key(&a->a.out, "devices");
	chatd_json_lit(&a->a.out, "[");
	for (size_t i = 0; i < s->n_records; i++) {
		struct chatd_str line = device_line(s->records[i].value, 0);
		chatd_json_next(&a->a.out);
		chatd_json_raw(&a->a.out, line.p, line.n);
	}
	chatd_json_lit(&a->a.out, "]}");
	ask_answer(a, 200);
}

/* Somebody who does not exist has no devices, like somebody who never made any. */
void run_get(struct chatd_ask *base)
{
	struct ask *a = ask_begin(base);
	struct record_name name;
	record_name(&name, text(a->target), "");
	record_list(a, SPACE_DEVICES, &name, on_devices);
}

static void on_own(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (!ask_heard(a, rc)) {
		return;
	}
	chatd_json_lit(&a->a.out, "{\"devices\":[");
	for (size_t i = 0; i < s->n_records; i++) {
		struct chatd_str line = device_line(s->records[i].value, 1);
		chatd_json_next(&a->a.out);
		chatd_json_raw(&a->a.out, line.p, line.n ? line.n - 1 : 0);
		chatd_json_time(&a->a.out, "seenAt", s->records[i].wall);
		chatd_json_lit(&a->a.out, "}");
	}
	chatd_json_lit(&a->a.out, "]}");
	ask_answer(a, 200);
}

void run_own(struct chatd_ask *base)
{
	struct ask *a = ask_begin(base);
	struct record_name name;
	record_name(&name, ask_user(a), "");
	record_list(a, SPACE_DEVICES, &name, on_own);
}
