/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's statements are SQLite's; what PostgreSQL writes in another way is changed here,
 * once for each statement: parameters, and names that are taken. */
#include "../store-sqlite/store.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *from, *to;
} words[] = {
	{ "user", "\"user\"" },     /* a reserved word */
	{ "lower", "ascii_lower" }, /* SQLite's knows A to Z; ours is in schema.c */
	{ "instr", "strpos" },
};

static int in_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static const char *replacement(const char *word, size_t n)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].from) == n && memcmp(words[i].from, word, n) == 0) {
			return words[i].to;
		}
	}
	return NULL;
}

/* "?" is the one after the highest so far, as SQLite counts. */
static size_t put_parameter(char to[16], const char **sql, int *highest)
{
	int number = (int)strtol(*sql + 1, NULL, 10);
	(*sql)++;
	while (isdigit((unsigned char)**sql)) {
		(*sql)++;
	}
	number = number ? number : *highest + 1;
	*highest = number > *highest ? number : *highest;
	return (size_t)snprintf(to, 16, "$%d", number);
}

static size_t put_word(char *to, const char **sql)
{
	size_t n = 0;
	while (in_word((*sql)[n])) {
		n++;
	}
	const char *with = replacement(*sql, n);
	size_t put = with ? strlen(with) : n;
	memcpy(to, with ? with : *sql, put);
	*sql += n;
	return put;
}

char *dialect(const char *sql)
{
	/* The longest of both: "user" grows by two, "lower" by six, "?" by three at most. */
	char *copy = malloc(4 * strlen(sql) + 32);
	size_t n = 0;
	int highest = 0;
	char quote = 0;
	while (copy && *sql) {
		if (quote || *sql == '\'' || *sql == '"') {
			quote = !quote ? *sql : *sql == quote ? 0 : quote;
			copy[n++] = *sql++;
		} else if (*sql == '?') {
			n += put_parameter(copy + n, &sql, &highest);
		} else if (in_word(*sql)) {
			n += put_word(copy + n, &sql);
		} else {
			copy[n++] = *sql++;
		}
	}
	if (copy) {
		copy[n] = '\0';
	}
	return copy;
}
