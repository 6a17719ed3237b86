/* Starts the page: connects the views, the state and the session. */

import { Api } from "./api.js";
import { confirm, Finder, initDialogs, initNameDialog, initRoomDialog } from "./dialogs.js";
import { $, oncePerFrame } from "./dom.js";
import { explain, Session } from "./session.js";
import { roomKey, State, userKey } from "./state.js";
import { deviceToken, displayName, theme } from "./storage.js";
import { toast } from "./toasts.js";
import { showConversations, showMe, showPeople } from "./view-lists.js";
import { nearBottom, showHead, showMessages, showTyping, toBottom } from "./view-messages.js";

const THEMES = ["", "light", "dark"];
const THEME_NAMES = { "": "as the system has them", light: "light", dark: "dark" };
/* The server is the judge; what it would refuse anyway is better mended before it is sent. */
const MAX_CONTENT = Number(document.querySelector('meta[name="chatd-max-content"]').content);
const narrow = matchMedia("(max-width: 820px)");

const state = new State();
const session = new Session({
	state,
	api: new Api(),
	toast,
	endpoint: document.querySelector('meta[name="chatd-endpoint"]').content,
	transport: new URLSearchParams(location.search).get("transport"),
});
const finder = new Finder(state, (key) => openConversation(key));

/* ---- what is shown ---- */

const activeConversation = () => state.conversations.get(state.active);

function looking() {
	return document.visibilityState === "visible" && document.hasFocus();
}

const render = oncePerFrame(() => {
	showConversations(state, openConversation);
	showMe(state.me);
	showConnection();
	const conversation = activeConversation();
	$("stage").dataset.open = conversation ? "true" : "false";
	if (!conversation) {
		openDefault();
		return;
	}
	showHead(state, conversation);
	showMessages(state, conversation, rowActions);
	showTyping(state, conversation);
	const inRoom = conversation.kind === "room" && state.rooms.get(conversation.id)?.joined;
	if (inRoom) {
		showPeople(state, conversation.id, (id) => openConversation(userKey(id)));
	}
	$("people").hidden = !inRoom || !peopleShown();
	if (looking() && nearBottom()) {
		session.seen(conversation);
	}
});

state.onChange(render);

const rowActions = {
	retry: (row) => withRow(row, (conversation, entry) => session.retry(conversation, entry)),
	edit: (row) =>
		withRow(row, (conversation, entry) => {
			state.remove(conversation, entry);
			const written = $("composer-input").value;
			$("composer-input").value = written ? `${entry.content}\n${written}` : entry.content;
			fitComposer();
			$("composer-input").focus();
		}),
	discard: (row) => withRow(row, (conversation, entry) => state.remove(conversation, entry)),
	openPerson: (id) => openConversation(userKey(id)),
};

function withRow(row, work) {
	const conversation = activeConversation();
	const entry = conversation?.messages.find((m) => m.row === row);
	if (entry) {
		work(conversation, entry);
	}
}

function show(view) {
	document.body.dataset.view = view;
	$("welcome").hidden = view !== "welcome";
	$("app").hidden = view !== "chat";
}

function showWelcome() {
	history.replaceState(null, "", location.pathname + location.search);
	closeDrawers();
	show("welcome");
	$("welcome-name").value = displayName.get();
	$("welcome-name").focus();
}

/* ---- connection line ---- */

const VIA = { sockjs: "SockJS", "xhr-streaming": "SockJS", "xhr-polling": "SockJS" };

function showConnection() {
	const { state: now, transport, retryAt } = state.connection;
	const box = $("connection");
	box.dataset.state = now;
	box.dataset.transport = transport ?? "";
	const seconds = Math.max(1, Math.ceil(((retryAt ?? 0) - Date.now()) / 1000));
	const texts = {
		connecting: "Connecting…",
		online: VIA[transport] ? `Connected through ${VIA[transport]}` : "Connected",
		waiting: navigator.onLine ? `Connection lost. Trying again in ${seconds} s.` : "You are offline.",
		stopped: "",
	};
	/* Written only when it differs: a live region is read out at every change. */
	if ($("connection-text").textContent !== texts[now]) {
		$("connection-text").textContent = texts[now];
	}
	$("connection-retry").hidden = now !== "waiting";
	$("composer").dataset.offline = now === "online" ? "false" : "true";
}

