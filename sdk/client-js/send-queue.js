/* SPDX-License-Identifier: Apache-2.0 */
/* The way of one's own messages to the server: in the order in which they were written, and again after each reconnect
 * with the same clientId, so that none is lost and none is said twice. What it holds lasts as long as the page; who
 * wants it to last longer keeps it and adds it again. */

import { Refusal } from "./connection.js";

const SENDS_AT_MOST = 3;
const PAUSE_S = 5;
const MARGIN_MS = 50;
const LIMITED = "RATE_LIMIT_EXCEEDED";
/* What passes by itself; nobody can be blamed for the first, the others are tried a few times only. */
const PASSING = [LIMITED, "STORE_BUSY", "UNAVAILABLE", "TIMEOUT"];

export class SendQueue {
	#ask;
	#tell;
	#items = new Map();
	#ready = false;
	#flushing = false;
	#heldUntil = 0;
	#timer = 0;

	/* `ask(body)` sends and resolves to the receipt's headers. `tell`: sent(clientId, headers), failed(clientId, error),
	 * held(seconds, error): what waits is tried again then. */
	constructor({ ask, tell }) {
		this.#ask = ask;
		this.#tell = tell;
	}

	/* `body` as /app/chat.send takes it, its clientId in it. One that is here already is tried anew. */
	add(body) {
		const known = this.#items.get(body.clientId);
		const item = known ?? { body, sends: 0, underway: false };
		item.sends = 0;
		this.#items.set(body.clientId, item);
		this.#post(item);
	}

	has(clientId) {
		return this.#items.has(clientId);
	}

	/* Whether it went out already is not known. */
	drop(clientId) {
		this.#items.delete(clientId);
	}

	clear() {
		this.#items.clear();
		this.#heldUntil = 0;
		clearTimeout(this.#timer);
	}

	/* The connection is there, and everything is subscribed. */
	open() {
		this.#ready = true;
		for (const item of [...this.#items.values()]) {
			this.#post(item);
		}
	}

	close() {
		this.#ready = false;
	}

	get #held() {
		return this.#heldUntil > Date.now();
	}

	#post(item) {
		if (this.#ready && !this.#flushing && !this.#held && !item.underway) {
			this.#send(item);
		}
	}

	#hold(seconds, error) {
		this.#heldUntil = Math.max(this.#heldUntil, Date.now() + seconds * 1000);
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.#flush(), this.#heldUntil - Date.now() + MARGIN_MS);
		this.#tell.held?.(seconds, error);
	}

	/* Whoever is slowed down sends one after the other, in the order in which they were written. */
	async #flush() {
		if (this.#flushing) {
			return;
		}
		this.#flushing = true;
		while (this.#ready && !this.#held) {
			const next = [...this.#items.values()].find((item) => !item.underway);
			if (!next) {
				break;
			}
			await this.#send(next);
		}
		this.#flushing = false;
	}

	async #send(item) {
		const { clientId } = item.body;
		item.sends++;
		item.underway = true;
		try {
			const receipt = await this.#ask(item.body);
			this.#items.delete(clientId);
			this.#tell.sent(clientId, receipt);
		} catch (error) {
			if (!(error instanceof Refusal)) {
				throw error;
			}
			this.#onRefused(item, error);
		} finally {
			item.underway = false;
		}
	}

	#onRefused(item, error) {
		const { clientId } = item.body;
		if (this.#items.get(clientId) !== item) {
			return; /* dropped meanwhile */
		}
		const limited = error.code === LIMITED;
		if (limited) {
			item.sends = 0;
		}
		if (error.code === "DISCONNECTED" && item.sends < SENDS_AT_MOST) {
			return; /* a message that breaks every connection must not be sent for ever */
		}
		if (PASSING.includes(error.code) && (limited || item.sends < SENDS_AT_MOST)) {
			this.#hold(error.retryAfterSeconds ?? PAUSE_S, error);
			return;
		}
		this.#items.delete(clientId);
		this.#tell.failed(clientId, error);
	}
}
