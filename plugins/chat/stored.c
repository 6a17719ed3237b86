/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a message through the store: append, and once it is committed publish.  All
 * messages of a conversation go this way on one worker, and the store answers that worker in
 * its order: so subscribers see 1, 2, 3 ... */
#include "send.h"

enum { MENTIONS_MAX = 100 };

/* ---- the message as everybody gets it ------------------------------------------------- */

/* A row whose body is gone keeps its place. */
static void write_erased(struct chatd_json *j, const struct chatd_store_message *m)
{
	int edit = m->kind == CHATD_STORE_EDIT;
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", m->id);
	chatd_json_member(j, "type", edit ? CHATD_LIT("EDIT") : CHATD_LIT("CHAT"));
	if (edit) {
		chatd_json_member(j, "messageId", m->target);
	}
	chatd_json_member(j, "sender", m->sender);
	chatd_json_member(j, "senderId", m->sender);
	chatd_json_member(j, "roomId", m->conv.room);
	chatd_json_flag(j, "deleted", 1);
}

static struct chatd_str type_of(int32_t kind)
{
	switch (kind) {
	case CHATD_STORE_EDIT:
		return CHATD_LIT("EDIT");
	case CHATD_STORE_DELETE:
		return CHATD_LIT("DELETE");
	case CHATD_STORE_REACTION:
		return CHATD_LIT("REACTION");
	case CHATD_STORE_EVENT:
		return CHATD_LIT("SYSTEM");
	default:
		return CHATD_LIT("CHAT");
	}
}

void stored_write_known(struct chatd_json *j, const struct chatd_store_message *m)
{
	int turned = chatd_str_same(m->sender, m->conv.a);
	struct chatd_str other = turned ? m->conv.b : m->conv.a;
	chatd_json_lit(j, "{");
	chatd_json_member(j, "id", m->id);
	chatd_json_member(j, "type", type_of(m->kind));
	chatd_json_member(j, "messageId", m->target);
	chatd_json_member(j, "sender", m->sender);
	chatd_json_member(j, "senderId", m->sender);
	chatd_json_member(j, "receiver", other);
	chatd_json_member(j, "receiverId", other);
	chatd_json_member(j, "roomId", m->conv.room);
	chatd_json_time(j, "timestamp", m->wall);
}

/* The body says SENT, as it was then.  That it is the first such place is sure: in a text, quotes
 * have a backslash before them. */
static void write_body(struct chatd_json *j, const char *body, size_t n, const char *status)
{
	static const char sent[] = "\"status\":\"SENT\"";
	const char *at = status ? memmem(body, n, sent, sizeof(sent) - 1) : NULL;
	if (!at) {
		chatd_json_raw(j, body, n);
		return;
	}
	const char *rest = at + sizeof(sent) - 1;
	chatd_json_raw(j, body, (size_t)(at - body));
	chatd_json_lit(j, "\"status\":");
	chatd_json_quote(j, text(status));
	chatd_json_raw(j, rest, n - (size_t)(rest - body));
}

void stored_write(struct chatd_json *j, const struct chatd_store_message *m, struct chatd_str epoch)
{
	stored_write_as(j, m, epoch, NULL);
}

void stored_write_as(struct chatd_json *j, const struct chatd_store_message *m,
		struct chatd_str epoch, const char *status)
{
	size_t n = m->body.n;
	while (n && m->body.p[n - 1] != '}') {
		n--;
	}
	if (m->flags & CHATD_STORE_UNREADABLE) {
		stored_write_known(j, m);
		chatd_json_member(j, "error", CHATD_LIT("DECRYPT_FAILED"));
	} else if (n < 2) {
		write_erased(j, m);
	} else {
		write_body(j, m->body.p, n - 1, status);
	}
	chatd_json_int(j, "seq", m->seq);
	chatd_json_member(j, "epoch", epoch);
	if (m->flags & CHATD_STORE_EDITED) {
		chatd_json_flag(j, "edited", 1);
	}
	if (m->flags & CHATD_STORE_DELETED && (n >= 2 || m->flags & CHATD_STORE_UNREADABLE)) {
		chatd_json_flag(j, "deleted", 1);
	}
	if (m->reactions.n) {
		chatd_json_key(j, "reactions");
		chatd_json_raw(j, m->reactions.p, m->reactions.n);
	}
	chatd_json_lit(j, "}");
}

