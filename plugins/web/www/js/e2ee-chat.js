/* SPDX-License-Identifier: Apache-2.0 */
/* End-to-end encryption on the page: which conversations are encrypted, and the way of their messages between the state
 * and the client's module, which is loaded once it is needed. */

import { ApiError, explain } from "./errors.js";
import { newId } from "../client/connection.js";
import { t } from "./i18n.js";
import { drafts, sealedWith } from "./storage.js";

const OPENED_AT_ONCE = 20;

const WORDS = {
	INSECURE_CONTEXT: t("End-to-end encryption needs a page that came over https."),
	UNSUPPORTED: t("This browser is too old for end-to-end encryption."),
	NO_DEVICES: t("This person has no device yet that can read encrypted messages. They have to turn encryption on, too."),
	KEYS_CHANGED: t("There are new devices since you compared the safety number. Open the lock and compare it again, then send this once more."),
	BAD_SIGNATURE: t("This message was changed on its way, or is not from whom it says."),
	DECRYPT_FAILED: t("This message cannot be read on this device."),
	DEVICE_REMOVED: t("This device was removed from your list of devices. Turn encryption on again to make it a new one."),
	MALFORMED: t("This encrypted message is broken."),
	NOT_FOR_DEVICE: t("This message is from before this device could read encrypted ones."),
	REPLAYED: t("This message was said before: somebody shows it a second time."),
	TOO_MANY_DEVICES: t("You have all the encrypted devices that you may have. Remove one on another device first."),
	UNKNOWN_DEVICE: t("This message is from a device that its sender does not have, or has removed."),
	UNKNOWN_VERSION: t("This message was encrypted by a newer program."),
};

export const explainSealed = (error) => WORDS[error.code] ?? (error instanceof ApiError ? explain(error) : error.message);

/* What is shown of a message that is encrypted, until it is opened. */
export const sealedEntry = (content) => ({ content: t("Encrypted message"), sealed: content, locked: true, lock: "" });

/* libsodium replaces what it says of its readiness when it has to do without WebAssembly, which this page's policy asks
 * of it; who waits for the first one waits for both. */
async function loadSodium() {
	let ready;
	globalThis.libsodium_mod = Object.create({
		get ready() {
			return ready;
		},
		set ready(promise) {
			ready ??= promise;
		},
	});
	for (const file of ["libsodium.js", "libsodium-wrappers.js"]) {
		await new Promise((resolve, reject) => {
			const script = document.createElement("script");
			script.src = new URL(`../vendor/libsodium/${file}`, import.meta.url);
			script.addEventListener("load", resolve);
			script.addEventListener("error", reject);
			document.head.append(script);
		});
	}
	await globalThis.sodium.ready;
	return globalThis.sodium;
}

export class Encryption {
	#state;
	#api;
	#toast;
	#e2ee = null;
	#opening = null;
	#busy = false;
	#again = false;
	#waiting = [];

