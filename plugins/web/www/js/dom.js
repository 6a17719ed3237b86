/* SPDX-License-Identifier: Apache-2.0 */
/* Building the page's elements. Text goes in as text nodes only; nothing here takes markup. */

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/* h("button", {class: "x", onclick: f, "aria-label": "…", hidden: true}, child, "text") */
export function h(name, attributes, ...children) {
	const element = document.createElement(name);
	for (const [key, value] of Object.entries(attributes ?? {})) {
		if (value === undefined || value === null || value === false) {
			continue;
		}
		if (key.startsWith("on")) {
			element.addEventListener(key.slice(2), value);
		} else {
			element.setAttribute(key === "className" ? "class" : key, value === true ? "" : value);
		}
	}
	element.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
	return element;
}

export function icon(name, label) {
	const svg = document.createElementNS(SVG, "svg");
	const use = document.createElementNS(SVG, "use");
	use.setAttribute("href", `#i-${name}`);
	svg.append(use);
	if (label) {
		svg.setAttribute("role", "img");
		svg.setAttribute("aria-label", label);
	} else {
		svg.setAttribute("aria-hidden", "true");
	}
	return svg;
}

/* Makes `parent`'s children show `items` ({key, …plain data}) in order, touching only what differs: a screen reader
 * hears what is new, and focus and selection stay. `build(item, isNew)` makes one element; what has the focus in it
 * is found again by `data-act`. */
export function reconcile(parent, items, build) {
	const old = parent.shown ?? new Map();
	const next = new Map();
	let at = parent.firstElementChild;
	for (const item of items) {
		const signature = JSON.stringify(item);
		let node = old.get(item.key);
		if (node && node.signature !== signature) {
			const focused = node.element.contains(document.activeElement);
			const act = document.activeElement?.dataset.act;
			const fresh = build(item, false);
			if (at === node.element) {
				at = fresh;
			}
			node.element.replaceWith(fresh);
			if (focused) {
				const again = act && fresh.querySelector(`[data-act="${CSS.escape(act)}"]`);
				(again || fresh.querySelector("button, a, [tabindex]"))?.focus({ preventScroll: true });
			}
			node = { element: fresh, signature };
		} else if (!node) {
			node = { element: build(item, true), signature };
		}
		if (node.element === at) {
			at = at.nextElementSibling;
		} else {
			parent.insertBefore(node.element, at);
		}
		next.set(item.key, node);
		old.delete(item.key);
	}
	for (const { element } of old.values()) {
		element.remove();
	}
	parent.shown = next;
}

/* Runs `work` once per frame however often it is asked for; in a hidden tab, where frames stop, by a timer. */
export function oncePerFrame(work) {
	let asked = false;
	const run = () => {
		if (asked) {
			asked = false;
			work();
		}
	};
	return () => {
		if (asked) {
			return;
		}
		asked = true;
		if (!document.hidden) {
			requestAnimationFrame(run);
		}
		setTimeout(run, 120);
	};
}
