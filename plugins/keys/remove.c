/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE /api/keys/devices/{id}: nobody encrypts for it any more, and it does not come back. */
#include "keys.h"

enum { REMEMBERED_DAYS = 400 };

static void on_ended(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	(void)s;
	if (ask_heard(a, rc)) {
		tell_changed(self_of(a), a->a.w, ask_user(a));
		ask_answer(a, 204);
	}
}

static void end(struct ask *a, struct chatd_str space, const struct record_name *name, int prefix)
{
	const struct chatd_store_record_key key = { .struct_size = sizeof(key),
		.prefix = prefix,
		.space = space,
		.key = name->str,
		.wall = a->now };
	ask_asked(a, store_of(a)->record_end(self_of(a)->store->obj, a->a.w, &key, on_ended, a));
}

static void on_noted(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	char tail[DEVICE_ID_CHARS + 2];
	struct record_name name;
	(void)s;
	if (!ask_heard(a, rc)) {
		return;
	}
	ask_more(a); /* one that is refused at once must not end the request under the other */
	record_name(&name, ask_user(a), a->device);
	end(a, SPACE_DEVICES, &name, 0);
	snprintf(tail, sizeof(tail), "%s/", a->device);
	record_name(&name, ask_user(a), tail);
	end(a, SPACE_PREKEYS, &name, 1);
	on_ended(a, 0, NULL);
}

static void note(struct ask *a)
{
	struct record_name name;
	record_name(&name, ask_user(a), a->device);
	const struct chatd_store_record r = { .struct_size = sizeof(r),
		.space = SPACE_REMOVED,
		.key = name.str,
		.value = CHATD_LIT("1"),
		.owner = ask_user(a),
		.expires = a->now + REMEMBERED_DAYS * INT64_C(86400000),
		.wall = a->now };
	ask_asked(a, store_of(a)->record_put(self_of(a)->store->obj, a->a.w, &r, on_noted, a));
}

static void on_found(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	static const struct budget budget = { "keys-change", 20, 2, 1 };
	struct ask *a = arg;
	(void)s;
	if (rc == -ENOENT) {
		ask_less(a);
		ask_problem(a, 404, "NOT_FOUND", "you have no such device");
	} else if (ask_heard(a, rc)) {
		ask_limited(a, &budget, note);
	}
}

void run_remove(struct chatd_ask *base)
{
	struct ask *a = ask_begin(base);
	struct record_name name;
	if (strlen(a->target) != DEVICE_ID_CHARS) {
		ask_problem(a, 404, "NOT_FOUND", "you have no such device");
		return;
	}
	chatd_str_copy(a->device, sizeof(a->device), text(a->target));
	record_name(&name, ask_user(a), a->device);
	const struct chatd_store_record_key key = {
		.struct_size = sizeof(key), .space = SPACE_DEVICES, .key = name.str, .wall = a->now
	};
	ask_asked(a, store_of(a)->record_get(self_of(a)->store->obj, a->a.w, &key, on_found, a));
}
