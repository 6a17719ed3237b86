/* SPDX-License-Identifier: Apache-2.0 */
/* The dialogs that list messages: what a search finds, and what is pinned. */

import { $, h, reconcile } from "./dom.js";
import { ApiError, explain } from "./errors.js";
import { fullTimeOf, shortTimeOf } from "./format.js";
import { t } from "./i18n.js";
import { snippet } from "./view-row.js";

const TYPING_PAUSE_MS = 250;

/* `items`: [{key, place, name, text, at}]; `more`: buttons beside one. */
function showResults(list, items, open, more = () => null) {
	reconcile(list, items, (item) =>
		h(
			"li",
			{ class: "result-row" },
			h(
				"button",
				{ type: "button", class: "result", "data-id": item.key, "data-act": "open", onclick: () => open(item.key) },
				h(
					"span",
					{ class: "result-head" },
					h("strong", {}, item.name),
					item.place ? h("span", { class: "muted" }, item.place) : null,
					h("time", { class: "muted", title: fullTimeOf(item.at) }, shortTimeOf(item.at)),
				),
				h("span", { class: "result-text" }, item.text),
			),
			more(item),
		),
	);
}

export class Search {
	#state;
	#api;
	#jump;
	#found = [];
	#before;
	#turn = 0;
	#timer = 0;

	/* `jump(conversation, message)` shows a message where it was said. */
	constructor(state, api, jump) {
		this.#state = state;
		this.#api = api;
		this.#jump = jump;
		$("search-input").addEventListener("input", () => {
			clearTimeout(this.#timer);
			this.#timer = setTimeout(() => this.#begin(), TYPING_PAUSE_MS);
		});
		for (const id of ["search-here", "search-everywhere"]) {
			$(id).addEventListener("change", () => this.#begin());
		}
		$("search-form").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#begin();
		});
		$("search-more").addEventListener("click", () => this.#ask(this.#before));
		$("search-list").addEventListener("keydown", onArrow);
		$("search-input").addEventListener("keydown", (event) => {
			if (event.key === "ArrowDown") {
				event.preventDefault();
				$("search-list").querySelector("button")?.focus();
			} else if (event.key === "Escape") {
				event.preventDefault();
				$("search").close();
			}
		});
	}

	open() {
		const conversation = this.#conversation();
		$("search-place").textContent = conversation ? this.#nameOf(conversation) : t("Here");
		$("search-here").disabled = !conversation;
		if (!conversation) {
			$("search-everywhere").checked = true;
		}
		$("search").showModal();
		$("search-input").select();
		this.#begin();
	}

	#conversation() {
		return this.#state.conversations.get(this.#state.active);
	}

	#begin() {
		clearTimeout(this.#timer);
		this.#found = [];
		this.#turn++;
		if ($("search-input").value.trim() === "") {
			this.#show("");
		} else {
			this.#ask();
		}
	}

	async #ask(before) {
		const turn = ++this.#turn;
		const words = $("search-input").value.trim();
		const place = $("search-here").checked ? this.#conversation() : null;
		$("search-text").textContent = t("Searching…");
		try {
			const page = await this.#api.search(words, place, before);
			if (turn === this.#turn) {
				this.#found.push(...this.#state.entries(page.messages).map((entry, i) => ({ entry, message: page.messages[i] })));
				this.#before = page.before;
				this.#show(this.#found.length === 0 ? t("Nothing found.") : "");
			}
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			if (turn === this.#turn) {
				this.#show(explain(error));
			}
		}
	}

	#nameOf(place) {
		const title = this.#state.titleOf(place);
		return place.kind === "room" ? t("In {title}", { title }) : t("With {name}", { name: title });
	}

	#placeOf(message) {
		if (message.roomId) {
			return { kind: "room", id: message.roomId };
		}
		const sender = message.senderId ?? message.sender;
		return { kind: "user", id: sender === this.#state.me.id ? (message.receiverId ?? message.receiver) : sender };
	}

	#counted(n) {
		return this.#before === undefined ? t("{n} found", { n }) : t("{n} newest found", { n });
	}

	#show(text) {
		const items = this.#found.map(({ entry, message }) => ({
			key: entry.id,
			name: entry.mine ? t("You") : entry.senderName,
			place: $("search-everywhere").checked ? this.#nameOf(this.#placeOf(message)) : "",
			text: snippet(entry),
			at: entry.at,
		}));
		$("search-text").textContent = text || (items.length > 0 ? this.#counted(items.length) : "");
		$("search-more").hidden = items.length === 0 || this.#before === undefined;
		showResults($("search-list"), items, (id) => {
			const { entry, message } = this.#found.find((f) => f.entry.id === id);
			$("search").close();
			const { kind, id: whom } = this.#placeOf(message);
			this.#jump(this.#state.conversation(kind, whom), entry);
		});
	}
}

function onArrow(event) {
	const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
	if (step) {
		event.preventDefault();
		const all = [...event.currentTarget.querySelectorAll("[data-act=open]")];
		const next = all.indexOf(document.activeElement) + step;
		(next < 0 ? $("search-input") : all[next])?.focus();
	}
}

export class Pins {
	#history;
	#jump;
	#actions;
	#mayPin;

	/* `mayPin(conversation)`: whether unpinning is offered. */
	constructor({ history, jump, actions, mayPin }) {
		this.#history = history;
		this.#jump = jump;
		this.#actions = actions;
		this.#mayPin = mayPin;
		$("pins-list").addEventListener("keydown", onArrow);
	}

	async open(conversation) {
		$("pins-text").textContent = t("Loading…");
		showResults($("pins-list"), [], () => {});
		$("pins").showModal();
		try {
			this.#show(conversation, await this.#history.pins(conversation));
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			$("pins-text").textContent = explain(error);
		}
	}

	#show(conversation, entries) {
		$("pins-text").textContent = entries.length === 0 ? t("Nothing is pinned.") : "";
		const items = entries.map((e) => ({ key: e.id, name: e.mine ? t("You") : e.senderName, text: snippet(e), at: e.at }));
		const unpin = (item) =>
			h("button", {
				type: "button",
				class: "button quiet small",
				"data-act": "unpin",
				"aria-label": t("Unpin “{text}”", { text: item.text }),
				onclick: async () => {
					if (await this.#actions.pin(item.key, true)) {
						this.#show(conversation, entries.filter((e) => e.id !== item.key));
					}
				},
			}, t("Unpin"));
		const open = (id) => {
			$("pins").close();
			this.#jump(conversation, entries.find((e) => e.id === id));
		};
		showResults($("pins-list"), items, open, this.#mayPin(conversation) ? unpin : undefined);
	}
}
