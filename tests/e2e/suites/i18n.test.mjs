/* SPDX-License-Identifier: Apache-2.0 */
/* The page's languages: every text has its translation and none is left over; the page in Korean in Chromium. */

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";
import { hasChromium, person, withBrowser } from "../lib/browser.mjs";
import { hasChatd, needs, REPO } from "../lib/harness.mjs";

const WWW = path.join(REPO, "plugins/web/www");
const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };
const HANGUL = /[가-힣]/;
/* Names, and what is the same everywhere. */
const NOT_TRANSLATED = new Set(["chatd", "name@example.org"]);

const unquoted = (literal) => JSON.parse(literal);

/* The literals of t() and plural(), and calls with anything else. */
function textsOf(source) {
	const literal = String.raw`"(?:[^"\\\n]|\\.)*"`;
	const found = [];
	const odd = [];
	for (const [, argument] of source.matchAll(/(?<![\w.$#])t\(\s*([^\s])/g)) {
		if (argument !== '"') {
			odd.push(argument);
		}
	}
	for (const [, text] of source.matchAll(new RegExp(String.raw`(?<![\w.$#])t\(\s*(${literal})\s*[,)]`, "g"))) {
		found.push(unquoted(text));
	}
	const plurals = [...source.matchAll(/(?<![\w.$#])plural\(/g)].length;
	const read = [...source.matchAll(new RegExp(String.raw`(?<![\w.$#])plural\([^"\n]*?,\s*(${literal}),\s*(${literal})\s*[,)]`, "g"))];
	for (const [, one, many] of read) {
		found.push(unquoted(one), unquoted(many));
	}
	if (read.length !== plurals) {
		odd.push("plural");
	}
	return { found, odd };
}

/* The texts that stand in the page itself. */
function textsOfPage(html) {
	const body = html.replace(/<!--.*?-->/gs, "").replace(/<svg class="sprite".*?<\/svg>\s*(?=<noscript>)/s, "");
	const attributes = [...body.matchAll(/\s(?:aria-label|title|placeholder)="([^"]*)"/g)].map((m) => m[1]);
	const meta = [...body.matchAll(/<meta name="description" content="([^"]*)"/g)].map((m) => m[1]);
	const texts = body.replace(/<[^>]*>/g, "\n").split("\n");
	return [...attributes, ...meta, ...texts].map((text) => text.trim().replace(/\s+/g, " ")).filter((text) => text && !NOT_TRANSLATED.has(text));
}

async function allTexts() {
	const found = new Set(textsOfPage(await readFile(path.join(WWW, "index.html"), "utf8")));
	for (const name of await readdir(path.join(WWW, "js"))) {
		if (name === "i18n.js" || !name.endsWith(".js")) {
			continue;
		}
		const { found: texts, odd } = textsOf(await readFile(path.join(WWW, "js", name), "utf8"));
		assert.deepEqual(odd, [], `${name}: t() and plural() take texts as they are, in double quotes, on one line with the count`);
		texts.forEach((text) => found.add(text));
	}
	return found;
}

const placeholders = (text) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

describe("the page's texts", () => {
	test("each has a Korean one, and no Korean one is left over", { timeout: 30000 }, async () => {
		const table = JSON.parse(await readFile(path.join(WWW, "i18n/ko.json"), "utf8"));
		const texts = await allTexts();
		assert.ok(texts.size > 350, `only ${texts.size} texts found`);
		assert.deepEqual([...texts].filter((text) => !Object.hasOwn(table, text)), [], "texts without a translation in i18n/ko.json");
		assert.deepEqual(Object.keys(table).filter((text) => !texts.has(text)), [], "translations that nothing uses");
		for (const [text, shown] of Object.entries(table)) {
			assert.deepEqual(placeholders(shown), placeholders(text), text);
			assert.match(shown.replace(/\{\w+\}/g, "가"), HANGUL, `"${text}" is not Korean`);
		}
	});

	test("no key stands twice in a table, and none is spelled in two ways", { timeout: 30000 }, async () => {
		const source = await readFile(path.join(WWW, "i18n/ko.json"), "utf8");
		const keys = [...source.matchAll(/^\t?("(?:[^"\\]|\\.)*"):/gm)].map((m) => unquoted(m[1]));
		assert.equal(keys.length, Object.keys(JSON.parse(source)).length);
	});
});

describe("the page in Korean", () => {
	let server;
	let browser;
	withBrowser(skip, {}, (s, b) => {
		server = s;
		browser = b;
	});

	/* What is shown and is neither Korean nor a name: [text]. */
	const latin = (page, names) =>
		page.evaluate((known) => {
			const shown = [];
			const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
			while (walker.nextNode()) {
				const element = walker.currentNode.parentElement;
				if (element.checkVisibility?.() && !element.closest("noscript, time, .avatar, option")) {
					shown.push(walker.currentNode.data.trim());
				}
			}
			return shown.filter((text) => /[A-Za-z]{3,}/.test(text) && !/[가-힣]/.test(text) && !known.some((name) => text.includes(name)));
		}, names);

	test("by the browser's language, from the first view to a conversation", limit, async () => {
		const ann = await person(browser, server, { locale: "ko-KR" });
		try {
			await ann.page.waitForSelector("html[lang=ko]"); /* the page waits for its table, its load event does not */
			await ann.page.getByRole("heading", { name: "채팅 시작하기" }).waitFor();
			assert.equal(await ann.page.getAttribute("#welcome-name", "placeholder"), "다른 사람에게 보일 이름을 입력하세요");
			assert.deepEqual(await latin(ann.page, ["chatd"]), []);
			await ann.join("Ann");
			await ann.page.locator("#connection-text", { hasText: "연결됨" }).waitFor({ state: "attached" });
			await ann.say("hello");
			await ann.sees("hello");
			await ann.page.locator("#messages .day", { hasText: "오늘" }).waitFor();
			await ann.page.locator("#messages .event", { hasText: "방에 참여했습니다" }).first().waitFor();
			const known = ["chatd", "Ann", await ann.id(), "hello", "lobby", "Lobby"];
			assert.deepEqual(await latin(ann.page, known), []);
			await ann.act("hello", "답장");
			await ann.page.locator("#writing-what", { hasText: "내 메시지에 답장" }).waitFor();
			await ann.page.press("#composer-input", "Escape");
			await ann.page.click("#open-account");
			await ann.page.locator("#account-text", { hasText: "게스트로 접속 중입니다" }).waitFor();
			assert.deepEqual(await latin(ann.page, known), []);
			await ann.page.fill("#upgrade-email", "ann@example.org");
			await ann.page.fill("#upgrade-password", "short");
			await ann.page.press("#upgrade-password", "Enter");
			await ann.page.locator("#upgrade-form .field-fault, #upgrade-form .form-error:not([hidden])", { hasText: HANGUL }).first().waitFor();
			ann.quiet(/status of 4\d\d/);
		} finally {
			await ann.close();
		}
	});

	test("a language chosen before the browser's; an unknown one is English", limit, async () => {
		const bob = await person(browser, server, { locale: "ko-KR", prepare: (page) => page.addInitScript(() => localStorage.setItem("chatd.language", "en")) });
		const eve = await person(browser, server, { locale: "fr-FR" });
		try {
			assert.equal(await bob.page.getAttribute("html", "lang"), "en");
			await bob.page.getByRole("heading", { name: "Come in and chat" }).waitFor();
			assert.equal(await eve.page.getAttribute("html", "lang"), "en");
			bob.quiet();
			eve.quiet();
		} finally {
			await bob.close();
			await eve.close();
		}
	});
});
