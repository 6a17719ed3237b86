/* What a person does and what the server tells, between the connection, the REST calls and the state. */

import { ApiError } from "./api.js";
import { Connection, newId } from "./connection.js";
import { userKey } from "./state.js";
import { deviceToken, displayName, peers, wantedRooms } from "./storage.js";

const DEFAULT_ROOM = "lobby";
const TYPING_AGAIN_MS = 2500;
const READ_DELAY_MS = 400;
const RECEIPT_WAIT_MS = 20000;
const PEOPLE_REFRESH_MS = 20000;

const SOFT_ERRORS = {
	RATE_LIMIT_EXCEEDED: "You are sending too fast.",
	NOT_FOUND: "There is no such person or room.",
	NOT_MEMBER: "You are not a member of this room.",
	FORBIDDEN: "You may not do that here.",
	MUTED: "You have been muted in this room.",
	BLOCKED: "This person does not take messages from you.",
	TOO_LARGE: "This message is too long.",
	STORE_BUSY: "The server is busy. Try again in a moment.",
	UNAVAILABLE: "The server cannot do this right now.",
};

export function explain(error) {
	const text = SOFT_ERRORS[error.code ?? error.errorCode] ?? error.message ?? "Something went wrong.";
	return error.retryAfterSeconds ? `${text} Try again in ${error.retryAfterSeconds} s.` : text;
}

export class Session {
	#state;
	#api;
	#toast;
	#connection;
	#leaveRoomTopic = new Map();
	#typingSent = new Map();
	#readTimer = 0;
	#refreshTimer = 0;
	#wasUpBefore = false;
	#freshIdentity = false;

