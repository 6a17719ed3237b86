/* SPDX-License-Identifier: Apache-2.0 */
/* One row of a conversation: a message with what belongs to it, or a small line. */

import { h, icon } from "./dom.js";
import { filesText } from "./files.js";
import { fullTimeOf, hueClass, initials, isJumbo, linkify, timeOf, untilOf } from "./format.js";
import { listed, plural, t } from "./i18n.js";
import { splitAtNames } from "./mentions.js";
import { filesOf } from "./view-files.js";

const QUOTE_CHARS = 140;

/* What happened, as a sentence. `nameOf(id)` knows people, and is "" for oneself. */
export function eventText(m, nameOf) {
	const you = m.mine && m.senderId;
	const name = m.senderName || nameOf(m.senderId);
	switch (m.code || m.type) {
		case "JOIN":
			if (m.actor && m.actor !== m.senderId) {
				return outcome(JOINED, you, name, m, nameOf);
			}
			return you ? t("You joined") : t("{name} joined", { name });
		case "LEAVE":
			return you ? t("You left") : t("{name} left", { name });
		case "KICKED":
			return outcome(KICKED, you, name, m, nameOf);
		case "BANNED":
			return outcome(untilOf(m.until) ? BANNED_UNTIL : BANNED, you, name, m, nameOf);
		case "ROLE_CHANGED":
			return roleText(m, nameOf);
		case "ROOM_CHANGED":
			return t("The room's settings were changed");
		case "ROOM_DELETED":
			return t("The room was deleted");
		case "PINNED":
			return you ? t("You pinned a message") : t("{name} pinned a message", { name });
		case "UNPINNED":
			return you ? t("You unpinned a message") : t("{name} unpinned a message", { name });
		default:
			return m.content || t("Something changed");
	}
}

/* What somebody did to somebody: [to you, to others by you, among others]. */
const JOINED = [
	(vars) => t("You were brought in by {actor}", vars),
	(vars) => t("You brought in {name}", vars),
	(vars) => t("{name} was brought in by {actor}", vars),
];
const KICKED = [
	(vars) => t("You were removed by {actor}", vars),
	(vars) => t("You removed {name}", vars),
	(vars) => t("{name} was removed by {actor}", vars),
];
const BANNED = [
	(vars) => t("You were banned by {actor}", vars),
	(vars) => t("You banned {name}", vars),
	(vars) => t("{name} was banned by {actor}", vars),
];
const BANNED_UNTIL = [
	(vars) => t("You were banned by {actor} until {time}", vars),
	(vars) => t("You banned {name} until {time}", vars),
	(vars) => t("{name} was banned by {actor} until {time}", vars),
];

function outcome([toYou, byYou, among], you, name, m, nameOf) {
	const actor = m.actor ? nameOf(m.actor) : t("a moderator");
	const vars = { name, actor, time: untilOf(m.until) };
	return you ? toYou(vars) : actor === "" ? byYou(vars) : among(vars);
}

const ROLES = { member: t("an ordinary member"), moderator: t("a moderator"), owner: t("the owner") };

function roleText(m, nameOf) {
	const role = ROLES[m.role] ?? m.role;
	const actor = m.actor ? nameOf(m.actor) : t("Somebody");
	const name = nameOf(m.about);
	if (actor === "") {
		return name === "" ? t("You became {role}", { role }) : t("You made {name} {role}", { name, role });
	}
	return name === "" ? t("{actor} made you {role}", { actor, role }) : t("{actor} made {name} {role}", { actor, name, role });
}

/* One line of what was said. */
export function snippet(entry) {
	if (!entry) {
		return "";
	}
	if (entry.deleted) {
		return t("Deleted message");
	}
	const text = entry.content.replace(/\s+/g, " ").trim();
	return [...text].length > QUOTE_CHARS ? `${[...text].slice(0, QUOTE_CHARS).join("")}…` : text || filesText(entry.attachments ?? []);
}

const MARKS = {
	pending: ["clock", t("Sending")],
	sent: ["check", t("Sent")],
	delivered: ["checks", t("Delivered")],
	read: ["checks", t("Read")],
	failed: ["alert", t("Not sent")],
};

function statusMark(status) {
	const [name, label] = MARKS[status];
	return h("span", { class: `mark ${status}`, title: label }, icon(name, label));
}

