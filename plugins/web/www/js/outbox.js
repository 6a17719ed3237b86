/* SPDX-License-Identifier: Apache-2.0 */
/* The way of one's own messages: kept in this browser until the server has them, sent again after each reconnect with
 * the same clientId, so that none is lost and none is said twice. */

import { newId, Refusal } from "./connection.js";
import { explain } from "./errors.js";
import { outbox as kept } from "./storage.js";

const SENDS_AT_MOST = 3;
const KEPT_MS = 7 * 24 * 3600 * 1000;

export class Outbox {
	#state;
	#connection;
	#toast;
	#ready = false;
	/* clientIds on their way over the present connection */
	#underway = new Set();

	constructor({ state, connection, toast }) {
		this.#state = state;
		this.#connection = connection;
		this.#toast = toast;
	}

	/* Shows what an earlier visit of this page left unsent. */
	restore() {
		for (const item of kept.all()) {
			const [kind, id] = [item.key.slice(0, item.key.indexOf(":")), item.key.slice(item.key.indexOf(":") + 1)];
			if (!["room", "user"].includes(kind) || !id || item.at < Date.now() - KEPT_MS) {
				kept.drop(item.clientId);
				continue;
			}
			const conversation = this.#state.conversation(kind, id);
			if (!conversation.messages.some((m) => m.mine && m.clientId === item.clientId)) {
				this.#state.pending(conversation, item);
			}
		}
	}

	/* Everything is subscribed: what waits goes out, in the order in which it was written. */
	open() {
		this.#ready = true;
		for (const [conversation, entry] of this.#state.localOnes()) {
			if (entry.status === "pending") {
				this.#post(conversation, entry);
			}
		}
	}

	close() {
		this.#ready = false;
		this.#underway.clear();
	}

	say(conversation, content, replyTo) {
		const item = { clientId: newId(), key: conversation.key, content, replyTo, at: Date.now(), status: "pending" };
		kept.put(item);
		this.#post(conversation, this.#state.pending(conversation, item));
	}

	retry(conversation, entry) {
		entry.sends = 0;
		this.#set(conversation, entry, "pending");
		this.#post(conversation, entry);
	}

	discard(conversation, entry) {
		kept.drop(entry.clientId);
		this.#state.remove(conversation, entry);
	}

	/* It came back from the server, by whatever way. */
	arrived(clientId) {
		if (clientId) {
			kept.drop(clientId);
		}
	}

	/* Another tab is done with it. */
	forgetFailed(clientId) {
		for (const [conversation, entry] of this.#state.localOnes()) {
			if (entry.clientId === clientId && entry.status === "failed") {
				this.#state.remove(conversation, entry);
			}
		}
	}

	#set(conversation, entry, status, error) {
		if (this.#state.setStatus(conversation, entry, status, error)) {
			const { clientId, content, replyTo, at } = entry;
			kept.put({ clientId, key: conversation.key, content, replyTo, at, status, error });
			return true;
		}
		return false;
	}

	async #post(conversation, entry) {
		if (!this.#ready || this.#underway.has(entry.clientId)) {
			return;
		}
		this.#underway.add(entry.clientId);
		const target = conversation.kind === "room" ? { roomId: conversation.id } : { to: conversation.id };
		const reply = entry.replyTo ? { replyTo: entry.replyTo } : {};
		const body = { type: "CHAT", ...target, content: entry.content, clientId: entry.clientId, ...reply };
		entry.sends = (entry.sends ?? 0) + 1;
		try {
			const receipt = await this.#connection.ask("/app/chat.send", body);
			kept.drop(entry.clientId);
			this.#state.sent(conversation, entry, { id: receipt["message-id"], seq: Number(receipt.seq) || 0 });
		} catch (error) {
			this.#onNotSent(conversation, entry, error);
		} finally {
			this.#underway.delete(entry.clientId);
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
		if (this.#set(conversation, entry, "failed", text) && this.#state.active !== conversation.key) {
			this.#toast(`Not sent to ${this.#state.titleOf(conversation)}. ${text}`, { kind: "error" });
		}
	}
}
