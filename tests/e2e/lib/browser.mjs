/* Chromium through playwright-core, with every complaint of a page collected. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { startChatd } from "./harness.mjs";

const executable = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

/* For a machine with much else to do. */
const WAIT_MS = 60000;

export const hasChromium = [Boolean(executable), "chromium (apt-get install chromium)"];

export function launch() {
	return chromium.launch({
		executablePath: executable,
		args: [
			"--no-sandbox",
			"--disable-gpu",
			"--disable-quic",
			"--no-first-run",
			"--disable-background-networking",
			"--disable-component-update",
			"--disable-sync",
		],
	});
}

/* A server with chat.yaml and a browser for all tests of a suite; use(server, browser) keeps them. */
export function withBrowser(skip, set, use) {
	let server;
	let browser;
	before(async () => {
		if (!skip) {
			server = await startChatd({ config: "chat.yaml", set });
			browser = await launch();
			use(server, browser);
		}
	});
	after(async () => {
		await browser?.close();
		await server?.stop();
	});
}

/* Chromium itself complains about every connection that fails: a server that is away is not the page's fault. */
const AWAY = /net::ERR_|WebSocket connection to/;

/* Marks what the page must never do; `complaints` is checked by `quiet`. */
function watch(page) {
	const complaints = [];
	page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
	page.on("console", (message) => {
		const text = message.text();
		if (/Content.Security.Policy|Refused to/i.test(text) || (message.type() === "error" && !AWAY.test(text))) {
			complaints.push(`console: ${text}`);
		}
	});
	page.on("request", (request) => {
		if (!/^(https?|wss?):\/\/127\.0\.0\.1:/.test(request.url()) && !/^(data|blob|about):/.test(request.url())) {
			complaints.push(`outside request: ${request.url()}`);
		}
	});
	return complaints;
}

/* Lets a test cut one page's connection: REST and files still get through, chat does not. */
export class Gate {
	#sockets = new Set();
	#shut = false;

	async prepare(page) {
		await page.routeWebSocket(/ws-chat/, (socket) => {
			if (this.#shut) {
				socket.close({ code: 1001 });
				return;
			}
			const server = socket.connectToServer();
			this.#sockets.add([socket, server]);
		});
		await page.route(/\/ws-chat\//, (route) => (this.#shut ? route.abort() : route.continue()));
	}

	async shut() {
		this.#shut = true;
		for (const [socket, server] of this.#sockets) {
			await Promise.all([socket.close({ code: 1001 }), server.close()]).catch(() => {});
		}
		this.#sockets.clear();
	}

	open() {
		this.#shut = false;
	}
}

/* Waits until `look()` answers true: for what the test itself has heard, a page is asked with waitForFunction. */
export async function comesTrue(look, what) {
	const end = Date.now() + WAIT_MS;
	while (!(await look())) {
		assert.ok(Date.now() < end, `waited in vain: ${what}`);
		await sleep(20);
	}
}

/* One person's browser. `options`: playwright's for a context; `query`: of the address; `prepare(page)` runs first. */
export async function person(browser, server, { query = "", prepare, ...options } = {}) {
	/* Without motion: what moves cannot be clicked yet. Without the service worker, whose requests no gate can stop. */
	const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, reducedMotion: "reduce", serviceWorkers: "block", ...options });
	context.setDefaultTimeout(WAIT_MS);
	const page = await context.newPage();
	const complaints = watch(page);
	await prepare?.(page);
	await page.goto(`${server.url}/${query}`);
	return new Person(context, page, complaints);
}

class Person {
	constructor(context, page, complaints) {
		Object.assign(this, { context, page, complaints });
	}

	async join(name = "") {
		await this.page.fill("#welcome-name", name);
		await this.page.click("#welcome-join");
		await this.online();
		await this.page.waitForSelector("#composer-input:visible");
	}

	/* With an account, from the start screen. */
	async logIn({ email, password }) {
		await this.page.click("#as-login");
		await this.page.fill("#login-email", email);
		await this.page.fill("#login-password", password);
		await this.page.press("#login-password", "Enter");
		await this.online();
		await this.page.waitForSelector("#composer-input:visible");
	}

	/* Something that is shown for a moment only: looked for from now on, at each change of the page. */
	glimpse(selector, text) {
		const work = ([s, source]) =>
			new Promise((resolve) => {
				const wanted = new RegExp(source);
				const observer = new MutationObserver(() => look());
				const look = () => {
					if ([...document.querySelectorAll(s)].some((e) => wanted.test(e.textContent))) {
						observer.disconnect();
						resolve();
					}
				};
				observer.observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributes: true });
				look();
			});
		const seen = this.page.evaluate(work, [selector, text instanceof RegExp ? text.source : text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")]);
		seen.catch(() => {}); /* of a test that has failed meanwhile */
		return seen;
	}

	/* Waits for what has the focus. */
	focus(selector) {
		return this.page.waitForFunction((s) => document.activeElement?.matches(s), selector);
	}

	/* Closes the dialog on top, which is this one. */
	async escape(dialog) {
		await this.page.waitForSelector(`#${dialog}[open]`);
		await this.page.keyboard.press("Escape");
		await this.page.waitForSelector(`#${dialog}:not([open])`, { state: "attached" });
	}

	/* Opens a conversation of the list: `room:ID` or `user:ID`. */
	async go(key) {
		await this.page.click(`.conversation[data-key="${key}"]`);
		await this.page.waitForFunction((k) => decodeURIComponent(location.hash) === `#${k}`, key);
	}

	/* The texts of the messages shown, in their order. */
	texts() {
		return this.page.locator("#messages .message .content").allTextContents();
	}

	/* Does what the menu beside a message offers. */
	async act(text, name) {
		const message = this.message(text).last();
		await message.hover();
		await message.locator("[data-act=more]").click();
		await this.page.locator("#menu").getByRole("button", { name, exact: true }).click();
	}

	/* Another tab of the same browser, and so the same person. */
	async tab(server) {
		const page = await this.context.newPage();
		const complaints = watch(page);
		await page.goto(server.url);
		return new Person(this.context, page, complaints);
	}

	state(name, timeout = WAIT_MS) {
		return this.page.waitForSelector(`#connection[data-state="${name}"]`, { state: "attached", timeout });
	}

	online(timeout) {
		return this.state("online", timeout);
	}

	transport() {
		return this.page.getAttribute("#connection", "data-transport");
	}

	id() {
		return this.page.textContent("#me-id");
	}

	async say(text) {
		await this.page.fill("#composer-input", text);
		await this.page.press("#composer-input", "Enter");
	}

	message(text, more = "") {
		return this.page.locator(`#messages .message${more}`, { hasText: text });
	}

	async sees(text, more = "") {
		await this.message(text, more).first().waitFor();
		assert.equal(await this.message(text, more).count(), 1, `"${text}" is shown once`);
	}

	/* Opens a direct conversation by the finder, as one does by keyboard. */
	async write(userId) {
		await this.page.keyboard.press("Control+k");
		await this.page.fill("#finder-input", userId);
		await this.page.press("#finder-input", "Enter");
		await this.page.waitForFunction((key) => decodeURIComponent(location.hash) === `#user:${key}`, userId);
	}

	/* `expected`: a complaint that belongs to the test. */
	quiet(expected = /^$/) {
		assert.deepEqual(this.complaints.filter((c) => !expected.test(c)), []);
	}

	close() {
		return this.context.close();
	}
}
