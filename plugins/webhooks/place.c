/* SPDX-License-Identifier: Apache-2.0 */
#include "out.h"

struct kept {
	int64_t pos, upto, fails, until, since;
	struct chatd_str owner, error;
};
static const struct chatd_json_field fields[] = {
	{ "pos", CHATD_J_INT, offsetof(struct kept, pos) },
	{ "upto", CHATD_J_INT, offsetof(struct kept, upto) },
	{ "fails", CHATD_J_INT, offsetof(struct kept, fails) },
	{ "until", CHATD_J_INT, offsetof(struct kept, until) },
	{ "since", CHATD_J_INT, offsetof(struct kept, since) },
	{ "owner", CHATD_J_TEXT, offsetof(struct kept, owner) },
	{ "error", CHATD_J_TEXT, offsetof(struct kept, error) },
	{ NULL, 0, 0 },
};

void place_write(struct chatd_json *j, const struct place *p)
{
	chatd_json_lit(j, "{");
	chatd_json_int(j, "pos", p->pos);
	chatd_json_int(j, "upto", p->upto);
	chatd_json_int(j, "fails", p->fails);
	chatd_json_int(j, "until", p->until);
	chatd_json_int(j, "since", p->since);
	chatd_json_member(j, "owner", text(p->owner));
	chatd_json_member(j, "error", text(p->error));
	chatd_json_lit(j, "}");
}

int place_read(struct chatd_str value, struct place *ret)
{
	struct kept k = { .pos = -1 };
	char why[CHATD_JSON_WHY];
	json_t *root;
	if (chatd_json_read(value, fields, &k, &root, why) < 0) {
		return 0;
	}
	*ret = (struct place){
		.pos = k.pos, .upto = k.upto, .fails = k.fails, .until = k.until, .since = k.since
	};
	chatd_str_copy(ret->owner, sizeof(ret->owner), k.owner);
	chatd_str_copy(ret->error, sizeof(ret->error), k.error);
	json_decref(root);
	return k.pos >= 0;
}

int64_t place_backoff(const struct conf *conf, int64_t fails, int64_t asked, uint32_t random)
{
	int64_t ms = conf->retry_min;
	for (int64_t i = 1; i < fails && ms < conf->retry_max; i++) {
		ms *= 2;
	}
	ms = asked > ms ? asked : ms;
	ms = ms < conf->retry_max ? ms : conf->retry_max;
	/* Many targets that went away together do not come back together. */
	return ms - ms / 5 + (int64_t)(random % 1000) * (ms / 5) / 1000;
}
