/* SPDX-License-Identifier: Apache-2.0 */
/* The box to write in: a new message, an answer to one, or another wording of one's own. */

import { Commands } from "./commands.js";
import { $ } from "./dom.js";
import { plural, t } from "./i18n.js";
import { MentionList, mentionsIn } from "./mentions.js";
import { toast } from "./toasts.js";
import { FileTray } from "./view-files.js";
import { snippet } from "./view-row.js";

const ROWS_AT_MOST = 7;

/* As the server counts: an emoji is one character. */
function lengthOf(text) {
	let length = 0;
	for (const _ of text) {
		length++;
	}
	return length;
}

export class Composer {
	#state;
	#session;
	#mentions;
	#max;
	#conversation = null;
	#input = $("composer-input");
	#tray;
	#commands;

	constructor(state, session, maxContent, files) {
		this.#state = state;
		this.#mentions = new MentionList(state, this.#input, () => this.#conversation, () => this.#onInput());
		this.#session = session;
		this.#max = maxContent;
		this.#tray = new FileTray(files, () => this.fit());
		this.#commands = new Commands(this.#input, () => session.commands());
		$("composer").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#submit();
		});
		this.#input.addEventListener("input", () => this.#onInput());
		this.#input.addEventListener("keydown", (event) => this.#onKey(event));
		this.#input.addEventListener("blur", () => this.#conversation && this.#session.stopTyping(this.#conversation));
		$("writing-cancel").addEventListener("click", () => this.#cancel());
	}

	/* Another conversation: what was begun in the last one is kept there. */
	open(conversation) {
		this.leave();
		this.#conversation = conversation;
		this.#input.value = conversation.draft;
		this.#tray.open(conversation);
		this.#show();
	}

	leave() {
		if (this.#conversation) {
			this.#conversation.draft = this.#input.value;
		}
		this.#conversation = null;
	}

	focus() {
		this.#input.focus({ preventScroll: true });
	}

	reply(entry) {
		this.#conversation.writing = { what: "reply", entry };
		this.#show();
		this.focus();
	}

	edit(entry) {
		this.#conversation.writing = { what: "edit", entry, before: this.#input.value };
		this.#input.value = entry.content;
		this.#show();
		this.focus();
	}

	/* The text of a message that could not be sent, before what has been written since. */
	takeBack(text, attachments = []) {
		const written = this.#input.value;
		this.#input.value = written ? `${text}\n${written}` : text;
		this.#tray.putBack(attachments);
		this.#show();
		this.focus();
	}

	#cancel() {
		const writing = this.#conversation?.writing;
		if (!writing) {
			return false;
		}
		if (writing.what === "edit") {
			this.#input.value = writing.before;
		}
		this.#conversation.writing = null;
		this.#show();
		this.focus();
		return true;
	}

	#show() {
		const writing = this.#conversation?.writing;
		$("writing").hidden = !writing;
		if (writing) {
			const name = writing.entry.senderName;
			const reply = writing.entry.mine ? t("Replying to yourself") : t("Replying to {name}", { name });
			$("writing-what").textContent = writing.what === "edit" ? t("Editing your message") : reply;
			$("writing-text").textContent = snippet(writing.entry);
		}
		$("composer-send").setAttribute("aria-label", writing?.what === "edit" ? t("Save the new wording") : t("Send"));
		this.fit();
	}

	fit() {
		const input = this.#input;
		input.rows = 1;
		const line = parseFloat(getComputedStyle(input).lineHeight);
		while (input.rows < ROWS_AT_MOST && input.scrollHeight > input.clientHeight + line / 2) {
			input.rows++;
		}
		const length = lengthOf(input.value.trim());
		$("composer-send").disabled = !this.#maySend(length);
		$("composer-count").hidden = length < this.#max * 0.9;
		$("composer-count").classList.toggle("over", length > this.#max);
		$("composer-count").textContent = t("{n} of {max} characters", { n: length, max: this.#max });
	}

	/* A file says something by itself; one that is not there yet is waited for. */
	#maySend(length) {
		const editing = this.#conversation?.writing?.what === "edit";
		return editing ? length > 0 : this.#tray.state === "none" ? length > 0 : this.#tray.state === "ready";
	}

	#submit() {
		const conversation = this.#conversation;
		const text = this.#input.value.trim();
		if (!conversation || !this.#maySend(text.length)) {
			return;
		}
		const over = lengthOf(text) - this.#max;
		if (over > 0) {
			toast(plural(over, "This message is {n} character too long.", "This message is {n} characters too long."), { kind: "error" });
			return;
		}
		const writing = conversation.writing;
		if (writing?.what === "edit") {
			this.#save(conversation, writing, text);
			return;
		}
		/* The server keeps files as they are: one would leave what is locked open. */
		if (this.#tray.state !== "none" && this.#session.encryption.isOn(conversation)) {
			toast(t("Files are not encrypted. Remove them, or turn the encryption off for this message."), { kind: "error" });
			return;
		}
		const more = { replyTo: writing?.entry.id ?? "", mentions: mentionsIn(this.#state, conversation, text), attachments: this.#tray.take() };
		this.#session.say(conversation, text, more);
		conversation.writing = null;
		conversation.draft = "";
		this.#input.value = "";
		this.#show();
		this.#input.focus();
	}

	/* The new wording stays in the box until the server has it. */
	async #save(conversation, writing, text) {
		const same = text === writing.entry.content;
		$("composer-send").disabled = true;
		if (same || (await this.#session.edit(conversation, writing.entry, text))) {
			if (conversation.writing === writing) {
				conversation.writing = null;
				conversation.draft = writing.before;
				if (this.#conversation === conversation) {
					this.#input.value = writing.before;
				}
			}
		}
		if (this.#conversation === conversation) {
			this.#show();
			this.focus();
		}
	}

	#onInput() {
		this.fit();
		const conversation = this.#conversation;
		if (!conversation || conversation.writing?.what === "edit") {
			return;
		}
		if (this.#input.value.trim() === "") {
			this.#session.stopTyping(conversation);
		} else {
			this.#session.typing(conversation);
		}
	}

	#onKey(event) {
		if (this.#mentions.onKey(event) || this.#commands.onKey(event)) {
			return;
		}
		if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
			event.preventDefault();
			this.#submit();
		} else if (event.key === "Escape" && this.#cancel()) {
			event.preventDefault();
		} else if (event.key === "ArrowUp" && this.#input.value === "" && !this.#conversation?.writing) {
			const last = this.#conversation?.messages.findLast((m) => m.mine && m.kind === "chat" && m.id && !m.deleted && !m.locked);
			if (last) {
				event.preventDefault();
				this.edit(last);
			}
		}
	}
}
