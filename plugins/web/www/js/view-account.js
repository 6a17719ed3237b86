/* SPDX-License-Identifier: Apache-2.0 */
/* The account of the one who is here: making one of a guest, profile, devices, password, data, the end of it. */

import { $, h, reconcile } from "./dom.js";
import { confirm } from "./dialogs.js";
import { ApiError } from "./errors.js";
import { fullTimeOf } from "./format.js";
import { onSubmit, reasonOf, resetForm } from "./forms.js";
import { t } from "./i18n.js";
import { lastEmail } from "./storage.js";

const FORMS = ["upgrade-form", "switch-form", "confirm-mail-form", "password-form", "admin-form", "delete-form"];

export class AccountDialog {
	#state;
	#session;
	#api;
	#toast;
	#profile = null;

	/* `leave()` logs out, after asking; `gone(reason)`: nobody is here any more; `registered(who, error)`: a guest's
	 * account is made, but not logged in to. */
	constructor({ state, session, api, toast, leave, gone, registered }) {
		this.#state = state;
		this.#session = session;
		this.#api = api;
		this.#toast = toast;
		$("open-devices").addEventListener("click", () => this.#openDevices());
		$("devices-others").addEventListener("click", () => this.#endOthers());
		$("account-rename").addEventListener("click", () => $("me-name").click());
		$("name-dialog").addEventListener("close", () => this.#showWho());
		$("account-discoverable").addEventListener("change", () => this.#setDiscoverable());
		$("account-export").addEventListener("click", () => this.#export());
		$("account-delete").addEventListener("click", () => this.#askToDelete());
		$("account-leave").addEventListener("click", () => {
			$("account").close();
			leave();
		});
		this.#guestForms(registered);
		this.#memberForms();
		onSubmit($("delete-form"), async ({ password }) => {
			await this.#delete(password);
			gone(t("Your account is deleted."));
		});
	}

	get #account() {
		return this.#session.account;
	}

	async open() {
		for (const id of FORMS) {
			resetForm($(id));
		}
		for (const part of document.querySelectorAll("#account details")) {
			part.open = false;
		}
		this.#profile = null;
		$("upgrade-nickname").value = this.#state.me.name === this.#state.me.id ? "" : this.#state.me.name;
		$("account-note").hidden = true;
		this.#show();
		$("account").showModal();
		if (!this.#session.isGuest) {
			await this.#load();
		}
	}

	async #load() {
		await this.#told(async () => (this.#profile = await this.#account.loadProfile()));
		this.#show();
	}

	/* Shows a refusal in the dialog. Resolves to whether it worked. */
	async #told(work, line = $("account-note")) {
		line.hidden = true;
		try {
			await work();
			return true;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			line.textContent = reasonOf(error);
			line.hidden = false;
			return false;
		}
	}

	#show() {
		const guest = this.#session.isGuest;
		const profile = this.#profile;
		$("guest-part").hidden = !guest;
		$("member-part").hidden = guest;
		$("account-leave").textContent = guest ? t("Forget me") : t("Log out");
		const roles = profile?.roles?.length ? ` · ${profile.roles.join(", ")}` : "";
		$("account-text").textContent = guest ? t("You are here as a guest: only this browser knows you.") : `${profile?.email ?? ""}${roles}`;
		$("account-discoverable").checked = profile?.discoverable ?? true;
		$("account-discoverable").disabled = !profile;
		$("confirm-mail-form").hidden = !profile?.email || profile.emailVerified;
		$("confirm-mail-code").hidden = true;
		$("confirm-mail-button").textContent = t("Send a code");
		$("confirm-mail-text").textContent = t("It is not confirmed that {email} is yours.", { email: profile?.email ?? "" });
		$("admin-part").hidden = Boolean(profile?.roles?.includes("admin"));
		this.#showWho();
	}

	#showWho() {
		$("account-name").textContent = this.#state.me?.name ?? "";
	}

	#guestForms(registered) {
		onSubmit($("upgrade-form"), async ({ email, password, nickname }) => {
			try {
				const made = await this.#account.register({ email, password, ...(nickname ? { nickname } : {}) });
				lastEmail.set(email);
				this.#toast(made.verificationSent ? t("Your account is made. A code was mailed to {email}.", { email }) : t("Your account is made."));
			} catch (error) {
				if (error.registered) {
					$("account").close();
					registered({ email, password }, error);
				}
				throw error;
			}
			resetForm($("upgrade-form"));
			this.#show();
			await this.#load();
		});
		onSubmit($("switch-form"), async ({ email, password }) => {
			await this.#account.logIn(email, password);
			lastEmail.set(email);
			$("account").close();
		});
	}

