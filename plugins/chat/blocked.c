/* SPDX-License-Identifier: Apache-2.0 */
/* Two who do not want to hear of each other. */
#include "chat.h"

/* Who is blocked is told so: what was written must not seem to have arrived. */
struct refusal blocked(
		const struct self *self, const chatd_worker *w, struct chatd_str me, struct chatd_str other)
{
	struct refusal no = { NULL, NULL, 0 };
	const struct chatd_privacy *privacy = self->privacy ? self->privacy->vt : NULL;
	if (!privacy || !other.n) {
		return no;
	}
	int32_t by_me = privacy->blocks(self->privacy->obj, w, me, other);
	int32_t by_other = privacy->blocks(self->privacy->obj, w, other, me);
	if (by_me > 0) {
		no.code = "BLOCKED";
		no.why = "you have blocked this user; lift the block to write to them";
	} else if (by_other > 0) {
		no.code = "BLOCKED";
		no.why = "this user takes no messages from you";
	} else if (by_me < 0 || by_other < 0) {
		no.code = "STORE_BUSY";
		no.why = "who has blocked whom is not known yet; try again";
	}
	return no;
}
