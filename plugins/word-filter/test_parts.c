/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: folding, the automaton, lists and what is found by them. */
#include "lists.h"
#include "words.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char file[256]; /* of the list at hand */

static struct chatd_str z(const char *s)
{
	return chatd_str_of(s, strlen(s));
}

static void write_file(const char *text, size_t n)
{
	FILE *f = fopen(file, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

/* ---- folding ------------------------------------------------------------------------------ */

static void what_is_the_same_folds_to_the_same(void **state)
{
	static const struct {
		const char *text, *folded, *without; /* NULL: the same without confusables */
	} table[] = {
		{ "", "", NULL },
		{ "Fool me", "fool me", NULL },
		{ "FÖÖL", "fool", NULL },
		{ "fo\xcc\x81ol", "fool", NULL },                       /* a combining accent */
		{ "ｆｏｏｌ", "fool", NULL },                           /* of full width */
		{ "f\xe2\x80\x8bo\xc2\xadol", "fool", NULL },           /* a space of no width, a hyphen */
		{ "f\xd0\xbe\xd0\xbel", "fool", "f\xd0\xbe\xd0\xbel" }, /* Cyrillic o */
		{ "straße", "strasse", NULL },
		{ "f00l rn m 1l", "f00l rn m 1l", NULL }, /* Latin letters and digits are what they are */
		{ "바보", "바보", NULL },
		{ "\xe1\x84\x87\xe1\x85\xa1\xe1\x84\x87\xe1\x85\xa9", "바보", NULL }, /* single letters */
		{ "愚か", "愚か", NULL },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", NULL },
	};
	(void)state;
	for (int confusables = 0; confusables < 2; confusables++) {
		struct fold *fold = fold_create(confusables);
		assert_non_null(fold);
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			const char *want =
					!confusables && table[i].without ? table[i].without : table[i].folded;
			for (int twice = 0; twice < 2; twice++) { /* out of the cache, too */
				struct folded t;
				assert_int_equal(fold_text(fold, z(table[i].text), &t), 0);
				assert_string_equal(t.p, want);
				assert_int_equal(t.n, strlen(want));
				assert_int_equal(t.from[t.n], t.n_whole);
				folded_free(&t);
			}
		}
		fold_destroy(fold);
	}
	fold_destroy(NULL);
}

static void each_byte_knows_its_character(void **state)
{
	static const uint32_t want[] = { 0, 1, 3, 3, 5, 6 }; /* x, é, ß (twice), y, the end */
	struct folded t;
	(void)state;
	struct fold *fold = fold_create(1);
	assert_int_equal(fold_text(fold, z("x\xc3\xa9\xc3\x9fy"), &t), 0);
	assert_string_equal(t.p, "xessy");
	assert_memory_equal(t.from, want, sizeof(want));
	assert_false(fold_word_before(&t, 0));
	assert_true(fold_word_before(&t, 3));
	assert_true(fold_word_at(&t, 5));
	assert_false(fold_word_at(&t, 6));
	folded_free(&t);
	assert_int_equal(fold_text(fold, z("a b"), &t), 0);
	assert_false(fold_word_at(&t, 1));
	assert_false(fold_word_before(&t, 2));
	assert_true(fold_word_before(&t, 1));
	folded_free(&t);
	fold_destroy(fold);
}

static void bytes_that_are_no_text_are_refused(void **state)
{
	static const char *const bad[] = { "\xff", "a\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80",
		"\xc0\xaf", "ok\x80" };
	struct folded t;
	(void)state;
	struct fold *fold = fold_create(1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fold_text(fold, z(bad[i]), &t), -EINVAL);
	}
	fold_destroy(fold);
}

/* ---- the automaton ---------------------------------------------------------------------------- */

struct seen {
	char text[512];
	size_t n;
};

static void on_word(void *arg, uint32_t id, size_t end, size_t n)
{
	struct seen *s = arg;
	size_t at = strlen(s->text);
	snprintf(s->text + at, sizeof(s->text) - at, "%u@%zu+%zu ", (unsigned)id, end, n);
	s->n++;
}

