/* SPDX-License-Identifier: Apache-2.0 */
/* The open conversation: its head, its messages, who is typing. */

import { $, h, reconcile } from "./dom.js";
import { dayKey, dayOf, timeOf } from "./format.js";
import { listed, plural, t } from "./i18n.js";
import { avatar } from "./view-lists.js";
import { chatRow, eventText, snippet } from "./view-row.js";

const GROUP_MS = 5 * 60 * 1000;
const NEAR_BOTTOM_PX = 80;
const NEAR_TOP_PX = 500;
const FLASH_MS = 2500;

let flashed = "";
let lastAnnounced = 0;

/* Plain data for each row, so that a row is rebuilt only when something that it shows changed. */
function rowsOf(state, conversation, actions) {
	const rows = [];
	const nameOf = (id) => (id === state.me?.id ? "" : state.nameOf(id));
	const lastMine = conversation.messages.findLast((m) => m.mine && m.kind === "chat" && m.id);
	const lastChat = conversation.messages.findLast((m) => m.kind === "chat" && m.id && !m.deleted);
	let day = "";
	let previous = null;
	for (const m of conversation.messages) {
		if (dayKey(m.at) !== day) {
			day = dayKey(m.at);
			rows.push({ key: `day-${day}`, kind: "day", text: dayOf(m.at) });
			previous = null;
		}
		if (m.kind === "event") {
			rows.push({ key: m.row, kind: "event", text: eventText(m, nameOf), time: timeOf(m.at) });
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
			attachments: m.deleted ? [] : m.attachments,
			at: m.at,
			edited: m.edited,
			encrypted: m.encrypted,
			locked: Boolean(m.locked),
			deleted: m.deleted,
			unreadable: m.unreadable,
			hidden: !m.deleted && actions.hides(m),
			live: Boolean(m.live),
			flash: m.id !== "" && m.id === flashed,
			last: m === lastChat,
			menu: Boolean(m.id) && !m.deleted,
			pinned: Boolean(conversation.pins?.has(m.id)),
			quote: m.replyTo ? quoteOf(state, conversation, m.replyTo) : null,
			reactions: reactionsOf(state, m),
			names: m.mentions.map((id) => state.nameOf(id)),
			toMe: m.mentions.includes(state.me?.id),
			status: m.mine && !m.deleted ? statusOf(state, conversation, m, readers) : null,
			error: m.error,
			held: m.status === "pending" ? state.held : 0,
			readBy: m === lastMine && conversation.kind === "room" ? readers.map((id) => state.nameOf(id)) : [],
		});
		previous = m;
	}
	return rows;
}

/* pending, failed, sent, delivered, read. */
function statusOf(state, conversation, m, readers) {
	if (m.status !== "sent" || readers.length > 0) {
		return m.status === "sent" ? "read" : m.status;
	}
	const there = conversation.kind === "user" && conversation.id !== state.me?.id && state.readersOf(conversation, m, "deliveredTo").length > 0;
	return there ? "delivered" : "sent";
}

function quoteOf(state, conversation, id) {
	const entry = conversation.messages.find((m) => m.id === id) ?? conversation.quoted.get(id);
	return { id, name: entry ? (entry.mine ? t("You") : entry.senderName) : t("Reply"), text: entry ? snippet(entry) : t("Earlier message") };
}

function reactionsOf(state, m) {
	return Object.entries(m.reactions ?? {}).map(([reaction, ids]) => ({
		reaction,
		count: ids.length,
		mine: ids.includes(state.me?.id),
		names: listed(ids.slice(0, 8).map((id) => (id === state.me?.id ? t("you") : state.nameOf(id)))),
	}));
}

/* The row that the person looks at stays where it is, whatever is put above it. */
function keepPlace(work) {
	const scroller = $("scroller");
	const top = scroller.getBoundingClientRect().top;
	const shown = [...$("messages").children].find((e) => e.getBoundingClientRect().bottom > top && e.dataset.row);
	const row = shown?.dataset.row;
	const before = shown?.getBoundingClientRect().top;
	work();
	const same = row && $("messages").querySelector(`[data-row="${row}"]`);
	if (same) {
		scroller.scrollTop += same.getBoundingClientRect().top - before;
	}
}

