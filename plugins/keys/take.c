/* SPDX-License-Identifier: Apache-2.0 */
/* POST /api/keys/{user}/prekeys: one one-time prekey of each device that is named, which nobody
 * else will get. */
#include "keys.h"

static json_t *list_of(const struct ask *a)
{
	return json_object_get(a->a.root, "devices");
}

static struct chatd_str item_of(const struct ask *a, size_t i)
{
	const json_t *v = json_array_get(list_of(a), i);
	return json_is_string(v) ? chatd_str_of(json_string_value(v), json_string_length(v))
							 : chatd_str_of("", 0);
}

static void next(struct ask *a);

static void on_left(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	ask_less(a);
	if (rc == 0 && (int64_t)s->n_records <= self_of(a)->conf->low_water) {
		tell_low(a, text(a->target), (int64_t)s->n_records);
	}
	next(a); /* what was taken is given in any case */
}

/* The key's last part is the prekey's id, with zeros before it. */
static int64_t id_of(struct chatd_str key)
{
	int64_t id = 0;
	for (size_t i = 0; i < key.n; i++) {
		id = key.p[i] == '/' ? 0 : id * 10 + (key.p[i] - '0');
	}
	return id;
}

static void on_taken(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (!ask_heard(a, rc == -ENOENT ? 0 : rc)) {
		return;
	}
	if (rc == 0) {
		const struct chatd_store_record *r = &s->records[0];
		struct chatd_str tail = chatd_str_of(r->key.p + r->key.n - 10, 10);
		chatd_json_next(&a->a.out);
		chatd_json_lit(&a->a.out, "{");
		chatd_json_member(&a->a.out, "deviceId", text(a->device));
		chatd_json_int(&a->a.out, "id", id_of(tail));
		chatd_json_member(&a->a.out, "key", r->value);
		chatd_json_lit(&a->a.out, "}");
	}
	record_count(a, text(a->target), self_of(a)->conf->low_water, on_left);
}

/* One after the other: .prekeys says how many were asked for. */
static void next(struct ask *a)
{
	char tail[DEVICE_ID_CHARS + 2];
	struct record_name name;
	/* Whoever has left must not use up what nobody will get. */
	if (!a->a.req || (size_t)a->prekeys == json_array_size(list_of(a))) {
		chatd_json_lit(&a->a.out, "]}");
		ask_answer(a, 200);
		return;
	}
	chatd_str_copy(a->device, sizeof(a->device), item_of(a, (size_t)a->prekeys++));
	snprintf(tail, sizeof(tail), "%s/", a->device);
	record_name(&name, text(a->target), tail);
	const struct chatd_store_record_key key = { .struct_size = sizeof(key),
		.prefix = 1,
		.space = SPACE_PREKEYS,
		.key = name.str,
		.wall = a->now };
	ask_asked(a, store_of(a)->record_take(self_of(a)->store->obj, a->a.w, &key, on_taken, a));
}

static void begin(struct ask *a)
{
	chatd_json_lit(&a->a.out, "{\"prekeys\":[");
	next(a);
}

static const char *fault_of(const struct ask *a)
{
	size_t n = json_array_size(list_of(a));
	if (!json_is_array(list_of(a)) || n == 0 || n > DEVICES_MAX) {
		return "devices must be a list of 1 to 20 ids of devices";
	}
	for (size_t i = 0; i < n; i++) {
		if (!chatd_id_ok(item_of(a, i)) || item_of(a, i).n != DEVICE_ID_CHARS) {
			return "devices must hold ids of devices, of 22 characters each";
		}
		for (size_t before = 0; before < i; before++) {
			if (chatd_str_same(item_of(a, i), item_of(a, before))) {
				return "devices names one twice";
			}
		}
	}
	return NULL;
}

void run_take(struct chatd_ask *base)
{
	struct ask *a = ask_begin(base);
	char why[CHATD_JSON_WHY];
	a->a.root = chatd_json_parse(a->a.http->req_body(a->a.req), why);
	if (!a->a.root) {
		ask_problem(a, 400, "VALIDATION", why);
		return;
	}
	const char *fault = fault_of(a);
	if (fault || !a->target[0]) {
		ask_problem(a, fault ? 422 : 404, fault ? "VALIDATION" : "NOT_FOUND",
				fault ? fault : "there is no such user");
		return;
	}
	int64_t rate = self_of(a)->conf->takes_per_minute;
	const struct budget budget = { "keys-take", rate, rate, (int64_t)json_array_size(list_of(a)) };
	ask_limited(a, &budget, begin);
}
