/* SPDX-License-Identifier: Apache-2.0 */
/* What the decoders make of good pictures and of bad ones, and that there is no way out. */
#include "image.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <gif_lib.h>
#include <png.h>
#include <webp/decode.h>
#include <webp/encode.h>

#include "samples.h"

enum { W = 64, H = 48, EDGE = 32, ROOM = 1 << 16 };

typedef void decode_fn(struct bytes, struct shrink *);

/* Red, green; blue, yellow: as the corners are seen. */
static const uint8_t colours[4][3] = { { 255, 0, 0 }, { 0, 255, 0 }, { 0, 0, 255 },
	{ 255, 255, 0 } };

static const uint8_t *colour_at(int x, int y)
{
	return colours[(y >= H / 2) * 2 + (x >= W / 2)];
}

static int is_near(const uint8_t *p, const uint8_t *want)
{
	return abs(p[0] - want[0]) + abs(p[1] - want[1]) + abs(p[2] - want[2]) < 60;
}

/* ---- what is made in here ------------------------------------------------------------------ */

struct file {
	uint8_t p[ROOM];
	size_t n;
};

static void put(struct file *f, const void *p, size_t n)
{
	assert_true(f->n + n <= sizeof(f->p));
	memcpy(f->p + f->n, p, n);
	f->n += n;
}

static void on_png(png_structp p, png_bytep b, size_t n)
{
	put(png_get_io_ptr(p), b, n);
}

