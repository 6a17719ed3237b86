/* SPDX-License-Identifier: Apache-2.0 */
/* Who is typing: told by oneself as seldom as the server passes it on, and heard only where one looks. A place is
 * whatever has the kind ("room" or "user") and the id of a conversation. */

const AGAIN_MS = 2500;

const keyOf = ({ kind, id }) => `${kind}:${id}`;

/* Whom a SEND is to. */
export const targetOf = ({ kind, id }) => (kind === "room" ? { roomId: id } : { to: id });

export class Typing {
	#connection;
	#hear;
	#told = new Map();
	#watched = new Map();

	/* `hear(place, body)` takes what arrives. */
	constructor(connection, hear) {
		this.#connection = connection;
		this.#hear = hear;
	}

	/* May be called at every keystroke. */
	say(place, on) {
		const last = this.#told.get(keyOf(place)) ?? 0;
		if (on ? Date.now() - last < AGAIN_MS : last === 0) {
			return;
		}
		const sent = this.#connection.send("/app/chat.typing", { ...targetOf(place), typing: on });
		if (on && sent) {
			this.#told.set(keyOf(place), Date.now());
		} else {
			this.said(place);
		}
	}

	/* A message is on its way, which ends it. */
	said(place) {
		this.#told.delete(keyOf(place));
	}

	/* From now on, and after each reconnect. Resolves when it is so, or when there is a connection to be told. */
	async watch(place) {
		const key = keyOf(place);
		const known = this.#watched.get(key) ?? { place, made: null };
		this.#watched.set(key, known);
		if (known.made || !this.#connection.online) {
			return known.made?.done;
		}
		const room = place.kind === "room";
		const destination = room ? `/topic/room/${place.id}` : "/user/queue/typing";
		known.made = this.#connection.subscribe(destination, (body) => this.#hear(place, body), { headers: { only: room ? "typing" : place.id } });
		try {
			return await known.made.done;
		} catch (error) {
			known.made = null; /* asked for again with the next connection */
			throw error;
		}
	}

	unwatch(place) {
		this.#watched.get(keyOf(place))?.made?.stop();
		this.#watched.delete(keyOf(place));
	}

	/* A connection is there. */
	up() {
		return Promise.allSettled([...this.#watched.values()].map(({ place }) => this.watch(place)));
	}

	down() {
		this.#told.clear();
		for (const known of this.#watched.values()) {
			known.made = null;
		}
	}
}