/* `actions`: retry, editFailed, discard, react, menu with a row; jump(id), openPerson(id). */
export function showMessages(state, conversation, actions) {
	const scroller = $("scroller");
	const sameConversation = scroller.dataset.key === conversation.key;
	const atBottom = nearBottom() && conversation.after === null;
	const rows = rowsOf(state, conversation, actions);
	const build = (item, isNew) => {
		switch (item.kind) {
			case "day":
				return h("li", { class: "day" }, h("span", {}, item.text));
			case "event":
				return h("li", { class: "event", "data-row": String(item.key) }, h("span", {}, item.text), " ", h("time", {}, item.time));
			default:
				return chatRow(item, isNew, actions);
		}
	};
	keepPlace(() => {
		showTop(conversation);
		reconcile($("messages"), rows, build);
		showBlank(state, conversation, rows);
	});
	announce(conversation, sameConversation);
	const last = conversation.messages.at(-1);
	const moved = last?.row !== Number(scroller.dataset.last);
	if (conversation.after !== null) {
		$("jump").hidden = false;
	} else if (!flashed && (!sameConversation || atBottom || (moved && last?.mine && last.live))) {
		toBottom();
	} else if (moved && last?.live) {
		$("jump").hidden = false;
	}
	$("jump-text").textContent = conversation.after !== null ? t("To the newest messages") : t("New messages");
	scroller.dataset.key = conversation.key;
	scroller.dataset.last = last?.row ?? 0;
}

/* A page of history is not read out; what somebody says now is. */
function announce(conversation, sameConversation) {
	const last = conversation.messages.findLast((m) => m.live && !m.mine && m.kind === "chat");
	if (last && last.row > lastAnnounced) {
		lastAnnounced = last.row;
		if (sameConversation) {
			$("announce").textContent = `${last.senderName}: ${snippet(last)}`;
		}
	}
}

/* What is above the first message: the beginning, or that more is on its way. */
function showTop(conversation) {
	const top = $("history-top");
	const loaded = conversation.loaded === "yes";
	const failed = conversation.loaded === "failed" || conversation.pagingFailed === "older";
	const busy = conversation.loaded === "loading" || (loaded && conversation.before !== null && !failed);
	const beginning = loaded && conversation.before === null && conversation.messages.some((m) => m.seq);
	const now = failed ? "failed" : busy ? "busy" : beginning ? "beginning" : "";
	if (top.dataset.state !== now) {
		top.dataset.state = now;
	}
	top.hidden = now === "";
	$("history-text").textContent = {
		failed: t("The earlier messages could not be loaded."),
		busy: t("Loading earlier messages…"),
		beginning: t("This is the beginning of the conversation."),
		"": "",
	}[now];
	$("history-retry").hidden = !failed;
	$("history-below").hidden = conversation.after === null || conversation.paging !== "newer";
}

function showBlank(state, conversation, rows) {
	const empty = rows.length === 0 && ["yes", "none"].includes(conversation.loaded);
	$("blank").textContent = empty ? blankText(state, conversation) : "";
	$("blank").hidden = !empty;
}

function blankText(state, conversation) {
	const title = state.titleOf(conversation);
	if (conversation.kind === "user") {
		return t("This is the beginning of what you and {name} say to each other.", { name: title });
	}
	const outside = !state.rooms.get(conversation.id)?.joined;
	return outside ? t("What is said in {title} is for its members.", { title }) : t("Nothing said in {title} yet. Say hello!", { title });
}

export function nearBottom() {
	const scroller = $("scroller");
	return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_BOTTOM_PX;
}

export const nearTop = () => $("scroller").scrollTop < NEAR_TOP_PX;

export function toBottom() {
	const scroller = $("scroller");
	scroller.scrollTop = scroller.scrollHeight;
	$("jump").hidden = true;
}