static void all_words_are_found_in_one_pass(void **state)
{
	struct seen seen = { .n = 0 };
	(void)state;
	struct words *w = words_create();
	static const char *const words[] = { "he", "she", "his", "hers", "she" };
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(words_add(w, words[i], strlen(words[i]), i), 0);
	}
	assert_int_equal(words_add(w, "", 0, 9), -EINVAL);
	assert_int_equal(words_build(w), 0);
	words_scan(w, "ushers", 6, on_word, &seen);
	assert_string_equal(seen.text, "4@4+3 1@4+3 0@4+2 3@6+4 ");
	words_destroy(w);
	w = words_create(); /* no word at all */
	assert_int_equal(words_build(w), 0);
	seen.n = 0;
	words_scan(w, "ushers", 6, on_word, &seen);
	assert_int_equal(seen.n, 0);
	words_destroy(w);
	words_destroy(NULL);
}

enum { WORDS = 200, TEXT = 400 };

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 16;
}

static void on_count(void *arg, uint32_t id, size_t end, size_t n)
{
	unsigned(*times)[TEXT + 1] = arg;
	(void)n;
	times[id][end]++;
}

/* Against looking for each by itself, with letters so few that everything overlaps. */
static void it_finds_what_looking_for_each_finds(void **state)
{
	static char words[WORDS][9], in[TEXT];
	static unsigned times[WORDS][TEXT + 1];
	uint32_t seed = 7;
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct words *w = words_create();
		memset(times, 0, sizeof(times));
		for (uint32_t i = 0; i < WORDS; i++) {
			size_t n = 1 + next(&seed) % 8;
			for (size_t k = 0; k < n; k++) {
				words[i][k] = (char)('a' + next(&seed) % 2);
			}
			words[i][n] = '\0';
			assert_int_equal(words_add(w, words[i], n, i), 0);
		}
		for (size_t i = 0; i < TEXT; i++) {
			in[i] = (char)('a' + next(&seed) % 8 / 4);
		}
		assert_int_equal(words_build(w), 0);
		words_scan(w, in, TEXT, on_count, times);
		for (uint32_t i = 0; i < WORDS; i++) {
			size_t n = strlen(words[i]);
			for (size_t end = 0; end <= TEXT; end++) {
				unsigned want = end >= n && memcmp(in + end - n, words[i], n) == 0;
				assert_int_equal(times[i][end], want);
			}
		}
		words_destroy(w);
	}
}

/* ---- lists -------------------------------------------------------------------------------------- */

static struct lists *read_one(
		const char *text, int32_t action, int confusables, char why[LISTS_WHY])
{
	const struct list_conf conf = { file, action };
	write_file(text, strlen(text));
	return lists_read(&conf, 1, confusables, why);
}

static void mistakes_are_named_with_file_and_line(void **state)
{
	static char many[2000], wide[1100];
	const struct {
		const char *text, *part;
	} table[] = {
		{ "fool\n/[/\n", ":2: no pattern that ICU takes (U_REGEX_" },
		{ "/abc\n", ":1: a pattern is /between slashes/" },
		{ "//\n", ":1: a pattern is /between slashes/" },
		{ "/\n", ":1: a pattern is /between slashes/" },
		{ "ok\n# fine\n\xff\n", ":3: this is no UTF-8" },
		{ "\xe2\x80\x8b\n", ":1: nothing is left of this word" },
		{ "*\n", ":1: nothing is left of this word" },
		{ "**\n", ":1: nothing is left of this word" },
		{ many, ":101: there are 100 patterns already; make some of them words" },
		{ wide, ":1: a line has at most 1023 bytes" },
	};
	char why[LISTS_WHY];
	(void)state;
	for (int i = 0; i < 101; i++) {
		snprintf(many + strlen(many), sizeof(many) - strlen(many), "/a%d/\n", i);
	}
	memset(wide, 'a', 1024);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct lists *l = read_one(table[i].text, ACTION_MASK, 1, why);
		assert_null(l);
		assert_memory_equal(why, file, strlen(file));
		if (!strstr(why, table[i].part)) {
			fail_msg("%s: not %s", why, table[i].part);
		}
	}
	const struct list_conf none = { "/nowhere/at all", ACTION_MASK }, folder = { "/", ACTION_MASK };
	assert_null(lists_read(&none, 1, 1, why));
	assert_string_equal(why, "/nowhere/at all cannot be read: No such file or directory");
	assert_null(lists_read(&folder, 1, 1, why));
	assert_string_equal(why, "/ cannot be read");
	lists_unref(NULL);
}

