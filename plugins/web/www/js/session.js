/* SPDX-License-Identifier: Apache-2.0 */
/* What a person does and what the server tells, between the connection, the REST calls and the state. */

import { Account } from "./account.js";
import { Connection, newId, Refusal } from "../client/connection.js";
import { Lives } from "../client/lives.js";
import { OwnQueues } from "../client/own-queues.js";
import { bearer } from "../client/rest.js";
import { Typing } from "../client/typing.js";
import { Watching } from "../client/watching.js";
import { h } from "./dom.js";
import { Encryption, explainSealed } from "./e2ee-chat.js";
import { ApiError, explain } from "./errors.js";
import { History } from "./history.js";
import { t } from "./i18n.js";
import { Outbox } from "./outbox.js";
import { Rooms } from "./rooms.js";
import { userKey } from "./state.js";
import { deviceToken, displayName, login, owner, peers, wantedRooms } from "./storage.js";

const READ_DELAY_MS = 400;
const ENTER_PATIENCE_MS = 10000;
const PEOPLE_REFRESH_MS = 20000;
const PEERS_ASKED = 8;
const PEERS_WATCHED = 100;
const COUNTS_PAUSE_MS = 300;
const HOLE_PAUSE_MS = 500;
const CHANGES = ["EDIT", "DELETE", "REACTION"];
const PINS = ["PINNED", "UNPINNED"];

export class Session {
	#state;
	#api;
	#toast;
	#connection;
	#lives;
	#own;
	#typing;
	#watching;
	/* Where one looks who is typing: the open conversation, once that can be heard. */
	#lookedAt = null;
	#readTimer = 0;
	#refreshTimer = 0;
	#countsTimer = 0;
	/* Of the last connection that was ready: whether it is still there. */
	#isPresent = () => false;
	/* Subscriptions and rooms are confirmed. What is said before waits, so that nothing goes out of order and nobody
	 * misses the echo of it. */
	#ready = false;
	#freshIdentity = false;
	account;
	encryption;
	history;
	outbox;
	rooms;

