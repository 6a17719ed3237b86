/* SPDX-License-Identifier: Apache-2.0 */
#include "pieces.h"

#include "s3.h"
#include "seal.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { INFO_BYTES = 4096, S3_NAME = PIECE_NAME + 8, OFFSET = 16, RANDOM = 64 };
#define INFO ".info"
#define OVER \
	0 /* of this length is none: it is a file, or is no more; its pieces are on their way out */

struct piece {
	int64_t from, n;
	char name[PIECE_NAME];
};

struct pieces {
	struct piece *piece;
	size_t n, cap;
	int over; /* there are more, or there is no memory for them */
};

/* ---- where they lie ------------------------------------------------------------------------ */

static const char *s3_name(const char *name, char ret[S3_NAME])
{
	snprintf(ret, S3_NAME, "tus/%s", name);
	return ret;
}

typedef int name_fn(void *arg, const char *name); /* 0: go on */

static void list_folder(const struct dir *d, const char *prefix, name_fn *fn, void *arg)
{
	char folder[DIR_PATH];
	struct dirent *e;
	dir_path(d, "tus", ".", folder);
	DIR *dir = opendir(folder);
	while (dir && (e = readdir(dir))) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && fn(arg, e->d_name)) {
			break;
		}
	}
	if (dir) {
		closedir(dir);
	}
}

struct listing {
	const char *prefix;
	name_fn *fn;
	void *arg;
};

static int with_prefix(void *arg, const char *rest)
{
	const struct listing *l = arg;
	char name[PIECE_NAME];
	int n = snprintf(name, sizeof(name), "%s%s", l->prefix, rest);
	return n < (int)sizeof(name) && l->fn(l->arg, name);
}

static chatd_status list_before(
		struct self *self, const char *prefix, int64_t before, name_fn *fn, void *arg)
{
	char name[S3_NAME];
	struct listing l = { prefix, fn, arg };
	if (!self->s3) {
		list_folder(&self->dir, prefix, fn, arg);
		return 0;
	}
	return s3_list(self->s3, s3_name(prefix, name), before, with_prefix, &l);
}

static chatd_status list_all(struct self *self, const char *prefix, name_fn *fn, void *arg)
{
	return list_before(self, prefix, INT64_MAX, fn, arg);
}

static chatd_status remove_one(struct self *self, const char *name)
{
	char path[DIR_PATH];
	if (self->s3) {
		return s3_remove(self->s3, s3_name(name, path));
	}
	dir_path(&self->dir, "tus", name, path);
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* To be read from the beginning; or a negative errno. */
static int open_piece(struct self *self, const char *name, int64_t most)
{
	char path[DIR_PATH], there[S3_NAME];
	if (!self->s3) {
		dir_path(&self->dir, "tus", name, path);
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		return fd < 0 ? -errno : fd;
	}
	dir_path(&self->dir, "tmp", ".", path);
	int fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	chatd_status rc = fd < 0 ? -errno : s3_get_file(self->s3, s3_name(name, there), fd, most);
	if (rc < 0 && fd >= 0) {
		close(fd);
	}
	return rc < 0 ? rc : fd;
}

/* ---- what it is of ------------------------------------------------------------------------- */

static void info_name(const struct self *self, const char *id, char ret[PIECE_NAME])
{
	snprintf(ret, PIECE_NAME, "%.*s" INFO "%s", (int)PARTIAL_ID, id, self->seals ? ".sealed" : "");
}

static chatd_status write_small(struct self *self, const char *name, const char *p, size_t n)
{
	char path[DIR_PATH], part[DIR_PATH], temp[RANDOM_NAME], there[S3_NAME];
	if (self->s3) {
		return s3_put(self->s3, s3_name(name, there), p, n);
	}
	random_name(self, temp);
	int fd = dir_temp(&self->dir, temp);
	if (fd < 0) {
		return fd;
	}
	dir_path(&self->dir, "tmp", temp, part);
	dir_path(&self->dir, "tus", name, path);
	chatd_status rc = write(fd, p, n) == (ssize_t)n ? 0 : -ENOSPC;
	close(fd);
	rc = rc == 0 && rename(part, path) < 0 ? -errno : rc;
	if (rc < 0) {
		unlink(part);
	}
	return rc;
}

static chatd_status put_info(struct self *self, const struct partial *p)
{
	char room[INFO_BYTES], name[PIECE_NAME];
	struct chatd_json j;
	info_name(self, p->id, name);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "owner", text(p->owner));
	chatd_json_member(&j, "name", text(p->name));
	chatd_json_int(&j, "length", p->length);
	chatd_json_int(&j, "touched", self->h->wall_ms() / 1000);
	chatd_json_lit(&j, "}");
	char *sealed = NULL;
	size_t n = j.n;
	chatd_status rc = j.failed ? -ENOMEM
			: self->seals      ? seal_small(self, name, j.p, &n, &sealed)
							   : 0;
	rc = rc < 0 ? rc : write_small(self, name, sealed ? sealed : j.p, n);
	free(sealed);
	chatd_json_free(&j);
	return rc;
}

