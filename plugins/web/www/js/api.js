/* SPDX-License-Identifier: Apache-2.0 */
/* The REST calls. One identity per page: a guest, made or found by the device token; or an account, by the tokens of
 * its login. When a call answers 401 the token is renewed, once. */

import { Guest } from "../client/identity.js";
import { authorized, bearer, request } from "../client/rest.js";
import { Tokens } from "../client/tokens.js";
import { deviceToken, displayName, login } from "./storage.js";

const EXPORT_TIMEOUT_MS = 300000;
const CONVERSATIONS_AT_MOST = 1000;
const PAGE = 1000;

const room = (id, rest = "") => `/api/chat/rooms/${encodeURIComponent(id)}${rest}`;
const where = (conversation) =>
	`${conversation.kind === "room" ? "roomId" : "with"}=${encodeURIComponent(conversation.id)}`;

export class Api {
	#guest = new Guest("", deviceToken, () => displayName.get());
	tokens;

	/* `events`: what Tokens tells of. */
	constructor(events) {
		this.tokens = new Tokens((refreshToken) => request("POST", "/api/auth/refresh", { body: { refreshToken } }), login, events);
	}

	get isGuest() {
		return !login.get();
	}

	/* ---- accounts ---- */

	/* Makes an account; of this browser's guest, if there is one, who is the same person then. */
	register(body) {
		return request("POST", "/api/auth/register", { headers: this.isGuest ? this.guestHeaders() : {}, body });
	}

	/* The answer to a login: tokens and who it is. Nothing is remembered yet. */
	authenticate(email, password) {
		return request("POST", "/api/auth/authenticate", { body: { email, password, device: deviceName() } });
	}

	async logout() {
		const { accessToken, refreshToken } = login.get();
		await request("POST", "/api/auth/logout", { headers: bearer(accessToken), body: { refreshToken } });
	}

	requestReset(email) {
		return request("POST", "/api/auth/reset", { body: { email } });
	}

	confirmReset(code, password) {
		return request("POST", "/api/auth/reset/confirm", { body: { code, password } });
	}

	requestVerification(email) {
		return request("POST", "/api/auth/verify/resend", { body: { email } });
	}

	verify(code) {
		return request("POST", "/api/auth/verify", { body: { code } });
	}

