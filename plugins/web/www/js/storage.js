/* SPDX-License-Identifier: Apache-2.0 */
/* What this browser remembers. Storage may be refused (policies, private windows): everything then lasts as long as
 * the page, and nothing else changes. */

const fallback = new Map();

function read(key) {
	try {
		const value = localStorage.getItem(key);
		return value === null ? (fallback.get(key) ?? null) : value;
	} catch {
		return fallback.get(key) ?? null;
	}
}

function write(key, value) {
	fallback.set(key, value);
	try {
		localStorage.setItem(key, value);
	} catch {
		/* kept in `fallback` */
	}
}

function erase(key) {
	fallback.delete(key);
	try {
		localStorage.removeItem(key);
	} catch {
		/* nothing was kept there */
	}
}

function readJson(key, otherwise) {
	try {
		return JSON.parse(read(key)) ?? otherwise;
	} catch {
		return otherwise;
	}
}

export const deviceToken = {
	key: "chatd.device-token",
	get: () => read("chatd.device-token"),
	set: (token) => write("chatd.device-token", token),
	clear: () => erase("chatd.device-token"),
};

/* The name this person goes by; told to the server again whenever it makes a new account. */
export const displayName = {
	get: () => read("chatd.name") ?? "",
	set: (name) => (name ? write("chatd.name", name) : erase("chatd.name")),
};

export const theme = {
	get: () => read("chatd.theme"),
	set: (name) => (name ? write("chatd.theme", name) : erase("chatd.theme")),
};

/* Whether the person wants to be told of messages by the system. */
export const notices = {
	get: () => read("chatd.notices") === "on",
	set: (wanted) => (wanted ? write("chatd.notices", "on") : erase("chatd.notices")),
};

/* This browser is to notify its person. */
export const pushed = {
	get: () => read("chatd.push") === "1",
	set: (on) => (on ? write("chatd.push", "1") : erase("chatd.push")),
};

/* "" or a language of i18n.js; "": what the browser asks for. */
export const languageChosen = {
	get: () => read("chatd.language") ?? "",
	set: (name) => (name ? write("chatd.language", name) : erase("chatd.language")),
};

/* Rooms that this person wants to be in, so that a server that forgot its members (a restart) gets them back. null:
 * never chosen yet, the default room then. */
export const wantedRooms = {
	get: () => readJson("chatd.rooms", null),
	set: (ids) => write("chatd.rooms", JSON.stringify(ids)),
	clear: () => erase("chatd.rooms"),
};

const PEERS_KEPT = 30;

/* People written to lately, newest first: [{id, name}]. */
export const peers = {
	get: () => readJson("chatd.peers", []).filter((p) => p && typeof p.id === "string"),
	touch: (id, name) => {
		const rest = peers.get().filter((p) => p.id !== id);
		write("chatd.peers", JSON.stringify([{ id, name }, ...rest].slice(0, PEERS_KEPT)));
	},
	clear: () => erase("chatd.peers"),
};

/* A login with an account, instead of a guest: {userId, nickname, accessToken, refreshToken, expiresAt, session}. */
export const login = {
	key: "chatd.login",
	get: () => {
		const found = readJson("chatd.login", null);
		return typeof found?.userId === "string" && typeof found.accessToken === "string" ? found : null;
	},
	set: (value) => write("chatd.login", JSON.stringify(value)),
	clear: () => erase("chatd.login"),
};

/* Whose rooms and people this browser remembers; "" for its guest. */
export const owner = {
	get: () => read("chatd.owner") ?? "",
	set: (userId) => write("chatd.owner", userId),
	clear: () => erase("chatd.owner"),
};

/* The address used last, so that one who is logged out need not write it again. */
export const lastEmail = {
	get: () => read("chatd.email") ?? "",
	set: (email) => write("chatd.email", email),
	clear: () => erase("chatd.email"),
};

/* What was said lately, to be shown before the server is there; see offline.js. */
export const snapshot = {
	get: () => readJson("chatd.snapshot", null),
	set: (text) => write("chatd.snapshot", text),
	clear: () => erase("chatd.snapshot"),
};

