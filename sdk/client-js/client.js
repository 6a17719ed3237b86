/* SPDX-License-Identifier: Apache-2.0 */
/* A chat server as an application wants it: log in once, send and be sure, hear everything once and in order. */

import { Connection, newId, Refusal } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Emitter } from "./emitter.js";
import { identity, isPassing, pauseOf, Storage } from "./identity.js";
import { Lives } from "./lives.js";
import { OwnQueues } from "./own-queues.js";
import { authorized, bearer, request } from "./rest.js";
import { SendQueue } from "./send-queue.js";
import { Typing } from "./typing.js";
import { Watching } from "./watching.js";

export class ChatClient extends Emitter {
	#url;
	#identity;
	#connection;
	#queue;
	#conversations = new Map();
	#subscriptions = new Map();
	#waiting = new Map();
	#lives;
	#own;
	#typing;
	#watching;
	#up = false;
	#starting = null;

	/* url: where the server is (default: where the page is from). login: {guest: name}, {email, password}, or
	 * {token: async (refused) => "…"}. storage: like localStorage, or null for none. transport: "websocket", "sockjs" or
	 * a SockJS transport pins it. Client, SockJS, WebSocket: of @stomp/stompjs, sockjs-client and ws, where they are no
	 * globals. */
	constructor({ url = globalThis.location?.origin, login, storage = localStorageIfAny(), transport = null, ...parts }) {
		super();
		this.#url = url.replace(/\/+$/, "");
		const kept = new Storage(storage);
		this.#identity = identity(this.#url, login, kept, {
			renewed: (token) => this.#renewed(token),
			ended: (error) => this.#ended(error.code ?? "LOGGED_OUT", error.message),
		});
		this.#connection = new Connection(`${this.#url}/ws-chat`, transport, this.#handlers(), parts);
		this.#queue = new SendQueue({
			ask: (body) => this.#connection.ask("/app/chat.send", body),
			tell: {
				sent: (clientId, receipt) => this.#settle(clientId, ({ resolve }) => resolve({ id: receipt["message-id"], seq: Number(receipt.seq) || 0, clientId })),
				failed: (clientId, error) => this.#settle(clientId, ({ reject }) => reject(error)),
				held: (seconds, error) => this.emit("held", { seconds, code: error.code }),
			},
		});
		this.#lives = new Lives(this.#connection);
		this.#own = new OwnQueues(this.#connection, this.#ears(), () => this.#lost("user"));
		this.#typing = new Typing(this.#connection, (conversation, body) => conversation.arrived(body));
		this.#watching = new Watching(this.#connection);
	}

	/* connecting | online | waiting | stopped */
	state = "stopped";
	/* The user id, once connected. */
	me = null;

	/* Resolves once it is online for the first time; rejects when it never will be. Afterwards it comes back by itself. */
	connect() {
		this.#starting ??= deferred();
		this.#connection.start();
		return this.#starting.promise;
	}

	async disconnect() {
		this.#identity.stop();
		await this.#connection.stop();
		this.#failAll(new Refusal({ code: "DISCONNECTED", message: "The client was ended." }));
	}

	/* Does not wait until the next try is due. */
	retryNow() {
		this.#connection.retryNow();
	}

	room(id) {
		return this.#conversation("room", id);
	}

	direct(userId) {
		return this.#conversation("user", userId);
	}

	/* ---- asking ---- */

	/* Resolves to the RECEIPT's headers, rejects with a Refusal. Not repeated after a cut; messages are. */
	ask(destination, body) {
		return this.#connection.ask(destination, body);
	}

	/* A REST call as whoever is logged in. */
	rest(method, path, body) {
		const call = (token) => request(method, this.#url + path, { headers: bearer(token), body });
		return authorized((refused) => this.#identity.token(refused), call);
	}

	async conversations() {
		const found = [];
		let before = "";
		do {
			const page = await this.rest("GET", `/api/chat/conversations?limit=100${before}`);
			found.push(...(page.conversations ?? []));
			before = page.before === undefined ? "" : `&before=${page.before}`;
		} while (before);
		return found;
	}

	async rooms() {
		return (await this.rest("GET", "/api/chat/rooms")).rooms ?? [];
	}

	async createRoom(name, more = {}) {
		return this.room((await this.rest("POST", "/api/chat/rooms", { name, ...more })).id);
	}

	/* ---- presence ---- */

	/* From now on `presence` events tell of these people, beginning with how they are now. */
	watch(...userIds) {
		return this.#watching.add(userIds);
	}

	unwatch(...userIds) {
		return this.#watching.remove(userIds);
	}

	/* How this device is: online, away, busy. */
	setPresence(status, text) {
		return this.ask("/app/presence.set", text === undefined ? { status } : { status, text });
	}

	/* ---- the life of a connection ---- */

	#handlers() {
		return {
			prepare: () => this.#prepare(),
			up: (headers, transport) => this.#onUp(headers, transport),
			down: () => this.#onDown(),
			refused: (message, code) => this.#onRefused(message, code),
			closed: ({ code, reason }) => this.#onEnd(this.#lives.closed(code), reason, `CLOSED_${code}`),
			state: (now) => now.state !== "online" && this.#stateIs(now.state, now),
		};
	}

	#stateIs(state, more = {}) {
		this.state = state;
		this.emit("state", { ...more, state });
	}

	async #prepare() {
		try {
			const headers = await this.#identity.headers(this.#lives.refused);
			this.#lives.token = headers.Authorization?.replace("Bearer ", "") ?? "";
			return headers;
		} catch (error) {
			if (isPassing(error)) {
				await new Promise((done) => setTimeout(done, pauseOf(error)));
			} else {
				this.#ended(error.code ?? "LOGGED_OUT", error.message);
			}
			throw error;
		}
	}

	async #onUp(headers, transport) {
		const { isPresent, doubtful } = this.#lives.up();
		this.me = headers["user-name"];
		if (doubtful) {
			this.#own.lose();
			this.#lost("room");
		}
		const own = [this.#own.subscribe(), this.#typing.up()];
		for (const conversation of this.#conversations.values()) {
			if (conversation.following) {
				own.push(this.#subscribe(conversation));
			}
		}
		await Promise.allSettled(own);
		if (!isPresent()) {
			return;
		}
		this.#lives.ready();
		this.#up = true;
		this.#watching.up().catch((error) => this.emit("error", error));
		this.#queue.open();
		this.#stateIs("online", { transport, userId: this.me });
		this.#starting?.resolve();
	}

	#onDown() {
		this.#lives.down();
		this.#typing.down();
		this.#watching.down();
		this.#up = false;
		this.#queue.close();
		this.#subscriptions.clear();
	}

	#onRefused(message, code) {
		const end = this.#lives.rejected(code);
		if (end) {
			this.#onEnd(end, message, code);
		} else {
			this.emit("error", new Refusal({ code, message }));
		}
	}

	#onEnd({ end, waitMs }, reason, code) {
		if (!end) {
			return { waitMs };
		}
		this.#ended(code, reason);
		return { stop: true };
	}

	/* It does not come back by itself. */
	#ended(code, message) {
		const error = new Refusal({ code, message: message || "The server has ended it." });
		this.#connection.stop();
		this.#failAll(error);
		this.emit("ended", error);
	}

	#failAll(error) {
		this.#queue.clear();
		for (const { reject } of this.#waiting.values()) {
			reject(error);
		}
		this.#waiting.clear();
		this.#starting?.reject(error);
		this.#starting = null;
	}

	async #renewed(token) {
		await this.#lives.renewed(token).catch((error) => this.emit("error", error));
	}

	/* ---- conversations ---- */

	#conversation(kind, id) {
		const key = `${kind}:${id}`;
		if (!this.#conversations.has(key)) {
			this.#conversations.set(key, new Conversation(this.#core(), kind, id));
			this.#conversations.get(key).on("message", (message) => this.emit("message", message));
		}
		return this.#conversations.get(key);
	}

	#core() {
		return {
			ask: (destination, body) => this.ask(destination, body),
			rest: (method, path, body) => this.rest(method, path, body),
			typing: this.#typing,
			post: (body) => this.#post({ clientId: newId(), ...body }),
			follow: (conversation) => (this.#up ? this.#subscribe(conversation) : Promise.resolve()),
			unfollow: (conversation) => {
				this.#subscriptions.get(conversation)?.stop();
				this.#subscriptions.delete(conversation);
			},
		};
	}

	#post(body) {
		const waiting = deferred();
		this.#waiting.set(body.clientId, waiting);
		this.#queue.add(body);
		return waiting.promise;
	}

	#settle(clientId, how) {
		const waiting = this.#waiting.get(clientId);
		this.#waiting.delete(clientId);
		if (waiting) {
			how(waiting);
		}
	}

	/* A room that one may no longer hear is not asked for again. */
	async #subscribe(conversation) {
		if (conversation.kind !== "room" || this.#subscriptions.has(conversation)) {
			return;
		}
		const headers = { ...conversation.resume(), except: "typing" };
		const made = this.#connection.subscribe(`/topic/room/${conversation.id}`, (body, more) => conversation.arrived(body, more), { headers });
		this.#subscriptions.set(conversation, made);
		try {
			conversation.resumed(await made.done, headers);
		} catch (error) {
			this.#subscriptions.delete(conversation);
			if (error.code !== "DISCONNECTED" && error.code !== "TIMEOUT") {
				conversation.following = false;
				conversation.emit("ended", error);
			}
			throw error;
		}
	}

	/* What to do with what comes in one's own queues. */
	#ears() {
		const direct = (body, headers) => this.#onDirect(body, headers);
		return {
			errors: (body) => this.#onSoftError(body),
			messages: direct,
			read: direct,
			presence: (body) => this.emit("presence", body),
			keys: (body) => this.emit("keys", body),
			rooms: (body) => this.emit("notice", body),
		};
	}

	#lost(kind) {
		for (const conversation of this.#conversations.values()) {
			if (conversation.kind === kind) {
				conversation.lost();
			}
		}
	}

	#onDirect(body, headers) {
		const sender = body.senderId ?? body.sender;
		const peer = sender === this.me ? (body.receiverId ?? body.receiver) : sender;
		if (body.roomId) {
			this.room(body.roomId).arrived(body, headers);
		} else if (peer) {
			this.direct(peer).arrived(body, headers);
		}
	}

	#onSoftError(body) {
		if (!this.#connection.refused(body.receiptId, body)) {
			this.emit("error", new Refusal(body));
		}
	}
}

function deferred() {
	const made = {};
	made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
	made.promise.catch(() => {}); /* nobody need wait for it */
	return made;
}

function localStorageIfAny() {
	try {
		return globalThis.localStorage ?? null;
	} catch {
		return null;
	}
}
