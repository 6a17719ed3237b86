/* SPDX-License-Identifier: Apache-2.0 */
/* From a file to a tree whose two top keys are known to be there and right. */
#include "base/str.h"
#include "conf/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_LEN = 64 };

/* What the file is called in complaints, and the folder it is in. */
static struct conf *create(const char *name, struct chatd_str text)
{
	struct conf *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	const char *slash = strrchr(name, '/');
	c->name = arena_text(&c->arena, name, strlen(name));
	c->folder = arena_text(&c->arena, name, slash ? (size_t)(slash - name) + 1 : 0);
	c->text = chatd_str_of(arena_text(&c->arena, text.p, text.n), text.n);
	if (c->name && c->folder && c->text.p)
		return c;
	conf_free(c);
	return NULL;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	arena_finish(&c->arena);
	free(c);
}

static int is_name(struct chatd_str s)
{
	if (!s.n || s.n > NAME_MAX_LEN)
		return 0;
	for (size_t i = 0; i < s.n; i++) {
		char b = s.p[i];
		int ok = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') ||
				b == '-' || b == '_';
		if (!ok)
			return 0;
	}
	return 1;
}

/* "http:" and "http: {}" mean the same: all defaults. */
static void null_to_map(struct conf_node *n)
{
	if (n->is_null) {
		n->kind = NODE_MAP;
		n->is_null = 0;
	}
}

static void check_plugins(struct conf *c, struct diag *d)
{
	for (struct conf_node *n = c->plugins_node->first; n; n = n->next) {
		null_to_map(n);
		n->is_plugin = 1;
		if (!is_name(n->key))
			node_complain(c, n, AT_KEY, d,
					"plugins: \"%.64s\" is no name for an instance; use up to %d of A-Z a-z 0-9 - _",
					n->key.p, NAME_MAX_LEN);
		if (n->kind != NODE_MAP) {
			node_complain(c, n, AT_VALUE, d,
					"%.64s: options are expected here, as \"key: value\" lines, but this is %s",
					n->key.p, node_kind_name(n));
			*n = (struct conf_node){ .kind = NODE_MAP,
				.is_plugin = 1,
				.key = n->key,
				.key_at = n->key_at,
				.at = n->at,
				.next = n->next,
				.up = n->up };
		}
	}
}

/* The map below a top key, made if it is not there. */
static struct conf_node *section(struct conf *c, const char *key, struct diag *d)
{
	struct conf_node *n = node_find(c->root, str_of(key));
	if (n) {
		null_to_map(n);
		if (n->kind == NODE_MAP)
			return n;
		node_complain(c, n, AT_VALUE, d,
				"%s: \"key: value\" lines are expected below it, but this is %s", key,
				node_kind_name(n));
	}
	struct conf_node *made = node_new(c, NODE_MAP);
	if (!made) {
		node_no_memory(d);
		return NULL;
	}
	made->key = str_of(key);
	made->up = c->root;
	return made;
}

static void check_top(struct conf *c, struct diag *d)
{
	static const char *const known[] = { "server", "plugins", NULL };
	for (const struct conf_node *n = c->root->first; n; n = n->next) {
		if (str_is(n->key, known[0]) || str_is(n->key, known[1]))
			continue;
		const char *near = str_near(n->key.p, known);
		if (near)
			node_complain(
					c, n, AT_KEY, d, "unknown key \"%.64s\"; did you mean \"%s\"?", n->key.p, near);
		else
			node_complain(c, n, AT_KEY, d,
					"unknown key \"%.64s\"; the top keys are \"server\" and \"plugins\", and a plugin's "
					"options belong below \"plugins\"",
					n->key.p);
	}
}

static int shape(struct conf *c, struct diag *d)
{
	if (c->root->is_null) {
		node_complain(
				c, NULL, AT_VALUE, d, "the file is empty; it needs at least the key \"plugins\"");
		return -1;
	}
	if (c->root->kind != NODE_MAP) {
		node_complain(c, c->root, AT_VALUE, d,
				"the keys \"server\" and \"plugins\" are expected here, but this is %s",
				node_kind_name(c->root));
		return -1;
	}
	check_top(c, d);
	c->server_node = section(c, "server", d);
	c->plugins_node = section(c, "plugins", d);
	if (!c->server_node || !c->plugins_node)
		return -1;
	check_plugins(c, d);
	return 0;
}

struct conf *conf_load_text(const char *name, struct chatd_str text, struct diag *d)
{
	struct conf *c = create(name, text.n > CONF_BYTES_MAX ? chatd_str_of("", 0) : text);
	if (!c) {
		node_no_memory(d);
		return NULL;
	}
	if (text.n > CONF_BYTES_MAX) {
		node_complain(c, NULL, AT_VALUE, d, "the file is larger than 1 MiB");
		conf_free(c);
		return NULL;
	}
	struct parse_input in = { .text = c->text };
	c->root = parse_yaml(c, &in, d);
	if (!c->root || shape(c, d)) {
		conf_free(c);
		return NULL;
	}
	return c;
}

static ssize_t read_all(int fd, char *to, size_t max)
{
	size_t n = 0;
	while (n < max) {
		ssize_t k = read(fd, to + n, max - n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		if (k == 0)
			break;
		n += (size_t)k;
	}
	return (ssize_t)n;
}

struct conf *conf_load_file(const char *path, struct diag *d)
{
	struct diag_at at = { .file = path };
	struct conf *c = NULL;
	char *text = malloc(CONF_BYTES_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 || !text ? -1 : read_all(fd, text, CONF_BYTES_MAX + 1);
	if (!text)
		node_no_memory(d);
	else if (n < 0)
		diag_add(d, &at, "cannot be read: %s", strerror(errno));
	else
		c = conf_load_text(path, chatd_str_of(text, (size_t)n), d);
	if (fd >= 0)
		close(fd);
	free(text);
	return c;
}
