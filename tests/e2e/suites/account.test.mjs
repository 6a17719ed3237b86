/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts on the page: made, of a guest too, logged in to and out of, on several devices; tokens that are renewed; ends
 * of connections that must not be followed by others. */

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { comesTrue, hasChromium, launch, person } from "../lib/browser.mjs";
import { api, CHEAP_HASHES, login, member } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
/* Refusals that belong to a test; Chromium notes each. 404: a farewell through SockJS to a session that the server has
 * ended a moment before. */
const REFUSED = /status of (401|403|404|409|422|429|501)/;
const QUIET_MS = 2500;

describe("accounts on the page", () => {
	let server;
	let browser;
	/* Its tokens are good for 10 s, and 30 s of leeway. */
	let short;
	let reminded;
	before(async () => {
		if (!skip) {
			[server, short] = await Promise.all([
				startChatd({ set: CHEAP_HASHES }),
				startChatd({ set: { ...CHEAP_HASHES, "auth-jwt.access_ttl": "10s" } }),
			]);
			browser = await launch();
			reminded = renewedByReminder();
			reminded.catch(() => {}); /* its test tells */
		}
	});
	after(async () => {
		await browser?.close();
		await Promise.all([server?.stop(), short?.stop()]);
	});

	/* People in browsers of their own; `sockets` counts the connections of each page, `frames` is what they sent. */
	async function withPeople(n, work, options = {}, where = server) {
		const people = [];
		try {
			for (let i = 0; i < n; i++) {
				const seen = { sockets: 0, frames: [] };
				people.push(Object.assign(await person(browser, where, { ...options, prepare: (page) => count(page, seen) }), { seen }));
			}
			await work(...people);
			people.forEach((p) => p.quiet(REFUSED));
		} finally {
			await Promise.all(people.map((p) => p.close()));
		}
	}

	function count(page, seen) {
		page.on("websocket", (socket) => {
			seen.sockets++;
			socket.on("framesent", ({ payload }) => seen.frames.push(String(payload)));
		});
	}

	const stored = (who, key) => who.page.evaluate((k) => localStorage.getItem(k), key);
	const token = async (who) => JSON.parse(await stored(who, "chatd.login")).accessToken;

	const gone = (who, key) => who.page.waitForFunction((k) => localStorage.getItem(k) === null, key);
	/* What a page has sent is told to the test a little later. */
	const sent = (who, is) => comesTrue(() => who.seen.frames.some(is), "a frame that the page sends");

	async function fill(who, form, values) {
		for (const [name, value] of Object.entries(values)) {
			await who.page.fill(`#${form}-${name}`, value);
		}
		await who.page.click(`#${form}-form [type=submit]`);
	}

	async function openAccount(who) {
		await who.page.click("#open-account");
		await who.page.waitForSelector("#account[open]");
	}

	async function logOut(who) {
		await who.page.click("#sign-out");
		await who.page.click("#confirm-yes");
		await who.page.waitForSelector("#login-form:visible");
	}

	test("an account is made, logged out of and logged in to again; faults are at their fields", limit, () =>
		withPeople(1, async (nora) => {
			await member(server, "Taken Name");
			await nora.page.click("#as-register");
			await shot(nora.page, "start");
			await fill(nora, "register", { email: "takenname@example.org", password: "short", nickname: "Nora" });
			await nora.page.locator("#register-password-fault", { hasText: "8 to 128 characters" }).waitFor();
			await fill(nora, "register", { password: "long enough for nora" });
			await nora.page.locator("#register-email-fault", { hasText: "There is an account of this address" }).waitFor();
			assert.equal(await nora.page.locator("#register-password-fault").count(), 0);
			await fill(nora, "register", { email: "nora@example.org" });
			await nora.online();
			const id = await nora.id();
			await nora.page.locator("#me-name", { hasText: /^Nora$/ }).waitFor();
			await nora.say("said with an account");
			await nora.sees("said with an account", ".mine");
			await logOut(nora);
			await gone(nora, "chatd.login");
			await nora.page.reload();
			await nora.page.click("#as-login");
			await fill(nora, "login", { email: "nora@example.org", password: "not this one" });
			await nora.page.locator("#login-form .form-error", { hasText: "The e-mail address or the password is wrong." }).waitFor();
			await fill(nora, "login", { password: "long enough for nora" });
			await nora.online();
			assert.equal(await nora.id(), id);
			await nora.sees("said with an account", ".mine");
		}),
	);

	test("a guest who makes an account stays who they are, connected, where they were", limit, () =>
		withPeople(2, async (gus, other) => {
			await gus.join("Gus");
			await other.join();
			const id = await gus.id();
			await gus.write(await other.id());
			await gus.say("written as a guest");
			await gus.page.locator('#messages .message.mine[data-id][data-status="sent"]').waitFor();
			await openAccount(gus);
			await fill(gus, "upgrade", { email: "gus@example.org", password: "long enough for gus", nickname: "Gus Gast" });
			await gus.page.waitForSelector("#member-part:visible");
			await gus.page.locator("#account-text", { hasText: "gus@example.org" }).waitFor();
			await shot(gus.page, "account");
			await gus.escape("account");
			assert.equal(await gus.id(), id);
			assert.equal(gus.seen.sockets, 1, "the same connection");
			await sent(gus, (f) => f.includes("/app/auth.refresh")); /* which knows the login */
			await gone(gus, "chatd.device-token");
			await gus.say("written with an account");
			await other.page.click(`#direct-list [data-key="user:${id}"]`);
			await other.sees("written as a guest");
			await other.sees("written with an account");
			await gus.page.reload();
			await gus.online();
			assert.equal(await gus.id(), id);
			await gus.sees("written as a guest", ".mine");
			await gus.page.locator("#me-name", { hasText: /^Gus Gast$/ }).waitFor();
		}),
	);

	test("devices are listed and ended; the other browser is logged out and says so", limit, async () => {
		const ann = await member(server, "Ann Devices");
		await login(server, ann, "A phone");
		await withPeople(2, async (here, there) => {
			await here.logIn(ann);
			await there.logIn(ann);
			await openAccount(here);
			await here.page.click("#open-devices");
			const rows = here.page.locator("#devices-list .device");
			await rows.nth(3).waitFor();
			assert.equal(await rows.count(), 4);
			assert.match(await rows.first().textContent(), /Chrome on Linux.*this one/);
			await shot(here.page, "devices");
			const session = JSON.parse(await stored(there, "chatd.login")).session;
			await here.page.locator(`[data-session="${session}"] button`).click();
			await there.page.waitForSelector("#login-form:visible");
			await there.page.locator("#welcome-reason", { hasText: "logged out" }).waitFor();
			await gone(there, "chatd.login");
			await here.page.locator(`[data-session="${session}"]`).waitFor({ state: "detached" });
			await here.page.click("#devices-others");
			await here.page.click("#confirm-yes");
			await here.page.waitForFunction(() => document.querySelectorAll("#devices-list .device").length === 1);
			assert.equal((await api(server, ann, "GET", "/api/users/me")).status, 401);
			await here.escape("devices");
			await here.escape("account");
			await here.say("still here");
			await here.sees("still here", ".mine");
		});
	});

	test("a guest opened in another tab does not fight for the place", limit, () =>
		withPeople(1, async (gus) => {
			await gus.join();
			const second = await gus.tab(server);
			await second.online();
			await gus.state("taken");
			await gus.page.locator("#connection", { hasText: "another place" }).waitFor();
			await gus.page.waitForTimeout(QUIET_MS);
			assert.equal(gus.seen.sockets, 1, "no connection after it was taken over");
			assert.ok(await second.page.locator('#connection[data-state="online"]').count());
			await gus.page.click("#connection-here");
			await gus.online();
			await second.state("taken");
			assert.equal(gus.seen.sockets, 2);
			second.quiet();
		}),
	);

	/* The next token, taken up by the connection that is there. */
	async function renewed(who, old, sockets) {
		const changed = (t) => JSON.parse(localStorage.getItem("chatd.login")).accessToken !== t;
		await who.page.waitForFunction(changed, old);
		await who.say("with the next token");
		await who.sees("with the next token", ".mine");
		assert.equal(who.seen.sockets, sockets, "the same connection");
		await sent(who, (f) => f.includes("/app/auth.refresh") && !f.includes(old));
	}

	/* A page whose clock is wrong, or that slept, does not think of it: the server reminds when a quarter of the time is
	 * left, after half a minute here. Goes on beside the other tests. */
	function renewedByReminder() {
		return withPeople(1, async (who) => {
			await who.logIn(await member(short, "Rita Reminded"));
			await who.page.evaluate(() => {
				const now = JSON.parse(localStorage.getItem("chatd.login"));
				localStorage.setItem("chatd.login", JSON.stringify({ ...now, renewAt: now.renewAt + 3600000, expiresAt: now.expiresAt + 3600000 }));
			});
			await who.page.reload();
			await who.online();
			await renewed(who, await token(who), 2);
		}, {}, short);
	}

	test("tokens are renewed in time", limit, () =>
		withPeople(1, async (who) => {
			await who.logIn(await member(short, "Tom Timer"));
			await renewed(who, await token(who), 1);
		}, {}, short),
	);

	test("through SockJS as well; two tabs have one login, and end it together", limit, async () => {
		const sid = await member(server, "Sid Sock");
		await withPeople(1, async (one) => {
			await one.logIn(sid);
			assert.equal(await one.transport(), "sockjs");
			const two = await one.tab(server);
			await two.online();
			assert.equal(await two.id(), sid.userId);
			const before = await token(one); /* the other tab renews it as soon as it hears of the end */
			await one.page.evaluate(() => {
				const now = JSON.parse(localStorage.getItem("chatd.login"));
				localStorage.setItem("chatd.login", JSON.stringify({ ...now, renewAt: 0, expiresAt: 0 }));
			});
			await Promise.all([one, two].map((tab) => tab.page.reload()));
			await Promise.all([one.online(), two.online()]);
			assert.notEqual(await token(one), before);
			await one.say("from one tab");
			await two.sees("from one tab", ".mine");
			await logOut(one);
			await two.page.waitForSelector("#login-form:visible");
			two.quiet(REFUSED);
		}, { query: "?transport=sockjs" });
	});

	test("a login that the server does not know any more ends plainly, and what was not sent is kept", limit, async () => {
		const kim = await member(server, "Kim Kept");
		await withPeople(1, async (page) => {
			await page.logIn(kim);
			await page.page.evaluate((owner) => {
				localStorage.setItem("chatd.outbox.x1", JSON.stringify({ clientId: "x1", owner, key: "room:lobby", content: "not sent yet", at: Date.now(), status: "pending" }));
				const now = JSON.parse(localStorage.getItem("chatd.login"));
				localStorage.setItem("chatd.login", JSON.stringify({ ...now, accessToken: "gone", refreshToken: "gone" }));
			}, kim.userId);
			await page.page.reload();
			await page.page.waitForSelector("#login-form:visible");
			await page.page.locator("#welcome-reason", { hasText: "You were logged out" }).waitFor();
			assert.ok(await stored(page, "chatd.outbox.x1"));
			await page.page.click("#as-guest");
			await page.join();
			assert.equal(await page.message("not sent yet").count(), 0, "somebody else does not say it");
			await openAccount(page);
			await page.page.click("#guest-part summary");
			await fill(page, "switch", { email: kim.email, password: kim.password });
			await page.message("not sent yet", '[data-id].mine').waitFor();
		});
	});

	test("guesses are slowed down, and the page counts the seconds", limit, async () => {
		const strict = await startChatd({ limits: true, set: { ...CHEAP_HASHES, "auth-password.attempts": 2, "limit-rate.anonymous_per_minute": 120, "limit-rate.anonymous_burst": 5 } });
		try {
			const vic = await member(strict, "Vic Tim");
			await withPeople(1, async (who) => {
				await who.page.click("#as-login");
				await who.page.fill("#login-email", vic.email);
				const line = who.page.locator("#login-form .form-error");
				/* For a second alone, but for longer with each guess: looked for from before it begins, and both at once. Who is
				 * slow guesses after it. */
				let counts = false;
				const counted = who.glimpse("#login-form:has([type=submit]:disabled) .form-error", /Too many attempts. Try again in \d+ s/);
				counted.then(() => (counts = true), () => {});
				for (let i = 0; !counts; i++) {
					assert.ok(i < 20, "never slowed down");
					await fill(who, "login", { password: `guess ${i}` });
					await line.filter({ hasText: /password is wrong|Too many attempts/ }).waitFor();
				}
				await line.filter({ hasText: "You can try again now" }).waitFor();
				await who.logIn(vic);
			}, {}, strict);
			await withPeople(1, sendsTooFast, {}, strict);
		} finally {
			await strict.stop();
		}
	});

	async function sendsTooFast(gus) {
		await gus.join();
		const texts = Array.from({ length: 9 }, (_, i) => `quick ${i}.`);
		const held = gus.glimpse(".held-line", /by itself in \d+ s/);
		await gus.page.evaluate((all) => {
			const input = document.getElementById("composer-input");
			for (const text of all) {
				input.value = text;
				input.form.requestSubmit();
			}
		}, texts);
		await held;
		await gus.page.waitForFunction((n) => document.querySelectorAll('#messages .message.mine[data-id]:not([data-id=""]):not([data-status="pending"])').length === n, texts.length);
		assert.deepEqual((await gus.texts()).slice().sort(), texts.slice().sort(), "each once");
		assert.equal(gus.seen.sockets, 1);
	}

	test("name, password, people, administrator, ban, a copy, and the end of it", limit, async () => {
		const boss = await member(server, "Berta Boss");
		const dan = await member(server, "Dan Double");
		await withPeople(2, async (a, b) => {
			await a.logIn(boss);
			await b.logIn(dan);
			await openAccount(a);
			await a.page.click("#account-rename");
			await a.page.fill("#name-input", "Dan Double");
			await a.page.press("#name-input", "Enter");
			await a.page.locator("#name-form .form-error", { hasText: "nickname" }).waitFor();
			await a.page.fill("#name-input", "Berta B");
			await a.page.press("#name-input", "Enter");
			await a.page.locator("#account-name", { hasText: "Berta B" }).waitFor();
			await a.page.click("#admin-part summary");
			await fill(a, "admin", { code: "wrong" });
			await a.page.locator("#admin-form .form-error:visible").waitFor();
			await fill(a, "admin", { code: await adminCode() });
			await a.page.locator("#account-text", { hasText: "admin" }).waitFor();
			await a.escape("account");

			await a.page.keyboard.press("Control+k");
			await a.page.fill("#finder-input", "dan do");
			await a.page.locator("#finder-list .conversation", { hasText: "Dan Double" }).click();
			await a.say("found you");
			await b.page.locator("#direct-list .conversation", { hasText: "Berta B" }).click();
			await b.sees("found you");

			await openAccount(b);
			await b.page.click("#member-part summary >> text=Change password");
			await fill(b, "password", { old: "no", new: "another long word" });
			await b.page.locator("#password-form .form-error", { hasText: "The old password is wrong." }).waitFor();
			const told = b.glimpse(".toast", "Your password is changed");
			await fill(b, "password", { old: dan.password });
			await told;
			const [download] = await Promise.all([b.page.waitForEvent("download"), b.page.click("#account-export").then(() => b.page.click("#confirm-yes"))]);
			assert.equal(JSON.parse(await readFile(await download.path(), "utf8")).profile.userId, dan.userId);
			await b.escape("account");

			const sockets = b.seen.sockets;
			const banned = await api(server, { accessToken: await token(a) }, "POST", `/api/users/${dan.userId}/ban`, { seconds: 5, reason: "spam" });
			assert.equal(banned.status, 204);
			await b.state("banned");
			await b.page.waitForTimeout(QUIET_MS);
			assert.equal(b.seen.sockets, sockets, "who is banned does not come back by itself");
		});
		await withPeople(1, async (a) => {
			const eve = await member(server, "Eve End");
			await a.logIn(eve);
			await openAccount(a);
			await a.page.locator("#account-text", { hasText: eve.email }).waitFor();
			await a.page.click("#account-delete");
			await fill(a, "delete", { password: "not hers" });
			await a.page.locator("#delete-form .form-error", { hasText: "password is wrong" }).waitFor();
			await fill(a, "delete", { password: eve.password });
			await a.page.locator("#welcome-reason", { hasText: "Your account is deleted." }).waitFor();
			await a.page.click("#as-login");
			await a.page.fill("#login-email", eve.email);
			await a.page.click("#login-forgot");
			await a.page.click("#reset-form [type=submit]");
			await a.page.locator("#reset-form .form-error", { hasText: "sends no mail" }).waitFor();
		});
	});

	test("on a phone everything fits", limit, async () => {
		const pia = await member(server, "Pia Phone");
		await withPeople(1, async (phone) => {
			const fits = () => phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth);
			assert.ok(await fits());
			await shot(phone.page, "phone-start");
			await phone.logIn(pia);
			await phone.page.tap("#open-sidebar");
			await openAccount(phone);
			await phone.page.locator("#account-text", { hasText: pia.email }).waitFor();
			assert.ok(await fits());
			await shot(phone.page, "phone-account");
			await phone.page.click("#open-devices");
			await phone.page.locator("#devices-list .device").first().waitFor();
			assert.ok(await fits());
			await shot(phone.page, "phone-devices");
		}, PHONE);
	});

	test("tokens are renewed when the server reminds", limit, () => reminded);

	/* As the log tells it. */
	async function adminCode() {
		const [, code] = server.log.match(/"code\\?":\\?"([^"\\]+)/) ?? [];
		assert.ok(code, "the log has the code");
		return code;
	}
});

/* Kept where CHATD_SHOTS says. */
async function shot(page, name) {
	const folder = process.env.CHATD_SHOTS;
	if (folder) {
		await mkdir(folder, { recursive: true });
		await page.screenshot({ path: path.join(folder, `account-${name}.png`) });
	}
}