static void make_png(struct file *f, int interlaced, int bits)
{
	png_structp p = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png_create_info_struct(p);
	uint8_t row[W * 6];
	f->n = 0;
	png_set_write_fn(p, f, on_png, NULL);
	png_set_IHDR(p, info, W, H, bits, PNG_COLOR_TYPE_RGB,
			interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
	png_write_info(p, info);
	int passes = interlaced ? png_set_interlace_handling(p) : 1;
	for (int pass = 0; pass < passes; pass++) {
		for (int y = 0; y < H; y++) {
			for (int x = 0; x < W * 3; x++) {
				uint8_t c = colour_at(x / 3, y)[x % 3];
				memset(row + x * (bits / 8), c, (size_t)bits / 8);
			}
			png_write_row(p, row);
		}
	}
	png_write_end(p, info);
	png_destroy_write_struct(&p, &info);
}

static int on_gif(GifFileType *g, const GifByteType *p, int n)
{
	put(g->UserData, p, (size_t)n);
	return n;
}

static void make_gif(struct file *f, int interlaced)
{
	GifColorType map[4];
	GifByteType row[W];
	int error;
	f->n = 0;
	for (int i = 0; i < 4; i++) {
		map[i] = (GifColorType){ colours[i][0], colours[i][1], colours[i][2] };
	}
	GifFileType *g = EGifOpen(f, on_gif, &error);
	ColorMapObject *m = GifMakeMapObject(4, map);
	assert_int_equal(EGifPutScreenDesc(g, W, H, 2, 0, m), GIF_OK);
	assert_int_equal(EGifPutImageDesc(g, 0, 0, W, H, interlaced, NULL), GIF_OK);
	static const int first[] = { 0, 4, 2, 1 }, step[] = { 8, 8, 4, 2 };
	for (int pass = 0; pass < (interlaced ? 4 : 1); pass++) {
		for (int y = interlaced ? first[pass] : 0; y < H; y += interlaced ? step[pass] : 1) {
			for (int x = 0; x < W; x++) {
				row[x] = (GifByteType)((y >= H / 2) * 2 + (x >= W / 2));
			}
			assert_int_equal(EGifPutLine(g, row, W), GIF_OK);
		}
	}
	EGifCloseFile(g, &error);
	GifFreeMapObject(m);
}

static void make_webp(struct file *f)
{
	uint8_t rgb[W * H * 3], *out;
	for (int i = 0; i < W * H; i++) {
		memcpy(rgb + 3 * i, colour_at(i % W, i / W), 3);
	}
	size_t n = WebPEncodeLosslessRGB(rgb, W, H, W * 3, &out);
	f->n = 0;
	put(f, out, n);
	WebPFree(out);
}

/* The JPEG with an EXIF segment that tells @p orientation. */
static void make_turned(struct file *f, int orientation, int big)
{
	static const uint8_t little_tiff[] = "II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\0\0\0\0\0\0\0";
	static const uint8_t big_tiff[] = "MM\0*\0\0\0\10\0\1\1\x12\0\3\0\0\0\1\0\0\0\0\0\0\0\0";
	uint8_t tiff[26];
	memcpy(tiff, big ? big_tiff : little_tiff, sizeof(tiff));
	tiff[big ? 19 : 18] = (uint8_t)orientation;
	f->n = 0;
	put(f, jpeg_plain, 2);
	put(f,
			"\xff\xe1\0\x22"
			"Exif\0\0",
			10);
	put(f, tiff, sizeof(tiff));
	put(f, jpeg_plain + 2, sizeof(jpeg_plain) - 2);
}

/* ---- good ones ----------------------------------------------------------------------------- */

static void check(decode_fn *decode, struct bytes b, int orientation)
{
	/* Which colour is seen in which corner, by orientation. */
	static const int corner[9][4] = { { 0 }, { 0, 1, 2, 3 }, { 1, 0, 3, 2 }, { 3, 2, 1, 0 },
		{ 2, 3, 0, 1 }, { 0, 2, 1, 3 }, { 2, 0, 3, 1 }, { 3, 1, 2, 0 }, { 1, 3, 0, 2 } };
	struct shrink s = { .pixels = W * H, .edge = EDGE, .orientation = 1 };
	int w, h;
	decode(b, &s);
	assert_int_equal(s.width, W);
	assert_int_equal(s.height, H);
	assert_int_equal(s.orientation, orientation);
	struct bytes out = shrink_webp(&s, EDGE);
	uint8_t *rgba = WebPDecodeRGBA(out.p, out.n, &w, &h);
	assert_non_null(rgba);
	assert_int_equal(w, orientation < 5 ? EDGE : EDGE * H / W);
	assert_int_equal(h, orientation < 5 ? EDGE * H / W : EDGE);
	for (int i = 0; i < 4; i++) {
		const uint8_t *p = rgba + 4 * ((i / 2 ? h - 4 : 3) * w + (i % 2 ? w - 4 : 3));
		if (!is_near(p, colours[corner[orientation][i]]) || p[3] != 255) {
			fail_msg("orientation %d, corner %d: %d %d %d %d", orientation, i, p[0], p[1], p[2],
					p[3]);
		}
	}
	WebPFree(rgba);
	WebPFree((void *)(uintptr_t)out.p);
	free(s.sum);
	free(s.rgba);
}

static void each_kind_is_read(void **state)
{
	struct file f = { .n = 0 };
	(void)state;
	check(decode_jpeg, (struct bytes){ jpeg_plain, sizeof(jpeg_plain) }, 1);
	check(decode_jpeg, (struct bytes){ jpeg_progressive, sizeof(jpeg_progressive) }, 1);
	check(decode_jpeg, (struct bytes){ jpeg_cmyk, sizeof(jpeg_cmyk) }, 1);
	for (int i = 0; i < 4; i++) {
		make_png(&f, i & 1, i & 2 ? 16 : 8);
		check(decode_png, (struct bytes){ f.p, f.n }, 1);
	}
	make_gif(&f, 0);
	check(decode_gif, (struct bytes){ f.p, f.n }, 1);
	make_gif(&f, 1);
	check(decode_gif, (struct bytes){ f.p, f.n }, 1);
	make_webp(&f);
	check(decode_webp, (struct bytes){ f.p, f.n }, 1);
}

static void it_is_turned_as_it_should_be_seen(void **state)
{
	struct file f = { .n = 0 };
	(void)state;
	for (int i = 1; i <= 8; i++) {
		make_turned(&f, i, 0);
		check(decode_jpeg, (struct bytes){ f.p, f.n }, i);
		make_turned(&f, i, 1);
		check(decode_jpeg, (struct bytes){ f.p, f.n }, i);
	}
	for (size_t n = 0; n < 26; n++) {
		assert_int_equal(exif_orientation((struct bytes){
								 (const uint8_t *)"MM\0*\xff\xff\xff\xff", n < 8 ? n : 8 }),
				1);
	}
}

static void small_ones_stay_and_large_ones_fit(void **state)
{
	static const int sizes[][3] = { { 1, 1, 1 }, { 5, 3, 5 }, { 3000, 2, 32 }, { 1, 20000, 32 },
		{ 1001, 999, 32 } };
	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct shrink s = { .pixels = 1 << 30, .edge = EDGE, .orientation = 1 };
		uint8_t *row = take((size_t)sizes[i][0] * 4);
		int w, h;
		memset(row, 0x80, (size_t)sizes[i][0] * 4);
		shrink_size(&s, sizes[i][0], sizes[i][1]);
		shrink_begin(&s, s.width, s.height);
		for (int y = 0; y < s.height + 2; y++) {
			shrink_row(&s, row);
		}
		struct bytes out = shrink_webp(&s, EDGE);
		assert_true(WebPGetInfo(out.p, out.n, &w, &h));
		assert_int_equal(w > h ? w : h, sizes[i][2]);
		WebPFree((void *)(uintptr_t)out.p);
		free(row);
		free(s.sum);
		free(s.rgba);
	}
}

