/* SPDX-License-Identifier: Apache-2.0 */
/* One thread beside its conversation, or in its place on a narrow screen: the message that it is about, the replies, and
 * a box to write one. */

import { MessageActions } from "./actions.js";
import { Composer } from "./composer.js";
import { $, h, icon, reconcile } from "./dom.js";
import { plural, t } from "./i18n.js";
import { makeThread, Threads } from "./threads.js";
import { initMessageKeys, rowsOf } from "./view-messages.js";
import { chatRow, dayRow } from "./view-row.js";

const NEAR_PX = 80;
const COPIED = ["composer-count", "composer", "drop-here"];

/* Another box to write in, as the page's own is: its parts' ids begin with "thread-". */
function copyOf(id) {
	const copy = $(id).cloneNode(true);
	for (const element of [copy, ...copy.querySelectorAll("[id]")]) {
		element.id = `thread-${element.id}`;
	}
	copy.querySelector("label")?.setAttribute("for", "thread-composer-input");
	copy.querySelector("textarea")?.setAttribute("aria-controls", "thread-mention-list");
	copy.querySelector(".mention-list")?.replaceChildren();
	return copy;
}

export class ThreadPanel {
	#state;
	#session;
	#threads;
	#actions;
	#composer;
	#panel;
	#list;
	#scroller;
	#back;
	#conversation = null;
	#thread = null;
	#atEnd = true;
	#online = true;
	/* Where the focus was. */
	#from = null;