static void lines_are_read_as_they_are_meant(void **state)
{
	static char wide[1100];
	char why[LISTS_WHY];
	(void)state;
	struct lists *l = read_one("# a comment\n\n \t fool \t\r\n/a+/\nlast", ACTION_MASK, 1, why);
	assert_non_null(l);
	assert_int_equal(lists_count(l), 3);
	lists_unref(l);
	memset(wide, 'a', 1023);
	wide[1023] = '\n';
	l = read_one(wide, ACTION_MASK, 1, why);
	assert_non_null(l);
	lists_unref(l);
	l = read_one("", ACTION_MASK, 1, why);
	assert_non_null(l);
	assert_int_equal(lists_count(l), 0);
	lists_unref(l);
}

struct case_of {
	const char *words, *text, *masked; /* masked NULL: nothing is found */
};

static void look(const struct case_of *c, int confusables)
{
	char why[LISTS_WHY];
	struct sight s;
	size_t n = 0;
	struct lists *l = read_one(c->words, ACTION_MASK, confusables, why);
	if (!l) {
		fail_msg("%s", why);
	}
	struct eye *eye = eye_create(l, confusables);
	lists_unref(l); /* the eye has its own */
	assert_non_null(eye);
	assert_int_equal(eye_look(eye, z(c->text), &s), 0);
	assert_int_equal(s.refused + s.flagged + s.gave_up, 0);
	if (s.masks != (c->masked != NULL)) {
		fail_msg("%s in %s: %s", c->words, c->text, s.masks ? "found" : "not found");
	}
	char *out = s.masks ? sight_masked(&s, &n) : NULL;
	if (out) {
		assert_int_equal(n, strlen(c->masked));
		assert_memory_equal(out, c->masked, n);
	}
	free(out);
	sight_free(&s);
	eye_destroy(eye);
}

