/* SPDX-License-Identifier: Apache-2.0 */
/* Reporting messages, blocking people, the reports of a room, and whether one tells what one has read. A server without
 * these plugins answers 404; then nothing of it is offered. */

import { confirm } from "./dialogs.js";
import { $, h, reconcile } from "./dom.js";
import { ApiError, explain } from "./errors.js";
import { fullTimeOf } from "./format.js";
import { t } from "./i18n.js";
import { toast } from "./toasts.js";

const REASONS = {
	spam: t("Spam"),
	harassment: t("Harassment"),
	hate: t("Hate"),
	sexual: t("Sexual content"),
	violence: t("Violence or threats"),
	illegal: t("Something illegal"),
	other: t("Something else"),
};
const MUTE_S = 3600;

export class Moderation {
	#state;
	#api;
	#revealed = new Set();
	#reported = null;
	#room = "";
	blocked = new Set();
	reportsOffered = false;

	constructor({ state, api }) {
		this.#state = state;
		this.#api = api;
		document.body.append(this.#reportDialog());
		$("account").querySelector(":scope > .dialog-actions").before(this.#accountPart());
		$("bans-part").after(this.#reportsPart());
		$("open-account").addEventListener("click", () => this.#showAccount());
		let before = "";
		state.onChange((topic) => {
			const now = state.connection.state === "online" ? state.me?.id : "";
			if (now && now !== before) {
				this.load();
			}
			before = topic === "connection" || topic === "me" ? now : before;
		});
	}

	/* Shows a refusal. Resolves to whether it worked. */
	async #told(work) {
		try {
			await work();
			return true;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			toast(explain(error), { kind: "error" });
			return false;
		}
	}

	async load() {
		try {
			this.blocked = new Set((await this.#api.blocks()).map((b) => b.userId));
			this.reportsOffered = true;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			this.reportsOffered = error.status !== 404;
		}
		$("privacy-part").hidden = !this.reportsOffered;
		this.#state.changed("blocks");
	}

	/* ---- what is shown ---- */

	hides(m) {
		return !m.mine && this.blocked.has(m.senderId) && !this.#revealed.has(m.id);
	}

	reveal(id) {
		this.#revealed.add(id);
		this.#state.changed("blocks");
	}

	/* For the menu beside a message. */
	menuItems(entry) {
		if (!this.reportsOffered || entry.mine || !entry.senderId) {
			return [];
		}
		const blocked = this.blocked.has(entry.senderId);
		return [
			{ label: t("Report…"), icon: "alert", run: () => this.#ask(entry) },
			blocked
				? { label: t("Unblock {name}", { name: entry.senderName }), icon: "person", run: () => this.unblock(entry.senderId) }
				: { label: t("Block {name}…", { name: entry.senderName }), icon: "mute", danger: true, run: () => this.block(entry.senderId, entry.senderName) },
		];
	}

	/* ---- blocking ---- */

	async block(id, name) {
		const text = t("You get no messages from each other. In rooms, theirs are hidden until you ask for them.");
		if ((await confirm(t("Block {name}?", { name }), text, t("Block"), true)) && (await this.#told(() => this.#api.block(id)))) {
			this.blocked.add(id);
			toast(t("{name} is blocked.", { name }));
			this.#changed();
		}
	}

	async unblock(id) {
		if (await this.#told(() => this.#api.unblock(id))) {
			this.blocked.delete(id);
			toast(t("{name} is not blocked any more.", { name: this.#state.nameOf(id) }));
			this.#changed();
		}
	}

	#changed() {
		this.#state.changed("blocks");
		this.#showBlocked();
	}

	#accountPart() {
		return h(
			"section",
			{ id: "privacy-part", class: "part", "aria-labelledby": "privacy-title", hidden: true },
			h("h3", { id: "privacy-title" }, t("Privacy")),
			h(
				"label",
				{ class: "check" },
				h("input", { id: "privacy-reads", type: "checkbox", onchange: (event) => this.#saveReads(event.currentTarget) }),
				" ",
				t("Others see what I have read, and I see it of them"),
			),
			h("h4", { id: "blocked-title" }, t("Blocked people")),
			h("p", { id: "blocked-empty", class: "muted" }, t("You have blocked nobody.")),
			h("ul", { id: "blocked-list", "aria-labelledby": "blocked-title" }),
		);
	}

	async #showAccount() {
		this.#showBlocked();
		$("privacy-reads").disabled = true;
		if (this.reportsOffered && (await this.#told(async () => ($("privacy-reads").checked = (await this.#api.settings()).readReceipts)))) {
			$("privacy-reads").disabled = false;
		}
	}

	async #saveReads(box) {
		if (!(await this.#told(() => this.#api.saveSettings({ readReceipts: box.checked })))) {
			box.checked = !box.checked;
		}
	}

	#showBlocked() {
		const items = [...this.blocked].map((id) => ({ key: id, name: this.#state.nameOf(id) }));
		$("blocked-empty").hidden = items.length > 0;
		reconcile($("blocked-list"), items, (item) =>
			h(
				"li",
				{ class: "ban", "data-user": item.key },
				h("span", {}, item.name),
				h("button", { type: "button", class: "button quiet small", "aria-label": t("Unblock {name}", { name: item.name }), onclick: () => this.unblock(item.key) }, t("Unblock")),
			),
		);
	}

	/* ---- reporting ---- */

	#reportDialog() {
		const options = Object.entries(REASONS).map(([value, text]) => h("option", { value }, text));
		return h(
			"dialog",
			{ id: "report-dialog", class: "dialog", "aria-labelledby": "report-title" },
			h(
				"form",
				{ id: "report-form", onsubmit: (event) => this.#send(event) },
				h("h2", { id: "report-title" }, t("Report this message?")),
				h("p", { class: "muted" }, t("Moderators get a copy of it. Its sender is not told who has reported it.")),
				h("label", { for: "report-reason" }, t("Reason")),
				h("select", { id: "report-reason" }, ...options),
				h("label", { for: "report-note" }, t("What should they know?")),
				h("textarea", { id: "report-note", maxlength: "500", rows: "3" }),
				h("p", { id: "report-error", class: "form-error", role: "alert", hidden: true }),
				h(
					"div",
					{ class: "dialog-actions" },
					h("button", { class: "button quiet", type: "button", onclick: () => $("report-dialog").close() }, t("Cancel")),
					h("button", { class: "button primary danger", type: "submit" }, t("Report")),
				),
			),
		);
	}

	#ask(entry) {
		this.#reported = entry;
		$("report-form").reset();
		$("report-error").hidden = true;
		$("report-dialog").showModal();
	}

	async #send(event) {
		event.preventDefault();
		const note = $("report-note").value.trim();
		try {
			await this.#api.report({ messageId: this.#reported.id, reason: $("report-reason").value, ...(note ? { note } : {}) });
			$("report-dialog").close();
			toast(t("Thank you. Moderators will look at it."));
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			$("report-error").textContent = explain(error);
			$("report-error").hidden = false;
		}
	}

	/* ---- the reports of a room ---- */

	#reportsPart() {
		return h(
			"section",
			{ id: "reports-part", class: "part", "aria-labelledby": "reports-title", hidden: true },
			h("h3", { id: "reports-title" }, t("Reported messages")),
			h("p", { id: "reports-empty", class: "muted", role: "status" }, t("Nothing is reported.")),
			h("ul", { id: "reports-list", "aria-labelledby": "reports-title" }),
		);
	}

	/* `mayAct`: one is a moderator there. */
	async showReports(roomId, mayAct) {
		this.#room = roomId;
		$("reports-part").hidden = !mayAct || !this.reportsOffered;
		reconcile($("reports-list"), [], () => null);
		if (mayAct && this.reportsOffered) {
			await this.#told(async () => this.#listReports(await this.#api.reports(roomId)));
		}
	}

	#listReports(reports) {
		$("reports-empty").hidden = reports.length > 0;
		const items = reports.map((r) => ({
			key: r.id,
			sender: this.#state.nameOf(r.sender) || r.sender,
			text: r.message?.content ?? "",
			about: [REASONS[r.reason] ?? r.reason, r.note].filter(Boolean).join(" · "),
			time: fullTimeOf(Date.parse(r.createdAt)),
		}));
		reconcile($("reports-list"), items, (item) => {
			const act = (label, name, work) => h("button", { type: "button", class: "button quiet small", "aria-label": name, onclick: work }, label);
			const close = (how, body) => () => this.#close(item.key, how, body);
			return h(
				"li",
				{ class: "ban", "data-report": item.key },
				h("span", {}, h("strong", {}, item.sender), h("span", {}, ` ${item.text}`), h("span", { class: "muted" }, `${item.about} · ${item.time}`)),
				act(t("Delete"), t("Delete the message of {name}", { name: item.sender }), close("resolve", { actions: ["delete"] })),
				act(t("Delete and mute"), t("Delete the message and mute {name} for an hour", { name: item.sender }), close("resolve", { actions: ["delete", "mute"], seconds: MUTE_S })),
				act(t("Dismiss"), t("Dismiss the report about {name}", { name: item.sender }), close("dismiss", {})),
			);
		});
	}

	async #close(id, how, body) {
		await this.#told(() => this.#api.closeReport(id, how, body));
		await this.showReports(this.#room, true);
	}
}
