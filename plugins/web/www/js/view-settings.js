/* SPDX-License-Identifier: Apache-2.0 */
/* How the page looks and speaks, and whether it makes itself heard. */

import { $, h } from "./dom.js";
import { LANGUAGES, t } from "./i18n.js";
import { languageChosen, notices, theme } from "./storage.js";

const THEMES = ["", "light", "dark"];
const THEME_NAMES = { "": t("Colours: as the system has them"), light: t("Colours: light"), dark: t("Colours: dark") };

function showTheme() {
	const chosen = theme.get() ?? "";
	if (chosen) {
		document.documentElement.dataset.theme = chosen;
	} else {
		delete document.documentElement.dataset.theme;
	}
	$("toggle-theme").setAttribute("aria-label", THEME_NAMES[chosen]);
	$("toggle-theme").title = THEME_NAMES[chosen];
}

function setTheme(name) {
	theme.set(name);
	showTheme();
}

function showNotices() {
	const supported = "Notification" in globalThis;
	const refused = supported && Notification.permission === "denied";
	$("settings-notify").checked = notices.get() && supported && Notification.permission === "granted";
	$("settings-notify").disabled = !supported || refused;
	const text = refused ? t("This browser does not let the page notify you. Its settings for this site say so.") : "";
	$("settings-notify-text").textContent = supported ? text : t("This browser knows no notifications.");
}

async function setNotices(wanted) {
	if (wanted && Notification.permission === "default") {
		await Notification.requestPermission();
	}
	notices.set(wanted && Notification.permission === "granted");
	showNotices();
}

function open() {
	$("settings-language").value = languageChosen.get();
	$("settings-theme").value = theme.get() ?? "";
	showNotices();
	$("settings").showModal();
}

/* `ready()` resolves when the page may go. */
export function initSettings(ready) {
	const names = Object.entries(LANGUAGES).map(([tag, name]) => h("option", { value: tag, lang: tag }, name));
	$("settings-language").append(...names);
	$("settings-language").addEventListener("change", async (event) => {
		languageChosen.set(event.target.value);
		await ready();
		location.reload();
	});
	$("settings-theme").addEventListener("change", (event) => setTheme(event.target.value));
	$("settings-notify").addEventListener("change", (event) => setNotices(event.target.checked));
	$("toggle-theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme.get() ?? "") + 1) % THEMES.length]));
	for (const button of document.querySelectorAll("[data-open=settings]")) {
		button.addEventListener("click", open);
	}
	showTheme();
}
