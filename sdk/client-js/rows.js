/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one conversation in their order, each once: a row that comes before an earlier one waits for it a moment,
 * then what is missing is read from the history. */

const PATIENCE_MS = 500;
const PAGE = 200;
const PAGES_AT_MOST = 20;

export class Rows {
	#read;
	#tell;
	#epoch = "";
	#last = 0;
	#known = false;
	#early = new Map();
	#timer = 0;
	#turn = 0;

	/* `read({after, limit})` resolves to a page of the history. `tell`: row(body, headers), gap({firstSeq, topSeq,
	 * epoch}): rows are missing that will not come, so that the history has to be read anew. */
	constructor(read, tell) {
		this.#read = read;
		this.#tell = tell;
	}

	get lastSeq() {
		return this.#last;
	}

	get epoch() {
		return this.#epoch;
	}

	/* So far was the conversation when it was subscribed to; what came meanwhile counts more. */
	anchor(seq, epoch) {
		if (!this.#known) {
			this.begin(seq, epoch);
		}
	}

	/* Goes on after `seq`. */
	begin(seq, epoch = "") {
		this.#turn++;
		clearTimeout(this.#timer);
		this.#timer = 0;
		this.#early.clear();
		this.#last = seq;
		this.#known = true;
		this.#epoch = epoch;
	}

	/* The next row is where it begins. */
	forget() {
		this.begin(0);
		this.#known = false;
	}

	/* Where nothing is known of the conversation, its first row is where it begins. */
	take(body, headers = {}) {
		const seq = Number(body.seq ?? headers.seq) || 0;
		const epoch = body.epoch ?? headers.epoch ?? this.#epoch;
		if (seq === 0) {
			this.#tell.row(body, headers);
			return;
		}
		if (!this.#known) {
			this.begin(seq - 1, epoch);
		}
		if (this.#epoch && epoch !== this.#epoch) {
			this.lost({ firstSeq: 1, topSeq: seq - 1, epoch }); /* the store was replaced by another */
		}
		this.#epoch = epoch;
		if (seq <= this.#last) {
			return;
		}
		this.#early.set(seq, [body, headers]);
		this.#hand();
	}

	/* Rows up to `topSeq` do not come. */
	lost({ firstSeq, topSeq, epoch }) {
		this.begin(topSeq, epoch);
		this.#tell.gap({ firstSeq, topSeq, epoch });
	}

	/* What came early stays until what is before it has come. */
	#hand() {
		for (let next = this.#early.get(this.#last + 1); next; next = this.#early.get(this.#last + 1)) {
			this.#last++;
			this.#early.delete(this.#last);
			this.#tell.row(...next);
		}
		if (this.#early.size === 0) {
			clearTimeout(this.#timer);
			this.#timer = 0;
		} else {
			this.#timer ||= setTimeout(() => this.#fill(this.#turn), PATIENCE_MS);
		}
	}

	async #fill(turn) {
		const top = Math.max(...this.#early.keys());
		let after = this.#last;
		try {
			for (let i = 0; after < top && i < PAGES_AT_MOST; i++) {
				const page = await this.#read({ after, limit: PAGE });
				if (turn !== this.#turn) {
					return;
				}
				for (const row of page.messages) {
					if (row.seq > this.#last && !this.#early.has(row.seq)) {
						this.#early.set(row.seq, [row, {}]);
					}
				}
				after = page.messages.length < PAGE ? top : page.messages[page.messages.length - 1].seq;
			}
		} catch {
			/* A server that keeps nothing, or one out of reach: what is here is handed out. */
		}
		if (turn === this.#turn) {
			this.#timer = 0;
			this.#leap();
		}
	}

	/* Rows that the history does not show one by one (edits, reactions): what was changed has to be read anew. */
	#leap() {
		this.#hand();
		clearTimeout(this.#timer);
		this.#timer = 0;
		for (const seq of [...this.#early.keys()].sort((a, b) => a - b)) {
			if (seq > this.#last + 1) {
				this.#tell.gap({ firstSeq: this.#last + 1, topSeq: seq - 1, epoch: this.#epoch });
			}
			this.#last = seq;
			const [body, headers] = this.#early.get(seq);
			this.#early.delete(seq);
			this.#tell.row(body, headers);
		}
	}
}
