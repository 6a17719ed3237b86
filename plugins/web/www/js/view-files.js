/* SPDX-License-Identifier: Apache-2.0 */
/* Files as the page shows them: those that wait beside the message box, and those in messages. */

import { $, h, icon } from "./dom.js";
import { explain } from "./errors.js";
import { AT_MOST, fileId, nameOf } from "./files.js";
import { locale, t } from "./i18n.js";
import { toast } from "./toasts.js";

const PREVIEW = 640;
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte"];

export function sizeOf(bytes) {
	const step = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
	const options = { style: "unit", unit: UNITS[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: step ? 1 : 0 };
	return new Intl.NumberFormat(locale, options).format(bytes / 1024 ** step);
}

/* ---- beside the message box ---- */

/* Of each conversation: {file, controller, sent, attachment, error, preview}. */
export class FileTray {
	#files;
	#changed;
	#conversation = null;
	#part;

	/* `changed(edited)`: what may be sent is another than before, by the person's doing or not; `part(name)`: an element of the box. */
	constructor(files, changed, part) {
		this.#files = files;
		this.#changed = changed;
		this.#part = part;
		part("attach").addEventListener("click", () => part("attach-input").click());
		part("attach-input").addEventListener("change", (event) => {
			this.add([...event.target.files]);
			event.target.value = "";
		});
		part("composer-input").addEventListener("paste", (event) => {
			if (event.clipboardData.files.length > 0) {
				event.preventDefault();
				this.add([...event.clipboardData.files]);
			}
		});
		this.#watchDrops(part("stage"));
	}

	#watchDrops(stage) {
		const brings = (event) => this.#conversation && !this.#part("composer").hidden && event.dataTransfer?.types.includes("Files");
		let inside = 0;
		const show = (n) => {
			inside = n;
			this.#part("drop-here").hidden = inside === 0;
		};
		stage.addEventListener("dragenter", (event) => brings(event) && show(inside + 1));
		stage.addEventListener("dragleave", (event) => brings(event) && show(Math.max(0, inside - 1)));
		stage.addEventListener("dragover", (event) => brings(event) && event.preventDefault());
		stage.addEventListener("drop", (event) => {
			if (brings(event)) {
				event.preventDefault();
				show(0);
				this.add([...event.dataTransfer.files]);
			}
		});
	}

	open(conversation) {
		this.#conversation = conversation;
		this.#show(false);
	}

	/* Nothing of nobody. */
	close() {
		this.#conversation = null;
		this.#show(false);
	}

	/* "none", "busy", "failed", "ready" */
	get state() {
		const items = this.#conversation?.files ?? [];
		if (items.some((item) => item.error)) {
			return "failed";
		}
		return items.length === 0 ? "none" : items.every((item) => item.attachment) ? "ready" : "busy";
	}

	/* What goes with the message now; the tray is empty then. */
	take() {
		const items = this.#conversation.files ?? [];
		this.#conversation.files = [];
		items.forEach(forgetPreview);
		this.#show();
		return items.map((item) => item.attachment);
	}

	/* Those of a message that could not be sent. */
	putBack(attachments) {
		this.#conversation.files = [...attachments.map((attachment) => ({ attachment })), ...(this.#conversation.files ?? [])];
		this.#show();
	}

	add(files) {
		const conversation = this.#conversation;
		if (!conversation) {
			return;
		}
		conversation.files ??= [];
		for (const file of files.slice(0, AT_MOST - conversation.files.length)) {
			const item = { file, sent: 0, preview: file.type.startsWith("image/") ? URL.createObjectURL(file) : null };
			conversation.files.push(item);
			this.#begin(conversation, item);
		}
		if (files.length > 0 && conversation.files.length === AT_MOST) {
			toast(t("A message takes {n} files at most.", { n: AT_MOST }));
		}
		this.#show();
		this.#part("composer-input").focus({ preventScroll: true });
	}

	async #begin(conversation, item) {
		item.controller = new AbortController();
		item.error = null;
		try {
			const progress = (bytes) => {
				item.sent = bytes;
				showProgress(item);
			};
			item.attachment = await this.#files.upload(item.file, { progress, signal: item.controller.signal });
			$("announce").textContent = t("{name} is ready to be sent.", { name: item.file.name });
		} catch (error) {
			if (error.code === "CANCELLED" || !conversation.files?.includes(item)) {
				return;
			}
			const most = error.code === "TOO_LARGE" ? await this.#files.most() : null;
			const sizes = { size: sizeOf(item.file.size), most: sizeOf(most ?? 0) };
			/* Rounded, both may be the same. */
			item.error = most && sizes.size !== sizes.most ? t("This file has {size}; the server takes {most} at most.", sizes) : whyNot(error);
		}
		if (this.#conversation === conversation) {
			this.#show();
		}
	}

	#remove(conversation, item) {
		const at = conversation.files.indexOf(item);
		conversation.files.splice(at, 1);
		item.controller?.abort();
		forgetPreview(item);
		if (item.attachment) {
			this.#files.drop(item.attachment);
		}
		this.#show();
		const rest = this.#part("tray").querySelectorAll("[data-act=remove-file]");
		(rest[Math.min(at, rest.length - 1)] ?? this.#part("composer-input")).focus({ preventScroll: true });
	}

	#show(edited = true) {
		const conversation = this.#conversation;
		const items = conversation?.files ?? [];
		this.#part("tray").hidden = items.length === 0;
		this.#part("tray").replaceChildren(...items.map((item) => this.#itemOf(conversation, item)));
		this.#changed(edited);
	}

	#itemOf(conversation, item) {
		const name = item.attachment?.name ?? item.file.name;
		const size = item.attachment?.size ?? item.file.size;
		const button = (act, label, name_, run) =>
			h("button", { type: "button", class: "icon-button small", "data-act": act, "aria-label": label, title: label, onclick: run }, icon(name_));
		item.bar = item.attachment || item.error ? null : h("progress", { max: String(size), value: String(item.sent), "aria-label": name });
		return h(
			"li",
			{ class: `tray-item${item.error ? " failed" : ""}`, "data-state": item.error ? "failed" : item.attachment ? "ready" : "busy" },
			item.preview ? h("img", { src: item.preview, alt: "", width: "36", height: "36", onerror: (event) => event.target.replaceWith(icon("file")) }) : icon("file"),
			h(
				"span",
				{ class: "tray-lines" },
				h("span", { class: "tray-name", dir: "auto" }, name),
				item.error ? h("span", { class: "tray-error", role: "alert" }, item.error) : (item.bar ?? h("span", { class: "muted" }, sizeOf(size))),
			),
			item.error && item.file
				? button("retry-file", t("Upload {name} again", { name }), "retry", () => {
						this.#begin(conversation, item);
						this.#show();
					})
				: null,
			button("remove-file", t("Remove {name}", { name }), "close", () => this.#remove(conversation, item)),
		);
	}
}

