/* SPDX-License-Identifier: Apache-2.0 */
/* Naming people in a message: "@" offers those who are there, and what was chosen goes along as their ids. */

import { h, reconcile } from "./dom.js";
import { plural } from "./i18n.js";
import { avatar } from "./view-lists.js";

const SHOWN = 6;
const BEGUN = /(?:^|\s)@([^\s@]{0,40})$/;

/* Whom one can mention: [{id, name}]. */
function peopleOf(state, conversation) {
	const ids = conversation.kind === "user" ? [conversation.id] : (state.members.get(conversation.id) ?? []).map((m) => m.id);
	return ids.filter((id) => id !== state.me?.id).map((id) => ({ id, name: state.nameOf(id) }));
}

/* The ids of those whose names are in the text. */
export function mentionsIn(state, conversation, text) {
	const named = peopleOf(state, conversation).filter(({ name }) => splitAtNames(text, [name]).length > 1);
	return named.map(({ id }) => id).slice(0, 50);
}

/* Splits a text at "@name": strings, and {name} for each of the names. The longest fits first. */
export function splitAtNames(text, names) {
	const escaped = [...names].sort((a, b) => b.length - a.length).map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
	if (escaped.length === 0) {
		return [text];
	}
	const parts = text.split(new RegExp(`@(${escaped.join("|")})(?![\\p{L}\\p{N}_-])`, "u"));
	return parts.map((part, i) => (i % 2 ? { name: part } : part)).filter((part) => part !== "");
}

export class MentionList {
	#state;
	#input;
	#list;
	#count;
	#current;
	#found = [];
	#chosen = 0;

	/* `part(name)`: an element of the box; `current()`: the conversation that is written in; `changed()`: a name was put
	 * into the box. */
	constructor(state, part, current, changed) {
		const input = part("composer-input");
		this.#state = state;
		this.#input = input;
		this.#list = part("mention-list");
		this.#count = part("mention-count");
		this.#current = current;
		this.changed = changed;
		input.addEventListener("input", () => this.#look());
		input.addEventListener("blur", () => this.close());
	}

	get open() {
		return this.#found.length > 0;
	}

	close() {
		this.#found = [];
		this.#show();
	}

	#begun() {
		return this.#input.value.slice(0, this.#input.selectionStart).match(BEGUN);
	}

	#look() {
		const conversation = this.#current();
		const begun = conversation && this.#begun();
		const wanted = begun?.[1].toLowerCase();
		const fits = ({ id, name }) => name.toLowerCase().includes(wanted) || id.toLowerCase().startsWith(wanted);
		const first = (p) => (p.name.toLowerCase().startsWith(wanted) ? 0 : 1);
		this.#found = begun ? peopleOf(this.#state, conversation).filter(fits).sort((a, b) => first(a) - first(b)).slice(0, SHOWN) : [];
		this.#chosen = 0;
		this.#show();
	}

	#show() {
		const list = this.#list;
		list.hidden = !this.open;
		const items = this.#found.map((p, i) => ({ key: p.id, ...p, chosen: i === this.#chosen }));
		reconcile(list, items, (item) =>
			h(
				"li",
				{
					id: `${list.id}-${item.key}`,
					role: "option",
					class: `mention-option${item.chosen ? " active" : ""}`,
					"aria-selected": String(item.chosen),
					onmousedown: (event) => {
						event.preventDefault(); /* the box keeps the focus */
						this.#pick(item);
					},
				},
				avatar(h("span", { "aria-hidden": "true" }), item.id, item.name),
				h("span", {}, item.name),
			),
		);
		const input = this.#input;
		const chosen = this.#found[this.#chosen];
		if (chosen) {
			input.setAttribute("aria-activedescendant", `${list.id}-${chosen.id}`);
			this.#count.textContent = plural(this.#found.length, "{n} person to mention", "{n} people to mention");
		} else {
			input.removeAttribute("aria-activedescendant");
			this.#count.textContent = "";
		}
	}

	#pick({ name }) {
		const input = this.#input;
		const end = input.selectionStart;
		const start = end - this.#begun()[1].length;
		input.setRangeText(`${name} `, start, end, "end");
		this.close();
		this.changed();
	}

	/* Returns whether the key was for the list. */
	onKey(event) {
		if (!this.open || event.isComposing) {
			return false;
		}
		const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
		if (step) {
			this.#chosen = (this.#chosen + step + this.#found.length) % this.#found.length;
			this.#show();
		} else if (event.key === "Enter" || event.key === "Tab") {
			this.#pick(this.#found[this.#chosen]);
		} else if (event.key === "Escape") {
			this.close();
		} else {
			return false;
		}
		event.preventDefault();
		return true;
	}
}
