/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors of vectors.h, by the modules of sdk/client-js: `node vectors.mjs open FILE` prints TAP, `make` prints new
 * ones. With `libsodium` as a last argument the curves are those of libsodium-wrappers, as the page ships it. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import * as c from "../../sdk/client-js/e2ee-crypto.js";
import * as protocol from "../../sdk/client-js/e2ee-protocol.js";

const require = createRequire(import.meta.url);

/* What a browser without the two curves offers. */
function withoutCurves() {
	const real = crypto.subtle.generateKey.bind(crypto.subtle);
	crypto.subtle.generateKey = (how, ...rest) =>
		["X25519", "Ed25519"].includes(how.name) ? Promise.reject(new Error("not supported")) : real(how, ...rest);
}

/* Node finds the one by the name that the other requires; in the page both are globals. */
async function loadSodium() {
	const vendor = new URL("../../plugins/web/www/vendor/libsodium/", import.meta.url).pathname;
	const Module = require("node:module");
	const resolve = Module._resolveFilename;
	Module._resolveFilename = (name, ...rest) => (name === "libsodium" ? `${vendor}libsodium.js` : resolve(name, ...rest));
	const sodium = require(`${vendor}libsodium-wrappers.js`);
	await sodium.ready;
	return sodium;
}

const SPKI = { Ed25519: "302a300506032b6570032100", X25519: "302a300506032b656e032100" };

async function publicOf(name, secret) {
	const { createPrivateKey, createPublicKey } = await import("node:crypto");
	const prefix = { Ed25519: "302e020100300506032b657004220420", X25519: "302e020100300506032b656e04220420" }[name];
	const key = createPrivateKey({ key: Buffer.concat([Buffer.from(prefix, "hex"), secret]), format: "der", type: "pkcs8" });
	return new Uint8Array(createPublicKey(key).export({ format: "der", type: "spki" }).subarray(SPKI[name].length / 2));
}

const pairOf = async (name, text) => {
	const secret = c.fromBase64(text, { length: 32 });
	return { public: await publicOf(name, secret), private: secret };
};

async function deviceOf(secrets) {
	const identity = await pairOf("Ed25519", secrets.identity);
	const dh = await pairOf("X25519", secrets.dh);
	const self = await c.importSecret(c.fromBase64(secrets.self, { length: 32 }));
	return { user: secrets.user, id: await protocol.deviceIdOf(identity.public, dh.public), identity, dh, self };
}

async function openOne(curves, { receiver, devices, message }) {
	const mine = await deviceOf(receiver);
	const envelope = protocol.readEnvelope(message.content);
	const known = await Promise.all(devices[message.senderId].map((d) => protocol.readDevice(curves, message.senderId, d)));
	const from = known.find((d) => d.id === envelope.from);
	if (!from) {
		throw new c.E2eeError("UNKNOWN_DEVICE", "");
	}
	const context = {
		sender: message.senderId,
		device: envelope.from,
		receiver: message.receiverId,
		reference: protocol.referenceOf({ edit: envelope.edit, clientId: message.clientId, messageId: message.id }),
		replyTo: message.replyTo,
	};
	await protocol.checkSignature(curves, from, context, envelope);
	const entry = envelope.entries.find((e) => e.user === mine.user && e.device === mine.id);
	let secret = mine.self;
	if (entry.ephemeral) {
		const prekey = await pairOf("X25519", receiver.prekey.secret);
		const onetime = receiver.onetimes.find((o) => o.id === entry.onetime);
		secret = await protocol.acceptSession(curves, mine, from, {
			ephemeral: entry.ephemeral,
			prekey,
			onetime: onetime && (await pairOf("X25519", onetime.secret)),
		});
	}
	return (await protocol.unseal(secret, context, envelope, entry)).text;
}

async function open(curves, file) {
	const { vectors, safety } = JSON.parse(readFileSync(file, "utf8"));
	let n = 0;
	let bad = 0;
	const report = (good, name, note = "") => {
		console.log(`${good ? "" : "not "}ok ${++n} - ${name}${note}`);
		bad += good ? 0 : 1;
	};
	for (const vector of vectors) {
		const got = await openOne(curves, vector).catch((error) => error);
		const good = vector.fault ? got.code === vector.fault : got === vector.text;
		report(good, vector.name, good ? "" : ` # ${got}`);
	}
	const side = async (user) => ({
		user,
		devices: await Promise.all(safety.devices[user].map((d) => protocol.readDevice(curves, user, d))),
	});
	const digits = await protocol.safetyNumber(await side(safety.users[0]), await side(safety.users[1]));
	report(digits === safety.digits, "the safety number");
	console.log(`1..${n}`);
	process.exitCode = bad || n < 2 ? 1 : 0;
}

