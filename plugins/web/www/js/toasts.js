/* SPDX-License-Identifier: Apache-2.0 */
/* Short notices in a corner. They go by themselves, stay while the pointer or the focus is on them, and a text that
 * is still there is not shown twice. */

import { $, h, icon } from "./dom.js";
import { t } from "./i18n.js";

const LASTS_MS = 6000;
const AT_ONCE = 4;

/* `sticky`: stays until it is dismissed. `action`: {label, run}. */
export function toast(text, { kind = "info", sticky = false, action } = {}) {
	const box = $("toasts");
	if (!text || [...box.children].some((t) => t.dataset.text === text)) {
		return;
	}
	while (box.children.length >= AT_ONCE) {
		box.firstElementChild.remove();
	}
	let timer;
	const close = () => item.remove();
	const wait = () => {
		clearTimeout(timer);
		if (!sticky) {
			timer = setTimeout(close, action ? 2 * LASTS_MS : LASTS_MS);
		}
	};
	const item = h(
		"div",
		{
			class: `toast ${kind}`,
			role: kind === "error" ? "alert" : "status",
			onmouseenter: () => clearTimeout(timer),
			onmouseleave: wait,
			onfocusin: () => clearTimeout(timer),
			onfocusout: wait,
		},
		kind === "error" ? icon("alert") : icon("chat"),
		h("span", {}, text),
		action ? h("button", { type: "button", class: "link-button", onclick: () => (close(), action.run()) }, action.label) : null,
		h("button", { type: "button", class: "icon-button small", "aria-label": t("Dismiss"), onclick: close }, icon("close")),
	);
	item.dataset.text = text;
	box.append(item);
	wait();
}