static chatd_status parse_info(const char *room, size_t n, struct partial *p)
{
	char why[CHATD_JSON_WHY];
	json_t *j = chatd_json_parse(chatd_str_of(room, n), why);
	const char *owner = json_string_value(json_object_get(j, "owner"));
	const char *name = json_string_value(json_object_get(j, "name"));
	json_t *length = json_object_get(j, "length");
	chatd_status rc = owner && name && json_is_integer(length) ? 0 : -EIO;
	rc = rc == 0 && json_integer_value(length) == OVER ? -ENOENT : rc;
	if (rc == 0) {
		chatd_str_copy(p->owner, sizeof(p->owner), text(owner));
		chatd_str_copy(p->name, sizeof(p->name), text(name));
		p->length = json_integer_value(length);
		p->touched = json_integer_value(json_object_get(j, "touched"));
	}
	json_decref(j);
	return rc;
}

static chatd_status get_info(struct self *self, struct partial *p)
{
	char room[INFO_BYTES], name[PIECE_NAME];
	struct stat st;
	info_name(self, p->id, name);
	int fd = open_piece(self, name, INFO_BYTES);
	if (fd < 0) {
		return fd;
	}
	chatd_status rc = fstat(fd, &st) < 0 || st.st_size > INFO_BYTES ? -EIO : 0;
	size_t n = rc == 0 ? (size_t)st.st_size : 0;
	rc = rc < 0 ? rc : read_fully(fd, 0, room, n);
	close(fd);
	rc = rc == 0 && self->seals ? seal_open_small(self, name, room, &n) : rc;
	rc = rc < 0 ? rc : parse_info(room, n, p);
	if (rc == 0 && !self->s3) {
		p->touched = st.st_mtime;
	}
	return rc;
}

/* ---- pieces -------------------------------------------------------------------------------- */

static int read_hex(const char *p, size_t n, int64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < n; i++) {
		const char *digits = "0123456789abcdef", *at = p[i] ? strchr(digits, p[i]) : NULL;
		if (!at) {
			return 0;
		}
		*ret = *ret * 16 + (at - digits);
	}
	return *ret >= 0;
}

/* ID.OFFSET.RANDOM[.sealed].LENGTH */
static int note_piece(void *arg, const char *name)
{
	struct pieces *all = arg;
	struct piece piece;
	size_t n = strlen(name);
	if (n >= PIECE_NAME || n < PARTIAL_ID + 2 * (OFFSET + 1) || name[n - OFFSET - 1] != '.' ||
			!read_hex(name + PARTIAL_ID + 1, OFFSET, &piece.from) ||
			!read_hex(name + n - OFFSET, OFFSET, &piece.n) || piece.n < 1 ||
			piece.n > INT64_MAX - piece.from) {
		return 0; /* the information */
	}
	if (all->n == all->cap) {
		size_t cap = all->cap ? 10 * all->cap : 10;
		void *more = cap <= PIECES_MAX ? realloc(all->piece, cap * sizeof(piece)) : NULL;
		if (!more) {
			all->over = 1;
			return 1;
		}
		all->piece = more;
		all->cap = cap;
	}
	memcpy(piece.name, name, n + 1);
	all->piece[all->n++] = piece;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;
	if (x->from != y->from) {
		return x->from < y->from ? -1 : 1;
	}
	return x->n > y->n ? -1 : x->n < y->n;
}

