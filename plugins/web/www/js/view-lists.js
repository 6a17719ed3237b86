/* SPDX-License-Identifier: Apache-2.0 */
/* The list of conversations, the person's own card, and the people of a room. */

import { $, h, icon, reconcile } from "./dom.js";
import { hueClass, initials, shortTimeOf } from "./format.js";
import { t } from "./i18n.js";
import { roomKey } from "./state.js";
import { snippet } from "./view-row.js";

export function avatar(element, id, name, room) {
	element.className = `avatar ${room ? "room" : hueClass(id)}`;
	element.textContent = room ? "#" : initials(name);
	return element;
}

function conversationRow(item, onOpen) {
	return h(
		"li",
		{},
		h(
			"button",
			{
				type: "button",
				class: `conversation${item.active ? " active" : ""}${item.unread ? " unread" : ""}${item.outside ? " outside" : ""}`,
				"aria-current": item.active ? "true" : null,
				"data-key": item.key,
				onclick: () => onOpen(item.key),
			},
			presenceAvatar(item),
			h(
				"span",
				{ class: "conversation-text" },
				h("span", { class: "conversation-line" }, h("span", { class: "conversation-name" }, item.name), item.time ? h("time", { class: "when" }, item.time) : null),
				item.preview ? h("span", { class: "preview" }, item.preview) : null,
			),
			item.tag ? h("span", { class: "tag" }, item.tag) : null,
			item.unread
				? h("span", { class: "badge" }, item.unread > 99 ? "99+" : String(item.unread), h("span", { class: "visually-hidden" }, ` ${t("unread")}`))
				: null,
		),
	);
}

/* What was said last, and when. */
function previewOf(conversation) {
	const entry = conversation?.preview;
	if (!entry) {
		return { preview: "", time: "" };
	}
	const who = entry.mine ? t("You") : conversation.kind === "room" ? entry.senderName : "";
	return { preview: `${who ? `${who}: ` : ""}${snippet(entry)}`, time: shortTimeOf(entry.at) };
}

function presenceAvatar(item) {
	const face = avatar(h("span", { "aria-hidden": "true" }), item.id, item.name, item.room);
	if (item.room) {
		return face;
	}
	return h(
		"span",
		{ class: "with-presence" },
		face,
		item.online === null
			? null
			: h("span", { class: `presence ${item.online ? "on" : "off"}` }, h("span", { class: "visually-hidden" }, item.online ? t("online") : t("offline"))),
	);
}

function roomItem(state, room) {
	const key = roomKey(room.id);
	const conversation = state.conversations.get(key);
	return {
		key,
		id: room.id,
		name: room.name,
		room: true,
		outside: !room.joined,
		tag: room.joined ? "" : room.invited ? t("invited") : t("join"),
		active: key === state.active,
		unread: room.joined ? (conversation?.unread ?? 0) : 0,
		...(room.joined ? previewOf(conversation) : {}),
	};
}

const OTHERS_SHOWN = 6;

/* Invitations first: somebody waits for an answer. */
const standing = (room) => (room.joined ? 1 : room.invited ? 0 : 2);

/* Of the rooms one could join, those that fit; the finder has all. */
function shownRooms(state) {
	const lastAt = (room) => (room.joined ? (state.conversations.get(roomKey(room.id))?.lastAt ?? 0) : 0);
	const rooms = [...state.rooms.values()].sort(
		(a, b) => standing(a) - standing(b) || lastAt(b) - lastAt(a) || a.name.localeCompare(b.name),
	);
	const others = rooms.filter((room) => standing(room) === 2);
	const left = new Set(others.slice(OTHERS_SHOWN).filter((room) => roomKey(room.id) !== state.active));
	return rooms.filter((room) => !left.has(room));
}

export function showConversations(state, onOpen) {
	const rooms = shownRooms(state).map((room) => roomItem(state, room));
	reconcile($("room-list"), rooms, (item) => conversationRow(item, onOpen));
	$("room-empty").hidden = rooms.length > 0;
	const more = state.rooms.size - rooms.length;
	$("more-rooms").hidden = more === 0;
	$("more-rooms").textContent = t("{n} more to join…", { n: more });

	const direct = [...state.conversations.values()]
		.filter((c) => c.kind === "user")
		.sort((a, b) => b.lastAt - a.lastAt)
		.map((c) => ({
			key: c.key,
			id: c.id,
			name: c.id === state.me?.id ? t("{name} (you)", { name: state.nameOf(c.id) }) : state.nameOf(c.id),
			online: state.people.get(c.id)?.online ?? null,
			active: c.key === state.active,
			unread: c.unread,
			...previewOf(c),
		}));
	reconcile($("direct-list"), direct, (item) => conversationRow(item, onOpen));
	$("direct-empty").hidden = direct.length > 0;

	const total = state.unreadTotal();
	document.title = total > 0 ? `(${total}) chatd` : "chatd";
	$("other-unread").hidden = total - (state.conversations.get(state.active)?.unread ?? 0) <= 0;
}

export function showMe(me) {
	if (!me) {
		return;
	}
	avatar($("me-avatar"), me.id, me.name);
	$("me-name").textContent = me.name;
	$("me-id").textContent = me.id;
	$("me-id").hidden = me.id === me.name && !navigator.clipboard;
}

/* `manager`: {mayManage(roomId, member), menu(roomId, member, anchor)}. */
export function showPeople(state, roomId, onOpen, manager) {
	const rank = (person) => (person.online === false ? 1 : 0);
	const people = (state.members.get(roomId) ?? [])
		.map((member) => {
			const { id, role } = member;
			const person = state.people.get(id) ?? { id, name: id, online: null };
			const managed = manager.mayManage(roomId, member);
			return { key: id, id, name: person.name, online: person.online, role, managed, me: id === state.me?.id };
		})
		.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
	const more = state.large.has(roomId);
	const known = !more && people.some((p) => p.online !== null);
	$("people-count").textContent = known ? t("{n} of {all} online", { n: people.filter((p) => p.online).length, all: people.length }) : "";
	$("people-more").hidden = !more;
	reconcile($("people-list"), people, (item) => personRow(item, roomId, onOpen, manager));
}

const ROLE_NAMES = { owner: t("owner"), moderator: t("moderator") };
const roleName = (role) => ROLE_NAMES[role] ?? role;

function personRow(item, roomId, onOpen, manager) {
	return h(
		"li",
		{ class: "person" },
		h(
			"button",
			{
				type: "button",
				class: `conversation${item.online === false ? " away" : ""}`,
				"data-user": item.id,
				"data-act": "open",
				title: item.me ? t("This is you") : t("Message {title}", { title: item.name }),
				onclick: () => onOpen(item.id),
			},
			presenceAvatar(item),
			h("span", { class: "conversation-name" }, item.me ? t("{name} (you)", { name: item.name }) : item.name),
			item.role === "member" ? null : h("span", { class: "tag" }, roleName(item.role)),
		),
		item.managed
			? h(
					"button",
					{
						type: "button",
						class: "icon-button small",
						"data-act": "manage",
						"aria-haspopup": "dialog",
						"aria-label": t("Manage {name}", { name: item.name }),
						onclick: (event) => manager.menu(roomId, item, event.currentTarget),
					},
					icon("more"),
				)
			: null,
	);
}
