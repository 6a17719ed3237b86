/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

bool files_name(struct chatd_str path, char ret[FILES_PATH_MAX])
{
	static const char index[] = "index.html";
	if (path.n + sizeof(index) > FILES_PATH_MAX)
		return false;
	size_t n = path.n;
	if (n > 0)
		memcpy(ret, path.p, n);
	if (n == 0 || ret[n - 1] == '/') {
		memcpy(ret + n, index, sizeof(index) - 1);
		n += sizeof(index) - 1;
	}
	ret[n] = '\0';
	/* A name with a dot in front is "..", or was not meant to be seen. */
	for (const char *part = ret; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (*part == '.' || *part == '/' || *part == '\0')
			return false;
	return strlen(ret) == n;
}

const char *files_type(const char *name)
{
	static const struct {
		const char *ending, *type;
	} types[] = {
		{ ".html", "text/html; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" },
		{ ".js", "text/javascript; charset=utf-8" },
		{ ".mjs", "text/javascript; charset=utf-8" },
		{ ".json", "application/json" },
		{ ".map", "application/json" },
		{ ".webmanifest", "application/manifest+json" },
		{ ".svg", "image/svg+xml" },
		{ ".png", "image/png" },
		{ ".jpg", "image/jpeg" },
		{ ".jpeg", "image/jpeg" },
		{ ".gif", "image/gif" },
		{ ".webp", "image/webp" },
		{ ".ico", "image/x-icon" },
		{ ".woff2", "font/woff2" },
		{ ".wasm", "application/wasm" },
		{ ".mp3", "audio/mpeg" },
		{ ".txt", "text/plain; charset=utf-8" },
	};
	size_t n = strlen(name);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		size_t end = strlen(types[i].ending);
		if (n > end && strcmp(name + n - end, types[i].ending) == 0)
			return types[i].type;
	}
	return strchr(name, '.') ? "application/octet-stream" : "text/plain; charset=utf-8";
}

/* Opens part after part: no ".." (see files_name) and no link can lead out of the root. */
static int open_below(const char *root, const char *name)
{
	char part[FILES_PATH_MAX];
	int at = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (at >= 0) {
		size_t n = strcspn(name, "/");
		bool last = name[n] == '\0';
		memcpy(part, name, n);
		part[n] = '\0';
		/* O_NONBLOCK: a FIFO must not keep a thread of the pool. */
		int flags = last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY;
		int next = openat(at, part, flags | O_NOFOLLOW | O_CLOEXEC);
		int err = errno;
		close(at);
		errno = err;
		at = next;
		if (last)
			break;
		name += n + 1;
	}
	return at;
}

static int read_whole(int fd, char *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = read(fd, p + done, n - done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO; /* shorter than a moment ago */
		done += (size_t)got;
	}
	return 0;
}

static void make_etag(const char *p, size_t n, char ret_etag[FILES_ETAG_MAX])
{
	unsigned char hash[crypto_generichash_BYTES_MIN];
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)p, n, NULL, 0);
	char *at = ret_etag;
	*at++ = '"';
	for (size_t i = 0; i < sizeof(hash); i++, at += 2)
		snprintf(at, 3, "%02x", hash[i]);
	memcpy(at, "\"", 2);
}

static bool is_absent(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP || err == ENAMETOOLONG || err == EACCES;
}

int files_read(const struct chatd_host *h, const char *root, const char *name, size_t max,
		chatd_buf **ret_buf, char ret_etag[FILES_ETAG_MAX])
{
	struct stat st;
	int rc = 0;
	int fd = open_below(root, name);
	if (fd < 0)
		return is_absent(errno) ? -ENOENT : -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -ENOENT;
	else if ((uint64_t)st.st_size > max)
		rc = -EFBIG;
	chatd_buf *buf = rc == 0 ? h->buf_new(0, (size_t)st.st_size) : NULL;
	if (rc == 0 && !buf)
		rc = -ENOMEM;
	if (rc == 0)
		rc = read_whole(fd, h->buf_data(buf), (size_t)st.st_size);
	close(fd);
	if (rc < 0) {
		h->buf_unref(buf);
		return rc;
	}
	make_etag(h->buf_data(buf), h->buf_len(buf), ret_etag);
	*ret_buf = buf;
	return 0;
}

const char *files_of_build(const char *name, bool *ret_lasting)
{
	size_t n = strlen(embedded_build);
	*ret_lasting = strncmp(name, embedded_build, n) == 0;
	/* A page of another build than this (before an update, beside another node) gets what is here. */
	bool other = strncmp(name, "b-", 2) == 0 && strcspn(name, "/") == n - 1;
	return *ret_lasting || other ? name + n : name;
}

static bool is_zero_weight(const char *p, const char *end)
{
	while (p < end && (*p == ';' || *p == ' ' || *p == '\t'))
		p++;
	if (end - p < 3 || (*p != 'q' && *p != 'Q') || p[1] != '=' || p[2] != '0')
		return false;
	for (p += 3; p < end; p++)
		if (*p >= '1' && *p <= '9')
			return false;
	return true;
}

bool files_takes_gzip(struct chatd_str list)
{
	const char *p = list.p, *end = list.p ? list.p + list.n : NULL;
	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *stop = comma ? comma : end;
		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		if (stop - p >= 4 && strncasecmp(p, "gzip", 4) == 0 &&
				(stop - p == 4 || strchr("; \t", p[4])))
			return !is_zero_weight(p + 4, stop);
		p = comma ? comma + 1 : end;
	}
	return false;
}

bool files_matches(struct chatd_str list, const char *etag)
{
	size_t n = strlen(etag);
	if (list.n == 1 && list.p[0] == '*')
		return true;
	for (size_t i = 0; i + n <= list.n; i++) {
		/* A tag has no quotes inside, so a match with both quotes is a whole tag. */
		if (memcmp(list.p + i, etag, n) == 0)
			return true;
	}
	return false;
}