	async devices() {
		return (await this.#authorized("GET", "/api/auth/sessions")).sessions ?? [];
	}

	/* `id` undefined: all others. */
	endDevice(id) {
		return this.#authorized("DELETE", `/api/auth/sessions${id ? `/${encodeURIComponent(id)}` : ""}`);
	}

	changePassword(old, next) {
		return this.#authorized("POST", "/api/auth/password", { old, new: next });
	}

	profile() {
		return this.#authorized("GET", "/api/users/me");
	}

	changeProfile(changes) {
		return this.#authorized("PATCH", "/api/users/me", changes);
	}

	becomeAdmin(code) {
		return this.#authorized("POST", "/api/users/me/admin", { code });
	}

	exportAll() {
		return this.#authorized("GET", "/api/users/me/export", undefined, EXPORT_TIMEOUT_MS);
	}

	deleteAccount(userId) {
		return this.#authorized("DELETE", "/api/users/me", { confirm: userId });
	}

	/* Where the server has any. */
	async commands() {
		return (await this.#authorized("GET", "/api/chat/commands")).commands ?? [];
	}

	async findUsers(text) {
		return (await this.#authorized("GET", `/api/users?limit=12&q=${encodeURIComponent(text)}`)).users ?? [];
	}

	/* ---- guests ---- */

	/* Finds or makes this browser's guest account: {userId, nickname}. */
	async join(nickname) {
		const { userId, nickname: given } = await this.#guest.join(nickname);
		return { userId, nickname: given || userId };
	}

	guestHeaders() {
		return this.#guest.deviceHeader();
	}

	async rooms() {
		return (await this.#authorized("GET", "/api/chat/rooms")).rooms ?? [];
	}

	room(id) {
		return this.#authorized("GET", room(id));
	}

	createRoom({ name, isPublic, about }) {
		return this.#authorized("POST", "/api/chat/rooms", { name, public: isPublic, ...(about ? { about } : {}) });
	}

	changeRoom(id, changes) {
		return this.#authorized("PATCH", room(id), changes);
	}

	deleteRoom(id) {
		return this.#authorized("DELETE", room(id));
	}

	/* At least `wanted` of them, if there are so many; `total`: in the room. */
	async members(roomId, wanted) {
		const { found, more, page } = await this.#pages(room(roomId, `/members?limit=${PAGE}`), "members", "after", wanted);
		const total = page.total ?? found.length;
		return { members: found, total, more: more && found.length < total };
	}

	addMember(roomId, userId) {
		return this.#authorized("POST", room(roomId, "/members"), { userId });
	}

	invite(roomId, userId) {
		return this.#authorized("POST", room(roomId, "/invite"), { userId });
	}

	kick(roomId, userId) {
		return this.#authorized("DELETE", room(roomId, `/members/${encodeURIComponent(userId)}`));
	}

	setRole(roomId, userId, role) {
		return this.#authorized("PUT", room(roomId, `/members/${encodeURIComponent(userId)}/role`), { role });
	}

	/* `seconds` undefined: for ever. */
	ban(roomId, userId, seconds) {
		return this.#authorized("POST", room(roomId, "/ban"), seconds ? { userId, seconds } : { userId });
	}

	unban(roomId, userId) {
		return this.#authorized("DELETE", room(roomId, `/ban/${encodeURIComponent(userId)}`));
	}

	async bans(roomId) {
		return (await this.#pages(room(roomId, `/bans?limit=${PAGE}`), "bans", "after", Infinity)).found;
	}

	/* `seconds` 0: may speak again. */
	mute(roomId, userId, seconds) {
		return this.#authorized("POST", room(roomId, "/mute"), { userId, seconds });
	}

	status(userId) {
		return this.#authorized("GET", `/api/chat/users/${encodeURIComponent(userId)}/status`);
	}

	/* {messages, before, after, firstSeq, topSeq, epoch}; `range`: {before} or {after} a seq, {limit}. */
	history(conversation, range = {}) {
		const id = encodeURIComponent(conversation.id);
		const path = conversation.kind === "room" ? `room/${id}?events=true` : `direct?with=${id}`;
		const more = Object.entries(range).map(([name, value]) => `&${name}=${value}`);
		return this.#authorized("GET", `/api/chat/messages/${path}${more.join("")}`);
	}

	thread(id, range) {
		const more = Object.entries(range).map(([name, value]) => `${name}=${value}`);
		return this.#authorized("GET", `/api/chat/messages/${encodeURIComponent(id)}/thread?${more.join("&")}`);
	}

	message(id) {
		return this.#authorized("GET", `/api/chat/messages/${encodeURIComponent(id)}`);
	}

	async conversations() {
		return (await this.#pages("/api/chat/conversations?limit=100", "conversations", "before", CONVERSATIONS_AT_MOST)).found;
	}

	/* {messages, before}; `conversation` null: everywhere. */
	search(words, conversation, before) {
		const place = conversation ? `&${where(conversation)}` : "";
		const more = before === undefined ? "" : `&before=${encodeURIComponent(before)}`;
		return this.#authorized("GET", `/api/chat/search?q=${encodeURIComponent(words)}${place}${more}`);
	}

	async pins(conversation) {
		return (await this.#authorized("GET", `/api/chat/pins?${where(conversation)}`)).messages ?? [];
	}

	/* ---- notifications ---- */

	pushKey() {
		return request("GET", "/api/push/key", {});
	}

	pushSubscribe({ endpoint, keys }) {
		return this.#authorized("POST", "/api/push/subscriptions", { endpoint, keys, device: deviceName() });
	}

	pushUnsubscribe(endpoint) {
		return this.#authorized("DELETE", `/api/push/subscriptions?endpoint=${encodeURIComponent(endpoint)}`);
	}

	pushSettings() {
		return this.#authorized("GET", "/api/push/settings");
	}

	setPushSettings(settings) {
		return this.#authorized("PUT", "/api/push/settings", settings);
	}

	reads(conversation) {
		return this.#authorized("GET", `/api/chat/reads?${where(conversation)}`);
	}

	/* {url, expires, file}: good for a while without a token. */
	fileAddress(id) {
		return this.#authorized("GET", `/api/files/${encodeURIComponent(id)}/url`);
	}

	/* ---- privacy and moderation ---- */

	async blocks() {
		return (await this.#pages(`/api/blocks?limit=${PAGE}`, "blocks", "after", Infinity)).found;
	}

	block(userId) {
		return this.#authorized("PUT", `/api/blocks/${encodeURIComponent(userId)}`);
	}

	unblock(userId) {
		return this.#authorized("DELETE", `/api/blocks/${encodeURIComponent(userId)}`);
	}

	settings() {
		return this.#authorized("GET", "/api/chat/settings");
	}

	saveSettings(settings) {
		return this.#authorized("PUT", "/api/chat/settings", settings);
	}

	report(body) {
		return this.#authorized("POST", "/api/reports", body);
	}

	async reports(roomId) {
		return (await this.#authorized("GET", `/api/reports?roomId=${encodeURIComponent(roomId)}`)).reports ?? [];
	}

	/* `how`: "resolve" with {actions, seconds}, or "dismiss". */
	closeReport(id, how, body) {
		return this.#authorized("POST", `/api/reports/${encodeURIComponent(id)}/${how}`, body);
	}

	/* Whatever else there is; of keys, say. */
	ask(method, path, body) {
		return this.#authorized(method, path, body);
	}

	get deviceName() {
		return deviceName();
	}

	/* A list from its beginning, until there are `wanted` of it or no more. */
	async #pages(path, key, cursor, wanted) {
		const found = [];
		let page = {};
		do {
			const next = page[cursor] === undefined ? "" : `&${cursor}=${encodeURIComponent(page[cursor])}`;
			page = await this.#authorized("GET", path + next);
			found.push(...(page[key] ?? []));
		} while (page[cursor] !== undefined && found.length < wanted);
		return { found, page, more: page[cursor] !== undefined };
	}

	#authorized(method, path, body, timeoutMs) {
		return this.authorized((token) => request(method, path, { headers: bearer(token), body, timeoutMs }));
	}

	/* Runs call(token), and once more with a new one when it is refused. */
	authorized(call) {
		return authorized((refused) => this.#token(refused), call);
	}

	/* `refused`: one that the server does not take any more. Nobody becomes a guest by asking for something. */
	async #token(refused) {
		if (!this.isGuest) {
			return this.tokens.access(refused);
		}
		return refused === undefined ? this.#guest.access : this.#guest.token(refused);
	}
}

/* What the list of devices calls this browser: "Firefox on Linux". */
function deviceName() {
	const agent = navigator.userAgent;
	const first = (names) => names.find(([pattern]) => pattern.test(agent))?.[1];
	const browser = first([[/Edg\//, "Edge"], [/OPR\//, "Opera"], [/Firefox\//, "Firefox"], [/Chrom(e|ium)\//, "Chrome"], [/Safari\//, "Safari"]]);
	const system = first([[/Android/, "Android"], [/iPhone|iPad/, "iOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"], [/Linux/, "Linux"]]);
	return `${browser ?? "A browser"}${system ? ` on ${system}` : ""}`;
}
