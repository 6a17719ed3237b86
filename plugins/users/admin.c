/* SPDX-License-Identifier: Apache-2.0 */
/* The first administrator: who can read the server's log, or its folder, names one.
 *
 * As long as no account has the role, there is a code: in data_dir/admin.code, so that it is
 * the same after a restart, and as its SHA-256 in the store, where it can be taken once. */
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

enum {
	SECRET_ADMIN = 201, /* kind of the store's secret */
	TRIES = 5,          /* wrong codes in TRIES_MS, on each worker */
	TRIES_MS = 60000,
	AGAIN_MS = 1000,
	PATH_ROOM = 4096,
	HASH_ROOM = 65,
};
/* Whose the secret is: nobody's, and so putting one replaces the one before. */
#define NOBODY CHATD_LIT("-the-first-administrator-")

struct boot {
	struct self *self;
	chatd_worker *w;
	chatd_watch *timer;
	int32_t under_way, dead; /* dead: whoever answers next frees it */
	int32_t remove;          /* the file, instead of reading or making it */
	int rc, fresh;           /* of the work */
	char path[PATH_ROOM], code[CODE_CHARS + 1];
};

static void hash_of(const char *code, char ret[HASH_ROOM])
{
	unsigned char raw[crypto_hash_sha256_BYTES];
	crypto_hash_sha256(raw, (const unsigned char *)code, strlen(code));
	sodium_bin2hex(ret, HASH_ROOM, raw, sizeof(raw));
}

/* Hex digits in any case, with dashes and spaces between them; 0: it is none. */
static int read_code(struct chatd_str s, char ret[CODE_CHARS + 1])
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		char c = (char)(s.p[i] >= 'A' && s.p[i] <= 'F' ? s.p[i] + 32 : s.p[i]);
		if (c == '-' || c == ' ' || c == '\n') {
			continue;
		}
		if (n == CODE_CHARS || !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
			return 0;
		}
		ret[n++] = c;
	}
	ret[n] = '\0';
	return n == CODE_CHARS;
}

/* ---- the file: on the pool, where it may take its time ------------------------------ */

static int read_file(struct boot *b)
{
	char raw[128];
	int fd = open(b->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		return -errno;
	}
	ssize_t n = read(fd, raw, sizeof(raw));
	close(fd);
	return n > 0 && read_code(chatd_str_of(raw, (size_t)n), b->code) ? 0 : -EBADMSG;
}

static int write_file(struct boot *b)
{
	unsigned char raw[CODE_CHARS / 2];
	b->self->h->random(raw, sizeof(raw));
	sodium_bin2hex(b->code, sizeof(b->code), raw, sizeof(raw));
	int fd = open(b->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return -errno;
	}
	b->code[CODE_CHARS] = '\n';
	int rc = write(fd, b->code, CODE_CHARS + 1) == CODE_CHARS + 1 && fsync(fd) == 0 ? 0 : -EIO;
	b->code[CODE_CHARS] = '\0';
	close(fd);
	if (rc < 0) {
		unlink(b->path);
	}
	return rc;
}

static void file_work(void *arg)
{
	struct boot *b = arg;
	if (b->remove) {
		unlink(b->path);
		b->rc = 0;
		return;
	}
	b->rc = read_file(b);
	if (b->rc == -EBADMSG) { /* half written by a start that was killed */
		unlink(b->path);
		b->rc = -ENOENT;
	}
	if (b->rc == -ENOENT) {
		b->rc = write_file(b);
	}
}

/* ---- at the start -------------------------------------------------------------------- */

static void ask_again(struct boot *b);

static void boot_free(struct boot *b)
{
	sodium_memzero(b->code, sizeof(b->code));
	b->self->h->mem_free(b);
}

/* 0: the worker has ended meanwhile. */
static int answered(struct boot *b)
{
	b->under_way = 0;
	if (b->dead) {
		boot_free(b);
		return 0;
	}
	return 1;
}

