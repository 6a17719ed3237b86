/* SPDX-License-Identifier: Apache-2.0 */
/* The page's texts in the reader's language. The English text is its own key, as gettext has it; i18n/LANGUAGE.json is a
 * flat table from it to another language. The table is here before any other module runs, so texts may stand in constants.
 *
 * t() and plural() take literals alone: a test reads them out of the modules, and holds the tables to them. */

import { languageChosen } from "./storage.js";

export const LANGUAGES = { en: "English", ko: "한국어" };

const baseOf = (tag) => tag.toLowerCase().split("-")[0];

const chosen = languageChosen.get();
export const language = chosen in LANGUAGES ? chosen : (navigator.languages.map(baseOf).find((base) => base in LANGUAGES) ?? "en");

/* For dates and numbers: with the region, where the browser names one of this language. */
export const locale = navigator.languages.find((tag) => baseOf(tag) === language) ?? language;

const numbers = new Intl.NumberFormat(locale);
const conjunction = new Intl.ListFormat(locale, { type: "conjunction" });

const table = language === "en" ? {} : await load();

/* Without its table the page is in English, and works. */
async function load() {
	try {
		const answer = await fetch(new URL(`../i18n/${language}.json`, import.meta.url), { credentials: "omit" });
		return answer.ok ? await answer.json() : {};
	} catch {
		return {};
	}
}

/* t("{n} of {all} online", { n: 3, all: 5 }): numbers are written as the language has them. */
export function t(text, vars) {
	const shown = table[text] ?? text;
	if (!vars) {
		return shown;
	}
	return shown.replace(/\{(\w+)\}/g, (all, name) => {
		const value = vars[name];
		return typeof value === "number" ? numbers.format(value) : (value ?? all);
	});
}

/* plural(3, "{n} message", "{n} messages"): both have an entry in each table. */
export function plural(n, one, many, vars) {
	return t(n === 1 ? one : many, { n, ...vars });
}

/* "a, b and c" */
export const listed = (names) => conjunction.format(names);

const ATTRIBUTES = ["aria-label", "title", "placeholder", "content"];

function translated(text) {
	const key = text.trim().replace(/\s+/g, " ");
	return Object.hasOwn(table, key) ? text.replace(text.trim(), () => table[key]) : text;
}

/* What stands in index.html. */
function translatePage() {
	const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		texts.currentNode.data = translated(texts.currentNode.data);
	}
	for (const name of ATTRIBUTES) {
		for (const element of document.querySelectorAll(`[${name}]`)) {
			element.setAttribute(name, translated(element.getAttribute(name)));
		}
	}
}

document.documentElement.lang = language;
if (language !== "en") {
	translatePage();
}
