/* SPDX-License-Identifier: Apache-2.0 */
/* Forms that ask the server: what it finds fault with is shown at its field, how long to wait is counted down. */

import { h } from "./dom.js";
import { ApiError, explain } from "./errors.js";

const BUSY = {
	429: "Too many attempts.",
	503: "The server is busy.",
};

/* What a form's refusal means; the server's own words where they say more. */
export function reasonOf(error) {
	if (BUSY[error.status]) {
		return BUSY[error.status];
	}
	return error.status > 0 && error.message ? error.message : explain(error);
}

function clear(form) {
	for (const fault of form.querySelectorAll(".field-fault")) {
		fault.remove();
	}
	for (const input of form.querySelectorAll("[aria-invalid]")) {
		input.removeAttribute("aria-invalid");
		input.removeAttribute("aria-describedby");
	}
	form.querySelector(".form-error").hidden = true;
}

function atField(form, { field, message }) {
	const input = form.querySelector(`[name="${CSS.escape(field ?? "")}"]`);
	if (!input || !message) {
		return false;
	}
	const id = `${input.id}-fault`;
	const text = message[0].toUpperCase() + message.slice(1);
	input.after(h("p", { class: "field-fault", id }, text.endsWith(".") ? text : `${text}.`));
	input.setAttribute("aria-invalid", "true");
	input.setAttribute("aria-describedby", id);
	return true;
}

/* The button waits as long as the server said. */
function countDown(form, text, seconds) {
	const until = Date.now() + seconds * 1000;
	const line = form.querySelector(".form-error");
	const button = form.querySelector("[type=submit]");
	const turn = Symbol("turn");
	form.turn = turn;
	const tick = () => {
		if (form.turn !== turn) {
			return;
		}
		const left = Math.ceil((until - Date.now()) / 1000);
		button.disabled = left > 0;
		line.textContent = left > 0 ? `${text} Try again in ${left} s.` : `${text} You can try again now.`;
		if (left > 0) {
			setTimeout(tick, 250);
		}
	};
	tick();
}

export function showFault(form, error) {
	const line = form.querySelector(".form-error");
	const shown = error.errors?.map((fault) => atField(form, fault)) ?? [];
	form.querySelector("[aria-invalid]")?.focus();
	line.textContent = reasonOf(error);
	line.hidden = shown.length > 0 && shown.every(Boolean);
	if (error.retryAfterSeconds && BUSY[error.status]) {
		countDown(form, reasonOf(error), error.retryAfterSeconds);
	}
}

/* `work(values)` is done when the form is sent; an ApiError of it is shown in the form. Values are trimmed, passwords
 * are not. */
export function onSubmit(form, work) {
	const button = form.querySelector("[type=submit]");
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		if (button.disabled) {
			return;
		}
		form.turn = null;
		clear(form);
		button.disabled = true;
		const values = {};
		for (const input of form.querySelectorAll("input[name]")) {
			values[input.name] = input.type === "password" ? input.value : input.value.trim();
		}
		try {
			await work(values);
			button.disabled = false;
		} catch (error) {
			button.disabled = false;
			if (!(error instanceof ApiError)) {
				throw error;
			}
			showFault(form, error);
		}
	});
}

export function resetForm(form) {
	form.turn = null;
	form.reset();
	clear(form);
	form.querySelector("[type=submit]").disabled = false;
}