setInterval(() => {
	if (state.connection.state === "waiting") {
		showConnection();
	}
}, 1000);

/* ---- conversations and the address ---- */

function openConversation(key) {
	const leaving = activeConversation();
	if (leaving) {
		leaving.draft = $("composer-input").value;
	}
	const conversation = session.open(key);
	if (!conversation) {
		return;
	}
	const hash = `#${encodeURIComponent(key)}`;
	if (location.hash !== hash) {
		history.pushState(null, "", hash);
	}
	$("composer-input").value = conversation.draft;
	fitComposer();
	closeDrawers();
	if (!narrow.matches) {
		$("composer-input").focus({ preventScroll: true });
	}
}

function keyInAddress() {
	try {
		return decodeURIComponent(location.hash.slice(1));
	} catch {
		return "";
	}
}

/* Nothing is open yet: what the address names, or else the first room. */
function openDefault() {
	if (!state.me || state.rooms.size === 0) {
		return;
	}
	const named = keyInAddress();
	if (named && state.open(named)) {
		openConversation(named);
		return;
	}
	const rooms = [...state.rooms.values()];
	const first = rooms.find((r) => r.id === "lobby") ?? rooms.find((r) => r.joined) ?? rooms[0];
	openConversation(roomKey(first.id));
}

addEventListener("popstate", () => {
	const key = keyInAddress();
	if (key && key !== state.active && state.me) {
		openConversation(key);
	}
});

/* ---- drawers ---- */

let peopleWanted = true;

const peopleShown = () => (narrow.matches ? document.body.dataset.drawer === "people" : peopleWanted);

function setDrawer(name) {
	const before = document.body.dataset.drawer ?? "";
	document.body.dataset.drawer = name;
	$("veil").hidden = !name;
	$("sidebar").inert = narrow.matches && name !== "sidebar";
	$("stage").inert = narrow.matches && name !== "";
	$("open-sidebar").setAttribute("aria-expanded", String(name === "sidebar"));
	render();
	if (name === "sidebar") {
		$("close-sidebar").focus();
	} else if (before === "sidebar" && narrow.matches) {
		$("open-sidebar").focus();
	}
}

const closeDrawers = () => setDrawer("");

function togglePeople() {
	if (narrow.matches) {
		setDrawer(document.body.dataset.drawer === "people" ? "" : "people");
		if (peopleShown()) {
			$("people").hidden = false;
			$("close-people").focus();
		}
	} else {
		peopleWanted = !peopleWanted;
		render();
	}
	$("toggle-people").setAttribute("aria-expanded", String(peopleShown()));
}

narrow.addEventListener("change", closeDrawers);
$("open-sidebar").addEventListener("click", () => setDrawer("sidebar"));
$("close-sidebar").addEventListener("click", closeDrawers);
$("veil").addEventListener("click", closeDrawers);
$("toggle-people").addEventListener("click", togglePeople);
$("close-people").addEventListener("click", togglePeople);

/* ---- writing ---- */

function fitComposer() {
	const input = $("composer-input");
	input.rows = 1;
	const line = parseFloat(getComputedStyle(input).lineHeight);
	while (input.rows < 7 && input.scrollHeight > input.clientHeight + line / 2) {
		input.rows++;
	}
	const length = lengthOf(input.value.trim());
	$("composer-send").disabled = length === 0;
	$("composer-count").hidden = length < MAX_CONTENT * 0.9;
	$("composer-count").classList.toggle("over", length > MAX_CONTENT);
	$("composer-count").textContent = `${length.toLocaleString()} of ${MAX_CONTENT.toLocaleString()} characters`;
}

/* As the server counts: an emoji is one character. */
function lengthOf(text) {
	let length = 0;
	for (const _ of text) {
		length++;
	}
	return length;
}

function submit() {
	const conversation = activeConversation();
	const text = $("composer-input").value.trim();
	if (!conversation || text === "") {
		return;
	}
	const over = lengthOf(text) - MAX_CONTENT;
	if (over > 0) {
		toast(`This message is ${over.toLocaleString()} character${over === 1 ? "" : "s"} too long.`, { kind: "error" });
		return;
	}
	session.say(conversation, text);
	conversation.draft = "";
	$("composer-input").value = "";
	fitComposer();
	$("composer-input").focus();
}

