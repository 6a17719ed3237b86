/* SPDX-License-Identifier: Apache-2.0 */
/* CHATD_O_URL: what --check takes, fetch does not refuse when the server starts. */
#include "conf/value.h"
#include "url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *const schemes[] = { "https://", "http://", "HTTPS://", "https:/", "https:///",
	"https:", "ftp://", "file://", "//", "" };
static const char *const users[] = { "", "u@", "u:p@", "@", ":@" };
static const char long_name[] =
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789.example.org";
static const char *const hosts[] = { "", "example.org", "Example.ORG.", "a_b", "-", ".", "..",
	"a..b", "1.2.3.4", "127.1", "0x7f000001", "0177.0.0.1", "1.2.3.4.5", "256.1.1.1", "4294967296",
	"[::1]", "[2001:db8::1]", "[::ffff:1.2.3.4]", "[fe80::1%25eth0]", "[1]", "[]", "[::1", "::1",
	"ex%61mple.org", "a%2eb", "a%00b", "a b", "a,b", "a*b", "*", "xn--nxasmq6b", "\xc3\xbc.de",
	long_name };
static const char *const ports[] = { "", ":", ":0", ":1", ":080", ":443", ":65535", ":65536",
	":4294967377", ":18446744073709551697", ":0x50", ":-1", ":+1", ": 1", ":1:2" };
static const char *const tails[] = { "", "/", "/a/b?c=d#e", "?x", "#y", "/a@b", "?a@b", "#@b",
	"/%zz", "/%00", "/..", "/\\", "\\@b", "/ ", "/\x7f", "//", "/:1" };

#define EACH(i, list) for (size_t i = 0; i < sizeof(list) / sizeof((list)[0]); i++)

static int fetch_takes(const char *text)
{
	static const char *const none[] = { NULL };
	static const struct url_rules rules = { none, none };
	const char *why;
	struct url u;
	chatd_status rc = url_read(&u, chatd_str_of(text, strlen(text)), 0, &rules, &why);
	url_finish(&u);
	return rc == 0;
}

/* What the configuration alone refuses: other ways to write what can be written plainly, and a port
 * that nobody listens at. */
static int is_odd(const char *text)
{
	const char *at = strstr(text, "://");
	size_t n = at ? strcspn(at + 3, "/?#") : 0;
	int plain = strncmp(text, "https://", 8) == 0 || strncmp(text, "http://", 7) == 0;
	return !plain || memchr(at + 3, '@', n) || memchr(at + 3, '%', n) || at[n + 2] == ':' ||
			(n > 2 && strncmp(at + n + 1, ":0", 2) == 0);
}

static int compare(const char *text)
{
	int conf = value_url(chatd_str_of(text, strlen(text))) == NULL, fetch = fetch_takes(text);
	if (conf != fetch && !(fetch && is_odd(text))) {
		print_error("%s is taken by %s alone\n", text, conf ? "--check" : "fetch");
		return 1;
	}
	return 0;
}

static void both_say_the_same(void **state)
{
	char text[600];
	int differ = 0;
	(void)state;
	EACH(s, schemes)
	{
		EACH(u, users)
		{
			EACH(h, hosts)
			{
				EACH(p, ports)
				{
					EACH(t, tails)
					{
						snprintf(text, sizeof(text), "%s%s%s%s%s", schemes[s], users[u], hosts[h],
								ports[p], tails[t]);
						differ += compare(text);
					}
				}
			}
		}
	}
	assert_int_equal(differ, 0);
}

static void both_say_the_same_of_long_ones(void **state)
{
	char text[2100] = "https://example.org/";
	(void)state;
	memset(text + 20, 'a', sizeof(text) - 20);
	for (size_t n = 2040; n < 2060; n++) {
		char end = text[n];
		text[n] = '\0';
		assert_int_equal(compare(text), 0);
		text[n] = end;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_say_the_same),
		cmocka_unit_test(both_say_the_same_of_long_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
