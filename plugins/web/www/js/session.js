/* What a person does and what the server tells, between the connection, the REST calls and the state. */

import { ApiError } from "./api.js";
import { Connection, newId, Refusal } from "./connection.js";
import { userKey } from "./state.js";
import { deviceToken, displayName, peers, wantedRooms } from "./storage.js";

const DEFAULT_ROOM = "lobby";
const TYPING_AGAIN_MS = 2500;
const READ_DELAY_MS = 400;
const ENTER_PATIENCE_MS = 10000;
const PEOPLE_REFRESH_MS = 20000;
const PEOPLE_PAUSE_MS = 2000;
const PEERS_WATCHED = 8;
const SENDS_AT_MOST = 3;
const OWN_QUEUES = ["errors", "messages", "typing", "read", "presence"];

const SOFT_ERRORS = {
	RATE_LIMIT_EXCEEDED: "You are sending too fast.",
	NOT_FOUND: "There is no such person or room.",
	NOT_MEMBER: "You are not a member of this room.",
	FORBIDDEN: "You may not do that here.",
	MUTED: "You have been muted in this room.",
	BLOCKED: "This person does not take messages from you.",
	TOO_LARGE: "This message is too long.",
	TIMEOUT: "The server did not confirm it.",
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
	#rooms = new Map(); /* id -> subscription */
	#typingSent = new Map();
	#readTimer = 0;
	#refreshTimer = 0;
	#peopleTimer = 0;
	/* Counts connections: what began under an earlier one must not go on. */
	#life = 0;
	/* Subscriptions and rooms are confirmed. What is said before waits, so that nothing goes out of order and nobody
	 * misses the echo of it. */
	#ready = false;
	#wasUpBefore = false;
	#freshIdentity = false;

	/* `toast(text, {kind})` shows a notice. */
	constructor({ state, api, toast, endpoint, transport }) {
		this.#state = state;
		this.#api = api;
		this.#toast = toast;
		this.#connection = new Connection(endpoint, transport, {
			prepare: () => this.#prepare(),
			up: (headers, transport) => this.#up(headers, transport),
			down: (wasUp) => this.#down(wasUp),
			refused: (message) => this.#refused(message),
			state: (connection) => {
				if (connection.state !== "online") {
					state.setConnection(connection); /* online is said by #up, once everything is in place */
				}
			},
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
		await this.end();
	}

	/* Ends it here alone: another tab may have forgotten this guest already. */
	async end() {
		await this.#connection.stop();
		this.#wasUpBefore = false;
		this.#state.forgetConversations();
		this.#state.me = null;
	}

	/* Another tab holds another identity now (a server that lost its guests): be the same one again. */
	async followIdentity() {
		await this.#connection.stop();
		this.#connection.start();
	}

	#adopt(account) {
		const before = this.#state.me;
		this.#state.setMe({ id: account.userId, name: account.nickname });
		if (before && before.id !== account.userId) {
			const name = account.nickname;
			const who = name === before.name ? `You are still ${name}, with a new id.` : `You are ${name} now.`;
			this.#toast(`The server has forgotten its guests. ${who}`);
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

	async #up(headers, transport) {
		const life = ++this.#life;
		if (headers["device-token"]) {
			deviceToken.set(headers["device-token"]);
		}
		if (headers["user-name"] && headers["user-name"] !== this.#state.me.id) {
			this.#state.setMe({ id: headers["user-name"], name: displayName.get() || headers["user-name"] });
		}
		const own = this.#subscribeOwn();
		for (const peer of peers.get()) {
			this.#state.person(peer.id, { name: peer.name });
			this.#state.conversation("user", peer.id);
		}
		if (this.#wasUpBefore) {
			this.#noteGap();
		}
		await own;
		const entered = life === this.#life && (await this.#enterRooms());
		if (life !== this.#life) {
			return;
		}
		this.#wasUpBefore = true;
		this.#ready = true;
		this.#state.setConnection({ state: "online", transport });
		if (!entered) {
			this.#toast("The rooms could not be listed.", { kind: "error" });
		}
		this.#sendPending();
		this.#watchPeople();
	}

	/* Resolves when all are in effect, or are known not to be: a server need not have every feature. */
	#subscribeOwn() {
		const handlers = {
			errors: (body) => this.#onSoftError(body),
			presence: (body) => this.#onPresence(body),
		};
		const direct = (body) => this.#onDirect(body);
		const all = OWN_QUEUES.map((name) =>
			this.#connection.subscribe(`/user/queue/${name}`, handlers[name] ?? direct, ENTER_PATIENCE_MS),
		);
		all.push(this.#connection.subscribe("/topic/public", (body) => this.#onAnnouncement(body), ENTER_PATIENCE_MS));
		return Promise.allSettled(all.map((subscription) => subscription.done));
	}

	#down(wasUp) {
		this.#life++;
		this.#ready = false;
		clearInterval(this.#refreshTimer);
		clearTimeout(this.#peopleTimer);
		this.#peopleTimer = 0;
		this.#rooms.clear();
		this.#typingSent.clear();
		if (wasUp) {
			for (const person of this.#state.people.values()) {
				this.#state.person(person.id, { online: null });
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

	/* Members follow their rooms; rooms that the server forgot this person was in are joined again. Resolves when each
	 * is settled: to false when the rooms could not be had. */
	async #enterRooms() {
		const wanted = wantedRooms.get() ?? [DEFAULT_ROOM];
		const rooms = await this.#loadRooms(wanted);
		if (!rooms) {
			return false;
		}
		const mine = rooms.filter((room) => room.joined || wanted.includes(room.id));
		await Promise.all(mine.map((room) => (room.joined ? this.#follow(room.id) : this.joinRoom(room.id))));
		return true;
	}

	/* `wanted`: rooms shown as joined already, since they are about to be. */
	async #loadRooms(wanted = []) {
		try {
			const rooms = await this.#api.rooms();
			this.#state.setRooms(rooms, wanted);
			return rooms;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			return null;
		}
	}

	/* Resolves to whether this person hears the room now. */
	async #follow(roomId) {
		if (!this.#rooms.has(roomId)) {
			const subscription = this.#connection.subscribe(
				`/topic/room/${roomId}`,
				(body) => this.#onRoom(roomId, body),
				ENTER_PATIENCE_MS,
			);
			this.#rooms.set(roomId, subscription);
		}
		const subscription = this.#rooms.get(roomId);
		try {
			await subscription.done;
		} catch (error) {
			if (this.#rooms.get(roomId) === subscription) {
				this.#rooms.delete(roomId);
				this.#complain(error);
			}
			return false;
		}
		this.#state.setJoined(roomId, true);
		this.#remember(roomId, true);
		return true;
	}

	#complain(error) {
		if (!(error instanceof Refusal)) {
			throw error;
		}
		if (error.code !== "DISCONNECTED") {
			this.#toast(explain(error), { kind: "error" });
		}
	}

	/* ---- rooms ---- */

	/* Resolves to whether it worked; when not, the person has been told. */
	async joinRoom(roomId) {
		try {
			await this.#connection.ask("/app/chat.join", { roomId, clientId: newId() }, ENTER_PATIENCE_MS);
		} catch (error) {
			if (error.code !== "DISCONNECTED") {
				this.#state.setJoined(roomId, false);
			}
			this.#complain(error);
			return false;
		}
		const heard = await this.#follow(roomId);
		this.#peopleSoon();
		return heard;
	}

	async leaveRoom(roomId) {
		try {
			await this.#connection.ask("/app/chat.leave", { roomId, clientId: newId() });
		} catch (error) {
			this.#complain(error);
			return;
		}
		this.#forsake(roomId);
		await this.#loadRooms();
	}

	#forsake(roomId) {
		this.#rooms.get(roomId)?.stop();
		this.#rooms.delete(roomId);
		this.#state.setJoined(roomId, false);
		this.#remember(roomId, false);
	}

	#remember(roomId, wanted) {
		const others = (wantedRooms.get() ?? []).filter((id) => id !== roomId);
		wantedRooms.set(wanted ? [...others, roomId] : others);
	}

	/* Returns the new room's id. */
	async createRoom(name, isPublic) {
		const answer = await this.#api.createRoom(name, isPublic);
		const id = answer.id ?? answer.room?.id;
		if (id) {
			await this.#loadRooms();
			await this.joinRoom(id);
		}
		return id;
	}

	async refreshRooms() {
		if (this.#connection.online) {
			await this.#loadRooms();
		}
	}

	/* Presence is asked for: at once, then now and then. */
	#watchPeople() {
		let turn = 0;
		const look = () => {
			this.#refreshPeople();
			if (turn++ % 3 === 0) {
				this.#refreshPeers();
			}
		};
		look();
		clearInterval(this.#refreshTimer);
		this.#refreshTimer = setInterval(look, PEOPLE_REFRESH_MS);
	}

	/* After people came or went. When many do at once, all others must not ask for the list each time. */
	#peopleSoon() {
		this.#peopleTimer ||= setTimeout(() => {
			this.#peopleTimer = 0;
			this.#refreshPeople();
		}, Math.random() * PEOPLE_PAUSE_MS);
	}

	/* Who is in the open room, or whether the open direct conversation's person is there. */
	async #refreshPeople() {
		const conversation = this.#state.conversations.get(this.#state.active);
		if (!conversation || !this.#ready) {
			return;
		}
		if (conversation.kind === "user") {
			await this.#refreshPerson(conversation.id);
		} else if (this.#state.rooms.get(conversation.id)?.joined) {
			/* only members see members */
			const members = await this.#optional(this.#api.members(conversation.id));
			if (members) {
				this.#state.setMembers(conversation.id, members);
			}
		}
	}

	async #refreshPeers() {
		const direct = [...this.#state.conversations.values()].filter((c) => c.kind === "user");
		direct.sort((a, b) => b.lastAt - a.lastAt);
		for (const { id, key } of direct.slice(0, PEERS_WATCHED)) {
			if (key !== this.#state.active && this.#ready) {
				await this.#refreshPerson(id);
			}
		}
	}

	async #refreshPerson(id) {
		const status = await this.#optional(this.#api.status(id));
		if (status) {
			this.#state.person(id, { online: Boolean(status.online), name: status.nickname });
		}
	}

	/* Not vital, and asked again soon: a person unknown here, a room just left, a server just gone. */
	async #optional(answer) {
		try {
			return await answer;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			return null;
		}
	}

	/* ---- sending ---- */

	say(conversation, content) {
		const entry = this.#state.pending(conversation, newId(), content);
		this.#stopTyping(conversation);
		this.#post(conversation, entry);
	}

	/* With the same id: if the server did take it over the first time, nobody sees it twice. */
	retry(conversation, entry) {
		this.#state.remove(conversation, entry);
		this.#post(conversation, this.#state.pending(conversation, entry.clientId, entry.content));
	}

	/* Not connected: stays pending, and goes out after the next connect. */
	async #post(conversation, entry) {
		if (!this.#ready) {
			return;
		}
		const target = conversation.kind === "room" ? { roomId: conversation.id } : { to: conversation.id };
		const body = { type: "CHAT", ...target, content: entry.content, clientId: entry.clientId };
		entry.sends = (entry.sends ?? 0) + 1;
		try {
			await this.#connection.ask("/app/chat.send", body);
			this.#state.setStatus(entry.clientId, "sent");
		} catch (error) {
			this.#onNotSent(conversation, entry, error);
		}
	}

	#onNotSent(conversation, entry, error) {
		if (!(error instanceof Refusal)) {
			throw error;
		}
		if (error.code === "DISCONNECTED" && entry.sends < SENDS_AT_MOST) {
			return; /* a message that breaks every connection must not be sent for ever */
		}
		const nobody = error.code === "NOT_FOUND" && conversation.kind === "user";
		const text = nobody ? "The server knows nobody with this id." : explain(error);
		if (this.#state.setStatus(entry.clientId, "failed", text) && this.#state.active !== conversation.key) {
			this.#toast(`Not sent to ${this.#state.titleOf(conversation)}. ${text}`, { kind: "error" });
		}
	}

	#sendPending() {
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
		if (body.type === "LEAVE" && body.senderId === this.#state.me.id && this.#rooms.has(roomId)) {
			this.#forsake(roomId); /* in another tab */
		}
		if (body.type === "JOIN" || body.type === "LEAVE") {
			this.#peopleSoon();
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
		if (this.#connection.refused(body.receiptId, body)) {
			return;
		}
		const destination = body.destination ?? "";
		/* A feature that this server has not switched on is not the person's mistake. */
		const quiet = /^\/(user\/queue|topic\/public)/.test(destination) || /^\/app\/chat\.(typing|read)/.test(destination);
		if (!quiet) {
			this.#toast(explain(body), { kind: "error" });
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
		this.#refreshPeople();
		return conversation;
	}

	openPerson(id) {
		return this.open(userKey(id));
	}
}