/* Those that follow one another; how far they reach. */
static int64_t choose(struct pieces *all, int64_t length)
{
	int64_t at = 0;
	size_t n = 0;
	qsort(all->piece, all->n, sizeof(all->piece[0]), by_place);
	for (size_t i = 0; i < all->n; i++) {
		const struct piece *p = &all->piece[i];
		if (p->from == at && p->n <= length - at) {
			at += p->n;
			all->piece[n++] = *p;
		}
	}
	all->n = n;
	return at;
}

static chatd_status find(struct self *self, struct partial *p, struct pieces *ret)
{
	char prefix[PARTIAL_ID + 2];
	*ret = (struct pieces){ 0 };
	chatd_status rc = get_info(self, p);
	snprintf(prefix, sizeof(prefix), "%s.", p->id);
	rc = rc < 0 ? rc : list_all(self, prefix, note_piece, ret);
	rc = rc == 0 && ret->over ? (ret->n < PIECES_MAX ? -ENOMEM : -EFBIG) : rc;
	if (rc == 0) {
		p->offset = ret->n ? choose(ret, p->length) : 0;
	}
	return rc;
}

chatd_status pieces_load(struct self *self, struct partial *p)
{
	struct pieces all;
	chatd_status rc = find(self, p, &all);
	free(all.piece);
	return rc;
}

static int count_info(void *arg, const char *name)
{
	int64_t *n = arg;
	*n += strstr(name, INFO) != NULL;
	return 0;
}

chatd_status pieces_create(struct self *self, const struct partial *p, int64_t most)
{
	char prefix[PARTIAL_OWNER + 1];
	int64_t n = 0;
	snprintf(prefix, sizeof(prefix), "%.*s", PARTIAL_OWNER, p->id);
	chatd_status rc = list_all(self, prefix, count_info, &n);
	rc = rc == 0 && n >= most ? -EDQUOT : rc;
	return rc < 0 ? rc : put_info(self, p);
}

static int touch_file(void *arg, const char *name)
{
	const struct self *self = arg;
	char path[DIR_PATH];
	dir_path(&self->dir, "tus", name, path);
	utimensat(AT_FDCWD, path, NULL, 0);
	return 0;
}

/* Files go by their own age, objects by that of the information. */
void pieces_touch(struct self *self, const struct partial *p)
{
	if (self->s3) {
		put_info(self, p);
	} else {
		list_folder(&self->dir, p->id, touch_file, self);
	}
}

static void piece_name(const struct partial *p, const char *random, int64_t n, char ret[PIECE_NAME])
{
	snprintf(ret, PIECE_NAME, "%s.%016llx.%s.%016llx", p->id, (unsigned long long)p->offset, random,
			(unsigned long long)n);
}

chatd_status pieces_add(struct self *self, const struct partial *p, const struct sink_facts *facts)
{
	char random[RANDOM_NAME], name[PIECE_NAME], there[S3_NAME], path[DIR_PATH];
	random_name(self, random);
	/* The name that it was encrypted for is part of the piece's: "ab/abcd....sealed". */
	piece_name(p, facts->name[0] ? facts->name + 3 : random, facts->size, name);
	if (self->s3) {
		chatd_status rc = s3_put_file(self->s3, facts->path, s3_name(name, there), facts->sum);
		unlink(facts->path);
		return rc;
	}
	dir_path(&self->dir, "tus", name, path);
	if (rename(facts->path, path) < 0) {
		chatd_status rc = -errno;
		unlink(facts->path);
		return rc;
	}
	return 0;
}

void pieces_whole(struct self *self, const struct partial *p, char ret[PIECE_NAME])
{
	char random[RANDOM_NAME];
	random_name(self, random);
	piece_name(p, random, p->length, ret);
}

/* The information last: without it nobody would find the others. */
void pieces_remove(struct self *self, const char *id)
{
	char prefix[PARTIAL_ID + 2], info[PIECE_NAME];
	struct partial over = { .length = OVER };
	struct pieces all = { 0 };
	chatd_str_copy(over.id, sizeof(over.id), chatd_str_of(id, PARTIAL_ID));
	put_info(self, &over);
	snprintf(prefix, sizeof(prefix), "%.*s.", (int)PARTIAL_ID, id);
	list_all(self, prefix, note_piece, &all);
	for (size_t i = 0; i < all.n; i++) {
		remove_one(self, all.piece[i].name);
	}
	free(all.piece);
	info_name(self, id, info);
	remove_one(self, info);
}

/* ---- one file of them ------------------------------------------------------------------------ */

