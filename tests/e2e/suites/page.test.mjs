/* SPDX-License-Identifier: Apache-2.0 */
/* The page's memory: history, resume, the outbox, search, changes, rooms. Two people with accounts in two browsers, on
 * a server that is killed now and then. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Gate, comesTrue, hasChromium, launch, person } from "../lib/browser.mjs";
import { CHEAP_HASHES, member } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { fetchAll } from "../lib/http.mjs";
import { StompUser } from "../lib/stomp.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const NAMES = { ann: "Ann Arbor", bob: "Bob Bauer", eve: "Eve Ebner" };
const RESUMED_AT_MOST = 20;

/* Another program that writes and does not come to an end. */
async function holdDatabase(file) {
	const work = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1], 60); c.execute('BEGIN IMMEDIATE'); print(1, flush=True); sys.stdin.read()";
	const child = spawn("python3", ["-c", work, file], { stdio: ["pipe", "pipe", "inherit"] });
	const ended = once(child, "close");
	await once(child.stdout, "data");
	return { release: async () => (child.stdin.end(), await ended) };
}

describe("what the page remembers and manages", () => {
	let server;
	let browser;
	let ann;
	let bob;
	/* Their accounts and ids by short name. */
	const accounts = {};
	const ids = {};
	const gate = new Gate();

	before(async () => {
		if (skip) {
			return;
		}
		server = await startChatd({ set: { ...CHEAP_HASHES, "auth-anonymous.devices": 0, "chat.resume_max": RESUMED_AT_MOST } });
		for (const [who, name] of Object.entries(NAMES)) {
			accounts[who] = await member(server, name);
			ids[who] = accounts[who].userId;
		}
		browser = await launch();
		ann = await person(browser, server, { prepare: (page) => gate.prepare(page) });
		bob = await person(browser, server);
		await ann.logIn(accounts.ann);
		await bob.logIn(accounts.bob);
	});
	after(async () => {
		try {
			ann?.quiet(/status of (403|404|409)/);
			bob?.quiet(/status of (403|404|409)/);
		} finally {
			await browser?.close();
			await server?.stop();
		}
	});

	async function rest(who, method, where, body) {
		const answer = await fetchAll(`${server.url}/api/chat/${where}`, {
			method,
			headers: { Authorization: `Bearer ${accounts[who].accessToken}`, ...(body ? { "Content-Type": "application/json" } : {}) },
			body: body ? JSON.stringify(body) : undefined,
		});
		assert.ok(answer.status < 300, `${method} ${where}: ${answer.status} ${answer.text}`);
		return answer.text ? answer.json : null;
	}

	/* A room of eve's, with ann and bob in it. */
	async function room(name, options = {}) {
		const { id } = await rest("eve", "POST", "rooms", { name, ...options });
		for (const userId of [ids.ann, ids.bob]) {
			await rest("eve", "POST", `rooms/${id}/members`, { userId });
		}
		return id;
	}

	/* Another client of somebody, without a page. */
	async function client(who, work) {
		const user = await StompUser.connect({ url: server.wsUrl, headers: { Authorization: `Bearer ${accounts[who].accessToken}` } });
		try {
			return await work(user);
		} finally {
			await user.leave();
		}
	}

	/* `who` says all of it, and the server has it. Resolves to the ids. */
	const say = (who, target, texts) =>
		client(who, async (user) => {
			const receipts = await Promise.all(texts.map((content) => user.send("/app/chat.send", { ...target, content })));
			return receipts.map((r) => r.headers["message-id"]);
		});

	const numbered = (word, from, to) => Array.from({ length: to - from + 1 }, (_, i) => `${word} ${from + i}.`);

	const until = (who, work, arg) => who.page.waitForFunction(work, arg);

	/* A message is marked for a moment: looked for from before. */
	const flashes = (who, text) => who.glimpse("#messages .message.flash", text);

	/* Scrolls up until the beginning is there. */
	async function toTheBeginning(who) {
		await comesTrue(async () => {
			await who.page.evaluate(() => document.getElementById("scroller").scrollTo(0, 0));
			await who.page.waitForTimeout(100);
			return (await who.page.locator('#history-top[data-state="beginning"]').count()) > 0;
		}, "the beginning of a conversation");
	}

	test("history comes on entry, older pages when scrolling back, nothing twice, up to the beginning", limit, async () => {
		const id = await room("Old stories");
		await say("eve", { roomId: id }, numbered("story", 1, 90));
		await say("bob", { roomId: id }, numbered("story", 91, 130));
		await ann.go(`room:${id}`);
		await ann.sees("story 130.");
		const first = await ann.texts();
		assert.ok(first.length <= 60, `${first.length} on entry`);
		assert.equal(first.at(-1), "story 130.");
		await until(ann, () => {
			const s = document.getElementById("scroller");
			return s.scrollHeight - s.scrollTop - s.clientHeight < 5; /* one begins at the end */
		});

		/* What is before the eyes stays there while an older page comes in above. */
		const kept = await ann.page.evaluate(async () => {
			const scroller = document.getElementById("scroller");
			const before = document.querySelectorAll("#messages .message").length;
			scroller.scrollTo(0, 300);
			const shown = [...document.querySelectorAll("#messages .message")].find((m) => m.getBoundingClientRect().top > 150);
			const [row, top] = [shown.dataset.row, shown.getBoundingClientRect().top];
			const end = Date.now() + 60000;
			while (document.querySelectorAll("#messages .message").length === before && Date.now() < end) {
				await new Promise((r) => setTimeout(r, 20));
			}
			await new Promise((r) => setTimeout(r, 200));
			const again = document.querySelector(`#messages [data-row="${row}"]`);
			return { moved: Math.abs(again.getBoundingClientRect().top - top), more: document.querySelectorAll("#messages .message").length > before };
		});
		assert.ok(kept.more, "an older page came");
		assert.ok(kept.moved < 3, `what was read moved by ${kept.moved} px`);

		await say("eve", { roomId: id }, ["said meanwhile"]);
		await ann.sees("said meanwhile");
		await toTheBeginning(ann);
		assert.deepEqual(await ann.texts(), [...numbered("story", 1, 130), "said meanwhile"]);
		await ann.page.locator("#history-text", { hasText: "beginning of the conversation" }).waitFor();
		assert.deepEqual(await ann.page.locator("#messages .day").allTextContents(), ["Today"]);
		await ann.page.locator("#messages .event", { hasText: "You were brought in by Eve Ebner" }).waitFor();
	});

	test("unread counts and previews; they follow what is read, on another device too", limit, async () => {
		await ann.go("room:lobby").catch(() => {});
		const device = await person(browser, server);
		await device.logIn(accounts.ann);
		try {
			await device.online();
			await say("eve", { to: ids.ann }, ["first of three", "second of three", "third of three"]);
			for (const page of [ann.page, device.page]) {
				await page.locator(`#direct-list [data-key="user:${ids.eve}"] .badge`, { hasText: "3" }).waitFor();
				await page.locator(`#direct-list [data-key="user:${ids.eve}"] .preview`, { hasText: "third of three" }).waitFor();
			}
			await ann.page.reload();
			await ann.online();
			await ann.page.locator(`#direct-list [data-key="user:${ids.eve}"] .badge`, { hasText: "3" }).waitFor();
			await ann.page.locator(`#direct-list [data-key="user:${ids.eve}"]`, { hasText: "Eve Ebner" }).waitFor();
			await ann.page.bringToFront();
			await ann.go(`user:${ids.eve}`);
			await ann.sees("first of three");
			await ann.page.waitForSelector(`#direct-list [data-key="user:${ids.eve}"] .badge`, { state: "detached" });
			await device.page.waitForSelector(`#direct-list [data-key="user:${ids.eve}"] .badge`, { state: "detached" });
			const { conversations } = await rest("ann", "GET", "conversations");
			assert.equal(conversations.find((c) => c.with === ids.eve).unread, 0);
			device.quiet();
		} finally {
			await device.close();
		}
	});

	test("after a cut, what was missed comes in its place, with the changes, and no history is read again", limit, async () => {
		const id = await room("Resume");
		const [target] = await say("eve", { roomId: id }, ["before the cut", "to be deleted"]);
		await say("eve", { to: ids.ann }, ["direct before"]);
		await ann.go(`user:${ids.eve}`);
		await ann.sees("direct before");
		await ann.go(`room:${id}`);
		await ann.sees("to be deleted");
		const { messages } = await rest("ann", "GET", `messages/room/${id}?before=99999`);
		await gate.shut();
		await ann.state("waiting");
		const missed = numbered("missed", 1, 9);
		await say("eve", { roomId: id }, missed);
		await say("eve", { to: ids.ann }, ["direct during"]);
		await client("eve", async (user) => {
			await user.send("/app/chat.edit", { messageId: target, content: "before the cut, edited", clientId: "e1" });
			await user.send("/app/chat.react", { messageId: target, reaction: "🎉" });
			await user.send("/app/chat.delete", { messageId: messages.find((m) => m.content === "to be deleted").id, clientId: "d1" });
		});
		const asked = [];
		ann.page.on("request", (request) => asked.push(new URL(request.url()).pathname));
		gate.open();
		await ann.online();
		await ann.sees("missed 9.");
		await ann.message("before the cut, edited").locator(".reaction", { hasText: "🎉" }).waitFor();
		await ann.message("This message was deleted.").waitFor();
		assert.deepEqual(await ann.texts(), ["before the cut, edited", "This message was deleted.", ...missed]);
		await ann.go(`user:${ids.eve}`);
		await ann.sees("direct during");
		assert.deepEqual(asked.filter((p) => p.startsWith("/api/chat/messages/")), []);
	});

	test("more missed than the server gives at once: the history is read anew, without a hole", limit, async () => {
		const id = await room("Gap");
		await say("eve", { roomId: id }, numbered("old", 1, 5));
		await ann.go(`room:${id}`);
		await ann.sees("old 5.");
		await gate.shut();
		await ann.state("waiting");
		await say("eve", { roomId: id }, numbered("gap", 1, 40));
		await say("bob", { roomId: id }, numbered("gap", 41, 70));
		gate.open();
		await ann.online();
		await ann.sees("gap 70.");
		const shown = await ann.texts();
		assert.deepEqual(shown, [...numbered("old", 1, 5), ...numbered("gap", 1, 70)].slice(-shown.length), "no hole in what is shown");
		await toTheBeginning(ann);
		assert.deepEqual(await ann.texts(), [...numbered("old", 1, 5), ...numbered("gap", 1, 70)]);
	});

	test("who joins while the connection is away is in as soon as it is back", limit, async () => {
		const { id } = await rest("eve", "POST", "rooms", { name: "Later", public: true });
		await ann.page.click("#open-finder"); /* the page has heard of it */
		await ann.page.fill("#finder-input", "Later");
		await ann.page.click(`#finder-list [data-key="room:${id}"]`);
		await ann.page.waitForSelector("#join-room:visible");
		await gate.shut();
		await ann.state("waiting");
		const told = ann.glimpse("#toasts .toast", "as soon as you are connected");
		await ann.page.click("#join-room");
		await told;
		gate.open();
		await ann.page.waitForSelector("#composer:visible");
		await say("eve", { roomId: id }, ["welcome"]);
		await ann.sees("welcome");
	});

	test("the server is killed: the page comes back to the same place and goes on", limit, async () => {
		const id = await room("Killed");
		await ann.go(`room:${id}`);
		await bob.go(`room:${id}`);
		await ann.say("before the kill");
		await bob.sees("before the kill");
		await server.restart(
			async () => {
				await ann.state("waiting");
				await ann.say("written while it was dead");
				await ann.message("written while it was dead", '[data-status="pending"]').waitFor();
			},
			{ hard: true },
		);
		await Promise.all([ann.online(), bob.online()]);
		await bob.sees("written while it was dead", ":not(.mine)");
		await ann.message("written while it was dead", '[data-id]:is([data-status="sent"], [data-status="read"])').waitFor();
		await bob.say("and on it goes");
		await ann.sees("and on it goes", ":not(.mine)");
		for (const who of [ann, bob]) {
			assert.deepEqual(await who.texts(), ["before the kill", "written while it was dead", "and on it goes"]);
		}
	});

	test("what waits to be sent outlasts a reload and a killed server, and is said once", limit, async () => {
		const id = await room("Outbox");
		await ann.go(`room:${id}`);
		await bob.go(`room:${id}`);
		await gate.shut();
		await ann.state("waiting");
		await ann.say("kept in the browser");
		await ann.say("and this one after it");
		await ann.message("and this one after it", '[data-status="pending"]').waitFor();
		const ids = () => ann.page.evaluate(() => Object.keys(localStorage).filter((k) => k.startsWith("chatd.outbox.")).sort());
		const waiting = await ids();
		assert.equal(waiting.length, 2);
		await server.restart(undefined, { hard: true });
		await ann.page.reload();
		assert.deepEqual(await ids(), waiting);
		gate.open();
		await ann.online();
		await bob.sees("kept in the browser", ":not(.mine)");
		await bob.sees("and this one after it", ":not(.mine)");
		await until(ann, () => !Object.keys(localStorage).some((k) => k.startsWith("chatd.outbox.")));
		await ann.sees("and this one after it");
		assert.deepEqual(await ann.texts(), ["kept in the browser", "and this one after it"]);
		const { messages } = await rest("bob", "GET", `messages/room/${id}?before=99999`);
		assert.deepEqual(messages.map((m) => `chatd.outbox.${m.clientId}`).sort(), waiting, "sent with the ids they were written with");
	});

	test("a refused message says why, after a reload too, and goes out with the same id when it may", limit, async () => {
		const id = await room("Slow");
		await ann.go(`room:${id}`);
		await bob.go(`room:${id}`);
		await rest("eve", "PATCH", `rooms/${id}`, { slowMode: 3600 });
		await ann.say("the first may pass");
		await bob.sees("the first may pass");
		await ann.say("the second may not");
		const failed = ann.message("the second may not", '[data-status="failed"]');
		await failed.locator(".failed-line", { hasText: "slow mode" }).waitFor();
		await ann.say("nor the third");
		await ann.message("nor the third", '[data-status="failed"]').getByRole("button", { name: "Discard" }).click();
		await ann.message("nor the third").waitFor({ state: "detached" });
		/* Now it may, but whoever wrote it has been told no, and decides. */
		await rest("eve", "PATCH", `rooms/${id}`, { slowMode: 0 });
		const [key] = await ann.page.evaluate(() => Object.keys(localStorage).filter((k) => k.startsWith("chatd.outbox.")));
		await ann.page.reload();
		await ann.online();
		await failed.locator(".failed-line", { hasText: "slow mode" }).waitFor();
		await failed.getByRole("button", { name: "Send again" }).click();
		await bob.sees("the second may not", ":not(.mine)");
		await ann.message("the second may not", '[data-id]:is([data-status="sent"], [data-status="read"])').waitFor();
		const { messages } = await rest("bob", "GET", `messages/room/${id}?before=99999`);
		assert.deepEqual(messages.map((m) => m.content), ["the first may pass", "the second may not"]);
		assert.equal(`chatd.outbox.${messages[1].clientId}`, key);
	});

	test("the server cannot store for a while: what was written waits, says so, and goes out by itself", limit, async () => {
		const id = await room("Patience");
		await ann.go(`room:${id}`);
		await bob.go(`room:${id}`);
		const held = await holdDatabase(path.join(server.dataDir, "chatd.db"));
		try {
			const waits = ann.glimpse(".held-line", /^The server is busy: this one goes out by itself in \d+ s/);
			await ann.say("nobody can keep this now");
			await waits;
			assert.equal(await ann.message("nobody can keep this now", '[data-status="failed"]').count(), 0);
		} finally {
			await held.release();
		}
		await bob.sees("nobody can keep this now", ":not(.mine)");
		assert.deepEqual(await ann.texts(), ["nobody can keep this now"]);
		await ann.page.locator(".held-line").waitFor({ state: "detached" });
	});

	test("search finds what was said long ago and jumps to it; from there one scrolls on to the end", limit, async () => {
		const id = await room("Haystack");
		const other = await room("Elsewhere");
		await say("eve", { roomId: id }, [...numbered("straw", 1, 40), "a needle in it", ...numbered("straw", 41, 60)]);
		await say("bob", { roomId: id }, numbered("straw", 61, 130));
		await say("eve", { roomId: other }, ["another needle elsewhere"]);
		await ann.go(`room:${id}`);
		await ann.sees("straw 130.");
		await ann.page.click("#open-search");
		await ann.page.fill("#search-input", "needle");
		await ann.page.locator("#search-list .result").first().waitFor();
		assert.deepEqual(await ann.page.locator("#search-list .result-text").allTextContents(), ["a needle in it"]);
		await ann.page.check("#search-everywhere");
		await ann.page.locator("#search-list .result", { hasText: "another needle elsewhere" }).waitFor();
		await shot(ann.page, "search");
		await ann.page.press("#search-input", "ArrowDown");
		const marked = flashes(ann, "a needle in it");
		await ann.page.locator("#search-list .result", { hasText: "a needle in it" }).click();
		await marked;
		await until(ann, () => {
			const row = [...document.querySelectorAll("#messages .message")].find((m) => m.textContent.includes("a needle in it"));
			const found = row?.getBoundingClientRect();
			return found && found.top > 60 && found.bottom < innerHeight - 60;
		});
		const around = await ann.texts();
		assert.ok(around.includes("straw 40.") && around.includes("straw 41.") && !around.includes("straw 130."), "the surroundings alone");
		await comesTrue(async () => {
			await ann.page.evaluate(() => document.getElementById("scroller").scrollTo(0, 1e9));
			await ann.page.waitForTimeout(100);
			return (await ann.message("straw 130.").count()) > 0;
		}, "the end of a conversation");
		await ann.sees("straw 130.");
		await say("eve", { roomId: id }, ["live again"]);
		await ann.sees("live again");
		await toTheBeginning(ann);
		assert.deepEqual(await ann.texts(), [...numbered("straw", 1, 40), "a needle in it", ...numbered("straw", 41, 130), "live again"]);
	});

	test("edit, react, reply, pin and delete, seen by the other at once and by whoever comes later", limit, async () => {
		const id = await room("Changes");
		for (const who of ["ann", "bob"]) {
			await rest("eve", "PUT", `rooms/${id}/members/${ids[who]}/role`, { role: "moderator" });
		}
		await ann.go(`room:${id}`);
		await bob.go(`room:${id}`);
		await ann.say("tpyo");
		await bob.sees("tpyo");
		await ann.act("tpyo", "Edit");
		await ann.say("typo");
		await bob.message("typo").locator(".edited").waitFor();
		await ann.message("typo").locator(".edited").waitFor();
		assert.equal(await bob.message("tpyo").count(), 0);

		await bob.act("typo", "React with 👍");
		const chip = (who) => who.message("typo").locator(".reaction", { hasText: "👍" });
		await chip(ann).waitFor();
		await chip(ann).click();
		await chip(bob).filter({ hasText: "2" }).waitFor();
		await chip(bob).click();
		await chip(ann).filter({ hasText: "1" }).waitFor();
		await bob.message("typo").locator(".reaction[aria-pressed=false]", { hasText: "👍" }).waitFor();

		await bob.act("typo", "Reply");
		await bob.page.waitForSelector("#writing:visible");
		await bob.say("an answer");
		await ann.message("an answer").locator(".quote", { hasText: "typo" }).waitFor();

		await ann.act("an answer", "Pin");
		await bob.page.waitForSelector("#open-pins:visible");
		await bob.page.click("#open-pins");
		const marked = flashes(bob, "an answer");
		await bob.page.locator("#pins-list .result", { hasText: "an answer" }).click();
		await marked;

		await bob.say("to be taken back");
		await ann.sees("to be taken back");
		await bob.act("to be taken back", "Delete");
		await bob.page.click("#confirm-yes");
		await ann.message("This message was deleted.").waitFor();
		await bob.message("This message was deleted.").waitFor();
		await shot(ann.page, "changes");
		const late = await person(browser, server);
		await late.logIn(accounts.eve);
		try {
			await late.online();
			await late.go(`room:${id}`);
			await late.message("an answer").locator(".quote", { hasText: "typo" }).waitFor();
			assert.deepEqual(await late.texts(), ["typo", "an answer", "This message was deleted."]);
			assert.equal(await late.message("typo").locator(".edited").count(), 1);
			assert.match(await chip(late).textContent(), /👍1/u);
			await late.message("an answer").locator(".pin-mark").waitFor();
			late.quiet();
		} finally {
			await late.close();
		}
		/* Whoever may not change it is not offered to. */
		await bob.message("typo").last().hover();
		await bob.message("typo").first().locator("[data-act=more]").click();
		await bob.page.waitForSelector("#menu[open]");
		const offered = await bob.page.locator("#menu .menu-item").allTextContents();
		assert.ok(!offered.includes("Edit") && offered.includes("Delete"), `a moderator is offered ${offered}`);
		await bob.page.keyboard.press("Escape");
	});

	test("whom one talks to is busy or away, and one sees it at once", limit, async () => {
		await say("eve", { to: ids.ann }, ["are you there?"]);
		await client("eve", async (eve) => {
			await ann.go(`user:${ids.eve}`);
			/* Sooner than the page would ask by itself, each 20 s. */
			const line = (text) =>
				ann.page.waitForFunction((t) => document.querySelector("#head-sub").textContent.startsWith(t), text, { timeout: 18000 });
			await line("Online");
			await eve.send("/app/presence.set", { status: "busy", text: "at lunch <now>" });
			await line("Busy: at lunch <now>");
			await eve.send("/app/presence.set", { status: "away" });
			await line("Away");
			await eve.send("/app/presence.set", { status: "online" });
			await line("Online");
		});
		await until(ann, () => document.querySelector("#head-sub").textContent.startsWith("Offline"));
	});

	test("a room that one makes, and leaves, on another device comes and goes here at once", limit, async () => {
		const { id } = await rest("ann", "POST", "rooms", { name: "Made elsewhere", public: false });
		const row = ann.page.locator(`#room-list [data-key="room:${id}"]`);
		await row.waitFor();
		await rest("ann", "POST", `rooms/${id}/members`, { userId: ids.bob }); /* so that it outlives her */
		await say("bob", { roomId: id }, ["heard without asking"]);
		await row.locator(".preview", { hasText: "heard without asking" }).waitFor();
		await client("ann", (user) => user.send("/app/chat.leave", { roomId: id }));
		await row.waitFor({ state: "detached" });
	});

	test("of a room with more people than come in one page, all can be seen", limit, async () => {
		const id = await room("Many", { public: false });
		const small = (url) => url.pathname.endsWith(`/rooms/${id}/members`) || url.pathname.endsWith(`/rooms/${id}/bans`);
		await ann.page.route(small, (route) => {
			const url = new URL(route.request().url());
			url.searchParams.set("limit", "1");
			return route.continue({ url: url.href });
		});
		await ann.page.click(`#room-list [data-key="room:${id}"]`);
		const shown = ann.page.locator("#people-list .person");
		const more = ann.page.locator("#people-more");
		for (const n of [1, 2]) {
			await comesTrue(async () => (await shown.count()) === n, `${n} of three people`);
			await ann.page.locator("#head-sub", { hasText: "3 people" }).waitFor();
			await more.click();
		}
		await more.waitFor({ state: "hidden" });
		await ann.page.locator("#people-count", { hasText: "of 3 online" }).waitFor();
		assert.equal(await shown.count(), 3);
		await ann.page.unroute(small);
	});

	test("a private room: made, invited to, joined, managed, and plainly over", limit, async () => {
		await ann.page.click("#new-room");
		await ann.page.fill("#room-name", "Inner circle");
		await ann.page.fill("#room-about", "For a few");
		await ann.page.uncheck("#room-public");
		await ann.page.press("#room-name", "Enter");
		await ann.page.waitForSelector("#room-dialog", { state: "hidden" });
		await until(ann, () => document.getElementById("head-title").textContent === "Inner circle");
		const id = await ann.page.evaluate(() => decodeURIComponent(location.hash).slice("#room:".length));
		await ann.say("only for us");

		/* invited, live */
		await ann.page.click("#open-room");
		await ann.page.fill("#add-user", ids.bob);
		/* It goes by itself: waited for from before. */
		const shown = bob.page.locator(".toast", { hasText: "invites you to Inner circle" }).getByRole("button", { name: "Show" }).click();
		await ann.page.locator("#add-form").getByRole("button", { name: "Invite" }).click();
		await ann.page.locator("#add-done", { hasText: "Bob Bauer is invited" }).waitFor();
		await shot(ann.page, "manage");
		await ann.page.locator("#manage").getByRole("button", { name: "Close" }).click();
		await shown;
		await bob.page.locator("#join-text", { hasText: "You are invited" }).waitFor();
		await bob.page.click("#join-room");
		await bob.sees("only for us");
		await ann.page.locator("#messages .event", { hasText: "Bob Bauer joined" }).waitFor();

		/* A member is offered nothing that a member may not do. */
		await rest("ann", "POST", `rooms/${id}/members`, { userId: ids.eve });
		await bob.page.locator(`#people-list [data-user="${ids.eve}"]`).waitFor();
		assert.equal(await bob.page.locator("#people-list [data-act=manage]").count(), 0);
		const bobRow = ann.page.locator("#people-list .person", { has: ann.page.locator(`[data-user="${ids.bob}"]`) });
		const manage = async (what) => {
			await bobRow.locator("[data-act=manage]").click();
			await ann.page.locator("#menu").getByRole("button", { name: what, exact: true }).click();
		};

		await manage("Make moderator");
		await bobRow.locator(".tag", { hasText: "moderator" }).waitFor();
		await bob.page.locator("#messages .event", { hasText: "moderator" }).waitFor();
		await bob.page.locator("#people-list .person", { hasText: "Eve Ebner" }).locator("[data-act=manage]").waitFor();
		assert.equal(await bob.page.locator("#people-list [data-act=manage]").count(), 1, "a moderator does not manage the owner");
		await manage("Make ordinary member");
		await bobRow.locator(".tag").waitFor({ state: "detached" });

		await manage("Mute…");
		await ann.page.selectOption("#time-seconds", "600");
		await ann.page.click("#time-yes");
		await bob.page.locator("#join-text", { hasText: "You have been muted" }).waitFor();
		await manage("Unmute");
		await bob.page.waitForSelector("#composer:visible");

		/* settings */
		await ann.page.click("#open-room");
		await ann.page.fill("#manage-name", "Inner ring");
		await ann.page.check("#manage-readonly");
		await ann.page.locator("#manage-form").getByRole("button", { name: "Save" }).click();
		await ann.page.waitForSelector("#manage", { state: "hidden" });
		await until(bob, () => document.getElementById("head-title").textContent === "Inner ring");
		await bob.page.locator("#join-text", { hasText: "Only moderators" }).waitFor();

		/* out */
		await manage("Remove");
		await ann.page.click("#confirm-yes");
		await bob.page.locator("#join-text", { hasText: "You were removed from this room by Ann Arbor" }).waitFor();
		assert.ok(!(await bob.page.isVisible("#join-room")), "no way back into a private room");
		await bob.page.waitForSelector(`#room-list [data-key="room:${id}"]`, { state: "detached" });

		/* brought in, banned, let back, and the end of it */
		await rest("ann", "POST", `rooms/${id}/members`, { userId: ids.bob });
		await bob.page.locator(`#room-list [data-key="room:${id}"]`).click();
		await bobRow.waitFor();
		await manage("Ban…");
		await ann.page.click("#time-yes");
		await bob.page.locator("#join-text", { hasText: "You were banned from this room by Ann Arbor until" }).waitFor();
		await ann.page.click("#open-room");
		await ann.page.locator(`#bans-list [data-user="${ids.bob}"]`).getByRole("button").click();
		await ann.page.waitForSelector("#bans-empty:visible");
		await ann.page.locator("#manage").getByRole("button", { name: "Close" }).click();
		await rest("ann", "POST", `rooms/${id}/members`, { userId: ids.bob });
		await bob.page.locator(`#room-list [data-key="room:${id}"]`).click();
		await bob.sees("only for us");
		await ann.page.click("#open-room");
		await ann.page.click("#manage-delete");
		await ann.page.click("#confirm-yes");
		await bob.page.locator("#join-text", { hasText: "This room was deleted." }).waitFor();
		await ann.page.waitForSelector(`#room-list [data-key="room:${id}"]`, { state: "detached" });
		await bob.go("room:lobby");
		await ann.go("room:lobby");
	});

	test("on a phone: menus from below, dialogs that fit, history under a finger; a guest is offered no managing", limit, async () => {
		const phone = await person(browser, server, PHONE);
		try {
			await phone.join("Pia Phone");
			await say("eve", { to: await phone.id() }, [...numbered("note", 1, 30), "A long one: ".repeat(12)]);
			await phone.page.tap("#open-sidebar");
			await phone.page.locator(`#direct-list [data-key="user:${ids.eve}"] .badge`).waitFor();
			await shot(phone.page, "phone-list");
			await phone.page.tap(`#direct-list [data-key="user:${ids.eve}"]`);
			await phone.message("A long one").waitFor();
			const fits = () => phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
			assert.ok(await fits());
			await phone.message("A long one").locator("[data-act=more]").tap();
			await phone.page.waitForSelector("#menu:visible");
			const sheet = await phone.page.locator("#menu").boundingBox();
			assert.ok(Math.abs(sheet.y + sheet.height - 844) < 3 && sheet.width > 380, `the menu is at the bottom: ${JSON.stringify(sheet)}`);
			await shot(phone.page, "phone-menu");
			await phone.page.locator("#menu").getByRole("button", { name: "React with ❤️" }).tap();
			await phone.message("A long one").locator(".reaction.mine").waitFor();
			await phone.page.tap("#open-search");
			await phone.page.fill("#search-input", "note");
			await phone.page.locator("#search-list .result").first().waitFor();
			assert.ok(await fits());
			await shot(phone.page, "phone-search");
			await phone.page.locator("#search").getByRole("button", { name: "Close" }).tap();
			await phone.page.tap("#open-sidebar");
			await phone.page.tap('#room-list [data-key="room:lobby"]');
			await phone.page.tap("#open-room");
			await phone.page.waitForSelector("#manage-guest:visible");
			for (const id of ["manage-form", "add-form", "bans-part", "manage-delete"]) {
				assert.ok(!(await phone.page.isVisible(`#${id}`)), id);
			}
			phone.quiet();
		} finally {
			await phone.close();
		}
	});

	test("the client library is served beside the page, and works without a build step", limit, async () => {
		const said = await bob.page.evaluate(async () => {
			const { ChatClient } = await import("/client/index.js");
			const chat = new ChatClient({ login: { guest: "Library" }, storage: null });
			const heard = [];
			chat.on("message", (m) => heard.push(m.content));
			await chat.connect();
			await chat.room("lobby").join();
			const { seq } = await chat.room("lobby").send("said by the library");
			const { messages } = await chat.room("lobby").history({ limit: 1 });
			for (let i = 0; i < 3000 && heard.length === 0; i++) {
				await new Promise((done) => setTimeout(done, 20));
			}
			await chat.disconnect();
			return { seq, heard, last: messages[0].content };
		});
		assert.deepEqual([said.heard, said.last], [["said by the library"], "said by the library"]);
		assert.ok(said.seq > 0);
	});
});

/* Kept where CHATD_SHOTS says. */
async function shot(page, name) {
	const folder = process.env.CHATD_SHOTS;
	if (folder) {
		await mkdir(folder, { recursive: true });
		await page.screenshot({ path: path.join(folder, `${name}.png`) });
	}
}
