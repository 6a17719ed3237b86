/* SPDX-License-Identifier: Apache-2.0 */
/* How names, times and texts look. */

import { locale, t } from "./i18n.js";

const timeFormat = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const dayFormat = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long" });
const yearFormat = new Intl.DateTimeFormat(locale, { dateStyle: "full" });
const shortFormat = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const untilFormat = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });
const fullFormat = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });

export const timeOf = (ms) => timeFormat.format(ms);
export const fullTimeOf = (ms) => fullFormat.format(ms);
export const dayKey = (ms) => new Date(ms).toDateString();

export function dayOf(ms) {
	const today = new Date();
	if (dayKey(ms) === today.toDateString()) {
		return t("Today");
	}
	today.setDate(today.getDate() - 1);
	if (dayKey(ms) === today.toDateString()) {
		return t("Yesterday");
	}
	return (new Date(ms).getFullYear() === today.getFullYear() ? dayFormat : yearFormat).format(ms);
}

/* When it ends, or nothing. */
export function untilOf(timestamp) {
	const ms = Date.parse(timestamp ?? "");
	if (!ms) {
		return "";
	}
	return dayKey(ms) === dayKey(Date.now()) ? timeOf(ms) : untilFormat.format(ms);
}

/* For lists: the time today, the day before. */
export const shortTimeOf = (ms) => (dayKey(ms) === dayKey(Date.now()) ? timeOf(ms) : shortFormat.format(ms));

export function initials(name) {
	const words = name
		.replace(/^user_/, "")
		.split(/[\s_.-]+/)
		.filter(Boolean);
	const letters = words.length > 1 ? words.slice(0, 2).map((w) => [...w][0]) : [...(words[0] ?? "?")].slice(0, 2);
	return letters.join("").toUpperCase();
}

const HUES = 10;

/* The same person has the same colour everywhere; the colours themselves are in the style sheet. */
export function hueClass(id) {
	let hash = 0x811c9dc5;
	for (const c of id) {
		hash = Math.imul(hash ^ c.codePointAt(0), 0x01000193) >>> 0;
	}
	hash ^= hash >>> 15; /* FNV's low bits alone are alike for ids that differ in one place */
	return `hue-${(hash >>> 0) % HUES}`;
}

const LINK = /\bhttps?:\/\/[^\s<>"'`]+/gi;

/* Splits a text into [{text} | {href, text}]. Only http and https, and only what the URL parser accepts. */
export function linkify(text) {
	const parts = [];
	let end = 0;
	for (const match of text.matchAll(LINK)) {
		const address = withoutTail(match[0]);
		if (!URL.canParse?.(address) && !parses(address)) {
			continue;
		}
		if (match.index > end) {
			parts.push({ text: text.slice(end, match.index) });
		}
		parts.push({ text: address, href: address });
		end = match.index + address.length;
	}
	if (end < text.length) {
		parts.push({ text: text.slice(end) });
	}
	return parts;
}

/* Without the punctuation of the sentence around it; a closing bracket stays when it was opened inside. */
function withoutTail(address) {
	let end = address.length;
	for (;;) {
		const last = address[end - 1];
		const opening = { ")": "(", "]": "[", "}": "{" }[last];
		const inside = address.slice(0, end);
		const excess = opening && inside.split(last).length > inside.split(opening).length;
		if (!excess && !".,;:!?".includes(last)) {
			return inside;
		}
		end--;
	}
}

function parses(address) {
	try {
		return Boolean(new URL(address));
	} catch {
		return false;
	}
}

/* One to three emoji and nothing else are shown large. */
export const isJumbo = (text) =>
	/^(?:\p{Extended_Pictographic}(?:\uFE0F|[\u{1F3FB}-\u{1F3FF}]|\u200D\p{Extended_Pictographic})*\s*){1,3}$/u.test(text);
