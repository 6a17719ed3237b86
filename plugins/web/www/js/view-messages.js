/* The open conversation: its head, its messages, who is typing, the box to write in. */

import { $, h, icon, reconcile } from "./dom.js";
import { dayKey, dayOf, fullTimeOf, hueClass, initials, isJumbo, linkify, list, timeOf } from "./format.js";
import { avatar } from "./view-lists.js";

const GROUP_MS = 5 * 60 * 1000;
const NEAR_BOTTOM_PX = 80;

function eventText(message) {
	switch (message.type) {
		case "JOIN":
			return `${message.senderName} joined`;
		case "LEAVE":
			return `${message.senderName} left`;
		default:
			return message.content;
	}
}

/* Plain data for each row, so that a row is rebuilt only when something that it shows changed. */
function rowsOf(state, conversation) {
	const rows = [];
	const lastMine = conversation.messages.findLast((m) => m.mine && m.kind === "chat" && m.id);
	let day = "";
	let previous = null;
	for (const m of conversation.messages) {
		if (dayKey(m.at) !== day) {
			day = dayKey(m.at);
			rows.push({ key: `day-${day}`, kind: "day", text: dayOf(m.at) });
			previous = null;
		}
		if (m.kind === "event") {
			rows.push({ key: m.row, kind: "event", text: eventText(m), time: timeOf(m.at) });
			previous = null;
			continue;
		}
		const grouped = previous !== null && previous.senderId === m.senderId && m.at - previous.at < GROUP_MS;
		const readers = m.mine ? state.readersOf(conversation, m) : [];
		rows.push({
			key: m.row,
			kind: "chat",
			id: m.id,
			row: m.row,
			mine: m.mine,
			grouped,
			senderId: m.senderId,
			name: m.senderName,
			content: m.content,
			at: m.at,
			status: m.mine ? (m.status === "sent" && readers.length > 0 ? "read" : m.status) : null,
			error: m.error,
			readBy: m === lastMine && conversation.kind === "room" ? readers.map((id) => state.nameOf(id)) : [],
		});
		previous = m;
	}
	return rows;
}

function statusMark(item) {
	const marks = {
		pending: ["clock", "Sending"],
		sent: ["check", "Sent"],
		read: ["checks", "Read"],
		failed: ["alert", "Not sent"],
	};
	const [name, label] = marks[item.status];
	return h("span", { class: `mark ${item.status}`, title: label }, icon(name, label));
}

