/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and bots: made, listed, revoked. */
#include "api.h"

#include <chatd-sdk/name.h>
#include <errno.h>

/* A key, and of a bot its account, being made. */
struct making {
	struct key key;
	char token[KEY_ID + KEY_SECRET + 8];
	char nick[NICK_MAX + 1];
};

static void making_free(struct job *j)
{
	/* The secret must not stay in memory that somebody else gets. */
	volatile char *p = ((struct making *)j->state)->token;
	for (size_t i = 0; i < sizeof(((struct making *)j->state)->token); i++) {
		p[i] = '\0';
	}
	j->self->h->mem_free(j->state);
}

static void write_key(struct chatd_json *out, const struct key *k)
{
	chatd_json_lit(out, "{");
	chatd_json_member(out, "id", text(k->id));
	chatd_json_member(out, "name", text(k->name));
	chatd_json_member(out, "bot", k->bot[0] ? text(k->bot) : chatd_str_of(NULL, 0));
	scopes_write(out, "scopes", k->scopes);
	chatd_json_int(out, "perMinute", k->per_minute);
	chatd_json_member(out, "createdBy", k->by[0] ? text(k->by) : chatd_str_of(NULL, 0));
	if (k->created) {
		chatd_json_time(out, "createdAt", k->created);
	}
	if (k->expires) {
		chatd_json_time(out, "expiresAt", k->expires);
	}
	if (k->fixed) {
		chatd_json_flag(out, "configured", 1);
	}
}

/* ---- made ---------------------------------------------------------------------------------- */

static void on_kept(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	const struct making *m = j->state;
	(void)a;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_failed(j, rc, "key");
		return;
	}
	audit(j, "key.create", text(m->key.id));
	write_key(&j->out, &m->key);
	chatd_json_member(&j->out, "key", text(m->token));
	chatd_json_lit(&j->out, "}");
	job_answer(j, 201);
}

static void keep(struct job *j)
{
	const struct making *m = j->state;
	char room[1024];
	struct chatd_json value;
	chatd_json_init(&value, room, sizeof(room));
	keys_write(&value, &m->key);
	struct chatd_store_record r = { .struct_size = sizeof(r),
		.how = CHATD_STORE_RECORD_NEW,
		.space = CHATD_LIT("api.key"),
		.key = text(m->key.id),
		.value = chatd_json_str(&value),
		.expires = m->key.expires,
		.wall = j->self->h->wall_ms() };
	if (m->key.bot[0]) {
		r.owner = text(m->key.bot);
		r.max = j->self->conf->max_keys;
	}
	j->under_way = 1;
	chatd_status rc = value.failed
			? -ENOMEM
			: store_of(j)->record_put(j->self->store->obj, j->w, &r, on_kept, j);
	chatd_json_free(&value);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "key");
	}
}

static const char *take_number(const json_t *root, const char *name, int64_t max, int64_t *to)
{
	const json_t *v = json_object_get(root, name);
	if (v && (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)) {
		return name[0] == 'p' ? "perMinute must be 1 to 10000000"
							  : "expiresIn must be 1 to 316224000 seconds, or be left out: never";
	}
	*to = v ? json_integer_value(v) : 0;
	return NULL;
}

/* NULL, or what is wrong with the body. */
static const char *take(struct job *j, struct making *m)
{
	const char *bad = NULL;
	int64_t expires_in = 0;
	struct chatd_str name = job_text(j, "name", &bad);
	if (!j->root || bad || name.n > KEY_NAME_MAX ||
			!chatd_text_seen(name, m->key.name, sizeof(m->key.name))) {
		return "name must be a string of 1 to 100 bytes, of which something is seen: what the key is "
			   "for";
	}
	const char *fault = scopes_read(json_object_get(j->root, "scopes"), &m->key.scopes);
	fault = fault ? fault : take_number(j->root, "expiresIn", 316224000, &expires_in);
	fault = fault ? fault : take_number(j->root, "perMinute", 10000000, &m->key.per_minute);
	if (fault) {
		return fault;
	}
	if (j->key.id[0] && (m->key.scopes & ~j->key.scopes)) {
		return "a key can give no scope that it has not itself";
	}
	chatd_str_copy(m->key.by, sizeof(m->key.by), j->self->h->ident_user(j->by));
	m->key.created = j->self->h->wall_ms();
	m->key.expires = expires_in ? m->key.created + expires_in * 1000 : 0;
	m->key.per_minute = m->key.per_minute ? m->key.per_minute : j->self->conf->per_minute;
	keys_make(j->self, &m->key, m->token);
	return NULL;
}

