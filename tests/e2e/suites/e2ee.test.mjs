/* SPDX-License-Identifier: Apache-2.0 */
/* End-to-end encryption: sdk/client-js in Node with a client in C, and the page in Chromium; what the server keeps of it. */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Client } from "@stomp/stompjs";
import WebSocket from "ws";
import { hasChromium, launch, person } from "../lib/browser.mjs";
import { api, CHEAP_HASHES, guest, member } from "../lib/chat.mjs";
import { BUILD, hasChatd, needs, REPO, startChatd } from "../lib/harness.mjs";
import { E2ee } from "../../../sdk/client-js/e2ee.js";
import { ChatClient, newId } from "../../../sdk/client-js/index.js";

const run = promisify(execFile);
const PEER = path.join(BUILD, "tests/e2ee/e2ee-peer");
const hasPeer = [existsSync(PEER), `${PEER} (meson setup -Dtests=enabled)`];
const nodeSkip = needs(hasChatd, hasPeer);
const pageSkip = needs(hasChatd, hasChromium);
const limit = { timeout: 180000, skip: nodeSkip };
const pageLimit = { timeout: 300000, skip: pageSkip };

/* A server, and the folder that its database is in. */
async function begin() {
	const dir = await mkdtemp(path.join(os.tmpdir(), "chatd-e2ee-"));
	const server = await startChatd({ plugins: "  tcp: {}\n", set: { ...CHEAP_HASHES, "server.data_dir": dir } });
	return { server, dir };
}

async function end({ server, dir } = {}) {
	await server?.stop();
	if (dir) {
		await rm(dir, { recursive: true, force: true });
	}
}

/* The files of the store in which these bytes are. */
async function filesWith(dir, text) {
	const found = [];
	for (const name of await readdir(dir)) {
		if (/\.db/.test(name) && (await readFile(path.join(dir, name))).includes(text)) {
			found.push(name);
		}
	}
	return found;
}

/* The program in C; `ask` gives it a command and resolves to its answer. */
class Peer {
	#child = spawn(PEER, [], { stdio: ["pipe", "pipe", "inherit"] });
	#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();

	async ask(command) {
		this.#child.stdin.write(`${JSON.stringify(command)}\n`);
		const { value } = await this.#lines.next();
		return JSON.parse(value ?? "{}");
	}

	end() {
		this.#child.stdin.end();
		this.#child.kill();
	}
}

/* Somebody in Node, connected, with keys; `next()` resolves to the next message that is not one's own. */
async function connected(server, account) {
	const chat = new ChatClient({ url: server.url, login: { token: async () => account.accessToken }, storage: null, Client, WebSocket });
	const e2ee = new E2ee({ user: account.userId, rest: (...call) => chat.rest(...call) });
	const waiting = [];
	const arrived = [];
	const hand = (m) => (waiting.length > 0 ? waiting.shift()(m) : arrived.push(m));
	chat.on("message", (m) => m.senderId !== account.userId && hand(m));
	chat.on("keys", (event) => e2ee.told(event).catch(() => {})); /* the server may have ended */
	await chat.connect();
	await e2ee.open({ name: "Node" });
	const next = () => (arrived.length > 0 ? Promise.resolve(arrived.shift()) : new Promise((resolve) => waiting.push(resolve)));
	const say = async (to, text) => {
		const { content, ...more } = await e2ee.seal({ to, clientId: newId(), text });
		return chat.direct(to).send(content, more);
	};
	return { account, chat, e2ee, next, say, id: account.userId };
}

