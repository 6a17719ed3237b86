/* SPDX-License-Identifier: Apache-2.0 */
/* PUT /api/keys: a device and more one-time prekeys of it. */
#include "keys.h"

static void answer(struct ask *a)
{
	chatd_json_lit(&a->a.out, "{");
	chatd_json_member(&a->a.out, "deviceId", text(a->device));
	chatd_json_int(&a->a.out, "prekeys", a->prekeys);
	chatd_json_lit(&a->a.out, "}");
	ask_answer(a, 200);
}

static void name_onetime(const struct ask *a, const json_t *item, struct record_name *ret)
{
	char tail[DEVICE_ID_CHARS + 16];
	snprintf(tail, sizeof(tail), "%s/%010lld", a->device, (long long)onetime_id(item));
	record_name(ret, ask_user(a), tail);
}

static void too_many(struct ask *a, int64_t has)
{
	char why[CHATD_JSON_WHY];
	int64_t max = self_of(a)->conf->max_prekeys;
	snprintf(why, sizeof(why), "prekeys: this device has %lld and may have %lld: send %lld at most",
			(long long)has, (long long)max, (long long)(max > has ? max - has : 0));
	ask_problem(a, 422, "VALIDATION", why);
}

static void on_taken_back(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	if (ask_heard(a, rc)) {
		too_many(a, self_of(a)->conf->max_prekeys);
	}
}

static void take_back(struct ask *a)
{
	struct record_name name;
	json_t *item;
	size_t i;
	ask_more(a);
	json_array_foreach (a->bundle.onetime, i, item) {
		name_onetime(a, item, &name);
		const struct chatd_store_record_key key = {
			.struct_size = sizeof(key), .space = SPACE_PREKEYS, .key = name.str, .wall = a->now
		};
		ask_asked(
				a, store_of(a)->record_end(self_of(a)->store->obj, a->a.w, &key, on_taken_back, a));
	}
	on_taken_back(a, 0, NULL);
}

/* Several requests at a time may each have found room: whoever sees too many then takes back what
 * it has brought. */
static void on_recounted(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (!ask_heard(a, rc)) {
		return;
	}
	if ((int64_t)s->n_records > self_of(a)->conf->max_prekeys) {
		take_back(a);
	} else {
		answer(a);
	}
}

static void brought(struct ask *a)
{
	if (json_array_size(a->bundle.onetime)) {
		record_count(a, ask_user(a), self_of(a)->conf->max_prekeys, on_recounted);
	} else {
		answer(a);
	}
}

static void on_onetime(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	a->prekeys += rc == 0;
	/* One that is there already came with a request whose answer was lost. */
	if (ask_heard(a, rc == -EEXIST ? 0 : rc)) {
		brought(a);
	}
}

static void put_onetimes(struct ask *a)
{
	const struct chatd_store *store = store_of(a);
	struct record_name name;
	json_t *item;
	size_t i;
	ask_more(a); /* one that is refused at once must not end the request under the others */
	json_array_foreach (a->bundle.onetime, i, item) {
		name_onetime(a, item, &name);
		const struct chatd_store_record r = { .struct_size = sizeof(r),
			.how = CHATD_STORE_RECORD_NEW,
			.space = SPACE_PREKEYS,
			.key = name.str,
			.value = onetime_key(item),
			.owner = ask_user(a),
			.expires = a->now + self_of(a)->conf->device_ttl,
			.wall = a->now };
		ask_asked(a, store->record_put(self_of(a)->store->obj, a->a.w, &r, on_onetime, a));
	}
	if (ask_heard(a, 0)) {
		brought(a);
	}
}

static void on_counted(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	if (!ask_heard(a, rc)) {
		return;
	}
	int64_t max = self_of(a)->conf->max_prekeys, more = (int64_t)json_array_size(a->bundle.onetime);
	a->prekeys = (int64_t)s->n_records;
	if (a->prekeys + more > max) {
		too_many(a, a->prekeys);
		return;
	}
	put_onetimes(a);
}

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	char why[CHATD_JSON_WHY];
	(void)s;
	if (rc == -EDQUOT) {
		ask_less(a);
		snprintf(why, sizeof(why),
				"you have all the devices that you may have; remove one of GET /api/keys by "
				"DELETE /api/keys/devices/{id}");
		ask_problem(a, 409, "TOO_MANY_DEVICES", why);
		return;
	}
	if (ask_heard(a, rc)) {
		if (a->is_new) {
			tell_changed(self_of(a), a->a.w, ask_user(a));
		}
		record_count(a, ask_user(a), self_of(a)->conf->max_prekeys, on_counted);
	}
}