	/* `back()`: the person wants to see the conversation alone; the rest as MessageActions and Composer take it. */
	constructor({ state, session, api, drafts, files, moderation, max, jump, openPerson, back }) {
		this.#state = state;
		this.#session = session;
		this.#back = back;
		this.#threads = new Threads({ state, api, history: session.history });
		this.#build();
		const part = (name) => (name === "stage" ? this.#panel : $(`thread-${name}`));
		this.#composer = new Composer({ state, session, drafts, max, files, part });
		const shown = async (conversation, entry) => {
			const row = this.#list.querySelector(`[data-id="${CSS.escape(entry.id)}"]`);
			if (row) {
				row.scrollIntoView({ block: "center" });
			} else {
				await jump(conversation, entry);
			}
		};
		this.#actions = new MessageActions({ state, session, composer: this.#composer, files, moderation, jump: shown, openPerson, thread: null });
	}

	#build() {
		this.#list = h("ol", { id: "thread-messages", class: "messages", "aria-label": t("Messages") });
		this.#scroller = h(
			"div",
			{ class: "scroller", tabindex: "0", role: "region", "aria-label": t("Messages of the thread"), onscroll: () => this.#onScroll() },
			h("div", { id: "thread-top", class: "history-top muted", hidden: true }, h("span", { id: "thread-top-text" }), h("button", { id: "thread-older", class: "link-button", type: "button", onclick: () => this.#more() })),
			this.#list,
			h("p", { id: "thread-blank", class: "muted thread-blank" }),
		);
		this.#panel = h(
			"aside",
			{ id: "thread", class: "thread", "aria-labelledby": "thread-title", hidden: true, onkeydown: (event) => this.#onKey(event) },
			h(
				"header",
				{ class: "people-head" },
				h("h2", { id: "thread-title" }, t("Thread"), " ", h("span", { id: "thread-place", class: "muted" })),
				h("button", { id: "close-thread", class: "icon-button", type: "button", "aria-label": t("Close the thread"), title: t("Close the thread"), onclick: () => this.#back() }, icon("close")),
			),
			this.#scroller,
			h("div", { class: "below" }, ...COPIED.map(copyOf), h("p", { id: "thread-closed", class: "muted", hidden: true })),
		);
		$("people").after(this.#panel);
		$("thread-composer-input").placeholder = t("Reply in the thread");
		initMessageKeys(this.#list);
	}

	/* The id of what the thread is about, of the thread that is shown. */
	get root() {
		return this.#thread?.root ?? "";
	}

	/* `from`: what had the focus; `focus`: the person asked for it just now. */
	open(conversation, root, { from, focus, narrow }) {
		if (this.root === root && this.#conversation === conversation) {
			this.#focus(focus, narrow);
			return;
		}
		this.#leave();
		this.#from = { element: from, row: from?.closest("[data-row]")?.dataset.row };
		this.#conversation = conversation;
		conversation.threads ??= new Map();
		this.#thread = conversation.threads.get(root) ?? makeThread(conversation, root);
		conversation.threads.set(root, this.#thread);
		conversation.thread = this.#thread;
		this.#panel.hidden = false;
		this.#composer.open(conversation, this.#thread);
		this.#atEnd = true;
		this.show();
		this.#focus(focus, narrow);
	}

	/* On a phone the keyboard would take half of what one wants to read. */
	#focus(wanted, narrow) {
		if (wanted) {
			(narrow || $("thread-composer").hidden ? $("close-thread") : $("thread-composer-input")).focus({ preventScroll: true });
		}
	}

	#leave() {
		if (this.#thread) {
			this.#composer.close();
			Object.assign(this.#thread, { entries: [], loaded: "no", before: null });
			this.#conversation.thread = null;
			this.#thread = null;
		}
	}

	close() {
		const inside = this.#panel.contains(document.activeElement);
		this.#leave();
		this.#panel.hidden = true;
		if (inside) {
			const { element, row } = this.#from ?? {};
			const again = row && $("messages").querySelector(`[data-row="${row}"] :is([data-act=thread], [data-act=more])`);
			(element?.isConnected && element !== document.body ? element : (again ?? $("composer-input"))).focus({ preventScroll: true });
		}
	}

	#onKey(event) {
		if (event.key === "Escape" && !event.defaultPrevented) {
			event.preventDefault();
			event.stopPropagation();
			this.#back();
		}
	}

	#onScroll() {
		const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
		this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
		if (scrollTop < NEAR_PX && !this.#thread?.failed) {
			this.#more();
		}
	}

	#more() {
		const thread = this.#thread;
		if (!thread) {
			return;
		}
		if (thread.loaded === "failed") {
			thread.loaded = "no";
			this.#threads.load(this.#conversation, thread);
		} else {
			this.#threads.older(this.#conversation, thread);
		}
	}

	/* With every change of what is shown. */
	show() {
		const [conversation, thread] = [this.#conversation, this.#thread];
		if (!thread) {
			return;
		}
		this.#load(conversation, thread);
		const root = this.#threads.rootOf(conversation, thread);
		const replies = this.#threads.repliesOf(conversation, thread);
		if (document.visibilityState === "visible") {
			replies.forEach((m) => (m.seenInThread = true));
		}
		const messages = root && thread.before === null ? [root, ...replies] : replies;
		const rows = rowsOf(this.#state, conversation, this.#actions, { messages, thread: thread.root });
		const before = this.#scroller.scrollHeight - this.#scroller.scrollTop;
		reconcile(this.#list, rows, (item, isNew) => (item.kind === "day" ? dayRow(item) : chatRow(item, isNew, this.#actions)));
		this.#showAround(conversation, thread, replies.length);
		const grown = this.#mineIsLast(replies);
		this.#scroller.scrollTop = this.#atEnd || grown ? this.#scroller.scrollHeight : this.#scroller.scrollHeight - before;
	}

	/* What could not be had is asked for again with the next connection. */
	#load(conversation, thread) {
		const online = this.#state.connection.state === "online";
		if (online && !this.#online && thread.loaded === "failed") {
			thread.loaded = "no";
		}
		this.#online = online;
		if (online) {
			this.#threads.load(conversation, thread);
		}
	}

	#mineIsLast(replies) {
		const last = replies.at(-1);
		const grown = Boolean(last?.mine && last.live && last.row !== this.#thread.lastRow);
		this.#thread.lastRow = last?.row;
		return grown;
	}

	#showAround(conversation, thread, n) {
		const failed = thread.loaded === "failed" || thread.failed;
		$("thread-place").textContent = this.#state.titleOf(conversation);
		$("thread-top").hidden = !(failed || thread.loaded === "loading" || thread.before !== null);
		$("thread-top-text").textContent = failed ? t("The earlier messages could not be loaded.") : thread.loaded === "loading" || thread.paging ? t("Loading earlier messages…") : "";
		$("thread-older").hidden = thread.loaded === "loading" || thread.paging;
		$("thread-older").textContent = failed ? t("Try again") : t("Earlier replies");
		const complete = ["yes", "none"].includes(thread.loaded) && thread.before === null;
		$("thread-blank").textContent = n > 0 ? (complete ? plural(n, "{n} reply", "{n} replies") : "") : complete ? t("No replies yet. Yours is the first.") : "";
		const closed = $("composer").hidden;
		$("thread-composer").hidden = closed;
		$("thread-closed").hidden = !closed;
		$("thread-closed").textContent = closed ? $("join-text").textContent : "";
	}
}
