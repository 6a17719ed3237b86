/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line shows of the host: ready file, hooks, plugins, descriptions. */
#include "base/log.h"
#include "host/instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int kind_seen(const struct host *h, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(h->bound[k].kind, h->bound[i].kind) == 0) {
			return 1;
		}
	}
	return 0;
}

static void write_ready(const struct host *h, FILE *f)
{
	fprintf(f, "{\"pid\":%ld,\"server_id\":\"%s\"", (long)getpid(), h->server->server_id);
	for (size_t i = 0; i < h->n_bound; i++) {
		if (kind_seen(h, i)) {
			continue;
		}
		fprintf(f, ",\"%s\":[", h->bound[i].kind);
		for (size_t k = i, n = 0; k < h->n_bound; k++) {
			if (strcmp(h->bound[k].kind, h->bound[i].kind) == 0) {
				fprintf(f, "%s\"%s\"", n++ ? "," : "", h->bound[k].address);
			}
		}
		fputc(']', f);
	}
	fputs("}\n", f);
}

int host_ready_file(const struct host *h, const char *path)
{
	char *temp = NULL;
	if (asprintf(&temp, "%s.%ld", path, (long)getpid()) < 0) {
		return -ENOMEM;
	}
	int rc = 0;
	FILE *f = fopen(temp, "w");
	if (f) {
		write_ready(h, f);
	}
	/* Renamed, so that whoever waits for the file never reads half of it. */
	if (!f || fclose(f) != 0 || rename(temp, path) != 0) {
		rc = -errno;
		log_write(CHATD_LOG_ERROR, "core", "cannot write the ready file \"%s\": %s", path,
				strerror(errno));
		(void)unlink(temp);
	}
	free(temp);
	return rc;
}

static const char *band(int32_t order)
{
	static const char *const names[] = { "before guard", "guard", "check", "change", "store",
		"observe" };
	int32_t i = order / 100;
	return names[i < 0 ? 0 : i > 5 ? 5 : i];
}

void host_print_hooks(const struct host *h, FILE *f)
{
	for (int i = 1; i < chatd_hook_count; i++) {
		const struct chain *c = &h->chat->chains[i];
		fprintf(f, "%s (%s%s)\n", c->name, c->notify ? "notify" : "decide",
				c->may_wait ? ", may wait" : "");
		for (size_t k = 0; k < c->n; k++) {
			fprintf(f, "  %4d %-8s %s\n", c->hooks[k].order, band(c->hooks[k].order),
					c->hooks[k].who);
		}
	}
	fputs("handlers\n", f);
	for (size_t i = 0; i < h->chat->n_apps; i++) {
		fprintf(f, "  /app/%s  %s\n", h->chat->apps[i].name, h->chat->apps[i].hook.who);
	}
	fputs("destinations\n", f);
	for (size_t i = 0; i < h->chat->n_prefixes; i++) {
		fprintf(f, "  %s  %s  %s\n", h->chat->prefixes[i].prefix,
				h->chat->prefixes[i].conf.kind == CHATD_DEST_QUEUE ? "queue" : "topic",
				h->chat->prefixes[i].who);
	}
}

int host_print_plugins(struct host *h, FILE *f)
{
	size_t n = 0;
	char **names = modules_list(h->modules, &n);
	for (size_t i = 0; i < n; i++) {
		struct load_error e = { "" };
		const struct module *m = module_load(h->modules, names[i], &e);
		if (m) {
			fprintf(f, "%-18s %-8s %s\n", names[i], m->plugin.version ? m->plugin.version : "-",
					m->plugin.summary ? m->plugin.summary : "");
		} else {
			fprintf(f, "%-18s %-8s %s\n", names[i], "-", e.text);
		}
		free(names[i]);
	}
	free(names);
	return 0;
}

int host_describe(struct host *h, const char *what, int format, FILE *f)
{
	struct load_error e = { "" };
	if (strcmp(what, "server") == 0) {
		return conf_describe(f, format, conf_server_about());
	}
	const struct module *m = module_load(h->modules, what, &e);
	if (!m) {
		fprintf(stderr, "chatd: %s\n", e.text);
		return -ENOENT;
	}
	struct conf_about a = module_about(&m->plugin);
	return conf_describe(f, format, &a);
}

int host_print_schema(struct host *h, FILE *f)
{
	size_t n = 0, known = 0;
	char **names = modules_list(h->modules, &n);
	struct conf_about *all = calloc(n + 1, sizeof(*all));
	for (size_t i = 0; i < n; i++) {
		struct load_error e;
		const struct module *m = all ? module_load(h->modules, names[i], &e) : NULL;
		if (m) {
			all[known++] = module_about(&m->plugin);
		}
		free(names[i]);
	}
	int rc = all ? conf_schema(f, all, known) : -ENOMEM;
	free(all);
	free(names);
	return rc;
}

void host_announce(const struct host *h)
{
	for (size_t i = 0; i < h->n_bound; i++) {
		log_write(
				CHATD_LOG_INFO, "core", "%s listens on %s", h->bound[i].kind, h->bound[i].address);
	}
	log_write(CHATD_LOG_INFO, "core", "ready: server %s, %d workers, %zu plugins",
			h->server->server_id, h->chat->n_workers, h->n);
}
