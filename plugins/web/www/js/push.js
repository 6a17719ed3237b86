/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications while nobody looks: this browser's subscription, and what the account wants to be told. Shown only where
 * the server pushes (plugin push), the browser can, and the person has an account. */

import { $, h } from "./dom.js";
import { explain } from "./errors.js";
import { t } from "./i18n.js";
import { pushed } from "./storage.js";

const MUTE_MS = 8 * 3600000;
const WORDS_CACHE = "chatd-push";

const supported = () => "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;

function bytesOf(base64url) {
	const text = atob(base64url.replace(/-/g, "+").replace(/_/g, "/"));
	return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

const sameKey = (subscription, key) => {
	const has = new Uint8Array(subscription.options.applicationServerKey ?? []);
	const wants = bytesOf(key);
	return has.length === wants.length && has.every((byte, i) => byte === wants[i]);
};

/* The service worker knows no language: it is told the words. */
async function layDownWords() {
	const words = { one: t("New message"), many: t("{n} new messages"), sealed: t("Encrypted message") };
	const cache = await caches.open(WORDS_CACHE);
	await cache.put("words", new Response(JSON.stringify(words)));
}

const registration = async () => {
	await navigator.serviceWorker.register(new URL("./sw.js", document.baseURI), { updateViaCache: "none" });
	return navigator.serviceWorker.ready;
};

const current = async () => {
	const found = await navigator.serviceWorker.getRegistration(document.baseURI);
	return found ? found.pushManager.getSubscription() : null;
};

export class Notifications {
	#api;
	#toast;
	#place;
	#dialog;
	#parts = {};
	#key = null;
	#settings = {};

	/* `place()`: the conversation that is open, {kind, id, title}, or null. */
	constructor({ api, toast, place }) {
		this.#api = api;
		this.#toast = toast;
		this.#place = place;
		$("open-notifications").addEventListener("click", () => this.#show());
	}

	/* Somebody is here. What this browser had is told to the server again, since the push service may have changed it. */
	async start() {
		await this.offer();
		if (this.#key && Notification.permission === "granted") {
			await this.#subscribe().catch(() => {
				/* with the next start, or from the dialog */
			});
		}
	}

	/* The server is not asked before somebody wants to know. */
	async offer() {
		this.#key = null;
		if (supported() && !this.#api.isGuest) {
			try {
				this.#key = (await this.#api.pushKey()).publicKey;
			} catch {
				/* the server does not push */
			}
		}
		$("notifications-part").hidden = !this.#key;
	}

	/* This browser is not told any more what is for the one who leaves it. */
	async stop() {
		pushed.set(false);
		if (!supported()) {
			return;
		}
		try {
			const subscription = await current();
			if (subscription) {
				await Promise.allSettled([this.#api.pushUnsubscribe(subscription.endpoint), subscription.unsubscribe()]);
			}
		} catch {
			/* then there was none that works */
		}
	}

	async #subscribe() {
		const { pushManager } = await registration();
		let subscription = await pushManager.getSubscription();
		if (subscription && !sameKey(subscription, this.#key)) {
			await subscription.unsubscribe();
			subscription = null;
		}
		subscription ??= await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytesOf(this.#key) });
		await layDownWords();
		const { endpoint, keys } = subscription.toJSON();
		await this.#api.pushSubscribe({ endpoint, keys });
		pushed.set(true);
	}

	/* ---- the dialog ---- */

	#build() {
		const choice = (id, label, options) => {
			const select = h("select", { id }, ...options.map(([value, text]) => h("option", { value }, text)));
			this.#parts[id] = select;
			return h("div", { class: "field" }, h("label", { for: id }, label), select);
		};
		const check = (id, label) => {
			this.#parts[id] = h("input", { id, type: "checkbox" });
			return h("label", { class: "check" }, this.#parts[id], ` ${label}`);
		};
		const time = (id, label) => {
			this.#parts[id] = h("input", { id, type: "time" });
			return h("div", { class: "field" }, h("label", { for: id }, label), this.#parts[id]);
		};
		const modes = [
			["all", t("Everything")],
			["mentions", t("Mentions and direct messages")],
			["off", t("Nothing")],
		];
		this.#parts.fault = h("p", { class: "form-error", role: "alert", hidden: true });
		this.#parts.here = choice("notify-here", "", [["", t("As everywhere")], ...modes, ["mute", t("Nothing for 8 hours")]]);
		this.#dialog = h(
			"dialog",
			{ id: "notifications", class: "dialog", "aria-labelledby": "notifications-title" },
			h(
				"form",
				{ onsubmit: (event) => this.#save(event) },
				h("h2", { id: "notifications-title" }, t("Notifications")),
				h("p", { class: "muted" }, t("When you are nowhere online, this browser tells you what was said.")),
				check("notify-browser", t("Notify me in this browser")),
				choice("notify-mode", t("Tell me of"), modes),
				this.#parts.here,
				check("notify-text", t("Show what was written")),
				check("notify-quiet", t("Quiet hours")),
				h("div", { class: "row" }, time("notify-from", t("From")), time("notify-to", t("To"))),
				this.#parts.fault,
				h(
					"div",
					{ class: "dialog-actions" },
					h("button", { class: "button quiet", type: "button", onclick: () => this.#dialog.close() }, t("Cancel")),
					h("button", { class: "button primary", type: "submit" }, t("Save")),
				),
			),
		);
		document.body.append(this.#dialog);
	}

	async #show() {
		if (!this.#dialog) {
			this.#build();
		}
		try {
			this.#settings = await this.#api.pushSettings();
			this.#fill(Boolean(pushed.get() && (await current())));
		} catch (error) {
			this.#toast(explain(error), { kind: "error" });
			return;
		}
		this.#parts.fault.hidden = true;
		this.#dialog.showModal();
	}

	#said(place) {
		const field = place.kind === "room" ? "roomId" : "with";
		return (this.#settings.conversations ?? []).find((c) => c[field] === place.id && (!c.until || c.until > Date.now()));
	}

	#fill(here) {
		const { mode, text, quiet } = this.#settings;
		const place = this.#place();
		const part = this.#parts;
		part["notify-browser"].checked = here;
		part["notify-mode"].value = mode ?? "all";
		part["notify-text"].checked = text !== false;
		part["notify-quiet"].checked = Boolean(quiet);
		part["notify-from"].value = quiet?.from ?? "22:00";
		part["notify-to"].value = quiet?.to ?? "07:00";
		part.here.hidden = !place;
		if (place) {
			const said = this.#said(place);
			part.here.querySelector("label").textContent = t("In “{title}”", { title: place.title });
			part["notify-here"].value = said ? (said.until ? "mute" : said.mode) : "";
		}
	}

	#chosen() {
		const part = this.#parts;
		const place = this.#place();
		const field = place?.kind === "room" ? "roomId" : "with";
		const said = place && this.#said(place);
		const others = (this.#settings.conversations ?? []).filter((c) => !(place && c[field] === place.id) && (!c.until || c.until > Date.now()));
		const mode = part["notify-here"].value;
		if (place && mode === "mute") {
			others.push({ [field]: place.id, mode: "off", until: said?.until ?? Date.now() + MUTE_MS });
		} else if (place && mode) {
			others.push({ [field]: place.id, mode });
		}
		const quiet = part["notify-quiet"].checked
			? { from: part["notify-from"].value, to: part["notify-to"].value, offset: -new Date().getTimezoneOffset() }
			: null;
		return { mode: part["notify-mode"].value, text: part["notify-text"].checked, quiet, conversations: others };
	}

	async #save(event) {
		event.preventDefault();
		const fault = this.#parts.fault;
		fault.hidden = true;
		try {
			if (!this.#parts["notify-browser"].checked) {
				await this.stop();
			} else if ((await Notification.requestPermission()) !== "granted") {
				throw new Error(t("Your browser does not allow this page to notify you; allow it in the browser's settings."));
			} else {
				await this.#subscribe();
			}
			await this.#api.setPushSettings(this.#chosen());
			this.#dialog.close();
		} catch (error) {
			fault.textContent = explain(error);
			fault.hidden = false;
		}
	}
}
