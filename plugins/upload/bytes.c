/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes.h"

#include "upload.h"

#include "s3.h"
#include "seal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { S3_NAME = OBJECT_NAME + 16 };

static const char *s3_name(const char *object, char ret[S3_NAME])
{
	snprintf(ret, S3_NAME, "objects/%s", object);
	return ret;
}

chatd_status bytes_put(struct self *self, const char *path, const char *object, const char *hash)
{
	char name[S3_NAME];
	if (!self->s3) {
		return dir_commit(&self->dir, path, object);
	}
	chatd_status rc = s3_put_file(self->s3, path, s3_name(object, name), hash);
	if (rc == 0) {
		unlink(path);
	}
	return rc;
}

chatd_status write_fully(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);
		if (done < 0 && errno != EINTR) {
			return -errno;
		}
		p += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
	return 0;
}

static chatd_status put_small(struct self *self, const char *object, const void *p, size_t n)
{
	char name[S3_NAME], path[DIR_PATH];
	if (self->s3) {
		return s3_put(self->s3, s3_name(object, name), p, n);
	}
	random_name(self, name);
	int fd = dir_temp(&self->dir, name);
	if (fd < 0) {
		return fd;
	}
	dir_path(&self->dir, "tmp", name, path);
	chatd_status rc = write_fully(fd, p, n);
	rc = rc == 0 && fdatasync(fd) < 0 ? -errno : rc;
	close(fd);
	rc = rc < 0 ? rc : dir_commit(&self->dir, path, object);
	if (rc < 0) {
		unlink(path);
	}
	return rc;
}

/* Encrypted if that is which it goes with. */
chatd_status bytes_put_small(struct self *self, const char *object, const void *p, size_t n)
{
	if (!seal_is(object)) {
		return put_small(self, object, p, n);
	}
	char *sealed = NULL;
	chatd_status rc = self->cipher ? seal_small(self, object, p, &n, &sealed) : -ENOKEY;
	rc = rc < 0 ? rc : put_small(self, object, sealed, n);
	free(sealed);
	return rc;
}

