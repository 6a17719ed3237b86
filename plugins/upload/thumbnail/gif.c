/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS_MAX = 1000 /* before the first picture */ };

static int on_read(GifFileType *g, GifByteType *to, int n)
{
	struct bytes *b = g->UserData;
	size_t got = (size_t)n < b->n ? (size_t)n : b->n;
	memcpy(to, b->p, got);
	b->p += got;
	b->n -= got;
	return (int)got;
}

/* Returns the colour that is seen through, or -1: none is. */
static int read_extension(GifFileType *g, int before)
{
	GraphicsControlBlock control;
	GifByteType *block;
	int code, seen = before;
	if (DGifGetExtension(g, &code, &block) != GIF_OK) {
		give_up();
	}
	for (int i = 0; block; i++) {
		if (code == GRAPHICS_EXT_FUNC_CODE && i == 0 &&
				DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) {
			seen = control.TransparentColor;
		}
		if (DGifGetExtensionNext(g, &block) != GIF_OK) {
			give_up();
		}
	}
	return seen;
}

/* Up to the first frame; the others are not looked at. */
static int find_frame(GifFileType *g)
{
	GifRecordType what;
	int clear = -1;
	for (int i = 0; i < RECORDS_MAX && DGifGetRecordType(g, &what) == GIF_OK; i++) {
		if (what == EXTENSION_RECORD_TYPE) {
			clear = read_extension(g, clear);
		} else if (what == IMAGE_DESC_RECORD_TYPE && DGifGetImageDesc(g) == GIF_OK) {
			return clear;
		} else {
			break;
		}
	}
	give_up();
}

static void read_pixels(GifFileType *g, uint8_t *all)
{
	static const struct {
		int first, step;
	} passes[] = { { 0, 8 }, { 4, 8 }, { 2, 4 }, { 1, 2 } };
	const GifImageDesc *d = &g->Image;
	for (int pass = 0; pass < (d->Interlace ? 4 : 1); pass++) {
		int y = d->Interlace ? passes[pass].first : 0;
		for (; y < d->Height; y += d->Interlace ? passes[pass].step : 1) {
			if (DGifGetLine(g, all + (size_t)y * (size_t)d->Width, d->Width) != GIF_OK) {
				give_up();
			}
		}
	}
}

static void paint(const ColorMapObject *map, uint8_t index, int clear, uint8_t *to)
{
	memset(to, 0, 4);
	if (index != clear && index < map->ColorCount) {
		to[0] = map->Colors[index].Red;
		to[1] = map->Colors[index].Green;
		to[2] = map->Colors[index].Blue;
		to[3] = 255;
	}
}

void decode_gif(struct bytes b, struct shrink *s)
{
	int error;
	GifFileType *g = DGifOpen(&b, on_read, &error);
	if (!g) {
		give_up();
	}
	shrink_size(s, g->SWidth, g->SHeight);
	int clear = find_frame(g);
	const GifImageDesc *d = &g->Image;
	const ColorMapObject *map = d->ColorMap ? d->ColorMap : g->SColorMap;
	if (!map || d->Width < 1 || d->Height < 1 || (int64_t)d->Width * d->Height > s->pixels) {
		give_up();
	}
	uint8_t *all = take((size_t)d->Width * (size_t)d->Height);
	uint8_t *row = take((size_t)s->width * 4);
	int width = s->width, height = s->height;
	read_pixels(g, all);
	shrink_begin(s, width, height);
	for (int y = 0; y < height; y++) {
		memset(row, 0, (size_t)width * 4);
		for (int x = 0; y >= d->Top && y < d->Top + d->Height && x < d->Width; x++) {
			if (d->Left + x >= 0 && d->Left + x < width) {
				uint8_t index = all[(size_t)(y - d->Top) * (size_t)d->Width + (size_t)x];
				paint(map, index, clear, row + (size_t)(d->Left + x) * 4);
			}
		}
		shrink_row(s, row);
	}
	free(row);
	free(all);
	DGifCloseFile(g, &error);
}
