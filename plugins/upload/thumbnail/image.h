/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file image.h
 * @brief What the parts of the program chatd-thumbnail share.
 *
 * It decodes one picture that a stranger has sent and writes small ones of it, without what else was
 * in the file.  It runs once and ends, so whatever is wrong with the picture ends it: give_up().
 */
#ifndef THUMBNAIL_IMAGE_H
#define THUMBNAIL_IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum {
	EXIT_NO_PICTURE = 1, /**< none that can be read, or one that is too large */
	EXIT_USAGE = 2,
	EXIT_SYSTEM = 3, /**< it may be another time */
	EDGE_MAX = 4096, /**< of what is made */
	SIDE_MAX = 65535,
};

struct bytes {
	const uint8_t *p;
	size_t n;
};

/** A picture on its way from a decoder, row by row, to one that is not much larger than needed. */
struct shrink {
	int64_t pixels;    /**< more than so many are not decoded */
	int edge;          /**< the longest side of the largest picture to be made */
	int width, height; /**< as the file says */
	int orientation;   /**< 1 to 8, as EXIF has it */
	int in_w, in_h;    /**< of the rows that come in */
	int factor;        /**< so many pixels become one, both ways */
	int out_w, out_h;
	int row; /**< of what comes in */
	uint32_t *sum;
	uint8_t *rgba;
};

_Noreturn void give_up(void);
void *take(size_t n);

/** The picture as its file has it; gives up if it is too large. */
void shrink_size(struct shrink *, int64_t width, int64_t height);
/** The rows that shrink_row() gets may be smaller than the picture: what the decoder can do itself. */
void shrink_begin(struct shrink *, int width, int height);
void shrink_row(struct shrink *, const uint8_t *rgba);
/** One of @p edge pixels on its longest side at most, never enlarged, turned as it should be seen. */
struct bytes shrink_webp(const struct shrink *, int edge);

/** Each gives up on what it cannot read. */
void decode_jpeg(struct bytes, struct shrink *);
void decode_png(struct bytes, struct shrink *);
void decode_webp(struct bytes, struct shrink *);
void decode_gif(struct bytes, struct shrink *);

/** The orientation that TIFF data ("II*\0", "MM\0*") tells; 1 when it tells none. */
int exif_orientation(struct bytes);

/** No way out but memory and what is open. */
int sandbox_limits(int64_t memory);
int sandbox_enter(void);
/** Built with a sanitizer, which needs what the sandbox takes away. */
int sandbox_is_weak(void);

#endif