chatd_status read_fully(int fd, int64_t from, char *to, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t got = pread(fd, to + at, n - at, from + (int64_t)at);
		if (got == 0 || (got < 0 && errno != EINTR)) {
			return got < 0 ? -errno : -EIO;
		}
		at += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static chatd_status fetch_small(struct self *self, const char *object, chatd_buf **ret)
{
	char name[S3_NAME], *room = malloc(SMALL_MAX);
	size_t n = 0;
	chatd_status rc = room ? s3_get(self->s3, s3_name(object, name), room, SMALL_MAX, &n) : -ENOMEM;
	*ret = rc == 0 ? self->h->buf_new(0, n) : NULL;
	if (*ret) {
		memcpy(self->h->buf_data(*ret), room, n);
	}
	free(room);
	return rc == 0 && !*ret ? -ENOMEM : rc;
}

static chatd_status get_small(struct self *self, const char *object, chatd_buf **ret)
{
	struct stat st;
	if (self->s3) {
		return fetch_small(self, object, ret);
	}
	int fd = dir_read(&self->dir, object);
	if (fd < 0) {
		return fd;
	}
	chatd_status rc = fstat(fd, &st) < 0 ? -errno : st.st_size > SMALL_MAX ? -EFBIG : 0;
	*ret = rc == 0 ? self->h->buf_new(0, (size_t)st.st_size) : NULL;
	if (rc == 0) {
		rc = *ret ? read_fully(fd, 0, self->h->buf_data(*ret), (size_t)st.st_size) : -ENOMEM;
	}
	close(fd);
	if (rc < 0) {
		self->h->buf_unref(*ret);
		*ret = NULL;
	}
	return rc;
}

chatd_status bytes_get_small(struct self *self, const char *object, chatd_buf **ret)
{
	chatd_buf *sealed = NULL;
	chatd_status rc = get_small(self, object, seal_is(object) ? &sealed : ret);
	if (rc < 0 || !sealed) {
		return rc;
	}
	size_t n = self->h->buf_len(sealed);
	char *p = self->h->buf_data(sealed);
	rc = seal_open_small(self, object, p, &n);
	*ret = rc == 0 ? self->h->buf_new(0, n) : NULL;
	if (*ret) {
		memcpy(self->h->buf_data(*ret), p, n);
	}
	self->h->buf_unref(sealed);
	return rc == 0 && !*ret ? -ENOMEM : rc;
}

static chatd_status read_raw(
		struct self *self, struct bytes_file *f, int64_t from, void *to, size_t n)
{
	char name[S3_NAME];
	if (self->s3) {
		return s3_read(self->s3, s3_name(f->object, name), from, to, n);
	}
	if (f->fd < 0) {
		f->fd = dir_read(&self->dir, f->object);
	}
	return f->fd < 0 ? f->fd : read_fully(f->fd, from, to, n);
}

/* Each chunk that has something of it, whole. */
static chatd_status read_sealed(
		struct self *self, struct bytes_file *f, int64_t from, char *to, size_t n)
{
	int64_t first = from / SEAL_CHUNK, last = (from + (int64_t)n - 1) / SEAL_CHUNK;
	int64_t whole = seal_size(f->size), begin = first * SEAL_RECORD;
	int64_t end = (last + 1) * SEAL_RECORD < whole ? (last + 1) * SEAL_RECORD : whole;
	char *sealed = malloc((size_t)(end - begin)), *plain = malloc(SEAL_CHUNK);
	chatd_status rc =
			sealed && plain ? read_raw(self, f, begin, sealed, (size_t)(end - begin)) : -ENOMEM;
	rc = rc == -EIO ? -EBADMSG : rc; /* it is shorter than it was */
	for (int64_t i = first; i <= last && rc == 0; i++) {
		const struct seal_at at = { f->object, i, (i + 1) * SEAL_RECORD >= whole };
		int64_t left = end - i * SEAL_RECORD;
		struct chatd_str record = chatd_str_of(sealed + (i - first) * SEAL_RECORD,
				left < SEAL_RECORD ? (size_t)left : SEAL_RECORD);
		rc = seal_open(self, &at, record, plain);
		if (rc == 0) {
			int64_t has = i * SEAL_CHUNK, skip = from > has ? from - has : 0;
			int64_t some = (int64_t)(record.n - CHATD_CIPHER_EXTRA) - skip;
			int64_t wants = from + (int64_t)n - has - skip;
			memcpy(to + (has + skip - from), plain + skip, (size_t)(some < wants ? some : wants));
		}
	}
	free(sealed);
	free(plain);
	return rc;
}

chatd_status bytes_read(struct self *self, struct bytes_file *f, int64_t from, void *to, size_t n)
{
	return seal_is(f->object) ? read_sealed(self, f, from, to, n) : read_raw(self, f, from, to, n);
}

void bytes_close(struct bytes_file *f)
{
	if (f->fd >= 0) {
		close(f->fd);
	}
	f->fd = -1;
}

chatd_status bytes_head(struct self *self, const char *object, char *to, size_t n)
{
	struct bytes_file f = { .fd = -1 };
	snprintf(f.object, sizeof(f.object), "%s", object);
	chatd_status rc = read_raw(self, &f, 0, to, n);
	bytes_close(&f);
	return rc;
}

int bytes_open(struct self *self, const char *object)
{
	char name[S3_NAME], folder[DIR_PATH];
	if (!self->s3) {
		return dir_read(&self->dir, object);
	}
	dir_path(&self->dir, "tmp", ".", folder);
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	chatd_status rc = fd < 0 ? -errno : s3_get_file(self->s3, s3_name(object, name), fd, 0);
	if (rc < 0 && fd >= 0) {
		close(fd);
	}
	return rc < 0 ? rc : fd;
}

static chatd_status remove_one(struct self *self, const char *object)
{
	char name[S3_NAME];
	return self->s3 ? s3_remove(self->s3, s3_name(object, name)) : dir_remove(&self->dir, object);
}

/* Those of sizes that are not made any more are found as what nobody knows. */
chatd_status bytes_remove(struct self *self, const char *object)
{
	char small[OBJECT_NAME];
	for (int i = 0; i < self->n_edges; i++) {
		thumb_object(object, self->edges[i], small);
		remove_one(self, small);
	}
	return remove_one(self, object);
}

struct listing {
	int (*found)(void *arg, const char *object);
	void *arg;
	int hh;
};

static int one_found(void *arg, const char *rest)
{
	const struct listing *l = arg;
	char object[OBJECT_NAME + 4];
	snprintf(object, sizeof(object), "%02x/%.120s", l->hh, rest);
	return l->found(l->arg, object);
}

chatd_status bytes_list(struct self *self, int hh, int64_t before,
		int (*found)(void *arg, const char *object), void *arg)
{
	char prefix[S3_NAME];
	struct listing l = { found, arg, hh };
	if (!self->s3) {
		return dir_list(&self->dir, hh, before, found, arg);
	}
	snprintf(prefix, sizeof(prefix), "objects/%02x/", hh);
	return s3_list(self->s3, prefix, before, one_found, &l);
}
