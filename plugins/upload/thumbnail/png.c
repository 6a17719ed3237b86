/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdlib.h>
#include <string.h>

#include <png.h>

enum { CHUNKS = 128, CHUNK_BYTES = 8 << 20 };

static void on_error(png_structp p, png_const_charp why)
{
	(void)p;
	(void)why;
	give_up();
}

static void on_warning(png_structp p, png_const_charp why)
{
	(void)p;
	(void)why;
}

static void on_read(png_structp p, png_bytep to, size_t n)
{
	struct bytes *b = png_get_io_ptr(p);
	if (n > b->n) {
		give_up();
	}
	memcpy(to, b->p, n);
	b->p += n;
	b->n -= n;
}

/* Whatever it is, four bytes a pixel. */
static void set_form(png_structp p, png_infop info)
{
	png_set_scale_16(p);
	png_set_expand(p);
	png_set_gray_to_rgb(p);
	png_set_add_alpha(p, 0xff, PNG_FILLER_AFTER);
	(void)info;
}

/* Its rows come in seven passes, so all of it is needed at once. */
static void read_interlaced(png_structp p, struct shrink *s, int passes)
{
	int h = s->height;
	size_t n = (size_t)s->width * 4;
	uint8_t *all = take(n * (size_t)h);
	for (int pass = 0; pass < passes; pass++) {
		for (int y = 0; y < h; y++) {
			png_read_row(p, all + n * (size_t)y, NULL);
		}
	}
	for (int y = 0; y < h; y++) {
		shrink_row(s, all + n * (size_t)y);
	}
	free(all);
}

void decode_png(struct bytes b, struct shrink *s)
{
	png_structp p = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, on_error, on_warning);
	png_infop info = p ? png_create_info_struct(p) : NULL;
	png_bytep exif = NULL;
	png_uint_32 exif_n = 0;
	if (!info) {
		give_up();
	}
	png_set_user_limits(p, SIDE_MAX, SIDE_MAX);
	png_set_chunk_cache_max(p, CHUNKS);
	png_set_chunk_malloc_max(p, CHUNK_BYTES);
	png_set_crc_action(p, PNG_CRC_DEFAULT, PNG_CRC_QUIET_USE);
	png_set_read_fn(p, &b, on_read);
	png_read_info(p, info);
	shrink_size(s, png_get_image_width(p, info), png_get_image_height(p, info));
	if (png_get_eXIf_1(p, info, &exif_n, &exif)) {
		s->orientation = exif_orientation((struct bytes){ exif, exif_n });
	}
	set_form(p, info);
	int passes = png_set_interlace_handling(p);
	png_read_update_info(p, info);
	if (png_get_rowbytes(p, info) != (size_t)s->width * 4) {
		give_up();
	}
	shrink_begin(s, s->width, s->height);
	if (passes > 1) {
		read_interlaced(p, s, passes);
		png_destroy_read_struct(&p, &info, NULL);
		return;
	}
	uint8_t *row = take((size_t)s->width * 4);
	for (int y = 0; y < s->height; y++) {
		png_read_row(p, row, NULL);
		shrink_row(s, row);
	}
	free(row);
	png_destroy_read_struct(&p, &info, NULL);
}