/* ---- bad ones ------------------------------------------------------------------------------ */

struct attempt {
	decode_fn *decode;
	struct bytes b;
};

static void attempt(void *arg)
{
	struct attempt *a = arg;
	struct shrink s = { .pixels = 1 << 20, .edge = EDGE, .orientation = 1 };
	a->decode(a->b, &s);
	shrink_webp(&s, EDGE);
	_exit(0);
}

/* How a process that does this ends: an exit code, or 1000 and a signal. */
static int end_of(void (*fn)(void *), void *arg)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		fn(arg);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void what_is_no_picture_ends_it(void **state)
{
	static decode_fn *const all[] = { decode_jpeg, decode_png, decode_webp, decode_gif };
	struct file f[4];
	unsigned seed = 7;
	(void)state;
	f[0].n = 0;
	put(&f[0], jpeg_plain, sizeof(jpeg_plain));
	make_png(&f[1], 1, 8);
	make_webp(&f[2]);
	make_gif(&f[3], 0);
	for (int i = 0; i < 400; i++) {
		struct file bad = f[i % 4];
		for (int n = 0; n < 1 + i / 40; n++) {
			bad.p[rand_r(&seed) %
					(i % 3                       ? bad.n
									: bad.n < 40 ? bad.n
												 : 40)] ^= 1u << (rand_r(&seed) % 8);
		}
		bad.n -= i % 7 == 0 ? rand_r(&seed) % bad.n : 0;
		struct attempt a = { all[i % 4], { bad.p, bad.n } };
		int end = end_of(attempt, &a);
		if (end != 0 && end != EXIT_NO_PICTURE) {
			fail_msg("attempt %d ended with %d", i, end);
		}
	}
}

static void put_size(struct file *f, int at, unsigned w, unsigned h)
{
	uint8_t be[8] = { (uint8_t)(w >> 24), (uint8_t)(w >> 16), (uint8_t)(w >> 8), (uint8_t)w,
		(uint8_t)(h >> 24), (uint8_t)(h >> 16), (uint8_t)(h >> 8), (uint8_t)h };
	memcpy(f->p + at, be, sizeof(be));
}

