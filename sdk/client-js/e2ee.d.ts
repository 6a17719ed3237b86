/* SPDX-License-Identifier: Apache-2.0 */

import type { KeysEvent, Message } from "./index.js";

/** Why a message cannot be encrypted or read: NO_DEVICES, KEYS_CHANGED, NOT_FOR_DEVICE, UNKNOWN_DEVICE, BAD_SIGNATURE,
 *  DECRYPT_FAILED, REPLAYED, MALFORMED, UNKNOWN_VERSION, INSECURE_CONTEXT, UNSUPPORTED. */
export class E2eeError extends Error {
	code: string;
}

/** Where a device keeps its keys. Values are structured-cloneable, keys of WebCrypto among them. */
export interface KeyStore {
	get(name: string): Promise<any>;
	list(prefix: string): Promise<[string, any][]>;
	/** Puts and removes (undefined) all at once or nothing. */
	change(changes: Record<string, any>): Promise<void>;
	destroy(): Promise<void>;
}

export class MemoryStore implements KeyStore {
	get(name: string): Promise<any>;
	list(prefix: string): Promise<[string, any][]>;
	change(changes: Record<string, any>): Promise<void>;
	destroy(): Promise<void>;
}

export class IndexedDbStore implements KeyStore {
	constructor(user: string);
	get(name: string): Promise<any>;
	list(prefix: string): Promise<[string, any][]>;
	change(changes: Record<string, any>): Promise<void>;
	destroy(): Promise<void>;
}

export type Trust = "none" | "unverified" | "verified" | "changed";

export interface Device {
	id: string;
	name?: string;
	createdAt: string;
	seenAt: string;
	current: boolean;
}

export interface Sealed {
	content: string;
	encrypted: true;
	keyId: string;
	clientId: string;
	replyTo?: string;
}

export class E2ee {
	constructor(options: {
		user: string;
		rest: (method: string, path: string, body?: unknown) => Promise<any>;
		store?: KeyStore;
		/** Resolves to libsodium-wrappers; called where WebCrypto lacks X25519 or Ed25519. */
		loadSodium?: () => Promise<unknown>;
		now?: () => number;
	});
	readonly user: string;
	readonly deviceId: string | null;
	readonly engine: "webcrypto" | "libsodium" | null;
	on(name: "changed", listener: (change: { user: string; added: string[]; removed: string[] }) => void): () => void;
	exists(): Promise<boolean>;
	open(options?: { name?: string }): Promise<void>;
	told(event: KeysEvent): Promise<void>;
	devices(): Promise<Device[]>;
	removeDevice(id: string): Promise<void>;
	forget(): Promise<void>;
	trust(user: string): Promise<Trust>;
	/** 60 digits, the same on both sides. */
	safetyNumber(user: string): Promise<string>;
	verify(user: string): Promise<void>;
	unverify(user: string): Promise<void>;
	seal(message: { to: string; clientId: string; text: string; replyTo?: string }): Promise<Sealed>;
	sealEdit(message: { to: string; messageId: string; text: string; replyTo?: string }): Promise<{ messageId: string; content: string; encrypted: true; keyId: string }>;
	unseal(message: Message): Promise<{ text: string; at: number; deviceId: string }>;
}