/* What others see on one line, what only its owner does on the next. */
static void write_device(struct chatd_json *j, const struct ask *a)
{
	bundle_write(j, &a->bundle);
	chatd_json_lit(j, "\n{");
	chatd_json_member(j, "id", text(a->device));
	chatd_json_member(j, "name", a->bundle.name);
	chatd_json_member(j, "createdAt", text(a->created));
	chatd_json_lit(j, "}");
}

static void put_device(struct ask *a)
{
	int guest = (self_of(a)->h->ident_flags(a->a.who) & CHATD_ID_ANONYMOUS) != 0;
	struct record_name name;
	struct chatd_json j;
	char room[1024];
	record_name(&name, ask_user(a), a->device);
	chatd_json_init(&j, room, sizeof(room));
	write_device(&j, a);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.space = SPACE_DEVICES,
		.key = name.str,
		.value = chatd_json_str(&j),
		.owner = ask_user(a),
		.expires = a->now + self_of(a)->conf->device_ttl,
		.max = guest ? 1 : self_of(a)->conf->max_devices,
		.wall = a->now };
	ask_asked(a,
			j.failed ? -ENOMEM
					 : store_of(a)->record_put(self_of(a)->store->obj, a->a.w, &r, on_put, a));
	chatd_json_free(&j);
}

/* Since when the device is there stays, in what put_device() stored. */
static void keep_created(struct ask *a, struct chatd_str value)
{
	char why[CHATD_JSON_WHY];
	struct chatd_str line = device_line(value, 1);
	json_t *own = chatd_json_parse(line, why);
	const char *at = json_string_value(json_object_get(own, "createdAt"));
	chatd_str_copy(a->created, sizeof(a->created), text(at ? at : "?"));
	json_decref(own);
}

static void on_before(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	static const struct budget budget = { "keys-change", 20, 2, 1 };
	struct ask *a = arg;
	if (!ask_heard(a, rc == -ENOENT ? 0 : rc)) {
		return;
	}
	if (rc == 0) {
		keep_created(a, s->records[0].value);
		put_device(a);
	} else {
		a->is_new = 1;
		chatd_time_iso(a->now, a->created);
		ask_limited(a, &budget, put_device);
	}
}

static void get(struct ask *a, struct chatd_str space, chatd_store_fn *fn)
{
	struct record_name name;
	record_name(&name, ask_user(a), a->device);
	const struct chatd_store_record_key key = {
		.struct_size = sizeof(key), .space = space, .key = name.str, .wall = a->now
	};
	ask_asked(a, store_of(a)->record_get(self_of(a)->store->obj, a->a.w, &key, fn, a));
}

static void on_removed(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	if (rc == 0) {
		ask_less(a);
		ask_problem(a, 409, "DEVICE_REMOVED",
				"this device was removed by its owner: make new keys to use end-to-end encryption "
				"on it again");
		return;
	}
	if (ask_heard(a, rc == -ENOENT ? 0 : rc)) {
		get(a, SPACE_DEVICES, on_before);
	}
}

void run_put(struct chatd_ask *base)
{
	struct ask *a = ask_begin(base);
	char why[CHATD_JSON_WHY];
	int guest = (self_of(a)->h->ident_flags(a->a.who) & CHATD_ID_ANONYMOUS) != 0;
	if (guest && !self_of(a)->conf->guests) {
		ask_problem(a, 403, "FORBIDDEN",
				"this server has end-to-end encryption for registered accounts only");
		return;
	}
	a->a.root = chatd_json_parse(a->a.http->req_body(a->a.req), why);
	if (!a->a.root) {
		ask_problem(a, 400, "VALIDATION", why);
		return;
	}
	if (!bundle_read(a->a.root, ask_user(a), &a->bundle, why)) {
		ask_problem(a, 422, "VALIDATION", why);
		return;
	}
	chatd_str_copy(a->device, sizeof(a->device), text(a->bundle.id));
	get(a, SPACE_REMOVED, on_removed);
}
