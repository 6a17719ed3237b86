/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <stdlib.h>
#include <webp/decode.h>
#include <webp/demux.h>

static void find_orientation(WebPDemuxer *d, struct shrink *s)
{
	WebPChunkIterator it;
	if (WebPDemuxGetChunk(d, "EXIF", 1, &it)) {
		struct bytes b = { it.chunk.bytes, it.chunk.size };
		/* Some have what JPEG puts in front. */
		if (b.n > 6 && b.p[0] == 'E') {
			b.p += 6;
			b.n -= 6;
		}
		s->orientation = exif_orientation(b);
		WebPDemuxReleaseChunkIterator(&it);
	}
}

/* The decoder makes it smaller on its way, if it is much too large. */
static void choose_scale(WebPDecoderConfig *c, const struct shrink *s)
{
	int w = c->input.width, h = c->input.height, longest = w > h ? w : h;
	if (longest <= 4 * s->edge) {
		return;
	}
	c->options.use_scaling = 1;
	c->options.scaled_width = (int)((int64_t)w * 2 * s->edge / longest);
	c->options.scaled_height = (int)((int64_t)h * 2 * s->edge / longest);
	c->options.scaled_width += c->options.scaled_width == 0;
	c->options.scaled_height += c->options.scaled_height == 0;
}

/* The first frame stands for one that moves. */
void decode_webp(struct bytes b, struct shrink *s)
{
	const WebPData data = { b.p, b.n };
	WebPDecoderConfig c;
	WebPIterator it;
	WebPDemuxer *d = WebPDemux(&data);
	if (!d || !WebPDemuxGetFrame(d, 1, &it) || !WebPInitDecoderConfig(&c) ||
			WebPGetFeatures(it.fragment.bytes, it.fragment.size, &c.input) != VP8_STATUS_OK) {
		give_up();
	}
	find_orientation(d, s);
	shrink_size(s, c.input.width, c.input.height);
	choose_scale(&c, s);
	c.output.colorspace = MODE_RGBA;
	if (WebPDecode(it.fragment.bytes, it.fragment.size, &c) != VP8_STATUS_OK) {
		give_up();
	}
	shrink_begin(s, c.output.width, c.output.height);
	for (int y = 0; y < c.output.height; y++) {
		shrink_row(s, c.output.u.RGBA.rgba + (ptrdiff_t)y * c.output.u.RGBA.stride);
	}
	WebPFreeDecBuffer(&c.output);
	WebPDemuxReleaseIterator(&it);
	WebPDemuxDelete(d);
}
