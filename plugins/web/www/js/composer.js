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
	#drafts;
	#mentions;
	#max;
	#part;
	/* Where what is written goes, and the thread of it, if that is what is written in. */
	#conversation = null;
	#thread = null;
	#input;
	#tray;
	#commands;

	/* `part(name)`: the elements of the box, by the ids that those of the page have. */
	constructor({ state, session, drafts, max, files, part = $ }) {
		this.#state = state;
		this.#session = session;
		this.#drafts = drafts;
		this.#max = max;
		this.#part = part;
		const input = part("composer-input");
		this.#input = input;
		this.#mentions = new MentionList(state, part, () => this.#conversation, () => this.#onInput());
		this.#tray = new FileTray(files, (edited) => this.#onFiles(edited), part);
		this.#commands = new Commands(input, () => session.commands(), `${part("composer").id.replace("composer", "")}commands`);
		part("composer").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#submit();
		});
		input.addEventListener("input", () => this.#onInput());
		input.addEventListener("keydown", (event) => this.#onKey(event));
		input.addEventListener("blur", () => this.#conversation && this.#session.stopTyping(this.#conversation));
		part("writing-cancel").addEventListener("click", () => this.#cancel());
	}

	/* Has the draft, and what it is to be. */
	get #place() {
		return this.#thread ?? this.#conversation;
	}

	/* Another conversation, or a thread of one: what was begun in the last one is kept there. */
	open(conversation, thread = null) {
		this.leave();
		this.#conversation = conversation;
		this.#thread = thread;
		const place = this.#place;
		this.#fill();
		this.#drafts.load(conversation, place).then((found) => {
			if (found && this.#place === place && this.#input.value === "") {
				this.#fill();
			}
		});
	}

	#fill() {
		this.#input.value = this.#place.draft;
		this.#tray.open(this.#place);
		this.#show();
	}

	leave() {
		if (this.#conversation) {
			this.#place.draft = this.#input.value;
		}
		this.#conversation = null;
		this.#thread = null;
	}

	/* Nobody is here any more. */
	close() {
		this.leave();
		this.#input.value = "";
		this.#tray.close();
		this.#show();
	}

	/* For after a reload. */
	#keep() {
		if (this.#conversation) {
			this.#drafts.save(this.#conversation, this.#place, this.#input.value);
		}
	}

	#onFiles(edited) {
		this.fit();
		if (edited) {
			this.#keep();
		}
	}

	focus() {
		this.#input.focus({ preventScroll: true });
	}

	reply(entry) {
		this.#place.writing = { what: "reply", entry };
		this.#show();
		this.#keep();
		this.focus();
	}

	edit(entry) {
		this.#place.writing = { what: "edit", entry, before: this.#input.value };
		this.#input.value = entry.content;
		this.#show();
		this.#keep();
		this.focus();
	}

	/* The text of a message that could not be sent, before what has been written since. */
	takeBack(text, attachments = []) {
		const written = this.#input.value;
		this.#input.value = written ? `${text}\n${written}` : text;
		this.#tray.putBack(attachments);
		this.#show();
		this.#keep();
		this.focus();
	}

	#cancel() {
		const writing = this.#place?.writing;
		if (!writing) {
			return false;
		}
		if (writing.what === "edit") {
			this.#input.value = writing.before;
		}
		this.#place.writing = null;
		this.#show();
		this.#keep();
		this.focus();
		return true;
	}

	#show() {
		const writing = this.#place?.writing;
		this.#part("writing").hidden = !writing;
		if (writing) {
			const name = writing.entry.senderName;
			const reply = writing.entry.mine ? t("Replying to yourself") : t("Replying to {name}", { name });
			this.#part("writing-what").textContent = writing.what === "edit" ? t("Editing your message") : reply;
			this.#part("writing-text").textContent = snippet(writing.entry);
		}
		this.#part("composer-send").setAttribute("aria-label", writing?.what === "edit" ? t("Save the new wording") : t("Send"));
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
		this.#part("composer-send").disabled = !this.#maySend(length);
		this.#part("composer-count").hidden = length < this.#max * 0.9;
		this.#part("composer-count").classList.toggle("over", length > this.#max);
		this.#part("composer-count").textContent = t("{n} of {max} characters", { n: length, max: this.#max });
	}

	/* A file says something by itself; one that is not there yet is waited for. */
	#maySend(length) {
		const editing = this.#place?.writing?.what === "edit";
		return editing ? length > 0 : this.#tray.state === "none" ? length > 0 : this.#tray.state === "ready";
	}

	#submit() {
		const conversation = this.#conversation;
		const text = this.#input.value.trim();
		if (!conversation || !this.#maySend(text.length)) {
			this.#sayWhyNot();
			return;
		}
		const over = lengthOf(text) - this.#max;
		if (over > 0) {
			toast(plural(over, "This message is {n} character too long.", "This message is {n} characters too long."), { kind: "error" });
			return;
		}
		const place = this.#place;
		const writing = place.writing;
		if (writing?.what === "edit") {
			this.#save(conversation, place, writing, text);
			return;
		}
		/* The server keeps files as they are: one would leave what is locked open. */
		if (this.#tray.state !== "none" && this.#session.encryption.isOn(conversation)) {
			toast(t("Files are not encrypted. Remove them, or turn the encryption off for this message."), { kind: "error" });
			return;
		}
		const more = { replyTo: writing?.entry.id ?? this.#thread?.root ?? "", threadId: this.#thread?.root ?? "", mentions: mentionsIn(this.#state, conversation, text), attachments: this.#tray.take() };
		this.#session.say(conversation, text, more);
		place.writing = null;
		place.draft = "";
		this.#input.value = "";
		this.#show();
		this.#keep();
		this.#input.focus();
	}

	/* The key was pressed, and nothing would happen. */
	#sayWhyNot() {
		if (this.#place?.writing?.what !== "edit" && this.#tray.state === "failed") {
			toast(t("A file could not be uploaded. Try it again or remove it, and then send the message."), { kind: "error" });
		} else if (this.#place?.writing?.what !== "edit" && this.#tray.state === "busy") {
			toast(t("A file is still on its way. Send the message once it is there."));
		}
	}

	/* The new wording stays in the box until the server has it. */
	async #save(conversation, place, writing, text) {
		const same = text === writing.entry.content;
		this.#part("composer-send").disabled = true;
		if (same || (await this.#session.edit(conversation, writing.entry, text))) {
			if (place.writing === writing) {
				place.writing = null;
				place.draft = writing.before;
				if (this.#place === place) {
					this.#input.value = writing.before;
				}
				this.#drafts.save(conversation, place, writing.before);
			}
		}
		if (this.#place === place) {
			this.#show();
			this.focus();
		}
	}

	#onInput() {
		this.fit();
		this.#keep();
		const conversation = this.#conversation;
		if (!conversation || this.#place.writing?.what === "edit") {
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
		} else if (event.key === "ArrowUp" && this.#input.value === "" && this.#place && !this.#place.writing) {
			const root = this.#thread?.root ?? "";
			const last = this.#conversation.messages.findLast((m) => m.mine && m.kind === "chat" && m.id && m.threadId === root && !m.deleted && !m.locked);
			if (last) {
				event.preventDefault();
				this.edit(last);
			}
		}
	}
}
