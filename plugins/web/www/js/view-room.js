/* SPDX-License-Identifier: Apache-2.0 */
/* Managing a room: what its members may do with it and with each other. Only what one's role allows is offered; the
 * server is the judge. */

import { confirm } from "./dialogs.js";
import { $, h, reconcile } from "./dom.js";
import { ApiError, explain } from "./errors.js";
import { untilOf } from "./format.js";
import { t } from "./i18n.js";
import { openMenu } from "./menu.js";
import { RANK } from "./rooms.js";
import { toast } from "./toasts.js";

const DAY_S = 86400;
const ROLE_TEXTS = { owner: t("you are its owner."), moderator: t("you are a moderator."), member: t("you are a member.") };

/* Shows why not, and resolves to whether it worked. */
async function attempt(work, fault) {
	fault.hidden = true;
	try {
		await work();
		return true;
	} catch (error) {
		if (!(error instanceof ApiError)) {
			throw error;
		}
		fault.textContent = explain(error);
		fault.hidden = false;
		return false;
	}
}

function banEnd(until) {
	const time = untilOf(until);
	return time ? t("until {time}", { time }) : t("for ever");
}

export class RoomManager {
	#state;
	#session;
	#roomId = "";
	#target = null;
	#moderation;

	constructor(state, session, moderation) {
		this.#moderation = moderation;
		this.#state = state;
		this.#session = session;
		$("manage-form").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#save();
		});
		$("add-form").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#bring(event.submitter?.value === "add");
		});
		$("manage-delete").addEventListener("click", () => this.#delete());
		$("time-form").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#onTime();
		});
	}

	#room() {
		return this.#state.rooms.get(this.#roomId);
	}

	/* ---- the dialog ---- */

	async open(roomId) {
		this.#roomId = roomId;
		await this.#session.rooms.load();
		const room = this.#room();
		if (!room) {
			return;
		}
		const rank = this.#session.rooms.rankIn(roomId);
		$("manage-title").textContent = room.name;
		$("manage-role").textContent = `${room.public ? t("Open to everyone") : t("Private")} · ${ROLE_TEXTS[room.role] ?? t("you are not in it.")}`;
		$("manage-about-text").textContent = room.about ?? "";
		$("manage-about-text").hidden = !room.about || rank >= RANK.moderator;
		$("manage-form").hidden = rank < RANK.moderator;
		$("owner-name").hidden = rank < RANK.owner;
		$("owner-fields").hidden = rank < RANK.owner;
		$("add-form").hidden = rank < RANK.member;
		$("add-now").hidden = rank < RANK.moderator;
		$("bans-part").hidden = rank < RANK.moderator;
		$("manage-delete").hidden = rank < RANK.owner;
		$("manage-guest").hidden = !this.#session.isGuest;
		$("manage-error").hidden = true;
		$("add-error").hidden = true;
		$("add-user").value = "";
		$("add-done").textContent = "";
		this.#fill(room);
		this.#offerPeople();
		$("manage").showModal();
		if (rank >= RANK.moderator) {
			await this.#showBans();
		}
		await this.#moderation.showReports(roomId, rank >= RANK.moderator);
	}

	#fill(room) {
		$("manage-name").value = room.name;
		$("manage-about").value = room.about ?? "";
		$("manage-readonly").checked = Boolean(room.readOnly);
		$("manage-slow").value = String(room.slowMode ?? 0);
		$("manage-public").checked = Boolean(room.public);
		$("manage-public").disabled = Boolean(room.public); /* a public room stays public */
		$("manage-retention").value = String(Math.round((room.retention ?? 0) / DAY_S));
		$("manage-max").value = room.maxMembers ? String(room.maxMembers) : "";
	}

	/* People known here who are not in the room yet. */
	#offerPeople() {
		const inside = new Set((this.#state.members.get(this.#roomId) ?? []).map((m) => m.id));
		const others = [...this.#state.people.values()].filter((p) => !inside.has(p.id) && p.id !== this.#state.me.id);
		$("add-known").replaceChildren(...others.slice(0, 50).map((p) => h("option", { value: p.id }, p.name)));
	}

	/* Only what was changed is sent: the rest may have been changed by somebody else meanwhile. */
	#changes(room) {
		const wanted = {
			about: $("manage-about").value.trim(),
			readOnly: $("manage-readonly").checked,
			slowMode: Number($("manage-slow").value) || 0,
		};
		if (this.#session.rooms.rankIn(this.#roomId) >= RANK.owner) {
			Object.assign(wanted, {
				name: $("manage-name").value.trim(),
				public: $("manage-public").checked,
				retention: (Number($("manage-retention").value) || 0) * DAY_S,
			});
			if ($("manage-max").value) {
				wanted.maxMembers = Number($("manage-max").value);
			}
		}
		const was = { about: "", readOnly: false, slowMode: 0, retention: 0, ...room };
		return Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== was[name]));
	}

	async #save() {
		const changes = this.#changes(this.#room() ?? {});
		const work = () => this.#session.rooms.manage((api) => api.changeRoom(this.#roomId, changes));
		if (Object.keys(changes).length === 0 || (await attempt(work, $("manage-error")))) {
			$("manage").close();
			toast(t("The settings are saved."));
		}
	}

	async #bring(now) {
		const userId = $("add-user").value.trim();
		$("add-done").textContent = "";
		const work = () => this.#session.rooms.manage((api) => (now ? api.addMember(this.#roomId, userId) : api.invite(this.#roomId, userId)));
		if (userId && (await attempt(work, $("add-error")))) {
			const name = this.#state.nameOf(userId);
			$("add-user").value = "";
			$("add-done").textContent = now ? t("{name} is in the room now.", { name }) : t("{name} is invited.", { name });
			this.#offerPeople();
		}
	}

	async #delete() {
		const room = this.#room();
		$("manage").close();
		const text = t("Everything that was said in it is gone, for everybody. This cannot be undone.");
		if (await confirm(t("Delete {title}?", { title: room.name }), text, t("Delete the room"), true)) {
			await this.#told((api) => api.deleteRoom(room.id));
		}
	}

	/* Where there is no form to show the reason in. */
	async #told(work) {
		try {
			await this.#session.rooms.manage(work);
			return true;
		} catch (error) {
			if (!(error instanceof ApiError)) {
				throw error;
			}
			toast(explain(error), { kind: "error" });
			return false;
		}
	}

	async #showBans() {
		let bans = [];
		await attempt(async () => (bans = await this.#session.rooms.bans(this.#roomId)), $("manage-error"));
		$("bans-empty").hidden = bans.length > 0;
		const items = bans.map((b) => ({ key: b.userId, name: b.nickname || b.userId, until: banEnd(b.until) }));
		reconcile($("bans-list"), items, (item) =>
			h(
				"li",
				{ class: "ban", "data-user": item.key },
				h("span", {}, item.name, " ", h("span", { class: "muted" }, item.until)),
				h("button", { type: "button", class: "button quiet small", "aria-label": t("Let {name} come back", { name: item.name }), onclick: () => this.#unban(item.key) }, t("Unban")),
			),
		);
	}

	async #unban(userId) {
		if (await this.#told((api) => api.unban(this.#roomId, userId))) {
			await this.#showBans();
		}
	}

	/* ---- one member ---- */

	menu(roomId, member, anchor) {
		this.#roomId = roomId;
		const name = this.#state.nameOf(member.id);
		const role = (to, label, sure) => ({ label, icon: "people", run: () => this.#setRole(member.id, to, name, sure) });
		const owner = this.#session.rooms.rankIn(roomId) >= RANK.owner;
		openMenu(anchor, name, [
			owner && member.role === "member" && role("moderator", t("Make moderator")),
			owner && member.role === "moderator" && role("member", t("Make ordinary member")),
			owner && role("owner", t("Make owner"), true),
			{ label: t("Mute…"), icon: "mute", run: () => this.#askTime("mute", member.id, name) },
			{ label: t("Unmute"), icon: "chat", run: () => this.#told((api) => api.mute(roomId, member.id, 0)).then((ok) => ok && toast(t("{name} may write again.", { name }))) },
			{ label: t("Remove"), icon: "leave", danger: true, run: () => this.#kick(member.id, name) },
			{ label: t("Ban…"), icon: "alert", danger: true, run: () => this.#askTime("ban", member.id, name) },
		]);
	}

	async #setRole(userId, role, name, sure) {
		const roomId = this.#roomId;
		const text = t("You will be a moderator then.");
		if (!sure || (await confirm(t("Give the room to {name}?", { name }), text, t("Make owner")))) {
			await this.#told((api) => api.setRole(roomId, userId, role));
		}
	}

	async #kick(userId, name) {
		const roomId = this.#roomId;
		if (await confirm(t("Remove {name}?", { name }), t("Whoever is removed may join again where the room is open, or be invited."), t("Remove"), true)) {
			await this.#told((api) => api.kick(roomId, userId));
		}
	}

	#askTime(what, userId, name) {
		this.#target = { what, userId, name, roomId: this.#roomId };
		const ban = what === "ban";
		$("time-title").textContent = ban ? t("Ban {name}?", { name }) : t("Mute {name}?", { name });
		$("time-text").textContent = ban ? t("They leave the room and cannot come back so long.") : t("They hear everything, but cannot write so long.");
		$("time-ever").hidden = !ban;
		$("time-ever").disabled = !ban;
		$("time-seconds").value = "3600";
		$("time-yes").textContent = ban ? t("Ban") : t("Mute");
		$("time-error").hidden = true;
		$("time-dialog").showModal();
	}

	async #onTime() {
		const { what, userId, name, roomId } = this.#target;
		const seconds = Number($("time-seconds").value);
		const work = () => this.#session.rooms.manage((api) => api[what](roomId, userId, seconds));
		if (await attempt(work, $("time-error"))) {
			$("time-dialog").close();
			toast(what === "ban" ? t("{name} is banned.", { name }) : t("{name} is muted.", { name }));
		}
	}
}