/* Brings one message into view and marks it for a moment. `render` shows what has been loaded. */
export function flash(id, render) {
	flashed = id;
	render();
	const element = $("messages").querySelector(`[data-id="${CSS.escape(id)}"]`);
	element?.scrollIntoView({ block: "center" });
	element?.querySelector("[data-act=more]")?.focus({ preventScroll: true });
	setTimeout(() => {
		if (flashed === id) {
			flashed = "";
			render();
		}
	}, FLASH_MS);
}

export function showHead(state, conversation) {
	const room = conversation.kind === "room" ? state.rooms.get(conversation.id) : null;
	const title = state.titleOf(conversation);
	avatar($("head-avatar"), conversation.id, title, conversation.kind === "room");
	$("head-title").textContent = title;
	$("head-sub").textContent = room ? roomLine(room) : conversation.kind === "room" ? "" : personLine(state, conversation.id);
	$("leave-room").hidden = !room?.joined;
	$("toggle-people").hidden = !room?.joined;
	$("open-room").hidden = !room?.joined;
	$("open-pins").hidden = !conversation.pins?.size;
	$("pins-count").textContent = String(conversation.pins?.size ?? 0);
	showBelow(state, conversation, room, title);
}

/* The box to write in, or why there is none. */
function showBelow(state, conversation, room, title) {
	const outside = conversation.kind === "room" && !room?.joined;
	const muted = room?.mutedUntil && Date.parse(room.mutedUntil) > Date.now();
	const quiet = !outside && room && (muted || (room.readOnly && !["owner", "moderator"].includes(room.role)));
	const gone = state.gone.get(conversation.id);
	$("join-bar").hidden = !outside && !quiet;
	$("composer").hidden = Boolean(outside || quiet);
	$("join-room").hidden = !outside || !room || (gone && !gone.mayJoin) || false;
	let text = "";
	if (outside) {
		text = gone?.text ?? (room?.invited ? t("You are invited to {title}.", { title }) : t("You are not in {title}.", { title }));
	} else if (quiet) {
		text = muted ? t("You have been muted here: you may read, but not write.") : t("Only moderators write here.");
	}
	if ($("join-text").textContent !== text) {
		$("join-text").textContent = text;
	}
	$("composer-input").placeholder = t("Message {title}", { title });
}

function roomLine(room) {
	const people = plural(room.members ?? 0, "{n} person", "{n} people");
	const about = room.about ? ` · ${room.about}` : "";
	return `${people} · ${room.public ? t("open to everyone") : t("private")}${about}`;
}

const STATUS = { away: t("Away"), busy: t("Busy") };

function personLine(state, id) {
	if (id === state.me?.id) {
		return t("Notes to yourself");
	}
	const person = state.people.get(id);
	const name = person && person.name !== id ? ` · ${id}` : "";
	if ((person?.online ?? null) === null) {
		return `${t("Direct messages")}${name}`;
	}
	return `${STATUS[person.status] ?? (person.online ? t("Online") : t("Offline"))}${person.text ? `: ${person.text}` : ""}${name}`;
}

export function showTyping(state, conversation) {
	const names = [...conversation.typing.keys()].map((id) => state.nameOf(id));
	const text = names.length > 3 ? t("Several people are typing…") : plural(names.length, "{names} is typing…", "{names} are typing…", { names: listed(names) });
	$("typing").textContent = names.length === 0 ? "" : text;
}

/* Up and down from one message's button to the next. */
export function initMessageKeys() {
	$("messages").addEventListener("keydown", (event) => {
		const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
		if (!step || !event.target.closest("[data-act=more]")) {
			return;
		}
		const buttons = [...$("messages").querySelectorAll("[data-act=more]")];
		const next = buttons[buttons.indexOf(event.target.closest("[data-act=more]")) + step];
		if (next) {
			event.preventDefault();
			next.focus();
			next.scrollIntoView({ block: "nearest" });
		}
	});
}

