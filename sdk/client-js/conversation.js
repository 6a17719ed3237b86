/* SPDX-License-Identifier: Apache-2.0 */
/* A room, or what is said between two people. Made by ChatClient.room() and .direct(); one of each. */

import { newId } from "./connection.js";
import { Emitter } from "./emitter.js";
import { Rows } from "./rows.js";
import { targetOf } from "./typing.js";

/* What a conversation asks of its client: ask(destination, body), rest(method, path, body), post(body) for a message,
 * follow(conversation) and unfollow(conversation), and typing, a Typing. */
export class Conversation extends Emitter {
	#core;
	#rows;
	#readSent = 0;

	constructor(core, kind, id) {
		super();
		this.#core = core;
		this.kind = kind;
		this.id = id;
		this.following = false;
		this.#rows = new Rows((range) => this.history(range), {
			row: (body, headers) => this.#onRow(body, headers),
			gap: (gap) => this.emit("gap", gap),
		});
	}

	/* The last row that was handed out, to go on from at a later visit: {seq, epoch}. */
	get position() {
		return { seq: this.#rows.lastSeq, epoch: this.#rows.epoch };
	}

	get target() {
		return targetOf(this);
	}

	/* ---- what one does ---- */

	/* Resolves to {id, seq, clientId} once the server has stored it, however often the connection is cut meanwhile;
	 * rejects with a Refusal. `more`: replyTo, attachments and the like, or a clientId of one's own. */
	send(content, more = {}) {
		this.#core.typing.said(this);
		return this.#core.post({ type: "CHAT", ...this.target, content, ...more });
	}

	/* `more` of an encrypted one: see E2ee.sealEdit(). */
	edit(messageId, content, more = {}) {
		return this.#core.ask("/app/chat.edit", { messageId, content, clientId: newId(), ...more });
	}

	delete(messageId) {
		return this.#core.ask("/app/chat.delete", { messageId, clientId: newId() });
	}

	/* `on` false takes it back. */
	react(messageId, reaction, on = true) {
		return this.#core.ask("/app/chat.react", { messageId, reaction, remove: !on, clientId: newId() });
	}

	/* May be called at every keystroke. */
	typing(on = true) {
		this.#core.typing.say(this, on);
	}

	/* From now on `typing` events tell who is typing here: for as long as somebody looks at it. */
	watchTyping() {
		return this.#core.typing.watch(this);
	}

	unwatchTyping() {
		this.#core.typing.unwatch(this);
	}

	/* Everything up to `seq` (by default all that came) has been read. */
	async read(seq = this.#rows.lastSeq) {
		if (seq > this.#readSent) {
			const before = this.#readSent;
			this.#readSent = seq;
			try {
				const target = this.kind === "room" ? { roomId: this.id } : { with: this.id };
				await this.#core.ask("/app/chat.read", { ...target, seq });
			} catch (error) {
				this.#readSent = before;
				throw error;
			}
		}
	}

	/* A page: {messages, before, after, topSeq, epoch}, ascending; the newest without `before` or `after`. */
	history({ before, after, limit } = {}) {
		if (limit !== undefined && before === undefined && after === undefined) {
			before = Number.MAX_SAFE_INTEGER; /* a limit alone asks for the older shape, a bare list */
		}
		const range = Object.entries({ before, after, limit }).filter(([, value]) => value !== undefined);
		const query = range.map(([name, value]) => `&${name}=${value}`).join("");
		const id = encodeURIComponent(this.id);
		const path = this.kind === "room" ? `room/${id}?events=true` : `direct?with=${id}`;
		return this.#core.rest("GET", `/api/chat/messages/${path}${query}`);
	}

	/* ---- rooms ---- */

	/* Becomes a member and follows it. */
	async join() {
		await this.#core.ask("/app/chat.join", { roomId: this.id, clientId: newId() });
		return this.follow();
	}

	async leave() {
		this.unfollow();
		await this.#core.ask("/app/chat.leave", { roomId: this.id, clientId: newId() });
	}

	/* Hears what is said in the room from here on, or from `position` of an earlier visit, also after each reconnect.
	 * Direct messages need no following. */
	async follow(position) {
		if (position?.seq) {
			this.#rows.begin(position.seq, position.epoch);
		}
		this.following = true;
		return this.#core.follow(this);
	}

	unfollow() {
		this.following = false;
		this.#core.unfollow(this);
	}

	/* ---- what arrives; called by the client ---- */

	/* Where a SUBSCRIBE goes on from. */
	resume() {
		const { seq, epoch } = this.position;
		return epoch ? { since: String(seq), epoch } : { since: "now" };
	}

	/* What the receipt of that says. */
	resumed(receipt, { epoch }) {
		const seq = Number(receipt.seq) || 0;
		if (receipt.recovered === "false") {
			this.#rows.lost({ firstSeq: Number(receipt["first-seq"]) || 1, topSeq: seq, epoch: receipt.epoch });
		} else if (!epoch && receipt.epoch) {
			this.#rows.anchor(seq, receipt.epoch);
		}
	}

	/* What was said meanwhile is in the history. */
	lost() {
		const { seq, epoch } = this.position;
		this.#rows.forget();
		this.emit("gap", { firstSeq: seq + 1, topSeq: undefined, epoch });
	}

	arrived(body, headers) {
		if (body.code === "HISTORY_GAP") {
			return; /* the receipt says so too */
		}
		if (body.type === "TYPING") {
			this.emit("typing", { userId: body.senderId, name: body.senderName, typing: body.typing !== false });
		} else if (body.type === "READ") {
			this.emit("read", { userId: body.senderId, seq: body.seq, messageId: body.messageId, status: body.status });
		} else {
			this.#rows.take(body, headers);
		}
	}

	#onRow(body) {
		this.emit(body.type === "CHAT" ? "message" : "event", body);
	}
}