static void on_put(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct boot *b = arg;
	(void)s;
	if (!answered(b)) {
		return;
	}
	if (rc < 0) {
		ask_again(b);
		return;
	}
	b->self->h->log(b->self->ctx, CHATD_LOG_WARN,
			"there is no administrator yet: log in as the one who shall be, and POST "
			"{\"code\":\"%s\"} to /api/users/me/admin (the code is in %s, too)",
			b->code, b->path);
	sodium_memzero(b->code, sizeof(b->code));
}

static void file_done(void *arg)
{
	struct boot *b = arg;
	char hash[HASH_ROOM];
	if (!answered(b) || b->remove) {
		return;
	}
	if (b->rc < 0) {
		b->self->h->log(b->self->ctx, CHATD_LOG_ERROR,
				"there is no administrator, and no code to name one: %s cannot be written (%s)",
				b->path, strerror(-b->rc));
		return;
	}
	hash_of(b->code, hash);
	struct chatd_store_secret r = { .struct_size = sizeof(r),
		.kind = SECRET_ADMIN,
		.hash = text(hash),
		.user = NOBODY,
		.expires = INT64_MAX };
	const struct chatd_store *store = b->self->store->vt;
	b->under_way = store->secret_put(b->self->store->obj, b->w, &r, on_put, b) == 0;
	if (!b->under_way) {
		ask_again(b);
	}
}

static void on_admin(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct boot *b = arg;
	(void)s;
	if (!answered(b)) {
		return;
	}
	if (rc < 0 && rc != -ENOENT) {
		ask_again(b);
		return;
	}
	b->remove = rc == 0;
	b->under_way = b->self->h->offload(b->w, file_work, file_done, b) == 0;
	if (!b->under_way) {
		ask_again(b);
	}
}

static void look(void *arg)
{
	struct boot *b = arg;
	const struct chatd_store *store = b->self->store->vt;
	struct chatd_store_account_key key = {
		.struct_size = sizeof(key), .by = CHATD_STORE_BY_ROLE, .key = CHATD_LIT("admin")
	};
	b->self->h->unwatch(b->timer);
	b->timer = NULL;
	b->under_way = store->account_get(b->self->store->obj, b->w, &key, on_admin, b) == 0;
	if (!b->under_way) {
		ask_again(b);
	}
}

static void ask_again(struct boot *b)
{
	b->timer = b->self->h->watch_time(b->w, AGAIN_MS, 0, look, b);
}

struct boot *boot_create(struct self *self, chatd_worker *w)
{
	struct boot *b = self->h->mem_alloc(sizeof(*b));
	if (!b) {
		return NULL;
	}
	b->self = self;
	b->w = w;
	int n = snprintf(b->path, sizeof(b->path), "%s/admin.code", self->h->data_dir());
	if (n < 0 || (size_t)n >= sizeof(b->path)) {
		self->h->mem_free(b);
		return NULL;
	}
	look(b);
	return b;
}

void boot_destroy(struct boot *b)
{
	if (!b) {
		return;
	}
	b->self->h->unwatch(b->timer);
	b->dead = 1;
	if (!b->under_way) {
		boot_free(b);
	}
}

/* ---- the code is presented ----------------------------------------------------------- */

struct removal {
	const struct chatd_host *h;
	char path[PATH_ROOM];
};

static void remove_work(void *arg)
{
	unlink(((struct removal *)arg)->path);
}

static void remove_done(void *arg)
{
	struct removal *r = arg;
	r->h->mem_free(r);
}

/* What is left of it would be removed by the next start. */
static void remove_file(const struct ask *a)
{
	struct removal *r = a->self->h->mem_alloc(sizeof(*r));
	if (!r) {
		return;
	}
	r->h = a->self->h;
	snprintf(r->path, sizeof(r->path), "%s/admin.code", r->h->data_dir());
	if (r->h->offload(a->w, remove_work, remove_done, r) < 0) {
		r->h->mem_free(r);
	}
}