static struct making *making_of(struct job *j)
{
	struct making *m = j->self->h->mem_alloc(sizeof(*m));
	if (!m) {
		job_failed(j, -ENOMEM, "key");
		return NULL;
	}
	j->state = m;
	j->state_free = making_free;
	const char *fault = take(j, m);
	if (fault) {
		job_problem(j, 422, "VALIDATION", fault);
		return NULL;
	}
	return m;
}

void run_keys_make(struct job *j)
{
	if (making_of(j)) {
		keep(j);
	}
}

/* ---- bots ------------------------------------------------------------------------------------ */

static void on_bot(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_failed(j, rc, a->why == CHATD_STORE_NICK_TAKEN ? "nickname" : "user");
		return;
	}
	keep(j);
}

static void on_account(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct making *m = j->state;
	if (!job_back(j)) {
		return;
	}
	if (rc == 0 && !(a->accounts[0].flags & CHATD_ID_BOT)) {
		job_problem(j, 409, "EXISTS", "this is the account of a person; choose another userId");
	} else if (rc == 0) {
		keep(j); /* one more key for a bot that is there */
	} else if (rc == -ENOENT) {
		const struct chatd_account bot = { .struct_size = sizeof(bot),
			.id = text(m->key.bot),
			.nickname = text(m->nick),
			.flags = CHATD_ID_BOT,
			.created = j->self->h->wall_ms() };
		j->under_way = 1;
		rc = store_of(j)->account_create(j->self->store->obj, j->w, &bot, on_bot, j);
		if (rc < 0) {
			j->under_way = 0;
			job_failed(j, rc, "bot");
		}
	} else {
		job_failed(j, rc, "bot");
	}
}

void run_bots_make(struct job *j)
{
	const char *bad = NULL;
	struct making *m = making_of(j);
	struct chatd_str id, nick;
	if (!m) {
		return;
	}
	id = job_text(j, "userId", &bad);
	nick = job_text(j, "nickname", &bad);
	if (bad || !chatd_id_ok(id) || nick.n > NICK_MAX) {
		job_problem(j, 422, "VALIDATION",
				"userId must be 1 to 64 letters, digits, _ and -; nickname a string");
		return;
	}
	if (chatd_str_same(id, text(j->self->conf->sender))) {
		job_problem(j, 409, "EXISTS", sender_taken);
		return;
	}
	if (m->key.scopes & (SCOPE_AS | SCOPE_KEYS | SCOPE_BROADCAST | SCOPE_DISCONNECT)) {
		job_problem(j, 422, "VALIDATION",
				"a bot is nobody but itself: it cannot have as, keys, broadcast or disconnect");
		return;
	}
	chatd_str_copy(m->key.bot, sizeof(m->key.bot), id);
	if (chatd_name_clean(nick, m->nick, sizeof(m->nick)) <= 0) {
		chatd_str_copy(m->nick, sizeof(m->nick), text(m->key.name));
	}
	const struct chatd_store_account_key r = {
		.struct_size = sizeof(r), .by = CHATD_STORE_BY_ID, .key = id
	};
	j->under_way = 1;
	chatd_status rc = store_of(j)->account_get(j->self->store->obj, j->w, &r, on_account, j);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "bot");
	}
}

/* ---- listed ------------------------------------------------------------------------------------ */

struct listing {
	int32_t bots;
	struct chatd_json used; /* "ID DIGITS\n" of each */
};

static void listing_free(struct job *j)
{
	struct listing *l = j->state;
	chatd_json_free(&l->used);
	j->self->h->mem_free(l);
}