/* What stands in a file, sealed for @p name or ("") as it is. */
static chatd_status pour(struct self *self, int fd, const char *name, struct sink *to)
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		return -errno;
	}
	if (name[0]) {
		const struct opener o = { self, name, st.st_size, sink_take, to };
		return opener_run(&o, fd);
	}
	char *room = malloc(BLOCK);
	chatd_status rc = room ? 0 : -ENOMEM;
	for (int64_t at = 0; at < st.st_size && rc == 0;) {
		size_t n = st.st_size - at < BLOCK ? (size_t)(st.st_size - at) : BLOCK;
		rc = read_fully(fd, at, room, n);
		rc = rc < 0 ? rc : sink_take(to, room, n);
		at += (int64_t)n;
	}
	free(room);
	return rc;
}

/* The name that a piece was sealed for; "": it was not. */
static void name_within(const char *piece, char ret[OBJECT_NAME])
{
	const char *random = piece + PARTIAL_ID + OFFSET + 2;
	size_t n = strlen(random);
	ret[0] = '\0';
	if (seal_is(piece) && n > OFFSET + 1) {
		snprintf(ret, OBJECT_NAME, "%.2s/%.*s", random, (int)(n - OFFSET - 1), random);
	}
}

static chatd_status pour_piece(struct self *self, const struct piece *p, struct sink *to)
{
	char name[OBJECT_NAME];
	int64_t before = sink_size(to);
	int fd = open_piece(self, p->name, seal_size(p->n)); /* sealed or not */
	if (fd < 0) {
		return fd;
	}
	name_within(p->name, name);
	chatd_status rc = pour(self, fd, name, to);
	close(fd);
	return rc == 0 && sink_size(to) - before != p->n ? -EBADMSG : rc;
}

static chatd_status pour_last(struct self *self, const struct sink_facts *last, struct sink *to)
{
	int fd = last->path[0] ? open(last->path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0) {
		return last->path[0] ? -errno : 0;
	}
	chatd_status rc = pour(self, fd, last->name, to);
	close(fd);
	return rc;
}

chatd_status pieces_join(struct self *self, const struct partial *p, const struct sink_facts *last,
		struct sink_facts *ret)
{
	struct partial found = *p;
	struct pieces all;
	chatd_status rc = find(self, &found, &all);
	struct sink *to = rc == 0 ? sink_copy(self) : NULL;
	rc = rc == 0 && !to ? -ENOMEM : rc;
	for (size_t i = 0; rc == 0 && i < all.n; i++) {
		rc = pour_piece(self, &all.piece[i], to);
	}
	rc = rc < 0 ? rc : pour_last(self, last, to);
	rc = rc == 0 && sink_size(to) != p->length ? -EBADMSG : rc;
	free(all.piece);
	if (to) {
		rc = sink_copied(to, rc, ret);
	}
	return rc;
}

/* ---- what nobody goes on with ---------------------------------------------------------------- */

enum { SWEEP_MAX = 1000 };

/* Whose information or pieces have some age. */
struct old {
	char id[SWEEP_MAX][PARTIAL_ID + 1]; /* the rest next time */
	size_t n;
};

static int note_old(void *arg, const char *name)
{
	struct old *old = arg;
	struct chatd_str id = chatd_str_of(name, strnlen(name, PARTIAL_ID));
	int is_next =
			!old->n || !chatd_str_same(id, text(old->id[old->n - 1])); /* they come in order */
	if (is_next && partial_id_ok(id)) {
		chatd_str_copy(old->id[old->n++], PARTIAL_ID + 1, id);
	}
	return old->n == SWEEP_MAX;
}

/* Who has an address may put something there when all is over. */
static int is_wanted(struct self *self, const char *id, int64_t before)
{
	struct partial p;
	memcpy(p.id, id, sizeof(p.id));
	chatd_status rc = get_info(self, &p);
	return rc == 0 ? p.touched >= before : rc != -ENOENT;
}

int64_t pieces_sweep(struct self *self, int64_t before)
{
	struct old *old = self->s3 ? calloc(1, sizeof(*old)) : NULL;
	int64_t n = 0;
	if (old) {
		list_before(self, "", before, note_old, old);
		for (size_t i = 0; i < old->n; i++) {
			if (!is_wanted(self, old->id[i], before)) {
				pieces_remove(self, old->id[i]);
				n++;
			}
		}
	}
	free(old);
	return n;
}
