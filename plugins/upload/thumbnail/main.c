/* SPDX-License-Identifier: Apache-2.0 */
/* chatd-thumbnail PIXELS MEMORY EDGE...: reads a picture from its standard input and writes small
 * ones of it to its standard output:
 *
 *     WIDTH HEIGHT\n             of the picture, as it should be seen
 *     EDGE BYTES\n...            each, in WebP
 */
#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_MAX = 128 << 20, SIZES_MAX = 8 };

static int64_t number(const char *s, int64_t most)
{
	char *end;
	errno = 0;
	long long n = strtoll(s, &end, 10);
	if (errno || *end || end == s || n < 1 || n > most) {
		_exit(EXIT_USAGE);
	}
	return n;
}

static struct bytes read_all(void)
{
	size_t n = 0, cap = 1 << 20;
	uint8_t *p = malloc(cap);
	for (;;) {
		if (n == cap) {
			uint8_t *more = cap < INPUT_MAX ? realloc(p, cap *= 2) : NULL;
			if (!more) {
				give_up();
			}
			p = more;
		}
		ssize_t got = p ? read(STDIN_FILENO, p + n, cap - n) : -1;
		if (got < 0 && errno != EINTR) {
			_exit(EXIT_SYSTEM);
		}
		if (got == 0) {
			return (struct bytes){ p, n };
		}
		n += got > 0 ? (size_t)got : 0;
	}
}

static void write_all(const void *p, size_t n)
{
	for (const char *at = p; n;) {
		ssize_t done = write(STDOUT_FILENO, at, n);
		if (done < 0 && errno != EINTR) {
			_exit(EXIT_SYSTEM);
		}
		at += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
}

static void decode(struct bytes b, struct shrink *s)
{
	static const struct {
		const char *magic;
		size_t at, n;
		void (*decode)(struct bytes, struct shrink *);
	} kinds[] = { { "\xff\xd8\xff", 0, 3, decode_jpeg }, { "\x89PNG\r\n\x1a\n", 0, 8, decode_png },
		{ "WEBP", 8, 4, decode_webp }, { "GIF8", 0, 4, decode_gif } };
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (b.n >= kinds[i].at + kinds[i].n &&
				memcmp(b.p + kinds[i].at, kinds[i].magic, kinds[i].n) == 0) {
			kinds[i].decode(b, s);
			return;
		}
	}
	give_up();
}

int main(int argc, char **argv)
{
	int edges[SIZES_MAX], n = argc - 3;
	struct shrink s = { .orientation = 1 };
	char line[64];
	if (n < 1 || n > SIZES_MAX) {
		static const char usage[] = "usage: chatd-thumbnail PIXELS MEMORY EDGE... <PICTURE\n";
		(void)!write(STDERR_FILENO, usage, sizeof(usage) - 1);
		return EXIT_USAGE;
	}
	s.pixels = number(argv[1], INT64_C(1) << 32);
	for (int i = 0; i < n; i++) {
		edges[i] = (int)number(argv[3 + i], EDGE_MAX);
		s.edge = edges[i] > s.edge ? edges[i] : s.edge;
	}
	close_range(3, ~0u, 0);
	(void)!nice(10); /* who chats comes first */
	if (sandbox_limits(number(argv[2], INT64_C(1) << 40)) < 0) {
		return EXIT_SYSTEM;
	}
	struct bytes b = read_all();
	if (sandbox_enter() < 0) {
		return EXIT_SYSTEM;
	}
	decode(b, &s);
	int turned = s.orientation >= 5;
	write_all(line,
			(size_t)snprintf(line, sizeof(line), "%d %d\n", turned ? s.height : s.width,
					turned ? s.width : s.height));
	for (int i = 0; i < n; i++) {
		struct bytes made = shrink_webp(&s, edges[i]);
		write_all(line, (size_t)snprintf(line, sizeof(line), "%d %zu\n", edges[i], made.n));
		write_all(made.p, made.n);
	}
	_exit(0);
}
