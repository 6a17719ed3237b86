/* SPDX-License-Identifier: Apache-2.0 */
/* End-to-end encryption of direct messages: this device's keys, what is known of others' devices, and the way between a
 * text and what the server sees of it. What it protects and what it does not is in plugins/keys/README.md. */

import { curves as findCurves, E2eeError, fromBase64, toBase64 } from "./e2ee-crypto.js";
import * as protocol from "./e2ee-protocol.js";
import { MemoryStore } from "./e2ee-store.js";
import { Emitter } from "./emitter.js";

export { E2eeError } from "./e2ee-crypto.js";
export { IndexedDbStore, MemoryStore } from "./e2ee-store.js";

const DAY_MS = 24 * 3600 * 1000;
const PUBLISH_EVERY_MS = DAY_MS;
const PREKEY_LASTS_MS = 30 * DAY_MS;
const PREKEYS_KEPT = 12;
const ONETIME_FULL = 50;
const ONETIME_LOW = 15;
const SESSION_LASTS_MS = 7 * DAY_MS;
const SESSION_MESSAGES = 200;
const DEVICES_FRESH_MS = 60 * 1000;
const ASK_AGAIN_MS = 5 * 1000;

export class E2ee extends Emitter {
	#rest;
	#store;
	#loadSodium;
	#curves;
	#device = null;
	#refreshing = new Map();
	#filling = null;
	#turns = Promise.resolve();
	#now;

	/* `user`: one's own id. `rest(method, path, body)` as ChatClient has it. `store`: where keys are kept, an
	 * IndexedDbStore in a browser; by default nothing outlasts the object. `loadSodium()` resolves to libsodium-wrappers,
	 * for browsers that lack X25519 or Ed25519. */
	constructor({ user, rest, store = new MemoryStore(), loadSodium, now = Date.now }) {
		super();
		this.user = user;
		this.#rest = rest;
		this.#store = store;
		this.#loadSodium = loadSodium;
		this.#now = now;
	}

	get deviceId() {
		return this.#device?.id ?? null;
	}

	/* "webcrypto" or "libsodium": where X25519 and Ed25519 are done. */
	get engine() {
		return this.#curves?.name ?? null;
	}

	/* ---- this device ---- */