static chatd_status set_place(const struct chatd_host *h, chatd_msg *msg,
		const struct chatd_store_message *m, struct chatd_str epoch)
{
	char seq[24], cursor[EPOCH_MAX + 32];
	snprintf(seq, sizeof(seq), "%lld", (long long)m->seq);
	snprintf(cursor, sizeof(cursor), "%lld-%.*s", (long long)m->pos, (int)epoch.n, epoch.p);
	chatd_status rc = h->msg_set(msg, "content-type", CHATD_LIT("application/json"));
	rc = rc < 0 ? rc : h->msg_set(msg, "seq", text(seq));
	rc = rc < 0 ? rc : h->msg_set(msg, "epoch", epoch);
	return rc < 0 || m->conv.room.p ? rc : h->msg_set(msg, "cursor", text(cursor));
}

chatd_msg *stored_msg(struct self *self, struct chatd_str dest, const struct chatd_store_message *m,
		struct chatd_str epoch)
{
	const struct chatd_host *h = self->h;
	char room[2048], id[37];
	struct chatd_json j;
	chatd_json_init(&j, room, sizeof(room));
	stored_write(&j, m, epoch);
	chatd_str_copy(id, sizeof(id), m->id);
	chatd_msg *msg = j.failed ? NULL : h->msg_with_id(id, dest, chatd_json_str(&j));
	chatd_json_free(&j);
	if (msg && set_place(h, msg, m, epoch) < 0) {
		h->msg_unref(msg);
		return NULL;
	}
	return msg;
}

/* ---- publishing --------------------------------------------------------------------- */

static struct chatd_store_conv conv_of(const struct send *s)
{
	struct chatd_store_conv c = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	if (s->room[0]) {
		c.room = text(s->room);
	} else {
		c.a = text(s->user);
		c.b = text(s->to);
	}
	return c;
}

static chatd_status publish(struct send *s, chatd_worker *w, const struct chatd_store_answer *a)
{
	const struct chatd_host *h = s->self->h;
	const struct chatd_store_message m = { .struct_size = sizeof(m),
		.kind = CHATD_STORE_MESSAGE,
		.conv = conv_of(s),
		.seq = a->seq,
		.pos = a->pos,
		.id = text(s->id),
		.sender = text(s->user),
		.body = h->msg_body(s->msg) };
	int turned = !chatd_str_same(m.conv.a, a->conv.a);
	const struct log_row row = { .row = &m,
		.epoch = a->epoch,
		.trace = h->msg_get(s->msg, "traceparent"),
		.before_a = turned ? a->before_b : a->before_a,
		.before_b = turned ? a->before_a : a->before_b };
	return log_publish(s->self, w, &row);
}

/* ---- appending ------------------------------------------------------------------------ */

static struct refusal refused(const char *code, const char *why)
{
	return (struct refusal){ code, why, 0 };
}

/* What the room's rules say, with the time from which on it may be tried again. */
static struct refusal refused_by_rules(const struct chatd_store_answer *a)
{
	struct refusal r;
	switch (a->why) {
	case CHATD_STORE_BANNED:
		r = refused("BANNED", "you are banned from this room");
		break;
	case CHATD_STORE_MUTED:
		r = refused("MUTED", "you may not speak in this room for now");
		break;
	case CHATD_STORE_SLOW:
		r = refused("SLOW_MODE", "this room is in slow mode; wait before the next message");
		break;
	case CHATD_STORE_READ_ONLY:
		r = refused("READ_ONLY", "only moderators may speak in this room");
		break;
	case CHATD_STORE_NO_RIGHT:
		r = refused("FORBIDDEN", "this message is not yours to change");
		break;
	default:
		r = refused("NOT_MEMBER", "you are not a member of this room, or there is no such room");
		break;
	}
	r.until = a->until;
	return r;
}

