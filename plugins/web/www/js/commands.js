/* SPDX-License-Identifier: Apache-2.0 */
/* Commands ("/me"): a list to complete from while one is typed. Without the plugin "slash" the server has none, and
 * nothing is shown. */

import { h } from "./dom.js";
import { t } from "./i18n.js";

const SHOWN = 8;
const BEGUN = /^\/([a-z0-9-]*)$/;

export class Commands {
	#input;
	#ask;
	#all = null;
	#at = 0;
	#box;

	/* `ask()` resolves to [{name, help}]; `id`: of the list. */
	constructor(input, ask, id = "commands") {
		this.#box = h("ul", { id, class: "commands", role: "listbox", "aria-label": t("Commands"), hidden: true });
		this.#input = input;
		this.#ask = ask;
		input.setAttribute("aria-autocomplete", "list");
		input.setAttribute("aria-controls", [input.getAttribute("aria-controls"), id].filter(Boolean).join(" "));
		input.closest("form").before(this.#box);
		input.addEventListener("input", () => this.#show());
		input.addEventListener("blur", () => this.#hide());
	}

	async #show() {
		const begun = BEGUN.exec(this.#input.value);
		if (!begun) {
			this.#hide();
			return;
		}
		this.#all ??= this.#ask().catch(() => []);
		const all = await this.#all;
		const fits = all.filter(({ name }) => name.startsWith(begun[1])).slice(0, SHOWN);
		if (fits.length === 0 || BEGUN.exec(this.#input.value)?.[1] !== begun[1]) {
			this.#hide();
			return;
		}
		this.#box.replaceChildren(...fits.map((command, i) => this.#option(command, i)));
		this.#box.hidden = false;
		this.#mark(0);
	}

	#nameOf(i) {
		return `${this.#box.id.replace(/s$/, "")}-${i}`;
	}

	#option({ name, help }, i) {
		const take = (event) => {
			event.preventDefault(); /* the focus stays where it is */
			this.#take(name);
		};
		return h("li", { id: this.#nameOf(i), role: "option", "data-name": name, onpointerdown: take }, h("b", {}, `/${name}`), ` ${help}`);
	}

	#mark(at) {
		const options = [...this.#box.children];
		this.#at = (at + options.length) % options.length;
		options.forEach((option, i) => option.setAttribute("aria-selected", String(i === this.#at)));
		this.#input.setAttribute("aria-activedescendant", this.#nameOf(this.#at));
	}

	#hide() {
		if (!this.#box.hidden) {
			this.#box.hidden = true;
			this.#input.removeAttribute("aria-activedescendant");
		}
	}

	#take(name) {
		this.#input.value = `/${name} `;
		this.#hide();
		this.#input.dispatchEvent(new Event("input", { bubbles: true }));
	}

	/* true: the key was for the list. Enter sends what is a command already. */
	onKey(event) {
		const chosen = this.#box.hidden ? undefined : this.#box.children[this.#at]?.dataset.name;
		if (!chosen || event.isComposing) {
			return false;
		}
		const whole = this.#input.value === `/${chosen}`;
		if (event.key === "ArrowDown" || event.key === "ArrowUp") {
			this.#mark(this.#at + (event.key === "ArrowDown" ? 1 : -1));
		} else if (event.key === "Tab" || (event.key === "Enter" && !event.shiftKey && !whole)) {
			this.#take(chosen);
		} else if (event.key === "Escape") {
			this.#hide();
		} else {
			return false;
		}
		event.preventDefault();
		return true;
	}
}
