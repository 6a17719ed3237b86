/* SPDX-License-Identifier: Apache-2.0 */
#include "bytes.h"

#include "upload.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

chatd_status bytes_put(struct self *self, const char *path, const char *object, const char *hash)
{
	(void)hash;
	return dir_commit(&self->dir, path, object);
}

static chatd_status write_synced(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);
		if (done < 0 && errno != EINTR) {
			return -errno;
		}
		p += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
	return fdatasync(fd) < 0 ? -errno : 0;
}

chatd_status bytes_put_small(struct self *self, const char *object, const void *p, size_t n)
{
	char name[RANDOM_NAME], path[DIR_PATH];
	random_name(self, name);
	int fd = dir_temp(&self->dir, name);
	if (fd < 0) {
		return fd;
	}
	dir_path(&self->dir, "tmp", name, path);
	chatd_status rc = write_synced(fd, p, n);
	close(fd);
	rc = rc < 0 ? rc : dir_commit(&self->dir, path, object);
	if (rc < 0) {
		unlink(path);
	}
	return rc;
}

static chatd_status read_fully(int fd, int64_t from, char *to, size_t n)
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

chatd_status bytes_get_small(struct self *self, const char *object, chatd_buf **ret)
{
	struct stat st;
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

chatd_status bytes_read(struct self *self, struct bytes_file *f, int64_t from, void *to, size_t n)
{
	if (f->fd < 0) {
		f->fd = dir_read(&self->dir, f->object);
	}
	return f->fd < 0 ? f->fd : read_fully(f->fd, from, to, n);
}

void bytes_close(struct bytes_file *f)
{
	if (f->fd >= 0) {
		close(f->fd);
	}
	f->fd = -1;
}

int bytes_open(struct self *self, const char *object)
{
	return dir_read(&self->dir, object);
}

/* Those of sizes that are not made any more are found as what nobody knows. */
chatd_status bytes_remove(struct self *self, const char *object)
{
	char small[OBJECT_NAME];
	for (int i = 0; i < self->n_edges; i++) {
		thumb_object(object, self->edges[i], small);
		dir_remove(&self->dir, small);
	}
	return dir_remove(&self->dir, object);
}

chatd_status bytes_list(struct self *self, int hh, int64_t before,
		int (*found)(void *arg, const char *object), void *arg)
{
	return dir_list(&self->dir, hh, before, found, arg);
}
