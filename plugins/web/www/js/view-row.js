/* SPDX-License-Identifier: Apache-2.0 */
/* One row of a conversation: a message with what belongs to it, or a small line. */

import { h, icon } from "./dom.js";
import { fullTimeOf, hueClass, initials, isJumbo, linkify, list, timeOf, untilText } from "./format.js";

const QUOTE_CHARS = 140;

const ROLES = { member: "an ordinary member", moderator: "a moderator", owner: "the owner" };

/* What happened, as a sentence. `nameOf(id)` knows people, and is "you" for oneself. */
export function eventText(m, nameOf) {
	const you = m.mine && m.senderId;
	const who = you ? "You" : m.senderName || nameOf(m.senderId);
	const were = you ? "were" : "was";
	const actor = m.actor ? nameOf(m.actor) : "a moderator";
	const first = capital(m.actor ? nameOf(m.actor) : "somebody");
	switch (m.code || m.type) {
		case "JOIN":
			return m.actor && m.actor !== m.senderId ? `${who} ${were} brought in by ${actor}` : `${who} joined`;
		case "LEAVE":
			return `${who} left`;
		case "KICKED":
			return `${who} ${were} removed by ${actor}`;
		case "BANNED":
			return `${who} ${were} banned by ${actor}${untilText(m.until)}`;
		case "ROLE_CHANGED":
			return `${first} made ${nameOf(m.about)} ${ROLES[m.role] ?? m.role}`;
		case "ROOM_CHANGED":
			return "The room's settings were changed";
		case "ROOM_DELETED":
			return "The room was deleted";
		case "PINNED":
			return `${who} pinned a message`;
		case "UNPINNED":
			return `${who} unpinned a message`;
		default:
			return m.content || "Something changed";
	}
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/* One line of what was said. */
export function snippet(entry) {
	if (!entry) {
		return "";
	}
	if (entry.deleted) {
		return "Deleted message";
	}
	const text = entry.content.replace(/\s+/g, " ").trim();
	return [...text].length > QUOTE_CHARS ? `${[...text].slice(0, QUOTE_CHARS).join("")}…` : text || "Attachment";
}

const MARKS = {
	pending: ["clock", "Sending"],
	sent: ["check", "Sent"],
	read: ["checks", "Read"],
	failed: ["alert", "Not sent"],
};

function statusMark(status) {
	const [name, label] = MARKS[status];
	return h("span", { class: `mark ${status}`, title: label }, icon(name, label));
}

export function textOf(content) {
	return linkify(content).map((part) =>
		part.href ? h("a", { href: part.href, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text) : part.text,
	);
}

function quoteOf(item, actions) {
	const { id, name, text } = item.quote;
	return h(
		"button",
		{ type: "button", class: "quote", "data-act": "quote", title: "Show this message", onclick: () => actions.jump(id) },
		h("span", { class: "quote-name" }, name),
		h("span", { class: "quote-text" }, text),
	);
}

function bubbleOf(item, actions) {
	const jumbo = !item.deleted && !item.quote && isJumbo(item.content);
	return h(
		"div",
		{ class: `bubble${jumbo ? " jumbo" : ""}${item.deleted ? " tombstone" : ""}` },
		item.quote ? quoteOf(item, actions) : null,
		h("p", { class: "content" }, ...(item.deleted ? ["This message was deleted."] : textOf(item.content))),
		h(
			"span",
			{ class: "stamp" },
			item.pinned ? h("span", { class: "pin-mark", title: "Pinned" }, icon("pin", "Pinned")) : null,
			item.edited ? h("span", { class: "edited" }, "edited") : null,
			h("time", { datetime: new Date(item.at).toISOString(), title: fullTimeOf(item.at) }, timeOf(item.at)),
			item.status ? statusMark(item.status) : null,
		),
	);
}

function reactionsOf(item, actions) {
	const chips = item.reactions.map(({ reaction, count, mine, names }) =>
		h(
			"button",
			{
				type: "button",
				class: `reaction${mine ? " mine" : ""}`,
				"data-act": `react-${reaction}`,
				"aria-pressed": String(mine),
				"aria-label": `${reaction}, ${count}: ${names}`,
				title: names,
				onclick: () => actions.react(item.row, reaction),
			},
			reaction,
			h("span", { class: "count" }, String(count)),
		),
	);
	return h("div", { class: "reactions" }, ...chips);
}

function failedLine(item, actions) {
	const button = (act, label) =>
		h("button", { type: "button", class: "link-button", "data-act": act, onclick: () => actions[act](item.row) }, label);
	return h(
		"p",
		{ class: "failed-line", role: "alert" },
		h("span", {}, item.error ?? "Not sent."),
		button("retry", "Send again"),
		button("editFailed", "Edit"),
		button("discard", "Discard"),
	);
}

function authorLine(item, actions) {
	if (item.mine) {
		return h("span", { class: "visually-hidden" }, "You: ");
	}
	if (item.grouped) {
		return h("span", { class: "visually-hidden" }, `${item.name}: `);
	}
	return h(
		"button",
		{
			type: "button",
			class: `author link-button ${hueClass(item.senderId)}`,
			"data-act": "author",
			title: `Message ${item.name}`,
			onclick: () => actions.openPerson(item.senderId),
		},
		item.name,
	);
}

function moreButton(item, actions) {
	return h(
		"button",
		{
			type: "button",
			class: "icon-button small more",
			"data-act": "more",
			"aria-haspopup": "dialog",
			"aria-label": `Actions for the message “${[...snippet(item)].slice(0, 40).join("")}”`,
			tabindex: item.last ? null : "-1",
			onclick: (event) => actions.menu(item.row, event.currentTarget),
		},
		icon("more"),
	);
}

export function chatRow(item, isNew, actions) {
	const below = [];
	if (item.reactions.length > 0) {
		below.push(reactionsOf(item, actions));
	}
	if (item.status === "failed") {
		below.push(failedLine(item, actions));
	}
	if (item.held > 0) {
		below.push(h("p", { class: "held-line muted" }, `Too many messages at once: this one goes out by itself in ${item.held} s.`));
	}
	if (item.readBy.length > 0) {
		below.push(h("p", { class: "read-line muted" }, `Read by ${list(item.readBy.slice(0, 3))}${item.readBy.length > 3 ? " and others" : ""}`));
	}
	const face = item.mine
		? null
		: h("span", { class: `avatar ${hueClass(item.senderId)}`, "aria-hidden": "true" }, item.grouped ? "" : initials(item.name));
	const line = h("div", { class: "bubble-line" }, bubbleOf(item, actions), item.menu ? moreButton(item, actions) : null);
	return h(
		"li",
		{
			class: `message${item.mine ? " mine" : ""}${item.grouped ? " grouped" : ""}${isNew && item.live ? " fresh" : ""}${item.flash ? " flash" : ""}`,
			"data-id": item.id || null,
			"data-row": String(item.row),
			"data-status": item.status,
		},
		face,
		h("div", { class: "message-body" }, authorLine(item, actions), line, ...below),
	);
}
