/* Everything the page shows, in memory, and nothing of how it is shown. Changes are announced as
 * (topic, key): topics are connection, me, conversations, messages, typing, people, active.
 *
 * A conversation's key is `room:ID` or `user:ID`. Its messages stand in the order in which the server handed them
 * out and are known by id, so that fetched history can be put in front of them without repeats. */

const MESSAGES_KEPT = 1000;
const TYPING_LASTS_MS = 6000;

export const roomKey = (id) => `room:${id}`;
export const userKey = (id) => `user:${id}`;

export class State {
	me = null;
	connection = { state: "connecting" };
	rooms = new Map();
	people = new Map();
	members = new Map();
	conversations = new Map();
	active = null;
	#listeners = [];
	#nextRow = 1;

	onChange(listener) {
		this.#listeners.push(listener);
	}

	#changed(topic, key) {
		for (const listener of this.#listeners) {
			listener(topic, key);
		}
	}

	/* Another id than before: the server forgot this person. What they wrote stays theirs on this page; what still
	 * waits to be sent goes out under the new id. */
	setMe(me) {
		const before = this.me;
		this.me = me;
		if (before && before.id !== me.id) {
			this.people.delete(before.id);
			for (const [conversation, entry] of this.pendingOnes()) {
				Object.assign(entry, { senderId: me.id, senderName: me.name });
				this.#changed("messages", conversation.key);
			}
		}
		this.person(me.id, { name: me.name, online: true });
		this.#changed("me");
	}

	setConnection(connection) {
		this.connection = connection;
		this.#changed("connection");
	}

	/* ---- people ---- */

	/* Learns about a person; fields left out stay as they were. `online` null: not known. */
	person(id, facts = {}) {
		const known = this.people.get(id) ?? { id, name: id, online: null };
		const next = { ...known };
		if (facts.name) {
			next.name = facts.name;
		}
		if (facts.online !== undefined) {
			next.online = facts.online;
		}
		if (next.name !== known.name || next.online !== known.online || !this.people.has(id)) {
			this.people.set(id, next);
			this.#changed("people", id);
		}
		return next;
	}

	nameOf(id) {
		return this.people.get(id)?.name ?? id;
	}

	setMembers(roomId, members) {
		for (const m of members) {
			this.person(m.userId, { name: m.nickname, online: m.online });
		}
		this.members.set(roomId, members.map((m) => ({ id: m.userId, role: m.role ?? "member" })));
		const room = this.rooms.get(roomId);
		if (room) {
			room.members = members.length;
		}
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
			found = {
				key,
				kind,
				id,
				messages: [],
				unread: 0,
				draft: "",
				lastAt: 0,
				typing: new Map(),
				readUpTo: new Map(),
				readSent: "",
			};
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
			? (this.rooms.get(conversation.id)?.name ?? conversation.id)
			: this.nameOf(conversation.id);
	}

	setActive(key) {
		this.active = key;
		this.#changed("active", key);
	}

	forgetConversations() {
		this.conversations.clear();
		this.members.clear();
		this.rooms.clear();
		this.people.clear();
		this.active = null;
		this.#changed("conversations");
	}

	/* ---- messages ---- */

	/* A message or event as the server sent it. Returns the entry, or null for one already shown. */
	received(conversation, message) {
		const mine = message.senderId === this.me.id;
		const entry = {
			kind: message.type === "CHAT" ? "chat" : "event",
			type: message.type,
			id: message.id ?? "",
			clientId: message.clientId ?? "",
			senderId: message.senderId ?? message.sender ?? "",
			senderName: message.senderName || this.nameOf(message.senderId ?? message.sender ?? ""),
			content: message.content ?? "",
			at: Date.parse(message.timestamp) || Date.now(),
			mine,
			status: "sent",
		};
		const same = conversation.messages.findIndex(
			(m) =>
				(entry.id && m.id === entry.id) ||
				(entry.clientId && m.clientId === entry.clientId && m.senderId === entry.senderId),
		);
		if (same >= 0) {
			const old = conversation.messages[same];
			if (old.status === "sent" && old.id) {
				return null;
			}
			/* The server's answer to our own message: it takes its place in the order everyone sees. */
			entry.row = old.row;
			conversation.messages.splice(same, 1);
		}
		this.#append(conversation, entry);
		return entry;
	}

	/* One's own message on its way. */
	pending(conversation, clientId, content) {
		const entry = {
			kind: "chat",
			type: "CHAT",
			id: "",
			clientId,
			senderId: this.me.id,
			senderName: this.me.name,
			content,
			at: Date.now(),
			mine: true,
			status: "pending",
		};
		this.#append(conversation, entry);
		return entry;
	}

	/* The same one again replaces the last: a bad network would fill the page with them. */
	notice(conversation, content) {
		const last = conversation.messages.at(-1);
		if (last?.type === "NOTICE" && last.content === content) {
			conversation.messages.pop();
		}
		this.#append(conversation, { kind: "event", type: "NOTICE", id: "", clientId: "", senderId: "", content, at: Date.now() });
	}

	setStatus(clientId, status, error) {
		for (const conversation of this.conversations.values()) {
			const entry = conversation.messages.find((m) => m.mine && m.clientId === clientId);
			if (entry && !(status === "failed" && entry.id)) {
				entry.status = status;
				entry.error = error;
				this.#changed("messages", conversation.key);
				return true;
			}
		}
		return false;
	}

	remove(conversation, entry) {
		conversation.messages = conversation.messages.filter((m) => m !== entry);
		this.#changed("messages", conversation.key);
	}

	pendingOnes() {
		const found = [];
		for (const conversation of this.conversations.values()) {
			for (const entry of conversation.messages) {
				if (entry.status === "pending") {
					found.push([conversation, entry]);
				}
			}
		}
		return found;
	}

	#append(conversation, entry) {
		entry.row ??= this.#nextRow++;
		/* What is still on its way will come after what the server has already put in order. */
		let at = conversation.messages.length;
		while (entry.status !== "pending" && at > 0 && conversation.messages[at - 1].status === "pending") {
			at--;
		}
		conversation.messages.splice(at, 0, entry);
		if (conversation.messages.length > MESSAGES_KEPT) {
			conversation.messages.splice(0, conversation.messages.length - MESSAGES_KEPT);
		}
		conversation.lastAt = Math.max(conversation.lastAt, entry.at);
		this.#changed("messages", conversation.key);
		if (conversation.kind === "user") {
			this.#changed("conversations", conversation.key);
		}
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

	/* Ids sort by time, so one id says "and everything before". */
	setReadUpTo(conversation, userId, messageId) {
		if (messageId > (conversation.readUpTo.get(userId) ?? "")) {
			conversation.readUpTo.set(userId, messageId);
			this.#changed("messages", conversation.key);
		}
	}

	readersOf(conversation, entry) {
		if (!entry.id) {
			return [];
		}
		return [...conversation.readUpTo].filter(([, upTo]) => upTo >= entry.id).map(([userId]) => userId);
	}
}
