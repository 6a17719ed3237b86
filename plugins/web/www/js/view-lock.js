/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of a direct conversation, and the dialog behind it: on or off, the safety number, one's devices. */

import { $, h, reconcile } from "./dom.js";
import { confirm } from "./dialogs.js";
import { explainSealed } from "./e2ee-chat.js";
import { t } from "./i18n.js";

const LABELS = {
	off: t("Not encrypted end to end"),
	none: t("Encrypted end to end; the other side has no device yet"),
	unverified: t("Encrypted end to end, not verified"),
	verified: t("Encrypted end to end, verified"),
	changed: t("Encrypted end to end; devices have changed since you verified them"),
};

const TEXTS = {
	off: t("The server can read this conversation. Turn encryption on, and only your devices and those of the other person can read what is said from then on."),
	none: t("The other person has not turned encryption on yet: nothing can be sent until then."),
	unverified: t("Compare this number with the other person, over the phone or face to face. If it is the same on both sides, nobody is in between."),
	verified: t("You have compared the safety number."),
	changed: t("There are devices that were not there when you compared. Compare the number again before you write on."),
};

export class Lock {
	#state;
	#encryption;
	#toast;
	#conversation = null;
	#shown = "";

	constructor({ state, encryption, toast }) {
		this.#state = state;
		this.#encryption = encryption;
		this.#toast = toast;
		$("open-lock").addEventListener("click", () => this.#run(() => this.#open()));
		$("lock-toggle").addEventListener("click", () => this.#run(() => this.#toggle()));
		$("lock-verify").addEventListener("click", () => this.#run(() => this.#mark(true)));
		$("lock-unverify").addEventListener("click", () => this.#run(() => this.#mark(false)));
	}

	/* The icon in the conversation's head. */
	async show(conversation) {
		this.#conversation = conversation;
		const button = $("open-lock");
		button.hidden = conversation.kind !== "user" || conversation.id === this.#state.me?.id;
		if (button.hidden) {
			return;
		}
		const on = this.#encryption.isOn(conversation);
		const trust = on ? await this.#encryption.trust(conversation).catch(() => "unverified") : "off";
		if (this.#conversation !== conversation || this.#shown === `${conversation.key} ${trust}`) {
			return;
		}
		this.#shown = `${conversation.key} ${trust}`;
		button.dataset.trust = trust;
		button.title = LABELS[trust];
		button.setAttribute("aria-label", LABELS[trust]);
		button.querySelector("use").setAttribute("href", on ? "#i-lock" : "#i-unlock");
	}

	async #run(work) {
		$("lock-error").hidden = true;
		$("lock-toggle").disabled = true;
		try {
			await work();
		} catch (error) {
			$("lock-error").textContent = explainSealed(error);
			$("lock-error").hidden = false;
		}
		$("lock-toggle").disabled = false;
	}

	async #open() {
		$("lock-title").textContent = t("Encryption with {name}", { name: this.#state.titleOf(this.#conversation) });
		this.#fill("off", "", []);
		$("lock").showModal();
		await this.#refresh();
	}

	async #refresh() {
		const conversation = this.#conversation;
		const trust = await this.#encryption.trust(conversation);
		const compare = ["unverified", "verified", "changed"].includes(trust);
		const number = compare ? await this.#encryption.safetyNumber(conversation) : "";
		const devices = trust === "off" ? [] : await this.#encryption.devices();
		if (conversation === this.#conversation) {
			this.#fill(trust, number, devices);
		}
		this.#shown = "";
		await this.show(conversation);
	}

	#fill(trust, number, devices) {
		$("lock-state").textContent = TEXTS[trust];
		$("lock-number").hidden = number === "";
		$("lock-number").replaceChildren(...(number.match(/.{5}/g) ?? []).map((group) => h("span", {}, group)));
		$("lock-verify").hidden = !["unverified", "changed"].includes(trust);
		$("lock-unverify").hidden = !["verified", "changed"].includes(trust);
		$("lock-unverify").textContent = trust === "changed" ? t("Go on without comparing") : t("Not verified after all");
		$("lock-toggle").textContent = trust === "off" ? t("Turn encryption on") : t("Turn encryption off");
		$("lock-devices-part").hidden = devices.length === 0;
		reconcile($("lock-devices"), devices.map((d) => ({ key: d.id, ...d })), (device) => this.#deviceRow(device));
	}

	#deviceRow({ id, name, current }) {
		const label = name || t("A device");
		return h(
			"li",
			{ class: "lock-device" },
			h("span", {}, current ? t("{name} (this one)", { name: label }) : label),
			current
				? null
				: h("button", { type: "button", class: "button quiet", "data-act": `remove-${id}`, onclick: () => this.#run(() => this.#remove(id, label)) }, t("Remove")),
		);
	}

	async #remove(id, name) {
		if (await confirm(t("Remove {name}?", { name }), t("It can read no more of what is written from now on."), t("Remove"), true)) {
			await this.#encryption.removeDevice(id);
			await this.#refresh();
		}
	}

	async #toggle() {
		const conversation = this.#conversation;
		if (!this.#encryption.isOn(conversation)) {
			await this.#encryption.turnOn(conversation);
			this.#toast(t("Messages to {name} are encrypted end to end from now on.", { name: this.#state.titleOf(conversation) }));
		} else if (await confirm(t("Turn encryption off?"), t("The server can read what you write here from then on."), t("Turn off"))) {
			this.#encryption.turnOff(conversation);
		}
		await this.#refresh();
	}

	async #mark(verified) {
		await this.#encryption.mark(this.#conversation, verified);
		await this.#refresh();
	}
}
