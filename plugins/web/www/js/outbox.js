/* SPDX-License-Identifier: Apache-2.0 */
/* The way of one's own messages: kept in this browser until the server has them, sent again after each reconnect with
 * the same clientId, so that none is lost and none is said twice. */

import { newId, Refusal } from "./connection.js";
import { explain } from "./errors.js";
import { outbox as kept, login } from "./storage.js";

const SENDS_AT_MOST = 3;
const KEPT_MS = 7 * 24 * 3600 * 1000;
const PAUSE_S = 5;
const HELD_MARGIN_MS = 50;

const ownerNow = () => login.get()?.userId ?? "";

export class Outbox {
	#state;
	#connection;
	#toast;
	#ready = false;
	/* clientIds on their way over the present connection */
	#underway = new Set();
	#timer = 0;
	#flushing = false;

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
			if ((item.owner ?? "") !== ownerNow()) {
				continue; /* of somebody who may log in again here */
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

	/* Whoever is slowed down sends one after the other, in the order in which they were written. */
	#hold(seconds) {
		this.#state.hold(seconds);
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.#flush(), this.#state.held * 1000 + HELD_MARGIN_MS);
	}

	async #flush() {
		if (this.#flushing) {
			return;
		}
		this.#flushing = true;
		while (this.#ready && this.#state.held === 0) {
			const next = this.#state.localOnes().find(([, entry]) => entry.status === "pending" && !this.#underway.has(entry.clientId));
			if (!next) {
				break;
			}
			await this.#send(...next);
		}
		this.#flushing = false;
	}

	say(conversation, content, replyTo) {
		const item = { clientId: newId(), owner: ownerNow(), key: conversation.key, content, replyTo, at: Date.now(), status: "pending" };
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
			kept.put({ clientId, owner: ownerNow(), key: conversation.key, content, replyTo, at, status, error });
			return true;
		}
		return false;
	}

	#post(conversation, entry) {
		if (this.#ready && !this.#flushing && this.#state.held === 0 && !this.#underway.has(entry.clientId)) {
			this.#send(conversation, entry);
		}
	}

	async #send(conversation, entry) {
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
		if (error.code === "RATE_LIMIT_EXCEEDED") {
			entry.sends = 0;
			this.#hold(error.retryAfterSeconds ?? PAUSE_S);
			this.#set(conversation, entry, "pending");
			return;
		}
		const nobody = error.code === "NOT_FOUND" && conversation.kind === "user";
		const text = nobody ? "The server knows nobody with this id." : explain(error);
		if (this.#set(conversation, entry, "failed", text) && this.#state.active !== conversation.key) {
			this.#toast(`Not sent to ${this.#state.titleOf(conversation)}. ${text}`, { kind: "error" });
		}
	}
}
