/* SPDX-License-Identifier: Apache-2.0 */
/* Forms that ask the server: what it finds fault with is shown at its field, how long to wait is counted down. */

import { h } from "./dom.js";
import { ApiError, explainField, explainForm, inAMoment } from "./errors.js";
import { t } from "./i18n.js";

const BUSY = {
	429: t("Too many attempts."),
	503: t("The server is busy."),
};

/* What a form's refusal means; the server's own words where they say more. */
export function reasonOf(error) {
	if (BUSY[error.status]) {
		return BUSY[error.status];
	}
	return explainForm(error);
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

function atField(form, { field, code, message }) {
	const input = form.querySelector(`[name="${CSS.escape(field ?? "")}"]`);
	if (!input || !message) {
		return false;
	}
	const id = `${input.id}-fault`;
	input.after(h("p", { class: "field-fault", id }, explainField({ code, message })));
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
		line.textContent = left > 0 ? `${text} ${t("Try again in {n} s.", { n: left })}` : `${text} ${t("You can try again now.")}`;
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
	line.textContent = BUSY[error.status] ? inAMoment(reasonOf(error)) : reasonOf(error);
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
