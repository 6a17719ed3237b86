/* SPDX-License-Identifier: Apache-2.0 */
/* One connection after the other: which one is the present one, with which token it was begun, and what its end means. */

/* Close codes; the first may be mended with another token, once. */
const LOGGED_OUT = 4401;
const ENDS = { [LOGGED_OUT]: "LOGGED_OUT", 4403: "BANNED", 4409: "TAKEN_OVER" };
const SLOW_DOWN = 4429;
const SLOW_DOWN_MS = 20000;
const REFUSED_TOKENS = ["TOKEN_EXPIRED", "INVALID_TOKEN", "UNAUTHORIZED"];

export class Lives {
	#connection;
	#count = 0;
	#doubtful = false;
	/* The access token that the connection was begun with; "": a guest's, whom the device token names. */
	token = "";
	/* One that the server does not take any more: the next connection needs another. */
	refused = undefined;

	constructor(connection) {
		this.#connection = connection;
	}

	/* It is up. Returns isPresent(): what was begun under an earlier connection must not go on; and whether the one before
	 * ended before it was ready(): the server may not have liked where this client wanted to go on. */
	up() {
		const mine = ++this.#count;
		const doubtful = this.#doubtful;
		this.#doubtful = true;
		return { isPresent: () => mine === this.#count, doubtful };
	}

	/* All that is heard is subscribed. */
	ready() {
		this.#doubtful = false;
		this.refused = undefined;
	}

	down() {
		this.#count++;
	}

	/* Somebody else is here now. */
	forget() {
		this.#doubtful = false;
		this.refused = undefined;
	}

	/* What a close means: {end: "LOGGED_OUT" | "BANNED" | "TAKEN_OVER"}, for good; {waitMs}; or {}. */
	closed(code) {
		if (code === SLOW_DOWN) {
			return { waitMs: SLOW_DOWN_MS };
		}
		if (code === LOGGED_OUT && (!this.token || this.refused === undefined)) {
			this.refused = this.token || undefined;
			return {};
		}
		return ENDS[code] ? { end: ENDS[code] } : {};
	}

	/* The same of an ERROR that answered CONNECT, by its code; null: of no consequence but for who reads its text. */
	rejected(code) {
		if (code === "BANNED") {
			return { end: code };
		}
		return REFUSED_TOKENS.includes(code) && this.token ? this.closed(LOGGED_OUT) : null;
	}

	/* The open connection goes on with this token; one that is not up begins with it. */
	async renewed(token) {
		if (this.#connection.online && token !== this.token) {
			this.token = token;
			await this.#connection.ask("/app/auth.refresh", { token });
		}
	}
}
