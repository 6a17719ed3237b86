/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens of a login: kept where all tabs of a browser see them, renewed in time, by one tab at a time. Where there are
 * no locks (http from another machine) two tabs may renew at once; the server gives both the same successor then. */

import { ApiError } from "./rest.js";

const MARGIN_MS = 120000;
const AGAIN_MS = 5000;
const NEW_MS = 5000;
const TIMER_MAX_MS = 2 ** 31 - 1;

/* Not busy or out of reach: it will never be exchanged. */
const isRefusal = (error) => [401, 403, 422].includes(error.status);
const loggedOut = () => new ApiError(401, "LOGGED_OUT", "You are logged out.");

export class Tokens {
	#exchange;
	#login;
	#events;
	#timer = 0;
	#underway = null;
	#acceptedAt = -NEW_MS;

	/* `exchange(refreshToken)` asks the server. `login`: where the login is kept, get() and set(value); what is set and
	 * got again is {userId, nickname, accessToken, refreshToken, session, renewAt, expiresAt}. `events`:
	 * renewed(accessToken), ended(error) when it refused. */
	constructor(exchange, login, events) {
		this.#exchange = exchange;
		this.#login = login;
		this.#events = events;
	}

	/* The answer to a login or a refresh. */
	accept(answer) {
		const lasts = answer.expiresIn * 1000;
		this.#login.set({
			userId: answer.userId,
			nickname: answer.nickname || answer.userId,
			accessToken: answer.accessToken,
			refreshToken: answer.refreshToken,
			session: answer.session,
			renewAt: Date.now() + lasts - Math.min(MARGIN_MS, lasts / 3),
			expiresAt: Date.now() + lasts,
		});
		this.#acceptedAt = performance.now();
		this.watch();
	}

	/* Another one would not last longer: tokens of this server are short. */
	get isNew() {
		return performance.now() - this.#acceptedAt < NEW_MS;
	}

	/* Renews by itself from now on, also what another tab has put in place. */
	watch() {
		clearTimeout(this.#timer);
		const now = this.#login.get();
		if (now) {
			const wait = Math.max(0, now.renewAt - Date.now());
			this.#timer = setTimeout(() => this.#onTime(), Math.min(wait, TIMER_MAX_MS));
		}
	}

	stop() {
		clearTimeout(this.#timer);
	}

	/* A token that is good, as far as is known. `refused`: one that the server does not take any more. */
	async access(refused) {
		const now = this.#login.get();
		if (now && now.accessToken !== refused && now.expiresAt > Date.now()) {
			return now.accessToken;
		}
		return this.renew(now?.accessToken ?? refused);
	}

	/* Another token in the place of `old`, by whatever tab. */
	renew(old = this.#login.get()?.accessToken) {
		const work = () => this.#renew(old);
		this.#underway ??= (globalThis.navigator?.locks ? navigator.locks.request("chatd.login", work) : work()).finally(() => {
			this.#underway = null;
		});
		return this.#underway;
	}

	async #renew(old) {
		const before = this.#login.get();
		if (!before) {
			throw loggedOut();
		}
		if (before.accessToken !== old) {
			this.watch();
			return before.accessToken;
		}
		let answer;
		try {
			answer = await this.#exchange(before.refreshToken);
		} catch (error) {
			const now = this.#login.get();
			if (now && now.refreshToken !== before.refreshToken) {
				return now.accessToken; /* another tab was faster */
			}
			if (isRefusal(error) && now) {
				this.stop();
				this.#events.ended(error);
			}
			throw error;
		}
		if (!this.#login.get()) {
			throw loggedOut(); /* meanwhile */
		}
		this.accept({ ...before, ...answer });
		this.#events.renewed(answer.accessToken);
		return answer.accessToken;
	}

	async #onTime() {
		const now = this.#login.get();
		if (!now) {
			return;
		}
		if (now.renewAt > Date.now()) {
			this.watch();
			return;
		}
		try {
			await this.renew(now.accessToken);
		} catch (error) {
			if (this.#login.get() && !isRefusal(error)) {
				this.#timer = setTimeout(() => this.#onTime(), AGAIN_MS); /* not reached, or busy */
			}
		}
	}
}