static void a_bomb_is_not_decoded(void **state)
{
	struct file f;
	(void)state;
	make_png(&f, 0, 8);
	put_size(&f, 16, 60000, 60000);
	struct attempt a = { decode_png, { f.p, f.n } };
	assert_int_equal(end_of(attempt, &a), EXIT_NO_PICTURE);
	make_gif(&f, 0);
	memset(f.p + 6, 0xff, 4);
	a = (struct attempt){ decode_gif, { f.p, f.n } };
	assert_int_equal(end_of(attempt, &a), EXIT_NO_PICTURE);
	f.n = 0;
	put(&f, jpeg_plain, sizeof(jpeg_plain));
	uint8_t *sof = memmem(f.p, f.n, "\xff\xc0\0\x11\x08", 5);
	memset(sof + 5, 0xff, 4);
	a = (struct attempt){ decode_jpeg, { f.p, f.n } };
	assert_int_equal(end_of(attempt, &a), EXIT_NO_PICTURE);
}

/* ---- no way out ---------------------------------------------------------------------------- */

static void try_open(void *arg)
{
	sandbox_enter();
	_exit(open(arg, O_RDONLY) < 0 ? 1 : 0);
}

static void try_socket(void *arg)
{
	(void)arg;
	sandbox_enter();
	_exit(socket(AF_INET, SOCK_STREAM, 0) < 0 ? 1 : 0);
}

static void try_fork(void *arg)
{
	(void)arg;
	sandbox_enter();
	_exit(fork() < 0 ? 1 : 0);
}

static void try_code(void *arg)
{
	(void)arg;
	sandbox_enter();
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	_exit(p == MAP_FAILED ? 1 : 0);
}

static void try_map(void *arg)
{
	int fd = open(arg, O_RDONLY);
	sandbox_enter();
	_exit(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? 1 : 0);
}

static void *volatile taken; /* what nobody looks at a compiler need not ask for */

static void try_memory(void *arg)
{
	(void)arg;
	_exit(sandbox_limits(64 << 20) == 0 && sandbox_enter() == 0 && (taken = malloc(80 << 20)) ? 0
																							  : 1);
}

static void try_time(void *arg)
{
	(void)arg;
	sandbox_limits(64 << 20);
	sandbox_enter();
	for (volatile unsigned i = 0;; i++) {
	}
}

static void may_write(void *arg)
{
	(void)arg;
	_exit(sandbox_limits(64 << 20) == 0 && sandbox_enter() == 0 && (taken = malloc(20 << 20)) &&
							write(STDOUT_FILENO, "", 0) == 0
					? 0
					: 1);
}

static void there_is_no_way_out(void **state)
{
	static char file[] = "/etc/passwd";
	(void)state;
	assert_int_equal(end_of(may_write, NULL), 0);
	assert_int_equal(end_of(try_open, file), 1000 + SIGSYS);
	assert_int_equal(end_of(try_socket, NULL), 1000 + SIGSYS);
	assert_int_equal(end_of(try_fork, NULL), 1000 + SIGSYS);
	assert_int_equal(end_of(try_code, NULL), 1000 + SIGSYS);
	assert_int_equal(end_of(try_map, file), 1000 + SIGSYS);
	assert_int_equal(end_of(try_memory, NULL), 1);
	if (getenv("CHATD_FULL")) { /* it takes its five seconds */
		assert_int_equal(end_of(try_time, NULL), 1000 + SIGKILL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_is_read),
		cmocka_unit_test(it_is_turned_as_it_should_be_seen),
		cmocka_unit_test(small_ones_stay_and_large_ones_fit),
		cmocka_unit_test(what_is_no_picture_ends_it),
		cmocka_unit_test(a_bomb_is_not_decoded),
		cmocka_unit_test(there_is_no_way_out),
	};
	/* Sanitizers need what the sandbox takes away. */
	size_t n = sizeof(tests) / sizeof(tests[0]) - (sandbox_is_weak() ? 1 : 0);
	return _cmocka_run_group_tests("thumbnail", tests, n, NULL, NULL);
}
