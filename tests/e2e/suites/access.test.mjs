/* SPDX-License-Identifier: Apache-2.0 */
/* The page for those who do not see it or do not use a mouse: every view is clean for axe-core, in both themes and both
 * languages, and a conversation is had by keyboard alone. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { hasChromium, launch, person } from "../lib/browser.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 480000, skip }; /* axe computes for a minute */
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/* The other theme takes its time: with CHATD_FULL=1. */
const DIALOG_THEMES = process.env.CHATD_FULL === "1" ? ["light", "dark"] : ["light"];
const FOCUS_MS = 60000;
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

describe("access", () => {
	let server;
	let browser;
	let axe;
	before(async () => {
		if (!skip) {
			axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
			server = await startChatd({ config: "chat.yaml", set: { "auth-anonymous.devices": 0 } });
			browser = await launch();
		}
	});
	after(async () => {
		await browser?.close();
		await server?.stop();
	});

	/* What axe finds in the view as it is now, in both themes: in the second one what depends on colours alone. */
	async function faults({ page, themes = ["light", "dark"] }, view) {
		const found = [];
		for (const theme of themes) {
			await page.evaluate((name) => (document.documentElement.dataset.theme = name), theme);
			const rules = theme === "light" ? TAGS : { type: "rule", values: ["color-contrast", "link-in-text-block"] };
			const violations = await page.evaluate(async (runOnly) => {
				const { violations: all } = await window.axe.run(document, { runOnly, resultTypes: ["violations"] });
				return all.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary.split("\n")[1] ?? ""}`));
			}, rules);
			found.push(...violations.map((text) => `${view}, ${theme}: ${text}`));
		}
		return found;
	}

	/* Opens one dialog after the other: [name, how, what has the focus once it is closed again]. */
	async function dialogFaults(who, dialogs) {
		const found = [];
		for (const [name, open, back] of dialogs) {
			await open();
			await who.page.waitForSelector(`#${name}[open]`);
			found.push(...(await faults({ page: who.page, themes: DIALOG_THEMES }, name)));
			await who.page.keyboard.press("Escape");
			await who.page.waitForSelector(`#${name}:not([open])`, { state: "attached" });
			/* It comes back with the dialog's close event, which is sent after the dialog is seen to be closed. */
			const there = await who.page
				.waitForFunction((selector) => document.activeElement.matches(selector), back, { timeout: FOCUS_MS })
				.catch(() => null);
			if (!there) {
				const focus = await who.page.evaluate(() => document.activeElement.outerHTML.slice(0, 120));
				found.push(`${name}: closed, the focus is not at ${back} but at ${focus}`);
			}
		}
		return found;
	}

	async function startFaults(who) {
		const found = [];
		for (const way of ["guest", "login", "register"]) {
			await who.page.click(`#as-${way}`);
			found.push(...(await faults(who, way)));
		}
		await who.page.click("#as-login");
		await who.page.click("#login-forgot");
		return [...found, ...(await faults(who, "reset"))];
	}

	/* A conversation with something of everything in it, and what stands around it. */
	async function chatFaults(who, { answer }) {
		const { page } = who;
		await who.say("see https://example.org/ for more");
		await who.sees("see https://example.org/");
		const more = () => who.message("see https://example.org/").first().locator("[data-act=more]");
		await more().click();
		const found = await faults(who, "menu");
		await page.keyboard.press("Escape");
		await who.act("see https://example.org/", answer);
		await who.say("an answer to it");
		await who.sees("an answer to it");
		await more().click();
		await page.locator("#menu .palette-item").first().click();
		await page.locator("#messages .reaction").waitFor();
		found.push(...(await faults(who, "chat")));
		const press = (keys) => () => page.keyboard.press(keys);
		const click = (selector) => () => page.click(selector);
		const dialogs = [
			["finder", async () => (await page.focus("#open-finder"), await page.keyboard.press("Control+k")), "#open-finder"],
			["search", press("Control+Shift+f"), "#open-finder"],
			["settings", click(".sidebar [data-open=settings]"), "[data-open=settings]"],
			["keys", async () => (await page.focus("#open-finder"), await page.keyboard.press("?")), "#open-finder"],
			["room-dialog", click("#new-room"), "#new-room"],
			["name-dialog", click("#me-name"), "#me-name"],
			["account", click("#open-account"), "#open-account"],
			["manage", click("#open-room"), "#open-room"],
			["confirm", click("#leave-room"), "#leave-room"],
		];
		return [...found, ...(await dialogFaults(who, dialogs))];
	}

	async function member(options, { email }) {
		const who = await person(browser, server, options);
		await who.page.click("#as-register");
		await who.page.fill("#register-email", email);
		await who.page.fill("#register-password", "correct horse battery");
		await who.page.fill("#register-nickname", email.split("@")[0]);
		await who.page.press("#register-nickname", "Enter");
		await who.online();
		await who.page.waitForSelector("#composer-input:visible");
		return who;
	}

	async function makeRoom(who, name) {
		await who.page.click("#new-room");
		await who.page.fill("#room-name", name);
		await who.page.press("#room-name", "Enter");
		await who.page.locator("#head-title", { hasText: name }).waitFor();
	}

	/* What axe looks for hardly depends on the language. */
	const languages = [["en-US", "Reply"], ...(process.env.CHATD_FULL === "1" ? [["ko-KR", "답장"]] : [])];
	for (const [locale, answer] of languages) {
		test(`axe finds nothing in any view (${locale})`, limit, async () => {
			const prepare = (page) => page.addInitScript(axe);
			const guest = await person(browser, server, { locale, prepare });
			const owner = await member({ locale, prepare }, { email: `ann-${locale.toLowerCase()}@example.org` });
			const phone = await person(browser, server, { locale, prepare, ...PHONE });
			try {
				const found = await startFaults(guest);
				await makeRoom(owner, `Room ${locale}`);
				found.push(...(await chatFaults(owner, { answer })));
				await phone.join("Phil");
				found.push(...(await faults(phone, "phone")));
				await phone.page.tap("#open-sidebar");
				found.push(...(await faults(phone, "phone's list")));
				assert.deepEqual(found, []);
				[guest, owner, phone].forEach((p) => p.quiet());
			} finally {
				await Promise.all([guest, owner, phone].map((p) => p.close()));
			}
		});
	}

	const file = (name, mimeType, buffer) => ({ name, mimeType, buffer });

	/* Threads, files, commands, what is pinned or reported: in the room of `owner`, with `other` in it. */
	async function roomFaults(owner, other, { words }) {
		const { page } = owner;
		const press = (selector, key) => async () => (await page.focus(selector), await page.keyboard.press(key));
		const menu = (text, name) => async () => {
			await owner.message(text).first().locator("[data-act=more]").focus();
			await page.keyboard.press("Enter");
			await page.locator("#menu").getByRole("button", { name }).click();
		};
		const manage = (name) => async () => {
			await page.locator("#people-list [data-act=manage]").first().click();
			await page.locator("#menu").getByRole("button", { name, exact: true }).click();
		};
		const found = [];
		await page.setInputFiles("#attach-input", [file("notes.txt", "text/plain", Buffer.from("some notes\n")), file("nothing.exe", "application/x-msdownload", Buffer.from("MZ\0\0"))]);
		await page.locator("#tray [data-state=ready]").first().waitFor();
		await page.locator("#tray [data-state=busy]").waitFor({ state: "detached" });
		found.push(...(await faults(owner, "files that wait")));
		for (const failed of await page.locator("#tray [data-state=failed] [data-act=remove-file]").all()) {
			await failed.click();
		}
		await owner.say("with a file");
		await owner.message("with a file", '[data-status="sent"]').waitFor();
		await page.fill("#composer-input", "/");
		await page.locator("#commands [role=option]").first().waitFor();
		found.push(...(await faults(owner, "commands")));
		await page.fill("#composer-input", "");
		await other.say("a bad word");
		await owner.sees("a bad word");
		await menu("a bad word", words.thread)();
		await page.fill("#thread-composer-input", "and an answer");
		await page.press("#thread-composer-input", "Enter");
		await page.locator('#thread-messages .message[data-status="sent"]', { hasText: "and an answer" }).waitFor();
		found.push(...(await faults(owner, "thread")));
		await page.keyboard.press("Escape");
		await page.waitForSelector("#thread[hidden]", { state: "attached" });
		await menu("a bad word", words.pin)();
		await page.waitForSelector("#open-pins:visible");
		await page.focus("#composer-input");
		found.push(
			...(await dialogFaults(owner, [
				["pins", press("#open-pins", "Enter"), "#open-pins"],
				["confirm", menu("with a file", words.remove), "[data-act=more]"],
				["report-dialog", menu("a bad word", words.report), "[data-act=more]"],
				["time-dialog", manage(words.mute), "[data-act=manage]"],
				["time-dialog", manage(words.ban), "[data-act=manage]"],
			])),
		);
		await menu("a bad word", words.report)();
		const told = owner.glimpse("#toasts .toast", "");
		await page.click("#report-form [type=submit]");
		await told;
		found.push(...(await faults(owner, "a notice")));
		await menu("a bad word", words.block)();
		await page.click("#confirm-yes");
		await page.locator("#messages [data-act=reveal]").waitFor();
		found.push(...(await faults(owner, "somebody blocked")));
		await page.click("#open-room");
		await page.locator("#reports-list li").waitFor();
		found.push(...(await faults(owner, "reports of a room")));
		await page.keyboard.press("Escape");
		return found;
	}

	/* What the account dialog leads to, and the lock of a direct conversation. */
	async function ownFaults(who, other) {
		const { page } = who;
		await page.click("#open-account");
		await page.locator("#blocked-list li").waitFor();
		const found = await faults(who, "account with somebody blocked");
		const click = (selector) => () => page.click(selector);
		found.push(
			...(await dialogFaults(who, [
				["devices", click("#open-devices"), "#open-devices"],
				["delete-dialog", click("#account-delete"), "#account-delete"],
				["notifications", click("#open-notifications"), "#open-notifications"],
			])),
		);
		await page.click("#blocked-list button");
		await page.locator("#blocked-list li").waitFor({ state: "detached" });
		await page.keyboard.press("Escape");
		const [mine, theirs] = [await who.id(), await other.id()];
		await who.write(theirs);
		await other.write(mine);
		found.push(...(await dialogFaults(who, [["lock", click("#open-lock"), "#open-lock"]])));
		for (const one of [other, who]) {
			await one.page.click("#open-lock");
			await one.page.click("#lock-toggle:enabled");
			await one.page.waitForSelector("#open-lock[data-trust]:not([data-trust=off])");
		}
		await page.keyboard.press("Escape");
		return [...found, ...(await dialogFaults(who, [["lock", async () => (await page.click("#open-lock"), await page.waitForSelector("#lock-number:visible")), "#open-lock"]]))];
	}

	const WORDS = {
		"en-US": { thread: "Reply in a thread", pin: "Pin", remove: "Delete", report: "Report…", mute: "Mute…", ban: "Ban…", block: /^Block/ },
		"ko-KR": { thread: "스레드에 답글 쓰기", pin: "고정", remove: "삭제", report: "신고…", mute: "메시지 제한…", ban: "차단…", block: /차단/ },
	};
	for (const [locale] of languages) {
		test(`axe finds nothing in what a room and an account hold, and a closed dialog gives the focus back (${locale})`, limit, async () => {
			const prepare = (page) => page.addInitScript(axe);
			const owner = await member({ locale, prepare }, { email: `olga-${locale.toLowerCase()}@example.org` });
			const other = await person(browser, server, { locale, prepare });
			const phone = await person(browser, server, { locale, prepare, ...PHONE });
			if (process.env.CHATD_FULL !== "1") {
				[owner, other, phone].forEach((who) => (who.themes = ["light"])); /* the other one takes its time */
			}
			try {
				const name = `Hall ${locale}`;
				await makeRoom(owner, name);
				for (const [who, nick] of [[other, "Otto"], [phone, "Phil"]]) {
					await who.join(nick);
					await who.page.goto(owner.page.url());
					await who.page.reload();
					await who.page.locator("#join-room").click();
					await who.page.waitForSelector("#composer:visible");
				}
				await owner.page.locator("#people-list .person:nth-child(3)").waitFor();
				const found = await roomFaults(owner, other, { words: WORDS[locale] });
				await phone.page.locator("#messages .replies").tap();
				await phone.page.locator("#thread-messages .message").first().waitFor();
				found.push(...(await faults(phone, "a phone's thread")));
				found.push(...(await ownFaults(owner, other)));
				assert.deepEqual(found, []);
				[owner, other, phone].forEach((p) => p.quiet(/404|403/));
			} finally {
				await Promise.all([owner, other, phone].map((p) => p.close()));
			}
		});
	}

	test("by keyboard alone: in, about, a mention, a reaction, settings, and back", limit, async () => {
		const bob = await person(browser, server);
		const ann = await person(browser, server);
		try {
			const { page } = ann;
			const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
			const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.dataset.key || document.activeElement.dataset.act || document.activeElement.tagName);
			await bob.join("Bob Builder");
			await page.waitForFunction(() => document.activeElement.id === "welcome-name");
			await page.keyboard.type("Ann");
			await press("Enter");
			await ann.online();
			await page.waitForFunction(() => document.activeElement.id === "composer-input");
			await page.waitForSelector("#people-list .person:nth-child(2)");

			await page.keyboard.type("hello @bo");
			await page.locator("#mention-list [aria-selected=true]", { hasText: "Bob Builder" }).waitFor();
			await press("Enter");
			await page.keyboard.type("look");
			await press("Enter");
			await bob.message("hello @Bob Builder look", ".to-me").waitFor();
			await bob.page.locator("#messages .mention", { hasText: "@Bob Builder" }).waitFor();

			await bob.say("an answer");
			await ann.sees("an answer");
			await page.locator("#announce", { hasText: "Bob Builder: an answer" }).waitFor({ state: "attached" });
			for (let i = 0; i < 12 && (await focused()) !== "more"; i++) {
				await press("Shift+Tab");
			}
			assert.equal(await focused(), "more");
			await press("Enter");
			await page.waitForSelector("#menu[open]");
			await press("Enter");
			await bob.page.locator("#messages .reaction").waitFor();
			await page.locator("#messages .reaction").waitFor();
			await ann.focus("[data-act=more]"); /* back where it was */

			/* Also where the message was drawn anew meanwhile, and the question came from a menu that did not get the focus back either. */
			await ann.message("look").locator("[data-act=more]").focus();
			await press("Enter");
			await page.locator("#menu").getByRole("button", { name: "Delete", exact: true }).click();
			await page.waitForSelector("#confirm[open]");
			await bob.message("look").locator("[data-act=more]").click();
			await bob.page.locator("#menu .palette-item").first().click();
			await ann.message("look").locator(".reaction").waitFor();
			await ann.escape("confirm");
			await ann.focus("#messages .mine [data-act=more]");

			await press("?");
			await ann.escape("keys");
			await ann.focus("[data-act=more]");
			await press("Control+k");
			await ann.focus("#finder-input");
			await page.keyboard.type(await bob.id());
			await press("Enter");
			await page.locator("#head-title", { hasText: "Bob Builder" }).waitFor();
			await ann.focus("#composer-input");
			await page.keyboard.type("just us");
			await press("Enter");
			await bob.page.locator("#direct-list .badge").waitFor();
			await page.locator('#messages .message[data-status="delivered"]', { hasText: "just us" }).waitFor();
			await bob.page.keyboard.press("Alt+Shift+ArrowDown");
			await bob.sees("just us");
			await page.locator('#messages .message[data-status="read"]', { hasText: "just us" }).waitFor();

			/* Past the rooms that other cases have made. */
			for (let i = 0; i < 9 && !(await page.textContent("#head-title")).includes("Lobby"); i++) {
				await press("Alt+ArrowUp");
			}
			await page.locator("#head-title", { hasText: "Lobby" }).waitFor();
			await page.focus("#room-list .conversation.active");
			await press("End", "Home");
			for (let i = 0; i < 9 && (await focused()) !== "room:lobby"; i++) {
				await press("ArrowDown");
			}
			await press("Enter");
			await page.locator("#head-title", { hasText: "Lobby" }).waitFor();
			await ann.focus("#composer-input");
			await press("ArrowUp");
			await page.locator("#writing-what", { hasText: "Editing" }).waitFor();
			await press("Escape");
			await page.waitForFunction(() => document.getElementById("composer-input").value === "");
			ann.quiet();
			bob.quiet();
		} finally {
			await Promise.all([ann.close(), bob.close()]);
		}
	});

	test("a message that comes while one looks elsewhere is told of, when one has asked for it", limit, async () => {
		const shown = () => {
			window.shown = [];
			window.Notification = class {
				static permission = "granted";
				static requestPermission = async () => "granted";
				constructor(title, options) {
					window.shown.push({ title, ...options });
				}
				close() {}
			};
			document.hasFocus = () => false;
		};
		const ann = await person(browser, server, { prepare: (page) => page.addInitScript(shown) });
		const bob = await person(browser, server);
		try {
			await ann.join("Ann");
			await bob.join("Bob");
			await bob.say("before she asked");
			await ann.sees("before she asked");
			await ann.page.waitForFunction(() => document.title.startsWith("("));
			const unread = async () => Number(/^\((\d+)\)/.exec(await ann.page.title())?.[1] ?? 0);
			await ann.page.click(".sidebar [data-open=settings]");
			await ann.page.check("#settings-notify");
			await ann.escape("settings");
			const before = await unread();
			await bob.say("are you there?");
			await ann.page.waitForFunction(() => window.shown.length > 0);
			const [first, ...others] = await ann.page.evaluate(() => window.shown);
			assert.deepEqual([first.title, first.body, first.tag, others.length], ["Bob in Lobby", "are you there?", "room:lobby", 0]);
			await ann.page.waitForFunction((start) => document.title.startsWith(start), `(${before + 1}) `);
			ann.quiet();
		} finally {
			await Promise.all([ann.close(), bob.close()]);
		}
	});
});