function showProgress(item) {
	if (item.bar) {
		item.bar.value = Math.min(item.sent, item.file.size);
	}
}

function forgetPreview(item) {
	if (item.preview) {
		URL.revokeObjectURL(item.preview);
		item.preview = null;
	}
}

function whyNot(error) {
	const texts = {
		TOO_LARGE: t("This file is larger than the server takes."),
		TYPE_NOT_ALLOWED: t("The server does not take files of this type."),
		TOO_MANY_UPLOADS: t("Too many of your files are on their way. Try again in a moment."),
		QUOTA_EXCEEDED: t("There is no room left for your files. Delete some, or go on tomorrow."),
		NOT_FOUND: t("This server takes no files."),
		STORE_FULL: t("The server has no room left for files."),
	};
	return texts[error.code] ?? explain(error);
}

/* ---- in messages ---- */

/* What is far from the part that is seen asks the server for nothing. */
const near = new IntersectionObserver(
	(entries) => {
		for (const { isIntersecting, target } of entries) {
			if (isIntersecting) {
				near.unobserve(target);
				target.load();
			}
		}
	},
	{ rootMargin: "600px" },
);

function loadWhenNear(element, load) {
	element.load = load;
	near.observe(element);
	return element;
}

function whyNotThere(error) {
	const texts = {
		404: t("This file is not there any more, or not for you."),
		503: t("The server cannot get at this file right now. Try again in a moment."),
	};
	return texts[error.status] ?? explain(error);
}

