/* SPDX-License-Identifier: Apache-2.0 */
/* The open conversation: its head, its messages, who is typing. */

import { $, h, reconcile } from "./dom.js";
import { dayKey, dayOf, timeOf, untilOf } from "./format.js";
import { listed, plural, t } from "./i18n.js";
import { avatar } from "./view-lists.js";
import { chatRow, dayRow, eventText, snippet, threadRow } from "./view-row.js";

const GROUP_MS = 5 * 60 * 1000;
const NEAR_BOTTOM_PX = 80;
const NEAR_TOP_PX = 500;
const FLASH_MS = 2500;

let flashed = "";
let lastAnnounced = 0;

/* Replies that each message has: id -> {n, fresh}. They come after it, so the stretch that is shown has them all when
 * it reaches the end; else there may be more. */
function repliesIn(conversation) {
	const found = new Map();
	for (const m of conversation.messages) {
		if (m.threadId && m.id && !m.deleted && m.kind === "chat") {
			const { n, fresh } = found.get(m.threadId) ?? { n: 0, fresh: 0 };
			found.set(m.threadId, { n: n + 1, fresh: fresh + (m.live && !m.mine && !m.seenInThread ? 1 : 0) });
		}
	}
	return found;
}

/* Plain data for each row, so that a row is rebuilt only when something that it shows changed. `thread`: the id of the
 * message that all of them are about, where they are shown by themselves. */
export function rowsOf(state, conversation, actions, { messages, thread } = { messages: conversation.messages, thread: "" }) {
	const rows = [];
	const replies = thread ? new Map() : repliesIn(conversation);
	const nameOf = (id) => (id === state.me?.id ? "" : state.nameOf(id));
	const whole = (m) => m.kind === "chat" && m.id && (thread || !m.threadId);
	const lastMine = messages.findLast((m) => m.mine && whole(m));
	const lastChat = messages.findLast((m) => whole(m) && !m.deleted);
	let day = "";
	let previous = null;
	for (const m of messages) {
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
		if (m.threadId && !thread) {
			rows.push(threadLine(state, conversation, actions, m));
			previous = null;
			continue;
		}
		const grouped = previous !== null && previous.senderId === m.senderId && m.at - previous.at < GROUP_MS;
		const quote = m.replyTo && m.replyTo !== thread ? quoteOf(state, conversation, m.replyTo) : null;
		const place = { grouped, last: m === lastChat, lastMine: m === lastMine, replies: replies.get(m.id) ?? null, quote };
		rows.push(chatItem(state, conversation, actions, { m, ...place }));
		previous = m;
	}
	return rows;
}

/* One message with all that is shown of it. */
function chatItem(state, conversation, actions, { m, grouped, last, lastMine, replies, quote }) {
	const readers = m.mine ? state.readersOf(conversation, m) : [];
	return {
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
		last,
		menu: Boolean(m.id) && !m.deleted,
		pinned: Boolean(conversation.pins?.has(m.id)),
		replies,
		more: conversation.after !== null,
		quote,
		reactions: reactionsOf(state, m),
		names: m.mentions.map((id) => state.nameOf(id)),
		toMe: m.mentions.includes(state.me?.id),
		status: m.mine && !m.deleted ? statusOf(state, conversation, m, readers) : null,
		error: m.error,
		held: m.status === "pending" ? state.held : 0,
		heldFor: m.status === "pending" && state.held > 0 ? state.heldFor : "",
		readBy: lastMine && conversation.kind === "room" ? readers.map((id) => state.nameOf(id)) : [],
	};
}

/* What is said in a thread is one line among the messages, and whole in the thread. */
function threadLine(state, conversation, actions, m) {
	const root = conversation.messages.find((other) => other.id === m.threadId) ?? conversation.quoted.get(m.threadId);
	return {
		key: m.row,
		kind: "thread",
		id: m.id,
		row: m.row,
		mine: m.mine,
		name: m.mine ? t("You") : m.senderName,
		text: actions.hides(m) ? t("A message of somebody you have blocked.") : snippet(m),
		about: root && !actions.hides(root) ? snippet(root) : t("Earlier message"),
		at: m.at,
		flash: m.id !== "" && m.id === flashed,
		toMe: m.mentions.includes(state.me?.id),
		fresh: Boolean(m.live) && !m.mine && !m.seenInThread,
		status: m.mine ? statusOf(state, conversation, m, state.readersOf(conversation, m)) : null,
		error: m.error,
	};
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
				return dayRow(item);
			case "event":
				return h("li", { class: "event", "data-row": String(item.key) }, h("span", {}, item.text), " ", h("time", {}, item.time));
			case "thread":
				return threadRow(item, actions);
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
	const empty = rows.every((row) => ["day", "event"].includes(row.kind)) && ["yes", "none"].includes(conversation.loaded);
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
	element?.querySelector("[data-act=more], [data-act=thread]")?.focus({ preventScroll: true });
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
	const pins = conversation.pins?.size ?? 0;
	$("pins-count").textContent = String(pins);
	$("open-pins").setAttribute("aria-label", plural(pins, "{n} pinned message", "{n} pinned messages"));
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
		const muteText = untilOf(room.mutedUntil)
			? t("You have been muted here until {time}: you may read, but not write.", { time: untilOf(room.mutedUntil) })
			: t("You have been muted here: you may read, but not write.");
		text = muted ? muteText : t("Only moderators write here.");
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

/* Up and down from one message's button to the next; `thread(row)` opens the thread of one. */
export function initMessageKeys(list, thread) {
	list.addEventListener("keydown", (event) => {
		const button = event.target.closest("[data-act=more]");
		if (button && event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) {
			event.preventDefault();
			thread?.(Number(button.closest("[data-row]").dataset.row));
		}
		const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
		if (!step || !button) {
			return;
		}
		const buttons = [...list.querySelectorAll("[data-act=more]")];
		const next = buttons[buttons.indexOf(button) + step];
		if (next) {
			event.preventDefault();
			next.focus();
			next.scrollIntoView({ block: "nearest" });
		}
	});
}

