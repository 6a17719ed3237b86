/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol "chatd-e2ee-1", without any state: devices, sessions, envelopes, safety numbers. plugins/keys/README.md
 * describes it byte by byte; tests/e2ee has it in C. */

import * as c from "./e2ee-crypto.js";

const { E2eeError, fields } = c;

const P = "chatd-e2ee-1";
const KEY = 32;
const SIGNATURE = 64;
const SEALED_KEY = 12 + KEY + 16;
const PAD = 128;
const ENTRIES_MAX = 100;
const STRETCH = 100000;
const ID = /^[A-Za-z0-9_-]{1,64}$/;

const malformed = (what) => new E2eeError("MALFORMED", `The message is no proper encrypted one: ${what}.`);

/* ---- devices ---- */

/* An id that says which keys it stands for: nobody can give it other ones. */
export async function deviceIdOf(identity, dh) {
	return c.toBase64((await c.sha256(fields(`${P} device`, identity, dh))).subarray(0, 16));
}

/* The lasting keys of a new device: of signatures, and of agreements, signed by the former. */
export async function makeDevice(curves, user) {
	const identity = await curves.generateSign();
	const dh = await curves.generateDh();
	const dhSignature = await curves.sign(identity.private, fields(`${P} dh`, user, dh.public));
	const self = await c.importSecret(c.random(KEY));
	return { user, id: await deviceIdOf(identity.public, dh.public), identity, dh, dhSignature, self };
}

const prekeyFields = (user, id, key) => fields(`${P} prekey`, user, String(id), key);

export async function makePrekey(curves, device, id) {
	const { public: key, private: secret } = await curves.generateDh();
	const signature = await curves.sign(device.identity.private, prekeyFields(device.user, id, key));
	return { id, public: key, private: secret, signature };
}

/* What is published of it. */
export function publicDevice(device, prekey, name) {
	return {
		identity: c.toBase64(device.identity.public),
		dh: c.toBase64(device.dh.public),
		dhSignature: c.toBase64(device.dhSignature),
		prekey: { id: prekey.id, key: c.toBase64(prekey.public), signature: c.toBase64(prekey.signature) },
		...(name ? { name } : {}),
	};
}

const isNumber = (id) => Number.isSafeInteger(id) && id >= 1;

/* A device as the server hands it out, checked: its id belongs to its keys, its identity has signed all others. */
export async function readDevice(curves, user, given) {
	const identity = c.fromBase64(given?.identity, { length: KEY });
	const dh = c.fromBase64(given.dh, { length: KEY });
	const prekey = { id: given.prekey?.id, key: c.fromBase64(given.prekey?.key, { length: KEY }) };
	const signed = [
		[given.dhSignature, fields(`${P} dh`, user, dh)],
		[given.prekey.signature, prekeyFields(user, prekey.id, prekey.key)],
	];
	let good = isNumber(prekey.id) && given.id === (await deviceIdOf(identity, dh));
	for (const [signature, bytes] of signed) {
		good = good && (await curves.verify(identity, c.fromBase64(signature, { length: SIGNATURE }), bytes));
	}
	if (!good) {
		throw new E2eeError("BAD_SIGNATURE", `The server gave out false keys of ${user}: nothing is sent to them.`);
	}
	return { user, id: given.id, identity, dh, prekey };
}

/* ---- sessions: X3DH between two devices ---- */

const NONE = new Uint8Array(0);

function sessionInfo(from, to, { ephemeral, prekey, onetime }) {
	return fields(`${P} session`, from.user, from.identity, from.dh, to.user, to.identity, to.dh, ephemeral, prekey, onetime ?? NONE);
}

const sessionInput = (...secrets) => c.concat(new Uint8Array(KEY).fill(0xff), ...secrets);

const faceOf = (device) => ({ user: device.user, identity: device.identity.public, dh: device.dh.public });

/* `to` as readDevice() gives it; `onetime` {id, key}, if there was one left. */
export async function startSession(curves, mine, to, onetime) {
	const fresh = await curves.generateDh();
	const secrets = [
		await curves.dh(mine.dh.private, to.prekey.key),
		await curves.dh(fresh.private, to.dh),
		await curves.dh(fresh.private, to.prekey.key),
	];
	if (onetime) {
		secrets.push(await curves.dh(fresh.private, onetime.key));
	}
	const info = sessionInfo(faceOf(mine), to, { ephemeral: fresh.public, prekey: to.prekey.key, onetime: onetime?.key });
	const secret = await c.deriveSecret(sessionInput(...secrets), info);
	return { ephemeral: fresh.public, prekey: to.prekey.id, onetime: onetime?.id, secret };
}

/* The other side of it. `prekey` and `onetime` are the pairs that the entry names. */
export async function acceptSession(curves, mine, from, { ephemeral, prekey, onetime }) {
	const secrets = [
		await curves.dh(prekey.private, from.dh),
		await curves.dh(mine.dh.private, ephemeral),
		await curves.dh(prekey.private, ephemeral),
	];
	if (onetime) {
		secrets.push(await curves.dh(onetime.private, ephemeral));
	}
	const info = sessionInfo(from, faceOf(mine), { ephemeral, prekey: prekey.public, onetime: onetime?.public });
	return c.deriveSecret(sessionInput(...secrets), info);
}

/* ---- envelopes ---- */

/* What a message is bound to: who says it from which device to whom, which message it is (or which one it rewords), and
 * which one it answers. */
function bindingOf({ sender, device, receiver, reference, replyTo }) {
	return fields(`${P} message`, sender, device, receiver, reference, replyTo ?? "");
}

