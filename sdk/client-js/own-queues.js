/* SPDX-License-Identifier: Apache-2.0 */
/* What the server tells this user alone, and where direct messages go on after a cut. */

export class OwnQueues {
	#connection;
	#hear;
	#lost;
	#cursor = "";
	#heard = false;

	/* `hear`: {messages, errors, …}, each a function(body, headers) that takes what arrives in the queue of that name.
	 * `lost()`: direct messages of the time before do not come, they are in the history. */
	constructor(connection, hear, lost) {
		this.#connection = connection;
		this.#hear = hear;
		this.#lost = lost;
	}

	/* Resolves when all are in effect, or are known not to be: a server need not have every feature. */
	subscribe(patienceMs) {
		return Promise.allSettled(
			Object.keys(this.#hear).map((name) =>
				name === "messages"
					? this.#subscribeDirect(patienceMs)
					: this.#connection.subscribe(`/user/queue/${name}`, this.#hear[name], { patienceMs }).done,
			),
		);
	}

	/* Nowhere to go on from. */
	lose() {
		this.#cursor = "";
		this.#lost();
	}

	/* Somebody else is here now. */
	forget() {
		this.#cursor = "";
		this.#heard = false;
	}

	async #subscribeDirect(patienceMs) {
		const hear = (body, headers) => {
			this.#cursor = headers.cursor ?? this.#cursor;
			if (body.code !== "HISTORY_GAP") {
				this.#hear.messages(body, headers); /* the receipt says that, too */
			}
		};
		const headers = { since: this.#cursor || "now" };
		const receipt = await this.#connection.subscribe("/user/queue/messages", hear, { patienceMs, headers }).done;
		if (this.#heard && (!this.#cursor || receipt.recovered === "false")) {
			this.lose();
		}
		this.#heard = true;
		this.#cursor ||= receipt.cursor ?? "";
	}
}