/* ---- making ---- */

async function secretDevice(user) {
	const secrets = { user, identity: 0, dh: 0, self: 0 };
	for (const name of ["identity", "dh", "self"]) {
		secrets[name] = c.toBase64(c.random(32));
	}
	secrets.prekey = { id: 1, secret: c.toBase64(c.random(32)) };
	secrets.onetimes = [{ id: 7, secret: c.toBase64(c.random(32)) }];
	return secrets;
}

async function publicDevice(curves, secrets) {
	const device = await deviceOf(secrets);
	const prekey = { id: 1, ...(await pairOf("X25519", secrets.prekey.secret)) };
	const sign = (...parts) => curves.sign(device.identity.private, c.fields(...parts));
	device.dhSignature = await sign("chatd-e2ee-1 dh", secrets.user, device.dh.public);
	prekey.signature = await sign("chatd-e2ee-1 prekey", secrets.user, "1", prekey.public);
	return { device, face: { id: device.id, ...protocol.publicDevice(device, prekey) } };
}

const PLANS = [
	{ name: "a message with a one-time prekey", text: "Grüße, 안녕 👋", onetime: true },
	{ name: "a message without one", text: "x" },
	{ name: "one's own message", text: "mine", own: true },
	{ name: "an edit", text: "reworded", edit: true },
	{ name: "an answer", text: "yes", replyTo: "m-0" },
	{ name: "a text of several blocks", text: "0123456789".repeat(30), onetime: true },
	{ name: "a false clientId", text: "x", change: { clientId: "c-2" }, fault: "BAD_SIGNATURE" },
	{ name: "another receiver", text: "x", change: { receiverId: "eve" }, fault: "BAD_SIGNATURE" },
	{ name: "an answer to something else", text: "x", replyTo: "m-0", change: { replyTo: "m-9" }, fault: "BAD_SIGNATURE" },
	{ name: "another sender", text: "x", change: { senderId: "bob" }, fault: "UNKNOWN_DEVICE" },
];

async function make(curves) {
	const secrets = { ann: await secretDevice("ann"), bob: await secretDevice("bob") };
	const ann = await publicDevice(curves, secrets.ann);
	const bob = await publicDevice(curves, secrets.bob);
	const devices = { ann: [ann.face], bob: [bob.face] };
	const to = await protocol.readDevice(curves, "bob", bob.face);
	const vectors = [];
	for (const { name, text, onetime, own, edit, replyTo, change, fault } of PLANS) {
		const key = onetime && { id: 7, key: await publicOf("X25519", c.fromBase64(secrets.bob.onetimes[0].secret)) };
		const session = await protocol.startSession(curves, ann.device, to, key || undefined);
		const reference = protocol.referenceOf({ edit, clientId: "c-1", messageId: "m-1" });
		const context = { sender: "ann", device: ann.device.id, receiver: "bob", reference, replyTo, edit };
		const recipients = [{ user: "ann", device: ann.device.id }, { user: "bob", device: to.id, session }];
		const content = await protocol.seal(curves, ann.device, context, { text }, recipients);
		const message = { id: "m-1", clientId: "c-1", senderId: "ann", receiverId: "bob", keyId: ann.device.id, content, replyTo, ...change };
		vectors.push({ name, receiver: own ? secrets.ann : secrets.bob, devices, message, ...(fault ? { fault } : { text }) });
	}
	const digits = await protocol.safetyNumber({ user: "ann", devices: [await protocol.readDevice(curves, "ann", ann.face)] }, { user: "bob", devices: [to] });
	console.log(JSON.stringify({ "made by": "tests/e2ee/vectors.mjs", safety: { users: ["ann", "bob"], devices, digits }, vectors }, null, 1));
}

const [what, ...rest] = process.argv.slice(2);
const sodium = rest.at(-1) === "libsodium";
if (sodium) {
	withoutCurves();
}
const curves = await c.curves(loadSodium);
if (curves.name !== (sodium ? "libsodium" : "webcrypto")) {
	throw new Error(`the curves are those of ${curves.name}`);
}
await (what === "make" ? make(curves) : open(curves, rest[0]));