describe("end to end, in Node and C", () => {
	let here;
	before(async () => (here = nodeSkip ? null : await begin()));
	after(() => end(here));

	for (const [name, engine] of [["c", "webcrypto"], ["js", "webcrypto"], ["c", "libsodium"]]) {
		test(`vectors made in ${name} are opened by ${engine}`, limit, async () => {
			const file = path.join(REPO, `tests/e2ee/vectors-${name}.json`);
			const { stdout } = await run(process.execPath, [path.join(REPO, "tests/e2ee/vectors.mjs"), "open", file, ...(engine === "libsodium" ? [engine] : [])]);
			assert.match(stdout, /1\.\.11/);
			assert.doesNotMatch(stdout, /^not ok/m);
		});
	}

	test("a program in C and one in JavaScript read each other, and nobody else does", limit, async () => {
		const { server, dir } = here;
		const [ann, bob] = [await guest(server), await guest(server)];
		const me = await connected(server, ann);
		const peer = new Peer();
		try {
			const opened = await peer.ask({ do: "open", http: server.url, tcp: server.tcpPort, user: bob.userId, token: bob.accessToken });
			assert.equal(opened.prekeys, 20, JSON.stringify(opened));
			await me.say(bob.userId, "from JavaScript: Grüße 안녕 zitronenfalter");
			const got = await peer.ask({ do: "receive" });
			assert.equal(got.text, "from JavaScript: Grüße 안녕 zitronenfalter", JSON.stringify(got));

			await peer.ask({ do: "send", to: me.id, text: "from C: 👋 zitronenfalter" });
			const message = await me.next();
			assert.equal(message.encrypted, true);
			assert.equal(message.keyId, opened.deviceId);
			assert.equal((await me.e2ee.unseal(message)).text, "from C: 👋 zitronenfalter");

			const edited = new Promise((resolve) => me.chat.direct(bob.userId).on("event", (e) => e.type === "EDIT" && resolve(e)));
			await peer.ask({ do: "edit", to: me.id, messageId: message.id, text: "reworded in C" });
			const event = await edited;
			assert.equal((await me.e2ee.unseal({ ...message, content: event.content, keyId: event.keyId })).text, "reworded in C");

			assert.equal((await peer.ask({ do: "safety", with: me.id })).digits, await me.e2ee.safetyNumber(bob.userId));
			for (const read of [message, { ...message, id: "another" }]) {
				await assert.rejects(me.e2ee.unseal({ ...read, senderId: me.id }), { code: "UNKNOWN_DEVICE" });
			}
			await assert.rejects(me.e2ee.unseal({ ...message, id: "another" }), { code: "REPLAYED" });

			assert.deepEqual(await filesWith(dir, "zitronenfalter"), []);
			assert.notDeepEqual(await filesWith(dir, message.keyId), [], "the right files were looked into");
			const search = await api(server, ann, "GET", `/api/chat/search?q=zitronenfalter&with=${bob.userId}`);
			assert.equal(search.status, 409);
			assert.equal(search.json.code, "NOT_AVAILABLE");
			assert.deepEqual((await api(server, ann, "GET", "/api/chat/search?q=zitronenfalter")).json.messages, []);
		} finally {
			peer.end();
			await me.chat.disconnect();
		}
	});

	test("an edit of what is encrypted is encrypted, and a flag without a key is refused", limit, async () => {
		const [ann, bob] = [await connected(here.server, await guest(here.server)), await connected(here.server, await guest(here.server))];
		await ann.say(bob.id, "x");
		const message = await bob.next();
		const plain = ann.chat.direct(bob.id);
		await assert.rejects(plain.edit(message.id, "in the open"), { code: "VALIDATION" });
		await assert.rejects(plain.send("{}", { encrypted: true }), { code: "VALIDATION" });
		const stored = await plain.send("open from the start");
		const { content, ...more } = await ann.e2ee.sealEdit({ to: bob.id, messageId: stored.id, text: "x" });
		await assert.rejects(plain.edit(stored.id, content, more), { code: "VALIDATION" });
		await Promise.all([ann.chat.disconnect(), bob.chat.disconnect()]);
	});

	test("a one-time prekey is handed out once, whoever asks at the same time, and then there are new ones", limit, async () => {
		const { server } = here;
		const bob = await connected(server, await guest(server));
		const others = await Promise.all(Array.from({ length: 4 }, () => guest(server)));
		const claim = async (who) => (await api(server, who, "POST", `/api/keys/${bob.id}/prekeys`, { devices: [bob.e2ee.deviceId] })).json.prekeys;
		const low = new Promise((resolve) => bob.chat.on("keys", (event) => event.type === "KEYS_LOW" && resolve(event)));
		const got = (await Promise.all(Array.from({ length: 44 }, (_, i) => claim(others[i % 4])))).flat();
		assert.equal(got.length, 44);
		assert.equal(new Set(got.map((p) => p.key)).size, 44);
		assert.equal((await low).deviceId, bob.e2ee.deviceId);
		for (let i = 0; ; i++) {
			const [next] = await claim(others[0]);
			if (next?.id > 50) {
				break; /* of the second delivery */
			}
			assert.ok(i < 3000, "no new prekeys came");
			await sleep(next ? 0 : 20);
		}
		await bob.chat.disconnect();
	});

	test("messages out of order, several devices, a session that is used again", limit, async () => {
		const { server } = here;
		const account = await guest(server);
		const [ann, bob] = [await connected(server, account), await connected(server, await guest(server))];
		for (const text of ["one", "two", "three"]) {
			await ann.say(bob.id, text);
		}
		const got = [await bob.next(), await bob.next(), await bob.next()];
		const texts = [];
		for (const m of [got[2], got[0], got[1]]) {
			texts.push((await bob.e2ee.unseal(m)).text);
		}
		assert.deepEqual(texts, ["three", "one", "two"]);
		assert.equal((await ann.e2ee.unseal(got[1])).text, "two", "one's own");
		const ephemeral = (m) => JSON.parse(m.content).to.find((e) => e.d === bob.e2ee.deviceId).e;
		assert.equal(ephemeral(got[0]), ephemeral(got[2]));
		await Promise.all([ann.chat.disconnect(), bob.chat.disconnect()]);
	});
});