function textOf(content) {
	return linkify(content).map((part) =>
		part.href ? h("a", { href: part.href, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text) : part.text,
	);
}

function chatRow(item, actions) {
	const bubble = h(
		"div",
		{ class: `bubble${isJumbo(item.content) ? " jumbo" : ""}` },
		h("p", { class: "content" }, ...textOf(item.content)),
		h(
			"span",
			{ class: "stamp" },
			h("time", { datetime: new Date(item.at).toISOString(), title: fullTimeOf(item.at) }, timeOf(item.at)),
			item.status ? statusMark(item) : null,
		),
	);
	const below = [];
	if (item.status === "failed") {
		below.push(
			h(
				"p",
				{ class: "failed-line" },
				h("span", {}, item.error ?? "Not sent."),
				h("button", { type: "button", class: "link-button", onclick: () => actions.retry(item.row) }, "Try again"),
				h("button", { type: "button", class: "link-button", onclick: () => actions.edit(item.row) }, "Edit"),
				h("button", { type: "button", class: "link-button", onclick: () => actions.discard(item.row) }, "Discard"),
			),
		);
	}
	if (item.readBy.length > 0) {
		below.push(h("p", { class: "read-line muted" }, `Read by ${list(item.readBy.slice(0, 3))}${item.readBy.length > 3 ? " and others" : ""}`));
	}
	const face = item.mine
		? null
		: h("span", { class: `avatar ${hueClass(item.senderId)}`, "aria-hidden": "true" }, item.grouped ? "" : initials(item.name));
	const author = item.mine ? h("span", { class: "visually-hidden" }, "You: ") : authorLine(item, actions);
	return h(
		"li",
		{
			class: `message${item.mine ? " mine" : ""}${item.grouped ? " grouped" : ""}`,
			"data-id": item.id || null,
			"data-status": item.status,
		},
		face,
		h("div", { class: "message-body" }, author, bubble, ...below),
	);
}

function authorLine(item, actions) {
	if (item.grouped) {
		return h("span", { class: "visually-hidden" }, `${item.name}: `);
	}
	return h(
		"button",
		{ type: "button", class: `author link-button ${hueClass(item.senderId)}`, title: `Message ${item.name}`, onclick: () => actions.openPerson(item.senderId) },
		item.name,
	);
}

/* `actions`: retry(row), edit(row), discard(row), openPerson(id). */
export function showMessages(state, conversation, actions) {
	const scroller = $("scroller");
	const atBottom = nearBottom();
	const sameConversation = scroller.dataset.key === conversation.key;
	const rows = rowsOf(state, conversation);
	reconcile($("messages"), rows, (item) => {
		switch (item.kind) {
			case "day":
				return h("li", { class: "day" }, h("span", {}, item.text));
			case "event":
				return h("li", { class: "event" }, h("span", {}, item.text), " ", h("time", {}, item.time));
			default:
				return chatRow(item, actions);
		}
	});
	$("blank").textContent = rows.length > 0 ? "" : blankText(state, conversation);
	$("blank").hidden = rows.length > 0;
	const last = conversation.messages.at(-1);
	if (!sameConversation || atBottom || last?.mine) {
		toBottom();
	} else if (last?.row !== Number(scroller.dataset.last)) {
		$("jump").hidden = false;
	}
	scroller.dataset.key = conversation.key;
	scroller.dataset.last = last?.row ?? 0;
}

function blankText(state, conversation) {
	const title = state.titleOf(conversation);
	return conversation.kind === "room"
		? `Nothing said in ${title} since you came. Say hello!`
		: `This is the beginning of what you and ${title} say to each other.`;
}

export function nearBottom() {
	const scroller = $("scroller");
	return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_BOTTOM_PX;
}

export function toBottom() {
	const scroller = $("scroller");
	scroller.scrollTop = scroller.scrollHeight;
	$("jump").hidden = true;
}

export function showHead(state, conversation) {
	const room = conversation.kind === "room" ? state.rooms.get(conversation.id) : null;
	const title = state.titleOf(conversation);
	avatar($("head-avatar"), conversation.id, title, conversation.kind === "room");
	$("head-title").textContent = title;
	$("head-sub").textContent = room ? roomLine(room) : personLine(state, conversation.id);
	$("leave-room").hidden = !room?.joined;
	$("toggle-people").hidden = !room?.joined;
	const outside = conversation.kind === "room" && !room?.joined;
	$("join-bar").hidden = !outside;
	$("composer").hidden = outside;
	$("join-text").textContent = outside ? `You are not in ${title}.` : "";
	$("composer-input").placeholder = `Message ${title}`;
}

function roomLine(room) {
	const people = room.members === 1 ? "1 person" : `${room.members ?? 0} people`;
	return `${people} · ${room.public ? "open to everyone" : "private"}`;
}

function personLine(state, id) {
	if (id === state.me?.id) {
		return "Notes to yourself";
	}
	const person = state.people.get(id);
	const name = person && person.name !== id ? ` · ${id}` : "";
	if ((person?.online ?? null) === null) {
		return `Direct messages${name}`;
	}
	return `${person.online ? "Online" : "Offline"}${name}`;
}

export function showTyping(state, conversation) {
	const names = [...conversation.typing.keys()].map((id) => state.nameOf(id));
	const shown = names.length > 3 ? ["Several people"] : names;
	$("typing").textContent = names.length === 0 ? "" : `${list(shown)} ${names.length === 1 ? "is" : "are"} typing…`;
}
