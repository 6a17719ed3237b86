/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done with one message: the menu beside it, and the calls behind its buttons. */

import { confirm } from "./dialogs.js";
import { t } from "./i18n.js";
import { openMenu } from "./menu.js";
import { toast } from "./toasts.js";
import { snippet } from "./view-row.js";

const PALETTE = ["👍", "❤️", "😂", "😮", "😢", "🎉"];
const MODERATE = ["owner", "moderator"];

export class MessageActions {
	#state;
	#session;
	#composer;
	#moderation;
	#openThread;

	/* `jump(conversation, message)` shows a message; `openPerson(id)` a direct conversation; `thread(id)` a thread, null in
	 * one. */
	constructor({ state, session, composer, files, moderation, jump, openPerson, thread }) {
		this.#state = state;
		this.#session = session;
		this.#composer = composer;
		this.files = files;
		this.#moderation = moderation;
		this.jumpTo = jump;
		this.openPerson = openPerson;
		this.#openThread = thread;
	}

	#conversation() {
		return this.#state.conversations.get(this.#state.active);
	}

	#with(row, work) {
		const conversation = this.#conversation();
		const here = (m) => m.row === row;
		const entry = conversation?.messages.find(here) ?? conversation?.thread?.entries.find(here);
		if (entry) {
			work(conversation, entry);
		}
	}

	/* Of the thread that a message belongs to, or begins. */
	thread(row) {
		this.#with(row, (_, entry) => entry.id && this.#openThread?.(entry.threadId || entry.id));
	}

	retry(row) {
		this.#with(row, (conversation, entry) => this.#session.outbox.retry(conversation, entry));
	}

	discard(row) {
		this.#with(row, (conversation, entry) => this.#session.outbox.discard(conversation, entry));
	}

	editFailed(row) {
		this.#with(row, (conversation, entry) => {
			this.#session.outbox.discard(conversation, entry);
			this.#composer.takeBack(entry.content, entry.attachments);
		});
	}

	react(row, reaction) {
		this.#with(row, (conversation, entry) => {
			const remove = (entry.reactions[reaction] ?? []).includes(this.#state.me.id);
			this.#session.change("react", { messageId: entry.id, reaction, remove });
		});
	}

	/* Of somebody who is blocked. */
	hides(entry) {
		return this.#moderation.hides(entry);
	}

	reveal(id) {
		this.#moderation.reveal(id);
	}

	async jump(id) {
		const conversation = this.#conversation();
		const entry = conversation?.messages.find((m) => m.id === id) ?? conversation?.quoted.get(id);
		if (entry) {
			await this.jumpTo(conversation, entry);
		} else {
			toast(t("This message is not there any more."));
		}
	}

	/* Here: in a room whether one is its moderator, between two people both. */
	mayPin(conversation) {
		return conversation.kind === "user" || MODERATE.includes(this.#state.rooms.get(conversation.id)?.role);
	}

	#maySpeak(conversation) {
		return conversation.kind === "user" || Boolean(this.#state.rooms.get(conversation.id)?.joined);
	}

	menu(row, anchor) {
		this.#with(row, (conversation, entry) => {
			const speak = this.#maySpeak(conversation);
			const pinned = conversation.pins?.has(entry.id);
			const mayDelete = entry.mine || (conversation.kind === "room" && this.mayPin(conversation));
			const items = [
				speak && { label: t("Reply"), icon: "reply", run: () => this.#composer.reply(entry) },
				speak && this.#openThread && { label: t("Reply in a thread"), icon: "thread", run: () => this.thread(row) },
				{ label: t("Copy text"), icon: "copy", run: () => this.#copy(entry) },
				speak && entry.mine && !entry.locked && { label: t("Edit"), icon: "edit", run: () => this.#composer.edit(entry) },
				speak && this.mayPin(conversation) && { label: pinned ? t("Unpin") : t("Pin"), icon: "pin", run: () => this.pin(entry.id, pinned) },
				...this.#moderation.menuItems(entry),
				speak && mayDelete && { label: t("Delete"), icon: "trash", danger: true, run: () => this.#delete(entry) },
			];
			const chosen = PALETTE.filter((choice) => entry.reactions[choice]?.includes(this.#state.me.id));
			const palette = speak ? { choices: PALETTE, chosen, pick: (choice) => this.react(row, choice) } : null;
			openMenu(anchor, t("Message"), items, palette);
		});
	}

	pin(id, remove) {
		return this.#session.change("pin", { messageId: id, remove: Boolean(remove) });
	}

	async #delete(entry) {
		const vars = { text: snippet(entry), name: entry.senderName };
		const text = entry.mine
			? t("“{text}” — your message is removed for everybody.", vars)
			: t("“{text}” — the message of {name} is removed for everybody.", vars);
		if (await confirm(t("Delete this message?"), text, t("Delete"), true)) {
			this.#session.change("delete", { messageId: entry.id });
		}
	}

	async #copy(entry) {
		try {
			await navigator.clipboard.writeText(entry.content);
			toast(t("The text is copied."));
		} catch {
			toast(t("This browser does not let the page copy."), { kind: "error" });
		}
	}
}