describe("end to end, on the page", () => {
	let here;
	let browser;
	before(async () => {
		if (!pageSkip) {
			here = await begin();
			browser = await launch();
		}
	});
	after(async () => {
		await browser?.close();
		await end(here);
	});

	const openLock = async (who) => {
		await who.page.click("#open-lock");
		await who.page.waitForSelector("#lock[open]");
	};
	const closeLock = (who) => who.page.click("#lock [data-close]");
	const turnOn = async (who) => {
		await openLock(who);
		await who.page.locator("#lock-toggle", { hasText: "Turn encryption on" }).click();
		await who.page.locator("#lock-toggle", { hasText: "Turn encryption off" }).waitFor();
		await closeLock(who);
	};
	const number = async (who) => {
		await openLock(who);
		await who.page.waitForSelector("#lock-number:visible");
		return (await who.page.locator("#lock-number span").allTextContents()).join("");
	};
	const trust = (who, value) => who.page.waitForSelector(`#open-lock[data-trust="${value}"]`);

	test("two people turn it on, compare numbers, are warned of a new device, and the server knows nothing", pageLimit, async () => {
		const { server, dir } = here;
		const [annAccount, bobAccount] = [await member(server, "Ann"), await member(server, "Bob")];
		const people = [await person(browser, server), await person(browser, server), await person(browser, server)];
		const [ann, bob, second] = people;
		try {
			await ann.logIn(annAccount);
			await bob.logIn(bobAccount);
			await ann.write(bobAccount.userId);
			await bob.write(annAccount.userId);
			await turnOn(ann);
			await trust(ann, "none");
			await ann.say("zitronenfalter one");
			await ann.page.locator(".failed-line", { hasText: "no device yet" }).waitFor();

			await turnOn(bob);
			await ann.page.click("[data-act=retry]");
			await bob.sees("zitronenfalter one");
			await bob.say("zitronenfalter two");
			await ann.sees("zitronenfalter two");
			await ann.page.waitForFunction(() => document.querySelectorAll("#messages .lock-mark").length === 2);

			const both = [await number(ann), await number(bob)];
			assert.match(both[0], /^\d{60}$/);
			assert.equal(both[0], both[1]);
			await ann.page.click("#lock-verify");
			await closeLock(ann);
			await closeLock(bob);
			await trust(ann, "verified");

			await ann.act("zitronenfalter one", "Edit");
			await ann.say("zitronenfalter changed");
			await bob.sees("zitronenfalter changed");

			await second.logIn(bobAccount);
			await second.write(annAccount.userId);
			const told = ann.glimpse(".toast", "uses a new device"); /* for some seconds */
			await turnOn(second);
			await told;
			await trust(ann, "changed");
			await ann.say("zitronenfalter three");
			await ann.page.locator(".failed-line", { hasText: "compare it again" }).waitFor();
			await openLock(ann);
			await ann.page.locator("#lock-unverify", { hasText: "Go on" }).click();
			await trust(ann, "unverified");
			await closeLock(ann);
			await ann.page.click("[data-act=retry]");
			await second.sees("zitronenfalter three");
			await bob.sees("zitronenfalter three");
			await second.message("from before this device").first().waitFor();

			await ann.page.reload();
			await ann.online();
			await ann.sees("zitronenfalter changed");
			await ann.sees("zitronenfalter three");

			assert.deepEqual(await filesWith(dir, "zitronenfalter"), []);
			const found = await api(server, annAccount, "GET", `/api/chat/search?q=zitronenfalter&with=${bobAccount.userId}`);
			assert.equal(found.json.code, "NOT_AVAILABLE");
			people.forEach((p) => p.quiet(/status of 409/));
		} finally {
			await Promise.all(people.map((p) => p.close()));
		}
	});

	test("the page and a program in C read each other, edits too, and have the same number", { ...pageLimit, skip: pageSkip || nodeSkip }, async () => {
		const { server } = here;
		const bob = await guest(server);
		const ann = await person(browser, server);
		const peer = new Peer();
		try {
			const opened = await peer.ask({ do: "open", http: server.url, tcp: server.tcpPort, user: bob.userId, token: bob.accessToken });
			assert.equal(opened.prekeys, 20, JSON.stringify(opened));
			await ann.join("Ann");
			const id = await ann.id();
			await ann.write(bob.userId);
			await turnOn(ann);
			await trust(ann, "unverified");
			await ann.say("from the page: Grüße 안녕 zitronenfalter");
			const got = await peer.ask({ do: "receive" });
			assert.equal(got.text, "from the page: Grüße 안녕 zitronenfalter", JSON.stringify(got));

			await peer.ask({ do: "send", to: id, text: "from C: 👋 zitronenfalter" });
			await ann.sees("from C: 👋 zitronenfalter");
			await ann.message("from C").locator(".lock-mark").waitFor();
			const messageId = await ann.message("from C").getAttribute("data-id");
			await peer.ask({ do: "edit", to: id, messageId, text: "reworded in C" });
			await ann.sees("reworded in C");
			await ann.page.reload();
			await ann.online();
			await ann.sees("reworded in C");

			assert.equal((await peer.ask({ do: "safety", with: id })).digits, await number(ann));
			await closeLock(ann);
			assert.deepEqual(await filesWith(here.dir, "zitronenfalter"), []);
			ann.quiet();
		} finally {
			peer.end();
			await ann.close();
		}
	});

	test("a browser without X25519 and Ed25519 takes part, by libsodium and under the same policy", pageLimit, async () => {
		const { server } = here;
		const lacking = (page) =>
			page.addInitScript(() => {
				const real = crypto.subtle.generateKey.bind(crypto.subtle);
				crypto.subtle.generateKey = (how, ...rest) =>
					["X25519", "Ed25519"].includes(how.name) ? Promise.reject(new DOMException("", "NotSupportedError")) : real(how, ...rest);
			});
		const [old, young] = [await person(browser, server, { prepare: lacking }), await person(browser, server)];
		try {
			await old.join("Old");
			await young.join("Young");
			await old.write(await young.id());
			await young.write(await old.id());
			await turnOn(old);
			assert.equal(await young.page.evaluate(() => typeof globalThis.sodium), "undefined");
			assert.equal(await old.page.evaluate(() => typeof globalThis.sodium), "object");
			await turnOn(young);
			await young.say("to the old one");
			await old.sees("to the old one");
			await old.say("to the young one");
			await young.sees("to the young one");
			young.quiet();
			old.quiet(/WebAssembly|wasm/i); /* the policy does not let it, and libsodium does without */
		} finally {
			await Promise.all([old.close(), young.close()]);
		}
	});
});
