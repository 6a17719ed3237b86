/* SPDX-License-Identifier: Apache-2.0 */
/* Threads on the page, and what a reload must not lose: what is written and not sent, and how far one has scrolled. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hasChromium, person, withBrowser } from "../lib/browser.mjs";
import { hasChatd, needs } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 180000, skip };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const REPLIES = 52; /* more than a page */

describe("threads and drafts", () => {
	let server;
	let browser;
	withBrowser(skip, { "auth-anonymous.devices": 0 }, (s, b) => {
		server = s;
		browser = b;
	});

	/* People who are in, one browser each. */
	async function people(names, options = {}) {
		const all = await Promise.all(names.map(() => person(browser, server, options)));
		for (const [i, who] of all.entries()) {
			await who.join(names[i]);
		}
		return all;
	}

	const done = async (all) => {
		all.forEach((who) => who.quiet());
		await Promise.all(all.map((who) => who.close()));
	};

	const inThread = ({ page }, text) => page.locator("#thread-messages .message", { hasText: text });
	const answer = async ({ page }, text) => {
		await page.fill("#thread-composer-input", text);
		await page.press("#thread-composer-input", "Enter");
	};

	test("one answers in a thread, the other sees it, finds the way there and answers too", limit, async () => {
		const all = await people(["Ann", "Bob"]);
		const [ann, bob] = all;
		await ann.say("what about lunch?");
		await bob.sees("what about lunch?");
		await bob.act("what about lunch?", "Reply in a thread");
		await bob.page.waitForFunction(() => document.activeElement.id === "thread-composer-input");
		await inThread(bob, "what about lunch?").waitFor();
		await answer(bob, "soup at noon");
		await inThread(bob, "soup at noon").and(bob.page.locator('[data-status="sent"]')).waitFor();

		/* One line among the messages, and a count at what it is about. */
		const line = ann.page.locator("#messages .thread-line", { hasText: "soup at noon" });
		await line.waitFor();
		assert.match(await line.textContent(), /Bob, about “what about lunch\?”/);
		const count = ann.message("what about lunch?").locator(".replies");
		await count.filter({ hasText: /^\s*1 reply1 new\s*$/ }).waitFor();
		await count.click();
		await inThread(ann, "soup at noon").waitFor();
		await ann.page.locator("#messages .replies", { hasText: /^1 reply$/ }).waitFor();
		await answer(ann, "noon is fine");
		await inThread(bob, "noon is fine").waitFor();
		await bob.page.locator("#messages .replies", { hasText: /^2 replies$/ }).waitFor();
		assert.equal(await bob.page.locator("#messages .message", { hasText: "noon is fine" }).count(), 0, "not whole among the messages");

		/* What is changed in it changes there. */
		await inThread(bob, "soup at noon").hover();
		await inThread(bob, "soup at noon").locator("[data-act=more]").click();
		await bob.page.locator("#menu").getByRole("button", { name: "Edit", exact: true }).click();
		await bob.page.fill("#thread-composer-input", "soup at one");
		await bob.page.press("#thread-composer-input", "Enter");
		await inThread(ann, "soup at one").waitFor();
		await line.filter({ hasText: "soup at one" }).or(ann.page.locator("#messages .thread-line", { hasText: "soup at one" })).waitFor();
		await inThread(ann, "soup at one").hover();
		await inThread(ann, "soup at one").locator("[data-act=more]").click();
		await ann.page.locator("#menu .palette-item").first().click();
		await inThread(bob, "soup at one").locator(".reaction").waitFor();
		await done(all);
	});

	/* Sixty messages take their time: with CHATD_FULL=1. */
	const long = process.env.CHATD_FULL === "1" ? limit : { ...limit, skip: skip || "only with CHATD_FULL=1" };
	test("a long thread comes a page at a time, by its address as well", long, async () => {
		const all = await people(["Cid"]);
		const [cid] = all;
		await cid.say("the long one");
		await cid.act("the long one", "Reply in a thread");
		for (let i = 1; i <= REPLIES; i++) {
			await answer(cid, `reply number ${i}.`);
		}
		await cid.page.locator("#messages .replies", { hasText: `${REPLIES} replies` }).waitFor();
		await inThread(cid, `reply number ${REPLIES}.`).and(cid.page.locator('[data-status="sent"]')).waitFor();
		const address = cid.page.url();
		assert.match(address, /#room%3Alobby\/thread\/[A-Za-z0-9_-]+$/);

		const dan = await person(browser, server);
		all.push(dan);
		await dan.join("Dan");
		await dan.page.goto(address);
		await dan.page.reload();
		await inThread(dan, `reply number ${REPLIES}.`).waitFor();
		/* More than a page: the first ones come when one has scrolled up. */
		await dan.page.waitForFunction(() => document.querySelectorAll("#thread-messages .message").length >= 50);
		await dan.page.locator("#thread .scroller").evaluate((e) => (e.scrollTop = 0));
		await inThread(dan, "the long one").waitFor();
		const texts = await dan.page.locator("#thread-messages .content").allTextContents();
		assert.deepEqual(texts, ["the long one", ...Array.from({ length: REPLIES }, (_, i) => `reply number ${i + 1}.`)]);
		await dan.page.goBack();
		await dan.page.waitForSelector("#thread[hidden]", { state: "attached" });
		await done(all);
	});

	test("by its address, by keyboard alone, and on a phone", limit, async () => {
		const all = await people(["Eve"]);
		const [eve] = all;
		const { page } = eve;
		await eve.say("begun by keyboard");
		await eve.message("begun by keyboard", '[data-status="sent"]').waitFor();
		await eve.message("begun by keyboard").locator("[data-act=more]").focus();
		await page.keyboard.press("t");
		await page.waitForFunction(() => document.activeElement.id === "thread-composer-input");
		await page.keyboard.type("and answered");
		await page.keyboard.press("Enter");
		await inThread(eve, "and answered").and(page.locator('[data-status="sent"]')).waitFor(); /* what has not been sent is not edited */
		await page.keyboard.press("ArrowUp");
		await page.locator("#thread-writing-what", { hasText: "Editing" }).waitFor();
		await page.keyboard.press("Escape");
		await page.waitForSelector("#thread-writing[hidden]", { state: "attached" });
		await page.keyboard.press("Escape");
		await page.waitForSelector("#thread[hidden]", { state: "attached" });
		await eve.focus("#messages [data-act=more], #messages [data-act=thread]"); /* back at the message */

		await page.goto(`${page.url()}/thread/${await eve.message("begun by keyboard").getAttribute("data-id")}`);
		await page.reload();
		await inThread(eve, "and answered").waitFor();
		await page.goBack();
		await page.waitForSelector("#thread[hidden]", { state: "attached" });

		const phone = await person(browser, server, PHONE);
		all.push(phone);
		await phone.join("Pia");
		await phone.page.locator("#messages .thread-line [data-act=thread]", { hasText: "and answered" }).tap();
		await inThread(phone, "begun by keyboard").waitFor();
		const box = await phone.page.locator("#thread").boundingBox();
		assert.deepEqual([box.x, box.y, box.width, box.height], [0, 0, 390, 844]);
		assert.equal(await phone.page.locator("#stage").getAttribute("inert"), "");
		await answer(phone, "from the road");
		await inThread(phone, "from the road").and(phone.page.locator('[data-status="sent"]')).waitFor();
		await phone.page.tap("#close-thread");
		await phone.page.waitForSelector("#thread[hidden]", { state: "attached" });
		assert.equal(await phone.page.locator("#stage").getAttribute("inert"), null);
		await done(all);
	});

	test("another language loses neither what is written nor the place in the conversation", limit, async () => {
		const all = await people(["Fay"]);
		const [fay] = all;
		const { page } = fay;
		for (let i = 1; i <= 60; i++) {
			await fay.say(`line ${i} of many`);
		}
		await fay.message("line 60 of many", '[data-status="sent"]').waitFor();
		await fay.act("line 58 of many", "Reply");
		await page.fill("#composer-input", "half a thought");
		const top = () => page.locator("#messages .message", { hasText: "line 5 of many" }).evaluate((e) => Math.round(e.getBoundingClientRect().top));
		await page.locator("#messages .message", { hasText: "line 5 of many" }).scrollIntoViewIfNeeded();
		const before = await top();
		await page.click(".sidebar [data-open=settings]");
		await Promise.all([page.waitForEvent("load"), page.selectOption("#settings-language", "ko")]);
		await fay.online();
		await page.waitForFunction((y) => {
			const row = [...document.querySelectorAll("#messages .message")].find((e) => e.textContent.includes("line 5 of many"));
			return row && Math.abs(row.getBoundingClientRect().top - y) <= 3;
		}, before);
		await page.waitForFunction(() => document.getElementById("composer-input").value === "half a thought");
		await page.locator("#writing-text", { hasText: "line 58 of many" }).waitFor();
		await page.waitForFunction(() => /[가-힣]/.test(document.getElementById("composer-send").getAttribute("aria-label")));
		await done(all);
	});

	test("drafts are each conversation's and each person's own, and go with them", limit, async () => {
		const all = await people(["Gus", "Hal"]);
		const [gus, hal] = all;
		const { page } = gus;
		const draftsAre = (keys) =>
			page.waitForFunction((wanted) => JSON.stringify(Object.keys(localStorage).filter((key) => key.startsWith("chatd.draft."))) === JSON.stringify(wanted), keys);
		const written = (text) => page.waitForFunction((t) => document.querySelector("#composer-input").value === t, text);
		await page.fill("#composer-input", "for everybody");
		await gus.write(await hal.id());
		await page.fill("#composer-input", "for Hal alone");
		await page.reload();
		await gus.online();
		await written("for Hal alone");
		await gus.go("room:lobby");
		await written("for everybody");
		await page.press("#composer-input", "Enter");
		await hal.sees("for everybody");
		await draftsAre([`chatd.draft.user:${await hal.id()}`]); /* what was sent is no draft any more */

		/* In the open no more once the conversation is encrypted, and still there after a reload. */
		await gus.go(`user:${await hal.id()}`);
		await page.click("#open-lock");
		await page.click("#lock-toggle");
		await page.locator("#open-lock[data-trust=none], #open-lock[data-trust=unverified]").waitFor();
		await gus.escape("lock");
		await draftsAre([]);
		await page.fill("#composer-input", "a secret thought");
		await page.waitForFunction(() => Object.keys(localStorage).some((key) => key.startsWith("chatd.draft.user:")));
		assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes("secret thought")), false);
		await page.reload();
		await gus.online();
		await written("a secret thought");

		await page.click("#sign-out");
		await page.click("#confirm-yes");
		await page.waitForSelector("#welcome:not([hidden])");
		await draftsAre([]);
		await done(all);
	});
});
