/* SPDX-License-Identifier: Apache-2.0 */
/* Three people in three browsers, in one room and each with each: what two of them have between themselves is not the
 * third one's affair. Blocks, reports, and who has read what. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { hasChromium, launch, person } from "../lib/browser.mjs";
import { CHEAP_HASHES, member } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { fetchAll } from "../lib/http.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 300000, skip };
const NAMES = { ann: "Ann Arbor", bob: "Bob Bauer", cat: "Cat Conrad" };

describe("three people on the page", () => {
	let server;
	let browser;
	let room;
	let ann;
	let bob;
	let cat;
	const [accounts, ids] = [{}, {}];

	const api = (who, method, where, body) =>
		fetchAll(`${server.url}/api/${where}`, {
			method,
			headers: { Authorization: `Bearer ${accounts[who].accessToken}`, "Content-Type": "application/json" },
			body: body && JSON.stringify(body),
		});

	before(async () => {
		if (skip) {
			return;
		}
		server = await startChatd({ set: CHEAP_HASHES });
		for (const [who, name] of Object.entries(NAMES)) {
			accounts[who] = await member(server, name);
			ids[who] = accounts[who].userId;
		}
		room = (await api("ann", "POST", "chat/rooms", { name: "Round table", public: false })).json.id;
		for (const who of ["bob", "cat"]) {
			assert.equal((await api("ann", "POST", `chat/rooms/${room}/members`, { userId: ids[who] })).status, 201);
		}
		browser = await launch();
		[ann, bob, cat] = await Promise.all(Object.keys(NAMES).map(async (who) => {
			const one = await person(browser, server);
			await one.logIn(accounts[who]);
			await one.go(`room:${room}`);
			return one;
		}));
	});
	after(async () => {
		try {
			[ann, bob, cat].forEach((one) => one?.quiet(/status of (403|404)/));
		} finally {
			await browser?.close();
			await server?.stop();
		}
	});

	/* They go by themselves: looked for from before. */
	const toast = (who, text) => who.glimpse("#toasts .toast", text);
	/* The server knows it: what is read from then on is told, or is not. */
	const switchReads = (page) => Promise.all([page.waitForResponse((r) => r.request().method() === "PUT" && r.url().endsWith("/api/chat/settings")), page.click("#privacy-reads")]);
	const tick = (who, text, status) => who.message(text, `.mine[data-status="${status}"]`).waitFor();
	const inRoom = () => Promise.all([ann, bob, cat].map((one) => one.go(`room:${room}`)));

	async function account(who, work) {
		await who.page.click("#open-account");
		await who.page.waitForSelector("#privacy-reads:not([disabled])");
		await work(who.page);
		await who.escape("account");
	}

	test("whom one blocks is hidden in the room from oneself alone, and writes to all others", limit, async () => {
		await bob.say("I am loud");
		await Promise.all([ann, cat].map((one) => one.sees("I am loud")));
		await ann.act("I am loud", "Block Bob Bauer…");
		const told = toast(ann, "Bob Bauer is blocked");
		await ann.page.click("#confirm-yes");
		await told;
		const hidden = ann.page.locator("#messages [data-act=reveal]");
		await hidden.first().waitFor();
		assert.equal(await ann.message("I am loud").count(), 0);

		await bob.say("and louder");
		await cat.sees("and louder");
		await hidden.nth(1).waitFor();
		assert.equal(await ann.message("and louder").count(), 0);
		await hidden.nth(1).click();
		await ann.sees("and louder");
		assert.equal(await ann.message("I am loud").count(), 0, "one was asked for");

		/* Between those two nothing passes, in neither direction; the third one talks to both. */
		await bob.write(ids.ann);
		await bob.say("hear me");
		await tick(bob, "hear me", "failed");
		await ann.write(ids.bob);
		await ann.say("no");
		await tick(ann, "no", "failed");
		await cat.write(ids.ann);
		await cat.say("from Cat to Ann");
		await ann.page.click(`#direct-list [data-key="user:${ids.cat}"]`);
		await ann.sees("from Cat to Ann");
		await cat.write(ids.bob);
		await cat.say("from Cat to Bob");
		await bob.page.click(`#direct-list [data-key="user:${ids.cat}"]`);
		await bob.sees("from Cat to Bob");

		await account(ann, async (page) => {
			await page.locator(`#blocked-list [data-user="${ids.bob}"] button`).click();
			await page.locator("#blocked-empty:visible").waitFor();
		});
		await bob.go(`user:${ids.ann}`);
		await bob.message("hear me").getByRole("button", { name: "Send again" }).click();
		await tick(bob, "hear me", "sent");
		await ann.go(`user:${ids.bob}`);
		await ann.sees("hear me");
		await inRoom();
		await ann.sees("I am loud");
	});

	test("a report reaches the moderator alone; what is decided is seen by all three", limit, async () => {
		await inRoom();
		for (const text of ["buy my watches", "buy my shoes"]) {
			await cat.say(text);
			await bob.sees(text);
			await bob.act(text, "Report…");
			await bob.page.selectOption("#report-reason", "spam");
			await bob.page.fill("#report-note", "again and again");
			await bob.page.click("#report-form [type=submit]");
			await bob.page.waitForSelector("#report-dialog:not([open])", { state: "attached" });
		}
		for (const one of [bob, cat]) {
			await one.page.click("#open-room");
			await one.page.waitForSelector("#manage[open]");
			assert.equal(await one.page.locator("#reports-part:visible").count(), 0, "who does not moderate");
			await one.escape("manage");
		}
		await ann.page.click("#open-room");
		const reports = ann.page.locator("#reports-list li");
		const of = (text) => reports.filter({ hasText: text });
		await of("buy my watches").filter({ hasText: "Cat Conrad" }).filter({ hasText: "Spam · again and again" }).waitFor();
		await of("buy my shoes").waitFor();
		assert.equal(await reports.filter({ hasText: "Bob" }).count(), 0, "who has reported it is nobody's affair");
		await of("buy my shoes").getByRole("button", { name: "Dismiss the report about Cat Conrad" }).click();
		await of("buy my shoes").waitFor({ state: "detached" });
		const told = toast(cat, "muted you in Round table");
		await of("buy my watches").getByRole("button", { name: "Delete the message and mute Cat Conrad for an hour" }).click();
		await ann.page.locator("#reports-empty:visible").waitFor();
		await ann.escape("manage");
		for (const one of [ann, bob, cat]) {
			await one.message("buy my watches").waitFor({ state: "detached" });
			await one.sees("buy my shoes");
		}
		await told;
		await cat.page.locator("#composer-input").waitFor({ state: "hidden" });
		await bob.page.locator("#composer-input").waitFor();
		await bob.say("it is quiet now");
		await Promise.all([ann, cat].map((one) => one.sees("it is quiet now")));
	});

	test("who has read what: by name in a room, as a tick between two, and not of those who keep it to themselves", limit, async () => {
		await inRoom();
		await cat.write(ids.bob); /* looks away */
		await ann.say("who reads this");
		await bob.sees("who reads this");
		const line = ann.message("who reads this").locator(".read-line");
		await line.filter({ hasText: /^Read by Bob Bauer$/ }).waitFor();
		await cat.go(`room:${room}`);
		await line.filter({ hasText: "Bob Bauer" }).filter({ hasText: "Cat Conrad" }).waitFor();

		await account(cat, switchReads);
		await ann.say("and this");
		await Promise.all([bob, cat].map((one) => one.sees("and this")));
		await ann.message("and this").locator(".read-line", { hasText: /^Read by Bob Bauer$/ }).waitFor();

		/* Between two it is mutual: neither learns it, and the third one is not concerned. */
		await cat.write(ids.ann);
		await ann.write(ids.cat);
		await ann.say("do you see me");
		await cat.sees("do you see me");
		await cat.say("I do");
		await ann.sees("I do");
		await tick(ann, "do you see me", "delivered");
		await bob.write(ids.ann);
		await bob.say("and me");
		await ann.page.click(`#direct-list [data-key="user:${ids.bob}"]`);
		await ann.sees("and me");
		await tick(bob, "and me", "read");
		await tick(cat, "I do", "delivered");
		await ann.go(`user:${ids.cat}`);
		assert.equal(await ann.message("do you see me", '[data-status="read"]').count(), 0);

		await account(cat, switchReads);
		await ann.say("and now");
		await cat.sees("and now");
		await tick(ann, "and now", "read");
	});
});
