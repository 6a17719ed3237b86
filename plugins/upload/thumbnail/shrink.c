/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <webp/encode.h>

enum { FACTOR_MAX = 128 /* sums stay below 2^32 */, QUALITY = 78, METHOD = 3 };

void give_up(void)
{
	_exit(EXIT_NO_PICTURE);
}

void *take(size_t n)
{
	void *p = calloc(1, n ? n : 1);
	if (!p) {
		give_up();
	}
	return p;
}

void shrink_size(struct shrink *s, int64_t width, int64_t height)
{
	if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX ||
			width * height > s->pixels) {
		give_up();
	}
	s->width = (int)width;
	s->height = (int)height;
}

/* Twice as large as needed, so that the last step has something to choose from. */
void shrink_begin(struct shrink *s, int width, int height)
{
	int longest = width > height ? width : height;
	s->factor = longest / (2 * s->edge);
	s->factor = s->factor < 1 ? 1 : s->factor > FACTOR_MAX ? FACTOR_MAX : s->factor;
	s->out_w = (width + s->factor - 1) / s->factor;
	s->out_h = (height + s->factor - 1) / s->factor;
	s->row = 0;
	s->in_w = width;
	s->in_h = height;
	s->sum = take((size_t)s->out_w * 4 * sizeof(*s->sum));
	s->rgba = take((size_t)s->out_w * (size_t)s->out_h * 4);
}

/* Colours count by how much of them is seen. */
static void put_box(const struct shrink *s, int x, uint8_t *to, int rows)
{
	int left = s->in_w - x * s->factor;
	uint32_t n = (uint32_t)(left < s->factor ? left : s->factor) * (uint32_t)rows;
	const uint32_t *sum = s->sum + (size_t)x * 4;
	for (int c = 0; c < 3; c++) {
		to[c] = sum[3] ? (uint8_t)((sum[c] + sum[3] / 2) / sum[3]) : 0;
	}
	to[3] = (uint8_t)((sum[3] + n / 2) / n);
}

static void put_row(struct shrink *s)
{
	int y = s->row / s->factor;
	uint8_t *to = s->rgba + (size_t)y * (size_t)s->out_w * 4;
	int rows = s->row % s->factor + 1;
	for (int x = 0; x < s->out_w; x++) {
		put_box(s, x, to + (size_t)x * 4, rows);
	}
	memset(s->sum, 0, (size_t)s->out_w * 4 * sizeof(*s->sum));
}

void shrink_row(struct shrink *s, const uint8_t *rgba)
{
	if (s->row >= s->in_h) {
		return;
	}
	for (int x = 0; x < s->in_w; x++, rgba += 4) {
		uint32_t *sum = s->sum + (size_t)(x / s->factor) * 4;
		sum[0] += (uint32_t)rgba[0] * rgba[3];
		sum[1] += (uint32_t)rgba[1] * rgba[3];
		sum[2] += (uint32_t)rgba[2] * rgba[3];
		sum[3] += rgba[3];
	}
	if (s->row % s->factor == s->factor - 1 || s->row == s->in_h - 1) {
		put_row(s);
	}
	s->row++;
}

/* ---- what is made ------------------------------------------------------------------------ */

static void make_picture(WebPPicture *p, int width, int height)
{
	if (!WebPPictureInit(p)) {
		give_up();
	}
	p->use_argb = 1;
	p->width = width;
	p->height = height;
	if (!WebPPictureAlloc(p)) {
		give_up();
	}
}

/* Where pixel (x, y) of the picture as it is stored is seen. */
static void place(int orientation, const WebPPicture *from, int *x, int *y)
{
	int px = *x, py = *y, right = from->width - 1, bottom = from->height - 1;
	switch (orientation) {
	case 2:
		*x = right - px;
		break;
	case 3:
		*x = right - px;
		*y = bottom - py;
		break;
	case 4:
		*y = bottom - py;
		break;
	case 5:
		*x = py;
		*y = px;
		break;
	case 6:
		*x = bottom - py;
		*y = px;
		break;
	case 7:
		*x = bottom - py;
		*y = right - px;
		break;
	case 8:
		*x = py;
		*y = right - px;
		break;
	default:
		break;
	}
}

static void turn(const WebPPicture *from, int orientation, WebPPicture *to)
{
	int swaps = orientation >= 5;
	make_picture(to, swaps ? from->height : from->width, swaps ? from->width : from->height);
	for (int y = 0; y < from->height; y++) {
		for (int x = 0; x < from->width; x++) {
			int tx = x, ty = y;
			place(orientation, from, &tx, &ty);
			to->argb[(ptrdiff_t)ty * to->argb_stride + tx] =
					from->argb[(ptrdiff_t)y * from->argb_stride + x];
		}
	}
}

static void fit(WebPPicture *p, int edge)
{
	int longest = p->width > p->height ? p->width : p->height;
	if (longest <= edge) {
		return;
	}
	int w = (int)((int64_t)p->width * edge / longest),
		h = (int)((int64_t)p->height * edge / longest);
	if (!WebPPictureRescale(p, w > 0 ? w : 1, h > 0 ? h : 1)) {
		give_up();
	}
}

struct bytes shrink_webp(const struct shrink *s, int edge)
{
	WebPPicture small, seen;
	WebPMemoryWriter out;
	WebPConfig conf;
	make_picture(&small, s->out_w, s->out_h);
	if (!WebPPictureImportRGBA(&small, s->rgba, s->out_w * 4)) {
		give_up();
	}
	fit(&small, edge);
	turn(&small, s->orientation, &seen);
	WebPPictureFree(&small);
	WebPMemoryWriterInit(&out);
	seen.writer = WebPMemoryWrite;
	seen.custom_ptr = &out;
	if (!WebPConfigPreset(&conf, WEBP_PRESET_PICTURE, QUALITY)) {
		give_up();
	}
	conf.method = METHOD;
	if (!WebPEncode(&conf, &seen)) {
		give_up();
	}
	WebPPictureFree(&seen);
	return (struct bytes){ out.mem, out.size };
}
