/* SPDX-License-Identifier: Apache-2.0 */
/* What the keyboard does, and the dialog that tells of it. In lists the arrows go from row to row, and Tab goes on. */

import { $, h } from "./dom.js";
import { t } from "./i18n.js";

const SHORTCUTS = [
	[["Ctrl", "K"], t("Find a room or a person")],
	[["Ctrl", "Shift", "F"], t("Search messages")],
	[["Alt", "↑"], t("Conversation above")],
	[["Alt", "↓"], t("Conversation below")],
	[["Alt", "Shift", "↓"], t("Next unread conversation")],
	[["↑"], t("In the empty message box: edit the last message")],
	[["Shift", "Enter"], t("In the message box: a new line")],
	[["@"], t("In the message box: mention somebody")],
	[["↑", "↓"], t("In a list: from row to row; on a message's button: from message to message")],
	[["T"], t("On a message's button: its thread")],
	[["Esc"], t("Close, or stop editing")],
	[["?"], t("This list")],
];

const MAC = { Ctrl: "⌘", Alt: "⌥", Shift: "⇧" };
const onMac = /Mac|iPhone|iPad/.test(navigator.platform ?? "");

function showShortcuts() {
	const rows = SHORTCUTS.map(([keys, text]) => {
		const shown = keys.map((key) => h("kbd", {}, onMac ? (MAC[key] ?? key) : key));
		return [h("dt", {}, text), h("dd", {}, ...shown.flatMap((key) => [key, " "]))];
	});
	$("keys-list").replaceChildren(...rows.flat());
	$("keys").showModal();
}

const writing = (element) => element.matches?.("input:not([type=checkbox], [type=radio]), textarea, select");

/* Up, down, first and last in a list of buttons; `Tab` leaves it. */
function onListKey(event) {
	const all = [...event.currentTarget.querySelectorAll("button.conversation")];
	const at = all.indexOf(event.target.closest("button.conversation"));
	const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
	if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) {
		return;
	}
	event.preventDefault();
	all[Math.max(0, Math.min(to, all.length - 1))].focus();
}

/* The rows as they stand in the list of conversations. */
function step(by, unreadOnly, open) {
	const rows = [...document.querySelectorAll("#room-list .conversation, #direct-list .conversation")];
	const at = rows.findIndex((row) => row.classList.contains("active"));
	const order = unreadOnly ? [...rows.slice(at + 1), ...rows.slice(0, Math.max(0, at))] : [rows[at + by]];
	const next = order.find((row) => row && (!unreadOnly || row.classList.contains("unread")));
	if (next) {
		open(next.dataset.key);
	}
}

/* `here()`: whether somebody is in; `find()`, `search()`; `open(key)` shows a conversation. */
export function initKeys({ here, find, search, open }) {
	const pressed = (event) => {
		const control = event.ctrlKey || event.metaKey;
		const key = event.key.toLowerCase();
		if (control && key === "k") {
			return find;
		}
		if (control && event.shiftKey && key === "f") {
			return search;
		}
		if (event.altKey && !control && ["arrowup", "arrowdown"].includes(key)) {
			return () => step(key === "arrowup" ? -1 : 1, event.shiftKey, open);
		}
		return key === "?" && !control && !writing(event.target) ? showShortcuts : null;
	};
	addEventListener("keydown", (event) => {
		const work = here() && !document.querySelector("dialog[open]") && pressed(event);
		if (work) {
			event.preventDefault();
			work();
		}
	});
	for (const list of ["room-list", "direct-list", "people-list"]) {
		$(list).addEventListener("keydown", onListKey);
	}
	$("open-keys").addEventListener("click", () => {
		$("settings").close();
		showShortcuts();
	});
}
