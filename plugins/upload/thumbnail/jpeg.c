/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static void on_error(j_common_ptr c)
{
	(void)c;
	give_up();
}

/* What is cut off shows as far as it came. */
static void on_message(j_common_ptr c, int level)
{
	(void)c;
	(void)level;
}

static void on_output(j_common_ptr c)
{
	(void)c;
}

static void find_orientation(const struct jpeg_decompress_struct *j, struct shrink *s)
{
	for (const struct jpeg_marker_struct *m = j->marker_list; m; m = m->next) {
		if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 &&
				memcmp(m->data, "Exif\0\0", 6) == 0) {
			s->orientation = exif_orientation((struct bytes){ m->data + 6, m->data_length - 6 });
			return;
		}
	}
}

/* The transform can leave out what would be thrown away. */
static void choose_scale(struct jpeg_decompress_struct *j, const struct shrink *s)
{
	unsigned longest = j->image_width > j->image_height ? j->image_width : j->image_height;
	j->scale_num = 1;
	j->scale_denom = 8;
	while (j->scale_denom > 1 && longest / j->scale_denom < 2 * (unsigned)s->edge) {
		j->scale_denom /= 2;
	}
}

/* Four inks, of which Adobe's files say how much is missing. */
static void from_cmyk(const uint8_t *from, uint8_t *to, unsigned n, int inverted)
{
	for (unsigned i = 0; i < n; i++, from += 4, to += 4) {
		unsigned k = inverted ? from[3] : 255u - from[3];
		for (int c = 0; c < 3; c++) {
			unsigned ink = inverted ? from[c] : 255u - from[c];
			to[c] = (uint8_t)(ink * k / 255);
		}
		to[3] = 255;
	}
}

void decode_jpeg(struct bytes b, struct shrink *s)
{
	struct jpeg_decompress_struct j;
	struct jpeg_error_mgr err;
	j.err = jpeg_std_error(&err);
	err.error_exit = on_error;
	err.emit_message = on_message;
	err.output_message = on_output;
	jpeg_create_decompress(&j);
	jpeg_mem_src(&j, b.p, (unsigned long)b.n);
	jpeg_save_markers(&j, JPEG_APP0 + 1, 0xffff);
	if (jpeg_read_header(&j, TRUE) != JPEG_HEADER_OK) {
		give_up();
	}
	shrink_size(s, j.image_width, j.image_height);
	find_orientation(&j, s);
	choose_scale(&j, s);
	int inks = j.jpeg_color_space == JCS_CMYK || j.jpeg_color_space == JCS_YCCK;
	j.out_color_space = inks ? JCS_CMYK : JCS_EXT_RGBA;
	j.dct_method = JDCT_IFAST;
	jpeg_start_decompress(&j);
	shrink_begin(s, (int)j.output_width, (int)j.output_height);
	uint8_t *row = take((size_t)j.output_width * 4);
	while (j.output_scanline < j.output_height) {
		JSAMPROW rows[1] = { row };
		if (jpeg_read_scanlines(&j, rows, 1) != 1) {
			give_up();
		}
		if (inks) {
			from_cmyk(row, row, j.output_width, j.saw_Adobe_marker);
		}
		shrink_row(s, row);
	}
	free(row);
	jpeg_destroy_decompress(&j);
}