struct refusal stored_refusal(chatd_status rc, const struct chatd_store_answer *a)
{
	if (a && (rc == -EACCES || (rc == -ENOENT && a->why == CHATD_STORE_NO_ROOM))) {
		return refused_by_rules(a);
	}
	if (rc == -EEXIST && a && a->why == CHATD_STORE_MISMATCH) {
		return refused("DUPLICATE_ID_MISMATCH", "this clientId was used for something else");
	}
	if (rc == -ENOENT && a && a->why == CHATD_STORE_NO_THREAD) {
		return refused("NOT_FOUND", "threadId is no message of this conversation");
	}
	if (rc == -ENOENT && a && a->why == CHATD_STORE_NO_FILE) {
		return refused("NOT_FOUND",
				"an attachment is no file that you may pass on; upload it, and send its url");
	}
	if (rc == -EAGAIN || rc == -EBUSY) {
		return refused("STORE_BUSY", "messages cannot be stored fast enough now; try again");
	}
	if (rc == -ENOSPC) {
		return refused("STORE_FULL", "there is no space left for messages");
	}
	return refused("UNAVAILABLE", "messages cannot be stored now");
}

void stored_until(const struct self *self, chatd_call *call, int64_t until)
{
	char digits[24];
	if (until > 0 && until < INT64_MAX) {
		int64_t left = until - self->h->wall_ms();
		snprintf(digits, sizeof(digits), "%lld", (long long)(left > 0 ? (left + 999) / 1000 : 1));
		self->h->reply(call, "retryAfterSeconds", text(digits));
	}
}

static void refuse_for(struct send *s, chatd_status rc, const struct chatd_store_answer *a)
{
	struct refusal r = stored_refusal(rc, a);
	send_refuse(s, r.code, r.why);
	s->until = r.until;
}

static void on_stored(void *arg, chatd_status rc, const struct chatd_store_answer *a)
{
	struct send *s = arg;
	const struct chatd_host *h = s->self->h;
	if (rc < 0) {
		if (rc == -EBUSY && a->in_doubt) {
			late_doubt(s->self, s->home, s->id);
		}
		refuse_for(s, rc, a);
	} else {
		if (!a->repeated && publish(s, s->home, a) < 0) {
			h->log(s->self->ctx, CHATD_LOG_ERROR,
					"message %s is stored, but could not be delivered: no memory", s->id);
		}
		chatd_str_copy(s->id, sizeof(s->id), a->id);
		chatd_str_copy(s->epoch, sizeof(s->epoch), a->epoch);
		s->seq = a->seq;
	}
	send_settle(s, s->home);
}

static size_t take_mentions(const struct send *s, struct chatd_str to[MENTIONS_MAX])
{
	json_t *item;
	size_t i, n = 0;
	json_array_foreach (s->draft.mentions, i, item) {
		if (n < MENTIONS_MAX) {
			to[n++] = chatd_str_of(json_string_value(item), json_string_length(item));
		}
	}
	return n;
}

void stored_append(struct send *s, chatd_worker *home)
{
	const struct chatd_host *h = s->self->h;
	const struct chatd_store *store = s->self->store->vt;
	struct chatd_str mentions[MENTIONS_MAX];
	int secret = s->draft.encrypted > 0;
	struct chatd_store_append r = { .struct_size = sizeof(r),
		.kind = CHATD_STORE_MESSAGE,
		.conv = conv_of(s),
		.id = text(s->id),
		.sender = text(s->user),
		.hash = { (const char *)s->hash, sizeof(s->hash) },
		.body = h->msg_body(s->msg),
		.text = secret ? chatd_str_of(NULL, 0) : s->draft.content,
		.reply_to = s->draft.reply_to,
		.thread = s->draft.thread,
		.expires = s->draft.expires_in_s ? s->wall + s->draft.expires_in_s * 1000 : 0,
		.mentions = mentions,
		.n_mentions = take_mentions(s, mentions),
		.wall = s->wall,
		.flags = s->flags | (secret ? CHATD_STORE_ENCRYPTED : 0),
		.check = !s->unchecked };
	if (s->client_id.n) {
		r.client_id = s->client_id;
	}
	if (s->files) {
		r.files = text(s->files);
	}
	s->home = home;
	chatd_status rc = store->append(s->self->store->obj, home, &r, on_stored, s);
	if (rc < 0) {
		refuse_for(s, rc, NULL);
		send_settle(s, home);
	}
}