static struct tries *tries_of(const struct ask *a)
{
	struct local *l = a->self->h->worker_self(a->self->ctx, a->w);
	int64_t now = a->self->h->now_ms(a->w);
	if (!l->tries.since || now - l->tries.since >= TRIES_MS) {
		l->tries = (struct tries){ .since = now };
	}
	return &l->tries;
}

static void on_made(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc < 0) {
		a->self->h->log(a->self->ctx, CHATD_LOG_ERROR,
				"the first administrator's code was right, but the role could not be stored; "
				"restart the server, and it is good again");
		ask_refused(a, rc, s);
		return;
	}
	audit(a,
			&(struct audit){ .action = "first-admin",
					.target = ask_user(a),
					.roles = s->accounts[0].roles });
	remove_file(a);
	live_roles(a, ask_user(a), s->accounts[0].roles);
	write_own(a, &s->accounts[0]);
	ask_answer(a, 200);
}

static void on_taken(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	a->under_way = 0;
	if (rc == -ENOENT) {
		tries_of(a)->n++;
		audit(a, &(struct audit){ .action = "first-admin-refused" });
		ask_problem(a, 403, "WRONG_CODE", "this is not the code, or it was used already");
		return;
	}
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	struct chatd_store_account_update u = { .struct_size = sizeof(u),
		.id = ask_user(a),
		.set = CHATD_STORE_ACCOUNT_ROLES,
		.roles = text(a->roles) };
	ask_asked(a, store_of(a)->account_update(a->self->store->obj, a->w, &u, on_made, a));
}

/* Found by its hash: how long that takes says nothing about the code. */
static void take_code(void *arg, chatd_status rc, const struct chatd_store_answer *s)
{
	struct ask *a = arg;
	char hash[HASH_ROOM];
	a->under_way = 0;
	if (rc < 0) {
		ask_refused(a, rc, s);
		return;
	}
	struct chatd_str had = s->accounts[0].roles;
	if (had.n > ROLES_MAX - sizeof(" admin")) {
		had = chatd_str_of(NULL, 0);
	}
	snprintf(a->roles, sizeof(a->roles), "%.*s%s%s", (int)had.n, had.p ? had.p : "",
			had.n ? " " : "", has_word(had, "admin") ? "" : "admin");
	hash_of(a->reason, hash);
	sodium_memzero(a->reason, sizeof(a->reason));
	struct chatd_store_secret r = { .struct_size = sizeof(r),
		.kind = SECRET_ADMIN,
		.hash = text(hash),
		.wall = a->self->h->wall_ms() };
	ask_asked(a, store_of(a)->secret_take(a->self->store->obj, a->w, &r, on_taken, a));
}

void run_admin(struct ask *a)
{
	static const struct chatd_json_field fields[] = { { "code", CHATD_J_TEXT, 0 }, { NULL, 0, 0 } };
	struct chatd_str code = { NULL, 0 };
	json_t *root;
	if (ask_flags(a) & CHATD_ID_ANONYMOUS) {
		ask_problem(a, 403, "FORBIDDEN", "a guest cannot be an administrator; register first");
		return;
	}
	if (tries_of(a)->n >= TRIES) {
		(void)http_of(a)->header(a->req, "Retry-After", CHATD_LIT("60"));
		ask_problem(a, 429, "RATE_LIMIT_EXCEEDED", "too many wrong codes; wait a minute");
		return;
	}
	if (!ask_body(a, fields, &code, &root)) {
		return;
	}
	char plain[CODE_CHARS + 1];
	int is_code = code.p && read_code(code, plain);
	json_decref(root);
	if (!code.p) {
		ask_problem(a, 422, "VALIDATION", "code is missing: the one that the server's log names");
	} else if (!is_code) {
		tries_of(a)->n++;
		ask_problem(a, 403, "WRONG_CODE", "this is not the code, or it was used already");
	} else {
		memcpy(a->reason, plain, sizeof(plain));
		ask_account(a, ask_user(a), take_code);
	}
	sodium_memzero(plain, sizeof(plain));
}