/* A link to what needs an address first, and is followed when it leads somewhere. */
function link(files, a, { inline, ...attributes }, ...children) {
	const address = (facts) => (inline ? facts.url.replace("?", "?inline=1&") : facts.url);
	const element = h("a", { href: "#", rel: "noopener", ...attributes }, ...children);
	let go = false;
	element.addEventListener("click", async (event) => {
		if (go) {
			return;
		}
		event.preventDefault();
		try {
			element.href = address(await files.facts(a.url));
			await files.reach(element.href);
			go = true;
			element.click();
		} catch (error) {
			toast(whyNotThere(error), { kind: "error" });
		} finally {
			go = false;
		}
	});
	return element;
}

const thumbnail = (url) => url.replace("?", `/thumbnail?size=${PREVIEW}&`);

function picture(files, a) {
	const name = nameOf(a);
	const scale = Math.min(1, 420 / a.width, 320 / a.height);
	const image = h("img", {
		alt: name,
		width: String(Math.max(1, Math.round(a.width * scale))),
		height: String(Math.max(1, Math.round(a.height * scale))),
	});
	const row = link(files, a, { class: "file-picture", "data-act": `file-${fileId(a.url)}`, target: "_blank", title: name, inline: true }, image);
	const instead = () => row.replaceWith(fileRow(files, a));
	image.addEventListener("error", instead);
	return loadWhenNear(row, () => files.facts(a.url).then((facts) => (image.src = thumbnail(facts.url)), instead));
}

function player(files, a, kind) {
	const element = h(kind, { class: `file-${kind}`, controls: true, preload: "metadata", "aria-label": nameOf(a) });
	const box = h("div", { class: "file-player" }, element, fileRow(files, a));
	element.addEventListener("error", async () => {
		const why = await files.reach(element.src).then(() => t("Your browser cannot play this file."), whyNotThere);
		element.replaceWith(h("p", { class: "file-error muted", role: "status" }, why));
	});
	return loadWhenNear(box, () => files.facts(a.url).then((facts) => (element.src = facts.url), () => element.remove()));
}

function fileRow(files, a) {
	const name = nameOf(a);
	const label = a.size ? t("Download {name}, {size}", { name, size: sizeOf(a.size) }) : t("Download {name}", { name });
	const lines = [
		icon("file"),
		h("span", { class: "file-lines" }, h("span", { class: "file-name", dir: "auto" }, name), " ", a.size ? h("span", { class: "file-size" }, sizeOf(a.size)) : null),
		icon("down"),
	];
	return link(files, a, { class: "file-row", "data-act": `file-${fileId(a.url)}`, title: label, download: name }, ...lines);
}

function elsewhere(a) {
	const attributes = { class: "file-row", href: a.url, target: "_blank", rel: "noopener noreferrer nofollow" };
	return h("a", attributes, icon("file"), h("span", { class: "file-lines" }, h("span", { class: "file-name", dir: "auto" }, nameOf(a))));
}

export function filesOf(attachments, files) {
	const one = (a) => {
		if (!fileId(a.url)) {
			return elsewhere(a);
		}
		if (a.width && a.height && a.contentType.startsWith("image/")) {
			return picture(files, a);
		}
		const kind = /^(video|audio)\//.exec(a.contentType)?.[1];
		return kind ? player(files, a, kind) : fileRow(files, a);
	};
	return h("div", { class: "files" }, ...attachments.map(one));
}
