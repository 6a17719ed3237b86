/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a message brings along: what its attachments say is told to chat in a header, and
 * the store asks, in the commit, whether the sender may pass them on. */
#include "upload.h"

enum { FILES_MAX = 17, LIST = FILES_MAX * (CHATD_ID_MAX + 1) };
#define FILES_HEADER "chatd-files"
#define FILES_PATH   "/api/files/"

struct list {
	char text[LIST];
	size_t n;
};

/* "/api/files/ID", with whatever follows; what else begins so is no file, and refused as such. */
static void add(struct list *l, const json_t *url)
{
	const char *p = json_string_value(url);
	if (!p || strncmp(p, FILES_PATH, sizeof(FILES_PATH) - 1) != 0) {
		return;
	}
	p += sizeof(FILES_PATH) - 1;
	struct chatd_str id = chatd_str_of(p, strcspn(p, "/?#"));
	if (!chatd_id_ok(id)) {
		id = CHATD_LIT("-");
	}
	if (l->n + id.n + 1 < sizeof(l->text)) {
		l->n += (size_t)snprintf(
				l->text + l->n, sizeof(l->text) - l->n, "%s%.*s", l->n ? " " : "", (int)id.n, id.p);
	}
}

static void list_files(struct list *l, const json_t *message)
{
	json_t *item;
	size_t i;
	add(l, json_object_get(message, "attachmentUrl"));
	json_array_foreach (json_object_get(message, "attachments"), i, item) {
		add(l, json_object_get(item, "url"));
	}
}

/* Most messages have none, and are not parsed here. */
static int may_have_files(struct chatd_str body)
{
	return memmem(body.p, body.n, "attachment", sizeof("attachment") - 1) != NULL;
}

chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	const struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *m = h->call_msg(call);
	struct list l = { .n = 0 };
	char why[CHATD_JSON_WHY];
	(void)wself;
	if (!chatd_str_same(h->msg_dest(m), CHATD_LIT("/app/chat.send")) &&
			!chatd_str_same(h->msg_dest(m), CHATD_LIT("/app/chat.sendMessage"))) {
		return CHATD_NEXT;
	}
	if (may_have_files(h->msg_body(m))) {
		json_t *message = chatd_json_parse(h->msg_body(m), why);
		list_files(&l, message); /* what is no JSON is refused by chat */
		json_decref(message);
	}
	if (!l.n && !h->msg_get(m, FILES_HEADER).p) {
		return CHATD_NEXT;
	}
	chatd_msg *edit = h->call_edit(call);
	if (!edit) {
		return -ENOMEM;
	}
	chatd_status rc = h->msg_set(edit, FILES_HEADER, chatd_str_of(l.n ? l.text : NULL, l.n));
	return rc < 0 ? rc : CHATD_NEXT;
}
