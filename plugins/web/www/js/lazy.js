/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the page that few need at once are fetched when they are first asked for. */

import { t } from "./i18n.js";
import { toast } from "./toasts.js";

/* `load()` imports the part's module, `make(module)` makes the part, once. Returns a function that resolves to it; to null,
 * having said so, when the module cannot be had. */
export function part(load, make) {
	let made = null;
	return async () => {
		if (made) {
			return made;
		}
		let module;
		try {
			module = await load();
		} catch {
			toast(t("This part of the page could not be loaded. Try again once the server can be reached."), { kind: "error" });
			return null;
		}
		made ??= make(module);
		return made;
	};
}

/* A handler that does `work(part, event)`, unless a dialog was opened meanwhile: who presses twice wants one. */
export const using = (get, work) => async (event) => {
	const it = await get();
	if (it && !document.querySelector("dialog[open]")) {
		work(it, event);
	}
};
