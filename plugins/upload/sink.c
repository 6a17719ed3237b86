/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes on their way to a file.  Two buffers: one fills on the worker while the other is written
 * by the crew.  When both are full, the sender is held. */
#include "upload.h"

#include "seal.h"
#include "sum.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = BLOCK + 64 * 1024 /* a piece more */, FLUSH = 8 << 20 };

struct block {
	char *p;
	size_t n, cap;
};

struct sink {
	struct self *self;
	chatd_worker *w;
	const struct sink_user *user;
	void *arg;
	struct block block[2];
	int filling; /* which of them */
	int working, finishing, held, closed, removes, over;
	chatd_status lost; /* found out on the worker */
	int64_t size;
	/* Of the job at hand: the crew's as long as .working. */
	int fd;
	int resumed; /* the file was there before: its hash is made at the end */
	int piece;   /* of something: what type it has is not known */
	int partial; /* more will come, some day */
	int last;    /* nothing comes after this block */
	int64_t from;
	EVP_MD_CTX *check; /* of what comes now alone; NULL: not asked for */
	unsigned char want[EVP_MAX_MD_SIZE];
	size_t want_n;
	chatd_status rc;
	EVP_MD_CTX *sha, *sum; /* of the content; of what lies there, encrypted */
	struct sealer *sealer; /* NULL: it lies there as it is */
	char head[TYPE_HEAD];
	size_t head_n;
	int64_t written;      /* of the content */
	int64_t out, flushed; /* of the file */
	struct sink_facts facts;
};

/* ---- [crew] -------------------------------------------------------------------------- */

/* One at a time, on whichever node: who comes late finds it grown. */
static chatd_status open_again(struct sink *s)
{
	struct stat st;
	s->fd = open(s->facts.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (s->fd < 0 || flock(s->fd, LOCK_EX | LOCK_NB) < 0 || fstat(s->fd, &st) < 0) {
		return -errno;
	}
	return st.st_size == s->from ? 0 : -ESTALE;
}

static chatd_status write_out(void *arg, const char *p, size_t n);

static chatd_status begin_seal(struct sink *s)
{
	if (!s->self->seals) {
		return 0;
	}
	if (!s->facts.name[0]) {
		seal_name(s->self, s->facts.name);
	}
	s->sealer = sealer_new(s->self, s->facts.name, write_out, s);
	s->sum = s->sealer && s->self->s3 ? sum_begin() : NULL;
	return s->sealer && (s->sum || !s->self->s3) ? 0 : -ENOMEM;
}

static chatd_status open_file(struct sink *s)
{
	const char *name = strrchr(s->facts.path, '/');
	if (s->resumed) {
		return open_again(s);
	}
	int fd = dir_temp(&s->self->dir, name + 1);
	s->fd = fd < 0 ? -1 : fd;
	s->sha = sum_begin();
	if (fd < 0) {
		return fd;
	}
	return s->sha ? begin_seal(s) : -ENOMEM;
}

/* Once as much is there as is ever looked at. */
static chatd_status check_type(struct sink *s)
{
	types_of(s->self->types, s->head, s->head_n, s->facts.type);
	return type_allowed(s->self->conf->types, s->facts.type) ? 0 : -EPROTOTYPE;
}

static chatd_status note_head(struct sink *s, const struct block *b)
{
	size_t n = sizeof(s->head) - s->head_n;
	if (s->from || n == 0) {
		return 0;
	}
	n = n < b->n ? n : b->n;
	memcpy(s->head + s->head_n, b->p, n);
	s->head_n += n;
	return s->head_n == sizeof(s->head) && !s->piece ? check_type(s) : 0;
}

static chatd_status write_out(void *arg, const char *p, size_t n)
{
	struct sink *s = arg;
	for (size_t at = 0; at < n;) {
		ssize_t done = pwrite(s->fd, p + at, n - at, s->out + (int64_t)at);
		if (done < 0 && errno != EINTR) {
			return -errno;
		}
		at += done > 0 ? (size_t)done : 0;
	}
	s->out += (int64_t)n;
	return s->sum && EVP_DigestUpdate(s->sum, p, n) != 1 ? -EIO : 0;
}

static chatd_status write_block(struct sink *s, struct block *b)
{
	chatd_status rc = s->sealer ? sealer_take(s->sealer, b->p, b->n) : write_out(s, b->p, b->n);
	if (rc < 0) {
		return rc;
	}
	s->written += (int64_t)b->n;
	if ((s->sha && EVP_DigestUpdate(s->sha, b->p, b->n) != 1) ||
			(s->check && EVP_DigestUpdate(s->check, b->p, b->n) != 1)) {
		return -EIO;
	}
	/* So that the sync at the end has little left to do. */
	if (s->out - s->flushed >= FLUSH) {
		sync_file_range(s->fd, s->flushed, s->out - s->flushed, SYNC_FILE_RANGE_WRITE);
		s->flushed = s->out;
	}
	return 0;
}

/* Of a file that came in pieces, maybe through several nodes. */
static chatd_status read_again(struct sink *s, struct block *b)
{
	s->sha = sum_begin();
	s->head_n = 0;
	if (!s->sha) {
		return -ENOMEM;
	}
	for (int64_t at = 0; at < s->written;) {
		ssize_t n = pread(s->fd, b->p, BLOCK, at);
		if (n <= 0) {
			return n < 0 ? -errno : -EIO;
		}
		if (s->head_n < sizeof(s->head)) {
			size_t most = sizeof(s->head) - s->head_n;
			most = most < (size_t)n ? most : (size_t)n;
			memcpy(s->head + s->head_n, b->p, most);
			s->head_n += most;
		}
		if (EVP_DigestUpdate(s->sha, b->p, (size_t)n) != 1) {
			return -EIO;
		}
		at += n;
	}
	return 0;
}

/* What does not have the sum that was told with it, was never there. */
static chatd_status compare(struct sink *s)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	if (EVP_DigestFinal_ex(s->check, sum, &n) != 1) {
		return -EIO;
	}
	if (n == s->want_n && memcmp(sum, s->want, n) == 0) {
		return 0;
	}
	return s->resumed && ftruncate(s->fd, s->from) < 0 ? -errno : -EBADMSG;
}

