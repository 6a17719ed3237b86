/* SPDX-License-Identifier: Apache-2.0 */
/* The finder, the new-room form, and the question before something is thrown away. */

import { $, h, reconcile } from "./dom.js";
import { ApiError, explain } from "./errors.js";
import { onSubmit, resetForm } from "./forms.js";
import { t } from "./i18n.js";
import { roomKey, userKey } from "./state.js";
import { avatar } from "./view-lists.js";

const SHOWN = 12;
const SEARCH_FROM = 2;
const SEARCH_PAUSE_MS = 250;
const USER_ID = /^[A-Za-z0-9_-]{1,64}$/;

export function initDialogs() {
	giveFocusBack();
	for (const dialog of document.querySelectorAll("dialog")) {
		dialog.addEventListener("click", (event) => {
			if (event.target === dialog || event.target.closest("[data-close]")) {
				dialog.close();
			}
		});
	}
}

/* A row may be drawn anew while a dialog is open, so the browser has nothing to give the focus back to: its successor gets
 * it. The focus may then still be in the dialog that is closed: it is taken from there only when the page is drawn. */
function giveFocusBack() {
	let last = null;
	const note = ({ target }) => {
		if (!target.closest("dialog")) {
			const row = target.closest("[data-row]");
			last = row && { list: row.parentElement, row: row.dataset.row, act: target.dataset.act };
		}
	};
	document.addEventListener("pointerdown", note); /* also where nothing takes the focus */
	document.addEventListener("focusin", note);
	document.addEventListener(
		"close",
		() => {
			const nowhere = document.activeElement === document.body || document.activeElement?.closest("dialog:not([open])");
			if (last?.act && nowhere) {
				last.list.querySelector(`[data-row="${last.row}"] [data-act="${last.act}"]`)?.focus({ preventScroll: true });
			}
		},
		true,
	);
}

/* Resolves to true when the person agrees. `danger`: what happens cannot be taken back. */
export function confirm(title, text, yes, danger = false) {
	const dialog = $("confirm");
	$("confirm-title").textContent = title;
	$("confirm-text").textContent = text;
	$("confirm-yes").textContent = yes;
	$("confirm-yes").classList.toggle("danger", danger);
	return new Promise((resolve) => {
		let agreed = false;
		const agree = () => {
			agreed = true;
			dialog.close();
		};
		$("confirm-yes").addEventListener("click", agree);
		dialog.addEventListener(
			"close",
			() => {
				$("confirm-yes").removeEventListener("click", agree);
				resolve(agreed);
			},
			{ once: true },
		);
		dialog.showModal();
	});
}

export class Finder {
	#state;
	#api;
	#onPick;
	#chosen = 0;
	#peopleOnly = false;
	#timer = 0;
	/* What the server found, and for what: it is asked only now and then. */
	#found = { text: "", people: [] };

