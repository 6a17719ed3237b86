/* SPDX-License-Identifier: Apache-2.0 */
/* What is written and not sent yet outlasts a reload: text, what it answers or changes, and files that are on the server
 * already. What belongs to an encrypted conversation is laid down encrypted, or not at all; see sealed-drafts.js. */

import { drafts as kept, login } from "./storage.js";

const KEPT_MS = 30 * 24 * 3600 * 1000;

const ownerNow = () => login.get()?.userId ?? "";

/* As much of a message as the box shows of it and an edit needs. */
const writingOf = ({ what, entry, before }) => {
	const { id, seq, senderName, mine, content, encrypted, replyTo } = entry;
	return { what, before, entry: { id, seq, senderName, mine, content, encrypted, replyTo, attachments: [] } };
};

export class Drafts {
	#state;
	#encryption;
	#turns = new Map();
	#sealing = Promise.resolve();

	constructor({ state, encryption }) {
		this.#state = state;
		this.#encryption = encryption;
	}

	/* What `place` (a conversation, or a thread of it) has in its box now. */
	save(conversation, place, text) {
		const turn = this.#turn(place);
		const files = (place.files ?? []).map((item) => item.attachment).filter(Boolean);
		const writing = place.writing ? writingOf(place.writing) : null;
		const content = text || writing || files.length > 0 ? { text, writing, files } : null;
		if (!content || !(this.#encryption.isOn(conversation) || writing?.entry.encrypted)) {
			this.#put(place, content);
			return;
		}
		const owner = ownerNow();
		this.#sealing = this.#sealing.then(async () => {
			const sealed = await this.#sealed((module, me) => module.seal(me, place.key, content));
			if (turn === this.#turns.get(place.key) && owner === ownerNow()) {
				this.#put(place, sealed ? { sealed } : null);
			}
		});
	}

	/* Before the page goes. */
	saved() {
		return this.#sealing;
	}

	/* Once for each place: fills it with what an earlier visit left. Resolves to whether there was something. */
	async load(conversation, place) {
		if (place.draftLoaded) {
			return false;
		}
		place.draftLoaded = true;
		const item = kept.get(place.key);
		if (!item || (item.owner ?? "") !== ownerNow()) {
			return false;
		}
		if (!(item.at > Date.now() - KEPT_MS)) {
			kept.drop(place.key);
			return false;
		}
		if (!item.sealed) {
			return fill(place, item);
		}
		const turn = this.#turn(place);
		const content = await this.#sealed((module, me) => module.unseal(me, place.key, item.sealed));
		return turn === this.#turns.get(place.key) && fill(place, content);
	}

	#turn(place) {
		const turn = (this.#turns.get(place.key) ?? 0) + 1;
		this.#turns.set(place.key, turn);
		return turn;
	}

	#put(place, content) {
		if (content) {
			kept.put(place.key, { owner: ownerNow(), at: Date.now(), ...content });
		} else {
			kept.drop(place.key);
		}
	}

	/* null where it cannot be. */
	async #sealed(work) {
		try {
			return await work(await import("./sealed-drafts.js"), this.#state.me.id);
		} catch {
			return null; /* no module, no key, no database: then there is no draft after a reload */
		}
	}
}

function fill(place, content) {
	const text = typeof content?.text === "string" ? content.text : "";
	const files = Array.isArray(content?.files) ? content.files : [];
	place.draft = text;
	place.writing = content?.writing?.entry?.id ? content.writing : null;
	place.files = [...files.map((attachment) => ({ attachment })), ...(place.files ?? [])];
	return Boolean(text || place.writing || files.length > 0);
}
