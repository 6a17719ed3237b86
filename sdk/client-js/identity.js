/* SPDX-License-Identifier: Apache-2.0 */
/* Who the client is to the server: a guest, an account with a password, or whoever a token of yours says. Each gives
 * headers(refused) for CONNECT and token(refused) for REST; `refused` is a token that the server does not take any
 * more. */

import { ApiError, bearer, request } from "./rest.js";
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
		return bearer(await this.token(refused));
	}

	stop() {}
}

/* Made at the first visit, found again by its device token. */
export class Guest {
	#url;
	#kept;
	#name;
	#last = Promise.resolve();
	#underway = null;
	/* The answer's, if this server gives any. */
	access = undefined;
	joined = false;

	/* `kept`: where the device token is kept, get(), set(token) and clear(). `name()`: what to be called. */
	constructor(url, kept, name) {
		this.#url = url;
		this.#kept = kept;
		this.#name = name;
	}

	async token(refused) {
		if (!this.joined || refused !== undefined) {
			this.#underway ??= this.join().finally(() => (this.#underway = null));
			await this.#underway;
		}
		return this.access;
	}

	async headers() {
		await this.join();
		return this.deviceHeader();
	}

	deviceHeader() {
		const token = this.#kept.get();
		return token ? { "device-token": token } : {};
	}

	/* Resolves to what the server says of this guest. One at a time, in all tabs, so that nobody becomes two people. */
	join(nickname = this.#name()) {
		const work = () => this.#ask(nickname ? { nickname } : {});
		const locked = () => (globalThis.navigator?.locks ? navigator.locks.request("chatd.account", work) : work());
		this.#last = this.#last.then(locked, locked);
		return this.#last;
	}

	async #ask(body) {
		const post = () => request("POST", `${this.#url}/api/auth/anonymous`, { headers: this.deviceHeader(), body });
		let answer;
		try {
			answer = await post();
		} catch (error) {
			if (!this.#kept.get() || error.code === "BANNED" || ![400, 401, 403, 404].includes(error.status)) {
				throw error;
			}
			this.#kept.clear(); /* a server that keeps nothing has forgotten its guests */
			answer = await post();
		}
		if (answer.deviceToken) {
			this.#kept.set(answer.deviceToken);
		}
		this.access = answer.accessToken;
		this.joined = true;
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
		return bearer(await this.token(refused));
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
		const kept = {
			get: () => storage.get("device-token"),
			set: (token) => storage.set("device-token", token),
			clear: () => storage.remove("device-token"),
		};
		return new Guest(url, kept, () => (typeof who.guest === "string" ? who.guest : ""));
	}
	throw new TypeError("login is {guest: name}, {email, password} or {token: function}");
}

/* Whether another try may do: the server is away or busy. */
export const isPassing = (error) => error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);

export const pauseOf = (error) => (error.retryAfterSeconds ?? 0) * 1000 || BUSY_MS;
