/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications on the page: the dialog, what the service worker shows of a push, where a touch of it leads. That what
 * the server pushes can be read by a browser is proved in tests/push. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { comesTrue, hasChromium, person, withBrowser } from "../lib/browser.mjs";
import { api, CHEAP_HASHES, member } from "../lib/chat.mjs";
import { hasChatd, needs } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };
/* Of RFC 8291. */
const KEYS = {
	p256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
	auth: "BTBZMqHH6r4Tts7J_aSIgg",
};
const ENDPOINT = "https://fcm.googleapis.com/fcm/send/of-a-test";

/* A push service cannot be reached from here: what the browser would say of its subscription. */
function pretendToSubscribe({ endpoint, keys }) {
	let current = null;
	PushManager.prototype.getSubscription = async () => current;
	PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
		if (!userVisibleOnly || applicationServerKey.length !== 65) {
			throw new Error("this is no key of a server");
		}
		current = {
			endpoint,
			options: { applicationServerKey: applicationServerKey.buffer },
			toJSON: () => ({ endpoint, keys }),
			unsubscribe: async () => ((current = null), true),
		};
		return current;
	};
}

describe("notifications on the page", () => {
	let server;
	let browser;
	withBrowser(skip, { "auth-anonymous.devices": 0, ...CHEAP_HASHES }, (s, b) => {
		server = s;
		browser = b;
	});

	const withAnn = async (name, work) => {
		const account = await member(server, name);
		const ann = await person(browser, server, {
			serviceWorkers: "allow",
			permissions: ["notifications"],
			prepare: (page) => page.addInitScript(pretendToSubscribe, { endpoint: ENDPOINT, keys: KEYS }),
		});
		try {
			await ann.logIn(account);
			await work(ann, account);
			ann.quiet();
		} finally {
			await ann.close();
		}
	};

	const open = async (page) => {
		await page.click("#open-account");
		await page.click("#open-notifications");
		await page.waitForSelector("#notifications[open]");
	};

	test("chosen in a dialog, kept by the server, and ended with the logout", limit, async () => {
		await withAnn("Ann Notified", async ({ page }, account) => {
			await open(page);
			await page.check("#notify-browser");
			await page.selectOption("#notify-mode", "mentions");
			await page.selectOption("#notify-here", "mute");
			await page.check("#notify-quiet");
			await page.fill("#notify-from", "23:15");
			await page.uncheck("#notify-text");
			await page.click("#notifications button[type=submit]");
			await page.waitForSelector("#notifications:not([open])", { state: "attached" });
			const { json: settings } = await api(server, account, "GET", "/api/push/settings");
			assert.deepEqual([settings.mode, settings.text, settings.quiet.from, settings.quiet.to], ["mentions", false, "23:15", "07:00"]);
			assert.equal(settings.conversations.length, 1);
			assert.deepEqual([settings.conversations[0].roomId, settings.conversations[0].mode], ["lobby", "off"]);
			assert.ok(settings.conversations[0].until > Date.now() + 7 * 3600000);
			const { json } = await api(server, account, "GET", "/api/push/subscriptions");
			assert.deepEqual(json.subscriptions.map((s) => s.kind), ["web"]);
			await page.click("#open-notifications");
			await page.waitForSelector("#notifications[open]"); /* once the server has said what it keeps */
			assert.deepEqual(
				[await page.isChecked("#notify-browser"), await page.inputValue("#notify-mode"), await page.inputValue("#notify-here")],
				[true, "mentions", "mute"],
			);
			await page.keyboard.press("Escape");
			await page.click("#account-leave");
			await page.click("#confirm-yes");
			await page.waitForSelector("#welcome:visible");
			await comesTrue(async () => ((await api(server, account, "GET", "/api/push/subscriptions")).json.subscriptions ?? []).length === 0, "no subscription any more");
		});
	});

	test("shown by the service worker, and a touch opens the conversation", limit, async () => {
		await withAnn("Bea Touched", async ({ page, context }) => {
			await open(page);
			await page.check("#notify-browser");
			await page.click("#notifications button[type=submit]");
			await page.waitForSelector("#notifications:not([open])", { state: "attached" });
			await page.keyboard.press("Escape");
			const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker"));
			const push = (said) =>
				worker.evaluate(
					(text) => self.dispatchEvent(new PushEvent("push", { data: text })),
					typeof said === "string" ? said : JSON.stringify(said),
				);
			const shown = (tag) =>
				page.evaluate(
					async (t) => (await (await navigator.serviceWorker.ready).getNotifications({ tag: t })).map((n) => [n.title, n.body]),
					tag,
				);
			await push({ type: "MESSAGE", with: "bob", sender: "bob", senderName: "Bob", unread: 1, content: "<b>hello</b>", timestamp: new Date().toISOString() });
			await push({ type: "MESSAGE", roomId: "lobby", roomName: "Lobby", sender: "bob", senderName: "Bob", unread: 4 });
			await push({ type: "MESSAGE", with: "eve", sender: "eve", unread: 1, encrypted: true });
			await push("not JSON");
			for (const tag of ["user:bob", "room:lobby", "user:eve"]) {
				await comesTrue(async () => (await shown(tag)).length > 0, tag);
			}
			assert.deepEqual(await shown("user:bob"), [["Bob", "<b>hello</b>"]]);
			assert.deepEqual(await shown("room:lobby"), [["Lobby", "Bob: 4 new messages"]]);
			assert.deepEqual(await shown("user:eve"), [["eve", "Encrypted message"]]);
			await worker.evaluate(async () => {
				const [notification] = await self.registration.getNotifications({ tag: "user:bob" });
				self.dispatchEvent(new NotificationEvent("notificationclick", { notification }));
			});
			await page.waitForFunction(() => decodeURIComponent(location.hash) === "#user:bob");
		});
	});

	test("guests are not asked", limit, async () => {
		const ann = await person(browser, server, {});
		try {
			await ann.join("Gast");
			await ann.page.click("#open-account");
			await ann.page.waitForSelector("#account[open] #guest-part:visible");
			assert.equal(await ann.page.isHidden("#notifications-part"), true);
			ann.quiet();
		} finally {
			await ann.close();
		}
	});
});