	#memberForms() {
		onSubmit($("confirm-mail-form"), async ({ code }) => {
			if ($("confirm-mail-code").hidden) {
				await this.#api.requestVerification(this.#profile.email);
				$("confirm-mail-code").hidden = false;
				$("confirm-mail-button").textContent = t("Confirm");
				$("confirm-mail-text").textContent = t("A code was mailed.");
				$("mail-code").focus();
				return;
			}
			await this.#api.verify(code);
			this.#toast(t("Your address is confirmed."));
			await this.#load();
		});
		onSubmit($("password-form"), async (values) => {
			await this.#api.changePassword(values.old, values.new);
			resetForm($("password-form"));
			$("password-form").closest("details").open = false;
			this.#toast(t("Your password is changed. All other devices are logged out."));
		});
		onSubmit($("admin-form"), async ({ code }) => {
			this.#profile = await this.#api.becomeAdmin(code);
			this.#toast(t("You are an administrator of this server now."));
			this.#show();
		});
	}

	async #setDiscoverable() {
		const wanted = $("account-discoverable").checked;
		await this.#told(async () => (this.#profile = await this.#api.changeProfile({ discoverable: wanted })));
		this.#show();
	}

	/* ---- devices ---- */

	async #openDevices() {
		reconcile($("devices-list"), [], () => null);
		$("devices").showModal();
		await this.#showDevices();
	}

	async #showDevices() {
		let found = [];
		await this.#told(async () => (found = await this.#api.devices()), $("devices-error"));
		found.sort((a, b) => Number(b.current) - Number(a.current) || (a.used < b.used ? 1 : -1));
		$("devices-others").hidden = !found.some((d) => !d.current);
		const time = (text) => fullTimeOf(Date.parse(text));
		const items = found.map((d) => ({ key: d.id, name: d.device || t("Unknown device"), current: d.current, since: time(d.created), used: time(d.used) }));
		reconcile($("devices-list"), items, (item) =>
			h(
				"li",
				{ class: "device", "data-session": item.key },
				h("span", {}, h("strong", {}, item.name), h("span", { class: "muted" }, t("Last used {time}", { time: item.used })), h("span", { class: "muted" }, t("Logged in {time}", { time: item.since }))),
				item.current
					? h("span", { class: "tag" }, t("this one"))
					: h("button", { type: "button", class: "button quiet small", "aria-label": t("Log out {device}", { device: item.name }), onclick: () => this.#endOne(item.key) }, t("Log out")),
			),
		);
	}

	async #endOne(id) {
		if (await this.#told(() => this.#api.endDevice(id), $("devices-error"))) {
			await this.#showDevices();
		}
	}

	async #endOthers() {
		if (await confirm(t("Log out all other devices?"), t("They have to log in again."), t("Log out all others"))) {
			if (await this.#told(() => this.#api.endDevice(), $("devices-error"))) {
				await this.#showDevices();
			}
		}
	}

	/* ---- one's data ---- */

	async #export() {
		if (!(await confirm(t("Save a copy of your data?"), t("Your profile, rooms and messages, as one file."), t("Save")))) {
			return;
		}
		$("account-export").disabled = true;
		await this.#told(async () => {
			const file = new Blob([JSON.stringify(await this.#api.exportAll(), null, "\t")], { type: "application/json" });
			const link = h("a", { href: URL.createObjectURL(file), download: `chat-${this.#state.me.id}.json` });
			link.click();
			setTimeout(() => URL.revokeObjectURL(link.href), 60000);
		});
		$("account-export").disabled = false;
	}

	#askToDelete() {
		const guest = this.#session.isGuest;
		resetForm($("delete-form"));
		$("delete-title").textContent = guest ? t("Delete everything of this guest?") : t("Delete your account?");
		$("delete-password-part").hidden = guest;
		$("delete-password").disabled = guest;
		$("delete-dialog").showModal();
	}

	/* Who has a password has just given it then. */
	async #delete(password) {
		if (!this.#session.isGuest && this.#profile?.email) {
			await this.#account.logInAnew(this.#profile.email, password);
		}
		await this.#api.deleteAccount(this.#state.me.id);
		await this.#account.forget();
		$("delete-dialog").close();
		$("account").close();
	}
}
