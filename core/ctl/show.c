/* SPDX-License-Identifier: Apache-2.0 */
/* Answers as people want to read them. */
#include "ctl/ctl.h"

#include <stdio.h>
#include <string.h>

enum { COLUMNS = 12, WIDTH_MAX = 40 };

/* Names may hold what a terminal would obey. */
static int put(const char *s, int width)
{
	int n = 0;
	for (; *s && (!width || n < width); s++) {
		unsigned char c = (unsigned char)*s;
		fputc(c < 0x20 || c == 0x7f ? '?' : c, stdout);
		n += (c & 0xc0) != 0x80;
	}
	return n;
}

static const char *text_of(const json_t *v, char room[32])
{
	if (json_is_string(v)) {
		return json_string_value(v);
	}
	if (json_is_integer(v)) {
		snprintf(room, 32, "%lld", (long long)json_integer_value(v));
		return room;
	}
	return json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "-";
}

struct column {
	const char *member, *title;
};

static int width_of(const json_t *rows, const struct column *c)
{
	size_t i;
	const json_t *row;
	char room[32];
	int width = (int)strlen(c->title);
	json_array_foreach (rows, i, row) {
		int n = (int)strlen(text_of(json_object_get(row, c->member), room));
		width = n > width ? n : width;
	}
	return width > WIDTH_MAX ? WIDTH_MAX : width;
}

static void pad(int n)
{
	while (n-- > 0) {
		fputc(' ', stdout);
	}
}

static void table(const json_t *rows, const struct column *c)
{
	int width[COLUMNS], n = 0;
	for (; c[n].member; n++) {
		width[n] = width_of(rows, &c[n]);
		pad(width[n] - put(c[n].title, 0) + 2);
	}
	fputc('\n', stdout);
	size_t i;
	const json_t *row;
	char room[32];
	json_array_foreach (rows, i, row) {
		for (int k = 0; k < n; k++) {
			int shown = put(text_of(json_object_get(row, c[k].member), room), width[k]);
			pad(k + 1 < n ? width[k] - shown + 2 : 0);
		}
		fputc('\n', stdout);
	}
}

static void members(json_t *answer)
{
	const char *key;
	json_t *v;
	char room[32];
	json_object_foreach (answer, key, v) {
		if (strcmp(key, "ok") != 0) {
			printf("%-16s ", key);
			put(text_of(v, room), 0);
			fputc('\n', stdout);
		}
	}
}

static json_int_t number_of(const json_t *row, const char *member)
{
	return json_integer_value(json_object_get(row, member));
}

/* The same plugin in the same version; of some both an older and a newer one run. */
static json_t *row_of(const json_t *rows, const json_t *like)
{
	size_t i;
	json_t *row;
	json_array_foreach (rows, i, row) {
		if (json_equal(json_object_get(row, "plugin"), json_object_get(like, "plugin")) &&
				json_equal(json_object_get(row, "version"), json_object_get(like, "version"))) {
			return row;
		}
	}
	return NULL;
}

void ctl_differences(const json_t *before, json_t *after)
{
	static const char *const grows[] = { "calls", "busyMicros", "errors", "timeouts", "slow",
		NULL };
	json_t *rows = json_object_get(after, "plugins"), *sorted = json_array(), *row;
	size_t i;
	json_array_foreach (rows, i, row) {
		const json_t *was = row_of(json_object_get(before, "plugins"), row);
		for (size_t k = 0; grows[k]; k++) {
			json_object_set_new(row, grows[k],
					json_integer(number_of(row, grows[k]) - number_of(was, grows[k])));
		}
		size_t at = 0;
		while (at < json_array_size(sorted) &&
				number_of(json_array_get(sorted, at), "busyMicros") >=
						number_of(row, "busyMicros")) {
			at++;
		}
		json_array_insert(sorted, at, row);
	}
	json_object_set_new(after, "plugins", sorted);
}

static void show_plugins(const json_t *answer)
{
	static const struct column columns[] = { { "plugin", "PLUGIN" }, { "state", "STATE" },
		{ "version", "VERSION" }, { "calls", "CALLS" }, { "busyMicros", "BUSY_US" },
		{ "errors", "ERRORS" }, { "timeouts", "TIMEOUTS" }, { "slow", "SLOW" },
		{ "bytes", "MEMORY" }, { "live", "LIVE" }, { "sessions", "SESSIONS" }, { NULL, NULL } };
	const json_t *rows = json_object_get(answer, "plugins");
	const json_t *row;
	size_t i;
	table(rows, columns);
	json_array_foreach (rows, i, row) {
		const char *why = json_string_value(json_object_get(row, "why"));
		if (why) {
			put(json_string_value(json_object_get(row, "plugin")), 0);
			fputs(": ", stdout);
			put(why, 0);
			fputc('\n', stdout);
		}
	}
}

void ctl_show(const char *command, json_t *answer)
{
	static const struct column nodes[] = { { "node", "NODE" }, { "state", "STATE" },
		{ "store", "STORE" }, { "broker", "BROKER" }, { "sessions", "SESSIONS" },
		{ "connections", "CONNECTIONS" }, { "uptimeSeconds", "UPTIME" },
		{ "residentBytes", "RESIDENT" }, { NULL, NULL } };
	static const struct column sessions[] = { { "session", "SESSION" }, { "user", "USER" },
		{ "name", "NAME" }, { "transport", "TRANSPORT" }, { "peer", "PEER" }, { "since", "SINCE" },
		{ "subscriptions", "SUBS" }, { "queuedBytes", "QUEUED" }, { NULL, NULL } };
	if (strcmp(command, "nodes") == 0) {
		table(json_object_get(answer, "nodes"), nodes);
	} else if (strcmp(command, "sessions") == 0) {
		const json_t *rows = json_object_get(answer, "sessions");
		table(rows, sessions);
		printf("%zu of %lld\n", json_array_size(rows),
				(long long)json_integer_value(json_object_get(answer, "total")));
	} else if (json_object_get(answer, "plugins")) {
		show_plugins(answer);
	} else if (strcmp(command, "plugin") == 0 || strcmp(command, "reload") == 0) {
		puts(json_string_value(json_object_get(answer, "message")));
	} else {
		members(answer);
	}
}
