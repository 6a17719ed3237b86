/* SPDX-License-Identifier: Apache-2.0 */
/* What is for one pair of eyes: not stored, and gone with the page. */
#include "slash.h"

void tell(
		const struct self *self, chatd_session *s, const struct said *said, struct chatd_str answer)
{
	const struct chatd_host *h = self->h;
	char room[1024], id[37];
	struct chatd_json j;
	if (!s) {
		return; /* a back end reads its answer */
	}
	h->new_id(id);
	chatd_json_init(&j, room, sizeof(room));
	chatd_json_lit(&j, "{");
	chatd_json_member(&j, "id", text(id));
	chatd_json_member(&j, "type", CHATD_LIT("SYSTEM"));
	chatd_json_member(&j, "code", CHATD_LIT("COMMAND"));
	chatd_json_member(&j, "command", said->name);
	chatd_json_member(&j, "content", answer);
	chatd_json_member(&j, "roomId", said->room);
	chatd_json_member(&j, "receiver", said->to);
	chatd_json_member(&j, "clientId", said->client_id);
	chatd_json_time(&j, "timestamp", h->wall_ms());
	chatd_json_lit(&j, "}");
	chatd_msg *m = j.failed
			? NULL
			: h->msg_with_id(id, CHATD_LIT("/user/queue/messages"), chatd_json_str(&j));
	if (m && h->msg_set(m, "content-type", CHATD_LIT("application/json")) == 0) {
		(void)h->session_send(s, m);
	}
	h->msg_unref(m);
	chatd_json_free(&j);
}
