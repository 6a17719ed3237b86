/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"

#include <chatd-sdk/text.h>
#include <errno.h>
#include <string.h>

static int is_text(struct chatd_str s)
{
	return chatd_text_ok(s) && !(s.n && memchr(s.p, '\0', s.n));
}

static chatd_msg *new_msg(struct rabbit *r, const struct wire_in *in)
{
	char id[37];
	if (in->message_id.n != 36 || !is_text(in->message_id)) {
		return r->h->msg_new(in->e.topic, in->e.body);
	}
	memcpy(id, in->message_id.p, 36);
	id[36] = '\0';
	return r->h->msg_with_id(id, in->e.topic, in->e.body);
}

static chatd_status set_headers(struct rabbit *r, chatd_msg *m, const struct wire_in *in)
{
	/* Unescaped in place; the lines are this delivery's own. */
	char *at = (char *)(uintptr_t)in->lines.p, name[257];
	size_t left = in->lines.n;
	struct chatd_str n, v;
	int rc;
	while ((rc = wire_line_next(&at, &left, &n, &v)) > 0) {
		if (n.n >= sizeof(name) || !is_text(n) || !is_text(v)) {
			return -EINVAL;
		}
		memcpy(name, n.p, n.n);
		name[n.n] = '\0';
		/* Of repeated ones the first counts. */
		rc = r->h->msg_get(m, name).p ? 0 : r->h->msg_set(m, name, v);
		if (rc < 0) {
			return rc;
		}
	}
	return rc;
}

chatd_msg *message_in(struct rabbit *r, const struct wire_in *in, chatd_status *ret_rc)
{
	if (!is_text(in->e.topic)) {
		*ret_rc = -EINVAL;
		return NULL;
	}
	chatd_msg *m = new_msg(r, in);
	*ret_rc = m ? set_headers(r, m, in) : -ENOMEM;
	if (*ret_rc < 0) {
		r->h->msg_unref(m);
		m = NULL;
	}
	return m;
}
