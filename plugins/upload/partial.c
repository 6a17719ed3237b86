/* SPDX-License-Identifier: Apache-2.0 */
#include "partial.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INFO_BYTES = 2048 };

static void owner_prefix(struct chatd_str owner, char ret[PARTIAL_OWNER + 1])
{
	unsigned char hash[EVP_MAX_MD_SIZE] = { 0 };
	EVP_Digest(owner.p, owner.n, hash, NULL, EVP_sha256(), NULL);
	snprintf(ret, PARTIAL_OWNER + 1, "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
}

void partial_id(struct chatd_str owner, const unsigned char random[16], char ret[PARTIAL_ID + 1])
{
	owner_prefix(owner, ret);
	for (size_t i = 0; i < 16; i++) {
		snprintf(ret + PARTIAL_OWNER + 2 * i, 3, "%02x", random[i]);
	}
}

int partial_id_ok(struct chatd_str id)
{
	for (size_t i = 0; i < id.n; i++) {
		if (!strchr("0123456789abcdef", id.p[i]) || !id.p[i]) {
			return 0;
		}
	}
	return id.n == PARTIAL_ID;
}

void partial_path(const struct dir *d, const char *id, char ret[DIR_PATH])
{
	dir_path(d, "tus", id, ret);
}

static void info_path(const struct dir *d, const char *id, char ret[DIR_PATH])
{
	char name[PARTIAL_ID + 8];
	snprintf(name, sizeof(name), "%.*s.info", (int)PARTIAL_ID, id);
	dir_path(d, "tus", name, ret);
}

static int64_t count_of(const struct dir *d, const char *prefix)
{
	char folder[DIR_PATH];
	int64_t n = 0;
	struct dirent *e;
	dir_path(d, "tus", ".", folder);
	DIR *dir = opendir(folder);
	while (dir && (e = readdir(dir))) {
		n += strlen(e->d_name) == PARTIAL_ID && strncmp(e->d_name, prefix, PARTIAL_OWNER) == 0;
	}
	if (dir) {
		closedir(dir);
	}
	return n;
}

static chatd_status write_file(const char *path, const char *text_, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		return -errno;
	}
	chatd_status rc = n && write(fd, text_, n) != (ssize_t)n ? -ENOSPC : 0;
	if (close(fd) < 0 && rc == 0) {
		rc = -errno;
	}
	return rc;
}

/* The information first: bytes without it are nobody's. */
chatd_status partial_create(const struct dir *d, const struct partial *p, int64_t most)
{
	char path[DIR_PATH], room[INFO_BYTES], prefix[PARTIAL_OWNER + 1];
	struct chatd_json j;
	owner_prefix(text(p->owner), prefix);
	if (count_of(d, prefix) >= most) {
		return -EDQUOT;
	}
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "owner", text(p->owner));
	chatd_json_member(&j, "name", text(p->name));
	chatd_json_int(&j, "length", p->length);
	chatd_json_lit(&j, "}");
	info_path(d, p->id, path);
	chatd_status rc = j.failed ? -ENOMEM : write_file(path, j.p, j.n);
	chatd_json_free(&j);
	if (rc == 0) {
		partial_path(d, p->id, path);
		rc = write_file(path, "", 0);
	}
	if (rc < 0) {
		partial_remove(d, p->id);
	}
	return rc;
}

static chatd_status read_info(const char *path, struct partial *p)
{
	char room[INFO_BYTES], why[CHATD_JSON_WHY];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		return -errno;
	}
	ssize_t n = read(fd, room, sizeof(room));
	close(fd);
	json_t *j = n > 0 ? chatd_json_parse(chatd_str_of(room, (size_t)n), why) : NULL;
	const char *owner = json_string_value(json_object_get(j, "owner"));
	const char *name = json_string_value(json_object_get(j, "name"));
	json_t *length = json_object_get(j, "length");
	chatd_status rc = owner && name && json_is_integer(length) ? 0 : -EIO;
	if (rc == 0) {
		chatd_str_copy(p->owner, sizeof(p->owner), text(owner));
		chatd_str_copy(p->name, sizeof(p->name), text(name));
		p->length = json_integer_value(length);
	}
	json_decref(j);
	return rc;
}

chatd_status partial_load(const struct dir *d, struct partial *p)
{
	char path[DIR_PATH];
	struct stat st;
	info_path(d, p->id, path);
	chatd_status rc = read_info(path, p);
	partial_path(d, p->id, path);
	if (rc == 0 && stat(path, &st) < 0) {
		rc = -errno;
	}
	if (rc == 0) {
		p->offset = st.st_size;
		p->touched = st.st_mtime;
	}
	return rc;
}

void partial_touch(const struct dir *d, const char *id)
{
	char path[DIR_PATH];
	info_path(d, id, path);
	utimensat(AT_FDCWD, path, NULL, 0);
	partial_path(d, id, path);
	utimensat(AT_FDCWD, path, NULL, 0);
}

void partial_remove(const struct dir *d, const char *id)
{
	char path[DIR_PATH];
	partial_path(d, id, path);
	unlink(path);
	info_path(d, id, path);
	unlink(path);
}