	/* `toast(text, {kind})` shows a notice. */
	constructor({ state, api, toast, endpoint, transport }) {
		this.#state = state;
		this.#api = api;
		this.#toast = toast;
		this.#connection = new Connection(endpoint, transport, {
			prepare: () => this.#prepare(),
			up: (headers) => this.#up(headers),
			down: (wasUp) => this.#down(wasUp),
			refused: (message) => this.#refused(message),
			state: (connection) => state.setConnection(connection),
		});
	}

	/* The first visit asks for a name and must hear why it failed; later ones start() and keep trying. */
	async join(name) {
		await this.#nameMe(name);
		this.#connection.start();
	}

	/* Another name. The connection is made anew, since messages carry the name that it began with. */
	async rename(name) {
		await this.#nameMe(name);
		await this.#connection.stop();
		this.#wasUpBefore = false; /* so short an absence is no gap to speak of */
		this.#connection.start();
	}

	async #nameMe(name) {
		this.#adopt(await this.#api.join(name));
		displayName.set(name);
		if (name && this.#state.me.name !== name) {
			this.#toast(`This server did not take that name: you are ${this.#state.me.name}.`);
		}
		this.#freshIdentity = true;
	}

	start() {
		this.#connection.start();
	}

	retryNow() {
		this.#connection.retryNow();
	}

	/* Forgets this guest on this device. */
	async signOut() {
		deviceToken.clear();
		displayName.set("");
		wantedRooms.clear();
		peers.clear();
		clearInterval(this.#refreshTimer);
		this.#leaveRoomTopic.clear();
		await this.#connection.stop();
		this.#wasUpBefore = false;
		this.#state.forgetConversations();
		this.#state.me = null;
	}

	#adopt(account) {
		const before = this.#state.me;
		this.#state.setMe({ id: account.userId, name: account.nickname });
		if (before && before.id !== account.userId) {
			this.#toast(`The server did not know you any more: you are ${account.nickname} now.`);
		}
	}

	async #prepare() {
		if (this.#freshIdentity) {
			this.#freshIdentity = false; /* it has just been asked for */
		} else {
			this.#adopt(await this.#api.join());
		}
		const token = deviceToken.get();
		return token ? { "device-token": token } : {};
	}

	#refused(message) {
		this.#toast(`The server refused the connection: ${message}`, { kind: "error" });
	}

	/* ---- the life of one connection ---- */

	#up(headers) {
		if (headers["device-token"]) {
			deviceToken.set(headers["device-token"]);
		}
		if (headers["user-name"] && headers["user-name"] !== this.#state.me.id) {
			this.#state.setMe({ id: headers["user-name"], name: displayName.get() || headers["user-name"] });
		}
		const subscribe = (destination, handler) => this.#connection.subscribe(destination, handler);
		subscribe("/user/queue/errors", (body) => this.#onSoftError(body));
		subscribe("/user/queue/messages", (body) => this.#onDirect(body));
		subscribe("/user/queue/typing", (body) => this.#onDirect(body));
		subscribe("/user/queue/read", (body) => this.#onDirect(body));
		subscribe("/user/queue/presence", (body) => this.#onPresence(body));
		subscribe("/topic/public", (body) => this.#onAnnouncement(body));
		for (const peer of peers.get()) {
			this.#state.person(peer.id, { name: peer.name });
			this.#state.conversation("user", peer.id);
		}
		if (this.#wasUpBefore) {
			this.#noteGap();
		}
		this.#wasUpBefore = true;
		this.#enterRooms();
		this.#resendPending();
		clearInterval(this.#refreshTimer);
		this.#refreshTimer = setInterval(() => this.refreshPeople(), PEOPLE_REFRESH_MS);
	}

	#down(wasUp) {
		clearInterval(this.#refreshTimer);
		this.#leaveRoomTopic.clear();
		this.#typingSent.clear();
		if (wasUp) {
			for (const person of this.#state.people.values()) {
				this.#state.person(person.id, { online: false });
			}
		}
	}

	#noteGap() {
		for (const conversation of this.#state.conversations.values()) {
			const room = conversation.kind === "room" && this.#state.rooms.get(conversation.id);
			if (conversation.messages.length > 0 && (conversation.kind === "user" || room?.joined)) {
				this.#state.notice(conversation, "Connected again. What was said in between may be missing.");
			}
		}
	}

	async #enterRooms() {
		const rooms = await this.#loadRooms();
		if (!rooms) {
			return;
		}
		const wanted = wantedRooms.get() ?? (this.#state.rooms.has(DEFAULT_ROOM) ? [DEFAULT_ROOM] : []);
		for (const room of rooms) {
			if (room.joined) {
				this.#follow(room.id);
			} else if (wanted.includes(room.id)) {
				this.joinRoom(room.id);
			}
		}
		this.refreshPeople();
	}

	async #loadRooms() {
		try {
			const rooms = await this.#api.rooms();
			this.#state.setRooms(rooms);
			return rooms;
		} catch (error) {
			if (this.#connection.online) {
				this.#toast(`The rooms could not be listed. ${explain(error)}`, { kind: "error" });
			}
			return null;
		}
	}

	#follow(roomId) {
		if (this.#connection.online && !this.#leaveRoomTopic.has(roomId)) {
			this.#leaveRoomTopic.set(
				roomId,
				this.#connection.subscribe(`/topic/room/${roomId}`, (body) => this.#onRoom(roomId, body)),
			);
		}
		this.#state.setJoined(roomId, true);
	}

	/* ---- rooms ---- */

	joinRoom(roomId) {
		return this.#connection.send("/app/chat.join", { roomId, clientId: newId() }, () => {
			this.#follow(roomId);
			this.#remember(roomId, true);
			this.refreshPeople();
		});
	}

	leaveRoom(roomId) {
		return this.#connection.send("/app/chat.leave", { roomId, clientId: newId() }, () => {
			this.#leaveRoomTopic.get(roomId)?.();
			this.#leaveRoomTopic.delete(roomId);
			this.#state.setJoined(roomId, false);
			this.#remember(roomId, false);
			this.#loadRooms();
		});
	}

	#remember(roomId, wanted) {
		const others = (wantedRooms.get() ?? []).filter((id) => id !== roomId);
		wantedRooms.set(wanted ? [...others, roomId] : others);
	}

	/* Returns the new room's id. */
	async createRoom(name, isPublic) {
		const answer = await this.#api.createRoom(name, isPublic);
		const id = answer.id ?? answer.room?.id;
		await this.#enterRooms();
		if (id && !this.#state.rooms.get(id)?.joined) {
			this.joinRoom(id);
		}
		return id;
	}

	async refreshRooms() {
		if (this.#connection.online) {
			await this.#loadRooms();
		}
	}

	/* Who is in the open room, or whether the open direct conversation's person is there. */
	async refreshPeople() {
		const conversation = this.#state.conversations.get(this.#state.active);
		if (!conversation || !this.#connection.online) {
			return;
		}
		if (conversation.kind === "room" && !this.#state.rooms.get(conversation.id)?.joined) {
			return; /* only members see members */
		}
		try {
			if (conversation.kind === "room") {
				this.#state.setMembers(conversation.id, await this.#api.members(conversation.id));
			} else {
				const status = await this.#api.status(conversation.id);
				this.#state.person(conversation.id, { online: Boolean(status.online), name: status.nickname });
			}
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			/* Not vital, and asked again soon: a person unknown here, a room just left, a server just gone. */
		}
	}

	/* ---- sending ---- */

	say(conversation, content) {
		const entry = this.#state.pending(conversation, newId(), content);
		this.#stopTyping(conversation);
		if (conversation.kind === "user") {
			peers.touch(conversation.id, this.#state.nameOf(conversation.id));
		}
		this.#post(conversation, entry);
	}

	retry(conversation, entry) {
		this.#state.remove(conversation, entry);
		this.say(conversation, entry.content);
	}

	/* Not connected: stays pending, and goes out after the next connect. The id stays the same then, so that a server
	 * that had taken it over before the connection broke does not deliver it twice. */
	#post(conversation, entry) {
		const target = conversation.kind === "room" ? { roomId: conversation.id } : { to: conversation.id };
		const body = { type: "CHAT", ...target, content: entry.content, clientId: entry.clientId };
		const sent = this.#connection.send("/app/chat.send", body, () =>
			this.#state.setStatus(entry.clientId, "sent"),
		);
		if (sent) {
			setTimeout(() => {
				if (entry.status === "pending" && this.#connection.online) {
					this.#state.setStatus(entry.clientId, "failed", "The server did not confirm it.");
				}
			}, RECEIPT_WAIT_MS);
		}
	}

	#resendPending() {
		for (const [conversation, entry] of this.#state.pendingOnes()) {
			this.#post(conversation, entry);
		}
	}

	typing(conversation) {
		const last = this.#typingSent.get(conversation.key) ?? 0;
		if (Date.now() - last > TYPING_AGAIN_MS && this.#sendTyping(conversation, true)) {
			this.#typingSent.set(conversation.key, Date.now());
		}
	}

	stopTyping(conversation) {
		if (this.#stopTyping(conversation)) {
			this.#sendTyping(conversation, false);
		}
	}

	#stopTyping(conversation) {
		return this.#typingSent.delete(conversation.key);
	}

	#sendTyping(conversation, typing) {
		const target = conversation.kind === "room" ? { roomId: conversation.id } : { to: conversation.id };
		return this.#connection.send("/app/chat.typing", { ...target, typing });
	}

	/* The person has the conversation before their eyes. */
	seen(conversation) {
		this.#state.clearUnread(conversation);
		const last = conversation.messages.findLast((m) => m.kind === "chat" && m.id && !m.mine);
		if (!last || last.id <= conversation.readSent) {
			return;
		}
		clearTimeout(this.#readTimer);
		this.#readTimer = setTimeout(() => {
			const target = conversation.kind === "room" ? { roomId: conversation.id } : { with: conversation.id };
			if (this.#connection.send("/app/chat.read", { ...target, messageId: last.id })) {
				conversation.readSent = last.id;
			}
		}, READ_DELAY_MS);
	}

	/* ---- what arrives ---- */

	#onDirect(body) {
		const sender = body.senderId ?? body.sender;
		const receiver = body.receiverId ?? body.receiver;
		if (body.roomId) {
			this.#onRoom(body.roomId, body);
			return;
		}
		const peer = sender === this.#state.me.id ? receiver : sender;
		if (peer) {
			this.#onEvent(this.#state.conversation("user", peer), body);
		}
	}

	#onRoom(roomId, body) {
		const conversation = this.#state.conversation("room", roomId);
		this.#onEvent(conversation, body);
		if (body.type === "JOIN" || body.type === "LEAVE") {
			this.refreshPeople();
		}
	}

	#onEvent(conversation, body) {
		const sender = body.senderId ?? body.sender;
		const mine = sender === this.#state.me.id;
		if (sender && !mine) {
			const online = body.type === "LEAVE" ? undefined : true;
			this.#state.person(sender, { name: body.senderName, online });
		}
		switch (body.type) {
			case "TYPING":
				if (!mine) {
					this.#state.setTyping(conversation, sender, body.typing !== false);
				}
				break;
			case "READ":
				if (!mine && (body.messageId ?? body.id)) {
					this.#state.setReadUpTo(conversation, sender, body.messageId ?? body.id);
				}
				break;
			case "CHAT":
				this.#onChat(conversation, body, sender, mine);
				break;
			case "JOIN":
			case "LEAVE":
			case "SYSTEM":
				this.#state.received(conversation, body);
				break;
			default:
				break; /* kinds that later versions of the server know */
		}
	}

	#onChat(conversation, body, sender, mine) {
		if (!mine) {
			this.#state.setTyping(conversation, sender, false);
		}
		const entry = this.#state.received(conversation, body);
		if (!entry) {
			return;
		}
		if (conversation.kind === "user") {
			peers.touch(conversation.id, this.#state.nameOf(conversation.id));
		}
		if (!mine) {
			this.#state.countUnread(conversation);
		}
	}

	#onPresence(body) {
		const id = body.userId ?? body.senderId ?? body.sender;
		if (id) {
			const online = typeof body.online === "boolean" ? body.online : body.status === "ONLINE";
			this.#state.person(id, { online, name: body.nickname ?? body.senderName });
		}
	}

	#onAnnouncement(body) {
		if (body.type === "SYSTEM" || body.type === "CHAT") {
			this.#toast(body.content ?? "", { kind: "info" });
		}
	}

	#onSoftError(body) {
		const text = explain(body);
		if (body.clientId && this.#state.setStatus(body.clientId, "failed", text)) {
			if (!this.#state.isOpenWith(body.clientId)) {
				this.#toast(`Not sent. ${text}`, { kind: "error" });
			}
			return;
		}
		const destination = body.destination ?? "";
		/* A feature that this server has not switched on is not the person's mistake. */
		const quiet = /^\/(user\/queue|topic\/public)/.test(destination) || /^\/app\/chat\.(typing|read)/.test(destination);
		if (!quiet) {
			this.#toast(text, { kind: "error" });
		}
	}

	/* ---- opening conversations ---- */

	open(key) {
		const conversation = this.#state.open(key);
		if (!conversation) {
			return null;
		}
		const before = this.#state.conversations.get(this.#state.active);
		if (before && before !== conversation) {
			this.stopTyping(before);
		}
		this.#state.setActive(conversation.key);
		this.refreshPeople();
		return conversation;
	}

	openPerson(id) {
		return this.open(userKey(id));
	}
}
