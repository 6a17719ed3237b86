/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a message brings along: what its attachments say is told to chat in a header, and
 * the store asks, in the commit, whether the sender may pass them on.  What they say of the files is
 * compared with what is known of them; what they do not say is told to chat in another header. */
#include "upload.h"

#include <chatd-sdk/chat.h>

enum {
	FILES_MAX = 17,
	LIST = FILES_MAX * (CHATD_ID_MAX + 1),
	SAID_MAX = 60,
	CLIENT_ID_BYTES = 128
};
#define FILES_HEADER "chatd-files"
#define FACTS_HEADER "chatd-file-facts"
#define FILES_PATH   "/api/files/"

struct list {
	char text[LIST];
	size_t n;
};

/* "/api/files/ID", with whatever follows; .p NULL: it is none. */
static struct chatd_str id_of(const json_t *url)
{
	const char *p = json_string_value(url);
	if (!p || strncmp(p, FILES_PATH, sizeof(FILES_PATH) - 1) != 0) {
		return chatd_str_of(NULL, 0);
	}
	p += sizeof(FILES_PATH) - 1;
	return chatd_str_of(p, strcspn(p, "/?#"));
}

/* What else begins so is no file, and refused as such. */
static void add(struct list *l, const json_t *url)
{
	struct chatd_str id = id_of(url);
	if (id.p && !chatd_id_ok(id)) {
		id = CHATD_LIT("-");
	}
	if (id.p && l->n + id.n + 1 < sizeof(l->text)) {
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

/* ---- what they say of the files ---------------------------------------------------------- */

/* One message whose files are looked up, one after the other. */
struct look {
	struct self *self;
	chatd_worker *w;
	chatd_token token;
	json_t *message;
	size_t at; /* of the attachments */
	struct chatd_json facts;
	char user[CHATD_ID_MAX + 1];
};

static void free_look(struct look *l)
{
	json_decref(l->message);
	chatd_json_free(&l->facts);
	l->self->h->mem_free(l);
}

static void refuse(struct look *l, const char *code, const char *why)
{
	const struct chatd_host *h = l->self->h;
	chatd_call *call = h->call_of(l->w, l->token);
	const json_t *id = json_object_get(l->message, "clientId");
	size_t n = json_string_length(id);
	if (call && n && n <= CLIENT_ID_BYTES) {
		h->reply(call, "clientId", chatd_str_of(json_string_value(id), n));
	}
	(void)h->resume(l->token, CHATD_REJECT, code, why);
	free_look(l);
}

/* Takes @p known.  0: the sender says something else, and it is refused. */
static int compare(struct look *l, const char *key, json_t *known)
{
	json_t *item = json_array_get(json_object_get(l->message, "attachments"), l->at);
	json_t *said = json_object_get(item, key);
	int good = !said || json_is_null(said) || json_equal(said, known);
	if (good) {
		json_decref(known);
		return 1;
	}
	char why[320];
	const int how = JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT;
	char *a = json_dumps(said, how), *b = known ? json_dumps(known, how) : NULL;
	snprintf(why, sizeof(why),
			"attachments[%zu]: %s is %.*s, but %s%.*s; leave it out, and the server says it", l->at,
			key, SAID_MAX, a ? a : "something else",
			b ? "of the file is known: " : "nothing is known of that", SAID_MAX, b ? b : "");
	free(a);
	free(b);
	json_decref(known);
	refuse(l, "VALIDATION", why);
	return 0;
}

static json_t *text_value(struct chatd_str s)
{
	return json_stringn(s.p, s.n);
}

/* 0: it has been refused. */
static int compare_all(struct look *l, const struct chatd_store_file *f)
{
	char small[sizeof(FILES_PATH "/thumbnail") + CHATD_ID_MAX];
	int64_t width, height;
	int known = file_picture(f->info, &width, &height);
	snprintf(small, sizeof(small), FILES_PATH "%.*s/thumbnail", (int)f->id.n, f->id.p);
	return compare(l, "name", text_value(f->name)) && compare(l, "size", json_integer(f->size)) &&
			compare(l, "contentType", text_value(f->type)) &&
			compare(l, "width", known ? json_integer(width) : NULL) &&
			compare(l, "height", known ? json_integer(height) : NULL) &&
			compare(l, "thumbnail", known ? json_string(small) : NULL);
}

static void note_facts(struct look *l, const struct chatd_store_file *f)
{
	char place[16];
	int64_t width, height;
	struct chatd_json *j = &l->facts;
	snprintf(place, sizeof(place), "%zu", l->at);
	chatd_json_key(j, place);
	chatd_json_lit(j, "{");
	chatd_json_member(j, "name", f->name);
	chatd_json_int(j, "size", f->size);
	chatd_json_member(j, "contentType", f->type);
	if (file_picture(f->info, &width, &height)) {
		chatd_json_int(j, "width", width);
		chatd_json_int(j, "height", height);
	}
	chatd_json_lit(j, "}");
}

static void finish(struct look *l)
{
	const struct chatd_host *h = l->self->h;
	chatd_call *call = h->call_of(l->w, l->token);
	chatd_msg *edit = call ? h->call_edit(call) : NULL;
	chatd_json_lit(&l->facts, "}");
	chatd_status rc = edit && !l->facts.failed
			? h->msg_set(edit, FACTS_HEADER, chatd_json_str(&l->facts))
			: -ENOMEM;
	(void)h->resume(l->token, rc < 0 ? rc : CHATD_NEXT, NULL, NULL);
	free_look(l);
}

static void next(struct look *l);

static void on_file(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct look *l = arg;
	if (!l->self->h->call_of(l->w, l->token)) { /* the sender has gone, or it took too long */
		free_look(l);
	} else if (rc == -ENOENT || rc == -EINVAL) {
		l->at++; /* the store refuses the message, or knows it from before */
		next(l);
	} else if (rc < 0) {
		refuse(l, rc == -EAGAIN || rc == -EBUSY ? "STORE_BUSY" : "UNAVAILABLE",
				"attachments cannot be looked up now; try again");
	} else if (compare_all(l, &a->files[0])) {
		note_facts(l, &a->files[0]);
		l->at++;
		next(l);
	}
}

/* The next of them that is a file of ours. */
static void next(struct look *l)
{
	const struct chatd_store *store = l->self->store->vt;
	const json_t *list = json_object_get(l->message, "attachments");
	struct chatd_str id = { NULL, 0 };
	for (; l->at < json_array_size(list) && l->at < FILES_MAX; l->at++) {
		id = id_of(json_object_get(json_array_get(list, l->at), "url"));
		if (id.p && chatd_id_ok(id)) {
			break;
		}
		id.p = NULL;
	}
	if (!id.p) {
		finish(l);
		return;
	}
	const struct chatd_store_file_key key = {
		.struct_size = sizeof(key), .id = id, .user = text(l->user)
	};
	if (store->file_get(l->self->store->obj, l->w, &key, on_file, l) < 0) {
		refuse(l, "STORE_BUSY", "attachments cannot be looked up now; try again");
	}
}

/* Takes @p message.  The sender's next messages wait: they come after this one. */
static chatd_verdict look_up(struct self *self, chatd_call *call, json_t *message)
{
	const struct chatd_host *h = self->h;
	struct look *l = h->mem_alloc(sizeof(*l));
	if (!l) {
		json_decref(message);
		return -ENOMEM;
	}
	l->self = self;
	l->w = h->call_worker(call);
	l->message = message;
	chatd_json_init(&l->facts, NULL, 0);
	chatd_json_lit(&l->facts, "{");
	chatd_str_copy(l->user, sizeof(l->user), h->ident_user(h->call_ident(call)));
	l->token = h->suspend(call, NULL, NULL);
	if (!l->token) {
		free_look(l);
		return h->reject(call, "UNAVAILABLE", "the server is too busy; try again");
	}
	next(l);
	return CHATD_WAIT;
}

/* ---- the hook ------------------------------------------------------------------------------ */

/* Most messages have none, and are not parsed here. */
static int may_have_files(struct chatd_str body)
{
	return memmem(body.p, body.n, "attachment", sizeof("attachment") - 1) != NULL;
}

/* Nobody but the server says what stands in these headers. */
static chatd_status set_headers(const struct chatd_host *h, chatd_call *call, const struct list *l)
{
	const chatd_msg *m = h->call_msg(call);
	if (!l->n && !h->msg_get(m, FILES_HEADER).p && !h->msg_get(m, FACTS_HEADER).p) {
		return 0;
	}
	chatd_msg *edit = h->call_edit(call);
	if (!edit) {
		return -ENOMEM;
	}
	chatd_status rc = h->msg_set(edit, FILES_HEADER, chatd_str_of(l->n ? l->text : NULL, l->n));
	return rc < 0 ? rc : h->msg_set(edit, FACTS_HEADER, chatd_str_of(NULL, 0));
}

chatd_verdict on_message_in(chatd_call *call, void *selfp, void *wself)
{
	struct self *self = selfp;
	const struct chatd_host *h = self->h;
	const chatd_msg *m = h->call_msg(call);
	json_t *message = NULL;
	struct list l = { .n = 0 };
	char why[CHATD_JSON_WHY];
	(void)wself;
	if (chatd_chat_dest(h->msg_dest(m)) != CHATD_CHAT_USER) {
		return CHATD_NEXT;
	}
	if (may_have_files(h->msg_body(m))) {
		message = chatd_json_parse(h->msg_body(m), why);
		list_files(&l, message); /* what is no JSON is refused by chat */
	}
	chatd_status rc = set_headers(h, call, &l);
	if (rc == 0 && l.n && json_array_size(json_object_get(message, "attachments"))) {
		return look_up(self, call, message);
	}
	json_decref(message);
	return rc < 0 ? rc : CHATD_NEXT;
}
