/* SPDX-License-Identifier: Apache-2.0 */
/* Everything the page shows, in memory, and nothing of how it is shown. Changes are announced as
 * (topic, key): topics are connection, me, conversations, messages, typing, people, active, arrived.
 *
 * A conversation's key is `room:ID` or `user:ID`; timeline.js keeps its messages in order. */

import { sealedEntry } from "./e2ee-chat.js";
import { attachmentsOf } from "./files.js";
import { applyChange, insert, isLocal, makeConversation, merge, noteSeq, reset, trim } from "./timeline.js";

const TRIM_EVERY = 20;
const TYPING_LASTS_MS = 6000;

export const roomKey = (id) => `room:${id}`;
export const userKey = (id) => `user:${id}`;

export class State {
	me = null;
	connection = { state: "connecting" };
	rooms = new Map();
	/* Rooms that this person was shown out of: id -> {name, text, mayJoin}. */
	gone = new Map();
	people = new Map();
	members = new Map();
	/* Rooms of which they are not all. */
	large = new Set();
	conversations = new Map();
	active = null;
	#heldUntil = 0;
	heldFor = "";
	#listeners = [];
	#nextRow = 1;

	/* `what`: the message, of the topic arrived. */
	changed(topic, key, what) {
		this.#changed(topic, key, what);
	}

	onChange(listener) {
		this.#listeners.push(listener);
	}

