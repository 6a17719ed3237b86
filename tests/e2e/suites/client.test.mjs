/* sdk/client-js, in Node, against a real server: what it promises holds when connections break. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@stomp/stompjs";
import WebSocket from "ws";
import { CHEAP_HASHES, member } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { SockJS } from "../lib/stomp.mjs";
import { ChatClient } from "../../../sdk/client-js/index.js";

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };

/* A promise of the next event of that name for which `wanted` holds. */
function next(emitter, name, wanted = () => true) {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(() => reject(new Error(`no ${name} within 60 s`)), 60000);
		const off = emitter.on(name, (value) => {
			if (wanted(value)) {
				clearTimeout(timer);
				off();
				resolve(value);
			}
		});
	});
}

async function until(holds) {
	for (let i = 0; !holds(); i++) {
		assert.ok(i < 3000, `not within 60 s: ${holds}`);
		await sleep(20);
	}
}

/* Between client and server; `mute` swallows what the server says, `cut` ends all connections. */
class Proxy {
	#sockets = new Set();
	#server;
	mute = false;

	static async to(port) {
		const proxy = new Proxy();
		proxy.#server = net.createServer((near) => {
			const far = net.connect(port, "127.0.0.1");
			near.pipe(far);
			far.on("data", (data) => proxy.mute || near.write(data));
			for (const [one, other] of [[near, far], [far, near]]) {
				proxy.#sockets.add(one);
				one.on("error", () => {});
				one.on("close", () => (proxy.#sockets.delete(one), other.destroy()));
			}
		});
		proxy.#server.listen(0, "127.0.0.1");
		await once(proxy.#server, "listening");
		return proxy;
	}

	get url() {
		return `http://127.0.0.1:${this.#server.address().port}`;
	}

	cut() {
		this.#sockets.forEach((socket) => socket.destroy());
	}

	close() {
		this.cut();
		this.#server.close();
	}
}

class Memory {
	#map = new Map();
	getItem = (key) => this.#map.get(key) ?? null;
	setItem = (key, value) => this.#map.set(key, value);
	removeItem = (key) => this.#map.delete(key);
}

describe("sdk/client-js", () => {
	let server;
	const open = [];
	before(async () => {
		const set = { "auth-anonymous.devices": 0, "auth-jwt.access_ttl": "10s", "chat.resume_max": 30, ...CHEAP_HASHES };
		server = skip ? null : await startChatd({ config: "chat.yaml", set });
	});
	afterEach(() => Promise.all(open.splice(0).map((c) => c.disconnect())));
	after(() => server?.stop());

	async function client(more = {}) {
		const made = new ChatClient({ url: server.url, login: { guest: "Gast" }, storage: null, Client, WebSocket, SockJS, ...more });
		open.push(made);
		await made.connect();
		return made;
	}

	test("two guests in a room: sent, received, in order, with receipts", limit, async () => {
		const [anna, bert] = [await client(), await client({ transport: "sockjs" })];
		assert.notEqual(anna.me, bert.me);
		const got = [];
		bert.room("lobby").on("message", (m) => got.push(m.content));
		await Promise.all([anna.room("lobby").join(), bert.room("lobby").join()]);
		const stored = await Promise.all(["one", "two", "three"].map((text) => anna.room("lobby").send(text)));
		assert.deepEqual(stored.map((s) => s.seq - stored[0].seq), [0, 1, 2]);
		assert.ok(stored.every((s) => s.id && s.clientId));
		await until(() => got.length >= 3);
		assert.deepEqual(got, ["one", "two", "three"]);
		const page = await bert.room("lobby").history({ limit: 2 });
		assert.deepEqual(page.messages.map((m) => m.content), ["two", "three"]);
	});

	test("direct messages, typing and read marks reach the other one", limit, async () => {
		const [anna, bert] = [await client(), await client()];
		const heard = next(bert, "message");
		const { id, seq } = await anna.direct(bert.me).send("hello");
		assert.equal((await heard).id, id);
		const typing = next(bert.direct(anna.me), "typing");
		await bert.direct(anna.me).watchTyping();
		anna.direct(bert.me).typing();
		assert.deepEqual({ ...(await typing), name: undefined }, { userId: anna.me, typing: true, name: undefined });
		const read = next(anna.direct(bert.me), "read", (r) => r.userId === bert.me);
		await bert.direct(anna.me).read();
		assert.equal((await read).seq, seq);
	});

	test("who is typing is told of the conversations that one watches, after a cut too", limit, async () => {
		const proxy = await Proxy.to(Number(server.http.split(":").pop()));
		try {
			const [anna, bert, clara] = [await client(), await client({ url: proxy.url, storage: new Memory() }), await client()];
			const told = [];
			const rooms = [anna, bert, clara].map((one) => one.room("lobby"));
			await Promise.all(rooms.map((room) => room.join()));
			rooms[1].on("typing", (t) => t.typing && told.push(["lobby", t.userId]));
			[anna, clara].forEach((one) => bert.direct(one.me).on("typing", (t) => t.typing && told.push(["direct", t.userId])));
			const heard = async (wanted) => {
				for (const one of [anna, clara]) {
					[one.room("lobby"), one.direct(bert.me)].forEach((place) => (place.typing(false), place.typing()));
				}
				/* What is said afterwards comes afterwards. */
				const said = [next(rooms[1], "message", (m) => m.content === "said"), next(bert.direct(clara.me), "message", (m) => m.content === "said")];
				await Promise.all([anna.room("lobby").send("said"), clara.direct(bert.me).send("said"), ...said]);
				await until(() => told.length >= wanted.length); /* by ways of their own */
				assert.deepEqual(told.splice(0).sort(), wanted);
			};
			await heard([]);
			await Promise.all([rooms[1].watchTyping(), bert.direct(clara.me).watchTyping()]);
			const all = [["lobby", anna.me], ["lobby", clara.me], ["direct", clara.me]].sort();
			await heard(all);
			const down = next(bert, "state", ({ state }) => state !== "online");
			proxy.cut();
			await down;
			const up = next(bert, "state", ({ state }) => state === "online");
			bert.retryNow();
			await up;
			await heard(all);
			rooms[1].unwatchTyping();
			await heard([["direct", clara.me]]);
		} finally {
			proxy.close();
		}
	});

	test("presence: how somebody is and becomes, until one watches no more", limit, async () => {
		const [anna, bert] = [await client(), await client()];
		const told = [];
		anna.on("presence", (p) => told.push(...(p.users ?? [p]).filter((u) => u.userId === bert.me)));
		const is = (status, text) => until(() => told.at(-1)?.status === status && told.at(-1).text === text);
		await anna.watch(bert.me);
		await is("online", undefined);
		assert.equal(told.at(-1).online, true);
		await bert.setPresence("away", "lunch");
		await is("away", "lunch");
		await bert.setPresence("busy");
		await is("busy", undefined);
		await assert.rejects(bert.setPresence("invisible"), { code: "VALIDATION" });
		await anna.unwatch(bert.me);
		const before = told.length;
		await bert.setPresence("online");
		const { users } = await anna.rest("GET", `/api/chat/presence?users=${bert.me}`);
		assert.equal(users[0].status, "online");
		assert.equal(told.length, before, "unwatched");
		await anna.watch(bert.me);
		await is("online", undefined);
		await bert.disconnect();
		await is("offline", undefined);
	});

	test("whom one watches is watched again after a cut", limit, async () => {
		const proxy = await Proxy.to(Number(server.http.split(":").pop()));
		try {
			const [anna, bert] = [await client({ url: proxy.url, storage: new Memory() }), await client()];
			const away = next(anna, "presence", (p) => p.userId === bert.me && p.status === "away");
			await anna.watch(bert.me);
			const down = next(anna, "state", ({ state }) => state !== "online");
			proxy.cut();
			await down;
			const again = next(anna, "presence", (p) => p.users?.some((u) => u.userId === bert.me));
			anna.retryNow();
			await again;
			await bert.setPresence("away");
			await away;
		} finally {
			proxy.close();
		}
	});

	test("a server that is killed: what was said meanwhile comes after it, each once and in order", limit, async () => {
		const storage = new Memory();
		const [anna, bert] = [await client({ storage }), await client({ storage: new Memory() })];
		const room = await anna.rest("GET", "/api/chat/rooms/lobby");
		assert.equal(room.id, "lobby");
		await Promise.all([anna.room("lobby").join(), bert.room("lobby").join()]);
		const [rooms, direct] = [[], []];
		bert.room("lobby").on("message", (m) => m.senderId === anna.me && rooms.push(m.content));
		bert.direct(anna.me).on("message", (m) => direct.push(m.content));
		const me = anna.me;
		const sent = [];
		const say = (n) => sent.push(anna.room("lobby").send(`r${n}`), anna.direct(bert.me).send(`d${n}`));
		say(0);
		await server.restart(async () => say(1), { hard: true });
		say(2);
		await Promise.all(sent);
		anna.retryNow();
		await anna.direct(bert.me).send("end");
		await anna.room("lobby").send("end");
		await until(() => direct.includes("end") && rooms.includes("end"));
		assert.equal(anna.me, me);
		assert.deepEqual(rooms, ["r0", "r1", "r2", "end"]);
		assert.deepEqual(direct, ["d0", "d1", "d2", "end"]);
	});

	test("a receipt that is lost: the message is sent again and stored once", limit, async () => {
		const proxy = await Proxy.to(Number(server.http.split(":").pop()));
		try {
			const [anna, bert] = [await client({ url: proxy.url, storage: new Memory() }), await client()];
			const got = [];
			bert.direct(anna.me).on("message", (m) => got.push(m.content));
			proxy.mute = true;
			const sent = anna.direct(bert.me).send("once");
			await next(bert, "message", (m) => m.content === "once");
			proxy.cut();
			proxy.mute = false;
			const { seq } = await sent;
			assert.equal((await anna.direct(bert.me).send("after")).seq, seq + 1);
			await until(() => got.includes("after"));
			assert.deepEqual(got, ["once", "after"]);
			} finally {
			proxy.close();
		}
	});

	test("more was said than can be resumed: a gap is told, and what follows is live", limit, async () => {
		const proxy = await Proxy.to(Number(server.http.split(":").pop()));
		try {
			const [anna, bert] = [await client(), await client({ url: proxy.url, storage: new Memory() })];
			await Promise.all([anna.room("lobby").join(), bert.room("lobby").join()]);
			const { seq } = await anna.room("lobby").send("before");
			proxy.mute = true;
			proxy.cut();
			await Promise.all(Array.from({ length: 40 }, (_, n) => anna.room("lobby").send(`n${n}`)));
			const gap = next(bert.room("lobby"), "gap");
			proxy.mute = false;
			proxy.cut();
			bert.retryNow();
			const { topSeq } = await gap;
			assert.ok(topSeq >= seq + 40, `${topSeq} after ${seq}`);
			const live = next(bert.room("lobby"), "message");
			await anna.room("lobby").send("live");
			assert.equal((await live).content, "live");
			} finally {
			proxy.close();
		}
	});

	test("an account stays connected and can ask when its tokens have been renewed", limit, async () => {
		const account = await member(server, "Clara");
		const clara = await client({ login: { email: account.email, password: account.password }, storage: new Memory() });
		const ends = [];
		clara.on("state", ({ state }) => ends.push(state));
		await sleep(12000); /* longer than a token lasts */
		assert.equal((await clara.rest("GET", "/api/users/me")).userId, account.userId);
		assert.ok((await clara.room("lobby").join(), await clara.room("lobby").send("still here")).id);
		assert.deepEqual(ends, []);
	});

	test("a token of one's own making, a wrong password, a room that may not be heard", limit, async () => {
		const account = await member(server, "Dora");
		const asked = [];
		const dora = await client({ login: { token: async (refused) => (asked.push(refused), account.accessToken) } });
		assert.equal(dora.me, account.userId);
		assert.ok(asked.length > 0);
		const closed = await dora.rest("POST", "/api/chat/rooms", { name: "closed", public: false });
		const wrong = new ChatClient({ url: server.url, login: { email: account.email, password: "not this one" }, storage: null, Client, WebSocket });
		await assert.rejects(wrong.connect(), { code: "INVALID_CREDENTIALS" });
		const guest = await client();
		await assert.rejects(guest.room(closed.id).follow(), { code: "NOT_MEMBER" });
		await assert.rejects(guest.direct("nobody-at-all").send("?"), { code: "NOT_FOUND" });
		assert.throws(() => new ChatClient({ url: server.url, login: {}, storage: null, Client, WebSocket }), /login is/);
	});
});