	constructor(state, api, onPick) {
		this.#api = api;
		this.#state = state;
		this.#onPick = onPick;
		const input = $("finder-input");
		input.addEventListener("input", () => {
			this.#chosen = 0;
			this.#show();
			clearTimeout(this.#timer);
			this.#timer = setTimeout(() => this.#ask(input.value.trim()), SEARCH_PAUSE_MS);
		});
		input.addEventListener("keydown", (event) => this.#onKey(event));
	}

	open(peopleOnly) {
		this.#peopleOnly = peopleOnly;
		this.#chosen = 0;
		$("finder-title").textContent = peopleOnly ? t("New message") : t("Find a room or a person");
		$("finder-input").placeholder = peopleOnly ? t("Name or id of a person") : t("Name of a room, of a person, or an id");
		$("finder-input").value = "";
		this.#show();
		$("finder").showModal();
		$("finder-input").focus();
	}

	/* People of this server whose name or id begins so, also those never met. */
	async #ask(text) {
		if ([...text].length < SEARCH_FROM) {
			return;
		}
		try {
			const people = await this.#api.findUsers(text);
			if ($("finder").open && $("finder-input").value.trim() === text) {
				this.#found = { text: text.toLowerCase(), people: people.map((p) => ({ id: p.userId, name: p.nickname || p.userId })) };
				this.#show();
			}
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			/* those who are known here are shown all the same */
		}
	}

	#matches() {
		const text = $("finder-input").value.trim();
		const wanted = text.toLowerCase();
		const hit = (thing) => thing.name.toLowerCase().includes(wanted) || thing.id.toLowerCase().includes(wanted);
		const rooms = this.#peopleOnly ? [] : [...this.#state.rooms.values()].filter(hit);
		const people = [...this.#state.people.values()].filter(hit);
		if (wanted.startsWith(this.#found.text) && this.#found.text) {
			people.push(...this.#found.people.filter((p) => hit(p) && p.id !== this.#state.me?.id && !this.#state.people.has(p.id)));
		}
		people.sort((a, b) => Number(Boolean(b.online)) - Number(Boolean(a.online)) || a.name.localeCompare(b.name));
		const found = [
			...rooms.map((r) => ({ key: roomKey(r.id), id: r.id, name: r.name, note: r.joined ? t("room") : t("room to join"), room: true })),
			...people.map((p) => ({ key: userKey(p.id), id: p.id, name: p.name, note: p.online ? t("online") : p.id })),
		].slice(0, SHOWN);
		if (USER_ID.test(text) && !found.some((f) => f.id === text && !f.room)) {
			found.push({ key: userKey(text), id: text, name: text, note: t("person with exactly this id") });
		}
		return found;
	}

	#show() {
		const items = this.#matches();
		this.#chosen = Math.max(0, Math.min(this.#chosen, items.length - 1));
		const rows = items.map((item, i) => ({ ...item, chosen: i === this.#chosen }));
		reconcile($("finder-list"), rows, (item) =>
			h(
				"li",
				{},
				h(
					"button",
					{ type: "button", class: `conversation${item.chosen ? " active" : ""}`, "data-key": item.key, onclick: () => this.#pick(item.key) },
					avatar(h("span", { "aria-hidden": "true" }), item.id, item.name, item.room),
					h("span", { class: "conversation-name" }, item.name),
					h("span", { class: "tag" }, item.note),
				),
			),
		);
		return items;
	}

	#onKey(event) {
		const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
		if (step) {
			event.preventDefault();
			this.#chosen += step;
			this.#show();
		} else if (event.key === "Enter" && !event.isComposing) {
			event.preventDefault();
			const items = this.#show();
			if (items[this.#chosen]) {
				this.#pick(items[this.#chosen].key);
			}
		} else if (event.key === "Escape") {
			event.preventDefault(); /* a search field would take the first one to empty itself */
			$("finder").close();
		}
	}

	#pick(key) {
		const person = this.#found.people.find((p) => userKey(p.id) === key);
		if (person) {
			this.#state.person(person.id, { name: person.name });
		}
		$("finder").close();
		this.#onPick(key);
	}
}

/* `rename(name)` changes the name; `current()` is the one now. */
export function initNameDialog(current, rename) {
	$("me-name").addEventListener("click", () => {
		resetForm($("name-form"));
		$("name-input").value = current();
		$("name-dialog").showModal();
		$("name-input").select();
	});
	onSubmit($("name-form"), async ({ nickname }) => {
		await rename(nickname);
		$("name-dialog").close();
	});
}

/* `create({name, isPublic, about})` makes the room; its refusal is shown in the form. `open(room)` shows it, once the dialog
 * has given the focus back. */
export function initRoomDialog(create, open) {
	const fault = $("room-error");
	$("new-room").addEventListener("click", () => {
		$("room-form").reset();
		fault.hidden = true;
		$("room-dialog").showModal();
	});
	$("room-form").addEventListener("submit", async (event) => {
		event.preventDefault();
		fault.hidden = true;
		try {
			const room = await create({
				name: $("room-name").value.trim(),
				isPublic: $("room-public").checked,
				about: $("room-about").value.trim(),
			});
			$("room-dialog").close();
			open(room);
		} catch (error) {
			const guests = t("This server does not let guests make rooms. You are welcome in every open one.");
			fault.textContent = error.status === 403 ? guests : explain(error);
			fault.hidden = false;
		}
	});
}
