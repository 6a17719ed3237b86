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
const limit = { timeout: 240000, skip };
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
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
	async function faults({ page }, view) {
		const found = [];
		for (const theme of ["light", "dark"]) {
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

	/* Opens one dialog after the other: [name, how]. */
	async function dialogFaults(who, dialogs) {
		const found = [];
		for (const [name, open] of dialogs) {
			await open();
			await who.page.waitForSelector(`#${name}[open]`);
			found.push(...(await faults(who, name)));
			await who.page.keyboard.press("Escape");
			await who.page.waitForSelector(`#${name}:not([open])`, { state: "attached" });
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
			["finder", press("Control+k")],
			["search", press("Control+Shift+f")],
			["settings", click(".sidebar [data-open=settings]")],
			["keys", async () => (await page.focus("#open-finder"), await page.keyboard.press("?"))],
			["room-dialog", click("#new-room")],
			["name-dialog", click("#me-name")],
			["account", click("#open-account")],
			["manage", click("#open-room")],
			["confirm", click("#leave-room")],
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
			assert.equal(await focused(), "more", "the focus is back where it was");

			await press("?");
			await page.waitForSelector("#keys[open]");
			await press("Escape");
			await press("Control+k");
			await page.keyboard.type(await bob.id());
			await press("Enter");
			await page.locator("#head-title", { hasText: "Bob Builder" }).waitFor();
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
			await press("ArrowUp");
			await page.locator("#writing-what", { hasText: "Editing" }).waitFor();
			await press("Escape");
			assert.equal(await page.inputValue("#composer-input"), "");
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
			await ann.page.keyboard.press("Escape");
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
