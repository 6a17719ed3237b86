/* SPDX-License-Identifier: Apache-2.0 */
/* A menu of things to do, as a modal dialog: it takes the focus, closes with Escape, and gives the focus back. Beside
 * what it belongs to on a wide screen, at the bottom on a narrow one. */

import { $, h, icon } from "./dom.js";
import { t } from "./i18n.js";

const GAP_PX = 6;

/* `items`: [{label, icon, danger, run}]; `palette`: {choices: [emoji], chosen: [emoji], pick(emoji)}. */
export function openMenu(anchor, title, items, palette) {
	const dialog = $("menu");
	const done = (run) => () => {
		dialog.close();
		run();
	};
	const rows = items.filter(Boolean).map((item) =>
		h("li", {}, h("button", { type: "button", class: `menu-item${item.danger ? " danger" : ""}`, onclick: done(item.run) }, icon(item.icon), item.label)),
	);
	const emoji = palette?.choices.map((choice) =>
		h(
			"button",
			{
				type: "button",
				class: "palette-item",
				"aria-pressed": String(palette.chosen.includes(choice)),
				"aria-label": t("React with {emoji}", { emoji: choice }),
				onclick: done(() => palette.pick(choice)),
			},
			choice,
		),
	);
	dialog.setAttribute("aria-label", title);
	dialog.replaceChildren(emoji ? h("div", { class: "palette" }, ...emoji) : "", h("ul", { class: "menu-list" }, ...rows));
	dialog.onkeydown = onKey;
	dialog.showModal();
	place(dialog, anchor);
}

function onKey(event) {
	const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
	if (step) {
		event.preventDefault();
		const all = [...event.currentTarget.querySelectorAll("button")];
		const at = all.indexOf(document.activeElement);
		all[(at + step + all.length) % all.length]?.focus();
	}
}

/* All of it on the screen, also when what it belongs to has moved out of it. The narrow screen's place is the style sheet's
 * business. */
function place(dialog, anchor) {
	const from = anchor.getBoundingClientRect();
	const { width, height } = dialog.getBoundingClientRect();
	const left = Math.max(GAP_PX, Math.min(from.left, innerWidth - width - GAP_PX));
	const below = from.bottom + GAP_PX;
	const top = Math.max(GAP_PX, Math.min(below + height < innerHeight ? below : from.top - height - GAP_PX, innerHeight - height - GAP_PX));
	dialog.style.setProperty("--menu-left", `${left}px`);
	dialog.style.setProperty("--menu-top", `${top}px`);
}
