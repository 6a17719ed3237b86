/* SPDX-License-Identifier: Apache-2.0 */
/* The REST calls. One identity per page: a guest, made or found by the device token and refreshed once when a call
 * answers 401; or an account of the server's own, by its access token. */

import { accountToken, deviceToken, displayName } from "./storage.js";

const TIMEOUT_MS = 15000;
const CONVERSATIONS_AT_MOST = 1000;

/* An answer that is not a success. `status` 0: the server was not reached. */
export class ApiError extends Error {
	constructor(status, code, message, retryAfterSeconds) {
		super(message);
		this.status = status;
		this.code = code;
		this.retryAfterSeconds = retryAfterSeconds;
	}
}

async function request(method, path, { headers = {}, body } = {}) {
	let response;
	try {
		response = await fetch(path, {
			method,
			headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
			body: body === undefined ? undefined : JSON.stringify(body),
			credentials: "omit", /* the device token is in storage; a cookie would survive "forget me" */
			cache: "no-store",
			signal: typeof AbortSignal.timeout === "function" ? AbortSignal.timeout(TIMEOUT_MS) : undefined,
		});
	} catch {
		throw new ApiError(0, "UNREACHABLE", "The server cannot be reached.");
	}
	const answer = await response.json().catch(() => null);
	if (!response.ok) {
		throw new ApiError(
			response.status,
			answer?.code ?? "HTTP_" + response.status,
			answer?.detail ?? answer?.message ?? answer?.title ?? `The server answered ${response.status}.`,
			answer?.retryAfterSeconds,
		);
	}
	return answer ?? {};
}

const room = (id, rest = "") => `/api/chat/rooms/${encodeURIComponent(id)}${rest}`;
const where = (conversation) =>
	`${conversation.kind === "room" ? "roomId" : "with"}=${encodeURIComponent(conversation.id)}`;

export class Api {
	#accessToken = null;

	get isGuest() {
		return !accountToken.get();
	}

	/* Throws when the server does not know this token. */
	async signIn(token) {
		await request("GET", "/api/chat/rooms", { headers: { Authorization: `Bearer ${token}` } });
		accountToken.set(token);
	}

	/* Finds or makes this browser's guest account: {userId, nickname}. A device token that the server refuses
	 * is dropped and a new account made: a server without a store forgets its guests when it restarts. */
	join(nickname = displayName.get()) {
		/* One tab at a time, so that the tabs of a person who was forgotten do not become several people. */
		const work = () => this.#join(nickname);
		return navigator.locks ? navigator.locks.request("chatd.account", work) : work();
	}

	async #join(nickname) {
		const known = deviceToken.get();
		const body = nickname ? { nickname } : {};
		let account;
		try {
			account = await request("POST", "/api/auth/anonymous", {
				headers: known ? { "device-token": known } : {},
				body,
			});
		} catch (error) {
			if (!known || ![400, 401, 403, 404].includes(error.status)) {
				throw error;
			}
			deviceToken.clear();
			account = await request("POST", "/api/auth/anonymous", { body });
		}
		if (account.deviceToken) {
			deviceToken.set(account.deviceToken);
		}
		this.#accessToken = account.accessToken ?? null;
		return {
			userId: account.userId,
			nickname: account.nickname || account.userId,
		};
	}

	async rooms() {
		return (await this.#authorized("GET", "/api/chat/rooms")).rooms ?? [];
	}

	room(id) {
		return this.#authorized("GET", room(id));
	}

	createRoom({ name, isPublic, about }) {
		return this.#authorized("POST", "/api/chat/rooms", { name, public: isPublic, ...(about ? { about } : {}) });
	}

	changeRoom(id, changes) {
		return this.#authorized("PATCH", room(id), changes);
	}

	deleteRoom(id) {
		return this.#authorized("DELETE", room(id));
	}

	async members(roomId) {
		return (await this.#authorized("GET", room(roomId, "/members"))).members ?? [];
	}

	addMember(roomId, userId) {
		return this.#authorized("POST", room(roomId, "/members"), { userId });
	}

	invite(roomId, userId) {
		return this.#authorized("POST", room(roomId, "/invite"), { userId });
	}

	kick(roomId, userId) {
		return this.#authorized("DELETE", room(roomId, `/members/${encodeURIComponent(userId)}`));
	}

	setRole(roomId, userId, role) {
		return this.#authorized("PUT", room(roomId, `/members/${encodeURIComponent(userId)}/role`), { role });
	}

	/* `seconds` undefined: for ever. */
	ban(roomId, userId, seconds) {
		return this.#authorized("POST", room(roomId, "/ban"), seconds ? { userId, seconds } : { userId });
	}

	unban(roomId, userId) {
		return this.#authorized("DELETE", room(roomId, `/ban/${encodeURIComponent(userId)}`));
	}

	async bans(roomId) {
		return (await this.#authorized("GET", room(roomId, "/bans"))).bans ?? [];
	}

	/* `seconds` 0: may speak again. */
	mute(roomId, userId, seconds) {
		return this.#authorized("POST", room(roomId, "/mute"), { userId, seconds });
	}

	status(userId) {
		return this.#authorized("GET", `/api/chat/users/${encodeURIComponent(userId)}/status`);
	}

	/* {messages, before, after, firstSeq, topSeq, epoch}; `range`: {before} or {after} a seq, {limit}. */
	history(conversation, range = {}) {
		const id = encodeURIComponent(conversation.id);
		const path = conversation.kind === "room" ? `room/${id}?events=true` : `direct?with=${id}`;
		const more = Object.entries(range).map(([name, value]) => `&${name}=${value}`);
		return this.#authorized("GET", `/api/chat/messages/${path}${more.join("")}`);
	}

	message(id) {
		return this.#authorized("GET", `/api/chat/messages/${encodeURIComponent(id)}`);
	}

	async conversations() {
		const found = [];
		let before;
		do {
			const more = before === undefined ? "" : `&before=${encodeURIComponent(before)}`;
			const page = await this.#authorized("GET", `/api/chat/conversations?limit=200${more}`);
			found.push(...(page.conversations ?? []));
			before = page.before;
		} while (before !== undefined && found.length < CONVERSATIONS_AT_MOST);
		return found;
	}

	/* {messages, before}; `conversation` null: everywhere. */
	search(words, conversation, before) {
		const place = conversation ? `&${where(conversation)}` : "";
		const more = before === undefined ? "" : `&before=${encodeURIComponent(before)}`;
		return this.#authorized("GET", `/api/chat/search?q=${encodeURIComponent(words)}${place}${more}`);
	}

	async pins(conversation) {
		return (await this.#authorized("GET", `/api/chat/pins?${where(conversation)}`)).messages ?? [];
	}

	reads(conversation) {
		return this.#authorized("GET", `/api/chat/reads?${where(conversation)}`);
	}

	async #authorized(method, path, body) {
		const call = () =>
			request(method, path, {
				headers: this.#token() ? { Authorization: `Bearer ${this.#token()}` } : {},
				body,
			});
		try {
			return await call();
		} catch (error) {
			if (error.status !== 401 || !this.isGuest) {
				throw error;
			}
			await this.join();
			return call();
		}
	}

	#token() {
		return accountToken.get() ?? this.#accessToken;
	}
}
