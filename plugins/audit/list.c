/* SPDX-License-Identifier: Apache-2.0 */
/* GET /api/audit: the entries, newest first. */
#include "audit.h"

enum { PAGE = 200, PAGES_MAX = 20, LIMIT_MAX = 1000, FILTERS = 4 };

/* What a query may ask for: these members have these values. */
static const char *const filters[FILTERS] = { "action", "actor", "target", "room" };

struct ask {
	struct chatd_ask a;
	int32_t limit, found, pages;
	char before[37];
	char want[FILTERS][CHATD_ID_MAX + 1]; /* "": any */
};

static void look(struct ask *a);

static int has_role(struct chatd_str roles, const char *word)
{
	size_t n = strlen(word);
	for (size_t i = 0; n && i + n <= roles.n; i++) {
		int begins = i == 0 || roles.p[i - 1] == ' ';
		int ends = i + n == roles.n || roles.p[i + n] == ' ';
		if (begins && ends && memcmp(roles.p + i, word, n) == 0) {
			return 1;
		}
	}
	return 0;
}

static int may_read(const struct ask *a)
{
	const struct self *self = a->a.self;
	if (self->h->ident_flags(a->a.who) & CHATD_ID_ADMIN) {
		return 1;
	}
	for (const char *const *r = self->conf->readers; *r; r++) {
		if (has_role(self->h->ident_roles(a->a.who), *r)) {
			return 1;
		}
	}
	return 0;
}

static int fits(const struct ask *a, struct chatd_str value)
{
	char why[CHATD_JSON_WHY];
	json_t *root = chatd_json_parse(value, why);
	int ok = root != NULL;
	for (int i = 0; ok && i < FILTERS; i++) {
		const char *is = json_string_value(json_object_get(root, filters[i]));
		ok = !a->want[i][0] || (is && strcmp(is, a->want[i]) == 0);
	}
	json_decref(root);
	return ok;
}

static int is_filtered(const struct ask *a)
{
	int any = 0;
	for (int i = 0; i < FILTERS; i++) {
		any |= a->want[i][0] != '\0';
	}
	return any;
}

static void finish(struct ask *a, int more)
{
	chatd_json_lit(&a->a.out, "]");
	if (more) {
		chatd_json_member(&a->a.out, "before", text(a->before));
	}
	chatd_json_lit(&a->a.out, "}");
	chatd_ask_answer(&a->a, 200);
}

static void on_page(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->a.under_way = 0;
	if (rc < 0 || !a->a.req) {
		chatd_ask_refused(&a->a, rc);
		return;
	}
	size_t i = 0;
	for (; i < s->n_records && a->found < a->limit; i++) {
		chatd_str_copy(a->before, sizeof(a->before), s->records[i].key);
		if (!is_filtered(a) || fits(a, s->records[i].value)) {
			chatd_json_next(&a->a.out);
			chatd_json_raw(&a->a.out, s->records[i].value.p, s->records[i].value.n);
			a->found++;
		}
	}
	int end = s->n_records == 0; /* a page may be short and not the last */
	if (end || a->found == a->limit || ++a->pages == PAGES_MAX) {
		finish(a, !end);
	} else {
		look(a);
	}
}

static void look(struct ask *a)
{
	const struct self *self = a->a.self;
	const struct chatd_store *store = self->store->vt;
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = PAGE,
		.space = CHATD_LIT(SPACE),
		.after = a->before[0] ? text(a->before) : chatd_str_of(NULL, 0),
		.down = 1,
		.wall = self->h->wall_ms() };
	chatd_ask_asked(&a->a, store->record_list(self->store->obj, a->a.w, &r, on_page, a));
}

static void run_list(struct chatd_ask *ap)
{
	struct ask *a = (struct ask *)ap;
	struct chatd_str before = ap->http->req_query(ap->req, "before");
	if (!may_read(a)) {
		chatd_ask_problem(ap, 403, "FORBIDDEN", "only administrators and auditors may read this");
		return;
	}
	if (before.p && (before.n != 36 || !chatd_id_ok(before))) {
		chatd_ask_bad_cursor(ap);
		return;
	}
	int32_t limit = chatd_ask_limit(ap, 100, LIMIT_MAX);
	if (!limit) {
		return;
	}
	a->limit = limit;
	for (int i = 0; i < FILTERS; i++) {
		chatd_str_copy(a->want[i], sizeof(a->want[i]), ap->http->req_query(ap->req, filters[i]));
	}
	chatd_str_copy(a->before, sizeof(a->before), before);
	chatd_json_lit(&ap->out, "{\"entries\":[");
	look(a);
}

chatd_status list_init(struct self *self)
{
	static const struct chatd_ask_route table[ROUTES] = {
		{ .method = CHATD_GET, .path = "/api/audit", .run = run_list, .size = sizeof(struct ask) },
	};
	self->routes[0] = (struct chatd_ask_route){ .self = self, .h = self->h, .http = self->http };
	return chatd_ask_routes(self->ctx, self->routes, table, ROUTES);
}