	#changed(topic, key, what) {
		for (const listener of this.#listeners) {
			listener(topic, key, what);
		}
	}

	/* Another id than before: the server forgot this person. What they wrote stays theirs on this page; what still
	 * waits to be sent goes out under the new id. */
	setMe(me) {
		const before = this.me;
		this.me = me;
		if (before && before.id !== me.id) {
			this.people.delete(before.id);
			for (const [conversation, entry] of this.localOnes()) {
				Object.assign(entry, { senderId: me.id, senderName: me.name });
				this.#changed("messages", conversation.key);
			}
		}
		this.person(me.id, { name: me.name, online: true });
		this.#changed("me");
	}

	/* One's own messages wait: the server takes nothing more for so long. `why`: the code of its refusal. */
	hold(seconds, why) {
		this.heldFor = why;
		this.#heldUntil = Math.max(this.#heldUntil, Date.now() + seconds * 1000);
	}

	/* Seconds until they go out by themselves; 0: nothing is held back. */
	get held() {
		return Math.max(0, Math.ceil((this.#heldUntil - Date.now()) / 1000));
	}

	setConnection(connection) {
		this.connection = connection;
		this.#changed("connection");
	}

	/* ---- people ---- */

	/* Learns about a person; fields left out stay as they were. `online` null: not known. `status` (away, busy) and
	 * `text` come with it, if at all. */
	person(id, facts = {}) {
		const known = this.people.get(id) ?? { id, name: id, online: null, status: "", text: "" };
		const next = { ...known };
		if (facts.name) {
			next.name = facts.name;
		}
		if (facts.online !== undefined) {
			next.online = facts.online;
			next.status = facts.online ? (facts.status ?? (known.online ? known.status : "")) : "";
			next.text = facts.online ? (facts.text ?? (facts.status === undefined && known.online ? known.text : "")) : "";
		}
		if (["name", "online", "status", "text"].some((key) => next[key] !== known[key]) || !this.people.has(id)) {
			this.people.set(id, next);
			this.#changed("people", id);
		}
		return next;
	}

	nameOf(id) {
		return this.people.get(id)?.name ?? id;
	}

	/* `total`: in the room; `more`: they are not all. */
	setMembers(roomId, { members, total, more }) {
		for (const m of members) {
			this.person(m.userId, { name: m.nickname, online: m.online });
		}
		this.members.set(roomId, members.map((m) => ({ id: m.userId, role: m.role ?? "member" })));
		const room = this.rooms.get(roomId);
		if (room) {
			room.members = total;
		}
		this.large[more ? "add" : "delete"](roomId);
		this.#changed("people");
	}

	/* ---- rooms and conversations ---- */

	setRooms(list, wanted = []) {
		this.rooms = new Map(
			list.map((r) => [r.id, { ...r, name: r.name || r.id, joined: Boolean(r.joined) || wanted.includes(r.id) }]),
		);
		for (const [key, conversation] of this.conversations) {
			if (conversation.kind === "room" && !this.rooms.has(conversation.id) && key !== this.active) {
				this.conversations.delete(key);
			}
		}
		for (const room of this.rooms.values()) {
			if (room.joined || room.invited) {
				this.gone.delete(room.id);
			}
		}
		for (const room of this.rooms.values()) {
			this.conversation("room", room.id);
		}
		this.#changed("conversations");
	}

	setJoined(roomId, joined) {
		const room = this.rooms.get(roomId);
		if (room && room.joined !== joined) {
			room.joined = joined;
			this.#changed("conversations");
		}
	}

	conversation(kind, id) {
		const key = `${kind}:${id}`;
		let found = this.conversations.get(key);
		if (!found) {
			found = makeConversation(kind, id);
			this.conversations.set(key, found);
			this.#changed("conversations", key);
		}
		return found;
	}

	/* By key; makes a direct conversation that is not there yet, not a room. */
	open(key) {
		const at = key.indexOf(":");
		const kind = key.slice(0, at);
		const id = key.slice(at + 1);
		if (!id || (kind === "room" ? !this.rooms.has(id) : kind !== "user")) {
			return null;
		}
		return this.conversation(kind, id);
	}

	titleOf(conversation) {
		return conversation.kind === "room"
			? (this.rooms.get(conversation.id)?.name ?? this.gone.get(conversation.id)?.name ?? conversation.id)
			: this.nameOf(conversation.id);
	}

	setActive(key) {
		const left = this.conversations.get(this.active);
		if (left && key !== this.active) {
			trim(left);
		}
		this.active = key;
		this.#changed("active", key);
	}

	/* As an earlier visit left it; see offline.js. */
	restore({ me, rooms, people, conversations }) {
		this.setMe(me);
		people.forEach((p) => this.person(p.id, { name: p.name }));
		this.setRooms(rooms.map((room) => ({ ...room, kept: true })));
		for (const { kind, id, messages, ...facts } of conversations) {
			const conversation = Object.assign(this.conversation(kind, id), facts);
			messages.forEach((entry) => this.#put(conversation, { ...entry, row: undefined, live: false, kept: true }));
		}
		this.#changed("conversations");
	}

	forgetConversations() {
		this.conversations.clear();
		this.members.clear();
		this.large.clear();
		this.rooms.clear();
		this.gone.clear();
		this.people.clear();
		this.active = null;
		this.#changed("conversations");
	}

	setGone(roomId, text, mayJoin) {
		this.gone.set(roomId, { name: this.rooms.get(roomId)?.name ?? this.gone.get(roomId)?.name ?? roomId, text, mayJoin });
		this.#changed("conversations");
	}

	/* As GET /api/chat/conversations has it. */
	setSummary({ with: peer, roomId, unread, seq, lastMessage }) {
		if (roomId && !this.rooms.has(roomId)) {
			return;
		}
		const conversation = this.conversation(roomId ? "room" : "user", roomId ?? peer);
		conversation.unread = unread ?? 0;
		if (conversation.loaded === "no" && conversation.messages.length === 0) {
			conversation.lastSeq = Math.max(conversation.lastSeq, seq ?? 0);
			conversation.epoch = lastMessage?.epoch ?? conversation.epoch;
		}
		if (lastMessage && conversation.lastSeq <= (seq ?? 0)) {
			const entry = this.#entryOf(lastMessage);
			conversation.preview = entry;
			conversation.lastAt = Math.max(conversation.lastAt, entry.at);
			if (entry.senderId && !entry.mine && lastMessage.senderName) {
				this.person(entry.senderId, { name: lastMessage.senderName });
			}
		}
		this.#changed("conversations", conversation.key);
	}

	/* ---- messages ---- */

	#entryOf(message) {
		const senderId = message.senderId ?? message.sender ?? "";
		return {
			kind: message.type === "CHAT" ? "chat" : "event",
			type: message.type,
			code: message.code ?? "",
			id: message.id ?? "",
			clientId: message.clientId ?? "",
			seq: message.seq ?? 0,
			senderId,
			senderName: message.senderName || this.nameOf(senderId),
			actor: message.actor ?? "",
			about: message.userId ?? message.messageId ?? "",
			role: message.role ?? "",
			name: message.name ?? "",
			until: message.until ?? "",
			content: message.content ?? "",
			replyTo: typeof message.replyTo === "string" ? message.replyTo : "",
			threadId: typeof message.threadId === "string" ? message.threadId : "",
			attachments: attachmentsOf(message),
			reactions: message.reactions ?? {},
			edited: Boolean(message.edited),
			deleted: Boolean(message.deleted),
			unreadable: message.error === "DECRYPT_FAILED",
			at: Date.parse(message.timestamp) || Date.now(),
			mine: senderId === this.me?.id,
			encrypted: Boolean(message.encrypted),
			mentions: message.mentions ?? [],
			status: "sent",
			...(message.encrypted && message.content ? sealedEntry(message.content) : {}),
		};
	}

	/* A message or event as it arrives. Returns the entry, or null for one that is known already. */
	received(conversation, message) {
		const entry = this.#entryOf(message);
		const known = conversation.messages.find((m) => entry.id && m.id === entry.id && !isLocal(m));
		const below = conversation.after !== null; /* the stretch shown does not reach so far */
		if (known || (below && entry.seq && entry.seq <= conversation.lastSeq)) {
			return null;
		}
		entry.live = true;
		if (entry.kind === "chat") {
			conversation.preview = entry;
		}
		this.#beside(conversation, entry);
		if (below) {
			this.#dropLocal(conversation, entry);
			conversation.lastAt = Math.max(conversation.lastAt, entry.at);
		} else {
			this.#put(conversation, entry);
			if (conversation.key !== this.active && conversation.messages.length % TRIM_EVERY === 0) {
				trim(conversation);
			}
		}
		this.#changed("messages", conversation.key);
		this.#changed("conversations", conversation.key);
		return entry;
	}

	#put(conversation, entry) {
		const old = insert(conversation, entry);
		entry.row ??= this.#nextRow++;
		return old;
	}

	/* The thread that is shown beside the conversation has it too, whatever the stretch is that is shown of this. */
	#beside(conversation, entry) {
		const thread = entry.threadId && conversation.thread?.root === entry.threadId ? conversation.thread : null;
		if (thread && !thread.entries.some((m) => m.id === entry.id)) {
			entry.row ??= this.#nextRow++;
			thread.entries.push(entry);
		}
	}

	#dropLocal(conversation, entry) {
		conversation.messages = conversation.messages.filter((m) => !(isLocal(m) && m.mine && m.clientId === entry.clientId));
	}

	/* Returns whether rows before this one are missing. */
	noteSeq(conversation, seq, epoch) {
		return noteSeq(conversation, seq, epoch);
	}

	applyChange(conversation, row) {
		applyChange(conversation, row);
		this.#changed("messages", conversation.key);
		this.#changed("conversations", conversation.key);
	}

	/* A page of history: `newest` when nothing comes after it but what is live. */
	merge(conversation, page, newest) {
		const entries = page.messages.map((m) => this.#entryOf(m));
		for (const entry of entries) {
			if (entry.senderName && entry.senderId && !entry.mine && !this.people.has(entry.senderId)) {
				this.person(entry.senderId, { name: entry.senderName });
			}
		}
		merge(conversation, page, entries);
		for (const entry of entries) {
			entry.row ??= this.#nextRow++;
		}
		if (newest) {
			conversation.lastSeq = Math.max(conversation.lastSeq, page.topSeq ?? 0);
		}
		this.#changed("messages", conversation.key);
	}

	/* Messages of a page of the conversation's thread. */
	mergeThread(conversation, messages) {
		const known = new Set(conversation.thread.entries.map((m) => m.id));
		const entries = this.entries(messages.filter((m) => !known.has(m.id)));
		entries.forEach((entry) => (entry.row = this.#nextRow++));
		conversation.thread.entries.unshift(...entries);
		this.#changed("messages", conversation.key);
	}

	quote(conversation, id, message) {
		conversation.quoted.set(id, message ? this.#entryOf(message) : null);
		this.#changed("messages", conversation.key);
	}

	reset(conversation) {
		reset(conversation);
		this.#changed("messages", conversation.key);
	}

	entries(messages) {
		return messages.map((m) => this.#entryOf(m));
	}

	/* One's own message on its way; `item` as the outbox has it. */
	pending(conversation, item) {
		const entry = {
			...this.#entryOf({ type: "CHAT", sender: this.me.id, senderName: this.me.name }),
			clientId: item.clientId,
			content: item.content,
			encrypted: Boolean(item.encrypted),
			replyTo: item.replyTo ?? "",
			threadId: item.threadId ?? "",
			mentions: item.mentions ?? [],
			attachments: attachmentsOf(item),
			at: item.at,
			status: item.status ?? "pending",
			error: item.error,
			live: true,
		};
		this.#put(conversation, entry);
		this.#changed("messages", conversation.key);
		this.#changed("conversations", conversation.key);
		return entry;
	}

	/* The server has it: `stored` is {id, seq} as the receipt says. */
	sent(conversation, entry, stored) {
		if (entry.id || !conversation.messages.includes(entry)) {
			return;
		}
		Object.assign(entry, { status: "sent", error: undefined, id: stored.id ?? "", seq: stored.seq ?? 0 });
		if (conversation.after !== null) {
			this.remove(conversation, entry);
			this.#beside(conversation, entry);
		} else {
			this.#put(conversation, entry);
			conversation.preview = entry;
		}
		this.#changed("messages", conversation.key);
	}

	/* Refused, or on its way again. Returns false for one that has arrived after all. */
	setStatus(conversation, entry, status, error) {
		if (entry.id || !conversation.messages.includes(entry)) {
			return false;
		}
		Object.assign(entry, { status, error });
		this.#changed("messages", conversation.key);
		return true;
	}

	remove(conversation, entry) {
		conversation.messages = conversation.messages.filter((m) => m !== entry);
		this.#changed("messages", conversation.key);
	}

	/* [conversation, entry] of all that is here alone, oldest first. */
	localOnes() {
		const found = [];
		for (const conversation of this.conversations.values()) {
			found.push(...conversation.messages.filter(isLocal).map((entry) => [conversation, entry]));
		}
		return found.sort(([, a], [, b]) => a.at - b.at);
	}

	countUnread(conversation) {
		conversation.unread++;
		this.#changed("conversations", conversation.key);
	}

	clearUnread(conversation) {
		if (conversation.unread) {
			conversation.unread = 0;
			this.#changed("conversations", conversation.key);
		}
	}

	unreadTotal() {
		let total = 0;
		for (const conversation of this.conversations.values()) {
			total += conversation.unread;
		}
		return total;
	}

	/* ---- typing and reading ---- */

	setTyping(conversation, userId, typing) {
		clearTimeout(conversation.typing.get(userId));
		conversation.typing.delete(userId);
		if (typing) {
			conversation.typing.set(
				userId,
				setTimeout(() => this.setTyping(conversation, userId, false), TYPING_LASTS_MS),
			);
		}
		this.#changed("typing", conversation.key);
	}

	/* Up to a seq, or an id where there are no seqs: ids sort by time. */
	setReadUpTo(conversation, userId, { seq = 0, messageId = "" }, marks = "readUpTo") {
		const known = conversation[marks].get(userId) ?? { seq: 0, messageId: "" };
		if (seq > known.seq || messageId > known.messageId) {
			conversation[marks].set(userId, {
				seq: Math.max(seq, known.seq),
				messageId: messageId > known.messageId ? messageId : known.messageId,
			});
			this.#changed("messages", conversation.key);
		}
	}

	/* `marks`: who has read it, or to whom it came (deliveredTo). */
	readersOf(conversation, entry, marks = "readUpTo") {
		if (!entry.id) {
			return [];
		}
		const has = (upTo) => (entry.seq && upTo.seq ? upTo.seq >= entry.seq : upTo.messageId >= entry.id);
		return [...conversation[marks]].filter(([, upTo]) => has(upTo)).map(([userId]) => userId);
	}
}