static void words_are_whole_unless_a_star_says_so(void **state)
{
	static const struct case_of table[] = {
		{ "fool", "you fool!", "you ****!" },
		{ "fool", "fool", "****" },
		{ "fool", "foolish", NULL },
		{ "fool", "tomfool", NULL },
		{ "fool", "fool7", NULL },
		{ "fool", "foo l", NULL },
		{ "fool", "fool fool,fool", "**** ****,****" },
		{ "fool*", "foolish tomfool", "****ish tomfool" },
		{ "*fool", "foolish tomfool", "foolish tom****" },
		{ "*fool*", "untomfoolery", "untom****ery" },
		{ "new york", "in New York.", "in ********." },
		{ "new york", "new  york", NULL },
		{ "fool", "f\xc3\x96\xc3\xb6l", "****" },
		{ "fool", "fo\xcc\x81ol", "****" }, /* one star for what can be seen */
		{ "fool", "f\xe2\x80\x8bool", "****" },
		{ "FÖÖL", "fool", "****" },
		{ "바보*", "바보야", "**야" },
		{ "바보", "바보야", NULL },
		{ "fool", "f\xd0\xbe\xd0\xbel", "****" },
		{ "*s*",
				"stra\xc3\x9f"
				"e",
				"*tra\xc3\x9f"
				"e" }, /* half of a character is no word */
		{ "*ss*",
				"stra\xc3\x9f"
				"e",
				"stra*e" },
		{ "a\nab\nabc", "abc", "***" },
		{ "fool\nugly fool", "ugly fool", "*********" },
		{ "\xf0\x9f\x96\x95", "so \xf0\x9f\x96\x95 there", "so * there" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		look(&table[i], 1);
	}
	const struct case_of plain = { "fool", "f\xd0\xbe\xd0\xbel", NULL };
	look(&plain, 0);
}

static void patterns_see_the_folded_text(void **state)
{
	static const struct case_of table[] = {
		{ "/555-[0-9]{4}/", "call 555-1234 or 555-99", "call ******** or 555-99" },
		{ "/fo+l/", "F\xc3\x96\xc3\x96\xc3\x96L", "*****" },
		{ "/FO+L/", "fooool", "******" },
		{ "/x*/", "abc", NULL }, /* what is empty is nothing */
		{ "/\xeb\xb0\x94./", "바보야", "**야" },
		/* U+32C0 is "1" and a character: what is found of it is shown nowhere. */
		{ "/[0-9]/", "in \xe3\x8b\x80.", "in *." },
		{ "/fas/", "a fa\xc3\x9f", "a ***" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		look(&table[i], 0);
	}
}

static void lists_have_their_own_actions(void **state)
{
	char why[LISTS_WHY], second[300];
	struct sight s;
	(void)state;
	snprintf(second, sizeof(second), "%s.2", file);
	write_file("stop\n/halt[0-9]/\n", 17);
	assert_int_equal(rename(file, second), 0);
	write_file("look", 4);
	const struct list_conf conf[] = { { file, ACTION_FLAG }, { second, ACTION_REFUSE } };
	struct lists *l = lists_read(conf, 2, 1, why);
	assert_non_null(l);
	struct eye *eye = eye_create(l, 1);
	lists_unref(l);
	static const struct {
		const char *text;
		int32_t refused, flagged;
	} table[] = { { "look", 0, 1 }, { "stop", 2, 0 }, { "halt7", 2, 0 }, { "stop and look", 2, 1 },
		{ "go", 0, 0 }, { "", 0, 0 } };
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(eye_look(eye, z(table[i].text), &s), 0);
		assert_int_equal(s.refused, table[i].refused);
		assert_int_equal(s.flagged, table[i].flagged);
		assert_false(s.masks);
		sight_free(&s);
	}
	assert_int_equal(eye_look(eye, z("\xff"), &s), -EINVAL);
	eye_destroy(eye);
	eye_destroy(NULL);
	(void)unlink(second);
}

/* A pattern that would need the age of the world ends, and what words find is found. */
static void a_slow_pattern_gives_up(void **state)
{
	static char text[4096];
	char why[LISTS_WHY];
	struct sight s;
	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	memcpy(text + sizeof(text) - 6, " fool", 5);
	struct lists *l = read_one("fool\n/(a|a)*b/\n/(a+)+c/\n", ACTION_MASK, 1, why);
	assert_non_null(l);
	struct eye *eye = eye_create(l, 1);
	lists_unref(l);
	assert_int_equal(eye_look(eye, z(text), &s), 0);
	assert_true(s.gave_up);
	assert_true(s.masks && s.masked[sizeof(text) - 2] && !s.masked[0]);
	sight_free(&s);
	assert_int_equal(eye_look(eye, z("aab"), &s), 0); /* the next text has its own time */
	assert_false(s.gave_up);
	assert_true(s.masks);
	sight_free(&s);
	eye_destroy(eye);
}

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	(void)state;
	snprintf(file, sizeof(file), "%s/words-XXXXXX", tmp ? tmp : "/tmp");
	int fd = mkstemp(file);
	return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_the_same_folds_to_the_same),
		cmocka_unit_test(each_byte_knows_its_character),
		cmocka_unit_test(bytes_that_are_no_text_are_refused),
		cmocka_unit_test(all_words_are_found_in_one_pass),
		cmocka_unit_test(it_finds_what_looking_for_each_finds),
		cmocka_unit_test(mistakes_are_named_with_file_and_line),
		cmocka_unit_test(lines_are_read_as_they_are_meant),
		cmocka_unit_test(words_are_whole_unless_a_star_says_so),
		cmocka_unit_test(patterns_see_the_folded_text),
		cmocka_unit_test(lists_have_their_own_actions),
		cmocka_unit_test(a_slow_pattern_gives_up),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
