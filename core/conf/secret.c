/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/secret.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct chatd_str nothing = { NULL, 0 };

static struct chatd_str keep(struct conf *c, const char *p, size_t n, struct secret_why *ret_why)
{
	struct chatd_str s = { arena_text(&c->arena, p, n), n };
	if (!s.p)
		snprintf(ret_why->text, sizeof(ret_why->text), "out of memory");
	return s;
}

static struct chatd_str of_variable(struct conf *c, const char *name, struct secret_why *ret_why)
{
	const char *v = getenv(name);
	if (v && *v)
		return keep(c, v, strlen(v), ret_why);
	snprintf(ret_why->text, sizeof(ret_why->text),
			v ? "the environment variable \"%.64s\" is empty; give it the secret"
			  : "the environment variable \"%.64s\" is not set; set it to the secret",
			name);
	return nothing;
}

/* Why the file may not be used; an empty text if it may. */
static void check_file(int fd, const char *path, struct secret_why *ret_why)
{
	struct stat st;
	ret_why->text[0] = '\0';
	if (fstat(fd, &st))
		snprintf(ret_why->text, sizeof(ret_why->text), "the file \"%.200s\" cannot be read: %s",
				path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		snprintf(ret_why->text, sizeof(ret_why->text), "\"%.200s\" is not a file", path);
	else if (st.st_mode & 077)
		snprintf(ret_why->text, sizeof(ret_why->text),
				"the file \"%.200s\" is open to others (mode %04o); run: chmod 600 %.200s", path,
				(unsigned)st.st_mode & 07777, path);
	else if (st.st_size > SECRET_MAX)
		snprintf(ret_why->text, sizeof(ret_why->text),
				"the file \"%.200s\" is larger than 64 KiB; is it the right one?", path);
}

static struct chatd_str content(
		struct conf *c, int fd, const char *path, struct secret_why *ret_why)
{
	struct chatd_str s = nothing;
	char *text = malloc(SECRET_MAX);
	ssize_t n = text ? read(fd, text, SECRET_MAX) : -1;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if (!text)
		snprintf(ret_why->text, sizeof(ret_why->text), "out of memory");
	else if (n < 0)
		snprintf(ret_why->text, sizeof(ret_why->text), "the file \"%.200s\" cannot be read: %s",
				path, strerror(errno));
	else if (n == 0)
		snprintf(ret_why->text, sizeof(ret_why->text),
				"the file \"%.200s\" is empty; it must hold the secret", path);
	else if (memchr(text, 0, (size_t)n))
		snprintf(ret_why->text, sizeof(ret_why->text),
				"the file \"%.200s\" holds a zero byte; it must be text", path);
	else
		s = keep(c, text, (size_t)n, ret_why);
	if (text)
		sodium_memzero(text, SECRET_MAX);
	free(text);
	return s;
}

static struct chatd_str of_file(struct conf *c, const char *path, struct secret_why *ret_why)
{
	/* Without O_NONBLOCK a pipe that nobody writes to would hold up the start. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		snprintf(ret_why->text, sizeof(ret_why->text), "the file \"%.200s\" cannot be read: %s",
				path, strerror(errno));
		return nothing;
	}
	check_file(fd, path, ret_why);
	struct chatd_str s = ret_why->text[0] ? nothing : content(c, fd, path, ret_why);
	close(fd);
	return s;
}

struct chatd_str secret_resolve(
		struct conf *c, struct chatd_str value, const char *folder, struct secret_why *ret_why)
{
	if (str_starts(value, str_of("env:")))
		return of_variable(c, value.p + 4, ret_why);
	if (!str_starts(value, str_of("file:")))
		return value;
	const char *path = value.p + 5;
	char whole[4096];
	int n = snprintf(whole, sizeof(whole), "%s%s", *path == '/' ? "" : folder, path);
	if (n < 0 || (size_t)n >= sizeof(whole)) {
		snprintf(ret_why->text, sizeof(ret_why->text), "the path of the file is too long");
		return nothing;
	}
	return of_file(c, whole, ret_why);
}