$("composer").addEventListener("submit", (event) => {
	event.preventDefault();
	submit();
});
$("composer-input").addEventListener("input", () => {
	fitComposer();
	const conversation = activeConversation();
	if (conversation) {
		if ($("composer-input").value.trim() === "") {
			session.stopTyping(conversation);
		} else {
			session.typing(conversation);
		}
	}
});
$("composer-input").addEventListener("keydown", (event) => {
	if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
		event.preventDefault();
		submit();
	}
});
$("composer-input").addEventListener("blur", () => {
	const conversation = activeConversation();
	if (conversation) {
		session.stopTyping(conversation);
	}
});

/* ---- the rest of the buttons ---- */

$("jump").addEventListener("click", toBottom);
$("scroller").addEventListener("scroll", () => {
	if (nearBottom()) {
		$("jump").hidden = true;
		render();
	}
});
$("connection-retry").addEventListener("click", () => session.retryNow());
$("open-finder").addEventListener("click", () => {
	session.refreshRooms();
	finder.open(false);
});
$("new-direct").addEventListener("click", () => finder.open(true));
$("join-room").addEventListener("click", async () => {
	$("join-room").disabled = true;
	await session.joinRoom(activeConversation().id);
	$("join-room").disabled = false;
});
$("leave-room").addEventListener("click", async () => {
	const conversation = activeConversation();
	const title = state.titleOf(conversation);
	if (await confirm(`Leave ${title}?`, "You will not get its messages until you join again.", "Leave")) {
		session.leaveRoom(conversation.id);
	}
});
$("sign-out").addEventListener("click", async () => {
	const text = "This browser forgets who you are. A guest that was forgotten cannot come back.";
	if (await confirm("Forget me here?", text, "Forget me")) {
		await session.signOut();
		showWelcome();
	}
});
$("me-id").addEventListener("click", async () => {
	try {
		await navigator.clipboard.writeText(state.me.id);
		toast("Your id is copied. Others can write to you with it.");
	} catch {
		toast(`Your id is ${state.me.id}.`);
	}
});

function showTheme() {
	const chosen = theme.get() ?? "";
	if (chosen) {
		document.documentElement.dataset.theme = chosen;
	} else {
		delete document.documentElement.dataset.theme;
	}
	const label = `Colours: ${THEME_NAMES[chosen]}`;
	$("toggle-theme").setAttribute("aria-label", label);
	$("toggle-theme").title = label;
}

$("toggle-theme").addEventListener("click", () => {
	theme.set(THEMES[(THEMES.indexOf(theme.get() ?? "") + 1) % THEMES.length]);
	showTheme();
});

addEventListener("keydown", (event) => {
	if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && state.me) {
		event.preventDefault();
		finder.open(false);
	} else if (event.key === "Escape" && document.body.dataset.drawer) {
		closeDrawers();
	}
});
addEventListener("online", () => session.retryNow());
addEventListener("offline", render);
addEventListener("focus", render);
addEventListener("resize", () => {
	if (state.active) {
		toBottom();
	}
});
document.addEventListener("visibilitychange", () => {
	if (document.visibilityState === "visible") {
		session.retryNow();
		render();
	}
});

/* What happened in another tab. */
addEventListener("storage", async (event) => {
	if (event.key !== deviceToken.key || !state.me) {
		return;
	}
	if (event.newValue === null) {
		await session.end();
		showWelcome();
	} else {
		session.followIdentity();
	}
});

$("welcome-form").addEventListener("submit", async (event) => {
	event.preventDefault();
	const fault = $("welcome-error");
	fault.hidden = true;
	$("welcome-join").disabled = true;
	try {
		await session.join($("welcome-name").value.trim());
		show("chat");
	} catch (error) {
		fault.textContent = [401, 403, 404].includes(error.status) ? "This server does not take guests." : explain(error);
		fault.hidden = false;
	} finally {
		$("welcome-join").disabled = false;
	}
});

initDialogs();
initNameDialog(
	() => state.me.name,
	(name) => session.rename(name),
);
initRoomDialog(async (name, isPublic) => {
	const id = await session.createRoom(name, isPublic);
	if (id) {
		openConversation(roomKey(id));
	}
});
showTheme();
closeDrawers();
if (deviceToken.get()) {
	show("chat");
	session.start();
} else {
	showWelcome();
}
