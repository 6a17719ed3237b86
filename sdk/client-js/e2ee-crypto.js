/* SPDX-License-Identifier: Apache-2.0 */
/* The primitives of end-to-end encryption: X25519, Ed25519, HKDF-SHA256, AES-256-GCM, SHA-256, PBKDF2.
 *
 * WebCrypto does them where it can; a browser without X25519 and Ed25519 (before 2025) gets those two from
 * libsodium-wrappers, which is loaded only then. All else has been in WebCrypto of secure contexts for ten years. */

const subtle = globalThis.crypto?.subtle;
const KEY = 32;
const IV = 12;

export class E2eeError extends Error {
	constructor(code, message) {
		super(message);
		this.code = code;
	}
}

/* ---- bytes ---- */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export const utf8 = (text) => encoder.encode(text);
export const textOf = (bytes) => decoder.decode(bytes);

export function concat(...parts) {
	const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/* base64url without padding (RFC 4648, section 5). */
export function toBase64(bytes) {
	let binary = "";
	for (const byte of bytes) {
		binary += String.fromCharCode(byte);
	}
	return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/* `length`: how many bytes it must be; `atLeast` likewise. What is none is refused, another spelling of it too. */
export function fromBase64(text, { length, atLeast = 0 } = {}) {
	let bytes = null;
	if (typeof text === "string" && /^[A-Za-z0-9_-]*$/.test(text)) {
		try {
			bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
		} catch {
			bytes = null;
		}
	}
	if (!bytes || bytes.length < atLeast || (length !== undefined && bytes.length !== length) || toBase64(bytes) !== text) {
		throw new E2eeError("MALFORMED", "A key, a signature or a text of the message is not what it must be.");
	}
	return bytes;
}

/* What is signed, authenticated or hashed: each field with its length (4 bytes, big-endian) before it, so that no two
 * lists of fields are the same bytes. Texts are UTF-8. */
export function fields(...list) {
	const parts = [];
	for (const item of list) {
		const bytes = typeof item === "string" ? utf8(item) : item;
		const length = new Uint8Array(4);
		new DataView(length.buffer).setUint32(0, bytes.length);
		parts.push(length, bytes);
	}
	return concat(...parts);
}

export const random = (n) => crypto.getRandomValues(new Uint8Array(n));

/* ---- symmetric ---- */

export async function sha256(bytes) {
	return new Uint8Array(await subtle.digest("SHA-256", bytes));
}

/* PBKDF2-HMAC-SHA512, 32 bytes of it: slow on purpose. */
export async function stretch(bytes, salt, iterations) {
	const key = await subtle.importKey("raw", bytes, "PBKDF2", false, ["deriveBits"]);
	return new Uint8Array(await subtle.deriveBits({ name: "PBKDF2", hash: "SHA-512", salt, iterations }, key, 8 * KEY));
}

/* A secret that only deriveAes() can use from now on. */
export function importSecret(bytes) {
	return subtle.importKey("raw", bytes, "HKDF", false, ["deriveKey"]);
}

/* HKDF-SHA256 with a salt of 32 zeros; `info` separates what the secret is used for. */
export function deriveAes(secret, info) {
	const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(KEY), info };
	return subtle.deriveKey(how, secret, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
}

/* The HKDF of a session, whose input is not secret-sized: 32 bytes of it. */
export async function deriveSecret(input, info) {
	const key = await subtle.importKey("raw", input, "HKDF", false, ["deriveBits"]);
	const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(KEY), info };
	return importSecret(await subtle.deriveBits(how, key, 8 * KEY));
}

export const importAes = (bytes) => subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);

/* A fresh nonce, then the ciphertext with its tag. */
export async function encrypt(key, plain, additionalData) {
	const iv = random(IV);
	return concat(iv, new Uint8Array(await subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, plain)));
}

export async function decrypt(key, sealed, additionalData) {
	try {
		const iv = sealed.subarray(0, IV);
		return new Uint8Array(await subtle.decrypt({ name: "AES-GCM", iv, additionalData }, key, sealed.subarray(IV)));
	} catch {
		throw new E2eeError("DECRYPT_FAILED", "The message was changed on its way, or was not meant for this device.");
	}
}

/* ---- curves ---- */

/* A private key as 32 bytes becomes one of WebCrypto's by what comes before it in PKCS #8 (RFC 8410). */
const PKCS8 = {
	Ed25519: Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20),
	X25519: Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20),
};
const USES = { Ed25519: ["sign"], X25519: ["deriveBits"] };

function privateKey(name, key) {
	return key instanceof Uint8Array ? subtle.importKey("pkcs8", concat(PKCS8[name], key), name, false, USES[name]) : key;
}

async function generate(name) {
	const pair = await subtle.generateKey({ name }, false, name === "Ed25519" ? ["sign", "verify"] : ["deriveBits"]);
	return { public: new Uint8Array(await subtle.exportKey("raw", pair.publicKey)), private: pair.privateKey };
}

const refused = () => new E2eeError("MALFORMED", "A public key is not on its curve.");

const native = {
	name: "webcrypto",
	generateSign: () => generate("Ed25519"),
	generateDh: () => generate("X25519"),
	async sign(key, bytes) {
		return new Uint8Array(await subtle.sign("Ed25519", await privateKey("Ed25519", key), bytes));
	},
	async verify(key, signature, bytes) {
		try {
			return await subtle.verify("Ed25519", await subtle.importKey("raw", key, "Ed25519", false, ["verify"]), signature, bytes);
		} catch {
			return false; /* no point of the curve */
		}
	},
	async dh(key, other) {
		try {
			const peer = await subtle.importKey("raw", other, "X25519", false, []);
			return notZero(new Uint8Array(await subtle.deriveBits({ name: "X25519", public: peer }, await privateKey("X25519", key), 8 * KEY)));
		} catch {
			throw refused();
		}
	},
};

/* A point of small order would make the secret one that everybody knows. */
function notZero(secret) {
	if (secret.every((byte) => byte === 0)) {
		throw refused();
	}
	return secret;
}

/* Private keys are bytes here: IndexedDB keeps them, and a script of the page could read them. */
const overSodium = (sodium) => ({
	name: "libsodium",
	async generateSign() {
		const seed = random(KEY);
		return { public: sodium.crypto_sign_seed_keypair(seed).publicKey, private: seed };
	},
	async generateDh() {
		const secret = random(KEY);
		return { public: sodium.crypto_scalarmult_base(secret), private: secret };
	},
	async sign(key, bytes) {
		return sodium.crypto_sign_detached(bytes, sodium.crypto_sign_seed_keypair(key).privateKey);
	},
	async verify(key, signature, bytes) {
		try {
			return sodium.crypto_sign_verify_detached(signature, bytes, key);
		} catch {
			return false;
		}
	},
	async dh(key, other) {
		try {
			return notZero(sodium.crypto_scalarmult(key, other));
		} catch {
			throw refused();
		}
	},
});

async function nativeWorks() {
	try {
		await subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]);
		await subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
		return true;
	} catch {
		return false;
	}
}

/* `loadSodium()` resolves to libsodium-wrappers; it is called only where WebCrypto lacks a curve. */
export async function curves(loadSodium) {
	if (!subtle) {
		throw new E2eeError("INSECURE_CONTEXT", "End-to-end encryption needs a page that came over https.");
	}
	if (await nativeWorks()) {
		return native;
	}
	if (!loadSodium) {
		throw new E2eeError("UNSUPPORTED", "This browser has neither X25519 nor Ed25519: a newer one is needed.");
	}
	return overSodium(await loadSodium());
}
