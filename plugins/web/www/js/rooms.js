/* SPDX-License-Identifier: Apache-2.0 */
/* Which rooms there are, which of them this person is in, and what happens to that: joining and leaving, invitations,
 * being shown out. The calls that manage a room are here too, since they end in the same list. */

import { newId, Refusal } from "../client/connection.js";
import { ApiError, explain } from "./errors.js";
import { untilOf } from "./format.js";
import { t } from "./i18n.js";
import { roomKey } from "./state.js";
import { wantedRooms } from "./storage.js";

const DEFAULT_ROOM = "lobby";
const ENTER_PATIENCE_MS = 10000;
const PEOPLE_PAUSE_MS = 1500;
const OUT = ["KICKED", "BANNED"];

export const RANK = { member: 1, moderator: 2, owner: 3 };

export class Rooms {
	#state;
	#api;
	#toast;
	#connection;
	#history;
	#hear;
	#subscriptions = new Map();
	#peopleTimer = 0;
	/* Room id -> how many people were asked for; of a large room not all, unless one wants to see them. */
	#peopleWanted = new Map();
	#loadTimer = 0;
	/* What was asked for without a connection, to be done once there is one. */
	#later = new Set();
	/* The rooms are asked for side by side, and the answers overtake each other: the newest question counts. */
	#asked = 0;
	#answered = 0;
	/* Rooms that one leaves by oneself: nothing to be told. */
	#leaving = new Set();

	/* `hear(roomId, body, headers)` takes what arrives in a room, but for who is typing; `heard()` is told when one more is
	 * followed, since something may have been said before, or one less; `invited(room, by)` tells of an invitation. */
	constructor({ state, api, toast, connection, history, hear, heard, invited }) {
		this.#state = state;
		this.#api = api;
		this.#toast = toast;
		this.#connection = connection;
		this.#history = history;
		this.#hear = hear;
		this.heard = heard;
		this.invited = invited;
	}

