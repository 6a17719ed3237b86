/* SPDX-License-Identifier: Apache-2.0 */
#include "store_key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = 64, TEXT_LEN = 88 }; /* base64 with padding */

struct file {
	const struct chatd_host *h;
	chatd_ctx *ctx;
	char path[4096];
};

static chatd_status use(const struct file *f, const char *text, size_t n, struct key *ret)
{
	char why[KEY_WHY] = "";
	const struct key_spec spec = { .alg = ALG_HS384, .text = chatd_str_of(text, n), .base64 = 1 };
	chatd_status rc = key_load(&spec, ret, why);
	return rc < 0 ? f->h->fail(f->ctx, rc, "%s: %s; remove it to have a new key made", f->path, why)
				  : 0;
}

static chatd_status read_key(const struct file *f, int fd, struct key *ret)
{
	char text[4 * TEXT_LEN];
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		return f->h->fail(f->ctx, -EINVAL, "%s is not a file", f->path);
	}
	if (st.st_mode & 077) {
		return f->h->fail(f->ctx, -EACCES,
				"%s is open to others (mode %04o), who can make tokens with it; remove it to have a "
				"new key made, or run: chmod 600 %s",
				f->path, (unsigned)st.st_mode & 07777, f->path);
	}
	ssize_t n = read(fd, text, sizeof(text));
	chatd_status rc = n > 0 ? use(f, text, (size_t)n, ret)
							: f->h->fail(f->ctx, -EIO,
									  "%s is empty or cannot be read; remove it "
									  "to have a new key made",
									  f->path);
	sodium_memzero(text, sizeof(text));
	return rc;
}

/* Complete or not there: a crash between must not leave a short key. */
static chatd_status write_key(const struct file *f, const char *text, size_t n)
{
	char part[4096 + 8];
	snprintf(part, sizeof(part), "%s.new", f->path);
	(void)unlink(part);
	int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int good = fd >= 0 && write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
	int why = errno;
	if (fd >= 0) {
		close(fd);
	}
	if (good && rename(part, f->path) < 0) {
		why = errno;
		good = 0;
	}
	return good ? 0 : f->h->fail(f->ctx, -EIO, "cannot write %s: %s", f->path, strerror(why));
}

static chatd_status make_key(const struct file *f, struct key *ret)
{
	unsigned char raw[KEY_BYTES];
	char text[TEXT_LEN + 2];
	f->h->random(raw, sizeof(raw));
	sodium_bin2base64(text, sizeof(text) - 1, raw, sizeof(raw), sodium_base64_VARIANT_ORIGINAL);
	size_t n = strlen(text);
	text[n++] = '\n';
	chatd_status rc = write_key(f, text, n);
	rc = rc < 0 ? rc : use(f, text, n, ret);
	if (rc == 0) {
		f->h->log(f->ctx, CHATD_LOG_INFO, "a new key for tokens was made: %s", f->path);
	}
	sodium_memzero(raw, sizeof(raw));
	sodium_memzero(text, sizeof(text));
	return rc;
}

chatd_status store_key(const struct chatd_host *h, chatd_ctx *ctx, struct key *ret)
{
	struct file f = { .h = h, .ctx = ctx };
	int n = snprintf(f.path, sizeof(f.path), "%s/jwt.key", h->data_dir());
	if (n < 0 || (size_t)n >= sizeof(f.path)) {
		return h->fail(ctx, -ENAMETOOLONG, "server.data_dir is too long");
	}
	int fd = open(f.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 && errno != ENOENT) {
		return h->fail(ctx, -EACCES, "cannot read %s: %s", f.path, strerror(errno));
	}
	if (fd < 0) {
		return make_key(&f, ret);
	}
	chatd_status rc = read_key(&f, fd, ret);
	close(fd);
	return rc;
}