/* It is on the disk, and what it is is known. */
static chatd_status settle(struct sink *s)
{
	chatd_status rc = s->sealer ? sealer_end(s->sealer) : 0;
	if (rc == 0 && fsync(s->fd) < 0) {
		rc = -errno;
	}
	rc = rc < 0 ? rc : sum_end(s->sha, s->facts.hash);
	if (rc == 0 && s->sealer) {
		return s->sum ? sum_end(s->sum, s->facts.sum) : 0;
	}
	memcpy(s->facts.sum, s->facts.hash, sizeof(s->facts.sum));
	return rc;
}

static chatd_status complete(struct sink *s, struct block *b)
{
	chatd_status rc = s->resumed ? read_again(s, b) : 0;
	if (rc == 0 && (s->resumed || s->head_n < sizeof(s->head))) {
		rc = check_type(s);
	}
	return rc < 0 ? rc : settle(s);
}

/* More comes later: to the end of this file, or in another one. */
static chatd_status pause_here(struct sink *s)
{
	if (s->resumed) {
		return fdatasync(s->fd) < 0 ? -errno : 0;
	}
	return settle(s);
}

static void work(void *arg)
{
	struct sink *s = arg;
	struct block *b = &s->block[!s->filling];
	if (s->fd < 0 && s->rc == 0) {
		s->rc = open_file(s);
	}
	if (s->rc == 0) {
		s->rc = note_head(s, b);
	}
	if (s->rc == 0) {
		s->rc = write_block(s, b);
	}
	b->n = 0;
	if (s->rc == 0 && s->last && s->check) {
		s->rc = compare(s);
	}
	if (s->rc == 0 && s->last) {
		s->rc = s->partial ? pause_here(s) : complete(s, b);
	}
	/* Before the answer: who has it may go on at once.  Nothing more is written here. */
	if (s->resumed && s->fd >= 0 && s->last && (s->partial || s->rc < 0)) {
		flock(s->fd, LOCK_UN);
	}
}

/* It was broken off: what came is kept, unless its sum was to be looked at. */
static void keep_rest(struct sink *s)
{
	struct block *b = &s->block[s->filling];
	if (s->fd < 0 && (s->check || !b->n || open_again(s) < 0)) {
		return;
	}
	if (s->check) {
		(void)!ftruncate(s->fd, s->from);
	} else {
		write_block(s, b);
	}
}

static void clean(void *arg)
{
	struct sink *s = arg;
	if (s->resumed && !s->removes && !s->last && s->rc == 0) {
		keep_rest(s);
	}
	if (s->fd >= 0) {
		close(s->fd);
	}
	if (s->removes && s->facts.path[0] && (s->fd >= 0 || s->resumed)) {
		unlink(s->facts.path);
	}
}

static void free_parts(struct sink *s)
{
	EVP_MD_CTX_free(s->sha);
	EVP_MD_CTX_free(s->check);
	EVP_MD_CTX_free(s->sum);
	sealer_free(s->sealer);
	free(s->block[0].p);
	free(s->block[1].p);
}

struct sink *sink_copy(struct self *self)
{
	char name[RANDOM_NAME];
	struct sink *s = calloc(1, sizeof(*s));
	if (s) {
		s->self = self;
		s->fd = -1;
		random_name(self, name);
		dir_path(&self->dir, "tmp", name, s->facts.path);
		s->rc = open_file(s);
	}
	return s;
}

chatd_status sink_take(void *arg, const char *p, size_t n)
{
	struct sink *s = arg;
	struct block b = { (char *)(uintptr_t)p, n, n };
	s->rc = s->rc < 0 ? s->rc : note_head(s, &b);
	s->rc = s->rc < 0 ? s->rc : write_block(s, &b);
	s->size = s->written;
	return s->rc;
}

