/* SPDX-License-Identifier: Apache-2.0 */
/* How far one had scrolled in the open conversation, over a reload of this tab. */

import { $ } from "./dom.js";
import { place as kept } from "./storage.js";
import { nearBottom } from "./view-messages.js";

/* The first message that is seen whole, and how far below the top it is. */
function lookedAt(conversation) {
	const top = $("scroller").getBoundingClientRect().top;
	const rows = [...$("messages").querySelectorAll("[data-id]")];
	const row = rows.find((element) => element.getBoundingClientRect().top >= top);
	const entry = conversation.messages.find((m) => m.id === row?.dataset.id && m.seq);
	return entry ? { key: conversation.key, id: entry.id, seq: entry.seq, top: row.getBoundingClientRect().top - top } : null;
}

export class Place {
	#wanted = kept.take();
	#history;
	#render;

	/* `current()`: the conversation that is open; `render()` shows what has been loaded. */
	constructor({ history, current, render }) {
		this.#history = history;
		this.#render = render;
		addEventListener("pagehide", () => {
			const conversation = current();
			const here = conversation && (conversation.after !== null || !nearBottom()) ? lookedAt(conversation) : null;
			if (here) {
				kept.set(here);
			}
		});
	}

	/* With each showing. Returns whether one is still on the way back: what lies below has not been seen then. */
	restore(conversation) {
		const wanted = this.#wanted;
		if (!wanted || wanted.key !== conversation.key || ["none", "failed"].includes(conversation.loaded)) {
			this.#wanted = null;
			return false;
		}
		if (conversation.loaded === "yes" && !wanted.going) {
			wanted.going = true;
			this.#go(conversation, wanted);
		}
		return true;
	}

	async #go(conversation, { id, seq, top }) {
		const there = await this.#history.around(conversation, { id, seq });
		this.#render();
		this.#wanted = null;
		const row = there && $("messages").querySelector(`[data-id="${CSS.escape(id)}"]`);
		if (row) {
			const scroller = $("scroller");
			scroller.scrollTop += row.getBoundingClientRect().top - scroller.getBoundingClientRect().top - top;
		}
	}
}
