/* SPDX-License-Identifier: Apache-2.0 */
/* Of whom the server tells how they are and become; it forgets it with the connection, so that it is asked again. */

export class Watching {
	#connection;
	#wanted = new Set();
	#told = new Set();
	#turn = 0;
	/* This server has no such feature, or not for us: of this connection. */
	refused = false;

	constructor(connection) {
		this.#connection = connection;
	}

	get size() {
		return this.#wanted.size;
	}

	wants(id) {
		return this.#wanted.has(id);
	}

	/* Whether the server tells of this person now. */
	has(id) {
		return this.#told.has(id);
	}

	/* Resolves when the server tells of them, or when there is a connection to be told; rejects with a Refusal. */
	add(ids) {
		ids.forEach((id) => this.#wanted.add(id));
		return this.#watch(ids);
	}

	async remove(ids) {
		ids.forEach((id) => (this.#wanted.delete(id), this.#told.delete(id)));
		return this.#connection.online ? this.#connection.ask("/app/presence.unwatch", { users: ids }) : undefined;
	}

	clear() {
		this.#wanted.clear();
	}

	/* A connection is there. */
	up() {
		return this.#watch([...this.#wanted]);
	}

	down() {
		this.#turn++;
		this.#told.clear();
		this.refused = false;
	}

	async #watch(users) {
		if (users.length === 0 || !this.#connection.online) {
			return;
		}
		const turn = this.#turn;
		try {
			await this.#connection.ask("/app/presence.watch", { users });
			if (turn === this.#turn) {
				users.forEach((id) => this.#told.add(id));
			}
		} catch (error) {
			if (turn === this.#turn) {
				this.refused = true;
			}
			throw error;
		}
	}
}
