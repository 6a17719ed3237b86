/* The delivered page in Chromium: two people who chat, reload and reconnect. */

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";
import { comesTrue, hasChromium, person, withBrowser } from "../lib/browser.mjs";
import { hasChatd, needs } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

describe("the page in Chromium", () => {
	let server;
	let browser;
	withBrowser(skip, { "auth-anonymous.devices": 0 }, (s, b) => {
		server = s;
		browser = b;
	});

	async function withPeople(options, work, expected) {
		const people = [];
		try {
			for (const option of options) {
				people.push(await person(browser, server, option));
			}
			await work(...people);
			people.forEach((p) => p.quiet(expected));
		} finally {
			await Promise.all(people.map((p) => p.close()));
		}
	}

	test("two guests join, meet in the lobby and write to each other", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			assert.equal(await anna.transport(), "websocket");
			assert.notEqual(await anna.id(), await bert.id());
			await anna.say("Hello from the first browser");
			await bert.sees("Hello from the first browser", ":not(.mine)");
			await bert.say("And hello back");
			await anna.sees("And hello back", ":not(.mine)");
			await anna.sees("Hello from the first browser", ".mine");
			const [annaId, bertId] = [await anna.id(), await bert.id()];
			await anna.page.waitForSelector(`#people-list [data-user="${bertId}"]`);

			await anna.page.click(`#people-list [data-user="${bertId}"]`);
			await anna.say("Just between us");
			await bert.page.waitForSelector(`#direct-list [data-key="user:${annaId}"] .badge`);
			await bert.page.waitForFunction(() => document.title.startsWith("(1)"));
			await bert.page.click(`#direct-list [data-key="user:${annaId}"]`);
			await bert.sees("Just between us", ":not(.mine)");
			await bert.page.waitForFunction(() => document.title === "chatd");
			assert.equal(await bert.message("Hello from the first browser").count(), 0);
		}),
	);

	test("a name chosen at the door, and another one later", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join("Anna Ä");
			await bert.join();
			await anna.say("first name");
			await bert.sees("first name");
			const author = (text) => bert.message(text).locator(".author").textContent();
			assert.equal(await author("first name"), "Anna Ä");
			const id = await anna.id();
			await anna.page.click("#me-name");
			await anna.page.fill("#name-input", "Anna B");
			await anna.page.press("#name-input", "Enter");
			await anna.page.waitForSelector("#name-dialog", { state: "hidden" });
			await anna.online();
			assert.equal(await anna.id(), id);
			await bert.say("in between");
			await anna.sees("in between"); /* who says two things in a row is named once */
			await anna.say("second name");
			await bert.sees("second name");
			assert.equal(await author("second name"), "Anna B");
		}),
	);

	test("typing is shown and goes away; a message read is marked", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			const [annaId, bertId] = [await anna.id(), await bert.id()];
			await anna.write(bertId);
			await bert.write(annaId);
			await bert.page.bringToFront();
			/* Shown for a few seconds: looked for from before. */
			const seen = bert.glimpse("#typing", "is typing");
			await anna.page.locator("#composer-input").pressSequentially("thinking", { delay: 20 });
			await seen;
			await anna.page.press("#composer-input", "Enter");
			await bert.sees("thinking");
			await bert.page.waitForFunction(() => document.querySelector("#typing").textContent === "");
			await anna.page.waitForSelector('#messages .message.mine[data-status="read"]');
		}),
	);

	test("who is typing is heard of the open conversation alone", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			const [asked, heard] = [[], []];
			bert.page.on("websocket", (socket) => {
				socket.on("framesent", ({ payload }) => asked.push(String(payload)));
				socket.on("framereceived", ({ payload }) => heard.push(String(payload)));
			});
			await anna.join();
			await bert.join();
			const annaId = await anna.id();
			const types = async (text) => {
				await anna.page.locator("#composer-input").pressSequentially(text, { delay: 20 });
				await anna.page.press("#composer-input", "Enter");
			};
			const has = (frame, header) => frame.split("\n").includes(header);
			/* The server has said yes to the last SUBSCRIBE with `only`, and so to what was unsubscribed before it. */
			const looks = (only, n) =>
				comesTrue(() => {
					const of = asked.filter((frame) => frame.startsWith("SUBSCRIBE\n") && has(frame, `only:${only}`));
					const receipt = of.length === n && of[n - 1].match(/^receipt:(.*)$/m)?.[1];
					return receipt && heard.some((frame) => has(frame, `receipt-id:${receipt}`));
				}, `looks: ${only}`);
			/* How often somebody was said to type, once the message has come: one who types slowly is said to more than once. */
			const typed = async (text) => {
				await comesTrue(() => heard.some((frame) => frame.includes(`"content":"${text}"`)), text);
				return heard.filter((frame) => frame.includes('"type":"TYPING"') && frame.includes('"typing":true')).length;
			};
			await looks("typing", 1);
			await types("in the lobby");
			const inRoom = await typed("in the lobby");
			assert.ok(inRoom > 0);
			await bert.write(annaId);
			await looks(annaId, 1);
			await types("again");
			assert.equal(await typed("again"), inRoom, "of the room that is not open");
			await anna.write(await bert.id());
			await types("between us");
			const between = await typed("between us");
			assert.ok(between > inRoom);
			await bert.go("room:lobby");
			await looks("typing", 2);
			await types("and on");
			assert.equal(await typed("and on"), between, "of the person who is not written to");
		}),
	);

	test("what people write is text, never markup; links are links", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			const evil = '<img src=x onerror="document.title=\'hacked\'"><b>bold</b> & "quotes"';
			await anna.say(evil);
			await bert.sees(evil);
			assert.equal(await bert.page.locator("#messages img, #messages b").count(), 0);
			await anna.say("see https://example.org/a?b=c. ok javascript:alert(1) (https://example.org/C_(x))");
			const links = bert.page.locator("#messages a");
			await links.first().waitFor();
			assert.deepEqual(await links.evaluateAll((all) => all.map((a) => a.href)), ["https://example.org/a?b=c", "https://example.org/C_(x)"]);
			assert.match(await links.first().getAttribute("rel"), /noopener/);
			await anna.say("one\n  two\n\nthree");
			await bert.sees("three");
			assert.equal(await bert.message("three").locator(".content").innerText(), "one\n  two\n\nthree");
			assert.notEqual(await bert.page.title(), "hacked");
		}),
	);

	test("a reload keeps the identity, the room and the people one wrote to", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			const [annaId, bertId] = [await anna.id(), await bert.id()];
			await anna.write(bertId);
			await anna.say("before the reload");
			await bert.page.waitForSelector(`#direct-list [data-key="user:${annaId}"]`);
			await anna.page.reload();
			await anna.online();
			assert.equal(await anna.id(), annaId);
			await anna.page.waitForSelector(`#direct-list [data-key="user:${bertId}"][aria-current="true"]`);
			await anna.say("after the reload");
			await bert.page.click(`#direct-list [data-key="user:${annaId}"]`);
			await bert.sees("after the reload");
		}),
	);

	test("a second tab is the same person: both show everything once, and one forgets with the other", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			const second = await anna.tab(server);
			await second.online();
			assert.equal(await second.id(), await anna.id());
			await anna.say("said in the first tab");
			await second.sees("said in the first tab", ".mine");
			await bert.sees("said in the first tab");
			await second.say("said in the second tab");
			await anna.sees("said in the second tab", ".mine");
			await bert.say("heard in both tabs");
			await anna.sees("heard in both tabs", ":not(.mine)");
			await second.sees("heard in both tabs", ":not(.mine)");
			await anna.page.click("#leave-room");
			await anna.page.click("#confirm-yes");
			await second.page.waitForSelector("#join-bar:visible");
			await anna.page.click("#sign-out");
			await anna.page.click("#confirm-yes");
			await anna.page.waitForSelector("#welcome:visible");
			await second.page.waitForSelector("#welcome:visible");
			second.quiet();
		}),
	);

	test("another browser is another person", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join("Same Name");
			await bert.join("Same Name");
			assert.notEqual(await anna.id(), await bert.id());
			await anna.say("from one of two");
			await bert.sees("from one of two", ":not(.mine)");
		}),
	);

	test("200 messages arrive in order, and one who reads above is told of new ones", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			await anna.write(await bert.id());
			await bert.write(await anna.id());
			/* At most 100 at once and 200 a minute, says the contract: two guests, 100 each. */
			for (const [who, other] of [[anna, bert], [bert, anna]]) {
				await who.page.evaluate(() => {
					const input = document.getElementById("composer-input");
					for (let i = 0; i < 100; i++) {
						input.value = `number ${i}.`;
						input.form.requestSubmit();
					}
				});
				await other.message("number 99.", ":not(.mine)").waitFor();
			}
			for (const [who, mine] of [[anna, 0], [bert, 1]]) {
				const texts = await who.page.locator("#messages .message").evaluateAll((all) =>
					all.map((m) => [m.classList.contains("mine"), m.querySelector(".content").textContent]));
				const wanted = [0, 1].flatMap((half) => Array.from({ length: 100 }, (_, i) => [half === mine, `number ${i}.`]));
				assert.deepEqual(texts, wanted);
			}
			await bert.page.waitForSelector('#messages .message.mine:last-child:is([data-status="sent"], [data-status="read"])');
			await anna.page.evaluate(() => document.getElementById("scroller").scrollTo(0, 0));
			await bert.say("below your screen");
			await anna.page.waitForSelector("#jump:visible");
			await anna.page.click("#jump");
			await anna.page.waitForSelector("#jump", { state: "hidden" });
			await anna.message("below your screen").waitFor();
		}),
	);

	test("a message that is too long stays in the box, with the reason", limit, () =>
		withPeople([{}], async (anna) => {
			await anna.join();
			await anna.say("😀".repeat(8001));
			await anna.page.locator(".toast.error", { hasText: "1 character too long" }).waitFor();
			await anna.page.waitForSelector("#composer-count.over");
			await anna.say("😀".repeat(8000));
			await anna.page.waitForFunction(() => document.getElementById("composer-input").value === "");
			await anna.page.waitForSelector('#messages .message.mine:is([data-status="sent"], [data-status="read"])');
		}),
	);

	test("a refused message says so in place and can be tried again", limit, () =>
		withPeople([{}], async (anna) => {
			await anna.join();
			await anna.write("user_nobody");
			await anna.say("into the void");
			const failed = anna.message("into the void", '[data-status="failed"]');
			await failed.waitFor();
			await failed.getByRole("button", { name: "Send again" }).click();
			await failed.waitFor();
			await failed.getByRole("button", { name: "Edit" }).click();
			await anna.page.waitForFunction(() => document.getElementById("composer-input").value === "into the void");
			await anna.page.press("#composer-input", "Enter");
			await failed.getByRole("button", { name: "Discard" }).click();
			await anna.page.waitForFunction(() => !document.querySelector("#messages .message"));
		}),
	);

	test("guests who try to make a room are told why not", limit, () =>
		withPeople([{}], async (anna) => {
			await anna.join();
			await anna.page.click("#new-room");
			await anna.page.fill("#room-name", "My room");
			await anna.page.press("#room-name", "Enter");
			await anna.page.locator("#room-error", { hasText: "guests" }).waitFor();
			await anna.escape("room-dialog");
		}, /status of 403/),
	);

	test("leaving a room and joining it again", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			await bert.page.click("#leave-room");
			await bert.page.click("#confirm-yes");
			await bert.page.waitForSelector("#join-bar:visible");
			await anna.say("while you were out");
			await anna.sees("while you were out", ".mine");
			await bert.page.click("#join-room");
			await bert.page.waitForSelector("#composer:visible");
			await anna.say("welcome back");
			await bert.sees("welcome back");
			await bert.sees("while you were out"); /* the lobby is open to everyone, and so is what was said there */
			/* Who is there may have been asked for before, and be answered after one has left. */
		}, /status of 403/),
	);

	test("?transport=sockjs chats through SockJS", limit, () =>
		withPeople([{ query: "?transport=sockjs" }, { query: "?transport=xhr-polling" }], async (anna, bert) => {
			await anna.join();
			await bert.join();
			assert.equal(await anna.transport(), "sockjs");
			assert.equal(await bert.transport(), "xhr-polling");
			await anna.say("by streaming");
			await bert.sees("by streaming");
			await bert.say("by polling");
			await anna.sees("by polling");
		}),
	);

	test("where WebSocket does not get through, SockJS takes over by itself", limit, () => {
		const prepare = (page) => page.routeWebSocket(/ws-chat/, (socket) => socket.close({ code: 1001 }));
		return withPeople([{ prepare }, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			assert.equal(await anna.transport(), "sockjs");
			await anna.say("around the proxy");
			await bert.sees("around the proxy");
		});
	});

	test("the server goes and comes back: the page says so, reconnects, and sends what was written meanwhile", limit, () =>
		withPeople([{}, {}], async (anna, bert) => {
			await anna.join();
			await bert.join();
			await anna.say("before");
			await bert.sees("before");
			await server.restart(async () => {
				await anna.state("waiting");
				await anna.page.waitForSelector("#connection-retry:visible");
				await anna.say("written while it was away");
				await anna.message("written while it was away", '[data-status="pending"]').waitFor();
			});
			await Promise.all([anna.online(), bert.online()]);
			/* With an id, it has come back from the room. */
			await anna.message("written while it was away", '[data-id]:is([data-status="sent"], [data-status="read"])').waitFor();
			await anna.sees("written while it was away", ".mine");
			await anna.sees("before", ".mine");
			await anna.say("after");
			await bert.sees("after", ":not(.mine)");
			await bert.say("and back");
			await anna.sees("and back", ":not(.mine)");
		}),
	);

	test("everything can be reached and is named for those who do not see it", limit, () =>
		withPeople([{}], async (anna) => {
			await anna.join();
			const nameless = await anna.page.evaluate(() =>
				[...document.querySelectorAll("button, input, textarea, a")]
					.filter((e) => e.checkVisibility())
					.filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
					.map((e) => e.outerHTML.slice(0, 120)),
			);
			assert.deepEqual(nameless, []);
			await anna.page.focus("#open-finder");
			const reached = new Set();
			for (let i = 0; i < 40; i++) {
				reached.add(await anna.page.evaluate(() => document.activeElement.id));
				await anna.page.keyboard.press("Tab");
			}
			for (const id of ["new-room", "toggle-theme", "sign-out", "toggle-people", "leave-room", "composer-input"]) {
				assert.ok(reached.has(id), `${id} is reached by Tab`);
			}
		}),
	);

	test("light and dark, chosen and remembered", limit, () =>
		withPeople([{ colorScheme: "light" }], async (anna) => {
			await anna.join();
			const background = () => anna.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
			const becomes = (colour) => anna.page.waitForFunction((c) => getComputedStyle(document.body).backgroundColor === c, colour);
			const light = await background();
			await anna.page.emulateMedia({ colorScheme: "dark" });
			await anna.page.waitForFunction((c) => getComputedStyle(document.body).backgroundColor !== c, light);
			await anna.page.click("#toggle-theme");
			await becomes(light);
			await anna.page.reload();
			await becomes(light);
		}),
	);

	test("on a phone: one column, the lists as drawers, nothing wider than the screen", limit, () =>
		withPeople([PHONE, {}], async (phone, other) => {
			await phone.join();
			await other.join();
			await other.say("A long line to wrap on a narrow screen: ".repeat(4) + "https://example.org/" + "x".repeat(120));
			await phone.message("A long line").first().waitFor();
			const fits = () => phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth);
			assert.ok(await fits());
			assert.ok(!(await phone.page.isVisible("#sidebar")));
			await phone.page.tap("#open-sidebar");
			await phone.page.waitForSelector("#sidebar:visible");
			await phone.page.locator("#room-list .conversation").first().waitFor();
			await shot(phone.page, "phone-drawer");
			await phone.page.keyboard.press("Escape");
			await phone.page.waitForSelector("#sidebar", { state: "hidden" });
			await phone.page.tap("#toggle-people");
			await phone.page.waitForSelector("#people:visible");
			await phone.page.tap("#close-people");
			await phone.page.waitForSelector("#people", { state: "hidden" });
			await phone.say("from the phone");
			await other.sees("from the phone");
			assert.ok(await fits());
			await shot(phone.page, "phone");
			await shot(other.page, "desktop");
		}),
	);
});

/* A picture has to show something: its size tells a blank page. Kept where CHATD_SHOTS says. */
async function shot(page, name) {
	const folder = process.env.CHATD_SHOTS;
	if (folder) {
		await mkdir(folder, { recursive: true });
	}
	const picture = await page.screenshot(folder ? { path: path.join(folder, `${name}.png`) } : {});
	assert.ok(picture.length > 8000, `${name}: ${picture.length} bytes`);
}
