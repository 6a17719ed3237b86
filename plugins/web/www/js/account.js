/* SPDX-License-Identifier: Apache-2.0 */
/* Who one is: logging in and out, and the way of a guest to an account. */

import { deviceToken, displayName, drafts, lastEmail, login, outbox as kept, owner, peers, snapshot, wantedRooms } from "./storage.js";

const BUSY_TRIES = 4;

export class Account {
	#state;
	#api;
	#session;
	#left;

	/* `left(reason)`: this person is logged out here. */
	constructor({ state, api, session, left }) {
		this.#state = state;
		this.#api = api;
		this.#session = session;
		this.#left = left;
	}

	/* With an account. A guest who was here is forgotten. */
	async logIn(email, password) {
		await this.#begin(await this.#api.authenticate(email, password));
	}

	async #begin(answer) {
		if (this.#state.me) {
			await this.#session.end();
		}
		if (owner.get() !== answer.userId) {
			peers.clear();
			wantedRooms.clear();
			owner.set(answer.userId);
		}
		this.#api.tokens.accept(answer); /* first, so that other tabs see a login and not a forgotten guest */
		deviceToken.clear();
		kept.clear("");
		drafts.clear("");
		this.#session.start();
	}

	/* Makes an account and logs in to it. A guest stays who they are, and connected. An error that has `registered`:
	 * the account is there, the login is not. */
	async register(body) {
		const made = await this.#api.register(body);
		const upgraded = made.upgraded && Boolean(this.#state.me);
		if (made.upgraded) {
			owner.set(made.userId);
			kept.hand(made.userId);
			drafts.hand(made.userId);
		}
		let answer;
		try {
			answer = await this.#firstLogin(body);
		} catch (error) {
			deviceToken.clear();
			await this.#session.end();
			throw Object.assign(error, { registered: true });
		}
		if (upgraded) {
			this.#api.tokens.accept(answer);
			deviceToken.clear();
			this.#state.setMe({ id: answer.userId, name: answer.nickname });
			await this.#session.renewed(answer.accessToken);
		} else {
			await this.#begin(answer);
		}
		return made;
	}

	/* The password again: the login is no older than this. */
	async logInAnew(email, password) {
		const answer = await this.#api.authenticate(email, password);
		this.#api.tokens.accept(answer);
		await this.#session.renewed(answer.accessToken);
	}

	/* The account is there, and now it is logged in to: a server that is busy is asked again. */
	async #firstLogin({ email, password }) {
		for (let i = 1; ; i++) {
			try {
				return await this.#api.authenticate(email, password);
			} catch (error) {
				if (i === BUSY_TRIES || ![429, 503].includes(error.status)) {
					throw error;
				}
				await new Promise((done) => setTimeout(done, Math.min(10, error.retryAfterSeconds ?? 1) * 1000));
			}
		}
	}

	/* Ends the login on the server and forgets this person here. Resolves to whether the server has heard it. */
	async signOut() {
		let heard = true;
		await this.#session.encryption.forget(this.#state.me?.id);
		if (!this.#api.isGuest) {
			heard = await this.#api.logout().then(
				() => true,
				(error) => [401, 403].includes(error.status), /* it had ended already, or the account is banned */
			);
		}
		await this.forget();
		return heard;
	}

	async forget() {
		const whose = login.get()?.userId ?? "";
		this.#api.tokens.stop();
		login.clear();
		deviceToken.clear();
		displayName.set("");
		wantedRooms.clear();
		peers.clear();
		owner.clear();
		lastEmail.clear();
		snapshot.clear();
		kept.clear(whose);
		drafts.clear(whose);
		await this.#session.end();
	}

	/* The server has ended the login. What could not be sent stays for the next one. */
	async loggedOut(reason) {
		login.clear();
		snapshot.clear();
		if (this.#state.me || !this.#session.stopped) {
			await this.#session.end();
		}
		this.#left(reason);
	}

	/* Another tab has renewed the tokens, or has logged in. */
	async followLogin() {
		const now = login.get();
		if (now.userId !== this.#state.me?.id) {
			await this.#session.end();
			this.#session.start();
			return;
		}
		this.#state.setMe({ id: now.userId, name: now.nickname });
		this.#api.tokens.watch();
		await this.#session.renewed(now.accessToken);
		if (this.#session.stopped) {
			this.#session.start();
		}
	}

	/* The server did not exchange the refresh token. */
	refreshRefused(error) {
		if (error.code === "BANNED") {
			this.#session.halt("banned", error.message);
		} else {
			this.loggedOut(error.message);
		}
	}

	/* Name, address and roles, as they may have changed on another device. */
	async loadProfile() {
		const profile = await this.#api.profile();
		this.#profileIs(profile);
		return profile;
	}

	async rename(nickname) {
		this.#profileIs(await this.#api.changeProfile({ nickname }));
	}

	#profileIs({ userId, nickname }) {
		const now = login.get();
		if (now?.userId === userId && nickname !== this.#state.me?.name) {
			login.set({ ...now, nickname });
			this.#state.setMe({ id: userId, name: nickname });
		}
	}
}