	/* Members follow their rooms; guests whom the server has let go while they were away come back into the rooms that
	 * they had chosen. Resolves when each is settled: to false when the rooms could not be had. */
	async enter() {
		const wanted = wantedRooms.get() ?? [DEFAULT_ROOM];
		const before = [...this.#state.rooms.values()].filter((room) => room.joined && !room.kept);
		const rooms = await this.load(wanted);
		if (!rooms) {
			return false;
		}
		await Promise.all(rooms.map((room) => this.#settle(room, wanted)));
		const later = [...this.#later].filter((id) => !this.#state.rooms.get(id)?.joined);
		this.#later.clear();
		await Promise.all(later.map((id) => this.joinByHand(id)));
		for (const { id } of before) {
			if (!this.#state.rooms.get(id)?.joined && !this.#state.gone.has(id)) {
				this.#shownOut(id, t("You are no longer in this room."), Boolean(this.#state.rooms.get(id)?.public));
			}
		}
		return true;
	}

	async #settle(room, wanted) {
		if (room.joined) {
			await this.follow(room.id);
		} else if (wanted.includes(room.id) && (wantedRooms.get() === null || (await this.#mayReturn(room)))) {
			await this.join(room.id);
		} else if (wanted.includes(room.id)) {
			this.#forsake(room.id);
		}
	}

	/* Whoever was shown out does not slip in again. */
	async #mayReturn(room) {
		if (!room.public || !this.#api.isGuest) {
			return false;
		}
		try {
			const { messages } = await this.#api.history({ kind: "room", id: room.id });
			const last = messages.findLast((m) => m.type === "LEAVE" && m.senderId === this.#state.me.id);
			return !OUT.includes(last?.code);
		} catch (error) {
			return error instanceof ApiError && error.status === 404;
		}
	}

	down() {
		clearTimeout(this.#peopleTimer);
		clearTimeout(this.#loadTimer);
		this.#peopleTimer = 0;
		this.#loadTimer = 0;
		this.#subscriptions.clear();
	}

	/* `wanted`: rooms shown as joined already, since they are about to be. */
	async load(wanted = []) {
		const turn = ++this.#asked;
		try {
			const rooms = await this.#api.rooms();
			if (this.#state.me && turn > this.#answered) {
				this.#answered = turn;
				this.#state.setRooms(rooms, wanted);
			}
			return rooms;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			return null;
		}
	}

	#loadSoon() {
		this.#loadTimer ||= setTimeout(() => {
			this.#loadTimer = 0;
			this.load();
		}, 200);
	}

	/* Resolves to whether this person hears the room now. What was said since the last time comes first; where that
	 * cannot be had whole, the history is read anew. */
	async follow(roomId) {
		const conversation = this.#state.conversation("room", roomId);
		if (!this.#subscriptions.has(roomId)) {
			const { lastSeq, epoch, loaded } = conversation;
			const resume = lastSeq > 0 && epoch && loaded !== "no" ? { since: String(lastSeq), epoch } : {};
			if (loaded === "no") {
				this.#state.reset(conversation); /* what was only overheard is read again when it is opened */
			}
			const made = this.#connection.subscribe(
				`/topic/room/${roomId}`,
				(body, headers) => this.#hear(roomId, body, headers),
				{ patienceMs: ENTER_PATIENCE_MS, headers: { ...resume, except: "typing" } },
			);
			this.#subscriptions.set(roomId, { ...made, resumed: "since" in resume });
		}
		const subscription = this.#subscriptions.get(roomId);
		try {
			const receipt = await subscription.done;
			if (receipt.recovered === "false" || (!subscription.resumed && conversation.loaded !== "no")) {
				subscription.resumed = true;
				this.lost(conversation, Number(receipt.seq) || 0, receipt.epoch ?? "");
			}
		} catch (error) {
			if (this.#subscriptions.get(roomId) === subscription) {
				this.#subscriptions.delete(roomId);
				this.#complain(error);
			}
			return false;
		}
		this.#state.setJoined(roomId, true);
		this.#remember(roomId, true);
		this.heard();
		return true;
	}

	/* Rows are missing that will not come: nothing is shown until the history has been read again. */
	lost(conversation, top, epoch) {
		this.#state.reset(conversation);
		Object.assign(conversation, { lastSeq: top, epoch });
		if (conversation.key === this.#state.active) {
			this.#history.load(conversation);
		}
	}

	#complain(error) {
		if (!(error instanceof Refusal)) {
			throw error;
		}
		if (error.code !== "DISCONNECTED") {
			this.#toast(explain(error), { kind: "error" });
		}
	}

	/* As a person asks for it, who may do so before the connection is there: then it is done as soon as it is. */
	async joinByHand(roomId) {
		const refused = await this.#ask(roomId);
		if (refused?.code === "DISCONNECTED") {
			this.#later.add(roomId);
			this.#toast(t("You join this room as soon as you are connected."));
		}
		return !refused && this.#joined(roomId);
	}

	/* Resolves to whether it worked; when not, the person has been told. */
	async join(roomId) {
		return !(await this.#ask(roomId)) && this.#joined(roomId);
	}

	/* Resolves to why the server did not let one in. */
	async #ask(roomId) {
		try {
			await this.#connection.ask("/app/chat.join", { roomId, clientId: newId() }, ENTER_PATIENCE_MS);
			return null;
		} catch (error) {
			if (error.code !== "DISCONNECTED") {
				this.#state.setJoined(roomId, false);
			}
			this.#complain(error);
			return error;
		}
	}

	async #joined(roomId) {
		this.#state.gone.delete(roomId);
		const heard = await this.follow(roomId);
		await this.load();
		this.peopleSoon();
		return heard;
	}

	async leave(roomId) {
		this.#leaving.add(roomId);
		try {
			await this.#connection.ask("/app/chat.leave", { roomId, clientId: newId() });
			this.#forsake(roomId);
			await this.load();
		} catch (error) {
			if (!(error instanceof Refusal)) {
				throw error;
			}
			this.#toast(explain(error), { kind: "error" }); /* also without a connection: the person waits for it */
		} finally {
			this.#leaving.delete(roomId);
		}
	}

	/* Here nothing arrives any more; who may still read it is shown it as it is at that moment. */
	#forsake(roomId) {
		this.#subscriptions.get(roomId)?.stop();
		this.#subscriptions.delete(roomId);
		this.#state.setJoined(roomId, false);
		this.#remember(roomId, false);
		const conversation = this.#state.conversations.get(roomKey(roomId));
		if (conversation) {
			this.#state.clearUnread(conversation);
			this.lost(conversation, 0, "");
		}
		this.heard();
	}

