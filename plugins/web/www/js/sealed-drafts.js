/* SPDX-License-Identifier: Apache-2.0 */
/* Drafts of encrypted conversations: AES-256-GCM by a key that cannot be read out of the browser and goes with this
 * device's other keys. */

import { IndexedDbStore } from "../client/e2ee-store.js";

const NAME = "draft-key";
const IV_BYTES = 12;

const toText = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const toBytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

async function keyOf(user) {
	const store = new IndexedDbStore(user);
	let key = await store.get(NAME);
	if (!key) {
		key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
		await store.change({ [NAME]: key });
	}
	return key;
}

/* Bound to the conversation: a draft cannot be moved to another one. */
const way = (iv, place) => ({ name: "AES-GCM", iv, additionalData: new TextEncoder().encode(place) });

export async function seal(user, place, content) {
	const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
	const text = new TextEncoder().encode(JSON.stringify(content));
	const sealed = await crypto.subtle.encrypt(way(iv, place), await keyOf(user), text);
	return toText(iv) + toText(new Uint8Array(sealed));
}

export async function unseal(user, place, text) {
	const at = (IV_BYTES / 3) * 4;
	const sealed = await crypto.subtle.decrypt(way(toBytes(text.slice(0, at)), place), await keyOf(user), toBytes(text.slice(at)));
	return JSON.parse(new TextDecoder().decode(sealed));
}