chatd_status sink_copied(struct sink *s, chatd_status rc, struct sink_facts *ret)
{
	rc = rc == 0 ? s->rc : rc;
	rc = rc < 0 ? rc : complete(s, NULL);
	s->facts.size = s->written;
	*ret = s->facts;
	s->removes = rc < 0;
	s->last = 1;
	clean(s);
	free_parts(s);
	free(s);
	return rc;
}

/* ---- [worker] ------------------------------------------------------------------------ */

static void free_sink(void *arg)
{
	struct sink *s = arg;
	free_parts(s);
	s->self->h->mem_free(s);
}

static void dispose(struct sink *s)
{
	if (s->fd < 0 && !s->resumed) { /* there is no file */
		free_sink(s);
	} else if (crew_do(s->self->crew, s->w, clean, free_sink, s) < 0) {
		clean(s); /* the crew is busy or has ended: better late than never */
		free_sink(s);
	}
}

static void next(struct sink *s);

static void fail(struct sink *s)
{
	if (!s->over) {
		s->over = 1;
		s->user->failed(s->arg, s->rc);
	}
}

static void on_worked(void *arg)
{
	struct sink *s = arg;
	s->working = 0;
	s->rc = s->rc < 0 ? s->rc : s->lost;
	if (s->closed) {
		dispose(s);
	} else if (s->rc < 0) {
		fail(s);
	} else if (s->last) {
		s->over = 1;
		s->facts.size = s->written;
		s->user->done(s->arg);
	} else {
		next(s);
	}
}

/* Nobody is told inside whatever the caller is doing. */
static void lose(struct sink *s, chatd_status rc)
{
	s->lost = rc;
	if (!s->working) {
		s->working = s->self->h->post(s->w, on_worked, s) == 0;
	}
}

static void start(struct sink *s)
{
	s->filling = !s->filling;
	s->last = s->finishing;
	s->working = 1;
	if (crew_do(s->self->crew, s->w, work, on_worked, s) < 0) {
		s->working = 0;
		lose(s, -EBUSY);
	}
}

static void set_held(struct sink *s, int on)
{
	if (s->held != on && !s->over) {
		s->held = on;
		s->user->hold(s->arg, on);
	}
}

static void next(struct sink *s)
{
	struct block *b = &s->block[s->filling];
	if (!s->working && !s->over && !s->lost && (b->n >= BLOCK || s->finishing)) {
		start(s);
	}
	if (!s->finishing) {
		set_held(s, s->working && s->block[s->filling].n >= BLOCK);
	}
}

struct sink *sink_open(struct self *self, chatd_worker *w, const char *path, int64_t from)
{
	char name[RANDOM_NAME];
	struct sink *s = self->h->mem_alloc(sizeof(*s));
	if (!s) {
		return NULL;
	}
	s->self = self;
	s->w = w;
	s->fd = -1;
	for (int i = 0; i < 2; i++) {
		s->block[i].cap = ROOM;
		s->block[i].p = malloc(ROOM);
	}
	if (!s->block[0].p || !s->block[1].p) {
		free_sink(s);
		return NULL;
	}
	s->size = s->written = s->out = s->flushed = s->from = from;
	if (path) {
		s->resumed = 1;
		snprintf(s->facts.path, sizeof(s->facts.path), "%s", path);
		return s;
	}
	random_name(self, name);
	dir_path(&self->dir, "tmp", name, s->facts.path);
	return s;
}

void sink_user(struct sink *s, const struct sink_user *user, void *arg)
{
	s->user = user;
	s->arg = arg;
}

void sink_write(struct sink *s, const char *p, size_t n)
{
	struct block *b = &s->block[s->filling];
	if (s->over || s->lost || s->finishing) {
		return;
	}
	if (b->n + n > b->cap) { /* who was held did not stop: no byte may be lost */
		char *more = realloc(b->p, b->n + n);
		if (!more) {
			lose(s, -ENOMEM);
			return;
		}
		b->p = more;
		b->cap = b->n + n;
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
	s->size += (int64_t)n;
	next(s);
}

void sink_piece(struct sink *s)
{
	s->piece = 1;
}

void sink_finish(struct sink *s)
{
	s->finishing = 1;
	next(s);
}

void sink_pause(struct sink *s)
{
	s->partial = s->finishing = 1;
	next(s);
}

chatd_status sink_check(struct sink *s, const char *digest, struct chatd_str sum)
{
	const EVP_MD *md = EVP_get_digestbyname(digest);
	if (!md || sum.n > sizeof(s->want)) {
		return -EINVAL;
	}
	s->check = EVP_MD_CTX_new();
	if (!s->check || EVP_DigestInit_ex(s->check, md, NULL) != 1) {
		return -ENOMEM;
	}
	memcpy(s->want, sum.p, sum.n);
	s->want_n = sum.n;
	return 0;
}

int64_t sink_size(const struct sink *s)
{
	return s->size;
}

const struct sink_facts *sink_facts(const struct sink *s)
{
	return &s->facts;
}

void sink_close(struct sink *s, int removes)
{
	if (!s) {
		return;
	}
	s->closed = s->over = 1;
	s->removes = removes;
	if (!s->working) {
		dispose(s);
	}
}
