/* The REST calls. One identity per page: made or found by the device token, refreshed once when a call answers 401. */

import { deviceToken, displayName } from "./storage.js";

const TIMEOUT_MS = 15000;

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

export class Api {
	#accessToken = null;

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

	createRoom(name, isPublic) {
		return this.#authorized("POST", "/api/chat/rooms", { name, public: isPublic });
	}

	async members(roomId) {
		return (await this.#authorized("GET", `/api/chat/rooms/${encodeURIComponent(roomId)}/members`)).members ?? [];
	}

	status(userId) {
		return this.#authorized("GET", `/api/chat/users/${encodeURIComponent(userId)}/status`);
	}

	async #authorized(method, path, body) {
		const call = () =>
			request(method, path, {
				headers: this.#accessToken ? { Authorization: `Bearer ${this.#accessToken}` } : {},
				body,
			});
		try {
			return await call();
		} catch (error) {
			if (error.status !== 401) {
				throw error;
			}
			await this.join();
			return call();
		}
	}
}
