/* SPDX-License-Identifier: Apache-2.0 */
/* Files in the page: two people with accounts in two browsers send each other what they have. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { hasChromium, launch, person } from "../lib/browser.mjs";
import { CHEAP_HASHES, member } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { png, wav } from "../lib/media.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 180000, skip };
const MIB = 1 << 20;

const file = (name, mimeType, buffer) => ({ name, mimeType, buffer });

describe("files in the page", () => {
	let server;
	let browser;
	let ann;
	let bob;
	const ids = {};

	before(async () => {
		if (skip) {
			return;
		}
		const accounts = {};
		server = await startChatd({ set: { ...CHEAP_HASHES, "auth-anonymous.devices": 0, "upload.max_size": "6 MiB" } });
		for (const [who, name] of Object.entries({ ann: "Ann Arbor", bob: "Bob Bauer" })) {
			accounts[who] = await member(server, name);
			ids[who] = accounts[who].userId;
		}
		browser = await launch();
		ann = await person(browser, server);
		bob = await person(browser, server);
		await ann.logIn(accounts.ann);
		await bob.logIn(accounts.bob);
		await ann.write(ids.bob);
		await bob.write(ids.ann);
	});
	after(async () => {
		try {
			ann?.quiet(/status of (404|413|415)/);
			bob?.quiet(/status of 404/);
		} finally {
			await browser?.close();
			await server?.stop();
		}
	});

	const attach = (who, ...files) => who.page.setInputFiles("#attach-input", files);
	const ready = (who, n) => who.page.waitForFunction((count) => document.querySelectorAll("#tray [data-state=ready]").length === count, n);
	const shown = (who, selector) => who.page.waitForFunction((s) => [...document.querySelectorAll(s)].at(-1)?.naturalWidth > 0, selector);

	test("a picture and a paper go with one message", limit, async () => {
		await attach(ann, file("red.png", "image/png", png(1200, 800, [255, 0, 0])), file("notes.txt", "text/plain", Buffer.from("hello\n")));
		await ready(ann, 2);
		await ann.say("have a look");
		await ann.page.waitForSelector("#tray", { state: "hidden" });
		for (const who of [ann, bob]) {
			await who.sees("have a look");
			await shown(who, ".file-picture img");
			const image = who.page.locator(".file-picture img").last();
			assert.deepEqual([await image.getAttribute("width"), await image.getAttribute("height")], ["420", "280"]);
			assert.match(await image.getAttribute("src"), /\/thumbnail\?size=640&u=/);
			assert.equal(await image.evaluate((e) => e.naturalWidth), 960);
			assert.equal(await image.getAttribute("alt"), "red.png");
		}
		const saved = bob.page.waitForEvent("download");
		await bob.page.locator(".file-row", { hasText: "notes.txt" }).click();
		const download = await saved;
		assert.equal(download.suggestedFilename(), "notes.txt");
		let text = "";
		for await (const piece of await download.createReadStream()) {
			text += piece;
		}
		assert.equal(text, "hello\n");
		const opened = bob.context.waitForEvent("page");
		await bob.page.locator(".file-picture").last().click();
		const other = await opened;
		await other.waitForLoadState();
		assert.match(other.url(), /\?inline=1&u=/);
		await other.close();
	});

	test("a file says something by itself, also what can be played", limit, async () => {
		await attach(bob, file("tone.wav", "audio/wav", wav(1)));
		await ready(bob, 1);
		await bob.page.click("#composer-send");
		await ann.page.waitForFunction(() => document.querySelector(".file-audio")?.duration > 0.9);
		await ann.page.locator(`.conversation[data-key="user:${ids.bob}"]`, { hasText: "tone.wav" }).waitFor();
	});

	test("what is dropped and what is pasted", limit, async () => {
		const bytes = [...png(40, 30, [0, 0, 255])];
		const bring = (kind, target) =>
			ann.page.evaluate(
				([data, type, where]) => {
					const transfer = new DataTransfer();
					transfer.items.add(new File([new Uint8Array(data)], `${type}.png`, { type: "image/png" }));
					const event = type === "paste" ? new ClipboardEvent(type, { clipboardData: transfer, bubbles: true, cancelable: true }) : null;
					for (const name of event ? [] : ["dragenter", "dragover", "drop"]) {
						document.querySelector(where).dispatchEvent(new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
						if (name === "dragover" && document.getElementById("drop-here").hidden) {
							throw new Error("nothing says that it may be dropped");
						}
					}
					event && document.querySelector(where).dispatchEvent(event);
				},
				[bytes, kind, target],
			);
		await bring("drop", "#messages");
		await bring("paste", "#composer-input");
		await ready(ann, 2);
		await ann.page.waitForSelector("#drop-here", { state: "hidden" });
		await ann.page.locator("#tray [data-act=remove-file]").first().click();
		await ready(ann, 1);
		assert.equal(await ann.page.locator("#tray .tray-name").textContent(), "paste.png");
		await ann.page.press("#composer-input", "Enter");
		await bob.page.locator(".file-picture[title='paste.png']").waitFor();
		assert.equal(await bob.page.locator(".file-picture[title='drop.png']").count(), 0);
	});

	test("what the server refuses is told, and keeps nothing else back", limit, async () => {
		await attach(ann, file("page.html", "text/html", Buffer.from("<!doctype html><html><script>1</script></html>")), file("large.png", "image/png", png(10, 10, [1, 2, 3], 6 * MIB)));
		const failed = ann.page.locator("#tray [data-state=failed]");
		await failed.nth(1).waitFor();
		assert.match(await failed.nth(0).textContent(), /files of this type/);
		assert.match(await failed.nth(1).textContent(), /larger than the server takes/);
		await ann.page.waitForSelector("#composer-send:disabled");
		await failed.nth(1).locator("[data-act=remove-file]").click();
		await failed.nth(0).locator("[data-act=remove-file]").click();
		await ann.say("never mind");
		await bob.sees("never mind");
	});

	test("a large one goes on after a cut, and can be stopped", limit, async () => {
		let cuts = 2;
		const offsets = [];
		await ann.page.route(/\/api\/files\/tus\//, (route) => {
			const request = route.request();
			if (request.method() !== "PATCH") {
				return route.continue();
			}
			offsets.push(Number(request.headers()["upload-offset"]));
			return offsets.length > 1 && cuts > 0 && cuts-- ? route.abort() : route.continue();
		});
		const data = png(300, 300, [0, 200, 0], 5 * MIB);
		await attach(ann, file("large.png", "image/png", data));
		await ready(ann, 1);
		assert.equal(cuts, 0);
		assert.deepEqual(offsets, [0, 4 * MIB, 4 * MIB, 4 * MIB]);
		await ann.say("a large one");
		await shown(bob, ".file-picture[title='large.png'] img");
		await ann.page.unroute(/\/api\/files\/tus\//);
		let held;
		await ann.page.route(/\/api\/files\/tus\//, (route) => (route.request().method() === "PATCH" ? (held = route) : route.continue()));
		const dropped = ann.page.waitForRequest((r) => r.method() === "DELETE" && r.url().includes("/api/files/tus/"));
		await attach(ann, file("stopped.png", "image/png", data));
		await ann.page.locator("#tray [data-state=busy] progress").waitFor();
		while (!held) {
			await ann.page.waitForTimeout(20);
		}
		await ann.page.locator("#tray [data-act=remove-file]").click();
		await dropped;
		await ann.page.waitForSelector("#tray", { state: "hidden" });
		await ann.page.unroute(/\/api\/files\/tus\//);
	});

	test("after a reload it is all there, and what was deleted is not", limit, async () => {
		await bob.page.reload();
		await bob.online();
		await shown(bob, ".file-picture[title='large.png'] img");
		await ann.act("a large one", "Delete");
		await ann.page.click("#confirm-yes");
		await bob.page.locator(".file-picture[title='large.png']").waitFor({ state: "detached" });
	});
});
