/* Two people chatting: chat.yaml as it is delivered, through stock clients and REST. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { api, device, enter, guest } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { fetchAll } from "../lib/http.mjs";
import { overSockJs, StompUser } from "../lib/stomp.mjs";

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const QUIET_MS = 200;

describe("chat", () => {
	let server;
	before(async () => (server = skip ? null : await startChatd({ config: "chat.yaml", set: { "auth-anonymous.devices": 0 } })));
	after(() => server?.stop());

	async function two() {
		const [a, b] = [await guest(server), await guest(server)];
		return { a, b, anna: await device(server, a), bert: await device(server, b) };
	}

	const leave = (...users) => Promise.all(users.map((u) => u.leave()));

	/* ---- who one is ---- */

	test("each guest is a person of its own; the device token finds it again", limit, async () => {
		const [one, two] = [await guest(server), await guest(server)];
		assert.match(one.userId, /^user_[A-Za-z0-9]+$/);
		assert.ok(one.deviceToken && one.accessToken);
		assert.notEqual(one.userId, two.userId);
		assert.equal((await guest(server, one.deviceToken)).userId, one.userId);
	});

	test("CONNECT knows the guest by device token, by bearer, and makes a new one without either", limit, async () => {
		const account = await guest(server);
		const byToken = await StompUser.connect({ url: server.wsUrl, headers: { "device-token": account.deviceToken } });
		const byBearer = await StompUser.connect({ url: server.wsUrl, headers: { Authorization: `Bearer ${account.accessToken}` } });
		assert.deepEqual([byToken.id, byBearer.id], [account.userId, account.userId]);
		assert.equal(byToken.connected["device-token"], undefined);
		const fresh = await StompUser.connect({ url: server.wsUrl });
		assert.ok(fresh.connected["device-token"]);
		assert.notEqual(fresh.id, account.userId);
		const again = await StompUser.connect({ url: server.wsUrl, headers: { "device-token": fresh.connected["device-token"] } });
		assert.equal(again.id, fresh.id);
		await leave(byToken, byBearer, fresh, again);
	});

	test("a bearer that is not valid refuses CONNECT and never falls through to a guest", limit, async () => {
		await assert.rejects(StompUser.connect({ url: server.wsUrl, headers: { Authorization: "Bearer no-such-token" } }), /ERROR|1008/);
	});

	test("a userId header does not choose the identity", limit, async () => {
		const [a, b] = [await guest(server), await guest(server)];
		const user = await StompUser.connect({ url: server.wsUrl, headers: { "device-token": a.deviceToken, userId: b.userId } });
		assert.equal(user.id, a.userId);
		await leave(user);
	});

	/* ---- direct messages ---- */

	test("a direct message reaches every device of the receiver and is echoed on every device of the sender", limit, async () => {
		const { a, b, anna, bert } = await two();
		const [anna2, bert2] = [await device(server, a), await device(server, b, { factory: overSockJs(server.url, "xhr-streaming") })];
		const receipt = await anna.send("/app/chat.send", { to: b.userId, content: "Hej då 👋", clientId: "c-1" });
		const copies = await Promise.all([anna, anna2, bert, bert2].map((u) => u.messages.next()));
		for (const copy of copies) {
			assert.deepEqual(copy, copies[0]);
		}
		const [message] = copies;
		assert.match(message.id, UUID);
		assert.match(message.timestamp, TIME);
		assert.equal(receipt.headers["message-id"], message.id);
		assert.deepEqual(
			[message.type, message.senderId, message.sender, message.receiverId ?? message.receiver, message.content, message.clientId],
			["CHAT", a.userId, a.userId, b.userId, "Hej då 👋", "c-1"],
		);
		await sleep(QUIET_MS);
		assert.deepEqual([anna, anna2, bert, bert2].map((u) => u.messages.size), [0, 0, 0, 0]);
		await leave(anna, anna2, bert, bert2);
	});

	test("the reference's names work: chat.sendMessage, receiver, message", limit, async () => {
		const { b, anna, bert } = await two();
		await anna.send("/app/chat.sendMessage", { receiver: b.userId, message: "old style" });
		assert.equal((await bert.messages.next()).content, "old style");
		assert.equal((await anna.messages.next()).content, "old style");
		await leave(anna, bert);
	});

	test("a message to oneself arrives once on each device", limit, async () => {
		const account = await guest(server);
		const [one, two] = [await device(server, account), await device(server, account)];
		await one.send("/app/chat.send", { to: account.userId, content: "note" });
		assert.equal((await one.messages.next()).content, "note");
		assert.equal((await two.messages.next()).content, "note");
		await sleep(QUIET_MS);
		assert.deepEqual([one.messages.size, two.messages.size], [0, 0]);
		await leave(one, two);
	});

	test("200 messages both ways keep their order", limit, async () => {
		const { a, b, anna, bert } = await two();
		for (let i = 0; i < 50; i++) {
			anna.post("/app/chat.send", { to: b.userId, content: `a${i}` });
			bert.post("/app/chat.send", { to: a.userId, content: `b${i}` });
		}
		const [left, right] = await Promise.all([anna.messages.take(100), bert.messages.take(100)]);
		for (const all of [left, right]) {
			for (const who of ["a", "b"]) {
				const mine = all.map((m) => m.content).filter((c) => c.startsWith(who));
				assert.deepEqual(mine, Array.from({ length: 50 }, (_, i) => `${who}${i}`));
			}
		}
		await leave(anna, bert);
	});

	test("forged sender, id and timestamp are ignored", limit, async () => {
		const { a, b, anna, bert } = await two();
		const forged = { sender: b.userId, senderId: b.userId, from: b.userId, userId: b.userId, id: "mine", timestamp: "2001-01-01T00:00:00.000Z" };
		await anna.send("/app/chat.send", { to: b.userId, content: "x", ...forged }, { userId: b.userId, sender: b.userId });
		const message = await bert.messages.next();
		assert.deepEqual([message.senderId, message.sender], [a.userId, a.userId]);
		assert.match(message.id, UUID);
		assert.notEqual(message.timestamp, forged.timestamp);
		await leave(anna, bert);
	});

	/* ---- refusals are soft ---- */

	test("soft errors name code, text and clientId, and the session lives on", limit, async () => {
		const { b, anna, bert } = await two();
		const deep = `${"[".repeat(200)}${"]".repeat(200)}`;
		for (const [name, destination, body, codes] of [
			["unknown user", "/app/chat.send", { to: "user_nobody", content: "x", clientId: "c" }, ["NOT_FOUND"]],
			["neither user nor room", "/app/chat.send", { content: "x", clientId: "c" }, ["VALIDATION"]],
			["content of the wrong type", "/app/chat.send", { to: b.userId, content: 7, clientId: "c" }, ["VALIDATION"]],
			["no content", "/app/chat.send", { to: b.userId, clientId: "c" }, ["VALIDATION"]],
			["unknown room", "/app/chat.send", { roomId: "no-such-room", content: "x", clientId: "c" }, ["NOT_FOUND", "NOT_MEMBER"]],
			["unknown /app name", "/app/no.such.thing", { clientId: "c" }, ["NOT_FOUND"]],
			["a topic", "/topic/anything", { content: "x" }, ["FORBIDDEN"]],
			["a room's topic", "/topic/room/lobby", { content: "x" }, ["FORBIDDEN"]],
			["another's queue", `/user/${b.userId}/queue/messages`, { content: "x" }, ["FORBIDDEN"]],
		]) {
			anna.post(destination, body);
			const error = await anna.soft.next();
			assert.ok(codes.includes(error.code), `${name}: ${JSON.stringify(error)}`);
			assert.equal(error.errorCode, error.code, name);
			assert.ok(error.message && TIME.test(error.timestamp), name);
			assert.equal(error.destination, destination, name);
			if (destination === "/app/chat.send") {
				assert.equal(error.clientId, "c", name);
			}
		}
		for (const body of ["{", "[]", '{"to":"a","to":"b","content":"x"}', deep, ""]) {
			anna.publish("/app/chat.send", body, { "content-type": "application/json" });
			assert.equal((await anna.soft.next()).code, "VALIDATION", body.slice(0, 40));
		}
		assert.equal(bert.messages.size, 0);
		await anna.send("/app/chat.send", { to: b.userId, content: "still here" });
		assert.equal((await bert.messages.next()).content, "still here");
		await leave(anna, bert);
	});

	test("subscribing to another's queue is refused softly and shows nothing", limit, async () => {
		const { a, b, anna, bert } = await two();
		const seen = [];
		anna.client.subscribe(`/user/${b.userId}/queue/messages`, (m) => seen.push(m));
		assert.equal((await anna.soft.next()).code, "FORBIDDEN");
		await bert.send("/app/chat.send", { to: b.userId, content: "private" });
		await bert.send("/app/chat.send", { to: a.userId, content: "for anna" });
		assert.equal((await anna.messages.next()).content, "for anna");
		assert.deepEqual(seen, []);
		await leave(anna, bert);
	});

	test("the same clientId twice is delivered once and answered with the first id", limit, async () => {
		const { b, anna, bert } = await two();
		const message = { to: b.userId, content: "once", clientId: "same" };
		const first = await anna.send("/app/chat.send", message);
		const second = await anna.send("/app/chat.send", message);
		assert.equal(second.headers["message-id"], first.headers["message-id"]);
		await bert.messages.next();
		await sleep(QUIET_MS);
		assert.equal(bert.messages.size, 0);
		await leave(anna, bert);
	});

	/* ---- rooms ---- */

	test("room: JOIN, messages to all members the sender included, LEAVE, and silence afterwards", limit, async () => {
		const { a, b, anna, bert } = await two();
		const annaRoom = await enter(anna, "lobby");
		const bertRoom = await enter(bert, "lobby");
		const joined = await annaRoom.find((m) => m.type === "JOIN" && m.senderId === b.userId);
		assert.equal(joined.roomId, "lobby");
		await anna.send("/app/chat.send", { roomId: "lobby", content: "hello all", clientId: "r-1" });
		const isChat = (m) => m.type === "CHAT" && m.content === "hello all";
		const [here, there] = [await annaRoom.find(isChat), await bertRoom.find(isChat)];
		assert.deepEqual(here, there);
		assert.deepEqual([here.senderId, here.roomId, here.clientId], [a.userId, "lobby", "r-1"]);
		await bert.send("/app/chat.leave", { roomId: "lobby" });
		await annaRoom.find((m) => m.type === "LEAVE" && m.senderId === b.userId);
		bert.post("/app/chat.send", { roomId: "lobby", content: "from outside" });
		assert.equal((await bert.soft.next()).code, "NOT_MEMBER");
		await leave(anna, bert);
	});

	test("rooms over REST: list, members with presence, creation refused to guests", limit, async () => {
		const { a, b, anna, bert } = await two();
		const find = async (account) => (await api(server, account, "GET", "/api/chat/rooms")).json.rooms.find((r) => r.id === "lobby");
		const before = await find(a);
		assert.deepEqual([before.public, before.joined, typeof before.name], [true, false, "string"]);
		await enter(anna, "lobby");
		assert.equal((await find(a)).joined, true);
		assert.equal((await find(b)).joined, false);
		const { members } = (await api(server, a, "GET", "/api/chat/rooms/lobby/members")).json;
		const me = members.find((m) => m.userId === a.userId);
		assert.deepEqual([me.role, me.online], ["member", true]);
		const refused = await api(server, a, "POST", "/api/chat/rooms", { name: "mine" });
		assert.equal(refused.status, 403);
		assert.match(refused.headers["content-type"], /^application\/problem\+json/);
		assert.deepEqual([refused.json.status, typeof refused.json.code, refused.json.path], [403, "string", "/api/chat/rooms"]);
		assert.equal((await api(server, null, "GET", "/api/chat/rooms")).status, 401);
		await leave(anna, bert);
	});

	test("presence: online with the first device, offline after the last", limit, async () => {
		const [a, b] = [await guest(server), await guest(server)];
		const online = async () => (await api(server, b, "GET", `/api/chat/users/${a.userId}/status`)).json;
		assert.deepEqual(await online(), { userId: a.userId, online: false });
		const [one, two] = [await device(server, a), await device(server, a)];
		assert.equal((await online()).online, true);
		await leave(one);
		assert.equal((await online()).online, true);
		await leave(two);
		for (let i = 0; i < 600 && (await online()).online; i++) {
			await sleep(100);
		}
		assert.equal((await online()).online, false);
	});

	/* ---- typing and reading ---- */

	test("typing to a person and to a room", limit, async () => {
		const { a, b, anna, bert } = await two();
		await anna.send("/app/chat.typing", { to: b.userId, typing: true });
		const event = await bert.typing.next();
		assert.deepEqual([event.type, event.senderId], ["TYPING", a.userId]);
		await anna.send("/app/chat.typing", { to: b.userId, typing: false });
		assert.equal((await bert.typing.next()).typing, false);
		await enter(anna, "lobby");
		const room = await enter(bert, "lobby");
		await anna.send("/app/chat.typing", { roomId: "lobby", typing: true });
		const inRoom = await room.find((m) => m.type === "TYPING");
		assert.deepEqual([inRoom.senderId, inRoom.roomId], [a.userId, "lobby"]);
		assert.equal(bert.messages.size, 0);
		await leave(anna, bert);
	});

	test("reading: the writer learns up to which message", limit, async () => {
		const { a, b, anna, bert } = await two();
		await anna.send("/app/chat.send", { to: b.userId, content: "read me" });
		const message = await bert.messages.next();
		await bert.send("/app/chat.read", { with: a.userId, messageId: message.id });
		const event = await anna.read.next();
		assert.deepEqual([event.type, event.senderId, event.messageId], ["READ", b.userId, message.id]);
		await enter(anna, "lobby");
		const room = await enter(bert, "lobby");
		await anna.send("/app/chat.send", { roomId: "lobby", content: "read me too" });
		const said = await room.find((m) => m.type === "CHAT");
		await bert.send("/app/chat.read", { roomId: "lobby", messageId: said.id });
		const inRoom = await room.find((m) => m.type === "READ");
		assert.deepEqual([inRoom.senderId, inRoom.messageId], [b.userId, said.id]);
		await leave(anna, bert);
	});

	/* ---- the rest of the outside ---- */

	test("health answers", limit, async () => {
		for (const path of ["/healthz", "/readyz", "/api/chat/health"]) {
			assert.equal((await fetchAll(server.url + path)).status, 200, path);
		}
		const health = (await fetchAll(`${server.url}/api/chat/health`)).json;
		assert.equal(health.status, "UP");
		assert.equal(health.serverId, server.ready.server_id);
		assert.ok(Math.abs(new Date(health.timestamp) - Date.now()) < 60000);
	});

	test("an unknown API path is a problem document", limit, async () => {
		const answer = await fetchAll(`${server.url}/api/no/such`);
		assert.equal(answer.status, 404);
		assert.match(answer.headers["content-type"], /^application\/problem\+json/);
		assert.equal(answer.json.status, 404);
	});

	test("a foreign Origin may not open a WebSocket", limit, async () => {
		const { default: WebSocket } = await import("ws");
		const socket = new WebSocket(server.wsUrl, ["v12.stomp"], { origin: "https://evil.example" });
		const error = await new Promise((resolve) => {
			socket.on("open", () => resolve(null));
			socket.on("error", resolve);
		});
		socket.terminate();
		assert.match(String(error), /403/);
	});
});