	/* `toast(text, {kind})` shows a notice; `invited(room, by)` tells of an invitation; `left(reason)`: this person is
	 * logged out here. */
	constructor({ state, api, toast, endpoint, transport, invited, left }) {
		this.#state = state;
		this.#api = api;
		this.#toast = toast;
		this.account = new Account({ state, api, session: this, left });
		this.#connection = new Connection(endpoint, transport, {
			prepare: () => this.#prepare(),
			up: (headers, transport) => this.#up(headers, transport),
			down: (wasUp) => this.#down(wasUp),
			refused: (message, code) => this.#refused(message, code),
			closed: ({ code, reason }) => this.#onEnd(this.#lives.closed(code), reason),
			state: (connection) => {
				if (connection.state !== "online") {
					state.setConnection(connection); /* online is said by #up, once everything is in place */
				}
			},
		}, { loadSockJS });
		const connection = this.#connection;
		this.#lives = new Lives(connection);
		this.#own = new OwnQueues(connection, this.#ears(), () => this.#lost("user"));
		this.#typing = new Typing(connection, (place, body) => this.#onTyping(place, body));
		this.#watching = new Watching(connection);
		this.history = new History(state, api);
		this.encryption = new Encryption({ state, api, toast });
		this.outbox = new Outbox({ state, connection, toast, encryption: this.encryption });
		const hear = (roomId, body, headers) => this.#onRoom(roomId, body, headers);
		const heard = () => {
			this.#countsSoon();
			this.#look();
		};
		this.rooms = new Rooms({ state, api, toast, connection, history: this.history, hear, heard, invited });
	}

	get isGuest() {
		return this.#api.isGuest;
	}

	/* The first visit asks for a name and must hear why it failed; later ones start() and keep trying. */
	async join(name) {
		if (owner.get()) {
			peers.clear();
			wantedRooms.clear();
			owner.clear();
		}
		await this.#nameMe(name);
		this.#connection.start();
	}

	start() {
		this.#api.tokens.watch();
		this.#connection.start();
	}

	/* Another name. A guest's connection is made anew, since messages carry the name that it began with. */
	async rename(name) {
		if (!this.isGuest) {
			await this.account.rename(name);
			return;
		}
		await this.#nameMe(name);
		await this.#connection.stop();
		this.#connection.start();
	}

	async #nameMe(name) {
		this.#adopt(await this.#api.join(name));
		displayName.set(name);
		if (name && this.#state.me.name !== name) {
			this.#toast(t("This server did not take that name: you are {name}.", { name: this.#state.me.name }));
		}
		this.#freshIdentity = true;
	}

	retryNow() {
		this.#connection.retryNow();
	}

	/* Ends it here alone: another tab may have forgotten this person already. */
	async end() {
		this.#api.tokens.stop();
		await this.#connection.stop();
		this.#own.forget();
		this.#lives.forget();
		this.#watching.clear();
		this.outbox.clear();
		this.#state.forgetConversations();
		this.#state.me = null;
	}

	/* Tokens were renewed: the open connection goes on with the new one. */
	async renewed(token) {
		try {
			await this.#lives.renewed(token);
		} catch (error) {
			if (!(error instanceof Refusal)) {
				throw error;
			}
			/* The connection ends with its old token then, and is made anew. */
		}
	}

	get stopped() {
		return this.#connection.stopped;
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
			const still = t("The server has forgotten its guests. You are still {name}, with a new id.", { name });
			this.#toast(name === before.name ? still : t("The server has forgotten its guests. You are {name} now.", { name }));
		}
	}

	async #prepare() {
		if (!this.isGuest) {
			return bearer(await this.#accountToken());
		}
		this.#lives.token = "";
		if (this.#freshIdentity) {
			this.#freshIdentity = false; /* it has just been asked for */
		} else {
			this.#adopt(await this.#api.join());
		}
		return this.#api.guestHeaders();
	}

	/* After a refusal another token than the refused one. */
	async #accountToken() {
		try {
			this.#lives.token = await this.#api.tokens.access(this.#lives.refused);
		} catch (error) {
			if (error.code === "LOGGED_OUT") {
				this.account.loggedOut("");
			}
			throw error;
		}
		const { userId, nickname } = login.get();
		if (this.#state.me?.id !== userId || this.#state.me.name !== nickname) {
			this.#state.setMe({ id: userId, name: nickname });
		}
		return this.#lives.token;
	}

	#refused(message, code) {
		const end = this.#lives.rejected(code);
		if (end) {
			this.#onEnd(end, message);
		} else {
			this.#toast(t("The server refused the connection: {reason}", { reason: explain({ code, message }) }), { kind: "error" });
		}
	}

	#onEnd({ end, waitMs }, reason) {
		if (end === "LOGGED_OUT") {
			this.account.loggedOut(reason);
		} else if (end) {
			this.halt(end === "BANNED" ? "banned" : "taken", reason);
		} else if (waitMs) {
			this.#toast(t("The server asks for a pause: too much at once."), { kind: "error" });
		}
		return { stop: Boolean(end), waitMs };
	}

	/* Ends the connection, and says why it does not come back by itself: `what` is banned or taken. */
	halt(what, reason) {
		this.#connection.stop();
		this.#state.setConnection({ state: what, reason });
	}

	/* ---- the life of one connection ---- */

	async #up(headers, transport) {
		const { isPresent, doubtful } = this.#lives.up();
		if (doubtful) {
			this.#own.lose(); /* nowhere to go on from: everything is read again */
			this.#lost("room");
		}
		if (headers["device-token"] && this.isGuest) {
			deviceToken.set(headers["device-token"]);
		}
		if (headers["user-name"] && headers["user-name"] !== this.#state.me?.id) {
			this.#state.setMe({ id: headers["user-name"], name: displayName.get() || headers["user-name"] });
		}
		const patience = { patienceMs: ENTER_PATIENCE_MS };
		const public_ = this.#connection.subscribe("/topic/public", (body) => this.#onAnnouncement(body), patience).done;
		const own = Promise.allSettled([this.#own.subscribe(ENTER_PATIENCE_MS), public_]);
		for (const peer of peers.get()) {
			this.#state.person(peer.id, { name: peer.name });
			this.#state.conversation("user", peer.id);
		}
		this.outbox.restore();
		await own;
		const entered = isPresent() && (await this.rooms.enter());
		if (!isPresent()) {
			return;
		}
		await this.#loadCounts(isPresent);
		if (!isPresent()) {
			return;
		}
		this.#ready = true;
		this.#isPresent = isPresent;
		this.#lives.ready();
		this.#state.setConnection({ state: "online", transport });
		if (!entered) {
			this.#toast(t("The rooms could not be listed."), { kind: "error" });
		}
		this.encryption.connected().then(() => this.encryption.retry());
		this.outbox.open();
		this.#watching.up().catch(ignoreRefusal);
		this.#loadActive();
		this.#watchPeople();
		if (!this.isGuest) {
			this.account.loadProfile().catch(ignoreApiError);
		}
	}

	/* What to do with what comes in one's own queues. */
	#ears() {
		const direct = (body, headers) => this.#onDirect(body, headers);
		return {
			errors: (body) => this.#onSoftError(body),
			messages: direct,
			read: direct,
			presence: (body) => this.#onPresence(body),
			rooms: (body) => this.rooms.onNotice(body),
			keys: (body) => this.encryption.told(body),
		};
	}

	/* What was said meanwhile does not come: it is read again. */
	#lost(kind) {
		for (const conversation of this.#state.conversations.values()) {
			if (conversation.kind === kind) {
				this.rooms.lost(conversation, 0, "");
			}
		}
	}

	#down(wasUp) {
		this.#lives.down();
		this.#ready = false;
		this.#watching.down();
		this.#typing.down();
		this.#lookAt(null);
		clearInterval(this.#refreshTimer);
		this.rooms.down();
		this.outbox.close();
		if (wasUp) {
			for (const person of this.#state.people.values()) {
				this.#state.person(person.id, { online: null });
			}
		}
	}

	/* What is open is fetched when it is there to be fetched; a failed one is tried again with each connection. */
	#loadActive() {
		const conversation = this.#state.conversations.get(this.#state.active);
		if (conversation && this.#ready) {
			conversation.pagingFailed = "";
			this.#look();
			this.rooms.refreshPeople();
			if (conversation.kind === "user") {
				this.#watchPeers([conversation.id]);
			}
			this.#loadConversation(conversation);
		}
	}

	/* Who is typing is of interest where one looks, and nowhere else. */
	#look() {
		const open = this.#state.conversations.get(this.#state.active);
		const heard = open?.kind === "user" || this.#state.rooms.get(open?.id)?.joined;
		const place = this.#ready && heard ? open : null;
		if (place !== this.#lookedAt) {
			this.#lookAt(place);
		}
	}

	#lookAt(place) {
		if (this.#lookedAt) {
			this.#typing.unwatch(this.#lookedAt);
		}
		this.#lookedAt = place;
		if (place) {
			this.#typing.watch(place).catch(ignoreRefusal); /* a server need not have this */
		}
	}

	async #loadConversation(conversation) {
		if (conversation.loaded === "yes" || conversation.loaded === "loading") {
			return;
		}
		await this.history.load(conversation);
		if (conversation.loaded === "yes") {
			await this.history.reads(conversation);
			if (conversation.kind === "user" || this.#state.rooms.get(conversation.id)?.joined) {
				await this.history.pins(conversation).catch(ignoreApiError);
			}
		}
	}

	/* Which conversations there are, and what is unread in them. */
	async #loadCounts(isPresent = this.#isPresent) {
		try {
			for (const summary of await this.#api.conversations()) {
				if (isPresent()) {
					this.#state.setSummary(summary);
				}
			}
		} catch (error) {
			ignoreApiError(error);
		}
	}

	#countsSoon() {
		this.#countsTimer ||= setTimeout(() => {
			this.#countsTimer = 0;
			if (this.#ready) {
				this.#loadCounts();
			}
		}, COUNTS_PAUSE_MS);
	}

	/* Presence is asked for: at once, then now and then. */
	#watchPeople() {
		let turn = 0;
		const look = () => {
			this.rooms.refreshPeople();
			if (turn++ % 3 === 0) {
				this.#refreshPeers();
				this.rooms.load(); /* made on another device, or by somebody just now */
			}
		};
		look();
		clearInterval(this.#refreshTimer);
		this.#refreshTimer = setInterval(look, PEOPLE_REFRESH_MS);
	}

	/* Those with whom one talks are watched; where that cannot be, some of them are asked about. */
	async #refreshPeers() {
		const direct = [...this.#state.conversations.values()].filter((c) => c.kind === "user");
		direct.sort((a, b) => b.lastAt - a.lastAt);
		await this.#watchPeers(direct.map((c) => c.id));
		for (const { id, key } of direct.slice(0, PEERS_ASKED)) {
			if (key !== this.#state.active && this.#ready && !this.#watching.has(id)) {
				try {
					this.#state.person(id, await this.#api.status(id));
				} catch (error) {
					ignoreApiError(error);
				}
			}
		}
	}

	async #watchPeers(ids) {
		const free = PEERS_WATCHED - this.#watching.size;
		if (!this.#watching.refused) {
			await this.#watching.add(ids.filter((id) => !this.#watching.wants(id)).slice(0, free)).catch(ignoreRefusal);
		}
	}

	/* ---- sending ---- */

	commands() {
		return this.#api.commands();
	}

	/* `more`: {replyTo, threadId, mentions, attachments}. */
	say(conversation, content, more) {
		if (conversation.after !== null && !more.threadId) {
			this.history.reload(conversation); /* one writes at the end, so that is where one is taken */
		}
		this.#typing.said(conversation);
		this.outbox.say(conversation, content, more);
	}

	/* As change(): another wording, encrypted if the first one was. */
	async edit(conversation, entry, content) {
		if (!entry.encrypted) {
			return this.change("edit", { messageId: entry.id, content });
		}
		try {
			return await this.change("edit", await this.encryption.sealEdit(conversation, entry, content));
		} catch (error) {
			this.#toast(explainSealed(error), { kind: "error" });
			return false;
		}
	}

	/* `change`: edit, delete, react or pin; resolves to whether it worked, and when not, the person has been told. What
	 * it does to the messages arrives like what others do. */
	async change(name, body) {
		try {
			await this.#connection.ask(`/app/chat.${name}`, { ...body, clientId: newId() });
			return true;
		} catch (error) {
			if (!(error instanceof Refusal)) {
				throw error;
			}
			this.#toast(explain(error), { kind: "error" });
			return false;
		}
	}

	typing(conversation) {
		this.#typing.say(conversation, true);
	}

	stopTyping(conversation) {
		this.#typing.say(conversation, false);
	}

	/* The person has the end of the conversation before their eyes. */
	seen(conversation) {
		if (conversation.after !== null || !["yes", "none"].includes(conversation.loaded)) {
			return;
		}
		this.#state.clearUnread(conversation);
		const last = conversation.messages.findLast((m) => m.kind === "chat" && m.id && !m.mine);
		if (!last || (last.seq ? last.seq <= conversation.readSent : last.id <= conversation.readSentId)) {
			return;
		}
		clearTimeout(this.#readTimer);
		this.#readTimer = setTimeout(() => {
			const target = conversation.kind === "room" ? { roomId: conversation.id } : { with: conversation.id };
			const upTo = { messageId: last.id, ...(last.seq ? { seq: last.seq } : {}) };
			if (this.#connection.send("/app/chat.read", { ...target, ...upTo })) {
				conversation.readSent = last.seq;
				conversation.readSentId = last.id;
			}
		}, READ_DELAY_MS);
	}

	/* Says to the one who wrote that it has arrived, also when it was read meanwhile: one of the two may keep that to
	 * themselves. In rooms that would be a message for everyone's every message. */
	#deliveredSoon(conversation) {
		if (conversation.kind !== "user" || conversation.delivering) {
			return;
		}
		conversation.delivering = setTimeout(() => {
			conversation.delivering = 0;
			const last = conversation.messages.findLast((m) => m.kind === "chat" && m.id && !m.mine);
			const upTo = { with: conversation.id, messageId: last?.id, seq: last?.seq, status: "DELIVERED" };
			if (last?.seq > conversation.deliveredSent && this.#connection.send("/app/chat.read", upTo)) {
				conversation.deliveredSent = last.seq;
			}
		}, 2 * READ_DELAY_MS);
	}

	/* ---- what arrives ---- */

	#onDirect(body, headers) {
		const sender = body.senderId ?? body.sender;
		const receiver = body.receiverId ?? body.receiver;
		if (body.code === "COMMAND") {
			this.#toast(body.content, { sticky: true }); /* for oneself alone: nothing of it stays */
			return;
		}
		if (body.roomId) {
			this.#onRoom(body.roomId, body, headers);
			return;
		}
		const peer = sender === this.#state.me.id ? receiver : sender;
		if (peer) {
			this.#onEvent(this.#state.conversation("user", peer), body, headers);
		}
	}

	#onTyping(conversation, body) {
		const sender = body.senderId ?? body.sender;
		if (sender !== this.#state.me.id) {
			this.#state.person(sender, { name: body.senderName, online: true });
			this.#state.setTyping(conversation, sender, body.typing !== false);
		}
	}

	#onRoom(roomId, body, headers) {
		if (body.code === "HISTORY_GAP") {
			return; /* the receipt says so too */
		}
		this.#onEvent(this.#state.conversation("room", roomId), body, headers);
		this.rooms.onEvent(roomId, body);
	}

	#onEvent(conversation, body, headers) {
		const sender = body.senderId ?? body.sender;
		const mine = sender === this.#state.me.id;
		if (sender && !mine) {
			const online = body.type === "LEAVE" ? undefined : true;
			this.#state.person(sender, { name: body.senderName, online });
		}
		if (body.type === "READ") {
			this.#onRead(conversation, sender, mine, body);
		} else {
			this.#onRow(conversation, body, mine, headers);
		}
	}

	/* A row of the conversation: something said, something changed, somebody who came or went. */
	#onRow(conversation, body, mine, headers) {
		const seq = Number(body.seq ?? headers?.seq) || 0;
		if (CHANGES.includes(body.type) || PINS.includes(body.code)) {
			this.#state.applyChange(conversation, body);
		}
		if (body.type === "CHAT") {
			this.#onChat(conversation, body, mine);
		} else if (["JOIN", "LEAVE", "SYSTEM"].includes(body.type)) {
			this.#state.received(conversation, body);
		}
		const from = conversation.lastSeq;
		if (seq && this.#state.noteSeq(conversation, seq, body.epoch ?? headers?.epoch)) {
			this.#onHole(conversation, from);
		}
	}

	/* Late commits arrive a little later; what is missing then has to be fetched. */
	#onHole(conversation, from) {
		const turn = conversation.turn;
		setTimeout(() => {
			if (turn !== conversation.turn || !this.#ready) {
				return;
			}
			if (conversation.loaded === "yes" && conversation.after === null) {
				this.history.fill(conversation, from);
			} else if (conversation.loaded === "no") {
				this.#state.reset(conversation);
			}
		}, HOLE_PAUSE_MS);
	}

	#onRead(conversation, sender, mine, body) {
		const upTo = { seq: body.seq ?? 0, messageId: body.messageId ?? "" };
		if (!mine && body.status === "DELIVERED") {
			this.#state.setReadUpTo(conversation, sender, upTo, "deliveredTo");
		} else if (!mine) {
			this.#state.setReadUpTo(conversation, sender, upTo);
		} else if (body.status !== "DELIVERED") {
			conversation.readSent = Math.max(conversation.readSent, upTo.seq);
			if (conversation.unread > 0) {
				this.#countsSoon(); /* on another of one's devices */
			}
		}
	}

	#onChat(conversation, body, mine) {
		const sender = body.senderId ?? body.sender;
		if (!mine) {
			this.#state.setTyping(conversation, sender, false);
		}
		const entry = this.#state.received(conversation, body);
		if (mine) {
			this.outbox.arrived(body.clientId);
		}
		if (!entry) {
			return;
		}
		if (conversation.kind === "user") {
			peers.touch(conversation.id, this.#state.nameOf(conversation.id));
		}
		if (!mine) {
			this.#state.countUnread(conversation);
			this.#state.changed("arrived", conversation.key, entry);
			this.#deliveredSoon(conversation);
		}
	}

	#onPresence(body) {
		for (const one of body.users ?? [body]) {
			if (one.userId) {
				this.#state.person(one.userId, { online: one.online, status: one.status, text: one.text });
			}
		}
	}

	#onAnnouncement(body) {
		if (body.type === "SYSTEM" || body.type === "CHAT") {
			this.#toast(body.content ?? "", { kind: "info" });
		}
	}

	#onSoftError(body) {
		if (body.code === "AUTH_EXPIRING") {
			this.#onExpiring();
			return;
		}
		if (body.code === "TAKEN_OVER") {
			return; /* the end of the connection says so too */
		}
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

	/* Late timers, a machine that slept: the server reminds of the token that ends. */
	async #onExpiring() {
		try {
			if (!this.isGuest && !this.#api.tokens.isNew) {
				await this.renewed(await this.#api.tokens.access(this.#lives.token));
			}
		} catch (error) {
			ignoreApiError(error);
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
		this.#loadActive();
		return conversation;
	}

	openPerson(id) {
		return this.open(userKey(id));
	}
}

/* Most networks let WebSocket through, and then it is not needed. */
function loadSockJS() {
	return new Promise((resolve, reject) => {
		const src = new URL("../vendor/sockjs-client/sockjs.min.js", import.meta.url);
		document.head.append(h("script", { src, onload: () => resolve(globalThis.SockJS), onerror: reject }));
	});
}

function ignoreRefusal(error) {
	if (!(error instanceof Refusal)) {
		throw error; /* otherwise the server has no such feature, or not for us */
	}
}

function ignoreApiError(error) {
	if (!(error instanceof ApiError)) {
		throw error; /* otherwise not vital, and asked again soon */
	}
}