export const referenceOf = ({ edit, clientId, messageId }) => (edit ? `edit:${messageId}` : `message:${clientId}`);

const wrapKey = (secret, binding, { user, device }) => c.deriveAes(secret, fields(`${P} wrap`, binding, user, device));

function signedFields(binding, body, entries) {
	const text = (n) => (n === undefined ? "" : String(n));
	const all = entries.flatMap((e) => [e.user, e.device, e.ephemeral ?? NONE, text(e.prekey), text(e.onetime), e.key]);
	return fields(`${P} envelope`, binding, body, ...all);
}

/* Spaces after the JSON, so that the length tells little. */
function padded(value) {
	const bytes = c.utf8(JSON.stringify(value));
	const all = new Uint8Array(Math.ceil(bytes.length / PAD) * PAD).fill(0x20);
	all.set(bytes);
	return all;
}

/* Resolves to the text that is sent as `content`. `context`: sender, device, receiver, reference, replyTo, edit.
 * `recipients`: [{user, device, session}], without session for this device itself. */
export async function seal(curves, mine, context, said, recipients) {
	const binding = bindingOf(context);
	const secret = c.random(KEY);
	const body = await c.encrypt(await c.importAes(secret), padded(said), binding);
	const entries = [];
	for (const { user, device, session } of recipients) {
		const wrap = await wrapKey(session?.secret ?? mine.self, binding, { user, device });
		const { ephemeral, prekey, onetime } = session ?? {};
		entries.push({ user, device, ephemeral, prekey, onetime, key: await c.encrypt(wrap, secret, NONE) });
	}
	const sig = await curves.sign(mine.identity.private, signedFields(binding, body, entries));
	return JSON.stringify({
		v: 1,
		from: mine.id,
		...(context.edit ? { edit: true } : {}),
		body: c.toBase64(body),
		to: entries.map((e) => ({
			u: e.user,
			d: e.device,
			...(e.ephemeral ? { e: c.toBase64(e.ephemeral), p: e.prekey } : {}),
			...(e.onetime !== undefined ? { o: e.onetime } : {}),
			k: c.toBase64(e.key),
		})),
		sig: c.toBase64(sig),
	});
}

function readEntry(given) {
	if (!ID.test(given?.u) || !ID.test(given.d)) {
		throw malformed("it does not say for whom it is");
	}
	const entry = { user: given.u, device: given.d, key: c.fromBase64(given.k, { length: SEALED_KEY }) };
	if (given.e === undefined) {
		return entry;
	}
	if (!isNumber(given.p) || (given.o !== undefined && !isNumber(given.o))) {
		throw malformed("it names no key that it was made for");
	}
	return { ...entry, ephemeral: c.fromBase64(given.e, { length: KEY }), prekey: given.p, onetime: given.o };
}

export function readEnvelope(content) {
	let given = null;
	try {
		given = JSON.parse(content);
	} catch {
		given = null;
	}
	if (!Number.isInteger(given?.v)) {
		throw malformed("it is no envelope");
	}
	if (given.v !== 1) {
		throw new E2eeError("UNKNOWN_VERSION", "The message was encrypted by a newer program: this one cannot read it.");
	}
	if (!ID.test(given.from) || !Array.isArray(given.to) || given.to.length > ENTRIES_MAX) {
		throw malformed("its parts are missing");
	}
	return {
		from: given.from,
		edit: given.edit === true,
		body: c.fromBase64(given.body, { atLeast: 12 + 16 }),
		entries: given.to.map(readEntry),
		signature: c.fromBase64(given.sig, { length: SIGNATURE }),
	};
}

/* Whoever made it has the identity of `sender`, and means exactly this message by it. */
export async function checkSignature(curves, sender, context, envelope) {
	const bytes = signedFields(bindingOf(context), envelope.body, envelope.entries);
	if (!(await curves.verify(sender.identity, envelope.signature, bytes))) {
		throw new E2eeError("BAD_SIGNATURE", "The message is not from whom it says, or not the one that was said there.");
	}
}

/* Resolves to what was said. `secret`: of the session that `entry` names, or of this device. */
export async function unseal(secret, context, envelope, entry) {
	const binding = bindingOf(context);
	const key = await c.decrypt(await wrapKey(secret, binding, entry), entry.key, NONE);
	const plain = await c.decrypt(await c.importAes(key), envelope.body, binding);
	try {
		const said = JSON.parse(c.textOf(plain));
		if (typeof said.text === "string") {
			return said;
		}
	} catch {
		/* the sender's program is at fault */
	}
	throw malformed("there is no text in it");
}

/* ---- safety numbers ---- */

/* 30 digits of a user's devices, as Signal's NumericFingerprint makes them of one key. Stretched, so that keys with the
 * same digits take a hundred thousand times as long to find. */
async function digitsOf(user, devices) {
	const faces = devices.map((d) => c.concat(d.identity, d.dh));
	faces.sort((a, b) => (c.toHex(a) < c.toHex(b) ? -1 : 1));
	const hash = await c.stretch(c.concat(...faces), fields(`${P} safety`, user), STRETCH);
	const view = new DataView(hash.buffer);
	let digits = "";
	for (let at = 0; at < 30; at += 5) {
		const value = view.getUint8(at) * 2 ** 32 + view.getUint32(at + 1);
		digits += String(value % 100000).padStart(5, "0");
	}
	return digits;
}

/* 60 digits, the same on both sides: of both users' devices. */
export async function safetyNumber(one, other) {
	const both = [await digitsOf(one.user, one.devices), await digitsOf(other.user, other.devices)];
	return both.sort().join("");
}