	#remember(roomId, wanted) {
		const others = (wantedRooms.get() ?? []).filter((id) => id !== roomId);
		wantedRooms.set(wanted ? [...others, roomId] : others);
	}

	/* Returns the new room's id. */
	async create(options) {
		const { id } = await this.#api.createRoom(options);
		await this.load();
		await this.follow(id);
		return id;
	}

	/* ---- what happens in and to rooms ---- */

	/* A row of a room that says something about the room itself. */
	onEvent(roomId, body) {
		const mine = (body.senderId ?? body.sender) === this.#state.me.id;
		if (body.type === "LEAVE" && mine) {
			this.#onOut(roomId, body);
		} else if (body.code === "ROOM_DELETED") {
			this.#onDeleted(roomId, body);
		} else if (["ROLE_CHANGED", "ROOM_CHANGED"].includes(body.code)) {
			this.#loadSoon();
			this.peopleSoon();
		} else if (body.type === "JOIN" || body.type === "LEAVE") {
			this.peopleSoon();
			if (mine && body.type === "JOIN" && !this.#subscriptions.has(roomId)) {
				this.#state.gone.delete(roomId);
				this.follow(roomId).then(() => this.load()); /* from another device, or brought in */
			}
		}
	}

	/* What /user/queue/rooms says. */
	async onNotice(body) {
		const { roomId, code } = body;
		const by = body.actor ? this.#state.nameOf(body.actor) : t("Somebody");
		const title = () => this.#state.titleOf({ kind: "room", id: roomId });
		if (["JOIN", "LEAVE"].includes(body.type) || code === "ROOM_DELETED") {
			const added = body.type === "JOIN" && body.actor && body.actor !== this.#state.me.id;
			this.onEvent(roomId, body);
			if (added) {
				await this.load();
				this.#toast(t("{name} brought you into {title}.", { name: by, title: title() }));
			}
			return;
		}
		await this.load();
		if (code === "INVITED" && !this.#state.rooms.get(roomId)?.joined) {
			this.invited(this.#state.rooms.get(roomId), by);
		} else if (code === "MUTED") {
			const vars = { name: by, title: title(), time: untilOf(body.until) };
			const text = vars.time
				? t("{name} muted you in {title} until {time}. You may read, but not write.", vars)
				: t("{name} muted you in {title}. You may read, but not write.", vars);
			this.#toast(text, { sticky: true });
		} else if (code === "UNMUTED") {
			this.#toast(t("You may write in {title} again.", { title: title() }));
		} else if (code === "UNBANNED") {
			this.#toast(t("You may come back into {title}.", { title: title() }));
		}
	}

	#onOut(roomId, body) {
		if (this.#leaving.has(roomId) || this.#toldOf(roomId, body)) {
			return;
		}
		if (!OUT.includes(body.code)) {
			if (this.#subscriptions.has(roomId)) {
				this.#forsake(roomId); /* from another device; it comes twice, too */
				this.#loadSoon();
			}
			return;
		}
		const banned = body.code === "BANNED";
		const text = outText(banned, { name: body.actor && this.#state.nameOf(body.actor), time: untilOf(body.until) });
		this.#shownOut(roomId, text, !banned && Boolean(this.#state.rooms.get(roomId)?.public), body.id);
	}

	/* It comes twice: in the room, and to oneself. */
	#toldOf(roomId, { id, code }) {
		const gone = this.#state.gone.get(roomId);
		return gone !== undefined && gone.event === (id ?? code);
	}

	#onDeleted(roomId, body) {
		if (this.#toldOf(roomId, body)) {
			return;
		}
		this.#shownOut(roomId, t("This room was deleted."), false, body.id ?? body.code);
	}

	#shownOut(roomId, text, mayJoin, event) {
		const title = this.#state.titleOf({ kind: "room", id: roomId });
		this.#state.setGone(roomId, text, mayJoin);
		this.#state.gone.get(roomId).event = event;
		this.#forsake(roomId);
		this.#toast(`${title}: ${text}`, { kind: "error", sticky: true });
		this.#loadSoon();
	}

	/* ---- people ---- */

	peopleSoon() {
		this.#peopleTimer ||= setTimeout(() => {
			this.#peopleTimer = 0;
			this.refreshPeople();
		}, Math.random() * PEOPLE_PAUSE_MS); /* when many come at once, all others must not ask each time */
	}

	async refreshPeople() {
		const [kind, id] = (this.#state.active ?? ":").split(":");
		try {
			if (kind === "user") {
				this.#state.person(id, await this.#api.status(id));
			} else if (this.#state.rooms.get(id)?.joined && !this.#leaving.has(id)) {
				this.#state.setMembers(id, await this.#api.members(id, this.#peopleWanted.get(id) ?? 1));
			}
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error; /* otherwise: as it was */
			}
		}
	}

	morePeople(roomId) {
		this.#peopleWanted.set(roomId, (this.#state.members.get(roomId) ?? []).length + 1);
		return this.refreshPeople();
	}

	/* One's own; guests manage nothing. */
	rankIn(roomId) {
		return this.#api.isGuest ? 0 : (RANK[this.#state.rooms.get(roomId)?.role] ?? 0);
	}

	/* Whether there is anything to be done with this member. */
	mayManage(roomId, member) {
		const rank = this.rankIn(roomId);
		return rank >= RANK.moderator && member.id !== this.#state.me.id && rank > (RANK[member.role] ?? 1);
	}

	bans(roomId) {
		return this.#api.bans(roomId);
	}

	/* A call that manages: `work(api)`; the list and the people follow. */
	async manage(work) {
		const answer = await work(this.#api);
		await this.load();
		await this.refreshPeople();
		return answer;
	}
}

function outText(banned, { name, time }) {
	if (!banned) {
		return name ? t("You were removed from this room by {name}.", { name }) : t("You were removed from this room.");
	}
	if (time) {
		return name
			? t("You were banned from this room by {name} until {time}.", { name, time })
			: t("You were banned from this room until {time}.", { time });
	}
	return name ? t("You were banned from this room by {name}.", { name }) : t("You were banned from this room.");
}
