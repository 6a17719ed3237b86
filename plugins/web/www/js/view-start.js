/* SPDX-License-Identifier: Apache-2.0 */
/* The start screen: as a guest, with an account, or with a new one; forgotten passwords. */

import { $ } from "./dom.js";
import { ApiError } from "./errors.js";
import { onSubmit, resetForm, showFault } from "./forms.js";
import { t } from "./i18n.js";
import { displayName, lastEmail } from "./storage.js";

const FIRST_FIELD = {
	guest: "welcome-name",
	login: "login-email",
	register: "register-email",
	reset: "reset-email",
	newpass: "newpass-code",
	verify: "verify-code",
};

export class StartScreen {
	#session;
	#api;
	#toast;
	/* Whose address is being confirmed, to log in afterwards. */
	#waiting = null;

	/* `done()`: somebody is in. */
	constructor({ session, api, toast, done }) {
		this.#session = session;
		this.#api = api;
		this.#toast = toast;
		for (const button of document.querySelectorAll(".tabs [data-way]")) {
			button.addEventListener("click", () => this.#choose(button.dataset.way));
		}
		onSubmit($("welcome-form"), async ({ nickname }) => {
			await session.join(nickname).catch(noGuests);
			done();
		});
		onSubmit($("login-form"), async (values) => {
			await this.#logIn(values);
			done();
		});
		onSubmit($("register-form"), async (values) => {
			await this.#register(values);
			done();
		});
		onSubmit($("verify-form"), async ({ code }) => {
			await api.verify(code);
			await session.account.logIn(this.#waiting.email, this.#waiting.password);
			this.#waiting = null;
			done();
		});
		this.#forgotten();
		$("verify-again").addEventListener("click", () => this.#mailAgain());
	}

	/* `reason`: why one is here again. */
	show(reason = "", way = "guest") {
		for (const form of document.querySelectorAll("#welcome form")) {
			resetForm(form);
		}
		$("welcome-name").value = displayName.get();
		$("login-email").value = lastEmail.get();
		this.#choose(way, reason);
	}

	#choose(way, reason = "") {
		for (const form of document.querySelectorAll("#welcome form")) {
			form.hidden = form.dataset.way !== way;
		}
		for (const button of document.querySelectorAll(".tabs [data-way]")) {
			button.setAttribute("aria-pressed", String(button.dataset.way === way));
		}
		$("welcome-reason").textContent = reason;
		$("welcome-reason").hidden = !reason;
		const first = $(FIRST_FIELD[way]);
		(way === "login" && first.value ? $("login-password") : first).focus();
	}

	async #logIn({ email, password }) {
		try {
			await this.#session.account.logIn(email, password);
			lastEmail.set(email);
		} catch (error) {
			if (error.code === "EMAIL_NOT_VERIFIED") {
				this.#waiting = { email, password };
				this.#choose("verify");
			}
			throw error;
		}
	}

	async #register({ email, password, nickname }) {
		try {
			const made = await this.#session.account.register({ email, password, ...(nickname ? { nickname } : {}) });
			lastEmail.set(email);
			if (made.verificationSent) {
				this.#toast(t("A code was mailed to {email}, to confirm that the address is yours.", { email }));
			}
		} catch (error) {
			if (error.registered) {
				this.registered({ email, password }, error);
			}
			throw error;
		}
	}

	/* The account is made, and logging in to it did not work yet. */
	registered(who, error) {
		const verify = error.code === "EMAIL_NOT_VERIFIED";
		this.#waiting = who;
		lastEmail.set(who.email);
		this.show(t("Your account is made."), verify ? "verify" : "login");
		if (!verify) {
			showFault($("login-form"), error);
		}
	}

	#forgotten() {
		$("login-forgot").addEventListener("click", () => {
			$("reset-email").value = $("login-email").value;
			this.#choose("reset");
		});
		onSubmit($("reset-form"), async ({ email }) => {
			try {
				await this.#api.requestReset(email);
			} catch (error) {
				$("login-forgot").hidden = error.code === "NOT_SUPPORTED";
				throw error;
			}
			lastEmail.set(email);
			this.#choose("newpass", t("If there is an account of {email}, a code is on its way.", { email }));
		});
		onSubmit($("newpass-form"), async ({ code, password }) => {
			await this.#api.confirmReset(code, password);
			this.show(t("Your password is set. Log in with it."), "login");
		});
	}

	async #mailAgain() {
		try {
			await this.#api.requestVerification(this.#waiting.email);
			this.#toast(t("Another code was mailed."));
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			showFault($("verify-form"), error);
		}
	}
}

function noGuests(error) {
	if ([401, 403, 404].includes(error.status) && error.code !== "BANNED") {
		throw new ApiError(error.status, error.code, t("This server does not take guests."));
	}
	throw error;
}