static int64_t used_at(const struct listing *l, const char *id)
{
	char mark[2 * KEY_ID + 4];
	int n = snprintf(mark, sizeof(mark), "\n%s ", id);
	const char *at = l->used.n ? memmem(l->used.p, l->used.n, mark, (size_t)n) : NULL;
	return at ? strtoll(at + n, NULL, 10) : 0;
}

static void write_listed(struct job *j, const struct key *k)
{
	const struct listing *l = j->state;
	int64_t used = used_at(l, k->id);
	if (l->bots && !k->bot[0]) {
		return;
	}
	chatd_json_next(&j->out);
	write_key(&j->out, k);
	if (used) {
		chatd_json_time(&j->out, "lastUsedAt", used);
	}
	chatd_json_lit(&j->out, "}");
}

static void on_keys(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct key k;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0) {
		job_failed(j, rc, "key");
		return;
	}
	chatd_json_lit(&j->out, "{\"keys\":[");
	for (size_t i = 0; i < j->self->conf->keys.n; i++) {
		write_listed(j, &j->self->fixed[i]);
	}
	for (size_t i = 0; i < a->n_records; i++) {
		if (keys_read(a->records[i].key, a->records[i].value, &k)) {
			write_listed(j, &k);
		}
	}
	chatd_json_lit(&j->out, "]}");
	job_answer(j, 200);
}

static void list(struct job *j, const char *space, chatd_store_fn *fn)
{
	const struct chatd_store_record_list r = { .struct_size = sizeof(r),
		.limit = LIST_MAX,
		.space = text(space),
		.wall = j->self->h->wall_ms() };
	j->under_way = 1;
	chatd_status rc = store_of(j)->record_list(j->self->store->obj, j->w, &r, fn, j);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "key");
	}
}

static void on_used(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	struct listing *l = j->state;
	if (!job_back(j)) {
		return;
	}
	for (size_t i = 0; rc == 0 && i < a->n_records; i++) {
		chatd_json_lit(&l->used, "\n");
		chatd_json_raw(&l->used, a->records[i].key.p, a->records[i].key.n);
		chatd_json_lit(&l->used, " ");
		chatd_json_raw(&l->used, a->records[i].value.p, a->records[i].value.n);
	}
	chatd_json_raw(&l->used, "", 1); /* strtoll() ends there */
	list(j, "api.key", on_keys);
}

static void begin_list(struct job *j, int32_t bots)
{
	struct listing *l = j->self->h->mem_alloc(sizeof(*l));
	if (!l) {
		job_failed(j, -ENOMEM, "list");
		return;
	}
	l->bots = bots;
	j->state = l;
	j->state_free = listing_free;
	list(j, "api.used", on_used);
}

void run_keys_list(struct job *j)
{
	begin_list(j, 0);
}

void run_bots_list(struct job *j)
{
	begin_list(j, 1);
}

/* ---- revoked ------------------------------------------------------------------------------------- */

static void on_ended(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct job *j = arg;
	if (!job_back(j)) {
		return;
	}
	if (rc < 0 || a->n < 1) {
		job_failed(j, rc < 0 ? rc : -ENOENT, "key");
		return;
	}
	audit(j, "key.revoke", text(j->as));
	job_answer(j, 204);
}

void run_keys_end(struct job *j)
{
	struct chatd_str id = http_of(j)->req_param(j->req, "id");
	for (size_t i = 0; i < j->self->conf->keys.n; i++) {
		if (chatd_str_same(id, text(j->self->fixed[i].id))) {
			job_problem(j, 409, "CONFIGURED",
					"this key is in the configuration of the server; take it out there");
			return;
		}
	}
	chatd_str_copy(j->as, sizeof(j->as), chatd_id_ok(id) ? id : CHATD_LIT("-"));
	const struct chatd_store_record_key r = { .struct_size = sizeof(r),
		.space = CHATD_LIT("api.key"),
		.key = text(j->as),
		.wall = j->self->h->wall_ms() };
	j->under_way = 1;
	chatd_status rc = store_of(j)->record_end(j->self->store->obj, j->w, &r, on_ended, j);
	if (rc < 0) {
		j->under_way = 0;
		job_failed(j, rc, "key");
	}
}
