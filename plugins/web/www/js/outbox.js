/* SPDX-License-Identifier: Apache-2.0 */
/* One's own messages: kept in this browser until the server has them, so that they outlast a reload. */

import { newId } from "../client/connection.js";
import { SendQueue } from "../client/send-queue.js";
import { targetOf } from "../client/typing.js";
import { explainSealed } from "./e2ee-chat.js";
import { ApiError, explain } from "./errors.js";
import { attachmentOf } from "./files.js";
import { t } from "./i18n.js";
import { outbox as kept, login } from "./storage.js";

const KEPT_MS = 7 * 24 * 3600 * 1000;

const ownerNow = () => login.get()?.userId ?? "";

export class Outbox {
	#state;
	#toast;
	#queue;
	#encryption;
	#sealing = Promise.resolve();

	constructor({ state, connection, toast, encryption }) {
		this.#state = state;
		this.#toast = toast;
		this.#encryption = encryption;
		this.#queue = new SendQueue({
			ask: (body) => connection.ask("/app/chat.send", body),
			tell: {
				sent: (clientId, receipt) => this.#onSent(clientId, receipt),
				failed: (clientId, error) => this.#onFailed(clientId, error),
				held: (seconds, error) => this.#onHeld(seconds, error.code),
			},
		});
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
		for (const [conversation, entry] of this.#state.localOnes()) {
			if (entry.status === "pending" && !this.#queue.has(entry.clientId)) {
				this.#post(conversation, entry);
			}
		}
		this.#queue.open();
	}

	close() {
		this.#queue.close();
	}

	/* Somebody else is here now. */
	clear() {
		this.#queue.clear();
	}

	say(conversation, content, { replyTo = "", threadId = "", mentions = [], attachments = [] } = {}) {
		const encrypted = this.#encryption.isOn(conversation);
		const item = { clientId: newId(), owner: ownerNow(), key: conversation.key, content, encrypted, replyTo, threadId, mentions, attachments, at: Date.now(), status: "pending" };
		kept.put(item);
		this.#post(conversation, this.#state.pending(conversation, item));
	}

	retry(conversation, entry) {
		this.#set(conversation, entry, "pending");
		this.#post(conversation, entry);
	}

	discard(conversation, entry) {
		this.#queue.drop(entry.clientId);
		kept.drop(entry.clientId);
		this.#state.remove(conversation, entry);
	}

	/* It came back from the server, by whatever way. */
	arrived(clientId) {
		if (clientId) {
			this.#queue.drop(clientId);
			kept.drop(clientId);
		}
	}

	/* Another tab is done with it. */
	forgetFailed(clientId) {
		const [conversation, entry] = this.#find(clientId);
		if (entry?.status === "failed") {
			this.#state.remove(conversation, entry);
		}
	}

	#find(clientId) {
		return this.#state.localOnes().find(([, entry]) => entry.clientId === clientId) ?? [];
	}

	#set(conversation, entry, status, error) {
		if (this.#state.setStatus(conversation, entry, status, error)) {
			const { clientId, content, encrypted, replyTo, threadId, mentions, attachments, at } = entry;
			kept.put({ clientId, owner: ownerNow(), key: conversation.key, content, encrypted, replyTo, threadId, mentions, attachments, at, status, error });
			return true;
		}
		return false;
	}

	#post(conversation, entry) {
		if (entry.encrypted) {
			this.#seal(conversation, entry);
			return;
		}
		const { clientId, content, replyTo, threadId, mentions, attachments } = entry;
		this.#queue.add({ type: "CHAT", ...targetOf(conversation), content, clientId, ...(replyTo ? { replyTo } : {}), ...(threadId ? { threadId } : {}), ...(mentions?.length ? { mentions } : {}), ...(attachments?.length ? { attachments: attachments.map(attachmentOf) } : {}) });
	}

	/* One after the other, so that what was written first is sent first. */
	#seal(conversation, entry) {
		const seal = async () => {
			try {
				const sealed = await this.#encryption.seal(conversation, entry);
				if (this.#find(entry.clientId).length > 0) {
					this.#queue.add({ type: "CHAT", to: conversation.id, ...sealed, ...(entry.threadId ? { threadId: entry.threadId } : {}) });
				}
			} catch (error) {
				this.#onFailed(entry.clientId, error, error instanceof ApiError ? explain(error) : explainSealed(error));
			}
		};
		this.#sealing = this.#sealing.then(seal);
	}

	#onSent(clientId, receipt) {
		kept.drop(clientId);
		const [conversation, entry] = this.#find(clientId);
		if (entry && !receipt["message-id"]) {
			this.#state.remove(conversation, entry); /* a command: what it says is not said by oneself */
		} else if (entry) {
			this.#state.sent(conversation, entry, { id: receipt["message-id"], seq: Number(receipt.seq) || 0 });
		}
	}

	#onFailed(clientId, error, why) {
		const [conversation, entry] = this.#find(clientId);
		if (!entry) {
			return;
		}
		const nobody = error.code === "NOT_FOUND" && conversation.kind === "user";
		const text = nobody ? t("The server knows nobody with this id.") : (why ?? explain(error));
		if (this.#set(conversation, entry, "failed", text) && this.#state.active !== conversation.key) {
			this.#toast(t("Not sent to {title}. {reason}", { title: this.#state.titleOf(conversation), reason: text }), { kind: "error" });
		}
	}

	#onHeld(seconds, code) {
		this.#state.hold(seconds, code);
		for (const [conversation, entry] of this.#state.localOnes()) {
			if (entry.status === "pending") {
				this.#set(conversation, entry, "pending"); /* says how long it waits */
			}
		}
	}
}
