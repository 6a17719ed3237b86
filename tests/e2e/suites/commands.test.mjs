/* SPDX-License-Identifier: Apache-2.0 */
/* Commands in the page: the list while one is typed, what they become, and what only oneself sees. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hasChromium, person, withBrowser } from "../lib/browser.mjs";
import { hasChatd, needs } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };

describe("commands", () => {
	let server;
	let browser;
	withBrowser(skip, {}, (s, b) => {
		server = s;
		browser = b;
	});

	test("are completed by the keyboard, become what they mean, and answer oneself alone", limit, async () => {
		const ann = await person(browser, server);
		try {
			await ann.join("Ann");
			const input = ann.page.locator("#composer-input");
			const options = ann.page.locator("#commands [role=option]");
			await input.fill("hello");
			await input.fill("/");
			await options.first().waitFor();
			assert.deepEqual(
				await options.evaluateAll((all) => all.map((o) => o.dataset.name)),
				["help", "me", "shrug", "tableflip", "unflip"],
			);
			await input.pressSequentially("s");
			await ann.page.locator("#commands [role=option][aria-selected=true]", { hasText: "/shrug" }).waitFor();
			await ann.page.waitForSelector("#composer-input[aria-activedescendant=command-0]");
			await input.press("Enter");
			await ann.page.waitForFunction(() => document.getElementById("composer-input").value === "/shrug ");
			await ann.page.waitForSelector("#commands", { state: "hidden" });
			await input.press("Enter");
			await ann.sees("¯\\_(ツ)_/¯");
			await input.fill("/help");
			await input.press("Enter");
			await ann.page.locator(".toast", { hasText: "/tableflip" }).waitFor();
			await ann.page.waitForFunction(() => !document.querySelector("#messages")?.textContent.includes("/help"));
			await input.fill("/nonsense");
			await input.press("Enter");
			await ann.page.locator("#messages", { hasText: "There is no such command" }).waitFor();
		} finally {
			await ann.page.context().close();
		}
	});
});
