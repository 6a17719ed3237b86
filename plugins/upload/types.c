/* SPDX-License-Identifier: Apache-2.0 */
#include "types.h"

#include <errno.h>
#include <magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What libmagic may read and how deep it may go: it looks at what strangers have sent. */
static const struct {
	int what;
	size_t most;
} bounds[] = {
	{ MAGIC_PARAM_INDIR_MAX, 8 },
	{ MAGIC_PARAM_NAME_MAX, 30 },
	{ MAGIC_PARAM_ELF_PHNUM_MAX, 64 },
	{ MAGIC_PARAM_ELF_SHNUM_MAX, 64 },
	{ MAGIC_PARAM_ELF_NOTES_MAX, 16 },
	{ MAGIC_PARAM_REGEX_MAX, TYPE_HEAD },
	{ MAGIC_PARAM_BYTES_MAX, TYPE_HEAD },
};

struct types {
	pthread_mutex_t lock;
	magic_t magic;
};

struct types *types_open(void)
{
	struct types *t = calloc(1, sizeof(*t));
	if (!t) {
		return NULL;
	}
	pthread_mutex_init(&t->lock, NULL);
	/* No look into archives: that would be a zip bomb's way in. */
	t->magic = magic_open(MAGIC_MIME_TYPE | MAGIC_NO_CHECK_COMPRESS | MAGIC_NO_CHECK_TAR |
			MAGIC_NO_CHECK_ELF | MAGIC_NO_CHECK_CDF);
	if (!t->magic || magic_load(t->magic, NULL) < 0) {
		types_close(t);
		errno = ENOENT;
		return NULL;
	}
	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		magic_setparam(t->magic, bounds[i].what, &bounds[i].most);
	}
	return t;
}

void types_close(struct types *t)
{
	if (!t) {
		return;
	}
	if (t->magic) {
		magic_close(t->magic);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void types_of(struct types *t, const char *head, size_t n, char ret[TYPE_BYTES])
{
	pthread_mutex_lock(&t->lock);
	const char *found = magic_buffer(t->magic, head, n < TYPE_HEAD ? n : TYPE_HEAD);
	snprintf(ret, TYPE_BYTES, "%s",
			found && strchr(found, '/') ? found : "application/octet-stream");
	pthread_mutex_unlock(&t->lock);
}

int type_allowed(const char *const *allowed, const char *type)
{
	for (; *allowed; allowed++) {
		size_t n = strlen(*allowed);
		if (strcmp(*allowed, type) == 0 ||
				(n > 2 && strcmp(*allowed + n - 2, "/*") == 0 &&
						strncmp(*allowed, type, n - 1) == 0)) {
			return 1;
		}
	}
	return 0;
}

int type_pattern_ok(const char *pattern)
{
	const char *slash = strchr(pattern, '/');
	size_t n = strlen(pattern);
	return slash && slash != pattern && slash[1] && n < TYPE_BYTES &&
			strspn(pattern, "abcdefghijklmnopqrstuvwxyz0123456789.+-/*") == n &&
			(!strchr(pattern, '*') || (strchr(pattern, '*') == slash + 1 && !slash[2]));
}

int type_shows(const char *type)
{
	static const char *const safe[] = { "image/png", "image/jpeg", "image/gif", "image/webp",
		"image/avif", "image/bmp", "audio/*", "video/*", NULL };
	return type_allowed(safe, type);
}