	/* Whether this device has keys of this user, without making any. */
	async exists() {
		return Boolean(await this.#store.get("device"));
	}

	/* Makes the keys at the first time, and sees to it that the server has those that others need. `name` tells the
	 * owner which device it is. Rejects with DEVICE_REMOVED when it was removed elsewhere: forget(), then open() makes
	 * another one. */
	async open({ name } = {}) {
		this.#curves = await findCurves(this.#loadSodium);
		await this.#alone(async () => {
			this.#device = (await this.#store.get("device")) ?? (await this.#make());
			await this.#publish(name);
		});
	}

	async #make() {
		const device = await protocol.makeDevice(this.#curves, this.user);
		await this.#store.change({ device: { ...device, prekeyId: 0, onetimeId: 0, prekeyAt: 0, publishedAt: 0 } });
		return this.#store.get("device");
	}

	/* Tabs share the keys, and take turns where they would make the same ones twice. */
	#alone(work) {
		if (globalThis.navigator?.locks) {
			return navigator.locks.request(`chatd-e2ee-${this.user}`, work);
		}
		const turn = this.#turns.then(work);
		this.#turns = turn.catch(() => {});
		return turn;
	}

	async #publish(name) {
		const device = this.#device;
		const now = this.#now();
		if (now - device.prekeyAt >= PREKEY_LASTS_MS) {
			const prekey = await protocol.makePrekey(this.#curves, device, device.prekeyId + 1);
			Object.assign(device, { prekeyId: prekey.id, prekeyAt: now, publishedAt: 0 });
			await this.#store.change({ [`prekey/${prekey.id}`]: prekey, [`prekey/${prekey.id - PREKEYS_KEPT}`]: undefined, device });
		}
		if (now - device.publishedAt < PUBLISH_EVERY_MS) {
			return;
		}
		const prekey = await this.#store.get(`prekey/${device.prekeyId}`);
		const body = { device: protocol.publicDevice(device, prekey, name) };
		const { prekeys } = await this.#rest("PUT", "/api/keys", body);
		if (prekeys < ONETIME_LOW) {
			await this.#refill(body, ONETIME_FULL - prekeys);
		}
		device.publishedAt = now;
		await this.#store.change({ device });
	}

	/* They are kept here before the server may hand them out. */
	async #refill(body, n) {
		const device = this.#device;
		const changes = { device };
		const prekeys = [];
		for (let i = 0; i < n; i++) {
			const pair = await this.#curves.generateDh();
			changes[`onetime/${++device.onetimeId}`] = pair;
			prekeys.push({ id: device.onetimeId, key: toBase64(pair.public) });
		}
		await this.#store.change(changes);
		await this.#rest("PUT", "/api/keys", { ...body, prekeys });
	}

	/* What arrives on /user/queue/keys: somebody's devices have changed, or one's own one-time prekeys run out. */
	async told(event) {
		if (event.type === "KEYS_LOW" && event.deviceId === this.deviceId) {
			this.#filling ??= this.#fillUp().finally(() => (this.#filling = null));
			await this.#filling;
		} else if (event.type === "KEYS" && (event.userId === this.user || (await this.#known(event.userId)))) {
			await this.#refresh(event.userId);
		}
	}

	#fillUp() {
		return this.#alone(async () => {
			this.#device = await this.#store.get("device");
			this.#device.publishedAt = 0;
			await this.#publish();
		});
	}

	/* One's own devices: [{id, name, createdAt, seenAt, prekeys, current}]. */
	async devices() {
		const { devices } = await this.#rest("GET", "/api/keys");
		return devices.map((d) => ({ ...d, current: d.id === this.deviceId }));
	}

	async removeDevice(id) {
		await this.#rest("DELETE", `/api/keys/devices/${encodeURIComponent(id)}`);
		await this.#refresh(this.user);
	}

	/* This device is none any more: what was written to it can be read no more. */
	async forget() {
		try {
			const device = this.#device ?? (await this.#store.get("device"));
			if (device) {
				await this.#rest("DELETE", `/api/keys/devices/${device.id}`);
			}
		} finally {
			this.#device = null;
			await this.#store.destroy();
		}
	}

	/* ---- others' devices ---- */

	#known(user) {
		return this.#store.get(`peer/${user}`);
	}

	/* Asks the server which devices there are. Who is asked about for the first time is trusted in (a safety number
	 * tells whether that was right); later changes are told as `changed`. */
	#refresh(user) {
		if (!this.#refreshing.has(user)) {
			const asking = this.#ask(user).finally(() => this.#refreshing.delete(user));
			this.#refreshing.set(user, asking);
		}
		return this.#refreshing.get(user);
	}

	async #ask(user) {
		const { devices } = await this.#rest("GET", `/api/keys/${encodeURIComponent(user)}`);
		const current = [];
		for (const given of devices) {
			current.push(await protocol.readDevice(this.#curves, user, given));
		}
		const before = await this.#known(user);
		const known = { ...before?.known };
		for (const device of current) {
			known[device.id] = device;
		}
		const ids = current.map((d) => d.id);
		const peer = { ...before, known, ids, askedAt: this.#now() };
		await this.#store.change({ [`peer/${user}`]: peer });
		const added = ids.filter((id) => before && !before.known[id]);
		const removed = (before?.ids ?? []).filter((id) => !ids.includes(id));
		if (added.length || removed.length) {
			this.emit("changed", { user, added, removed });
		}
		return peer;
	}

	async #peer(user, freshMs) {
		const known = await this.#known(user);
		/* Who has none may have the first one any moment, and is told of to nobody. */
		return known?.ids.length > 0 && this.#now() - known.askedAt < freshMs ? known : this.#refresh(user);
	}

	/* How sure one may be that only `user` reads what is written: "none" (no device that could), "unverified" (the keys
	 * are those that the server gave), "verified" (compared), "changed" (there are devices since that were not). */
	async trust(user) {
		const peer = await this.#peer(user, DEVICES_FRESH_MS);
		if (peer.ids.length === 0) {
			return "none";
		}
		if (!peer.verified) {
			return "unverified";
		}
		const own = user === this.user ? peer : await this.#peer(this.user, DEVICES_FRESH_MS);
		return [...peer.ids, ...own.ids].every((id) => peer.verified.includes(id)) ? "verified" : "changed";
	}

	/* 60 digits that are the same at the other end, unless somebody is in between. */
	async safetyNumber(user) {
		const [own, peer] = [await this.#refresh(this.user), await this.#refresh(user)];
		const side = (id, { ids, known }) => ({ user: id, devices: ids.map((device) => known[device]) });
		return protocol.safetyNumber(side(this.user, own), side(user, peer));
	}

	/* The safety number was compared: these devices, and no others, are theirs and one's own. */
	async verify(user) {
		const [own, peer] = [await this.#refresh(this.user), await this.#refresh(user)];
		await this.#store.change({ [`peer/${user}`]: { ...peer, verified: [...peer.ids, ...own.ids] } });
	}

	/* The new devices are taken without being compared: from now on as if nothing ever had been. */
	async unverify(user) {
		const peer = await this.#known(user);
		if (peer) {
			await this.#store.change({ [`peer/${user}`]: { ...peer, verified: undefined } });
		}
	}

	/* ---- writing ---- */

	/* Resolves to what belongs into the SEND beside the receiver: {content, encrypted, keyId, clientId, replyTo}. */
	async seal({ to, clientId, text, replyTo }) {
		const sealed = await this.#seal(to, { reference: protocol.referenceOf({ clientId }), replyTo }, text);
		return { ...sealed, clientId, ...(replyTo ? { replyTo } : {}) };
	}

	/* Likewise for /app/chat.edit: {messageId, content, encrypted, keyId}. */
	async sealEdit({ to, messageId, text, replyTo }) {
		const context = { edit: true, reference: protocol.referenceOf({ edit: true, messageId }), replyTo };
		return { messageId, ...(await this.#seal(to, context, text)) };
	}

	async #seal(to, context, text) {
		const trust = await this.trust(to);
		if (trust === "none") {
			throw new E2eeError("NO_DEVICES", "This person has no device yet that could read encrypted messages.");
		}
		if (trust === "changed") {
			throw new E2eeError("KEYS_CHANGED", "There are new devices since the safety number was compared: compare it again first.");
		}
		const recipients = [{ user: this.user, device: this.deviceId }];
		for (const user of new Set([to, this.user])) {
			recipients.push(...(await this.#sessions(user)));
		}
		const bound = { ...context, sender: this.user, device: this.deviceId, receiver: to };
		const content = await protocol.seal(this.#curves, this.#device, bound, { text, at: this.#now() }, recipients);
		return { content, encrypted: true, keyId: this.deviceId };
	}

	/* A session with each device of `user` but this one; those that have none, or an old one, get a new one. */
	async #sessions(user) {
		const peer = await this.#peer(user, DEVICES_FRESH_MS);
		const others = peer.ids.filter((id) => id !== this.deviceId);
		const found = new Map();
		for (const id of others) {
			const session = await this.#store.get(`out/${id}`);
			if (session && session.used < SESSION_MESSAGES && this.#now() - session.at < SESSION_LASTS_MS) {
				found.set(id, session);
			}
		}
		const missing = others.filter((id) => !found.has(id));
		const onetimes = missing.length ? await this.#claim(user, missing) : {};
		for (const id of missing) {
			const session = await protocol.startSession(this.#curves, this.#device, peer.known[id], onetimes[id]);
			found.set(id, { ...session, at: this.#now(), used: 0 });
		}
		await this.#store.change(Object.fromEntries([...found].map(([id, s]) => [`out/${id}`, { ...s, used: s.used + 1 }])));
		return others.map((device) => ({ user, device, session: found.get(device) }));
	}

	/* One-time prekeys make sessions better; without any they are made all the same. */
	async #claim(user, devices) {
		const found = {};
		try {
			const { prekeys } = await this.#rest("POST", `/api/keys/${encodeURIComponent(user)}/prekeys`, { devices });
			for (const { deviceId, id, key } of prekeys) {
				found[deviceId] = { id, key: fromBase64(key, { length: 32 }) };
			}
		} catch (error) {
			if (error.status !== 429) {
				throw error;
			}
		}
		return found;
	}

	/* ---- reading ---- */

	/* A message as the server has it, one's own ones too. Resolves to {text, at, deviceId}; rejects with an E2eeError:
	 * NOT_FOR_DEVICE (from before this device), UNKNOWN_DEVICE, BAD_SIGNATURE, DECRYPT_FAILED, REPLAYED, MALFORMED,
	 * UNKNOWN_VERSION. */
	async unseal(message) {
		const envelope = protocol.readEnvelope(message.content);
		const sender = message.senderId ?? message.sender;
		const context = {
			sender,
			device: envelope.from,
			receiver: message.receiverId ?? message.receiver,
			reference: protocol.referenceOf({ edit: envelope.edit, clientId: message.clientId, messageId: message.id }),
			replyTo: message.replyTo,
		};
		const entry = envelope.entries.find((e) => e.user === this.user && e.device === this.deviceId);
		const from = await this.#senderOf(sender, envelope.from);
		await protocol.checkSignature(this.#curves, from, context, envelope);
		if (!entry) {
			throw new E2eeError("NOT_FOR_DEVICE", "This message is from before this device could read encrypted ones.");
		}
		const secret = await this.#secretOf(from, entry);
		const { text, at } = await protocol.unseal(secret, context, envelope, entry);
		await this.#once(context, message.id);
		return { text, at, deviceId: envelope.from };
	}

	async #senderOf(user, id) {
		let peer = await this.#known(user);
		if (!peer?.known[id] && !(peer && this.#now() - peer.askedAt < ASK_AGAIN_MS)) {
			peer = await this.#refresh(user);
		}
		if (!peer?.known[id]) {
			throw new E2eeError("UNKNOWN_DEVICE", "This message is from a device that its sender does not have, or has removed.");
		}
		return peer.known[id];
	}

	async #secretOf(from, entry) {
		if (!entry.ephemeral) {
			return this.#device.self;
		}
		const name = `in/${from.id}/${toBase64(entry.ephemeral)}`;
		const kept = await this.#store.get(name);
		if (kept) {
			return kept;
		}
		const prekey = await this.#store.get(`prekey/${entry.prekey}`);
		const onetime = entry.onetime === undefined ? undefined : await this.#store.get(`onetime/${entry.onetime}`);
		if (!prekey || (entry.onetime !== undefined && !onetime)) {
			const late = await this.#store.get(name); /* another tab was quicker */
			if (!late) {
				throw new E2eeError("DECRYPT_FAILED", "The key that this message was made for is here no more.");
			}
			return late;
		}
		const secret = await protocol.acceptSession(this.#curves, this.#device, from, { ephemeral: entry.ephemeral, prekey, onetime });
		await this.#store.change({ [name]: secret, ...(onetime ? { [`onetime/${entry.onetime}`]: undefined } : {}) });
		return secret;
	}

	/* The server may show a message again as if it were another one. */
	async #once({ sender, device, reference }, id) {
		const name = `seen/${sender}/${device}/${reference}`;
		const before = await this.#store.get(name);
		if (before === undefined) {
			await this.#store.change({ [name]: id });
		} else if (before !== id) {
			throw new E2eeError("REPLAYED", "This message was said before: somebody shows it a second time.");
		}
	}
}