/* `names`: of those whom it mentions. */
export function textOf(content, names = []) {
	const named = (part) => (typeof part === "string" ? part : h("span", { class: "mention" }, `@${part.name}`));
	return linkify(content).flatMap((part) =>
		part.href
			? h("a", { href: part.href, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text)
			: splitAtNames(part.text, names).map(named),
	);
}

function heldText(n, code) {
	return code === "RATE_LIMIT_EXCEEDED" ? t("Too many messages at once: this one goes out by itself in {n} s.", { n }) : t("The server is busy: this one goes out by itself in {n} s.", { n });
}

function quoteOf(item, actions) {
	const { id, name, text } = item.quote;
	return h(
		"button",
		{ type: "button", class: "quote", "data-act": "quote", title: t("Show this message"), onclick: () => actions.jump(id) },
		h("span", { class: "quote-name" }, name),
		h("span", { class: "quote-text" }, text),
	);
}

function said(item) {
	if (item.deleted) {
		return [t("This message was deleted.")];
	}
	return item.unreadable ? [t("The server cannot decrypt this message.")] : textOf(item.content, item.names);
}

/* Of somebody whom one has blocked. */
function hiddenBubble(item, actions) {
	return h(
		"div",
		{ class: "bubble tombstone" },
		h("p", { class: "content" }, t("A message of somebody you have blocked."), " "),
		h("button", { type: "button", class: "link-button", "data-act": "reveal", onclick: () => actions.reveal(item.id) }, t("Show")),
	);
}

function bubbleOf(item, actions) {
	if (item.hidden) {
		return hiddenBubble(item, actions);
	}
	const quiet = item.deleted || item.unreadable || item.locked;
	const jumbo = !quiet && !item.quote && item.attachments.length === 0 && isJumbo(item.content);
	return h(
		"div",
		{ class: `bubble${jumbo ? " jumbo" : ""}${quiet ? " tombstone" : ""}` },
		item.quote ? quoteOf(item, actions) : null,
		item.attachments.length > 0 ? filesOf(item.attachments, actions.files) : null,
		h("p", { class: "content" }, ...said(item)),
		h(
			"span",
			{ class: "stamp" },
			item.encrypted && !item.deleted ? h("span", { class: "lock-mark", title: t("Encrypted end to end") }, icon("lock", t("Encrypted end to end"))) : null,
			item.pinned ? h("span", { class: "pin-mark", title: t("Pinned") }, icon("pin", t("Pinned"))) : null,
			item.edited ? h("span", { class: "edited" }, t("edited")) : null,
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
		h("span", {}, item.error ?? t("Not sent.")),
		button("retry", t("Send again")),
		item.kind === "thread" ? null : button("editFailed", t("Edit")) /* that is done in the thread */,
		button("discard", t("Discard")),
	);
}

function readLine(names) {
	return names.length > 3
		? t("Read by {names} and others", { names: names.slice(0, 3).join(", ") })
		: t("Read by {names}", { names: listed(names) });
}

function authorLine(item, actions) {
	if (item.mine) {
		return h("span", { class: "visually-hidden" }, `${t("You")}: `);
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
			title: t("Message {title}", { title: item.name }),
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
			"aria-label": t("Actions for the message “{text}”", { text: [...snippet(item)].slice(0, 40).join("") }),
			tabindex: item.last ? null : "-1",
			onclick: (event) => actions.menu(item.row, event.currentTarget),
		},
		icon("more"),
	);
}

export const dayRow = (item) => h("li", { class: "day" }, h("span", {}, item.text));

/* How many replies a message has in its thread, and the way there. */
function repliesLine(item, actions) {
	const { n, fresh } = item.replies;
	const count = item.more ? plural(n, "{n} reply or more", "{n} replies or more") : plural(n, "{n} reply", "{n} replies");
	return h(
		"button",
		{ type: "button", class: "replies link-button", "data-act": "thread", onclick: () => actions.thread(item.row) },
		icon("thread"),
		h("span", {}, count),
		fresh > 0 ? h("span", { class: "badge" }, t("{n} new", { n: fresh })) : null,
	);
}

export function threadRow(item, actions) {
	return h(
		"li",
		{ class: `thread-line${item.mine ? " mine" : ""}${item.flash ? " flash" : ""}${item.toMe ? " to-me" : ""}`, "data-id": item.id || null, "data-row": String(item.row), "data-status": item.status },
		h(
			"button",
			{ type: "button", class: `thread-open${item.fresh ? " fresh" : ""}`, "data-act": "thread", title: t("Open the thread"), onclick: () => actions.thread(item.row) },
			icon("thread"),
			h("span", { class: "thread-about" }, t("{name}, about “{text}”:", { name: item.name, text: item.about })),
			h("span", { class: "thread-text" }, item.text),
			h("time", { datetime: new Date(item.at).toISOString(), title: fullTimeOf(item.at) }, timeOf(item.at)),
			item.status ? statusMark(item.status) : null,
		),
		item.status === "failed" ? failedLine(item, actions) : null,
	);
}

export function chatRow(item, isNew, actions) {
	const below = [];
	if (item.reactions.length > 0) {
		below.push(reactionsOf(item, actions));
	}
	if (item.replies) {
		below.push(repliesLine(item, actions));
	}
	if (item.status === "failed") {
		below.push(failedLine(item, actions));
	}
	if (item.held > 0) {
		below.push(h("p", { class: "held-line muted" }, heldText(item.held, item.heldFor)));
	}
	if (item.readBy.length > 0) {
		below.push(h("p", { class: "read-line muted" }, readLine(item.readBy)));
	}
	const face = item.mine
		? null
		: h("span", { class: `avatar ${hueClass(item.senderId)}`, "aria-hidden": "true" }, item.grouped ? "" : initials(item.name));
	const line = h("div", { class: "bubble-line" }, bubbleOf(item, actions), item.menu ? moreButton(item, actions) : null);
	return h(
		"li",
		{
			class: `message${item.mine ? " mine" : ""}${item.grouped ? " grouped" : ""}${isNew && item.live ? " fresh" : ""}${item.flash ? " flash" : ""}${item.toMe ? " to-me" : ""}`,
			"data-id": item.id || null,
			"data-row": String(item.row),
			"data-status": item.status,
		},
		face,
		h("div", { class: "message-body" }, authorLine(item, actions), line, ...below),
	);
}
