/* The list of conversations, the person's own card, and the people of a room. */

import { $, h, reconcile } from "./dom.js";
import { hueClass, initials } from "./format.js";
import { roomKey } from "./state.js";

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
			h("span", { class: "conversation-name" }, item.name),
			item.outside ? h("span", { class: "tag" }, "join") : null,
			item.unread
				? h("span", { class: "badge" }, item.unread > 99 ? "99+" : String(item.unread), h("span", { class: "visually-hidden" }, " unread"))
				: null,
		),
	);
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
			: h("span", { class: `presence ${item.online ? "on" : "off"}` }, h("span", { class: "visually-hidden" }, item.online ? "online" : "offline")),
	);
}

export function showConversations(state, onOpen) {
	const rooms = [...state.rooms.values()]
		.sort((a, b) => Number(b.joined) - Number(a.joined) || a.name.localeCompare(b.name))
		.map((room) => {
			const key = roomKey(room.id);
			return {
				key,
				id: room.id,
				name: room.name,
				room: true,
				outside: !room.joined,
				active: key === state.active,
				unread: state.conversations.get(key)?.unread ?? 0,
			};
		});
	reconcile($("room-list"), rooms, (item) => conversationRow(item, onOpen));
	$("room-empty").hidden = rooms.length > 0;

	const direct = [...state.conversations.values()]
		.filter((c) => c.kind === "user")
		.sort((a, b) => b.lastAt - a.lastAt)
		.map((c) => ({
			key: c.key,
			id: c.id,
			name: c.id === state.me?.id ? `${state.nameOf(c.id)} (you)` : state.nameOf(c.id),
			online: state.people.get(c.id)?.online ?? null,
			active: c.key === state.active,
			unread: c.unread,
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

export function showPeople(state, roomId, onOpen) {
	const rank = (person) => (person.online === false ? 1 : 0);
	const people = (state.members.get(roomId) ?? [])
		.map(({ id, role }) => {
			const person = state.people.get(id) ?? { id, name: id, online: null };
			return { key: id, id, name: person.name, online: person.online, role, me: id === state.me?.id };
		})
		.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
	const known = people.some((p) => p.online !== null);
	$("people-count").textContent = known ? `${people.filter((p) => p.online).length} of ${people.length} online` : "";
	reconcile($("people-list"), people, (item) =>
		h(
			"li",
			{},
			h(
				"button",
				{
					type: "button",
					class: `conversation${item.online === false ? " away" : ""}`,
					"data-user": item.id,
					title: item.me ? "This is you" : `Message ${item.name}`,
					onclick: () => onOpen(item.id),
				},
				presenceAvatar(item),
				h("span", { class: "conversation-name" }, item.me ? `${item.name} (you)` : item.name),
				item.role === "member" ? null : h("span", { class: "tag" }, item.role),
			),
		),
	);
}