/* Whom `me` writes to end to end encrypted: {peer: true}, false where that was turned off again. The keys themselves are
 * in IndexedDB. */
const sealedKey = (me) => `chatd.sealed.${me}`;
export const sealedWith = {
	isUsed: (me) => readJson(sealedKey(me), null) !== null,
	use: (me) => write(sealedKey(me), JSON.stringify(readJson(sealedKey(me), {}))),
	has: (me, peer) => readJson(sealedKey(me), {})[peer] === true,
	knows: (me, peer) => peer in readJson(sealedKey(me), {}),
	add: (me, peer) => write(sealedKey(me), JSON.stringify({ ...readJson(sealedKey(me), {}), [peer]: true })),
	remove: (me, peer) => write(sealedKey(me), JSON.stringify({ ...readJson(sealedKey(me), {}), [peer]: false })),
	clear: (me) => erase(sealedKey(me)),
};

const OUTBOX = "chatd.outbox.";
const DRAFT = "chatd.draft.";

function keysOf(prefix) {
	const keys = new Set(fallback.keys());
	try {
		for (let i = 0; i < localStorage.length; i++) {
			keys.add(localStorage.key(i));
		}
	} catch {
		/* what is in `fallback` is all */
	}
	return [...keys].filter((key) => key.startsWith(prefix));
}

/* What was written and is not known to have arrived: {clientId, owner, key, content, replyTo, at, status, error}.
 * `owner`: the user id of an account, "" for the guest. One item each, so that tabs do not overwrite each other. */
export const outbox = {
	all: () =>
		keysOf(OUTBOX)
			.map((key) => readJson(key, null))
			.filter((item) => item && typeof item.clientId === "string" && typeof item.key === "string" && typeof item.content === "string")
			.sort((a, b) => a.at - b.at),
	put: (item) => write(OUTBOX + item.clientId, JSON.stringify(item)),
	drop: (clientId) => erase(OUTBOX + clientId),
	clear: (of) =>
		outbox
			.all()
			.filter((item) => of === undefined || (item.owner ?? "") === of)
			.forEach((item) => outbox.drop(item.clientId)),
	/* A guest has become an account. */
	hand: (to) =>
		outbox
			.all()
			.filter((item) => !item.owner)
			.forEach((item) => outbox.put({ ...item, owner: to })),
	clientIdOf: (key) => (key?.startsWith(OUTBOX) ? key.slice(OUTBOX.length) : null),
};

/* What is written and not sent, of one conversation or thread each: {owner, at, text, writing, files} or {owner, at,
 * sealed}; see drafts.js. */
export const drafts = {
	get: (place) => readJson(DRAFT + place, null),
	put: (place, item) => write(DRAFT + place, JSON.stringify(item)),
	drop: (place) => erase(DRAFT + place),
	dropOf: (conversation) => [conversation, ...keysOf(`${DRAFT}${conversation}/`).map((key) => key.slice(DRAFT.length))].forEach(drafts.drop),
	clear: (of) => draftsOf(of).forEach(([key]) => erase(key)),
	hand: (to) => draftsOf("").forEach(([key, item]) => write(key, JSON.stringify({ ...item, owner: to }))),
};

const draftsOf = (owner) =>
	keysOf(DRAFT)
		.map((key) => [key, readJson(key, null)])
		.filter(([, item]) => (item?.owner ?? "") === owner);

/* Where in the open conversation one had scrolled to, for this tab's reload: {key, id, seq, top}. */
const PLACE = "chatd.place";
export const place = {
	take: () => {
		try {
			const found = JSON.parse(sessionStorage.getItem(PLACE));
			sessionStorage.removeItem(PLACE);
			return typeof found?.key === "string" && typeof found.id === "string" ? found : null;
		} catch {
			return null;
		}
	},
	set: (value) => {
		try {
			sessionStorage.setItem(PLACE, JSON.stringify(value));
		} catch {
			/* then it is the newest message again */
		}
	},
};
