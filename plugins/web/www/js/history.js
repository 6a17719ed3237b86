/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches what was said earlier, a page at a time, for the conversation that is before the person's eyes. */

import { ApiError } from "./errors.js";
import { isLocal } from "./timeline.js";

const PAGE = 50;
const AROUND = 25;
const CATCH_UP_AT_MOST = 20;

export class History {
	#state;
	#api;

	constructor(state, api) {
		this.#state = state;
		this.#api = api;
	}

	/* The newest page, if it is not there. */
	async load(conversation) {
		if (conversation.loaded === "loading" || conversation.loaded === "yes") {
			return;
		}
		conversation.loaded = "loading";
		this.#state.changed("messages", conversation.key);
		await this.#fetched(conversation, {}, (page) => {
			conversation.messages = conversation.messages.filter((m) => !m.kept); /* of an earlier visit: with a hole after it */
			this.#state.merge(conversation, page, true);
			conversation.loaded = "yes";
			conversation.before = page.before ?? null;
			conversation.after = null;
		});
	}

	/* Begins anew: what is shown may have holes. */
	async reload(conversation) {
		this.#state.reset(conversation);
		await this.load(conversation);
	}

	async older(conversation) {
		if (conversation.loaded !== "yes" || conversation.paging || conversation.before === null) {
			return;
		}
		await this.#page(conversation, "older", { before: conversation.before, limit: PAGE }, (page) => {
			this.#state.merge(conversation, page, false);
			conversation.before = page.messages.length > 0 ? (page.before ?? null) : null;
		});
	}

	async newer(conversation) {
		if (conversation.loaded !== "yes" || conversation.paging || conversation.after === null) {
			return;
		}
		await this.#page(conversation, "newer", { after: conversation.after, limit: PAGE }, (page) => {
			const whole = page.messages.length < PAGE;
			/* What came since then was not kept: it is on a page that has not been read yet. */
			const atTheEnd = whole && conversation.lastSeq <= page.topSeq;
			this.#state.merge(conversation, page, atTheEnd);
			conversation.after = atTheEnd ? null : (page.after ?? conversation.after);
		});
	}

	/* Shows the stretch around one message. Resolves to whether it is there to be seen. */
	async around(conversation, message) {
		if (conversation.messages.some((m) => m.id === message.id)) {
			return true;
		}
		this.#state.reset(conversation);
		conversation.loaded = "loading";
		this.#state.changed("messages", conversation.key);
		const both = async () => {
			const up = await this.#api.history(conversation, { before: message.seq + 1, limit: AROUND });
			const down = await this.#api.history(conversation, { after: message.seq, limit: AROUND });
			return { up, down };
		};
		await this.#settled(conversation, both, ({ up, down }) => {
			const atTheEnd = down.messages.length < AROUND && conversation.lastSeq <= down.topSeq;
			this.#state.merge(conversation, up, false);
			this.#state.merge(conversation, down, atTheEnd);
			conversation.loaded = "yes";
			conversation.before = up.before ?? null;
			conversation.after = atTheEnd ? null : (down.after ?? message.seq);
		});
		return conversation.messages.some((m) => m.id === message.id);
	}

	/* A row is missing that should have come: reads on from there, and begins anew where that does not help. */
	async fill(conversation, from) {
		const rows = [];
		let after = from;
		try {
			for (let i = 0; i < CATCH_UP_AT_MOST; i++) {
				const page = await this.#api.history(conversation, { after, limit: 200 });
				this.#state.merge(conversation, page, false);
				rows.push(...page.messages);
				if (page.messages.length < 200) {
					return;
				}
				after = page.after;
			}
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
		}
		await this.reload(conversation);
	}

	/* What a reply quotes and is not among the messages shown. */
	async quote(conversation, id) {
		if (conversation.quoted.has(id) || conversation.messages.some((m) => m.id === id)) {
			return;
		}
		conversation.quoted.set(id, null);
		try {
			const message = await this.#api.message(id);
			const place = conversation.kind === "room" ? message.roomId === conversation.id : !message.roomId;
			this.#state.quote(conversation, id, place ? message : null);
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
		}
	}

	async pins(conversation) {
		const messages = await this.#api.pins(conversation);
		conversation.pins = new Set(messages.map((m) => m.id));
		this.#state.changed("messages", conversation.key);
		return this.#state.entries(messages);
	}

	/* Who has read up to where, as it was before this page listened. */
	async reads(conversation) {
		try {
			const { read = [], delivered = [] } = await this.#api.reads(conversation);
			for (const { userId, seq } of delivered) {
				this.#state.setReadUpTo(conversation, userId, { seq }, "deliveredTo");
			}
			for (const { userId, seq } of read) {
				if (userId !== this.#state.me?.id) {
					this.#state.setReadUpTo(conversation, userId, { seq });
				}
			}
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
		}
	}

	async #page(conversation, way, range, merge) {
		conversation.paging = way;
		conversation.pagingFailed = "";
		this.#state.changed("messages", conversation.key);
		await this.#fetched(conversation, range, merge, way);
		if (conversation.paging === way) {
			conversation.paging = "";
			this.#state.changed("messages", conversation.key);
		}
	}

	#fetched(conversation, range, merge, way = "") {
		return this.#settled(conversation, () => this.#api.history(conversation, range), merge, way);
	}

	/* An answer counts only if the conversation was not begun anew in the meantime. */
	async #settled(conversation, fetch, merge, way = "") {
		const turn = conversation.turn;
		let pages;
		try {
			pages = await fetch();
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			if (turn === conversation.turn && this.#state.me) {
				this.#failed(conversation, error, way);
			}
			return;
		}
		if (turn === conversation.turn && this.#state.me) {
			merge(pages);
			this.#state.changed("messages", conversation.key);
		}
	}

	#failed(conversation, error, way) {
		if (way) {
			conversation.pagingFailed = way;
		} else {
			/* A server that keeps nothing has no such page, and a room that is not one's own none to show. */
			const none = [403, 404].includes(error.status);
			conversation.loaded = none ? "none" : "failed";
			if (none) {
				conversation.messages = conversation.messages.filter((m) => m.live || isLocal(m));
			}
		}
		this.#state.changed("messages", conversation.key);
	}
}
