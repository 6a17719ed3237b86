/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

enum { OPTIONS_MAX = 16 };

static const char *so;
static char **given; /* options for the plugin, as "key=value" */
char dir[64];
struct host *h;

struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

void assert_str(struct chatd_str s, const char *expected)
{
	char text[4096];
	snprintf(text, sizeof(text), "%.*s", (int)s.n, s.p ? s.p : "");
	assert_string_equal(text, expected);
}

/* "@" in an option is another name for each test: where several share a server. */
static const char *const *options(void)
{
	static char text[OPTIONS_MAX][512];
	static const char *set[OPTIONS_MAX + 1];
	static int number;
	size_t n = 0;
	number++;
	for (; given[n] && n < OPTIONS_MAX; n++) {
		size_t at = strcspn(given[n], "@");
		if (given[n][at] == '@' && given[n][at + 1] == '\0') {
			snprintf(text[n], sizeof(text[n]), "%.*s%d_%d", (int)at, given[n], (int)getpid(),
					number);
		} else {
			snprintf(text[n], sizeof(text[n]), "%s", given[n]);
		}
		set[n] = text[n];
	}
	set[n] = NULL;
	return set;
}

int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/chatd-store-XXXXXX");
	assert_non_null(mkdtemp(dir));
	host_set_wall(WALL);
	h = host_open(so, dir, options());
	if (h->rc < 0) {
		fprintf(stderr, "%s", host_log());
	}
	assert_int_equal(h->rc, 0);
	return 0;
}

int teardown(void **state)
{
	char command[128];
	(void)state;
	host_close(h);
	answers_free();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

struct chatd_store_conv conv_of(const char *name)
{
	struct chatd_store_conv c = { 0 };
	const char *slash = strchr(name, '/'); /* "ann/bob" is of two */
	if (slash) {
		c.a = chatd_str_of(name, (size_t)(slash - name));
		c.b = z(slash + 1);
	} else {
		c.room = z(name);
	}
	return c;
}

struct kept *say(const char *conv, const char *sender, const char *id)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = z(sender), .body = z(id), .text = z(id), .wall = WALL };
	return ASK(h, append, r);
}

struct kept *say_checked(const char *conv, const char *sender, const char *id, int64_t wall)
{
	struct chatd_store_append r = { SZ(chatd_store_append), .conv = conv_of(conv), .id = z(id),
		.sender = z(sender), .body = S("{}"), .check = 1, .wall = wall };
	return ASK(h, append, r);
}

void make_room(const char *id, const char *owner, uint32_t flags)
{
	struct chatd_store_room r = { SZ(chatd_store_room), .id = z(id), .name = z(id), .flags = flags,
		.user = owner ? z(owner) : chatd_str_of(NULL, 0), .created = WALL };
	struct kept *k = ASK(h, room_create, r);
	assert_int_equal(k->rc, 0);
	assert_int_equal(k->a.n_rooms, 1);
}

struct kept *member(int what, const char *room, const char *user, const char *actor, int64_t extra)
{
	struct chatd_store_member_change r = { SZ(chatd_store_member_change), .what = what,
		.room = z(room), .user = z(user), .actor = actor ? z(actor) : chatd_str_of(NULL, 0),
		.role = (int32_t)extra, .until = what == CHATD_STORE_ROLE ? 0 : extra, .wall = WALL };
	return ASK(h, member_change, r);
}

int suite_args(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s PLUGIN.so [OPTION=VALUE]...\n", argv[0]);
		return 0;
	}
	so = argv[1];
	given = argv + 2;
	return 1;
}
