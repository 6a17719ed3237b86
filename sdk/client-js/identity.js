/* SPDX-License-Identifier: Apache-2.0 */
/* Who the client is to the server: a guest, an account with a password, or whoever a token of yours says. Each gives
 * headers(refused) for CONNECT and token(refused) for REST; `refused` is a token that the server does not take any
 * more. */

import { ApiError, request } from "./rest.js";
import { Tokens } from "./tokens.js";

const BUSY_MS = 1000;

/* What is kept between visits, in localStorage or whatever has its getItem, setItem and removeItem; where there is
 * none, it lasts as long as the page. */
export class Storage {
	#backing;
	#prefix;
	#memory = new Map();

	constructor(backing, prefix = "chatd-client.") {
		this.#backing = backing;
		this.#prefix = prefix;
	}

	get(key) {
		try {
			return JSON.parse(this.#backing?.getItem(this.#prefix + key) ?? this.#memory.get(key) ?? "null");
		} catch {
			return null;
		}
	}

	set(key, value) {
		this.#memory.set(key, JSON.stringify(value));
		try {
			this.#backing?.setItem(this.#prefix + key, JSON.stringify(value));
		} catch {
			/* full or forbidden: kept in memory */
		}
	}

	remove(key) {
		this.#memory.delete(key);
		try {
			this.#backing?.removeItem(this.#prefix + key);
		} catch {
			/* nothing was kept there */
		}
	}
}

/* A token of your own making (single sign-on): `give(refused)` resolves to one that is good. */
class Given {
	constructor(give) {
		this.token = async (refused) => give(refused);
	}

	async headers(refused) {
		return { Authorization: `Bearer ${await this.token(refused)}` };
	}

	stop() {}
}

/* Made at the first visit, found again by its device token. */
class Guest {
	#url;
	#name;
	#storage;
	#access = null;
	#underway = null;

	constructor(url, name, storage) {
		this.#url = url;
		this.#name = name;
		this.#storage = storage;
	}

	async token(refused) {
		if (this.#access === null || this.#access === refused) {
			await this.#join();
		}
		return this.#access ?? undefined;
	}

	async headers() {
		await this.#join();
		const token = this.#storage.get("device-token");
		return token ? { "device-token": token } : {};
	}

	/* One at a time, so that nobody becomes two people. */
	#join() {
		this.#underway ??= this.#ask().finally(() => (this.#underway = null));
		return this.#underway;
	}

	async #ask() {
		const body = this.#name ? { nickname: this.#name } : {};
		const post = (headers) => request("POST", `${this.#url}/api/auth/anonymous`, { headers, body });
		const known = this.#storage.get("device-token");
		let answer;
		try {
			answer = await post(known ? { "device-token": known } : {});
		} catch (error) {
			if (!known || error.code === "BANNED" || ![400, 401, 404].includes(error.status)) {
				throw error;
			}
			this.#storage.remove("device-token"); /* a server that keeps nothing has forgotten its guests */
			answer = await post({});
		}
		if (answer.deviceToken) {
			this.#storage.set("device-token", answer.deviceToken);
		}
		this.#access = answer.accessToken ?? null;
		return answer;
	}

	stop() {}
}

/* A login that lasts: its tokens are renewed in time, and the open connection goes on with the new ones. */
class Account {
	#url;
	#credentials;
	#login;
	#tokens;

	constructor(url, credentials, storage, events) {
		this.#url = url;
		this.#credentials = credentials;
		this.#login = { get: () => storage.get("login"), set: (login) => storage.set("login", login) };
		const exchange = (refreshToken) => request("POST", `${url}/api/auth/refresh`, { body: { refreshToken } });
		const ended = (error) => {
			storage.remove("login");
			events.ended(error);
		};
		this.#tokens = new Tokens(exchange, this.#login, { renewed: events.renewed, ended });
	}

	async token(refused) {
		if (!this.#login.get()) {
			await this.#logIn();
		}
		this.#tokens.watch();
		return this.#tokens.access(refused);
	}

	async headers(refused) {
		return { Authorization: `Bearer ${await this.token(refused)}` };
	}

	async #logIn() {
		const { email, password, device } = this.#credentials;
		if (password === undefined) {
			throw new ApiError(401, "LOGGED_OUT", "The login has ended, and no password was given.");
		}
		const body = { email, password, ...(device ? { device } : {}) };
		this.#tokens.accept(await request("POST", `${this.#url}/api/auth/authenticate`, { body }));
	}

	stop() {
		this.#tokens.stop();
	}
}

/* `who`: {guest: name or true}, {email, password, device?} (without a password: a login that is kept), or
 * {token: async (refused) => "…"}. `events`: renewed(accessToken), ended(error). */
export function identity(url, who, storage, events) {
	if (typeof who?.token === "function") {
		return new Given(who.token);
	}
	if (who?.email) {
		return new Account(url, who, storage, events);
	}
	if (who?.guest) {
		return new Guest(url, typeof who.guest === "string" ? who.guest : "", storage);
	}
	throw new TypeError("login is {guest: name}, {email, password} or {token: function}");
}

/* Whether another try may do: the server is away or busy. */
export const isPassing = (error) => error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);

export const pauseOf = (error) => (error.retryAfterSeconds ?? 0) * 1000 || BUSY_MS;