	constructor({ state, api, toast }) {
		this.#state = state;
		this.#api = api;
		this.#toast = toast;
		state.onChange((topic) => ["messages", "conversations"].includes(topic) && this.#openAll());
	}

	/* This device has keys that are published. */
	get ready() {
		return this.#e2ee !== null && this.#opening === null;
	}

	isOn(conversation) {
		return conversation.kind === "user" && sealedWith.has(this.#state.me?.id, conversation.id);
	}

	/* ---- this device ---- */

	/* The connection is there: what was turned on at an earlier visit goes on. */
	async connected() {
		const me = this.#state.me.id;
		if (this.#e2ee?.user !== me && sealedWith.isUsed(me)) {
			this.#e2ee = null;
			await this.#open().catch((error) => this.#toast(explainSealed(error), { kind: "error" }));
		}
	}

	/* Makes this device's keys if there are none. Rejects when it cannot be. */
	#open() {
		this.#opening ??= this.#openNow().finally(() => {
			this.#opening = null;
			this.#openAll();
		});
		return this.#opening;
	}

	async #openNow() {
		const { E2ee, IndexedDbStore } = await import("../client/e2ee.js");
		const user = this.#state.me.id;
		const rest = (method, path, body) => this.#api.ask(method, path, body);
		const make = () => new E2ee({ user, rest, store: new IndexedDbStore(user), loadSodium });
		let e2ee = make();
		try {
			await e2ee.open({ name: this.#api.deviceName });
		} catch (error) {
			if (error.code === "DEVICE_REMOVED") {
				await e2ee.forget().catch(() => {});
				sealedWith.clear(user);
			} else if (error.code === "TOO_MANY_DEVICES" && this.#api.isGuest) {
				await this.#replace(e2ee);
				e2ee = make();
				await e2ee.open({ name: this.#api.deviceName });
			}
			if (!e2ee.deviceId || error.code === "DEVICE_REMOVED") {
				throw error;
			}
		}
		e2ee.on("changed", (change) => this.#onChanged(change));
		this.#e2ee = e2ee;
		sealedWith.use(user);
	}

	/* A guest has one device: what this one was before its storage was wiped goes. */
	async #replace(e2ee) {
		for (const { id } of await e2ee.devices()) {
			await e2ee.removeDevice(id);
		}
	}

	/* Before this person is forgotten here. */
	async forget(user) {
		if (sealedWith.isUsed(user)) {
			const e2ee = this.#e2ee;
			this.#e2ee = null;
			sealedWith.clear(user);
			await e2ee?.forget().catch(() => {}); /* a server that does not hear it forgets the device in time */
		}
	}

	told(event) {
		this.#e2ee?.told(event).catch((error) => this.#toast(explainSealed(error), { kind: "error" }));
	}

	/* ---- a conversation ---- */

	async turnOn(conversation) {
		if (!this.#e2ee) {
			await this.#open();
		}
		sealedWith.add(this.#state.me.id, conversation.id);
		drafts.dropOf(conversation.key); /* what is written from now on is laid down encrypted */
		this.#state.changed("messages", conversation.key);
	}

	turnOff(conversation) {
		sealedWith.remove(this.#state.me.id, conversation.id);
		this.#state.changed("messages", conversation.key);
	}

	/* "off", or what E2ee.trust() says. */
	async trust(conversation) {
		return this.isOn(conversation) && this.#e2ee ? this.#e2ee.trust(conversation.id) : "off";
	}

	safetyNumber(conversation) {
		return this.#e2ee.safetyNumber(conversation.id);
	}

	async mark(conversation, verified) {
		await (verified ? this.#e2ee.verify(conversation.id) : this.#e2ee.unverify(conversation.id));
		this.#state.changed("messages", conversation.key);
	}

	devices() {
		return this.#e2ee.devices();
	}

	removeDevice(id) {
		return this.#e2ee.removeDevice(id);
	}

	#onChanged({ user, added }) {
		if (added.length === 0) {
			return;
		}
		const mine = user === this.#state.me.id;
		const name = this.#state.nameOf(user);
		const content = mine
			? t("A new device of yours can read encrypted messages from now on. If you do not know it, change your password and remove it.")
			: t("{name} uses a new device, or somebody pretends to. Compare the safety number.", { name });
		this.#toast(content, { sticky: true });
		if (!mine) {
			const row = { type: "SYSTEM", id: `keys-${newId()}`, content, timestamp: new Date().toISOString() };
			this.#state.received(this.#state.conversation("user", user), row);
		}
	}

	/* ---- writing ---- */

	/* What goes into the SEND in place of the text. */
	async seal(conversation, { clientId, content, replyTo }) {
		if (!this.#e2ee) {
			await this.#open();
		}
		return this.#e2ee.seal({ to: conversation.id, clientId, text: content, replyTo: replyTo || undefined });
	}

	async sealEdit(conversation, entry, text) {
		if (!this.#e2ee) {
			await this.#open();
		}
		return this.#e2ee.sealEdit({ to: conversation.id, messageId: entry.id, text, replyTo: entry.replyTo || undefined });
	}

	/* ---- reading ---- */

	/* Whatever is in the state and still closed, a few at a time. */
	async #openAll() {
		this.#again = true;
		if (this.#busy || !this.ready || this.#e2ee.user !== this.#state.me?.id) {
			return;
		}
		this.#busy = true;
		while (this.#again) {
			this.#again = false;
			const closed = [...this.#closed()].slice(0, OPENED_AT_ONCE);
			const touched = new Set();
			for (const [conversation, entry] of closed) {
				await this.#openOne(conversation, entry);
				touched.add(conversation.key);
			}
			touched.forEach((key) => this.#state.changed("messages", key));
			this.#again ||= closed.length === OPENED_AT_ONCE;
		}
		this.#busy = false;
	}

	*#closed() {
		for (const conversation of this.#state.conversations.values()) {
			if (conversation.kind === "user") {
				for (const entry of [...conversation.messages, conversation.preview, ...conversation.quoted.values(), ...(conversation.thread?.entries ?? [])]) {
					if (entry?.sealed && entry.lock === "") {
						yield [conversation, entry];
					}
				}
			}
		}
	}

	async #openOne(conversation, entry) {
		const { id, clientId, senderId, replyTo, sealed } = entry;
		const receiverId = entry.mine ? conversation.id : this.#state.me.id;
		const message = { id, clientId, senderId, receiverId, replyTo: replyTo || undefined, content: sealed };
		try {
			const { text } = await this.#e2ee.unseal(message);
			if (entry.sealed === sealed) {
				Object.assign(entry, { content: text, locked: false, lock: "open" });
			}
			/* Who was written to in secret answers so. */
			if (!entry.mine && !sealedWith.knows(this.#state.me.id, conversation.id)) {
				sealedWith.add(this.#state.me.id, conversation.id);
			}
		} catch (error) {
			const passing = error instanceof ApiError;
			Object.assign(entry, { content: explainSealed(error), locked: true, lock: passing ? "later" : error.code });
			if (passing) {
				this.#waiting.push(entry);
			}
		}
	}

	/* What could not be opened for want of a server is tried again. */
	retry() {
		this.#waiting.splice(0).forEach((entry) => Object.assign(entry, { lock: entry.lock === "later" ? "" : entry.lock }));
		this.#openAll();
	}
}
